//! Judges that are not our code: ffprobe and FFmpeg's own demuxers.

use std::process::Command;

use serde_json::Value;

/// `ffprobe` with these arguments before the input, as JSON.
pub fn probe(args: &[&str], input: &str) -> Value {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-allowed_extensions", "ALL"])
        .args(args)
        .arg(input)
        .output()
        .unwrap();
    assert!(output.status.success(), "ffprobe {input}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same for inputs whose demuxer knows no `-allowed_extensions`.
pub fn probe_file(args: &[&str], input: &str) -> Value {
    let output =
        Command::new("ffprobe").args(["-v", "error", "-of", "json"]).args(args).arg(input).output().unwrap();
    assert!(output.status.success(), "ffprobe {input}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs FFmpeg and gives its stdout; fails the test on any error it reports.
pub fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "error", "-xerror"])
        .args(args)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.is_empty(), "ffmpeg {args:?}: {log}");
    output.stdout
}

/// Decoded frames of a stream of `input`, as `(presentation seconds, duration seconds)`.
pub fn frames(input: &str, stream: &str) -> Vec<f64> {
    let found = probe_file(
        &["-select_streams", stream, "-show_entries", "frame=best_effort_timestamp_time", "-show_frames"],
        input,
    );
    let frames = found["frames"].as_array().unwrap();
    frames
        .iter()
        .map(|frame| frame["best_effort_timestamp_time"].as_str().unwrap().parse().unwrap())
        .collect()
}

/// Runs FFmpeg and gives what it says at its usual loudness.
pub fn ffmpeg_log(args: &[&str]) -> String {
    let output = Command::new("ffmpeg").args(["-nostdin", "-hide_banner"]).args(args).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ffmpeg {args:?}: {log}");
    log
}
