//! Players whose quality the farm chooses: what they tell one api process another one knows, also after a restart.

use std::time::Duration;

use nix::sys::signal::Signal;
use reelmill_testkit::farm::Part;
use reelmill_testkit::{Client, Farm, media};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{answer, client_with, header, is_problem, pointers, text};

type Answer = (StatusCode, HeaderMap, Value);

#[tokio::test]
async fn http_abr() {
    let mut farm = Farm::builder().processes(2, 1, 1).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 8, "640x360");
    let rung = |name: &str, width: u32, height: u32, most: u32| json!({ "name": name, "width": width, "height": height, "crf": 28, "max_bitrate": most });
    let rungs =
        [rung("360p", 640, 360, 800_000), rung("240p", 426, 240, 400_000), rung("180p", 320, 180, 150_000)];
    let recording = farm.client.transcode(&clip, &json!({ "preset": "ultrafast", "rungs": rungs })).await;
    let id = text(&recording, "id").to_owned();
    two_processes_and_the_next_know_a_session(&mut farm, &id).await;
    let api = &farm.api(1);
    what_a_session_said_stays(api, &id).await;
    bad_input_is_named(api, &id).await;
    sessions_are_scoped(api, &id).await;
    viewers_have_their_own_way(api, &id).await;
    preferences_are_kept_and_respected(api, &id).await;
    farm.stop().await;
}

fn segment(rung: &str, rate: u64, buffer: f64) -> Value {
    json!({ "bytes": rate / 4, "download_ms": 2000.0, "duration": 4.0, "rung": rung, "buffer_seconds": buffer })
}

fn names(selected: &Value) -> Vec<&str> {
    selected["alternatives"].as_array().unwrap().iter().map(|rung| text(rung, "rung")).collect()
}

async fn two_processes_and_the_next_know_a_session(farm: &mut Farm, id: &str) {
    let (first, second) = (farm.api(0), farm.api(1));
    let start = first.post("/abr/select", &json!({ "session_id": "s", "recording_id": id })).await;
    assert_eq!((text(&start, "rung"), text(&start, "reason")), ("180p", "start"));
    assert_eq!((&start["predicted_bandwidth"], &start["confidence"]), (&Value::Null, &json!(0.0)));
    assert_eq!(names(&start), ["240p", "360p"]);
    assert_eq!(start["height"], 180);

    // What is watched is known by now; every other segment is told to the other process.
    for (n, api) in [&second, &first, &second, &first].into_iter().enumerate() {
        let buffer = 12.0 + 4.0 * n as f64;
        let body = json!({ "session_id": "s", "segments": [segment("180p", 9_000_000, buffer)] });
        let told = api.post("/abr/metrics", &body).await;
        assert_eq!((text(&told, "session_id"), &told["selected"]), ("s", &Value::Null));
        assert!(told["estimates"]["predicted"].as_u64().unwrap() > 8_000_000, "{told}");
    }
    let body = json!({ "session_id": "s", "segments": [segment("180p", 9_000_000, 26.0)], "select": true });
    let told = second.post("/abr/metrics", &body).await;
    assert_eq!(text(&told["selected"], "rung"), "360p", "{told}");
    let asked = first.post("/abr/select", &json!({ "session_id": "s" })).await;
    assert_eq!((text(&asked, "rung"), &asked["confidence"]), ("360p", &told["estimates"]["confidence"]));

    let session = first.get("/abr/sessions/s").await;
    assert_eq!((text(&session, "recording_id"), &session["livestream_id"]), (id, &Value::Null));
    assert_eq!((text(&session, "rung"), &session["buffer_seconds"]), ("360p", &json!(26.0)));
    let estimates = &session["estimates"];
    assert!(estimates["fast"].is_u64() && estimates["slow"].is_u64(), "{session}");
    let switches = session["switches"].as_array().unwrap();
    let changes: Vec<_> =
        switches.iter().map(|switch| (switch["from"].as_str(), text(switch, "to"))).collect();
    assert_eq!(changes, [(None, "180p"), (Some("180p"), "360p")]);
    assert_eq!(switches[0]["reason"], "start");
    assert!(switches[1]["at"].is_string() && switches[1]["predicted_bandwidth"].is_u64());

    // Whoever takes the place of one that died knows all of it.
    let died = farm.processes.iter().position(|process| process.part == Part::Api).unwrap();
    farm.processes[died].signal(Signal::SIGKILL);
    farm.processes[died].ended(Duration::from_secs(30)).await;
    farm.processes.remove(died);
    farm.add(Part::Api).await;
    farm.ready().await;
    let fresh = farm.api(1);
    assert_eq!(fresh.get("/abr/sessions/s").await, session);
    let body = json!({ "session_id": "s", "segments": [segment("360p", 9_000_000, 3.0)], "select": true });
    let told = fresh.post("/abr/metrics", &body).await;
    assert_eq!(
        (text(&told["selected"], "rung"), text(&told["selected"], "reason")),
        ("180p", "buffer_critical")
    );
}

async fn what_a_session_said_stays(api: &Client, id: &str) {
    let said = json!({
        "session_id": "caps", "recording_id": id, "bandwidth": 50_000_000, "buffer_seconds": 26.0, "buffer_target": 30.0,
        "screen": { "width": 426, "height": 240 }, "codecs": ["avc1"],
    });
    let told = api.post("/abr/select", &said).await;
    assert_eq!(text(&told, "rung"), "240p", "{told}");
    assert_eq!(told["alternatives"][1]["ruled_out"], "screen");
    let again = api.post("/abr/select", &json!({ "session_id": "caps" })).await;
    assert_eq!(text(&again, "rung"), "240p");
    let session = api.get("/abr/sessions/caps").await;
    assert_eq!(session["caps"]["screen"], json!({ "width": 426, "height": 240 }));
    assert_eq!((&session["caps"]["codecs"], &session["buffer_target"]), (&json!(["avc1"]), &json!(30.0)));
    // Without a session nothing is kept.
    let once = json!({ "recording_id": id, "bandwidth": 50_000_000, "buffer_seconds": 26.0 });
    assert_eq!(text(&api.post("/abr/select", &once).await, "rung"), "360p");
    let unknown = answer(api.request(Method::POST, "/api/v1/abr/select").json(&json!({}))).await;
    is_problem(&unknown, 422, "validation");
    assert_eq!(pointers(&unknown.2), ["/recording_id"]);
}

async fn bad_input_is_named(api: &Client, id: &str) {
    let send = async |path: &str, body: Value| -> Answer {
        answer(api.request(Method::POST, &format!("/api/v1/abr/{path}")).json(&body)).await
    };
    let metrics = async |segments: Value| {
        send("metrics", json!({ "session_id": "bad", "recording_id": id, "segments": segments })).await
    };
    let with = |field: &str, value: Value| {
        let mut segment = segment("360p", 1_000_000, 10.0);
        segment[field] = value;
        json!([segment])
    };
    for (segments, pointer) in [
        (json!([]), "/segments"),
        (json!(vec![segment("360p", 1_000_000, 10.0); 101]), "/segments"),
        (with("bytes", json!(0)), "/segments/0/bytes"),
        (with("bytes", json!(-5)), "/segments/0/bytes"),
        (with("bytes", json!(1_u64 << 31)), "/segments/0/bytes"),
        (with("download_ms", json!(0)), "/segments/0/download_ms"),
        (with("download_ms", json!(600_001)), "/segments/0/download_ms"),
        (with("download_ms", json!("NaN")), "/segments/0/download_ms"),
        (with("download_ms", json!(null)), "/segments/0/download_ms"),
        (with("duration", json!(0.0)), "/segments/0/duration"),
        (with("duration", json!(61)), "/segments/0/duration"),
        (with("buffer_seconds", json!(-0.1)), "/segments/0/buffer_seconds"),
        (with("buffer_seconds", json!(3601)), "/segments/0/buffer_seconds"),
        (with("rung", json!("8k")), "/segments/0/rung"),
        (with("colour", json!("red")), "/segments/0/colour"),
    ] {
        let refused = metrics(segments.clone()).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [pointer], "{segments}");
    }
    let refused = metrics(with("rung", json!("8k"))).await;
    assert!(refused.2.to_string().contains("180p, 240p, 360p"), "{}", refused.2);
    let several = metrics(json!([
        segment("8k", 1_000_000, 1.0),
        segment("360p", 1_000_000, 1.0),
        segment("4k", 1_000_000, 1.0)
    ]))
    .await;
    assert_eq!(pointers(&several.2), ["/segments/0/rung", "/segments/2/rung"]);
    let huge = r#"{"session_id":"bad","recording_id":"ID","segments":[{"bytes":1,"download_ms":1e999,"duration":4,"rung":"360p","buffer_seconds":1}]}"#;
    let request = api.request(Method::POST, "/api/v1/abr/metrics").header("content-type", "application/json");
    is_problem(&answer(request.body(huge.replace("ID", id))).await, 400, "malformed");

    for (field, value, pointer) in [
        ("session_id", json!("a b"), "/session_id"),
        ("session_id", json!(""), "/session_id"),
        ("session_id", json!("x".repeat(129)), "/session_id"),
        ("bandwidth", json!(0), "/bandwidth"),
        ("buffer_seconds", json!(-1), "/buffer_seconds"),
        ("buffer_target", json!(0), "/buffer_target"),
        ("screen", json!({ "width": 0, "height": 720 }), "/screen/width"),
        ("screen", json!({ "width": 1280 }), "/screen/height"),
        ("codecs", json!(vec!["avc1"; 33]), "/codecs"),
        ("codecs", json!(["avc1", ""]), "/codecs/1"),
        ("user_id", json!("x".repeat(256)), "/user_id"),
        ("livestream_id", json!(id), "/livestream_id"),
        ("quality", json!("best"), "/quality"),
    ] {
        let refused = send("select", json!({ "recording_id": id, field: value })).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [pointer], "{field} {value}");
    }
    is_problem(&answer(api.request(Method::GET, "/api/v1/abr/sessions/bad")).await, 404, "not-found");
    let path = format!("/api/v1/recordings/{id}/quality/recommended?bandwith=1");
    is_problem(&answer(api.request(Method::GET, &path)).await, 400, "malformed");
}

async fn sessions_are_scoped(api: &Client, id: &str) {
    let body = json!({ "session_id": "mine", "recording_id": id });
    api.post("/abr/select", &body).await;
    api.post("/projects", &json!({ "name": "elsewhere" })).await;
    let stranger = client_with(api, Some("elsewhere"), &["read"]).await;
    is_problem(&answer(stranger.request(Method::GET, "/api/v1/abr/sessions/mine")).await, 404, "not-found");
    is_problem(
        &answer(stranger.request(Method::POST, "/api/v1/abr/select").json(&body)).await,
        404,
        "not-found",
    );
    let live = client_with(api, None, &["live:read"]).await;
    is_problem(&answer(live.request(Method::GET, "/api/v1/abr/sessions/mine")).await, 403, "forbidden");
    is_problem(&answer(live.request(Method::POST, "/api/v1/abr/select").json(&body)).await, 403, "forbidden");
    let stream = api.post("/livestreams", &json!({ "title": "off" })).await;
    let body = json!({ "session_id": "mine", "livestream_id": stream["id"] });
    let off = answer(live.request(Method::POST, "/api/v1/abr/select").json(&body)).await;
    is_problem(&off, 404, "not-ready");
}

async fn viewers_have_their_own_way(api: &Client, id: &str) {
    let token =
        text(&api.post(&format!("/recordings/{id}/playback-token"), &json!({})).await, "token").to_owned();
    let send = async |path: &str, body: Value| -> Answer {
        let request = api.anonymous(Method::POST, &format!("/v/{token}/abr/{path}"));
        answer(request.header("origin", "https://elsewhere.example").json(&body)).await
    };
    let (status, headers, told) = send("select", json!({ "session_id": "v" })).await;
    assert_eq!((status, text(&told, "reason")), (StatusCode::OK, "start"));
    assert_eq!(header(&headers, "access-control-allow-origin"), "*");
    assert_eq!(header(&headers, "cache-control"), "no-store");
    let body = json!({ "session_id": "v", "segments": [segment("180p", 9_000_000, 26.0)], "select": true });
    let (status, _, told) = send("metrics", body).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert!(told["selected"]["rung"].is_string());
    assert_eq!(text(&api.get("/abr/sessions/v").await, "recording_id"), id);
    let asked = api.anonymous(Method::OPTIONS, &format!("/v/{token}/abr/metrics"));
    let asked = asked
        .header("origin", "https://elsewhere.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let (status, headers, _) = answer(asked).await;
    assert_eq!(status, StatusCode::OK);
    assert!(header(&headers, "access-control-allow-methods").contains("POST"));
    let other = json!({ "recording_id": "01890000-0000-7000-8000-000000000000" });
    let refused = send("select", other).await;
    is_problem(&refused, 422, "validation");
    assert_eq!(pointers(&refused.2), ["/recording_id"]);
    let refused = api.anonymous(Method::POST, &format!("/v/x{token}/abr/select")).json(&json!({}));
    is_problem(&answer(refused).await, 403, "bad-token");
    // A token of a recording opens no livestream.
    let stream = format!("/v/{token}/live/{id}/abr/select");
    is_problem(&answer(api.anonymous(Method::POST, &stream).json(&json!({}))).await, 403, "bad-token");
}

async fn preferences_are_kept_and_respected(api: &Client, id: &str) {
    let path = format!("/recordings/{id}/quality/preference");
    let whole = format!("/api/v1{path}");
    let put = async |body: Value| -> Answer { answer(api.request(Method::PUT, &whole).json(&body)).await };
    is_problem(&answer(api.request(Method::GET, &format!("{whole}?user_id=ada"))).await, 404, "not-found");
    let (status, _, kept) = put(json!({ "user_id": "ada", "rendition": "240p" })).await;
    assert_eq!(status, StatusCode::OK, "{kept}");
    assert_eq!(
        kept,
        json!({ "user_id": "ada", "rendition": "240p", "max_height": null, "data_saver": false })
    );
    assert_eq!(api.get(&format!("{path}?user_id=ada")).await, kept);
    let fast = "bandwidth=50000000&buffer=26";
    let recommended = format!("/recordings/{id}/quality/recommended?{fast}");
    assert_eq!(text(&api.get(&recommended).await, "rendition"), "360p");
    let hers = api.get(&format!("{recommended}&user_id=ada")).await;
    assert_eq!(text(&hers, "rendition"), "240p", "{hers}");
    assert_eq!(hers["alternatives"][1]["ruled_out"], "preference");
    assert_eq!(text(&api.get(&format!("{recommended}&user_id=bob")).await, "rendition"), "360p");

    let body = json!({ "session_id": "ada-1", "recording_id": id, "user_id": "ada", "bandwidth": 50_000_000, "buffer_seconds": 26.0 });
    assert_eq!(text(&api.post("/abr/select", &body).await, "rung"), "240p");
    let (status, _, _) = put(json!({ "user_id": "ada", "max_height": 180 })).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(text(&api.post("/abr/select", &body).await, "rung"), "180p");
    assert_eq!(api.get("/abr/sessions/ada-1").await["caps"]["max_height"], 180);

    for (body, pointer) in [
        (json!({ "user_id": "ada" }), "/rendition"),
        (json!({ "user_id": "", "data_saver": true }), "/user_id"),
        (json!({ "user_id": "ada", "rendition": "8k" }), "/rendition"),
        (json!({ "user_id": "ada", "max_height": 0 }), "/max_height"),
        (json!({ "user_id": "ada", "rendition": "240p", "max_height": 180 }), "/max_height"),
    ] {
        let refused = put(body).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [pointer]);
    }
    let reader = client_with(api, None, &["read"]).await;
    let body = json!({ "user_id": "ada", "data_saver": true });
    is_problem(&answer(reader.request(Method::PUT, &whole).json(&body)).await, 403, "forbidden");
    is_problem(&answer(api.request(Method::GET, &whole)).await, 422, "validation");
    let forget = format!("{whole}?user_id=ada");
    assert_eq!(answer(api.request(Method::DELETE, &forget)).await.0, StatusCode::NO_CONTENT);
    is_problem(&answer(api.request(Method::DELETE, &forget)).await, 404, "not-found");
    assert_eq!(text(&api.get(&format!("{recommended}&user_id=ada")).await, "rendition"), "360p");
}
