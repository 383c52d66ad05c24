//! What is deleted, and what must not be: sources are shared by recordings.

use std::time::Duration;

use reelmill_shared::db::jobs::{self, Cancelled};
use reelmill_shared::db::{recordings, uploads};
use reelmill_shared::ids::{JobId, ProjectId, RecordingId};
use reelmill_testkit::wait::until;
use uuid::Uuid;

use crate::fixture::{Fixture, claimant};

const LIVING_SOURCES: &str = "select count(*) from sources where deleted_at is null";

async fn recording_of(fixture: &Fixture, job: JobId) -> RecordingId {
    jobs::find(&fixture.db, job).await.unwrap().unwrap().recording_id.unwrap()
}

/// A second recording of the same source.
fn twin(of: RecordingId, id: Uuid) -> String {
    format!(
        "insert into recordings (id, project_id, title, source_id)
         select '{id}', project_id, 'twin', source_id from recordings where id = '{of}'"
    )
}

#[tokio::test]
async fn a_deletion_waits_for_who_holds_the_source_and_then_sees_him() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let first = recording_of(&fixture, fixture.job(project, 50).await).await;

    let submitting = fixture.database.connect().await;
    submitting.batch_execute("begin; select 1 from sources for share").await.unwrap();
    submitting.batch_execute(&twin(first, Uuid::now_v7())).await.unwrap();
    let deleting = tokio::spawn({
        let db = fixture.db.clone();
        async move { recordings::delete(&db, project, first).await }
    });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    until("the deletion to wait for the lock", Duration::from_secs(30), || async {
        assert!(!deleting.is_finished(), "it must wait for the lock");
        (fixture.count(waiting).await > 0).then_some(())
    })
    .await;
    submitting.batch_execute("commit").await.unwrap();
    assert!(deleting.await.unwrap().unwrap());
    assert_eq!(fixture.count(LIVING_SOURCES).await, 1, "the twin is made from it");
    fixture.done().await;
}

#[tokio::test]
async fn the_last_of_many_deletions_takes_the_source_along() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let first = recording_of(&fixture, fixture.job(project, 50).await).await;
    let mut all = vec![first];
    for _ in 0..7 {
        let id = Uuid::now_v7();
        fixture.execute(&twin(first, id)).await;
        all.push(RecordingId(id));
    }
    let deleting = all.iter().map(|id| recordings::delete(&fixture.db, project, *id));
    for deleted in futures::future::join_all(deleting).await {
        assert!(deleted.unwrap());
    }
    assert_eq!(fixture.count(LIVING_SOURCES).await, 0);
    assert!(!recordings::delete(&fixture.db, project, first).await.unwrap());
    fixture.done().await;
}

#[tokio::test]
async fn uploads_of_which_nothing_was_made_go_after_a_while() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let finished = async |project: ProjectId| {
        let upload = uploads::insert(&fixture.db, project, Some(0), "").await.unwrap();
        uploads::complete(&fixture.db, upload).await.unwrap().source_id.unwrap()
    };
    let (unused, used) = (finished(project).await, finished(project).await);
    fixture
        .execute(&format!(
            "insert into recordings (id, project_id, title, source_id) values ('{}', '{project}', 'x', '{used}')",
            Uuid::now_v7()
        ))
        .await;
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(uploads::delete_unused(&fixture.db, day, 10).await.unwrap(), 0, "too young");
    fixture.execute("update uploads set touched_at = now() - interval '2 days'").await;
    assert_eq!(uploads::delete_unused(&fixture.db, day, 10).await.unwrap(), 1);
    assert_eq!(uploads::delete_unused(&fixture.db, day, 10).await.unwrap(), 0, "only once");
    let living = format!("select count(*) from sources where id = '{used}' and deleted_at is null");
    assert_eq!(fixture.count(&living).await, 1);
    let gone = format!("select count(*) from sources where id = '{unused}' and deleted_at is not null");
    assert_eq!(fixture.count(&gone).await, 1);
    assert_eq!(fixture.count("select count(*) from garbage where prefix like 'p/%/uploads/%/'").await, 1);
    fixture.done().await;
}

#[tokio::test]
async fn a_mark_stays_as_long_as_what_it_is_on() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = fixture.job(project, 50).await;
    let recording = recording_of(&fixture, id).await;
    let upload = uploads::insert(&fixture.db, project, Some(0), "").await.unwrap();
    let upload = uploads::complete(&fixture.db, upload).await.unwrap();
    let mark = upload.source_id.unwrap();
    fixture
        .execute(&format!(
            r#"update jobs set status = 'succeeded', spec = jsonb_set(spec, '{{edit}}', '{{"watermark": {{"source": "{mark}"}}}}');
               update uploads set touched_at = now() - interval '2 days'"#
        ))
        .await;
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(uploads::delete_unused(&fixture.db, day, 10).await.unwrap(), 0);
    assert!(!uploads::delete(&fixture.db, project, upload.id).await.unwrap());
    assert!(recordings::delete(&fixture.db, project, recording).await.unwrap());
    assert_eq!(uploads::delete_unused(&fixture.db, day, 10).await.unwrap(), 1);
    fixture.done().await;
}

#[tokio::test]
async fn a_recording_that_another_job_makes_has_not_failed() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = fixture.job(project, 50).await;
    let recording = recording_of(&fixture, id).await;
    fixture.claim(&claimant()).await.unwrap();
    let other = JobId::new();
    fixture
        .execute(&format!(
            "insert into jobs (id, project_id, recording_id, kind, spec, pending)
             select '{other}', project_id, recording_id, kind, spec, pending from jobs where id = '{id}'"
        ))
        .await;
    let status = format!("select count(*) from recordings where id = '{recording}' and status = 'failed'");
    assert_eq!(jobs::cancel(&fixture.db, project, other).await.unwrap(), Cancelled::Now);
    assert_eq!(fixture.count(&status).await, 0);
    assert_eq!(jobs::cancel(&fixture.db, project, id).await.unwrap(), Cancelled::Now);
    assert_eq!(fixture.count(&status).await, 1);
    fixture.done().await;
}
