//! What was found out about a source. The worker fills it in from ffprobe; planning needs nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::grid::Rate;
use super::tracks::Role;

/// A source, looked into.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// FFmpeg's name of the container, for example `mov,mp4,m4a,3gp,3g2,mj2`.
    pub format: String,
    /// Seconds from the start of the earliest track to the end of the latest that is used.
    pub duration_seconds: f64,
    pub size_bytes: u64,
    /// Overall bits per second.
    pub bitrate: Option<u64>,
    pub video: Option<VideoStream>,
    /// The default one first.
    pub audio: Vec<AudioStream>,
    /// Number of subtitle tracks of any kind.
    pub subtitles: u32,
    /// Those of them that are text.
    #[serde(default)]
    pub text: Vec<TextStream>,
    /// What the container says of the work, as far as it is known (`media::tags`).
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Things a person should know that do not stop the job.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The video track that is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoStream {
    /// Index in the file, as `-map 0:index` wants it.
    pub index: u32,
    pub codec: String,
    /// Stored size in pixels.
    pub width: u32,
    pub height: u32,
    /// Shape of a pixel; 1:1 where unknown or absurd.
    pub sample_aspect: (u32, u32),
    /// Degrees clockwise the picture must be turned: 0, 90, 180 or 270.
    pub rotation: u32,
    /// True where the container turns or mirrors the picture; FFmpeg does that before any filter.
    #[serde(default)]
    pub display_matrix: bool,
    pub pixel_format: String,
    pub interlaced: bool,
    pub transfer: Transfer,
    #[serde(default)]
    pub unsaid_colours: UnsaidColours,
    /// The constant rate the source has or is brought to.
    pub rate: Rate,
    /// True where frames did not come at that rate.
    pub variable_rate: bool,
    /// Seconds from the start of the file to the end of the last frame.
    pub end_seconds: f64,
    /// Coded frames found by the packet scan.
    pub packets: u64,
    /// Longest time from a keyframe to the next, or to the end, in seconds; zero in what was looked into before this was asked.
    #[serde(default)]
    pub keyframe_gap_seconds: f64,
}

/// Transfer characteristic, as far as it decides on tone mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transfer {
    Sdr,
    /// SMPTE ST 2084.
    Pq,
    /// ARIB STD-B67.
    Hlg,
}

/// What a track does not say of its colours, or says in words without a meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsaidColours {
    pub primaries: bool,
    /// From RGB to the stored samples.
    pub matrix: bool,
}

/// An audio track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioStream {
    pub index: u32,
    pub codec: String,
    pub sample_rate: u32,
    pub channels: u32,
    /// BCP 47.
    pub language: Option<String>,
    /// Fit for a menu.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default)]
    pub role: Role,
    /// Seconds from the start of the file to the end of the track, where known.
    pub end_seconds: Option<f64>,
}

/// A subtitle track that is text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextStream {
    pub index: u32,
    pub codec: String,
    /// BCP 47.
    pub language: Option<String>,
    /// Fit for a menu.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default)]
    pub role: Role,
}

impl VideoStream {
    /// How many seconds of media must be decoded to get to a place so many seconds into the source.
    pub fn decoded_before(&self, seconds: f64) -> f64 {
        seconds.min(self.keyframe_gap_seconds)
    }

    /// The size as seen: square pixels, turned upright.
    pub fn display_size(&self) -> (f64, f64) {
        let (num, den) = self.sample_aspect;
        let width = f64::from(self.width) * f64::from(num) / f64::from(den);
        let height = f64::from(self.height);
        if self.rotation % 180 == 90 { (height, width) } else { (width, height) }
    }
}
