//! Jobs on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::jobs::Job;
use reelmill_shared::db::progress;
use reelmill_shared::db::tasks::{Attempt, Progress, Task};
use reelmill_shared::ids::{BroadcastId, JobId, RecordingId, TaskId, UploadId};
use reelmill_shared::job::spec::{JobKind, LadderChoice, Moment, Output};
use reelmill_shared::job::state::{JobStatus, TaskStatus};
use reelmill_shared::job::task::{TaskKind, TaskSpec};
use reelmill_shared::net::redacted;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::dry_run::{DRY_RUN, DryRunDto};
use super::edit::EditDto;
use super::{DownloadDto, ErrorDto};
use crate::downloads::described;

/// Where the bytes come from: exactly one of these.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "url": "https://example.com/video.mp4" }))]
pub(crate) struct InputDto {
    /// `http`, `https`, or `file` under a directory the operator allows.
    pub(crate) url: Option<String>,
    /// A finished upload.
    pub(crate) upload_id: Option<UploadId>,
    /// A recording whose source is used again.
    pub(crate) recording_id: Option<RecordingId>,
    /// A recording of a livestream that is over. All of it is encoded anew; `…/recordings/{rid}/convert` takes over what is there.
    pub(crate) broadcast_id: Option<BroadcastId>,
    /// Of `POST /recordings` alone, with nothing else but `title`, `access` and `metadata`: there is nothing of it yet, and
    /// `…/stream/start-live` brings it.
    pub(crate) live: Option<bool>,
}

/// Body of `POST /jobs`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "kind": "transcode", "input": { "url": "https://example.com/video.mp4" }, "profile": "web" }))]
pub(crate) struct NewJobDto {
    pub(crate) kind: JobKind,
    pub(crate) input: InputDto,
    /// A profile's name, or an inline profile. `web` where it is left out.
    pub(crate) profile: Option<Value>,
    /// For `transcode` some of `hls`, `dash`, `mp4`, `thumbnail` and `storyboard`, all but `mp4` where it is left out (and no storyboard of
    /// less than ten seconds); for `vod_convert` some of the first three.
    pub(crate) outputs: Option<Vec<String>>,
    /// 0 to 100; ranks within the project.
    pub(crate) priority: Option<i64>,
    /// Not before this time.
    pub(crate) run_at: Option<DateTime<Utc>>,
    /// Encode even if the same was encoded before.
    #[serde(default)]
    pub(crate) force: bool,
    /// Where the job's events are sent, signed by the project's webhook of the kind `callbacks`: `https`, or `http`.
    pub(crate) callback_url: Option<String>,
    /// Kept with the job and given back; an object of at most 16 kB.
    pub(crate) metadata: Option<Value>,
    /// For `transcode`: a part of the source, a part of the picture, a mark on it.
    pub(crate) edit: Option<EditDto>,
    /// What the recording's poster shows; a job of kind `thumbnail` makes nothing else.
    pub(crate) thumbnail: Option<PosterDto>,
    /// A series of pictures, for kind `transcode`.
    pub(crate) thumbnails: Option<SeriesDto>,
    /// For `transcode`. `auto`: a few samples of the source decide which of the profile's rungs are worth making and under which ceilings; see `ladder` in
    /// the job's `result`. `fixed` where it is left out.
    pub(crate) ladder: Option<LadderChoice>,
    /// For `transcode`. How near is each rendition to the source? `true`, or an object with `metrics` (`psnr`, `ssim`, `vmaf`; where it is
    /// left out the first two, and `vmaf` if a worker that is there has an FFmpeg with libvmaf) and what the mean of every rendition must
    /// reach, or the job fails: `min_psnr` (dB), `min_ssim`, `min_vmaf` (0 to 100). The report is `quality` in the job's `result`.
    pub(crate) quality: Option<Value>,
}

/// A recording's poster: at most one of `time`, `percent` and `representative`; 5 s, or earlier in a shorter recording, where all
/// are left out.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "percent": 50, "width": 640 }))]
pub(crate) struct PosterDto {
    /// Seconds from the start; the last frame where the recording is shorter.
    pub(crate) time: Option<f64>,
    /// Part of the recording, 0 to 100.
    pub(crate) percent: Option<f64>,
    /// The frame that stands best for the whole: not black, not blurred, like most of the others.
    pub(crate) representative: Option<bool>,
    /// Pixels of the box the picture fits into, 16 to 3840; 320x180 where both are left out.
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
}

impl PosterDto {
    /// Everything left out.
    pub(crate) const USUAL: Self =
        Self { time: None, percent: None, representative: None, width: None, height: None };
}

/// A picture every so often, at most 1000.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "interval": 10, "width": 320, "format": "jpeg" }))]
pub(crate) struct SeriesDto {
    /// Seconds from one to the next, 0.1 to 3600. From 4 s on each shows the nearest keyframe, which is half a GOP (about a second)
    /// away at most; below that every frame is counted, and the interval is rounded to whole frames.
    pub(crate) interval: f64,
    /// Pixels, 16 to 3840; the height follows from the shape. 320 where it is left out, never more than the best rendition has.
    pub(crate) width: Option<u32>,
    /// `jpeg`, the only one there is.
    #[serde(default)]
    #[allow(dead_code, reason = "its one value is what is made")]
    pub(crate) format: SeriesFormat,
}

/// What pictures of a series are.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SeriesFormat {
    #[default]
    Jpeg,
}

/// Body of `PATCH /jobs/{id}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobChangeDto {
    /// Rank within the project, 0 to 100.
    pub(crate) priority: i64,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobDto {
    pub(crate) id: JobId,
    pub(crate) kind: JobKind,
    pub(crate) status: JobStatus,
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) priority: i16,
    /// 0 to 1.
    pub(crate) progress: f64,
    /// What is being done, in a word or two.
    pub(crate) phase: Option<String>,
    /// Output frames per second.
    pub(crate) fps: Option<f32>,
    /// Seconds of media per second.
    pub(crate) speed: Option<f32>,
    pub(crate) eta_seconds: Option<f32>,
    /// The most any task has been tried.
    pub(crate) attempts: i32,
    pub(crate) tasks: Vec<TaskDto>,
    pub(crate) outputs: OutputsDto,
    /// What a probe found; `plan`, how the job was planned; `ladder`, what became of each rung and why, where it was `auto`; `quality`, the
    /// report, where one was asked for; `dry_run`, what a dry run tells, as its 200 answer has it (a `DryRunDto`), only where a single
    /// job is read.
    pub(crate) result: Option<Value>,
    pub(crate) error: Option<ErrorDto>,
    pub(crate) timings: TimingsDto,
    /// The frozen recipe.
    pub(crate) profile: Option<Value>,
    pub(crate) metadata: Value,
    /// Where the job's events are sent; its query, which may hold a secret, is left out.
    pub(crate) callback_url: Option<String>,
    pub(crate) retry_of: Option<JobId>,
    pub(crate) run_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

/// A piece of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskDto {
    pub(crate) id: TaskId,
    pub(crate) kind: TaskKind,
    pub(crate) status: TaskStatus,
    pub(crate) pool: String,
    /// Name of the worker that has it, or had it last.
    pub(crate) worker: Option<String>,
    pub(crate) attempt: i32,
    pub(crate) max_attempts: i32,
    /// 0 to 1.
    pub(crate) progress: f64,
    pub(crate) phase: Option<String>,
    pub(crate) fps: Option<f32>,
    pub(crate) speed: Option<f32>,
    pub(crate) eta_seconds: Option<f32>,
    /// Names of the renditions it makes or measures.
    pub(crate) renditions: Vec<String>,
    /// The exact command line; `null` in lists, and where there is none yet.
    pub(crate) command: Option<Vec<String>>,
    pub(crate) error: Option<ErrorDto>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

/// Where what was made is found; paths on this API, for holders of a key.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct OutputsDto {
    pub(crate) hls: Option<String>,
    pub(crate) dash: Option<String>,
    pub(crate) mp4: Vec<DownloadDto>,
    pub(crate) thumbnail: Option<String>,
    /// WebVTT whose cues name parts of sheets (`#xywh=`).
    pub(crate) storyboard: Option<String>,
    /// The series of pictures that was asked for; only where a single job is read.
    pub(crate) thumbnails: Vec<ThumbnailDto>,
}

/// A picture of a series.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ThumbnailDto {
    /// From zero.
    pub(crate) number: u32,
    /// Seconds from the start of the frame it shows.
    pub(crate) time: f64,
    pub(crate) url: String,
}

/// Seconds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TimingsDto {
    /// From submission to the first claim.
    pub(crate) queued: Option<f64>,
    /// From submission to the moment the recording could first be played for this job's work.
    pub(crate) playable: Option<f64>,
    /// From submission to the moment when all of it could.
    pub(crate) ready: Option<f64>,
    /// From the first claim to the end.
    pub(crate) run: Option<f64>,
    /// From submission to the end.
    pub(crate) total: Option<f64>,
}

impl JobDto {
    /// A job with its tasks.
    pub(crate) fn new(mut job: Job, tasks: Vec<Task>) -> Self {
        let speaker = speaker(&tasks);
        let outputs = outputs(&job, &tasks);
        let result = result(&mut job);
        let seconds = |from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>| {
            from.zip(to).map(|(from, to)| (to - from).as_seconds_f64())
        };
        Self {
            id: job.id,
            kind: job.kind,
            status: job.status,
            recording_id: job.recording_id,
            priority: job.priority,
            progress: progress::of_job(&job, &tasks),
            phase: speaker.as_ref().map(|progress| progress.phase.clone()),
            fps: speaker.as_ref().and_then(|progress| progress.fps),
            speed: speaker.as_ref().and_then(|progress| progress.speed),
            eta_seconds: speaker.as_ref().and_then(|progress| progress.eta_seconds),
            attempts: tasks.iter().map(|task| task.attempts).max().unwrap_or(0),
            outputs,
            result,
            error: job.error.map(ErrorDto::from),
            timings: TimingsDto {
                queued: seconds(Some(job.created_at), job.started_at),
                playable: seconds(Some(job.created_at), job.playable_at),
                ready: seconds(Some(job.created_at), job.ready_at),
                run: seconds(job.started_at, job.finished_at),
                total: seconds(Some(job.created_at), job.finished_at),
            },
            profile: job.spec.profile.and_then(|profile| serde_json::to_value(profile).ok()),
            metadata: job.metadata,
            callback_url: job.spec.callback_url.as_ref().map(redacted),
            retry_of: job.retry_of,
            run_at: job.run_at,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            tasks: tasks.into_iter().map(TaskDto::from).collect(),
        }
    }

    /// The same for a list, whose tasks come without their command lines: without what a dry run tells, which has them too.
    pub(crate) fn listed(mut job: Job, tasks: Vec<Task>) -> Self {
        if let Some(Value::Object(result)) = &mut job.result {
            result.remove(DRY_RUN);
        }
        Self::new(job, tasks)
    }
}

/// What a job found, with a dry run's plan as it is on the wire.
fn result(job: &mut Job) -> Option<Value> {
    let told = DryRunDto::of(job).and_then(|told| serde_json::to_value(told).ok());
    let mut result = job.result.take();
    if let Some(place) = result.as_mut().and_then(|result| result.get_mut(DRY_RUN)) {
        *place = told.unwrap_or_default();
    }
    result
}

/// What is told of a job as a whole: the phase of its heaviest running task, and the pace of all that do the same.
fn speaker(tasks: &[Task]) -> Option<Progress> {
    let running: Vec<(&Task, &Progress)> = tasks
        .iter()
        .filter(|task| task.status == TaskStatus::Running)
        .filter_map(|task| Some((task, task.progress.as_ref()?)))
        .collect();
    let (heaviest, progress) =
        running.iter().max_by(|a, b| a.0.spec.weight().total_cmp(&b.0.spec.weight()))?;
    let alike =
        || running.iter().filter(|(task, _)| task.kind == heaviest.kind).map(|(_, progress)| progress);
    let total = |figure: fn(&Progress) -> Option<f32>| alike().filter_map(|p| figure(p)).reduce(|a, b| a + b);
    let speed = total(|progress| progress.speed);
    // Chunks that wait count too: what is left of all of them, at the pace of those that run.
    let left = |task: &Task| match &task.spec {
        TaskSpec::Encode(spec) => {
            Some((1.0 - progress::of_task(task)) * spec.grid.rate.seconds(spec.span().frames))
        }
        _ => None,
    };
    let chunks: Vec<f64> = tasks.iter().filter_map(left).collect();
    let eta_seconds = match speed.filter(|speed| *speed > 0.0) {
        Some(speed)
            if chunks.len() > 1 && heaviest.kind == TaskKind::Encode && progress.eta_seconds.is_some() =>
        {
            Some((chunks.iter().sum::<f64>() / f64::from(speed)) as f32)
        }
        _ => progress.eta_seconds,
    };
    Some(Progress { fps: total(|progress| progress.fps), speed, eta_seconds, ..(*progress).clone() })
}

fn outputs(job: &Job, tasks: &[Task]) -> OutputsDto {
    let Some(recording) = job.recording_id.filter(|_| job.status == JobStatus::Succeeded) else {
        return OutputsDto::default();
    };
    let base = format!("/api/v1/recordings/{recording}");
    let made = |output| job.spec.outputs.contains(&output);
    // Short recordings get one only where it was asked for: the plan knows.
    let reused = job.result.as_ref().is_some_and(|result| result["reused_from"]["storyboard"] == true);
    let storyboard =
        tasks.iter().any(|task| task.kind == TaskKind::Storyboard) || (reused && made(Output::Storyboard));
    let tasks = tasks.iter().filter_map(|task| match &task.spec {
        TaskSpec::Mp4(spec) => Some(spec.download.clone()),
        _ => None,
    });
    // A conversion brings what was there before, too.
    let files = if job.spec.downloads.is_empty() { tasks.collect() } else { job.spec.downloads.clone() };
    let best = files.first().map(|file| file.rung.clone());
    let asked = |at_ms: Option<u64>, width: u32, height: u32| {
        let time = at_ms.map_or(String::new(), |ms| format!("t={}&", ms as f64 / 1000.0));
        format!("{base}/thumbnail?{time}width={width}&height={height}")
    };
    let picture = match (job.kind, job.spec.picture, job.spec.poster) {
        (JobKind::Transcode, ..) if made(Output::Thumbnail) => Some(format!("{base}/thumbnail")),
        (JobKind::Thumbnail, Some(picture), _) => Some(asked(picture.at_ms, picture.width, picture.height)),
        (JobKind::Thumbnail, None, Some(poster)) => {
            let at_ms = if let Moment::AtMs(ms) = poster.moment { Some(ms) } else { None };
            Some(asked(at_ms, poster.width, poster.height))
        }
        _ => None,
    };
    OutputsDto {
        hls: made(Output::Hls).then(|| format!("{base}/stream/master.m3u8")),
        dash: made(Output::Dash).then(|| format!("{base}/stream/manifest.mpd")),
        thumbnail: picture,
        mp4: described(recording, &files, best.as_deref()),
        storyboard: storyboard.then(|| format!("{base}/storyboard.vtt")),
        ..OutputsDto::default()
    }
}

impl From<Task> for TaskDto {
    fn from(task: Task) -> Self {
        let done = progress::of_task(&task);
        let progress = task.progress.filter(|_| task.status == TaskStatus::Running);
        let renditions = task.spec.renditions();
        Self {
            id: task.id,
            kind: task.kind,
            status: task.status,
            pool: task.pool,
            worker: task.worker,
            attempt: task.attempts,
            max_attempts: task.max_attempts,
            progress: done,
            phase: progress.as_ref().map(|progress| progress.phase.clone()),
            fps: progress.as_ref().and_then(|progress| progress.fps),
            speed: progress.as_ref().and_then(|progress| progress.speed),
            eta_seconds: progress.as_ref().and_then(|progress| progress.eta_seconds),
            renditions,
            command: task.command,
            error: task.error.map(ErrorDto::from),
            started_at: task.started_at,
            finished_at: task.finished_at,
        }
    }
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobListDto {
    pub(crate) jobs: Vec<JobDto>,
    pub(crate) next_cursor: Option<String>,
}

/// What happened in a job, attempt by attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobLogDto {
    /// When the commands and the ends of FFmpeg's logs had reached their age and were deleted; `null` while they are there.
    pub(crate) deleted_at: Option<DateTime<Utc>>,
    pub(crate) attempts: Vec<AttemptDto>,
}

/// One attempt at a task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptDto {
    pub(crate) task_id: TaskId,
    pub(crate) kind: TaskKind,
    pub(crate) attempt: i32,
    pub(crate) epoch: i32,
    pub(crate) worker: Option<String>,
    #[schema(example = "succeeded")]
    pub(crate) outcome: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) error: Option<ErrorDto>,
    /// The end of FFmpeg's log.
    pub(crate) log: Option<String>,
}

impl From<Attempt> for AttemptDto {
    fn from(attempt: Attempt) -> Self {
        Self {
            task_id: attempt.task_id,
            kind: attempt.kind,
            attempt: attempt.attempt,
            epoch: attempt.epoch,
            worker: attempt.worker,
            outcome: attempt.outcome,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            command: attempt.command,
            error: attempt.error.map(ErrorDto::from),
            log: attempt.log_tail,
        }
    }
}
