//! Distribution, on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::streams::{Stream, StreamLimits, StreamViewer, Switch};
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::ids::{LivestreamId, RecordingId, StreamId};
use reelmill_shared::media::abr::{BitrateProfile, Rung};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What is to be distributed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "recording_id": "01890000-0000-7000-8000-000000000000", "max_viewers": 250, "bandwidth_limit": 500_000_000 }))]
pub(crate) struct StartStreamDto {
    pub(crate) recording_id: Option<RecordingId>,
    /// One of both.
    pub(crate) livestream_id: Option<LivestreamId>,
    /// 1 to 100,000.
    #[schema(default = 100, minimum = 1, maximum = 100_000)]
    pub(crate) max_viewers: Option<u32>,
    /// Bits per second for its viewers together, without it those of `REELMILL_STREAM_BANDWIDTH`: beyond it nobody is let in or gets a better profile,
    /// and who is there keeps theirs. Each counts with the bitrate of their profile, with the lowest rendition there is, or with what they were given on
    /// average, whichever is the most.
    #[schema(default = 100_000_000, minimum = 500_000, maximum = 100_000_000_000_000_u64)]
    pub(crate) bandwidth_limit: Option<u64>,
}

/// A stream that viewers may join.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamStartedDto {
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) livestream_id: Option<LivestreamId>,
    pub(crate) stream_id: StreamId,
    #[schema(example = "started")]
    pub(crate) status: &'static str,
    pub(crate) max_viewers: u32,
    /// Bits per second.
    pub(crate) bandwidth_limit: u64,
    /// The lowest first.
    pub(crate) profiles: Vec<BitrateProfileDto>,
    pub(crate) message: &'static str,
    pub(crate) timestamp: DateTime<Utc>,
}

/// A bitrate by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BitrateProfileDto {
    #[schema(inline)]
    pub(crate) name: BitrateProfile,
    /// Bits per second.
    pub(crate) bitrate: u64,
    /// The rendition it stands for: the best that takes no more, else the lowest; `null` while there is none.
    pub(crate) rendition: Option<String>,
    /// How many viewers can play it at once, if all do.
    pub(crate) max_viewers: u32,
}

impl BitrateProfileDto {
    /// All of them, of something with these rungs.
    pub(crate) fn all(rungs: &[Rung], limits: StreamLimits) -> Vec<Self> {
        let profile = |name: BitrateProfile| Self {
            name,
            bitrate: name.bitrate(),
            rendition: name.rung(rungs).map(|rung| rung.name.clone()),
            max_viewers: limits.fit(name),
        };
        BitrateProfile::ALL.iter().copied().map(profile).collect()
    }
}

/// Who wants to watch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "viewer_id": "alice", "initial_bitrate": "Low" }))]
pub(crate) struct JoinDto {
    /// What you call them; at most 255 characters. Who has a place keeps it.
    pub(crate) viewer_id: String,
    #[schema(inline, default = "Low")]
    pub(crate) initial_bitrate: Option<BitrateProfile>,
}

/// A place in a stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JoinedDto {
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) livestream_id: Option<LivestreamId>,
    pub(crate) viewer_id: String,
    pub(crate) session_id: String,
    #[schema(inline)]
    pub(crate) current_bitrate: BitrateProfile,
    /// Per cent; `null` until somebody tells it.
    pub(crate) buffer_health: Option<f32>,
    /// Absolute URL of a master playlist of their own: what is fetched by it is counted for them, and says that they are there.
    pub(crate) playlist_url: String,
    /// The same over a WebSocket.
    pub(crate) socket_url: String,
    pub(crate) message: &'static str,
    pub(crate) timestamp: DateTime<Utc>,
}

/// A stream and who watches it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamDto {
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) livestream_id: Option<LivestreamId>,
    pub(crate) stream_id: StreamId,
    pub(crate) max_viewers: u32,
    /// Bits per second for all viewers.
    pub(crate) bandwidth_limit: u64,
    /// Bits per second that they count with.
    pub(crate) bandwidth_usage: u64,
    /// Who holds a place: those heard of within a minute.
    pub(crate) active_viewers: u32,
    pub(crate) peak_viewers: u32,
    /// By the api processes themselves; what a CDN served besides they cannot know.
    pub(crate) total_segments_served: u64,
    pub(crate) total_bytes_served: u64,
    /// The first thousand to join.
    pub(crate) viewers: Vec<StreamViewerDto>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) message: &'static str,
    pub(crate) timestamp: DateTime<Utc>,
}

/// Somebody with a place.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamViewerDto {
    pub(crate) viewer_id: String,
    #[schema(inline)]
    pub(crate) current_bitrate: BitrateProfile,
    pub(crate) segments_received: u64,
    pub(crate) bytes_received: u64,
    /// Per cent; `null` until somebody tells it.
    pub(crate) buffer_health: Option<f32>,
    /// By the buffer: `excellent` above 60 %, `good` above 40, `fair` above 20, else `poor`; `null` where nobody told of it.
    #[schema(example = "good")]
    pub(crate) connection_quality: Option<&'static str>,
    /// The last fifty.
    pub(crate) bitrate_switches: Vec<BitrateSwitchDto>,
    /// Seconds since they joined.
    pub(crate) duration: f64,
}

/// A change of the bitrate.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BitrateSwitchDto {
    #[schema(inline)]
    pub(crate) from: BitrateProfile,
    #[schema(inline)]
    pub(crate) to: BitrateProfile,
    pub(crate) timestamp: DateTime<Utc>,
}

impl From<Switch> for BitrateSwitchDto {
    fn from(switch: Switch) -> Self {
        Self { from: switch.from, to: switch.to, timestamp: switch.at }
    }
}

impl From<StreamViewer> for StreamViewerDto {
    fn from(viewer: StreamViewer) -> Self {
        Self {
            connection_quality: viewer.buffer_health.map(quality),
            duration: (Utc::now() - viewer.joined_at).as_seconds_f64(),
            viewer_id: viewer.viewer,
            current_bitrate: viewer.bitrate,
            segments_received: viewer.segments,
            bytes_received: viewer.bytes,
            buffer_health: viewer.buffer_health,
            bitrate_switches: viewer.switches.into_iter().map(BitrateSwitchDto::from).collect(),
        }
    }
}

fn quality(buffer_health: f32) -> &'static str {
    match buffer_health {
        full if full > 60.0 => "excellent",
        full if full > 40.0 => "good",
        full if full > 20.0 => "fair",
        _ => "poor",
    }
}

impl StreamDto {
    pub(crate) fn new(stream: Stream, viewers: Vec<StreamViewer>) -> Self {
        let (recording_id, livestream_id) = ids(stream.watched);
        Self {
            recording_id,
            livestream_id,
            stream_id: stream.id,
            max_viewers: stream.limits.viewers,
            bandwidth_limit: stream.limits.bandwidth,
            bandwidth_usage: stream.bandwidth,
            active_viewers: stream.active_viewers,
            peak_viewers: stream.peak_viewers,
            total_segments_served: stream.segments,
            total_bytes_served: stream.bytes,
            viewers: viewers.into_iter().map(StreamViewerDto::from).collect(),
            started_at: stream.started_at,
            message: "the stream is open",
            timestamp: Utc::now(),
        }
    }
}

/// Which of both it is.
pub(crate) fn ids(watched: Watched) -> (Option<RecordingId>, Option<LivestreamId>) {
    match watched {
        Watched::Recording(id) => (Some(id), None),
        Watched::Livestream(id) => (None, Some(id)),
    }
}

/// How a viewer fares.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "recording_id": "01890000-0000-7000-8000-000000000000", "viewer_id": "alice", "buffer_health": 35.0 }))]
pub(crate) struct AdaptDto {
    /// What is watched: a recording or a livestream.
    pub(crate) recording_id: Uuid,
    pub(crate) viewer_id: String,
    /// How full the buffer is, in per cent.
    #[schema(minimum = 0, maximum = 100)]
    pub(crate) buffer_health: f32,
}

/// What to play from now on: below 20 % of the buffer `VeryLow`, below 40 % one less than before, above 85 % one more, if there is bandwidth for it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdaptedDto {
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) livestream_id: Option<LivestreamId>,
    pub(crate) viewer_id: String,
    #[schema(inline)]
    pub(crate) current_bitrate: BitrateProfile,
    /// The rendition it stands for.
    pub(crate) rendition: Option<String>,
    pub(crate) buffer_health: f32,
    pub(crate) timestamp: DateTime<Utc>,
}

/// All that a project distributes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DistributionMetricsDto {
    /// Streams that are open.
    pub(crate) total_distributors: u32,
    pub(crate) total_active_viewers: u32,
    /// Of all streams there ever were.
    pub(crate) total_segments_served: u64,
    pub(crate) total_bytes_served: u64,
    /// Segments that were to be delivered, and were not.
    pub(crate) total_delivery_failures: u64,
    /// 0 to 1, of the last 30 days: of the media that viewers, or a CDN for them, asked our edges for, what an edge had in its memory, or
    /// whoever asked had already. What a CDN gave by itself is not in it. `null` where nothing was asked for.
    pub(crate) cdn_cache_hit_rate: Option<f64>,
    pub(crate) timestamp: DateTime<Utc>,
}
