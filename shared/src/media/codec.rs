//! The codecs of a picture.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// How the pictures of a rung are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// What every player plays.
    #[default]
    H264,
    /// As `hvc1`: Apple's players take no `hev1`.
    Hevc,
    Vp9,
    Av1,
}

impl Codec {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::H264, Self::Hevc, Self::Vp9, Self::Av1];

    /// The word in profiles.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Hevc => "hevc",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
        }
    }

    /// Values of `crf` that mean something to all encoders of this codec. Zero is lossless to one and "not set" to another.
    pub fn crf(self) -> RangeInclusive<u64> {
        match self {
            Self::H264 | Self::Hevc => 1..=51,
            Self::Vp9 | Self::Av1 => 1..=63,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
