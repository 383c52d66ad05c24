//! Webhooks by the API: who may have one, what it gets, and how it is known to come from us.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm};
use reqwest::Method;
use serde_json::{Value, json};

use crate::receiver::{Receiver, Reply, is_signed, judged};
use crate::support::{answer, client_with, is_problem, pointers, text};

const WAIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn webhooks() {
    let farm = Farm::builder().set("REELMILL_NET_ALLOW", "127.0.0.1/32").start().await;
    let receiver = Receiver::start(|request, _| match request.path.as_str() {
        "/broken" => Reply::Status(500),
        _ => Reply::Status(204),
    })
    .await;
    let api = &farm.client;
    what_is_wrong_is_named(api).await;
    one_sees_only_ones_own(api, &receiver).await;
    a_job_is_told_in_order_and_signed(&farm, &receiver).await;
    a_job_has_its_own_address(api, &receiver).await;
    a_test_tells_what_came_back(api, &receiver).await;
    secrets_change_over(api, &receiver).await;
    what_was_sent_is_listed_and_sent_again(api, &receiver).await;
    farm.stop().await;
}

/// A webhook, with its id and secret.
pub async fn webhook(api: &Client, url: &str, events: &[&str]) -> (String, String) {
    let made = api.post("/webhooks", &json!({ "url": url, "events": events })).await;
    (text(&made, "id").to_owned(), text(&made, "secret").to_owned())
}

/// A job that fails at once; gives its id.
pub async fn failing_job(api: &Client) -> String {
    let job = api.post("/jobs", &json!({ "kind": "probe", "input": { "url": "http://[::1]:1/" } })).await;
    text(&job, "id").to_owned()
}

/// Deliveries of a webhook, the first one first.
pub async fn deliveries(api: &Client, webhook: &str) -> Vec<Value> {
    let page = api.get(&format!("/webhooks/{webhook}/deliveries?limit=200")).await;
    let mut all = page["deliveries"].as_array().unwrap().clone();
    all.reverse();
    all
}

async fn what_is_wrong_is_named(api: &Client) {
    let post = |body: Value| answer(api.request(Method::POST, "/api/v1/webhooks").json(&body));
    for url in [
        "",
        "example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://u:p@example.com/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://0x7f000002/",
    ] {
        let refused = post(json!({ "url": url })).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), ["/url"], "{url}");
        let job =
            json!({ "kind": "probe", "input": { "url": "https://example.com/a.mp4" }, "callback_url": url });
        let refused = answer(api.request(Method::POST, "/api/v1/jobs").json(&job)).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), ["/callback_url"], "{url}");
    }
    let all = json!({ "url": "gopher://x", "description": "x".repeat(501), "secret": "whsec_c2hvcnQ=" });
    let refused = post(all).await;
    assert_eq!(pointers(&refused.2), ["/url", "/description", "/secret"]);
    for (body, pointer) in [
        (json!({}), "/url"),
        (json!({ "kind": "callbacks", "url": "https://example.com/" }), "/url"),
        (json!({ "url": "https://example.com/", "events": ["job.exploded"] }), "/events/0"),
        (json!({ "url": "https://example.com/", "colour": 1 }), "/colour"),
    ] {
        let refused = post(body).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [pointer]);
    }
    assert_eq!(api.get("/webhooks").await["webhooks"], json!([]));
}

async fn one_sees_only_ones_own(api: &Client, receiver: &Receiver) {
    let (id, secret) = webhook(api, &receiver.url("/own"), &["job.cancelled"]).await;
    let read = api.get(&format!("/webhooks/{id}")).await;
    assert_eq!((&read["enabled"], &read["kind"]), (&json!(true), &json!("endpoint")));
    assert!(!api.get("/webhooks").await.to_string().contains(&secret[6..]), "shown once");

    let reader = client_with(api, None, &["read"]).await;
    reader.get(&format!("/webhooks/{id}/deliveries")).await;
    let other = client_with(api, Some("other"), &["write"]).await;
    let path = format!("/api/v1/webhooks/{id}");
    for (method, path) in [
        (Method::PATCH, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/test")),
        (Method::POST, format!("{path}/rotate-secret")),
        (Method::POST, format!("{path}/replay")),
    ] {
        let body =
            if path.ends_with("replay") { json!({ "from": "2026-01-01T00:00:00Z" }) } else { json!({}) };
        is_problem(&answer(reader.request(method.clone(), &path).json(&body)).await, 403, "forbidden");
        is_problem(&answer(other.request(method, &path).json(&body)).await, 404, "not-found");
    }
    for path in [path.clone(), format!("{path}/deliveries")] {
        is_problem(&answer(other.request(Method::GET, &path)).await, 404, "not-found");
    }
    // Many in a page of pages.
    for _ in 0..3 {
        webhook(api, &receiver.url("/many"), &["job.cancelled"]).await;
    }
    let first = api.get("/webhooks?limit=3").await;
    let rest = api.get(&format!("/webhooks?limit=3&cursor={}", text(&first, "next_cursor"))).await;
    assert_eq!(rest["webhooks"][0]["id"], id.as_str());
    for all in [&first, &rest] {
        for webhook in all["webhooks"].as_array().unwrap() {
            let gone = api.request(Method::DELETE, &format!("/api/v1/webhooks/{}", text(webhook, "id")));
            assert_eq!(answer(gone).await.0, 204);
        }
    }
    is_problem(&answer(api.request(Method::GET, &path)).await, 404, "not-found");
}

async fn a_job_is_told_in_order_and_signed(farm: &Farm, receiver: &Receiver) {
    let api = &farm.client;
    let (id, secret) = webhook(api, &receiver.url("/all"), &[]).await;
    let (_, other) = webhook(api, &receiver.url("/ends"), &["job.failed"]).await;
    let job = failing_job(api).await;
    let all = receiver.wait("/all", 3).await;
    let kinds: Vec<String> = all.iter().map(|request| request.kind()).collect();
    assert_eq!(kinds, ["job.queued", "job.started", "job.failed"]);
    is_signed(&secret, &all);
    let ends = receiver.wait("/ends", 1).await;
    is_signed(&other, &ends);
    assert!(judged(&secret, &ends).into_iter().all(|good| !good), "each has a secret of its own");
    assert_eq!((ends.len(), ends[0].id()), (1, all[2].id()));
    // A judge that believes everything would be none.
    let mut forged = all.clone();
    forged[0].body = forged[0].body.replace("job.queued", "job.failed");
    assert_eq!(judged(&secret, &forged), [false, true, true]);
    for request in &all {
        let body = request.json();
        assert_eq!(body["data"]["job_id"], job.as_str());
        assert!(text(&body, "timestamp").parse::<DateTime<Utc>>().is_ok());
        assert_eq!(body.as_object().unwrap().len(), 3);
        assert_eq!(request.header("content-type"), "application/json");
        assert!(request.header("user-agent").starts_with("reelmill/"));
    }
    let listed = until("the last report", WAIT, || async {
        let listed = deliveries(api, &id).await;
        listed.iter().all(|delivery| delivery["state"] == "delivered").then_some(listed)
    })
    .await;
    for (delivery, request) in listed.iter().zip(&all) {
        assert_eq!(delivery["event_id"], request.id());
        assert_eq!((&delivery["attempts"], &delivery["status"]), (&json!(1), &json!(204)));
        assert!(delivery["error"].is_null() && delivery["finished_at"].is_string(), "{delivery}");
    }
    let metrics = farm.processes.iter().find(|process| process.name.contains("scheduler")).unwrap();
    let metrics = api.text(&format!("http://{}/metrics", metrics.address)).await;
    assert!(metrics.contains("reelmill_webhook_attempts_total{outcome=\"delivered\"}"), "{metrics}");
}

async fn a_job_has_its_own_address(api: &Client, receiver: &Receiver) {
    let made = api.post("/webhooks", &json!({ "kind": "callbacks" })).await;
    let secret = text(&made, "secret");
    let again =
        answer(api.request(Method::POST, "/api/v1/webhooks").json(&json!({ "kind": "callbacks" }))).await;
    is_problem(&again, 409, "conflict");
    let url = receiver.url("/callback");
    let input = json!({ "url": "http://[::1]:1/" });
    let body = json!({ "kind": "probe", "input": input, "callback_url": format!("{url}?token=t") });
    let job = api.post("/jobs", &body).await;
    assert_eq!(text(&job, "callback_url"), format!("{url}?…"));
    failing_job(api).await;
    let told = receiver.wait("/callback?token=t", 3).await;
    is_signed(secret, &told);
    assert!(told.iter().all(|request| request.json()["data"]["job_id"] == job["id"]), "{told:?}");
    let body = json!({ "input": input, "callback_url": receiver.url("/recording") });
    let recording = api.post("/recordings", &body).await;
    let told = receiver.wait("/recording", 3).await;
    assert!(told.iter().all(|request| request.json()["data"]["recording_id"] == recording["id"]), "{told:?}");
    // Another project's callbacks are signed by another secret, which is there though nobody asked for it.
    let other = client_with(api, Some("calling"), &["write"]).await;
    let body = json!({ "kind": "probe", "input": input, "callback_url": receiver.url("/other") });
    other.post("/jobs", &body).await;
    let told = receiver.wait("/other", 3).await;
    assert_eq!(judged(secret, &told), [false; 3]);
    let listed = other.get("/webhooks").await;
    assert_eq!(
        (&listed["webhooks"][0]["kind"], &listed["webhooks"][0]["url"]),
        (&json!("callbacks"), &Value::Null)
    );
    let id = text(&listed["webhooks"][0], "id");
    is_problem(
        &answer(other.request(Method::POST, &format!("/api/v1/webhooks/{id}/test"))).await,
        409,
        "conflict",
    );
}

async fn a_test_tells_what_came_back(api: &Client, receiver: &Receiver) {
    let (id, secret) = webhook(api, &receiver.url("/tested"), &["job.cancelled"]).await;
    let test = || api.post_empty(format!("/webhooks/{id}/test"));
    let good = test().await;
    assert_eq!((&good["delivered"], &good["status"]), (&json!(true), &json!(204)));
    let sent = receiver.at("/tested");
    is_signed(&secret, &sent);
    assert_eq!((sent[0].kind().as_str(), sent[0].id()), ("webhook.test", text(&good, "event_id")));
    let patch =
        |body: Value| answer(api.request(Method::PATCH, &format!("/api/v1/webhooks/{id}")).json(&body));
    assert_eq!(patch(json!({ "url": receiver.url("/broken"), "enabled": false })).await.2["enabled"], false);
    let bad = test().await;
    assert_eq!(
        (&bad["delivered"], &bad["status"], &bad["response"]),
        (&json!(false), &json!(500), &json!("ok"))
    );
    assert_eq!(text(&bad, "error"), "answered 500 Internal Server Error");
    let refused = patch(json!({ "url": "http://10.0.0.1/" })).await;
    is_problem(&refused, 422, "validation");
    assert!(deliveries(api, &id).await.is_empty(), "tests are in no list");
}

async fn secrets_change_over(api: &Client, receiver: &Receiver) {
    let (id, old) = webhook(api, &receiver.url("/rotated"), &["job.failed"]).await;
    let path = format!("/webhooks/{id}/rotate-secret");
    let rotated = api.post_empty(path.clone()).await;
    let new = text(&rotated, "secret");
    assert!(rotated["previous_secret_until"].is_string() && new != old);
    failing_job(api).await;
    let both = receiver.wait("/rotated", 1).await;
    assert_eq!(both[0].header("webhook-signature").split(' ').count(), 2);
    is_signed(&old, &both);
    is_signed(new, &both);
    let mine = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    let last = api.post(&path, &json!({ "keep_seconds": 0, "secret": mine })).await;
    assert_eq!((&last["secret"], &last["previous_secret_until"]), (&json!(mine), &Value::Null));
    failing_job(api).await;
    let sent = receiver.wait("/rotated", 2).await;
    assert_eq!(sent[1].header("webhook-signature").split(' ').count(), 1);
    is_signed(mine, &sent[1..]);
    assert_eq!(judged(new, &sent[1..]), [false]);
    let refused = answer(
        api.request(Method::POST, &format!("/api/v1{path}")).json(&json!({ "keep_seconds": 604_801 })),
    )
    .await;
    assert_eq!(pointers(&refused.2), ["/keep_seconds"]);
}

async fn what_was_sent_is_listed_and_sent_again(api: &Client, receiver: &Receiver) {
    let from = Utc::now();
    let (id, secret) = webhook(api, &receiver.url("/again"), &["job.queued", "job.failed"]).await;
    for _ in 0..2 {
        failing_job(api).await;
    }
    receiver.wait("/again", 4).await;
    let listed = until("the last report", WAIT, || async {
        let page = api.get(&format!("/webhooks/{id}/deliveries?state=delivered")).await;
        (page["deliveries"].as_array().unwrap().len() == 4).then_some(page)
    })
    .await;
    assert!(
        api.get(&format!("/webhooks/{id}/deliveries?state=dead")).await["deliveries"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let first = api.get(&format!("/webhooks/{id}/deliveries?limit=3")).await;
    let rest =
        api.get(&format!("/webhooks/{id}/deliveries?limit=3&cursor={}", text(&first, "next_cursor"))).await;
    assert_eq!(rest["deliveries"][0]["id"], listed["deliveries"][3]["id"]);

    let one = &listed["deliveries"][0];
    let made = api.post_empty(format!("/deliveries/{}/replay", text(one, "id"))).await;
    assert_eq!((&made["event_id"], &made["replay"]), (&one["event_id"], &json!(true)));
    let sent = receiver.wait("/again", 5).await;
    is_signed(&secret, &sent[4..]);
    let original = sent.iter().find(|request| request.id() == sent[4].id()).unwrap();
    assert_eq!(original.body, sent[4].body, "the very same");

    let path = format!("/webhooks/{id}/replay");
    let replayed = api.post(&path, &json!({ "from": from, "types": ["job.failed"] })).await;
    assert_eq!(replayed["deliveries"], 2);
    let sent = receiver.wait("/again", 7).await;
    assert!(sent[5..].iter().all(|request| request.kind() == "job.failed"));
    let refused = answer(
        api.request(Method::POST, &format!("/api/v1{path}")).json(&json!({ "from": "2999-01-01T00:00:00Z" })),
    )
    .await;
    assert_eq!(pointers(&refused.2), ["/from"]);
}
