//! What a person asked for, with the recipe frozen in.

use serde::{Deserialize, Serialize};
use url::Url;

use super::edit::Edit;
use super::quality::QualityWish;
use super::state::words;
use crate::ids::{BroadcastId, RecordingId, SetId, SourceId, UploadId};
use crate::media::grid::Grid;
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
        Storyboard = "storyboard",
    }
}

words! {
    /// Where the rungs come from.
    #[derive(Default)]
    LadderChoice("ladder") {
        /// From the recipe, as far as the source reaches.
        #[default]
        Fixed = "fixed",
        /// From the recipe too, but without those that add nothing to this source, and with ceilings that suit it.
        Auto = "auto",
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
    /// What was on air, joined.
    BroadcastId(BroadcastId),
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
    /// Nobody named the outputs: what only longer recordings want is left out of short ones.
    #[serde(default)]
    pub outputs_by_default: bool,
    #[serde(default, skip_serializing_if = "Edit::is_empty")]
    pub edit: Edit,
    #[serde(default)]
    pub ladder: LadderChoice,
    /// What is to be measured of the renditions, and what they must reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityWish>,
    /// A picture that was asked for by its time and size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureRequest>,
    /// What becomes the recording's poster. A transcode without one keeps the poster there is, or makes [`Poster::DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poster: Option<Poster>,
    /// A series of pictures at an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesRequest>,
    /// The files a conversion to MP4 brings, those that were there before among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<DownloadRequest>,
    /// What is there of it already, and is not made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
    /// A broadcast whose renditions become those of the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
    /// Where the job's events are sent, besides what webhooks get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<Url>,
    /// Encode even what was encoded before.
    #[serde(default)]
    pub force: bool,
    /// Tell what would be done, and do nothing of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Renditions of a finished set of the recording that become a part of the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopt {
    pub set: SetId,
    /// Each by its name, with how many segments it has.
    pub renditions: Vec<(String, u64)>,
}

impl Adopt {
    /// How many segments of a rendition there are; `None` where it is to be made.
    pub fn segments(&self, name: &str) -> Option<u64> {
        self.renditions.iter().find(|(known, _)| known == name).map(|(_, segments)| *segments)
    }
}

/// What was encoded on air, and is not encoded again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub broadcast: BroadcastId,
    /// On which all of the recording is cut.
    pub grid: Grid,
    /// Frames of it for which a picture is held: a publisher was away.
    #[serde(default)]
    pub held_frames: u64,
    /// The profile has them, too.
    pub rungs: Vec<TakenRung>,
    pub sound: bool,
}

/// A rung as it was on air.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenRung {
    pub name: String,
    pub width: u32,
    pub height: u32,
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

/// What of the renditions of a set is offered as files: the pictures, each with the default sound, or that sound where there is no picture.
/// Both come best first, or the default first.
pub fn offered<T>(pictures: impl IntoIterator<Item = T>, sounds: impl IntoIterator<Item = T>) -> Vec<T> {
    let pictures: Vec<T> = pictures.into_iter().collect();
    if pictures.is_empty() { sounds.into_iter().take(1).collect() } else { pictures }
}

/// Which picture of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PictureRequest {
    /// Milliseconds from the start of the source; `None` for the moment of the recording's poster.
    pub at_ms: Option<u64>,
    /// Pixels of the box the picture fits into.
    pub width: u32,
    pub height: u32,
}

/// Which moment of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// At 5 s, or in the middle of a recording that is shorter than twice that.
    Usual,
    /// Milliseconds from the start; the last frame where the recording is shorter.
    AtMs(u64),
    /// Part of the recording, 0 to 100.
    Percent(f64),
    /// The frame that stands best for the whole.
    Representative,
}

/// The picture a recording is known by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Poster {
    pub moment: Moment,
    /// Pixels of the box the picture fits into.
    pub width: u32,
    pub height: u32,
}

impl Poster {
    /// What a recording gets where nobody says otherwise: 320x180.
    pub const DEFAULT: Self = Self { moment: Moment::Usual, width: 320, height: 180 };

    /// What it is asked for by, once it is there.
    pub fn request(self) -> PictureRequest {
        PictureRequest { at_ms: None, width: self.width, height: self.height }
    }
}

/// A series of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SeriesRequest {
    /// Seconds from one to the next.
    pub interval_seconds: f64,
    /// Pixels; the height follows from the shape. Never more than the best rendition has.
    pub width: u32,
}
