//! Many jobs at once: one of each project is submitted as any other, and copied by the database.

use reelmill_shared::db::jobs::{self, NewJob};
use reelmill_shared::db::recordings::NewRecording;
use reelmill_shared::db::{Db, projects};
use reelmill_shared::ids::{JobId, ProjectId, RecordingId, SourceId, TaskId};
use reelmill_shared::job::capability::Pool;
use reelmill_shared::job::edit::Edit;
use reelmill_shared::job::plan::NewTask;
use reelmill_shared::job::spec::{Input, JobKind, JobSpec, LadderChoice, PictureRequest};
use reelmill_shared::job::state::Access;
use reelmill_shared::job::task::{TaskSpec, ThumbnailSpec};
use serde_json::json;

/// A project and the recording that its jobs are about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Customer {
    pub(crate) project: ProjectId,
    recording: RecordingId,
    source: SourceId,
}

impl Customer {
    /// A new project, with one job that is queued.
    pub(crate) async fn new(db: &Db, name: &str) -> anyhow::Result<Self> {
        let project = projects::ensure(db, name).await?;
        let customer = Self { project, recording: RecordingId::new(), source: SourceId::new() };
        let mut first = customer.job(1)?;
        first.new_source = true;
        first.new_recording = Some(NewRecording {
            id: customer.recording,
            title: name.to_owned(),
            access: Access::Private,
            source_id: Some(customer.source),
            metadata: json!({}),
        });
        jobs::submit(db, project, &first).await?;
        Ok(customer)
    }

    /// A job for pictures, as short as the farm has any: one task each, all ready.
    pub(crate) fn job(&self, tasks: usize) -> anyhow::Result<NewJob> {
        let picture = PictureRequest { at_ms: Some(1000), width: 320, height: 180 };
        let spec = JobSpec {
            input: Input::Url("https://example.com/source.mp4".parse()?),
            source: self.source,
            profile: None,
            outputs: vec![],
            outputs_by_default: false,
            edit: Edit::default(),
            ladder: LadderChoice::default(),
            quality: None,
            picture: Some(picture),
            poster: None,
            series: None,
            downloads: vec![],
            adopt: None,
            taken: None,
            callback_url: None,
            force: false,
            dry_run: false,
        };
        let task = || NewTask {
            id: TaskId::new(),
            spec: TaskSpec::Thumbnail(ThumbnailSpec {
                source: self.source,
                recording: self.recording,
                picture,
                poster: None,
                edit: Edit::default(),
                deadline_seconds: 60,
            }),
            pool: Pool::Cpu,
            blocked_by: 0,
            unblocks: vec![],
        };
        Ok(NewJob {
            id: JobId::new(),
            kind: JobKind::Thumbnail,
            recording_id: Some(self.recording),
            priority: 50,
            spec,
            metadata: json!({}),
            run_at: None,
            traceparent: None,
            tasks: (0..tasks).map(|_| task()).collect(),
            adds_to: None,
            new_recording: None,
            new_source: false,
        })
    }
}

/// Ids in order of time, as the program makes them.
const ID: &str = "(lpad(to_hex((extract(epoch from j.created_at) * 1000)::bigint + n / 100), 12, '0') \
                  || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || substr(md5(j.id::text || n || 'KIND'), 2, 15))::uuid";

fn id(kind: &str) -> String {
    ID.replace("KIND", kind)
}

/// Gives every project `jobs` more queued jobs of `tasks` ready tasks, by copying the one that it has.
pub(crate) async fn queue(db: &Db, jobs: i64, tasks: i64) -> anyhow::Result<()> {
    let sql = format!(
        "set statement_timeout = 0;
         create temp table copies as
             select {job_id} as id, j.id as of, n, j.created_at + n * interval '1 microsecond' as at
             from (select distinct on (project_id) * from jobs where status = 'queued' order by project_id, id) j,
                  generate_series(1, {jobs}) n
             order by n;
         insert into jobs (id, project_id, recording_id, kind, priority, spec, metadata, pending, created_at)
             select c.id, project_id, recording_id, kind, priority, spec, metadata, {tasks}, c.at
             from copies c join jobs j on j.id = c.of order by c.id;
         insert into tasks (id, job_id, project_id, kind, spec, status, pool, class, position, max_attempts, ready_at,
                            ready_key, ahead_seconds, created_at)
             select {task_id}, c.id, t.project_id, t.kind, t.spec, 'ready', t.pool, t.class, k, t.max_attempts,
                    t.ready_at + n * interval '1 microsecond', t.ready_key + n * interval '1 microsecond',
                    t.ahead_seconds, c.at
             from copies c join jobs j on j.id = c.of join tasks t on t.job_id = j.id,
                  generate_series(0, {last}) k
             where t.position = 0 order by n;
         insert into events (project_id, type, job_id, recording_id, data)
             select e.project_id, e.type, c.id, e.recording_id, e.data from copies c join events e on e.job_id = c.of
             where e.type = 'job.queued';
         drop table copies;
         vacuum (analyze) jobs; vacuum (analyze) tasks; vacuum (analyze) events; checkpoint;
         reset statement_timeout",
        job_id = id("job"),
        task_id = id("task' || k || '"),
        last = tasks - 1,
    );
    run(db, &sql).await
}

/// Gives the project that has the most work `jobs` jobs of one task that are long over, with all that the farm keeps of them.
pub(crate) async fn history(db: &Db, jobs: i64) -> anyhow::Result<()> {
    let sql = format!(
        "set statement_timeout = 0;
         create temp table copies as
             select {job_id} as id, {task_id} as task_id, j.id as of, n, j.created_at - interval '1 day' as at
             from (select * from jobs order by id limit 1) j, generate_series(1, {jobs}) n order by n;
         insert into jobs (id, project_id, recording_id, kind, status, priority, spec, metadata, pending, created_at,
                           started_at, finished_at)
             select c.id, project_id, recording_id, kind, 'succeeded', priority, spec, metadata, 0, at, at, at
             from copies c join jobs j on j.id = c.of order by c.id;
         insert into tasks (id, job_id, project_id, kind, spec, status, pool, class, max_attempts, ready_at, ready_key,
                            epoch, attempts, created_at, started_at, finished_at)
             select c.task_id, c.id, t.project_id, t.kind, t.spec, 'succeeded', t.pool, t.class, t.max_attempts, at, at,
                    1, 1, at, at, at
             from copies c join tasks t on t.job_id = c.of where t.position = 0 order by n;
         insert into attempts (task_id, epoch, attempt, worker_id, started_at, finished_at, outcome, prefix)
             select task_id, 1, 1, of, at, at, 'succeeded', 'p/' || of || '/t/' || task_id || '/1/' from copies;
         insert into events (project_id, type, job_id, recording_id, data)
             select e.project_id, w.type, c.id, e.recording_id, e.data
             from copies c join events e on e.job_id = c.of and e.type = 'job.queued',
                  (values ('job.queued'), ('job.started'), ('job.succeeded')) as w (type);
         drop table copies;
         vacuum (analyze) jobs; vacuum (analyze) tasks; vacuum (analyze) attempts; vacuum (analyze) events; checkpoint;
         reset statement_timeout",
        job_id = id("old job"),
        task_id = id("old task"),
    );
    run(db, &sql).await
}

/// Statements by turns, each on its own: a vacuum is in no transaction.
async fn run(db: &Db, sql: &str) -> anyhow::Result<()> {
    let client = db.get().await?;
    for statement in sql.split(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}
