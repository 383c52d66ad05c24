//! Footage that was recorded elsewhere becomes a recording of its livestream.

use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::live::PATIENCE;
use crate::support::{answer, header, is_problem, pointers, text};

const MORNING: &str = "2026-03-01T08:00:00Z";

async fn recording(farm: &Farm, id: &str, rid: &str, status: &str) -> Value {
    until(status, PATIENCE, || async {
        let found = farm.client.get(&format!("/livestreams/{id}/recordings/{rid}")).await;
        (found["status"] == status).then_some(found)
    })
    .await
}

#[tokio::test]
async fn live_footage_from_elsewhere_is_imported_with_its_start_time() {
    let farm = Farm::builder().processes(1, 1, 1).start().await;
    let client = &farm.client;
    let camera = client.post("/livestreams", &json!({ "title": "Door" })).await;
    let id = text(&camera, "id");
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 4, "320x180");
    let import = async |body: Value| {
        let path = format!("/api/v1/livestreams/{id}/recordings/import");
        answer(client.request(Method::POST, &path).json(&body)).await
    };

    let upload = client.upload(&clip).await;
    let body = json!({ "input": { "upload_id": upload }, "start_time": MORNING, "profile": "fast" });
    let (status, headers, accepted) = import(body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{accepted}");
    let rid = text(&accepted, "id");
    assert_eq!(header(&headers, "location"), format!("/api/v1/livestreams/{id}/recordings/{rid}"));
    assert_eq!((text(&accepted, "status"), text(&accepted, "start_time")), ("converting", MORNING));
    assert_eq!((&accepted["duration"], &accepted["recording_url"]), (&json!(0.0), &Value::Null));
    let done = recording(&farm, id, rid, "converted").await;
    let video = text(&done, "video_id");
    assert_eq!((&done["imported"], &done["retention_until"]), (&json!(true), &Value::Null));
    let seconds = done["duration"].as_f64().unwrap();
    assert!((seconds - 4.0).abs() < 0.2 && done["size"].as_u64().unwrap() > 1000, "{done}");
    let at = |field: &str| chrono::DateTime::parse_from_rfc3339(text(&done, field)).unwrap();
    let lasted = (at("end_time") - at("start_time")).num_milliseconds() as f64 / 1000.0;
    assert!((lasted - seconds).abs() < 0.002, "{lasted} of {seconds}");
    assert_eq!(text(&done, "recording_url"), format!("/api/v1/recordings/{video}/stream/master.m3u8"));
    let made = client.get(&format!("/recordings/{video}")).await;
    assert_eq!((text(&made, "title"), text(&made, "status")), ("Door", "ready"));
    assert_eq!(made["metadata"]["start_time"], MORNING);
    assert_eq!(answer(client.request(Method::GET, text(&done, "recording_url"))).await.0, StatusCode::OK);

    // One that is there already is not encoded again.
    let again =
        import(json!({ "input": { "recording_id": video }, "start_time": "2026-03-01T09:00:00+01:00" }))
            .await;
    assert_eq!((again.0, text(&again.2, "start_time")), (StatusCode::ACCEPTED, MORNING), "{}", again.2);
    let again = recording(&farm, id, text(&again.2, "id"), "converted").await;
    assert_eq!((&again["video_id"], &again["duration"]), (&done["video_id"], &done["duration"]));
    let list = client.get(&format!("/livestreams/{id}/recordings?status=converted")).await;
    assert_eq!(list["recordings"].as_array().unwrap().len(), 2);
    assert_eq!(list["recordings"][1], done);
    // Nothing of it was on air here, and it is made already.
    let own = format!("/api/v1/livestreams/{id}/recordings/{rid}");
    is_problem(
        &answer(client.request(Method::GET, &format!("{own}/stream/master.m3u8"))).await,
        404,
        "not-found",
    );
    let job = client.post_empty(format!("/livestreams/{id}/recordings/{rid}/convert")).await;
    assert_eq!((&job["recording_id"], &job["status"]), (&json!(video), &json!("succeeded")));

    // What is no footage becomes nothing, and says so.
    let nonsense = dir.path().join("nonsense.mp4");
    std::fs::write(&nonsense, "no film").unwrap();
    let upload = client.upload(&nonsense).await;
    let (_, _, refused) = import(json!({ "input": { "upload_id": upload }, "start_time": MORNING })).await;
    let failed = recording(&farm, id, text(&refused, "id"), "failed").await;
    assert_eq!((&failed["recording_url"], &failed["thumbnail_url"]), (&Value::Null, &Value::Null));
    let nothing = json!({ "input": { "recording_id": failed["video_id"] }, "start_time": MORNING });
    is_problem(&import(nothing).await, 409, "conflict");

    for (input, start_time, field) in [
        (json!({ "recording_id": video }), "2126-01-01T00:00:00Z", "/start_time"),
        (json!({ "recording_id": video }), "1066-10-14T09:00:00Z", "/start_time"),
        (json!({ "recording_id": video, "url": "https://example.com/a.mp4" }), MORNING, "/input"),
        (json!({ "broadcast_id": rid }), MORNING, "/input/broadcast_id"),
        (json!({}), MORNING, "/input"),
    ] {
        let refused = import(json!({ "input": input, "start_time": start_time })).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [field]);
    }
    let unknown = json!({ "input": { "recording_id": id }, "start_time": MORNING });
    is_problem(&import(unknown).await, 404, "not-found");

    // With the recording goes what was imported.
    assert!(
        client
            .request(Method::DELETE, &format!("/api/v1/recordings/{video}"))
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    let gone = recording(&farm, id, rid, "expired").await;
    assert_eq!((&gone["video_id"], &gone["recording_url"]), (&Value::Null, &Value::Null));
    farm.stop().await;
}
