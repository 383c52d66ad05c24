//! What goes by its age, and what stays whatever its age.

use chrono::{TimeDelta, Utc};
use reelmill_shared::db::jobs::{self, Cancelled};
use reelmill_shared::db::{recordings, retention};
use reelmill_shared::ids::{JobId, ProjectId, RecordingId};
use reelmill_shared::job::plan;
use reelmill_shared::job::retention::{Age, Kept};
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{Fixture, claimant, spec};

const WEEK: Option<Age> = Some(Age::Days(7.0));

/// A job that was over `days` ago, its profile's ages and all; with what the tests need of a recording and a published attempt.
async fn over(
    fixture: &Fixture,
    project: ProjectId,
    days: u32,
    ages: &serde_json::Value,
) -> (JobId, RecordingId) {
    let mut spec = spec();
    spec.profile.as_mut().unwrap().retention = serde_json::from_value(ages.clone()).unwrap();
    let tasks = plan::opening(&spec, false);
    let job = fixture.job_of(project, 50, spec, tasks).await;
    let recording = jobs::find(&fixture.db, job).await.unwrap().unwrap().recording_id.unwrap();
    fixture
        .execute(&format!(
            "update tasks set status = 'succeeded', finished_at = now() where job_id = '{job}';
             insert into attempts (task_id, epoch, attempt, worker_id, outcome, command, log_tail, prefix)
             select id, 1, 1, gen_random_uuid(), 'succeeded', array['ffmpeg'], 'log', 'p/' || kind || '/' || id::text || '/'
             from tasks where job_id = '{job}';
             update jobs set status = 'succeeded', pending = 0, finished_at = now() - interval '{days} days' where id = '{job}';
             update recordings set status = 'ready', ready_at = now() where id = '{recording}'"
        ))
        .await;
    (job, recording)
}

async fn due(fixture: &Fixture, project: ProjectId, kept: Kept, age: Option<Age>) -> Vec<Uuid> {
    while retention::settle(&fixture.db, 2).await.unwrap() > 0 {}
    let list = retention::due(&fixture.db, project, kept, age, 100).await.unwrap();
    assert_eq!(list.count, list.items.len() as u64);
    assert!(
        list.items.is_sorted_by_key(|due| due.since) && list.items.iter().all(|due| due.since < Utc::now())
    );
    list.items.iter().map(|due| due.id).collect()
}

async fn delete(fixture: &Fixture, project: ProjectId, kept: Kept, age: Option<Age>) -> u64 {
    retention::delete_due(&fixture.db, project, kept, age, 100).await.unwrap()
}

#[tokio::test]
async fn recordings_go_by_the_age_of_their_profile_or_else_of_their_project() {
    let fixture = Fixture::new().await;
    let (project, other) = (fixture.project("p").await, fixture.project("other").await);
    let (_, old) = over(&fixture, project, 8, &json!({})).await;
    let (_, young) = over(&fixture, project, 6, &json!({})).await;
    let (_, brief) = over(&fixture, project, 2, &json!({ "outputs_days": 1 })).await;
    let (_, lasting) = over(&fixture, project, 800, &json!({ "outputs_days": "forever" })).await;
    over(&fixture, other, 800, &json!({})).await;

    assert_eq!(due(&fixture, project, Kept::Outputs, WEEK).await, [old.0, brief.0]);
    assert_eq!(due(&fixture, project, Kept::Outputs, Some(Age::Forever)).await, [brief.0]);
    assert_eq!(
        fixture.count("select count(*) from recordings where deleted_at is not null").await,
        0,
        "a dry run"
    );
    assert_eq!(delete(&fixture, project, Kept::Outputs, WEEK).await, 2);
    for (recording, there) in [(old, false), (young, true), (brief, false), (lasting, true)] {
        let found = recordings::get(&fixture.db, project, recording).await.unwrap();
        assert_eq!(found.is_some(), there, "{recording}");
    }
    let told =
        "select count(*) from events where type = 'recording.deleted' and data ->> 'reason' = 'expired'";
    assert_eq!(fixture.count(told).await, 2);
    assert_eq!(delete(&fixture, project, Kept::Outputs, WEEK).await, 0);
    fixture.done().await;
}

#[tokio::test]
async fn what_is_watched_or_worked_on_does_not_go() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (_, watched) = over(&fixture, project, 8, &json!({})).await;
    let (done, worked_on) = over(&fixture, project, 8, &json!({})).await;
    let soon = Utc::now() + TimeDelta::hours(1);
    assert!(recordings::keep(&fixture.db, watched, soon).await.unwrap());
    // Those whose tokens end no later find it done.
    assert!(recordings::keep(&fixture.db, watched, soon - TimeDelta::minutes(1)).await.unwrap());
    let job = JobId::new();
    fixture
        .execute(&format!(
            "insert into jobs (id, project_id, recording_id, kind, spec, pending)
             select '{job}', project_id, recording_id, kind, spec, 1 from jobs where id = '{done}'"
        ))
        .await;
    assert!(due(&fixture, project, Kept::Outputs, WEEK).await.is_empty());
    assert_eq!(due(&fixture, project, Kept::Sources, WEEK).await.len(), 1, "the one nobody works on");

    fixture.execute("update recordings set kept_until = now() - interval '1 second'").await;
    assert_eq!(jobs::cancel(&fixture.db, project, job).await.unwrap(), Cancelled::Now);
    assert_eq!(
        due(&fixture, project, Kept::Outputs, WEEK).await,
        [watched.0],
        "the other was just worked on"
    );
    assert_eq!(delete(&fixture, project, Kept::Outputs, WEEK).await, 1);
    assert!(!recordings::keep(&fixture.db, watched, soon).await.unwrap(), "no token for what is gone");
    assert!(recordings::get(&fixture.db, project, worked_on).await.unwrap().is_some());
    fixture.done().await;
}

#[tokio::test]
async fn a_token_or_a_job_that_comes_while_it_goes_keeps_it() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (_, recording) = over(&fixture, project, 8, &json!({})).await;
    assert_eq!(due(&fixture, project, Kept::Outputs, WEEK).await, [recording.0]);
    let watching = fixture.database.connect().await;
    watching
        .batch_execute("begin; update recordings set kept_until = now() + interval '1 hour'")
        .await
        .unwrap();
    let deleting = tokio::spawn({
        let db = fixture.db.clone();
        async move { retention::delete_due(&db, project, Kept::Outputs, WEEK, 100).await }
    });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    reelmill_testkit::wait::until("the deletion to wait", std::time::Duration::from_secs(30), || async {
        assert!(!deleting.is_finished(), "it must wait for the lock");
        (fixture.count(waiting).await > 0).then_some(())
    })
    .await;
    watching.batch_execute("commit").await.unwrap();
    assert_eq!(deleting.await.unwrap().unwrap(), 0);
    assert!(recordings::get(&fixture.db, project, recording).await.unwrap().is_some());
    fixture.done().await;
}

#[tokio::test]
async fn sources_go_and_their_recordings_stay() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (_, recording) = over(&fixture, project, 8, &json!({})).await;
    over(&fixture, project, 8, &json!({ "sources_days": 30 })).await;
    assert_eq!(due(&fixture, project, Kept::Sources, WEEK).await.len(), 1);
    assert_eq!(delete(&fixture, project, Kept::Sources, WEEK).await, 1);
    assert!(recordings::get(&fixture.db, project, recording).await.unwrap().is_some());
    assert_eq!(fixture.count("select count(*) from sources where deleted_at is not null").await, 1);
    // Just what was fetched, and nothing that was made of it.
    assert_eq!(fixture.count("select count(*) from garbage where prefix like 'p/fetch/%'").await, 1);
    assert_eq!(fixture.count("select count(*) from garbage").await, 1);
    assert_eq!(delete(&fixture, project, Kept::Sources, WEEK).await, 0);
    fixture.done().await;
}

#[tokio::test]
async fn logs_go_before_jobs_and_jobs_of_what_can_be_watched_leave_their_rows() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (job, recording) = over(&fixture, project, 8, &json!({})).await;
    let (noisy, _) = over(&fixture, project, 8, &json!({ "logs_days": "forever" })).await;
    assert_eq!(due(&fixture, project, Kept::Logs, WEEK).await, [job.0]);
    assert_eq!(delete(&fixture, project, Kept::Logs, WEEK).await, 1);
    let left = "select count(*) from attempts a join tasks t on t.id = a.task_id
         where (a.command is not null or a.log_tail is not null) and t.job_id = ";
    assert_eq!(fixture.count(&format!("{left}'{job}'")).await, 0);
    assert!(fixture.count(&format!("{left}'{noisy}'")).await > 0);
    assert!(jobs::find(&fixture.db, job).await.unwrap().unwrap().logs_deleted_at.is_some());

    assert_eq!(delete(&fixture, project, Kept::Jobs, WEEK).await, 2);
    assert!(jobs::find(&fixture.db, job).await.unwrap().is_none());
    let filter = jobs::JobFilter::default();
    assert!(jobs::list(&fixture.db, project, filter, None, 10).await.unwrap().is_empty());
    let rows = format!("select count(*) from tasks where job_id = '{job}'");
    assert!(fixture.count(&rows).await > 0, "they say where the recording's objects lie");

    // Nothing is left of it in the end but what it wrote, which the sweeper has been told of.
    assert_eq!(retention::bury(&fixture.db, None, 10).await.unwrap(), (0, None));
    assert!(recordings::delete(&fixture.db, project, recording).await.unwrap());
    assert_eq!(
        retention::bury(&fixture.db, None, 10).await.unwrap(),
        (0, None),
        "not before it was discarded"
    );
    recordings::discard(&fixture.db, recording).await.unwrap();
    let prefixes = fixture.count("select count(*) from garbage").await;
    assert!(prefixes >= 2, "{prefixes}");
    assert_eq!(retention::bury(&fixture.db, None, 10).await.unwrap(), (1, None));
    for (table, column) in [("jobs", "id"), ("tasks", "job_id")] {
        assert_eq!(fixture.count(&format!("select count(*) from {table} where {column} = '{job}'")).await, 0);
    }
    assert_eq!(fixture.count(&format!("select count(*) from recordings where id = '{recording}'")).await, 0);
    assert_eq!(fixture.count("select count(*) from sources").await, 1, "the other's");
    assert_eq!(fixture.count("select count(*) from garbage").await, prefixes);
    fixture.done().await;
}

#[tokio::test]
async fn rows_stay_that_others_were_lent_by() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (job, lender) = over(&fixture, project, 8, &json!({})).await;
    let (_, borrower) = over(&fixture, project, 8, &json!({})).await;
    let set = Uuid::now_v7();
    fixture
        .execute(&format!(
            "insert into sets (id, project_id, job_id) values ('{set}', '{project}', '{job}');
             insert into recording_sets (recording_id, set_id, ordinal, active, static_prefix)
             values ('{lender}', '{set}', 1, true, 's'), ('{borrower}', '{set}', 1, true, 's')"
        ))
        .await;
    while retention::settle(&fixture.db, 10).await.unwrap() > 0 {}
    assert_eq!(delete(&fixture, project, Kept::Jobs, WEEK).await, 2);
    for recording in [lender, borrower] {
        assert!(recordings::delete(&fixture.db, project, recording).await.unwrap());
        recordings::discard(&fixture.db, recording).await.unwrap();
        let sets = fixture.count("select count(*) from sets").await;
        let (buried, _) = retention::bury(&fixture.db, None, 10).await.unwrap();
        // The lender's rows say what the borrower's sweep needs; both go when both are gone.
        assert_eq!((sets, buried), if recording == lender { (1, 0) } else { (1, 2) });
    }
    for table in ["jobs", "sets", "recording_sets", "recordings", "sources", "tasks", "attempts"] {
        assert_eq!(fixture.count(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
    fixture.done().await;
}

#[tokio::test]
async fn what_a_failed_job_had_published_goes_with_it() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (first, recording) = over(&fixture, project, 9, &json!({})).await;
    let again = fixture.job_of(project, 50, spec(), plan::opening(&spec(), true)).await;
    let (whole, half) = (Uuid::now_v7(), Uuid::now_v7());
    // Encoded once and well, then once more, which failed after a part of it was published.
    fixture
        .execute(&format!(
            "insert into sets (id, project_id, job_id) values ('{whole}', '{project}', '{first}'), ('{half}', '{project}', '{again}');
             insert into recording_sets (recording_id, set_id, ordinal, active, static_prefix)
             values ('{recording}', '{whole}', 1, true, 's'), ('{recording}', '{half}', 2, false, null);
             update jobs set recording_id = '{recording}', status = 'failed', finished_at = now() - interval '8 days' where id = '{again}';
             update tasks set kind = 'encode', status = 'succeeded' where job_id = '{again}';
             insert into attempts (task_id, epoch, attempt, worker_id, outcome, prefix)
             select id, 1, 1, gen_random_uuid(), 'succeeded', 'p/half/' from tasks where job_id = '{again}'"
        ))
        .await;
    while retention::settle(&fixture.db, 10).await.unwrap() > 0 {}
    assert_eq!(delete(&fixture, project, Kept::Jobs, WEEK).await, 2);
    assert_eq!(fixture.count("select count(*) from garbage where prefix = 'p/half/'").await, 1);
    assert_eq!(fixture.count("select count(*) from garbage").await, 1, "what can be watched stays");
    assert_eq!(fixture.count(&format!("select count(*) from sets where id = '{whole}'")).await, 1);
    assert_eq!(fixture.count("select count(*) from sets").await, 1);
    fixture.done().await;
}

#[tokio::test]
async fn jobs_that_only_looked_leave_nothing() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (job, _) = over(&fixture, project, 8, &json!({})).await;
    let (heir, _) = over(&fixture, project, 2, &json!({})).await;
    fixture
        .execute(&format!(
            "update jobs set recording_id = null where id in ('{job}', '{heir}');
             update jobs set retry_of = '{job}' where id = '{heir}'"
        ))
        .await;
    while retention::settle(&fixture.db, 10).await.unwrap() > 0 {}
    assert_eq!(delete(&fixture, project, Kept::Jobs, WEEK).await, 1);
    assert_eq!(fixture.count("select count(*) from jobs").await, 1);
    assert_eq!(jobs::find(&fixture.db, heir).await.unwrap().unwrap().retry_of, None);
    fixture.done().await;
}

#[tokio::test]
async fn events_go_when_all_have_been_told_and_deliveries_when_they_are_over() {
    let fixture = Fixture::new().await;
    let (project, other) = (fixture.project("p").await, fixture.project("other").await);
    let webhook = Uuid::now_v7();
    fixture
        .execute(&format!(
            "insert into events (project_id, type, data, created_at)
             select p, 'job.queued', '{{}}', now() - make_interval(days => d)
             from unnest(array['{project}', '{other}']::uuid[]) p, unnest(array[9, 8, 6]) d;
             insert into webhooks (id, project_id, kind, url, description, events, secret)
             values ('{webhook}', '{project}', 'endpoint', 'https://example.com', '', '{{}}', '');
             insert into deliveries (id, webhook_id, lane, event_id, type, subject, body, replay, state, finished_at)
             select gen_random_uuid(), '{webhook}', '{webhook}', gen_random_uuid(), 'job.queued', gen_random_uuid(), '{{}}', false,
                    s, case when s <> 'pending' then now() - make_interval(days => d) end
             from unnest(array['delivered', 'dead', 'pending']) s, unnest(array[8, 6]) d"
        ))
        .await;
    assert_eq!(delete(&fixture, project, Kept::Events, WEEK).await, 0, "no webhook has been told of them");
    fixture.execute("update fan_out set xid = pg_current_xact_id(), id = 0").await;
    assert_eq!(due(&fixture, project, Kept::Events, WEEK).await.len(), 2);
    assert_eq!(delete(&fixture, project, Kept::Events, WEEK).await, 2);
    assert_eq!(fixture.count("select count(*) from events").await, 4);
    assert_eq!(delete(&fixture, project, Kept::Events, Some(Age::Forever)).await, 0);

    assert_eq!(due(&fixture, project, Kept::Deliveries, WEEK).await.len(), 2);
    assert_eq!(delete(&fixture, project, Kept::Deliveries, WEEK).await, 2);
    assert_eq!(fixture.count("select count(*) from deliveries").await, 4);
    assert_eq!(fixture.count("select count(*) from deliveries where state = 'pending'").await, 2);
    fixture.done().await;
}

#[tokio::test]
async fn what_is_needed_stays_whatever_its_age() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let old = "update recordings set settled_at = now() - interval '8 days';
               update sources set settled_at = now() - interval '8 days'";
    let nothing = async || {
        for kept in [Kept::Outputs, Kept::Sources] {
            let list = retention::due(&fixture.db, project, kept, WEEK, 10).await.unwrap();
            assert_eq!((list.count, delete(&fixture, project, kept, WEEK).await), (0, 0), "{kept:?}");
        }
    };
    // What a worker is at.
    let job = fixture.job(project, 50).await;
    fixture.claim(&claimant()).await.unwrap();
    assert_eq!(retention::settle(&fixture.db, 10).await.unwrap(), 0);
    fixture.execute(old).await;
    nothing().await;
    // What has just been made, and counts from the next look on.
    fixture
        .execute(&format!("update jobs set status = 'succeeded', finished_at = now() where id = '{job}'"))
        .await;
    nothing().await;
    while retention::settle(&fixture.db, 10).await.unwrap() > 0 {}
    nothing().await;
    // What somebody looks into: a dry run has no recording.
    fixture
        .execute(&format!(
            "{old}; insert into jobs (id, project_id, kind, spec, pending)
                    select gen_random_uuid(), project_id, 'probe', spec, 1 from jobs where id = '{job}'"
        ))
        .await;
    assert!(due(&fixture, project, Kept::Sources, WEEK).await.is_empty());
    fixture.execute("update jobs set status = 'succeeded', finished_at = now() where kind = 'probe'").await;
    assert_eq!(due(&fixture, project, Kept::Sources, WEEK).await.len(), 1, "and says nothing of its age");
    // What marks the picture of another recording.
    let marked = fixture.job(project, 50).await;
    fixture
        .execute(&format!(
            r#"update jobs set spec = jsonb_set(spec, '{{edit}}', jsonb_build_object('watermark', jsonb_build_object('source',
                   (select spec ->> 'source' from jobs where id = '{job}')))) where id = '{marked}'"#
        ))
        .await;
    assert!(due(&fixture, project, Kept::Sources, WEEK).await.is_empty());
    fixture.done().await;
}

#[tokio::test]
async fn only_what_was_made_says_how_long_it_is_kept() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (made, recording) = over(&fixture, project, 30, &json!({ "outputs_days": "forever" })).await;
    assert!(due(&fixture, project, Kept::Outputs, WEEK).await.is_empty());
    let again = format!(
        "insert into jobs (id, project_id, recording_id, kind, spec, pending, status, finished_at)
         select gen_random_uuid(), project_id, recording_id, kind, spec #- '{{profile,retention}}', 0, $status, now() - interval '20 days'
         from jobs where id = '{made}'"
    );
    fixture.execute(&again.replace("$status", "'cancelled'")).await;
    assert!(due(&fixture, project, Kept::Outputs, WEEK).await.is_empty(), "what was cancelled made nothing");
    fixture.execute(&again.replace("$status", "'succeeded'").replace("20 days", "19 days")).await;
    assert_eq!(due(&fixture, project, Kept::Outputs, WEEK).await, [recording.0]);
    // One that was only looked at has an age too.
    let (_, pictured) = over(&fixture, project, 30, &json!({})).await;
    fixture
        .execute(&format!(
            "update jobs set kind = 'thumbnail', spec = spec - 'profile' where recording_id = '{pictured}'"
        ))
        .await;
    let found = due(&fixture, project, Kept::Outputs, WEEK).await;
    assert_eq!(found, [pictured.0, recording.0]);
    fixture.done().await;
}

#[tokio::test]
async fn two_viewers_at_once_both_get_their_token() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (_, recording) = over(&fixture, project, 8, &json!({})).await;
    let until = Utc::now() + TimeDelta::hours(1);
    let first = fixture.database.connect().await;
    first.batch_execute("begin").await.unwrap();
    first.execute("update recordings set kept_until = $1", &[&until]).await.unwrap();
    let second = tokio::spawn({
        let db = fixture.db.clone();
        async move { recordings::keep(&db, recording, until).await }
    });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    reelmill_testkit::wait::until("the second to wait", std::time::Duration::from_secs(30), || async {
        assert!(!second.is_finished(), "it must wait for the lock");
        (fixture.count(waiting).await > 0).then_some(())
    })
    .await;
    first.batch_execute("commit").await.unwrap();
    assert!(second.await.unwrap().unwrap());
    fixture.done().await;
}

#[tokio::test]
async fn nothing_stays_of_sources_that_were_only_looked_into() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (_, recording) = over(&fixture, project, 8, &json!({})).await;
    fixture
        .execute(&format!(
            "insert into sources (id, project_id, origin, deleted_at)
             values (gen_random_uuid(), '{project}', '{{}}', now() - interval '2 days'),
                    (gen_random_uuid(), '{project}', '{{}}', now());
             insert into uploads (id, project_id, source_id)
             select gen_random_uuid(), project_id, id from sources where deleted_at < now() - interval '1 day';
             update sources set deleted_at = now() - interval '2 days'
             where id = (select source_id from recordings where id = '{recording}')"
        ))
        .await;
    assert_eq!(retention::bury_unused(&fixture.db, 10).await.unwrap(), 1);
    assert_eq!(fixture.count("select count(*) from sources").await, 2, "too young, and still named");
    assert_eq!(fixture.count("select count(*) from uploads").await, 0);
    fixture.done().await;
}
