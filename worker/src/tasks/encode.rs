//! Decodes a chunk of a source once and encodes all its rungs with one FFmpeg; cuts and stores the segments while it runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::{EncodeRung, EncodeSpec};
use reelmill_shared::media::cmaf::{Sample, Track};
use reelmill_shared::media::grid::{Rate, Span};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::{Amount, Bench, check_exit};
use crate::ffmpeg::argv::{self, Approach, EncodeFiles};
use crate::ffmpeg::witness;
use crate::packager::{Cut, Cutting, Packager, discard};

/// How often the growing files are looked at.
const FOLLOW: Duration = Duration::from_millis(500);

/// Where FFmpeg says which frame it decoded first.
pub(super) const WITNESS: &str = "first-frame.txt";

/// The files FFmpeg writes, one a rung.
pub(super) fn outputs(dir: &Path, spec: &EncodeSpec) -> Vec<PathBuf> {
    (0..spec.rungs.len()).map(|index| dir.join(format!("rung-{index}.mp4"))).collect()
}

pub(super) async fn perform(bench: &Bench, spec: &EncodeSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let file = bench.open_extent(&source, spec.extent.as_ref()).await?;
    let witness = bench.dir.join(WITNESS);
    let mark = bench.open_mark(spec.watermark.as_ref()).await?;
    let inputs = Inputs { source: &file.path, watermark: mark.as_ref().map(|file| file.path.as_path()) };
    let mut packagers = encode(bench, spec, &inputs, &witness, Approach::Seek).await?;
    if spec.begins_later() && !starts_in_time(spec, &witness).await? {
        tracing::info!("a seek ended beyond the chunk; decoding everything before it");
        for packager in &packagers {
            // Else what is there would be followed until FFmpeg opens it anew.
            discard(packager.path()).await;
        }
        packagers = encode(bench, spec, &inputs, &witness, Approach::Read).await?;
        // At the beginning the first picture stands for those before it: the track may begin late.
        if spec.span().start() > 0 && !starts_in_time(spec, &witness).await? {
            return Err(TaskError::fatal(
                Reason::Damaged,
                "the source has no pictures where its times say there are",
            ));
        }
    }
    let mut publications = vec![];
    for (packager, rung) in packagers.into_iter().zip(&spec.rungs) {
        let path = packager.path().to_owned();
        let mut encoded = packager.finish(rung.position, None, rung.rate_control.declared()).await?;
        encoded.rendition.frame_rate = Some((rung.grid.rate.num, rung.grid.rate.den));
        super::same_init(bench, spec.set, &encoded).await?;
        publications.push(Publication::Rendition { set: spec.set, encoded: Box::new(encoded) });
        discard(&path).await;
    }
    Ok(publications)
}

/// The files an encode reads.
struct Inputs<'a> {
    source: &'a Path,
    watermark: Option<&'a Path>,
}

/// Runs FFmpeg to its end, its outputs followed while they grow.
async fn encode(
    bench: &Bench,
    spec: &EncodeSpec,
    inputs: &Inputs<'_>,
    witness: &Path,
    approach: Approach,
) -> Result<Vec<Packager<VideoCut>>, TaskError> {
    let span = spec.span();
    let outputs = outputs(&bench.dir, spec);
    let mut packagers: Vec<Packager<VideoCut>> = spec
        .rungs
        .iter()
        .zip(&outputs)
        .map(|(rung, path)| {
            let cut = VideoCut::new(rung, spec.rung_span(rung));
            Packager::new(bench.shop.storage.clone(), &bench.prefix, &rung.name, path.clone(), cut)
        })
        .collect();
    let files = EncodeFiles { input: inputs.source, watermark: inputs.watermark, outputs: &outputs, witness };
    let args = argv::encode(spec, &files, approach);
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let done = CancellationToken::new();
    let encoding = async {
        let amount = Amount {
            seconds: spec.grid.rate.seconds(span.encoded()),
            frames: spec.rungs.first().map(|rung| spec.rung_span(rung).encoded()),
        };
        let ended = bench.ffmpeg("encoding", &args, amount, deadline, spec.threads).await;
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
    Ok(packagers)
}

/// Whether the first frame that was decoded is at the start of the chunk or before it.
pub(super) async fn starts_in_time(spec: &EncodeSpec, witness: &Path) -> Result<bool, TaskError> {
    Ok(witness::first_seconds(witness).await?.is_some_and(|seconds| {
        // The nearest frame of the grid counts, as it does there.
        let on_grid = (seconds - spec.offset_ms as f64 / 1000.0).max(0.0);
        spec.grid.rate.frames_in(on_grid) <= spec.span().start()
    }))
}

/// Cuts on the frame grid, and checks that what FFmpeg wrote is on it.
pub(crate) struct VideoCut {
    rung: EncodeRung,
    /// What is encoded, on the rung's own grid.
    span: Span,
    /// GOPs of the segment under way.
    gops: Vec<Vec<Sample>>,
    /// Frames seen so far.
    frames: u64,
    /// Frames of the segments that are done.
    cut: u64,
    delay: Option<u32>,
}

impl VideoCut {
    /// Cuts what is encoded for `rung`, which is `span` of the rung's own grid.
    pub(crate) fn new(rung: &EncodeRung, span: Span) -> Self {
        Self { rung: rung.clone(), span, gops: vec![], frames: 0, cut: 0, delay: None }
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
        let first = self.span.first + self.cut;
        self.cut += frames as u64;
        Cutting {
            number: (first / self.rung.grid.segment_frames()) as u32,
            base_decode_time: first * u64::from(self.rung.grid.rate.frame_ticks()),
            gops,
        }
    }
}

impl Cut for VideoCut {
    fn correct(&self, track: &mut Track) {
        let Rate { num, den } = self.rung.grid.rate;
        track.correct_level((num, den), self.rung.rate_control.max_bitrate());
    }

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
        if self.frames < self.span.warm_up {
            // Made so that the rate control has a past; shown by the chunk before.
            self.frames += samples.len() as u64;
            return Ok(vec![]);
        }
        // A frame's length is the grid's, whatever the muxer made of the last one.
        samples.iter_mut().for_each(|sample| sample.duration = grid.rate.frame_ticks());
        self.frames += samples.len() as u64;
        self.gops.push(samples);
        let full = self.gops.len() as u32 == grid.segment_gops;
        Ok(if full { vec![self.close_segment()] } else { vec![] })
    }

    fn finish(&mut self) -> Result<Vec<Cutting>, TaskError> {
        if self.frames != self.span.encoded() {
            return Err(TaskError::fatal(
                Reason::Damaged,
                format!(
                    "the source could be decoded to {} of {} frames only; it may be damaged or cut off",
                    self.frames,
                    self.span.encoded()
                ),
            ));
        }
        Ok(if self.gops.is_empty() { vec![] } else { vec![self.close_segment()] })
    }

    fn delay(&self) -> u32 {
        self.delay.unwrap_or(0)
    }
}
