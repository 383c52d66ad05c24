//! What is asked of a livestream. A broadcast takes a copy when it begins, so that edits reach the next one.

use serde::{Deserialize, Serialize};

use crate::ids::RecordingId;
use crate::job::state::words;
use crate::media::codec::Codec;

/// What is asked of a livestream, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSpec {
    #[serde(default = "pushed")]
    pub source: SourceKind,
    /// Of SRT: a worker calls the address in the source, instead of listening for a publisher.
    #[serde(default)]
    pub calls: bool,
    /// Publishers are let in only after a `start`.
    #[serde(default)]
    pub require_start: bool,
    #[serde(default)]
    pub dvr_enabled: bool,
    /// How far back viewers may seek, in seconds, 60 to 86,400, where `dvr_enabled`.
    #[serde(default = "default_window")]
    pub dvr_window: u32,
    /// Parts are listed, and playlists wait for what comes next.
    #[serde(default)]
    pub low_latency: bool,
    #[serde(default)]
    pub settings: LiveSettings,
}

fn pushed() -> SourceKind {
    SourceKind::Push
}

fn default_window() -> u32 {
    7200
}

impl Default for LiveSpec {
    fn default() -> Self {
        Self {
            source: SourceKind::Push,
            calls: false,
            require_start: false,
            dvr_enabled: false,
            dvr_window: default_window(),
            low_latency: false,
            settings: LiveSettings::default(),
        }
    }
}

impl LiveSpec {
    /// Whether what was on air is kept when it is over.
    pub fn records(&self) -> bool {
        self.settings.record.unwrap_or(self.dvr_enabled)
    }

    /// Whether a worker fetches it, instead of a publisher sending it.
    pub fn is_pull(&self) -> bool {
        match self.source {
            SourceKind::Push => false,
            SourceKind::Rtsp | SourceKind::File => true,
            SourceKind::Srt => self.calls,
        }
    }

    /// Whether a publisher sends it by SRT, to a port that a worker listens on.
    pub fn is_listened_for(&self) -> bool {
        self.source == SourceKind::Srt && !self.calls
    }
}

words! {
    /// Where the media comes from.
    SourceKind("kind of source") {
        /// A publisher sends it by RTMP, with the stream key.
        Push = "push",
        /// It is fetched from a camera or server.
        Rtsp = "rtsp",
        /// A publisher sends it by SRT, to a port of its own; or a worker calls an address.
        Srt = "srt",
        /// A file, played out as if it were live.
        File = "file",
    }
}

/// Where a pull comes from; sealed in the database, because addresses hold credentials.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of SRT, 10 to 79 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
    /// Of a file: from the start again when it ends.
    #[serde(default, rename = "loop")]
    pub repeat: bool,
    /// Of a file: not the one at `url`, but the best of what this recording has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingId>,
}

impl std::fmt::Debug for LiveSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LiveSource(…)")
    }
}

/// How it is encoded and cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveSettings {
    /// Off: the only rung has the source's own size.
    pub enable_transcoding: bool,
    pub resolutions: Vec<Resolution>,
    pub codec: Codec,
    /// Seconds a segment aims at, 1 to 30.
    pub segment_duration: u32,
    /// Milliseconds a part aims at, 100 to 2,000.
    pub part_duration_ms: u32,
    /// Segments listed without DVR, 3 to 60.
    pub playlist_length: u32,
    /// kbit/s of AAC, 32 to 320.
    pub audio_bitrate: u32,
    /// Seconds from one keyframe to the next, 1 to 10.
    pub keyframe_interval: u32,
    pub gpu_acceleration: bool,
    /// `None`: as `dvr_enabled` says.
    pub record: Option<bool>,
    /// `None`: 30.
    pub retention_days: Option<u32>,
    pub overload: Overload,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            enable_transcoding: true,
            resolutions: vec![Resolution::R1080, Resolution::R720, Resolution::R480, Resolution::R360],
            codec: Codec::H264,
            segment_duration: 6,
            part_duration_ms: 500,
            playlist_length: 10,
            audio_bitrate: 128,
            keyframe_interval: 2,
            gpu_acceleration: false,
            record: None,
            retention_days: None,
            overload: Overload::DropRung,
        }
    }
}

words! {
    /// What is done where encoding is slower than what comes in.
    Overload("answer to overload") {
        /// The best rung is left out until the end of the broadcast, and the next one where that is not enough; one always stays.
        DropRung = "drop_rung",
        /// Nothing: viewers fall behind.
        Keep = "keep",
    }
}

words! {
    /// A rung of the live ladder.
    Resolution("resolution") {
        R1080 = "1080p",
        R720 = "720p",
        R480 = "480p",
        R360 = "360p",
        R240 = "240p",
    }
}
