//! Decodes a source once and encodes all its rungs with one FFmpeg; cuts and stores the segments while it runs.

use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::{EncodeRung, EncodeSpec};
use reelmill_shared::media::cmaf::{Sample, Track};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::{Bench, check_exit};
use crate::ffmpeg::argv;
use crate::packager::{Cut, Cutting, Packager, discard};

/// How often the growing files are looked at.
const FOLLOW: Duration = Duration::from_millis(500);

pub(super) async fn perform(bench: &Bench, spec: &EncodeSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let file = bench.open(&source).await?;
    let outputs: Vec<_> =
        (0..spec.rungs.len()).map(|index| bench.dir.join(format!("rung-{index}.mp4"))).collect();
    let mut packagers: Vec<Packager<VideoCut>> = spec
        .rungs
        .iter()
        .zip(&outputs)
        .map(|(rung, path)| {
            let cut = VideoCut::new(rung);
            Packager::new(bench.shop.storage.clone(), &bench.prefix, &rung.name, path.clone(), cut)
        })
        .collect();

    let args = argv::encode(spec, &file.path, &outputs);
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let done = CancellationToken::new();
    let encoding = async {
        let ended = bench.ffmpeg("encoding", &args, spec.grid.duration(), deadline, spec.threads).await;
        done.cancel();
        ended
    };
    // Never dropped in mid-flight: a segment on its way to the store would be lost. An error of either ends both; the child is
    // killed when its future is dropped.
    let following = async {
        let mut tick = interval(FOLLOW);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = done.cancelled() => return Ok(()),
            }
            for packager in &mut packagers {
                packager.follow().await?;
            }
        }
    };
    let (ended, ()) = tokio::try_join!(encoding, following)?;
    check_exit("encoding", &ended)?;

    let mut publications = vec![];
    for ((position, packager), (rung, path)) in (0..).zip(packagers).zip(spec.rungs.iter().zip(&outputs)) {
        let mut encoded = packager.finish(position, None).await?;
        encoded.rendition.frame_rate = Some((rung.grid.rate.num, rung.grid.rate.den));
        publications.push(Publication::Rendition { set: spec.set, encoded: Box::new(encoded) });
        discard(path).await;
    }
    Ok(publications)
}

/// Cuts on the frame grid, and checks that what FFmpeg wrote is on it.
struct VideoCut {
    rung: EncodeRung,
    /// GOPs of the segment under way.
    gops: Vec<Vec<Sample>>,
    /// Frames seen so far.
    frames: u64,
    /// Frames of the segments that are done.
    cut: u64,
    number: u32,
    delay: Option<u32>,
}

impl VideoCut {
    fn new(rung: &EncodeRung) -> Self {
        Self { rung: rung.clone(), gops: vec![], frames: 0, cut: 0, number: 0, delay: None }
    }

    fn off_plan(&self, what: impl std::fmt::Display) -> TaskError {
        TaskError::retryable(
            Reason::CheckFailed,
            format!("{} is not what was planned: {what}", self.rung.name),
        )
    }

    fn close_segment(&mut self) -> Cutting {
        let gops = std::mem::take(&mut self.gops);
        let frames: usize = gops.iter().map(Vec::len).sum();
        let cutting = Cutting {
            number: self.number,
            base_decode_time: self.cut * u64::from(self.rung.grid.rate.frame_ticks()),
            gops,
        };
        self.number += 1;
        self.cut += frames as u64;
        cutting
    }
}

impl Cut for VideoCut {
    fn take(&mut self, track: &Track, mut samples: Vec<Sample>) -> Result<Vec<Cutting>, TaskError> {
        let grid = &self.rung.grid;
        if track.timescale != grid.rate.timescale() {
            return Err(self.off_plan(format!("a timescale of {}", track.timescale)));
        }
        // One fragment is one GOP: it starts with the only keyframe, at its place on the grid.
        let keyframes = samples.iter().filter(|sample| sample.sync).count();
        if keyframes != 1 || !samples.first().is_some_and(|sample| sample.sync) {
            return Err(self.off_plan(format!("a GOP with {keyframes} keyframes at frame {}", self.frames)));
        }
        if !self.frames.is_multiple_of(u64::from(grid.gop_frames)) || samples.len() > grid.gop_frames as usize
        {
            return Err(self.off_plan(format!("a keyframe at frame {}", self.frames)));
        }
        let delay = samples.first().map(|sample| sample.composition_offset).unwrap_or(0);
        let known = *self.delay.get_or_insert(u32::try_from(delay).unwrap_or(0));
        if delay < 0 || known != delay as u32 || samples.iter().any(|sample| sample.composition_offset < 0) {
            return Err(self.off_plan(format!("a reordering delay of {delay} after one of {known}")));
        }
        // A frame's length is the grid's, whatever the muxer made of the last one.
        samples.iter_mut().for_each(|sample| sample.duration = grid.rate.frame_ticks());
        self.frames += samples.len() as u64;
        self.gops.push(samples);
        let full = self.gops.len() as u32 == grid.segment_gops;
        Ok(if full { vec![self.close_segment()] } else { vec![] })
    }

    fn finish(&mut self) -> Result<Vec<Cutting>, TaskError> {
        if self.frames != self.rung.grid.frames {
            return Err(TaskError::fatal(
                Reason::Damaged,
                format!(
                    "the source could be decoded to {} of {} frames only; it may be damaged or cut off",
                    self.frames, self.rung.grid.frames
                ),
            ));
        }
        Ok(if self.gops.is_empty() { vec![] } else { vec![self.close_segment()] })
    }

    fn delay(&self) -> u32 {
        self.delay.unwrap_or(0)
    }
}
