//! DASH manifests over CMAF segments, as text (ISO/IEC 23009-1).
//!
//! A video is one period; a live stream one for each uninterrupted stretch. Times are those after the edit list of the init segment,
//! which is what the standard counts from and what players apply, so that picture and sound of a video begin at zero, without a
//! `presentationTimeOffset`. Nothing here reads a clock or a file, and all arithmetic is in whole numbers: the same input gives the same bytes on every host.
#![forbid(unsafe_code)]

mod render;

use chrono::{DateTime, Utc};

use super::hls::Ticks;
use super::tracks::Role;

/// All that a player can choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Whether and how it may still change.
    pub kind: ManifestKind,
    /// One after the other. At least one.
    pub periods: Vec<Period>,
}

/// What is played without a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// The same in every version of a manifest. Unique in it.
    pub id: String,
    /// On the timeline of the manifest.
    pub start: Ticks,
    /// What is played at the same time, and what may be played instead of each other.
    pub sets: Vec<AdaptationSet>,
}

/// Whether and how a manifest may still change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    /// Complete, and never changes again.
    Static,
    /// Segments are only ever added.
    Growing {
        /// The start of the presentation as if it had been broadcast. Every segment that is ever listed must have been over by the
        /// time it is listed: a player takes it for not yet there before. The same in every version of a manifest.
        available_from: DateTime<Utc>,
        /// When this version of the manifest was made.
        published: DateTime<Utc>,
        /// Where the next version is, relative to this one.
        next: String,
    },
    /// Segments come at the end and leave at the beginning.
    Live {
        /// When the timeline of the manifest began.
        available_from: DateTime<Utc>,
        /// When this version of the manifest was made.
        published: DateTime<Utc>,
        /// Seconds that are listed; `None`: all of it.
        window: Option<u32>,
        /// The longest that a segment may be, in seconds.
        target_duration: u32,
    },
}

/// Representations of the same content in the same codec, among which a player switches at any segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdaptationSet {
    /// Picture, sound or text.
    pub content: Content,
    /// At least one.
    pub representations: Vec<Representation>,
}

/// Picture, sound or text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Video,
    Audio {
        /// By RFC 5646, when it is known. Left out of the manifest where it is not well-formed.
        language: Option<String>,
        /// The name in a player's menu.
        label: String,
        /// Played when the viewer has chosen nothing.
        main: bool,
        role: Role,
    },
    /// WebVTT in one file (DASH-IF IOP 4.3, 6.4.5).
    Text {
        /// As with sound.
        language: Option<String>,
        /// The name in a player's menu.
        label: String,
        role: Role,
    },
}

/// One rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Representation {
    /// Unique within the manifest.
    pub id: String,
    /// RFC 6381.
    pub codec: String,
    /// Peak bit rate in bits a second.
    pub bandwidth: u64,
    pub format: Format,
    pub timeline: Timeline,
}

/// What a decoder has to deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Video {
        /// In pixels, which are square.
        width: u32,
        height: u32,
        /// Frames a second as numerator and denominator.
        frame_rate: Option<(u32, u32)>,
    },
    Audio {
        /// Samples a second.
        sample_rate: Option<u32>,
        channels: u32,
    },
    Text,
}

/// The segments of a rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Ticks a second, of the init segment.
    pub timescale: u32,
    /// The number of the first segment.
    pub first_number: u64,
    /// Where the first segment begins, in ticks.
    pub first_start: u64,
    /// What lies at the start of the period, in ticks.
    pub period_start: u64,
    /// Ticks that each segment lasts, in order, without a hole. At least one.
    pub durations: Vec<u64>,
    pub files: Files,
}

/// Where the segments of a rendition are, relative to the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// Names made of the number of the segment.
    Template {
        init: String,
        /// With `$Number$` where the number stands; `$$` is a dollar sign.
        media: String,
    },
    /// Any names.
    List {
        init: String,
        /// As many as there are segments.
        media: Vec<String>,
    },
    /// All segments in one file, without an init segment.
    Whole(String),
}

impl Timeline {
    /// Of a video: it begins at zero with segment zero.
    pub fn from_zero(timescale: u32, durations: Vec<u64>, files: Files) -> Self {
        Self { timescale, first_number: 0, first_start: 0, period_start: 0, durations, files }
    }

    /// From the start of the first segment to the end of the last.
    pub fn duration(&self) -> Ticks {
        Ticks { ticks: self.durations.iter().sum(), timescale: self.timescale }
    }

    /// How long the longest segment lasts.
    fn longest(&self) -> Ticks {
        Ticks { ticks: self.durations.iter().copied().max().unwrap_or(0), timescale: self.timescale }
    }
}

#[cfg(test)]
mod tests;
