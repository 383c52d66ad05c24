//! The parts of the API's documents that are shown or acted upon. What a newer farm adds is passed over.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use reelmill_shared::ids::{
    DeliveryId, JobId, LivestreamId, ProjectId, RecordingId, TaskId, WebhookId, WorkerId,
};
use reelmill_shared::job::retention::Age;
use reelmill_shared::job::state::{JobStatus, TaskStatus};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

/// A job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) kind: String,
    pub(crate) status: JobStatus,
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) priority: i64,
    pub(crate) progress: f64,
    pub(crate) phase: Option<String>,
    pub(crate) fps: Option<f64>,
    pub(crate) speed: Option<f64>,
    pub(crate) eta_seconds: Option<f64>,
    #[serde(default)]
    pub(crate) tasks: Vec<Task>,
    #[serde(default)]
    pub(crate) outputs: Outputs,
    pub(crate) result: Option<Value>,
    pub(crate) error: Option<Fault>,
    #[serde(default)]
    pub(crate) timings: Timings,
    pub(crate) created_at: DateTime<Utc>,
}

/// A piece of a job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) kind: String,
    pub(crate) status: TaskStatus,
    pub(crate) worker: Option<String>,
    pub(crate) attempt: i32,
    pub(crate) max_attempts: i32,
    pub(crate) progress: f64,
    pub(crate) phase: Option<String>,
    pub(crate) fps: Option<f64>,
    pub(crate) speed: Option<f64>,
    pub(crate) eta_seconds: Option<f64>,
    #[serde(default)]
    pub(crate) renditions: Vec<String>,
    pub(crate) error: Option<Fault>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

/// Where what a job made is found: paths on the API.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Outputs {
    pub(crate) hls: Option<String>,
    pub(crate) dash: Option<String>,
    /// The best one first.
    #[serde(default)]
    pub(crate) mp4: Vec<File>,
    pub(crate) thumbnail: Option<String>,
    pub(crate) storyboard: Option<String>,
}

/// A rendition as one file.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct File {
    pub(crate) url: String,
}

/// Seconds.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Timings {
    pub(crate) queued: Option<f64>,
    pub(crate) playable: Option<f64>,
    pub(crate) run: Option<f64>,
    pub(crate) total: Option<f64>,
}

/// Why something failed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Fault {
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Job {
    /// True for states that are final.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.status, JobStatus::Succeeded | JobStatus::Failed | JobStatus::Cancelled)
    }
}

/// What happened in a job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct JobLog {
    pub(crate) attempts: Vec<Attempt>,
}

/// One attempt at a task.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) task_id: TaskId,
    pub(crate) kind: String,
    pub(crate) attempt: i32,
    pub(crate) worker: Option<String>,
    pub(crate) outcome: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) error: Option<Fault>,
    pub(crate) log: Option<String>,
}

/// A recording.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Recording {
    pub(crate) id: RecordingId,
    pub(crate) title: String,
    pub(crate) status: String,
    pub(crate) access: String,
    pub(crate) duration_seconds: Option<f64>,
    pub(crate) source: Option<Source>,
    #[serde(default)]
    pub(crate) renditions: Vec<Rendition>,
    pub(crate) hls_url: Option<String>,
    pub(crate) dash_url: Option<String>,
    pub(crate) watch_url: String,
    pub(crate) error: Option<Fault>,
    pub(crate) job_id: Option<JobId>,
    pub(crate) created_at: DateTime<Utc>,
}

/// What a recording was made from.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Source {
    pub(crate) url: Option<String>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) video_codec: Option<String>,
    pub(crate) audio_codec: Option<String>,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    pub(crate) fps: Option<f64>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// An encoded rung.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rendition {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    pub(crate) frame_rate: Option<f64>,
    pub(crate) codecs: String,
    pub(crate) bandwidth: u64,
    pub(crate) average_bandwidth: u64,
}

/// A tenant.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) name: String,
    pub(crate) weight: f64,
    pub(crate) max_running: Option<u32>,
    /// Older farms have no livestreams.
    pub(crate) max_concurrent_streams: Option<u32>,
    pub(crate) running: u64,
    /// By kind; what a newer farm keeps by age besides is passed over.
    #[serde(default)]
    pub(crate) retention: BTreeMap<String, Option<Age>>,
}

/// What has reached its age, of one kind.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DueList {
    pub(crate) age_days: Age,
    pub(crate) count: u64,
    pub(crate) bytes: Option<u64>,
    pub(crate) items: Vec<Due>,
}

/// Something that has.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Due {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) due_at: DateTime<Utc>,
    pub(crate) bytes: Option<u64>,
}

/// A viewer's way in.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PlaybackToken {
    pub(crate) hls_url: String,
}

/// A profile.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Profile {
    pub(crate) name: Option<String>,
    pub(crate) built_in: bool,
    #[serde(default)]
    pub(crate) rungs: Vec<Rung>,
    pub(crate) audio: Option<Audio>,
    pub(crate) preset: String,
    #[serde(default)]
    pub(crate) hardware: String,
    pub(crate) segment_duration: f64,
}

/// One step of a profile's ladder.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rung {
    pub(crate) name: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    #[serde(default)]
    pub(crate) codec: String,
    pub(crate) crf: Option<u8>,
    pub(crate) max_bitrate: Option<u64>,
    pub(crate) bitrate: Option<u64>,
    pub(crate) max_frame_rate: Option<u32>,
}

/// A profile's sound.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Audio {
    pub(crate) bitrate: u64,
}

/// A worker.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) name: String,
    pub(crate) pool: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) drain_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub(crate) quarantine_reason: Option<String>,
    pub(crate) slots: i64,
    pub(crate) running: i64,
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
    pub(crate) version: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) seen_at: DateTime<Utc>,
}

/// All pools.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Queues {
    pub(crate) queues: Vec<Queue>,
}

/// A pool of workers and what waits in it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Queue {
    pub(crate) pool: String,
    pub(crate) paused: bool,
    pub(crate) ready: i64,
    pub(crate) scheduled: i64,
    pub(crate) running: i64,
    pub(crate) oldest_seconds: f64,
    pub(crate) workers: i64,
    pub(crate) slots: i64,
}

/// Something that events are sent to.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Webhook {
    pub(crate) id: WebhookId,
    pub(crate) kind: String,
    pub(crate) url: Option<String>,
    #[serde(default)]
    pub(crate) events: Vec<String>,
    pub(crate) disabled_reason: Option<String>,
    pub(crate) failing_since: Option<DateTime<Utc>>,
    pub(crate) previous_secret_until: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
    /// Only where it is new.
    pub(crate) secret: Option<String>,
}

/// What came of a test event.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WebhookTest {
    pub(crate) event_id: Uuid,
    pub(crate) delivered: bool,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
    pub(crate) response: Option<String>,
    pub(crate) duration_ms: u64,
}

/// An event on its way to a webhook.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) id: DeliveryId,
    pub(crate) r#type: String,
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) status: Option<i32>,
    pub(crate) error: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
}

/// What is replayed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Replayed {
    pub(crate) deliveries: u64,
}

/// A livestream.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Livestream {
    pub(crate) id: LivestreamId,
    pub(crate) title: String,
    pub(crate) status: String,
    /// Only for keys that may publish.
    pub(crate) stream_key: Option<String>,
    pub(crate) rtmp_ingest_url: Option<String>,
    #[serde(default)]
    pub(crate) srt_ingest_url: Option<String>,
    pub(crate) watch_url: String,
    pub(crate) source: LiveSource,
    pub(crate) require_start: bool,
    pub(crate) armed: bool,
    pub(crate) low_latency: bool,
    pub(crate) dvr_enabled: bool,
    pub(crate) dvr_window: f64,
    pub(crate) settings: LiveSettings,
    pub(crate) viewer_count: u64,
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
    pub(crate) error: Option<Fault>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
}

impl Livestream {
    /// A worker fetches it, and only after it was started.
    pub(crate) fn is_fetched(&self) -> bool {
        self.rtmp_ingest_url.is_none() && (self.source.r#type != "srt" || self.source.url.is_some())
    }

    /// Where a publisher sends to, as far as that is known.
    pub(crate) fn publish_to(&self) -> Option<&str> {
        self.rtmp_ingest_url.as_deref().or(self.srt_ingest_url.as_deref())
    }
}

/// Where a livestream's media comes from.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LiveSource {
    pub(crate) r#type: String,
    pub(crate) url: Option<String>,
}

/// How a livestream is encoded.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LiveSettings {
    #[serde(default)]
    pub(crate) resolutions: Vec<String>,
    pub(crate) codec: String,
    pub(crate) record: bool,
}

/// A quality that is on air.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Variant {
    pub(crate) resolution: String,
    pub(crate) bitrate: Option<u64>,
}

/// What came of a wish to start or stop a livestream.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Said {
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) rtmp_ingest_url: Option<String>,
}

/// Something that happened to a livestream.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LiveEvent {
    pub(crate) event_type: String,
    pub(crate) severity: String,
    pub(crate) message: String,
    pub(crate) timestamp: DateTime<Utc>,
}

/// What a probe found: `probe` in the result of its job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Probe {
    pub(crate) format: String,
    pub(crate) duration_seconds: f64,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) bitrate: Option<u64>,
    pub(crate) video: Option<VideoTrack>,
    #[serde(default)]
    pub(crate) audio: Vec<AudioTrack>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// A picture track of a source.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct VideoTrack {
    pub(crate) codec: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixel_format: String,
    pub(crate) rate: Rate,
}

/// Frames per second, as a fraction.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Rate {
    pub(crate) num: f64,
    pub(crate) den: f64,
}

/// A sound track of a source.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AudioTrack {
    pub(crate) codec: String,
    pub(crate) sample_rate: u32,
    pub(crate) channels: u32,
    pub(crate) language: Option<String>,
}
