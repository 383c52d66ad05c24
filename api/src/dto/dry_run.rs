//! What a dry run tells.

use reelmill_shared::db::jobs::Job;
use reelmill_shared::ids::{JobId, RecordingId};
use reelmill_shared::job::estimate::Estimate;
use reelmill_shared::job::preview::{Preview, PreviewedRendition, PreviewedTask};
use reelmill_shared::job::task::TaskKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Where the result of a job has what a dry run found.
pub(crate) const DRY_RUN: &str = "dry_run";

/// What a transcode would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DryRunDto {
    #[schema(example = true)]
    pub(crate) dry_run: bool,
    /// The job that looked into the source.
    pub(crate) job_id: JobId,
    /// The recipe that would be frozen.
    pub(crate) profile: Option<Value>,
    pub(crate) duration_seconds: f64,
    /// In the order of work, without those that fetch and probe.
    pub(crate) tasks: Vec<PlannedTaskDto>,
    pub(crate) ladder: LadderDto,
    pub(crate) estimate: EstimateDto,
    /// Where the project has encoded exactly this before: nothing would be encoded.
    pub(crate) reused_from: Option<ReusedDto>,
    pub(crate) warnings: Vec<String>,
}

/// A task that would be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedTaskDto {
    pub(crate) kind: TaskKind,
    pub(crate) pool: String,
    /// What a worker must have proven for it.
    pub(crate) class: String,
    /// Which of the tasks, counted from 0, must be done before it.
    pub(crate) blocked_by: Vec<usize>,
    pub(crate) renditions: Vec<String>,
    /// The exact command line, but for directories: it runs as it stands in one that has the source as `source`, an image that
    /// is put on the picture as `watermark`; those that read what was encoded find it in `keyframes.mp4` (the keyframes a storyboard
    /// shows), `frames.mp4` (what a series of thumbnails is taken from), `track-N.mp4` (the tracks of a download) and `made-N.mp4` (the
    /// renditions that are compared with the source), which the task puts together first. `null` where it runs none, or one that
    /// depends on what another finds: sound that is brought to a loudness, a representative poster.
    pub(crate) command: Option<Vec<String>>,
    /// Estimated; `null` where nothing like it was done yet.
    pub(crate) cpu_seconds: Option<f64>,
}

/// Which rungs there would be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LadderDto {
    pub(crate) renditions: Vec<PlannedRenditionDto>,
    /// Rungs of the profile that would not be made.
    pub(crate) dropped: Vec<DroppedDto>,
}

/// A rendition that would be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedRenditionDto {
    pub(crate) name: String,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    pub(crate) frame_rate: Option<f64>,
    /// By FFmpeg's name.
    pub(crate) encoder: String,
    /// Bits per second: the ceiling, or the rate where that is constant.
    pub(crate) max_bitrate: u64,
    /// Estimated; `null` where nothing like it was made yet.
    pub(crate) bitrate: Option<u64>,
    /// Estimated; `null` where nothing like it was made yet.
    pub(crate) bytes: Option<u64>,
}

/// A rung that would not be made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DroppedDto {
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// What it would take, by what earlier jobs took. A figure that nothing is known for is `null`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EstimateDto {
    /// Of FFmpeg, all threads together.
    #[schema(example = 41.7)]
    pub(crate) cpu_seconds: Option<f64>,
    /// How many earlier attempts its least certain part rests on.
    #[schema(example = 12)]
    pub(crate) cpu_samples: usize,
    /// Of the media that would be stored.
    #[schema(example = 18_350_080)]
    pub(crate) bytes: Option<u64>,
    /// How many earlier renditions its least certain part rests on; `null`: all rates are constant.
    #[schema(example = 4)]
    pub(crate) bytes_samples: Option<usize>,
}

/// What would be played instead of encoding.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReusedDto {
    pub(crate) job_id: JobId,
    pub(crate) recording_id: RecordingId,
}

impl DryRunDto {
    /// What the job that looked into the source has found; `None` where it has not, or is no dry run.
    pub(crate) fn of(job: &Job) -> Option<Self> {
        let preview = Preview::deserialize(job.result.as_ref()?.get(DRY_RUN)?).ok()?;
        Some(Self {
            dry_run: true,
            job_id: job.id,
            profile: job.spec.profile.as_ref().and_then(|profile| serde_json::to_value(profile).ok()),
            duration_seconds: preview.duration_seconds,
            tasks: preview.tasks.into_iter().map(PlannedTaskDto::from).collect(),
            ladder: LadderDto {
                renditions: preview.ladder.renditions.into_iter().map(PlannedRenditionDto::from).collect(),
                dropped: preview
                    .ladder
                    .dropped
                    .into_iter()
                    .map(|rung| DroppedDto { name: rung.name, reason: rung.reason })
                    .collect(),
            },
            estimate: preview.estimate.into(),
            reused_from: preview
                .reused_from
                .map(|from| ReusedDto { job_id: from.job_id, recording_id: from.recording_id }),
            warnings: preview.warnings,
        })
    }
}

impl From<PreviewedTask> for PlannedTaskDto {
    fn from(task: PreviewedTask) -> Self {
        Self {
            kind: task.kind,
            pool: task.pool.to_string(),
            class: task.class,
            blocked_by: task.blocked_by,
            renditions: task.renditions,
            command: task.command,
            cpu_seconds: task.cpu_seconds.map(rounded),
        }
    }
}

impl From<PreviewedRendition> for PlannedRenditionDto {
    fn from(rendition: PreviewedRendition) -> Self {
        Self {
            name: rendition.name,
            width: rendition.width,
            height: rendition.height,
            frame_rate: rendition.frame_rate,
            encoder: rendition.encoder,
            max_bitrate: rendition.max_bitrate,
            bitrate: rendition.bitrate,
            bytes: rendition.bytes,
        }
    }
}

impl From<Estimate> for EstimateDto {
    fn from(estimate: Estimate) -> Self {
        Self {
            cpu_seconds: estimate.cpu_seconds.map(rounded),
            cpu_samples: estimate.cpu_samples,
            bytes: estimate.bytes,
            bytes_samples: estimate.bytes_samples,
        }
    }
}

/// More digits would promise more than is known.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
