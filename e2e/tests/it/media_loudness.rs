//! Sound as loud as it was asked for, by FFmpeg's meter (EBU R 128).

use std::path::Path;
use std::process::Command;

use reelmill_testkit::Farm;
use serde_json::json;

use crate::judge::{Expected, watch};
use crate::media_tracks::{ffmpeg, made};
use crate::support::text;

/// Integrated loudness in LUFS and true peak in dBTP of a file.
fn loudness(file: &Path) -> (f64, f64) {
    loudness_of(file, &[])
}

/// The same of a `part` of it.
fn loudness_of(file: &Path, part: &[&str]) -> (f64, f64) {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-nostats"])
        .args(part)
        .arg("-i")
        .arg(file)
        .args(["-af", "ebur128=peak=true:framelog=verbose", "-f", "null", "-"])
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let summary = log.rsplit_once("Summary:").unwrap().1;
    let figure = |name: &str| {
        let line = summary.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    (figure("I:"), figure("Peak:"))
}

#[tokio::test]
async fn media_loudness_is_what_was_asked_for() {
    let farm = Farm::builder().start().await;
    let source = farm.dir.path().join("loud-and-soft.mkv");
    // Without what AAC leaves out at this rate. Long enough for two spans. Soft at first and louder later: a gain of each span's own would show. Then one whose clicks
    // leave no room, one that is too loud, and silence.
    let tracks = [
        "anoisesrc=color=pink:seed=1:duration=190:sample_rate=48000:amplitude=0.2,lowpass=f=8000,volume='if(lt(t,100),0.2,0.6)':eval=frame",
        "aevalsrc='0.02*sin(2*PI*440*t)+0.9*lt(mod(t,5),0.002)*sin(2*PI*500*t)':s=48000:d=190",
        "sine=frequency=600:sample_rate=48000:duration=190,volume=15dB",
        "anullsrc=sample_rate=48000,atrim=duration=190",
    ];
    let inputs = tracks.iter().flat_map(|track| ["-f", "lavfi", "-i", track]);
    let maps = ["-map", "0:a", "-map", "1:a", "-map", "2:a", "-map", "3:a", "-c:a", "flac"];
    ffmpeg(&inputs.chain(maps).collect::<Vec<_>>(), &source);
    let body = json!({"profile": {"rungs": [], "audio": {"loudness": -23}}});
    let (job, recording) = made(&farm, &source, body).await;
    let played = watch(&farm.client, &recording, &four_tracks()).await;
    let kept = job["result"]["loudness"].as_array().unwrap();
    let files: Vec<&Path> = played.sounds().map(|track| track.file.as_path()).collect();
    assert_eq!((kept.len(), files.len()), (4, 4));
    for track in [0, 2] {
        let (integrated, peak) = loudness(files[track]);
        println!("track {track}: {integrated} LUFS, {peak} dBTP; {}", kept[track]);
        assert!((integrated + 23.0).abs() <= 0.5, "track {track}: {integrated} LUFS; {}", kept[track]);
        assert!(peak < -1.0 && kept[track]["note"].is_null());
    }
    assert!(kept[0]["gain_db"].as_f64().unwrap() > 0.0 && kept[2]["gain_db"].as_f64().unwrap() < 0.0);
    let (integrated, peak) = loudness(files[1]);
    println!("limited: {integrated} LUFS, {peak} dBTP; {}", kept[1]);
    assert!(peak < -1.0 && integrated < -24.0, "{integrated} LUFS, {peak} dBTP");
    assert!(text(&kept[1], "note").contains("peaks"), "{}", kept[1]);
    assert!(text(&kept[3], "note").contains("silent") && kept[3]["gain_db"] == 0.0, "{}", kept[3]);
    // As it was measured before, by the same standard.
    let (before, _) = loudness(&source);
    let measured = kept[0]["measured"]["integrated_lufs"].as_f64().unwrap();
    assert!((measured - before).abs() < 0.2, "{measured} is not {before}");
    // The same gain in the span of the first half minute, behind it, where it got louder, and across the seam.
    let gain = kept[0]["gain_db"].as_f64().unwrap();
    let spans = job["tasks"].as_array().unwrap().iter().filter(|task| task["kind"] == "audio").count();
    assert_eq!(spans, 8, "two spans of each track");
    for (from, length) in [("1", "25"), ("40", "50"), ("110", "70"), ("25", "10")] {
        let part = ["-ss", from, "-t", length];
        let raised = loudness_of(files[0], &part).0 - loudness_of(&source, &part).0;
        assert!((raised - gain).abs() <= 0.5, "raised by {raised} dB from {from} s on, not by {gain}");
    }

    // Unasked, nothing is changed.
    let (job, recording) =
        made(&farm, &source, json!({"profile": {"rungs": [], "audio": {"tracks": "default"}}})).await;
    let played = watch(&farm.client, &recording, &Expected::nothing_to_see().sound(48_000)).await;
    let (after, _) = loudness(&played.sounds().next().unwrap().file);
    assert!((after - before).abs() <= 0.2, "{after} is not {before}");
    assert!(job["result"]["loudness"].is_null(), "{}", job["result"]);
    farm.stop().await;
}

fn four_tracks() -> Expected {
    let sound = |expected: Expected, _| expected.sound(48_000);
    (0..4).fold(Expected::nothing_to_see(), sound)
}
