//! What of a broadcast lies in the store: what whoever takes it over begins with, and what is played of it when it is over.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::super::{Db, DbError};
use super::{LiveSegment, OnAir};
use crate::ids::{BroadcastId, LivestreamId, ProjectId, SetId};
use crate::media::live::plan::LivePlan;
use crate::media::live::window::{Run, Segment, Window};

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

/// A broadcast that can be played from its beginning.
#[derive(Debug, Clone)]
pub struct Kept {
    pub on_air: OnAir,
    pub project: ProjectId,
    /// Nothing comes any more.
    pub ended: bool,
}

/// The broadcast of a livestream with this id, where it is kept and its media is there.
pub async fn kept(db: &Db, livestream: LivestreamId, id: BroadcastId) -> Result<Option<Kept>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select set_id, plan, started_at, project_id, status from broadcasts
             where id = $1 and livestream_id = $2 and recorded and status not in ('expired', 'failed')",
        )
        .await?;
    let row = client.query_opt(&statement, &[&id.0, &livestream.0]).await?;
    Ok(row.map(|row| {
        let Json(plan): Json<LivePlan> = row.get("plan");
        let on_air = OnAir { id, set: SetId(row.get("set_id")), plan, started_at: row.get("started_at") };
        let ended = !matches!(row.get::<_, &str>("status"), "recording" | "finalizing");
        Kept { on_air, project: ProjectId(row.get("project_id")), ended }
    }))
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

/// What is listed of a broadcast: all that was stored, and gaps for the numbers below `next_sequence` that were given out and that nobody
/// has. Gives those gaps, too.
pub fn listed(
    on_air: &OnAir,
    place: String,
    stored: &StoredWindow,
    next_sequence: Option<u64>,
) -> (Window, Vec<LiveSegment>) {
    let mut window = Window::new(on_air.plan.clone(), place, on_air.started_at.timestamp_micros());
    let names: Vec<String> = on_air.plan.tracks().map(str::to_owned).collect();
    window.runs = stored
        .runs
        .iter()
        .zip(0..)
        .map(|(run, ordinal)| Run {
            epoch: run.epoch,
            ordinal,
            first_number: run.first_number,
            codecs: names.iter().map(|name| codec(&run.inits, name)).collect(),
        })
        .collect();
    let mut by_track: HashMap<&str, Vec<_>> = HashMap::new();
    for segment in &stored.segments {
        by_track.entry(&segment.track).or_default().push(segment);
    }
    // Tracks list the same numbers: from where all of them have something, to what was given out last.
    let first = by_track.values().filter_map(|segments| segments.first()).map(|s| s.number).max();
    let mut lost = vec![];
    for track in &mut window.tracks {
        let segments = by_track.remove(track.name.as_str()).unwrap_or_default();
        let usual = on_air.plan.cadence.segment_seconds() * f64::from(track.timescale);
        for stored in segments {
            if first.is_some_and(|first| stored.number < first) {
                continue;
            }
            // A hole in the index is a gap, too.
            while let Some(last) = track.segments.back().filter(|last| last.number + 1 < stored.number) {
                let missing = stored.start_ticks.saturating_sub(last.start + last.ticks);
                // No longer than a segment may be: the date behind the gap says how long it really was.
                let ticks = (missing / (stored.number - last.number - 1)).clamp(1, usual.round() as u64);
                let gap = gap_after(last, ticks);
                lost.push(row(&track.name, &gap));
                track.segments.push_back(gap);
            }
            track.segments.push_back(Segment {
                number: stored.number,
                epoch: stored.epoch,
                start: stored.start_ticks,
                ticks: stored.ticks,
                gap: stored.gap,
                part_count: 1,
                parts: vec![],
            });
        }
        while let Some(last) =
            track.segments.back().filter(|last| next_sequence.is_some_and(|next| last.number + 1 < next))
        {
            let gap = gap_after(last, usual.round() as u64);
            lost.push(row(&track.name, &gap));
            track.segments.push_back(gap);
        }
    }
    (window, lost)
}

fn gap_after(last: &Segment, ticks: u64) -> Segment {
    Segment {
        number: last.number + 1,
        epoch: last.epoch,
        start: last.start + last.ticks,
        ticks,
        gap: true,
        part_count: 0,
        parts: vec![],
    }
}

fn row(track: &str, gap: &Segment) -> LiveSegment {
    LiveSegment {
        track: track.to_owned(),
        number: gap.number,
        epoch: gap.epoch,
        key: String::new(),
        bytes: 0,
        start_ticks: gap.start,
        ticks: gap.ticks,
        gap: true,
    }
}

fn codec(inits: &serde_json::Value, track: &str) -> String {
    let codec = inits.get(track).and_then(|init| init.get("codec")).and_then(|codec| codec.as_str());
    codec.unwrap_or_default().to_owned()
}
