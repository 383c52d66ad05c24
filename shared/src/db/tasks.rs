//! Tasks: written, read, claimed.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::events::EventType;
use super::{Db, DbError, GenericClient, retrying};
use crate::broker::Ring;
use crate::ids::{JobId, ProjectId, RecordingId, TaskId, WorkerId};
use crate::job::capability::Pool;
use crate::job::error::TaskError;
use crate::job::plan::NewTask;
use crate::job::retry::MAX_ATTEMPTS;
use crate::job::spec::JobSpec;
use crate::job::state::{TaskStatus, UnknownWord};
use crate::job::task::{TaskKind, TaskSpec};

/// How much earlier each point of priority lets a task start, in seconds: the whole scale is an hour of waiting.
pub(super) const SECONDS_PER_PRIORITY: f64 = 36.0;

/// Writes tasks of a job, which has counted them already, behind those it has. In the caller's transaction.
pub(super) async fn insert(
    client: &impl GenericClient,
    job: JobId,
    tasks: &[NewTask],
) -> Result<(), DbError> {
    let statement = client
        .prepare_cached(
            "insert into tasks (id, job_id, project_id, kind, spec, status, pool, class, position, blocked_by,
                 unblocks, max_attempts, ready_at, deferred, ready_key)
             select t.id, j.id, j.project_id, t.spec ->> 'kind', t.spec, t.status, t.pool, t.class,
                 p.first + t.place, t.blocked_by, t.unblocks, $3, r.at, r.at > now(),
                 case when r.at > now() then r.at else r.at - make_interval(secs => $4::float8 * j.priority) end
             from jobs j,
                 lateral (select greatest(coalesce(j.run_at, now()), now()) as at) r,
                 lateral (select coalesce(max(position) + 1, 0) as first from tasks where job_id = j.id) p,
                 jsonb_to_recordset($2) as t (id uuid, spec jsonb, status text, pool text, class text,
                     place integer, blocked_by integer, unblocks uuid[])
             where j.id = $1",
        )
        .await?;
    let rows = tasks
        .iter()
        .enumerate()
        .map(|(place, task)| {
            let status = if task.blocked_by == 0 { TaskStatus::Ready } else { TaskStatus::Blocked };
            Ok(json!({
                "id": task.id,
                "spec": serde_json::to_value(&task.spec)?,
                "status": status.as_str(),
                "pool": task.pool.as_str(),
                "class": task.spec.class().to_string(),
                "place": place,
                "blocked_by": task.blocked_by,
                "unblocks": task.unblocks,
            }))
        })
        .collect::<Result<Vec<_>, DbError>>()?;
    client.execute(&statement, &[&job.0, &Value::from(rows), &MAX_ATTEMPTS, &SECONDS_PER_PRIORITY]).await?;
    Ok(())
}

/// A task as a person reads it.
#[derive(Debug, Clone)]
pub struct Task {
    pub id: TaskId,
    pub kind: TaskKind,
    pub spec: TaskSpec,
    pub status: TaskStatus,
    pub pool: String,
    pub attempts: i32,
    pub max_attempts: i32,
    pub error: Option<TaskError>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// Of the newest attempt.
    pub worker: Option<String>,
    pub command: Option<Vec<String>>,
    pub progress: Option<Progress>,
}

/// The latest known progress of a running task.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// 0 to 1.
    pub progress: f32,
    /// What is being done, in a word or two.
    pub phase: String,
    /// Output frames per second.
    pub fps: Option<f32>,
    /// Seconds of media per second of time.
    pub speed: Option<f32>,
    pub eta_seconds: Option<f32>,
}

/// Tasks of a job in order, each with its newest attempt and progress.
pub async fn of_job(db: &Db, job: JobId) -> Result<Vec<Task>, DbError> {
    Ok(of(db, &[job], "a.command").await?.remove(&job).unwrap_or_default())
}

/// The same for several jobs at once, without the command lines, which would be most of it.
pub async fn of_jobs(db: &Db, jobs: &[JobId]) -> Result<HashMap<JobId, Vec<Task>>, DbError> {
    of(db, jobs, "null::text[] as command").await
}

/// `command` is the column that gives the command lines.
async fn of(db: &Db, jobs: &[JobId], command: &str) -> Result<HashMap<JobId, Vec<Task>>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!(
            "select t.*, w.name as worker, {command}, p.progress, p.phase, p.fps, p.speed, p.eta_seconds
             from tasks t
             left join attempts a on a.task_id = t.id and a.epoch = t.epoch
             left join workers w on w.id = a.worker_id
             left join task_progress p on p.task_id = t.id and p.epoch = t.epoch
             where t.job_id = any($1) order by t.job_id, t.position, t.id"
        ))
        .await?;
    let ids: Vec<_> = jobs.iter().map(|job| job.0).collect();
    let mut tasks: HashMap<JobId, Vec<Task>> = HashMap::new();
    for row in client.query(&statement, &[&ids]).await? {
        tasks.entry(JobId(row.get("job_id"))).or_default().push(read(&row)?);
    }
    Ok(tasks)
}

fn read(row: &Row) -> Result<Task, DbError> {
    Ok(Task {
        id: TaskId(row.get("id")),
        kind: row.get::<_, &str>("kind").parse()?,
        spec: serde_json::from_value(row.get("spec"))?,
        status: row.get::<_, &str>("status").parse()?,
        pool: row.get("pool"),
        attempts: row.get("attempts"),
        max_attempts: row.get("max_attempts"),
        error: row.get::<_, Option<_>>("error").map(serde_json::from_value).transpose()?,
        created_at: row.get("created_at"),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        worker: row.get("worker"),
        command: row.get("command"),
        progress: row.get::<_, Option<f32>>("progress").map(|progress| Progress {
            progress,
            phase: row.get("phase"),
            fps: row.get("fps"),
            speed: row.get("speed"),
            eta_seconds: row.get("eta_seconds"),
        }),
    })
}

/// The right to write results of a task: only while the database holds this epoch for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    pub task_id: TaskId,
    pub epoch: i32,
}

/// A claimed task.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub hold: Hold,
    pub job_id: JobId,
    pub project_id: ProjectId,
    pub recording_id: Option<RecordingId>,
    pub spec: TaskSpec,
    /// Of the job.
    pub job_spec: JobSpec,
    /// From 1.
    pub attempt: i32,
    pub traceparent: Option<String>,
    pub created_at: DateTime<Utc>,
    pub waited: Duration,
}

/// Who claims and what it can do.
#[derive(Debug, Clone)]
pub struct Claimant {
    pub worker_id: WorkerId,
    pub pool: Pool,
    /// Proven capabilities, [`crate::job::capability::Capability::Base`] among them.
    pub capabilities: Vec<String>,
    pub lease: Duration,
}

/// Takes the next task: first the project with the smallest running share over its weight, then within it the first ready
/// task in index order, of those the claimant's capabilities cover. One statement, one short transaction.
///
/// The heads of all (class, project) queues are found by skipping through the index, so the cost grows with the number of
/// projects that have work, not with the number of tasks.
pub async fn claim(db: &Db, claimant: &Claimant) -> Result<Option<Claimed>, DbError> {
    let row = retrying(|| async move {
        let client = db.get().await?;
        let statement = client.prepare_cached(&claim_sql()).await?;
        let row = client
            .query_opt(
                &statement,
                &[
                    &claimant.pool.as_str(),
                    &claimant.capabilities,
                    &claimant.worker_id.0,
                    &claimant.lease.as_secs_f64(),
                ],
            )
            .await?;
        Ok(row)
    })
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Claimed {
        hold: Hold { task_id: TaskId(row.get("id")), epoch: row.get("epoch") },
        job_id: JobId(row.get("job_id")),
        project_id: ProjectId(row.get("project_id")),
        recording_id: row.get::<_, Option<_>>("recording_id").map(RecordingId),
        spec: serde_json::from_value(row.get("spec"))?,
        job_spec: serde_json::from_value(row.get("job_spec"))?,
        attempt: row.get("attempts"),
        traceparent: row.get("traceparent"),
        created_at: row.get("created_at"),
        waited: Duration::from_secs_f64(row.get::<_, f64>("waited").max(0.0)),
    }))
}

fn claim_sql() -> String {
    format!(
        "with recursive queues as (
             (select class, project_id from tasks
              where status = 'ready' and pool = $1 order by class, project_id limit 1)
             union all
             select n.class, n.project_id from queues q, lateral (
                 select class, project_id from tasks
                 where status = 'ready' and pool = $1 and (class, project_id) > (q.class, q.project_id)
                 order by class, project_id limit 1) n
         ),
         running as (
             select project_id, count(*) as n from task_leases where pool = $1 group by project_id
         ),
         ranked as (
             select q.class, q.project_id, coalesce(r.n, 0) / p.weight as share, h.ready_key, h.id
             from queues q
             join projects p on p.id = q.project_id
             left join running r on r.project_id = q.project_id
             cross join lateral (
                 select ready_key, id from tasks t
                 where t.status = 'ready' and t.pool = $1 and t.class = q.class and t.project_id = q.project_id
                   and t.ready_key <= now() and t.ready_at <= now()
                 order by t.ready_key, t.id limit 1) h
             where string_to_array(q.class, '+') <@ $2::text[]
             -- Projects with the same share take turns by chance: priority ranks within a project, never between them.
             -- What became ready at once is taken in the order of the plan, whatever its class.
            order by share, md5(q.project_id::text || now()::text), ready_key, id
         ),
         picked as (
             select t.id from ranked, lateral (
                 select id from tasks t
                 where t.status = 'ready' and t.pool = $1 and t.class = ranked.class
                   and t.project_id = ranked.project_id and t.ready_key <= now() and t.ready_at <= now()
                 order by t.ready_key, t.id limit 1 for update skip locked) t
             limit 1
         ),
         task as (
             update tasks t
             set status = 'running', epoch = t.epoch + 1, attempts = t.attempts + 1, error = null, deferred = false,
                 started_at = coalesce(t.started_at, now())
             from picked where t.id = picked.id and t.status = 'ready'
             returning t.*
         ),
         lease as (
             insert into task_leases (task_id, project_id, pool, worker_id, epoch, expires_at)
             select id, project_id, pool, $3, epoch, now() + make_interval(secs => $4) from task
             on conflict (task_id) do update
             set worker_id = excluded.worker_id, epoch = excluded.epoch, expires_at = excluded.expires_at
         ),
         attempt as (
             insert into attempts (task_id, epoch, attempt, worker_id, prefix)
             select id, epoch, attempts, $3, 'p/' || project_id::text || '/t/' || id::text || '/' || epoch::text || '/'
             from task
         ),
         started as (
             update jobs j set status = 'running', started_at = now()
             from task where j.id = task.job_id and j.status = 'queued'
             returning j.id, j.project_id, j.recording_id, j.kind
         ),
         processing as (
             update recordings r set status = 'processing', error = null, updated_at = now()
             from started s
             where r.id = s.recording_id and s.kind = 'transcode' and r.status in ('pending', 'failed')
         ),
         told as (
             insert into events (project_id, type, job_id, recording_id, data)
             select project_id, '{}', id, recording_id,
                    jsonb_build_object('job_id', id, 'kind', kind, 'recording_id', recording_id)
             from started
         )
         select task.id, task.epoch, task.job_id, task.project_id, task.spec, task.attempts, task.created_at,
                extract(epoch from now() - task.ready_at)::float8 as waited,
                j.recording_id, j.spec as job_spec, j.traceparent
         from task join jobs j on j.id = task.job_id",
        EventType::JobStarted
    )
}

/// Gives tasks that have become due the place their priority asks for. Returns how many.
pub async fn promote_due(db: &Db, limit: i64) -> Result<u64, DbError> {
    let promoted = db
        .get()
        .await?
        .execute(
            "update tasks t set deferred = false, ready_key = t.ready_at - make_interval(secs => $2::float8 * j.priority)
             from jobs j
             where j.id = t.job_id and t.id in (
                 select id from tasks where status = 'ready' and deferred and ready_at <= now()
                 order by ready_at limit $1 for update skip locked)",
            &[&limit, &SECONDS_PER_PRIORITY],
        )
        .await?;
    Ok(promoted)
}

/// Where an attempt writes its objects. Names carry the epoch: a store cannot fence a zombie.
pub fn prefix(project: ProjectId, hold: Hold) -> String {
    format!("p/{project}/t/{}/{}/", hold.task_id, hold.epoch)
}

/// Rings that are due: queues with tasks that have been ready for at least `age`, with how many, at most `cap` each.
pub async fn forgotten(db: &Db, age: Duration, cap: i64) -> Result<Vec<Ring>, DbError> {
    let client = db.get().await?;
    let rows = client
        .query(
            "select pool, class, least(count(*), $2) as n
             from (select pool, class from tasks
                   where status = 'ready' and ready_at <= now() - make_interval(secs => $1) limit 10000) t
             group by pool, class",
            &[&age.as_secs_f64(), &cap],
        )
        .await?;
    let mut rings = vec![];
    for row in rows {
        let ring = Ring {
            pool: row.get::<_, &str>("pool").parse::<Pool>()?,
            class: row.get("class"),
            job_id: None,
            task_id: None,
            traceparent: None,
        };
        rings.extend(std::iter::repeat_n(ring, row.get::<_, i64>("n").max(0) as usize));
    }
    Ok(rings)
}

/// Ready and running tasks of each pool, and the age of the oldest ready one in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    pub pool: String,
    pub ready: i64,
    pub running: i64,
    pub oldest_seconds: f64,
}

/// Counts demand by pool.
pub async fn demand(db: &Db) -> Result<Vec<Demand>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select coalesce(t.pool, l.pool) as pool, coalesce(t.n, 0) as ready, coalesce(l.n, 0) as running,
                    coalesce(t.oldest, 0)::float8 as oldest
             from (select pool, count(*) as n, extract(epoch from now() - min(ready_at)) as oldest
                   from tasks where status = 'ready' and ready_at <= now() group by pool) t
             full join (select pool, count(*) as n from task_leases group by pool) l on l.pool = t.pool",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Demand {
            pool: row.get("pool"),
            ready: row.get("ready"),
            running: row.get("running"),
            oldest_seconds: row.get("oldest"),
        })
        .collect())
}

/// One attempt at a task, for the job's log.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub task_id: TaskId,
    pub kind: TaskKind,
    pub attempt: i32,
    pub epoch: i32,
    pub worker: Option<String>,
    pub outcome: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub command: Option<Vec<String>>,
    pub error: Option<TaskError>,
    pub log_tail: Option<String>,
}

/// Every attempt at every task of a job, in order of time.
pub async fn attempts_of_job(db: &Db, job: JobId) -> Result<Vec<Attempt>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select a.*, t.kind, w.name as worker
             from tasks t join attempts a on a.task_id = t.id left join workers w on w.id = a.worker_id
             where t.job_id = $1 order by a.started_at, a.epoch",
            &[&job.0],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Attempt {
                task_id: TaskId(row.get("task_id")),
                kind: row.get::<_, &str>("kind").parse()?,
                attempt: row.get("attempt"),
                epoch: row.get("epoch"),
                worker: row.get("worker"),
                outcome: row.get("outcome"),
                started_at: row.get("started_at"),
                finished_at: row.get("finished_at"),
                command: row.get("command"),
                error: row.get::<_, Option<Value>>("error").map(serde_json::from_value).transpose()?,
                log_tail: row.get("log_tail"),
            })
        })
        .collect()
}

impl From<&NewTask> for Ring {
    fn from(task: &NewTask) -> Self {
        Self {
            pool: task.pool,
            class: task.spec.class().to_string(),
            job_id: None,
            task_id: Some(task.id),
            traceparent: None,
        }
    }
}

/// Reads a ring out of a row with `pool` and `class`.
pub(super) fn ring(row: &Row, job: JobId) -> Result<Ring, UnknownWord> {
    Ok(Ring {
        pool: row.get::<_, &str>("pool").parse()?,
        class: row.get("class"),
        job_id: Some(job),
        task_id: Some(TaskId(row.get("id"))),
        traceparent: None,
    })
}
