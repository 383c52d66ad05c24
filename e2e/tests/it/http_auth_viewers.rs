//! Who may watch: tokens that name one recording and end. Part of the tests of `http_auth`, on its farm.

use reelmill_shared::auth::token::{Purpose, Signer};
use reelmill_testkit::Client;
use reqwest::{Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::http_auth::{now, recording_of, signer};
use crate::support::{answer, is_problem, text};

pub async fn tokens_open_one_thing(api: &Client) {
    let (mine, other) = (recording_of(api).await, recording_of(api).await);
    let id = text(&mine, "id");
    let token = api.post(&format!("/recordings/{id}/playback-token"), &json!({})).await;
    let ends: chrono::DateTime<chrono::Utc> = text(&token, "expires_at").parse().unwrap();
    let lasts = (ends - chrono::Utc::now()).num_seconds();
    assert!((55..=120).contains(&lasts), "lasts {lasts} s");
    let token = text(&token, "token");
    let info = answer(api.anonymous(Method::GET, &format!("/v/{token}/info"))).await;
    assert_eq!((info.0, text(&info.2, "id")), (StatusCode::OK, id));
    assert!(!info.2.to_string().contains(text(&other, "id")));
    let renewed = answer(api.anonymous(Method::GET, &format!("/v/{token}/renew"))).await;
    assert_eq!(renewed.0, StatusCode::OK);
    let stream = answer(api.anonymous(Method::GET, &format!("/v/{token}/stream/master.m3u8"))).await;
    is_problem(&stream, 404, "not-ready");

    let subject: Uuid = id.parse().unwrap();
    let mut broken = vec![
        signer().sign(Purpose::PlayRecording, subject, now() - 1),
        signer().sign(Purpose::Session, subject, now() + 60),
        signer().sign(Purpose::Login, subject, now() + 60),
        Signer::new(&["another-secret-0123456789-0123456789-0123"]).sign(
            Purpose::PlayRecording,
            subject,
            now() + 60,
        ),
        token[..token.len() - 1].to_owned(),
        format!("{token}AA"),
        "x".to_owned(),
        "%00".to_owned(),
        format!("{token}%0a"),
    ];
    for at in [0, 3, 20, token.len() - 3] {
        let mut mangled = token.to_owned().into_bytes();
        mangled[at] = if mangled[at] == b'A' { b'B' } else { b'A' };
        broken.push(String::from_utf8(mangled).unwrap());
    }
    for token in broken {
        for file in ["info", "renew", "stream/master.m3u8", "thumbnail"] {
            let answer = answer(api.anonymous(Method::GET, &format!("/v/{token}/{file}"))).await;
            is_problem(&answer, 403, "bad-token");
        }
    }
    // It is no key and no session.
    is_problem(&answer(api.with_key(token).request(Method::GET, "/api/v1/jobs")).await, 401, "unauthorized");
    let cookie =
        api.anonymous(Method::GET, "/api/v1/jobs").header("cookie", format!("reelmill_session={token}"));
    is_problem(&answer(cookie).await, 401, "unauthorized");
    // With the recording ends its token.
    answer(api.request(Method::DELETE, &format!("/api/v1/recordings/{id}"))).await;
    is_problem(&answer(api.anonymous(Method::GET, &format!("/v/{token}/info"))).await, 404, "not-found");
}
