//! Sessions of players, and what viewers prefer.

use reelmill_shared::db::viewers::Watched;
use reelmill_shared::db::{DbError, abr, jobs, preferences};
use reelmill_shared::ids::{ProjectId, RecordingId};
use reelmill_shared::media::abr::{Download, Preference};

use crate::fixture::Fixture;

async fn recording(f: &Fixture, project: ProjectId) -> RecordingId {
    let job = f.job(project, 50).await;
    jobs::get(&f.db, project, job).await.unwrap().unwrap().recording_id.unwrap()
}

/// Counts a segment; gives the changes of the rung that are remembered then.
async fn told(f: &Fixture, project: ProjectId, subject: Watched, id: &str, rung: &str) -> usize {
    let download = Download { bytes: 500_000, seconds: 1.0, duration: 4.0, rung, buffer: 10.0 };
    let count = abr::change(&f.db, project, subject, id, |session, at| {
        session.downloaded(&download, at);
        session.switches.len()
    });
    count.await.unwrap()
}

#[tokio::test]
async fn those_who_change_a_session_at_once_wait_for_each_other() {
    let f = Fixture::new().await;
    let project = f.project("p").await;
    let subject = Watched::Recording(recording(&f, project).await);
    let rungs: Vec<String> = (0..16).map(|n| format!("rung-{n}")).collect();
    futures::future::join_all(rungs.iter().map(|rung| told(&f, project, subject, "s", rung))).await;
    let found = abr::find(&f.db, project, "s").await.unwrap();
    assert_eq!(found.len(), 1);
    let mut heard: Vec<&str> = found[0].session.switches.iter().map(|switch| switch.to.as_str()).collect();
    heard.sort_unstable();
    let mut all: Vec<&str> = rungs.iter().map(String::as_str).collect();
    all.sort_unstable();
    assert_eq!(heard, all, "nothing that was told is lost");
    f.done().await;
}

#[tokio::test]
async fn a_session_is_one_of_a_project_and_of_what_is_watched() {
    let f = Fixture::new().await;
    let (project, other) = (f.project("p").await, f.project("q").await);
    let first = Watched::Recording(recording(&f, project).await);
    let second = Watched::Recording(recording(&f, project).await);
    let foreign = Watched::Recording(recording(&f, other).await);
    for (project, subject) in [(project, first), (project, second), (other, foreign)] {
        assert_eq!(told(&f, project, subject, "s", "720p").await, 1);
    }
    let found = abr::find(&f.db, project, "s").await.unwrap();
    assert_eq!(found.iter().map(|kept| kept.watched).collect::<Vec<_>>(), [second, first]);
    assert!(abr::find(&f.db, project, "t").await.unwrap().is_empty());
    f.done().await;
}

#[tokio::test]
async fn who_was_not_heard_of_for_an_hour_begins_anew() {
    let f = Fixture::new().await;
    let project = f.project("p").await;
    let subject = Watched::Recording(recording(&f, project).await);
    told(&f, project, subject, "s", "480p").await;
    assert_eq!(told(&f, project, subject, "s", "720p").await, 2);
    f.execute("update abr_sessions set seen_at = now() - interval '61 minutes'").await;
    assert!(abr::find(&f.db, project, "s").await.unwrap().is_empty());
    assert_eq!(told(&f, project, subject, "s", "720p").await, 1);

    told(&f, project, subject, "t", "720p").await;
    f.execute("update abr_sessions set seen_at = now() - interval '61 minutes' where id = 's'").await;
    assert_eq!(abr::delete_old(&f.db, 100).await.unwrap(), 1);
    assert_eq!(abr::delete_old(&f.db, 100).await.unwrap(), 0);
    assert_eq!(abr::find(&f.db, project, "t").await.unwrap().len(), 1);
    // What does not read is as good as nothing.
    f.execute(r#"update abr_sessions set state = '{"bandwidth": "fast"}'"#).await;
    assert_eq!(told(&f, project, subject, "t", "720p").await, 1);
    f.done().await;
}

#[tokio::test]
async fn what_a_viewer_prefers_is_replaced_and_forgotten() {
    let f = Fixture::new().await;
    let project = f.project("p").await;
    let id = recording(&f, project).await;
    let lines = Preference { max_height: Some(720), ..Preference::default() };
    let named = Preference { rendition: Some("480p".into()), data_saver: true, ..Preference::default() };
    assert_eq!(preferences::get(&f.db, id, "ada").await.unwrap(), None);
    for preference in [&lines, &named] {
        preferences::put(&f.db, id, "ada", preference).await.unwrap();
        assert_eq!(preferences::get(&f.db, id, "ada").await.unwrap().as_ref(), Some(preference));
    }
    assert_eq!(preferences::get(&f.db, id, "bob").await.unwrap(), None);
    assert!(preferences::delete(&f.db, id, "ada").await.unwrap());
    assert!(!preferences::delete(&f.db, id, "ada").await.unwrap());
    f.done().await;
}

#[tokio::test]
async fn what_is_watched_takes_its_players_along() {
    let f = Fixture::new().await;
    let project = f.project("p").await;
    let nowhere = Watched::Recording(RecordingId::new());
    let refused = abr::change(&f.db, project, nowhere, "s", |_, _| ()).await;
    assert!(matches!(refused, Err(DbError::Gone)), "{refused:?}");
    let refused = preferences::put(&f.db, RecordingId::new(), "ada", &Preference::default()).await;
    assert!(matches!(refused, Err(DbError::Gone)), "{refused:?}");
    let id = recording(&f, project).await;
    told(&f, project, Watched::Recording(id), "s", "720p").await;
    preferences::put(&f.db, id, "ada", &Preference::default()).await.unwrap();
    f.execute(&format!("delete from tasks; delete from jobs; delete from recordings where id = '{id}'"))
        .await;
    assert_eq!(f.count("select count(*) from abr_sessions").await, 0);
    assert_eq!(f.count("select count(*) from quality_preferences").await, 0);
    f.done().await;
}
