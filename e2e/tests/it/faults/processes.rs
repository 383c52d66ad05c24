//! Workers, their FFmpegs and schedulers that are killed, halted and told to go.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use serde_json::{Value, json};

use super::checker::{Checker, Ends};
use crate::support::text;

pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// The first task of a job for which `is` holds, waited for.
pub(super) async fn task(client: &Client, job: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    until(what, PATIENCE, || async {
        let job = client.get(&format!("/jobs/{job}")).await;
        assert_ne!(job["status"], "failed", "{}", job["error"]);
        job["tasks"].as_array().unwrap().iter().find(|task| is(task)).cloned()
    })
    .await
}

/// An encode that has got going.
pub(super) fn encodes(task: &Value) -> bool {
    task["kind"] == "encode" && task["status"] == "running" && task["progress"].as_f64().unwrap_or(0.0) > 0.01
}

/// Process ids of the FFmpegs that a worker runs.
pub(super) fn children(parent: i32) -> Vec<Pid> {
    let mut found = vec![];
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(')') else { continue };
        let is_child = rest.split_whitespace().nth(1) == Some(parent.to_string().as_str());
        if is_child && name.contains("ffmpeg") {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

fn pid_of(farm: &Farm, name: &str) -> i32 {
    farm.processes.iter().find(|process| process.name == name).unwrap().pid()
}

async fn attempts(client: &Client, job: &str, task: &Value) -> Vec<String> {
    let log = client.get(&format!("/jobs/{job}/log")).await;
    let mine = |attempt: &&Value| attempt["task_id"] == task["id"];
    log["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(mine)
        .map(|one| text(one, "outcome").to_owned())
        .collect()
}

/// A worker that stands still past its lease: its task is done elsewhere, and when it wakes it writes nothing.
#[tokio::test]
async fn faults_a_halted_worker_wakes_up_to_nothing() {
    let mut farm = Farm::builder().set("REELMILL_WORKER_SLOTS", 1).start().await;
    let mut checker = Checker::watch(&farm).await;
    let clip = media::clip(farm.dir.path(), 20, "1280x720");
    let job = farm.client.submit(&clip, &json!("fast")).await;
    let id = text(&job, "id").to_owned();
    checker.expect(&id, Ends::Well);
    let running = task(&farm.client, &id, "the encode to run", encodes).await;
    let victim = text(&running, "worker").to_owned();
    farm.process(&victim).signal(Signal::SIGSTOP);
    farm.add(Part::Worker).await;
    farm.ready().await;
    let heir = task(&farm.client, &id, "another worker to take the task", |task| {
        task["id"] == running["id"] && task["status"] == "running" && task["worker"] != running["worker"]
    });
    heir.await;
    farm.process(&victim).signal(Signal::SIGCONT);
    checker.settle(&farm.client, PATIENCE).await;
    assert_eq!(attempts(&farm.client, &id, &running).await, ["lost", "succeeded"]);
    checker.verify(&farm).await;
    farm.stop().await;
}

/// FFmpeg killed, and FFmpeg that hangs: each costs an attempt, and the hung one is found while the lease lives.
#[tokio::test]
async fn faults_an_ffmpeg_that_is_killed_or_hangs_is_begun_again() {
    let farm = Farm::builder().set("REELMILL_WORKER_SLOTS", 1).set("REELMILL_STALL_SECONDS", 2).start().await;
    let mut checker = Checker::watch(&farm).await;
    let clip = media::clip(farm.dir.path(), 20, "1280x720");
    let job = farm.client.submit(&clip, &json!("fast")).await;
    let id = text(&job, "id").to_owned();
    checker.expect(&id, Ends::Well);
    let mut first = None;
    for (attempt, signal) in [(1, Signal::SIGKILL), (2, Signal::SIGSTOP)] {
        let running =
            task(&farm.client, &id, "the encode to run", |task| encodes(task) && task["attempt"] == attempt)
                .await;
        for child in children(pid_of(&farm, text(&running, "worker"))) {
            kill(child, signal).unwrap();
        }
        first = Some(running);
    }
    checker.settle(&farm.client, PATIENCE).await;
    assert_eq!(attempts(&farm.client, &id, &first.unwrap()).await, ["failed", "failed", "succeeded"]);
    checker.verify(&farm).await;
    farm.stop().await;
}

/// An input whose FFmpeg always dies takes its attempts and no more, and says so.
#[tokio::test]
async fn faults_what_kills_every_ffmpeg_fails_after_its_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let real = std::process::Command::new("sh").args(["-c", "command -v ffmpeg"]).output().unwrap().stdout;
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'-i file:'*libx264*) kill -SEGV $$;; esac\nexec {} \"$@\"\n",
        String::from_utf8(real).unwrap().trim()
    );
    let poisoned = dir.path().join("ffmpeg");
    std::fs::write(&poisoned, script).unwrap();
    std::fs::set_permissions(&poisoned, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let farm = Farm::builder().set("PATH", path).start().await;
    let mut checker = Checker::watch(&farm).await;
    let clip = media::clip(dir.path(), 2, "320x180");
    // The waits between the attempts are what takes long here.
    let db = farm.database.connect().await;
    let job = farm.client.submit(&clip, &json!("fast")).await;
    let id = text(&job, "id").to_owned();
    checker.expect(&id, Ends::Badly);
    until("the job to fail", PATIENCE, || async {
        db.execute("update tasks set ready_at = now(), ready_key = now() where status = 'ready' and ready_at > now()", &[])
            .await
            .unwrap();
        (farm.client.get(&format!("/jobs/{id}")).await["status"] == "failed").then_some(())
    })
    .await;
    checker.settle(&farm.client, PATIENCE).await;
    let failed = farm.client.get(&format!("/jobs/{id}")).await;
    assert_eq!(failed["error"]["reason"], "ffmpeg", "{failed}");
    let task = failed["tasks"].as_array().unwrap().iter().find(|task| task["status"] == "failed").unwrap();
    assert_eq!(attempts(&farm.client, &id, task).await, ["failed", "failed", "failed"]);
    checker.verify(&farm).await;
    farm.stop().await;
}

/// The leader stands still, another leads, and it wakes: every duty is done once, and its own writes do nothing.
#[tokio::test]
async fn faults_a_halted_leader_wakes_up_to_another() {
    let mut farm = Farm::builder().processes(1, 1, 2).set("REELMILL_WORKER_SLOTS", 1).start().await;
    let mut checker = Checker::watch(&farm).await;
    let leading = |farm: &Farm| -> Vec<String> {
        let schedulers = farm.processes.iter().filter(|process| process.part == Part::Scheduler);
        schedulers.filter(|one| one.log().contains("\"leading\"")).map(|one| one.name.clone()).collect()
    };
    let first = until("a leader", PATIENCE, || async { leading(&farm).pop() }).await;
    farm.process(&first).signal(Signal::SIGSTOP);
    let clip = media::clip(farm.dir.path(), 12, "1280x720");
    let job = farm.client.submit(&clip, &json!("fast")).await;
    let id = text(&job, "id").to_owned();
    checker.expect(&id, Ends::Well);
    until("another leader", PATIENCE, || async { (leading(&farm).len() == 2).then_some(()) }).await;
    let running = task(&farm.client, &id, "the encode to run", encodes).await;
    let victim = text(&running, "worker").to_owned();
    farm.process(&victim).signal(Signal::SIGKILL);
    farm.process(&victim).ended(Duration::from_secs(5)).await;
    farm.processes.retain(|process| process.name != victim);
    farm.process(&first).signal(Signal::SIGCONT);
    farm.add(Part::Worker).await;
    farm.ready().await;
    checker.settle(&farm.client, PATIENCE).await;
    assert_eq!(attempts(&farm.client, &id, &running).await, ["lost", "succeeded"]);
    checker.verify(&farm).await;
    farm.stop().await;
}
