//! What a project has encoded once it need not encode again.

use std::path::Path;
use std::time::Duration;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::Method;
use serde_json::{Value, json};

use crate::media_tracks::ffmpeg;
use crate::support::{answer, client_with, text};

/// How many encodes a job had.
pub fn encodes(job: &Value) -> usize {
    job["tasks"].as_array().unwrap().iter().filter(|task| task["kind"] == "encode").count()
}

/// All segments of a rung of a recording.
pub async fn segments(client: &Client, recording: &str, rung: &str) -> Vec<Vec<u8>> {
    let master = client.play_url(recording).await;
    let base = master.rsplit_once('/').unwrap().0.to_owned();
    let playlist = client.text(&format!("{base}/{rung}.m3u8")).await;
    let mut all = vec![];
    for name in playlist.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        all.push(client.bytes(&format!("{base}/{name}")).await);
    }
    assert!(!all.is_empty(), "{playlist}");
    all
}

/// Submits a job and waits until it has succeeded.
async fn succeeded(client: &Client, body: &Value) -> Value {
    let job = client.post("/jobs", body).await;
    let job = client.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    job
}

async fn of_upload(client: &Client, clip: &Path) -> Value {
    json!({ "kind": "transcode", "input": { "upload_id": client.upload(clip).await }, "profile": "fast" })
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// However many tracks a set of sound alone has, one of them is offered as a file: where it was made and where it is borrowed.
#[tokio::test]
async fn reuse_of_sound_alone_brings_the_file_that_its_maker_has() {
    let media = tempfile::tempdir().unwrap();
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let (file, sine) = (media.path().join("two.mka"), "sine=frequency=440:duration=4");
    let inputs = ["-f", "lavfi", "-i", sine, "-f", "lavfi", "-i", sine, "-map", "0", "-map", "1"];
    ffmpeg(&inputs, &file);
    let mut names: Vec<Vec<String>> = vec![];
    for _ in 0..2 {
        let body = of_upload(client, &file).await;
        let body = with(body, "outputs", json!(["hls", "mp4"]));
        let job = succeeded(client, &with(body, "profile", json!("audio"))).await;
        assert_eq!(job["result"]["reused_from"].is_null(), names.is_empty(), "{job}");
        let recording = client.get(&format!("/recordings/{}", text(&job, "recording_id"))).await;
        let master = client.text(&client.play_url(text(&job, "recording_id")).await).await;
        assert!(master.contains("audio_2"), "{master}");
        let made = job["tasks"].as_array().unwrap().iter().filter(|task| task["kind"] == "mp4").count();
        assert_eq!(made, 1, "{job}");
        let files = recording["mp4"].as_array().unwrap().iter();
        names.push(files.map(|file| text(file, "name").to_owned()).collect());
    }
    assert_eq!(names[0], names[1]);
    farm.stop().await;
}

#[tokio::test]
async fn reuse_the_same_is_not_encoded_twice_in_a_project() {
    let media = tempfile::tempdir().unwrap();
    let farm = Farm::builder().set("REELMILL_INPUT_LOCAL_ROOTS", media.path().display()).start().await;
    let client = &farm.client;
    let clip = media::clip(media.path(), 8, "640x360");
    let first = succeeded(client, &of_upload(client, &clip).await).await;
    assert!(encodes(&first) > 0);

    // The same bytes by another way and name.
    let renamed = media.path().join("another name.mov");
    std::fs::copy(&clip, &renamed).unwrap();
    let url = format!("file://{}", renamed.display().to_string().replace(' ', "%20"));
    let second =
        succeeded(client, &json!({ "kind": "transcode", "input": { "url": url }, "profile": "fast" })).await;
    assert_eq!(encodes(&second), 0, "{second}");
    assert_eq!(second["result"]["reused_from"]["recording_id"], first["recording_id"]);
    assert_eq!(second["result"]["plan"], first["result"]["plan"]);
    let (one, other) = (text(&first, "recording_id"), text(&second, "recording_id"));
    assert_ne!(one, other);
    let recording = client.get(&format!("/recordings/{other}")).await;
    assert_eq!(recording["status"], "ready");
    assert!(recording["thumbnail_url"].is_string(), "{recording}");
    let shown = segments(client, one, "360p").await;
    assert_eq!(segments(client, other, "360p").await, shown);
    let progress = client.get(&format!("/recordings/{other}/transcode/progress")).await;
    assert_eq!((&progress["percent"], &progress["status"]), (&json!(100.0), &json!("succeeded")));
    let whole = json!({ "name": "360p", "percent": 100.0, "fps": null, "eta_seconds": null });
    assert_eq!(progress["renditions"][0], whole);

    let body = of_upload(client, &clip).await;
    for (field, value) in [
        ("force", json!(true)),
        ("edit", json!({ "end": 4 })),
        (
            "profile",
            json!({ "preset": "veryfast", "rungs": [
            { "name": "360p", "width": 640, "height": 360, "crf": 30, "max_bitrate": 900_000 }] }),
        ),
    ] {
        let job = succeeded(client, &with(body.clone(), field, value)).await;
        assert!(encodes(&job) > 0 && job["result"]["reused_from"].is_null(), "{field}: {job}");
    }
    let stranger = client_with(client, Some("elsewhere"), &["read", "write"]).await;
    let theirs = succeeded(&stranger, &of_upload(&stranger, &clip).await).await;
    assert!(encodes(&theirs) > 0, "projects share nothing");

    // Whoever plays it keeps it; the sweep that would take it is over.
    let (status, _, _) = answer(client.request(Method::DELETE, &format!("/api/v1/recordings/{one}"))).await;
    assert_eq!(status, 204);
    until("the recording and what only it had to be swept", Duration::from_secs(30), || async {
        let db = farm.database.connect().await;
        let open =
            "select (select count(*) from recordings where deleted_at is not null and discarded_at is null)
                         + (select count(*) from garbage where due_at <= now())";
        let open: i64 = db.query_one(open, &[]).await.unwrap().get(0);
        (open == 0).then_some(())
    })
    .await;
    assert_eq!(segments(client, other, "360p").await, shown);
    farm.stop().await;
}

/// Pictures that are made of a set come with it; who wants others has his own set made.
#[tokio::test]
async fn reuse_brings_the_pictures_of_the_set() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let body = of_upload(client, &media::clip(dir.path(), 12, "640x360")).await;
    let first = succeeded(client, &with(body.clone(), "outputs", json!(["hls"]))).await;
    let board = succeeded(client, &body).await;
    assert!(encodes(&first) > 0 && encodes(&board) > 0, "the first set has no storyboard: {board}");
    let series = succeeded(client, &with(body.clone(), "thumbnails", json!({ "interval": 5 }))).await;
    assert!(encodes(&series) > 0, "nor any of them a series: {series}");

    let again = succeeded(client, &with(body.clone(), "thumbnails", json!({ "interval": 5 }))).await;
    assert_eq!(again["result"]["reused_from"]["job_id"], series["id"], "{again}");
    let pictures = again["outputs"]["thumbnails"].as_array().unwrap();
    assert_eq!(pictures.len(), 3, "{again}");
    for (mine, theirs) in pictures.iter().zip(series["outputs"]["thumbnails"].as_array().unwrap()) {
        assert_ne!(mine["url"], theirs["url"], "of its own recording");
        let bytes = async |url: &Value| {
            let response = client.request(Method::GET, url.as_str().unwrap()).send().await.unwrap();
            assert_eq!(response.status(), 200, "{url}");
            response.bytes().await.unwrap()
        };
        assert_eq!(bytes(&mine["url"]).await, bytes(&theirs["url"]).await);
    }
    let storyboard = async |job: &Value| {
        let path = format!("/api/v1/recordings/{}/storyboard.vtt", text(job, "recording_id"));
        let (status, _, body) = answer(client.request(Method::GET, &path)).await;
        assert_eq!(status, 200, "{body}");
        body
    };
    assert_eq!(storyboard(&again).await, storyboard(&series).await);
    let url = format!("/api/v1/recordings/{}/storyboard.vtt", text(&again, "recording_id"));
    assert_eq!(again["outputs"]["storyboard"], url.as_str());
    let poster = with(with(body, "outputs", json!(["hls", "thumbnail"])), "thumbnail", json!({ "time": 3 }));
    let poster = succeeded(client, &poster).await;
    assert_eq!((encodes(&poster), &poster["result"]["thumbnail"]["time"]), (0, &json!(3.0)), "{poster}");
    farm.stop().await;
}

#[tokio::test]
async fn reuse_two_at_once_are_both_made() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let body = of_upload(client, &media::clip(dir.path(), 6, "640x360")).await;
    let (one, other) = tokio::join!(succeeded(client, &body), succeeded(client, &body));
    let (one, other) = (text(&one, "recording_id"), text(&other, "recording_id"));
    assert_ne!(one, other);
    // One plan, one build: the same bytes, whether the second was in time to borrow them or not.
    assert_eq!(segments(client, one, "360p").await, segments(client, other, "360p").await);
    assert_eq!(encodes(&succeeded(client, &body).await), 0);
    farm.stop().await;
}

#[tokio::test]
async fn reuse_nothing_is_taken_from_a_job_that_did_not_succeed() {
    let farm = Farm::builder().set("REELMILL_ENCODE_THREADS", 1).start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let body = of_upload(client, &media::clip(dir.path(), 40, "640x360")).await;
    let job = client.post("/jobs", &body).await;
    let path = format!("/jobs/{}", text(&job, "id"));
    until("a part of the job to be published", Duration::from_secs(60), || async {
        let job = client.get(&path).await;
        let done = |task: &Value| task["kind"] == "encode" && task["status"] == "succeeded";
        job["tasks"].as_array().unwrap().iter().any(done).then_some(())
    })
    .await;
    client.post(&format!("{path}/cancel"), &json!({})).await;
    let again = succeeded(client, &body).await;
    assert!(encodes(&again) > 0 && again["result"]["reused_from"].is_null(), "{again}");

    let silent = with(body, "profile", json!({ "rungs": [], "audio": { "bitrate": 96_000 } }));
    let words = dir.path().join("words.mp4");
    std::fs::write(&words, "no media").unwrap();
    let failing = with(silent, "input", json!({ "upload_id": client.upload(&words).await }));
    for _ in 0..2 {
        let job = client.post("/jobs", &failing).await;
        assert_eq!(
            client.wait_for(text(&job, "id")).await["status"],
            "failed",
            "the second time as the first"
        );
    }
    farm.stop().await;
}
