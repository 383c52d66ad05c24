//! Finds out what a source needs, from a few samples, decides on its ladder, and plans the rest of the job on that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::plan::{self, Settled};
use reelmill_shared::job::quality::{Metric, psnr};
use reelmill_shared::job::task::{ComplexitySpec, EncodeRung, EncodeSpec};
use reelmill_shared::media::complexity::{Sample, SampledRung, decide};
use reelmill_shared::media::grid::Span;
use serde_json::{Value, json};

use super::encode::starts_in_time;
use super::probe::{plan_transcode, recipe};
use super::{Amount, Bench, check_exit};
use crate::ffmpeg::{argv, figures};

/// A sample that takes longer lies far behind the keyframe before it: no more are taken, or finding out would cost more than it is worth.
const DEADLINE: Duration = Duration::from_secs(120);

pub(super) async fn perform(bench: &Bench, spec: &ComplexitySpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.whole.source).await?;
    let probe = source.probe.clone().ok_or_else(|| TaskError::fatal(Reason::Internal, "not probed yet"))?;
    let recording = bench.claimed.recording_id;
    let recording =
        recording.ok_or_else(|| TaskError::fatal(Reason::Internal, "the job has no recording"))?;
    let file = bench.open(&source).await?;
    let mark = bench.open_mark(spec.whole.watermark.as_ref()).await?;

    // Rungs that differ in their ceilings only need the same.
    let mut alike = spec.whole.clone();
    alike.rungs.dedup_by(|a, b| same_sample(a, b));
    let mut taken: Vec<(Span, Vec<Sample>)> = vec![];
    for span in &spec.samples {
        let sampled = EncodeSpec { span: Some(*span), ..alike.clone() };
        let mark = mark.as_ref().map(|file| file.path.as_path());
        match samples(bench, &sampled, &file.path, mark).await {
            Ok(Some(needs)) => taken.push((*span, needs)),
            Ok(None) => {}
            Err(error) if error.reason == Reason::DeadlineExceeded => break,
            Err(error) => return Err(error),
        }
    }
    let rungs: Vec<SampledRung> = spec
        .whole
        .rungs
        .iter()
        .map(|rung| {
            let place = alike.rungs.iter().position(|other| same_sample(rung, other));
            let own = |needs: &Vec<Sample>| place.and_then(|place| needs.get(place).copied());
            SampledRung {
                name: rung.name.clone(),
                codec: rung.encoder.codec(),
                size: (rung.width, rung.height),
                rate_control: rung.rate_control,
                samples: taken.iter().filter_map(|(_, needs)| own(needs)).collect(),
            }
        })
        .collect();
    let (verdicts, told) = if taken.is_empty() {
        (vec![], json!({ "skipped": "no sample of the source could be taken" }))
    } else {
        let verdicts = decide(&rungs);
        let told = told(spec, &taken, &verdicts);
        (verdicts, told)
    };
    let settled = Settled { led: spec.led.as_ref(), ladder: &verdicts };
    // Of what was asked for, not of what it was brought into.
    let asked = bench.source(bench.claimed.job_spec.source).await?;
    let recipe = recipe(bench, asked.sha256.as_deref()).await?;
    let planned = plan_transcode(bench, source.id, recording, &probe, settled, recipe).await?;
    Ok(vec![Publication::JobResult(json!({ "ladder": told })), planned])
}

fn same_sample(a: &EncodeRung, b: &EncodeRung) -> bool {
    let key = |rung: &EncodeRung| {
        (rung.encoder.codec(), rung.width, rung.height, rung.content, rung.grid, argv::crf(rung))
    };
    key(a) == key(b)
}

fn told<V: serde::Serialize>(spec: &ComplexitySpec, taken: &[(Span, Vec<Sample>)], verdicts: &[V]) -> Value {
    let grid = &spec.whole.grid;
    let starts: Vec<f64> =
        taken.iter().map(|(span, _)| (grid.rate.seconds(span.first) * 1000.0).round() / 1000.0).collect();
    json!({ "samples": starts, "sample_seconds": grid.rate.seconds(grid.gop_frames.into()), "rungs": verdicts })
}

/// What a sample needs at each rung of `spec`, in their order, by as many runs as memory asks for; `None` where it cannot be decoded or is
/// not where it should be.
async fn samples(
    bench: &Bench,
    spec: &EncodeSpec,
    input: &Path,
    mark: Option<&Path>,
) -> Result<Option<Vec<Sample>>, TaskError> {
    let mut found: Vec<(String, Sample)> = vec![];
    for rungs in plan::within_memory(&spec.rungs) {
        let smaller: Vec<_> = rungs.iter().map(|rung| argv::smaller(&spec.rungs, rung).cloned()).collect();
        let names: Vec<String> = rungs.iter().map(|rung| rung.name.clone()).collect();
        let part = EncodeSpec { rungs, ..spec.clone() };
        let Some(needs) = sample(bench, &part, &smaller, input, mark).await? else { return Ok(None) };
        found.extend(names.into_iter().zip(needs));
    }
    let of = |rung: &EncodeRung| found.iter().find(|(name, _)| *name == rung.name).map(|(_, needs)| *needs);
    Ok(spec.rungs.iter().map(of).collect())
}

/// The same by one run.
async fn sample(
    bench: &Bench,
    spec: &EncodeSpec,
    smaller: &[Option<EncodeRung>],
    input: &Path,
    mark: Option<&Path>,
) -> Result<Option<Vec<Sample>>, TaskError> {
    let outputs: Vec<PathBuf> =
        (0..spec.rungs.len()).map(|place| bench.dir.join(format!("sample-{place}.h264"))).collect();
    let witness = bench.dir.join("first-frame.txt");
    let args = argv::sample(spec, smaller, input, mark, &outputs, &witness);
    let frames = spec.span().frames;
    let amount = Amount { seconds: spec.grid.rate.seconds(frames), frames: Some(frames) };
    let ended = bench.ffmpeg("sampling the source", &args, amount, DEADLINE, spec.threads).await?;
    if !ended.status.success() {
        let killed = ended.status.code().is_none() || ended.log_tail.contains("No space left on device");
        return if killed { check_exit("sampling", &ended).map(|()| None) } else { Ok(None) };
    }
    if spec.begins_later() && !starts_in_time(spec, &witness).await? {
        return Ok(None);
    }
    let mut needs = vec![];
    for (place, ((rung, below), output)) in spec.rungs.iter().zip(smaller).zip(&outputs).enumerate() {
        let frames = spec.rung_span(rung).frames;
        let bytes = tokio::fs::metadata(output)
            .await
            .map_err(|error| TaskError::internal("measuring a sample", error))?
            .len();
        let mut smaller = None;
        if below.is_some() {
            let mut means = vec![];
            for metric in Metric::EVERYWHERE {
                let path = bench.dir.join(argv::figures_file(*metric, place));
                let Some(values) = figures::read(&path, *metric, frames).await? else { return Ok(None) };
                means.extend(metric.figure(&values).map(|figure| figure.mean));
            }
            let [square_error, similarity] = means[..] else { return Ok(None) };
            smaller = Some((psnr(square_error), similarity));
        }
        let bitrate = (bytes as f64 * 8.0 / rung.grid.rate.seconds(frames)) as u64;
        needs.push(Sample { bitrate, smaller });
    }
    Ok(Some(needs))
}
