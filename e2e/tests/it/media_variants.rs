//! The awkward inputs of `make-variants`: each becomes what its row says is right.

use std::path::Path;
use std::process::Command;

use reelmill_testkit::ffmpeg::probe_file;
use reelmill_testkit::media::{self, Derived};
use reelmill_testkit::{Client, Farm};
use reqwest::Method;
use serde_json::{Value, json};

use crate::judge::{Expected, case, content, failed_for_good, transcode};
use crate::media_times::{TIMES, WIDE, small};
use crate::media_tracks::cues;

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
const TRACKS: [&str; 3] = ["audio-only.m4a", "mono-22k-pcm.mov", "two-audio-subs.mkv"];
const BROKEN: [&str; 5] = ["truncated-tail.mp4", "truncated-fast.mp4", "empty.mp4", "text.mp4", "noise.mp4"];

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
            of(
                "two-audio-subs.mkv",
                small(),
                Expected::video((25, 1), 133, &WIDE).sound(48_000).sound(44_100).texts(1),
            ),
            of("audio-only.m4a", json!("audio"), sound_alone()),
            // A profile with rungs makes what can be made of it.
            of("audio-only.m4a", json!("fast"), sound_alone()),
            // A cover is no video.
            case(&covered, "fast", sound_alone()),
        ],
    )
    .await;
    // Both are there; the first of the two is the one that is played unasked.
    let source = content::sound(&variants.file("two-audio-subs.mkv"));
    let english = two.audio.as_ref().unwrap();
    let (lag, alike) = content::sound_lag(&source, &content::sound(&english.file));
    assert!(lag.abs() <= 0.003 && alike > 0.9, "{lag} {alike}");
    let [french] = two.more_audio.as_slice() else { panic!("two audio renditions") };
    let tone = content::fine_sound(&french.file);
    // Behind its end there is silence, and what the encoder makes of that.
    let crossings =
        tone[48_000..4 * 48_000].windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
    assert!((988..=992).contains(&crossings), "330 Hz for three seconds are heard, not {crossings} periods");
    let told = [english, french].map(|track| {
        let media = track.media.as_ref().unwrap();
        (media.name.as_str(), media.language.as_deref().unwrap(), media.autoselect)
    });
    assert_eq!(told, [("English", "en", true), ("French", "fr", true)]);
    let [text] = two.text.as_slice() else { panic!("one WebVTT rendition") };
    assert_eq!((text.media.name.as_str(), text.media.language.as_deref()), ("English", Some("en")));
    let cues = cues(&text.segments);
    // The file begins 0.023 s before the first picture: the texts keep their place beside it.
    let right = [(0.523, 2.023, "Hello, mill."), (2.523, 5.023, "Second line")];
    assert_eq!(cues.len(), right.len(), "{cues:?}");
    for (cue, right) in cues.iter().zip(right) {
        assert!(
            (cue.0 - right.0).abs() < 0.03 && (cue.1 - right.1).abs() < 0.03 && cue.2 == right.2,
            "{cues:?}"
        );
    }
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
        if name == "empty.mp4" {
            // Told at the door, where the door knows; by its address only the worker finds out.
            let input = json!({ "upload_id": client.upload(&file).await });
            let body = json!({ "kind": "transcode", "input": input });
            let (status, problem) = client.try_post("/jobs", &body).await;
            assert_eq!(status.as_u16(), 422, "{problem}");
            assert_eq!(problem["errors"][0]["detail"], "the upload is empty: zero bytes");
        } else {
            jobs.push((name, client.submit(&file, &json!("fast")).await));
        }
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
