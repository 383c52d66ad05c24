//! Media over WebSockets: recordings and livestreams, for holders of a key, for viewers, and for those who joined a stream.

use std::path::{Path, PathBuf};

use futures::future::join_all;
use nix::sys::signal::Signal;
use reelmill_testkit::farm::Part;
use reelmill_testkit::ffmpeg::{ffmpeg, ffmpeg_log};
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http_auth::log_in;
use crate::live::{self, PATIENCE, Publisher, becomes, footage, listed, livestream, numbers};
use crate::socket_peer::{Came, Frame, Peer};
use crate::support::{answer, header, is_problem, pointers, text};

const NOBODY: &str = "01890000-0000-7000-8000-000000000000";

/// Two rungs in segments of two seconds.
fn profile() -> Value {
    json!({ "segment_duration": 2, "preset": "ultrafast", "rungs": [
        { "name": "180p", "width": 320, "height": 180, "crf": 20, "max_bitrate": 1_600_000 },
        { "name": "144p", "width": 256, "height": 144, "crf": 28, "max_bitrate": 200_000 } ] })
}

/// Pictures that take as many bits as they may, and a tone.
fn noise(dir: &Path, seconds: u32, size: &str) -> PathBuf {
    let file = dir.join(format!("noise-{seconds}.mp4"));
    let picture = format!("testsrc2=size={size}:rate=25:duration={seconds},noise=alls=60:allf=t");
    let sound = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    let made = [
        "-f",
        "lavfi",
        "-i",
        &picture,
        "-f",
        "lavfi",
        "-i",
        &sound,
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-crf",
        "12",
    ];
    ffmpeg(&[&made[..], &["-pix_fmt", "yuv420p", "-c:a", "aac", "-y", file.to_str().unwrap()]].concat());
    file
}

/// What came of one track decodes without a word; gives how many frames of media there were.
fn decodes(farm: &Farm, frames: &[Frame], track: &str) -> usize {
    let mine: Vec<&Frame> = frames.iter().filter(|frame| frame.text("track") == track).collect();
    assert!(mine[0].is("init"), "{}", mine[0].header);
    let file = farm.dir.path().join(format!("socket-{track}.mp4"));
    std::fs::write(&file, mine.iter().flat_map(|frame| &frame.media).copied().collect::<Vec<u8>>()).unwrap();
    let log = ffmpeg_log(&["-loglevel", "error", "-xerror", "-i", file.to_str().unwrap(), "-f", "null", "-"]);
    assert_eq!(log, "", "{track}");
    mine.iter().filter(|frame| !frame.media.is_empty() && !frame.is("init")).count()
}

/// Numbers of the segments of the picture, each with its quality.
fn picture(frames: &[Frame]) -> Vec<(u64, &str)> {
    let segments = frames.iter().filter(|frame| frame.is("segment") && frame.text("track") == "video");
    segments.map(|frame| (frame.sequence(), frame.text("quality"))).collect()
}

#[tokio::test]
async fn http_sockets_play_recordings() {
    let mut farm = Farm::builder().processes(2, 1, 1).set("REELMILL_SOCKETS", 3).start().await;
    let clip = noise(farm.dir.path(), 24, "320x180");
    let recording = farm.client.transcode(&clip, &profile()).await;
    let id = text(&recording, "id").to_owned();
    a_recording_is_played_to_its_end(&farm, &id).await;
    what_is_no_socket_is_told_why(&farm, &id).await;
    joined_viewers_are_counted_and_switched_from_anywhere(&farm, &id).await;
    goodbyes_say_why(&mut farm, &id).await;
    farm.stop().await;
}

async fn a_recording_is_played_to_its_end(farm: &Farm, id: &str) {
    let path = format!("/recordings/{id}/stream/live");
    let mut peer = Peer::with_key(&farm.client, &format!("{path}?quality=180p&position=8.5")).await.unwrap();
    let (first, mut frames) = peer.until(|frame| frame.is("segment")).await;
    assert_eq!((first.sequence(), &first.header["position"]), (4, &json!(8.0)));
    assert_eq!((first.text("quality"), &first.header["independent"]), ("180p", &json!(true)));
    assert!(first.text("codecs").starts_with("avc1."), "{}", first.header);
    frames.push(first);
    // Somewhere further on the other quality begins, with a segment.
    peer.say(json!({ "type": "quality", "quality": "144p" })).await;
    let (rest, code) = peer.rest().await;
    frames.extend(rest);
    assert_eq!(code, 1000);
    assert!(frames.last().unwrap().is("end"));
    let played = picture(&frames);
    let all: Vec<u64> = played.iter().map(|(number, _)| *number).collect();
    assert_eq!(all, (4..12).collect::<Vec<u64>>());
    let switched = played.iter().position(|(_, quality)| *quality == "144p").expect("it was switched");
    assert!(played[switched..].iter().all(|(_, quality)| *quality == "144p"), "{played:?}");
    let before = frames.iter().rposition(|frame| frame.is("init")).unwrap();
    assert_eq!(frames[before].text("quality"), "144p", "each begins with its own init segment");
    decodes(farm, &frames, "audio");

    // As a viewer, in one quality, it decodes as one.
    let token = farm.client.post(&format!("/recordings/{id}/playback-token"), &json!({})).await;
    let url =
        format!("{}/v/{}/stream/live?position=14&quality=144p", farm.client.base, text(&token, "token"));
    let (frames, code) = Peer::viewer(&url).await.unwrap().rest().await;
    assert_eq!(code, 1000);
    assert_eq!((decodes(farm, &frames, "video"), decodes(farm, &frames, "audio")), (5, 5));

    // The buffer moves the quality.
    let mut peer = Peer::with_key(&farm.client, &path).await.unwrap();
    let (first, _) = peer.until(|frame| frame.is("segment")).await;
    assert_eq!((first.sequence(), first.text("quality")), (0, "144p"));
    peer.say(json!({ "type": "buffer", "health": 90 })).await;
    peer.until(|frame| frame.is("segment") && frame.text("quality") == "180p").await;
}

async fn what_is_no_socket_is_told_why(farm: &Farm, id: &str) {
    let path = format!("/api/v1/recordings/{id}/stream/live");
    is_problem(&answer(farm.client.request(Method::GET, &path)).await, 400, "malformed");
    assert_eq!(answer(farm.client.anonymous(Method::GET, &path)).await.0, StatusCode::UNAUTHORIZED);
    let refused = async |path: &str| Peer::with_key(&farm.client, path).await.err();
    assert_eq!(refused(&format!("/recordings/{NOBODY}/stream/live")).await, Some(404));
    assert_eq!(refused(&format!("/livestreams/{NOBODY}/stream/live")).await, Some(404));
    assert_eq!(refused(&format!("/recordings/{id}/stream/live?position=-1")).await, Some(400));
    let stream = farm.client.post("/livestreams", &json!({ "title": "quiet" })).await;
    assert_eq!(refused(&format!("/livestreams/{}/stream/live", text(&stream, "id"))).await, Some(404));
    assert_eq!(Peer::viewer(&format!("{}/v/made-up/stream/live", farm.client.base)).await.err(), Some(403));

    // A browser lets any page open a socket, and the session rides along.
    let cookie = log_in(&farm.client, &farm.client.key).await;
    let url = format!("{}{path}", farm.client.base);
    let from = async |origin: &str| Peer::with_session(&url, &cookie, origin).await.err();
    assert_eq!(from("https://elsewhere.test").await, Some(403));
    assert_eq!(from(&farm.client.base).await, None);

    let own = format!("/recordings/{id}/stream/live");
    let mut peer = Peer::with_key(&farm.client, &own).await.unwrap();
    peer.say(json!({ "type": "dance" })).await;
    assert_eq!(peer.rest().await.1, 1008, "what nobody understands");

    // So many at once, and no more.
    let mut open = vec![];
    let status = loop {
        match Peer::with_key(&farm.client, &own).await {
            Ok(peer) => open.push(peer),
            Err(status) => break status,
        }
    };
    assert_eq!((status, open.len() <= 3), (503, true));
}

/// Joins the stream of something; gives the address of their socket.
async fn join(client: &Client, id: &str, viewer: &str, bitrate: &str) -> String {
    let body = json!({ "viewer_id": viewer, "initial_bitrate": bitrate });
    let joined = client.post(&format!("/streams/{id}"), &body).await;
    text(&joined, "socket_url").to_owned()
}

async fn joined_viewers_are_counted_and_switched_from_anywhere(farm: &Farm, id: &str) {
    farm.client.post("/streams/start", &json!({ "recording_id": id })).await;
    let url = join(&farm.client, id, "ann", "VeryLow").await;
    let mut peer = until("a socket to be free", PATIENCE, || async { Peer::viewer(&url).await.ok() }).await;
    let (first, mut frames) = peer.until(|frame| frame.is("segment")).await;
    assert_eq!(first.text("quality"), "144p");
    frames.push(first);
    // Two steps up, by the other api.
    for _ in 0..2 {
        let body = json!({ "recording_id": id, "viewer_id": "ann", "buffer_health": 95 });
        farm.api(1).post("/viewers/adapt-quality", &body).await;
    }
    let (switched, more) = peer.until(|frame| frame.is("segment") && frame.text("quality") == "180p").await;
    frames.extend(more);
    frames.push(switched);
    assert!(frames.iter().any(|frame| frame.is("init") && frame.text("quality") == "180p"));
    // What was given is counted, whatever was sent since.
    let bytes: usize = frames.iter().map(|frame| frame.media.len()).sum();
    let told = until("it to be written down", PATIENCE, || async {
        let told = farm.api(1).get(&format!("/streams/{id}")).await;
        let viewer = told["viewers"].as_array()?.iter().find(|it| it["viewer_id"] == "ann")?.clone();
        (viewer["bytes_received"].as_u64()? as usize >= bytes).then_some(viewer)
    })
    .await;
    assert!(told["segments_received"].as_u64().unwrap() as usize >= picture(&frames).len(), "{told}");
    let leave = format!("/api/v1/streams/{id}?viewer_id=ann");
    assert_eq!(farm.client.request(Method::DELETE, &leave).send().await.unwrap().status(), 204);
    assert_eq!(peer.rest().await.1, 1008, "without a place there is nothing to see");
    assert_eq!(Peer::viewer(&url).await.err(), Some(410));
}

async fn goodbyes_say_why(farm: &mut Farm, id: &str) {
    let path = format!("/recordings/{id}/stream/live");
    let mut peer = Peer::with_key(&farm.api(1), &path).await.unwrap();
    peer.until(|frame| frame.is("segment")).await;
    peer.say(json!({ "type": "pause" })).await;
    let api = farm.processes.iter_mut().filter(|process| process.part == Part::Api).nth(1).unwrap();
    api.signal(Signal::SIGTERM);
    let code = loop {
        match peer.next().await {
            Came::Frame(_) => {}
            Came::Closed(code, reason) => break (code, reason.contains("connect again")),
        }
    };
    assert_eq!(code, (1001, true));
    assert_eq!(api.ended(PATIENCE).await, Some(0));

    let mut peer = Peer::with_key(&farm.client, &path).await.unwrap();
    peer.until(|frame| frame.is("segment")).await;
    let deleted =
        farm.client.request(Method::DELETE, &format!("/api/v1/recordings/{id}")).send().await.unwrap();
    assert!(deleted.status().is_success());
    assert_eq!(peer.rest().await.1, 1008, "there is no recording any more");
}

#[tokio::test]
async fn http_sockets_play_what_is_on_air() {
    let farm = live::farm().processes(2, 1, 1).start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id").to_owned(), text(&stream, "stream_key"));
    let master = live::watch(&farm, &id).await;
    let publisher = Publisher::start(&farm, 0, key, &footage(&farm));
    becomes(&farm, &id, "live").await;
    listed(&master, "360p", "some segments", |text| (numbers(text).len() >= 2).then_some(())).await;

    let url = master.replace("master.m3u8", "stream/live?quality=240p");
    let mut peer = Peer::viewer(&url).await.unwrap();
    let (first, mut frames) = peer.until(|frame| !frame.is("init") && frame.text("track") == "video").await;
    assert_eq!((first.text("quality"), &first.header["independent"]), ("240p", &json!(true)));
    let start = chrono::DateTime::parse_from_rfc3339(first.text("start")).unwrap();
    assert!((chrono::Utc::now() - start.to_utc()).num_seconds() < 30, "{}", first.header);
    let begun = first.sequence();
    frames.push(first);
    let far = |frame: &Frame| frame.text("track") == "video" && frame.sequence() >= begun + 3;
    let (last, more) = peer.until(|frame| !frame.is("init") && far(frame)).await;
    assert_eq!(&last.header["independent"], &json!(true));
    frames.extend(more);
    assert!(!frames.iter().any(|frame| frame.is("dropped")), "whoever keeps up misses nothing");
    assert!(frames.iter().any(|frame| frame.is("part")), "they come as they appear");
    decodes(&farm, &frames, "video");
    decodes(&farm, &frames, "audio");

    // Another quality begins with a segment.
    peer.say(json!({ "type": "quality", "quality": "360p" })).await;
    let (switched, _) = peer.until(|frame| frame.text("quality") == "360p" && !frame.is("init")).await;
    assert_eq!(
        (&switched.header["independent"], switched.header["part"].as_u64().unwrap_or(0)),
        (&json!(true), 0)
    );

    joined_viewers_of_a_livestream_are_counted(&farm, &id).await;

    // The publisher goes and comes back: the same socket goes on, and can be decoded from there.
    publisher.kill().await;
    let publisher = Publisher::start(&farm, 0, key, &footage(&farm));
    let (again, before) = peer.until(|frame| frame.is("init") && frame.text("track") == "video").await;
    let is_picture = |frame: &Frame| !frame.is("init") && frame.text("track") == "video";
    let last = before.iter().rfind(|frame| is_picture(frame)).map_or(0, Frame::sequence);
    let (next, between) = peer.until(is_picture).await;
    assert_eq!((again.text("quality"), &next.header["independent"]), ("360p", &json!(true)));
    assert!(next.sequence() > last, "{} {last}", next.header);
    let mut frames = vec![again];
    frames.extend(between);
    frames.push(next);
    decodes(&farm, &frames, "video");
    publisher.kill().await;
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    let (rest, code) = peer.rest().await;
    assert!(rest.last().unwrap().is("end"), "{:?}", rest.last().map(|frame| &frame.header));
    assert_eq!(code, 1000);
    farm.stop().await;
}

/// By what they fetch and by what their socket sends; and the engine knows what is on air.
async fn joined_viewers_of_a_livestream_are_counted(farm: &Farm, id: &str) {
    farm.client.post("/streams/start", &json!({ "livestream_id": id })).await;
    let joined = farm.client.post(&format!("/streams/{id}"), &json!({ "viewer_id": "bob" })).await;
    let master = text(&joined, "playlist_url");
    let mut bytes = 0;
    let mut fetch = async |name: &str| {
        let response = reqwest::get(master.replace("master.m3u8", name)).await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
        let body = response.bytes().await.unwrap();
        bytes += body.len();
        String::from_utf8_lossy(&body).into_owned()
    };
    fetch("master.m3u8").await;
    let playlist = fetch("240p.m3u8").await;
    let newest = playlist.lines().rfind(|line| line.ends_with(".m4s") && !line.starts_with('#')).unwrap();
    fetch(newest).await;
    let mut peer = Peer::viewer(text(&joined, "socket_url")).await.unwrap();
    let (frame, _) = peer.until(|frame| !frame.is("init") && frame.text("track") == "video").await;
    bytes += frame.media.len();
    until("it to be written down", PATIENCE, || async {
        let told = farm.api(1).get(&format!("/streams/{id}")).await;
        let viewer = told["viewers"].as_array()?.iter().find(|it| it["viewer_id"] == "bob")?.clone();
        let all = viewer["bytes_received"].as_u64()? as usize >= bytes;
        (all && viewer["segments_received"].as_u64()? >= 2).then_some(())
    })
    .await;

    let body = json!({ "livestream_id": id, "bandwidth": 50_000_000, "buffer_seconds": 26.0 });
    let selected = farm.api(1).post("/abr/select", &body).await;
    assert!(["360p", "240p"].contains(&text(&selected, "rung")), "{selected}");
    assert_eq!(selected["alternatives"].as_array().unwrap().len(), 1, "{selected}");
    // A viewer tells and asks without a key.
    let own = live::watch(farm, id).await.replace("master.m3u8", "abr/metrics");
    let segment = json!({ "rung": "240p", "bytes": 90_000, "download_ms": 40.0, "duration": 2.0, "buffer_seconds": 4.0 });
    let body = json!({ "session_id": "viewer-7", "segments": [segment], "select": true });
    let told = reqwest::Client::new().post(own).json(&body).send().await.unwrap();
    assert_eq!(told.status(), StatusCode::OK);
    let told: Value = told.json().await.unwrap();
    assert!(["360p", "240p"].contains(&text(&told["selected"], "rung")), "{told}");
}

#[tokio::test]
async fn http_sockets_leave_out_what_is_not_taken_and_keep_none_of_it() {
    let farm = Farm::builder().processes(1, 1, 1).start().await;
    let clip = noise(farm.dir.path(), 30, "640x360");
    let profile = json!({ "segment_duration": 1, "preset": "ultrafast", "rungs": [
        { "name": "360p", "width": 640, "height": 360, "crf": 16, "max_bitrate": 8_000_000 } ] });
    let recording = farm.client.transcode(&clip, &profile).await;
    let path = format!("/recordings/{}/stream/live", text(&recording, "id"));
    let api = farm.processes.iter().find(|process| process.part == Part::Api).unwrap();
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", api.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    };
    let before = memory();
    let slow = (0..8).map(|_| async {
        let mut peer = Peer::with_key(&farm.client, &path).await.unwrap();
        let dropped = peer.slowly(400_000, |frame| frame.is("dropped")).await;
        (dropped, peer)
    });
    let all = join_all(slow).await;
    let grown = memory().saturating_sub(before);
    assert!(grown < 100, "eight viewers who did not take 30 MB each took {grown} MB");
    for (dropped, mut peer) in all {
        let segments = dropped.header["segments"].as_u64().unwrap();
        assert!(segments >= 1 && dropped.text("reason") == "slow", "{}", dropped.header);
        // It goes on behind them, and can be decoded there.
        let (next, _) = peer.until(|frame| frame.is("segment") || frame.is("end")).await;
        if next.is("segment") {
            assert!(next.sequence() >= dropped.sequence() + segments, "{} {}", dropped.header, next.header);
            assert_eq!(next.header["independent"], true);
        }
    }
    farm.stop().await;
}

#[tokio::test]
async fn http_sockets_are_handed_segments_by_any_api() {
    let farm = Farm::builder()
        .processes(2, 1, 1)
        .set("REELMILL_DELIVERY_SECONDS", 5)
        .set("REELMILL_DELIVERY_QUEUE", 2)
        .start()
        .await;
    let clip = noise(farm.dir.path(), 12, "320x180");
    let recording = farm.client.transcode(&clip, &profile()).await;
    let id = text(&recording, "id");
    let deliver = async |body: Value| {
        answer(farm.api(0).request(Method::POST, "/api/v1/segments/deliver").json(&body)).await
    };
    let wish = |viewer: &str, segment: &str| json!({ "recording_id": id, "viewer_id": viewer, "segment_id": segment, "priority": 70 });
    is_problem(&deliver(wish("ann", "144p-1-0.m4s")).await, 404, "not-found");
    farm.client.post("/streams/start", &json!({ "recording_id": id })).await;
    is_problem(&deliver(wish("ann", "144p-1-0.m4s")).await, 404, "not-found");
    let url = join(&farm.api(1), id, "ann", "VeryLow").await;
    let mut peer = Peer::viewer(&url).await.unwrap();
    peer.until(|frame| frame.is("segment")).await;
    peer.say(json!({ "type": "pause" })).await;
    assert_eq!(farm.client.get("/distribution/health").await["failure_rate"], Value::Null);

    // To a socket that the other api holds, of another quality than it plays: with what is needed to decode it.
    let (status, headers, queued) = deliver(wish("ann", "180p-1-3.m4s")).await;
    assert_eq!((status, text(&queued, "status")), (StatusCode::ACCEPTED, "queued"), "{queued}");
    assert_eq!((&queued["attempts"], &queued["priority"]), (&json!(0), &json!(70)));
    let place = format!("/segments/deliveries/{}", text(&queued, "delivery_id"));
    assert_eq!(header(&headers, "location"), format!("/api/v1{place}"));
    let (handed, before) = peer.until(|frame| frame.header["delivery_id"].is_string()).await;
    assert_eq!(handed.header["delivery_id"], queued["delivery_id"]);
    assert_eq!((handed.text("quality"), handed.sequence()), ("180p", 3));
    assert!(before.iter().any(|frame| frame.is("init") && frame.text("quality") == "180p"));
    let over = async |id: &Value| {
        let place = format!("/segments/deliveries/{}", id.as_str().unwrap());
        until("a delivery to be over", PATIENCE, || async {
            let told = farm.api(1).get(&place).await;
            matches!(text(&told, "status"), "delivered" | "failed").then_some(told)
        })
        .await
    };
    let told = over(&queued["delivery_id"]).await;
    assert_eq!(
        (text(&told, "status"), &told["attempts"], &told["error"]),
        ("delivered", &json!(1), &Value::Null)
    );
    assert_eq!(text(&farm.client.get("/distribution/health").await, "status"), "healthy");

    // What is not there is tried again, and what nobody can take is too late.
    join(&farm.api(1), id, "bob", "Low").await;
    let missing = deliver(wish("ann", "180p-1-99.m4s")).await.2;
    let nobody = deliver(wish("bob", "180p-1-1.m4s")).await.2;
    let full = deliver(wish("bob", "180p-1-2.m4s")).await;
    is_problem(&full, 429, "too-many");
    assert_eq!(header(&full.1, "retry-after"), "2");
    let told = over(&missing["delivery_id"]).await;
    assert_eq!((text(&told, "status"), &told["attempts"]), ("failed", &json!(3)), "{told}");
    assert!(text(&told, "error").contains("no such segment"), "{told}");
    let told = over(&nobody["delivery_id"]).await;
    assert_eq!((text(&told, "status"), &told["attempts"]), ("failed", &json!(0)), "{told}");
    assert!(text(&told, "error").contains("in time"), "{told}");
    let another = deliver(wish("ann", "144p-1-77.m4s")).await.2;
    over(&another["delivery_id"]).await;
    let health = farm.api(1).get("/distribution/health").await;
    assert_eq!((text(&health, "status"), &health["failure_rate"]), ("degraded", &json!(0.75)), "{health}");
    assert_eq!(
        (&health["delivered"], &health["failed"], &health["waiting"]),
        (&json!(1), &json!(3), &json!(0))
    );
    assert_eq!(farm.client.get("/distribution/metrics").await["total_delivery_failures"], 3);

    for (body, field) in [
        (json!({ "segment_id": "180p-1-0.m4s" }), "/recording_id"),
        (json!({ "recording_id": id, "segment_id": "master.m3u8", "viewer_id": "ann" }), "/segment_id"),
        (
            json!({ "recording_id": id, "segment_id": "180p-1-0.m4s", "viewer_id": "ann", "priority": 101 }),
            "/priority",
        ),
        (json!({ "recording_id": id, "segment_id": "180p-1-0.m4s" }), "/viewer_id"),
    ] {
        let refused = deliver(body).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [field]);
    }
    let unwarmed = deliver(json!({ "recording_id": id, "segment_id": "180p-1-0.m4s" })).await;
    assert!(unwarmed.2.to_string().contains("REELMILL_CDN_URL"), "it says what to set: {}", unwarmed.2);
    is_problem(
        &answer(farm.client.request(Method::GET, &format!("/api/v1/segments/deliveries/{NOBODY}"))).await,
        404,
        "not-found",
    );
    farm.stop().await;
}
