//! Looks into a source and plans the rest of the job.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::leases;
use reelmill_shared::db::sources::Source;
use reelmill_shared::ids::{RecordingId, SourceId};
use reelmill_shared::job::capability::Pool;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::plan::{self, Circumstances};
use reelmill_shared::job::task::{Led, ProbeSpec};
use reelmill_shared::media::probe::Probe;
use serde_json::json;

use super::Bench;
use crate::cache::{SourceFile, digest};
use crate::ffmpeg::inspect::{Described, Scanned};
use crate::ffmpeg::process::Ended;
use crate::ffmpeg::{argv, refusal};

/// Long enough to walk through a day of video on a slow disk.
const DEADLINE: Duration = Duration::from_secs(900);
/// Bytes of ffprobe's description that are read.
const MAX_DESCRIPTION: usize = 1 << 20;
/// More packets than twelve hours at sixty frames with sound have.
const MAX_PACKETS: usize = 20_000_000;

pub(super) async fn perform(bench: &Bench, spec: &ProbeSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let mut publications = vec![];
    let probe = match &source.probe {
        // Looked into for an earlier job.
        Some(probe) => probe.clone(),
        None => {
            let file = open(bench, &source).await?;
            let seen = describe(bench, &file.path).await?;
            if spec.led.is_none()
                && let Some(begun) = lead(bench, &source, &file.path, &seen).await?
            {
                return Ok(vec![begun]);
            }
            let probe = scan(bench, &file.path, &seen, source.bytes.unwrap_or(0)).await?;
            let sha256 = match &source.sha256 {
                Some(known) => known.clone(),
                None => digest(&file.path)
                    .await
                    .map_err(|error| TaskError::internal("hashing the source", error))?,
            };
            publications.push(Publication::Probed {
                source: source.id,
                probe: Box::new(probe.clone()),
                sha256,
            });
            probe
        }
    };
    publications.extend(plan_rest(bench, spec, &probe).await?);
    Ok(publications)
}

async fn open(bench: &Bench, source: &Source) -> Result<SourceFile, TaskError> {
    if source.bytes == Some(0) {
        return Err(TaskError::fatal(Reason::NotMedia, "the source is empty: zero bytes"));
    }
    bench.open(source).await
}

/// What ffprobe says of a file of `bytes` bytes, and what all its packets say.
pub(super) async fn look(bench: &Bench, path: &Path, bytes: u64) -> Result<Probe, TaskError> {
    let seen = describe(bench, path).await?;
    scan(bench, path, &seen, bytes).await
}

/// What ffprobe says of a file.
struct Seen {
    described: Described,
    /// The limit that a track is over, which says more than what is missing of it.
    over: Option<TaskError>,
}

async fn describe(bench: &Bench, path: &Path) -> Result<Seen, TaskError> {
    bench.say(0.1, "looking into the source", None);
    let ffprobe = bench.shop.programs.ffprobe.clone();
    let args = argv::describe(path);
    bench.note(&ffprobe, &args);
    let mut json = String::new();
    let on_line = |line: &str| {
        if json.len() + line.len() <= MAX_DESCRIPTION {
            json.push_str(line);
        }
    };
    let ended = bench.child(&ffprobe, &args, DEADLINE, 1, on_line).await?;
    bench.keep_log(&ended.log_tail);
    passing_failure(&ended)?;
    if !ended.status.success() {
        return Err(refusal::explain(&ended.log_tail));
    }
    let described = Described::parse(json.as_bytes())?;
    Ok(Seen { described, over: refusal::limit(&ended.log_tail) })
}

async fn scan(bench: &Bench, path: &Path, seen: &Seen, bytes: u64) -> Result<Probe, TaskError> {
    let packets = packets(bench, path, &seen.described, None).await?;
    seen.described.probe(&packets, bytes).map_err(|error| seen.over.clone().unwrap_or(error))
}

async fn packets(
    bench: &Bench,
    path: &Path,
    described: &Described,
    first_seconds: Option<u32>,
) -> Result<BTreeMap<u32, Scanned>, TaskError> {
    let mut packets: BTreeMap<u32, Scanned> =
        described.wanted().into_iter().map(|index| (index, Scanned::default())).collect();
    let mut count = 0;
    let ffprobe = bench.shop.programs.ffprobe.clone();
    let args = argv::list_packets(path, first_seconds);
    let ended = bench
        .child(&ffprobe, &args, DEADLINE, 1, |line| {
            count += 1;
            if count <= MAX_PACKETS {
                Scanned::add(&mut packets, line);
            }
        })
        .await?;
    passing_failure(&ended)?;
    if !ended.status.success() {
        return Err(refusal::explain(&ended.log_tail));
    }
    if count > MAX_PACKETS {
        return Err(TaskError::fatal(
            Reason::LimitExceeded,
            format!("the source has more than {MAX_PACKETS} packets"),
        ));
    }
    Ok(packets)
}

/// Seconds of packets that tell the rate of a source before all of it was read: as much as the first span of sound.
const GLANCE_SECONDS: u32 = 30;

/// Begins a long source before all of it was looked into; `None` where it is not long, or better looked into first.
async fn lead(
    bench: &Bench,
    source: &Source,
    path: &Path,
    seen: &Seen,
) -> Result<Option<Publication>, TaskError> {
    let claimed = &bench.claimed;
    let Some(recording) = claimed.recording_id.filter(|_| claimed.job_spec.profile.is_some()) else {
        return Ok(None);
    };
    if !seen.described.declared_seconds().is_some_and(plan::is_worth_a_glance) {
        return Ok(None);
    }
    let packets = packets(bench, path, &seen.described, Some(GLANCE_SECONDS)).await?;
    let Some(glance) = seen.described.glance(&packets, source.bytes.unwrap_or(0)) else { return Ok(None) };
    let plan = plan::lead(&claimed.job_spec, source.id, &glance, &circumstances(bench).await?);
    Ok(plan.map(|plan| Publication::Planned { recording, plan: Box::new(plan) }))
}

/// Ends of ffprobe that say nothing about the source: it was killed, or this machine lacked something.
fn passing_failure(ended: &Ended) -> Result<(), TaskError> {
    // Not what an input can bring about by itself: exceeding our limit on allocations says "Cannot allocate memory".
    const LACKS: [&str; 3] = ["Too many open files", "No space left on device", "No such file or directory"];
    let killed = ended.status.code().is_none();
    let lacking = !ended.status.success() && LACKS.iter().any(|lack| ended.log_tail.contains(lack));
    if killed || lacking {
        let why = if killed { ended.status.to_string() } else { ended.log_tail.trim().to_owned() };
        return Err(TaskError::retryable(
            Reason::Ffmpeg,
            format!("looking into the source was broken off: {why}"),
        ));
    }
    Ok(())
}

async fn plan_rest(bench: &Bench, spec: &ProbeSpec, probe: &Probe) -> Result<Vec<Publication>, TaskError> {
    let claimed = &bench.claimed;
    let Some(recording) = claimed.recording_id else {
        return Ok(vec![]);
    };
    if claimed.job_spec.profile.is_some() {
        return Ok(vec![match plan::remux(&claimed.job_spec, spec.source, probe) {
            Some(task) => Publication::Tasks(vec![task]),
            None => plan_transcode(bench, spec.source, recording, probe, spec.led.as_deref()).await?,
        }]);
    }
    if let Some(picture) = claimed.job_spec.picture {
        if probe.video.is_none() {
            return Err(TaskError::fatal(
                Reason::Unsuitable,
                "the source has no video track to take a picture from",
            ));
        }
        let task = plan::thumbnail(claimed.job_spec.source, recording, picture);
        return Ok(vec![Publication::Tasks(vec![task])]);
    }
    Ok(vec![Publication::JobResult(json!({ "probe": probe }))])
}

/// Plans the rest of a transcode of `source`, which is the job's own or a remux of it, around what was `led` of it.
pub(super) async fn plan_transcode(
    bench: &Bench,
    source: SourceId,
    recording: RecordingId,
    probe: &Probe,
    led: Option<&Led>,
) -> Result<Publication, TaskError> {
    let circumstances = circumstances(bench).await?;
    let plan = plan::transcode(&bench.claimed.job_spec, source, recording, probe, led, &circumstances)?;
    Ok(Publication::Planned { recording, plan: Box::new(plan) })
}

async fn circumstances(bench: &Bench) -> Result<Circumstances, TaskError> {
    let config = &bench.shop.config;
    Ok(Circumstances {
        max_duration_seconds: config.max_duration.as_secs_f64(),
        free_slots: free_slots(bench).await?,
        encode_threads: Some(config.encode_threads).filter(|threads| *threads > 0),
        chunk_seconds: config.chunk.map(|chunk| chunk.as_secs_f64()),
    })
}

/// Slots that would stand idle beside this task, whose own is free by then.
async fn free_slots(bench: &Bench) -> Result<u32, TaskError> {
    let free = leases::free_slots(&bench.shop.db, Pool::Cpu.as_str())
        .await
        .map_err(|error| TaskError::internal("counting free slots", error))?;
    Ok((free + 1).clamp(1, i64::from(u32::MAX)) as u32)
}
