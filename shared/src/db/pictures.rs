//! Pictures taken out of recordings.

use std::collections::HashSet;

use super::{Db, DbError, GenericClient};
use crate::ids::RecordingId;
use crate::job::spec::PictureRequest;

/// A stored JPEG.
#[derive(Debug, Clone)]
pub struct Picture {
    pub key: String,
    pub bytes: u64,
}

/// How the table writes a request's time.
fn at(request: PictureRequest) -> i64 {
    request.at_ms.map_or(-1, |at| at as i64)
}

/// The picture made for exactly this request.
pub async fn find(
    db: &Db,
    recording: RecordingId,
    request: PictureRequest,
) -> Result<Option<Picture>, DbError> {
    let client = db.get().await?;
    let row = client
        .query_opt(
            "select key, bytes from pictures
             where recording_id = $1 and at_ms = $2 and width = $3 and height = $4",
            &[&recording.0, &at(request), &(request.width as i32), &(request.height as i32)],
        )
        .await?;
    Ok(row.map(|row| Picture { key: row.get("key"), bytes: row.get::<_, i32>("bytes").max(0) as u64 }))
}

/// Which of `recordings` have a picture for this request.
pub async fn with_default(
    db: &Db,
    recordings: &[RecordingId],
    request: PictureRequest,
) -> Result<HashSet<RecordingId>, DbError> {
    let ids: Vec<_> = recordings.iter().map(|id| id.0).collect();
    let rows = db
        .get()
        .await?
        .query(
            "select recording_id from pictures
             where recording_id = any($1) and at_ms = $2 and width = $3 and height = $4",
            &[&ids, &at(request), &(request.width as i32), &(request.height as i32)],
        )
        .await?;
    Ok(rows.iter().map(|row| RecordingId(row.get(0))).collect())
}

/// Keeps a picture; an older one for the same request gives way. In the caller's guarded transaction.
pub(crate) async fn put(
    client: &impl GenericClient,
    recording: RecordingId,
    request: PictureRequest,
    key: &str,
    bytes: u64,
) -> Result<(), DbError> {
    client
        .execute(
            "insert into pictures (recording_id, at_ms, width, height, key, bytes) values ($1, $2, $3, $4, $5, $6)
             on conflict (recording_id, at_ms, width, height)
             do update set key = excluded.key, bytes = excluded.bytes, created_at = now()",
            &[
                &recording.0,
                &at(request),
                &(request.width as i32),
                &(request.height as i32),
                &key,
                &(bytes as i32),
            ],
        )
        .await?;
    Ok(())
}
