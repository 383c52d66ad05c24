//! A Redis between two apis: what one found the other need not look for, and its loss costs nothing but time.

use std::process::Stdio;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::cdn::{free_port, installed};
use crate::live::PATIENCE;
use crate::support::{answer, is_problem, text};

const START: &str = "2026-03-01T08:00:00Z";
const END: &str = "2026-03-01T08:00:04Z";
const PASSWORD: &str = "between-apis";

async fn redis(port: u16) -> Child {
    let child = Command::new(installed("REELMILL_REDIS", "/usr/bin/redis-server"))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", PASSWORD])
        .args(["--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server: apt-get install redis-server, or name it in REELMILL_REDIS");
    until("Redis to listen", PATIENCE, || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
    })
    .await;
    child
}

/// What an api counts of the shared cache.
async fn counted(farm: &Farm, api: usize, kept: &str, outcome: &str) -> f64 {
    let text = farm.api(api).request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let row = text.lines().find(|line| {
        line.starts_with("reelmill_shared_cache_requests_total")
            && line.contains(&format!("kept=\"{kept}\""))
            && line.contains(&format!("outcome=\"{outcome}\""))
    });
    row.map_or(0.0, |row| row.rsplit(' ').next().unwrap().parse().unwrap())
}

async fn is_up(farm: &Farm, up: bool) {
    until("all to know how the cache is", PATIENCE, || async {
        for api in 0..2 {
            let text = farm.api(api).request(Method::GET, "/metrics").send().await.ok()?.text().await.ok()?;
            text.contains(if up { "reelmill_shared_cache_up 1" } else { "reelmill_shared_cache_up 0" })
                .then_some(())?;
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn shared_cache_spares_the_second_api_and_may_die() {
    let port = free_port();
    let mut server = redis(port).await;
    let farm = Farm::builder()
        .processes(2, 1, 1)
        .set("REELMILL_CACHE_URL", format!("redis://:{PASSWORD}@127.0.0.1:{port}"))
        .start()
        .await;
    is_up(&farm, true).await;
    let client = &farm.client;
    let camera = client.post("/livestreams", &json!({ "title": "Door" })).await;
    let id = text(&camera, "id");
    let clip = media::clip(farm.dir.path(), 4, "320x180");
    let upload = client.upload(&clip).await;
    let body = json!({ "input": { "upload_id": upload }, "start_time": START, "profile": "fast" });
    let import = client.post(&format!("/livestreams/{id}/recordings/import"), &body).await;
    let done = until("it to be imported", PATIENCE, || async {
        let found = client.get(&format!("/livestreams/{id}/recordings/{}", text(&import, "id"))).await;
        (found["status"] == "converted").then_some(found)
    })
    .await;
    let video = text(&done, "video_id").to_owned();

    let start = async || {
        let body = json!({ "camera_id": id, "start_time": START, "end_time": END });
        let (status, _, session) =
            answer(client.request(Method::POST, "/api/v1/playback/start").json(&body)).await;
        assert_eq!(status, StatusCode::CREATED, "{session}");
        text(&session, "session_id").to_owned()
    };
    let playlist = |sid: &str| format!("/api/v1/playback/sessions/{sid}/playlist.m3u8");
    let both = async |path: String| {
        let mut texts = vec![];
        for api in 0..2 {
            let (status, _, body) = answer(farm.api(api).request(Method::GET, &path)).await;
            assert_eq!(status, StatusCode::OK, "{path}: {body}");
            texts.push(body);
        }
        assert_eq!(texts[0], texts[1]);
    };
    let sid = start().await;
    both(playlist(&sid)).await;
    // The second found the segment map and the playlist; a session is kept too shortly to be sure of.
    assert_eq!(counted(&farm, 1, "footage", "hit").await, 2.0);
    both(format!("/api/v1/recordings/{video}/stream/master.m3u8")).await;
    assert_eq!(counted(&farm, 1, "listing", "hit").await, 1.0);

    // Ended at one it is over at the other, as soon as without a cache.
    assert_eq!(
        client
            .request(Method::DELETE, &format!("/api/v1/playback/sessions/{sid}"))
            .send()
            .await
            .unwrap()
            .status(),
        204
    );
    let refused = until("the other api to see it", std::time::Duration::from_secs(5), || async {
        let answer = answer(farm.api(1).request(Method::GET, &playlist(&sid))).await;
        (answer.0 != StatusCode::OK).then_some(answer)
    })
    .await;
    is_problem(&refused, 404, "not-found");

    // Killed in the middle: everything is answered, and nobody is told that anything is wrong.
    server.kill().await.unwrap();
    let sid = start().await;
    both(playlist(&sid)).await;
    is_up(&farm, false).await;
    for api in 0..2 {
        let ready = farm.api(api).anonymous(Method::GET, "/readyz").send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::OK);
    }
    let sid = start().await;
    both(playlist(&sid)).await;
    assert!(counted(&farm, 1, "footage", "skipped").await >= 1.0);

    // Back again it is used again. What another wrote there under our names is not believed.
    server = redis(port).await;
    is_up(&farm, true).await;
    let sid = start().await;
    both(playlist(&sid)).await;
    assert!(counted(&farm, 1, "footage", "hit").await >= 4.0);
    server.kill().await.unwrap();
    farm.stop().await;
}

/// One that takes connections and never says a word, and one that says something else.
#[tokio::test]
async fn shared_cache_that_hangs_or_is_none_holds_nobody_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let farm = Farm::builder()
        .processes(1, 1, 1)
        .set("REELMILL_CACHE_URL", format!("redis://127.0.0.1:{port}"))
        .start()
        .await;
    let clip = media::clip(farm.dir.path(), 4, "320x180");
    let recording = farm.client.transcode(&clip, &json!("fast")).await;
    let url = farm.client.play_url(text(&recording, "id")).await;
    let began = std::time::Instant::now();
    assert!(farm.client.text(&url).await.contains("#EXT-X-STREAM-INF"));
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    // No CDN is configured here.
    let turn = farm.client.request(Method::PUT, "/api/v1/distribution/cdn").json(&json!({ "enabled": true }));
    let refused = answer(turn).await;
    is_problem(&refused, 409, "conflict");
    assert!(text(&refused.2, "detail").contains("REELMILL_CDN_URL"), "{}", refused.2);
    drop(silent);
    farm.stop().await;
}
