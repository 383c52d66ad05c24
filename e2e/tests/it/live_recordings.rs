//! Recordings that come live, and that are played out as if they did.

use reelmill_testkit::Farm;
use reelmill_testkit::ffmpeg::frames;
use reelmill_testkit::wait::until;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::live::{PATIENCE, Publisher, becomes, farm, footage, listed, numbers};
use crate::socket_peer::Peer;
use crate::support::{answer, client_with, is_problem, pointers, text};

async fn start_live(
    farm: &Farm,
    recording: &str,
    body: &Value,
) -> (StatusCode, reqwest::header::HeaderMap, Value) {
    let path = format!("/api/v1/recordings/{recording}/stream/start-live");
    answer(farm.client.request(Method::POST, &path).json(body)).await
}

async fn stop_live(farm: &Farm, recording: &str) -> (StatusCode, reqwest::header::HeaderMap, Value) {
    let path = format!("/api/v1/recordings/{recording}/stream/stop-live");
    answer(farm.client.request(Method::DELETE, &path)).await
}

/// A recording of which there is nothing yet.
async fn empty(farm: &Farm, title: &str) -> String {
    let made = farm.client.post("/recordings", &json!({ "title": title, "input": { "live": true } })).await;
    assert_eq!((text(&made, "status"), &made["duration_seconds"]), ("pending", &Value::Null), "{made}");
    text(&made, "id").to_owned()
}

async fn ready(farm: &Farm, id: &str) -> Value {
    until("the recording to be ready", PATIENCE, || async {
        let found = farm.client.get(&format!("/recordings/{id}")).await;
        (found["status"] == "ready").then_some(found)
    })
    .await
}

#[tokio::test]
async fn live_a_broadcast_becomes_the_recording_it_was_started_for_and_is_played_out_again() {
    let farm = farm().start().await;
    let client = &farm.client;
    let id = empty(&farm, "Lesson one").await;
    let wish = json!({
        "source": "ingest", "room_id": "room 7", "low_latency": true,
        "settings": { "resolutions": ["360p", "240p"], "segment_duration": 2, "keyframe_interval": 1, "overload": "keep" },
    });
    let (status, _, live) = start_live(&farm, &id, &wish).await;
    assert_eq!(status, StatusCode::CREATED, "{live}");
    let (stream, key) = (text(&live, "stream_id").to_owned(), text(&live, "stream_key").to_owned());
    assert!(text(&live, "ingest_url").ends_with(&key), "{live}");

    // It is live once, and so is the room.
    is_problem(&start_live(&farm, &id, &json!({})).await, 409, "conflict");
    let other = empty(&farm, "Lesson two").await;
    is_problem(&start_live(&farm, &other, &wish).await, 409, "conflict");
    let found = client.get("/livestreams?room_id=room%207").await;
    assert_eq!(
        (&found["streams"][0]["id"], found["streams"].as_array().unwrap().len()),
        (&live["stream_id"], 1)
    );

    let mut publisher = Publisher::start(&farm, 0, &key, &footage(&farm));
    becomes(&farm, &stream, "live").await;
    let master = text(&live, "playlist_url").to_owned();
    listed(&master, "360p", "segments", |text| (numbers(text).len() >= 3).then_some(())).await;
    assert!(publisher.is_there());
    // Its socket is that of what is on air, with the date of each segment.
    let mut socket = Peer::with_key(client, &format!("/recordings/{id}/stream/live")).await.unwrap();
    let (segment, _) = socket.until(|frame| frame.is("segment") || frame.is("part")).await;
    let began: chrono::DateTime<chrono::Utc> = segment.text("start").parse().unwrap();
    assert!((chrono::Utc::now() - began).num_seconds() < 60, "{}", segment.header);
    drop(socket);
    // Who wants to let viewers in by name is told what they would watch.
    let streams = client.request(Method::POST, "/api/v1/streams/start").json(&json!({ "recording_id": id }));
    let refused = answer(streams).await;
    is_problem(&refused, 409, "conflict");
    assert!(text(&refused.2, "detail").contains(&stream), "{}", refused.2);
    let (status, _, stopped) = stop_live(&farm, &id).await;
    assert_eq!((status, &stopped["stream_id"]), (StatusCode::OK, &live["stream_id"]), "{stopped}");
    // Whoever goes on publishing is sent away, and finds nobody to publish to.
    publisher.ended().await;
    assert!(client.get("/livestreams?room_id=room%207").await["streams"].as_array().unwrap().is_empty());

    // What was on air is the recording: the same pictures, none of them encoded again.
    let recording = ready(&farm, &id).await;
    assert_eq!(text(&recording, "title"), "Lesson one");
    let names: Vec<&str> =
        recording["renditions"].as_array().unwrap().iter().map(|r| text(r, "name")).collect();
    assert!(names.contains(&"360p") && names.contains(&"240p"), "{recording}");
    let jobs = client.get("/jobs").await;
    let job = jobs["jobs"].as_array().unwrap().iter().find(|job| job["recording_id"] == *id).unwrap();
    let kinds: Vec<&str> =
        job["tasks"].as_array().map_or(vec![], |tasks| tasks.iter().map(|task| text(task, "kind")).collect());
    assert!(!kinds.contains(&"encode"), "{kinds:?}");
    let master = client.play_url(&id).await;
    let seconds = recording["duration_seconds"].as_f64().unwrap();
    assert!(seconds > 5.0, "{recording}");
    for rung in ["360p", "240p"] {
        listed(&master, rung, "its end", |list| list.contains("#EXT-X-ENDLIST").then_some(())).await;
        let played = frames(&master.replace("master.m3u8", &format!("{rung}.m3u8")), "v:0").len();
        assert!((played as f64 / 25.0 - seconds).abs() < 0.1, "{played} frames of {rung} in {seconds} s");
    }
    is_problem(&stop_live(&farm, &id).await, 404, "not-found");
    let renditions = client.get(&format!("/recordings/{id}")).await["renditions"].clone();

    // It is played out as if it were live, once, and is as long as it was.
    let (status, _, replay) = start_live(&farm, &id, &json!({
        "source": "replay",
        "settings": { "resolutions": ["240p"], "segment_duration": 2, "keyframe_interval": 1, "overload": "keep" },
        "dvr_enabled": true,
    })).await;
    assert_eq!((status, &replay["stream_key"]), (StatusCode::CREATED, &Value::Null), "{replay}");
    let again = text(&replay, "stream_id").to_owned();
    becomes(&farm, &again, "live").await;
    let whole = listed(text(&replay, "playlist_url"), "240p", "its end", |list| {
        list.contains("#EXT-X-ENDLIST").then(|| list.to_owned())
    })
    .await;
    let lengths = whole
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:")?.trim_end_matches(',').parse::<f64>().ok());
    let aired: f64 = lengths.sum();
    assert!((aired - seconds).abs() < 0.5, "{aired} of {seconds}: {whole}");
    becomes(&farm, &again, "idle").await;
    // The recording stays as it is, and may be live again.
    until("the recording to be free", PATIENCE, || async {
        (stop_live(&farm, &id).await.0 == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    assert_eq!(client.get(&format!("/recordings/{id}")).await["renditions"], renditions);

    // The room is free, too; a recording that nobody published to is free as soon as it is stopped.
    let (status, _, _) = start_live(&farm, &other, &wish).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(stop_live(&farm, &other).await.0, StatusCode::OK);
    until("the other recording to be free", PATIENCE, || async {
        (start_live(&farm, &other, &json!({})).await.0 == StatusCode::CREATED).then_some(())
    })
    .await;
    assert_eq!(client.get(&format!("/recordings/{other}")).await["status"], "pending");
}

#[tokio::test]
async fn live_recordings_say_what_does_not_go() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let id = empty(&farm, "Nothing yet").await;
    for (body, pointer) in [
        (json!({ "room_id": "" }), "/room_id"),
        (json!({ "settings": { "resolutions": ["99p"] } }), "/settings/resolutions/0"),
    ] {
        let refused = start_live(&farm, &id, &body).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [pointer]);
    }
    assert_eq!(
        start_live(&farm, &id, &json!({ "source": "tape" })).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    // There is nothing to be played out, and nothing to be stopped.
    is_problem(&start_live(&farm, &id, &json!({ "source": "replay" })).await, 409, "conflict");
    is_problem(&stop_live(&farm, &id).await, 404, "not-found");
    let nobody = "018f0000-0000-7000-8000-000000000000";
    is_problem(&start_live(&farm, nobody, &json!({})).await, 404, "not-found");
    let reader = client_with(client, None, &["read", "write"]).await;
    let path = format!("/api/v1/recordings/{id}/stream/start-live");
    is_problem(&answer(reader.request(Method::POST, &path)).await, 403, "forbidden");

    // A recipe goes with a source, and an empty recording with no other kind of job.
    let recordings =
        async |body: Value| answer(client.request(Method::POST, "/api/v1/recordings").json(&body)).await;
    let refused = recordings(json!({ "input": { "live": true }, "profile": "web" })).await;
    is_problem(&refused, 422, "validation");
    assert_eq!(pointers(&refused.2), ["/input/live"]);
    let both = recordings(json!({ "input": { "live": true, "url": "https://example.com/a.mp4" } })).await;
    is_problem(&both, 422, "validation");
    let job = json!({ "kind": "probe", "input": { "live": true } });
    is_problem(&answer(client.request(Method::POST, "/api/v1/jobs").json(&job)).await, 422, "validation");
    // The one that is published to is sent away when its recording is deleted.
    let (_, _, live) = start_live(&farm, &id, &json!({})).await;
    let gone = answer(client.request(Method::DELETE, &format!("/api/v1/recordings/{id}"))).await;
    assert_eq!(gone.0, StatusCode::NO_CONTENT);
    let stream = text(&live, "stream_id").to_owned();
    let database = farm.database.connect().await;
    until("its livestream not to wait any more", PATIENCE, || async {
        let row = database
            .query_one("select armed_at is null from livestreams where id = $1::text::uuid", &[&stream])
            .await
            .unwrap();
        row.get::<_, bool>(0).then_some(())
    })
    .await;
}
