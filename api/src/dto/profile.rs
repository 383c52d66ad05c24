//! Profiles on the wire.

use reelmill_shared::job::retention::Retention;
use reelmill_shared::media::profile::{Profile, RateControl};
use serde::Serialize;
use utoipa::ToSchema;

use super::retention::AgeDto;

/// A profile.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProfileDto {
    pub(crate) name: Option<String>,
    /// Built-in profiles cannot be changed.
    pub(crate) built_in: bool,
    pub(crate) rungs: Vec<RungDto>,
    pub(crate) audio: Option<AudioDto>,
    /// How much work the encoders put into the picture, in x264's words.
    #[schema(example = "medium")]
    pub(crate) preset: String,
    /// `none`, `prefer_gpu` or `require_gpu`.
    #[schema(example = "none")]
    pub(crate) hardware: &'static str,
    /// Seconds.
    pub(crate) segment_duration: u32,
    /// How long what is made by it is kept; what is not named here is kept for as long as the project says.
    #[schema(value_type = std::collections::BTreeMap<String, AgeDto>, example = json!({ "sources_days": 7 }))]
    pub(crate) retention: Retention,
}

/// A profile as it is sent, by itself or inline in a job.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes what is read by hand, so that all mistakes are told at once")]
#[schema(example = json!({
    "name": "mobile",
    "rungs": [
        { "name": "360p", "width": 640, "height": 360, "crf": 23, "max_bitrate": 800000 },
        { "name": "360p_av1", "width": 640, "height": 360, "codec": "av1", "crf": 38, "max_bitrate": 500000 },
    ],
    "audio": { "bitrate": 96000, "tracks": "all", "loudness": -23 },
}))]
pub(crate) struct NewProfileDto {
    /// 1 to 64 lower-case letters, digits, `-` and `_`. None inline.
    pub(crate) name: Option<String>,
    /// From the best to the least; empty for audio alone.
    pub(crate) rungs: Vec<NewRungDto>,
    /// 128 kbit/s where it is left out; `null` for none.
    pub(crate) audio: Option<NewAudioDto>,
    /// How much work the encoders put into the picture, in x264's words, `ultrafast` to `veryslow`; `medium` where it is left out.
    pub(crate) preset: Option<String>,
    /// Of all rungs that name none: `h264`, `hevc`, `vp9` or `av1`; `h264` where it is left out.
    pub(crate) codec: Option<String>,
    /// Whether a graphics processor encodes: `none`, `prefer_gpu` (where a worker that is there can) or `require_gpu` (the job waits
    /// for one); `none` where it is left out.
    pub(crate) hardware: Option<String>,
    /// Seconds, 1 to 30; 6 where it is left out.
    pub(crate) segment_duration: Option<u32>,
    /// How long what is made by it is kept: `sources_days`, `outputs_days`, `jobs_days`, `logs_days`. The project's ages count for what is
    /// left out.
    #[schema(value_type = Option<std::collections::BTreeMap<String, AgeDto>>)]
    pub(crate) retention: Option<Retention>,
}

/// One step of the ladder as it is sent: either `crf` with `max_bitrate`, or `bitrate`.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "as above")]
pub(crate) struct NewRungDto {
    /// Lower-case letters, digits and `_`, unique.
    pub(crate) name: String,
    /// The box the picture fits into, even pixels.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// `h264`, `hevc`, `vp9` or `av1`; the profile's where it is left out. Rungs of one size may differ in it.
    pub(crate) codec: Option<String>,
    /// On the scale of the codec: 1 to 51, 63 for `vp9` and `av1`.
    pub(crate) crf: Option<u8>,
    /// Bits per second.
    pub(crate) max_bitrate: Option<u64>,
    /// Bits per second.
    pub(crate) bitrate: Option<u64>,
    /// Bits; twice the bitrate where it is left out.
    pub(crate) buffer: Option<u64>,
    pub(crate) max_frame_rate: Option<u32>,
}

/// One step of the ladder: either `crf` with `max_bitrate`, or `bitrate`. Bits per second; the buffer in bits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RungDto {
    pub(crate) name: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    #[schema(example = "h264")]
    pub(crate) codec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crf: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_bitrate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bitrate: Option<u64>,
    pub(crate) buffer: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_frame_rate: Option<u32>,
}

/// AAC-LC stereo.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AudioDto {
    /// Bits per second, of each track.
    pub(crate) bitrate: u64,
    /// `all` or `default`.
    #[schema(example = "all")]
    pub(crate) tracks: &'static str,
    /// LUFS; `null` where the sound stays as loud as it is.
    pub(crate) loudness: Option<f64>,
}

/// Sound as it is asked for.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "as above")]
pub(crate) struct NewAudioDto {
    /// Bits per second, 32,000 to 320,000; 128,000 where it is left out.
    pub(crate) bitrate: Option<u64>,
    /// `all` audio tracks of the source (at most eight), or the `default` one; `all` where it is left out.
    pub(crate) tracks: Option<String>,
    /// Integrated loudness (EBU R 128) that each track is brought to, -31 to -10 LUFS. One gain for all of a track, and never so much
    /// that its true peak passes -1 dBTP: the job's result says what was measured. Left alone where it is left out.
    #[schema(example = -23.0)]
    pub(crate) loudness: Option<f64>,
}

/// A page of profiles.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProfileListDto {
    pub(crate) profiles: Vec<ProfileDto>,
    pub(crate) next_cursor: Option<String>,
}

impl ProfileDto {
    /// A profile as answered.
    pub(crate) fn new(profile: Profile, built_in: bool) -> Self {
        Self {
            name: profile.name,
            built_in,
            rungs: profile
                .rungs
                .into_iter()
                .map(|rung| {
                    let (crf, max_bitrate, bitrate, buffer) = match rung.rate_control {
                        RateControl::CappedCrf { crf, max_bitrate, buffer } => {
                            (Some(crf), Some(max_bitrate), None, buffer)
                        }
                        RateControl::Constant { bitrate, buffer } => (None, None, Some(bitrate), buffer),
                    };
                    RungDto {
                        name: rung.name,
                        width: rung.width,
                        height: rung.height,
                        codec: rung.codec.as_str(),
                        crf,
                        max_bitrate,
                        bitrate,
                        buffer,
                        max_frame_rate: rung.max_frame_rate,
                    }
                })
                .collect(),
            audio: profile.audio.map(|audio| AudioDto {
                bitrate: audio.bitrate,
                tracks: audio.tracks.as_str(),
                loudness: audio.loudness,
            }),
            preset: profile.preset.as_str().to_owned(),
            hardware: profile.hardware.as_str(),
            segment_duration: profile.segment_duration,
            retention: profile.retention,
        }
    }
}
