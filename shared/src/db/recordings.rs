//! Recordings.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Row;

use super::events::{EventType, NewEvent, append};
use super::sets::Playable;
use super::{Db, DbError, GenericClient, cdn, pictures, retrying, stills};
use crate::cdn::SurrogateKey;
use crate::ids::{JobId, ProjectId, RecordingId, SourceId};
use crate::job::error::TaskError;
use crate::job::state::{Access, RecordingStatus};

/// A recording as read back.
#[derive(Debug, Clone)]
pub struct Recording {
    pub id: RecordingId,
    pub project_id: ProjectId,
    pub title: String,
    pub status: RecordingStatus,
    pub access: Access,
    pub source_id: Option<SourceId>,
    pub duration_seconds: Option<f64>,
    pub error: Option<TaskError>,
    pub metadata: Value,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub ready_at: Option<DateTime<Utc>>,
}

/// A recording about to be written.
#[derive(Debug, Clone)]
pub struct NewRecording {
    pub id: RecordingId,
    pub title: String,
    pub access: Access,
    /// `None` where it is to come live.
    pub source_id: Option<SourceId>,
    pub metadata: Value,
}

const COLUMNS: &str = "id, project_id, title, status, access, source_id, duration_seconds, error, metadata, created_at, \
                       updated_at, ready_at";

fn read(row: &Row) -> Result<Recording, DbError> {
    Ok(Recording {
        id: RecordingId(row.get("id")),
        project_id: ProjectId(row.get("project_id")),
        title: row.get("title"),
        status: row.get::<_, &str>("status").parse()?,
        access: row.get::<_, &str>("access").parse()?,
        source_id: row.get::<_, Option<_>>("source_id").map(SourceId),
        duration_seconds: row.get("duration_seconds"),
        error: row.get::<_, Option<_>>("error").map(serde_json::from_value).transpose()?,
        metadata: row.get("metadata"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
        ready_at: row.get("ready_at"),
    })
}

/// Makes a recording of which there is nothing yet. One that has this id already stays as it is: a request that is repeated makes one.
pub async fn create(db: &Db, project: ProjectId, new: &NewRecording) -> Result<(), DbError> {
    match insert(&db.get().await?, project, new).await {
        Err(error) if error.is_duplicate() => Ok(()),
        other => other,
    }
}

/// Says what a recording is made from, where that was nothing yet. In the caller's transaction, which holds it.
pub(super) async fn take_source(
    client: &impl GenericClient,
    id: RecordingId,
    source: SourceId,
) -> Result<(), DbError> {
    client
        .execute(
            "update recordings set source_id = $2, updated_at = now() where id = $1 and source_id is null",
            &[&id.0, &source.0],
        )
        .await?;
    Ok(())
}

/// Writes a recording in the caller's transaction.
pub(crate) async fn insert(
    client: &impl GenericClient,
    project: ProjectId,
    new: &NewRecording,
) -> Result<(), DbError> {
    client
        .execute(
            "insert into recordings (id, project_id, title, access, source_id, metadata)
             values ($1, $2, $3, $4, $5, $6)",
            &[
                &new.id.0,
                &project.0,
                &new.title,
                &new.access.as_str(),
                &new.source_id.map(|id| id.0),
                &new.metadata,
            ],
        )
        .await?;
    Ok(())
}

/// The recording with this id, of any project. The caller checks who asks.
pub async fn find(db: &Db, id: RecordingId) -> Result<Option<Recording>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!("select {COLUMNS} from recordings where id = $1 and deleted_at is null"))
        .await?;
    client.query_opt(&statement, &[&id.0]).await?.as_ref().map(read).transpose()
}

/// The project's recording with this id.
pub async fn get(db: &Db, project: ProjectId, id: RecordingId) -> Result<Option<Recording>, DbError> {
    Ok(find(db, id).await?.filter(|recording| recording.project_id == project))
}

/// Which recordings are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordingFilter {
    pub status: Option<RecordingStatus>,
}

/// Recordings of a project, newest first, after `after`.
pub async fn list(
    db: &Db,
    project: ProjectId,
    filter: RecordingFilter,
    after: Option<RecordingId>,
    limit: i64,
) -> Result<Vec<Recording>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {COLUMNS} from recordings
                 where project_id = $1 and deleted_at is null
                   and ($2::text is null or status = $2) and ($3::uuid is null or id < $3)
                 order by id desc limit $4"
            ),
            &[&project.0, &filter.status.map(|status| status.as_str()), &after.map(|id| id.0), &limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Titles of those of `recordings` that are there.
pub async fn titles(db: &Db, recordings: &[RecordingId]) -> Result<HashMap<RecordingId, String>, DbError> {
    let ids: Vec<_> = recordings.iter().map(|id| id.0).collect();
    let rows = db
        .get()
        .await?
        .query("select id, title from recordings where id = any($1) and deleted_at is null", &[&ids])
        .await?;
    Ok(rows.iter().map(|row| (RecordingId(row.get(0)), row.get(1))).collect())
}

/// Changes title or access; false where there is no such recording.
pub async fn update(
    db: &Db,
    project: ProjectId,
    id: RecordingId,
    title: Option<&str>,
    access: Option<Access>,
) -> Result<bool, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let changed = tx
        .execute(
            "update recordings set title = coalesce($3, title), access = coalesce($4, access), updated_at = now()
             where id = $1 and project_id = $2 and deleted_at is null",
            &[&id.0, &project.0, &title, &access.map(|access| access.as_str())],
        )
        .await?;
    if changed == 1 && access.is_some() {
        cdn::forget(&tx, SurrogateKey::Recording(id)).await?;
    }
    tx.commit().await?;
    Ok(changed == 1)
}

/// Appends what happened to a recording, in the caller's transaction.
async fn tell(
    client: &impl GenericClient,
    project: ProjectId,
    kind: EventType,
    job: Option<JobId>,
    id: RecordingId,
    data: Value,
) -> Result<(), DbError> {
    let recording_id = Some(id);
    let event = NewEvent { project_id: project, kind, job_id: job, recording_id, livestream_id: None, data };
    append(client, event).await
}

/// Makes a recording ready and tells so. In the caller's guarded transaction.
pub(crate) async fn set_ready(
    client: &impl GenericClient,
    project: ProjectId,
    id: RecordingId,
    job: JobId,
    duration_seconds: f64,
) -> Result<(), DbError> {
    client
        .execute(
            "update recordings
             set status = 'ready', duration_seconds = $2, error = null, ready_at = now(), updated_at = now()
             where id = $1",
            &[&id.0, &duration_seconds],
        )
        .await?;
    pictures::forget_other_cut(client, id, job).await?;
    cdn::renew(client, id).await?;
    let data = serde_json::json!({ "recording_id": id, "job_id": job, "duration_seconds": duration_seconds });
    let kind = EventType::RecordingReady;
    tell(client, project, kind, Some(job), id, data).await
}

/// A recording whose failed encode goes on: what could be played of it can be played again, and grows. In the caller's transaction.
pub(super) async fn set_again(client: &impl GenericClient, id: RecordingId) -> Result<(), DbError> {
    client
        .execute(
            "update recordings
             set status = case when exists (select 1 from recording_sets where recording_id = $1 and active)
                          then 'playable' else 'pending' end,
                 error = null, updated_at = now()
             where id = $1 and status = 'failed'",
            &[&id.0],
        )
        .await?;
    Ok(())
}

/// Lets a recording be played before it is ready, and tells so. In the caller's guarded transaction.
pub(crate) async fn set_playable(
    client: &impl GenericClient,
    project: ProjectId,
    job: JobId,
    playable: Playable,
) -> Result<(), DbError> {
    let Playable { recording, duration_seconds } = playable;
    client
        .execute(
            "update recordings
             set status = 'playable', duration_seconds = $2, error = null, updated_at = now()
             where id = $1",
            &[&recording.0, &duration_seconds],
        )
        .await?;
    let data =
        serde_json::json!({ "recording_id": recording, "job_id": job, "duration_seconds": duration_seconds });
    let kind = EventType::RecordingPlayable;
    tell(client, project, kind, Some(job), recording, data).await
}

/// Tells that a job of a recording failed: one that would have `made` it, or, while nothing has been made yet, one that only
/// looked at it. One that is ready stays so, and one that another job is making goes on.
pub(crate) async fn set_failed(
    client: &impl GenericClient,
    id: RecordingId,
    made: bool,
    error: Option<&TaskError>,
) -> Result<(), DbError> {
    let error = error.map(serde_json::to_value).transpose()?;
    client
        .execute(
            "update recordings set status = 'failed', error = $2, updated_at = now()
             where id = $1 and (status = 'pending' or ($3 and status in ('processing', 'playable')))
               and not exists (
                   select 1 from jobs
                   where recording_id = $1 and kind = 'transcode' and status in ('queued', 'running'))",
            &[&id.0, &error, &made],
        )
        .await?;
    Ok(())
}

/// Keeps a recording from being deleted until the caller's transaction ends.
pub(crate) async fn hold(client: &impl GenericClient, id: RecordingId) -> Result<(), DbError> {
    let statement = client
        .prepare_cached("select 1 from recordings where id = $1 and deleted_at is null for share")
        .await?;
    client.query_opt(&statement, &[&id.0]).await?.map(|_| ()).ok_or(DbError::Gone)
}

/// The same, and keeps others from building on it at the same time.
pub(crate) async fn hold_alone(client: &impl GenericClient, id: RecordingId) -> Result<(), DbError> {
    let statement = client
        .prepare_cached("select 1 from recordings where id = $1 and deleted_at is null for no key update")
        .await?;
    client.query_opt(&statement, &[&id.0]).await?.map(|_| ()).ok_or(DbError::Gone)
}

/// No job of a recording `r` is under way or has just ended, so that its age does not count from then yet, and nobody has a token to
/// watch it.
pub(super) const UNTOUCHED: &str = "(r.kept_until is null or r.kept_until < now())
    and not exists (select 1 from jobs j where j.recording_id = r.id and not j.settled)";

/// What the segments take of a recording whose id is `due.id`.
pub(super) const BYTES: &str =
    "(select sum(g.bytes)::bigint from recording_sets rs join segments g on g.set_id = rs.set_id
    where rs.recording_id = due.id)";

/// Somebody is given a token to watch a recording until then: its age does not delete it before. False where there is no such recording.
pub async fn keep(db: &Db, id: RecordingId, until: DateTime<Utc>) -> Result<bool, DbError> {
    let client = db.get().await?;
    let write = client
        .prepare_cached(
            "update recordings set kept_until = $2
             where id = $1 and deleted_at is null and (kept_until is null or kept_until < $2)",
        )
        .await?;
    if client.execute(&write, &[&id.0, &until]).await? == 1 {
        return Ok(true);
    }
    // Tokens of many viewers end together: most of them find that it is written down already. Asked in a statement of its own, which sees
    // what the first one may have waited for.
    let read = client
        .prepare_cached("select 1 from recordings where id = $1 and deleted_at is null and kept_until >= $2")
        .await?;
    Ok(client.query_opt(&read, &[&id.0, &until]).await?.is_some())
}

/// Why a recording is deleted.
#[derive(Debug, Clone, Copy)]
enum Why {
    Asked,
    Expired(Expired),
}

/// A recording has reached its age.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expired {
    /// What the age was counted from.
    pub(super) settled: DateTime<Utc>,
}

/// Deletes a recording for its users, at once. What it leaves goes with [`discard`], after its jobs are cancelled.
/// False where there is no such recording.
pub async fn delete(db: &Db, project: ProjectId, id: RecordingId) -> Result<bool, DbError> {
    retrying(|| delete_once(db, project, id, Why::Asked)).await
}

/// The same for one that has reached its age; false also where it was encoded again meanwhile, a job of it is under way, or somebody has a
/// token to watch it.
pub(super) async fn delete_expired(
    db: &Db,
    project: ProjectId,
    id: RecordingId,
    expired: Expired,
) -> Result<bool, DbError> {
    retrying(|| delete_once(db, project, id, Why::Expired(expired))).await
}

async fn delete_once(db: &Db, project: ProjectId, id: RecordingId, why: Why) -> Result<bool, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // In a statement of its own: what follows must see the recordings of everybody who held the source until now.
    let found = tx
        .query_opt(
            "select r.source_id from recordings r where r.id = $1 and r.project_id = $2 and r.deleted_at is null",
            &[&id.0, &project.0],
        )
        .await?;
    let Some(found) = found else { return Ok(false) };
    let source: Option<uuid::Uuid> = found.get(0);
    tx.execute("select 1 from sources where id = $1 for update", &[&source]).await?;
    let mark = "update recordings r set deleted_at = now(), updated_at = now() where r.id = $1 and r.deleted_at is null";
    let marked = match why {
        Why::Asked => tx.execute(mark, &[&id.0]).await?,
        Why::Expired(Expired { settled }) => {
            // Jobs that are submitted for it hold the recording; the next statement sees those that did until now.
            tx.execute("select 1 from recordings where id = $1 for update", &[&id.0]).await?;
            tx.execute(&format!("{mark} and r.settled_at = $2 and {UNTOUCHED}"), &[&id.0, &settled]).await?
        }
    };
    if marked == 0 {
        return Ok(false);
    }
    // The last one that was made from a source takes it along; from here on nothing new may refer to it.
    tx.execute(
        "update sources set deleted_at = now()
         where id = $1 and deleted_at is null and not exists (
             select 1 from recordings r where r.source_id = $1 and r.deleted_at is null)",
        &[&source],
    )
    .await?;
    let reason = match why {
        Why::Asked => "asked",
        Why::Expired(_) => "expired",
    };
    cdn::forget(&tx, SurrogateKey::Recording(id)).await?;
    let data = serde_json::json!({ "recording_id": id, "reason": reason });
    let kind = EventType::RecordingDeleted;
    tell(&tx, project, kind, None, id, data).await?;
    tx.commit().await?;
    Ok(true)
}

/// Deleted recordings whose remains have not been handed to the sweeper yet.
pub async fn undiscarded(db: &Db, limit: i64) -> Result<Vec<(ProjectId, RecordingId)>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select project_id, id from recordings
             where deleted_at is not null and discarded_at is null order by deleted_at limit $1",
            &[&limit],
        )
        .await?;
    Ok(rows.iter().map(|row| (ProjectId(row.get(0)), RecordingId(row.get(1)))).collect())
}

/// Hands everything a deleted recording left to the sweeper. The caller has cancelled its jobs. Harmless when done twice.
pub async fn discard(db: &Db, id: RecordingId) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // Everything its attempts wrote, and those whose sets it had borrowed: what is fetched unless others were made from it, files to
    // be downloaded that are its own, the rest unless a recording that lives refers to a set of the job, or of one that retried it: that
    // has its sets, with what it had published in them.
    tx.execute(
        "with recursive makers as (
             select id, recording_id, retry_of from (
                 select id, recording_id, retry_of from jobs where recording_id = $1
                 union
                 select j.id, j.recording_id, j.retry_of from recording_sets rs
                 join sets s on s.id = rs.set_id join jobs j on j.id = s.job_id where rs.recording_id = $1) own
             union
             select j.id, j.recording_id, j.retry_of from makers m join jobs j on j.id = m.retry_of),
         heirs as (
             select id as root, id from makers
             union
             select h.root, j.id from heirs h join jobs j on j.retry_of = h.id)
         insert into garbage (prefix, due_at)
         select a.prefix, now()
         from makers j join tasks t on t.job_id = j.id join attempts a on a.task_id = t.id
         where case t.kind
               when 'fetch' then exists (
                   select 1 from recordings r join sources s on s.id = r.source_id
                   where r.id = j.recording_id and s.deleted_at is not null)
               when 'mp4' then j.recording_id = $1
               else not exists (
                   select 1 from heirs h
                   join sets s on s.job_id = h.id
                   join recording_sets rs on rs.set_id = s.id
                   join recordings r on r.id = rs.recording_id
                   where h.root = j.id and r.deleted_at is null) end",
        &[&id.0],
    )
    .await?;
    tx.execute(
        "insert into garbage (prefix, due_at)
         select 'p/' || u.project_id::text || '/uploads/' || u.id::text || '/', now()
         from recordings mine
         join sources s on s.id = mine.source_id and s.deleted_at is not null
         join uploads u on u.source_id = s.id
         where mine.id = $1",
        &[&id.0],
    )
    .await?;
    tx.execute("delete from pictures where recording_id = $1", &[&id.0]).await?;
    tx.execute("delete from downloads where recording_id = $1", &[&id.0]).await?;
    tx.execute("delete from viewer_sessions where recording_id = $1", &[&id.0]).await?;
    tx.execute("delete from viewing_sums where recording_id = $1", &[&id.0]).await?;
    stills::discard(&tx, id).await?;
    tx.execute("update recordings set discarded_at = now() where id = $1", &[&id.0]).await?;
    tx.commit().await?;
    Ok(())
}
