//! Encodes a span of one audio track on the audio grid: lead, tail and the encoder's priming are dropped, so that frame `n` covers the samples
//! `[1024 n, 1024 (n + 1))` and no player has to know of an edit list.

use std::collections::VecDeque;
use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::AudioSpec;
use reelmill_shared::media::cmaf::{Sample, Track};
use reelmill_shared::media::grid::{AAC_FRAME, AudioGrid, AudioSpan};
use reelmill_shared::media::hls::Bandwidth;

use super::{Amount, Bench, check_exit, loudness};
use crate::ffmpeg::argv::{self, Approach, AudioFiles, AudioTimes};
use crate::ffmpeg::witness;
use crate::packager::{Cut, Cutting, Packager};

pub(super) const OUTPUT: &str = "audio.mp4";
/// Where FFmpeg says when the first sound it decoded begins.
pub(super) const WITNESS: &str = "first-sound.txt";

pub(super) async fn perform(bench: &Bench, spec: &AudioSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let file = bench.open_extent(&source, spec.extent.as_ref()).await?;
    let (output, witness) = (bench.dir.join(OUTPUT), bench.dir.join(WITNESS));
    let files = AudioFiles { input: &file.path, output: &output, witness: &witness };
    let gain = loudness::gain(bench, spec).await?;
    encode(bench, spec, &files, Approach::Seek, gain).await?;
    let begins = f64::from(u32::try_from(AudioTimes::of(spec).second).unwrap_or(u32::MAX));
    // Silence would fill what a late seek left out. Read from its start, the track itself may begin later.
    if begins > 0.0 && witness::first_seconds(&witness).await?.is_none_or(|first| first > begins) {
        tracing::info!("a seek ended behind the sound that was wanted; decoding everything before it");
        encode(bench, spec, &files, Approach::Read, gain).await?;
    }

    let cut = AudioCut::new(&spec.grid, spec.span());
    let packager = Packager::new(bench.shop.storage.clone(), &bench.prefix, &spec.rung, output, cut);
    let declared = Bandwidth { peak: spec.bitrate, average: spec.bitrate };
    let mut encoded = packager.finish(spec.position, spec.language.clone(), declared).await?;
    encoded.rendition.label = spec.label.clone();
    encoded.rendition.role = spec.role;
    super::same_init(bench, spec.set, &encoded).await?;
    Ok(vec![Publication::Rendition { set: spec.set, encoded: Box::new(encoded) }])
}

async fn encode(
    bench: &Bench,
    spec: &AudioSpec,
    files: &AudioFiles<'_>,
    approach: Approach,
    gain: Option<f64>,
) -> Result<(), TaskError> {
    let args = argv::audio(spec, files, approach, gain);
    let seconds = AudioTimes::of(spec).total as f64 / f64::from(spec.grid.sample_rate);
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let ended = bench.ffmpeg("encoding audio", &args, Amount::seconds(seconds), deadline, 1).await?;
    check_exit("encoding audio", &ended)
}

/// Cuts where the video is cut, to the nearest AAC frame.
struct AudioCut {
    grid: AudioGrid,
    span: AudioSpan,
    /// Frames of lead and priming still to be dropped.
    skip: u64,
    /// Frames waiting for their segment to be whole.
    waiting: VecDeque<Sample>,
    number: usize,
    done: u64,
}

impl AudioCut {
    fn new(grid: &AudioGrid, span: AudioSpan) -> Self {
        let skip = argv::AUDIO_LEAD + argv::AUDIO_PRIMING;
        Self { grid: grid.clone(), span, skip, waiting: VecDeque::new(), number: span.segment, done: 0 }
    }

    fn next_segment(&mut self) -> Option<Cutting> {
        let frames = self.grid.segment_len(self.number);
        if self.number >= self.span.end() || frames == 0 || (self.waiting.len() as u64) < frames {
            return None;
        }
        let samples: Vec<Sample> = self.waiting.drain(..frames as usize).collect();
        let cutting = Cutting {
            number: self.number as u32,
            base_decode_time: (self.span.first_frame(&self.grid) + self.done) * AAC_FRAME,
            gops: vec![samples],
        };
        self.number += 1;
        self.done += frames;
        Some(cutting)
    }
}

impl Cut for AudioCut {
    fn take(&mut self, track: &Track, samples: Vec<Sample>) -> Result<Vec<Cutting>, TaskError> {
        if track.timescale != self.grid.sample_rate {
            return Err(TaskError::retryable(
                Reason::CheckFailed,
                format!("the audio is not what was planned: a timescale of {}", track.timescale),
            ));
        }
        for mut sample in samples {
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            // The muxer shortens the last one to what it was given.
            sample.duration = AAC_FRAME as u32;
            sample.composition_offset = 0;
            self.waiting.push_back(sample);
        }
        Ok(std::iter::from_fn(|| self.next_segment()).collect())
    }

    fn finish(&mut self) -> Result<Vec<Cutting>, TaskError> {
        // FFmpeg makes its filters anew for another sample rate or layout, and they begin to count anew.
        let planned = self.span.frames(&self.grid);
        let behind = self.waiting.len() as u64;
        if behind > argv::AUDIO_TAIL && self.done == planned {
            return Err(TaskError::fatal(
                Reason::Unsuitable,
                "the sound changes its sample rate or its channels in mid-stream, which is not supported; \
                 convert it to one format first",
            ));
        }
        if self.done != planned || behind != argv::AUDIO_TAIL {
            return Err(TaskError::retryable(
                Reason::CheckFailed,
                format!("the audio has {} of {} frames", self.done + behind, planned + argv::AUDIO_TAIL),
            ));
        }
        Ok(vec![])
    }

    fn delay(&self) -> u32 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_of(encoded: u64) -> AudioCut {
        let grid = AudioGrid { sample_rate: 48_000, frames: 10, from: 0, starts: vec![0, 6] };
        let mut cut = AudioCut::new(&grid, AudioSpan::whole(&grid));
        cut.skip = 2;
        let sample = || Sample {
            data: bytes::Bytes::from_static(b"aac"),
            duration: 1024,
            composition_offset: 0,
            sync: true,
        };
        cut.waiting.extend((0..encoded.saturating_sub(2)).map(|_| sample()));
        while cut.next_segment().is_some() {}
        cut
    }

    #[test]
    fn neither_too_little_nor_too_much_is_published() {
        let whole = 12 + argv::AUDIO_TAIL;
        assert_eq!(cut_of(11).finish().unwrap_err().reason, Reason::CheckFailed);
        assert_eq!(cut_of(whole - 1).finish().unwrap_err().reason, Reason::CheckFailed);
        assert!(cut_of(whole).finish().unwrap().is_empty());
        let error = cut_of(whole + 1).finish().unwrap_err();
        assert!(!error.retryable && error.reason == Reason::Unsuitable, "{error}");
    }
}
