//! The log is read in commit order, up to its horizon.

use std::time::Duration;

use reelmill_shared::db::events::{self, Position};
use reelmill_shared::db::tasks::Progress;
use reelmill_shared::db::{DbError, leader, progress};
use reelmill_shared::ids::SchedulerId;
use reelmill_shared::job::plan;
use reelmill_shared::job::spec::JobSpec;
use reelmill_testkit::wait::until;

use crate::fixture::{Fixture, claimant, spec};

const WAIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_reader_never_skips_what_commits_late() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let insert = format!(
        "insert into events (project_id, type, data) values ('{project}', 'job.queued', '{{}}') returning xid::text"
    );
    let mut slow = fixture.database.connect().await;
    let tx = slow.transaction().await.unwrap();
    let slow_xid: String = tx.query_one(&insert, &[]).await.unwrap().get(0);
    let quick = fixture.database.connect().await;
    let quick_xid: String = quick.query_one(&insert, &[]).await.unwrap().get(0);
    assert!(quick_xid.parse::<u64>().unwrap() > slow_xid.parse::<u64>().unwrap());

    // The quick one is committed, but the slow one may still come before it.
    let start = Position::default();
    assert!(events::after(&fixture.db, start, 100).await.unwrap().is_empty());
    assert_eq!(events::end(&fixture.db).await.unwrap(), start);
    tx.commit().await.unwrap();
    // Transactions of other databases of the server hold the horizon back too, for as long as they last.
    let seen = until("the horizon to pass", WAIT, || async {
        let seen = events::after(&fixture.db, start, 100).await.unwrap();
        (seen.len() == 2).then_some(seen)
    })
    .await;
    let xids: Vec<String> = seen.iter().map(|event| event.position.xid.to_string()).collect();
    assert_eq!(xids, [slow_xid, quick_xid]);
    until("the end of the log", WAIT, || async {
        (events::end(&fixture.db).await.unwrap() == seen[1].position).then_some(())
    })
    .await;
    assert!(events::after(&fixture.db, seen[1].position, 100).await.unwrap().is_empty());
    fixture.done().await;
}

#[tokio::test]
async fn what_a_newer_program_tells_of_is_passed_on() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    for kind in ["job.queued", "job.reincarnated", "job.started"] {
        let sql =
            format!("insert into events (project_id, type, data) values ('{project}', '{kind}', '{{}}')");
        fixture.execute(&sql).await;
    }
    let seen = until("the horizon to pass", WAIT, || async {
        let seen = events::after(&fixture.db, Position::default(), 100).await.unwrap();
        (seen.len() >= 3).then_some(seen)
    })
    .await;
    let kinds: Vec<&str> = seen.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["job.queued", "job.reincarnated", "job.started"]);
    let of_project = events::of_project_after(&fixture.db, project, Position::default(), 100).await.unwrap();
    assert_eq!(of_project.len(), 3);
    fixture.done().await;
}

#[tokio::test]
async fn a_job_tells_its_story_in_order_and_only_to_its_project() {
    let fixture = Fixture::new().await;
    let (mine, other) = (fixture.project("mine").await, fixture.project("other").await);
    let id = fixture.job(mine, 50).await;
    fixture.job(other, 50).await;
    while fixture.claim(&claimant()).await.is_some() {}
    let story = until("the horizon to pass", WAIT, || async {
        let story = events::of_job_after(&fixture.db, id, Position::default()).await.unwrap();
        (story.len() == 2).then_some(story)
    })
    .await;
    let kinds: Vec<&str> = story.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["job.queued", "job.started"]);
    let all = events::of_project_after(&fixture.db, mine, Position::default(), 100).await.unwrap();
    assert!(all.len() == 2 && all.iter().all(|event| event.project_id == mine));
    let rest = events::of_job_after(&fixture.db, id, story[0].position).await.unwrap();
    assert_eq!(rest.len(), 1);
    fixture.done().await;
}

/// Transaction ids are numbers: 10 comes after 9, wherever the log is read.
#[tokio::test]
async fn the_order_is_that_of_numbers() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let job = fixture.job(project, 50).await;
    let db = fixture.database.connect().await;
    db.execute("delete from events", &[]).await.unwrap();
    for xid in ["100", "9", "99", "10"] {
        db.execute(
            "insert into events (xid, project_id, job_id, type, data)
             values ($1::text::xid8, $2, $3, 'job.queued', '{}')",
            &[&xid, &project.0, &job.0],
        )
        .await
        .unwrap();
    }
    let start = Position::default();
    for read in [
        events::after(&fixture.db, start, 100).await.unwrap(),
        events::of_job_after(&fixture.db, job, start).await.unwrap(),
        events::of_project_after(&fixture.db, project, start, 100).await.unwrap(),
    ] {
        let xids: Vec<u64> = read.iter().map(|event| event.position.xid).collect();
        assert_eq!(xids, [9, 10, 99, 100]);
    }
    assert_eq!(events::end(&fixture.db).await.unwrap().xid, 100);
    fixture.done().await;
}

#[tokio::test]
async fn each_quarter_of_a_job_is_told_once() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let leadership = leader::acquire(&fixture.db, SchedulerId::new(), WAIT).await.unwrap().unwrap();
    let only_probed = JobSpec { profile: None, ..spec() };
    let tasks = plan::opening(&only_probed, true);
    let job = fixture.job_of(project, 50, only_probed, tasks).await;
    assert_eq!(progress::tell(&fixture.db, &leadership).await.unwrap(), 0, "nobody is at it");
    let claimed = fixture.claim(&claimant()).await.unwrap();
    let reach = async |share: f32| {
        let figures =
            Progress { progress: share, phase: "probing".into(), fps: None, speed: None, eta_seconds: None };
        assert!(progress::put(&fixture.db, job, claimed.hold, &figures).await.unwrap());
        progress::tell(&fixture.db, &leadership).await.unwrap()
    };
    for (share, told) in [(0.2, 0), (0.6, 1), (0.7, 0), (0.1, 0), (0.8, 1), (0.99, 0)] {
        assert_eq!(reach(share).await, told, "{share}");
    }
    let rows = fixture.db.get().await.unwrap();
    let rows = rows
        .query(
            "select (data ->> 'progress')::float8 from events where type = 'job.progress' order by id",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, f64>(0)).collect::<Vec<_>>(), [0.5, 0.75]);
    fixture.execute("update leaders set epoch = epoch + 1; update jobs set told_quarter = 0").await;
    assert!(matches!(progress::tell(&fixture.db, &leadership).await, Err(DbError::NotLeader)));
    fixture.done().await;
}
