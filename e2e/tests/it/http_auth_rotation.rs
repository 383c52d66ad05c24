//! The secret key rotates while viewers watch, and what is revoked is refused by every api.

use std::time::Duration;

use reelmill_shared::auth::token::{Purpose, Signer};
use reelmill_testkit::farm::{Part, SECRET_KEY};
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{answer, is_problem, text};

const NEW_KEY: &str = "newer-secret-9876543210-9876543210-9876543210";

#[tokio::test]
async fn http_auth_key_rotates_under_viewers() {
    let mut farm = Farm::builder().processes(1, 1, 1).start().await;
    let clip = media::clip(farm.dir.path(), 4, "320x180");
    let recording = farm.client.transcode(&clip, &json!("fast")).await;
    let id = text(&recording, "id").to_owned();
    let token = async |client: &Client| {
        let token = client.post(&format!("/recordings/{id}/playback-token"), &json!({})).await;
        text(&token, "token").to_owned()
    };
    // The first api signs with the old key, the second with the new and knows the old, the third knows the new alone.
    for keys in [format!("{NEW_KEY},{SECRET_KEY}"), NEW_KEY.to_owned()] {
        farm.set("REELMILL_SECRET_KEY", keys);
        farm.add(Part::Api).await;
    }
    farm.ready().await;
    let [before, during, after] = [farm.api(0), farm.api(1), farm.api(2)];
    let old = token(&before).await;
    let new = token(&during).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let by_new = Signer::new(&[NEW_KEY]).verify(Purpose::PlayRecording, &new, now);
    assert!(by_new.is_ok(), "the first key signs");

    let watch = async |client: &Client, token: &str| {
        let path = format!("/v/{token}/stream/master.m3u8");
        answer(client.anonymous(Method::GET, &path)).await
    };
    // Who plays on with an old token is given a new one when it is renewed.
    assert_eq!(watch(&during, &old).await.0, StatusCode::OK);
    let (status, _, renewed) = answer(during.anonymous(Method::GET, &format!("/v/{old}/renew"))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(text(&renewed, "token"), new);
    for client in [&during, &after] {
        assert_eq!(watch(client, &new).await.0, StatusCode::OK);
    }
    // Without the old key its tokens are worth nothing.
    is_problem(&watch(&after, &old).await, 403, "bad-token");

    // What a token opened is gone for all of them within seconds of being deleted by one.
    let path = format!("/api/v1/recordings/{id}");
    assert_eq!(after.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    for (client, token) in [(&before, &old), (&during, &old), (&during, &new), (&after, &new)] {
        until("it to be refused", Duration::from_secs(5), || async {
            (watch(client, token).await.0 == StatusCode::NOT_FOUND).then_some(())
        })
        .await;
    }
    farm.stop().await;
}
