//! Which encoder makes each rung, and which rungs one task makes.

use crate::job::encoder::{Encoder, Gpus};
use crate::job::error::{Reason, TaskError};
use crate::job::task::{EncodeRung, EncodeSpec};
use crate::media::profile::Hardware;

/// Chooses the encoder of each of `rungs`, which come with those that need no hardware. Leaves out, with a warning, what is too
/// small for its encoder.
///
/// # Errors
/// For good, where nothing is left.
pub(super) fn choose(
    rungs: &mut Vec<EncodeRung>,
    hardware: Hardware,
    gpus: &Gpus,
    warnings: &mut Vec<String>,
) -> Result<(), TaskError> {
    rungs.retain_mut(|rung| {
        let codec = rung.encoder.codec();
        let gpu = match hardware {
            Hardware::None => None,
            Hardware::PreferGpu => gpus.ready(codec).filter(|gpu| gpu.takes(rung.width, rung.height)),
            Hardware::RequireGpu => gpus.awaited(codec),
        };
        rung.encoder = gpu.unwrap_or(rung.encoder);
        let takes = rung.encoder.takes(rung.width, rung.height);
        if !takes {
            let EncodeRung { name, encoder, width, height, .. } = rung;
            warnings.push(format!("{name} is left out: {width}x{height} is too small for {encoder}"));
        }
        takes
    });
    if rungs.is_empty() {
        return Err(TaskError::fatal(
            Reason::Unsuitable,
            format!("nothing can be encoded: {}", warnings.last().map_or("no rungs", String::as_str)),
        ));
    }
    Ok(())
}

/// Pixels of a picture that the rungs of one task have together. Software encoders hold 40 to 60 frames of each rung: measured at
/// 3840x2160, 1.0 to 1.4 GB a rung, and the child that runs them all may have 6 GiB of addresses.
const MOST_PIXELS: u64 = 20_000_000;

/// Parts an encode into tasks: the rungs that need no hardware together, because they are then decoded once, as far as memory allows; and
/// those of each hardware encoder, so that whatever worker has that one can do it. So it is with encoders that need none, where workers
/// are there but none has them all: see [`Circumstances::mixes`](super::Circumstances::mixes).
pub(super) fn part(whole: EncodeSpec, mixes: &[Vec<Encoder>]) -> Vec<EncodeSpec> {
    let parts = parts(&whole.rungs, |part, rung| {
        let needed: Vec<Encoder> = part.iter().chain([rung]).map(|rung| rung.encoder).collect();
        let alike = needed.iter().all(|encoder| *encoder == rung.encoder);
        let hardware = needed.iter().any(|encoder| encoder.is_hardware());
        let one_has_all = mixes.iter().any(|mix| needed.iter().all(|encoder| mix.contains(encoder)));
        alike || (!hardware && (mixes.is_empty() || one_has_all))
    });
    parts.into_iter().map(|rungs| EncodeSpec { rungs, ..whole.clone() }).collect()
}

/// Parts rungs, in their order, so that the memory of one FFmpeg is enough for those of each part, however they were encoded.
pub fn within_memory(rungs: &[EncodeRung]) -> Vec<Vec<EncodeRung>> {
    parts(rungs, |_, _| true)
}

/// Puts each rung into the first part that it goes `together` with, as far as memory allows.
fn parts(
    rungs: &[EncodeRung],
    together: impl Fn(&[EncodeRung], &EncodeRung) -> bool,
) -> Vec<Vec<EncodeRung>> {
    let pixels = |rung: &EncodeRung| u64::from(rung.width) * u64::from(rung.height);
    let mut parts: Vec<Vec<EncodeRung>> = vec![];
    for rung in rungs {
        let fits = |part: &&mut Vec<EncodeRung>| {
            together(part, rung) && part.iter().map(pixels).sum::<u64>() + pixels(rung) <= MOST_PIXELS
        };
        match parts.iter_mut().find(fits) {
            Some(part) => part.push(rung.clone()),
            None => parts.push(vec![rung.clone()]),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SetId, SourceId};
    use crate::job::task::TaskSpec;
    use crate::media::codec::Codec;
    use crate::media::grid::{Grid, Rate};
    use crate::media::probe::UnsaidColours;
    use crate::media::profile::{Preset, RateControl};

    const GRID: Grid = Grid { rate: Rate { num: 25, den: 1 }, gop_frames: 50, segment_gops: 3, frames: 100 };

    fn rungs(sizes: &[(Codec, u32, u32)]) -> Vec<EncodeRung> {
        let rate_control = RateControl::Constant { bitrate: 500_000, buffer: 1_000_000 };
        (0..)
            .zip(sizes)
            .map(|(position, (codec, width, height))| EncodeRung {
                name: format!("{codec}_{height}"),
                position,
                skip_segments: 0,
                encoder: Encoder::software(*codec),
                width: *width,
                height: *height,
                content: None,
                grid: GRID,
                rate_control,
            })
            .collect()
    }

    fn chosen(hardware: Hardware, gpus: &Gpus, sizes: &[(Codec, u32, u32)]) -> (Vec<Encoder>, Vec<String>) {
        let (mut rungs, mut warnings) = (rungs(sizes), vec![]);
        choose(&mut rungs, hardware, gpus, &mut warnings).unwrap();
        (rungs.iter().map(|rung| rung.encoder).collect(), warnings)
    }

    const MIXED: [(Codec, u32, u32); 3] =
        [(Codec::Hevc, 1280, 720), (Codec::H264, 1280, 720), (Codec::H264, 160, 90)];

    #[test]
    fn hardware_is_preferred_for_what_a_worker_has_proven() {
        let gpus = Gpus { here: vec![Encoder::Libx264, Encoder::H264Vaapi], known: vec![Encoder::HevcNvenc] };
        let software = [Encoder::Libx265, Encoder::Libx264, Encoder::Libx264];
        assert_eq!(chosen(Hardware::None, &gpus, &MIXED).0, software);
        assert_eq!(chosen(Hardware::PreferGpu, &Gpus::default(), &MIXED).0, software);
        let (encoders, warnings) = chosen(Hardware::PreferGpu, &gpus, &MIXED);
        assert_eq!(
            encoders,
            [Encoder::Libx265, Encoder::H264Vaapi, Encoder::Libx264],
            "the last is too small"
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn required_hardware_is_never_software() {
        let gpus = Gpus { here: vec![Encoder::H264Vaapi], known: vec![Encoder::HevcQsv, Encoder::H264Vaapi] };
        let (encoders, warnings) = chosen(Hardware::RequireGpu, &gpus, &MIXED);
        assert_eq!(encoders, [Encoder::HevcQsv, Encoder::H264Vaapi]);
        assert_eq!(warnings, ["h264_90 is left out: 160x90 is too small for h264_vaapi"]);
        let (encoders, _) = chosen(Hardware::RequireGpu, &Gpus::default(), &MIXED);
        assert_eq!(encoders, [Encoder::HevcNvenc, Encoder::H264Nvenc]);
    }

    #[test]
    fn what_is_too_small_is_left_out_while_something_stays() {
        let small = [(Codec::Av1, 64, 36), (Codec::H264, 64, 36)];
        let (encoders, warnings) = chosen(Hardware::None, &Gpus::default(), &small);
        assert_eq!((encoders, warnings.len()), (vec![Encoder::Libx264], 1));
        let mut alone = rungs(&small[..1]);
        let error = choose(&mut alone, Hardware::None, &Gpus::default(), &mut vec![]).unwrap_err();
        assert!(error.reason == Reason::Unsuitable && error.message.contains("64x36"), "{error:?}");
    }

    fn parted(rungs: Vec<EncodeRung>) -> Vec<TaskSpec> {
        parted_among(&[], rungs)
    }

    fn parted_among(mixes: &[Vec<Encoder>], rungs: Vec<EncodeRung>) -> Vec<TaskSpec> {
        let whole = EncodeSpec {
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
            unsaid_colours: UnsaidColours::default(),
            crop: None,
            watermark: None,
            preset: Preset::Medium,
            threads: 1,
            rungs,
            deadline_seconds: 1,
        };
        part(whole, mixes).into_iter().map(TaskSpec::Encode).collect()
    }

    fn positions(task: &TaskSpec) -> Vec<i32> {
        let TaskSpec::Encode(encode) = task else { panic!() };
        encode.rungs.iter().map(|rung| rung.position).collect()
    }

    #[test]
    fn hardware_encodes_apart_from_software() {
        let mut rungs = rungs(&[
            (Codec::H264, 1280, 720),
            (Codec::Hevc, 1280, 720),
            (Codec::Av1, 640, 360),
            (Codec::H264, 640, 360),
        ]);
        rungs[0].encoder = Encoder::H264Qsv;
        rungs[3].encoder = Encoder::H264Qsv;
        let parts = parted(rungs);
        let told: Vec<(String, &str)> =
            parts.iter().map(|part| (part.class().to_string(), part.pool().as_str())).collect();
        assert_eq!(told, [("h264_qsv".to_owned(), "gpu"), ("libsvtav1+libx265".to_owned(), "cpu")]);
        assert_eq!((positions(&parts[0]), positions(&parts[1])), (vec![0, 3], vec![1, 2]));
    }

    #[test]
    fn no_task_needs_more_than_a_worker_has() {
        use Encoder::{Libsvtav1, Libx264, Libx265};
        let codecs = [Codec::Av1, Codec::Hevc, Codec::H264, Codec::Av1].map(|codec| (codec, 640, 360));
        let parted = |mixes: &[Vec<Encoder>]| {
            let parts = parted_among(mixes, rungs(&codecs));
            parts.iter().map(positions).collect::<Vec<_>>()
        };
        assert_eq!(parted(&[vec![Libx264, Libx265, Libsvtav1], vec![Libx264]]), [[0, 1, 2, 3]]);
        assert_eq!(parted(&[vec![Libx264, Libx265], vec![Libx264, Libsvtav1]]), [vec![0, 2, 3], vec![1]]);
        assert_eq!(parted(&[vec![Libx264]]), [vec![0, 3], vec![1], vec![2]], "and none waits for another");
        assert_eq!(parted(&[]), [[0, 1, 2, 3]], "nobody knows");
    }

    #[test]
    fn no_task_has_more_pixels_than_memory() {
        let uhd = Codec::ALL.map(|codec| (codec, 3840, 2160));
        let parts = parted(rungs(&[&uhd[..], &[(Codec::H264, 640, 360)]].concat()));
        assert_eq!(parts.iter().map(positions).collect::<Vec<_>>(), [vec![0, 1, 4], vec![2, 3]]);
        // A picture that is too large by itself is still encoded.
        assert_eq!(parted(rungs(&[(Codec::H264, 7680, 4320), (Codec::H264, 1280, 720)])).len(), 2);
    }
}
