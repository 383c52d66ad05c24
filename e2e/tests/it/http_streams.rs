//! Viewers who join a stream by name: so many at most, whichever api they ask, and each with what they were given.

use futures::future::join_all;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::live::PATIENCE;
use crate::support::{answer, client_with, header, is_problem, pointers, text};

#[tokio::test]
async fn http_streams_hold_as_many_viewers_as_they_may() {
    let farm = Farm::builder().processes(2, 1, 1).start().await;
    let client = &farm.client;
    let clip = media::clip(farm.dir.path(), 5, "320x180");
    let profile = json!({ "segment_duration": 2, "preset": "ultrafast", "rungs": [
        { "name": "180p", "width": 320, "height": 180, "crf": 28, "max_bitrate": 600_000 },
        { "name": "144p", "width": 256, "height": 144, "crf": 28, "max_bitrate": 200_000 } ] });
    let recording = client.transcode(&clip, &profile).await;
    let id = text(&recording, "id");
    let path = format!("/api/v1/streams/{id}");
    is_problem(&answer(client.request(Method::GET, &path)).await, 404, "not-found");

    let start = |body: Value| answer(client.request(Method::POST, "/api/v1/streams/start").json(&body));
    let (status, _, started) = start(json!({ "recording_id": id, "max_viewers": 3 })).await;
    assert_eq!(status, StatusCode::CREATED, "{started}");
    assert_eq!((text(&started, "status"), &started["max_viewers"]), ("started", &json!(3)));
    let rungs: Vec<(&str, &str)> = started["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (text(it, "name"), text(it, "rendition")))
        .collect();
    assert_eq!(rungs.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["VeryLow", "Low", "Medium", "High"]);
    assert!(
        rungs.iter().all(|(_, rung)| ["180p", "144p"].contains(rung)) && rungs[3].1 == "180p",
        "{rungs:?}"
    );

    // Eight at once, asking two apis: three get in.
    let apis = [farm.api(0), farm.api(1)];
    let join = |n: usize| {
        let body = json!({ "viewer_id": format!("viewer-{n}"), "initial_bitrate": "Medium" });
        answer(apis[n % 2].request(Method::POST, &path).json(&body))
    };
    let answers = join_all((0..8).map(join)).await;
    let (joined, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.0 == StatusCode::OK);
    assert_eq!(joined.len(), 3, "{joined:?}");
    for refused in &refused {
        is_problem(refused, 429, "too-many");
        assert_eq!(header(&refused.1, "retry-after"), "10");
    }
    let joined: Vec<Value> = joined.into_iter().map(|(_, _, body)| body).collect();
    let first = &joined[0];
    assert_eq!((text(first, "current_bitrate"), &first["buffer_health"]), ("Medium", &Value::Null));
    let number: usize = text(first, "viewer_id").rsplit('-').next().unwrap().parse().unwrap();
    let same = answer(
        apis[1 - number % 2].request(Method::POST, &path).json(&json!({ "viewer_id": first["viewer_id"] })),
    )
    .await;
    assert_eq!(same.2["session_id"], first["session_id"], "who has a place keeps it, at any api");

    // What each is given is counted for them.
    let (mut bytes, mut segments) = (0, 0);
    let mut fetch = async |url: String| {
        let response = reqwest::get(&url).await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
        let body = response.bytes().await.unwrap();
        bytes += body.len();
        segments += usize::from(url.ends_with(".m4s"));
        body
    };
    let master = text(first, "playlist_url");
    fetch(master.to_owned()).await;
    let beside = |name: &str| master.replace("master.m3u8", name);
    let playlist = fetch(beside("180p.m3u8")).await;
    for name in String::from_utf8(playlist.to_vec()).unwrap().lines().filter(|line| line.ends_with(".m4s")) {
        fetch(beside(name)).await;
    }
    assert!(segments >= 2);
    let told = until("it to be written down", PATIENCE, || async {
        let told = farm.api(1).get(&format!("/streams/{id}")).await;
        let viewer =
            told["viewers"].as_array()?.iter().find(|it| it["viewer_id"] == first["viewer_id"])?.clone();
        (viewer["segments_received"] == segments).then_some((told, viewer))
    })
    .await;
    assert_eq!((&told.1["bytes_received"], &told.0["total_bytes_served"]), (&json!(bytes), &json!(bytes)));
    assert_eq!(
        (&told.0["active_viewers"], &told.0["peak_viewers"], &told.0["total_segments_served"]),
        (&json!(3), &json!(3), &json!(segments))
    );

    // The buffer decides on the bitrate.
    let adapt = async |health: f64| {
        let body = json!({ "recording_id": id, "viewer_id": first["viewer_id"], "buffer_health": health });
        client.post("/viewers/adapt-quality", &body).await
    };
    assert_eq!(text(&adapt(50.0).await, "current_bitrate"), "Medium");
    assert_eq!(text(&adapt(90.0).await, "current_bitrate"), "High");
    assert_eq!(text(&adapt(30.0).await, "current_bitrate"), "Medium");
    assert_eq!(text(&adapt(10.0).await, "current_bitrate"), "VeryLow");
    let told = client.get(&format!("/streams/{id}")).await;
    let viewer =
        told["viewers"].as_array().unwrap().iter().find(|it| it["viewer_id"] == first["viewer_id"]).unwrap();
    assert_eq!((text(viewer, "connection_quality"), &viewer["buffer_health"]), ("poor", &json!(10.0)));
    let switches: Vec<&str> =
        viewer["bitrate_switches"].as_array().unwrap().iter().map(|it| text(it, "to")).collect();
    assert_eq!(switches, ["High", "Medium", "VeryLow"]);

    // Who leaves makes room; a stream that is closed serves nobody.
    let leave = format!("{path}?viewer_id={}", text(first, "viewer_id"));
    assert_eq!(client.request(Method::DELETE, &leave).send().await.unwrap().status(), 204);
    is_problem(&answer(client.request(Method::DELETE, &leave)).await, 404, "not-found");
    assert_eq!(join(20).await.0, StatusCode::OK);
    is_problem(&join(21).await, 429, "too-many");
    let turned_away = |url: &str| {
        let url = url.to_owned();
        async move { (reqwest::get(&url).await.unwrap().status() == StatusCode::GONE).then_some(()) }
    };
    until("who left to be turned away", PATIENCE, || turned_away(master)).await;
    let totals = client.get("/distribution/metrics").await;
    assert_eq!((&totals["total_distributors"], &totals["total_active_viewers"]), (&json!(1), &json!(3)));
    assert!(totals["total_bytes_served"].as_u64().unwrap() >= bytes as u64);
    let second = text(&joined[1], "playlist_url");
    assert_eq!(client.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    is_problem(&answer(client.request(Method::GET, &path)).await, 404, "not-found");
    until("all to be turned away", PATIENCE, || turned_away(second)).await;
    bandwidth_is_shared(&farm, id).await;
    bad_requests_are_told_why(&farm, id).await;
    farm.stop().await;
}

/// Viewers of two apis share what a stream may take: who comes late gets less, or nothing.
async fn bandwidth_is_shared(farm: &Farm, id: &str) {
    let apis = [farm.api(0), farm.api(1)];
    let body = json!({ "recording_id": id, "bandwidth_limit": 2_500_000 });
    let started = apis[0].post("/streams/start", &body).await;
    let fit: Vec<u64> = started["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["max_viewers"].as_u64().unwrap())
        .collect();
    assert_eq!((&started["bandwidth_limit"], fit), (&json!(2_500_000), vec![5, 2, 1, 0]));
    let path = format!("/api/v1/streams/{id}");
    let join = |api: usize, viewer: &str| {
        let body = json!({ "viewer_id": viewer, "initial_bitrate": "Medium" });
        answer(apis[api].request(Method::POST, &path).json(&body))
    };
    assert_eq!(text(&join(0, "first").await.2, "current_bitrate"), "Medium");
    assert_eq!(text(&join(1, "second").await.2, "current_bitrate"), "VeryLow");
    let refused = join(0, "third").await;
    is_problem(&refused, 429, "too-many");
    assert!(text(&refused.2, "detail").contains("2500 kbit/s"), "{}", refused.2);
    let told = apis[1].get(&format!("/streams/{id}")).await;
    assert_eq!((&told["bandwidth_usage"], &told["active_viewers"]), (&json!(2_500_000), &json!(2)));

    let adapt = async |health: f64| {
        let body = json!({ "recording_id": id, "viewer_id": "second", "buffer_health": health });
        apis[1].post("/viewers/adapt-quality", &body).await
    };
    assert_eq!(text(&adapt(95.0).await, "current_bitrate"), "VeryLow", "there is no more");
    let leave = format!("{path}?viewer_id=first");
    assert_eq!(apis[0].request(Method::DELETE, &leave).send().await.unwrap().status(), 204);
    assert_eq!(text(&adapt(95.0).await, "current_bitrate"), "Low");
    assert_eq!(text(&adapt(95.0).await, "current_bitrate"), "Medium");
    assert_eq!(text(&adapt(95.0).await, "current_bitrate"), "Medium", "High does not fit");
    assert_eq!(apis[0].request(Method::DELETE, &path).send().await.unwrap().status(), 204);
}

async fn bad_requests_are_told_why(farm: &Farm, id: &str) {
    let client = &farm.client;
    let post =
        |path: &str, body: Value| answer(client.request(Method::POST, &format!("/api/v1{path}")).json(&body));
    for (body, field) in [
        (json!({}), "/recording_id"),
        (json!({ "recording_id": id, "livestream_id": id }), "/livestream_id"),
        (json!({ "recording_id": id, "max_viewers": 0 }), "/max_viewers"),
        (json!({ "recording_id": id, "max_viewers": 1_000_000 }), "/max_viewers"),
        (json!({ "recording_id": id, "bandwidth_limit": 499_999 }), "/bandwidth_limit"),
    ] {
        let refused = post("/streams/start", body).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [field]);
    }
    is_problem(&post("/streams/start", json!({ "livestream_id": id })).await, 404, "not-found");
    assert_eq!(post("/streams/start", json!({ "recording_id": id })).await.0, StatusCode::CREATED);
    for (path, body, field) in [
        (format!("/streams/{id}"), json!({ "viewer_id": "" }), "/viewer_id"),
        (
            format!("/streams/{id}"),
            json!({ "viewer_id": "a", "initial_bitrate": "Huge" }),
            "/initial_bitrate",
        ),
        (
            "/viewers/adapt-quality".to_owned(),
            json!({ "recording_id": id, "viewer_id": "a", "buffer_health": 101 }),
            "/buffer_health",
        ),
    ] {
        let refused = post(&path, body).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [field]);
    }
    let nobody = json!({ "recording_id": id, "viewer_id": "nobody", "buffer_health": 50 });
    is_problem(&post("/viewers/adapt-quality", nobody).await, 404, "not-found");
    let stranger = client_with(client, Some("elsewhere"), &["read", "write"]).await;
    let strange = answer(
        stranger.request(Method::POST, &format!("/api/v1/streams/{id}")).json(&json!({ "viewer_id": "a" })),
    );
    is_problem(&strange.await, 404, "not-found");
    let token = client.post(&format!("/recordings/{id}/playback-token"), &json!({})).await;
    let made_up = text(&token, "hls_url").replace("/stream/", "/as/made-up/stream/");
    assert_eq!(reqwest::get(made_up).await.unwrap().status(), StatusCode::FORBIDDEN);
}
