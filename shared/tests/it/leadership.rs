//! One scheduler leads, and its epoch guards what it writes.

use std::time::Duration;

use reelmill_shared::db::{DbError, leader, migrate, workers};
use reelmill_shared::ids::SchedulerId;

use crate::fixture::Fixture;

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
async fn many_migrators_do_it_once() {
    let fixture = Fixture::new().await;
    let runs = futures::future::join_all((0..8).map(|_| migrate::migrate(&fixture.db))).await;
    assert!(runs.into_iter().all(|run| run.is_ok()));
    assert!(migrate::is_current(&fixture.db).await.unwrap());
    fixture.done().await;
}
