//! Livestreams as a contract: what is made, shown to whom, changed, and refused. Nobody publishes here.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reelmill_testkit::{Client, Farm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::http_livestreams_watching as watching;
use crate::support::{answer, client_with, header, is_problem, pointers, post_once, text};

#[tokio::test]
async fn http_livestreams() {
    // Nobody works: livestreams stay as they were made.
    let farm = Farm::builder()
        .processes(1, 0, 1)
        .set("REELMILL_INPUT_LOCAL_ROOTS", "/srv/media")
        .set("REELMILL_WEBHOOK_TIMEOUT_SECONDS", 1)
        .start()
        .await;
    let api = &farm.client;
    a_livestream_has_its_defaults(api).await;
    a_livestream_is_as_it_was_asked_for(api).await;
    every_wrong_field_is_named(api).await;
    sources_are_checked_and_shown_without_secrets(api).await;
    changes_are_merged(api).await;
    only_publishers_see_keys(api).await;
    other_projects_see_nothing(api).await;
    a_repeated_request_makes_one(api).await;
    lists_are_filtered_and_cut(api).await;
    starting_and_stopping_are_harmless_twice(api).await;
    what_is_on_air_is_told_and_stopped(&farm).await;
    watching::viewers_are_tracked(api).await;
    watching::figures_and_events_are_told(&farm).await;
    watching::tokens_open_one_livestream(api).await;
    farm.stop().await;
}

pub async fn made(api: &Client, body: Value) -> Value {
    api.post("/livestreams", &body).await
}

async fn patch(api: &Client, id: &str, body: Value) -> (StatusCode, Value) {
    let (status, _, body) =
        answer(api.request(Method::PATCH, &format!("/api/v1/livestreams/{id}")).json(&body)).await;
    (status, body)
}

async fn a_livestream_has_its_defaults(api: &Client) {
    let request = api.request(Method::POST, "/api/v1/livestreams").json(&json!({ "title": "Main stage" }));
    let (status, headers, stream) = answer(request).await;
    assert_eq!(status, StatusCode::CREATED, "{stream}");
    let id = text(&stream, "id");
    assert_eq!(header(&headers, "location"), format!("/api/v1/livestreams/{id}"));
    let key = text(&stream, "stream_key");
    assert!(key.len() >= 24, "{key}");
    assert_eq!(text(&stream, "rtmp_ingest_url"), format!("rtmp://127.0.0.1:1935/live/{key}"));
    assert_eq!(text(&stream, "master_playlist"), format!("/api/v1/livestreams/{id}/stream/master.m3u8"));
    for (field, value) in [
        ("title", json!("Main stage")),
        ("description", Value::Null),
        ("user_id", Value::Null),
        ("status", json!("idle")),
        ("dvr_enabled", json!(false)),
        ("dvr_window", json!(7200)),
        ("low_latency", json!(false)),
        ("require_start", json!(false)),
        ("metadata", json!({})),
        ("source", json!({ "type": "push", "url": null, "has_passphrase": false, "loop": false })),
        (
            "settings",
            json!({
                "enable_transcoding": true, "resolutions": ["1080p", "720p", "480p", "360p"], "codec": "h264",
                "segment_duration": 6, "part_duration": 0.5, "playlist_length": 10, "audio_codec": "aac",
                "audio_bitrate": 128, "keyframe_interval": 2, "gpu_acceleration": false, "record": false,
                "retention_days": 30, "overload": "drop_rung",
            }),
        ),
        ("variants", json!([])),
        ("viewer_count", json!(0)),
        ("peak_viewer_count", json!(0)),
        ("started_at", Value::Null),
        ("ended_at", Value::Null),
    ] {
        assert_eq!(stream[field], value, "{field}");
    }
    for field in ["created_at", "updated_at"] {
        text(&stream, field).parse::<DateTime<Utc>>().unwrap();
    }
    assert_eq!(api.get(&format!("/livestreams/{id}")).await, stream);
    // The example of the description is one that works.
    let document: Value = answer(api.anonymous(Method::GET, "/openapi.json")).await.2;
    for schema in ["NewLivestreamDto", "PatchLivestreamDto", "TrackDto"] {
        assert!(document["components"]["schemas"][schema].is_object(), "{schema}");
    }
    let schema = &document["components"]["schemas"]["NewLivestreamDto"];
    assert_eq!(schema["required"], json!(["title"]));
    made(api, schema["example"].clone()).await;
}

async fn a_livestream_is_as_it_was_asked_for(api: &Client) {
    let asked = json!({
        "title": "Ünï ❤", "description": "d", "user_id": "u-1", "dvr_enabled": true, "dvr_window": 86400,
        "low_latency": true, "require_start": true, "metadata": { "room": [1, 2] },
        "settings": {
            "enable_transcoding": true, "resolutions": ["240p", "720p"], "codec": "hevc", "segment_duration": 4,
            "part_duration": 0.25, "playlist_length": 60, "audio_codec": "aac", "audio_bitrate": 96,
            "keyframe_interval": 1, "gpu_acceleration": true, "record": false, "retention_days": 7, "overload": "keep",
        },
    });
    let stream = made(api, asked.clone()).await;
    for (field, value) in asked.as_object().unwrap() {
        match field.as_str() {
            "settings" => {
                let mut settings = value.clone();
                settings["resolutions"] = json!(["720p", "240p"]);
                assert_eq!(stream[field], settings);
            }
            _ => assert_eq!(stream[field], *value, "{field}"),
        }
    }
    // What is to be sought back is kept, unless it is said otherwise.
    let stream = made(api, json!({ "title": "t", "dvr_enabled": true })).await;
    assert_eq!(stream["settings"]["record"], true);
}

async fn every_wrong_field_is_named(api: &Client) {
    let wrong = json!({
        "title": " ", "description": "x".repeat(5001), "user_id": "\u{0}", "dvr_window": 59, "metadata": [],
        "source": { "type": "carrier_pigeon" },
        "settings": {
            "resolutions": ["720p", "4k", "720p"], "codec": "av1", "segment_duration": 0, "part_duration": 2.5,
            "playlist_length": 2, "audio_codec": "opus", "audio_bitrate": 321, "keyframe_interval": 11, "retention_days": 6,
        },
    });
    let refused = answer(api.request(Method::POST, "/api/v1/livestreams").json(&wrong)).await;
    is_problem(&refused, 422, "validation");
    let mut named = pointers(&refused.2);
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "/description",
            "/dvr_window",
            "/metadata",
            "/settings/audio_bitrate",
            "/settings/audio_codec",
            "/settings/codec",
            "/settings/keyframe_interval",
            "/settings/part_duration",
            "/settings/playlist_length",
            "/settings/resolutions/1",
            "/settings/resolutions/2",
            "/settings/retention_days",
            "/settings/segment_duration",
            "/source/type",
            "/title",
            "/user_id",
        ]
    );
    for (body, pointer) in [
        (json!({}), "/title"),
        (json!({ "title": null }), "/title"),
        (json!({ "title": "t", "colour": "red" }), "/colour"),
        (json!({ "title": "t", "settings": { "fps": 30 } }), "/settings/fps"),
        (json!({ "title": "t", "source": { "path": "/etc" } }), "/source/path"),
        (json!({ "title": "t", "dvr_window": "7200" }), "/dvr_window"),
        (json!({ "title": "t", "dvr_window": 1_i64 << 40 }), "/dvr_window"),
        (json!({ "title": "t", "settings": { "resolutions": [] } }), "/settings/resolutions"),
        (json!({ "title": "t", "settings": { "keyframe_interval": 4 } }), "/settings/segment_duration"),
        (
            json!({ "title": "t", "settings": { "segment_duration": 1, "keyframe_interval": 1, "part_duration": 0.6 } }),
            "/settings/part_duration",
        ),
    ] {
        let refused = answer(api.request(Method::POST, "/api/v1/livestreams").json(&body)).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [pointer], "{body}");
    }
}

async fn sources_are_checked_and_shown_without_secrets(api: &Client) {
    for source in [
        json!({ "type": "rtsp" }),
        json!({ "type": "rtsp", "url": null }),
        json!({ "type": "file" }),
        json!({ "type": "rtsp", "url": "http://camera/1" }),
        json!({ "type": "rtsp", "url": "rtsp:///nowhere" }),
        json!({ "type": "rtsp", "url": "not a url" }),
        json!({ "type": "rtsp", "url": format!("rtsp://camera/{}", "x".repeat(4096)) }),
        json!({ "type": "file", "url": "file:///etc/passwd" }),
        json!({ "type": "file", "url": "file:///srv/media/../../etc/passwd" }),
        json!({ "type": "file", "url": "concat:http://a|http://b" }),
        json!({ "type": "push", "url": "rtmp://elsewhere/live" }),
        json!({ "url": "rtsp://camera/1" }),
        json!({ "type": "srt", "url": "srt://elsewhere" }),
        json!({ "type": "srt", "url": "srt://elsewhere:9000?mode=listener" }),
    ] {
        let body = json!({ "title": "t", "source": source });
        let refused = answer(api.request(Method::POST, "/api/v1/livestreams").json(&body)).await;
        is_problem(&refused, 422, "validation");
        assert!(pointers(&refused.2).contains(&"/source/url"), "{source}: {}", refused.2);
    }
    for (source, pointer) in [
        (json!({ "type": "srt" }), "/source/passphrase"),
        (json!({ "type": "srt", "passphrase": "too short" }), "/source/passphrase"),
        (json!({ "type": "srt", "passphrase": "x".repeat(80) }), "/source/passphrase"),
        (json!({ "type": "srt", "passphrase": "ten letters and spaces" }), "/source/passphrase"),
        (json!({ "type": "push", "passphrase": "0123456789" }), "/source/passphrase"),
        (json!({ "type": "push", "loop": true }), "/source/loop"),
    ] {
        let body = json!({ "title": "t", "source": source });
        let refused = answer(api.request(Method::POST, "/api/v1/livestreams").json(&body)).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [pointer], "{source}");
    }
    let srt =
        made(api, json!({ "title": "t", "source": { "type": "srt", "passphrase": "0123456789" } })).await;
    assert_eq!(srt["source"], json!({ "type": "srt", "url": null, "has_passphrase": true, "loop": false }));
    assert!(srt["rtmp_ingest_url"].is_null() && srt["stream_key"].is_string());
    assert!(srt["srt_ingest_url"].is_null(), "no worker listens here: {srt}");
    let source = json!({ "type": "srt", "url": "srt://elsewhere:9000?streamid=hunter" });
    let called = made(api, json!({ "title": "t", "source": source })).await;
    assert_eq!(called["source"]["url"], "srt://elsewhere:9000?…");

    let source = json!({ "type": "rtsp", "url": "rtsp://admin:hunter2@camera.example/1?token=hunter3" });
    let camera = made(api, json!({ "title": "camera", "source": source })).await;
    assert_eq!(camera["source"]["url"], "rtsp://camera.example/1?…");
    let film = json!({ "type": "file", "url": "file:///srv/media/film.mp4", "loop": true });
    let film = made(api, json!({ "title": "film", "source": film })).await;
    assert_eq!(film["source"]["loop"], true);
    for shown in [&camera, &srt, &api.get("/livestreams").await] {
        let shown = shown.to_string();
        assert!(!shown.contains("hunter") && !shown.contains("0123456789"), "{shown}");
    }
}

async fn changes_are_merged(api: &Client) {
    let source = json!({ "type": "rtsp", "url": "rtsp://admin:hunter2@camera.example/1" });
    let stream = made(
        api,
        json!({ "title": "a", "description": "d", "user_id": "u", "metadata": { "a": 1 }, "source": source,
                "settings": { "codec": "hevc", "retention_days": 9 } }),
    )
    .await;
    let id = text(&stream, "id");
    let (status, changed) = patch(
        api,
        id,
        json!({ "title": "b", "description": null, "dvr_enabled": true, "settings": { "playlist_length": 5, "retention_days": null } }),
    )
    .await;
    assert_eq!(status, StatusCode::OK, "{changed}");
    let mut expected = stream.clone();
    expected["title"] = json!("b");
    expected["description"] = Value::Null;
    expected["dvr_enabled"] = json!(true);
    expected["settings"]["playlist_length"] = json!(5);
    expected["settings"]["retention_days"] = json!(30);
    expected["settings"]["record"] = json!(true);
    expected["updated_at"] = changed["updated_at"].clone();
    assert_eq!(changed, expected);
    assert_eq!(api.get(&format!("/livestreams/{id}")).await, changed);

    // The source as it was shown is the source as it was; something else is something else, and begins anew.
    let (status, same) =
        patch(api, id, json!({ "source": { "type": "rtsp", "url": changed["source"]["url"] } })).await;
    assert_eq!((status, &same["source"]), (StatusCode::OK, &changed["source"]));
    let (status, refused) = patch(api, id, json!({ "source": { "type": "file" } })).await;
    assert_eq!((status, pointers(&refused)), (StatusCode::UNPROCESSABLE_ENTITY, vec!["/source/url"]));
    let (status, refused) = patch(api, id, json!({ "settings": { "keyframe_interval": 5 } })).await;
    assert_eq!(
        (status, pointers(&refused)),
        (StatusCode::UNPROCESSABLE_ENTITY, vec!["/settings/segment_duration"])
    );
    let detail = refused["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("5 or 10"), "{detail}");
    let (_, pushed) = patch(api, id, json!({ "source": { "type": "push" } })).await;
    assert!(pushed["source"]["url"].is_null() && pushed["rtmp_ingest_url"].is_string());
    assert_eq!(patch(api, id, json!({})).await.1["title"], "b");

    // A new key, and the old one nowhere.
    let old = text(&stream, "stream_key");
    let rotated = api.post_empty(format!("/livestreams/{id}/rotate-key")).await;
    let new = text(&rotated, "stream_key");
    assert_ne!(new, old);
    assert!(text(&rotated, "rtmp_ingest_url").ends_with(new));
    assert_eq!(api.get(&format!("/livestreams/{id}")).await["stream_key"], new);
}

async fn only_publishers_see_keys(api: &Client) {
    let id = text(&made(api, json!({ "title": "secret" })).await, "id").to_owned();
    let reader = client_with(api, None, &["live:read"]).await;
    let writer = client_with(api, None, &["live:write"]).await;
    let nobody = client_with(api, None, &["read", "write", "fleet:write"]).await;
    let path = format!("/livestreams/{id}");
    let seen = reader.get(&path).await;
    assert!(seen.get("stream_key").is_none() && seen.get("rtmp_ingest_url").is_none(), "{seen}");
    let whole = writer.get(&path).await;
    let key = text(&whole, "stream_key");
    for path in [path.clone(), "/livestreams".to_owned()] {
        assert!(!reader.get(&path).await.to_string().contains(key), "{path}");
    }
    assert!(writer.get("/livestreams").await.to_string().contains(key));

    let api_path = format!("/api/v1{path}");
    let writes = ["start", "stop", "pause", "resume", "rotate-key", "viewers/track"];
    for (client, mine) in [(&reader, true), (&nobody, false)] {
        for what in writes {
            let body = json!({ "session_id": "s" });
            let request = client.request(Method::POST, &format!("{api_path}/{what}")).json(&body);
            is_problem(&answer(request).await, 403, "forbidden");
        }
        for (method, path) in [(Method::POST, "/api/v1/livestreams"), (Method::PATCH, api_path.as_str())] {
            let request = client.request(method, path).json(&json!({ "title": "t" }));
            is_problem(&answer(request).await, 403, "forbidden");
        }
        is_problem(&answer(client.request(Method::DELETE, &api_path)).await, 403, "forbidden");
        for what in ["", "/recordings", "/analytics", "/events", "/viewers"] {
            let answer = answer(client.request(Method::GET, &format!("{api_path}{what}"))).await;
            if mine {
                assert_eq!(answer.0, StatusCode::OK, "{what}: {}", answer.2);
            } else {
                is_problem(&answer, 403, "forbidden");
            }
        }
    }
}

async fn other_projects_see_nothing(api: &Client) {
    let id = text(&made(api, json!({ "title": "ours" })).await, "id").to_owned();
    api.post("/projects", &json!({ "name": "rival" })).await;
    let rival = client_with(api, Some("rival"), &["live:write"]).await;
    assert_eq!(rival.get("/livestreams").await["streams"], json!([]));
    let base = format!("/api/v1/livestreams/{id}");
    for (method, what) in [
        (Method::GET, ""),
        (Method::PATCH, ""),
        (Method::DELETE, ""),
        (Method::POST, "/start"),
        (Method::POST, "/stop"),
        (Method::POST, "/pause"),
        (Method::POST, "/resume"),
        (Method::POST, "/rotate-key"),
        (Method::POST, "/playback-token"),
        (Method::POST, "/viewers/track"),
        (Method::GET, "/recordings"),
        (Method::GET, "/analytics"),
        (Method::GET, "/events"),
        (Method::GET, "/viewers"),
    ] {
        let mut request = rival.request(method.clone(), &format!("{base}{what}"));
        match what {
            "/viewers/track" => request = request.json(&json!({ "session_id": "s" })),
            "" if method == Method::PATCH => request = request.json(&json!({ "title": "stolen" })),
            _ => {}
        }
        is_problem(&answer(request).await, 404, "not-found");
    }
    assert_eq!(api.get(&format!("/livestreams/{id}")).await["title"], "ours");
    // What is deleted is gone for its owner too.
    assert_eq!(answer(api.request(Method::DELETE, &base)).await.0, StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::DELETE] {
        is_problem(&answer(api.request(method, &base)).await, 404, "not-found");
    }
}

async fn a_repeated_request_makes_one(api: &Client) {
    let body = json!({ "title": "once", "user_id": "repeated" });
    let key = Uuid::now_v7().to_string();
    let first = answer(post_once(api, "/livestreams", &key, &body)).await;
    let second = answer(post_once(api, "/livestreams", &key, &body)).await;
    assert_eq!((first.0, second.0), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(first.2, second.2);
    assert_eq!(header(&second.1, "idempotent-replayed"), "true");
    let listed = api.get("/livestreams?user_id=repeated").await;
    assert_eq!(listed["streams"].as_array().unwrap().len(), 1);
}

async fn lists_are_filtered_and_cut(api: &Client) {
    let mut ids = vec![];
    for n in 0..5 {
        let user = if n % 2 == 0 { "even" } else { "odd" };
        let stream = made(api, json!({ "title": n.to_string(), "user_id": user })).await;
        ids.insert(0, text(&stream, "id").to_owned());
    }
    let get = async |query: &str| {
        let page = api.get(&format!("/livestreams?{query}")).await;
        let streams = page["streams"].as_array().unwrap();
        let found: Vec<String> = streams.iter().map(|stream| text(stream, "id").to_owned()).collect();
        (found, page)
    };
    let (even, page) = get("user_id=even").await;
    assert_eq!(even, [ids[0].as_str(), &ids[2], &ids[4]]);
    assert_eq!(
        (&page["limit"], &page["offset"], &page["next_cursor"]),
        (&json!(50), &json!(0), &Value::Null)
    );
    assert!(get("status=live").await.0.is_empty());
    assert_eq!(get("status=idle&user_id=odd").await.0, [ids[1].as_str(), &ids[3]]);
    let (first, page) = get("limit=2").await;
    assert_eq!(first, ids[..2]);
    let (second, _) = get(&format!("limit=2&cursor={}", text(&page, "next_cursor"))).await;
    assert_eq!(second, ids[2..4]);
    let (by_offset, page) = get("limit=2&offset=2").await;
    assert_eq!(by_offset, ids[2..4]);
    assert_eq!((&page["limit"], &page["offset"]), (&json!(2), &json!(2)));
    for bad in [
        "limit=0",
        "limit=201",
        "offset=-1",
        "offset=100001",
        "status=asleep",
        "cursor=x",
        "colour=red",
        "offset=1&cursor=01890000-0000-7000-8000-000000000000",
    ] {
        let refused = answer(api.request(Method::GET, &format!("/api/v1/livestreams?{bad}"))).await;
        is_problem(&refused, 400, "malformed");
    }
}

async fn starting_and_stopping_are_harmless_twice(api: &Client) {
    let stream = made(api, json!({ "title": "t", "require_start": true })).await;
    let id = text(&stream, "id");
    let path = format!("/livestreams/{id}");
    assert_eq!(stream["armed"], false);
    for _ in 0..2 {
        let started = api.post_empty(format!("{path}/start")).await;
        assert_eq!(started["stream_id"], id);
        assert_eq!(started["rtmp_ingest_url"], stream["rtmp_ingest_url"]);
        text(&started, "message");
        let read = api.get(&path).await;
        assert_eq!((&read["armed"], &read["status"]), (&json!(true), &json!("idle")));
    }
    for _ in 0..2 {
        let stopped = api.post_empty(format!("{path}/stop")).await;
        assert_eq!(stopped, json!({ "message": "the livestream was not running" }));
        assert_eq!(api.get(&path).await["armed"], false);
    }
    let camera = json!({ "type": "rtsp", "url": "rtsp://camera.example/1" });
    let camera = made(api, json!({ "title": "camera", "source": camera })).await;
    let started = api.post_empty(format!("/livestreams/{}/start", text(&camera, "id"))).await;
    assert!(started["rtmp_ingest_url"].is_null() && text(&started, "message").contains("fetched"));
    for what in ["pause", "resume"] {
        let refused = answer(api.request(Method::POST, &format!("/api/v1{path}/{what}"))).await;
        is_problem(&refused, 409, "conflict");
    }
}

/// Brings a livestream to where a worker has it on air.
async fn on_air(farm: &Farm, id: &str) -> String {
    let (broadcast, set) = (Uuid::now_v7().to_string(), Uuid::now_v7());
    let plan = json!({
        "rungs": [{ "name": "720p", "width": 1280, "height": 720, "bitrate": 2_800_000 }],
        "frame_rate": [30, 1], "codec": "h264", "audio": { "bitrate": 128_000 },
    });
    let db = farm.database.connect().await;
    db.batch_execute(&format!(
        "insert into sets (id, project_id) select '{set}', project_id from livestreams where id = '{id}';
         insert into broadcasts (id, livestream_id, project_id, set_id, plan, started_at, heard_at, recorded, bytes)
         select '{broadcast}', id, project_id, '{set}', '{plan}', now() - interval '1 min', now(), true, 1234
         from livestreams where id = '{id}';
         update livestreams set status = 'live', epoch = epoch + 1, broadcast_id = '{broadcast}', started_at = now()
         where id = '{id}';
         insert into live_leases (livestream_id, project_id, worker_id, epoch, origin, pass, expires_at)
         select id, project_id, id, epoch, 'http://127.0.0.1:1', 'p', now() + interval '1 h' from livestreams where id = '{id}'"
    ))
    .await
    .unwrap();
    broadcast
}

async fn what_is_on_air_is_told_and_stopped(farm: &Farm) {
    let api = &farm.client;
    let id = text(&made(api, json!({ "title": "on air" })).await, "id").to_owned();
    let broadcast = on_air(farm, &id).await;
    let path = format!("/livestreams/{id}");
    let seen = api.get(&path).await;
    assert_eq!((&seen["status"], &seen["broadcast_id"]), (&json!("live"), &json!(broadcast)));
    assert_eq!(
        seen["variants"],
        json!([{
            "resolution": "720p", "width": 1280, "height": 720, "bitrate": 2_800_000, "frame_rate": 30.0, "codec": "h264",
            "audio_bitrate": 128_000, "playlist_url": format!("/api/v1/livestreams/{id}/stream/720p.m3u8"),
        }])
    );
    let paused = api.post_empty(format!("{path}/pause")).await;
    assert!(paused["recording_paused_at"].is_string());
    assert!(api.post_empty(format!("{path}/resume")).await["recording_paused_at"].is_null());

    let recordings = api.get(&format!("{path}/recordings")).await;
    let recording = &recordings["recordings"][0];
    assert_eq!(*recording, api.get(&format!("{path}/recordings/{broadcast}")).await);
    assert_eq!(recordings["next_cursor"], Value::Null);
    for (field, value) in [
        ("id", json!(broadcast)),
        ("live_stream_id", json!(id)),
        ("video_id", Value::Null),
        ("end_time", Value::Null),
        ("size", json!(1234)),
        ("status", json!("recording")),
        ("recording_url", json!(format!("/api/v1{path}/recordings/{broadcast}/stream/master.m3u8"))),
        ("manifest_url", Value::Null),
        ("thumbnail_url", Value::Null),
        ("retention_until", Value::Null),
    ] {
        assert_eq!(recording[field], value, "{field}");
    }
    assert!((recording["duration"].as_f64().unwrap() - 60.0).abs() < 1.0, "{recording}");
    assert!(text(recording, "start_time").parse::<DateTime<Utc>>().is_ok());
    let nothing = format!("/api/v1{path}/recordings/{}", Uuid::now_v7());
    is_problem(&answer(api.request(Method::GET, &nothing)).await, 404, "not-found");

    let stopped = api.post_empty(format!("{path}/stop")).await;
    assert_eq!(stopped, json!({ "message": "the livestream was stopped" }));
    let seen = api.get(&path).await;
    assert_eq!((&seen["status"], &seen["variants"]), (&json!("idle"), &json!([])));
    assert!(seen["ended_at"].is_string() && seen["broadcast_id"].is_null());
    let over = api.get(&format!("{path}/recordings?status=finalizing")).await;
    assert_eq!(over["recordings"][0]["end_reason"], "stopped");
    let events = api.get(&format!("{path}/events")).await;
    assert_eq!(events["events"][0]["event_type"], "stream_ended");

    let other = text(&made(api, json!({ "title": "another" })).await, "id").to_owned();
    on_air(farm, &other).await;
    api.post_empty(format!("/livestreams/{other}/stop")).await;
    // Deleting is stopping, first.
    on_air(farm, &id).await;
    assert_eq!(
        answer(api.request(Method::DELETE, &format!("/api/v1{path}"))).await.0,
        StatusCode::NO_CONTENT
    );
    let db = farm.database.connect().await;
    let told: Vec<(String, String)> = db
        .query(
            "select data ->> 'reason', data ->> 'livestream_id' from events where type = 'livestream.ended' order by id",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let told: Vec<(&str, &str)> = told.iter().map(|(reason, of)| (reason.as_str(), of.as_str())).collect();
    assert_eq!(told, [("stopped", id.as_str()), ("stopped", &other), ("deleted", &id)]);
    follows_one_livestream(api, &id, 2).await;
    follows_one_livestream(api, &other, 1).await;
}

/// The log told from its beginning, to who wants one livestream only: so many ends of it, and of no other.
async fn follows_one_livestream(api: &Client, id: &str, ends: usize) {
    let path = format!("/api/v1/events?livestream_id={id}&types=livestream.ended");
    let mut response = api.request(Method::GET, &path).header("last-event-id", "0-0").send().await.unwrap();
    let mut heard = String::new();
    let listening = async {
        while heard.matches("\n\n").count() < ends {
            let chunk = response.chunk().await.unwrap().expect("the stream has no end");
            heard.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    timeout(Duration::from_secs(60), listening).await.unwrap();
    assert_eq!(heard.matches("event: livestream.ended").count(), ends, "{heard}");
    assert_eq!(heard.matches(&format!("\"livestream_id\":\"{id}\"")).count(), ends, "{heard}");
}
