//! What a broadcast is made of: decided when it begins, and kept through all that comes after, so that players need learn nothing
//! new when a publisher returns or another takes over.

use serde::{Deserialize, Serialize};

use super::cadence::Cadence;
use crate::media::codec::Codec;

/// The plan of a broadcast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LivePlan {
    pub cadence: Cadence,
    /// Frames per second as a fraction, for who only reads.
    pub frame_rate: (u32, u32),
    pub codec: Codec,
    /// From the best to the least; empty for sound alone.
    pub rungs: Vec<LiveRung>,
    pub audio: Option<LiveAudio>,
    /// Parts are listed.
    pub low_latency: bool,
    /// Seconds that are listed.
    pub window_seconds: u32,
}

/// A rung of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRung {
    pub name: String,
    /// Even.
    pub width: u32,
    pub height: u32,
    /// Bits per second.
    pub bitrate: u64,
    /// VBV, in bits.
    pub buffer: u64,
}

/// The sound: AAC-LC stereo, once for all rungs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveAudio {
    /// Bits per second.
    pub bitrate: u64,
    /// 44,100 or 48,000.
    pub sample_rate: u32,
}

/// The name of the one track of sound.
pub const AUDIO: &str = "audio";

impl LivePlan {
    /// The names of all tracks, in their order: the rungs, then the sound.
    pub fn tracks(&self) -> impl Iterator<Item = &str> {
        self.rungs.iter().map(|rung| rung.name.as_str()).chain(self.audio.iter().map(|_| AUDIO))
    }

    /// Ticks a second of a track's clock; `None` where there is no such track.
    pub fn timescale(&self, track: &str) -> Option<u32> {
        if track == AUDIO {
            return self.audio.as_ref().map(|audio| audio.sample_rate);
        }
        self.rungs.iter().any(|rung| rung.name == track).then(|| self.cadence.rate.timescale())
    }
}
