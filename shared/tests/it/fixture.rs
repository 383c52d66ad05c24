//! A migrated database with projects and jobs in it.

use std::time::Duration;

use reelmill_shared::config::DatabaseConfig;
use reelmill_shared::db::jobs::{self, NewJob};
use reelmill_shared::db::recordings::NewRecording;
use reelmill_shared::db::tasks::{self, Claimant, Claimed};
use reelmill_shared::db::{Db, migrate, projects};
use reelmill_shared::ids::{JobId, ProjectId, RecordingId, SourceId, WorkerId};
use reelmill_shared::job::capability::Pool;
use reelmill_shared::job::edit::Edit;
use reelmill_shared::job::plan::{self, NewTask};
use reelmill_shared::job::spec::{Input, JobKind, JobSpec, LadderChoice, Output};
use reelmill_shared::job::state::Access;
use reelmill_shared::media::profile::Profile;
use reelmill_testkit::database::TestDatabase;
use reelmill_testkit::wait::until;
use serde_json::json;

pub(crate) struct Fixture {
    pub(crate) db: Db,
    pub(crate) database: TestDatabase,
}

pub(crate) const LEASE: Duration = Duration::from_secs(60);

impl Fixture {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        let db = Db::new(&DatabaseConfig { url: database.url.clone(), pool_size: 24 }).unwrap();
        migrate::migrate(&db).await.unwrap();
        Self { db, database }
    }

    pub(crate) async fn project(&self, name: &str) -> ProjectId {
        projects::ensure(&self.db, name).await.unwrap()
    }

    /// A job whose source is stored: one probe task, ready.
    pub(crate) async fn job(&self, project: ProjectId, priority: i16) -> JobId {
        let spec = spec();
        let tasks = plan::opening(&spec, true);
        self.job_of(project, priority, spec, tasks).await
    }

    /// A job with these tasks.
    pub(crate) async fn job_of(
        &self,
        project: ProjectId,
        priority: i16,
        spec: JobSpec,
        tasks: Vec<NewTask>,
    ) -> JobId {
        let recording_id = RecordingId::new();
        let recording = NewRecording {
            id: recording_id,
            title: "test".into(),
            access: Access::Private,
            source_id: Some(spec.source),
            metadata: json!({}),
        };
        let new = NewJob {
            priority,
            new_recording: Some(recording),
            new_source: true,
            ..new_job(recording_id, spec, tasks)
        };
        jobs::submit(&self.db, project, &new).await.unwrap();
        new.id
    }

    pub(crate) async fn claim(&self, claimant: &Claimant) -> Option<Claimed> {
        tasks::claim(&self.db, claimant).await.unwrap()
    }

    /// Runs a statement that brings about what would take time.
    pub(crate) async fn execute(&self, sql: &str) {
        self.db.get().await.unwrap().batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.db.get().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn done(self) {
        self.db.close();
        self.database.drop().await;
    }
}

/// Waits until readers of the event log see all that is in it: transactions of other tests on the same server hold the horizon back.
pub(crate) async fn horizon(db: &Db) {
    let hidden = "select count(*) from events where xid >= pg_snapshot_xmin(pg_current_snapshot())";
    until("the horizon to pass", Duration::from_secs(60), || async {
        let row = db.get().await.unwrap().query_one(hidden, &[]).await.unwrap();
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// A transcode of a recording and a source that are there.
pub(crate) fn new_job(recording: RecordingId, spec: JobSpec, tasks: Vec<NewTask>) -> NewJob {
    NewJob {
        id: JobId::new(),
        kind: JobKind::Transcode,
        recording_id: Some(recording),
        priority: 50,
        metadata: json!({}),
        run_at: None,
        traceparent: None,
        tasks,
        adds_to: None,
        new_recording: None,
        new_source: false,
        spec,
    }
}

pub(crate) fn spec() -> JobSpec {
    JobSpec {
        input: Input::Url("https://example.com/a.mp4".parse().unwrap()),
        source: SourceId::new(),
        profile: Profile::built_in("web"),
        outputs: vec![Output::Hls],
        outputs_by_default: false,
        edit: Edit::default(),
        ladder: LadderChoice::default(),
        quality: None,
        picture: None,
        poster: None,
        series: None,
        downloads: vec![],
        adopt: None,
        taken: None,
        callback_url: None,
        force: false,
        dry_run: false,
    }
}

pub(crate) fn claimant() -> Claimant {
    Claimant {
        worker_id: WorkerId::new(),
        pool: Pool::Cpu,
        capabilities: vec!["base".into(), "libx264".into()],
        lease: LEASE,
    }
}
