//! Livestreams as a contract: who watches, what was measured, what happened, and how viewers get in.

use chrono::{DateTime, Utc};
use reelmill_shared::auth::token::Purpose;
use reelmill_testkit::{Client, Farm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http_auth::{now, signer};
use crate::http_livestreams::made;
use crate::support::{answer, client_with, is_problem, pointers, text};

pub async fn viewers_are_tracked(api: &Client) {
    let id = text(&made(api, json!({ "title": "watched" })).await, "id").to_owned();
    let path = format!("/livestreams/{id}/viewers");
    let track = async |body: Value| {
        let request = api.request(Method::POST, &format!("/api/v1{path}/track"));
        answer(request.header("user-agent", "player/1").json(&body)).await
    };
    let told = json!({
        "session_id": "s-1", "user_id": "u", "resolution": "720p", "device_type": "tv", "location": "CH", "buffer_events": 2,
        "quality_changes": 1, "ip_address": "2001:db8::1",
    });
    let (status, _, session) = track(told.clone()).await;
    assert_eq!(status, StatusCode::OK, "{session}");
    for (field, value) in told.as_object().unwrap() {
        assert_eq!(session[field], *value, "{field}");
    }
    assert_eq!((&session["user_agent"], &session["left_at"]), (&json!("player/1"), &Value::Null));
    assert!(session["joined_at"].is_string() && session["watch_duration"].is_number());
    track(json!({ "session_id": "s-2" })).await;
    let stream = api.get(&format!("/livestreams/{id}")).await;
    assert_eq!((&stream["viewer_count"], &stream["peak_viewer_count"]), (&json!(2), &json!(2)));
    let gone = track(json!({ "session_id": "s-1", "left": true })).await.2;
    assert!(gone["left_at"].is_string() && gone["user_id"] == "u", "{gone}");
    let stream = api.get(&format!("/livestreams/{id}")).await;
    assert_eq!((&stream["viewer_count"], &stream["peak_viewer_count"]), (&json!(1), &json!(2)));
    let ids = |page: &Value| {
        let viewers = page["viewers"].as_array().unwrap();
        viewers.iter().map(|viewer| text(viewer, "session_id").to_owned()).collect::<Vec<_>>()
    };
    let first = api.get(&format!("{path}?limit=1")).await;
    assert_eq!(ids(&first), ["s-2"]);
    let second = api.get(&format!("{path}?limit=1&cursor={}", text(&first, "next_cursor"))).await;
    assert_eq!((ids(&second), &second["next_cursor"]), (vec!["s-1".to_owned()], &Value::Null));
    assert_eq!(ids(&api.get(&format!("{path}?watching=true")).await), ["s-2"]);

    let wrong = track(json!({
        "session_id": "a b", "user_id": "x".repeat(256), "ip_address": "localhost", "buffer_events": -1, "quality_changes": 1_i64 << 40,
    }))
    .await;
    is_problem(&wrong, 422, "validation");
    assert_eq!(
        pointers(&wrong.2),
        ["/session_id", "/user_id", "/ip_address", "/buffer_events", "/quality_changes"]
    );
    let other = text(&made(api, json!({ "title": "other" })).await, "id").to_owned();
    let request = api.request(Method::POST, &format!("/api/v1/livestreams/{other}/viewers/track"));
    is_problem(&answer(request.json(&json!({ "session_id": "s-1" }))).await, 409, "conflict");
}

pub async fn figures_and_events_are_told(farm: &Farm) {
    let api = &farm.client;
    let id = text(&made(api, json!({ "title": "measured" })).await, "id").to_owned();
    let db = farm.database.connect().await;
    db.batch_execute(&format!(
        "insert into livestream_figures (livestream_id, at, viewer_count, bandwidth_usage, latency_sum, latency_count)
         values ('{id}', '2026-03-01T12:00:00Z', 1, 1000, 160, 2), ('{id}', '2026-03-01T12:00:30Z', 2, 3000, null, null),
                ('{id}', '2026-03-01T12:01:10Z', 9, null, null, null);
         insert into livestream_events (id, livestream_id, type, severity, message, created_at)
         values ('01890000-0000-7000-8000-000000000001', '{id}', 'stream_started', 'info', 'on air', '2026-03-01T12:00:00Z'),
                ('01890000-0000-7000-8000-000000000002', '{id}', 'frame_drop', 'warning', 'frames were dropped', '2026-03-01T12:01:00Z')"
    ))
    .await
    .unwrap();
    let path = format!("/livestreams/{id}");
    let span = "from=2026-03-01T12:00:00Z&to=2026-03-01T12:02:00Z";
    let figures = api.get(&format!("{path}/analytics?{span}&step=60")).await;
    let rows = figures["analytics"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{figures}");
    assert_eq!(
        rows[0],
        json!({
            "timestamp": "2026-03-01T12:00:00Z", "viewer_count": 2, "bandwidth_usage": 2000, "ingest_bitrate": null,
            "dropped_frames": null, "keyframe_interval": null, "audio_video_sync": null, "buffer_health": null,
            "cdn_hit_ratio": null, "average_latency": 80.0, "p95_latency": null, "error_count": null, "quality_score": null,
            "speed": null,
        })
    );
    assert_eq!((&rows[1]["viewer_count"], &rows[1]["bandwidth_usage"]), (&json!(9), &Value::Null));
    assert_eq!(api.get(&format!("{path}/analytics")).await["analytics"], json!([]));
    for bad in [
        "from=yesterday",
        "step=1",
        "step=-60",
        "from=2026-03-01T12:00:00Z&to=2026-03-01T11:00:00Z",
        "from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z",
        "from=2026-02-01T00:00:00Z&to=2026-03-01T00:00:00Z&step=5",
    ] {
        let refused = answer(api.request(Method::GET, &format!("/api/v1{path}/analytics?{bad}"))).await;
        is_problem(&refused, 400, "malformed");
    }

    let events = api.get(&format!("{path}/events")).await;
    let rows = events["events"].as_array().unwrap();
    assert_eq!(
        rows[0],
        json!({
            "id": "01890000-0000-7000-8000-000000000002", "event_type": "frame_drop", "severity": "warning",
            "message": "frames were dropped", "details": {}, "broadcast_id": null, "timestamp": "2026-03-01T12:01:00Z",
        })
    );
    assert_eq!(rows.len(), 2);
    let page = api.get(&format!("{path}/events?limit=1")).await;
    let next = api.get(&format!("{path}/events?limit=1&cursor={}", text(&page, "next_cursor"))).await;
    assert_eq!(next["events"][0], rows[1]);
    for (query, found) in [
        ("severity=warning", 1),
        ("severity=critical", 0),
        ("event_type=stream_started", 1),
        ("from=2026-03-01T12:00:30Z", 1),
        ("to=2026-03-01T12:00:30Z", 1),
    ] {
        let events = api.get(&format!("{path}/events?{query}")).await;
        assert_eq!(events["events"].as_array().unwrap().len(), found, "{query}");
    }
}

pub async fn tokens_open_one_livestream(api: &Client) {
    let id = text(&made(api, json!({ "title": "shown" })).await, "id").to_owned();
    let reader = client_with(api, None, &["live:read"]).await;
    let path = format!("/livestreams/{id}/playback-token");
    let (status, _, given) = answer(reader.request(Method::POST, &format!("/api/v1{path}"))).await;
    assert_eq!(status, StatusCode::CREATED, "{given}");
    let token = text(&given, "token");
    assert_eq!(text(&given, "hls_url"), format!("{}/v/{token}/live/{id}/master.m3u8", api.base));
    assert_eq!(text(&given, "dash_url"), format!("{}/v/{token}/live/{id}/manifest.mpd", api.base));
    assert_eq!(text(&given, "watch_url"), format!("{}/watch/live/{id}?token={token}", api.base));
    let verified = signer().verify(Purpose::PlayLivestream, token, now()).unwrap();
    assert_eq!(verified.subject.to_string(), id);
    let expires: DateTime<Utc> = text(&given, "expires_at").parse().unwrap();
    assert_eq!(expires.timestamp() as u64, verified.expires);
    assert!(verified.expires >= now() + 6 * 3600);
    assert!(signer().verify(Purpose::PlayRecording, token, now()).is_err());
    is_problem(&answer(api.anonymous(Method::GET, &format!("/v/{token}/info"))).await, 403, "bad-token");
}
