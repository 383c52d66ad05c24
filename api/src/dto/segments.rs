//! Segments that are delivered, on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::segment_deliveries::{SegmentDelivery, SegmentDeliveryStatus};
use reelmill_shared::ids::{LivestreamId, RecordingId, SegmentDeliveryId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::streams::ids;

/// What is to be delivered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "recording_id": "01890000-0000-7000-8000-000000000000", "viewer_id": "alice", "segment_id": "720p-1-12.m4s", "priority": 80
}))]
pub(crate) struct DeliverDto {
    pub(crate) recording_id: Option<RecordingId>,
    /// One of both.
    pub(crate) livestream_id: Option<LivestreamId>,
    /// Who gets it over their WebSocket; without it a CDN fetches it ahead.
    pub(crate) viewer_id: Option<String>,
    /// Its file name, as playlists have it.
    #[schema(example = "720p-1-12.m4s")]
    pub(crate) segment_id: String,
    /// 0 to 100: more goes first.
    #[schema(default = 50, minimum = 0, maximum = 100)]
    pub(crate) priority: Option<i16>,
}

/// A segment on its way.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "delivery_id": "01890000-0000-7000-8000-000000000001", "recording_id": "01890000-0000-7000-8000-000000000000", "livestream_id": null,
    "viewer_id": "alice", "segment_id": "720p-1-12.m4s", "priority": 80, "status": "queued", "attempts": 0, "max_attempts": 3,
    "timeout_seconds": 5.0, "error": null, "created_at": "2026-03-01T12:00:00Z", "expires_at": "2026-03-01T12:00:30Z", "finished_at": null
}))]
pub(crate) struct SegmentDeliveryDto {
    pub(crate) delivery_id: SegmentDeliveryId,
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) livestream_id: Option<LivestreamId>,
    pub(crate) viewer_id: Option<String>,
    pub(crate) segment_id: String,
    pub(crate) priority: i16,
    pub(crate) status: SegmentDeliveryStatus,
    /// Those that were begun.
    pub(crate) attempts: i32,
    /// By the viewer's bitrate: three, or two at `High`.
    pub(crate) max_attempts: i32,
    /// What one may take.
    pub(crate) timeout_seconds: f64,
    /// What was wrong the last time.
    pub(crate) error: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    /// If it was not delivered by then, it fails.
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

impl From<SegmentDelivery> for SegmentDeliveryDto {
    fn from(delivery: SegmentDelivery) -> Self {
        let (recording_id, livestream_id) = ids(delivery.watched);
        Self {
            delivery_id: delivery.id,
            recording_id,
            livestream_id,
            viewer_id: delivery.viewer,
            segment_id: delivery.segment,
            priority: delivery.priority,
            status: delivery.status,
            attempts: delivery.attempts,
            max_attempts: delivery.max_attempts,
            timeout_seconds: delivery.timeout.as_secs_f64(),
            error: delivery.error,
            created_at: delivery.created_at,
            expires_at: delivery.expires_at,
            finished_at: delivery.finished_at,
        }
    }
}

/// How deliveries fare.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "healthy", "failure_rate": 0.004, "delivered": 249, "failed": 1, "waiting": 3, "window_seconds": 300,
    "timestamp": "2026-03-01T12:00:00Z"
}))]
pub(crate) struct DistributionHealthDto {
    /// `degraded` where more than 5 % of the deliveries that ended in the last five minutes failed, and at least three.
    #[schema(example = "healthy")]
    pub(crate) status: &'static str,
    /// Failed deliveries over all that ended in that time; `null` where none did.
    pub(crate) failure_rate: Option<f64>,
    pub(crate) delivered: u32,
    pub(crate) failed: u32,
    /// Those that wait or are under way.
    pub(crate) waiting: u32,
    pub(crate) window_seconds: u64,
    pub(crate) timestamp: DateTime<Utc>,
}
