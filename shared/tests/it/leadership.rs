//! One scheduler leads, and its epoch guards what it writes.

use std::time::Duration;

use reelmill_shared::db::{DbError, fan_out, finish, garbage, leader, snapshots, unserved, workers};
use reelmill_shared::ids::SchedulerId;

use crate::fixture::{Fixture, claimant, horizon};

const LEASE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_leader_that_was_stopped_writes_nothing_when_it_wakes() {
    let fixture = Fixture::new().await;
    let (first, second) = (SchedulerId::new(), SchedulerId::new());
    let old = leader::acquire(&fixture.db, first, LEASE).await.unwrap().unwrap();
    assert!(leader::acquire(&fixture.db, second, LEASE).await.unwrap().is_none());
    assert_eq!(
        leader::acquire(&fixture.db, first, LEASE).await.unwrap(),
        Some(old),
        "renewed, not taken anew"
    );
    fixture.execute("update leaders set expires_at = now() - interval '1 second'").await;
    let new = leader::acquire(&fixture.db, second, LEASE).await.unwrap().unwrap();
    assert_eq!(new.epoch, old.epoch + 1);
    let error = workers::mark_gone(&fixture.db, &old, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, DbError::NotLeader));
    assert!(workers::mark_gone(&fixture.db, &new, Duration::ZERO).await.is_ok());
    leader::resign(&fixture.db, new).await.unwrap();
    assert!(
        leader::acquire(&fixture.db, first, LEASE).await.unwrap().is_some(),
        "no wait after a resignation"
    );
    fixture.done().await;
}

#[tokio::test]
async fn an_old_snapshot_is_seen() {
    let fixture = Fixture::new().await;
    let reader = fixture.database.connect().await;
    reader
        .batch_execute("begin isolation level repeatable read; select count(*) from projects")
        .await
        .unwrap();
    let first = snapshots::oldest_seconds(&fixture.db).await.unwrap();
    assert!(first > 0.0);
    assert!(snapshots::oldest_seconds(&fixture.db).await.unwrap() > first, "it grows older");
    reader.batch_execute("commit").await.unwrap();
    assert_eq!(snapshots::oldest_seconds(&fixture.db).await.unwrap(), 0.0);
    fixture.done().await;
}

/// Two that both believe to lead, at every duty at once: the newer does each once, the older none.
#[tokio::test]
async fn what_two_leaders_do_at_once_is_done_once() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let old = leader::acquire(&fixture.db, SchedulerId::new(), LEASE).await.unwrap().unwrap();
    fixture.execute("update leaders set expires_at = now() - interval '1 second'").await;
    let new = leader::acquire(&fixture.db, SchedulerId::new(), LEASE).await.unwrap().unwrap();
    for _ in 0..8 {
        fixture.job(project, 50).await;
    }
    let worker = claimant();
    while fixture.claim(&worker).await.is_some() {}
    // Leases that ran out, objects to sweep, a task that nobody can do, events for a receiver.
    let waiting = fixture.job(project, 50).await;
    fixture
        .execute(&format!(
            "update task_leases set expires_at = now() - interval '1 second';
             insert into garbage (prefix, due_at) values ('p/none/', now());
             update tasks set class = 'hevc_nvenc', ready_at = now() - interval '2 hours' where job_id = '{waiting}';
             insert into webhooks (id, project_id, kind, url, description, events, secret, created_at)
             values (gen_random_uuid(), '{project}', 'endpoint', 'https://example.com/', '', '{{job.queued}}', '',
                     now() - interval '1 hour')"
        ))
        .await;
    let db = &fixture.db;
    horizon(db).await;
    let swept = garbage::due(db, 1).await.unwrap().remove(0);
    let everything = async |leadership| {
        (
            finish::expire_leases(db, leadership, 100).await.map(|followed| followed.len()),
            unserved::fail(db, leadership, Duration::from_secs(3600), 100).await.map(|failed| failed.len()),
            fan_out::advance(db, leadership).await.map(|events| events > 0),
            garbage::swept(db, leadership, &swept).await,
        )
    };
    let (older, newer) = tokio::join!(everything(&old), everything(&new));
    let is_refused = |error: DbError| matches!(error, DbError::NotLeader);
    // Where the newer one was quicker there was nothing left to be refused.
    assert!(older.0.map_or_else(is_refused, |done| done == 0));
    assert!(older.1.map_or_else(is_refused, |done| done == 0));
    assert!(older.2.map_or_else(is_refused, |done| !done));
    assert!(older.3.is_err_and(is_refused));
    assert_eq!((newer.0.unwrap(), newer.1.unwrap(), newer.2.unwrap()), (8, 1, true));
    newer.3.unwrap();
    assert_eq!(fixture.count("select count(*) from attempts where outcome = 'lost'").await, 8);
    assert_eq!(fixture.count("select count(*) from tasks where attempts = 1 and status = 'ready'").await, 8);
    assert_eq!(
        fixture.count("select count(*) from garbage where prefix = 'p/none/' and sweeps = 1").await,
        1
    );
    let doubled =
        "select count(*) from (select 1 from deliveries group by webhook_id, event_id having count(*) > 1) d";
    assert_eq!(fixture.count(doubled).await, 0);
    assert_eq!(fixture.count("select count(*) from deliveries").await, 9);
    fixture.done().await;
}
