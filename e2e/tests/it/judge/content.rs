//! What is to be seen and heard, against the source: which frame is shown when, which sound comes when.

use std::path::Path;
use std::process::Command;

/// Width and height to which frames are shrunk before they are compared.
const SMALL: (usize, usize) = (64, 36);
/// Samples per second at which sound is compared: half a millisecond.
const COARSE_RATE: usize = 2000;

/// A decoded frame, grey and small.
pub type Picture = Vec<u8>;

/// All frames of the first video track of a file, rotated as its container says.
pub fn pictures(file: &Path) -> Vec<Picture> {
    let scale = format!("scale={}:{},format=gray", SMALL.0, SMALL.1);
    let args = ["-map", "0:v:0", "-vf", &scale, "-fps_mode", "passthrough", "-f", "rawvideo", "-"];
    decoded(file, &args).chunks_exact(SMALL.0 * SMALL.1).map(<[u8]>::to_vec).collect()
}

/// The same of a source, brought to a constant rate from the start of the file on, in one piece.
pub fn pictures_at_rate(file: &Path, (num, den): (u64, u64)) -> Vec<Picture> {
    let grid =
        format!("fps=fps={num}/{den}:start_time=0:round=near,scale={}:{},format=gray", SMALL.0, SMALL.1);
    let args = ["-map", "0:v:0", "-vf", &grid, "-fps_mode", "passthrough", "-f", "rawvideo", "-"];
    decoded(file, &args).chunks_exact(SMALL.0 * SMALL.1).map(<[u8]>::to_vec).collect()
}

/// The first audio track of a file, mono at [`COARSE_RATE`], from the start of the file on.
pub fn sound(file: &Path) -> Vec<f32> {
    samples(file, COARSE_RATE)
}

/// The first audio track, mono at 48 kHz.
pub fn fine_sound(file: &Path) -> Vec<f32> {
    samples(file, 48_000)
}

fn samples(file: &Path, rate: usize) -> Vec<f32> {
    let rate = rate.to_string();
    let args = ["-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", &rate];
    decoded(file, &[&args[..], &["-f", "s16le", "-"]].concat())
        .chunks_exact(2)
        .map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0)
        .collect()
}

/// Sources may be awkward: what FFmpeg says of them is no failure here.
fn decoded(file: &Path, args: &[&str]) -> Vec<u8> {
    let output =
        Command::new("ffmpeg").args(["-nostdin", "-v", "quiet", "-i"]).arg(file).args(args).output().unwrap();
    assert!(output.status.success(), "decoding {}", file.display());
    assert!(!output.stdout.is_empty(), "{} decodes to nothing", file.display());
    output.stdout
}

/// How many frames later than in `source` the same pictures come in `output`: the shift, from 0 to 30, with the least
/// difference, and that difference in levels of grey.
pub fn picture_shift(source: &[Picture], output: &[Picture]) -> (usize, f64) {
    (0..=30)
        .filter(|shift| shift + source.len() / 2 < output.len())
        .map(|shift| (shift, mean_difference(source, &output[shift..])))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap()
}

/// Mean difference in levels of grey, frame by frame as far as both go.
pub fn mean_difference(a: &[Picture], b: &[Picture]) -> f64 {
    let frames = a.iter().zip(b);
    let count = frames.len();
    frames.map(|(a, b)| difference(a, b)).sum::<f64>() / count as f64
}

/// Mean difference of two frames in levels of grey.
pub fn difference(a: &[u8], b: &[u8]) -> f64 {
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len() as f64
}

/// How many seconds later than in `source` the same sound comes in `output`, up to half a second either way, and how alike
/// they are there (1 is the same).
pub fn sound_lag(source: &[f32], output: &[f32]) -> (f64, f64) {
    let most = (COARSE_RATE / 2) as i64;
    (-most..=most)
        .map(|lag| {
            let (from, to) = (lag.max(0) as usize, (-lag).max(0) as usize);
            let output = output.get(from..).unwrap_or_default();
            let source = source.get(to..).unwrap_or_default();
            (lag as f64 / COARSE_RATE as f64, alike(source, output))
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap()
}

fn alike(a: &[f32], b: &[f32]) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        ab += f64::from(a * b);
        aa += f64::from(a * a);
        bb += f64::from(b * b);
    }
    ab / (aa * bb).sqrt().max(1e-12)
}

/// Indices of the frames that are white after one that was not.
pub fn flashes(pictures: &[Picture]) -> Vec<usize> {
    let white = |picture: &Picture| {
        picture.iter().map(|level| u64::from(*level)).sum::<u64>() / picture.len() as u64 > 128
    };
    (0..pictures.len()).filter(|n| white(&pictures[*n]) && (*n == 0 || !white(&pictures[n - 1]))).collect()
}

/// Seconds at which sound begins after a fifth of a second of silence or at the very start; for [`fine_sound`].
pub fn beeps(sound: &[f32]) -> Vec<f64> {
    let mut found = vec![];
    let mut silent_since = -1e9;
    for (n, level) in sound.iter().enumerate() {
        let now = n as f64 / 48_000.0;
        if level.abs() > 0.25 {
            if now - silent_since > 0.2 {
                found.push(now);
            }
            silent_since = now;
        }
    }
    found
}
