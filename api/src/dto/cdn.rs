//! The CDN, on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::ids::RecordingId;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

/// Body of `PUT /distribution/cdn`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "enabled": false }))]
pub(crate) struct TurnCdnDto {
    /// Viewers are given addresses of the CDN; else ours.
    pub(crate) enabled: bool,
}

/// How the CDN stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CdnDto {
    /// `REELMILL_CDN_URL` is set.
    pub(crate) configured: bool,
    /// It is configured, and switched on.
    pub(crate) enabled: bool,
    /// What addresses of media begin with while it is enabled.
    #[schema(example = "https://media.example.org/")]
    pub(crate) url: Option<Url>,
    /// It is told what to forget.
    pub(crate) purges: bool,
    /// What it was not told yet.
    pub(crate) purges_waiting: u64,
    /// What is to be fetched ahead goes to a hook; else it is asked for.
    pub(crate) warms_by_hook: bool,
    /// When it was switched last.
    pub(crate) updated_at: Option<DateTime<Utc>>,
}

/// Body of `POST /distribution/cdn/warm`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "recording_id": "01890000-0000-7000-8000-000000000000" }))]
pub(crate) struct WarmDto {
    pub(crate) recording_id: RecordingId,
}

/// What the CDN was asked to fetch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WarmedDto {
    pub(crate) recording_id: RecordingId,
    /// How many files.
    pub(crate) files: usize,
}
