//! What of a broadcast lies in the store: what whoever takes it over begins with, and what is played of it when it is over.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::super::{Db, DbError};
use super::{LiveSegment, OnAir, read_on_air};
use crate::ids::{BroadcastId, LivestreamId, ProjectId};
use crate::media::live::window::{Run, Segment, Window};

/// The stored end of a broadcast.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoredWindow {
    /// Oldest first.
    pub runs: Vec<StoredRun>,
    /// By track and number.
    pub segments: Vec<StoredSegment>,
    /// Numbers that are not looked for: from the first, to the one before the second.
    pub left_out: Vec<(u64, u64)>,
}

impl StoredWindow {
    fn leaves_out(&self, number: u64) -> bool {
        self.left_out.iter().any(|(first, until)| (*first..*until).contains(&number))
    }
}

/// A run, as it was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
             where id = $1 and livestream_id = $2 and recorded and set_id is not null and status not in ('expired', 'failed')",
        )
        .await?;
    let row = client.query_opt(&statement, &[&id.0, &livestream.0]).await?;
    Ok(row.map(|row| {
        let on_air = read_on_air(id, &row);
        let ended = !matches!(row.get::<_, &str>("status"), "recording" | "finalizing");
        Kept { on_air, project: ProjectId(row.get("project_id")), ended }
    }))
}

/// The broadcast of a project with this id, where it is over, kept, and its media is there.
pub async fn aired(db: &Db, project: ProjectId, id: BroadcastId) -> Result<Option<OnAir>, DbError> {
    let client = db.get().await?;
    let row = client
        .query_opt(
            "select set_id, plan, started_at from broadcasts
             where id = $1 and project_id = $2 and recorded and set_id is not null
               and status in ('available', 'converting', 'converted')",
            &[&id.0, &project.0],
        )
        .await?;
    Ok(row.map(|row| read_on_air(id, &row)))
}

/// All of a broadcast that is recorded, as its playlists list it. `place` is where it lies.
pub async fn whole(db: &Db, on_air: &OnAir, place: String) -> Result<Window, DbError> {
    let (mut window, _) = listed(on_air, place, &recorded(db, on_air).await?, None);
    window.whole = true;
    Ok(window)
}

/// The segments of a broadcast that lie within `seconds` of its end, and all its runs.
pub async fn window(db: &Db, on_air: &OnAir, seconds: u32) -> Result<StoredWindow, DbError> {
    let runs = runs(db, on_air.id).await?;
    let client = db.get().await?;
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
    Ok(StoredWindow { left_out: vec![], runs, segments: segments.iter().map(read).collect() })
}

/// All of a broadcast that is recorded: without what was published while that was paused.
pub async fn recorded(db: &Db, on_air: &OnAir) -> Result<StoredWindow, DbError> {
    let mut all = window(db, on_air, u32::MAX).await?;
    all.left_out = left_out(db, on_air.id).await?;
    let segments = std::mem::take(&mut all.segments);
    all.segments = segments.into_iter().filter(|segment| !all.leaves_out(segment.number)).collect();
    Ok(all)
}

/// The runs of a broadcast, oldest first.
pub async fn runs(db: &Db, id: BroadcastId) -> Result<Vec<StoredRun>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select epoch, first_number, inits from broadcast_runs where broadcast_id = $1 order by epoch",
            &[&id.0],
        )
        .await?;
    let run = |row: &Row| StoredRun {
        epoch: row.get::<_, i32>("epoch") as u32,
        first_number: row.get::<_, i32>("first_number") as u64,
        inits: row.get("inits"),
    };
    Ok(rows.iter().map(run).collect())
}

/// Numbers of a broadcast that its recording leaves out: from the first, to the one before the second.
pub async fn left_out(db: &Db, id: BroadcastId) -> Result<Vec<(u64, u64)>, DbError> {
    let rows = db
        .get()
        .await?
        .query("select first_number, until_number from broadcast_pauses where broadcast_id = $1", &[&id.0])
        .await?;
    let number = |number: i32| u64::from(number.unsigned_abs());
    let span = |row: &Row| (number(row.get(0)), row.get::<_, Option<i32>>(1).map_or(u64::MAX, number));
    Ok(rows.iter().map(span).collect())
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

/// Who takes a broadcast over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Follower {
    /// The first number that nobody was given.
    pub next_sequence: u64,
    /// Seconds of the broadcast at which it came: what is lost ends there.
    pub came: f64,
}

/// What is listed of a broadcast: all that was stored, and, for a `follower`, gaps for the numbers that were given out and that nobody
/// has. Gives those gaps, too.
pub fn listed(
    on_air: &OnAir,
    place: String,
    stored: &StoredWindow,
    follower: Option<Follower>,
) -> (Window, Vec<LiveSegment>) {
    let mut window = Window::new(on_air.plan.clone(), place, on_air.started_at.timestamp_micros());
    let names: Vec<String> = on_air.plan.tracks().map(str::to_owned).collect();
    let mut ordinal = 0;
    for run in &stored.runs {
        let codecs = names.iter().map(|name| codec(&run.inits, name)).collect();
        // One that never had a segment left no seam, and its number to the next.
        if let Some(before) = window.runs.last() {
            ordinal += u32::from(before.first_number < run.first_number);
        }
        let first = stored.segments.iter().filter(|segment| segment.number == run.first_number);
        let micros = |segment: &StoredSegment| {
            let timescale = on_air.plan.timescale(&segment.track)?;
            Some(segment.start_ticks * 1_000_000 / u64::from(timescale))
        };
        let began = first.filter_map(micros).min();
        window.runs.push(Run { epoch: run.epoch, ordinal, first_number: run.first_number, codecs, began });
    }
    let mut by_track: HashMap<&str, Vec<_>> = HashMap::new();
    for segment in &stored.segments {
        by_track.entry(&segment.track).or_default().push(segment);
    }
    // Tracks list the same numbers: from where all of them have something, to what was given out last.
    let first =
        by_track.values().filter_map(|segments| segments.first()).max_by_key(|segment| segment.number);
    let begins = first.and_then(|first| {
        let timescale = on_air.plan.timescale(&first.track)?;
        Some((first.number, first.start_ticks as f64 / f64::from(timescale)))
    });
    let runs = window.runs.clone();
    let run_of = |number: u64| runs.iter().rfind(|run| run.first_number <= number).or(runs.first());
    let place_of = |number: u64| number.saturating_sub(run_of(number).map_or(number, |run| run.first_number));
    // Viewers may know all the parts of what was lost, and what is lost is whole.
    let parts_of =
        |track: &str, number, ticks| on_air.plan.segment_parts(track, place_of(number), ticks).unwrap_or(1);
    let gap = |track: &str, number: u64, start: u64, until: f64| {
        // As long as viewers may have seen it, but not beyond what comes next: else all that follows would be later than it was.
        // Where more is missing than that, the date behind the gap says how long it really was.
        let usual = on_air.plan.segment_ticks(track, place_of(number)).unwrap_or(1);
        let ticks = (until - start as f64).clamp(1.0, (usual as f64).max(1.0)).round() as u64;
        let epoch = run_of(number).map_or(0, |run| run.epoch);
        let part_count = parts_of(track, number, usual);
        Segment { number, epoch, start, ticks, gap: true, part_count, parts: vec![] }
    };
    let mut lost = vec![];
    for track in &mut window.tracks {
        let segments = by_track.remove(track.name.as_str()).unwrap_or_default();
        for kept in segments {
            if begins.is_some_and(|(first, _)| kept.number < first) {
                continue;
            }
            // A hole in the index is a gap, too.
            let hole = track.segments.back().map(|last| (last.number + 1..kept.number, last.end()));
            let (numbers, mut end) = hole.unwrap_or((0..0, 0));
            for number in numbers {
                let missing = gap(&track.name, number, end, kept.start_ticks as f64);
                end = missing.end();
                if !stored.leaves_out(number) {
                    lost.push(row(&track.name, &missing));
                    track.segments.push_back(missing);
                }
            }
            track.segments.push_back(Segment {
                number: kept.number,
                epoch: kept.epoch,
                start: kept.start_ticks,
                ticks: kept.ticks,
                gap: kept.gap,
                part_count: parts_of(&track.name, kept.number, kept.ticks),
                parts: vec![],
            });
        }
        // All that was stored of it is lost, or nothing ever was.
        if let (true, Some((number, seconds))) = (track.segments.is_empty(), begins) {
            let start = (seconds * f64::from(track.timescale)).round() as u64;
            let missing = gap(&track.name, number, start, f64::INFINITY);
            lost.push(row(&track.name, &missing));
            track.segments.push_back(missing);
        }
        let Some(follower) = follower else { continue };
        let came = follower.came * f64::from(track.timescale);
        while let Some(last) = track.segments.back().filter(|last| last.number + 1 < follower.next_sequence) {
            let missing = gap(&track.name, last.number + 1, last.end(), came);
            lost.push(row(&track.name, &missing));
            track.segments.push_back(missing);
        }
    }
    (window, lost)
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
