//! Which encoder makes the rungs of a run.

use reelmill_shared::job::encoder::{Encoder, Gpus};
use reelmill_shared::media::live::plan::LivePlan;

/// What encodes a run: hardware where that is wanted, was proven by this worker, and takes the smallest rung; else software.
pub(crate) fn choose(plan: &LivePlan, wants_hardware: bool, proven: &[Encoder]) -> Encoder {
    let software = Encoder::software(plan.codec);
    let fits = |encoder: &&Encoder| plan.rungs.iter().all(|rung| encoder.takes(rung.width, rung.height));
    let hardware = || Gpus { here: proven.to_vec(), known: vec![] }.ready(plan.codec);
    if wants_hardware { hardware().as_ref().filter(fits).copied().unwrap_or(software) } else { software }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::media::codec::Codec;
    use reelmill_shared::media::grid::Rate;
    use reelmill_shared::media::live::cadence::{Cadence, Wanted};
    use reelmill_shared::media::live::plan::LiveRung;

    use std::path::PathBuf;

    use super::*;
    use crate::ffmpeg::argv::{self, LiveFiles};

    fn plan(height: u32) -> LivePlan {
        let wanted = Wanted {
            rate: Rate { num: 25, den: 1 },
            sample_rate: None,
            keyframe_interval: 2,
            segment_duration: 6,
            part_duration_ms: 500,
        };
        let rung =
            LiveRung { name: "it".into(), width: height * 2, height, bitrate: 400_000, buffer: 400_000 };
        LivePlan {
            cadence: Cadence::new(wanted),
            frame_rate: (25, 1),
            codec: Codec::H264,
            rungs: vec![rung],
            audio: None,
            low_latency: true,
            window_seconds: 60,
        }
    }

    #[test]
    fn hardware_encodes_where_it_is_wanted_there_and_able() {
        let proven = [Encoder::Libx264, Encoder::HevcNvenc, Encoder::H264Vaapi];
        assert_eq!(choose(&plan(360), true, &proven), Encoder::H264Vaapi);
        assert_eq!(choose(&plan(360), false, &proven), Encoder::Libx264);
        assert_eq!(choose(&plan(360), true, &[Encoder::Libx264, Encoder::HevcNvenc]), Encoder::Libx264);
        assert_eq!(choose(&plan(90), true, &proven), Encoder::Libx264, "too small for it");
    }

    #[test]
    fn pictures_are_taken_to_the_hardware_that_encodes_them() {
        let (input, output) = (PathBuf::from("/s/in"), [PathBuf::from("/s/it")]);
        let files = LiveFiles {
            input: &input,
            format: "flv",
            video: Some(0),
            stored_size: (720, 360),
            audio: None,
            outputs: &output,
            passed: false,
        };
        let line = |encoder| {
            let args = argv::live(&plan(360), &files, encoder, 1);
            args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let vaapi = line(Encoder::H264Vaapi);
        assert!(
            vaapi.contains("-init_hw_device vaapi=gpu") && vaapi.contains("format=nv12,hwupload[r0]"),
            "{vaapi}"
        );
        assert!(vaapi.contains("-c:v h264_vaapi -g 50") && vaapi.contains("-async_depth 1 -bf 0"), "{vaapi}");
        let nvenc = line(Encoder::H264Nvenc);
        assert!(nvenc.contains("-c:v h264_nvenc -g 50") && nvenc.contains("-zerolatency 1"), "{nvenc}");
        assert!(!line(Encoder::Libx264).contains("hw"));
    }
}
