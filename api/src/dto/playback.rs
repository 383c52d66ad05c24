//! Footage chosen by its time, on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::playback::{PlaybackFormat, PlaybackKind};
use reelmill_shared::ids::{LivestreamId, PlaybackSessionId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A span of time of a camera.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "camera_id": "01890000-0000-7000-8000-000000000000", "start_time": "2026-03-01T08:00:00Z", "end_time": "2026-03-01T08:30:00Z",
}))]
pub(crate) struct StartPlaybackDto {
    /// The livestream.
    pub(crate) camera_id: LivestreamId,
    /// At most 31 days, none of it in the future.
    pub(crate) start_time: DateTime<Utc>,
    pub(crate) end_time: DateTime<Utc>,
    /// What was recorded is played as `hls`.
    #[schema(inline, default = "hls")]
    pub(crate) format: Option<PlaybackFormat>,
    #[serde(default)]
    #[schema(inline)]
    pub(crate) precision: Precision,
}

/// How exact both ends are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// Whole segments: all that reach into the span.
    #[default]
    Segment,
    /// Players begin at the first frame of the span (`EXT-X-START`) and find nothing behind its last.
    Frame,
}

/// What is on air of a camera.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "camera_id": "01890000-0000-7000-8000-000000000000", "format": "hls" }))]
pub(crate) struct StartLiveDto {
    /// The livestream.
    pub(crate) camera_id: LivestreamId,
    /// `rtsp` and `webrtc` are served by a MediaMTX, where one is configured.
    #[schema(inline, default = "hls")]
    pub(crate) format: Option<PlaybackFormat>,
}

/// For how much longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "duration_seconds": 3600 }))]
pub(crate) struct ExtendDto {
    /// Seconds from now, 60 to 86,400. A session never ends earlier for it, nor later than seven days after it began.
    #[schema(minimum = 60, maximum = 86_400)]
    pub(crate) duration_seconds: i64,
}

/// Somebody plays footage of a camera.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybackSessionDto {
    pub(crate) session_id: PlaybackSessionId,
    pub(crate) camera_id: LivestreamId,
    #[schema(inline)]
    pub(crate) kind: PlaybackKind,
    #[schema(inline)]
    pub(crate) format: PlaybackFormat,
    /// What was asked for; `null` of what is live.
    pub(crate) start_time: Option<DateTime<Utc>>,
    pub(crate) end_time: Option<DateTime<Utc>>,
    /// Where a player goes: an absolute URL that needs no header. `?container=fmp4` or `ts`, and `&quality=`, choose.
    pub(crate) url: String,
    /// Absolute URL of the player page; `null` where a media server serves it.
    pub(crate) watch_url: Option<String>,
    /// All of it as one MP4 file: an absolute URL that needs no header. `null` of what is live.
    pub(crate) export_url: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
    /// `null` of what is live.
    #[serde(flatten)]
    pub(crate) recorded: RecordedDto,
}

/// What there is of a span.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct RecordedDto {
    /// What each segment is, in the order of their indices: a recording of the livestream and a media sequence number in it. The first
    /// thousand.
    pub(crate) segment_ids: Vec<String>,
    /// How many segments there are; their indices count from 0.
    pub(crate) segment_count: u32,
    /// Seconds of footage, gaps left out.
    pub(crate) duration: f64,
    /// What of the span nobody has.
    pub(crate) gaps: Vec<GapDto>,
    /// Names for `quality`, the best first.
    pub(crate) qualities: Vec<String>,
}

/// A time of which there is no footage.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GapDto {
    pub(crate) start_time: DateTime<Utc>,
    pub(crate) end_time: DateTime<Utc>,
}
