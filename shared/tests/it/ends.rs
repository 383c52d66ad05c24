//! How tasks and jobs end: once, guarded, counted right.

use std::time::Duration;

use reelmill_shared::db::finish::{self, AttemptNote, Publication};
use reelmill_shared::db::jobs::{self, Cancelled};
use reelmill_shared::db::leader::{self, Leadership};
use reelmill_shared::db::tasks::Claimed;
use reelmill_shared::db::{DbError, jobs::Job};
use reelmill_shared::ids::{JobId, SchedulerId};
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::plan;
use reelmill_shared::job::state::JobStatus;
use serde_json::json;

use crate::fixture::{Fixture, claimant, spec};

async fn lead(fixture: &Fixture) -> Leadership {
    leader::acquire(&fixture.db, SchedulerId::new(), Duration::from_secs(60)).await.unwrap().unwrap()
}

async fn job(fixture: &Fixture, id: JobId) -> Job {
    jobs::find(&fixture.db, id).await.unwrap().unwrap()
}

async fn succeed(fixture: &Fixture, claimed: &Claimed) -> Result<finish::Followed, DbError> {
    finish::succeed(&fixture.db, claimed, &[], &AttemptNote::default()).await
}

async fn expire_all(fixture: &Fixture, leadership: &Leadership) -> usize {
    fixture.execute("update task_leases set expires_at = now() - interval '1 second'").await;
    finish::expire_leases(&fixture.db, leadership, 100).await.unwrap().len()
}

#[tokio::test]
async fn a_zombie_writes_nothing() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = fixture.job(project, 50).await;
    let leadership = lead(&fixture).await;
    let zombie = fixture.claim(&claimant()).await.unwrap();
    assert_eq!(expire_all(&fixture, &leadership).await, 1);
    let heir = fixture.claim(&claimant()).await.unwrap();
    assert_eq!((heir.hold.task_id, heir.hold.epoch, heir.attempt), (zombie.hold.task_id, 2, 2));

    let result = [Publication::JobResult(json!({ "by": "zombie" }))];
    let error = finish::succeed(&fixture.db, &zombie, &result, &AttemptNote::default()).await.unwrap_err();
    assert!(matches!(error, DbError::LostRace));
    let bad = TaskError::fatal(Reason::Internal, "zombie");
    let error = finish::fail(&fixture.db, &zombie, &bad, &AttemptNote::default(), 0.0).await.unwrap_err();
    assert!(matches!(error, DbError::LostRace));
    let error = finish::release(&fixture.db, id, zombie.hold).await.unwrap_err();
    assert!(matches!(error, DbError::LostRace));

    assert_eq!(succeed(&fixture, &heir).await.unwrap().job, Some(JobStatus::Succeeded));
    // The answer to the commit got lost: told again, it changes nothing.
    assert!(matches!(succeed(&fixture, &heir).await.unwrap_err(), DbError::LostRace));
    let job = job(&fixture, id).await;
    assert_eq!((job.status, job.result), (JobStatus::Succeeded, None));
    assert_eq!(fixture.count("select count(*) from events where type = 'job.succeeded'").await, 1);
    assert_eq!(fixture.count("select count(*) from task_leases").await, 0);
    fixture.done().await;
}

#[tokio::test]
async fn attempts_run_out_but_a_shutdown_does_not_count() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = fixture.job(project, 50).await;
    let leadership = lead(&fixture).await;
    for _ in 0..5 {
        let claimed = fixture.claim(&claimant()).await.unwrap();
        assert_eq!(claimed.attempt, 1);
        finish::release(&fixture.db, id, claimed.hold).await.unwrap();
    }
    for attempt in 1..=3 {
        let claimed = fixture.claim(&claimant()).await.unwrap();
        assert_eq!((claimed.attempt, claimed.hold.epoch), (attempt, 5 + attempt));
        expire_all(&fixture, &leadership).await;
    }
    let job = job(&fixture, id).await;
    assert_eq!((job.status, job.error.unwrap().reason), (JobStatus::Failed, Reason::WorkerLost));
    assert!(fixture.claim(&claimant()).await.is_none());
    fixture.done().await;
}

#[tokio::test]
async fn a_final_failure_ends_the_job_at_once_and_a_passing_one_waits() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = fixture.job(project, 50).await;
    let claimed = fixture.claim(&claimant()).await.unwrap();
    let passing = TaskError::retryable(Reason::Storage, "later");
    finish::fail(&fixture.db, &claimed, &passing, &AttemptNote::default(), 1.0).await.unwrap();
    assert!(fixture.claim(&claimant()).await.is_none(), "not before its back-off");
    fixture.execute("update tasks set ready_key = now(), ready_at = now()").await;
    let claimed = fixture.claim(&claimant()).await.unwrap();
    let bad = TaskError::fatal(Reason::NotMedia, "no");
    let followed = finish::fail(&fixture.db, &claimed, &bad, &AttemptNote::default(), 0.0).await.unwrap();
    assert_eq!(followed.job, Some(JobStatus::Failed));
    assert_eq!(job(&fixture, id).await.error, Some(bad));
    assert_eq!(fixture.count("select count(*) from recordings where status = 'failed'").await, 1);
    fixture.done().await;
}

/// Two last finishers under READ COMMITTED must not each see the other still running.
#[tokio::test]
async fn the_last_of_many_concurrent_finishers_completes_the_job_once() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let spec = spec();
    let tasks: Vec<_> = (0..16).flat_map(|_| plan::opening(&spec, true)).collect();
    let id = fixture.job_of(project, 50, spec, tasks).await;
    let mut held = vec![];
    while let Some(claimed) = fixture.claim(&claimant()).await {
        held.push(claimed);
    }
    let ends = futures::future::join_all(held.iter().map(|claimed| succeed(&fixture, claimed))).await;
    let completed = ends.into_iter().filter(|end| end.as_ref().unwrap().job.is_some()).count();
    assert_eq!((held.len(), completed), (16, 1));
    assert_eq!(job(&fixture, id).await.status, JobStatus::Succeeded);
    assert_eq!(fixture.count("select count(*) from events where type = 'job.succeeded'").await, 1);
    fixture.done().await;
}

#[tokio::test]
async fn a_chain_opens_link_by_link() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let spec = spec();
    let tasks = plan::opening(&spec, false);
    let id = fixture.job_of(project, 50, spec, tasks).await;
    let fetch = fixture.claim(&claimant()).await.unwrap();
    assert!(fixture.claim(&claimant()).await.is_none(), "the probe waits for the fetch");
    let followed = succeed(&fixture, &fetch).await.unwrap();
    assert_eq!((followed.rings.len(), followed.job), (1, None));
    let probe = fixture.claim(&claimant()).await.unwrap();
    // More work turns up before the last one ends: the job goes on.
    let more = plan::opening(&probe.job_spec, true);
    let followed = finish::succeed(&fixture.db, &probe, &[Publication::Tasks(more)], &AttemptNote::default())
        .await
        .unwrap();
    assert_eq!((followed.rings.len(), followed.job), (1, None));
    let last = fixture.claim(&claimant()).await.unwrap();
    assert_eq!(succeed(&fixture, &last).await.unwrap().job, Some(JobStatus::Succeeded));
    assert_eq!(
        fixture
            .count(
                &format!("select pending from jobs where id = '{id}'").replace("pending", "pending::bigint")
            )
            .await,
        0
    );
    fixture.done().await;
}

#[tokio::test]
async fn cancelling_beats_what_comes_after_and_only_that() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let other = fixture.project("other").await;
    let id = fixture.job(project, 50).await;
    let claimed = fixture.claim(&claimant()).await.unwrap();
    assert_eq!(jobs::cancel(&fixture.db, other, id).await.unwrap(), Cancelled::NotFound);
    assert_eq!(jobs::cancel(&fixture.db, project, id).await.unwrap(), Cancelled::Now);
    assert!(matches!(succeed(&fixture, &claimed).await.unwrap_err(), DbError::LostRace));
    assert_eq!(
        jobs::cancel(&fixture.db, project, id).await.unwrap(),
        Cancelled::TooLate(JobStatus::Cancelled)
    );
    assert_eq!(fixture.count("select count(*) from task_leases").await, 0);
    assert_eq!(fixture.count("select count(*) from garbage").await, 1, "what it wrote is swept");
    fixture.done().await;
}

/// Left by a claim that was let in beside a cancel: it must not stay for ever, nor keep others from being taken back.
#[tokio::test]
async fn a_lease_without_its_task_is_tidied_up() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    fixture.job(project, 50).await;
    let leadership = lead(&fixture).await;
    fixture.claim(&claimant()).await.unwrap();
    fixture.execute("update tasks set status = 'cancelled'").await;
    expire_all(&fixture, &leadership).await;
    assert_eq!(fixture.count("select count(*) from task_leases").await, 0);
    assert_eq!(fixture.count("select count(*) from attempts where outcome = 'running'").await, 0);
    fixture.done().await;
}

#[tokio::test]
async fn cancels_and_claims_that_cross_leave_nothing_running() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    for _ in 0..40 {
        let id = fixture.job(project, 50).await;
        let claimant = claimant();
        let (cancelled, claimed) =
            tokio::join!(jobs::cancel(&fixture.db, project, id), fixture.claim(&claimant));
        assert_eq!(cancelled.unwrap(), Cancelled::Now);
        if let Some(claimed) = claimed {
            assert!(matches!(succeed(&fixture, &claimed).await.unwrap_err(), DbError::LostRace));
        }
    }
    assert_eq!(fixture.count("select count(*) from tasks where status <> 'cancelled'").await, 0);
    assert_eq!(fixture.count("select count(*) from jobs where status <> 'cancelled'").await, 0);
    assert_eq!(fixture.count("select count(*) from task_leases").await, 0);
    fixture.done().await;
}

#[tokio::test]
async fn a_publication_that_is_refused_is_told_apart_from_a_database_that_is_away() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    fixture.job(project, 50).await;
    let claimed = fixture.claim(&claimant()).await.unwrap();
    let refused = async |result| {
        let publications = [Publication::JobResult(result)];
        let told = finish::succeed(&fixture.db, &claimed, &publications, &AttemptNote::default()).await;
        told.unwrap_err().refusal()
    };
    // PostgreSQL keeps no NUL in a document.
    let lasting = refused(json!({ "title": "\0" })).await.unwrap();
    assert!(lasting.reason == Reason::Internal && !lasting.retryable, "{lasting:?}");
    fixture.execute("create unique index once on jobs ((result ->> 'once'))").await;
    fixture.job(project, 50).await;
    fixture
        .execute("update jobs set result = '{\"once\": \"x\"}' where result is null and status = 'queued'")
        .await;
    assert!(refused(json!({ "once": "x" })).await.unwrap().retryable, "who wrote it may have been quicker");
    let other = DbError::OtherInit("720p".to_owned()).refusal().unwrap();
    assert!(other.reason == Reason::CheckFailed && !other.retryable);
    assert_eq!(DbError::LostRace.refusal(), None);

    // Nothing of it was written, so that the failure can be told.
    finish::fail(&fixture.db, &claimed, &lasting, &AttemptNote::default(), 0.0).await.unwrap();
    let told = finish::fail(&fixture.db, &claimed, &lasting, &AttemptNote::default(), 0.0).await;
    assert_eq!(told.unwrap_err().refusal(), None, "it is over");
    fixture.done().await;
}
