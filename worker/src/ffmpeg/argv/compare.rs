//! Frame by frame: what was encoded against what the encoder was given, and a size against the next smaller one.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::job::quality::Metric;
use reelmill_shared::job::task::{EncodeRung, EncodeSpec, QualitySpec};
use reelmill_shared::media::codec::Codec;
use reelmill_shared::media::grid::Rate;
use reelmill_shared::media::profile::RateControl;

use super::{Approach, filter_graph, guarded_input, opened, witnessed};
use crate::ffmpeg::{figures, file_url};

/// Where the files of a comparison are.
#[derive(Debug)]
pub struct CompareFiles<'a> {
    pub input: &'a Path,
    pub watermark: Option<&'a Path>,
    /// What was encoded, one a rung, in the order of the rungs.
    pub made: &'a [PathBuf],
    /// Where FFmpeg says which frame it decoded first, as `framecrc`.
    pub witness: &'a Path,
}

/// The file in the working directory that gets the figures of the rung at this place.
pub fn figures_file(metric: Metric, place: usize) -> String {
    format!("{metric}-{place}.txt")
}

/// The filter that measures, what was made first and the original second, and passes on what was made. `shortest`: a frame that one of them
/// lacks must show, not be filled in.
fn measuring(metric: Metric, file: &str) -> String {
    let printed = |key: &str| format!("{metric}=shortest=1,metadata=mode=print:key={key}:file={file}");
    match metric {
        Metric::Psnr => printed(figures::SQUARE_ERROR),
        Metric::Ssim => printed(figures::SIMILARITY),
        Metric::Vmaf => format!("libvmaf=shortest=1:log_fmt=json:log_path={file}"),
    }
}

/// One FFmpeg that compares a moment of two test pictures by `metric`, which writes into `file` of the working directory what it finds; and
/// the number of frames it then has.
pub fn comparison(metric: Metric, file: &str) -> (Vec<OsString>, u64) {
    const FRAMES: u64 = 2;
    let mut args = super::ffmpeg_start();
    for pattern in ["testsrc2", "smptebars"] {
        let picture = format!("{pattern}=size=256x144:rate=25,trim=end_frame={FRAMES}");
        args.add(["-f", "lavfi", "-i", &picture]);
    }
    let graph = format!("[0:v]format=yuv420p[m];[1:v]format=yuv420p[o];[m][o]{}[q]", measuring(metric, file));
    args.add(["-filter_complex", &graph, "-map", "[q]", "-f", "null", "-"]);
    (args.0, FRAMES)
}

/// One FFmpeg that makes of the source once more what the encoders were given, decodes what they made of it, and compares both.
pub fn compare(spec: &QualitySpec, files: &CompareFiles<'_>, approach: Approach) -> Vec<OsString> {
    let encoded = in_memory(&spec.encoded);
    let mut args = opened(&encoded, files.input, files.watermark, approach);
    for made in files.made {
        args.add(["-threads", "1"]);
        guarded_input(&mut args, made);
    }
    let first = 1 + usize::from(files.watermark.is_some());
    let mut graph = filter_graph(&encoded);
    for (place, rung) in spec.encoded.rungs.iter().enumerate() {
        let counted = counted(rung.grid.rate);
        let _ = write!(graph, ";[{}:0]format=yuv420p,{counted}[m{place}]", first + place);
        let _ = write!(graph, ";[r{place}]{counted}[o{place}]");
        measure(&mut graph, &spec.metrics, place, "m", "o");
    }
    args.add(["-filter_complex", &graph]);
    measured_outputs(&mut args, 0..spec.encoded.rungs.len());
    witnessed(&mut args, &spec.encoded, files.witness);
    args.0
}

/// The same with its pictures where filters can see them, whatever hardware they were encoded on.
fn in_memory(spec: &EncodeSpec) -> EncodeSpec {
    let mut spec = spec.clone();
    spec.rungs.iter_mut().for_each(|rung| rung.encoder = Encoder::Libx264);
    spec
}

/// The rate factor at which samples are taken for rungs that have none on the sampling encoder's scale: those of a steady rate, and of
/// other codecs, which need fewer bits than it says.
const SAMPLE_CRF: u8 = 20;

/// Encodes a sample of a source for all rungs of `spec`, whose span it is, each into a bare stream, with an encoder that is quick rather
/// than thrifty; and says of every rung what is lost at the size of the `smaller` one it has, where it has one.
pub fn sample(
    spec: &EncodeSpec,
    smaller: &[Option<EncodeRung>],
    input: &Path,
    watermark: Option<&Path>,
    outputs: &[PathBuf],
    witness: &Path,
) -> Vec<OsString> {
    let shown = in_memory(spec);
    let mut args = opened(&shown, input, watermark, Approach::Seek);
    let mut graph = filter_graph(&shown);
    for (place, (rung, smaller)) in spec.rungs.iter().zip(smaller).enumerate() {
        let Some(smaller) = smaller else { continue };
        let _ = write!(graph, ";[r{place}]split=3[e{place}][o{place}][b{place}];[b{place}]");
        let size = |rung: &EncodeRung| format!("scale=w={}:h={}:flags=bicubic", rung.width, rung.height);
        let _ = write!(graph, "{},{},format=yuv420p[m{place}]", size(smaller), size(rung));
        measure(&mut graph, Metric::EVERYWHERE, place, "m", "o");
    }
    args.add(["-filter_complex", &graph]);
    for (place, ((rung, smaller), output)) in spec.rungs.iter().zip(smaller).zip(outputs).enumerate() {
        let label = if smaller.is_some() { "e" } else { "r" };
        let (gop, crf) = (rung.grid.gop_frames.to_string(), crf(rung).to_string());
        args.add(["-map", &format!("[{label}{place}]"), "-fps_mode", "passthrough"]);
        args.add(["-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-crf", &crf]);
        args.add(["-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0", "-f", "h264"]);
        args.0.push(file_url(output));
    }
    measured_outputs(
        &mut args,
        (0..).zip(smaller).filter_map(|(place, smaller)| smaller.as_ref().map(|_| place)),
    );
    witnessed(&mut args, spec, witness);
    args.0
}

/// The next rung of the codec of `own` behind it in a ladder that has a smaller size.
pub fn smaller<'a>(ladder: &'a [EncodeRung], own: &EncodeRung) -> Option<&'a EncodeRung> {
    ladder.iter().skip_while(|rung| rung.name != own.name).find(|rung| {
        (rung.width, rung.height) != (own.width, own.height) && rung.encoder.codec() == own.encoder.codec()
    })
}

/// The rate factor at which a rung is sampled.
pub fn crf(rung: &EncodeRung) -> u8 {
    match rung.rate_control {
        RateControl::CappedCrf { crf, .. } if rung.encoder.codec() == Codec::H264 => crf,
        RateControl::CappedCrf { .. } | RateControl::Constant { .. } => SAMPLE_CRF,
    }
}

/// Frames paired by their number: times of two files are never exactly alike.
fn counted(rate: Rate) -> String {
    format!("settb=expr={}/{},setpts=N", rate.den, rate.num)
}

/// Compares two streams by all metrics.
fn measure(graph: &mut String, metrics: &[Metric], place: usize, made: &str, original: &str) {
    let count = metrics.len();
    let _ = write!(graph, ";[{original}{place}]split={count}");
    for metric in metrics {
        let _ = write!(graph, "[{original}_{metric}{place}]");
    }
    let _ = write!(graph, ";[{made}{place}]");
    for (n, metric) in metrics.iter().enumerate() {
        if n > 0 {
            let _ = write!(graph, "[{metric}{place}];[{metric}{place}]");
        }
        let _ = write!(
            graph,
            "[{original}_{metric}{place}]{}",
            measuring(*metric, &figures_file(*metric, place))
        );
    }
    let _ = write!(graph, "[q{place}]");
}

/// Frames that were compared go nowhere.
fn measured_outputs(args: &mut super::Args, places: impl Iterator<Item = usize>) {
    let mut any = false;
    for place in places {
        any = true;
        args.add(["-map", &format!("[q{place}]")]);
    }
    if any {
        args.add(["-fps_mode", "passthrough", "-f", "null", "-"]);
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::media::grid::{Grid, Span};

    use super::super::tests::{rung, spec, text};
    use super::*;

    const GRID: Grid = Grid { rate: Rate { num: 30, den: 1 }, gop_frames: 60, segment_gops: 3, frames: 300 };

    fn two_rungs() -> EncodeSpec {
        let mut spec =
            spec(vec![rung("a", 640, 360, GRID), rung("b", 320, 180, GRID.capped(Some(24)))], GRID);
        spec.span = Some(Span { first: 180, frames: 60, warm_up: 0 });
        spec
    }

    #[test]
    fn both_sides_are_paired_by_number() {
        let encoded = two_rungs();
        let graph = filter_graph(&encoded);
        let metrics = vec![Metric::Psnr, Metric::Ssim];
        let made = [PathBuf::from("/s/a"), PathBuf::from("/s/b")];
        let files = CompareFiles {
            input: Path::new("/s/source"),
            watermark: None,
            made: &made,
            witness: Path::new("/s/first"),
        };
        let line = text(&compare(&QualitySpec { encoded, metrics }, &files, Approach::Seek));
        assert!(line.contains(&graph), "what the encoders were given: {line}");
        for part in [
            "-ss 5.999000",
            "-i file:/s/a -threads 1 -protocol_whitelist file,pipe",
            ";[2:0]format=yuv420p,settb=expr=1/24,setpts=N[m1];[r1]settb=expr=1/24,setpts=N[o1]",
            ";[o1]split=2[o_psnr1][o_ssim1];[m1][o_psnr1]psnr=shortest=1,metadata=mode=print:key=lavfi.psnr.mse_avg:file=psnr-1.txt\
             [ssim1];[ssim1][o_ssim1]ssim=shortest=1,metadata=mode=print:key=lavfi.ssim.All:file=ssim-1.txt[q1]",
            "-map [q0] -map [q1] -fps_mode passthrough -f null -",
            "-map [first]",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn vmaf_tells_in_a_log_of_its_own() {
        let metrics = vec![Metric::Psnr, Metric::Vmaf];
        let made = [PathBuf::from("/s/a"), PathBuf::from("/s/b")];
        let files = CompareFiles {
            input: Path::new("/s/source"),
            watermark: None,
            made: &made,
            witness: Path::new("/s/first"),
        };
        let orders = QualitySpec { encoded: two_rungs(), metrics };
        let line = text(&compare(&orders, &files, Approach::Seek));
        for part in [
            "[o1]split=2[o_psnr1][o_vmaf1];[m1][o_psnr1]psnr=",
            ":file=psnr-1.txt[vmaf1];[vmaf1][o_vmaf1]libvmaf=shortest=1:log_fmt=json:log_path=vmaf-1.txt[q1]",
            ":file=psnr-0.txt[vmaf0];[vmaf0][o_vmaf0]libvmaf=shortest=1:log_fmt=json:log_path=vmaf-0.txt[q0]",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let alone = QualitySpec { metrics: vec![Metric::Vmaf], ..orders };
        let line = text(&compare(&alone, &files, Approach::Seek));
        assert!(line.contains("[o0]split=1[o_vmaf0];[m0][o_vmaf0]libvmaf=shortest=1"), "{line}");
    }

    #[test]
    fn a_sample_is_encoded_quickly_and_compared_with_the_next_smaller_size() {
        let spec = two_rungs();
        let outputs = [PathBuf::from("/s/0"), PathBuf::from("/s/1")];
        let smaller: Vec<_> = spec.rungs.iter().map(|rung| smaller(&spec.rungs, rung).cloned()).collect();
        let line =
            text(&sample(&spec, &smaller, Path::new("/s/source"), None, &outputs, Path::new("/s/first")));
        for part in [
            "[b0]scale=w=320:h=180:flags=bicubic,scale=w=640:h=360:flags=bicubic,format=yuv420p[m0]",
            "-map [e0] -fps_mode passthrough -c:v libx264 -preset veryfast -threads 1 -crf 22 -g 60",
            "-map [r1] -fps_mode passthrough -c:v libx264 -preset veryfast -threads 1 -crf 22 -g 48",
            "-f h264 file:/s/1 -map [q0] -fps_mode passthrough -f null -",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("[q1]"), "nothing is smaller: {line}");
    }
}
