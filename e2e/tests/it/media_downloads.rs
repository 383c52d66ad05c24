//! Renditions as one file each: what a browser saves and plays, made without encoding, at once with the job or later.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reelmill_testkit::ffmpeg::{ffmpeg, probe_file};
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::judge::{Playback, Track};
use crate::support::{Paused, answer, files_under, header, is_problem, objects_dir, pointers, text};

fn profile() -> Value {
    json!({"preset": "veryfast", "rungs": [
        {"name": "large", "width": 640, "height": 360, "crf": 24, "max_bitrate": 900_000},
        {"name": "small", "width": 320, "height": 180, "crf": 26, "max_bitrate": 300_000, "max_frame_rate": 15},
    ]})
}

/// The same with a picture of another codec.
fn mixed() -> Value {
    let mut profile = profile();
    let other = json!({"name": "other", "width": 160, "height": 90, "codec": "vp9", "crf": 40, "max_bitrate": 100_000});
    profile["rungs"].as_array_mut().unwrap().push(other);
    profile
}

/// Names and heights of a list of files, which must have addresses of their own.
fn listed(files: &Value) -> Vec<(&str, Option<u64>)> {
    let files = files.as_array().unwrap();
    let mut urls: Vec<&str> = files.iter().map(|file| text(file, "url")).collect();
    urls.sort_unstable();
    urls.dedup();
    assert_eq!(urls.len(), files.len());
    files.iter().map(|file| (text(file, "name"), file["height"].as_u64())).collect()
}

const ALL: [(&str, Option<u64>); 3] = [("best", Some(360)), ("large", Some(360)), ("small", Some(180))];

const MIXED: [(&str, Option<u64>); 4] = [ALL[0], ALL[1], ALL[2], ("other", Some(90))];

#[tokio::test]
async fn media_downloads_come_with_the_job() {
    let farm = Farm::builder().start().await;
    let api = &farm.client;
    let clip = media::clip(farm.dir.path(), 14, "640x360");
    let upload = api.upload(&clip).await;
    let body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": profile(), "outputs": ["hls", "mp4"] });
    let job = api.post("/jobs", &body).await;
    let job = api.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    assert_eq!(listed(&job["outputs"]["mp4"]), ALL);
    let kinds: Vec<&str> = job["tasks"].as_array().unwrap().iter().map(|task| text(task, "kind")).collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "mp4").count(),
        2,
        "the best is not made twice: {kinds:?}"
    );

    let id = text(&job, "recording_id");
    api.request(Method::PATCH, &format!("/api/v1/recordings/{id}"))
        .json(&json!({ "title": "Über/alles.mov" }))
        .send()
        .await
        .unwrap();
    let recording = api.get(&format!("/recordings/{id}")).await;
    assert_eq!(listed(&recording["mp4"]), ALL);
    let played = Playback::fetch(api, id).await;
    for track in &played.video {
        let file = save(&farm, id, &track.name).await;
        is_the_rendition(&file, track, played.audio.as_ref());
    }
    answers_like_a_file(&farm, id).await;

    let refused = answer(api.request(Method::GET, &download(id, "huge"))).await;
    is_problem(&refused, 404, "not-found");
    assert!(text(&refused.2, "detail").contains("best, large, small"), "{}", refused.2);
    is_problem(
        &answer(api.request(Method::GET, &format!("{}&x=1", download(id, "small")))).await,
        400,
        "malformed",
    );
    api.request(Method::DELETE, &format!("/api/v1/recordings/{id}")).send().await.unwrap();
    until("the store to be empty", Duration::from_secs(20), || async {
        files_under(&objects_dir(&farm)).is_empty().then_some(())
    })
    .await;
    farm.stop().await;
}

fn download(id: &str, quality: &str) -> String {
    format!("/api/v1/recordings/{id}/download?quality={quality}")
}

async fn save(farm: &Farm, id: &str, quality: &str) -> PathBuf {
    let response = farm.client.request(Method::GET, &download(id, quality)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let path = farm.dir.path().join(format!("{quality}.mp4"));
    std::fs::write(&path, response.bytes().await.unwrap()).unwrap();
    path
}

/// The file holds what the segments hold, frame by frame, at the same times, and its index comes first.
fn is_the_rendition(file: &Path, track: &Track, sound: Option<&Track>) {
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(boxes(&bytes), ["ftyp", "moov", "free", "mdat"]);
    let told = probe_file(&["-show_streams", "-show_format"], file.to_str().unwrap());
    let streams = told["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 1 + usize::from(sound.is_some()));
    assert_eq!(told["format"]["start_time"], "0.000000");
    assert_eq!(told["format"]["tags"]["encoder"], Value::Null, "no versions");
    for (stream, (kind, source)) in
        streams.iter().zip([Some(("v", track)), sound.map(|s| ("a", s))].into_iter().flatten())
    {
        assert_eq!(stream["start_time"], "0.000000", "{kind}");
        let (here, there) = (packets(file, kind), packets(&source.file, kind));
        assert_eq!(here.len(), there.len());
        assert_eq!(stream["nb_frames"], here.len().to_string().as_str());
        for (here, there) in here.iter().zip(&there) {
            assert!((here - there).abs() < 2e-6, "{kind}: {here} {there}");
        }
        let hashes = |file: &Path| {
            let map = format!("0:{kind}:0");
            ffmpeg(&[
                "-i",
                file.to_str().unwrap(),
                "-map",
                &map,
                "-fps_mode",
                "passthrough",
                "-f",
                "framehash",
                "-",
            ])
        };
        let frames = |file: &Path| -> Vec<String> {
            let text = String::from_utf8(hashes(file)).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
        };
        assert!(frames(file) == frames(&source.file), "{kind}: other frames");
    }
}

/// The kinds of the boxes of a file, from its start.
fn boxes(bytes: &[u8]) -> Vec<&str> {
    let mut kinds = vec![];
    let mut rest = bytes;
    while !rest.is_empty() {
        kinds.push(std::str::from_utf8(&rest[4..8]).unwrap());
        rest = &rest[u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize..];
    }
    kinds
}

/// Presentation times in seconds, in order, as ffprobe tells them without a word else.
fn packets(file: &Path, stream: &str) -> Vec<f64> {
    let output = Command::new("ffprobe")
        .args(["-v", "warning", "-select_streams", stream, "-show_entries", "packet=pts_time", "-of", "json"])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let times = told["packets"].as_array().unwrap().iter();
    let mut times: Vec<f64> = times.map(|packet| text(packet, "pts_time").parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

async fn answers_like_a_file(farm: &Farm, id: &str) {
    let api = &farm.client;
    let get = |path: &str| api.request(Method::GET, path);
    let best = get(&format!("/api/v1/recordings/{id}/download")).send().await.unwrap();
    let headers = best.headers().clone();
    let whole = best.bytes().await.unwrap();
    assert_eq!(header(&headers, "content-type"), "video/mp4");
    assert_eq!(header(&headers, "cache-control"), "private, max-age=10");
    assert_eq!(
        header(&headers, "content-disposition"),
        "attachment; filename=\"_ber_alles-large.mp4\"; filename*=UTF-8''%C3%9Cber_alles-large.mp4"
    );
    let etag = header(&headers, "etag");
    for quality in ["best", "large"] {
        let same = get(&download(id, quality)).send().await.unwrap();
        assert_eq!(header(same.headers(), "etag"), etag);
        assert!(same.bytes().await.unwrap() == whole);
    }
    let part = get(&download(id, "large")).header("range", "bytes=100-199").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(part.headers(), "content-range"), format!("bytes 100-199/{}", whole.len()));
    assert!(part.bytes().await.unwrap() == whole[100..200]);
    let known = get(&download(id, "large")).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);

    // A viewer's token opens it, a stranger has none.
    let master = api.play_url(id).await;
    let base = master.strip_suffix("/stream/master.m3u8").unwrap();
    assert!(api.bytes(&format!("{base}/download")).await == whole);
    is_problem(&answer(api.anonymous(Method::GET, &download(id, "large"))).await, 401, "unauthorized");
}

#[tokio::test]
async fn media_downloads_are_made_later_of_what_is_there() {
    let farm = Farm::builder().start().await;
    let api = &farm.client;
    let clip = media::clip(farm.dir.path(), 6, "640x360");
    let held = Paused::workers(&farm);
    let job = api.submit(&clip, &mixed()).await;
    let id = text(&job, "recording_id");
    let early = post(api, id, "mp4").await;
    is_problem(&early, 409, "conflict");
    assert!(text(&early.2, "detail").contains("ask again when it is over"), "{}", early.2);
    is_problem(&answer(api.request(Method::GET, &download(id, "large"))).await, 404, "not-ready");
    drop(held);
    api.wait_for(text(&job, "id")).await;

    until("the recording to be known as ready", Duration::from_secs(10), || async {
        let recording = api.get(&format!("/recordings/{id}")).await;
        (recording["status"] == "ready" && recording["renditions"][0]["name"] == "large").then_some(())
    })
    .await;
    assert_eq!(api.get(&format!("/recordings/{id}")).await["mp4"], json!([]));
    let none = answer(api.request(Method::GET, &download(id, "large"))).await;
    is_problem(&none, 404, "not-ready");
    assert!(text(&none.2, "detail").contains("transcode?format=mp4"), "says what makes it: {}", none.2);

    let (status, headers, job) = post(api, id, "mp4").await;
    assert_eq!((status, text(&job, "kind")), (StatusCode::ACCEPTED, "vod_convert"));
    assert_eq!(header(&headers, "location"), format!("/api/v1/jobs/{}", text(&job, "id")));
    let job = api.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    assert_eq!(listed(&job["outputs"]["mp4"]), MIXED);
    let kinds: Vec<&str> = job["tasks"].as_array().unwrap().iter().map(|task| text(task, "kind")).collect();
    assert_eq!(kinds, ["mp4"; 3], "nothing is encoded");
    assert_eq!(listed(&api.get(&format!("/recordings/{id}")).await["mp4"]), MIXED);
    let played = Playback::fetch(api, id).await;
    for track in &played.video[1..] {
        is_the_rendition(&save(&farm, id, &track.name).await, track, played.audio.as_ref());
    }

    // What is there is not made again; the job says so by having nothing to do.
    let (status, _, job) = post(api, id, "mp4").await;
    assert_eq!((status, text(&job, "status")), (StatusCode::ACCEPTED, "succeeded"), "{job}");
    assert_eq!((job["tasks"].clone(), listed(&job["outputs"]["mp4"])), (json!([]), MIXED.to_vec()));
    assert!(job["started_at"].is_string() && job["finished_at"].is_string());
    let (status, _, job) = post(api, id, "dash").await;
    assert_eq!((status, text(&job, "status")), (StatusCode::ACCEPTED, "succeeded"), "{job}");
    assert_eq!(job["outputs"]["dash"], format!("/api/v1/recordings/{id}/stream/manifest.mpd"));
    let (status, _, job) = post(api, id, "hls").await;
    assert_eq!((status, text(&job, "status")), (StatusCode::ACCEPTED, "succeeded"), "{job}");
    assert_eq!(job["outputs"]["hls"], format!("/api/v1/recordings/{id}/stream/master.m3u8"));
    nonsense_is_refused(api, id).await;
    farm.stop().await;
}

/// What a source says of itself is nobody's business, unless somebody makes it so; also in a file that is made later.
#[tokio::test]
async fn media_downloads_tell_of_the_source_only_where_it_was_asked_for() {
    let farm = Farm::builder().start().await;
    let api = &farm.client;
    let source = farm.dir.path().join("tagged.mp4");
    let tags = [
        ("title", "Ein Film; \"A=B\" # 1\nzwei"),
        ("artist", "Ä. Mann"),
        ("date", "2019-05-01"),
        ("location", "+52.5200+013.4050/"),
    ];
    let mut make = Command::new("ffmpeg");
    make.args(["-nostdin", "-v", "error", "-i"]).arg(media::clip(farm.dir.path(), 2, "320x180"));
    for (name, value) in tags {
        make.args(["-metadata", &format!("{name}={value}")]);
    }
    assert!(make.args(["-c", "copy"]).arg(&source).status().unwrap().success());

    let mut makers = vec![];
    for (metadata, outputs) in [
        (None, json!(["hls", "mp4"])),
        (Some("drop"), json!(["hls", "mp4"])),
        (Some("keep"), json!(["hls", "mp4"])),
        (Some("keep"), json!(["hls"])),
    ] {
        let upload = api.upload(&source).await;
        let mut body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": profile(), "outputs": outputs, "force": true });
        if let Some(metadata) = metadata {
            body["edit"] = json!({ "metadata": metadata });
        }
        let job = api.post("/jobs", &body).await;
        let job = api.wait_for(text(&job, "id")).await;
        assert_eq!(job["status"], "succeeded", "{}", job["error"]);
        let id = text(&job, "recording_id");
        if outputs == json!(["hls"]) {
            let job = post(api, id, "mp4").await.2;
            assert_eq!(api.wait_for(text(&job, "id")).await["status"], "succeeded");
        }
        let file = save(&farm, id, "best").await;
        let told = probe_file(&["-show_format"], file.to_str().unwrap());
        let told = |name: &str| told["format"]["tags"][name].as_str().unwrap_or_default().to_owned();
        if metadata == Some("keep") {
            assert_eq!(
                (told("title").as_str(), told("artist").as_str()),
                ("Ein Film; \"A=B\" # 1 zwei", "Ä. Mann")
            );
            assert_eq!(told("date"), "2019-05-01");
            makers.push(id.to_owned());
        } else {
            for (name, _) in tags {
                assert_eq!(told(name), "", "{name}");
            }
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(8).any(|eight| eight == b"+52.5200"), "the place is in the file");
        }
    }

    // Who borrows what was made has it from a source of its own, and still when the lenders are gone.
    let upload = api.upload(&source).await;
    let edit = json!({ "metadata": "keep" });
    let body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": profile(), "outputs": ["hls"], "edit": edit });
    let job = api.post("/jobs", &body).await;
    let job = api.wait_for(text(&job, "id")).await;
    assert!(job["result"]["reused_from"].is_object(), "{job}");
    for maker in makers {
        let gone = answer(api.request(Method::DELETE, &format!("/api/v1/recordings/{maker}"))).await;
        assert_eq!(gone.0, 204);
    }
    let id = text(&job, "recording_id");
    let job = post(api, id, "mp4").await.2;
    assert_eq!(api.wait_for(text(&job, "id")).await["status"], "succeeded");
    let told = probe_file(&["-show_format"], save(&farm, id, "best").await.to_str().unwrap());
    assert_eq!(told["format"]["tags"]["artist"], "Ä. Mann");
    farm.stop().await;
}

async fn post(api: &Client, id: &str, format: &str) -> (StatusCode, reqwest::header::HeaderMap, Value) {
    answer(api.request(Method::POST, &format!("/api/v1/recordings/{id}/transcode?format={format}"))).await
}

async fn nonsense_is_refused(api: &Client, id: &str) {
    is_problem(&post(api, id, "avi").await, 400, "malformed");
    is_problem(&post(api, "0198c0de-0000-7000-8000-000000000000", "mp4").await, 404, "not-found");
    let convert =
        |input: Value, outputs: Value| json!({ "kind": "vod_convert", "input": input, "outputs": outputs });
    let here = json!({ "recording_id": id });
    let upload = json!({ "upload_id": "0198c0de-0000-7000-8000-000000000000" });
    for (body, named) in [
        (json!({ "kind": "vod_convert", "input": here }), vec!["/outputs"]),
        (convert(here.clone(), json!([])), vec!["/outputs"]),
        (convert(here.clone(), json!(["thumbnail"])), vec!["/outputs/0"]),
        (convert(here.clone(), json!(["mp4", "avi"])), vec!["/outputs/1"]),
        (convert(upload, json!(["mp4"])), vec!["/input", "/input/upload_id"]),
    ] {
        let refused = answer(api.request(Method::POST, "/api/v1/jobs").json(&body)).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), named, "{body}");
    }
    let (status, job) = api.try_post("/jobs", &convert(here, json!(["hls", "mp4"]))).await;
    assert_eq!((status, text(&job, "status")), (StatusCode::CREATED, "succeeded"));
}

/// Sound alone is a file too.
#[tokio::test]
async fn media_downloads_of_sound_alone() {
    let farm = Farm::builder().start().await;
    let api = &farm.client;
    let clip = media::clip(farm.dir.path(), 6, "320x180");
    let recording = api.transcode(&clip, &json!("audio")).await;
    let id = text(&recording, "id");
    let (_, _, job) = post(api, id, "mp4").await;
    let job = api.wait_for(text(&job, "id")).await;
    assert_eq!(listed(&job["outputs"]["mp4"]), [("best", None), ("audio", None)], "{}", job["error"]);
    let played = Playback::fetch(api, id).await;
    let file = save(&farm, id, "best").await;
    let sound = played.audio.as_ref().unwrap();
    assert_eq!(packets(&file, "a"), packets(&sound.file, "a"));
    let head = api.request(Method::HEAD, &download(id, "audio")).send().await.unwrap();
    assert_eq!(header(head.headers(), "content-type"), "audio/mp4");
    farm.stop().await;
}

/// What was only looked into is encoded first.
#[tokio::test]
async fn media_downloads_of_what_was_never_encoded() {
    let farm = Farm::builder().start().await;
    let api = &farm.client;
    let upload = api.upload(&media::clip(farm.dir.path(), 2, "320x180")).await;
    let probed = api.post("/jobs", &json!({ "kind": "probe", "input": { "upload_id": upload } })).await;
    let id = text(&api.wait_for(text(&probed, "id")).await, "recording_id").to_owned();
    let (status, _, job) = post(api, &id, "mp4").await;
    assert_eq!((status, text(&job, "kind")), (StatusCode::ACCEPTED, "transcode"));
    let job = api.wait_for(text(&job, "id")).await;
    assert_eq!(listed(&job["outputs"]["mp4"])[0].0, "best", "{}", job["error"]);
    assert!(job["timings"]["ready"].as_f64() <= job["timings"]["total"].as_f64(), "{}", job["timings"]);
    let (status, _, job) = post(api, &id, "hls").await;
    assert_eq!((status, text(&job, "kind")), (StatusCode::ACCEPTED, "vod_convert"), "nothing is left to do");
    Playback::fetch(api, &id).await;
    farm.stop().await;
}
