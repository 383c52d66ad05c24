//! What a broadcast is made of: decided when it begins, and kept through all that comes after, so that players need learn nothing
//! new when a publisher returns or another takes over.

use serde::{Deserialize, Serialize};

use super::cadence::{Cadence, Wanted};
use crate::live::spec::{LiveSpec, Resolution};
use crate::media::codec::Codec;
use crate::media::grid::Rate;
use crate::media::ladder::fit;
use crate::media::probe::Probe;
use crate::media::profile::{RateControl, Rung};

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

/// Pictures a second, at most: what comes faster is thinned out.
const FASTEST: Rate = Rate { num: 60, den: 1 };

impl LivePlan {
    /// The plan of a stream whose beginning was looked into; `None` where there is neither picture nor sound.
    pub fn new(spec: &LiveSpec, probe: &Probe) -> Option<Self> {
        let settings = &spec.settings;
        let audio = probe.audio.first().map(|stream| LiveAudio {
            bitrate: u64::from(settings.audio_bitrate) * 1000,
            // What is neither is brought to the one that all players take.
            sample_rate: if stream.sample_rate == 44_100 { 44_100 } else { 48_000 },
        });
        let rungs = probe.video.as_ref().map_or_else(Vec::new, |video| {
            let wanted: Vec<Rung> = settings.resolutions.iter().map(|it| rung(*it, settings.codec)).collect();
            let (width, height) = video.display_size();
            fit(&wanted, width, height)
                .into_iter()
                .map(|fitted| {
                    let bitrate = fitted.rung.rate_control.max_bitrate();
                    let (width, height) = (fitted.width, fitted.height);
                    LiveRung { name: fitted.rung.name, width, height, bitrate, buffer: bitrate }
                })
                .collect()
        });
        if rungs.is_empty() && audio.is_none() {
            return None;
        }
        let rate = probe.video.as_ref().map_or(Rate { num: 25, den: 1 }, |video| video.rate.snapped());
        let rate = if rate.as_f64() > FASTEST.as_f64() { FASTEST } else { rate };
        let cadence = Cadence::new(Wanted {
            rate,
            sample_rate: audio.as_ref().map(|audio| audio.sample_rate),
            keyframe_interval: settings.keyframe_interval,
            segment_duration: settings.segment_duration,
            part_duration_ms: settings.part_duration_ms,
        });
        let listed = settings.playlist_length * cadence.target_duration;
        Some(Self {
            cadence,
            frame_rate: (rate.num, rate.den),
            codec: settings.codec,
            rungs,
            audio,
            low_latency: spec.low_latency,
            window_seconds: if spec.dvr_enabled { spec.dvr_window.max(listed) } else { listed },
        })
    }

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

/// The rung of a resolution: the box it fits into and its constant rate.
fn rung(resolution: Resolution, codec: Codec) -> Rung {
    let (width, height, kbps) = match resolution {
        Resolution::R1080 => (1920, 1080, 5000),
        Resolution::R720 => (1280, 720, 2800),
        Resolution::R480 => (854, 480, 1400),
        Resolution::R360 => (640, 360, 800),
        Resolution::R240 => (426, 240, 400),
    };
    let bitrate = kbps * 1000;
    Rung {
        name: resolution.as_str().to_owned(),
        width,
        height,
        codec,
        rate_control: RateControl::Constant { bitrate, buffer: bitrate },
        max_frame_rate: None,
    }
}
