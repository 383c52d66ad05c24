//! What older programs make of what newer ones wrote.

use reelmill_shared::db::events::{self, Position};
use reelmill_shared::db::jobs;
use reelmill_shared::db::tasks::{self, Claimed};
use reelmill_shared::db::{DbError, fan_out, leader};
use reelmill_shared::ids::{JobId, SchedulerId};
use reelmill_shared::job::error::Reason;
use reelmill_shared::job::state::JobStatus;

use crate::fixture::{Fixture, LEASE, claimant, horizon};

/// A job whose task is as a newer program would write it: `change` is what is newer about it.
async fn newer(fixture: &Fixture, change: &str) -> JobId {
    let project = fixture.project("p").await;
    let job = fixture.job(project, 100).await;
    fixture.execute(&format!("update tasks set {change} where job_id = '{job}'")).await;
    job
}

/// Orders that name a kind this program knows, and say of it what it does not.
const UNREADABLE: &str = r#"spec = '{"kind": "probe", "sources": ["a", "b"]}'"#;

async fn status(fixture: &Fixture, job: JobId) -> JobStatus {
    jobs::find(&fixture.db, job).await.unwrap().unwrap().status
}

#[tokio::test]
async fn kinds_that_a_worker_does_not_know_are_left_to_others() {
    let fixture = Fixture::new().await;
    let job = newer(&fixture, r#"kind = 'transmute', spec = '{"kind": "transmute"}'"#).await;
    assert!(fixture.claim(&claimant()).await.is_none());
    let known = fixture.job(fixture.project("p").await, 0).await;
    assert_eq!(fixture.claim(&claimant()).await.unwrap().job_id, known, "what is behind it is taken");
    assert_eq!(fixture.count("select count(*) from attempts").await, 1);
    assert_eq!(status(&fixture, job).await, JobStatus::Queued);
    assert!(
        tasks::of_job(&fixture.db, job).await.unwrap().is_empty(),
        "shown without what is not understood"
    );
    fixture.done().await;
}

#[tokio::test]
async fn orders_that_do_not_read_cost_no_attempt_and_are_left_alone_for_a_while() {
    let fixture = Fixture::new().await;
    let job = newer(&fixture, UNREADABLE).await;
    let known = fixture.job(fixture.project("p").await, 0).await;
    let refused = tasks::claim(&fixture.db, &claimant()).await;
    assert!(matches!(refused, Err(DbError::Orders(..))), "{refused:?}");
    assert_eq!(fixture.claim(&claimant()).await.unwrap().job_id, known);
    assert!(fixture.claim(&claimant()).await.is_none(), "nobody takes it again at once");
    let spared = "select count(*) from tasks where status = 'ready' and attempts = 0 and epoch = 1
                  and ready_at between now() + interval '20 seconds' and now() + interval '40 seconds'";
    assert_eq!(fixture.count(spared).await, 1);
    assert_eq!(fixture.count("select count(*) from task_leases").await, 1, "the known one's");
    // A worker that understands them has it when the while is over.
    let understood = "update tasks t set spec = (select spec from tasks where job_id = ";
    fixture
        .execute(&format!(
            "{understood}'{known}'), ready_at = now(), ready_key = now() where job_id = '{job}'"
        ))
        .await;
    let claimed = fixture.claim(&claimant()).await.unwrap();
    assert_eq!((claimed.job_id, claimed.attempt, claimed.hold.epoch), (job, 1, 2));
    fixture.done().await;
}

#[tokio::test]
async fn orders_that_nobody_understands_fail_in_the_end() {
    let fixture = Fixture::new().await;
    let job = newer(&fixture, UNREADABLE).await;
    let mut times = 0;
    while !status(&fixture, job).await.is_final() {
        fixture.execute("update tasks set ready_at = now(), ready_key = now()").await;
        let refused: Result<Option<Claimed>, _> = tasks::claim(&fixture.db, &claimant()).await;
        assert!(matches!(refused, Err(DbError::Orders(..))), "{refused:?}");
        times += 1;
        assert!(times < 1000, "for ever");
    }
    let failed = jobs::find(&fixture.db, job).await.unwrap().unwrap();
    assert_eq!(failed.status, JobStatus::Failed);
    assert_eq!(failed.error.unwrap().reason, Reason::Internal);
    assert_eq!(times, 121, "an hour's worth, half a minute each");
    assert_eq!(fixture.count("select count(*) from task_leases").await, 0);
    fixture.done().await;
}

#[tokio::test]
async fn events_of_unknown_types_are_passed_on_and_hold_up_nothing() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let hook = format!(
        "insert into webhooks (id, project_id, kind, url, description, events, secret, created_at)
         values (gen_random_uuid(), '{project}', 'endpoint', 'https://example.com/', '',
                 '{{recording.blessed,job.queued}}', '', now() - interval '1 minute');
         insert into events (project_id, type, data) values ('{project}', 'recording.blessed', '{{}}');"
    );
    fixture.execute(&hook).await;
    fixture.job(project, 50).await;
    horizon(&fixture.db).await;
    let read = events::of_project_after(&fixture.db, project, Position::default(), 10).await.unwrap();
    let kinds: Vec<&str> = read.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["recording.blessed", "job.queued"]);
    let leadership = leader::acquire(&fixture.db, SchedulerId::new(), LEASE).await.unwrap().unwrap();
    fan_out::advance(&fixture.db, &leadership).await.unwrap();
    assert_eq!(fixture.count("select count(*) from deliveries").await, 2);
    fixture.done().await;
}
