//! More qualities of a recording, made around what is there; and how long its files keep.

use std::time::Duration;

use futures::future::join_all;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::judge::Playback;
use crate::reuse::{encodes, segments};
use crate::support::{Paused, answer, client_with, header, is_problem, pointers, text};

async fn quality(client: &Client, id: &str, profiles: Value) -> (StatusCode, HeaderMap, Value) {
    let path = format!("/api/v1/recordings/{id}/transcode/quality");
    answer(client.request(Method::POST, &path).json(&json!({ "profiles": profiles }))).await
}

fn names(recording: &Value) -> Vec<&str> {
    recording["renditions"].as_array().unwrap().iter().map(|rendition| text(rendition, "name")).collect()
}

#[tokio::test]
async fn reuse_only_missing_qualities_are_encoded() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let recording = client.transcode(&media::clip(dir.path(), 14, "640x360"), &json!("fast")).await;
    let id = text(&recording, "id");
    assert_eq!(names(&recording), ["360p", "audio"]);
    let files = client.post(&format!("/recordings/{id}/transcode?format=mp4"), &json!({})).await;
    client.wait_for(text(&files, "id")).await;
    let before = (segments(client, id, "360p").await, segments(client, id, "audio").await);

    let wrong = json!(["nosuch", { "name": "X", "width": 10 }, "audio", { "name": "360p", "width": 320, "height": 180,
        "crf": 28, "max_bitrate": 300_000 }]);
    let refused = quality(client, id, wrong).await;
    is_problem(&refused, 422, "validation");
    let named = pointers(&refused.2);
    for pointer in ["/profiles/0", "/profiles/1/name", "/profiles/1/width", "/profiles/2", "/profiles/3"] {
        assert!(named.contains(&pointer), "{pointer} in {}", refused.2);
    }

    let tiny = json!({ "name": "tiny", "width": 320, "height": 180, "crf": 28, "max_bitrate": 300_000 });
    let held = Paused::workers(&farm);
    let (status, headers, job) = quality(client, id, json!([tiny, "360p"])).await;
    assert_eq!(status, 202, "{job}");
    assert_eq!(header(&headers, "location"), format!("/api/v1/jobs/{}", text(&job, "id")));
    assert_eq!((&job["kind"], &job["profile"]["preset"]), (&json!("vod_convert"), &json!("veryfast")));
    is_problem(&quality(client, id, json!(["240p", tiny])).await, 409, "conflict");
    let progress = client.get(&format!("/recordings/{id}/transcode/progress")).await;
    assert_eq!((&progress["job_id"], progress["percent"].as_f64() < Some(100.0)), (&job["id"], true));
    assert_eq!(client.get(&format!("/recordings/{id}")).await["status"], "ready", "it plays on");
    drop(held);
    let job = client.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let mut made: Vec<&Value> =
        job["tasks"].as_array().unwrap().iter().map(|task| &task["renditions"]).collect();
    made.retain(|names| **names != json!([]));
    assert_eq!(made, [&json!(["tiny"])], "neither the other rung nor the sound: {job}");
    assert_eq!(encodes(&job), 1);
    let progress = client.get(&format!("/recordings/{id}/transcode/progress")).await;
    assert_eq!(progress["job_id"], job["id"]);
    assert!(progress["renditions"].as_array().unwrap().iter().all(|r| r["percent"] == 100.0), "{progress}");

    // The api may remember the set before for a moment; whoever adds to it at once adds to the new one all the same.
    let (status, _, job) = quality(client, id, json!(["360p", "tiny"])).await;
    assert_eq!(
        (status, &job["status"]),
        (StatusCode::ACCEPTED, &json!("succeeded")),
        "nothing is missing: {job}"
    );
    assert_eq!(job["tasks"], json!([]));
    let after = until("the new set to be known", Duration::from_secs(10), || async {
        let recording = client.get(&format!("/recordings/{id}")).await;
        names(&recording).contains(&"tiny").then_some(recording)
    })
    .await;
    assert_eq!(names(&after), ["360p", "tiny", "audio"]);
    let files: Vec<&str> = after["mp4"].as_array().unwrap().iter().map(|file| text(file, "name")).collect();
    assert_eq!(files, ["best", "360p"], "what was made of them stays, too");
    assert_eq!((segments(client, id, "360p").await, segments(client, id, "audio").await), before);
    // All of it as one ladder, by judges of our own and of others.
    let played = Playback::fetch(client, id).await;
    let rungs: Vec<(&str, &[f64])> =
        played.video.iter().map(|track| (track.name.as_str(), track.lengths.as_slice())).collect();
    assert_eq!(rungs.iter().map(|rung| rung.0).collect::<Vec<_>>(), ["360p", "tiny"]);
    assert_eq!(rungs[0].1, rungs[1].1, "cut at the same places");
    // The source has no more to show: the job finds that out.
    let (_, _, job) = quality(client, id, json!(["1080p"])).await;
    let job = client.wait_for(text(&job, "id")).await;
    assert_eq!((&job["status"], encodes(&job)), (&json!("succeeded"), 0), "{job}");
    assert!(job["result"]["plan"]["warnings"][0].as_str().unwrap().starts_with("1080p is left out"), "{job}");
    assert_eq!(names(&client.get(&format!("/recordings/{id}")).await), ["360p", "tiny", "audio"]);
    farm.stop().await;
}

#[tokio::test]
async fn reuse_of_many_wishes_at_once_one_is_accepted_and_none_is_lost() {
    let farm = Farm::builder().processes(2, 1, 1).start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let recording = client.transcode(&media::clip(dir.path(), 6, "640x360"), &json!("fast")).await;
    let id = text(&recording, "id");
    let apis = [farm.api(0), farm.api(1)];
    let mut expected = vec!["360p".to_owned(), "audio".to_owned()];
    for round in 0..3 {
        let wish = |n: usize| {
            let name = format!("r{round}_{n}");
            let rung =
                json!({ "name": name, "width": 320, "height": 180, "crf": 30, "max_bitrate": 300_000 });
            let api = &apis[n % 2];
            async move { (name, quality(api, id, json!([rung])).await) }
        };
        let mut accepted = vec![];
        for (name, answer) in join_all((0..8).map(wish)).await {
            match answer.0 {
                StatusCode::ACCEPTED => accepted.push((name, text(&answer.2, "id").to_owned())),
                _ => is_problem(&answer, 409, "conflict"),
            }
        }
        let [(name, job)] = &accepted[..] else { panic!("one of eight is accepted: {accepted:?}") };
        let job = client.wait_for(job).await;
        assert_eq!(job["status"], "succeeded", "{}", job["error"]);
        expected.push(name.clone());
    }
    expected.sort();
    until("the new set to be known", Duration::from_secs(10), || async {
        let recording = client.get(&format!("/recordings/{id}")).await;
        let mut names: Vec<String> = names(&recording).into_iter().map(str::to_owned).collect();
        names.sort();
        (names == expected).then_some(())
    })
    .await;
    farm.stop().await;
}

/// Who may ask, and what is answered where there is nothing to give.
#[tokio::test]
async fn reuse_routes_of_a_recording_answer_whoever_may_ask() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let held = Paused::workers(&farm);
    let job = client.submit(&media::clip(dir.path(), 4, "640x360"), &json!("fast")).await;
    let id = text(&job, "recording_id").to_owned();
    let reads = [
        "transcode/progress",
        "stream/master.m3u8",
        "stream/playlist.m3u8",
        "stream/playlist.m3u8?quality=360p",
        "stream/manifest.mpd",
        "download",
    ];
    let path = |of: &str, rest: &str| format!("/api/v1/recordings/{of}/{rest}");
    for rest in &reads[1..] {
        let early = answer(client.request(Method::GET, &path(&id, rest))).await;
        is_problem(&early, 404, "not-ready");
        assert_eq!(header(&early.1, "cache-control"), "no-store", "{rest}: it will be there");
    }
    let (status, headers, progress) = answer(client.request(Method::GET, &path(&id, reads[0]))).await;
    assert_eq!((status, &progress["percent"]), (StatusCode::OK, &json!(0.0)), "{progress}");
    assert_eq!(header(&headers, "cache-control"), "private, no-store");
    is_problem(&quality(client, &id, json!(["240p"])).await, 409, "conflict");
    drop(held);
    client.wait_for(text(&job, "id")).await;
    let files = client.post(&format!("/recordings/{id}/transcode?format=mp4"), &json!({})).await;
    client.wait_for(text(&files, "id")).await;

    let reader = client_with(client, None, &["read"]).await;
    let writer = client_with(client, None, &["write"]).await;
    let operator = client_with(client, None, &["fleet:write"]).await;
    let stranger = client_with(client, Some("other"), &["admin"]).await;
    let writes = ["transcode?format=mp4", "transcode/quality"];
    let all =
        reads.iter().map(|rest| (Method::GET, rest)).chain(writes.iter().map(|rest| (Method::POST, rest)));
    for (method, rest) in all {
        let body = json!({ "profiles": ["360p"] });
        let send = |client: &Client, of: &str| {
            let request = client.request(method.clone(), &path(of, rest));
            if method == Method::POST { request.json(&body) } else { request }
        };
        let (may, may_not) = if method == Method::GET { (&reader, &operator) } else { (&writer, &reader) };
        let allowed = answer(send(may, &id)).await;
        assert!(allowed.0.is_success(), "{rest}: {}", allowed.2);
        is_problem(&answer(send(may_not, &id)).await, 403, "forbidden");
        is_problem(&answer(send(&stranger, &id)).await, 404, "not-found");
        is_problem(&answer(send(client, "019a0000-0000-7000-8000-000000000000")).await, 404, "not-found");
        is_problem(&answer(client.anonymous(method.clone(), &path(&id, rest))).await, 401, "unauthorized");
    }
    for rest in ["stream/playlist.m3u8?quality=huge", "download?quality=huge"] {
        let none = answer(client.request(Method::GET, &path(&id, rest))).await;
        is_problem(&none, 404, "not-found");
        assert!(text(&none.2, "detail").contains("360p"), "says which there are: {}", none.2);
    }
    for rest in ["transcode", "transcode?format=avi", "transcode?format=mp4&x=1"] {
        is_problem(&answer(client.request(Method::POST, &path(&id, rest))).await, 400, "malformed");
    }
    for rest in &reads[1..] {
        let (_, headers, _) = answer(client.request(Method::GET, &path(&id, rest))).await;
        assert_eq!(header(&headers, "cache-control"), "private, max-age=10", "{rest}");
        let head = answer(client.request(Method::HEAD, &path(&id, rest))).await;
        assert_eq!((head.0, header(&head.1, "etag")), (StatusCode::OK, header(&headers, "etag")), "{rest}");
        let known =
            client.request(Method::GET, &path(&id, rest)).header("if-none-match", header(&headers, "etag"));
        assert_eq!(answer(known).await.0, StatusCode::NOT_MODIFIED, "{rest}");
    }
    farm.stop().await;
}

/// What a name means for ever may be kept for ever; what grows or may be replaced is asked for again. All carry a validator.
#[tokio::test]
async fn reuse_every_file_of_a_stream_says_how_long_it_keeps() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let recording = client.transcode(&media::clip(dir.path(), 4, "640x360"), &json!("fast")).await;
    let master = client.play_url(text(&recording, "id")).await;
    let base = master.rsplit_once('/').unwrap().0.strip_prefix(&client.base).unwrap().to_owned();
    let mut names = vec!["master.m3u8".to_owned(), "manifest.mpd".to_owned()];
    let mut seen = 0;
    while let Some(name) = names.pop() {
        let path = format!("{base}/{name}");
        let (status, headers, body) = answer(client.anonymous(Method::GET, &path)).await;
        assert_eq!(status, 200, "{path}");
        let listing = name.ends_with(".m3u8") || name.ends_with(".mpd");
        let settled = "public, max-age=10, s-maxage=60, stale-while-revalidate=60";
        let expected = if listing { settled } else { "public, max-age=31536000, immutable" };
        assert_eq!(header(&headers, "cache-control"), expected, "{name}");
        assert!(!headers.contains_key("set-cookie"), "no cache would keep it: {headers:?}");
        let known = client.anonymous(Method::GET, &path).header("if-none-match", header(&headers, "etag"));
        assert_eq!(answer(known).await.0, 304, "{name}");
        seen += 1;
        if name.ends_with(".m3u8") {
            let body = body.as_str().unwrap().to_owned();
            let uris =
                body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned);
            names.extend(uris);
            let quoted = body.split("URI=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            names.extend(quoted);
        }
    }
    assert!(seen >= 7, "master, two playlists, two inits and their segments: {seen}");
    let missing = answer(client.anonymous(Method::GET, &format!("{base}/360p-1-999.m4s"))).await;
    assert_eq!(missing.0, 404);
    assert_eq!(header(&missing.1, "cache-control"), "no-store");
    farm.stop().await;
}
