//! Workers, their FFmpegs and schedulers that are killed, halted and told to go.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use serde_json::{Value, json};

use super::checker::{Checker, Ends, objects, store};
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
pub fn children(parent: i32) -> Vec<Pid> {
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

/// How the attempts at a task ended, the first one first.
pub(super) async fn attempts(client: &Client, job: &str, task: &Value) -> Vec<String> {
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
    let path = poisoned_path(dir.path(), "kill -SEGV $$");
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

/// A worker killed when all of its encode lies in the store and nothing of it is published: that is done again elsewhere, and what lies there goes.
#[tokio::test]
async fn faults_a_worker_that_dies_before_it_publishes_has_made_nothing() {
    let mut farm = Farm::builder().set("REELMILL_WORKER_SLOTS", 1).start().await;
    let mut checker = Checker::watch(&farm).await;
    let mut db = farm.database.connect().await;
    // Whoever publishes waits here, in the middle of the transaction; everybody may read.
    let gate = db.transaction().await.unwrap();
    gate.batch_execute("lock table segments in exclusive mode").await.unwrap();
    let job = farm.client.submit(&media::clip(farm.dir.path(), 8, "640x360"), &json!("fast")).await;
    let id = text(&job, "id").to_owned();
    checker.expect(&id, Ends::Well);
    let publishing = "select t.id::text, w.name, a.prefix from attempts a join tasks t on t.id = a.task_id
                      join workers w on w.id = a.worker_id where a.outcome = 'running'";
    let written = |farm: &Farm, prefix: &str| {
        objects(&store(farm)).iter().filter(|key| key.starts_with(prefix)).count()
    };
    let running = until("a worker to publish", PATIENCE, || async {
        let waits = "select count(*) from pg_locks where relation = 'segments'::regclass and not granted";
        let waiting = gate.query_one(waits, &[]).await.unwrap().get::<_, i64>(0);
        // Whoever looks for segments to be deleted waits, too: segments lie in the store before they are published.
        let running = gate.query_opt(publishing, &[]).await.unwrap()?;
        (waiting > 0 && written(&farm, running.get(2)) > 1).then_some(running)
    })
    .await;
    let (id_of_task, victim): (String, String) = (running.get(0), running.get(1));
    farm.process(&victim).signal(Signal::SIGKILL);
    farm.process(&victim).ended(Duration::from_secs(5)).await;
    farm.processes.retain(|process| process.name != victim);
    gate.rollback().await.unwrap();
    farm.add(Part::Worker).await;
    farm.ready().await;
    checker.settle(&farm.client, PATIENCE).await;
    assert_eq!(attempts(&farm.client, &id, &json!({ "id": id_of_task })).await, ["lost", "succeeded"]);
    checker.verify(&farm).await;
    assert_eq!(written(&farm, running.get(2)), 0, "what the dead one wrote is swept");
    farm.stop().await;
}

/// A directory with an `ffmpeg` that does `what` when it is to encode pictures, and is FFmpeg otherwise; the search path that finds it first.
pub(super) fn poisoned_path(dir: &Path, what: &str) -> String {
    let real = std::process::Command::new("sh").args(["-c", "command -v ffmpeg"]).output().unwrap().stdout;
    let real = String::from_utf8(real).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'-i file:'*libx264*) {what};; esac\nexec {} \"$@\"\n",
        real.trim()
    );
    let poisoned = dir.join("ffmpeg");
    std::fs::write(&poisoned, script).unwrap();
    std::fs::set_permissions(&poisoned, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap())
}

/// An input that takes each worker with it that touches it: three of them, and no more.
#[tokio::test]
async fn faults_what_kills_every_worker_fails_after_its_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let path = poisoned_path(dir.path(), "kill -KILL $PPID; exit 1");
    let mut farm = Farm::builder().set("PATH", path).set("REELMILL_WORKER_SLOTS", 1).start().await;
    let mut checker = Checker::watch(&farm).await;
    let job = farm.client.submit(&media::clip(dir.path(), 2, "320x180"), &json!("fast")).await;
    let id = text(&job, "id").to_owned();
    checker.expect(&id, Ends::Badly);
    let db = farm.database.connect().await;
    for death in 1..=3 {
        let name = farm.processes.iter().find(|one| one.part == Part::Worker).unwrap().name.clone();
        let code = farm.process(&name).ended(PATIENCE).await;
        assert_eq!(code, None, "killed, the {death}. time");
        farm.processes.retain(|process| process.name != name);
        // The wait for the end of the lease is what would take long here.
        db.execute("update task_leases set expires_at = now()", &[]).await.unwrap();
        // It may be dead before anybody could ask whether it is ready.
        farm.add(Part::Worker).await;
    }
    farm.ready().await;
    checker.settle(&farm.client, PATIENCE).await;
    let failed = farm.client.get(&format!("/jobs/{id}")).await;
    assert_eq!(failed["error"]["reason"], "worker_lost", "{failed}");
    let task = failed["tasks"].as_array().unwrap().iter().find(|task| task["status"] == "failed").unwrap();
    assert_eq!(attempts(&farm.client, &id, task).await, ["lost", "lost", "lost"]);
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
