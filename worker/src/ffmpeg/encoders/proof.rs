//! A moment of a test picture by one encoder, told what a real encode would tell it: what it makes of that, it makes of everything.

use std::ffi::OsString;
use std::path::Path;

use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::job::task::EncodeRung;
use reelmill_shared::media::grid::{Grid, Rate};
use reelmill_shared::media::profile::{Preset, RateControl};

use super::{Wish, device, output, upload};
use crate::ffmpeg::argv::{ffmpeg_start, fragmented_mp4};

/// Two GOPs and the beginning of a third.
const GRID: Grid = Grid { rate: Rate { num: 25, den: 1 }, gop_frames: 4, segment_gops: 1, frames: 9 };

/// Both ways to spend bits: a driver may know one and not the other.
const WAYS: [RateControl; 2] = [
    RateControl::CappedCrf { crf: 30, max_bitrate: 500_000, buffer: 1_000_000 },
    RateControl::Constant { bitrate: 500_000, buffer: 1_000_000 },
];

/// What `encoder` must be able to make: hardware both ways, of software one is as good as the other.
pub fn rungs(encoder: Encoder) -> Vec<EncodeRung> {
    let ways = if encoder.is_hardware() { &WAYS[..] } else { &WAYS[..1] };
    ways.iter()
        .map(|rate_control| EncodeRung {
            name: encoder.to_string(),
            position: 0,
            skip_segments: 0,
            encoder,
            // What every encoder takes.
            width: 256,
            height: 144,
            content: None,
            grid: GRID,
            rate_control: *rate_control,
        })
        .collect()
}

/// The command line that makes such a rung, into a fragmented MP4.
pub fn command(rung: &EncodeRung, file: &Path) -> Vec<OsString> {
    let EncodeRung { encoder, width, height, grid, rate_control, .. } = *rung;
    let mut args = ffmpeg_start();
    args.extend(device(encoder));
    args.add(["-f", "lavfi", "-i", &format!("testsrc2=size={width}x{height}:rate={}", grid.rate)]);
    args.add(["-frames:v", &grid.frames.to_string(), "-vf", &format!("format=yuv420p{}", upload(encoder))]);
    let preset = Preset::Veryfast;
    let wish = Wish { encoder, preset, rate_control, grid, threads: 1, tone_mapped: false, seconds: 1.0 };
    args.extend(&output(&wish));
    fragmented_mp4(&mut args, file, "frag_keyframe");
    args.0
}
