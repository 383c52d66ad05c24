//! Profiles: named recipes, built in or written inline, checked before anything is accepted.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hls::Bandwidth;

mod parse;

/// A recipe. Frozen into the job that uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// `None` for an inline profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// From the best to the least; empty for audio alone.
    #[serde(default)]
    pub rungs: Vec<Rung>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioRecipe>,
    pub preset: Preset,
    /// Seconds a segment aims at, 1 to 30.
    pub segment_duration: u32,
}

/// One step of the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Lower-case letters, digits and `_`, at most 32; unique in the profile.
    pub name: String,
    /// The box a landscape picture fits into, in pixels; turned for a portrait picture.
    pub width: u32,
    pub height: u32,
    #[serde(flatten)]
    pub rate_control: RateControl,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_frame_rate: Option<u32>,
}

/// How the encoder spends bits. Rates are bits per second, the buffer (VBV) is in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RateControl {
    /// Constant quality under a ceiling.
    CappedCrf { crf: u8, max_bitrate: u64, buffer: u64 },
    /// A steady rate.
    Constant { bitrate: u64, buffer: u64 },
}

impl RateControl {
    /// The declared ceiling in bits per second.
    pub fn max_bitrate(self) -> u64 {
        match self {
            Self::CappedCrf { max_bitrate, .. } => max_bitrate,
            Self::Constant { bitrate, .. } => bitrate,
        }
    }
}

impl RateControl {
    /// What a playlist says before anything can be measured. A segment may spend the whole buffer beside the ceiling.
    pub fn declared(self) -> Bandwidth {
        let (ceiling, buffer) = match self {
            Self::CappedCrf { max_bitrate, buffer, .. } => (max_bitrate, buffer),
            Self::Constant { bitrate, buffer } => (bitrate, buffer),
        };
        Bandwidth { peak: ceiling + buffer / 4, average: ceiling }
    }
}

/// AAC-LC stereo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioRecipe {
    /// Bits per second, 32,000 to 320,000.
    pub bitrate: u64,
}

/// x264's presets that make sense for a farm: a closed list, because the word reaches a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    Ultrafast,
    Superfast,
    Veryfast,
    Faster,
    Fast,
    Medium,
    Slow,
    Slower,
    Veryslow,
}

impl Preset {
    /// All of them, fastest first.
    pub const ALL: [Preset; 9] = [
        Self::Ultrafast,
        Self::Superfast,
        Self::Veryfast,
        Self::Faster,
        Self::Fast,
        Self::Medium,
        Self::Slow,
        Self::Slower,
        Self::Veryslow,
    ];

    /// The encoder's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ultrafast => "ultrafast",
            Self::Superfast => "superfast",
            Self::Veryfast => "veryfast",
            Self::Faster => "faster",
            Self::Fast => "fast",
            Self::Medium => "medium",
            Self::Slow => "slow",
            Self::Slower => "slower",
            Self::Veryslow => "veryslow",
        }
    }
}

/// What is wrong with one field of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) from the root of the profile.
    pub pointer: String,
    pub detail: String,
}

/// Names of the profiles every project has.
pub const BUILT_IN: [&str; 4] = ["web", "classic", "fast", "audio"];

impl Profile {
    /// A built-in profile.
    pub fn built_in(name: &str) -> Option<Self> {
        let crf = |name: &str, width, height, crf, kbps: u64| Rung {
            name: name.into(),
            width,
            height,
            rate_control: RateControl::CappedCrf { crf, max_bitrate: kbps * 1000, buffer: kbps * 2000 },
            max_frame_rate: None,
        };
        let steady = |name: &str, width, height, kbps: u64, fps| Rung {
            name: name.into(),
            width,
            height,
            rate_control: RateControl::Constant { bitrate: kbps * 1000, buffer: kbps * 2000 },
            max_frame_rate: Some(fps),
        };
        let (rungs, preset, segment_duration, audio) = match name {
            "web" => (
                vec![
                    crf("1080p", 1920, 1080, 22, 6000),
                    crf("720p", 1280, 720, 22, 3500),
                    crf("480p", 854, 480, 23, 1600),
                    crf("360p", 640, 360, 23, 900),
                ],
                Preset::Medium,
                6,
                128_000,
            ),
            "classic" => (
                vec![
                    steady("very_high", 1920, 1080, 4000, 30),
                    steady("high", 1920, 1080, 2000, 30),
                    steady("normal", 1280, 720, 1000, 24),
                    steady("low", 1280, 720, 500, 24),
                ],
                Preset::Medium,
                10,
                128_000,
            ),
            "fast" => (
                vec![crf("720p", 1280, 720, 23, 3500), crf("360p", 640, 360, 24, 900)],
                Preset::Veryfast,
                6,
                128_000,
            ),
            "audio" => (vec![], Preset::Medium, 6, 160_000),
            _ => return None,
        };
        let audio = Some(AudioRecipe { bitrate: audio });
        Some(Self { name: Some(name.into()), rungs, audio, preset, segment_duration })
    }

    /// Reads a profile from a body, naming everything that is wrong at once.
    ///
    /// Defaults: preset `medium`, segments of 6 s, a buffer of two seconds of the ceiling, audio at 128 kbit/s unless `"audio": null`.
    pub fn from_json(value: &Value) -> Result<Self, Vec<FieldError>> {
        parse::profile(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn built_ins_survive_their_own_check() {
        for name in BUILT_IN {
            let profile = Profile::built_in(name).unwrap();
            let mut body = serde_json::to_value(&profile).unwrap();
            body.as_object_mut().unwrap().remove("name");
            let read = Profile::from_json(&body).unwrap();
            assert_eq!(read.rungs, profile.rungs, "{name}");
            assert_eq!(read.audio, profile.audio, "{name}");
        }
    }

    #[test]
    fn every_fault_is_named_with_its_pointer() {
        let faults = Profile::from_json(&json!({
            "rungs": [
                {"name": "720p", "width": 1280, "height": 720, "crf": 90, "max_bitrate": 3_000_000},
                {"name": "720p", "width": 0, "height": 721, "bitrate": "fast"},
                {"name": "../x", "width": 640, "height": 360, "bitrate": 500_000, "crf": 20, "color": "red"},
            ],
            "preset": "warp; rm -rf /",
            "segment_duration": 0,
            "audio": {"bitrate": 1}
        }))
        .unwrap_err();
        let pointers: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        for pointer in [
            "/rungs/0/crf",
            "/rungs/1/name",
            "/rungs/1/width",
            "/rungs/1/height",
            "/rungs/1/bitrate",
            "/rungs/2/name",
            "/rungs/2/crf",
            "/rungs/2/color",
            "/preset",
            "/segment_duration",
            "/audio/bitrate",
        ] {
            assert!(pointers.contains(&pointer), "{pointer} is missing in {pointers:?}");
        }
    }

    #[test]
    fn nonsense_is_no_profile() {
        for body in
            [json!([]), json!("web"), json!({}), json!({"rungs": []}), json!({"rungs": {}}), json!(null)]
        {
            assert!(Profile::from_json(&body).is_err() || body == json!({"rungs": []}), "{body}");
        }
        // No rungs is audio alone; without audio there is nothing to make.
        assert!(Profile::from_json(&json!({"rungs": [], "audio": null})).is_err());
    }
}
