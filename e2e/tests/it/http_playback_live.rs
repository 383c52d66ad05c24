//! What a camera has on air: our own HLS, and what a media server is told.

use std::sync::{Arc, Mutex};

use chrono::Utc;
use nix::sys::signal::Signal;
use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

use crate::http_playback::moment;
use crate::live::PATIENCE;
use crate::support::{Page, Site, answer, is_problem, pointers, text};

#[tokio::test]
async fn http_playback_of_what_is_on_air() {
    let asked = Arc::new(Mutex::new(vec![]));
    let told = Arc::clone(&asked);
    let mediamtx = Site::answering("127.0.0.1", move |path| {
        told.lock().unwrap().push(path.to_owned());
        Page::Bytes(vec![])
    })
    .await;
    let farm = Farm::builder().processes(1, 0, 1).start().await;
    let client = &farm.client;
    let camera = client.post("/livestreams", &json!({ "title": "Gate" })).await;
    let id = text(&camera, "id");
    let start = async |farm: &Farm, format: &str| {
        let body = json!({ "camera_id": id, "format": format });
        answer(
            farm.api(farm.processes.iter().filter(|it| it.part == Part::Api).count() - 1)
                .request(Method::POST, "/api/v1/playback/live")
                .json(&body),
        )
        .await
    };

    let (status, _, session) = start(&farm, "hls").await;
    assert_eq!(status, 201, "{session}");
    assert!(text(&session, "url").ends_with(&format!("/live/{id}/master.m3u8")), "{session}");
    assert_eq!((&session["start_time"], &session["export_url"]), (&Value::Null, &Value::Null));
    let hours = (moment(&session, "expires_at") - Utc::now()).num_minutes();
    assert!((23 * 60..=24 * 60).contains(&hours), "{session}");
    let playlist = format!("/api/v1/playback/sessions/{}/playlist.m3u8", text(&session, "session_id"));
    is_problem(&answer(client.request(Method::GET, &playlist)).await, 404, "not-found");
    for format in ["rtsp", "webrtc"] {
        let refused = start(&farm, format).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), ["/format"]);
        assert!(
            refused.2.to_string().contains("REELMILL_MEDIAMTX_API_URL"),
            "it says what to do: {}",
            refused.2
        );
    }
    assert_eq!(pointers(&start(&farm, "flash").await.2), ["/format"]);
    let body = json!({ "camera_id": "01890000-0000-7000-8000-000000000000" });
    let unknown = answer(client.request(Method::POST, "/api/v1/playback/live").json(&body)).await;
    is_problem(&unknown, 404, "not-found");

    let mut farm = farm;
    farm.set("REELMILL_MEDIAMTX_API_URL", &mediamtx.base);
    farm.set("REELMILL_MEDIAMTX_RTSP_URL", "rtsp://media.test:8554");
    farm.set("REELMILL_MEDIAMTX_WEBRTC_URL", "https://media.test:8889/");
    farm.add(Part::Api).await;
    farm.ready().await;
    for (format, base) in [("rtsp", "rtsp://media.test:8554/"), ("webrtc", "https://media.test:8889/")] {
        let (status, _, session) = start(&farm, format).await;
        assert_eq!(status, 201, "{session}");
        let sid = text(&session, "session_id");
        let name = format!("reelmill-{}", sid.replace('-', ""));
        assert_eq!(text(&session, "url"), format!("{base}{name}"));
        assert_eq!(session["watch_url"], Value::Null);
        let own = format!("/api/v1/playback/sessions/{sid}");
        assert_eq!(farm.api(1).request(Method::DELETE, &own).send().await.unwrap().status(), 204);
        let paths: Vec<String> = asked.lock().unwrap().drain(..).collect();
        let verbs = ["add", "delete"].map(|verb| format!("/v3/config/paths/{verb}/{name}"));
        assert_eq!(paths, verbs);
    }
    // What is over without anybody saying so is taken back from it, too.
    farm.add(Part::Scheduler).await;
    farm.ready().await;
    let first = farm.processes.iter_mut().find(|it| it.part == Part::Scheduler).unwrap();
    first.signal(Signal::SIGTERM);
    assert_eq!(first.ended(PATIENCE).await, Some(0), "the one that knows of no media server");
    let (_, _, session) = start(&farm, "rtsp").await;
    asked.lock().unwrap().clear();
    let database = farm.database.connect().await;
    let over = "update playback_sessions set expires_at = now() where path is not null";
    assert_eq!(database.execute(over, &[]).await.unwrap(), 1);
    let name = format!("reelmill-{}", text(&session, "session_id").replace('-', ""));
    until("it to be taken back", PATIENCE, || async {
        (*asked.lock().unwrap() == [format!("/v3/config/paths/delete/{name}")]).then_some(())
    })
    .await;
    until("that to be known", PATIENCE, || async {
        let left = "select count(*) from playback_sessions where path is not null";
        (database.query_one(left, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    drop(mediamtx);
    is_problem(&start(&farm, "rtsp").await, 503, "unavailable");
    farm.stop().await;
}
