//! What was given to viewers is taken back.

use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::live::PATIENCE;
use crate::socket_peer::Peer;
use crate::support::{answer, client_with, is_problem, text};

/// The path that a token of something opens.
async fn given(api: &Client, path: &str) -> String {
    let token = api.post(&format!("{path}/playback-token"), &json!({})).await;
    reqwest::Url::parse(text(&token, "hls_url")).unwrap().path().to_owned()
}

async fn asked(api: &Client, path: &str) -> u16 {
    answer(api.anonymous(Method::GET, path)).await.0.as_u16()
}

#[tokio::test]
async fn http_tokens_are_taken_back_on_every_api_within_seconds() {
    let farm = Farm::builder().processes(2, 1, 1).start().await;
    let apis = [farm.api(0), farm.api(1)];
    let dir = tempfile::tempdir().unwrap();
    let made = apis[0].transcode(&media::clip(dir.path(), 60, "320x180"), &json!("fast")).await;
    let livestream: Value = apis[0].post("/livestreams", &json!({ "title": "Door" })).await;
    // A recording plays. A livestream is off air, and that is told to nobody but who may know.
    let all = [
        (format!("/recordings/{}", text(&made, "id")), 200),
        (format!("/livestreams/{}", text(&livestream, "id")), 404),
    ];
    for (path, good) in all {
        let tokens = format!("/api/v1{path}/playback-token");
        let old = given(&apis[0], &path).await;
        for api in &apis {
            assert_eq!(asked(api, &old).await, good, "{old}");
        }
        let reader = client_with(&apis[0], None, &["read", "live:read"]).await;
        is_problem(&answer(reader.request(Method::DELETE, &tokens)).await, 403, "forbidden");

        assert_eq!(answer(apis[0].request(Method::DELETE, &tokens)).await.0, StatusCode::NO_CONTENT);
        // Where that was asked for it holds at once, elsewhere after a moment. Nobody is given the old one again.
        is_problem(&answer(apis[0].anonymous(Method::GET, &old)).await, 403, "bad-token");
        let new = given(&apis[1], &path).await;
        assert_ne!(new, old);
        until("the other api to know", PATIENCE, || async {
            (asked(&apis[1], &old).await == 403).then_some(())
        })
        .await;
        for api in &apis {
            assert_eq!(asked(api, &new).await, good, "{new}");
        }
        // All viewers share the new one, too, and it can be taken back.
        assert_eq!(given(&apis[0], &path).await, new);
        assert_eq!(answer(apis[1].request(Method::DELETE, &tokens)).await.0, StatusCode::NO_CONTENT);
        assert_eq!(asked(&apis[1], &new).await, 403);
        let newest = given(&apis[0], &path).await;
        assert_eq!(asked(&apis[0], &newest).await, good);
    }
    // Whoever has a socket open is sent away.
    let path = format!("/recordings/{}", text(&made, "id"));
    let socket = given(&apis[0], &path).await.replace("master.m3u8", "live");
    let mut peer = Peer::viewer(&format!("{}{socket}", apis[1].base)).await.unwrap();
    peer.frame().await;
    // It stays open.
    peer.say(json!({ "type": "pause" })).await;
    let tokens = format!("/api/v1{path}/playback-token");
    assert_eq!(answer(apis[0].request(Method::DELETE, &tokens)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(peer.rest().await.1, 1008);

    let nobody = "/api/v1/recordings/01890000-0000-7000-8000-000000000000/playback-token";
    is_problem(&answer(apis[0].request(Method::DELETE, nobody)).await, 404, "not-found");
}
