//! Sources: the bytes recordings are made from.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::{Db, DbError, GenericClient, retrying};
use crate::ids::{JobId, ProjectId, RecordingId, SourceId};
use crate::job::spec::Input;
use crate::media::probe::Probe;

/// One object of a source; a source is its pieces in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub key: String,
    pub bytes: u64,
}

/// A source as read back.
#[derive(Debug, Clone)]
pub struct Source {
    pub id: SourceId,
    pub project_id: ProjectId,
    pub origin: Input,
    /// `None` until it is stored.
    pub pieces: Option<Vec<Piece>>,
    pub bytes: Option<u64>,
    pub sha256: Option<Vec<u8>>,
    pub probe: Option<Probe>,
}

fn read(row: &Row) -> Result<Source, DbError> {
    Ok(Source {
        id: SourceId(row.get("id")),
        project_id: ProjectId(row.get("project_id")),
        origin: serde_json::from_value(row.get("origin"))?,
        pieces: row.get::<_, Option<_>>("pieces").map(serde_json::from_value).transpose()?,
        bytes: row.get::<_, Option<i64>>("bytes").map(|bytes| bytes.max(0) as u64),
        sha256: row.get("sha256"),
        probe: row.get::<_, Option<_>>("probe").map(serde_json::from_value).transpose()?,
    })
}

/// The source with this id, unless it was deleted.
pub async fn get(db: &Db, id: SourceId) -> Result<Option<Source>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select id, project_id, origin, pieces, bytes, sha256, probe from sources
             where id = $1 and deleted_at is null",
        )
        .await?;
    client.query_opt(&statement, &[&id.0]).await?.as_ref().map(read).transpose()
}

/// The source of a project's recording: `None` where there is no such recording, `Some(None)` where it has no source any more.
pub async fn of_recording(
    db: &Db,
    project: ProjectId,
    recording: RecordingId,
) -> Result<Option<Option<Source>>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select s.id, s.project_id, s.origin, s.pieces, s.bytes, s.sha256, s.probe
             from recordings r left join sources s on s.id = r.source_id and s.deleted_at is null
             where r.id = $1 and r.project_id = $2 and r.deleted_at is null",
        )
        .await?;
    let row = client.query_opt(&statement, &[&recording.0, &project.0]).await?;
    let source = |row: Row| match row.get::<_, Option<uuid::Uuid>>("id") {
        Some(_) => read(&row).map(Some),
        None => Ok(None),
    };
    row.map(source).transpose()
}

/// Writes a source that is still to be fetched.
pub(crate) async fn insert(
    client: &impl GenericClient,
    project: ProjectId,
    id: SourceId,
    origin: &Input,
) -> Result<(), DbError> {
    client
        .execute(
            "insert into sources (id, project_id, origin) values ($1, $2, $3)",
            &[&id.0, &project.0, &serde_json::to_value(origin)?],
        )
        .await?;
    Ok(())
}

/// Keeps a source from being deleted until the caller's transaction ends.
pub(crate) async fn hold(client: &impl GenericClient, id: SourceId) -> Result<(), DbError> {
    let statement =
        client.prepare_cached("select 1 from sources where id = $1 and deleted_at is null for share").await?;
    client.query_opt(&statement, &[&id.0]).await?.map(|_| ()).ok_or(DbError::Gone)
}

/// Says where a source lies. In the caller's guarded transaction.
pub(crate) async fn set_stored(
    client: &impl GenericClient,
    id: SourceId,
    pieces: &[Piece],
    sha256: Option<&[u8]>,
) -> Result<(), DbError> {
    let bytes: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    client
        .execute(
            "update sources set pieces = $2, bytes = $3, sha256 = $4, stored_at = now() where id = $1",
            &[&id.0, &serde_json::to_value(pieces)?, &(bytes as i64), &sha256],
        )
        .await?;
    Ok(())
}

/// Keeps what a probe found. In the caller's guarded transaction.
pub(crate) async fn set_probe(
    client: &impl GenericClient,
    id: SourceId,
    probe: &Probe,
    sha256: &[u8],
) -> Result<(), DbError> {
    client
        .execute(
            "update sources set probe = $2, sha256 = $3 where id = $1",
            &[&id.0, &serde_json::to_value(probe)?, &sha256],
        )
        .await?;
    Ok(())
}

/// Writes the remux of a source. In the caller's guarded transaction.
pub(crate) async fn insert_remuxed(
    client: &impl GenericClient,
    of: SourceId,
    id: SourceId,
    pieces: &[Piece],
    sha256: &[u8],
    probe: &Probe,
) -> Result<(), DbError> {
    let bytes: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    client
        .execute(
            "insert into sources (id, project_id, origin, pieces, bytes, sha256, probe, stored_at, remux_of)
             select $2, project_id, origin, $3, $4, $5, $6, now(), id from sources where id = $1",
            &[
                &of.0,
                &id.0,
                &serde_json::to_value(pieces)?,
                &(bytes as i64),
                &sha256,
                &serde_json::to_value(probe)?,
            ],
        )
        .await?;
    Ok(())
}

/// No job that needs a source `s` is under way or has just ended, and it is no mark on the picture of anything that is there.
pub(super) const UNTOUCHED: &str = "s.remux_of is null
    and not exists (
        select 1 from recordings r join jobs j on j.recording_id = r.id where r.source_id = s.id and not j.settled)
    and not exists (
        select 1 from jobs j where j.spec ->> 'source' = s.id::text and j.recording_id is null and j.finished_at is null)
    and not exists (
        select 1 from jobs j left join recordings r on r.id = j.recording_id
        where j.spec -> 'edit' -> 'watermark' ->> 'source' = s.id::text
          and (j.status in ('queued', 'running') or (r.id is not null and r.deleted_at is null)))";

/// Deletes a source that has reached its age, counted from `settled`, and hands its objects to the sweeper: what was made of it can be
/// watched without. False where something needs it, or was made of it meanwhile.
pub(super) async fn delete_expired(db: &Db, id: SourceId, settled: DateTime<Utc>) -> Result<bool, DbError> {
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        // Jobs that are submitted hold it; the next statement sees those that did until now.
        tx.execute("select 1 from sources where id = $1 for update", &[&id.0]).await?;
        let marked = tx
            .execute(
                &format!(
                    "update sources s set deleted_at = now()
                     where s.id = $1 and s.deleted_at is null and s.settled_at = $2 and {UNTOUCHED}"
                ),
                &[&id.0, &settled],
            )
            .await?;
        if marked == 0 {
            return Ok(false);
        }
        tx.execute(
            "insert into garbage (prefix, due_at)
             select 'p/' || project_id::text || '/uploads/' || id::text || '/', now() from uploads where source_id = $1
             union all
             select a.prefix, now()
             from recordings r join jobs j on j.recording_id = r.id
             join tasks t on t.job_id = j.id and t.kind = 'fetch' and t.spec ->> 'source' = $1::uuid::text
             join attempts a on a.task_id = t.id and a.outcome = 'succeeded'
             where r.source_id = $1",
            &[&id.0],
        )
        .await?;
        tx.commit().await?;
        Ok(true)
    })
    .await
}

/// Hands what a job without a recording fetched to the sweeper: it only wanted to look, and is over. A source that came by another
/// way stays. In the caller's transaction.
pub(crate) async fn discard_looked_at(client: &impl GenericClient, job: JobId) -> Result<(), DbError> {
    client
        .execute(
            "with fetches as (
                 select id, (spec ->> 'source')::uuid as source from tasks where job_id = $1 and kind = 'fetch'),
             over as (
                 update sources s set deleted_at = now()
                 from fetches f
                 where s.id = f.source and s.deleted_at is null
                   and not exists (select 1 from recordings r where r.source_id = s.id)
                   and not exists (select 1 from uploads u where u.source_id = s.id)
                 returning s.id)
             insert into garbage (prefix, due_at)
             select a.prefix, now() + interval '1 minute'
             from fetches f join over on over.id = f.source
             join attempts a on a.task_id = f.id and a.outcome = 'succeeded'",
            &[&job.0],
        )
        .await?;
    Ok(())
}

/// Hands what a job remuxed to the sweeper: the job is over. In the caller's transaction.
pub(crate) async fn discard_remuxed(client: &impl GenericClient, job: JobId) -> Result<(), DbError> {
    let statement = client
        .prepare_cached(
            "with remuxes as (
                 select id, (spec ->> 'remuxed')::uuid as remuxed from tasks
                 where job_id = $1 and kind = 'remux' and status = 'succeeded'),
             over as (
                 update sources set deleted_at = now()
                 where id in (select remuxed from remuxes) and deleted_at is null returning id)
             insert into garbage (prefix, due_at)
             select a.prefix, now() + interval '1 minute'
             from remuxes r join over on over.id = r.remuxed
             join attempts a on a.task_id = r.id and a.outcome = 'succeeded'",
        )
        .await?;
    client.execute(&statement, &[&job.0]).await?;
    Ok(())
}
