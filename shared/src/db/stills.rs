//! Pictures made out of sets: sheets of storyboards, series of thumbnails.

use tokio_postgres::Row;

use super::pictures::Picture;
use super::{Db, DbError, GenericClient};
use crate::ids::{JobId, RecordingId, SetId};
use crate::job::state::words;
use crate::media::storyboard::Storyboard;

words! {
    /// What a still is for.
    StillKind("kind of still") {
        /// Many small pictures of a storyboard.
        Sheet = "sheet",
        /// One of a series.
        Thumbnail = "thumbnail",
    }
}

/// A stored JPEG of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Still {
    /// From zero.
    pub number: u32,
    /// When the first thing on it is shown, in milliseconds from the start.
    pub at_ms: u64,
    pub key: String,
    pub bytes: u64,
}

/// Publishes stills of a set. In the caller's guarded transaction, which knows that `epoch` owns the task.
pub(crate) async fn publish(
    client: &impl GenericClient,
    set: SetId,
    epoch: i32,
    kind: StillKind,
    stills: &[Still],
) -> Result<(), DbError> {
    let numbers: Vec<i32> = stills.iter().map(|still| still.number as i32).collect();
    let times: Vec<i64> = stills.iter().map(|still| still.at_ms as i64).collect();
    let keys: Vec<&str> = stills.iter().map(|still| still.key.as_str()).collect();
    let bytes: Vec<i32> = stills.iter().map(|still| still.bytes as i32).collect();
    client
        .execute(
            "insert into stills (set_id, kind, epoch, number, at_ms, key, bytes)
             select $1, $2, $3, number, at_ms, key, bytes
             from unnest($4::int[], $5::bigint[], $6::text[], $7::int[]) as s (number, at_ms, key, bytes)",
            &[&set.0, &kind.as_str(), &epoch, &numbers, &times, &keys, &bytes],
        )
        .await?;
    Ok(())
}

/// Says how the sheets of a set are laid out. In the caller's guarded transaction.
pub(crate) async fn set_storyboard(
    client: &impl GenericClient,
    set: SetId,
    board: &Storyboard,
) -> Result<(), DbError> {
    let board = serde_json::to_value(board)?;
    client.execute("update sets set storyboard = $2 where id = $1", &[&set.0, &board]).await?;
    Ok(())
}

/// One still of the set that a recording knows by this ordinal.
pub async fn find(
    db: &Db,
    recording: RecordingId,
    ordinal: i32,
    kind: StillKind,
    number: u32,
) -> Result<Option<Picture>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select t.key, t.bytes from recording_sets rs join stills t on t.set_id = rs.set_id
             where rs.recording_id = $1 and rs.ordinal = $2 and t.kind = $3 and t.number = $4",
        )
        .await?;
    let number = i32::try_from(number).unwrap_or(-1);
    let row = client.query_opt(&statement, &[&recording.0, &ordinal, &kind.as_str(), &number]).await?;
    Ok(row.map(|row| Picture { key: row.get("key"), bytes: row.get::<_, i32>("bytes").max(0) as u64 }))
}

/// The storyboard of a recording, with the ordinal of its set: that of the set it plays, else the newest of those that were cut and
/// framed like it.
pub async fn storyboard(db: &Db, recording: RecordingId) -> Result<Option<(i32, Storyboard)>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select rs.ordinal, s.storyboard
             from recording_sets rs
             join sets s on s.id = rs.set_id
             join jobs j on j.id = s.job_id
             where rs.recording_id = $1 and s.storyboard is not null
               and not exists (
                   select 1 from recording_sets played
                   join sets ps on ps.id = played.set_id
                   join jobs pj on pj.id = ps.job_id
                   where played.recording_id = $1 and played.active
                     and pj.spec -> 'edit' is distinct from j.spec -> 'edit')
             order by rs.active desc, rs.ordinal desc limit 1",
        )
        .await?;
    let row = client.query_opt(&statement, &[&recording.0]).await?;
    row.map(|row: Row| Ok((row.get("ordinal"), serde_json::from_value(row.get("storyboard"))?))).transpose()
}

/// The series of thumbnails a job made, or has from who made it before: the ordinal of its set, and number and milliseconds of each.
pub async fn series_of_job(db: &Db, job: JobId) -> Result<Vec<(i32, u32, u64)>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select rs.ordinal, t.number, t.at_ms
             from jobs j
             join recording_sets rs on rs.recording_id = j.recording_id
             join sets s on s.id = rs.set_id
                  and (s.job_id = j.id or s.id::text = j.result -> 'reused_from' ->> 'set_id')
             join stills t on t.set_id = s.id
             where j.id = $1 and t.kind = $2 order by t.number",
        )
        .await?;
    let rows = client.query(&statement, &[&job.0, &StillKind::Thumbnail.as_str()]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let (number, at_ms) = (row.get::<_, i32>("number"), row.get::<_, i64>("at_ms"));
            (row.get("ordinal"), number.max(0) as u32, at_ms.max(0) as u64)
        })
        .collect())
}

/// Forgets the stills of a deleted recording's sets that no living recording refers to. In the caller's transaction.
pub(crate) async fn discard(client: &impl GenericClient, recording: RecordingId) -> Result<(), DbError> {
    client
        .execute(
            "delete from stills t using recording_sets mine
             where mine.recording_id = $1 and t.set_id = mine.set_id
               and not exists (
                   select 1 from recording_sets rs join recordings r on r.id = rs.recording_id
                   where rs.set_id = t.set_id and r.deleted_at is null)",
            &[&recording.0],
        )
        .await?;
    Ok(())
}
