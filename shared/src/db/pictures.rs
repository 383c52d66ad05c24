//! Pictures taken out of recordings: their posters, and what was asked for by time and size.

use std::collections::HashSet;

use super::{Db, DbError, GenericClient, cdn};
use crate::cdn::SurrogateKey;
use crate::ids::{JobId, RecordingId};
use crate::job::spec::PictureRequest;

/// A stored JPEG.
#[derive(Debug, Clone)]
pub struct Picture {
    pub key: String,
    pub bytes: u64,
}

/// How the table writes the moment of the poster, whichever it is.
const POSTER: i64 = -1;

/// How the table writes a request's time.
fn at(request: PictureRequest) -> i64 {
    request.at_ms.map_or(POSTER, |at| at as i64)
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

/// The request that a recording's poster answers, whether it is there or not; `usual` where nobody chose its size.
pub async fn poster_request(
    db: &Db,
    recording: RecordingId,
    usual: (u32, u32),
) -> Result<PictureRequest, DbError> {
    let row = db
        .get()
        .await?
        .query_opt("select poster_width, poster_height from recordings where id = $1", &[&recording.0])
        .await?;
    let side = |column: &str| row.as_ref().and_then(|row| row.get::<_, Option<i32>>(column));
    let size = side("poster_width").zip(side("poster_height"));
    let (width, height) = size.map_or(usual, |(width, height)| (width.max(0) as u32, height.max(0) as u32));
    Ok(PictureRequest { at_ms: None, width, height })
}

/// The moment of a recording's poster in milliseconds; `None` for the usual one.
pub async fn poster_moment(db: &Db, recording: RecordingId) -> Result<Option<u64>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt("select poster_at_ms from recordings where id = $1", &[&recording.0])
        .await?;
    Ok(row.and_then(|row| row.get::<_, Option<i64>>(0)).map(|at| at.max(0) as u64))
}

/// Which of `recordings` have a poster; `usual` is its size where nobody chose one.
pub async fn with_poster(
    db: &Db,
    recordings: &[RecordingId],
    usual: (u32, u32),
) -> Result<HashSet<RecordingId>, DbError> {
    let ids: Vec<_> = recordings.iter().map(|id| id.0).collect();
    let rows = db
        .get()
        .await?
        .query(
            "select p.recording_id from pictures p join recordings r on r.id = p.recording_id
             where r.id = any($1) and p.at_ms = $2
               and p.width = coalesce(r.poster_width, $3) and p.height = coalesce(r.poster_height, $4)",
            &[&ids, &POSTER, &(usual.0 as i32), &(usual.1 as i32)],
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
    cdn::forget(client, SurrogateKey::Listings(recording)).await
}

/// Drops the pictures of moments that an earlier job's cut or frame gave, where that of `job` is another one: from now on they would
/// show something else than the recording. In the caller's guarded transaction.
pub(crate) async fn forget_other_cut(
    client: &impl GenericClient,
    recording: RecordingId,
    job: JobId,
) -> Result<(), DbError> {
    client
        .execute(
            "delete from pictures p using jobs mine
             where mine.id = $2 and p.recording_id = $1 and p.at_ms >= 0
               and p.created_at < coalesce(mine.playable_at, now())
               and exists (
                   select 1 from jobs old
                   where old.recording_id = $1 and old.id <> mine.id and old.kind = mine.kind
                     and (old.status = 'succeeded' or old.playable_at is not null)
                     and old.spec -> 'edit' is distinct from mine.spec -> 'edit')",
            &[&recording.0, &job.0],
        )
        .await?;
    Ok(())
}

/// Says what a recording's poster shows from now on, `None` for the usual moment; what showed another moment gives way. The picture
/// itself is [`put`] by the caller, in its guarded transaction.
pub(crate) async fn set_poster(
    client: &impl GenericClient,
    recording: RecordingId,
    at_ms: Option<u64>,
    (width, height): (u32, u32),
) -> Result<(), DbError> {
    client
        .execute(
            "update recordings set poster_at_ms = $2, poster_width = $3, poster_height = $4 where id = $1",
            &[&recording.0, &at_ms.map(|at| at as i64), &(width as i32), &(height as i32)],
        )
        .await?;
    client
        .execute("delete from pictures where recording_id = $1 and at_ms = $2", &[&recording.0, &POSTER])
        .await?;
    Ok(())
}
