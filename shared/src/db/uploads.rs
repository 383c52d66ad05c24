//! Files on their way in. An upload is a run of pieces, each an object of its own, so that it can go on after any break.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::sources::{self, Piece};
use super::{Db, DbError, GenericClient};
use crate::ids::{ProjectId, SourceId, UploadId};
use crate::job::spec::Input;

/// An upload as read back.
#[derive(Debug, Clone)]
pub struct Upload {
    pub id: UploadId,
    pub project_id: ProjectId,
    /// `None` while the client has not said.
    pub length: Option<u64>,
    pub received: u64,
    /// The `Upload-Metadata` header as it came.
    pub metadata: String,
    /// Set once everything is there.
    pub source_id: Option<SourceId>,
    pub created_at: DateTime<Utc>,
}

/// A received piece.
#[derive(Debug, Clone)]
pub struct NewPiece {
    pub start: u64,
    pub piece: Piece,
    pub sha256: [u8; 32],
}

/// What came of adding a piece.
#[derive(Debug)]
pub enum Appended {
    /// The upload as it is now.
    Accepted(Upload),
    /// Somebody else wrote at this place meanwhile; the piece is not used.
    Conflict,
}

const COLUMNS: &str = "id, project_id, length, received, metadata, source_id, created_at";

fn read(row: &Row) -> Upload {
    Upload {
        id: UploadId(row.get("id")),
        project_id: ProjectId(row.get("project_id")),
        length: row.get::<_, Option<i64>>("length").map(|length| length.max(0) as u64),
        received: row.get::<_, i64>("received").max(0) as u64,
        metadata: row.get("metadata"),
        source_id: row.get::<_, Option<_>>("source_id").map(SourceId),
        created_at: row.get("created_at"),
    }
}

/// Writes a new upload.
pub async fn insert(
    db: &Db,
    project: ProjectId,
    length: Option<u64>,
    metadata: &str,
) -> Result<Upload, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            &format!(
                "insert into uploads (id, project_id, length, metadata) values ($1, $2, $3, $4) returning {COLUMNS}"
            ),
            &[&UploadId::new().0, &project.0, &length.map(|length| length as i64), &metadata],
        )
        .await?;
    Ok(read(&row))
}

/// The project's upload with this id.
pub async fn get(db: &Db, project: ProjectId, id: UploadId) -> Result<Option<Upload>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            &format!("select {COLUMNS} from uploads where id = $1 and project_id = $2"),
            &[&id.0, &project.0],
        )
        .await?;
    Ok(row.as_ref().map(read))
}

/// Says how long a deferred upload is. Changes nothing where that is known already.
pub async fn set_length(db: &Db, id: UploadId, length: u64) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "update uploads set length = $2 where id = $1 and length is null",
            &[&id.0, &(length as i64)],
        )
        .await?;
    Ok(())
}

/// Adds a piece at the end of an upload; the one that completes it makes the source.
pub async fn append(db: &Db, id: UploadId, new: &NewPiece) -> Result<Appended, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let row = tx
        .query_opt(
            &format!(
                "update uploads set received = received + $3, touched_at = now()
                 where id = $1 and received = $2 and source_id is null returning {COLUMNS}"
            ),
            &[&id.0, &(new.start as i64), &(new.piece.bytes as i64)],
        )
        .await?;
    let Some(row) = row else {
        return Ok(Appended::Conflict);
    };
    tx.execute(
        "insert into upload_pieces (upload_id, start, key, bytes, sha256) values ($1, $2, $3, $4, $5)",
        &[&id.0, &(new.start as i64), &new.piece.key, &(new.piece.bytes as i64), &new.sha256.as_slice()],
    )
    .await?;
    let mut upload = read(&row);
    if upload.length == Some(upload.received) {
        make_source(&tx, &mut upload).await?;
    }
    tx.commit().await?;
    Ok(Appended::Accepted(upload))
}

/// Makes the source of an upload that is whole. Does nothing where it has one, or is not whole.
pub async fn complete(db: &Db, upload: Upload) -> Result<Upload, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let row = tx
        .query_one(&format!("select {COLUMNS} from uploads where id = $1 for update"), &[&upload.id.0])
        .await?;
    let mut upload = read(&row);
    if upload.source_id.is_none() && upload.length == Some(upload.received) {
        make_source(&tx, &mut upload).await?;
        tx.commit().await?;
    }
    Ok(upload)
}

async fn make_source(tx: &impl GenericClient, upload: &mut Upload) -> Result<(), DbError> {
    let rows = tx
        .query(
            "select key, bytes, sha256 from upload_pieces where upload_id = $1 order by start",
            &[&upload.id.0],
        )
        .await?;
    let pieces: Vec<Piece> = rows
        .iter()
        .map(|row| Piece { key: row.get("key"), bytes: row.get::<_, i64>("bytes").max(0) as u64 })
        .collect();
    let digest: Option<Vec<u8>> = match rows.as_slice() {
        [only] => only.get("sha256"),
        _ => None,
    };
    let source = SourceId::new();
    sources::insert(tx, upload.project_id, source, &Input::UploadId(upload.id)).await?;
    sources::set_stored(tx, source, &pieces, digest.as_deref()).await?;
    tx.execute("update uploads set source_id = $2 where id = $1", &[&upload.id.0, &source.0]).await?;
    upload.source_id = Some(source);
    Ok(())
}

/// Nothing was made of the source `s`, and it is no mark on the picture of anything that is there or under way: more qualities and
/// pictures of it need the mark again.
const UNUSED: &str = "not exists (select 1 from recordings r where r.source_id = s.id)
    and not exists (
        select 1 from jobs j left join recordings r on r.id = j.recording_id
        where j.spec -> 'edit' -> 'watermark' ->> 'source' = s.id::text
          and (j.status in ('queued', 'running') or (r.id is not null and r.deleted_at is null)))";

/// Deletes an upload, and its source if it has one that nothing was made of, and hands its objects to the sweeper; false where there
/// is none, or something was made of it.
pub async fn delete(db: &Db, project: ProjectId, id: UploadId) -> Result<bool, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // As in the deletion of a recording: what follows sees what those made of the source who held it.
    tx.execute(
        "select 1 from sources s join uploads u on u.source_id = s.id where u.id = $1 and u.project_id = $2 for update of s",
        &[&id.0, &project.0],
    )
    .await?;
    tx.execute(
        &format!(
            "update sources s set deleted_at = now() from uploads u
         where u.id = $1 and u.project_id = $2 and s.id = u.source_id and s.deleted_at is null
           and {UNUSED}"
        ),
        &[&id.0, &project.0],
    )
    .await?;
    let gone = tx
        .execute(
            "with gone as (
                 delete from uploads u where id = $1 and project_id = $2
                   and not exists (select 1 from sources s where s.id = u.source_id and s.deleted_at is null)
                   and not exists (select 1 from recordings r where r.source_id = u.source_id)
                 returning id)
             insert into garbage (prefix, due_at) select 'p/' || $2::uuid::text || '/uploads/' || id::text || '/', now() from gone",
            &[&id.0, &project.0],
        )
        .await?;
    tx.commit().await?;
    Ok(gone == 1)
}

/// Deletes uploads that nobody touched for `idle` and hands their objects to the sweeper. Returns how many.
pub async fn delete_abandoned(db: &Db, idle: std::time::Duration) -> Result<u64, DbError> {
    let gone = db
        .get()
        .await?
        .execute(
            "with gone as (
                 delete from uploads
                 where source_id is null and touched_at < now() - make_interval(secs => $1)
                 returning id, project_id)
             insert into garbage (prefix, due_at)
             select 'p/' || project_id::text || '/uploads/' || id::text || '/', now() from gone",
            &[&idle.as_secs_f64()],
        )
        .await?;
    Ok(gone)
}

/// Deletes the sources of finished uploads that nothing was made of within `idle`, and hands their objects to the sweeper. Returns
/// how many.
pub async fn delete_unused(db: &Db, idle: std::time::Duration, limit: i64) -> Result<u64, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // Locked first, in a statement of its own: what follows sees what a job that held one of them has made of it.
    let rows = tx
        .query(
            &format!(
                "select s.id from sources s join uploads u on u.source_id = s.id
                 where s.deleted_at is null and u.touched_at < now() - make_interval(secs => $1) and {UNUSED}
                 order by u.touched_at limit $2 for update of s skip locked"
            ),
            &[&idle.as_secs_f64(), &limit],
        )
        .await?;
    let ids: Vec<uuid::Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let gone = tx
        .execute(
            &format!(
                "with gone as (
                     update sources s set deleted_at = now() where s.id = any($1) and {UNUSED} returning id)
                 insert into garbage (prefix, due_at)
                 select 'p/' || u.project_id::text || '/uploads/' || u.id::text || '/', now()
                 from gone join uploads u on u.source_id = gone.id"
            ),
            &[&ids],
        )
        .await?;
    tx.commit().await?;
    Ok(gone)
}
