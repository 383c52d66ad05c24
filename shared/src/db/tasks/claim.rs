//! The claim.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::super::events::EventType;
use super::super::{Db, DbError, finish};
use crate::ids::{JobId, ProjectId, RecordingId, TaskId, WorkerId};
use crate::job::capability::Pool;
use crate::job::spec::JobSpec;
use crate::job::task::{TaskKind, TaskSpec};

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
/// task in index order, of those the claimant's capabilities cover. One statement, one short transaction. Nothing where the pool is
/// paused, or the claimant was asked to drain or is in quarantine, and never a task of a kind that this program does not know.
///
/// A task goes to another worker than the one that failed it last, where another comes within [`AVOIDED`].
///
/// The heads of all (class, project) queues are found by skipping through the index, so the cost grows with the number of
/// projects that have work, not with the number of tasks.
///
/// # Errors
/// [`DbError::Orders`] where the orders do not read. The task was given back for a while, uncounted; there may be others.
pub async fn claim(db: &Db, claimant: &Claimant) -> Result<Option<Claimed>, DbError> {
    let mut tries = 1;
    let row = loop {
        match once(db, claimant).await {
            Err(error) if error.is_contention() && tries < PLACES_TRIED => tries += 1,
            other => break other?,
        }
    };
    let Some(row) = row else { return Ok(None) };
    let hold = Hold { task_id: TaskId(row.get("id")), epoch: row.get("epoch") };
    let job_id = JobId(row.get("job_id"));
    match read(&row, hold, job_id) {
        Ok(claimed) => Ok(Some(claimed)),
        Err(error) => {
            finish::leave(db, job_id, hold, &error).await?;
            Err(DbError::Orders(hold.task_id, error))
        }
    }
}

fn read(row: &Row, hold: Hold, job_id: JobId) -> Result<Claimed, serde_json::Error> {
    Ok(Claimed {
        hold,
        job_id,
        project_id: ProjectId(row.get("project_id")),
        recording_id: row.get::<_, Option<_>>("recording_id").map(RecordingId),
        spec: serde_json::from_value(row.get("spec"))?,
        job_spec: serde_json::from_value(row.get("job_spec"))?,
        attempt: row.get("attempts"),
        traceparent: row.get("traceparent"),
        created_at: row.get("created_at"),
        waited: Duration::from_secs_f64(row.get::<_, f64>("waited").max(0.0)),
    })
}

/// Claims of a limited project may go for the same place; each time one of them gets it.
const PLACES_TRIED: u32 = 16;

async fn once(db: &Db, claimant: &Claimant) -> Result<Option<Row>, DbError> {
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
}

/// For so long a task waits for another worker than the one that failed it.
const AVOIDED: Duration = Duration::from_secs(20);

fn claim_sql() -> String {
    let known: Vec<&str> = TaskKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let due = format!(
        "t.status = 'ready' and t.pool = $1 and t.ready_key <= now() and t.ready_at <= now() and t.kind in ('{}')
         and (t.avoid_worker is distinct from $3 or t.ready_at <= now() - interval '{} seconds'
              or (select is_alone from claimant))",
        known.join("', '"),
        AVOIDED.as_secs()
    );
    format!(
        "with recursive claimant as (
             select not exists (select 1 from pools where name = $1 and paused_at is not null)
                    and not exists (select 1 from workers
                                    where id = $3 and (drain_at is not null or quarantined_at is not null)) as may_work,
                    not exists (select 1 from workers
                                where pool = $1 and id <> $3 and state = 'active' and drain_at is null
                                  and quarantined_at is null and capabilities @> $2::text[]) as is_alone
         ),
         queues as (
             -- Each with the key of its first task: whoever looks into it begins there. What lies before is of tasks that were taken
             -- lately, and where an old snapshot is open nobody may clear it away.
             (select class, project_id, ready_key from tasks
              where status = 'ready' and pool = $1 and (select may_work from claimant)
              order by class, project_id, ready_key, id limit 1)
             union all
             select n.class, n.project_id, n.ready_key from queues q, lateral (
                 select class, project_id, ready_key from tasks
                 where status = 'ready' and pool = $1 and (class, project_id) > (q.class, q.project_id)
                 order by class, project_id, ready_key, id limit 1) n
         ),
         running as (
             select project_id, count(*) as n from task_leases where pool = $1 group by project_id
         ),
         ranked as (
             select q.class, q.project_id, coalesce(r.n, 0) / p.weight as share, h.ready_key, h.id, free.place
             from queues q
             join projects p on p.id = q.project_id
             left join running r on r.project_id = q.project_id
             -- Any of the free ones: claims that race seldom want the same, and only one of them gets it.
             left join lateral (
                 select place from generate_series(1, p.max_running) as all_of_them (place)
                 where not exists (
                     select 1 from task_leases l where l.project_id = p.id and l.place = all_of_them.place)
                 order by md5($3::text || place::text || now()::text) limit 1) free on true
             cross join lateral (
                 select ready_key, id from tasks t
                 where t.class = q.class and t.project_id = q.project_id and t.ready_key >= q.ready_key and {due}
                 order by t.ready_key, t.id limit 1) h
             where string_to_array(q.class, '+') <@ $2::text[] and (p.max_running is null or free.place is not null)
             -- Projects with the same share, such as all those that have nothing running where there are more projects than slots, take turns
             -- by chance, in proportion to their weights: the least of exponential variates with these rates. Priority ranks within a project,
             -- never between them. What became ready at once is taken in the order of the plan, whatever its class.
             order by share, -ln((('x' || left(md5(q.project_id::text || now()::text), 8))::bit(32)::bigint + 1) / 4294967297.0) / p.weight,
                 ready_key, id
         ),
         picked as (
             select t.id, ranked.place from ranked, lateral (
                 select id from tasks t
                 where t.class = ranked.class and t.project_id = ranked.project_id
                   and t.ready_key >= ranked.ready_key and {due}
                 order by t.ready_key, t.id limit 1 for update skip locked) t
             limit 1
         ),
         task as (
             update tasks t
             set status = 'running', epoch = t.epoch + 1, attempts = t.attempts + 1, error = null, deferred = false,
                 started_at = coalesce(t.started_at, now())
             from picked where t.id = picked.id and t.status = 'ready'
             returning t.*, picked.place
         ),
         lease as (
             insert into task_leases (task_id, project_id, pool, worker_id, epoch, expires_at, place)
             select id, project_id, pool, $3, epoch, now() + make_interval(secs => $4), place from task
             on conflict (task_id) do update
             set worker_id = excluded.worker_id, epoch = excluded.epoch, expires_at = excluded.expires_at,
                 place = excluded.place
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
             select project_id, '{started}', id, recording_id,
                    jsonb_build_object('job_id', id, 'kind', kind, 'recording_id', recording_id)
             from started
         )
         select task.id, task.epoch, task.job_id, task.project_id, task.spec, task.attempts, task.created_at,
                extract(epoch from now() - task.ready_at)::float8 as waited,
                j.recording_id, j.spec as job_spec, j.traceparent
         from task join jobs j on j.id = task.job_id",
        started = EventType::JobStarted
    )
}
