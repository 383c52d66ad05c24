//! Tasks: written, read, claimed.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::{Db, DbError, GenericClient, known};
use crate::broker::Ring;
use crate::ids::{JobId, ProjectId, TaskId};
use crate::job::capability::Pool;
use crate::job::error::TaskError;
use crate::job::plan::NewTask;
use crate::job::retry::MAX_ATTEMPTS;
use crate::job::state::{TaskStatus, UnknownWord};
use crate::job::task::{TaskKind, TaskSpec};

mod claim;

pub use claim::{Claimant, Claimed, Hold, claim};

/// How much earlier each point of priority lets a task start, in seconds: the whole scale is an hour of waiting.
const SECONDS_PER_PRIORITY: u32 = 36;
/// How much earlier [`TaskSpec::is_opening`] lets a task start, in seconds: it overtakes what became ready in the quarter of an hour before.
const AHEAD_SECONDS: i32 = 900;

/// The place in line of a task that is due: its time, moved earlier by its job's priority and by what it is. The arguments are SQL.
pub(super) fn ready_key(at: &str, priority: &str, ahead: &str) -> String {
    format!("{at} - make_interval(secs => {SECONDS_PER_PRIORITY} * ({priority})::float8 + {ahead})")
}

/// Writes tasks of a job, which has counted them already, behind those it has. In the caller's transaction.
pub(super) async fn insert(
    client: &impl GenericClient,
    job: JobId,
    tasks: &[NewTask],
) -> Result<(), DbError> {
    let statement = client
        .prepare_cached(&format!(
            "insert into tasks (id, job_id, project_id, kind, spec, status, pool, class, position, blocked_by,
                 unblocks, max_attempts, ready_at, deferred, ahead_seconds, ready_key)
             select t.id, j.id, j.project_id, t.spec ->> 'kind', t.spec, t.status, t.pool, t.class,
                 p.first + t.place, t.blocked_by, t.unblocks, $3, r.at, r.at > now(), t.ahead,
                 case when r.at > now() then r.at else {} end
             from jobs j,
                 lateral (select greatest(coalesce(j.run_at, now()), now()) as at) r,
                 lateral (select coalesce(max(position) + 1, 0) as first from tasks where job_id = j.id) p,
                 jsonb_to_recordset($2) as t (id uuid, spec jsonb, status text, pool text, class text,
                     place integer, blocked_by integer, unblocks uuid[], ahead integer)
             where j.id = $1",
            ready_key("r.at", "j.priority", "t.ahead")
        ))
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
                "ahead": if task.spec.is_opening() { AHEAD_SECONDS } else { 0 },
            }))
        })
        .collect::<Result<Vec<_>, DbError>>()?;
    client.execute(&statement, &[&job.0, &Value::from(rows), &MAX_ATTEMPTS]).await?;
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

/// Tasks of a job in order, each with its newest attempt and progress; of kinds that this program knows.
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
    let rows = client.query(&statement, &[&ids]).await?;
    for (job, task) in known(&rows, |row| Ok((JobId(row.get("job_id")), read(row)?)))? {
        tasks.entry(job).or_default().push(task);
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

/// Gives tasks that have become due the place their priority asks for. Returns how many.
pub async fn promote_due(db: &Db, limit: i64) -> Result<u64, DbError> {
    let promoted = db
        .get()
        .await?
        .execute(
            &format!(
                "update tasks t set deferred = false, ready_key = {}
                 from jobs j
                 where j.id = t.job_id and t.id in (
                     select id from tasks where status = 'ready' and deferred and ready_at <= now()
                     order by ready_at limit $1 for update skip locked)",
                ready_key("t.ready_at", "j.priority", "t.ahead_seconds")
            ),
            &[&limit],
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
                   where status = 'ready' and ready_at <= now() - make_interval(secs => $1)
                     and pool not in (select name from pools where paused_at is not null) limit 10000) t
             group by pool, class",
            &[&age.as_secs_f64(), &cap],
        )
        .await?;
    let rings = known(&rows, |row| {
        let ring = Ring {
            pool: row.get::<_, &str>("pool").parse::<Pool>()?,
            class: row.get("class"),
            job_id: None,
            task_id: None,
            traceparent: None,
        };
        Ok(std::iter::repeat_n(ring, row.get::<_, i64>("n").max(0) as usize))
    })?;
    Ok(rings.into_iter().flatten().collect())
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
    known(&rows, |row| {
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
