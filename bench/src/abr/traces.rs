//! How much a network carries, over time.

use std::path::Path;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// Bandwidth over time, from the beginning again when it ends.
pub(crate) struct Trace(Vec<Piece>);

#[derive(Clone, Copy)]
struct Piece {
    seconds: f64,
    /// Bits per second.
    bandwidth: f64,
    /// Seconds until the first byte of an answer.
    latency: f64,
}

/// A download that would take longer is given up by whoever looks on.
const PATIENCE: f64 = 300.0;

impl Trace {
    /// Seconds that a download of so many bits takes which begins at `at`.
    pub(crate) fn takes(&self, bits: f64, at: f64) -> f64 {
        let (took, _) = self.follow(at, PATIENCE, bits);
        took
    }

    /// Bits that came of a download which began at `at`, `seconds` later.
    pub(crate) fn came(&self, at: f64, seconds: f64) -> f64 {
        let (_, came) = self.follow(at, seconds, f64::INFINITY);
        came
    }

    /// Follows a download until so many seconds are over or so many bits have come: how many of both were.
    fn follow(&self, at: f64, seconds: f64, bits: f64) -> (f64, f64) {
        let whole: f64 = self.0.iter().map(|piece| piece.seconds).sum();
        let mut into = at % whole;
        let mut index = 0;
        while into >= self.0[index].seconds {
            into -= self.0[index].seconds;
            index = (index + 1) % self.0.len();
        }
        let (mut waits, mut took, mut came) = (self.0[index].latency, 0.0, 0.0);
        while took < seconds {
            let piece = self.0[index];
            let lasts = (piece.seconds - into).min(seconds - took);
            let waited = f64::min(waits, lasts);
            let carried = (lasts - waited) * piece.bandwidth;
            if came + carried >= bits {
                return (took + waited + (bits - came) / piece.bandwidth, bits);
            }
            waits -= waited;
            came += carried;
            took += lasts;
            into = 0.0;
            index = (index + 1) % self.0.len();
        }
        (took, came)
    }

    /// The traces of a directory, each a JSON list of `{duration_ms, bandwidth_kbps, latency_ms}`, as in the Sabre simulator's examples.
    pub(crate) fn read_all(dir: &Path) -> anyhow::Result<Vec<Self>> {
        let mut paths =
            std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        paths.iter().map(|path| Self::read(path).with_context(|| path.display().to_string())).collect()
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let pieces: Vec<Value> = serde_json::from_slice(&std::fs::read(path)?)?;
        let number = |piece: &Value, name: &str| piece[name].as_f64().with_context(|| format!("no {name}"));
        let pieces = pieces.iter().map(|piece| {
            Ok(Piece {
                seconds: number(piece, "duration_ms")? / 1000.0,
                bandwidth: number(piece, "bandwidth_kbps")? * 1000.0,
                latency: number(piece, "latency_ms")? / 1000.0,
            })
        });
        let pieces = pieces.collect::<anyhow::Result<Vec<_>>>()?;
        anyhow::ensure!(
            pieces.iter().any(|piece| piece.bandwidth * piece.seconds > 0.0),
            "nothing is ever carried"
        );
        Ok(Self(pieces))
    }
}

/// A Markov chain over levels of bandwidth: each second it stays, or goes to a level beside it.
pub(crate) struct Markov {
    /// Megabits per second.
    pub(crate) levels: &'static [f64],
    /// The chance of staying.
    pub(crate) stays: f64,
    /// How far a second may be from its level, as a share.
    pub(crate) jitter: f64,
    pub(crate) seconds: usize,
    pub(crate) latency: f64,
}

impl Markov {
    pub(crate) fn trace(&self, seed: u64) -> Trace {
        let mut random = StdRng::seed_from_u64(seed);
        let mut level = random.random_range(0..self.levels.len());
        let pieces = (0..self.seconds).map(|_| {
            if !random.random_bool(self.stays) {
                level = if level == 0 || (level + 1 < self.levels.len() && random.random_bool(0.5)) {
                    level + 1
                } else {
                    level - 1
                };
            }
            let share = 1.0 + random.random_range(-self.jitter..=self.jitter);
            Piece { seconds: 1.0, bandwidth: self.levels[level] * share * 1e6, latency: self.latency }
        });
        Trace(pieces.collect())
    }
}
