//! How viewers fare with the rule that chooses their rungs, beside rules from papers, on the same networks.

mod player;
mod rivals;
mod traces;

use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reelmill_shared::media::abr::Rung;

use self::player::{Outcome, Rule, Video, play};
use self::rivals::{BufferBased, Ours, RateBased};
use self::traces::{Markov, Trace};
use crate::figures::quantile;

/// What is simulated.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A directory of traces, each a JSON list of {duration_ms, bandwidth_kbps, latency_ms}; may be given again. Without one, Markov chains
    #[arg(long)]
    traces: Vec<PathBuf>,
    /// Seconds of a segment
    #[arg(long, default_value_t = 4.0)]
    segment: f64,
    /// Seconds of the video
    #[arg(long, default_value_t = 240.0)]
    seconds: f64,
    /// Seconds that the player buffers at most
    #[arg(long, default_value_t = 30.0)]
    full: f64,
    /// The player never gives up a download
    #[arg(long)]
    patient: bool,
    /// Which networks: those that the rule was tuned on, or those that were held back
    #[arg(long, value_enum, default_value_t = Half::HeldBack)]
    half: Half,
}

/// Every other network was held back when the rule was tuned.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Half {
    Tuned,
    HeldBack,
}

impl Half {
    /// Seeds of Markov chains.
    fn seeds(self) -> std::ops::Range<u64> {
        match self {
            Self::Tuned => 1000..1500,
            Self::HeldBack => 0..200,
        }
    }

    /// Of traces in the order of their names.
    fn of<T>(self, traces: Vec<T>) -> Vec<T> {
        traces.into_iter().skip(usize::from(self == Self::HeldBack)).step_by(2).collect()
    }
}

/// Megabits per second, and lines.
const LADDER: [(f64, u32); 6] = [(0.4, 240), (0.8, 360), (1.4, 480), (2.8, 720), (5.0, 1080), (8.0, 1440)];
/// A segment is between so much of what its bitrate says.
const SIZES: (f64, f64) = (0.6, 1.4);
const SEED: u64 = 2026;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let video = video(options);
    println!(
        "{} segments of {} s, of {:?} of {:?} Mb/s; {} s of buffer; seed {SEED}",
        video.sizes.len(),
        options.segment,
        SIZES,
        LADDER.map(|(rate, _)| rate),
        options.full
    );
    if options.traces.is_empty() {
        for (name, markov) in markovs() {
            let seeds = options.half.seeds();
            println!(
                "\n{name}: {} Markov chains of {:?} Mb/s, {} s, stays with {}, within {} of its level, {} s to the first byte",
                seeds.end - seeds.start,
                markov.levels,
                markov.seconds,
                markov.stays,
                markov.jitter,
                markov.latency
            );
            compare(&video, &seeds.map(|seed| markov.trace(seed)).collect::<Vec<_>>());
        }
    }
    for dir in &options.traces {
        let traces = options.half.of(Trace::read_all(dir)?);
        println!("\n{}: {} traces", dir.display(), traces.len());
        compare(&video, &traces);
    }
    Ok(())
}

/// Networks as a phone on the move has them, and as a home shared by many.
fn markovs() -> [(&'static str, Markov); 2] {
    let moving = Markov {
        levels: &[0.1, 0.3, 0.6, 1.0, 1.6, 2.5, 4.0],
        stays: 0.85,
        jitter: 0.3,
        seconds: 600,
        latency: 0.1,
    };
    let home = Markov {
        levels: &[1.0, 2.0, 4.0, 6.0, 9.0, 14.0],
        stays: 0.95,
        jitter: 0.2,
        seconds: 600,
        latency: 0.02,
    };
    [("on the move", moving), ("at home", home)]
}

fn video(options: &Options) -> Video {
    let mut random = StdRng::seed_from_u64(SEED);
    let rung = |(rate, lines): (f64, u32)| Rung {
        name: format!("{lines}p"),
        bitrate: (rate * 1e6) as u64,
        width: lines * 16 / 9,
        height: lines,
        codecs: String::new(),
    };
    let segments = (options.seconds / options.segment).ceil() as usize;
    Video {
        rungs: LADDER.map(rung).into(),
        segment: options.segment,
        sizes: (0..segments).map(|_| random.random_range(SIZES.0..SIZES.1)).collect(),
        full: options.full,
        abandons: !options.patient,
    }
}

type NewRule = fn(f64) -> Box<dyn Rule>;

/// Rules by name, each made anew for a session with so many seconds of buffer.
const RULES: [(&str, NewRule); 4] = [
    ("reelmill", |_| Box::<Ours>::default()),
    ("rate-based", |_| Box::<RateBased>::default()),
    // Reservoir and cushion of Yin et al., for 30 s of buffer.
    ("buffer-based, 5 + 10 s", |full| Box::new(BufferBased { reservoir: full / 6.0, cushion: full / 3.0 })),
    // As Huang et al. share out 240 s: 90 s, and the line up to nine tenths.
    ("buffer-based, 3/8 to 9/10", |full| {
        Box::new(BufferBased { reservoir: full * 0.375, cushion: full * 0.525 })
    }),
];

fn compare(video: &Video, traces: &[Trace]) {
    println!(
        "  {:26} {:>16} {:>11} {:>16} {:>6} {:>9} {:>9} {:>8}",
        "", "QoE", "worst tenth", "behind ours", "Mb/s", "stalled s", "startup s", "switches"
    );
    let mut ours: Vec<f64> = vec![];
    for (name, rule) in RULES {
        let outcomes: Vec<Outcome> =
            traces.iter().map(|trace| play(video, trace, &mut *rule(video.full))).collect();
        let mut all: Vec<f64> = outcomes.iter().map(Outcome::qoe).collect();
        if ours.is_empty() {
            ours.clone_from(&all);
        }
        // On the same network: what differs between networks is the most of how single figures spread.
        let behind: Vec<f64> = ours.iter().zip(&all).map(|(ours, other)| ours - other).collect();
        let of = |figure: fn(&Outcome) -> f64| mean(&outcomes.iter().map(figure).collect::<Vec<_>>()).0;
        println!(
            "  {name:26} {} {:11.3} {} {:6.2} {:9.1} {:9.2} {:8.1}",
            spread(mean(&all)),
            quantile(&mut all, 0.1),
            spread(mean(&behind)),
            of(|outcome| outcome.bitrate),
            of(|outcome| outcome.stalled),
            of(|outcome| outcome.startup),
            of(|outcome| outcome.switches as f64)
        );
    }
}

/// The mean, and its standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (square / (count - 1.0) / count).sqrt())
}

fn spread((mean, error): (f64, f64)) -> String {
    format!("{mean:8.3} ± {error:5.3}")
}
