//! What a person asked for, with the recipe frozen in.

use serde::{Deserialize, Serialize};
use url::Url;

use super::edit::Edit;
use super::state::words;
use crate::ids::{RecordingId, SourceId, UploadId};
use crate::media::profile::Profile;

words! {
    /// What a job does.
    JobKind("job kind") {
        Transcode = "transcode",
        Thumbnail = "thumbnail",
        Probe = "probe",
        VodConvert = "vod_convert",
    }
}

words! {
    /// What a transcode makes.
    Output("output") {
        Hls = "hls",
        Dash = "dash",
        Mp4 = "mp4",
        Thumbnail = "thumbnail",
    }
}

/// Where the bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// `http`, `https`, or `file` under a configured root. May hold credentials: show it with `net::redacted`.
    Url(Url),
    UploadId(UploadId),
    RecordingId(RecordingId),
}

/// A job's request and frozen recipe, as kept with the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub input: Input,
    pub source: SourceId,
    /// Transcodes have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    #[serde(default)]
    pub outputs: Vec<Output>,
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    pub edit: Edit,
    /// Thumbnails have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureRequest>,
    /// The files a conversion to MP4 brings, those that were there before among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<DownloadRequest>,
}

/// A rendition as one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRequest {
    /// The picture, with which the sound goes, or the sound where there is no picture.
    pub rung: String,
    /// Of the picture, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

/// Which picture of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PictureRequest {
    /// Milliseconds from the start; `None` for the default picture (5 s, or earlier in a shorter recording).
    pub at_ms: Option<u64>,
    /// Pixels of the box the picture fits into.
    pub width: u32,
    pub height: u32,
}

impl PictureRequest {
    /// The picture a recording has anyway: at 5 s or earlier, 320x180.
    pub const DEFAULT: Self = Self { at_ms: None, width: 320, height: 180 };
}
