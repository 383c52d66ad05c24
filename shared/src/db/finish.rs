//! How a task ends: one guarded transaction each. Zero rows for the guard means a lost race, and nothing is written.
//!
//! Rows are always locked in one order: tasks of a job by position, each before its lease, then the job, its source, its
//! recording. The claim, the cancel and the deletion keep it too, so none of them ever waits for another in a circle. Two last
//! finishers meet at the job's counter.

use std::time::Duration;

use serde_json::Value;

use super::downloads::Download;
use super::reuse::{self, Borrowed};
use super::sets::{EncodedRendition, Measured};
use super::sources::Piece;
use super::stills::{Still, StillKind};
use super::tasks::{Claimed, Hold, ring};
use super::{
    Db, DbError, GenericClient, downloads, jobs, pictures, quality, recordings, retrying, sets, sources,
    stills, tasks,
};
use crate::broker::Ring;
use crate::ids::{JobId, RecordingId, SetId, SourceId, TaskId};
use crate::job::error::{Reason, TaskError};
use crate::job::plan::{NewTask, Plan};
use crate::job::quality::SegmentQuality;
use crate::job::retry;
use crate::job::spec::PictureRequest;
use crate::job::state::{JobStatus, Outcome, TaskStatus};
use crate::job::transition::words;
use crate::media::probe::Probe;
use crate::media::storyboard::Storyboard;

/// What a finished task makes visible.
#[derive(Debug, Clone)]
pub enum Publication {
    /// A source lies in the store now.
    Stored {
        source: SourceId,
        pieces: Vec<Piece>,
        sha256: Vec<u8>,
    },
    /// A source was looked into.
    Probed {
        source: SourceId,
        probe: Box<Probe>,
        sha256: Vec<u8>,
    },
    /// A source lies in the store in another container, for as long as the job needs it.
    Remuxed {
        of: SourceId,
        remuxed: SourceId,
        piece: Piece,
        sha256: Vec<u8>,
        probe: Box<Probe>,
    },
    /// The rest of the job.
    Planned {
        recording: RecordingId,
        plan: Box<Plan>,
    },
    /// More tasks of the job.
    Tasks(Vec<NewTask>),
    Rendition {
        set: SetId,
        encoded: Box<EncodedRendition>,
    },
    /// Segments of a set were compared with their source.
    Quality {
        set: SetId,
        measured: Vec<SegmentQuality>,
    },
    Picture {
        recording: RecordingId,
        request: PictureRequest,
        key: String,
        bytes: u64,
    },
    /// A recording is known by another moment from now on, which its picture without a time shows; `None` for the usual one.
    Poster {
        recording: RecordingId,
        at_ms: Option<u64>,
        size: (u32, u32),
    },
    Storyboard {
        set: SetId,
        board: Storyboard,
        sheets: Vec<Still>,
    },
    Thumbnails {
        set: SetId,
        series: Vec<Still>,
    },
    /// The recording plays a finished set that it was lent by [`super::reuse::borrow`].
    Reused {
        recording: RecordingId,
        borrowed: Borrowed,
    },
    /// The set is whole, its static playlists are written: the recording plays it from now on.
    Ready {
        recording: RecordingId,
        set: SetId,
        static_prefix: String,
        duration_seconds: f64,
        measured: Vec<Measured>,
    },
    Download {
        recording: RecordingId,
        set: SetId,
        download: Download,
    },
    /// What the job as a whole has to show, read back in its outputs.
    JobResult(Value),
}

impl Publication {
    fn tasks(&self) -> &[NewTask] {
        match self {
            Self::Planned { plan, .. } => &plan.tasks,
            Self::Tasks(tasks) => tasks,
            _ => &[],
        }
    }
}

/// What followed from a task's end. Times are counted from when the source was stored, or the job submitted if that was later.
#[derive(Debug, Default)]
pub struct Followed {
    /// Tasks that became ready.
    pub rings: Vec<Ring>,
    /// Set where the job is over now.
    pub job: Option<JobStatus>,
    /// Set where the recording can be played from now on, before it is whole.
    pub playable: Option<Duration>,
    /// Set where the recording is whole from now on.
    pub ready: Option<Duration>,
}

/// Ends a task well: publishes what it made, unblocks what waited for it, and completes the job if it was the last.
///
/// # Errors
/// [`DbError::LostRace`] where `claimed` no longer owns the task; nothing is written then.
pub async fn succeed(
    db: &Db,
    claimed: &Claimed,
    publications: &[Publication],
    attempt: &AttemptNote,
) -> Result<Followed, DbError> {
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        let new: Vec<&NewTask> = publications.iter().flat_map(Publication::tasks).collect();
        let closed =
            close_task(&tx, claimed.hold, Outcome::Succeeded, None, attempt, new.len() as i32).await?;
        let mut followed = Followed::default();
        for row in closed.iter().filter(|row| row.get::<_, Option<uuid::Uuid>>("id").is_some()) {
            followed.rings.push(ring(row, claimed.job_id)?);
        }
        followed.rings.extend(new.iter().filter(|task| task.blocked_by == 0).map(|task| Ring::from(*task)));
        let pending = closed.first().and_then(|row| row.get::<_, Option<i32>>("pending"));
        for publication in publications {
            publish(&tx, claimed, publication).await?;
        }
        followed.playable = playable(&tx, claimed, publications).await?;
        let readies = |p: &Publication| matches!(p, Publication::Ready { .. } | Publication::Reused { .. });
        if publications.iter().any(readies) {
            followed.ready = Some(jobs::set_ready(&tx, claimed.job_id).await?);
        }
        if pending == Some(0) {
            jobs::conclude(&tx, claimed.job_id, JobStatus::Succeeded, None).await?;
            followed.job = Some(JobStatus::Succeeded);
        }
        tx.commit().await?;
        Ok(followed)
    })
    .await
}

/// What is kept of an attempt besides its outcome.
#[derive(Debug, Clone, Default)]
pub struct AttemptNote {
    /// The end of FFmpeg's log.
    pub log_tail: Option<String>,
    /// Of its FFmpeg, all threads together; `None` where it ran none or could not tell.
    pub cpu_seconds: Option<f64>,
}

/// Ends an attempt badly: the task waits for its next one, or it and its job have failed for good.
///
/// # Errors
/// [`DbError::LostRace`] where `claimed` no longer owns the task.
pub async fn fail(
    db: &Db,
    claimed: &Claimed,
    error: &TaskError,
    attempt: &AttemptNote,
    jitter: f64,
) -> Result<Followed, DbError> {
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        let followed =
            end_attempt(&tx, claimed.hold, claimed.job_id, Outcome::Failed, error, attempt, jitter).await?;
        tx.commit().await?;
        Ok(followed)
    })
    .await
}

/// Gives a task back untouched, without counting the attempt: the worker shuts down.
///
/// # Errors
/// [`DbError::LostRace`] where `hold` no longer owns the task.
pub async fn release(db: &Db, job: JobId, hold: Hold) -> Result<Followed, DbError> {
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        let row = reopen(&tx, hold, Duration::ZERO, None, false).await?;
        close_attempt(&tx, hold, Outcome::Released, None, &AttemptNote::default()).await?;
        tx.commit().await?;
        Ok(Followed { rings: vec![ring(&row, job)?], ..Followed::default() })
    })
    .await
}

/// For so long a task is left alone by workers that do not understand its orders.
const LEFT: Duration = Duration::from_secs(30);
/// A task that was left so often, an hour's worth, is left no more: no worker that understands it seems to come.
const MOST_LEFT: i64 = 120;

/// Gives a task back whose orders do not read here, without counting the attempt: a worker of a newer version may have it after a
/// while. Where none came in an hour the task has failed.
///
/// # Errors
/// [`DbError::LostRace`] where `hold` no longer owns the task.
pub(super) async fn leave(db: &Db, job: JobId, hold: Hold, why: &serde_json::Error) -> Result<(), DbError> {
    let doing = "the orders of this task do not read; it needs a worker of the version that wrote them";
    let error = &TaskError::internal(doing, why);
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        let left =
            "select count(*) from attempts where task_id = $1 and outcome = 'released' and error is not null";
        if tx.query_one(left, &[&hold.task_id.0]).await?.get::<_, i64>(0) < MOST_LEFT {
            reopen(&tx, hold, LEFT, Some(error), false).await?;
            close_attempt(&tx, hold, Outcome::Released, Some(error), &AttemptNote::default()).await?;
        } else {
            let error = TaskError { retryable: false, ..error.clone() };
            end_attempt(&tx, hold, job, Outcome::Failed, &error, &AttemptNote::default(), 0.0).await?;
        }
        tx.commit().await?;
        Ok(())
    })
    .await
}

/// Takes back the tasks whose lease ran out, `limit` at most, guarded by the scheduler's leadership.
pub async fn expire_leases(
    db: &Db,
    leadership: &super::leader::Leadership,
    limit: i64,
) -> Result<Vec<Followed>, DbError> {
    let client = db.get().await?;
    let rows = client
        .query(
            "select l.task_id, l.epoch, t.job_id from task_leases l join tasks t on t.id = l.task_id
             where l.expires_at < now() order by l.expires_at limit $1",
            &[&limit],
        )
        .await?;
    drop(client);
    let mut all = vec![];
    for row in rows {
        let hold = Hold { task_id: TaskId(row.get("task_id")), epoch: row.get("epoch") };
        match expire(db, leadership, JobId(row.get("job_id")), hold).await {
            Ok(followed) => all.push(followed),
            // Renewed, finished or taken meanwhile.
            Err(DbError::LostRace) => {}
            Err(DbError::NotLeader) => return Err(DbError::NotLeader),
            // One bad row must not keep the others from being taken back.
            Err(error) => tracing::error!(%error, task_id = %hold.task_id, "could not take a task back"),
        }
    }
    Ok(all)
}

async fn expire(
    db: &Db,
    leadership: &super::leader::Leadership,
    job: JobId,
    hold: Hold,
) -> Result<Followed, DbError> {
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        leadership.guard(&tx).await?;
        tx.execute("select 1 from tasks where id = $1 for no key update", &[&hold.task_id.0]).await?;
        // Looked at again under a lock: a beat may have come since the list was read.
        let expired = tx
            .query_opt(
                "select 1 from task_leases where task_id = $1 and epoch = $2 and expires_at < now() for update",
                &[&hold.task_id.0, &hold.epoch],
            )
            .await?;
        if expired.is_none() {
            return Err(DbError::LostRace);
        }
        let error = TaskError::retryable(
            Reason::WorkerLost,
            "the worker that ran this task died or lost touch with the database",
        );
        let note = AttemptNote::default();
        let followed = match end_attempt(&tx, hold, job, Outcome::Lost, &error, &note, 0.5).await {
            Err(DbError::LostRace) => {
                // A lease without its task: the task was ended beside a claim of it. Nothing is to be done but to tidy up.
                tx.execute(
                    "delete from task_leases where task_id = $1 and epoch = $2",
                    &[&hold.task_id.0, &hold.epoch],
                )
                .await?;
                close_attempt(&tx, hold, Outcome::Lost, None, &note).await?;
                Followed::default()
            }
            other => other?,
        };
        tx.commit().await?;
        Ok(followed)
    })
    .await
}

async fn end_attempt(
    tx: &impl GenericClient,
    hold: Hold,
    job: JobId,
    outcome: Outcome,
    error: &TaskError,
    note: &AttemptNote,
    jitter: f64,
) -> Result<Followed, DbError> {
    let row =
        tx.query_opt("select attempts, max_attempts from tasks where id = $1", &[&hold.task_id.0]).await?;
    let (attempts, most): (i32, i32) = row.map_or((0, 0), |row| (row.get(0), row.get(1)));
    let mut followed = Followed::default();
    if error.retryable && attempts < most {
        // A lost worker says nothing about the task: it goes on at once.
        let wait = if outcome == Outcome::Lost { Duration::ZERO } else { retry::backoff(attempts, jitter) };
        let row = reopen(tx, hold, wait, Some(error), true).await?;
        if wait.is_zero() {
            followed.rings.push(ring(&row, job)?);
        }
        close_attempt(tx, hold, outcome, Some(error), note).await?;
    } else {
        lock_open_tasks(tx, job).await?;
        close_task(tx, hold, outcome, Some(error), note, 0).await?;
        jobs::conclude(tx, job, JobStatus::Failed, Some(error)).await?;
        followed.job = Some(JobStatus::Failed);
    }
    Ok(followed)
}

/// Takes the locks that ending a job early needs, in the order everybody takes them.
pub(super) async fn lock_open_tasks(tx: &impl GenericClient, job: JobId) -> Result<(), DbError> {
    let statement = tx
        .prepare_cached(
            "select 1 from tasks where job_id = $1 and status in ('blocked', 'ready', 'running')
             order by position, id for no key update",
        )
        .await?;
    tx.execute(&statement, &[&job.0]).await?;
    Ok(())
}

/// The guard: brings the task to a final state if this epoch owns it, and its attempt with it. Where it succeeded, what waited for it is
/// unblocked and its job counts it and the `new` ones. One statement, because each costs a round trip on the way of every task. Returns
/// at least one row: `pending` of the job where it was counted, and `id`, `pool` and `class` of what became ready.
async fn close_task(
    tx: &impl GenericClient,
    hold: Hold,
    outcome: Outcome,
    error: Option<&TaskError>,
    note: &AttemptNote,
    new: i32,
) -> Result<Vec<tokio_postgres::Row>, DbError> {
    let status = if outcome == Outcome::Succeeded { TaskStatus::Succeeded } else { TaskStatus::Failed };
    let statement = tx
        .prepare_cached(
            "with ended as (
                 update tasks set status = $3, error = $4, finished_at = now()
                 where id = $1 and epoch = $2 and status = any($5) returning id, job_id, unblocks),
             freed as (delete from task_leases l using ended where l.task_id = ended.id returning 1),
             attempt as (
                 update attempts a set outcome = $6, error = $4, log_tail = $7, cpu_seconds = $8, finished_at = now()
                 from ended where a.task_id = ended.id and a.epoch = $2 returning a.prefix),
             swept as (
                 insert into garbage (prefix, due_at)
                 select prefix, now() + interval '1 minute' from attempt where $6 <> 'succeeded'),
             unblocked as (
                 update tasks t
                 set blocked_by = t.blocked_by - 1,
                     status = case when t.blocked_by = 1 then 'ready' else t.status end,
                     ready_key = case when t.blocked_by = 1 then t.ready_key + (now() - t.ready_at) else t.ready_key end,
                     ready_at = case when t.blocked_by = 1 then now() else t.ready_at end
                 from ended
                 where $6 = 'succeeded' and t.id = any(ended.unblocks) and t.status = 'blocked'
                 returning t.id, t.pool, t.class, t.status),
             counted as (
                 update jobs j set pending = j.pending + $9 - 1
                 -- Counted behind them, because everybody locks the tasks and their leases before the job.
                 from ended, (select count(*) from unblocked) as first, (select count(*) from freed) as second
                 where $6 = 'succeeded' and j.id = ended.job_id
                 returning j.pending)
             select c.pending, u.id, u.pool, u.class
             from ended left join counted c on true left join unblocked u on u.status = 'ready'",
        )
        .await?;
    let rows = tx
        .query(
            &statement,
            &[
                &hold.task_id.0,
                &hold.epoch,
                &status.as_str(),
                &error.map(serde_json::to_value).transpose()?,
                &words(status.predecessors()),
                &outcome.as_str(),
                &note.log_tail,
                &note.cpu_seconds,
                &new,
            ],
        )
        .await?;
    if rows.is_empty() { Err(DbError::LostRace) } else { Ok(rows) }
}

/// The guard of the other way: the task is ready again after `wait`.
async fn reopen(
    tx: &impl GenericClient,
    hold: Hold,
    wait: Duration,
    error: Option<&TaskError>,
    counts: bool,
) -> Result<tokio_postgres::Row, DbError> {
    let row = tx
        .query_opt(
            &format!(
                "with reopened as (
                 update tasks t
                 set status = 'ready', error = $4, attempts = t.attempts - case when $5 then 0 else 1 end,
                     avoid_worker = case when $5 then (select worker_id from task_leases where task_id = t.id) end,
                     ready_at = r.at, deferred = r.at > now(),
                     ready_key = case when r.at > now() then r.at else {} end
                 from jobs j, (select now() + make_interval(secs => $3) as at) r
                 where t.id = $1 and t.epoch = $2 and t.status = 'running' and j.id = t.job_id
                 returning t.id, t.pool, t.class),
             freed as (delete from task_leases l using reopened where l.task_id = reopened.id)
             select id, pool, class from reopened",
                tasks::ready_key("r.at", "j.priority", "t.ahead_seconds")
            ),
            &[
                &hold.task_id.0,
                &hold.epoch,
                &wait.as_secs_f64(),
                &error.map(serde_json::to_value).transpose()?,
                &counts,
            ],
        )
        .await?;
    row.ok_or(DbError::LostRace)
}

/// Ends an attempt whose task goes on.
async fn close_attempt(
    tx: &impl GenericClient,
    hold: Hold,
    outcome: Outcome,
    error: Option<&TaskError>,
    note: &AttemptNote,
) -> Result<(), DbError> {
    let statement = tx
        .prepare_cached(
            "with ended as (
                 update attempts set outcome = $3, error = $4, log_tail = $5, cpu_seconds = $6, finished_at = now()
                 where task_id = $1 and epoch = $2 returning prefix, started_at)
             insert into garbage (prefix, due_at)
             select prefix, now() + interval '1 minute' from ended where $3 <> 'succeeded'",
        )
        .await?;
    tx.execute(
        &statement,
        &[
            &hold.task_id.0,
            &hold.epoch,
            &outcome.as_str(),
            &error.map(serde_json::to_value).transpose()?,
            &note.log_tail,
            &note.cpu_seconds,
        ],
    )
    .await?;
    Ok(())
}

async fn publish(
    tx: &impl GenericClient,
    claimed: &Claimed,
    publication: &Publication,
) -> Result<(), DbError> {
    match publication {
        Publication::Stored { source, pieces, sha256 } => {
            sources::set_stored(tx, *source, pieces, Some(sha256)).await
        }
        Publication::Probed { source, probe, sha256 } => sources::set_probe(tx, *source, probe, sha256).await,
        Publication::Remuxed { of, remuxed, piece, sha256, probe } => {
            sources::insert_remuxed(tx, *of, *remuxed, std::slice::from_ref(piece), sha256, probe).await
        }
        Publication::Planned { recording, plan } => {
            sets::insert(
                tx,
                claimed.project_id,
                &plan.set,
                plan.duration_seconds,
                claimed.job_id,
                *recording,
            )
            .await?;
            if let Some(adopted) = &plan.adopted {
                reuse::adopt(tx, *recording, plan.set.id, adopted).await?;
            }
            tasks::insert(tx, claimed.job_id, &plan.tasks).await?;
            merge_result(tx, claimed.job_id, &serde_json::json!({ "plan": plan.summary })).await
        }
        Publication::Tasks(tasks) => tasks::insert(tx, claimed.job_id, tasks).await,
        Publication::Rendition { set, encoded } => sets::publish(tx, *set, claimed.hold.epoch, encoded).await,
        Publication::Quality { set, measured } => quality::publish(tx, *set, measured).await,
        Publication::Picture { recording, request, key, bytes } => {
            pictures::put(tx, *recording, *request, key, *bytes).await
        }
        Publication::Poster { recording, at_ms, size } => {
            pictures::set_poster(tx, *recording, *at_ms, *size).await
        }
        Publication::Storyboard { set, board, sheets } => {
            stills::publish(tx, *set, claimed.hold.epoch, StillKind::Sheet, sheets).await?;
            stills::set_storyboard(tx, *set, board).await
        }
        Publication::Thumbnails { set, series } => {
            stills::publish(tx, *set, claimed.hold.epoch, StillKind::Thumbnail, series).await
        }
        Publication::Reused { recording, borrowed } => {
            reuse::activate(tx, claimed, *recording, borrowed).await
        }
        Publication::Ready { recording, set, static_prefix, duration_seconds, measured } => {
            sets::set_measured(tx, *set, measured).await?;
            sets::activate(tx, *recording, *set, static_prefix).await?;
            recordings::set_ready(tx, claimed.project_id, *recording, claimed.job_id, *duration_seconds).await
        }
        Publication::Download { recording, set, download } => {
            downloads::put(tx, claimed, *recording, *set, download).await
        }
        Publication::JobResult(result) => merge_result(tx, claimed.job_id, result).await,
    }
}

/// Lets the recording be played where what was just published is what a player needs to begin.
async fn playable(
    tx: &impl GenericClient,
    claimed: &Claimed,
    publications: &[Publication],
) -> Result<Option<Duration>, DbError> {
    let set = publications.iter().find_map(|publication| match publication {
        Publication::Rendition { set, .. } => Some(*set),
        _ => None,
    });
    let Some(set) = set else { return Ok(None) };
    let Some(playable) = sets::make_playable(tx, set).await? else { return Ok(None) };
    recordings::set_playable(tx, claimed.project_id, claimed.job_id, playable).await?;
    Ok(Some(jobs::set_playable(tx, claimed.job_id).await?))
}

pub(super) async fn merge_result(tx: &impl GenericClient, job: JobId, result: &Value) -> Result<(), DbError> {
    tx.execute("update jobs set result = coalesce(result, '{}') || $2 where id = $1", &[&job.0, result])
        .await?;
    Ok(())
}
