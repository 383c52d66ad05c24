//! What a worker's host may do to it: a disk that is full, a clock that jumps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde_json::json;

use super::checker::{Checker, Ends, attempts_in};
use super::processes::{PATIENCE, attempts, poisoned_path, task};
use crate::support::text;

/// Becomes the rest of its arguments where the first of them, a directory, is a disk of 300 kB, in namespaces of its own: it takes no rights.
const SMALL_DISK: &str = r#"
set -e
mount -t tmpfs -o size=300k small "$1"
shift
exec "$@"
"#;

/// A worker whose disk is full: its attempt says so, leaves nothing there, and another worker does it.
#[tokio::test]
async fn faults_a_full_disk_is_left_to_another_worker() {
    let mut farm = Farm::builder().processes(1, 0, 1).set("REELMILL_WORKER_SLOTS", 1).start().await;
    let mut checker = Checker::watch(&farm).await;
    let scratch = PathBuf::from(farm.setting("REELMILL_SCRATCH_DIR").unwrap());
    let small = farm.dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let place = small.to_str().unwrap().to_owned();
    farm.set("REELMILL_SCRATCH_DIR", &place);
    let namespaces =
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh", &place];
    farm.add_under(Part::Worker, &namespaces).await;
    farm.ready().await;
    let full = farm.processes.last().unwrap();
    let (full_name, within) = (full.name.clone(), format!("/proc/{}/root{place}", full.pid()));
    let job = farm.client.submit(&media::clip(farm.dir.path(), 12, "1280x720"), &json!("fast")).await;
    let id = text(&job, "id").to_owned();
    checker.expect(&id, Ends::Well);
    let failed = until("an attempt for which there is no room", PATIENCE, || async {
        let log = farm.client.get(&format!("/jobs/{id}/log")).await;
        log["attempts"].as_array().unwrap().iter().find(|one| one["outcome"] == "failed").cloned()
    })
    .await;
    assert_eq!(
        (&failed["error"]["reason"], &failed["error"]["retryable"]),
        (&json!("storage"), &json!(true))
    );
    assert_eq!(failed["worker"], full_name.as_str());
    farm.set("REELMILL_SCRATCH_DIR", scratch.display());
    farm.add(Part::Worker).await;
    farm.ready().await;
    checker.settle(&farm.client, PATIENCE).await;
    let left = attempts_in(Path::new(&within));
    assert!(Path::new(&within).join("..").exists() && left.is_empty(), "left on the full disk: {left:?}");
    checker.verify(&farm).await;
    farm.stop().await;
}

/// The library that gives a process another clock; `scripts/test` installs it.
fn faketime() -> String {
    std::env::var("REELMILL_FAKETIME")
        .expect("REELMILL_FAKETIME: install libfaketime and run this by scripts/with-services")
}

/// The only lease: the seconds it still has, and when it ends.
async fn lease(db: &tokio_postgres::Client) -> (f64, String) {
    let lease = "select extract(epoch from expires_at - now())::float8, expires_at::text from task_leases";
    let row = db.query_opt(lease, &[]).await.unwrap().expect("a lease: it was lost early");
    (row.get(0), row.get(1))
}

/// A worker's clock is set a day ahead, a day back, and right again while it encodes: its leases run on the database's, so that it neither
/// loses one early nor keeps one after its death.
#[tokio::test]
async fn faults_a_clock_that_jumps_moves_no_lease() {
    let dir = tempfile::tempdir().unwrap();
    // An encode that takes as long as this test wants.
    let go = dir.path().join("go");
    let path = poisoned_path(dir.path(), &format!("until [ -e {} ]; do sleep 0.1; done", go.display()));
    let mut farm =
        Farm::builder().processes(1, 0, 1).set("REELMILL_WORKER_SLOTS", 1).set("PATH", path).start().await;
    let mut checker = Checker::watch(&farm).await;
    let clock = farm.dir.path().join("clock");
    let jump = |by: &str| std::fs::write(&clock, by).unwrap();
    jump("+0");
    farm.set("LD_PRELOAD", faketime());
    farm.set("FAKETIME_TIMESTAMP_FILE", clock.display());
    // What nobody can set stays as it is.
    farm.set("FAKETIME_DONT_FAKE_MONOTONIC", 1);
    farm.set("FAKETIME_NO_CACHE", 1);
    // Its log has the clock in it, and always something to say.
    farm.set("RUST_LOG", "debug");
    farm.add(Part::Worker).await;
    farm.ready().await;
    let victim = farm.processes.last().unwrap().name.clone();
    farm.set("LD_PRELOAD", "");
    farm.set("RUST_LOG", "info");
    let db = farm.database.connect().await;
    let job = farm.client.submit(&media::clip(farm.dir.path(), 2, "320x180"), &json!("fast")).await;
    let id = text(&job, "id").to_owned();
    checker.expect(&id, Ends::Well);
    let is_encode = |task: &serde_json::Value| task["kind"] == "encode" && task["status"] == "running";
    let held = task(&farm.client, &id, "the encode to run", is_encode).await;
    for days in [1, -1, 0, -1] {
        jump(&format!("{:+}", days * 86_400));
        let log = farm.process(&victim).log().len();
        let day = (chrono::Utc::now() + chrono::Duration::days(days))
            .format("\"timestamp\":\"%Y-%m-%d")
            .to_string();
        until(&format!("the worker to live {days} days from now"), PATIENCE, || {
            let felt = farm.process(&victim).log()[log..].contains(&day);
            async move { felt.then_some(()) }
        })
        .await;
        let (_, before) = lease(&db).await;
        until(&format!("a beat {days} days from now"), PATIENCE, || async {
            let (left, expires) = lease(&db).await;
            assert!((0.0..10.1).contains(&left), "a lease for {left} s on a clock that is {days} days off");
            (expires != before).then_some(())
        })
        .await;
    }
    // Still a day behind, it is killed: what it had goes on elsewhere as soon as its lease has ended, and not a day later.
    farm.process(&victim).signal(Signal::SIGKILL);
    farm.process(&victim).ended(Duration::from_secs(5)).await;
    farm.processes.retain(|process| process.name != victim);
    std::fs::write(&go, "").unwrap();
    farm.add(Part::Worker).await;
    farm.ready().await;
    checker.settle(&farm.client, PATIENCE).await;
    assert_eq!(attempts(&farm.client, &id, &held).await, ["lost", "succeeded"]);
    let counts = checker.verify(&farm).await;
    assert_eq!(counts.lost, 1, "none was lost before its worker died");
    farm.stop().await;
}
