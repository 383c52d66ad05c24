//! What was, and who is, on the wire: recordings, figures, events and viewers of livestreams.

use chrono::{DateTime, TimeDelta, Utc};
use reelmill_shared::db::broadcasts::Broadcast;
use reelmill_shared::db::livestream_events::Entry;
use reelmill_shared::db::livestream_figures::Figures;
use reelmill_shared::db::viewers::ViewerSession;
use reelmill_shared::ids::{BroadcastId, LivestreamId, RecordingId};
use reelmill_shared::job::retention::Age;
use reelmill_shared::live::event::{LiveEventType, Severity};
use reelmill_shared::live::state::BroadcastStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// A time a livestream was on air, kept; or footage of it that was recorded elsewhere.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BroadcastDto {
    pub(crate) id: BroadcastId,
    pub(crate) live_stream_id: LivestreamId,
    /// The recording it was converted to.
    pub(crate) video_id: Option<RecordingId>,
    pub(crate) start_time: DateTime<Utc>,
    pub(crate) end_time: Option<DateTime<Utc>>,
    /// Seconds; so far, while it goes on.
    pub(crate) duration: f64,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) status: BroadcastStatus,
    /// A master playlist: of the recording it was converted to, else of what was on air, from its beginning.
    pub(crate) recording_url: Option<String>,
    /// The DASH manifest of that.
    pub(crate) manifest_url: Option<String>,
    pub(crate) thumbnail_url: Option<String>,
    /// Kept until then, and longer while somebody watches it; `null` while it goes on, and where that is for ever.
    pub(crate) retention_until: Option<DateTime<Utc>>,
    /// Why it ended, in a word.
    #[schema(example = "stopped")]
    pub(crate) end_reason: Option<String>,
    /// It was recorded elsewhere. What there is of it is the recording `video_id`, which has an age of its own.
    pub(crate) imported: bool,
}

impl BroadcastDto {
    /// A broadcast, of which the project keeps recordings for so long unless its livestream says otherwise.
    pub(crate) fn new(broadcast: Broadcast, age: Option<Age>) -> Self {
        let usual = || {
            let days = TimeDelta::from_std(age?.span()?).ok()?;
            broadcast.ended_at?.checked_add_signed(days)
        };
        let retention_until = broadcast.retention_until.or_else(usual).filter(|_| !broadcast.imported);
        let own = format!("/api/v1/livestreams/{}/recordings/{}", broadcast.livestream_id, broadcast.id);
        let is_made = !broadcast.imported || broadcast.status == BroadcastStatus::Converted;
        let made = broadcast.recording_id.filter(|_| is_made);
        let of_recording = |path: &str| made.map(|id| format!("/api/v1/recordings/{id}/{path}"));
        Self {
            id: broadcast.id,
            live_stream_id: broadcast.livestream_id,
            video_id: broadcast.recording_id,
            start_time: broadcast.started_at,
            end_time: broadcast.ended_at,
            duration: broadcast.duration_seconds,
            size: broadcast.bytes,
            status: broadcast.status,
            recording_url: of_recording("stream/master.m3u8")
                .or_else(|| broadcast.is_there().then(|| format!("{own}/stream/master.m3u8"))),
            manifest_url: of_recording("stream/manifest.mpd"),
            thumbnail_url: of_recording("thumbnail").or_else(|| {
                let has = broadcast.is_there() && broadcast.thumbnail_key.is_some();
                has.then(|| format!("{own}/thumbnail"))
            }),
            retention_until,
            end_reason: broadcast.end_reason,
            imported: broadcast.imported,
        }
    }
}

/// A page of recordings of a livestream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BroadcastListDto {
    pub(crate) recordings: Vec<BroadcastDto>,
    pub(crate) next_cursor: Option<String>,
}

/// What was measured within a step: means, but for what is counted. `null` is: nobody measured it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FiguresDto {
    /// Where the step begins.
    pub(crate) timestamp: DateTime<Utc>,
    pub(crate) viewer_count: Option<i64>,
    /// Bits per second that viewers got, from all apis together.
    pub(crate) bandwidth_usage: Option<i64>,
    /// Bits per second that came in.
    pub(crate) ingest_bitrate: Option<i64>,
    /// Pictures that did not come, or were left out: how many in the step.
    pub(crate) dropped_frames: Option<i64>,
    /// Seconds between keyframes of what comes in.
    pub(crate) keyframe_interval: Option<f64>,
    /// Milliseconds by which sound comes in ahead of the picture; below zero: behind it.
    pub(crate) audio_video_sync: Option<f64>,
    /// Per cent of players' reports in which nothing had been waited for since the one before.
    pub(crate) buffer_health: Option<f64>,
    /// 0 to 1: of the segments and parts that viewers, or a CDN for them, asked our edges for, those that were in an edge's memory. What a CDN
    /// gave by itself is not in it.
    pub(crate) cdn_hit_ratio: Option<f64>,
    /// Milliseconds behind the live edge, as players tell.
    pub(crate) average_latency: Option<f64>,
    /// Milliseconds; right to a fifth.
    pub(crate) p95_latency: Option<f64>,
    /// Requests that could not be answered, and errors that players told of: how many in the step.
    pub(crate) error_count: Option<i64>,
    /// 0 to 100: the share of pictures that came, times `speed` (1 at most), times `buffer_health`; `null` where one of them is.
    pub(crate) quality_score: Option<f64>,
    /// Seconds encoded a second while something came in: below 1 it falls behind.
    pub(crate) speed: Option<f64>,
}

/// The mean of what comes in whole numbers, as one.
fn whole(mean: Option<f64>) -> Option<i64> {
    mean.map(|mean| mean.round() as i64)
}

impl From<Figures> for FiguresDto {
    fn from(figures: Figures) -> Self {
        Self {
            timestamp: figures.at,
            viewer_count: whole(figures.viewer_count),
            bandwidth_usage: whole(figures.bandwidth_usage),
            ingest_bitrate: whole(figures.ingest_bitrate),
            dropped_frames: figures.dropped_frames,
            keyframe_interval: figures.keyframe_interval,
            audio_video_sync: figures.audio_video_sync,
            buffer_health: figures.buffer_health,
            cdn_hit_ratio: figures.cdn_hit_ratio,
            average_latency: figures.average_latency,
            p95_latency: figures.p95_latency,
            error_count: figures.error_count,
            quality_score: figures.quality_score,
            speed: figures.speed,
        }
    }
}

/// Figures of a livestream, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnalyticsDto {
    /// Steps in which nothing was measured are left out.
    pub(crate) analytics: Vec<FiguresDto>,
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    /// Seconds.
    pub(crate) step: f64,
}

/// Something that happened to a livestream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LiveEventDto {
    pub(crate) id: Uuid,
    pub(crate) event_type: LiveEventType,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) details: Value,
    pub(crate) broadcast_id: Option<BroadcastId>,
    pub(crate) timestamp: DateTime<Utc>,
}

impl From<Entry> for LiveEventDto {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            event_type: entry.kind,
            severity: entry.severity,
            message: entry.message,
            details: entry.details,
            broadcast_id: entry.broadcast_id,
            timestamp: entry.created_at,
        }
    }
}

/// A page of events of a livestream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LiveEventListDto {
    pub(crate) events: Vec<LiveEventDto>,
    pub(crate) next_cursor: Option<String>,
}

/// Body of `POST /livestreams/{id}/viewers/track`. What is left out stays as it was told before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "session_id": "0b8f2c", "resolution": "720p", "device_type": "desktop", "buffer_events": 1 }))]
pub(crate) struct TrackDto {
    /// Of one player playing: 1 to 128 visible ASCII characters.
    pub(crate) session_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) resolution: Option<String>,
    pub(crate) device_type: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) ip_address: Option<String>,
    /// That of the request where it is left out.
    pub(crate) user_agent: Option<String>,
    /// How often it has waited for media, since it joined.
    pub(crate) buffer_events: Option<i64>,
    /// How often it has changed its quality, since it joined.
    pub(crate) quality_changes: Option<i64>,
    /// Milliseconds behind the live edge. Beyond a minute it is meant so, and does not count.
    pub(crate) latency: Option<i64>,
    /// Errors since it was told of last.
    pub(crate) errors: Option<i64>,
    /// It plays no more.
    #[serde(default)]
    pub(crate) left: bool,
}

/// One player playing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ViewerDto {
    pub(crate) session_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) resolution: Option<String>,
    pub(crate) device_type: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) ip_address: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) buffer_events: i32,
    pub(crate) quality_changes: i32,
    pub(crate) joined_at: DateTime<Utc>,
    pub(crate) left_at: Option<DateTime<Utc>>,
    /// Seconds, from when it joined until it was last heard of.
    pub(crate) watch_duration: f64,
}

impl From<ViewerSession> for ViewerDto {
    fn from(session: ViewerSession) -> Self {
        let watched = session.left_at.unwrap_or(session.seen_at) - session.joined_at;
        Self {
            session_id: session.id,
            user_id: session.user_id,
            resolution: session.resolution,
            device_type: session.device_type,
            location: session.location,
            ip_address: session.ip_address,
            user_agent: session.user_agent,
            buffer_events: session.buffer_events.unwrap_or_default(),
            quality_changes: session.quality_changes.unwrap_or_default(),
            joined_at: session.joined_at,
            left_at: session.left_at,
            watch_duration: watched.as_seconds_f64(),
        }
    }
}

/// A page of viewers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ViewerListDto {
    pub(crate) viewers: Vec<ViewerDto>,
    pub(crate) next_cursor: Option<String>,
}
