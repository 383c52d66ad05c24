//! How recordings were watched: figures of all sessions that were joined within a span. Sessions tell of the newest weeks; what is older stands
//! in sums of hours and days (UTC), which are made while the sessions are still there.

use std::collections::HashMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::Deserialize;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::leader::Leadership;
use super::{Db, DbError};
use crate::ids::RecordingId;

/// A recording is cut into so many parts, whatever its length, to be told which of them are watched.
pub const PARTS: usize = 100;
/// Names of devices, countries and renditions that are told apart; those with the most sessions.
pub const NAMES: i64 = 50;

/// Sessions are kept for a day longer than this, from when they were heard of last.
const DETAILED: TimeDelta = TimeDelta::days(29);
/// A day is summed up when it is over, and again at the end of the next two: somebody may still watch.
const AGAIN: TimeDelta = TimeDelta::days(2);

/// An hour or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Hour,
    Day,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Where the step begins that a moment lies in.
    pub fn of(self, moment: DateTime<Utc>) -> DateTime<Utc> {
        let length = match self {
            Self::Hour => TimeDelta::hours(1),
            Self::Day => TimeDelta::days(1),
        };
        // Only a clock before 1677 could not be rounded.
        moment.duration_trunc(length).unwrap_or(moment)
    }
}

/// Sessions summed up. What nobody told is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sum {
    pub sessions: i64,
    /// Different users, or addresses and agents of those who told no user. Of sums that were put together, the sum.
    pub viewers: i64,
    /// Sessions that reached the end by watching.
    pub completed: i64,
    pub played_seconds: f64,
    pub last_seen_at: Option<DateTime<Utc>>,
    /// Of those who told it, and what they played.
    pub stalled_seconds: Option<f64>,
    pub timed_seconds: Option<f64>,
    pub startup_ms: Option<i64>,
    /// How many told it.
    pub startups: i64,
    pub stalls: Option<i64>,
    pub switches: Option<i64>,
}

/// How many sessions, and what they played, in seconds.
pub type Share = (i64, f64);

/// Sessions by what they are called, those that told none by the empty name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Names {
    pub device: HashMap<String, Share>,
    pub country: HashMap<String, Share>,
    pub rendition: HashMap<String, Share>,
}

/// All that is told of a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    pub sum: Sum,
    /// How many sessions touched each part.
    pub heat: Vec<i64>,
    pub names: Names,
}

impl Default for Totals {
    fn default() -> Self {
        Self { sum: Sum::default(), heat: vec![0; PARTS], names: Names::default() }
    }
}

/// Of what is there, the sum.
fn together<T: std::ops::Add<Output = T>>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.viewers += other.viewers;
        self.completed += other.completed;
        self.played_seconds += other.played_seconds;
        self.last_seen_at = self.last_seen_at.max(other.last_seen_at);
        self.stalled_seconds = together(self.stalled_seconds, other.stalled_seconds);
        self.timed_seconds = together(self.timed_seconds, other.timed_seconds);
        self.startup_ms = together(self.startup_ms, other.startup_ms);
        self.startups += other.startups;
        self.stalls = together(self.stalls, other.stalls);
        self.switches = together(self.switches, other.switches);
    }
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.sum.add(&other.sum);
        self.heat.iter_mut().zip(&other.heat).for_each(|(all, one)| *all += one);
        let Names { device, country, rendition } = other.names;
        for (all, one) in [
            (&mut self.names.device, device),
            (&mut self.names.country, country),
            (&mut self.names.rendition, rendition),
        ] {
            for (name, (sessions, played)) in one {
                let share = all.entry(name).or_default();
                *share = (share.0 + sessions, share.1 + played);
            }
        }
    }
}

/// The columns of a [`Sum`], of sessions `s`.
const FIGURES: &str = "count(*) as sessions, count(distinct viewer) as viewers, count(*) filter (where completed) as completed,
    coalesce(sum(played_seconds), 0) as played_seconds, max(seen_at) as last_seen_at, sum(stalled_seconds) as stalled_seconds,
    sum(played_seconds) filter (where stalled_seconds is not null) as timed_seconds, sum(startup_ms)::bigint as startup_ms,
    count(startup_ms) as startups, sum(buffer_events)::bigint as stalls, sum(quality_changes)::bigint as switches";

/// Sessions `s` of which `wanted` holds, each in every one of its buckets `b (span, at)`.
fn sessions(buckets: &str, wanted: &str) -> String {
    format!(
        "s as materialized (
             select v.*, b.span, b.at, coalesce(v.user_id, v.watcher::text, v.id) as viewer
             from viewer_sessions v cross join lateral (values {buckets}) as b (span, at)
             where v.recording_id is not null and {wanted})"
    )
}

/// The sums of those sessions, one a recording and bucket. Sessions that touched the same parts, which most did, are counted together.
fn sums(buckets: &str, wanted: &str) -> String {
    format!(
        "with {},
         alike as (select recording_id, span, at, watched, count(*) as count from s group by 1, 2, 3, 4),
         parts as (
             select recording_id, span, at, part, sum(count * get_bit(watched, part))::bigint as count
             from alike, generate_series(0, {PARTS} - 1) as part group by 1, 2, 3, 4),
         heat as (
             select recording_id, span, at, array_agg(count order by part) as heat from parts group by 1, 2, 3),
         named as (
             select recording_id, span, at, kind, name, count(*) as sessions, sum(played_seconds) as played,
                    row_number() over (partition by recording_id, span, at, kind order by count(*) desc, name) as place
             from s cross join lateral
                 (values ('device', coalesce(device_type, '')), ('country', coalesce(location, '')),
                         ('rendition', coalesce(resolution, ''))) as k (kind, name)
             group by 1, 2, 3, 4, 5),
         kinds as (
             select recording_id, span, at, kind, jsonb_object_agg(name, jsonb_build_array(sessions, played)) as names
             from named where place <= {NAMES} group by 1, 2, 3, 4),
         names as (
             select recording_id, span, at, jsonb_object_agg(kind, names) as names from kinds group by 1, 2, 3)
         select recording_id, span, at, {FIGURES}, heat, names
         from s join heat using (recording_id, span, at) join names using (recording_id, span, at)
         group by recording_id, span, at, heat, names",
        sessions(buckets, wanted)
    )
}

fn read_sum(row: &Row) -> Sum {
    Sum {
        sessions: row.get("sessions"),
        viewers: row.get("viewers"),
        completed: row.get("completed"),
        played_seconds: row.get("played_seconds"),
        last_seen_at: row.get("last_seen_at"),
        stalled_seconds: row.get("stalled_seconds"),
        timed_seconds: row.get("timed_seconds"),
        startup_ms: row.get("startup_ms"),
        startups: row.get("startups"),
        stalls: row.get("stalls"),
        switches: row.get("switches"),
    }
}

fn read_totals(row: &Row) -> Totals {
    Totals { sum: read_sum(row), heat: row.get("heat"), names: row.get::<_, Json<Names>>("names").0 }
}

/// Before this day there may be no sessions any more.
fn detailed_since(now: DateTime<Utc>) -> DateTime<Utc> {
    Step::Day.of(now - DETAILED)
}

/// Figures of the sessions of a recording that were joined within a span; of what is older than four weeks, of all days that it touches.
pub async fn totals(
    db: &Db,
    recording: RecordingId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Totals, DbError> {
    let since = detailed_since(Utc::now());
    let client = db.get().await?;
    let newer = client
        .prepare_cached(&sums(
            "('all', $2::timestamptz)",
            "v.recording_id = $1 and v.joined_at >= $2 and v.joined_at < $3",
        ))
        .await?;
    let older = client
        .prepare_cached(
            "select * from viewing_sums where recording_id = $1 and span = 'day' and at >= $2 and at < $3",
        )
        .await?;
    let mut totals = Totals::default();
    for row in client.query(&newer, &[&recording.0, &from.max(since), &to]).await? {
        totals.add(read_totals(&row));
    }
    for row in client.query(&older, &[&recording.0, &Step::Day.of(from), &to.min(since)]).await? {
        totals.add(read_totals(&row));
    }
    Ok(totals)
}

/// The same of each hour or day that a span touches and in which anybody joined, oldest first.
pub async fn series(
    db: &Db,
    recording: RecordingId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    step: Step,
) -> Result<Vec<(DateTime<Utc>, Sum)>, DbError> {
    let since = detailed_since(Utc::now());
    let client = db.get().await?;
    let older = client
        .prepare_cached(
            "select * from viewing_sums where recording_id = $1 and span = $4 and at >= $2 and at < $3 order by at",
        )
        .await?;
    let newer = client
        .prepare_cached(&format!(
            "with {} select at, {FIGURES} from s group by at order by at",
            sessions(
                "($4::text, date_trunc($4::text, v.joined_at, 'UTC'))",
                "v.recording_id = $1 and v.joined_at >= $2 and v.joined_at < $3",
            )
        ))
        .await?;
    let name = step.as_str();
    let mut rows = client.query(&older, &[&recording.0, &step.of(from), &to.min(since), &name]).await?;
    rows.extend(client.query(&newer, &[&recording.0, &from.max(since), &to, &name]).await?);
    Ok(rows.iter().map(|row| (row.get("at"), read_sum(row))).collect())
}

/// Sums up the days that are over, where that was not done. Done again it does the same. Returns how many sums were written.
pub async fn sum_up(db: &Db, leadership: &Leadership) -> Result<u64, DbError> {
    let client = db.get().await?;
    let row = client
        .query_one(
            "select now() as now, (select until from viewing_summed) as until,
                    (select min(joined_at) from viewer_sessions where recording_id is not null) as first",
            &[],
        )
        .await?;
    drop(client);
    let (now, until): (DateTime<Utc>, Option<DateTime<Utc>>) = (row.get("now"), row.get("until"));
    let today = Step::Day.of(now);
    if until.is_some_and(|until| until >= today) {
        return Ok(0);
    }
    let first = row.get::<_, Option<DateTime<Utc>>>("first").map_or(today, |first| Step::Day.of(first));
    // Of earlier days some sessions may be gone: what was summed up of them stays.
    let begin = until.map_or(first, |until| until - AGAIN).max(detailed_since(now));
    let mut written = 0;
    let mut day = begin;
    while day < today {
        written += sum_up_day(db, leadership, day).await?;
        day += TimeDelta::days(1);
    }
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    leadership.guard(&tx).await?;
    tx.execute(
        "insert into viewing_summed (until) values ($1) on conflict (one) do update set until = excluded.until",
        &[&today],
    )
    .await?;
    tx.commit().await?;
    Ok(written)
}

async fn sum_up_day(db: &Db, leadership: &Leadership, day: DateTime<Utc>) -> Result<u64, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    leadership.guard(&tx).await?;
    let statement = tx
        .prepare_cached(&format!(
            "insert into viewing_sums (recording_id, span, at, sessions, viewers, completed, played_seconds, last_seen_at, stalled_seconds,
                                       timed_seconds, startup_ms, startups, stalls, switches, heat, names)
             {}
             on conflict (recording_id, span, at) do update
             set sessions = excluded.sessions, viewers = excluded.viewers, completed = excluded.completed,
                 played_seconds = excluded.played_seconds, last_seen_at = excluded.last_seen_at,
                 stalled_seconds = excluded.stalled_seconds, timed_seconds = excluded.timed_seconds,
                 startup_ms = excluded.startup_ms, startups = excluded.startups, stalls = excluded.stalls,
                 switches = excluded.switches, heat = excluded.heat, names = excluded.names",
            sums(
                "('hour', date_trunc('hour', v.joined_at, 'UTC')), ('day', date_trunc('day', v.joined_at, 'UTC'))",
                "v.joined_at >= $1 and v.joined_at < $2",
            )
        ))
        .await?;
    let written = tx.execute(&statement, &[&day, &(day + TimeDelta::days(1))]).await?;
    tx.commit().await?;
    Ok(written)
}

/// Forgets sums of hours that are older than `age`; those of days stay as long as their recording. Returns how many, at most so many.
pub async fn delete_old_hours(db: &Db, age: TimeDelta, most: i64) -> Result<u64, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "delete from viewing_sums where ctid = any(array(
                 select ctid from viewing_sums where span = 'hour' and at < now() - make_interval(secs => $1) limit $2))",
        )
        .await?;
    Ok(client.execute(&statement, &[&age.as_seconds_f64(), &most]).await?)
}
