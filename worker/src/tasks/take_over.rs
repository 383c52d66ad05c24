//! Takes a rendition of a broadcast into a set: its pieces are joined and cut on the set's grid. Encodes nothing.

use std::collections::VecDeque;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::{TakeOverSpec, TakenTrack};
use reelmill_shared::media::cmaf::{Sample, Track};
use reelmill_shared::media::grid::{AAC_FRAME, AudioGrid, Grid};
use reelmill_shared::media::hls::Bandwidth;

use super::Bench;
use super::aired::Aired;
use crate::packager::{Cut, Cutting, Packager, discard};

const OUTPUT: &str = "taken.mp4";

pub(super) async fn perform(bench: &Bench, spec: &TakeOverSpec) -> Result<Vec<Publication>, TaskError> {
    let aired = Aired::of(bench, spec.broadcast).await?;
    let (name, path) = (spec.track.name(), bench.dir.join(OUTPUT));
    aired.write(bench, name, &path).await?;
    let storage = bench.shop.storage.clone();
    let encoded = match &spec.track {
        TakenTrack::Picture(rung) => {
            let cut = PictureCut { grid: rung.grid, gops: vec![], number: 0 };
            let packager = Packager::new(storage, &bench.prefix, name, path.clone(), cut);
            let mut encoded = packager.finish(rung.position, None, rung.rate_control.declared()).await?;
            encoded.rendition.frame_rate = Some((rung.grid.rate.num, rung.grid.rate.den));
            encoded
        }
        TakenTrack::Sound(sound) => {
            let cut = SoundCut { grid: sound.grid.clone(), waiting: VecDeque::new(), number: 0, done: 0 };
            let packager = Packager::new(storage, &bench.prefix, name, path.clone(), cut);
            let declared = Bandwidth { peak: sound.bitrate, average: sound.bitrate };
            let mut encoded = packager.finish(sound.position, sound.language.clone(), declared).await?;
            encoded.rendition.label = sound.label.clone();
            encoded.rendition.role = sound.role;
            encoded
        }
    };
    discard(&path).await;
    super::same_init(bench, spec.set, &encoded).await?;
    Ok(vec![Publication::Rendition { set: spec.set, encoded: Box::new(encoded) }])
}

/// Cuts after whole GOPs, each a fragment.
struct PictureCut {
    grid: Grid,
    gops: Vec<Vec<Sample>>,
    number: u32,
}

impl PictureCut {
    fn close(&mut self) -> Cutting {
        let number = self.number;
        self.number += 1;
        let frames = u64::from(number) * self.grid.segment_frames();
        Cutting {
            number,
            base_decode_time: frames * u64::from(self.grid.rate.frame_ticks()),
            gops: std::mem::take(&mut self.gops),
        }
    }
}

impl Cut for PictureCut {
    fn take(&mut self, _track: &Track, samples: Vec<Sample>) -> Result<Vec<Cutting>, TaskError> {
        let ticks: u64 = samples.iter().map(|sample| u64::from(sample.duration)).sum();
        let gop = u64::from(self.grid.gop_frames) * u64::from(self.grid.rate.frame_ticks());
        let begins = samples.first().is_some_and(|sample| sample.sync);
        if !begins || ticks > gop {
            return Err(off_plan(format!("a GOP of {ticks} ticks instead of {gop}")));
        }
        self.gops.push(samples);
        let full = self.gops.len() as u32 == self.grid.segment_gops;
        Ok(if full { vec![self.close()] } else { vec![] })
    }

    fn finish(&mut self) -> Result<Vec<Cutting>, TaskError> {
        let last = if self.gops.is_empty() { vec![] } else { vec![self.close()] };
        if u64::from(self.number) != self.grid.segments() {
            return Err(off_plan(format!("{} of {} segments", self.number, self.grid.segments())));
        }
        Ok(last)
    }

    fn delay(&self) -> u32 {
        0
    }
}

/// Cuts where the picture is cut, to the nearest AAC frame.
struct SoundCut {
    grid: AudioGrid,
    waiting: VecDeque<Sample>,
    number: usize,
    done: u64,
}

impl Cut for SoundCut {
    fn take(&mut self, track: &Track, samples: Vec<Sample>) -> Result<Vec<Cutting>, TaskError> {
        if track.timescale != self.grid.sample_rate {
            return Err(off_plan(format!("sound with a timescale of {}", track.timescale)));
        }
        self.waiting.extend(samples);
        let mut all = vec![];
        while self.number < self.grid.starts.len() {
            let frames = self.grid.segment_len(self.number);
            if (self.waiting.len() as u64) < frames {
                break;
            }
            let samples: Vec<Sample> = self.waiting.drain(..frames as usize).collect();
            let (number, base_decode_time) = (self.number as u32, self.done * AAC_FRAME);
            all.push(Cutting { number, base_decode_time, gops: vec![samples] });
            self.number += 1;
            self.done += frames;
        }
        Ok(all)
    }

    fn finish(&mut self) -> Result<Vec<Cutting>, TaskError> {
        if self.done != self.grid.frames || !self.waiting.is_empty() {
            let all = self.done + self.waiting.len() as u64;
            return Err(off_plan(format!("sound of {all} instead of {} frames", self.grid.frames)));
        }
        Ok(vec![])
    }

    fn delay(&self) -> u32 {
        0
    }
}

fn off_plan(what: impl std::fmt::Display) -> TaskError {
    TaskError::retryable(Reason::CheckFailed, format!("what was on air is not what was planned: {what}"))
}
