//! A long source plays while it is still being made, and nobody hears or sees where its pieces meet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Paused, text};

/// Longer than the first span of sound and half of the second.
const SECONDS: u32 = 190;

/// Tones that glide, so that every moment sounds different from the next, and pictures that count.
fn long_source(dir: &Path) -> PathBuf {
    let file = dir.join("long.mp4");
    // Alike on both sides: FFmpeg's encoder does worse with two tones that are nearly the same.
    let tone = "0.4*sin(2*PI*(220*t+2*t*t))";
    let sound = format!("aevalsrc='{tone}|{tone}':s=48000:d={SECONDS}");
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            &format!("testsrc=size=320x180:rate=10:duration={SECONDS}"),
        ])
        .args(["-f", "lavfi", "-i", &sound])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-pix_fmt", "yuv420p"])
        .args(["-c:a", "aac", "-b:a", "192k", "-shortest"])
        .arg(&file)
        .status()
        .unwrap();
    assert!(made.success());
    file
}

fn profile() -> Value {
    json!({"preset": "veryfast", "rungs": [
        {"name": "large", "width": 320, "height": 180, "crf": 24, "max_bitrate": 600_000},
        {"name": "small", "width": 160, "height": 90, "crf": 26, "max_bitrate": 200_000},
    ]})
}

async fn file(farm: &Farm, recording: &str, name: &str) -> Vec<u8> {
    let path = format!("/api/v1/recordings/{recording}/stream/{name}");
    let answer = farm.client.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{name}");
    answer.bytes().await.unwrap().to_vec()
}

async fn playlist(farm: &Farm, recording: &str, name: &str) -> String {
    String::from_utf8(file(farm, recording, name).await).unwrap()
}

/// The lines that name segments and their lengths.
fn body(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|line| line.starts_with("#EXTINF") || !line.starts_with('#')).collect()
}

fn tag<'p>(playlist: &'p str, name: &str) -> Option<&'p str> {
    playlist.lines().find_map(|line| line.strip_prefix(name))
}

#[tokio::test]
async fn media_early_playlists_grow_until_they_are_whole() {
    let farm =
        Farm::builder().set("REELMILL_WORKER_SLOTS", 1).set("REELMILL_CHUNK_SECONDS", 30).start().await;
    let source = long_source(farm.dir.path());
    let job = farm.client.submit(&source, &profile()).await;
    let (id, recording) = (text(&job, "id").to_owned(), text(&job, "recording_id").to_owned());
    let read = async || farm.client.get(&format!("/recordings/{recording}")).await;

    let early = until("the recording to be playable", Duration::from_secs(60), || async {
        let recording = read().await;
        (recording["status"] != "pending" && recording["status"] != "processing").then_some(recording)
    })
    .await;
    let held = Paused::workers(&farm);
    assert_eq!(early["status"], "playable", "one slot cannot have made all of it: {early}");
    assert_eq!(early["duration_seconds"], f64::from(SECONDS));
    let master = playlist(&farm, &recording, "master.m3u8").await;
    let small = playlist(&farm, &recording, "small.m3u8").await;
    let audio = playlist(&farm, &recording, "audio.m3u8").await;
    assert!(master.contains("small.m3u8") && master.contains("audio.m3u8"), "{master}");
    for early in [&small, &audio] {
        assert_eq!(tag(early, "#EXT-X-PLAYLIST-TYPE:"), Some("EVENT"), "{early}");
        assert!(!early.contains("#EXT-X-ENDLIST") && !body(early).is_empty(), "{early}");
        assert!(body(early).len() < 2 * 31, "not all of it: {early}");
    }
    // What is listed can be had.
    let first = body(&small)[1];
    assert!(file(&farm, &recording, first).await.len() > 100);
    drop(held);

    let done = farm.client.wait_for(&id).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    let timings = &done["timings"];
    let (playable, total) = (timings["playable"].as_f64().unwrap(), timings["total"].as_f64().unwrap());
    assert!(0.0 < playable && playable < total, "{timings}");
    let metrics: Vec<String> = {
        let worker = farm.processes.iter().find(|process| process.part == Part::Worker).unwrap();
        let url = format!("http://{}/metrics", worker.address);
        reqwest::get(url).await.unwrap().text().await.unwrap().lines().map(str::to_owned).collect()
    };
    assert!(metrics.iter().any(|line| line == "reelmill_recording_playable_seconds_count 1"), "{metrics:?}");

    // The references to what a recording plays are kept for a moment.
    let whole = until("the playlists to be whole", Duration::from_secs(10), || async {
        let whole = playlist(&farm, &recording, "small.m3u8").await;
        whole.contains("#EXT-X-ENDLIST").then_some(whole)
    })
    .await;
    assert_eq!(tag(&whole, "#EXT-X-PLAYLIST-TYPE:"), Some("VOD"));
    assert_eq!(tag(&whole, "#EXT-X-TARGETDURATION:"), tag(&small, "#EXT-X-TARGETDURATION:"));
    assert_eq!(tag(&whole, "#EXT-X-MAP:"), tag(&small, "#EXT-X-MAP:"));
    assert!(body(&whole).starts_with(&body(&small)), "nothing that was listed has changed");
    assert_eq!(body(&whole).len(), 2 * 32);
    assert_eq!(read().await["status"], "ready");

    sound_is_whole(&farm, &recording, &source).await;
    farm.stop().await;
}

/// Compares the sound, sample by sample, with the source's: around the places where spans meet it is as near as anywhere else.
async fn sound_is_whole(farm: &Farm, recording: &str, source: &Path) {
    let list = playlist(farm, recording, "audio.m3u8").await;
    let mut joined = file(farm, recording, "audio-1-init.mp4").await;
    for name in body(&list).into_iter().filter(|line| !line.starts_with('#')) {
        joined.extend(file(farm, recording, name).await);
    }
    let path = farm.dir.path().join("sound.mp4");
    std::fs::write(&path, joined).unwrap();
    let (made, original) = (samples(&path), samples(source));
    assert!(made.len().abs_diff(original.len()) < 2 * 1024 * 2, "{} and {}", made.len(), original.len());
    // Mean square of the difference, window by window of 10 ms.
    let window = 480 * 2;
    let errors: Vec<f64> = made
        .chunks(window)
        .zip(original.chunks(window))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / window as f64)
        .collect();
    let mut sorted = errors[100..errors.len() - 100].to_vec();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted[sorted.len() * 99 / 100];
    let seam = 3000;
    let worst = errors[seam - 100..seam + 100].iter().copied().fold(0.0, f64::max);
    assert!(
        worst < usual * 4.0,
        "the seam at 30 s is {worst:.3e} off, 99 of 100 windows less than {usual:.3e}"
    );
}

/// Stereo samples at 48 kHz, interleaved.
fn samples(file: &Path) -> Vec<f32> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-map", "0:a:0", "-f", "f32le", "-ar", "48000", "-ac", "2", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
