//! Livestreams on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::livestreams::{Livestream, OnAir};
use reelmill_shared::ids::{BroadcastId, LivestreamId};
use reelmill_shared::live::spec::{LiveSource, LiveSpec, Overload, Resolution, SourceKind};
use reelmill_shared::live::state::LiveStatus;
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::net::redacted;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::job::InputDto;
use super::{ErrorDto, given};

/// The one codec of sound.
pub(crate) const AUDIO_CODEC: &str = "aac";
/// Days a recording is kept unless it is said otherwise.
const RETENTION_DAYS: u32 = 30;

/// Body of `POST /livestreams`: as that of a change, and the title must be there.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct NewLivestreamDto(pub(crate) PatchLivestreamDto);

impl PartialSchema for NewLivestreamDto {
    fn schema() -> RefOr<Schema> {
        let mut schema = PatchLivestreamDto::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.required.push("title".to_owned());
            object.description = Some("Body of `POST /livestreams`.".to_owned());
            object.example = Some(
                json!({ "title": "Main stage", "low_latency": true, "settings": { "resolutions": ["720p", "360p"] } }),
            );
        }
        schema
    }
}

impl ToSchema for NewLivestreamDto {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        PatchLivestreamDto::schemas(schemas);
    }
}

/// Body of `PATCH /livestreams/{id}`: what is left out stays. What is on air goes on as it began; the next broadcast is as is said here.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "dvr_enabled": true, "dvr_window": 3600 }))]
pub(crate) struct PatchLivestreamDto {
    /// At most 500 characters.
    pub(crate) title: Option<String>,
    /// At most 5000 characters.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub(crate) description: Option<Option<String>>,
    /// Whose it is, in words of your own: at most 255 characters. Lists can be filtered by it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub(crate) user_id: Option<Option<String>>,
    /// Viewers may seek back; false unless it is said otherwise.
    pub(crate) dvr_enabled: Option<bool>,
    /// How far, in seconds, 60 to 86,400; 7200 unless it is said otherwise.
    pub(crate) dvr_window: Option<i64>,
    /// Playlists list parts of segments and wait for the next one; false unless it is said otherwise.
    pub(crate) low_latency: Option<bool>,
    /// Publishers are let in only after `POST …/start`; false unless it is said otherwise.
    pub(crate) require_start: Option<bool>,
    /// An object of at most 16 KiB, for you.
    pub(crate) metadata: Option<Value>,
    pub(crate) source: Option<SourceWishDto>,
    pub(crate) settings: Option<SettingsWishDto>,
}

/// Where the media comes from. With another `type` everything else of it begins anew.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "type": "rtsp", "url": "rtsp://user:secret@camera.example/1" }))]
pub(crate) struct SourceWishDto {
    /// `push` unless it is said otherwise: a publisher sends it by RTMP. By `srt` a publisher sends it to `srt_ingest_url`, or a worker
    /// calls `url`.
    #[schema(value_type = Option<SourceKind>)]
    pub(crate) r#type: Option<String>,
    /// Of `rtsp` (`rtsp`, `rtsps`), `srt` (`srt://host:port`, with `?streamid=…` where the server wants it) and `file` (`http`, `https`, and `file` where the operator allows it).
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub(crate) url: Option<Option<String>>,
    /// Of `srt`: 10 to 79 characters; needed where a publisher sends it. It is shown to nobody.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub(crate) passphrase: Option<Option<String>>,
    /// Of `file`: from the start again when it ends.
    pub(crate) r#loop: Option<bool>,
}

/// How it is encoded and cut.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsWishDto {
    /// True unless it is said otherwise. Without, `source` is the only quality: the picture at its own size,
    /// passed through where it keeps to the grid: this codec, a constant rate, a keyframe each `keyframe_interval`. Else it is encoded, as an
    /// event says.
    pub(crate) enable_transcoding: Option<bool>,
    /// Qualities, each once; 1080p, 720p, 480p and 360p unless it is said otherwise.
    #[schema(value_type = Option<Vec<Resolution>>)]
    pub(crate) resolutions: Option<Vec<String>>,
    /// `h264` (unless it is said otherwise), `hevc` or `vp9`.
    #[schema(example = "h264")]
    pub(crate) codec: Option<String>,
    /// Seconds, 1 to 30, a multiple of `keyframe_interval`; 6 unless it is said otherwise.
    pub(crate) segment_duration: Option<i64>,
    /// Seconds, 0.1 to 2, at most half a segment; 0.5 unless it is said otherwise.
    pub(crate) part_duration: Option<f64>,
    /// Segments listed without DVR, 3 to 60; 10 unless it is said otherwise.
    pub(crate) playlist_length: Option<i64>,
    /// `aac`.
    #[schema(example = "aac")]
    pub(crate) audio_codec: Option<String>,
    /// kbit/s, 32 to 320; 128 unless it is said otherwise.
    pub(crate) audio_bitrate: Option<i64>,
    /// Seconds, 1 to 10; 2 unless it is said otherwise.
    pub(crate) keyframe_interval: Option<i64>,
    /// Encode on a graphics processor where there is one.
    pub(crate) gpu_acceleration: Option<bool>,
    /// Keep what was on air when it is over; as `dvr_enabled` where it is `null`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>)]
    pub(crate) record: Option<Option<bool>>,
    /// How long recordings are kept, 7 to 30; 30 where it is `null`. What is converted has the ages of recordings.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub(crate) retention_days: Option<Option<i64>>,
    /// Where encoding is slower than what comes in: `drop_rung` leaves the best quality out until the broadcast ends, and the next one where that
    /// is not enough; `keep` lets viewers fall behind. `drop_rung` unless it is said otherwise.
    #[schema(example = "drop_rung")]
    pub(crate) overload: Option<String>,
}

/// A livestream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LivestreamDto {
    pub(crate) id: LivestreamId,
    pub(crate) title: String,
    pub(crate) description: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) status: LiveStatus,
    /// What lets a publisher in. Only for keys with the scope `live:write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "live_a1b2c3d4e5f6g7h8i9j0k1l2")]
    pub(crate) stream_key: Option<String>,
    /// Where publishers send to, with the key. Only for keys with the scope `live:write`, and not of what is fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "rtmp://live.example.com:1935/live/live_a1b2c3d4e5f6g7h8i9j0k1l2")]
    pub(crate) rtmp_ingest_url: Option<String>,
    /// Where a publisher sends to by SRT, with the passphrase of the source and as the caller; only while a worker listens for it, and
    /// only for keys with `live:write`.
    pub(crate) srt_ingest_url: Option<String>,
    /// A path on the API, for holders of a key; viewers get theirs by `POST …/playback-token`.
    pub(crate) master_playlist: String,
    /// The player page.
    pub(crate) watch_url: String,
    pub(crate) source: LiveSourceDto,
    pub(crate) require_start: bool,
    pub(crate) dvr_enabled: bool,
    pub(crate) dvr_window: u32,
    pub(crate) low_latency: bool,
    pub(crate) settings: LiveSettingsDto,
    pub(crate) metadata: Value,
    /// `POST …/start` was said, and no `…/stop` since.
    pub(crate) armed: bool,
    /// Sessions heard of within a minute.
    pub(crate) viewer_count: u32,
    /// The most there ever were at once.
    pub(crate) peak_viewer_count: u32,
    /// What is on air; empty while nothing is.
    pub(crate) variants: Vec<VariantDto>,
    /// The broadcast that is on air.
    pub(crate) broadcast_id: Option<BroadcastId>,
    /// Since when what is published is left out of the recording.
    pub(crate) recording_paused_at: Option<DateTime<Utc>>,
    /// Why it failed.
    pub(crate) error: Option<ErrorDto>,
    /// When it was last put on air.
    pub(crate) started_at: Option<DateTime<Utc>>,
    /// When it last ended.
    pub(crate) ended_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// Where the media comes from, without secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LiveSourceDto {
    pub(crate) r#type: SourceKind,
    /// Without credentials and query. Sent back like this it stays what it was.
    pub(crate) url: Option<String>,
    pub(crate) has_passphrase: bool,
    pub(crate) r#loop: bool,
}

/// How it is encoded and cut.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LiveSettingsDto {
    pub(crate) enable_transcoding: bool,
    pub(crate) resolutions: Vec<Resolution>,
    #[schema(example = "h264")]
    pub(crate) codec: String,
    /// Seconds.
    pub(crate) segment_duration: u32,
    /// Seconds.
    pub(crate) part_duration: f64,
    pub(crate) playlist_length: u32,
    #[schema(example = "aac")]
    pub(crate) audio_codec: &'static str,
    /// kbit/s.
    pub(crate) audio_bitrate: u32,
    /// Seconds.
    pub(crate) keyframe_interval: u32,
    pub(crate) gpu_acceleration: bool,
    pub(crate) record: bool,
    pub(crate) retention_days: u32,
    #[schema(example = "drop_rung")]
    pub(crate) overload: Overload,
}

/// A quality that is on air.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VariantDto {
    #[schema(example = "720p")]
    pub(crate) resolution: String,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    /// Bits per second of the picture.
    pub(crate) bitrate: Option<u64>,
    /// Pictures per second.
    pub(crate) frame_rate: Option<f64>,
    #[schema(example = "h264")]
    pub(crate) codec: Option<String>,
    /// Bits per second of the sound.
    pub(crate) audio_bitrate: Option<u64>,
    pub(crate) playlist_url: String,
}

/// What is read of a broadcast's plan. What a newer worker adds or leaves out must not hide the rest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Plan {
    rungs: Vec<Rung>,
    frame_rate: Option<(u32, u32)>,
    codec: Option<String>,
    audio: Option<Sound>,
}

#[derive(Debug, Deserialize)]
struct Sound {
    bitrate: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Rung {
    name: String,
    width: Option<u32>,
    height: Option<u32>,
    bitrate: Option<u64>,
}

/// The path of everything that is played of a livestream.
pub(crate) fn stream_path(id: LivestreamId) -> String {
    format!("/api/v1/livestreams/{id}/stream")
}

fn variants(id: LivestreamId, OnAir { plan, tracks, .. }: &OnAir) -> Vec<VariantDto> {
    let plan = Plan::deserialize(plan).unwrap_or_default();
    let frame_rate = plan.frame_rate.map(|(num, den)| f64::from(num) / f64::from(den.max(1)));
    let audio_bitrate = plan.audio.and_then(|sound| sound.bitrate);
    let variant = |rung: Rung| VariantDto {
        playlist_url: format!("{}/{}", stream_path(id), LiveFile::Playlist { track: rung.name.clone() }),
        resolution: rung.name,
        width: rung.width,
        height: rung.height,
        bitrate: rung.bitrate,
        frame_rate,
        codec: plan.codec.clone(),
        audio_bitrate,
    };
    let is_made = |rung: &Rung| tracks.as_ref().is_none_or(|tracks| tracks.contains(&rung.name));
    plan.rungs.into_iter().filter(is_made).map(variant).collect()
}

impl From<&LiveSpec> for LiveSettingsDto {
    fn from(spec: &LiveSpec) -> Self {
        let settings = &spec.settings;
        Self {
            enable_transcoding: settings.enable_transcoding,
            resolutions: settings.resolutions.clone(),
            codec: settings.codec.to_string(),
            segment_duration: settings.segment_duration,
            part_duration: f64::from(settings.part_duration_ms) / 1000.0,
            playlist_length: settings.playlist_length,
            audio_codec: AUDIO_CODEC,
            audio_bitrate: settings.audio_bitrate,
            keyframe_interval: settings.keyframe_interval,
            gpu_acceleration: settings.gpu_acceleration,
            record: spec.records(),
            retention_days: settings.retention_days.unwrap_or(RETENTION_DAYS),
            overload: settings.overload,
        }
    }
}

/// The address of a source as it may be shown.
pub(crate) fn shown_url(source: &LiveSource) -> Option<String> {
    source.url.as_deref().and_then(|url| Url::parse(url).ok()).map(|url| redacted(&url))
}

/// What a publisher needs, for who may publish.
#[derive(Debug, Default)]
pub(crate) struct Ingest {
    pub(crate) key: Option<String>,
    pub(crate) rtmp: Option<String>,
    pub(crate) srt: Option<String>,
}

impl LivestreamDto {
    /// A livestream with its opened source.
    pub(crate) fn new(livestream: Livestream, source: Option<&LiveSource>, ingest: Ingest) -> Self {
        let id = livestream.id;
        let terms = livestream.terms;
        Self {
            id,
            title: terms.title,
            description: terms.description,
            user_id: terms.user_id,
            status: livestream.status,
            stream_key: ingest.key,
            rtmp_ingest_url: ingest.rtmp,
            srt_ingest_url: ingest.srt,
            master_playlist: format!("{}/{}", stream_path(id), LiveFile::Master),
            watch_url: format!("/watch/live/{id}"),
            source: LiveSourceDto {
                r#type: terms.spec.source,
                url: source.and_then(shown_url),
                has_passphrase: source.is_some_and(|source| source.passphrase.is_some()),
                r#loop: source.is_some_and(|source| source.repeat),
            },
            require_start: terms.spec.require_start,
            dvr_enabled: terms.spec.dvr_enabled,
            dvr_window: terms.spec.dvr_window,
            low_latency: terms.spec.low_latency,
            settings: LiveSettingsDto::from(&terms.spec),
            metadata: terms.metadata,
            armed: livestream.armed_at.is_some(),
            viewer_count: livestream.viewer_count,
            peak_viewer_count: livestream.peak_viewer_count,
            variants: livestream.on_air.as_ref().map(|on_air| variants(id, on_air)).unwrap_or_default(),
            broadcast_id: livestream.on_air.map(|on_air| on_air.broadcast_id),
            recording_paused_at: livestream.recording_paused_at,
            error: livestream.error.map(ErrorDto::from),
            started_at: livestream.started_at,
            ended_at: livestream.ended_at,
            created_at: livestream.created_at,
            updated_at: livestream.updated_at,
        }
    }
}

/// A page of livestreams.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LivestreamListDto {
    pub(crate) streams: Vec<LivestreamDto>,
    pub(crate) next_cursor: Option<String>,
    pub(crate) limit: i64,
    pub(crate) offset: i64,
}

/// What came of `POST …/start`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StartedDto {
    pub(crate) message: String,
    pub(crate) stream_id: LivestreamId,
    /// `null` of what is fetched.
    pub(crate) rtmp_ingest_url: Option<String>,
    /// `null` unless it comes by SRT and a worker listens for it.
    pub(crate) srt_ingest_url: Option<String>,
}

/// What came of `POST …/stop`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoppedDto {
    pub(crate) message: String,
}

/// What a recording of a livestream is to become. All of it may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "profile": "web", "title": "Opening night" }))]
pub(crate) struct ConvertDto {
    /// A profile's name, or an inline profile: its rungs are encoded as far as they were not on air. Without it nothing is encoded.
    pub(crate) profile: Option<Value>,
    /// Of the recording; that of the livestream where it is left out.
    pub(crate) title: Option<String>,
}

/// Body of `POST /livestreams/{id}/recordings/import`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "input": { "url": "https://example.com/door.mp4" }, "start_time": "2026-03-01T08:00:00Z" }))]
pub(crate) struct ImportDto {
    /// Where the footage is: a URL, an upload, or a recording that there is already.
    pub(crate) input: InputDto,
    /// When its first picture was taken: not in the future.
    pub(crate) start_time: DateTime<Utc>,
    /// A profile's name, or an inline profile; `web` where it is left out. Not for a recording.
    pub(crate) profile: Option<Value>,
    /// Of the recording that is made; that of the livestream where it is left out. Not for a recording.
    pub(crate) title: Option<String>,
}

/// A viewer's way in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LivePlaybackTokenDto {
    pub(crate) token: String,
    pub(crate) expires_at: DateTime<Utc>,
    /// Absolute URL of the master playlist.
    pub(crate) hls_url: String,
    /// Absolute URL of the DASH manifest.
    pub(crate) dash_url: String,
    /// Absolute URL of the player page.
    pub(crate) watch_url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_what_the_plan_says() {
        let id = LivestreamId::new();
        let on_air = |plan: Value, tracks: Option<&[&str]>| {
            let tracks = tracks.map(|tracks| tracks.iter().map(|track| (*track).to_owned()).collect());
            OnAir { broadcast_id: BroadcastId::new(), plan, tracks }
        };
        let plan = json!({
            "rungs": [{ "name": "720p", "width": 1280, "height": 720, "bitrate": 2_800_000, "new": 1 }],
            "frame_rate": [30000, 1001], "codec": "h264", "audio": { "bitrate": 128_000 }, "cadence": {},
        });
        let told = serde_json::to_value(variants(id, &on_air(plan.clone(), None))).unwrap();
        let frame_rate = 30000.0 / 1001.0;
        assert_eq!(
            told,
            json!([{
                "resolution": "720p", "width": 1280, "height": 720, "bitrate": 2_800_000, "frame_rate": frame_rate,
                "codec": "h264", "audio_bitrate": 128_000,
                "playlist_url": format!("/api/v1/livestreams/{id}/stream/720p.m3u8"),
            }])
        );
        assert_eq!(variants(id, &on_air(plan.clone(), Some(&["audio", "720p"]))).len(), 1);
        assert!(variants(id, &on_air(plan, Some(&["audio"]))).is_empty(), "it was dropped");
        assert!(variants(id, &on_air(json!({ "rungs": "none" }), None)).is_empty());
    }

    #[test]
    fn addresses_are_shown_without_what_lets_one_in() {
        let shown = |url: &str| shown_url(&LiveSource { url: Some(url.to_owned()), ..LiveSource::default() });
        assert_eq!(shown("rtsp://me:secret@cam/1?key=x").as_deref(), Some("rtsp://cam/1?…"));
    }
}
