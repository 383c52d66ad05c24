//! Jobs: submitted, read, cancelled.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Row;

use super::events::{EventType, NewEvent, append};
use super::recordings::{self, NewRecording};
use super::{Db, DbError, GenericClient, known, retrying, sets, sources, tasks};
use crate::ids::{JobId, ProjectId, RecordingId, SetId};
use crate::job::edit::Edit;
use crate::job::error::{Reason, TaskError};
use crate::job::plan::NewTask;
use crate::job::spec::{JobKind, JobSpec, PictureRequest};
use crate::job::state::{JobStatus, TaskStatus};
use crate::job::transition::words;

mod control;

pub use control::{Cancelled, cancel, set_priority};

/// A job as read back.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: JobId,
    pub project_id: ProjectId,
    pub recording_id: Option<RecordingId>,
    pub kind: JobKind,
    pub status: JobStatus,
    pub priority: i16,
    pub spec: JobSpec,
    pub metadata: Value,
    pub result: Option<Value>,
    pub error: Option<TaskError>,
    pub retry_of: Option<JobId>,
    pub traceparent: Option<String>,
    pub run_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    /// When the recording could first be played for this job's work.
    pub playable_at: Option<DateTime<Utc>>,
    /// When all of it could.
    pub ready_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// It has reached its age: only its recording still needs it.
    pub hidden: bool,
    /// When the commands and logs of its attempts had reached their age.
    pub logs_deleted_at: Option<DateTime<Utc>>,
}

/// A job about to be submitted.
#[derive(Debug)]
pub struct NewJob {
    pub id: JobId,
    pub kind: JobKind,
    /// `None` where the job only tells what it would do.
    pub recording_id: Option<RecordingId>,
    pub priority: i16,
    pub spec: JobSpec,
    pub metadata: Value,
    pub run_at: Option<DateTime<Utc>>,
    pub traceparent: Option<String>,
    pub tasks: Vec<NewTask>,
    /// Where the job adds to what its recording has: what that was when the job was thought out.
    pub adds_to: Option<Basis>,
    /// Made in the same transaction where the job comes with a new recording.
    pub new_recording: Option<NewRecording>,
    /// The source is not stored yet; its row is made in the same transaction.
    pub new_source: bool,
}

/// What a recording has of qualities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// The set that is played; `None` where none is finished.
    pub set: Option<SetId>,
}

/// Columns of a job.
pub(super) const COLUMNS: &str = "id, project_id, recording_id, kind, status, priority, spec, metadata, result, error, \
                                  retry_of, traceparent, run_at, created_at, started_at, playable_at, ready_at, \
                                  finished_at, logs_deleted_at, hidden_at is not null as hidden";

pub(super) fn read(row: &Row) -> Result<Job, DbError> {
    Ok(Job {
        id: JobId(row.get("id")),
        project_id: ProjectId(row.get("project_id")),
        recording_id: row.get::<_, Option<_>>("recording_id").map(RecordingId),
        kind: row.get::<_, &str>("kind").parse()?,
        status: row.get::<_, &str>("status").parse()?,
        priority: row.get("priority"),
        spec: serde_json::from_value(row.get("spec"))?,
        metadata: row.get("metadata"),
        result: row.get("result"),
        error: row.get::<_, Option<_>>("error").map(serde_json::from_value).transpose()?,
        retry_of: row.get::<_, Option<_>>("retry_of").map(JobId),
        traceparent: row.get("traceparent"),
        run_at: row.get("run_at"),
        created_at: row.get("created_at"),
        started_at: row.get("started_at"),
        playable_at: row.get("playable_at"),
        ready_at: row.get("ready_at"),
        finished_at: row.get("finished_at"),
        hidden: row.get("hidden"),
        logs_deleted_at: row.get("logs_deleted_at"),
    })
}

/// Writes job, tasks, event and, where they are new, source and recording, in one transaction. Statements that do not need each
/// other's rows share a round trip: a worker waits for the commit.
///
/// # Errors
/// [`DbError::Gone`] where recording or source were deleted; of a job that adds to its recording [`DbError::Busy`] where another one that
/// encodes for it is open, and [`DbError::Changed`] where another set is played by now.
pub async fn submit(db: &Db, project: ProjectId, new: &NewJob) -> Result<Job, DbError> {
    match retrying(|| submit_once(db, project, new)).await {
        // An earlier try was committed, and nobody learnt of it.
        Err(error) if error.is_duplicate() => get(db, project, new.id).await?.ok_or(error),
        other => other,
    }
}

async fn submit_once(db: &Db, project: ProjectId, new: &NewJob) -> Result<Job, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // Held until the commit: a deletion that comes now waits and then sees this job.
    if new.new_source {
        sources::insert(&tx, project, new.spec.source, &new.spec.input).await?;
    } else {
        sources::hold(&tx, new.spec.source).await?;
    }
    if let Some(mark) = &new.spec.edit.watermark {
        sources::hold(&tx, mark.source).await?;
    }
    match (&new.new_recording, new.recording_id) {
        (Some(recording), _) => recordings::insert(&tx, project, recording).await?,
        (None, Some(recording)) => match new.adds_to {
            Some(basis) => stands(&tx, recording, basis).await?,
            None => recordings::hold(&tx, recording).await?,
        },
        (None, None) => {}
    }
    if let (true, None, Some(recording)) = (new.new_source, &new.new_recording, new.recording_id) {
        recordings::take_source(&tx, recording, new.spec.source).await?;
    }
    let job = insert(&tx, project, new).await?;
    let data = serde_json::json!({ "job_id": new.id, "kind": new.kind, "recording_id": new.recording_id });
    let event = NewEvent {
        project_id: project,
        kind: EventType::JobQueued,
        job_id: Some(new.id),
        recording_id: new.recording_id,
        livestream_id: None,
        data,
    };
    tokio::try_join!(tasks::insert(&tx, new.id, &new.tasks), append(&tx, event))?;
    let job = if new.tasks.is_empty() { pass(&tx, &job).await? } else { job };
    tx.commit().await?;
    Ok(job)
}

/// What a recording has now.
///
/// # Errors
/// [`DbError::Busy`] where an open job is about to change that.
pub async fn basis(db: &Db, recording: RecordingId) -> Result<Basis, DbError> {
    read_basis(&db.get().await?, recording).await
}

async fn read_basis(client: &impl GenericClient, recording: RecordingId) -> Result<Basis, DbError> {
    // In one statement: a job that ends meanwhile is open, or its set is there.
    let statement = client
        .prepare_cached(
            "select (select id from jobs where recording_id = $1 and status in ('queued', 'running')
                       and jsonb_typeof(spec -> 'profile') = 'object' order by id limit 1) as open,
                    (select set_id from recording_sets
                     where recording_id = $1 and active and static_prefix is not null
                     order by ordinal desc limit 1) as set",
        )
        .await?;
    let row = client.query_one(&statement, &[&recording.0]).await?;
    match row.get::<_, Option<_>>("open") {
        Some(job) => Err(DbError::Busy(JobId(job))),
        None => Ok(Basis { set: row.get::<_, Option<_>>("set").map(SetId) }),
    }
}

/// Makes sure that a recording has just what `basis` says and that nothing is about to change that; until the caller's transaction ends
/// nobody else who asks this is answered.
async fn stands(tx: &impl GenericClient, recording: RecordingId, basis: Basis) -> Result<(), DbError> {
    // In a statement of its own: the next one must see what was committed by who held the recording until now.
    recordings::hold_alone(tx, recording).await?;
    if read_basis(tx, recording).await? == basis { Ok(()) } else { Err(DbError::Changed) }
}

/// Brings a new job in which there is nothing to do to its end, by the way of all others. In the caller's transaction.
pub(super) async fn pass(tx: &impl GenericClient, job: &Job) -> Result<Job, DbError> {
    tx.execute("update jobs set status = 'running', started_at = now() where id = $1", &[&job.id.0]).await?;
    let (kind, recording_id) = (EventType::JobStarted, job.recording_id);
    let data = serde_json::json!({ "job_id": job.id, "kind": job.kind, "recording_id": recording_id });
    let event = NewEvent {
        project_id: job.project_id,
        kind,
        job_id: Some(job.id),
        recording_id,
        livestream_id: None,
        data,
    };
    append(tx, event).await?;
    conclude(tx, job.id, JobStatus::Succeeded, None).await?;
    let row = tx.query_one(&format!("select {COLUMNS} from jobs where id = $1"), &[&job.id.0]).await?;
    read(&row)
}

async fn insert(tx: &impl GenericClient, project: ProjectId, new: &NewJob) -> Result<Job, DbError> {
    let statement = tx
        .prepare_cached(&format!(
            "insert into jobs (id, project_id, recording_id, kind, priority, spec, metadata, pending, traceparent, run_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning {COLUMNS}"
        ))
        .await?;
    let row = tx
        .query_one(
            &statement,
            &[
                &new.id.0,
                &project.0,
                &new.recording_id.map(|id| id.0),
                &new.kind.as_str(),
                &new.priority,
                &serde_json::to_value(&new.spec)?,
                &new.metadata,
                &(new.tasks.len() as i32),
                &new.traceparent,
                &new.run_at,
            ],
        )
        .await?;
    read(&row)
}

/// The job with this id, of any project, unless its age has hidden it. The caller checks who asks.
pub async fn find(db: &Db, id: JobId) -> Result<Option<Job>, DbError> {
    let client = db.get().await?;
    let text = format!("select {COLUMNS} from jobs where id = $1 and hidden_at is null");
    let statement = client.prepare_cached(&text).await?;
    client.query_opt(&statement, &[&id.0]).await?.as_ref().map(read).transpose()
}

/// The project's job with this id.
pub async fn get(db: &Db, project: ProjectId, id: JobId) -> Result<Option<Job>, DbError> {
    Ok(find(db, id).await?.filter(|job| job.project_id == project))
}

/// The job that made a set, whether somebody still sees it or not.
pub async fn maker(db: &Db, set: SetId) -> Result<Option<Job>, DbError> {
    let client = db.get().await?;
    let text = format!("select {COLUMNS} from jobs where id = (select job_id from sets where id = $1)");
    let statement = client.prepare_cached(&text).await?;
    client.query_opt(&statement, &[&set.0]).await?.as_ref().map(read).transpose()
}

/// Which jobs are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct JobFilter {
    pub status: Option<JobStatus>,
    pub kind: Option<JobKind>,
    pub recording_id: Option<RecordingId>,
}

/// Jobs of a project, newest first, after `after`.
pub async fn list(
    db: &Db,
    project: ProjectId,
    filter: JobFilter,
    after: Option<JobId>,
    limit: i64,
) -> Result<Vec<Job>, DbError> {
    // One plan serves all calls of a statement: a condition that may be absent keeps it from the index of those that have it.
    let of_recording = match filter.recording_id {
        Some(_) => "recording_id = $4",
        None => "$4::uuid is null",
    };
    let in_status = match filter.status {
        // Most of a long history, for which no index is kept.
        Some(JobStatus::Succeeded) => "status = $2",
        Some(_) => "status = $2 and status <> 'succeeded'",
        None => "$2::text is null",
    };
    let text = format!(
        "select {COLUMNS} from jobs
         where project_id = $1 and hidden_at is null and {in_status} and ($3::text is null or kind = $3)
           and {of_recording} and ($5::uuid is null or id < $5)
         order by id desc limit $6"
    );
    let client = db.get().await?;
    let statement = client.prepare_cached(&text).await?;
    let rows = client
        .query(
            &statement,
            &[
                &project.0,
                &filter.status.map(|status| status.as_str()),
                &filter.kind.map(|kind| kind.as_str()),
                &filter.recording_id.map(|id| id.0),
                &after.map(|id| id.0),
                &limit,
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// The newest job of one of these kinds of each recording.
pub async fn newest_of(
    db: &Db,
    recordings: &[RecordingId],
    kinds: &[JobKind],
) -> Result<HashMap<RecordingId, Job>, DbError> {
    let client = db.get().await?;
    let text = format!(
        "select j.* from unnest($1::uuid[]) as r (id),
             lateral (select {COLUMNS} from jobs where recording_id = r.id and kind = any($2)
                      order by id desc limit 1) j"
    );
    let statement = client.prepare_cached(&text).await?;
    let ids: Vec<_> = recordings.iter().map(|id| id.0).collect();
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    let rows = client.query(&statement, &[&ids, &kinds]).await?;
    rows.iter().map(|row| Ok((RecordingId(row.get("recording_id")), read(row)?))).collect()
}

/// Brings a job to `status`, which is final, with everything that follows: open tasks are cancelled, their leases end,
/// what they wrote is swept, the recording and the log are told. Does nothing where the job is over already.
/// In the caller's transaction, which holds the open tasks' rows.
pub(super) async fn conclude(
    tx: &impl GenericClient,
    id: JobId,
    status: JobStatus,
    error: Option<&TaskError>,
) -> Result<(), DbError> {
    let statement = tx
        .prepare_cached(
            "update jobs set status = $2, error = $3, finished_at = now()
             where id = $1 and status = any($4)
             returning project_id, recording_id, kind",
        )
        .await?;
    let row = tx
        .query_opt(
            &statement,
            &[
                &id.0,
                &status.as_str(),
                &error.map(serde_json::to_value).transpose()?,
                &words(status.predecessors()),
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    if status != JobStatus::Succeeded {
        end_open_tasks(tx, id).await?;
    }
    sources::discard_remuxed(tx, id).await?;
    let recording = row.get::<_, Option<_>>("recording_id").map(RecordingId);
    if recording.is_none() {
        sources::discard_looked_at(tx, id).await?;
    }
    if let Some(recording) = recording.filter(|_| status != JobStatus::Succeeded) {
        let transcode = row.get::<_, &str>("kind") == JobKind::Transcode.as_str();
        let cancelled =
            TaskError::fatal(Reason::Cancelled, "the job that would have made this was cancelled");
        let why = if status == JobStatus::Cancelled { Some(&cancelled) } else { error };
        recordings::set_failed(tx, recording, transcode, why).await?;
        if error.is_some_and(|error| error.reason == Reason::Quality) {
            sets::withdraw(tx, id).await?;
        }
    }
    let kind = match status {
        JobStatus::Succeeded => EventType::JobSucceeded,
        JobStatus::Cancelled => EventType::JobCancelled,
        _ => EventType::JobFailed,
    };
    let data = serde_json::json!({
        "job_id": id, "kind": row.get::<_, &str>("kind"), "recording_id": recording, "error": error,
    });
    let project_id = ProjectId(row.get("project_id"));
    let event =
        NewEvent { project_id, kind, job_id: Some(id), recording_id: recording, livestream_id: None, data };
    append(tx, event).await
}

/// Notes that the recording can be played for this job's work; returns how long that took. In the caller's guarded transaction.
pub(super) async fn set_playable(tx: &impl GenericClient, id: JobId) -> Result<Duration, DbError> {
    tx.execute("update jobs set playable_at = now() where id = $1 and playable_at is null", &[&id.0]).await?;
    since_stored(tx, id).await
}

/// Notes that the recording is whole for this job's work; returns how long that took. In the caller's guarded transaction.
pub(super) async fn set_ready(tx: &impl GenericClient, id: JobId) -> Result<Duration, DbError> {
    tx.execute("update jobs set ready_at = now() where id = $1", &[&id.0]).await?;
    since_stored(tx, id).await
}

/// How long ago the job's source was stored, or the job submitted if that was later.
async fn since_stored(tx: &impl GenericClient, id: JobId) -> Result<Duration, DbError> {
    let row = tx
        .query_one(
            "select extract(epoch from now() - greatest(j.created_at, j.run_at, s.stored_at))::float8
             from jobs j left join sources s on s.id = (j.spec ->> 'source')::uuid
             where j.id = $1",
            &[&id.0],
        )
        .await?;
    Ok(Duration::from_secs_f64(row.get::<_, f64>(0).max(0.0)))
}

/// Cancels what is open. Each statement looks anew: a claim that was let in before the first one has left its lease by the second.
async fn end_open_tasks(tx: &impl GenericClient, id: JobId) -> Result<(), DbError> {
    let ended = tx
        .query(
            "update tasks set status = 'cancelled', finished_at = now()
             where job_id = $1 and status = any($2) returning id",
            &[&id.0, &words(TaskStatus::Cancelled.predecessors())],
        )
        .await?;
    let ended: Vec<uuid::Uuid> = ended.iter().map(|row| row.get(0)).collect();
    tx.execute("delete from task_leases where task_id = any($1)", &[&ended]).await?;
    tx.execute(
        "with told as (
             update attempts set outcome = 'cancelled', finished_at = now()
             where task_id = any($1) and outcome = 'running' returning prefix)
         insert into garbage (prefix, due_at) select prefix, now() + interval '1 minute' from told",
        &[&ended],
    )
    .await?;
    Ok(())
}

/// Jobs that workers are at, each with the quarter of its way that the log has told of.
pub(super) async fn running(db: &Db) -> Result<Vec<(Job, i16)>, DbError> {
    let client = db.get().await?;
    let text = format!(
        "select {COLUMNS}, told_quarter from jobs
         where status = 'running' and id in (select t.job_id from task_leases l join tasks t on t.id = l.task_id)"
    );
    let rows = client.query(&text, &[]).await?;
    known(&rows, |row| Ok((read(row)?, row.get("told_quarter"))))
}

/// Jobs of a recording that are not over.
pub async fn unfinished_of_recording(db: &Db, recording: RecordingId) -> Result<Vec<JobId>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select id from jobs where recording_id = $1 and status in ('queued', 'running') order by id",
            &[&recording.0],
        )
        .await?;
    Ok(rows.iter().map(|row| JobId(row.get(0))).collect())
}

/// A job that is making exactly this picture right now.
pub async fn unfinished_thumbnail(
    db: &Db,
    recording: RecordingId,
    picture: PictureRequest,
) -> Result<Option<JobId>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            "select id from jobs
             where recording_id = $1 and kind = 'thumbnail' and status in ('queued', 'running')
               and spec -> 'picture' = $2
             order by id limit 1",
            &[&recording.0, &serde_json::to_value(picture)?],
        )
        .await?;
    Ok(row.map(|row| JobId(row.get(0))))
}

/// How a recording was made of its source: as the newest transcode of it that can be watched was asked for, but without a mark whose
/// image is gone.
pub async fn edit_of(db: &Db, recording: RecordingId) -> Result<Edit, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            "select j.spec -> 'edit' as edit, s.id is not null as is_marked
             from jobs j
             left join sources s on s.id::text = j.spec -> 'edit' -> 'watermark' ->> 'source' and s.deleted_at is null
             where j.recording_id = $1 and j.kind = 'transcode'
               and (j.status = 'succeeded' or j.playable_at is not null)
             order by j.id desc limit 1",
            &[&recording.0],
        )
        .await?;
    let Some(row) = row else { return Ok(Edit::default()) };
    let edit: Option<Value> = row.get("edit");
    let edit: Edit = edit.map(serde_json::from_value).transpose()?.unwrap_or_default();
    Ok(Edit { watermark: edit.watermark.filter(|_| row.get("is_marked")), ..edit })
}

/// Jobs that are not over, by state, for the metrics.
pub async fn count_unfinished(db: &Db) -> Result<Vec<(String, i64)>, DbError> {
    let rows = db
        .get()
        .await?
        .query("select status, count(*) from jobs where status in ('queued', 'running') group by status", &[])
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
