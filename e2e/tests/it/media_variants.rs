//! The awkward inputs of `make-variants`: each becomes what its row says is right.

use std::path::Path;
use std::process::Command;

use reelmill_testkit::ffmpeg::probe_file;
use reelmill_testkit::media::{self, Derived};
use reelmill_testkit::{Client, Farm};
use reqwest::Method;
use serde_json::{Value, json};

use crate::judge::{Case, Expected, Rung, case, content, failed_for_good, transcode};

/// Rows with a test here, by what they try.
const SHAPES: [&str; 9] = [
    "rotated-90.mp4",
    "portrait.mp4",
    "interlaced-anamorphic.ts",
    "odd-size-444.mkv",
    "h264-422-10bit.mp4",
    "hdr10-hevc.mp4",
    "uhd.mp4",
    "one-blink.mp4",
    "silent.mp4",
];
const TIMES: [&str; 7] = [
    "vfr.mkv",
    "late-start.ts",
    "audio-leads.mp4",
    "fps-59.94.mp4",
    "one-keyframe.mp4",
    "flash-beep.mp4",
    "ten-minutes.mp4",
];
const TRACKS: [&str; 3] = ["audio-only.m4a", "mono-22k-pcm.mov", "two-audio-subs.mkv"];
const BROKEN: [&str; 5] = ["truncated-tail.mp4", "truncated-fast.mp4", "empty.mp4", "text.mp4", "noise.mp4"];

/// Two small rungs, cheap but with B-frames, cut every two seconds.
fn small() -> Value {
    json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "large", "width": 640, "height": 360, "crf": 26, "max_bitrate": 900_000},
        {"name": "small", "width": 320, "height": 180, "crf": 26, "max_bitrate": 300_000},
    ]})
}

/// What [`small`] makes of a picture of 16:9.
const WIDE: [(&str, u64, u64); 2] = [("large", 640, 360), ("small", 320, 180)];

async fn farm() -> Farm {
    Farm::builder().set("REELMILL_ENCODE_THREADS", 1).start().await
}

/// A new row of the table needs a test.
#[test]
fn media_variants_are_all_tested() {
    let Some(variants) = media::variants() else { return };
    for [name, what, right] in &variants.rows {
        let known = [&SHAPES[..], &TIMES, &TRACKS, &BROKEN].concat();
        assert!(known.contains(&name.as_str()), "{name} ({what}: {right}) has no test");
    }
}

#[tokio::test]
async fn media_variants_of_shape_and_colour() {
    let Some(variants) = media::variants() else { return };
    let farm = farm().await;
    let at_25 = |rungs: &[(&str, u64, u64)]| Expected::video((25, 1), 132, rungs);
    let expected = |name: &str| match name {
        "rotated-90.mp4" => at_25(&[("720p", 720, 1280), ("360p", 360, 640)]).sound(48_000),
        // Nothing is upscaled: the rung above the source keeps the source's own size.
        "portrait.mp4" => at_25(&[("720p", 404, 720), ("360p", 360, 640)]).sound(48_000),
        // 720x576 of pixels 64:45 is seen as 1024x576.
        "interlaced-anamorphic.ts" => at_25(&[("720p", 1024, 576), ("360p", 640, 360)]).sound(48_000),
        // 853x481 of pixels 7696:7677 is seen as 855.1x481.
        "odd-size-444.mkv" => {
            Expected::video((25, 1), 133, &[("720p", 854, 480), ("360p", 640, 360)]).sound(48_000)
        }
        "h264-422-10bit.mp4" => {
            Expected::video((25, 1), 75, &[("720p", 1280, 720), ("360p", 640, 360)]).sound(48_000)
        }
        "hdr10-hevc.mp4" => {
            Expected::video((24, 1), 120, &[("720p", 1280, 720), ("360p", 640, 360)]).sound(44_100)
        }
        "uhd.mp4" => Expected::video((30, 1), 60, &[("720p", 1280, 720), ("360p", 640, 360)]),
        "one-blink.mp4" => Expected::video((5, 1), 2, &[("360p", 64, 64)]),
        "silent.mp4" => at_25(&[("720p", 1280, 720), ("360p", 640, 360)]),
        other => panic!("{other}"),
    };
    let cases = SHAPES.map(|name| case(variants.file(name), "fast", expected(name)));
    let watched = transcode(&farm, cases).await;
    for (name, (recording, played)) in SHAPES.iter().zip(&watched) {
        println!("looking at {name}");
        // FFmpeg turns, deinterlaces nothing and stretches nothing here: the shapes on the screen must be the same.
        let source = content::pictures(&variants.file(name));
        for track in &played.video {
            let (shift, off) = content::picture_shift(&source, &content::pictures(&track.file));
            let (least, most) = match *name {
                // The colours are others: they were made for another screen.
                "hdr10-hevc.mp4" => (5.0, 60.0),
                _ => (0.0, 4.0),
            };
            let late = usize::from(*name == "odd-size-444.mkv");
            assert!(shift == late && (least..most).contains(&off), "{name} {}: {shift} {off}", track.name);
        }
        picture_exists(&farm.client, recording, &variants.file(name)).await;
    }
    let hdr = &watched[5].1;
    for track in &hdr.video {
        let found = probe_file(&["-show_streams"], track.file.to_str().unwrap());
        for tag in ["color_primaries", "color_transfer", "color_space"] {
            assert_eq!(found["streams"][0][tag], "bt709", "{tag} of {}", track.name);
        }
        let levels = content::pictures(&track.file)[60].clone();
        let (darkest, brightest) = (levels.iter().min().unwrap(), levels.iter().max().unwrap());
        assert!(brightest - darkest > 150, "contrast is kept: {darkest} to {brightest}");
    }
    assert_eq!(watched[7].1.video[0].pieces.len(), 1, "one-blink.mp4 is one segment");
    farm.stop().await;
}

/// The thumbnail is a JPEG of the picture's shape.
async fn picture_exists(client: &Client, recording: &Value, source: &Path) {
    let path = recording["thumbnail_url"].as_str().unwrap();
    let response = client.request(Method::GET, path).send().await.unwrap();
    assert!(response.status().is_success(), "{path}: {}", response.status());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("picture.jpg");
    std::fs::write(&file, response.bytes().await.unwrap()).unwrap();
    let found = probe_file(&["-show_streams"], file.to_str().unwrap());
    let stream = &found["streams"][0];
    assert_eq!(stream["codec_name"], "mjpeg");
    let shape = |width: &Value, height: &Value| width.as_f64().unwrap() / height.as_f64().unwrap();
    let seen = shape(&stream["width"], &stream["height"]);
    let right = shape(&recording["source"]["width"], &recording["source"]["height"]);
    assert!(
        (seen / right - 1.0).abs() < 0.02,
        "the thumbnail of {} is {seen}, not {right}",
        source.display()
    );
}

/// Pictures and sound come when the source has them.
#[tokio::test]
async fn media_variants_of_time() {
    let Some(variants) = media::variants() else { return };
    let footage = media::footage().unwrap();
    let bbb = footage.join("bbb-720p25-h264-aac.mp4");
    let late = tempfile::tempdir().unwrap();
    let audio_late = late.path().join("audio-late.mp4");
    audio_starts_late(&bbb, &audio_late);
    let farm = farm().await;
    let wide = |rate, frames| Expected::video(rate, frames, &WIDE).sound(48_000);
    let of = |name: &str, expected| case(variants.file(name), small(), expected);
    let cases: [Case; 6] = [
        // From the start of the sound to the end of the last picture: 0.021 s and 5.28 s.
        of("vfr.mkv", wide((25, 1), 133)),
        of("late-start.ts", wide((25, 1), 132)),
        // The picture comes 0.4 s late, ten frames.
        of("audio-leads.mp4", wide((25, 1), 142)),
        of("fps-59.94.mp4", wide((60_000, 1001), 316)),
        of("one-keyframe.mp4", wide((25, 1), 530)),
        case(&audio_late, small(), wide((25, 1), 132)),
    ];
    let sources: Vec<_> = cases.iter().map(|case| case.file.clone()).collect();
    let watched = transcode(&farm, cases).await;
    let original = (content::pictures(&bbb), content::sound(&bbb));
    // Frames by which the picture, seconds by which the sound comes later than in the footage.
    let later = [(1, 0.021), (0, 0.0), (10, 0.0), (0, 0.0), (0, 0.0), (0, 0.4)];
    for ((source, (_, played)), (frames, seconds)) in sources.iter().zip(&watched).zip(later) {
        let name = source.file_name().unwrap().to_string_lossy();
        for track in &played.video {
            let seen = content::pictures(&track.file);
            // At 59.94 frames per second only the file itself has the same frames.
            let (shift, off) = match &*name {
                "fps-59.94.mp4" => content::picture_shift(&content::pictures(source), &seen),
                _ => content::picture_shift(&original.0, &seen),
            };
            assert!(shift == frames && off < 4.0, "{name} {}: {shift} {off}", track.name);
            for still in &seen[..frames] {
                let off = content::difference(still, &seen[frames]);
                assert!(off < 1.0, "{name}: the first picture is held until the next comes: {off}");
            }
        }
        let heard = content::sound(&played.audio.as_ref().unwrap().file);
        let (lag, alike) = content::sound_lag(&original.1, &heard);
        assert!((lag - seconds).abs() <= 0.003 && alike > 0.9, "{name}: sound {lag} s late, {alike} alike");
        // And still so at the end.
        let tail = |sound: &[f32]| sound[8_000..].to_vec();
        let (lag, _) = content::sound_lag(&tail(&original.1), &tail(&heard));
        assert!((lag - seconds).abs() <= 0.003, "{name}: sound {lag} s late at the end");
    }
    farm.stop().await;
}

fn audio_starts_late(bbb: &Path, output: &Path) {
    let bbb = bbb.to_str().unwrap();
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i", bbb, "-itsoffset", "0.4", "-i", bbb])
        .args(["-map", "0:v", "-map", "1:a", "-c", "copy", "-t", "5.28"])
        .arg(output)
        .status()
        .unwrap();
    assert!(done.success());
}

/// A flash and a beep each second stay together in every rung, also where a rung's rate is capped.
#[tokio::test]
async fn media_variants_flash_and_beep_together() {
    let Some(variants) = media::variants() else { return };
    let farm = farm().await;
    let file = variants.file("flash-beep.mp4");
    let capped = |name: &str| Rung { name: name.to_owned(), size: (640, 360), rate: (24, 1), frames: 480 };
    let classic = Expected { rungs: vec![capped("normal"), capped("low")], audio: Some(48_000) };
    let cases = [
        case(&file, small(), Expected::video((30, 1), 600, &WIDE).sound(48_000)),
        case(&file, "classic", classic),
    ];
    for ((_, played), fps) in transcode(&farm, cases).await.iter().zip([30.0, 24.0]) {
        let beeps = content::beeps(&content::fine_sound(&played.audio.as_ref().unwrap().file));
        assert_eq!(beeps.len(), 20, "{beeps:?}");
        for track in &played.video {
            // The judge has seen that frame n is shown at n / fps.
            let flashes = content::flashes(&content::pictures(&track.file));
            assert_eq!(flashes.len(), 20, "{}: {flashes:?}", track.name);
            for (flash, beep) in flashes.iter().zip(&beeps) {
                let apart = *flash as f64 / fps - beep;
                assert!(apart.abs() < 0.04, "{}: {apart} s apart at {beep} s", track.name);
            }
        }
    }
    farm.stop().await;
}

/// Rungs of a lower rate keep the GOP times of the others.
#[tokio::test]
async fn media_variants_capped_rates_share_the_grid() {
    let Some(footage) = media::footage() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at_50 = dir.path().join("at-50.mp4");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=1440x810:r=50:d=12"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
        .arg(&at_50)
        .status()
        .unwrap();
    assert!(made.success());
    let rung = |name: &str, size, rate, frames| Rung { name: name.to_owned(), size, rate, frames };
    let classic = Expected {
        rungs: vec![
            rung("very_high", (1440, 810), (30, 1), 360),
            rung("high", (1440, 810), (30, 1), 360),
            rung("normal", (1280, 720), (24, 1), 288),
            rung("low", (1280, 720), (24, 1), 288),
        ],
        audio: None,
    };
    let odd_profile = json!({"preset": "ultrafast", "rungs": [
        {"name": "all", "width": 640, "height": 360, "crf": 28, "max_bitrate": 900_000},
        {"name": "some", "width": 320, "height": 180, "crf": 28, "max_bitrate": 300_000, "max_frame_rate": 24},
    ]});
    let odd = Expected {
        rungs: vec![
            rung("all", (640, 360), (179, 6), 1189),
            // 48 frames where the source has 60, and a last one that is begun.
            rung("some", (320, 180), (358, 15), 952),
        ],
        audio: None,
    };
    let farm = farm().await;
    let bottles = footage.join("bottles-360p29.83-h264.mp4");
    let [(_, steady), _] =
        transcode(&farm, [case(&at_50, "classic", classic), case(&bottles, odd_profile, odd)]).await;
    assert_eq!(steady.video[0].lengths, [10.0, 2.0], "segments of 10 s");
    farm.stop().await;
}

/// Long enough for many segments: not a frame is lost, and the sound is in step at the end.
#[tokio::test]
async fn media_variants_ten_minutes_have_every_frame() {
    let Some(variants) = media::variants() else { return };
    let farm = farm().await;
    let profile = json!({"preset": "ultrafast", "rungs": [
        {"name": "only", "width": 320, "height": 180, "crf": 34, "max_bitrate": 300_000},
    ]});
    let expected = Expected::video((25, 1), 15_000, &[("only", 320, 180)]).sound(44_100);
    let [(_, played)] = transcode(&farm, [case(variants.file("ten-minutes.mp4"), profile, expected)]).await;
    assert_eq!(played.video[0].pieces.len(), 100);
    farm.stop().await;
}

#[tokio::test]
async fn media_variants_of_tracks() {
    let Some(variants) = media::variants() else { return };
    let farm = farm().await;
    let (dir, picture) = (tempfile::tempdir().unwrap(), "color=red:s=300x300:r=1:d=1");
    let covered = dir.path().join("covered.m4a");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", picture, "-i"])
        .arg(variants.file("audio-only.m4a"))
        .args(["-map", "1:a", "-map", "0:v", "-frames:v", "1", "-c:v", "png", "-c:a", "copy"])
        .args(["-disposition:v:0", "attached_pic"])
        .arg(&covered)
        .status()
        .unwrap();
    assert!(made.success());
    let sound_alone = || Expected::nothing_to_see().sound(48_000);
    let of = |name: &str, profile: Value, expected| case(variants.file(name), profile, expected);
    let [_, (_, two), (heard, _), (anyway, _), (covered, _)] = transcode(
        &farm,
        [
            of("mono-22k-pcm.mov", small(), Expected::video((25, 1), 132, &WIDE).sound(44_100)),
            // From the start of the French track, 0.023 s before the picture, to the end of the picture.
            of("two-audio-subs.mkv", small(), Expected::video((25, 1), 133, &WIDE).sound(48_000)),
            of("audio-only.m4a", json!("audio"), sound_alone()),
            // A profile with rungs makes what can be made of it.
            of("audio-only.m4a", json!("fast"), sound_alone()),
            // A cover is no video.
            case(&covered, "fast", sound_alone()),
        ],
    )
    .await;
    // The first of the two is the one that is played.
    let source = content::sound(&variants.file("two-audio-subs.mkv"));
    let (lag, alike) = content::sound_lag(&source, &content::sound(&two.audio.unwrap().file));
    assert!(lag.abs() <= 0.003 && alike > 0.9, "{lag} {alike}");
    for recording in [heard, anyway, covered] {
        assert!(recording["thumbnail_url"].is_null());
        let lasts = recording["duration_seconds"].as_f64().unwrap();
        assert!((lasts - 5.312).abs() < 0.03, "{lasts}");
        let input = json!({ "recording_id": recording["id"] });
        let job = farm.client.post("/jobs", &json!({"kind": "thumbnail", "input": input})).await;
        let job = farm.client.wait_for(job["id"].as_str().unwrap()).await;
        failed_for_good(&farm.client, &job, &["unsuitable"]).await;
    }
    farm.stop().await;
}

/// What cannot be right fails plainly, once.
#[tokio::test]
async fn media_variants_broken_files_fail_once() {
    let Some(variants) = media::variants() else { return };
    let farm = Farm::builder().set("REELMILL_INPUT_LOCAL_ROOTS", variants.dir.display()).start().await;
    broken(&farm, &variants).await;
    farm.stop().await;
}

async fn broken(farm: &Farm, variants: &Derived) {
    let client = &farm.client;
    let mut jobs = vec![];
    for name in BROKEN {
        let file = variants.file(name);
        jobs.push((name, client.submit(&file, &json!("fast")).await));
        let url = url_of(&file);
        let body = json!({"kind": "transcode", "input": {"url": url}, "profile": "fast"});
        jobs.push((name, client.post("/jobs", &body).await));
    }
    for (name, job) in jobs {
        println!("waiting for {name}");
        let job = client.wait_for(job["id"].as_str().unwrap()).await;
        let reason = match name {
            "truncated-fast.mp4" => "damaged",
            _ => "not_media",
        };
        failed_for_good(client, &job, &[reason]).await;
    }
}

fn url_of(file: &Path) -> String {
    format!("file://{}", file.display())
}
