//! `Idempotency-Key`: the same request twice is done once.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{answer, client_with, header, is_problem, post_once, text};

#[tokio::test]
async fn http_idempotency() {
    // Nobody works: jobs stay as they were submitted.
    let farm = Farm::builder().processes(2, 0, 1).start().await;
    let (first, second) = (farm.api(0), farm.api(1));
    answers_are_replayed(&first, &second).await;
    refusals_are_replayed_too(&first).await;
    other_requests_are_told(&first, &second).await;
    of_many_at_once_one_is_done(&farm, &first, &second).await;
    projects_do_not_meet(&first).await;
    a_lesser_key_gets_no_replay(&first).await;
    secrets_are_not_kept(&farm).await;
    keys_are_checked(&first).await;
    dry_runs_are_not_kept(&first).await;
    farm.stop().await;
}

fn probe(name: &str) -> Value {
    json!({ "kind": "probe", "input": { "url": format!("https://media.example/{name}.mp4") } })
}

async fn count(api: &Client) -> usize {
    api.get("/jobs?limit=200").await["jobs"].as_array().unwrap().len()
}

fn replayed(headers: &HeaderMap) -> bool {
    headers.get("idempotent-replayed").is_some()
}

/// By any process, with the same status, body and place.
async fn answers_are_replayed(first: &Client, second: &Client) {
    let one = answer(post_once(first, "/jobs", "replay", &probe("a"))).await;
    assert_eq!(one.0, StatusCode::CREATED);
    assert!(!replayed(&one.1));
    for api in [first, second] {
        let again = answer(post_once(api, "/jobs", "replay", &probe("a"))).await;
        assert_eq!((again.0, &again.2), (one.0, &one.2));
        assert!(replayed(&again.1));
        for name in ["location", "content-type"] {
            assert_eq!(header(&again.1, name), header(&one.1, name));
        }
    }
    assert_eq!(count(first).await, 1);
    // Without a key each is a job of its own.
    first.post("/jobs", &probe("a")).await;
    assert_eq!(count(first).await, 2);
}

async fn refusals_are_replayed_too(api: &Client) {
    let bad = json!({ "kind": "probe", "input": {} });
    let one = answer(post_once(api, "/jobs", "refused", &bad)).await;
    is_problem(&one, 422, "validation");
    let again = answer(post_once(api, "/jobs", "refused", &bad)).await;
    assert_eq!((again.0, &again.2), (one.0, &one.2));
    assert!(replayed(&again.1));
}

async fn other_requests_are_told(first: &Client, second: &Client) {
    answer(post_once(first, "/jobs", "mismatch", &probe("b"))).await;
    let before = count(first).await;
    let other_body = answer(post_once(second, "/jobs", "mismatch", &probe("c"))).await;
    is_problem(&other_body, 422, "idempotency-mismatch");
    let other_path = answer(post_once(second, "/recordings", "mismatch", &probe("b"))).await;
    is_problem(&other_path, 422, "idempotency-mismatch");
    assert_eq!(count(first).await, before);
}

/// While the first one is under way the others hear so; afterwards they get its answer. There is one job.
async fn of_many_at_once_one_is_done(farm: &Farm, first: &Client, second: &Client) {
    let before = count(first).await;
    // Nobody can write a job: whoever is the first stays under way.
    let db = farm.database.connect().await;
    db.batch_execute("begin; lock table jobs in exclusive mode").await.unwrap();
    let mut requests: FuturesUnordered<_> = (0..24)
        .map(|n| {
            let api = if n % 2 == 0 { first } else { second };
            answer(post_once(api, "/jobs", "rush", &probe("rush")))
        })
        .collect();
    for _ in 1..24 {
        is_problem(&requests.next().await.unwrap(), 409, "idempotency-in-flight");
    }
    db.batch_execute("commit").await.unwrap();
    let (status, _, job) = requests.next().await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{job}");
    let late = answer(post_once(second, "/jobs", "rush", &probe("rush"))).await;
    assert!(replayed(&late.1));
    assert_eq!(late.2["id"], job["id"]);
    assert_eq!(count(first).await, before + 1);
}

async fn projects_do_not_meet(api: &Client) {
    let other = client_with(api, Some("other"), &["write"]).await;
    let ours = answer(post_once(api, "/jobs", "shared", &probe("d"))).await;
    let theirs = answer(post_once(&other, "/jobs", "shared", &probe("d"))).await;
    assert_eq!(theirs.0, StatusCode::CREATED);
    assert!(!replayed(&theirs.1));
    assert_ne!(text(&theirs.2, "id"), text(&ours.2, "id"));
    assert_eq!(count(&other).await, 1);
}

/// What was answered to a key that may do more is not for one that may do less.
async fn a_lesser_key_gets_no_replay(api: &Client) {
    let body = json!({ "name": "precious", "scopes": ["admin"] });
    let made = answer(post_once(api, "/keys", "new-key", &body)).await;
    assert_eq!(made.0, StatusCode::CREATED);
    let lesser = client_with(api, None, &["read"]).await;
    let answer = answer(post_once(&lesser, "/keys", "new-key", &body)).await;
    assert!(answer.0.is_client_error(), "{}", answer.0);
    assert!(!answer.2.to_string().contains(text(&made.2, "secret")));
}

/// A kept answer must not be where a stolen backup shows keys.
async fn secrets_are_not_kept(farm: &Farm) {
    let body = json!({ "name": "hidden", "scopes": ["read"] });
    let made = answer(post_once(&farm.client, "/keys", "hidden-key", &body)).await;
    let secret = text(&made.2, "secret").to_owned();
    let db = farm.database.connect().await;
    let rows = db.query("select body from idempotency_keys where body is not null", &[]).await.unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let body: Vec<u8> = row.get("body");
        assert!(!String::from_utf8_lossy(&body).contains(&secret), "a key's secret is kept in the clear");
    }
    // And yet a key is made once.
    let again = answer(post_once(&farm.client, "/keys", "hidden-key", &body)).await;
    assert_eq!(again.0, StatusCode::CREATED);
    assert_eq!(again.2["id"], made.2["id"]);
    assert_eq!(text(&again.2, "secret"), secret);
    let keys = farm.client.get("/keys?limit=200").await;
    let named = keys["keys"].as_array().unwrap().iter().filter(|key| key["name"] == "hidden");
    assert_eq!(named.count(), 1);
}

async fn keys_are_checked(api: &Client) {
    for bad in ["", &"x".repeat(256)] {
        is_problem(&answer(post_once(api, "/jobs", bad, &probe("e"))).await, 400, "malformed");
    }
    let nobody = api.with_key("rm_live_nobody");
    is_problem(&answer(post_once(&nobody, "/jobs", "k", &probe("e"))).await, 401, "unauthorized");
    // On a GET it means nothing.
    let get = api.request(Method::GET, "/api/v1/jobs").header("idempotency-key", "replay");
    assert_eq!(answer(get).await.0, StatusCode::OK);
}

/// They make nothing, so each is answered anew; and the key stays free for the job.
async fn dry_runs_are_not_kept(api: &Client) {
    let body = |priority: i64| json!({ "kind": "transcode", "input": { "url": "https://media.example/dry.mp4" }, "priority": priority });
    for _ in 0..2 {
        let refused = answer(post_once(api, "/jobs?dry_run=true", "dry", &body(101))).await;
        is_problem(&refused, 422, "validation");
        assert!(!replayed(&refused.1));
    }
    // Nobody works: it is cancelled while its answer is waited for.
    let asked = answer(post_once(api, "/jobs?dry_run=true", "dry", &body(1)));
    let cancelled = async {
        let job = until("the dry run", Duration::from_secs(15), || async {
            let jobs = api.get("/jobs?kind=probe&status=queued&limit=200").await;
            let mut jobs = jobs["jobs"].as_array().unwrap().iter();
            jobs.find(|job| job["recording_id"].is_null()).map(|job| text(job, "id").to_owned())
        })
        .await;
        api.post(&format!("/jobs/{job}/cancel"), &json!({})).await;
    };
    let (refused, ()) = tokio::join!(asked, cancelled);
    is_problem(&refused, 409, "conflict");
    assert_eq!(answer(post_once(api, "/jobs", "dry", &body(1))).await.0, StatusCode::CREATED);
}
