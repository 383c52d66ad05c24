//! A failed or cancelled job once more: what was published of it is adopted, the rest done again by the same recipe.

use std::collections::HashMap;

use super::events::{EventType, NewEvent, append};
use super::jobs::{self, Job};
use super::{Db, DbError, GenericClient, recordings, retrying, sources, tasks};
use crate::ids::{JobId, ProjectId, TaskId};
use crate::job::plan::NewTask;
use crate::job::spec::JobSpec;
use crate::job::state::JobStatus;

/// What came of a wish to retry a job.
#[derive(Debug)]
pub enum Retried {
    /// The new job, and its tasks.
    Anew(Box<Job>, Vec<NewTask>),
    /// It is not over, or went well.
    Needless(JobStatus),
    NotFound,
}

/// Makes a job, with the id `anew`, that does what an earlier one left undone.
///
/// # Errors
/// [`DbError::Busy`] where another retry of it, or another job that encodes for the recording, is open; [`DbError::Gone`] where the
/// recording, the source or the mark on the picture were deleted.
pub async fn retry(
    db: &Db,
    project: ProjectId,
    id: JobId,
    anew: JobId,
    traceparent: Option<&str>,
) -> Result<Retried, DbError> {
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        // Of two retries at once the second sees the first.
        let row = tx
            .query_opt(
                "select status, spec, recording_id from jobs where id = $1 and project_id = $2 and hidden_at is null for no key update",
                &[&id.0, &project.0],
            )
            .await?;
        let Some(row) = row else { return Ok(Retried::NotFound) };
        let status: JobStatus = row.get::<_, &str>("status").parse()?;
        if !matches!(status, JobStatus::Failed | JobStatus::Cancelled) {
            return Ok(Retried::Needless(status));
        }
        match rival(&tx, id).await? {
            // An earlier try was committed, and nobody learnt of it.
            Some(open) if open == anew => {
                let row = tx.query_one(&format!("select {} from jobs where id = $1", jobs::COLUMNS), &[&open.0]).await?;
                return Ok(Retried::Anew(Box::new(jobs::read(&row)?), vec![]));
            }
            Some(open) => return Err(DbError::Busy(open)),
            None => {}
        }
        let spec: JobSpec = serde_json::from_value(row.get("spec"))?;
        sources::hold(&tx, spec.source).await?;
        if let Some(mark) = &spec.edit.watermark {
            sources::hold(&tx, mark.source).await?;
        }
        let recording = row.get::<_, Option<_>>("recording_id").map(crate::ids::RecordingId);
        if let Some(recording) = recording {
            recordings::hold(&tx, recording).await?;
        }
        let left = undone(&tx, id).await?;
        let job = insert(&tx, id, anew, left.len(), traceparent).await?;
        tasks::insert(&tx, job.id, &left).await?;
        // Its work goes on in the same sets.
        tx.execute("update sets set job_id = $2 where job_id = $1", &[&id.0, &job.id.0]).await?;
        if let Some(recording) = recording {
            recordings::set_again(&tx, recording).await?;
        }
        let data = serde_json::json!({
            "job_id": job.id, "kind": job.kind, "recording_id": recording, "retry_of": id,
        });
        let event = NewEvent {
            project_id: project,
            kind: EventType::JobQueued,
            job_id: Some(job.id),
            recording_id: recording,
            livestream_id: None,
            data,
        };
        append(&tx, event).await?;
        let job = if left.is_empty() { jobs::pass(&tx, &job).await? } else { job };
        tx.commit().await?;
        Ok(Retried::Anew(Box::new(job), left))
    })
    .await
}

/// An open job that does the same work, or encodes for the same recording.
async fn rival(tx: &impl GenericClient, id: JobId) -> Result<Option<JobId>, DbError> {
    let row = tx
        .query_opt(
            "select other.id from jobs mine join jobs other
                 on other.retry_of = mine.id
                    or (other.recording_id = mine.recording_id and jsonb_typeof(other.spec -> 'profile') = 'object'
                        and jsonb_typeof(mine.spec -> 'profile') = 'object')
             where mine.id = $1 and other.id <> mine.id and other.status in ('queued', 'running')
             order by other.id limit 1",
            &[&id.0],
        )
        .await?;
    Ok(row.map(|row| JobId(row.get(0))))
}

/// Copies of the tasks of a job that have not succeeded, in their order, waiting for each other as they did.
async fn undone(tx: &impl GenericClient, job: JobId) -> Result<Vec<NewTask>, DbError> {
    let rows = tx
        .query(
            "select id, spec, pool, unblocks from tasks where job_id = $1 and status <> 'succeeded'
             order by position, id",
            &[&job.0],
        )
        .await?;
    let names: HashMap<uuid::Uuid, TaskId> = rows.iter().map(|row| (row.get("id"), TaskId::new())).collect();
    let mut waiting: HashMap<TaskId, i32> = HashMap::new();
    let mut left = vec![];
    for row in &rows {
        let unblocks: Vec<uuid::Uuid> = row.get("unblocks");
        let unblocks: Vec<TaskId> = unblocks.iter().filter_map(|id| names.get(id).copied()).collect();
        for next in &unblocks {
            *waiting.entry(*next).or_default() += 1;
        }
        let Some(id) = names.get(&row.get("id")).copied() else { continue };
        let spec = serde_json::from_value(row.get("spec"))?;
        left.push(NewTask { id, spec, pool: row.get::<_, &str>("pool").parse()?, blocked_by: 0, unblocks });
    }
    for task in &mut left {
        task.blocked_by = waiting.get(&task.id).copied().unwrap_or(0);
    }
    Ok(left)
}

/// The new job's row: what was found out and decided for the old one holds.
async fn insert(
    tx: &impl GenericClient,
    old: JobId,
    anew: JobId,
    pending: usize,
    traceparent: Option<&str>,
) -> Result<Job, DbError> {
    let text = format!(
        "insert into jobs (id, project_id, recording_id, kind, priority, spec, metadata, pending, retry_of, traceparent, result)
         select $2, project_id, recording_id, kind, priority, spec, metadata, $3, id, $4, result
         from jobs where id = $1
         returning {}",
        jobs::COLUMNS
    );
    let row = tx.query_one(&text, &[&old.0, &anew.0, &(pending as i32), &traceparent]).await?;
    jobs::read(&row)
}
