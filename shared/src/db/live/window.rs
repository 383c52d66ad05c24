//! What of a broadcast lies in the store: what whoever takes it over begins with.

use tokio_postgres::Row;

use super::super::{Db, DbError};
use super::OnAir;

/// The stored end of a broadcast.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoredWindow {
    /// Oldest first.
    pub runs: Vec<StoredRun>,
    /// By track and number.
    pub segments: Vec<StoredSegment>,
}

/// A run, as it was begun.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRun {
    pub epoch: u32,
    pub first_number: u64,
    /// Init segments by track: `{key, bytes, codec}`.
    pub inits: serde_json::Value,
}

/// A segment of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSegment {
    pub track: String,
    pub number: u64,
    pub epoch: u32,
    pub start_ticks: u64,
    pub ticks: u64,
    pub gap: bool,
}

/// The segments of a broadcast that lie within `seconds` of its end, and all its runs.
pub async fn window(db: &Db, on_air: &OnAir, seconds: u32) -> Result<StoredWindow, DbError> {
    let client = db.get().await?;
    let runs = client
        .query(
            "select epoch, first_number, inits from broadcast_runs where broadcast_id = $1 order by epoch",
            &[&on_air.id.0],
        )
        .await?;
    let segments = client
        .query(
            "with track as (
                 select rung, timescale, (select max(start_ticks + duration_ticks) from segments s
                     where s.set_id = r.set_id and s.rung = r.rung) as until
                 from renditions r where set_id = $1)
             select s.rung, s.number, s.epoch, s.start_ticks, s.duration_ticks, s.gap
             from segments s join track using (rung)
             where s.set_id = $1 and s.start_ticks >= track.until - $2::bigint * track.timescale
             order by s.rung, s.number",
            &[&on_air.set.0, &i64::from(seconds)],
        )
        .await?;
    Ok(StoredWindow {
        runs: runs
            .iter()
            .map(|row| StoredRun {
                epoch: row.get::<_, i32>("epoch") as u32,
                first_number: row.get::<_, i32>("first_number") as u64,
                inits: row.get("inits"),
            })
            .collect(),
        segments: segments.iter().map(read).collect(),
    })
}

fn read(row: &Row) -> StoredSegment {
    StoredSegment {
        track: row.get("rung"),
        number: row.get::<_, i32>("number") as u64,
        epoch: row.get::<_, i32>("epoch") as u32,
        start_ticks: row.get::<_, Option<i64>>("start_ticks").unwrap_or(0) as u64,
        ticks: row.get::<_, i64>("duration_ticks") as u64,
        gap: row.get("gap"),
    }
}
