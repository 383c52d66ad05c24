//! Looks into a source and plans the rest of the job.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use reelmill_shared::db::downloads::offered;
use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::sets::{self, Rendition};
use reelmill_shared::db::sources::Source;
use reelmill_shared::db::{leases, reuse, workers};
use reelmill_shared::ids::{RecordingId, SourceId};
use reelmill_shared::job::capability::Pool;
use reelmill_shared::job::encoder::Gpus;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::plan::{self, Circumstances, Sampling, Settled};
use reelmill_shared::job::recipe;
use reelmill_shared::job::spec::Output;
use reelmill_shared::job::task::{Extent, Led, ProbeSpec};
use reelmill_shared::media::probe::Probe;
use reelmill_shared::media::profile::Hardware;
use serde_json::json;

use super::{Bench, dry_run};
use crate::cache::{self, SourceFile};
use crate::extent::{self, BEGINNING};
use crate::ffmpeg::inspect::{Answer, Described, Scanned};
use crate::ffmpeg::process::Ended;
use crate::ffmpeg::{argv, refusal};

/// Long enough to walk through a day of video on a slow disk.
const DEADLINE: Duration = Duration::from_secs(900);
/// More packets than twelve hours at sixty frames with sound have.
const MAX_PACKETS: usize = 20_000_000;

pub(super) async fn perform(bench: &Bench, spec: &ProbeSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let mut publications = vec![];
    let mut sha256 = source.sha256.clone();
    let probe = match &source.probe {
        // Looked into for an earlier job.
        Some(probe) => probe.clone(),
        None => {
            if source.bytes == Some(0) {
                return Err(TaskError::fatal(Reason::NotMedia, "the source is empty: zero bytes"));
            }
            if spec.led.is_none()
                && !bench.claimed.job_spec.dry_run
                && !is_made(bench, source.sha256.as_deref()).await?
                && let Some(begun) = lead(bench, &source).await?
            {
                return Ok(vec![begun]);
            }
            let file = bench.open(&source).await?;
            let seen = describe(bench, &file.path).await?;
            let probe = scan(bench, &file.path, &seen, source.bytes.unwrap_or(0)).await?;
            let digest = match &source.sha256 {
                Some(known) => known.clone(),
                None => cache::digest(&file.path)
                    .await
                    .map_err(|error| TaskError::internal("hashing the source", error))?,
            };
            sha256 = Some(digest.clone());
            publications.push(Publication::Probed {
                source: source.id,
                probe: Box::new(probe.clone()),
                sha256: digest,
            });
            probe
        }
    };
    publications.extend(plan_rest(bench, spec, &probe, sha256.as_deref()).await?);
    Ok(publications)
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
    let mut answer = Answer::default();
    let ended = bench.child(&ffprobe, &args, DEADLINE, 1, |line| answer.add(line)).await?;
    bench.keep_log(&ended.log_tail);
    passing_failure(&ended)?;
    if !ended.status.success() {
        return Err(refusal::explain(&ended.log_tail));
    }
    let described = Described::parse(answer.json())?;
    Ok(Seen { described, over: refusal::limit(&ended.log_tail) })
}

async fn scan(bench: &Bench, path: &Path, seen: &Seen, bytes: u64) -> Result<Probe, TaskError> {
    let args = argv::list_packets(path, None);
    let packets = packets(bench, &args, &seen.described, |_| {}).await?;
    seen.described.probe(packets, bytes).map_err(|error| seen.over.clone().unwrap_or(error))
}

/// The packets of the tracks that are used, by a command that lists them; `at` is told which bytes of the file each is.
async fn packets(
    bench: &Bench,
    args: &[OsString],
    described: &Described,
    mut at: impl FnMut(&Range<u64>) + Send,
) -> Result<BTreeMap<u32, Scanned>, TaskError> {
    let mut packets: BTreeMap<u32, Scanned> =
        described.wanted().into_iter().map(|index| (index, Scanned::default())).collect();
    let mut count = 0;
    let ffprobe = bench.shop.programs.ffprobe.clone();
    let ended = bench
        .child(&ffprobe, args, DEADLINE, 1, |line| {
            count += 1;
            if count <= MAX_PACKETS
                && let Some(bytes) = Scanned::add(&mut packets, line)
            {
                at(&bytes);
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

/// How many seconds further than needed a source is looked at: its tracks do not lie side by side exactly.
const BESIDE_SECONDS: f64 = 5.0;

/// Begins a long source before all of it was looked into, and fetched; `None` where it is not long, or better looked into first.
async fn lead(bench: &Bench, source: &Source) -> Result<Option<Publication>, TaskError> {
    let claimed = &bench.claimed;
    let Some((recording, profile)) = claimed.recording_id.zip(claimed.job_spec.profile.as_ref()) else {
        return Ok(None);
    };
    // What was encoded on air is there in a moment.
    if claimed.job_spec.taken.is_some() {
        return Ok(None);
    }
    let needed = plan::led_seconds(profile);
    let looked_at = needed + BESIDE_SECONDS;
    let Some((file, mut extent)) = begin(bench, source).await? else { return Ok(None) };
    // What is wrong with the source is told when all of it was looked into.
    let Ok(mut seen) = describe(bench, &file.path).await else { return Ok(None) };
    let Some(seconds) = seen.described.declared_seconds().filter(|seconds| plan::is_worth_a_glance(*seconds))
    else {
        return Ok(None);
    };
    let mut file = file;
    if extent.is_some() {
        // As much as its first seconds have at its mean rate, and as much again.
        let rate = source.bytes.unwrap_or(0) as f64 / seconds;
        let bytes = (2.0 * rate * looked_at) as u64;
        if bytes > BEGINNING {
            extent = extent::beginning(&bench.shop.storage, source, bytes).await?;
            if extent.is_none() {
                return Ok(None);
            }
            file = bench.open_extent(source, extent.as_ref()).await?;
            let Ok(again) = describe(bench, &file.path).await else { return Ok(None) };
            seen = again;
        }
    }
    let mut lacks = false;
    let args = argv::list_packets(&file.path, Some(looked_at.ceil() as u32));
    let packets = packets(bench, &args, &seen.described, |bytes| {
        lacks |= extent.as_ref().is_some_and(|extent| !extent::holds(extent, bytes));
    });
    let Ok(packets) = packets.await else { return Ok(None) };
    lacks |= extent.is_some() && !seen.described.reach(&packets, needed);
    let Some(glance) = seen.described.glance(packets, source.bytes.unwrap_or(0)).filter(|_| !lacks) else {
        return Ok(None);
    };
    let circumstances = circumstances(bench).await?;
    let plan = plan::lead(&claimed.job_spec, source.id, &glance, extent.as_ref(), &circumstances);
    Ok(plan.map(|plan| Publication::Planned { recording, plan: Box::new(plan) }))
}

/// The source where it is on this host, else its beginning, where that can be told from the rest.
async fn begin(bench: &Bench, source: &Source) -> Result<Option<(SourceFile, Option<Extent>)>, TaskError> {
    if let Some(file) = bench.shop.cache.at_hand(&bench.shop.storage, source) {
        return Ok(Some((file, None)));
    }
    if !plan::is_made_of_the_beginning(&bench.claimed.job_spec) {
        return Ok(None);
    }
    let extent = extent::beginning(&bench.shop.storage, source, BEGINNING).await?;
    Ok(match extent {
        Some(extent) => Some((bench.open_extent(source, Some(&extent)).await?, Some(extent))),
        None => None,
    })
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

async fn plan_rest(
    bench: &Bench,
    spec: &ProbeSpec,
    probe: &Probe,
    sha256: Option<&[u8]>,
) -> Result<Vec<Publication>, TaskError> {
    let claimed = &bench.claimed;
    if claimed.job_spec.dry_run {
        return dry_run::tell(bench, spec.source, probe, recipe(bench, sha256).await?).await;
    }
    let Some(recording) = claimed.recording_id else {
        return Ok(vec![]);
    };
    if claimed.job_spec.profile.is_some() {
        let recipe = recipe(bench, sha256).await?;
        if let Some(publications) = reuse(bench, recording, probe, recipe).await? {
            return Ok(publications);
        }
        return match plan::remux(&claimed.job_spec, spec.source, probe) {
            Some(task) => Ok(vec![Publication::Tasks(vec![task])]),
            None => sample_or_plan(bench, spec.source, recording, probe, spec.led.as_deref(), recipe).await,
        };
    }
    if let Some(task) = plan::picture(&claimed.job_spec, recording, probe) {
        if probe.video.is_none() {
            return Err(TaskError::fatal(
                Reason::Unsuitable,
                "the source has no video track to take a picture from",
            ));
        }
        return Ok(vec![Publication::Tasks(vec![task])]);
    }
    Ok(vec![Publication::JobResult(json!({ "probe": probe }))])
}

/// Leaves the rest of a transcode of `source`, which is the job's own or a remux of it, to a task that samples it first, where the job
/// asks for a ladder of its own; else plans it.
pub(super) async fn sample_or_plan(
    bench: &Bench,
    source: SourceId,
    recording: RecordingId,
    probe: &Probe,
    led: Option<&Led>,
    recipe: Option<[u8; 32]>,
) -> Result<Vec<Publication>, TaskError> {
    let sampling = plan::sampling(&bench.claimed.job_spec, source, probe, led, &circumstances(bench).await?);
    let skipped = match sampling {
        Sampling::Wanted(task) => return Ok(vec![Publication::Tasks(vec![*task])]),
        Sampling::Skipped(why) => Some(Publication::JobResult(json!({ "ladder": { "skipped": why } }))),
        Sampling::Unwanted => None,
    };
    let settled = Settled { led, ladder: &[] };
    let planned = plan_transcode(bench, source, recording, probe, settled, recipe).await?;
    Ok(skipped.into_iter().chain([planned]).collect())
}

/// Plans the rest of a transcode of `source`, which is the job's own or a remux of it, on what is settled already.
pub(super) async fn plan_transcode(
    bench: &Bench,
    source: SourceId,
    recording: RecordingId,
    probe: &Probe,
    settled: Settled<'_>,
    recipe: Option<[u8; 32]>,
) -> Result<Publication, TaskError> {
    let circumstances = circumstances(bench).await?;
    let mut plan =
        plan::transcode(&bench.claimed.job_spec, source, recording, probe, settled, &circumstances)?;
    if !plan.makes_something() {
        return Ok(Publication::JobResult(json!({ "plan": plan.summary })));
    }
    plan.set.recipe = recipe;
    Ok(Publication::Planned { recording, plan: Box::new(plan) })
}

/// The digest by which what the job makes is found again; `None` where it makes no set.
pub(super) async fn recipe(bench: &Bench, sha256: Option<&[u8]>) -> Result<Option<[u8; 32]>, TaskError> {
    let Some(sha256) = sha256 else { return Ok(None) };
    let build = bench.shop.programs.build().await;
    let build = build.map_err(|error| TaskError::internal("asking FFmpeg for its version", error))?;
    Ok(recipe::digest(&bench.claimed.job_spec, sha256, build))
}

/// Whether what the job wants is there already, as far as can be told before the source was looked into.
async fn is_made(bench: &Bench, sha256: Option<&[u8]>) -> Result<bool, TaskError> {
    let spec = &bench.claimed.job_spec;
    let recipe = recipe(bench, sha256).await?.filter(|_| !spec.force);
    let Some(recipe) = recipe else { return Ok(false) };
    let found = reuse::find(&bench.shop.db, &bench.claimed, &recipe).await;
    Ok(found.map_err(|error| TaskError::internal("looking for what was encoded before", error))?.is_some())
}

/// Plays what was made of the same bytes by the same recipe, where the project has it. A picture is taken anew.
async fn reuse(
    bench: &Bench,
    recording: RecordingId,
    probe: &Probe,
    recipe: Option<[u8; 32]>,
) -> Result<Option<Vec<Publication>>, TaskError> {
    let spec = &bench.claimed.job_spec;
    let Some(recipe) = recipe.filter(|_| !spec.force) else { return Ok(None) };
    let borrowed = reuse::borrow(&bench.shop.db, &bench.claimed, recording, &recipe)
        .await
        .map_err(|error| TaskError::internal("looking for what was encoded before", error))?;
    let Some(borrowed) = borrowed else { return Ok(None) };
    tracing::info!(set_id = %borrowed.set, from = %borrowed.from, "encoded before; nothing to encode");
    let mut publications = vec![Publication::Reused { recording, borrowed }];
    publications
        .extend(plan::poster_alone(spec, recording, probe).map(|task| Publication::Tasks(vec![task])));
    if spec.outputs.contains(&Output::Mp4) {
        let renditions = sets::renditions(&bench.shop.db, borrowed.set)
            .await
            .map_err(|error| TaskError::internal("reading the segment index", error))?;
        let file = |rendition: &Rendition| {
            plan::download(recording, borrowed.set, rendition.into(), probe.duration_seconds)
        };
        publications.push(Publication::Tasks(offered(&renditions).into_iter().map(file).collect()));
    }
    Ok(Some(publications))
}

/// What this worker allows and the farm has.
pub(super) async fn circumstances(bench: &Bench) -> Result<Circumstances, TaskError> {
    let config = &bench.shop.config;
    Ok(Circumstances {
        max_duration_seconds: config.max_duration.as_secs_f64(),
        free_slots: free_slots(bench).await?,
        encode_threads: Some(config.encode_threads).filter(|threads| *threads > 0),
        chunk_seconds: config.chunk.map(|chunk| chunk.as_secs_f64()),
        gpus: gpus(bench).await?,
        mixes: workers::mixes(&bench.shop.db)
            .await
            .map_err(|error| TaskError::internal("reading what workers can do", error))?,
    })
}

/// Hardware encoders the plan may count on, where the profile wants any.
async fn gpus(bench: &Bench) -> Result<Gpus, TaskError> {
    let profile = bench.claimed.job_spec.profile.as_ref();
    if profile.is_none_or(|profile| profile.hardware == Hardware::None) {
        return Ok(Gpus::default());
    }
    workers::gpus(&bench.shop.db)
        .await
        .map_err(|error| TaskError::internal("reading what workers can do", error))
}

/// Slots that would stand idle beside this task, whose own is free by then.
async fn free_slots(bench: &Bench) -> Result<u32, TaskError> {
    let free = leases::free_slots(&bench.shop.db, Pool::Cpu.as_str())
        .await
        .map_err(|error| TaskError::internal("counting free slots", error))?;
    Ok((free + 1).clamp(1, i64::from(u32::MAX)) as u32)
}
