//! Recordings on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::sets::{Rendition, TrackKind};
use reelmill_shared::db::sources::Source;
use reelmill_shared::ids::{JobId, RecordingId};
use reelmill_shared::job::spec::{Input, LadderChoice};
use reelmill_shared::job::state::{Access, RecordingStatus};
use reelmill_shared::net::redacted;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::edit::EditDto;
use super::job::{InputDto, PosterDto, SeriesDto};
use super::viewing::ViewingDto;
use super::{DownloadDto, ErrorDto};

/// Body of `POST /recordings`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "title": "My video", "input": { "url": "https://example.com/video.mp4" }, "profile": "web" }))]
pub(crate) struct NewRecordingDto {
    /// At most 500 characters; the file's name where it is left out.
    pub(crate) title: Option<String>,
    pub(crate) input: InputDto,
    /// A profile's name, or an inline profile. `web` where it is left out.
    pub(crate) profile: Option<Value>,
    /// Some of `hls`, `dash`, `mp4`, `thumbnail` and `storyboard`; all but `mp4` where it is left out, and no storyboard of less than
    /// ten seconds.
    pub(crate) outputs: Option<Vec<String>>,
    pub(crate) thumbnail: Option<PosterDto>,
    pub(crate) thumbnails: Option<SeriesDto>,
    pub(crate) priority: Option<i64>,
    pub(crate) access: Option<Access>,
    pub(crate) metadata: Option<Value>,
    /// A part of the source, a part of the picture, a mark on it.
    pub(crate) edit: Option<EditDto>,
    /// `auto`: a few samples of the source decide which of the profile's rungs are worth making and under which ceilings; see `ladder` in
    /// the job's `result`. `fixed` where it is left out.
    pub(crate) ladder: Option<LadderChoice>,
    /// How near is each rendition to the source? `true`, or an object with `metrics` (`psnr`, `ssim`, `vmaf`; where it is
    /// left out the first two, and `vmaf` if a worker that is there has an FFmpeg with libvmaf) and what the mean of every rendition must
    /// reach, or the job fails: `min_psnr` (dB), `min_ssim`, `min_vmaf` (0 to 100). The report is `quality` in the job's `result`.
    pub(crate) quality: Option<Value>,
    /// Where the job's events are sent, signed by the project's webhook of the kind `callbacks`: `https`, or `http`.
    pub(crate) callback_url: Option<String>,
    /// Encode even if the same was encoded before.
    #[serde(default)]
    pub(crate) force: bool,
}

impl NewRecordingDto {
    /// Nothing is said of how it is to be made.
    pub(crate) fn comes_alone(&self) -> bool {
        let InputDto { url, upload_id, recording_id, broadcast_id, live: _ } = &self.input;
        let inputs = url.is_none() && upload_id.is_none() && recording_id.is_none() && broadcast_id.is_none();
        let pictures = self.thumbnail.is_none() && self.thumbnails.is_none();
        let recipe =
            self.profile.is_none() && self.outputs.is_none() && self.edit.is_none() && self.ladder.is_none();
        let job =
            self.priority.is_none() && self.quality.is_none() && self.callback_url.is_none() && !self.force;
        inputs && pictures && recipe && job
    }
}

/// The form of `POST /recordings`.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes what is read as it comes")]
pub(crate) struct RecordingFormDto {
    pub(crate) title: Option<String>,
    /// A profile's name.
    pub(crate) profile: Option<String>,
    #[schema(value_type = String, format = Binary)]
    pub(crate) file: Vec<u8>,
}

/// Body of `PATCH /recordings/{id}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "title": "Launch", "access": "public" }))]
pub(crate) struct PatchRecordingDto {
    pub(crate) title: Option<String>,
    pub(crate) access: Option<Access>,
}

/// A recording.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RecordingDto {
    pub(crate) id: RecordingId,
    pub(crate) title: String,
    pub(crate) status: RecordingStatus,
    pub(crate) access: Access,
    pub(crate) duration_seconds: Option<f64>,
    pub(crate) source: Option<SourceDto>,
    pub(crate) renditions: Vec<RenditionDto>,
    pub(crate) hls_url: Option<String>,
    pub(crate) dash_url: Option<String>,
    /// What can be downloaded; `best` is the first of the others.
    pub(crate) mp4: Vec<DownloadDto>,
    pub(crate) thumbnail_url: Option<String>,
    /// WebVTT whose cues name parts of sheets (`#xywh=`).
    pub(crate) storyboard_url: Option<String>,
    /// The player page.
    pub(crate) watch_url: String,
    pub(crate) error: Option<ErrorDto>,
    pub(crate) metadata: Value,
    /// The newest transcode of this recording.
    pub(crate) job_id: Option<JobId>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) ready_at: Option<DateTime<Utc>>,
}

/// What a recording was made from.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SourceDto {
    /// Without credentials and query.
    pub(crate) url: Option<String>,
    pub(crate) upload_id: Option<String>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) sha256: Option<String>,
    pub(crate) format: Option<String>,
    pub(crate) video_codec: Option<String>,
    pub(crate) audio_codec: Option<String>,
    /// As seen: square pixels, upright.
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    pub(crate) fps: Option<f64>,
    pub(crate) warnings: Vec<String>,
}

/// An encoded rung.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RenditionDto {
    pub(crate) name: String,
    /// `video`, `audio` or `text`.
    #[schema(example = "video")]
    pub(crate) kind: String,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    pub(crate) frame_rate: Option<f64>,
    /// RFC 6381.
    pub(crate) codecs: String,
    /// Measured peak, bits per second.
    pub(crate) bandwidth: u64,
    pub(crate) average_bandwidth: u64,
    /// BCP 47.
    pub(crate) language: Option<String>,
    /// What a menu calls it, where it is one of several tracks.
    #[schema(example = "English")]
    pub(crate) label: Option<String>,
    pub(crate) playlist_url: String,
}

/// A page of recordings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordingListDto {
    pub(crate) recordings: Vec<RecordingDto>,
    pub(crate) next_cursor: Option<String>,
}

/// What the rest of the API knows of a recording, gathered for its answer.
pub(crate) struct Gathered {
    pub(crate) recording: Recording,
    pub(crate) source: Option<Source>,
    pub(crate) renditions: Vec<Rendition>,
    pub(crate) has_picture: bool,
    pub(crate) has_storyboard: bool,
    pub(crate) mp4: Vec<DownloadDto>,
    pub(crate) job_id: Option<JobId>,
}

impl From<Gathered> for RecordingDto {
    fn from(all: Gathered) -> Self {
        let Gathered { recording, source, renditions, has_picture, has_storyboard, mp4, job_id } = all;
        let base = format!("/api/v1/recordings/{}", recording.id);
        let playable = !renditions.is_empty();
        Self {
            id: recording.id,
            title: recording.title,
            status: recording.status,
            access: recording.access,
            duration_seconds: recording.duration_seconds,
            source: source.as_ref().map(SourceDto::from),
            renditions: renditions
                .iter()
                .map(|rendition| {
                    RenditionDto::new(rendition, &format!("{base}/stream/playlist.m3u8?quality="))
                })
                .collect(),
            hls_url: playable.then(|| format!("{base}/stream/master.m3u8")),
            dash_url: playable.then(|| format!("{base}/stream/manifest.mpd")),
            mp4,
            thumbnail_url: has_picture.then(|| format!("{base}/thumbnail")),
            storyboard_url: has_storyboard.then(|| format!("{base}/storyboard.vtt")),
            watch_url: format!("/watch/{}", recording.id),
            error: recording.error.map(ErrorDto::from),
            metadata: recording.metadata,
            job_id,
            created_at: recording.created_at,
            updated_at: recording.updated_at,
            ready_at: recording.ready_at,
        }
    }
}

impl RenditionDto {
    /// A rendition whose playlist is at `base` and its name.
    pub(crate) fn new(rendition: &Rendition, base: &str) -> Self {
        Self {
            name: rendition.rung.clone(),
            kind: match rendition.kind {
                TrackKind::Video => "video".to_owned(),
                TrackKind::Audio => "audio".to_owned(),
                TrackKind::Text => "text".to_owned(),
            },
            width: rendition.width,
            height: rendition.height,
            frame_rate: rendition.frame_rate.map(|(num, den)| f64::from(num) / f64::from(den.max(1))),
            codecs: rendition.codec.clone(),
            bandwidth: rendition.peak_bandwidth,
            average_bandwidth: rendition.average_bandwidth,
            language: rendition.language.clone(),
            label: rendition.label.clone(),
            playlist_url: format!("{base}{}", rendition.rung),
        }
    }
}

impl From<&Source> for SourceDto {
    fn from(source: &Source) -> Self {
        let probe = source.probe.as_ref();
        let video = probe.and_then(|probe| probe.video.as_ref());
        let size = video.map(|video| video.display_size());
        Self {
            url: match &source.origin {
                Input::Url(url) => Some(redacted(url)),
                _ => None,
            },
            upload_id: match &source.origin {
                Input::UploadId(id) => Some(id.to_string()),
                _ => None,
            },
            size_bytes: source.bytes,
            sha256: source.sha256.as_ref().map(hex::encode),
            format: probe.map(|probe| probe.format.clone()),
            video_codec: video.map(|video| video.codec.clone()),
            audio_codec: probe.and_then(|probe| probe.audio.first()).map(|audio| audio.codec.clone()),
            width: size.map(|(width, _)| width.round() as u32),
            height: size.map(|(_, height)| height.round() as u32),
            fps: video.map(|video| video.rate.as_f64()),
            warnings: probe.map(|probe| probe.warnings.clone()).unwrap_or_default(),
        }
    }
}

/// A viewer's way in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybackTokenDto {
    pub(crate) token: String,
    pub(crate) expires_at: DateTime<Utc>,
    /// Absolute URL of the master playlist.
    pub(crate) hls_url: String,
    /// Absolute URL of the DASH manifest.
    pub(crate) dash_url: String,
    pub(crate) thumbnail_url: String,
    /// `null` where there is no storyboard.
    pub(crate) storyboard_url: Option<String>,
    /// Gives a newer token while this one lasts.
    pub(crate) renew_url: String,
}

/// Probe metadata, streaming status and figures of a recording.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordingInfoDto {
    pub(crate) id: RecordingId,
    pub(crate) title: String,
    pub(crate) status: RecordingStatus,
    pub(crate) format: Option<String>,
    pub(crate) duration_seconds: Option<f64>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) bitrate: Option<u64>,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    pub(crate) fps: Option<f64>,
    /// Codecs of the source, by FFmpeg's names.
    pub(crate) codecs: Vec<String>,
    pub(crate) streams: Vec<Value>,
    pub(crate) streaming: StreamingDto,
    /// `null` until somebody has watched.
    pub(crate) analytics: Option<ViewingDto>,
}

/// What can be streamed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamingDto {
    #[schema(example = json!(["hls", "dash"]))]
    pub(crate) formats: Vec<String>,
    pub(crate) renditions: Vec<RenditionDto>,
    pub(crate) hls_url: Option<String>,
    pub(crate) dash_url: Option<String>,
}

/// What a viewer's page learns of its recording.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ViewerInfoDto {
    pub(crate) id: RecordingId,
    pub(crate) title: String,
    pub(crate) status: RecordingStatus,
    pub(crate) duration_seconds: Option<f64>,
    pub(crate) renditions: Vec<RenditionDto>,
    /// Relative to this answer; `null` where there is none yet.
    pub(crate) storyboard_url: Option<String>,
    pub(crate) error: Option<ErrorDto>,
    /// 0 to 1; `null` where nothing is under way.
    pub(crate) progress: Option<f64>,
    pub(crate) phase: Option<String>,
    pub(crate) renditions_progress: Vec<RenditionProgressDto>,
}

/// How far one rendition is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RenditionProgressDto {
    pub(crate) name: String,
    pub(crate) progress: f64,
    pub(crate) fps: Option<f32>,
    pub(crate) speed: Option<f32>,
    pub(crate) eta_seconds: Option<f32>,
}
