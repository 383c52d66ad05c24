//! What the storyboard costs, against everything else that the same job does.

use std::time::Duration;

use anyhow::{Context, bail};
use reelmill_testkit::Farm;
use serde_json::{Value, json};

use crate::cost::{ProcessCpu, cpu_of, footage};

/// Short against the task that is measured.
const ASK: Duration = Duration::from_millis(10);

/// One slot: while the storyboard is made nothing else is.
pub(crate) async fn run(seconds: u32) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let source = footage(dir.path(), seconds)?;
    let farm = Farm::builder()
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_ENCODE_THREADS", 1)
        .set("REELMILL_CHUNK_SECONDS", 86_400)
        .set("REELMILL_LEASE_SECONDS", 60)
        .start()
        .await;
    let upload = farm.client.upload(&source).await;
    let before = worker(&farm)?;
    let body =
        json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "web", "force": true });
    let job = farm.client.post("/jobs", &body).await;
    let path = format!("/jobs/{}", job["id"].as_str().context("a job has an id")?);
    until(&farm, &path, &["running"]).await?;
    // Its FFmpeg has not ended, so it is not counted yet; all that ran before is.
    let started = worker(&farm)?;
    until(&farm, &path, &["succeeded"]).await?;
    let ended = worker(&farm)?;
    let job = farm.client.wait_for(job["id"].as_str().context("a job has an id")?).await;
    if job["status"] != "succeeded" {
        bail!("the job failed: {}", job["error"]);
    }
    let after = worker(&farm)?;
    farm.stop().await;
    let ffmpeg = ended.children - started.children;
    let own = ended.own - started.own;
    let rest = (after.children - before.children) - ffmpeg;
    println!("{seconds} s of 720p footage, profile web, one thread:");
    println!("  the storyboard: FFmpeg {ffmpeg:.2} CPU s, the worker beside it {own:.2} CPU s");
    println!("  all other FFmpegs of the job: {rest:.2} CPU s");
    println!("  the storyboard costs {:.2} % of that", (ffmpeg + own) / rest * 100.0);
    Ok(())
}

fn worker(farm: &Farm) -> anyhow::Result<ProcessCpu> {
    cpu_of(farm)?.into_iter().find(|process| process.name == "worker").context("the farm has a worker")
}

/// Waits until the job's storyboard has one of these states.
async fn until(farm: &Farm, path: &str, states: &[&str]) -> anyhow::Result<()> {
    loop {
        let job = farm.client.get(path).await;
        let board = |tasks: &Vec<Value>| tasks.iter().find(|task| task["kind"] == "storyboard").cloned();
        let board = job["tasks"].as_array().and_then(board).unwrap_or_default();
        match board["status"].as_str() {
            Some(status) if states.contains(&status) => return Ok(()),
            Some("succeeded") => bail!("it was over before it was seen"),
            _ if job["status"] == "failed" => bail!("the job failed: {}", job["error"]),
            _ => tokio::time::sleep(ASK).await,
        }
    }
}
