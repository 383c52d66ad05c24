//! What each encoder is told. Pure, one file a make; the words come from closed lists.
//!
//! All of them are held to the grid: every GOP has exactly the planned length, is closed and begins with the only keyframe, so that
//! any chunk can follow any other. The packager checks it, and every worker proves it for each of its encoders when it starts.

mod nvenc;
pub mod proof;
mod qsv;
mod svt_av1;
mod vaapi;
mod vpx;
mod x264;
mod x265;

use reelmill_shared::job::encoder::{Encoder, Make};
use reelmill_shared::job::task::{EncodeRung, EncodeSpec};
use reelmill_shared::media::grid::{Grid, Rate};
use reelmill_shared::media::profile::{Preset, RateControl};

/// What is wanted of an encoder, whichever it is.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    pub encoder: Encoder,
    pub preset: Preset,
    pub rate_control: RateControl,
    pub grid: Grid,
    /// At least 1.
    pub threads: u32,
    /// The pictures were brought to BT.709.
    pub tone_mapped: bool,
    /// How long the output may get.
    pub seconds: f64,
}

impl Wish {
    /// What the orders of an encode say of one rung.
    pub fn of(spec: &EncodeSpec, rung: &EncodeRung) -> Self {
        Self {
            encoder: rung.encoder,
            preset: spec.preset,
            rate_control: rung.rate_control,
            grid: rung.grid,
            threads: spec.threads,
            tone_mapped: spec.tone_map,
            seconds: spec.grid.rate.seconds(spec.span().encoded()),
        }
    }
}

/// The options of one output: what encodes it and how, and the clock its frames are counted on.
pub fn output(wish: &Wish) -> Vec<String> {
    let mut words = options(wish);
    if wish.tone_mapped {
        words.extend(self::words([
            "-color_primaries",
            "bt709",
            "-color_trc",
            "bt709",
            "-colorspace",
            "bt709",
        ]));
    }
    let Rate { num, den } = wish.grid.rate;
    words.extend(self::words(["-fps_mode", "passthrough", "-enc_time_base", &format!("{den}/{num}")]));
    words.extend(self::words(["-video_track_timescale", &wish.grid.rate.timescale().to_string()]));
    // The encoder's ceiling with room for headers: a runaway output ends before it fills the disk.
    let ceiling = wish.rate_control.max_bitrate() as f64 / 8.0 * (wish.seconds + 30.0) * 2.0;
    words.extend(self::words(["-fs", &format!("{}", ceiling as u64)]));
    words
}

/// The options of an output that is watched as it is made: no frame waits for those behind it.
pub fn live_output(wish: &Wish) -> Vec<String> {
    let mut words = options(wish);
    words.extend(match wish.encoder.make() {
        Make::X264 | Make::X265 => self::words(["-tune", "zerolatency"]),
        Make::Vpx => self::words(["-lag-in-frames", "0"]),
        Make::SvtAv1 => vec![],
        Make::Nvenc => self::words(["-delay", "0", "-zerolatency", "1", "-bf", "0"]),
        Make::Qsv => self::words(["-async_depth", "1", "-bf", "0"]),
        Make::Vaapi => self::words(["-async_depth", "1", "-bf", "0"]),
    });
    let Rate { num, den } = wish.grid.rate;
    words.extend(self::words(["-fps_mode", "passthrough", "-enc_time_base", &format!("{den}/{num}")]));
    words.extend(self::words(["-video_track_timescale", &wish.grid.rate.timescale().to_string()]));
    words
}

fn options(wish: &Wish) -> Vec<String> {
    let gop = wish.grid.gop_frames.to_string();
    let mut words = words(["-c:v", wish.encoder.as_str(), "-g", &gop, "-keyint_min", &gop]);
    words.extend(match wish.encoder.make() {
        Make::X264 => x264::options(wish),
        Make::X265 => x265::options(wish),
        Make::Vpx => vpx::options(wish),
        Make::SvtAv1 => svt_av1::options(wish),
        Make::Nvenc => nvenc::options(wish),
        Make::Qsv => qsv::options(wish),
        Make::Vaapi => vaapi::options(wish),
    });
    words.extend(self::words(["-flags:v", "+cgop+bitexact"]));
    words
}

/// Options before the inputs: the device that hardware encoders share with the filters that hand them their pictures.
pub fn device(encoder: Encoder) -> &'static [&'static str] {
    match encoder.make() {
        Make::Qsv => &["-init_hw_device", "qsv=gpu", "-filter_hw_device", "gpu"],
        Make::Vaapi => &["-init_hw_device", "vaapi=gpu", "-filter_hw_device", "gpu"],
        Make::X264 | Make::X265 | Make::Vpx | Make::SvtAv1 | Make::Nvenc => &[],
    }
}

/// The end of a filter chain of planar 8-bit 4:2:0: how pictures get to the encoder. Empty where they may stay where they are.
pub fn upload(encoder: Encoder) -> &'static str {
    match encoder.make() {
        Make::X264 | Make::X265 | Make::Vpx | Make::SvtAv1 | Make::Nvenc => "",
        // Frames to spare for those the encoder has not given back.
        Make::Qsv => ",format=nv12,hwupload=extra_hw_frames=64",
        Make::Vaapi => ",format=nv12,hwupload",
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const CRF: RateControl =
        RateControl::CappedCrf { crf: 30, max_bitrate: 1_000_000, buffer: 2_000_000 };
    pub(super) const STEADY: RateControl = RateControl::Constant { bitrate: 1_000_000, buffer: 2_000_000 };

    pub(super) fn wish(encoder: Encoder, rate_control: RateControl) -> Wish {
        let grid = Grid { rate: Rate { num: 25, den: 1 }, gop_frames: 50, segment_gops: 3, frames: 500 };
        let preset = Preset::Medium;
        Wish { encoder, preset, rate_control, grid, threads: 1, tone_mapped: false, seconds: 20.0 }
    }

    pub(super) fn line(encoder: Encoder, rate_control: RateControl) -> String {
        options(&wish(encoder, rate_control)).join(" ")
    }

    #[test]
    fn every_encoder_is_held_to_the_grid() {
        for encoder in Encoder::ALL {
            for rate_control in [CRF, STEADY] {
                let line = line(*encoder, rate_control);
                assert!(line.starts_with(&format!("-c:v {encoder} -g 50 -keyint_min 50 ")), "{line}");
                assert!(line.ends_with(" -flags:v +cgop+bitexact") && line.contains("1000000"), "{line}");
                // Bare words only: nothing that could be read as two options.
                assert!(!line.contains("  "), "{line}");
            }
            assert_eq!(
                encoder.codec() == reelmill_shared::media::codec::Codec::Hevc,
                line(*encoder, CRF).contains("-tag:v hvc1")
            );
        }
    }

    /// What the FFmpeg of this machine knows of an encoder, as it tells it; `None` where it does not have it.
    fn help(encoder: Encoder) -> Option<String> {
        let output = std::process::Command::new("ffmpeg")
            .args(["-hide_banner", "-h", &format!("encoder={encoder}")])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.starts_with("Encoder ").then_some(text)
    }

    /// Options of all encoders and of the muxers, which the help of one encoder does not tell.
    const COMMON: [&str; 10] = [
        "-c:v",
        "-g",
        "-keyint_min",
        "-flags:v",
        "-b:v",
        "-minrate",
        "-maxrate",
        "-bufsize",
        "-threads",
        "-bf",
    ];

    #[test]
    fn this_ffmpeg_knows_the_options() {
        let mut checked = 0;
        for encoder in Encoder::ALL {
            let Some(help) = help(*encoder) else {
                println!("skipped: this FFmpeg has no {encoder}");
                continue;
            };
            for rate_control in [CRF, STEADY] {
                let line = line(*encoder, rate_control);
                for pair in line.split(' ').collect::<Vec<_>>().chunks(2) {
                    let [option, value] = pair else { panic!("{line}") };
                    if COMMON.contains(option)
                        || ["-tag:v", "-sc_threshold", "-global_quality"].contains(option)
                    {
                        continue;
                    }
                    let listed =
                        help.lines().any(|told| told.trim_start().starts_with(&format!("{option} ")));
                    assert!(listed, "{encoder} does not know {option}");
                    let named =
                        value.chars().all(|c| c.is_ascii_alphanumeric()) && value.parse::<u32>().is_err();
                    // x264 and x265 give their preset to the library as it is.
                    if named && encoder.is_hardware() {
                        let told =
                            help.lines().any(|told| told.trim_start().starts_with(&format!("{value} ")));
                        assert!(told, "{encoder} does not know {option} {value}");
                    }
                    checked += 1;
                }
            }
        }
        assert!(checked > 20, "{checked}");
    }
}
