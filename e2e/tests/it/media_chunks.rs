//! Sources cut into chunks show what the whole would show, at every seam.

use std::path::{Path, PathBuf};
use std::process::Command;

use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use crate::judge::{Case, Expected, case, content, transcode};

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

fn small() -> Value {
    json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "large", "width": 640, "height": 360, "crf": 24, "max_bitrate": 1_200_000},
        {"name": "small", "width": 320, "height": 180, "crf": 24, "max_bitrate": 400_000, "max_frame_rate": 10},
    ]})
}

fn only() -> Value {
    json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "only", "width": 320, "height": 180, "crf": 22, "max_bitrate": 900_000},
    ]})
}

/// Grey levels by which a frame may differ from the source's: the encoder's loss, not another picture.
const LOSS: f64 = 6.0;

/// Compares every frame with what FFmpeg shows of the whole source at this rate.
fn same_frames(source: &Path, rate: (u64, u64), made: &Path) {
    let name = source.file_name().unwrap().to_string_lossy().into_owned();
    let (seen, shown) = (content::pictures(made), content::pictures_at_rate(source, rate));
    assert!(seen.len().abs_diff(shown.len()) <= 1, "{name}: {} of {}", seen.len(), shown.len());
    for (n, (seen, shown)) in seen.iter().zip(&shown).enumerate() {
        let off = content::difference(seen, shown);
        assert!(off < LOSS, "{name}: frame {n} differs by {off}");
    }
}

/// Every frame is the source's frame, with whatever index and at whatever rate it comes.
#[tokio::test]
async fn media_chunks_have_the_frames_of_the_source() {
    let (Some(footage), Some(variants)) = (media::footage(), media::variants()) else { return };
    let whole = |rate, frames, size: (u64, u64)| Expected::video(rate, frames, &[("only", size.0, size.1)]);
    let wide = (320, 180);
    let cases: [Case; 6] = [
        case(footage.join("bottles-360p29.83-h264.mp4"), only(), whole((179, 6), 1189, wide)),
        case(footage.join("cars-432p12.5-h264-aac.mp4"), only(), whole((25, 2), 377, wide).sound(48_000)),
        case(
            footage.join("bbb-trailer-360p25-vp8-vorbis.webm"),
            only(),
            whole((25, 1), 812, wide).sound(44_100),
        ),
        case(variants.file("one-keyframe.mp4"), only(), whole((25, 1), 530, wide).sound(48_000)),
        case(variants.file("fps-59.94.mp4"), only(), whole((60_000, 1001), 316, wide).sound(48_000)),
        case(variants.file("vfr.mkv"), only(), whole((25, 1), 133, wide).sound(48_000)),
    ];
    let sources: Vec<(PathBuf, (u64, u64))> =
        cases.iter().map(|case| (case.file.clone(), case.expected.rungs[0].rate)).collect();
    let farm = farm().await;
    for ((source, rate), (_, played)) in sources.iter().zip(transcode(&farm, cases).await) {
        let [track] = &played.video[..] else { panic!("{}: one rung", source.display()) };
        same_frames(source, *rate, &track.file);
    }
    farm.stop().await;
}

/// Containers in which a seek ends anywhere go through another one, and every frame is where it was: a broadcast's sparse keyframes,
/// an odd rate, and pictures that come without presentation times.
#[tokio::test]
async fn media_chunks_of_sources_without_an_index() {
    let Some(footage) = media::footage() else { return };
    let farm = farm().await;
    let made = |name: &str, args: &[&str]| {
        let file = farm.dir.path().join(name);
        let done = Command::new("ffmpeg").args(["-v", "error"]).args(args).arg(&file).status().unwrap();
        assert!(done.success(), "{name}");
        file
    };
    let odd = footage.join("bottles-360p29.83-h264.mp4");
    let picture = "testsrc2=size=320x180:rate=30000/1001:duration=41";
    let tone = "sine=frequency=440:sample_rate=48000:duration=41";
    let broadcast = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone];
    let sparse =
        ["-c:v", "libx264", "-preset", "veryfast", "-g", "300", "-sc_threshold", "0", "-pix_fmt", "yuv420p"];
    let old = ["-c:v", "mpeg4", "-q:v", "3", "-bf", "2", "-g", "200", "-c:a", "mp3", "-t", "34"];
    let files = [
        made("odd.ts", &["-i", odd.to_str().unwrap(), "-c", "copy"]),
        made("sparse.ts", &[&broadcast[..], &sparse, &["-c:a", "mp2"]].concat()),
        made("old.avi", &[&broadcast[..], &old].concat()),
    ];
    let [odd, sparse, old] = files.clone();
    let expected = |rate, frames| Expected::video(rate, frames, &[("only", 320, 180)]);
    let cases: [Case; 3] = [
        case(odd, only(), expected((179, 6), 1189)),
        case(sparse, only(), expected((30_000, 1001), 1229).sound(48_000)),
        case(old, only(), expected((30_000, 1001), 1019).sound(48_000)),
    ];
    let rates = [(179, 6), (30_000, 1001), (30_000, 1001)];
    for ((source, rate), (_, played)) in files.iter().zip(rates).zip(transcode(&farm, cases).await) {
        same_frames(source, rate, &played.video[0].file);
    }
    let jobs = farm.client.get("/jobs").await;
    for job in jobs["jobs"].as_array().unwrap() {
        let tasks = job["tasks"].as_array().unwrap();
        let count = |kind: &str| tasks.iter().filter(|task| task["kind"] == kind).count();
        assert_eq!(count("remux"), 1, "{job}");
        assert!(count("encode") > 4, "it was cut");
    }
    // The other container lives as long as the job.
    let db = farm.database.connect().await;
    let left: i64 = db
        .query_one("select count(*) from sources where remux_of is not null and deleted_at is null", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
    farm.stop().await;
}

/// A rung of a lower rate is cut at the same times, and everything a player checks holds.
#[tokio::test]
async fn media_chunks_of_capped_rungs_share_the_grid() {
    let Some(footage) = media::footage() else { return };
    let farm = farm().await;
    let mut expected = Expected::video((25, 1), 812, &[("large", 640, 360)]).sound(44_100);
    expected.rungs.push(crate::judge::Rung {
        name: "small".into(),
        size: (320, 180),
        rate: (10, 1),
        frames: 325,
        codec: "h264",
    });
    let file = footage.join("bbb-trailer-360p25-vp8-vorbis.webm");
    let [(_, played)] = transcode(&farm, [case(file, small(), expected)]).await;
    assert_eq!(played.video[0].pieces.len(), 17);
    let jobs = farm.client.get("/jobs").await;
    let tasks = jobs["jobs"][0]["tasks"].as_array().unwrap();
    let encodes: Vec<&Value> = tasks.iter().filter(|task| task["kind"] == "encode").collect();
    assert_eq!(encodes.len(), 9, "the lead, then chunks of two segments, and no stump");
    let mut workers: Vec<&str> = encodes.iter().map(|task| task["worker"].as_str().unwrap()).collect();
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers.len(), 2, "both workers took part");
    farm.stop().await;
}
