//! Who may work, on what, and how what was left undone is done: queues, drains, limits, retries, from outside.

use std::time::Duration;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::judge::Playback;
use crate::support::{answer, is_problem, pointers, reelmill, text};

const PATIENCE: Duration = Duration::from_secs(60);

async fn encodes(client: &Client, job: &str) -> Vec<Value> {
    let job = client.get(&format!("/jobs/{job}")).await;
    job["tasks"].as_array().unwrap().iter().filter(|task| task["kind"] == "encode").cloned().collect()
}

#[tokio::test]
async fn fleet_a_paused_pool_takes_nothing_until_it_is_resumed() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    assert!(reelmill(&farm, &["queue", "pause", "cpu"]).await.contains("paused"));
    let job = client.submit(&media::clip(farm.dir.path(), 2, "320x180"), &json!("fast")).await;
    let queues = client.get("/queues").await;
    let cpu = queues["queues"].as_array().unwrap().iter().find(|queue| queue["pool"] == "cpu").unwrap();
    assert_eq!(
        (&cpu["paused"], &cpu["ready"], &cpu["running"]),
        (&json!(true), &json!(1), &json!(0)),
        "{cpu}"
    );
    // More than a poll and a ring later it is where it was.
    let log = || farm.processes.iter().map(|process| process.log()).collect::<String>();
    until("the workers to have looked", PATIENCE, || async {
        let state = client.get(&format!("/jobs/{}", text(&job, "id"))).await;
        assert_eq!(state["status"], "queued", "{}", log());
        let workers = client.get("/workers").await;
        let seen = workers["workers"][0]["seen_at"].as_str().unwrap().to_owned();
        (seen.as_str() > text(&job, "created_at")).then_some(())
    })
    .await;
    assert!(reelmill(&farm, &["queue", "list"]).await.contains("paused"));
    reelmill(&farm, &["queue", "resume", "cpu"]).await;
    assert_eq!(client.wait_for(text(&job, "id")).await["status"], "succeeded");
    let unknown = answer(client.request(Method::POST, "/api/v1/queues/fpga/pause")).await;
    is_problem(&unknown, 404, "not-found");
    farm.stop().await;
}

/// A drained worker's task goes to another one, uncounted; the worker stays, idle, and works again when it is asked to.
#[tokio::test]
async fn fleet_a_drained_worker_gives_back_and_comes_back() {
    let mut farm =
        Farm::builder().set("REELMILL_WORKER_SLOTS", 1).set("REELMILL_DRAIN_SECONDS", 0).start().await;
    let clip = media::clip(farm.dir.path(), 30, "1280x720");
    let job = farm.client.submit(&clip, &json!("web")).await;
    let id = text(&job, "id").to_owned();
    let victim = until("the encode to run", PATIENCE, || async {
        let encode = encodes(&farm.client, &id).await.pop()?;
        (encode["progress"].as_f64().unwrap() > 0.01).then(|| text(&encode, "worker").to_owned())
    })
    .await;
    reelmill(&farm, &["worker", "drain", &victim]).await;
    until("the task to be given back", PATIENCE, || async {
        let encode = encodes(&farm.client, &id).await.pop().unwrap();
        assert!(encode["status"] != "failed", "{encode}");
        (encode["status"] == "ready").then(|| assert_eq!(encode["attempt"], 0, "{encode}"))
    })
    .await;
    until("it to be listed as drained", PATIENCE, || async {
        reelmill(&farm, &["worker", "list"]).await.contains("drained").then_some(())
    })
    .await;
    reelmill(&farm, &["worker", "resume", &victim]).await;
    until("it to work again", PATIENCE, || async {
        let encode = encodes(&farm.client, &id).await.pop().unwrap();
        (encode["status"] == "running")
            .then(|| assert_eq!((&encode["attempt"], text(&encode, "worker")), (&json!(1), victim.as_str())))
    })
    .await;
    farm.client.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
    let gone = "/api/v1/workers/0198c0de-0000-7000-8000-000000000000/drain";
    is_problem(&answer(farm.client.request(Method::POST, gone)).await, 404, "not-found");
    assert!(farm.process(&victim).pid() > 0);
    farm.stop().await;
}

/// What a cancelled job had published is neither encoded again nor lost, and what is made of both plays from end to end.
#[tokio::test]
async fn fleet_a_retry_adopts_what_was_published() {
    let farm = Farm::builder()
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_CHUNK_SECONDS", 12)
        .set("REELMILL_ENCODE_THREADS", 1)
        .start()
        .await;
    let client = &farm.client;
    let clip = media::clip(farm.dir.path(), 36, "640x360");
    let old = text(&client.submit(&clip, &json!("fast")).await, "id").to_owned();
    let retry =
        async |id: &str| answer(client.request(Method::POST, &format!("/api/v1/jobs/{id}/retry"))).await;
    is_problem(&retry(&old).await, 409, "conflict");
    until("a chunk to be done and another to run", PATIENCE, || async {
        let encodes = encodes(client, &old).await;
        let is = |status: &str| encodes.iter().filter(|task| task["status"] == status).count();
        (is("succeeded") >= 2 && is("running") == 1).then_some(())
    })
    .await;
    client.post(&format!("/jobs/{old}/cancel"), &json!({})).await;
    let done: Vec<Value> =
        encodes(client, &old).await.into_iter().filter(|task| task["status"] == "succeeded").collect();
    let told = reelmill(&farm, &["job", "retry", &old, "-o", "json"]).await;
    let new: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (text(&new, "retry_of"), &new["profile"]),
        (old.as_str(), &client.get(&format!("/jobs/{old}")).await["profile"])
    );
    let again = retry(&old).await;
    is_problem(&again, 409, "conflict");
    assert!(text(&again.2, "detail").contains(text(&new, "id")), "{}", again.2);
    let new = client.wait_for(text(&new, "id")).await;
    assert_eq!(new["status"], "succeeded", "{}", new["error"]);
    let (before, after) = (encodes(client, &old).await.len(), encodes(client, text(&new, "id")).await.len());
    assert_eq!(after, before - done.len(), "only what was not done is done again");
    let played = Playback::fetch(client, text(&new, "recording_id")).await;
    let seconds = played.video[0].lengths.iter().sum::<f64>();
    assert!((seconds - 36.0).abs() < 0.05, "{seconds}");
    is_problem(&retry(text(&new, "id")).await, 409, "conflict");
    is_problem(&retry("0198c0de-0000-7000-8000-000000000000").await, 404, "not-found");
    farm.stop().await;
}

#[tokio::test]
async fn fleet_projects_have_names_weights_and_limits() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let made = client.post("/projects", &json!({ "name": "studio-7", "weight": 3, "max_running": 2 })).await;
    assert_eq!(
        (&made["weight"], &made["max_running"], &made["running"]),
        (&json!(3.0), &json!(2), &json!(0))
    );
    let path = format!("/api/v1/projects/{}", text(&made, "id"));
    let patch = |body: Value| client.request(Method::PATCH, &path).json(&body);
    let (status, _, changed) = answer(patch(json!({ "max_running": null, "weight": 0.5 }))).await;
    assert_eq!(
        (status, &changed["max_running"], &changed["weight"]),
        (StatusCode::OK, &Value::Null, &json!(0.5))
    );
    assert_eq!(changed["name"], "studio-7", "what is left out stays");
    for (body, named) in [
        (json!({ "weight": 0 }), vec!["/weight"]),
        (json!({ "max_running": 0, "name": "No Name" }), vec!["/name", "/max_running"]),
        (json!({ "retention": { "logs_days": "a week" } }), vec!["/retention/logs_days"]),
        (json!({ "retention": { "pictures_days": 3 } }), vec!["/retention/pictures_days"]),
    ] {
        let refused = answer(patch(body)).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), named);
    }
    is_problem(&answer(patch(json!({ "name": "default" }))).await, 409, "conflict");
    let (status, twice) = client.try_post("/projects", &json!({ "name": "studio-7" })).await;
    assert_eq!(status, StatusCode::CONFLICT, "{twice}");
    // Its keys see only it, and go with it.
    let key = json!({ "name": "k", "scopes": ["write"], "project": "studio-7" });
    let key = client.post("/keys", &key).await;
    let tenant = client.with_key(text(&key, "secret"));
    assert_eq!(tenant.get("/jobs").await["jobs"], json!([]));
    is_problem(&answer(tenant.request(Method::GET, "/api/v1/projects")).await, 403, "forbidden");
    let (status, ..) = answer(client.request(Method::DELETE, &path)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    is_problem(&answer(client.request(Method::GET, &path)).await, 404, "not-found");
    until("the key to be forgotten", PATIENCE, || async {
        (tenant.try_get("/jobs").await.0 == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    farm.stop().await;
}

#[tokio::test]
async fn fleet_a_waiting_job_can_be_moved_up() {
    let farm = Farm::builder().set("REELMILL_WORKER_SLOTS", 1).start().await;
    let client = &farm.client;
    reelmill(&farm, &["queue", "pause", "cpu"]).await;
    let clip = media::clip(farm.dir.path(), 2, "320x180");
    let (first, second) =
        (client.submit(&clip, &json!("fast")).await, client.submit(&clip, &json!("web")).await);
    reelmill(&farm, &["job", "priority", text(&second, "id"), "99"]).await;
    let patch =
        |id: &str, body: Value| client.request(Method::PATCH, &format!("/api/v1/jobs/{id}")).json(&body);
    is_problem(&answer(patch(text(&first, "id"), json!({ "priority": 101 }))).await, 422, "validation");
    reelmill(&farm, &["queue", "resume", "cpu"]).await;
    let done = [client.wait_for(text(&first, "id")).await, client.wait_for(text(&second, "id")).await];
    assert!(text(&done[1], "started_at") < text(&done[0], "started_at"), "the second was begun first");
    is_problem(&answer(patch(text(&first, "id"), json!({ "priority": 1 }))).await, 409, "conflict");
    farm.stop().await;
}
