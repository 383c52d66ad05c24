//! Ladders of several codecs: each rendition is what it says it is, whole, in order, and cut like all the others.

use std::process::Command;

use reelmill_testkit::ffmpeg::probe_file;
use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use crate::judge::{Expected, case, content, transcode};

/// Segments of two seconds and chunks of four: many seams in little footage.
async fn farm() -> Farm {
    Farm::builder()
        .processes(1, 2, 1)
        .set("REELMILL_ENCODE_THREADS", 1)
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_CHUNK_SECONDS", 4)
        .start()
        .await
}

const CODECS: [&str; 4] = ["h264", "hevc", "vp9", "av1"];

/// A rung of each codec, all of one size.
fn mixed() -> Value {
    let rung = |(codec, crf, max): (&str, u8, u64)| json!({"name": codec, "codec": codec, "width": 320, "height": 180, "crf": crf, "max_bitrate": max});
    // The ladder is sorted by size and ceiling.
    let rungs = [("h264", 22, 900_000), ("hevc", 24, 700_000), ("vp9", 24, 600_000), ("av1", 26, 500_000)];
    json!({"segment_duration": 2, "preset": "veryfast", "rungs": rungs.map(rung)})
}

fn expected(frames: usize) -> Expected {
    Expected::video((25, 1), frames, &CODECS.map(|codec| (codec, 320, 180))).coded(&CODECS)
}

/// Grey levels by which a frame may differ from the source's: the encoder's loss, not another picture.
const LOSS: f64 = 6.0;

/// Every frame of every codec is the source's frame, across all seams.
#[tokio::test]
async fn media_codecs_mix_in_one_ladder() {
    let Some(footage) = media::footage() else { return };
    let farm = farm().await;
    let file = footage.join("bbb-trailer-360p25-vp8-vorbis.webm");
    let [(_, played)] = transcode(&farm, [case(&file, mixed(), expected(812).sound(44_100))]).await;
    let shown = content::pictures_at_rate(&file, (25, 1));
    for track in &played.video {
        assert_eq!(track.pieces.len(), 17, "{}", track.name);
        let seen = content::pictures(&track.file);
        assert!(seen.len().abs_diff(shown.len()) <= 1, "{}: {} of {}", track.name, seen.len(), shown.len());
        for (n, (seen, shown)) in seen.iter().zip(&shown).enumerate() {
            let off = content::difference(seen, shown);
            assert!(off < LOSS, "{}: frame {n} differs by {off}", track.name);
        }
    }
    let jobs = farm.client.get("/jobs").await;
    let tasks = jobs["jobs"][0]["tasks"].as_array().unwrap();
    let encodes: Vec<&Value> = tasks.iter().filter(|task| task["kind"] == "encode").collect();
    assert!(encodes.len() >= 8, "a task a chunk, all codecs in each: {}", encodes.len());
    farm.stop().await;
}

/// One thread: the same source and recipe give the same bytes in every codec, capped and at a steady rate.
#[tokio::test]
async fn media_codecs_twice_give_the_same_bytes() {
    let Some(footage) = media::footage() else { return };
    let mut steady = mixed();
    for rung in steady["rungs"].as_array_mut().unwrap() {
        let rung = rung.as_object_mut().unwrap();
        rung.remove("crf");
        let rate = rung.remove("max_bitrate").unwrap();
        rung.insert("bitrate".into(), rate);
    }
    let farm = farm().await;
    let file = footage.join("bbb-720p25-h264-aac.mp4");
    for profile in [mixed(), steady] {
        let once = || case(&file, profile.clone(), expected(132).sound(48_000));
        let [(_, one), (_, other)] = transcode(&farm, [once(), once()]).await;
        for (one, other) in one.tracks().zip(other.tracks()) {
            let read = |path| std::fs::read(path).unwrap();
            assert!(read(&one.init) == read(&other.init), "the init segments of {} differ", one.name);
            for (n, (a, b)) in one.segments().iter().zip(other.segments()).enumerate() {
                assert!(*a == b, "segment {n} of {} differs", one.name);
            }
        }
    }
    farm.stop().await;
}

/// Odd rates, two frames, many colours: all codecs make of them what H.264 makes.
#[tokio::test]
async fn media_codecs_of_odd_sources() {
    let Some(variants) = media::variants() else { return };
    let farm = farm().await;
    let all = |rate, frames, size: (u64, u64)| {
        Expected::video(rate, frames, &CODECS.map(|codec| (codec, size.0, size.1))).coded(&CODECS)
    };
    let of = |name: &str, expected| case(variants.file(name), mixed(), expected);
    let watched = transcode(
        &farm,
        [
            of("fps-59.94.mp4", all((60_000, 1001), 316, (320, 180)).sound(48_000)),
            of("one-blink.mp4", all((5, 1), 2, (64, 64))),
            of("hdr10-hevc.mp4", all((24, 1), 120, (320, 180)).sound(44_100)),
        ],
    )
    .await;
    for track in &watched[2].1.video {
        let found = probe_file(&["-show_streams"], track.file.to_str().unwrap());
        for tag in ["color_primaries", "color_transfer", "color_space"] {
            assert_eq!(found["streams"][0][tag], "bt709", "{tag} of {}", track.name);
        }
    }
    farm.stop().await;
}

/// A picture that an encoder refuses is left out, and the job says so.
#[tokio::test]
async fn media_codecs_leave_out_what_is_too_small() {
    let Some(footage) = media::footage() else { return };
    let farm = farm().await;
    let profile = json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "safe", "width": 320, "height": 180, "crf": 24, "max_bitrate": 500_000},
        {"name": "tiny", "width": 64, "height": 36, "codec": "av1", "crf": 40, "max_bitrate": 100_000},
    ]});
    let expected = Expected::video((25, 1), 132, &[("safe", 320, 180)]).sound(48_000);
    let source = case(footage.join("bbb-720p25-h264-aac.mp4"), profile, expected);
    let [(recording, _)] = transcode(&farm, [source]).await;
    let job = farm.client.get(&format!("/jobs/{}", recording["job_id"].as_str().unwrap())).await;
    let plan = &job["result"]["plan"];
    assert!(plan["warnings"][0].as_str().unwrap().starts_with("tiny is left out: 64x36"), "{plan}");
    assert_eq!(plan["renditions"][0]["encoder"], "libx264", "{plan}");
    farm.stop().await;
}

/// Else the job would wait for ever.
#[tokio::test]
async fn media_codecs_that_no_worker_has_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let real = Command::new("sh").args(["-c", "command -v ffmpeg"]).output().unwrap().stdout;
    let real = String::from_utf8(real).unwrap();
    let script =
        format!("#!/bin/sh\ncase \"$*\" in *libsvtav1*) exit 1;; esac\nexec {} \"$@\"\n", real.trim());
    let lacking = dir.path().join("ffmpeg");
    std::fs::write(&lacking, script).unwrap();
    std::fs::set_permissions(&lacking, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let farm = Farm::builder().set("PATH", path).start().await;
    let upload = farm.client.upload(&media::clip(dir.path(), 2, "320x180")).await;
    let body = |codec: &str| {
        let rung = json!({ "name": "only", "width": 320, "height": 180, "codec": codec, "crf": 30, "max_bitrate": 400_000 });
        json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": { "rungs": [rung] } })
    };
    let (status, refused) = farm.client.try_post("/jobs", &body("av1")).await;
    assert_eq!((status.as_u16(), &refused["errors"][0]["pointer"]), (422, &json!("/profile")), "{refused}");
    assert!(refused["errors"][0]["detail"].as_str().unwrap().contains("libsvtav1"), "{refused}");
    assert_eq!(farm.client.try_post("/jobs", &body("h264")).await.0, 201);
    farm.stop().await;
}
