//! What has reached its age goes, with its objects and its rows; nobody is stopped in the middle of watching.

use std::path::Path;
use std::time::Duration;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, ffmpeg, media};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{answer, is_problem, reelmill, text};

const PATIENCE: Duration = Duration::from_secs(60);

/// Files below a directory.
fn files(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn retention_takes_what_is_old_and_leaves_who_watches_in_peace() {
    let farm = Farm::builder().set("REELMILL_SWEEP_SECONDS", 0.1).start().await;
    let client = &farm.client;
    let database = farm.database.connect().await;
    let count = async |sql: &str| -> i64 { database.query_one(sql, &[]).await.unwrap().get(0) };
    let clip = media::clip(farm.dir.path(), 4, "320x180");
    let (watched, unwatched) =
        (client.transcode(&clip, &json!("fast")).await, client.transcode(&clip, &json!("fast")).await);
    let (watched_id, unwatched_id) = (text(&watched, "id"), text(&unwatched, "id"));
    let url = client.play_url(watched_id).await;

    // A day later.
    until("the ages to be counted from somewhere", PATIENCE, || async {
        (count("select count(*) from recordings where settled_at is not null").await == 2).then_some(())
    })
    .await;
    database
        .batch_execute(
            "update recordings set settled_at = settled_at - interval '1 day';
             update sources set settled_at = settled_at - interval '1 day';
             update jobs set finished_at = finished_at - interval '1 day'",
        )
        .await
        .unwrap();
    let projects = client.get("/projects").await;
    let project = text(&projects["projects"][0], "id").to_owned();
    let tried = client
        .get(&format!("/projects/{project}/retention?outputs_days=0.5&sources_days=0.5&jobs_days=0.5"))
        .await;
    let listed = |kind: &str| -> Vec<&str> {
        tried[kind]["items"].as_array().unwrap().iter().map(|item| text(item, "id")).collect()
    };
    assert_eq!(listed("outputs_days"), [unwatched_id]);
    assert_eq!((listed("sources_days").len(), listed("jobs_days").len()), (2, 2), "{tried}");
    assert!(tried["outputs_days"]["items"][0]["bytes"].as_u64().unwrap() > 1000, "{tried}");
    assert_eq!(tried["sources_days"]["bytes"], json!(2 * clip.metadata().unwrap().len()));
    assert_eq!((&tried["logs_days"]["count"], &tried["logs_days"]["age_days"]), (&json!(0), &json!(30.0)));
    let shown = reelmill(&farm, &["project", "due", "default", "--keep", "outputs=0.5"]).await;
    assert!(shown.contains(unwatched_id) && !shown.contains(watched_id), "{shown}");
    let refused =
        client.request(Method::GET, &format!("/api/v1/projects/{project}/retention?jobs_days=soon"));
    is_problem(&answer(refused).await, 422, "validation");
    assert_eq!(
        count("select count(*) from recordings where deleted_at is not null").await,
        0,
        "all that was a dry run"
    );

    let before = files(&farm.dir.path().join("objects"));
    let keeps = ["--keep", "outputs=0.5", "--keep", "sources=0.5", "--keep", "logs=0.5"];
    let set = reelmill(&farm, &[&["project", "set", "default"][..], &keeps].concat()).await;
    assert!(set.contains("outputs=0.5"), "{set}");
    until("the old one to be gone", PATIENCE, || async {
        let (status, _) = client.try_get(&format!("/recordings/{unwatched_id}")).await;
        (status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    let events =
        "select count(*) from events where type = 'recording.deleted' and data ->> 'reason' = 'expired'";
    assert_eq!(count(events).await, 1);

    // The source of the other goes too, which costs its viewer nothing.
    until("the sources and the logs to be gone", PATIENCE, || async {
        let left = count("select count(*) from sources where deleted_at is null").await
            + count("select count(*) from attempts where command is not null").await;
        (left == 0).then_some(())
    })
    .await;
    until("their objects to be swept", PATIENCE, || async {
        (files(&farm.dir.path().join("objects")) <= before / 2).then_some(())
    })
    .await;
    assert_eq!(ffmpeg::frames(&url, "v:0").len(), 100, "25 frames a second for four seconds");
    assert_eq!(client.get(&format!("/recordings/{watched_id}")).await["source"], json!(null));
    let log = client.get(&format!("/jobs/{}/log", text(&watched, "job_id"))).await;
    assert!(log["deleted_at"].is_string() && log["attempts"][0]["log"].is_null(), "{log}");
    let again = json!({ "kind": "transcode", "input": { "recording_id": watched_id }, "profile": "web" });
    let (status, problem) = client.try_post("/jobs", &again).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");

    // Its turn comes when the last token has ended; then nothing is left of either but what the log tells.
    database.batch_execute("update recordings set kept_until = now()").await.unwrap();
    reelmill(&farm, &["project", "set", "default", "--keep", "jobs=0.5"]).await;
    for table in ["recordings", "jobs", "tasks", "attempts", "sets", "segments", "sources", "uploads"] {
        until(&format!("no {table} to be left"), PATIENCE, || async {
            (count(&format!("select count(*) from {table}")).await == 0).then_some(())
        })
        .await;
    }
    until("no object to be left", PATIENCE, || async {
        (files(&farm.dir.path().join("objects")) == 0).then_some(())
    })
    .await;
    assert_eq!(count(events).await, 2);
    farm.stop().await;
}
