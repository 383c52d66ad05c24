//! Brings a source without an index (a transport stream, say) into a container that has one, so that it can be cut into chunks, and
//! plans the rest of the job on that. Where it cannot be done, the source is planned as it is: in one piece.

use std::path::Path;
use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::sources::{Piece, Source};
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::RemuxSpec;
use reelmill_shared::media::probe::Probe;
use reelmill_shared::storage::keys;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::probe::{look, recipe, sample_or_plan};
use super::{Amount, Bench};
use crate::ffmpeg::argv;

/// How much shorter the picture may be afterwards, in seconds and in coded frames: a muxer drops what has no time.
const LOST_SECONDS: f64 = 0.5;
const LOST_PACKETS: f64 = 0.01;

pub(super) const OUTPUT: &str = "remuxed.mkv";

/// The tracks that are brought along, by their indices.
pub(super) fn tracks(probe: &Probe) -> Vec<u32> {
    let video = probe.video.iter().map(|video| video.index);
    video.chain(probe.audio.iter().map(|audio| audio.index)).collect()
}

pub(super) async fn perform(bench: &Bench, spec: &RemuxSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let probe = source.probe.clone().ok_or_else(|| TaskError::fatal(Reason::Internal, "not probed yet"))?;
    let recording = bench.claimed.recording_id;
    let recording =
        recording.ok_or_else(|| TaskError::fatal(Reason::Internal, "the job has no recording"))?;
    let output = bench.dir.join(OUTPUT);
    // That of what was asked for, not of what it is brought into.
    let recipe = recipe(bench, source.sha256.as_deref()).await?;
    let Some(found) = remux(bench, spec, &source, &probe, &output).await? else {
        return sample_or_plan(bench, spec.source, recording, &probe, None, recipe).await;
    };
    let (piece, sha256) = store(bench, &output).await?;
    let plan = sample_or_plan(bench, spec.remuxed, recording, &found, None, recipe).await?;
    let probe = Box::new(found);
    let remuxed = Publication::Remuxed { of: spec.source, remuxed: spec.remuxed, piece, sha256, probe };
    Ok([vec![remuxed], plan].concat())
}

/// Remuxes and looks into the result; `None` where it does not hold what the source holds.
async fn remux(
    bench: &Bench,
    spec: &RemuxSpec,
    source: &Source,
    probe: &Probe,
    output: &Path,
) -> Result<Option<Probe>, TaskError> {
    let file = bench.open(source).await?;
    let args = argv::remux(&tracks(probe), &file.path, output);
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let amount = Amount::seconds(probe.duration_seconds);
    let ended = bench.ffmpeg("indexing the source", &args, amount, deadline, 1).await?;
    if !ended.status.success() {
        if ended.log_tail.contains("No space left on device") {
            return Err(TaskError::retryable(Reason::Storage, "no room to index the source"));
        }
        tracing::info!("the source cannot be brought into another container; it is not cut");
        return Ok(None);
    }
    let bytes = tokio::fs::metadata(output)
        .await
        .map_err(|error| TaskError::internal("reading the remuxed source", error))?
        .len();
    let found = match look(bench, output, bytes).await {
        Ok(found) => found,
        Err(error) if error.retryable => return Err(error),
        Err(error) => {
            tracing::info!(%error, "the source does not survive another container; it is not cut");
            return Ok(None);
        }
    };
    let same = match (&probe.video, &found.video) {
        (Some(before), Some(after)) => {
            before.end_seconds - after.end_seconds <= LOST_SECONDS
                && after.packets as f64 >= before.packets as f64 * (1.0 - LOST_PACKETS)
                && (before.width, before.height, before.rotation)
                    == (after.width, after.height, after.rotation)
                && found.audio.len() == probe.audio.len()
        }
        _ => false,
    };
    if !same {
        tracing::info!("the source loses something in another container; it is not cut");
    }
    Ok(same.then(|| moved(probe, found.format)))
}

/// What is known of the source, in its new place: containers differ in what they tell of the same tracks. They lie as they were named
/// to FFmpeg, the picture first. Containers that need this hold no text that could be used.
pub(super) fn moved(probe: &Probe, format: String) -> Probe {
    let mut probe = Probe { format, text: vec![], ..probe.clone() };
    let indices = probe.video.iter_mut().map(|video| &mut video.index);
    let indices = indices.chain(probe.audio.iter_mut().map(|audio| &mut audio.index));
    (0..).zip(indices).for_each(|(place, index)| *index = place);
    probe
}

async fn store(bench: &Bench, path: &Path) -> Result<(Piece, Vec<u8>), TaskError> {
    let disk = |error: std::io::Error| TaskError::internal("reading the remuxed source", error);
    let stored =
        |error| TaskError::retryable(Reason::Storage, format!("could not store the source: {error}"));
    let key = keys::remuxed(&bench.prefix);
    let mut file = tokio::fs::File::open(path).await.map_err(disk)?;
    let mut writer = bench.shop.storage.writer(&key).await.map_err(stored)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    loop {
        let mut chunk = Vec::with_capacity(1 << 20);
        if file.read_buf(&mut chunk).await.map_err(disk)? == 0 {
            break;
        }
        bytes += chunk.len() as u64;
        hash.update(&chunk);
        writer.write(chunk.into()).await.map_err(stored)?;
    }
    writer.finish().await.map_err(stored)?;
    Ok((Piece { key, bytes }, hash.finalize().to_vec()))
}
