//! The database, the broker and the store: gone, slow, forgetful.

use reelmill_testkit::relay::Mode;
use reelmill_testkit::s3::Trouble;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde_json::json;

use super::checker::{Checker, Ends};
use super::processes::{PATIENCE, encodes, task};
use crate::support::text;

/// Submits again until the farm says yes or no, with a key that makes that harmless.
async fn insist(farm: &Farm, upload: &str, key: &str) -> String {
    let body =
        json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "fast", "force": true });
    until("the farm to accept a job", PATIENCE, || async {
        let request =
            farm.client.request(reqwest::Method::POST, "/api/v1/jobs").header("idempotency-key", key);
        let response = request.json(&body).send().await.ok()?;
        // In flight, or a part of the farm is away.
        if response.status().is_server_error() || response.status() == 409 {
            return None;
        }
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
        let job: serde_json::Value = response.json().await.ok()?;
        Some(text(&job, "id").to_owned())
    })
    .await
}

/// The database is killed in the middle of encodes: they live through it, and what was committed is there.
#[tokio::test]
async fn faults_a_database_that_crashes_loses_nothing() {
    let mut farm = Farm::builder()
        .breakable()
        .set("REELMILL_LEASE_SECONDS", 30)
        .set("REELMILL_WORKER_SLOTS", 1)
        .start()
        .await;
    let mut checker = Checker::watch(&farm).await;
    let upload = farm.client.upload(&media::clip(farm.dir.path(), 12, "1280x720")).await;
    let first = insist(&farm, &upload, "first").await;
    let upload = farm.client.upload(&media::clip(farm.dir.path(), 2, "320x180")).await;
    checker.expect(&first, Ends::Well);
    task(&farm.client, &first, "the encode to run", encodes).await;
    for n in 0..3 {
        farm.database.crash().await;
        let more = insist(&farm, &upload, &format!("more-{n}")).await;
        checker.expect(&more, Ends::Well);
    }
    checker.reconnect(&farm).await;
    checker.settle(&farm.client, PATIENCE).await;
    let counts = checker.verify(&farm).await;
    assert_eq!(counts.lost, 0, "an outage shorter than the lease costs no attempt");
    farm.stop().await;
}

/// Connections that end, hang, and are refused; and replies to commits that never come: what is done is done once.
#[tokio::test]
async fn faults_lost_replies_to_commits_do_nothing_twice() {
    let farm = Farm::builder().breakable().processes(1, 2, 1).set("REELMILL_WORKER_SLOTS", 1).start().await;
    let mut checker = Checker::watch(&farm).await;
    let clip = media::clip(farm.dir.path(), 3, "320x180");
    let upload = farm.client.upload(&clip).await;
    let relay = farm.database.relay.as_ref().unwrap();
    for n in 0..12 {
        // The submission's own among them.
        relay.lose_commits(1 + n % 3);
        let job = insist(&farm, &upload, &format!("job-{n}")).await;
        checker.expect(&job, Ends::Well);
    }
    until("all replies to be lost that were to be", PATIENCE, || async {
        (relay.commits_to_lose() == 0).then_some(())
    })
    .await;
    checker.settle(&farm.client, PATIENCE).await;
    let counts = checker.verify(&farm).await;
    assert_eq!(counts.jobs, 12, "each submission that was repeated made one job");
    let all = farm.client.get("/jobs?limit=200").await;
    assert_eq!(all["jobs"].as_array().unwrap().len(), 12);
    farm.stop().await;
}

/// Strangers have taken every connection that the database has: the api says so at once and accepts nothing, an encode lives through it,
/// and nothing is lost.
#[tokio::test]
async fn faults_a_database_without_a_free_connection_loses_nothing() {
    let farm = Farm::builder()
        .breakable()
        .set("REELMILL_LEASE_SECONDS", 20)
        .set("REELMILL_WORKER_SLOTS", 1)
        .start()
        .await;
    let mut checker = Checker::watch(&farm).await;
    let first = farm.client.submit(&media::clip(farm.dir.path(), 20, "1280x720"), &json!("fast")).await;
    let first = text(&first, "id").to_owned();
    checker.expect(&first, Ends::Well);
    let upload = farm.client.upload(&media::clip(farm.dir.path(), 2, "320x180")).await;
    let running = task(&farm.client, &first, "the encode to run", encodes).await;
    let relay = farm.database.relay.as_ref().unwrap();
    relay.set(Mode::Refuse);
    let strangers = std::sync::Mutex::new(vec![]);
    until("the last connection to be taken", PATIENCE, || async {
        while let Ok(stranger) = farm.database.try_connect().await {
            strangers.lock().unwrap().push(stranger);
        }
        // What the farm had may go only now, and somebody has to take that too.
        checker.open_connections("reelmill").await.eq(&0).then_some(())
    })
    .await;
    println!("{} connections taken", strangers.lock().unwrap().len());
    relay.set(Mode::Through);
    let body =
        json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "fast", "force": true });
    let request =
        farm.client.request(reqwest::Method::POST, "/api/v1/jobs").header("idempotency-key", "refused");
    let refused = request.json(&body).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert_eq!(refused.headers()["retry-after"], "2");
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["detail"], "the database does not answer", "{problem}");
    let worker = text(&running, "worker").to_owned();
    until("a beat to fail", PATIENCE, || async {
        let log = farm.processes.iter().find(|process| process.name == worker).unwrap().log();
        log.contains("a heartbeat failed").then_some(())
    })
    .await;
    strangers.lock().unwrap().clear();
    let job = insist(&farm, &upload, "refused").await;
    checker.expect(&job, Ends::Well);
    checker.settle(&farm.client, PATIENCE).await;
    let counts = checker.verify(&farm).await;
    assert_eq!((counts.jobs, counts.lost), (2, 0), "a shortage shorter than the lease costs no attempt");
    let all = farm.client.get("/jobs?limit=200").await;
    assert_eq!(all["jobs"].as_array().unwrap().len(), 2, "what was refused was not accepted");
    farm.stop().await;
}

/// A broker that goes away and comes back, with every session ended in between.
#[tokio::test]
async fn faults_terminated_sessions_and_a_broker_that_comes_and_goes() {
    let farm = Farm::builder().breakable().processes(2, 2, 2).set("REELMILL_WORKER_SLOTS", 1).start().await;
    let mut checker = Checker::watch(&farm).await;
    let clip = media::clip(farm.dir.path(), 3, "320x180");
    let upload = farm.client.upload(&clip).await;
    let db = farm.database.connect().await;
    let relay = farm.database.relay.as_ref().unwrap();
    for n in 0..6 {
        if let Some(broker) = &farm.broker {
            broker.set([Mode::Refuse, Mode::Through, Mode::Hang][n % 3]);
        }
        let job = insist(&farm, &upload, &format!("job-{n}")).await;
        checker.expect(&job, Ends::Well);
        let ended = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'";
        db.query(ended, &[]).await.unwrap();
        relay.set(if n % 2 == 0 { Mode::Refuse } else { Mode::Through });
        relay.set(Mode::Through);
    }
    if let Some(broker) = &farm.broker {
        broker.set(Mode::Through);
    }
    // Its session was among those that were ended.
    checker.reconnect(&farm).await;
    checker.settle(&farm.client, PATIENCE).await;
    checker.verify(&farm).await;
    farm.stop().await;
}

/// A store that answers 500, takes its time, and breaks off in the middle: attempts fail, nothing half is published.
#[tokio::test]
async fn faults_a_store_in_trouble_publishes_nothing_half() {
    let farm = Farm::builder().s3().processes(1, 2, 1).set("REELMILL_WORKER_SLOTS", 1).start().await;
    let mut checker = Checker::watch(&farm).await;
    let clip = media::clip(farm.dir.path(), 6, "640x360");
    let upload = farm.client.upload(&clip).await;
    let store = farm.s3.as_ref().unwrap();
    for (n, trouble) in [Trouble::Error, Trouble::Slow, Trouble::Reset].into_iter().enumerate() {
        let job = insist(&farm, &upload, &format!("job-{n}")).await;
        checker.expect(&job, Ends::Well);
        task(&farm.client, &job, "a task to run", |task| task["status"] == "running").await;
        store.set(Some(trouble));
        // Often enough to matter, not so often that all attempts are used up.
        let before = store.felt();
        until("the trouble to be felt", PATIENCE, || async {
            let over = farm.client.get(&format!("/jobs/{job}")).await["finished_at"].is_string();
            (over || store.felt() >= before + 2).then_some(())
        })
        .await;
        store.set(None);
    }
    checker.settle(&farm.client, PATIENCE).await;
    checker.verify(&farm).await;
    farm.stop().await;
}
