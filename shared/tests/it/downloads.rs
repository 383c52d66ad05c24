//! Renditions as files: made once, and gone with the recording they belong to.

use reelmill_shared::db::downloads::{self, Download};
use reelmill_shared::db::finish::{self, AttemptNote, Publication};
use reelmill_shared::db::tasks::prefix;
use reelmill_shared::db::{jobs, recordings};
use reelmill_shared::ids::{JobId, ProjectId, RecordingId, SetId};
use reelmill_shared::job::plan::{self, NewTask};
use reelmill_shared::job::spec::DownloadRequest;
use reelmill_shared::job::state::JobStatus;
use uuid::Uuid;

use crate::fixture::{Fixture, claimant, spec};

/// A job's recording that plays a set of its own, with one rendition.
async fn with_set(fixture: &Fixture, project: ProjectId) -> (JobId, RecordingId, SetId) {
    let job = fixture.job_of(project, 50, spec(), vec![]).await;
    let recording = jobs::find(&fixture.db, job).await.unwrap().unwrap().recording_id.unwrap();
    let set = SetId::new();
    fixture
        .execute(&format!(
            "insert into sets (id, project_id, job_id) values ('{set}', '{project}', '{job}');
             insert into recording_sets (recording_id, set_id, ordinal, active, static_prefix)
             values ('{recording}', '{set}', 1, true, 'p/');
             insert into renditions (set_id, rung, position, kind, codec, timescale, init_key, init_bytes,
                 peak_bandwidth, average_bandwidth, duration_ticks, epoch)
             values ('{set}', '720p', 0, 'video', 'avc1.64001f', 12800, 'i', 1, 1, 1, 1, 1)"
        ))
        .await;
    (job, recording, set)
}

fn file(recording: RecordingId, set: SetId) -> NewTask {
    plan::download(recording, set, DownloadRequest { rung: "720p".into(), height: Some(720) }, 1.0)
}

/// Claims one task and publishes what it would have made; gives where.
async fn make(fixture: &Fixture, recording: RecordingId, set: SetId) -> String {
    let claimed = fixture.claim(&claimant()).await.unwrap();
    let prefix = prefix(claimed.project_id, claimed.hold);
    let download = Download { rung: "720p".into(), key: format!("{prefix}720p.mp4"), bytes: 7 };
    let made = [Publication::Download { recording, set, download }];
    finish::succeed(&fixture.db, &claimed, &made, &AttemptNote::default()).await.unwrap();
    prefix
}

fn swept(prefix: &str) -> String {
    format!("select count(*) from garbage where prefix = '{prefix}'")
}

#[tokio::test]
async fn who_comes_second_leaves_nothing() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (_, recording, set) = with_set(&fixture, project).await;
    fixture.job_of(project, 50, spec(), vec![file(recording, set), file(recording, set)]).await;
    let first = make(&fixture, recording, set).await;
    let second = make(&fixture, recording, set).await;
    let kept = downloads::of_set(&fixture.db, recording, set).await.unwrap();
    assert_eq!(kept, [Download { rung: "720p".into(), key: format!("{first}720p.mp4"), bytes: 7 }]);
    assert_eq!((fixture.count(&swept(&first)).await, fixture.count(&swept(&second)).await), (0, 1));
    fixture.done().await;
}

#[tokio::test]
async fn files_go_with_their_recording_though_the_set_stays() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (job, recording, set) = with_set(&fixture, project).await;
    let twin = RecordingId(Uuid::now_v7());
    fixture
        .execute(&format!(
            "insert into recordings (id, project_id, title, source_id)
             select '{twin}', project_id, 'twin', source_id from recordings where id = '{recording}';
             insert into recording_sets (recording_id, set_id, ordinal, active, static_prefix)
             values ('{twin}', '{set}', 1, true, 'p/')"
        ))
        .await;
    // One is made by the job that made the set, the other by a later one.
    fixture.job_of(project, 50, spec(), vec![file(recording, set), file(twin, set)]).await;
    let mine = make(&fixture, recording, set).await;
    let others = make(&fixture, twin, set).await;
    fixture
        .execute(&format!("update tasks set job_id = '{job}' where '{mine}' like '%' || id::text || '%'"))
        .await;
    assert!(recordings::delete(&fixture.db, project, recording).await.unwrap());
    recordings::discard(&fixture.db, recording).await.unwrap();
    assert!(downloads::of_set(&fixture.db, recording, set).await.unwrap().is_empty());
    assert_eq!(downloads::of_set(&fixture.db, twin, set).await.unwrap().len(), 1);
    assert_eq!((fixture.count(&swept(&mine)).await, fixture.count(&swept(&others)).await), (1, 0));
    fixture.done().await;
}

#[tokio::test]
async fn a_job_with_nothing_to_do_is_done() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = fixture.job_of(project, 50, spec(), vec![]).await;
    let job = jobs::find(&fixture.db, id).await.unwrap().unwrap();
    assert_eq!(job.status, JobStatus::Succeeded);
    assert!(job.started_at.is_some() && job.finished_at.is_some());
    let told = "select count(*) from events where type in ('job.queued', 'job.started', 'job.succeeded')";
    assert_eq!(fixture.count(told).await, 3);
    fixture.done().await;
}
