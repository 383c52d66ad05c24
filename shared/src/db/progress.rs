//! The latest progress of running tasks: not in the log, overwritten in place.

use chrono::{DateTime, Utc};

use super::tasks::{Hold, Progress};
use super::{Db, DbError};
use crate::ids::{JobId, TaskId};

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
