//! Recordings that are live, on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::live_recordings::LiveSide;
use reelmill_shared::ids::{LivestreamId, RecordingId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::livestream::SettingsWishDto;

/// Body of `POST /recordings/{id}/stream/start-live`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "source": "ingest", "room_id": "room 7", "low_latency": true }))]
pub(crate) struct LiveRecordingWishDto {
    /// `ingest` unless it is said otherwise: what a publisher sends becomes the recording. `replay`: the recording is played out as if it
    /// were live.
    #[schema(inline)]
    pub(crate) source: Option<LiveSide>,
    /// A name for what is live, at most 255 characters; while it is, no other has it. `GET /livestreams?room_id=` finds it.
    pub(crate) room_id: Option<String>,
    /// As of a livestream.
    pub(crate) low_latency: Option<bool>,
    pub(crate) dvr_enabled: Option<bool>,
    /// How it is encoded, as of a livestream.
    pub(crate) settings: Option<SettingsWishDto>,
}

/// A recording that is live.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LiveStartedDto {
    /// The livestream; it is read, and its viewers are counted, like any other.
    pub(crate) stream_id: LivestreamId,
    pub(crate) recording_id: RecordingId,
    #[schema(inline)]
    pub(crate) source: LiveSide,
    pub(crate) room_id: Option<String>,
    /// Where a publisher sends to; `null` of a replay.
    #[schema(example = "rtmp://example.com:1935/live/live_…")]
    pub(crate) ingest_url: Option<String>,
    /// `null` of a replay.
    pub(crate) stream_key: Option<String>,
    /// For viewers, as soon as something is on air.
    #[schema(example = "https://example.com/v/…/live/…/master.m3u8")]
    pub(crate) playlist_url: String,
    pub(crate) watch_url: String,
    pub(crate) started_at: DateTime<Utc>,
}

/// A recording that is not live any more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LiveStoppedDto {
    pub(crate) stream_id: LivestreamId,
    pub(crate) recording_id: RecordingId,
    pub(crate) message: &'static str,
}
