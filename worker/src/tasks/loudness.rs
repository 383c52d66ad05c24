//! Measures how loud tracks are before they are encoded, so that one gain does for all of each, however it is cut.

use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::job::error::TaskError;
use reelmill_shared::job::task::{AudioSpec, LoudnessSpec};
use reelmill_shared::media::grid::AAC_FRAME;
use reelmill_shared::media::loudness::Normalised;
use serde_json::json;

use super::{Amount, Bench, check_exit};
use crate::ffmpeg::{argv, loudness};

pub(super) async fn perform(bench: &Bench, spec: &LoudnessSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let file = bench.open(&source).await?;
    let outputs = outputs(spec);
    let args = argv::loudness(spec, &file.path, &outputs);
    let seconds =
        |track: &AudioSpec| (track.grid.frames * AAC_FRAME) as f64 / f64::from(track.grid.sample_rate);
    let amount = Amount::seconds(spec.tracks.iter().map(seconds).fold(0.0, f64::max));
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let ended = bench.ffmpeg("measuring loudness", &args, amount, deadline, 1).await?;
    check_exit("measuring loudness", &ended)?;
    let mut all = vec![];
    for (track, output) in spec.tracks.iter().zip(&outputs) {
        let text = match tokio::fs::read_to_string(bench.dir.join(output)).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(TaskError::internal("reading the measured loudness", error)),
        };
        all.push(Normalised::new(&track.rung, loudness::read(&text), spec.target));
    }
    Ok(vec![Publication::JobResult(json!({ RESULT: all }))])
}

/// A file a track, in the scratch directory.
pub(super) fn outputs(spec: &LoudnessSpec) -> Vec<String> {
    (0..spec.tracks.len()).map(|number| format!("loudness-{number}.txt")).collect()
}

/// Where in the job's result it is kept.
const RESULT: &str = "loudness";

/// The gain of a track in dB, where its job measured it.
pub(super) async fn gain(bench: &Bench, spec: &AudioSpec) -> Result<Option<f64>, TaskError> {
    if !spec.normalise {
        return Ok(None);
    }
    let missing =
        |why: &str| TaskError::internal("reading the measured loudness", std::io::Error::other(why));
    let job = reelmill_shared::db::jobs::find(&bench.shop.db, bench.claimed.job_id)
        .await
        .map_err(|error| TaskError::internal("reading the job", error))?;
    let kept =
        job.and_then(|job| job.result?.get(RESULT).cloned()).ok_or_else(|| missing("there is none"))?;
    let kept: Vec<Normalised> = serde_json::from_value(kept).map_err(|error| missing(&error.to_string()))?;
    let mine =
        kept.iter().find(|track| track.name == spec.rung).ok_or_else(|| missing("not of this track"))?;
    Ok(Some(mine.gain_db))
}
