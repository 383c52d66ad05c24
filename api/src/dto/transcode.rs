//! Transcodes of a recording on the wire.

use reelmill_shared::ids::JobId;
use reelmill_shared::job::state::JobStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::ErrorDto;
use super::job::JobDto;
use crate::routes::viewer::rendition_progress;

/// Body of `POST /recordings/{id}/transcode/quality`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "profiles": ["720p", { "name": "240p", "width": 426, "height": 240, "crf": 26, "max_bitrate": 400_000 }] }))]
pub(crate) struct QualitiesDto {
    /// Each the name of a rung, of a profile, or a rung.
    #[schema(max_items = 12)]
    pub(crate) profiles: Vec<Value>,
}

/// How far a transcode is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TranscodeProgressDto {
    pub(crate) job_id: JobId,
    pub(crate) status: JobStatus,
    /// 0 to 100.
    pub(crate) percent: f64,
    pub(crate) phase: Option<String>,
    pub(crate) eta_seconds: Option<f32>,
    /// Those that are planned so far.
    pub(crate) renditions: Vec<RenditionPercentDto>,
    pub(crate) error: Option<ErrorDto>,
}

/// How far a rendition is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RenditionPercentDto {
    pub(crate) name: String,
    /// 0 to 100.
    pub(crate) percent: f64,
    /// Output frames per second.
    pub(crate) fps: Option<f32>,
    pub(crate) eta_seconds: Option<f32>,
}

impl From<&JobDto> for TranscodeProgressDto {
    fn from(job: &JobDto) -> Self {
        let made = rendition_progress(job).into_iter().map(|rendition| RenditionPercentDto {
            name: rendition.name,
            percent: percent(rendition.progress),
            fps: rendition.fps,
            eta_seconds: rendition.eta_seconds,
        });
        // Nothing was encoded where all of it was there: what was planned for whoever encoded it is what there is.
        let planned = job.result.as_ref().and_then(|result| result["plan"]["renditions"].as_array());
        let reused = planned.filter(|_| job.status == JobStatus::Succeeded).into_iter().flatten();
        let reused = reused.filter_map(|rendition| rendition["name"].as_str());
        let mut renditions: Vec<RenditionPercentDto> = made.collect();
        for name in reused {
            if renditions.iter().all(|known| known.name != name) {
                let name = name.to_owned();
                renditions.push(RenditionPercentDto { name, percent: 100.0, fps: None, eta_seconds: None });
            }
        }
        Self {
            job_id: job.id,
            status: job.status,
            percent: percent(job.progress),
            phase: job.phase.clone(),
            eta_seconds: job.eta_seconds,
            renditions,
            error: job.error.clone(),
        }
    }
}

/// With one digit behind the point.
fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}
