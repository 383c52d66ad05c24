//! The latest progress of running tasks: not in the log, overwritten in place. The log is only told when a job has come another quarter
//! of its way.

use chrono::{DateTime, Utc};

use super::events::{EventType, NewEvent, append};
use super::jobs::{self, Job};
use super::leader::Leadership;
use super::tasks::{self, Hold, Progress, Task};
use super::{Db, DbError};
use crate::ids::{JobId, TaskId};
use crate::job::spec::JobKind;
use crate::job::state::{JobStatus, TaskStatus};
use crate::job::task::TaskKind;

/// Weight of what a transcode's plan will bring, until it is there.
const UNPLANNED: f64 = 105.0;

/// How far a job is, 0 to 1: its tasks by weight, and something for those that are not planned yet.
pub fn of_job(job: &Job, tasks: &[Task]) -> f64 {
    if job.status == JobStatus::Succeeded {
        return 1.0;
    }
    let unplanned = match job.kind {
        JobKind::Transcode | JobKind::VodConvert
            if job.spec.profile.is_some() && tasks.iter().all(|task| task.kind != TaskKind::Finish) =>
        {
            UNPLANNED
        }
        _ => 0.0,
    };
    let whole: f64 = tasks.iter().map(|task| task.spec.weight()).sum::<f64>() + unplanned;
    let done: f64 = tasks.iter().map(|task| task.spec.weight() * of_task(task)).sum();
    // One only when it is over.
    if whole > 0.0 { (done / whole).min(0.999) } else { 0.0 }
}

/// How far a task is, 0 to 1.
pub fn of_task(task: &Task) -> f64 {
    match task.status {
        TaskStatus::Succeeded => 1.0,
        TaskStatus::Running => task.progress.as_ref().map_or(0.0, |progress| f64::from(progress.progress)),
        _ => 0.0,
    }
}

/// Tells of jobs that have come another quarter of their way, guarded by leadership; the last quarter is told by the job's end. Returns
/// how many.
pub async fn tell(db: &Db, leadership: &Leadership) -> Result<u64, DbError> {
    let running = jobs::running(db).await?;
    let ids: Vec<JobId> = running.iter().map(|(job, _)| job.id).collect();
    let tasks = tasks::of_jobs(db, &ids).await?;
    let mut told = 0;
    for (job, quarter) in running {
        let progress = of_job(&job, tasks.get(&job.id).map_or(&[][..], Vec::as_slice));
        let reached = (progress * 4.0) as i16;
        if reached <= quarter {
            continue;
        }
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        leadership.guard(&tx).await?;
        let noted = tx
            .execute(
                "update jobs set told_quarter = $2 where id = $1 and status = 'running' and told_quarter < $2",
                &[&job.id.0, &reached],
            )
            .await?;
        if noted == 1 {
            let data = serde_json::json!({
                "job_id": job.id, "kind": job.kind, "recording_id": job.recording_id, "progress": f64::from(reached) / 4.0,
            });
            let event = NewEvent {
                project_id: job.project_id,
                kind: EventType::JobProgress,
                job_id: Some(job.id),
                recording_id: job.recording_id,
                livestream_id: None,
                data,
            };
            append(&tx, event).await?;
            tx.commit().await?;
            told += 1;
        }
    }
    Ok(told)
}

/// Writes progress. False where the lease is lost: stop the work.
pub async fn put(db: &Db, job: JobId, hold: Hold, progress: &Progress) -> Result<bool, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "insert into task_progress (task_id, job_id, epoch, progress, phase, fps, speed, eta_seconds)
             select task_id, $2, epoch, $4, $5, $6, $7, $8 from task_leases where task_id = $1 and epoch = $3
             on conflict (task_id) do update
             set epoch = excluded.epoch, progress = excluded.progress, phase = excluded.phase, fps = excluded.fps,
                 speed = excluded.speed, eta_seconds = excluded.eta_seconds, updated_at = clock_timestamp()
             where task_progress.epoch <= excluded.epoch",
        )
        .await?;
    let written = client
        .execute(
            &statement,
            &[
                &hold.task_id.0,
                &job.0,
                &hold.epoch,
                &progress.progress,
                &progress.phase,
                &progress.fps,
                &progress.speed,
                &progress.eta_seconds,
            ],
        )
        .await?;
    Ok(written == 1)
}

/// Keeps the exact command of an attempt. Guarded by its epoch through the attempt's key.
pub async fn note_command(db: &Db, hold: Hold, command: &[String]) -> Result<(), DbError> {
    let client = db.get().await?;
    let statement =
        client.prepare_cached("update attempts set command = $3 where task_id = $1 and epoch = $2").await?;
    client.execute(&statement, &[&hold.task_id.0, &hold.epoch, &command]).await?;
    Ok(())
}

/// Progress of a task that changed.
#[derive(Debug, Clone)]
pub struct Changed {
    pub job_id: JobId,
    pub task_id: TaskId,
    pub progress: Progress,
    pub updated_at: DateTime<Utc>,
}

/// What changed for tasks of these jobs since `since`, in order of time.
pub async fn changed_since(db: &Db, jobs: &[JobId], since: DateTime<Utc>) -> Result<Vec<Changed>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select job_id, task_id, progress, phase, fps, speed, eta_seconds, updated_at from task_progress
             where job_id = any($1) and updated_at > $2 order by updated_at",
        )
        .await?;
    let jobs: Vec<_> = jobs.iter().map(|job| job.0).collect();
    let rows = client.query(&statement, &[&jobs, &since]).await?;
    Ok(rows
        .iter()
        .map(|row| Changed {
            job_id: JobId(row.get("job_id")),
            task_id: TaskId(row.get("task_id")),
            progress: Progress {
                progress: row.get("progress"),
                phase: row.get("phase"),
                fps: row.get("fps"),
                speed: row.get("speed"),
                eta_seconds: row.get("eta_seconds"),
            },
            updated_at: row.get("updated_at"),
        })
        .collect())
}

/// Deletes the progress of tasks that are over. Returns how many.
pub async fn delete_stale(db: &Db) -> Result<u64, DbError> {
    let gone = db
        .get()
        .await?
        .execute(
            "delete from task_progress p
             where p.updated_at < now() - interval '10 minutes'
               and not exists (select 1 from task_leases l where l.task_id = p.task_id)",
            &[],
        )
        .await?;
    Ok(gone)
}
