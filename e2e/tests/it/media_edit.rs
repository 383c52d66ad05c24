//! A part of the source, a part of the picture, a mark on it: exactly what was asked for.

use std::path::Path;
use std::process::Command;

use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use crate::judge::{Expected, Playback, content, watch};
use crate::support::{client_with, pointers, text};

fn profile() -> Value {
    json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "only", "width": 640, "height": 360, "crf": 20, "max_bitrate": 2_000_000},
    ]})
}

async fn made(farm: &Farm, source: &Path, edit: Value, expected: &Expected) -> Playback {
    let upload = farm.client.upload(source).await;
    let job =
        json!({"kind": "transcode", "input": {"upload_id": upload}, "profile": profile(), "edit": edit});
    let job = farm.client.post("/jobs", &job).await;
    let job = farm.client.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let recording = farm.client.get(&format!("/recordings/{}", text(&job, "recording_id"))).await;
    watch(&farm.client, &recording, expected).await
}

/// Red, green and blue of an area of the frame at `seconds`, averaged.
fn colour(file: &Path, seconds: f64, area: &str) -> [u8; 3] {
    let filter = format!("crop={area},scale=1:1:flags=area,format=rgb24");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-ss", &seconds.to_string(), "-i"])
        .arg(file)
        .args(["-frames:v", "1", "-vf", &filter, "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    output.stdout.try_into().unwrap_or_else(|bytes| panic!("{bytes:?} is no pixel"))
}

fn ffmpeg(args: &[&str], output: &Path) {
    let done = Command::new("ffmpeg").args(["-v", "error"]).args(args).arg(output).status().unwrap();
    assert!(done.success(), "{args:?}");
}

#[tokio::test]
async fn media_edit_trims_to_the_frame() {
    let farm = Farm::builder().set("REELMILL_CHUNK_SECONDS", 4).start().await;
    let clip = media::clip(farm.dir.path(), 20, "640x360");
    // Where every window sounds different from its neighbours.
    let source = farm.dir.path().join("glide.mp4");
    let glide = "aevalsrc='0.4*sin(2*PI*(220*t+9*t*t))':s=48000:d=20";
    let mapped = ["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac"];
    ffmpeg(&[&["-i", clip.to_str().unwrap(), "-f", "lavfi", "-i", glide][..], &mapped].concat(), &source);

    let expected = Expected::video((25, 1), 250, &[("only", 640, 360)]).sound(48_000);
    let played = made(&farm, &source, json!({"start": 4.48, "end": 14.48}), &expected).await;
    let shown = content::pictures_at_rate(&source, (25, 1));
    let seen = content::pictures(&played.video[0].file);
    assert_eq!(seen.len(), 250);
    for (n, frame) in seen.iter().enumerate() {
        let off = content::difference(frame, &shown[112 + n]);
        let next = content::difference(frame, &shown[113 + n]);
        assert!(off < 3.0 && off < next, "frame {n} differs by {off}, by {next} from the one behind it");
    }
    let heard = content::fine_sound(&played.audio.as_ref().unwrap().file);
    let original = content::fine_sound(&source);
    let from = 448 * 480;
    // A decoder fades in over the first frame: the one before it is not there.
    for at in [2048, 48_000, 200_000, 470_000] {
        let error = |lag: i64| {
            let begin = (from + at as i64 + lag) as usize;
            let pairs = heard[at..at + 4000].iter().zip(&original[begin..begin + 4000]);
            pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>() / 4000.0
        };
        let best = (-480..=480).min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap();
        assert!(best.abs() <= 1, "the sound at sample {at} is {best} samples off");
    }
    farm.stop().await;
}

#[tokio::test]
async fn media_edit_crops_pads_and_marks() {
    let farm = Farm::builder().start().await;
    let dir = farm.dir.path();
    // Left half blue, right half green.
    let source = dir.join("halves.mp4");
    let halves = "color=blue:s=320x360:r=25:d=4[l];color=green:s=320x360:r=25:d=4[r];[l][r]hstack";
    ffmpeg(&["-f", "lavfi", "-i", halves, "-c:v", "libx264", "-pix_fmt", "yuv420p"], &source);
    let image = dir.join("mark.png");
    ffmpeg(&["-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1"], &image);
    let mark = farm.client.upload(&image).await;

    // The right half alone is 320x360: in 16:9 it stands between bars.
    let edit = json!({
        "crop": {"left": 320}, "pad": "16:9", "max_height": 180, "max_frame_rate": 10,
        "watermark": {"upload_id": mark, "corner": "top_left", "width": 0.2, "margin": 0.1, "opacity": 1},
    });
    let expected = Expected::video((10, 1), 40, &[("only", 320, 180)]);
    let played = made(&farm, &source, edit, &expected).await;
    let near = |file: &Path, seconds: f64, area: &str, wanted: [u8; 3]| {
        let found = colour(file, seconds, area);
        let far = found.iter().zip(wanted).any(|(a, b)| a.abs_diff(b) > 24);
        assert!(!far, "{area} of {} is {found:?}, not {wanted:?}", file.display());
    };
    let framed = |file: &Path, seconds: f64| {
        near(file, seconds, "60:20:4:150", [0, 0, 0]);
        near(file, seconds, "60:20:256:80", [0, 0, 0]);
        near(file, seconds, "100:60:110:110", [0, 128, 0]);
        // 64 pixels wide, 32 from the edges.
        near(file, seconds, "40:40:44:44", [255, 0, 0]);
        near(file, seconds, "10:10:20:20", [0, 0, 0]);
    };
    framed(&played.video[0].file, 2.0);

    // Pictures show what the recording shows, and no longer what it showed before it was made anew.
    let list = farm.client.get("/recordings").await;
    let id = text(&list["recordings"][0], "id");
    framed(&picture(&farm, id, "", "poster.jpg").await, 0.0);
    framed(&picture(&farm, id, "?t=1&width=320", "marked.jpg").await, 0.0);
    let anew = json!({"kind": "transcode", "input": {"recording_id": id}, "profile": profile()});
    let anew = farm.client.post("/jobs", &anew).await;
    assert_eq!(farm.client.wait_for(text(&anew, "id")).await["status"], "succeeded");
    for (query, name) in [("", "poster-2.jpg"), ("?t=1&width=320", "plain.jpg")] {
        let whole = picture(&farm, id, query, name).await;
        near(&whole, 0.0, "100:160:10:10", [0, 0, 255]);
        near(&whole, 0.0, "100:160:210:10", [0, 128, 0]);
    }
    farm.stop().await;
}

async fn picture(farm: &Farm, id: &str, query: &str, name: &str) -> std::path::PathBuf {
    let path = format!("/api/v1/recordings/{id}/thumbnail{query}");
    let response = farm.client.request(reqwest::Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let file = farm.dir.path().join(name);
    std::fs::write(&file, response.bytes().await.unwrap()).unwrap();
    file
}

#[tokio::test]
async fn media_edit_says_what_is_wrong() {
    let farm = Farm::builder().start().await;
    let clip = media::clip(farm.dir.path(), 2, "320x180");
    let upload = farm.client.upload(&clip).await;
    let job = |edit: Value| json!({"kind": "transcode", "input": {"upload_id": upload}, "edit": edit});
    let wrong = json!({
        "start": 5, "end": 4, "max_width": 1, "max_frame_rate": 0, "pad": "wide", "crop": {"top": 100_000},
        "watermark": {"upload_id": upload, "width": 2},
    });
    let (status, body) = farm.client.try_post("/jobs", &job(wrong)).await;
    assert_eq!(status, 422, "{body}");
    let wanted = [
        "/edit/end",
        "/edit/max_width",
        "/edit/max_frame_rate",
        "/edit/crop/top",
        "/edit/pad",
        "/edit/watermark/width",
        "/edit/watermark/upload_id",
    ];
    assert_eq!(pointers(&body), wanted);

    // What only shows in the source ends the job with a reason, and is not tried again.
    for (edit, reason) in [
        (json!({"start": 30}), "begins at 30.000 s, but the source ends at 2.0"),
        (json!({"crop": {"left": 310}}), "leaves nothing of a picture of 320x180"),
    ] {
        let accepted = farm.client.post("/jobs", &job(edit)).await;
        let ended = farm.client.wait_for(text(&accepted, "id")).await;
        assert_eq!((&ended["status"], &ended["attempts"]), (&json!("failed"), &json!(1)), "{ended}");
        assert!(text(&ended["error"], "message").contains(reason), "{}", ended["error"]);
    }

    // Another project's upload is not there.
    let stranger = client_with(&farm.client, Some("strangers"), &["read", "write"]).await;
    let own = stranger.upload(&clip).await;
    let theirs = json!({"kind": "transcode", "input": {"upload_id": own}, "edit": {"watermark": {"upload_id": upload}}});
    let (status, body) = stranger.try_post("/jobs", &theirs).await;
    assert_eq!((status.as_u16(), pointers(&body)), (422, vec!["/edit/watermark/upload_id"]), "{body}");
    farm.stop().await;
}
