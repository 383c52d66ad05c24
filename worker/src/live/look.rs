//! Looks into the beginning of what a publisher sends.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reelmill_shared::media::probe::Probe;
use tokio_util::sync::CancellationToken;

use crate::ffmpeg::argv;
use crate::ffmpeg::inspect::{Answer, Described, Scanned};
use crate::ffmpeg::process::{Limits, Run, run};

/// More than ffprobe takes for some seconds of anything, on a machine at work.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the beginning holds.
///
/// # Errors
/// For people: why it cannot be streamed.
pub(crate) async fn look(
    ffprobe: &Path,
    dir: &Path,
    head: &Path,
    bytes: u64,
    stop: &CancellationToken,
) -> Result<Probe, String> {
    let limits = Limits::standard(DEADLINE, 1);
    let job = |args| Run { program: ffprobe, args, dir, deadline: DEADLINE, stall: DEADLINE, limits };
    let failed = |error: &dyn std::fmt::Display| format!("what came in could not be looked into: {error}");

    let mut answer = Answer::default();
    let args = argv::describe(head);
    let ended = run(job(&args), stop, |line| answer.add(line)).await.map_err(|error| failed(&error))?;
    if !ended.status.success() {
        return Err(failed(&ended.log_tail.trim()));
    }
    let described = Described::parse(answer.json()).map_err(|error| failed(&error.message))?;

    let mut packets: BTreeMap<u32, Scanned> =
        described.wanted().into_iter().map(|index| (index, Scanned::default())).collect();
    let args = argv::list_packets(head, None);
    let ended = run(job(&args), stop, |line| {
        Scanned::add(&mut packets, line);
    })
    .await
    .map_err(|error| failed(&error))?;
    if !ended.status.success() {
        return Err(failed(&ended.log_tail.trim()));
    }
    described.probe(packets, bytes).map_err(|error| failed(&error.message))
}
