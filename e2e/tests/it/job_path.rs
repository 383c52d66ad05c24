//! The way of a job through the house. All of it must hold with the broker stopped; only latency grows.

use std::collections::HashMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

/// Twenty jobs over two api, three worker and two scheduler processes: each done, each once.
#[tokio::test]
async fn job_path_twenty_jobs_are_each_done_once() {
    let farm = Farm::builder().processes(2, 3, 2).s3().set("REELMILL_WORKER_SLOTS", 1).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 2, "320x180");
    let mut jobs = vec![];
    for n in 0..20 {
        jobs.push(farm.api(n % 2).submit(&clip, &json!("fast")).await);
    }
    for (n, job) in jobs.iter().enumerate() {
        let job = farm.api((n + 1) % 2).wait_for(id(job)).await;
        assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    }
    let db = farm.database.connect().await;
    // Each task succeeded in exactly one attempt, and one epoch of each was published.
    let twice = db
        .query(
            "select t.id from tasks t join attempts a on a.task_id = t.id
             group by t.id having count(*) filter (where a.outcome = 'succeeded') <> 1 or count(*) <> 1",
            &[],
        )
        .await
        .unwrap();
    assert!(twice.is_empty(), "{} tasks were not done exactly once", twice.len());
    let finals: i64 =
        db.query_one("select count(*) from events where type = 'job.succeeded'", &[]).await.unwrap().get(0);
    assert_eq!(finals, 20, "each job's end is told once");
    let workers: i64 =
        db.query_one("select count(distinct worker_id) from attempts", &[]).await.unwrap().get(0);
    assert_eq!(workers, 3, "all workers took part");
    farm.stop().await;
}

/// kill -9 in mid-encode: the job finishes on another worker. What was done stays done, only what ran is done again, and nothing
/// that the dead attempts wrote is published.
#[tokio::test]
async fn job_path_a_killed_workers_job_finishes_on_another_once() {
    let mut farm = Farm::builder()
        .processes(1, 1, 1)
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_CHUNK_SECONDS", 12)
        .start()
        .await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 36, "1280x720");
    let job = farm.client.submit(&clip, &json!("fast")).await;
    let path = format!("/jobs/{}", id(&job));
    let encodes = |job: &Value| -> Vec<Value> {
        job["tasks"].as_array().unwrap().iter().filter(|task| task["kind"] == "encode").cloned().collect()
    };
    // The second of three chunks runs; the lead is before them.
    let victim = until("the second chunk to get going", Duration::from_secs(60), || async {
        let encodes = encodes(&farm.client.get(&path).await);
        let [_, first, second, _] = &encodes[..] else { return None };
        let going = first["status"] == "succeeded"
            && second["status"] == "running"
            && second["progress"].as_f64().unwrap() > 0.05;
        going.then(|| second["worker"].as_str().unwrap().to_owned())
    })
    .await;
    farm.process(&victim).signal(Signal::SIGKILL);
    farm.process(&victim).ended(Duration::from_secs(5)).await;
    farm.processes.retain(|process| process.name != victim);
    farm.add(Part::Worker).await;
    farm.ready().await;

    let job = farm.client.wait_for(id(&job)).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let log = farm.client.get(&format!("{path}/log")).await;
    let mut outcomes: HashMap<String, Vec<String>> = HashMap::new();
    for attempt in log["attempts"].as_array().unwrap() {
        let task = attempt["task_id"].as_str().unwrap().to_owned();
        outcomes.entry(task).or_default().push(attempt["outcome"].as_str().unwrap().to_owned());
    }
    let of_chunks: Vec<_> =
        encodes(&job).iter().map(|task| outcomes[task["id"].as_str().unwrap()].clone()).collect();
    let once = vec!["succeeded".to_owned()];
    assert_eq!(
        of_chunks,
        [once.clone(), once.clone(), vec!["lost".to_owned(), "succeeded".to_owned()], once]
    );
    let db = farm.database.connect().await;
    let orphans: i64 = db
        .query_one(
            "select count(*) from segments s where not exists (
                 select 1 from attempts a where a.outcome = 'succeeded' and starts_with(s.key, a.prefix))",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(orphans, 0, "only what succeeded is published");
    farm.stop().await;
}

/// A database that will not have what a task made: the task fails at once, not when its lease has run out, and the job with it.
#[tokio::test]
async fn job_path_what_the_database_refuses_fails_at_once() {
    let farm = Farm::builder().processes(1, 1, 1).start().await;
    let db = farm.database.connect().await;
    db.batch_execute("alter table renditions add constraint refused check (false) not valid").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let job = farm.client.submit(&media::clip(dir.path(), 2, "320x180"), &json!("fast")).await;
    let job = farm.client.wait_for(id(&job)).await;
    assert_eq!((&job["status"], &job["error"]["reason"]), (&json!("failed"), &json!("internal")), "{job}");
    assert!(job["error"]["message"].as_str().unwrap().contains("refused"), "{}", job["error"]);
    let lost: i64 = db
        .query_one("select count(*) from attempts where outcome = 'lost' or epoch > 1", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(lost, 0, "nobody waited for a lease to run out");
    farm.stop().await;
}

/// A database that stands still for longer than the leader's lease, though nobody else takes the lead: the duties go on.
#[tokio::test]
async fn job_path_a_lead_that_ran_out_is_taken_up_again() {
    let mut farm = Farm::builder().processes(1, 1, 1).set("REELMILL_WORKER_SLOTS", 1).start().await;
    let dir = tempfile::tempdir().unwrap();
    let job = farm.client.submit(&media::clip(dir.path(), 20, "1280x720"), &json!("fast")).await;
    let path = format!("/jobs/{}", id(&job));
    until("a task to get going", Duration::from_secs(60), || async {
        let job = farm.client.get(&path).await;
        let mut tasks = job["tasks"].as_array().unwrap().iter();
        tasks.any(|task| task["kind"] == "encode" && task["status"] == "running").then_some(())
    })
    .await;
    let of = |part| farm.processes.iter().find(move |process| process.part == part).unwrap().name.clone();
    let (victim, leader) = (of(Part::Worker), of(Part::Scheduler));
    farm.process(&victim).signal(Signal::SIGKILL);
    farm.process(&victim).ended(Duration::from_secs(5)).await;
    farm.processes.retain(|process| process.name != victim);

    // Its task is to be taken back, which only the leader may do.
    let db = farm.database.connect().await;
    until("the lead to run out", Duration::from_secs(60), || async {
        db.execute("update leaders set expires_at = now() - interval '1 second'", &[]).await.unwrap();
        let log = farm.processes.iter().find(|process| process.name == leader).unwrap().log();
        log.contains("the lead has run out").then_some(())
    })
    .await;
    farm.add(Part::Worker).await;
    farm.ready().await;
    let job = farm.client.wait_for(id(&job)).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    farm.stop().await;
}

/// SIGTERM in mid-encode: the lease is given back at once, and no attempt is counted.
#[tokio::test]
async fn job_path_a_terminated_worker_gives_its_task_back() {
    let mut farm = Farm::builder().processes(1, 1, 1).set("REELMILL_DRAIN_SECONDS", 0).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 30, "1280x720");
    let job = farm.client.submit(&clip, &json!("web")).await;
    let path = format!("/jobs/{}", id(&job));
    let victim = until("the encode to run", Duration::from_secs(60), || async {
        let job = farm.client.get(&path).await;
        let encode = job["tasks"].as_array().unwrap().iter().find(|task| task["kind"] == "encode")?.clone();
        (encode["progress"].as_f64().unwrap() > 0.01).then(|| encode["worker"].as_str().unwrap().to_owned())
    })
    .await;
    farm.process(&victim).signal(Signal::SIGTERM);
    assert_eq!(farm.process(&victim).ended(Duration::from_secs(20)).await, Some(0));
    let encode = {
        let job = farm.client.get(&path).await;
        job["tasks"].as_array().unwrap().iter().find(|task| task["kind"] == "encode").unwrap().clone()
    };
    assert_eq!((encode["status"].as_str(), encode["attempt"].as_i64()), (Some("ready"), Some(0)), "{encode}");
    farm.processes.retain(|process| process.name != victim);
    farm.client.post(&format!("{path}/cancel"), &json!({})).await;
    farm.stop().await;
}

/// Cancelling stops FFmpeg soon and leaves nothing half made.
#[tokio::test]
async fn job_path_a_cancelled_job_stops_and_leaves_nothing() {
    let farm = Farm::builder().start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 30, "1280x720");
    let job = farm.client.submit(&clip, &json!("web")).await;
    let path = format!("/jobs/{}", id(&job));
    until("the encode to run", Duration::from_secs(60), || async {
        let job = farm.client.get(&path).await;
        let running = |task: &Value| task["kind"] == "encode" && task["progress"].as_f64().unwrap() > 0.01;
        job["tasks"].as_array().unwrap().iter().any(running).then_some(())
    })
    .await;
    let cancelled = farm.client.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!(cancelled["status"], "cancelled");
    let scratch = farm.dir.path().join("scratch");
    until("the scratch to be empty", Duration::from_secs(10), || async {
        let mut attempts = vec![];
        for worker in std::fs::read_dir(&scratch).unwrap().flatten() {
            attempts.extend(
                std::fs::read_dir(worker.path())
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter(|e| e.path().is_dir()),
            );
        }
        attempts.is_empty().then_some(())
    })
    .await;
    let (status, _) = farm.client.try_post(&format!("{path}/cancel"), &json!({})).await;
    assert!(status.is_success(), "cancelling twice is no mistake");
    farm.stop().await;
}
