//! Limits, pauses, drains, quarantine, priorities that change, jobs that are retried.

use std::collections::HashSet;
use std::time::Duration;

use reelmill_shared::db::finish::{self, AttemptNote, Publication};
use reelmill_shared::db::jobs;
use reelmill_shared::db::leader::{self, Leadership};
use reelmill_shared::db::projects::{self, Change, Deleted};
use reelmill_shared::db::retry::{Retried, retry};
use reelmill_shared::db::tasks::{self, Claimant};
use reelmill_shared::db::workers::{self, Registration};
use reelmill_shared::db::{DbError, pools, recordings, unserved};
use reelmill_shared::ids::{JobId, ProjectId, SchedulerId};
use reelmill_shared::job::capability::Pool;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::plan;
use reelmill_shared::job::state::{JobStatus, TaskStatus};
use serde_json::json;

use crate::fixture::{Fixture, claimant, spec};

async fn lead(fixture: &Fixture) -> Leadership {
    leader::acquire(&fixture.db, SchedulerId::new(), Duration::from_secs(60)).await.unwrap().unwrap()
}

/// A claimant that the farm knows of.
async fn worker(fixture: &Fixture, name: &str) -> Claimant {
    let claimant = claimant();
    let registration = Registration {
        id: claimant.worker_id,
        name,
        pool: "cpu",
        slots: 4,
        capabilities: &claimant.capabilities,
        version: "0",
    };
    workers::register(&fixture.db, &registration).await.unwrap();
    claimant
}

async fn limit(fixture: &Fixture, project: ProjectId, most: Option<u32>) {
    let change = Change { max_running: Some(most), ..Change::default() };
    assert_eq!(projects::update(&fixture.db, project, change).await.unwrap().unwrap().max_running, most);
}

#[tokio::test]
async fn claims_that_race_never_exceed_a_projects_limit() {
    let fixture = Fixture::new().await;
    let (small, free) = (fixture.project("small").await, fixture.project("free").await);
    limit(&fixture, small, Some(3)).await;
    for _ in 0..30 {
        fixture.job(small, 50).await;
    }
    for round in 1..=4 {
        let claims = (0..16).map(|_| async { tasks::claim(&fixture.db, &claimant()).await.unwrap() });
        let claimed: Vec<_> = futures::future::join_all(claims).await.into_iter().flatten().collect();
        assert_eq!(claimed.len(), 3, "round {round}");
        assert!(fixture.claim(&claimant()).await.is_none());
        for one in &claimed {
            finish::succeed(&fixture.db, one, &[], &AttemptNote::default()).await.unwrap();
        }
    }
    // The limit of one holds nobody else up, and is gone when it is lifted.
    for _ in 0..3 {
        fixture.claim(&claimant()).await.unwrap();
    }
    let other = fixture.job(free, 0).await;
    assert_eq!(fixture.claim(&claimant()).await.unwrap().job_id, other);
    limit(&fixture, small, None).await;
    assert_eq!(fixture.claim(&claimant()).await.unwrap().project_id, small);
    fixture.done().await;
}

#[tokio::test]
async fn a_paused_pool_gives_nothing_and_goes_on_when_resumed() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    fixture.job(project, 50).await;
    pools::set_paused(&fixture.db, Pool::Cpu, true).await.unwrap();
    assert!(fixture.claim(&claimant()).await.is_none());
    assert!(tasks::forgotten(&fixture.db, Duration::ZERO, 5).await.unwrap().is_empty(), "nobody is rung for");
    let state = pools::list(&fixture.db).await.unwrap();
    let cpu = state.iter().find(|state| state.pool == Pool::Cpu).unwrap();
    assert!(cpu.paused_at.is_some() && (cpu.ready, cpu.running) == (1, 0));
    pools::set_paused(&fixture.db, Pool::Cpu, false).await.unwrap();
    assert!(fixture.claim(&claimant()).await.is_some());
    fixture.done().await;
}

#[tokio::test]
async fn a_worker_that_was_asked_to_drain_gets_nothing() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    fixture.job(project, 50).await;
    let worker = worker(&fixture, "w").await;
    assert!(workers::drain(&fixture.db, worker.worker_id).await.unwrap());
    assert!(!workers::may_work(&fixture.db, worker.worker_id).await.unwrap());
    assert!(fixture.claim(&worker).await.is_none());
    assert!(workers::resume(&fixture.db, worker.worker_id).await.unwrap());
    assert!(fixture.claim(&worker).await.is_some());
    assert!(!workers::drain(&fixture.db, claimant().worker_id).await.unwrap(), "nobody knows it");
    fixture.done().await;
}

#[tokio::test]
async fn who_keeps_failing_what_others_finish_gets_no_more() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let leadership = lead(&fixture).await;
    let (bad, good) = (worker(&fixture, "bad").await, worker(&fixture, "good").await);
    let quarantine =
        async || workers::quarantine(&fixture.db, &leadership, 3, Duration::from_secs(3600)).await.unwrap();
    let broken = TaskError::retryable(Reason::Storage, "the disk of this host is broken");
    for n in 0..3 {
        assert!(quarantine().await.is_empty(), "after {n}");
        fixture.job(project, 50).await;
        let claimed = fixture.claim(&bad).await.unwrap();
        finish::fail(&fixture.db, &claimed, &broken, &AttemptNote::default(), 0.0).await.unwrap();
        fixture.execute("update tasks set ready_at = now(), ready_key = now() where status = 'ready'").await;
        assert!(fixture.claim(&bad).await.is_none(), "another one should try");
        let again = fixture.claim(&good).await.unwrap();
        finish::succeed(&fixture.db, &again, &[], &AttemptNote::default()).await.unwrap();
    }
    let found = quarantine().await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "bad");
    assert!(
        found[0].reason.contains("3 tasks") && found[0].reason.contains("disk of this host"),
        "{found:?}"
    );
    fixture.job(project, 50).await;
    assert!(fixture.claim(&bad).await.is_none());
    let listed = workers::list(&fixture.db, None, 10).await.unwrap();
    let listed = listed.iter().find(|worker| worker.name == "bad").unwrap();
    assert!(listed.quarantine_reason.as_deref().unwrap().contains("3 tasks"));
    // Forgiven: what it failed before counts no longer.
    assert!(workers::resume(&fixture.db, bad.worker_id).await.unwrap());
    assert!(quarantine().await.is_empty());
    assert!(fixture.claim(&bad).await.is_some());
    fixture.done().await;
}

#[tokio::test]
async fn a_worker_that_is_alone_tries_again_itself() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let worker = worker(&fixture, "only").await;
    fixture.job(project, 50).await;
    let claimed = fixture.claim(&worker).await.unwrap();
    let passing = TaskError::retryable(Reason::Storage, "later");
    finish::fail(&fixture.db, &claimed, &passing, &AttemptNote::default(), 0.0).await.unwrap();
    fixture.execute("update tasks set ready_at = now(), ready_key = now()").await;
    assert_eq!(fixture.claim(&worker).await.unwrap().attempt, 2);
    fixture.done().await;
}

#[tokio::test]
async fn priority_can_be_changed_while_a_job_waits() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let first = fixture.job(project, 50).await;
    let second = fixture.job(project, 50).await;
    let status = jobs::set_priority(&fixture.db, project, second, 90).await.unwrap();
    assert_eq!(status, Some(JobStatus::Queued));
    assert_eq!(fixture.claim(&claimant()).await.unwrap().job_id, second);
    assert_eq!(fixture.claim(&claimant()).await.unwrap().job_id, first);
    let stranger = fixture.project("stranger").await;
    assert_eq!(jobs::set_priority(&fixture.db, stranger, first, 1).await.unwrap(), None);
    fixture.done().await;
}

#[tokio::test]
async fn a_new_job_is_looked_into_before_an_old_one_is_through() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let old = fixture.job(project, 50).await;
    let probe = fixture.claim(&claimant()).await.unwrap();
    // As good as any task that is not the opening of its job.
    let bulk: Vec<_> = (0..3).flat_map(|_| plan::opening(&spec(), true)).collect();
    finish::succeed(&fixture.db, &probe, &[Publication::Tasks(bulk)], &AttemptNote::default()).await.unwrap();
    fixture
        .execute("update tasks set ready_key = ready_key + interval '900 s', ahead_seconds = 0 where status = 'ready'")
        .await;
    let new = fixture.job(project, 50).await;
    let order = [fixture.claim(&claimant()).await.unwrap(), fixture.claim(&claimant()).await.unwrap()];
    assert_eq!(order.map(|claimed| claimed.job_id), [new, old]);
    // Waiting counts: what has waited longer than that is not overtaken.
    fixture
        .execute("update tasks set ready_key = ready_key - interval '1 hour' where status = 'ready'")
        .await;
    fixture.job(project, 50).await;
    assert_eq!(fixture.claim(&claimant()).await.unwrap().job_id, old);
    fixture.done().await;
}

/// A job of a probe that plans two tasks, of which one is done and the other fails for good.
async fn half_done(fixture: &Fixture, project: ProjectId) -> JobId {
    let id = fixture.job(project, 70).await;
    let probe = fixture.claim(&claimant()).await.unwrap();
    let mut more = [plan::opening(&spec(), true), plan::opening(&spec(), true)].concat();
    let last = plan::opening(&spec(), true).remove(0);
    more.iter_mut().for_each(|task| task.unblocks.push(last.id));
    let last = reelmill_shared::job::plan::NewTask { blocked_by: 2, ..last };
    more.push(last);
    let planned = [Publication::Tasks(more), Publication::JobResult(json!({ "plan": "kept" }))];
    finish::succeed(&fixture.db, &probe, &planned, &AttemptNote::default()).await.unwrap();
    let one = fixture.claim(&claimant()).await.unwrap();
    finish::succeed(&fixture.db, &one, &[], &AttemptNote::default()).await.unwrap();
    let other = fixture.claim(&claimant()).await.unwrap();
    let bad = TaskError::fatal(Reason::Ffmpeg, "no");
    finish::fail(&fixture.db, &other, &bad, &AttemptNote::default(), 0.0).await.unwrap();
    id
}

#[tokio::test]
async fn a_retry_does_only_what_was_left_undone() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = half_done(&fixture, project).await;
    assert_eq!(jobs::find(&fixture.db, id).await.unwrap().unwrap().status, JobStatus::Failed);
    let stranger = fixture.project("stranger").await;
    assert!(matches!(retry(&fixture.db, stranger, id, JobId::new(), None).await.unwrap(), Retried::NotFound));

    let Retried::Anew(job, left) = retry(&fixture.db, project, id, JobId::new(), None).await.unwrap() else {
        panic!()
    };
    assert_eq!((job.retry_of, job.status, job.priority), (Some(id), JobStatus::Queued, 70));
    assert_eq!(job.result, Some(json!({ "plan": "kept" })));
    assert_eq!(
        left.iter().map(|task| task.blocked_by).collect::<Vec<_>>(),
        [0, 1],
        "the one that was done is not"
    );
    let error = retry(&fixture.db, project, id, JobId::new(), None).await.unwrap_err();
    assert!(matches!(error, DbError::Busy(open) if open == job.id), "{error}");
    for _ in 0..2 {
        let claimed = fixture.claim(&claimant()).await.unwrap();
        assert_eq!((claimed.job_id, claimed.hold.epoch), (job.id, 1));
        finish::succeed(&fixture.db, &claimed, &[], &AttemptNote::default()).await.unwrap();
    }
    assert!(fixture.claim(&claimant()).await.is_none());
    let done = jobs::find(&fixture.db, job.id).await.unwrap().unwrap();
    assert_eq!(done.status, JobStatus::Succeeded);
    assert!(matches!(
        retry(&fixture.db, project, job.id, JobId::new(), None).await.unwrap(),
        Retried::Needless(_)
    ));
    fixture.done().await;
}

/// What a retry took over lies where the failed job wrote it, and must stay there for whoever plays it.
#[tokio::test]
async fn what_a_retry_took_over_stays_as_long_as_anybody_plays_it() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = half_done(&fixture, project).await;
    let old = jobs::find(&fixture.db, id).await.unwrap().unwrap();
    let mine = old.recording_id.unwrap();
    let set = uuid::Uuid::now_v7();
    fixture
        .execute(&format!(
            "insert into sets (id, project_id, job_id) values ('{set}', '{project}', '{id}');
             insert into recording_sets (recording_id, set_id, ordinal) values ('{mine}', '{set}', 1)"
        ))
        .await;
    let Retried::Anew(new, _) = retry(&fixture.db, project, id, JobId::new(), None).await.unwrap() else {
        panic!()
    };
    while let Some(claimed) = fixture.claim(&claimant()).await {
        finish::succeed(&fixture.db, &claimed, &[], &AttemptNote::default()).await.unwrap();
    }
    assert_eq!(jobs::find(&fixture.db, new.id).await.unwrap().unwrap().status, JobStatus::Succeeded);
    // Another recording has borrowed the set.
    let borrower = fixture.job(project, 50).await;
    let borrower = jobs::find(&fixture.db, borrower).await.unwrap().unwrap().recording_id.unwrap();
    fixture
        .execute(&format!(
            "insert into recording_sets (recording_id, set_id, ordinal) values ('{borrower}', '{set}', 1);
             delete from garbage"
        ))
        .await;
    let garbage = async || fixture.count("select count(*) from garbage").await;
    let attempts = format!(
        "select count(*) from attempts a join tasks t on t.id = a.task_id where t.job_id in ('{id}', '{}')",
        new.id
    );
    let written = fixture.count(&attempts).await;
    assert!(recordings::delete(&fixture.db, project, mine).await.unwrap());
    recordings::discard(&fixture.db, mine).await.unwrap();
    assert_eq!(garbage().await, 0, "somebody plays it");
    assert!(recordings::delete(&fixture.db, project, borrower).await.unwrap());
    recordings::discard(&fixture.db, borrower).await.unwrap();
    assert!(garbage().await >= written, "nobody does any more");
    fixture.done().await;
}

#[tokio::test]
async fn of_two_retries_at_once_one_is_made() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = half_done(&fixture, project).await;
    let all = (0..8).map(|_| retry(&fixture.db, project, id, JobId::new(), None));
    let made =
        futures::future::join_all(all).await.into_iter().filter(|one| matches!(one, Ok(Retried::Anew(..))));
    assert_eq!(made.count(), 1);
    fixture.done().await;
}

#[tokio::test]
async fn what_no_worker_can_do_fails_in_the_end_and_the_rest_waits() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let leadership = lead(&fixture).await;
    let (plain, odd, required) =
        (fixture.job(project, 50).await, fixture.job(project, 50).await, fixture.job(project, 50).await);
    fixture
        .execute(&format!("update tasks set class = 'libsvtav1' where job_id in ('{odd}', '{required}')"))
        .await;
    let hardware =
        "update jobs set spec = jsonb_set(spec, '{profile,hardware}', '\"require_gpu\"') where id =";
    fixture.execute(&format!("{hardware} '{required}'")).await;
    let hour = Duration::from_secs(3600);
    let fail = async || unserved::fail(&fixture.db, &leadership, hour, 10).await.unwrap();
    assert!(fail().await.is_empty(), "nothing has waited long");
    fixture.execute("update tasks set ready_at = ready_at - interval '2 hours'").await;
    assert_eq!(fail().await, [(odd, "libsvtav1".to_owned())]);
    let job = jobs::find(&fixture.db, odd).await.unwrap().unwrap();
    assert!(job.status == JobStatus::Failed && job.error.unwrap().message.contains("libsvtav1"));
    for waits in [plain, required] {
        let tasks = tasks::of_job(&fixture.db, waits).await.unwrap();
        assert_eq!(tasks[0].status, TaskStatus::Ready);
    }
    fixture.done().await;
}

#[tokio::test]
async fn a_project_goes_only_when_it_has_nothing() {
    let fixture = Fixture::new().await;
    let names = ["one", "two"];
    let mut ids = HashSet::new();
    for name in names {
        let made = projects::create(&fixture.db, name, Change { weight: Some(2.5), ..Change::default() })
            .await
            .unwrap();
        let made = made.unwrap();
        assert_eq!((made.weight, made.max_running, made.running), (2.5, None, 0));
        ids.insert(made.id);
    }
    assert!(projects::create(&fixture.db, "one", Change::default()).await.unwrap().is_none());
    assert_eq!(projects::list(&fixture.db, None, 10).await.unwrap().len(), 2);
    let one = fixture.project("one").await;
    let renamed = projects::update(&fixture.db, one, Change { name: Some("two"), ..Change::default() }).await;
    assert!(renamed.unwrap_err().is_duplicate());
    fixture.job(one, 50).await;
    assert_eq!(projects::delete(&fixture.db, one).await.unwrap(), Deleted::InUse("jobs"));
    let two = fixture.project("two").await;
    fixture
        .execute(&format!(
            "insert into webhooks (id, project_id, kind, url, description, events, secret)
             values (gen_random_uuid(), '{two}', 'endpoint', 'https://example.com/', '', '{{}}', 'x')"
        ))
        .await;
    assert_eq!(projects::delete(&fixture.db, two).await.unwrap(), Deleted::Now);
    assert_eq!(projects::delete(&fixture.db, two).await.unwrap(), Deleted::NotFound);
    fixture.done().await;
}
