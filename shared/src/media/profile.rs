//! Profiles: named recipes, built in or written inline, checked before anything is accepted.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codec::Codec;
use super::hls::Bandwidth;
use crate::job::retention::Retention;

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
    /// Which encoders may make the rungs.
    #[serde(default)]
    pub hardware: Hardware,
    /// Seconds a segment aims at, 1 to 30.
    pub segment_duration: u32,
    /// How long what is made by it is kept, where that is not the project's usual age.
    #[serde(default, skip_serializing_if = "Retention::is_empty")]
    pub retention: Retention,
}

/// Whether a graphics processor encodes the rungs of a profile. Decided for each rung when its job is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hardware {
    /// Never.
    #[default]
    None,
    /// Where a worker that is there has proven that it can.
    PreferGpu,
    /// Always; the job waits for such a worker.
    RequireGpu,
}

impl Hardware {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::PreferGpu, Self::RequireGpu];

    /// The word in profiles.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::PreferGpu => "prefer_gpu",
            Self::RequireGpu => "require_gpu",
        }
    }
}

/// One step of the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Lower-case letters, digits and `_`, at most 32; unique in the profile.
    pub name: String,
    /// The box a landscape picture fits into, in pixels; turned for a portrait picture.
    pub width: u32,
    pub height: u32,
    #[serde(default)]
    pub codec: Codec,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioRecipe {
    /// Bits per second, 32,000 to 320,000.
    pub bitrate: u64,
    #[serde(default)]
    pub tracks: AudioTracks,
    /// Integrated loudness (EBU R 128) that every track is brought to, in LUFS, -31 to -10; `None` leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loudness: Option<f64>,
}

impl AudioRecipe {
    /// Every track at this bitrate, as loud as it is.
    pub fn at(bitrate: u64) -> Self {
        Self { bitrate, tracks: AudioTracks::All, loudness: None }
    }
}

/// Which of a source's audio tracks are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AudioTracks {
    #[default]
    All,
    /// The one that a player would choose.
    Default,
}

impl AudioTracks {
    /// All words for it.
    pub const ALL: [Self; 2] = [Self::All, Self::Default];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Default => "default",
        }
    }
}

/// How much work an encoder puts into a picture, in x264's words for it: a closed list, because the word reaches a command line.
/// Every other encoder has a table of its own.
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

    /// The word, which x264 and x265 know.
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
            codec: Codec::H264,
            rate_control: RateControl::CappedCrf { crf, max_bitrate: kbps * 1000, buffer: kbps * 2000 },
            max_frame_rate: None,
        };
        let steady = |name: &str, width, height, kbps: u64, fps| Rung {
            name: name.into(),
            width,
            height,
            codec: Codec::H264,
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
        let audio = Some(AudioRecipe::at(audio));
        Some(Self {
            name: Some(name.into()),
            rungs,
            audio,
            preset,
            hardware: Hardware::None,
            segment_duration,
            retention: Retention::default(),
        })
    }

    /// Reads a profile from a body, naming everything that is wrong at once.
    ///
    /// Defaults: codec `h264`, preset `medium`, no hardware, segments of 6 s, a buffer of two seconds of the ceiling, audio at 128 kbit/s unless `"audio": null`.
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
            "audio": {"bitrate": 1, "tracks": "some", "loudness": -9.5}
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
            "/audio/tracks",
            "/audio/loudness",
        ] {
            assert!(pointers.contains(&pointer), "{pointer} is missing in {pointers:?}");
        }
    }

    #[test]
    fn a_rung_has_the_codec_of_its_profile_or_its_own() {
        let profile = Profile::from_json(&json!({
            "codec": "av1",
            "hardware": "prefer_gpu",
            "rungs": [
                {"name": "best", "width": 1280, "height": 720, "crf": 63, "max_bitrate": 3_000_000},
                {"name": "safe", "width": 1280, "height": 720, "codec": "h264", "crf": 51, "max_bitrate": 2_000_000},
            ],
        }))
        .unwrap();
        assert_eq!(
            profile.rungs.iter().map(|rung| rung.codec).collect::<Vec<_>>(),
            [Codec::Av1, Codec::H264]
        );
        assert_eq!(profile.hardware, Hardware::PreferGpu);

        let faults = Profile::from_json(&json!({
            "codec": "theora",
            "hardware": "cpu",
            "rungs": [
                {"name": "a", "width": 64, "height": 64, "codec": "H265", "bitrate": 500_000},
                {"name": "b", "width": 64, "height": 64, "codec": "hevc", "crf": 52, "max_bitrate": 500_000},
                {"name": "c", "width": 64, "height": 64, "codec": "vp9", "crf": 64, "max_bitrate": 500_000},
                {"name": "d", "width": 64, "height": 64, "codec": "av1", "crf": 0, "max_bitrate": 500_000},
            ],
        }))
        .unwrap_err();
        let pointers: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/codec", "/rungs/0/codec", "/rungs/1/crf", "/rungs/2/crf", "/rungs/3/crf", "/hardware"]
        );
    }

    #[test]
    fn a_recipe_of_before_there_were_codecs_is_read() {
        let old = json!({"rungs": [{"name": "a", "width": 64, "height": 64, "bitrate": 500_000, "buffer": 1_000_000}],
            "preset": "fast", "segment_duration": 6});
        let profile: Profile = serde_json::from_value(old).unwrap();
        assert_eq!((profile.rungs[0].codec, profile.hardware), (Codec::H264, Hardware::None));
    }

    #[test]
    fn sound_is_of_all_tracks_and_as_loud_as_it_is() {
        let audio =
            |audio| Profile::from_json(&json!({"rungs": [], "audio": audio})).map(|it| it.audio.unwrap());
        assert_eq!(audio(json!({})).unwrap(), AudioRecipe::at(128_000));
        let asked = audio(json!({"tracks": "default", "loudness": -23})).unwrap();
        assert_eq!((asked.tracks, asked.loudness), (AudioTracks::Default, Some(-23.0)));
        for loudness in [json!(-31.1), json!(0), json!("-23"), json!(true)] {
            assert!(audio(json!({"loudness": loudness})).is_err(), "{loudness}");
        }
        let old: AudioRecipe = serde_json::from_value(json!({"bitrate": 96_000})).unwrap();
        assert_eq!(old, AudioRecipe::at(96_000), "a recipe of before there was a choice");
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
