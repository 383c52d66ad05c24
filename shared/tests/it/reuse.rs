//! A set is made once and played by every recording of the project that asks for the same; it goes with the last of them.

use std::time::Duration;

use futures::future::join_all;
use reelmill_shared::db::finish::{self, AttemptNote, Publication};
use reelmill_shared::db::jobs::{self, Basis, NewJob};
use reelmill_shared::db::reuse::{self, Borrowed};
use reelmill_shared::db::sets::{self, Rendition};
use reelmill_shared::db::tasks::Claimed;
use reelmill_shared::db::{DbError, downloads, history, recordings};
use reelmill_shared::ids::{ProjectId, RecordingId, SetId};
use reelmill_shared::job::plan::{self, Adopted, NewSet, Plan, PlanSummary};
use reelmill_shared::job::spec::{JobSpec, Output};
use reelmill_shared::job::state::JobStatus;
use reelmill_testkit::wait::until;
use uuid::Uuid;

use crate::fixture::{Fixture, claimant, new_job};

const RECIPE: [u8; 32] = [7; 32];

/// A probe task that was claimed, of a job of a new recording.
async fn probing(fixture: &Fixture, project: ProjectId) -> (Claimed, RecordingId) {
    fixture.job(project, 50).await;
    let claimed = fixture.claim(&claimant()).await.unwrap();
    let recording = claimed.recording_id.unwrap();
    (claimed, recording)
}

/// A job that has finished a set with the recipe for its recording.
async fn finished(fixture: &Fixture, project: ProjectId) -> (Claimed, RecordingId, SetId) {
    let (claimed, recording) = probing(fixture, project).await;
    finish::succeed(&fixture.db, &claimed, &[], &AttemptNote::default()).await.unwrap();
    let set = SetId::new();
    fixture
        .execute(&format!(
            "insert into sets (id, project_id, job_id, duration_seconds, recipe)
             values ('{set}', '{project}', '{}', 12.5, '\\x{}');
             insert into recording_sets values ('{recording}', '{set}', 1, true, 'p/x/')",
            claimed.job_id,
            "07".repeat(32)
        ))
        .await;
    (claimed, recording, set)
}

async fn borrow(fixture: &Fixture, claimed: &Claimed, recording: RecordingId) -> Option<Borrowed> {
    reuse::borrow(&fixture.db, claimed, recording, &RECIPE).await.unwrap()
}

/// Prefixes of the job's attempts that are to be swept.
async fn swept(fixture: &Fixture, claimed: &Claimed) -> i64 {
    fixture
        .count(&format!(
            "select count(*) from garbage g join attempts a on a.prefix = g.prefix where a.task_id = '{}'",
            claimed.hold.task_id
        ))
        .await
}

async fn delete(fixture: &Fixture, project: ProjectId, recording: RecordingId) {
    assert!(recordings::delete(&fixture.db, project, recording).await.unwrap());
    recordings::discard(&fixture.db, recording).await.unwrap();
}

#[tokio::test]
async fn a_borrowed_set_makes_the_recording_ready_at_once() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (made, from, set) = finished(&fixture, project).await;
    let (claimed, recording) = probing(&fixture, project).await;
    let borrowed = borrow(&fixture, &claimed, recording).await.unwrap();
    assert_eq!(borrowed, Borrowed { set, job: made.job_id, from });
    assert_eq!(borrow(&fixture, &claimed, recording).await, Some(Borrowed { from: recording, ..borrowed }));
    let publications = [Publication::Reused { recording, borrowed }];
    let followed =
        finish::succeed(&fixture.db, &claimed, &publications, &AttemptNote::default()).await.unwrap();
    assert_eq!(followed.job, Some(JobStatus::Succeeded));
    assert!(followed.ready.is_some());
    let ready = recordings::find(&fixture.db, recording).await.unwrap().unwrap();
    assert_eq!((ready.status.as_str(), ready.duration_seconds), ("ready", Some(12.5)));
    let plays = format!(
        "select count(*) from recording_sets where recording_id = '{recording}' and set_id = '{set}' and active
             and static_prefix = 'p/x/'"
    );
    assert_eq!(fixture.count(&plays).await, 1);
    let job = reelmill_shared::db::jobs::find(&fixture.db, claimed.job_id).await.unwrap().unwrap();
    assert_eq!(job.result.unwrap()["reused_from"]["recording_id"], from.to_string());
    fixture.done().await;
}

#[tokio::test]
async fn nothing_is_borrowed_from_other_projects_recipes_or_the_dead() {
    let fixture = Fixture::new().await;
    let (project, other) = (fixture.project("p").await, fixture.project("q").await);
    let (made, from, set) = finished(&fixture, project).await;
    let (stranger, theirs) = probing(&fixture, other).await;
    assert_eq!(borrow(&fixture, &stranger, theirs).await, None);
    let (claimed, recording) = probing(&fixture, project).await;
    assert_eq!(reuse::borrow(&fixture.db, &claimed, recording, &[8; 32]).await.unwrap(), None);
    let grows =
        |prefix: &str| format!("update recording_sets set static_prefix = {prefix} where set_id = '{set}'");
    fixture.execute(&grows("null")).await;
    assert_eq!(borrow(&fixture, &claimed, recording).await, None, "it still grows");
    fixture.execute(&grows("'p/x/'")).await;
    for status in ["failed", "cancelled"] {
        fixture.execute(&format!("update jobs set status = '{status}' where id = '{}'", made.job_id)).await;
        assert_eq!(borrow(&fixture, &claimed, recording).await, None, "its job has {status}");
    }
    fixture.execute(&format!("update jobs set status = 'succeeded' where id = '{}'", made.job_id)).await;
    let mut pictured = claimed.clone();
    pictured.job_spec.outputs.push(Output::Storyboard);
    assert_eq!(borrow(&fixture, &pictured, recording).await, None, "nobody makes pictures of another's set");
    let mut zombie = claimed.clone();
    zombie.hold.epoch -= 1;
    let late = reuse::borrow(&fixture.db, &zombie, recording, &RECIPE).await;
    assert!(matches!(late, Err(DbError::LostRace)), "{late:?}");
    delete(&fixture, project, from).await;
    assert_eq!(borrow(&fixture, &claimed, recording).await, None, "who made it is gone");
    fixture.done().await;
}

#[tokio::test]
async fn a_set_goes_with_the_last_recording_that_plays_it() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (made, from, set) = finished(&fixture, project).await;
    let mut borrowers = vec![];
    for _ in 0..2 {
        let (claimed, recording) = probing(&fixture, project).await;
        assert_eq!(borrow(&fixture, &claimed, recording).await.map(|borrowed| borrowed.set), Some(set));
        borrowers.push(recording);
    }
    delete(&fixture, project, from).await;
    assert_eq!(swept(&fixture, &made).await, 0, "two others play it");
    delete(&fixture, project, borrowers[0]).await;
    assert_eq!(swept(&fixture, &made).await, 0, "one other plays it");
    let (claimed, recording) = probing(&fixture, project).await;
    let again = borrow(&fixture, &claimed, recording).await.unwrap();
    assert_eq!((again.set, again.from), (set, borrowers[1]), "a borrower may lend");
    delete(&fixture, project, recording).await;
    assert_eq!(swept(&fixture, &made).await, 0);
    delete(&fixture, project, borrowers[1]).await;
    assert_eq!(swept(&fixture, &made).await, 1);
    fixture.done().await;
}

#[tokio::test]
async fn a_deletion_that_is_under_way_is_waited_for() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (_, from, _) = finished(&fixture, project).await;
    let (claimed, recording) = probing(&fixture, project).await;
    let deleting = fixture.database.connect().await;
    deleting
        .batch_execute(&format!("begin; update recordings set deleted_at = now() where id = '{from}'"))
        .await
        .unwrap();
    let borrowing = tokio::spawn({
        let db = fixture.db.clone();
        async move { reuse::borrow(&db, &claimed, recording, &RECIPE).await }
    });
    waits_for_a_lock(&fixture, || borrowing.is_finished()).await;
    deleting.batch_execute("commit").await.unwrap();
    assert_eq!(borrowing.await.unwrap().unwrap(), None);
    fixture.done().await;
}

#[tokio::test]
async fn a_deletion_waits_for_a_borrower_and_then_leaves_him_the_set() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (made, from, set) = finished(&fixture, project).await;
    let (_, recording) = probing(&fixture, project).await;
    // What `borrow` does, held open.
    let borrowing = fixture.database.connect().await;
    borrowing
        .batch_execute(&format!(
            "begin; select 1 from recordings where id in ('{from}', '{recording}') order by id for no key update;
             insert into recording_sets values ('{recording}', '{set}', 1, false, 'p/x/')"
        ))
        .await
        .unwrap();
    let deleting = tokio::spawn({
        let db = fixture.db.clone();
        async move {
            recordings::delete(&db, project, from).await?;
            recordings::discard(&db, from).await
        }
    });
    waits_for_a_lock(&fixture, || deleting.is_finished()).await;
    borrowing.batch_execute("commit").await.unwrap();
    deleting.await.unwrap().unwrap();
    assert_eq!(swept(&fixture, &made).await, 0);
    fixture.done().await;
}

/// What a job adds to is what it was thought out on, or it is not written.
#[tokio::test]
async fn jobs_that_add_to_a_recording_come_one_after_the_other() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (made, recording, set) = finished(&fixture, project).await;
    let open = || fixture.count("select count(*) from jobs where status in ('queued', 'running')");
    // What probes and thumbnails wait for is none of their business.
    let look = JobSpec { profile: None, ..made.job_spec.clone() };
    let look = new_job(recording, look.clone(), plan::opening(&look, true));
    jobs::submit(&fixture.db, project, &look).await.unwrap();

    let adding = |set: Option<SetId>| NewJob {
        adds_to: Some(Basis { set }),
        ..new_job(recording, made.job_spec.clone(), plan::opening(&made.job_spec, true))
    };
    for stale in [None, Some(SetId::new())] {
        let refused = jobs::submit(&fixture.db, project, &adding(stale)).await;
        assert!(matches!(refused, Err(DbError::Changed)), "{refused:?}");
    }
    assert_eq!(open().await, 1);
    let wishes: Vec<NewJob> = (0..8).map(|_| adding(Some(set))).collect();
    let answers = join_all(wishes.iter().map(|new| jobs::submit(&fixture.db, project, new))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let [Ok(accepted)] = &accepted[..] else { panic!("one is accepted: {accepted:?}") };
    for refused in &refused {
        assert!(matches!(refused, Err(DbError::Busy(job)) if *job == accepted.id), "{refused:?}");
    }
    assert_eq!((refused.len(), open().await), (7, 2));

    jobs::cancel(&fixture.db, project, accepted.id).await.unwrap();
    jobs::submit(&fixture.db, project, &adding(Some(set))).await.unwrap();
    recordings::delete(&fixture.db, project, recording).await.unwrap();
    let late = jobs::submit(&fixture.db, project, &adding(Some(set))).await;
    assert!(matches!(late, Err(DbError::Gone)), "{late:?}");
    fixture.done().await;
}

async fn waits_for_a_lock(fixture: &Fixture, is_finished: impl Fn() -> bool) {
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    until("the other to wait for the lock", Duration::from_secs(30), || async {
        assert!(!is_finished(), "it must wait for the lock");
        (fixture.count(waiting).await > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn borrowers_and_deletions_at_once_lose_nothing() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    for _ in 0..5 {
        let (made, from, _) = finished(&fixture, project).await;
        let (claimed, recording) = probing(&fixture, project).await;
        let (borrowed, deleted) = tokio::join!(
            reuse::borrow(&fixture.db, &claimed, recording, &RECIPE),
            recordings::delete(&fixture.db, project, from)
        );
        assert!(deleted.unwrap());
        recordings::discard(&fixture.db, from).await.unwrap();
        let kept = borrowed.unwrap().is_some();
        assert_eq!(swept(&fixture, &made).await, i64::from(!kept), "there if and only if it is played");
        delete(&fixture, project, recording).await;
        assert_eq!(swept(&fixture, &made).await.min(1), 1);
    }
    fixture.done().await;
}

#[tokio::test]
async fn the_source_of_a_mere_look_goes_with_the_job() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let mut spec = crate::fixture::spec();
    spec.dry_run = true;
    let tasks = reelmill_shared::job::plan::opening(&spec, false);
    let job = fixture.job_of(project, 50, spec, tasks).await;
    fixture
        .execute(&format!("update jobs set recording_id = null where id = '{job}'; delete from recordings"))
        .await;
    for _ in 0..2 {
        let claimed = fixture.claim(&claimant()).await.unwrap();
        assert_eq!(claimed.recording_id, None);
        finish::succeed(&fixture.db, &claimed, &[], &AttemptNote::default()).await.unwrap();
    }
    assert_eq!(fixture.count("select count(*) from sources where deleted_at is null").await, 0);
    assert_eq!(fixture.count("select count(*) from garbage").await, 1, "what was fetched");
    fixture.done().await;
}

#[tokio::test]
async fn estimates_learn_from_what_attempts_took() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (claimed, _) = probing(&fixture, project).await;
    let note = AttemptNote { cpu_seconds: Some(1.5), ..AttemptNote::default() };
    finish::succeed(&fixture.db, &claimed, &[], &note).await.unwrap();
    let kept = format!(
        "select count(*) from attempts where task_id = '{}' and cpu_seconds = 1.5",
        claimed.hold.task_id
    );
    assert_eq!(fixture.count(&kept).await, 1);
    // As if the attempt had been at this encode.
    let orders = serde_json::json!({
        "kind": "audio", "source": Uuid::now_v7(), "set": Uuid::now_v7(), "stream": 1, "bitrate": 128_000,
        "grid": { "sample_rate": 1024, "frames": 30, "starts": [0] }, "language": null, "deadline_seconds": 1,
    });
    let task = claimed.hold.task_id;
    fixture.execute(&format!("update tasks set kind = 'audio', spec = '{orders}' where id = '{task}'")).await;
    let history = history::newest(&fixture.db, project).await.unwrap();
    let figure = history.cpu(&serde_json::from_value(orders).unwrap()).unwrap();
    assert_eq!((figure.value, figure.samples), (1.5, Some(1)));
    fixture.done().await;
}

#[tokio::test]
async fn a_set_is_made_around_parts_of_another() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (_, recording, from) = finished(&fixture, project).await;
    let rendition = |rung: &str| {
        format!(
            "insert into renditions (set_id, rung, position, kind, codec, timescale, init_key, init_bytes, peak_bandwidth,
                 average_bandwidth, duration_ticks, epoch, init_sha256)
             values ('{from}', '{rung}', 0, 'video', 'avc1', 1000, 'k/{rung}', 1, 2, 3, 4, 1, '\\x01');
             insert into segments (set_id, rung, number, epoch, key, bytes, duration_ticks, keyframes)
             values ('{from}', '{rung}', 0, 1, 'k/{rung}/0', 5, 6, '[[0, 1, 2]]');
             insert into downloads (recording_id, set_id, rung, key, bytes)
             values ('{recording}', '{from}', '{rung}', 'k/{rung}.mp4', 7)"
        )
    };
    for rung in ["a", "b"] {
        fixture.execute(&rendition(rung)).await;
    }
    let job = fixture.job(project, 50).await;
    let claimed = fixture.claim(&claimant()).await.unwrap();
    assert_eq!(claimed.job_id, job);
    let set = SetId::new();
    let plan = Plan {
        set: NewSet { id: set, target_duration: 6, needs_video: true, needs_audio: false, recipe: None },
        duration_seconds: 12.5,
        tasks: vec![],
        adopted: Some(Adopted { set: from, places: vec![("b".to_owned(), 3)] }),
        summary: PlanSummary { renditions: vec![], subtitles: vec![], warnings: vec![] },
    };
    let planned = [Publication::Planned { recording, plan: Box::new(plan) }];
    finish::succeed(&fixture.db, &claimed, &planned, &AttemptNote::default()).await.unwrap();
    let (old, new) =
        tokio::try_join!(sets::renditions(&fixture.db, from), sets::renditions(&fixture.db, set)).unwrap();
    assert_eq!(new, [Rendition { position: 3, ..old[1].clone() }], "as it was, in its new place");
    let segments = |set| sets::segments(&fixture.db, set, "b");
    assert_eq!(segments(set).await.unwrap(), segments(from).await.unwrap());
    assert_eq!(segments(set).await.unwrap()[0].keyframes.len(), 1);
    let files = downloads::of_set(&fixture.db, recording, set).await.unwrap();
    assert_eq!(files.iter().map(|file| file.key.as_str()).collect::<Vec<_>>(), ["k/b.mp4"]);
    let references = sets::of_recording(&fixture.db, recording).await.unwrap();
    assert_eq!(references.len(), 2, "so that the objects stay");
    assert!(references[1].active && !references[0].is_finished(), "{references:?}");
    fixture.done().await;
}
