//! Projects on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::projects::Project;
use reelmill_shared::ids::ProjectId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::given;
use super::retention::{RetentionChangeDto, RetentionDto};

/// Body of `POST /projects`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProjectDto {
    /// 1 to 64 lower-case letters, digits, underscores or hyphens.
    pub(crate) name: String,
    /// Share of the farm relative to other projects with work, 0.01 to 1000; 1 where it is left out.
    pub(crate) weight: Option<f64>,
    /// Tasks that may run at once, 1 to 10,000; no limit where it is left out.
    pub(crate) max_running: Option<u32>,
    /// Livestreams that may be on air at once, 1 to 10,000; 100 where it is left out.
    pub(crate) max_concurrent_streams: Option<u32>,
    /// How long what it has is kept.
    #[serde(default)]
    #[schema(value_type = RetentionDto)]
    pub(crate) retention: RetentionChangeDto,
}

/// Body of `PATCH /projects/{id}`: what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectChangeDto {
    pub(crate) name: Option<String>,
    pub(crate) weight: Option<f64>,
    /// `null` lifts the limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub(crate) max_running: Option<Option<u32>>,
    /// Livestreams that may be on air at once, 1 to 10,000.
    pub(crate) max_concurrent_streams: Option<u32>,
    /// How long what it has is kept; `null` takes an age back, so that the farm's counts.
    #[serde(default)]
    #[schema(value_type = RetentionDto)]
    pub(crate) retention: RetentionChangeDto,
}

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectDto {
    pub(crate) id: ProjectId,
    pub(crate) name: String,
    pub(crate) weight: f64,
    pub(crate) max_running: Option<u32>,
    /// Livestreams that may be on air at once.
    pub(crate) max_concurrent_streams: u32,
    /// Ages of its own; the farm's count where they are `null`.
    pub(crate) retention: RetentionDto,
    /// Tasks that run now.
    pub(crate) running: u64,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A page of projects.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectListDto {
    pub(crate) projects: Vec<ProjectDto>,
    pub(crate) next_cursor: Option<String>,
}

impl From<Project> for ProjectDto {
    fn from(project: Project) -> Self {
        Self {
            id: project.id,
            name: project.name,
            weight: project.weight,
            max_running: project.max_running,
            max_concurrent_streams: project.max_concurrent_streams,
            retention: RetentionDto::from(&project.retention),
            running: project.running,
            created_at: project.created_at,
            updated_at: project.updated_at,
        }
    }
}
