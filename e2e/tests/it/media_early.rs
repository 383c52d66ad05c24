//! A long source plays while it is still being made, and nobody hears or sees where its pieces meet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

use crate::socket_peer::{Frame, Peer};
use crate::support::{Paused, text};

/// Longer than the first span of sound and half of the second.
const SECONDS: u32 = 190;
/// Seconds of a segment, as the profile has them.
const SEGMENT: u32 = 6;

/// Tones that glide, so that every moment sounds different from the next, and pictures that count.
fn long_source(dir: &Path, seconds: u32) -> PathBuf {
    let file = dir.join("long.mp4");
    // Alike on both sides: FFmpeg's encoder does worse with two tones that are nearly the same.
    let tone = "0.4*sin(2*PI*(220*t+2*t*t))";
    let sound = format!("aevalsrc='{tone}|{tone}':s=48000:d={seconds}");
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            &format!("testsrc=size=320x180:rate=10:duration={seconds}"),
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
    json!({"preset": "veryfast", "segment_duration": SEGMENT, "rungs": [
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
    let source = long_source(farm.dir.path(), SECONDS);
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
    let transport = playlist(&farm, &recording, "small-ts.m3u8").await;
    assert_eq!(body(&transport).len(), body(&small).len());
    assert!(playlist(&farm, &recording, "master-ts.m3u8").await.contains("\nsmall-ts.m3u8"));
    let early_transport = file(&farm, &recording, body(&transport)[1]).await;
    assert!(early_transport.starts_with(&[0x47]));
    // A socket that has all there is waits for more.
    let listed = body(&small).len() as u64 / 2;
    let near_the_end = (listed as f64 - 0.5) * f64::from(SEGMENT);
    let socket = format!("/recordings/{recording}/stream/live?quality=small&position={near_the_end}");
    let mut peer = Peer::with_key(&farm.client, &socket).await.unwrap();
    let is_picture = |frame: &Frame| frame.is("segment") && frame.text("track") == "video";
    assert_eq!(peer.until(is_picture).await.0.sequence(), listed - 1);
    drop(held);
    let (next, before) = peer.until(is_picture).await;
    assert_eq!(
        (next.sequence(), &next.header["position"]),
        (listed, &json!(listed as f64 * f64::from(SEGMENT)))
    );
    assert!(
        !before.iter().any(|frame| frame.is("dropped") || frame.is("end")),
        "nobody is late for what was not there"
    );

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
    let transport = playlist(&farm, &recording, "small-ts.m3u8").await;
    assert!(file(&farm, &recording, body(&transport)[1]).await == early_transport, "made of the same");

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

/// Of a source of half an hour in a remote store only the beginning and the index are fetched before it plays; what was begun so is a part
/// of the whole in the end. A job that is cancelled then leaves what can be played up to where it ends.
#[tokio::test]
async fn media_early_a_very_long_source_begins_before_it_is_here() {
    let farm = Farm::builder().s3().set("REELMILL_CHUNK_SECONDS", 600).start().await;
    let source = farm.dir.path().join("very-long.mov");
    // Sound that is not compressed makes it large, and nothing is made of it.
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x36:r=2:d=1860"])
        .args(["-f", "lavfi", "-i", "sine=frequency=330:sample_rate=8000:duration=1860"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le"])
        .arg(&source)
        .status()
        .unwrap();
    assert!(made.success());
    assert!(std::fs::metadata(&source).unwrap().len() > 12 << 20, "more than a beginning");
    let profile = json!({"preset": "ultrafast", "rungs": [
        {"name": "only", "width": 64, "height": 36, "crf": 30, "max_bitrate": 100_000},
    ], "audio": null});
    let job = farm.client.submit(&source, &profile).await;
    let (id, recording) = (text(&job, "id").to_owned(), text(&job, "recording_id").to_owned());
    let done = farm.client.wait_for(&id).await;
    assert_eq!(done["status"], "succeeded", "{}", done["error"]);
    let tasks = done["tasks"].as_array().unwrap();
    let kinds: Vec<&str> = tasks.iter().map(|task| text(task, "kind")).collect();
    assert_eq!(kinds[..3], ["probe", "encode", "probe"], "led before it was looked into");
    let input = |task: &Value| {
        let words = task["command"].as_array().unwrap();
        let input = words.iter().position(|word| word == "-i").unwrap();
        words[input + 1].as_str().unwrap().to_owned()
    };
    assert!(input(&tasks[1]).ends_with("/beginning"), "{}", tasks[1]);
    assert!(
        tasks[3..].iter().filter(|task| task["kind"] == "encode").all(|task| input(task).contains("/cache/"))
    );
    let db = farm.database.connect().await;
    let sets: i64 = db.query_one("select count(*) from sets", &[]).await.unwrap().get(0);
    assert_eq!(sets, 1, "the beginning is a part of the whole");
    let list = playlist(&farm, &recording, "only.m3u8").await;
    assert_eq!(body(&list).len(), 2 * 310);
    let mut joined = file(&farm, &recording, "only-1-init.mp4").await;
    for name in body(&list).into_iter().filter(|line| !line.starts_with('#')) {
        joined.extend(file(&farm, &recording, name).await);
    }
    let path = farm.dir.path().join("joined.mp4");
    std::fs::write(&path, joined).unwrap();
    let count = Command::new("ffprobe")
        .args(["-v", "error", "-count_packets", "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&count.stdout).trim(), "3720");
    farm.stop().await;
}

#[tokio::test]
async fn media_early_what_was_made_ends_where_its_job_was_cancelled() {
    let farm =
        Farm::builder().set("REELMILL_WORKER_SLOTS", 1).set("REELMILL_CHUNK_SECONDS", 30).start().await;
    let source = long_source(farm.dir.path(), 60);
    let job = farm.client.submit(&source, &profile()).await;
    let (id, recording) = (text(&job, "id").to_owned(), text(&job, "recording_id").to_owned());
    until("the recording to be playable", Duration::from_secs(60), || async {
        let found = farm.client.get(&format!("/recordings/{recording}")).await;
        (found["status"] == "playable").then_some(())
    })
    .await;
    farm.client.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
    let ended = farm.client.get(&format!("/recordings/{recording}")).await;
    assert_eq!(ended["status"], "failed");
    assert!(text(&ended["error"], "message").contains("cancelled"), "{ended}");
    let list = playlist(&farm, &recording, "small.m3u8").await;
    assert!(list.contains("EVENT") && list.trim_end().ends_with("#EXT-X-ENDLIST"), "{list}");
    assert!(!body(&list).is_empty());
    // Made again, it is whole.
    let again = json!({"kind": "transcode", "input": {"recording_id": recording}, "profile": profile()});
    let again = farm.client.post("/jobs", &again).await;
    assert_eq!(farm.client.wait_for(text(&again, "id")).await["status"], "succeeded");
    until("the playlists to be whole", Duration::from_secs(10), || async {
        let whole = playlist(&farm, &recording, "small.m3u8").await;
        (whole.contains("VOD") && body(&whole).len() == 2 * 10).then_some(())
    })
    .await;
    farm.stop().await;
}
