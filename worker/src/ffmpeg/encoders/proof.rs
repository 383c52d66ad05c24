//! A moment of a test picture by one encoder, told what a real encode would tell it: what it makes of that, it makes of everything.

use std::ffi::OsString;
use std::path::Path;

use reelmill_shared::ids::{SetId, SourceId};
use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::job::task::{EncodeRung, EncodeSpec};
use reelmill_shared::media::grid::{Grid, Rate};
use reelmill_shared::media::profile::{Preset, RateControl};

use super::{device, output, upload};
use crate::ffmpeg::argv::{ffmpeg_start, fragmented_mp4};

/// Two GOPs and the beginning of a third.
const GRID: Grid = Grid { rate: Rate { num: 25, den: 1 }, gop_frames: 4, segment_gops: 1, frames: 9 };

/// Both ways to spend bits: a driver may know one and not the other.
const WAYS: [RateControl; 2] = [
    RateControl::CappedCrf { crf: 30, max_bitrate: 500_000, buffer: 1_000_000 },
    RateControl::Constant { bitrate: 500_000, buffer: 1_000_000 },
];

/// What `encoder` must be able to do, one encode each: hardware every way, of software one is as good as all.
pub fn orders(encoder: Encoder) -> Vec<EncodeSpec> {
    let ways = if encoder.is_hardware() { &WAYS[..] } else { &WAYS[..1] };
    ways.iter().map(|rate_control| order(encoder, *rate_control)).collect()
}

fn order(encoder: Encoder, rate_control: RateControl) -> EncodeSpec {
    let rung = EncodeRung {
        name: encoder.to_string(),
        position: 0,
        skip_segments: 0,
        encoder,
        // What every encoder takes.
        width: 256,
        height: 144,
        content: None,
        grid: GRID,
        rate_control,
    };
    EncodeSpec {
        source: SourceId::new(),
        extent: None,
        set: SetId::new(),
        stream: 0,
        grid: GRID,
        span: None,
        offset_ms: 0,
        hold_frames: 0,
        stored_size: None,
        deinterlace: false,
        tone_map: false,
        crop: None,
        watermark: None,
        preset: Preset::Veryfast,
        threads: 1,
        rungs: vec![rung],
        deadline_seconds: 20,
    }
}

/// The command line of such an order, into a fragmented MP4.
pub fn command(spec: &EncodeSpec, file: &Path) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    for rung in &spec.rungs {
        let EncodeRung { encoder, width, height, grid, .. } = rung;
        args.extend(device(*encoder));
        args.add(["-f", "lavfi", "-i", &format!("testsrc2=size={width}x{height}:rate={}", grid.rate)]);
        args.add([
            "-frames:v",
            &grid.frames.to_string(),
            "-vf",
            &format!("format=yuv420p{}", upload(*encoder)),
        ]);
        args.extend(&output(spec, rung));
        fragmented_mp4(&mut args, file, "frag_keyframe");
    }
    args.0
}
