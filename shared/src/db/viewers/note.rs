//! What an api knows of sessions, written down together: one statement, however many there are and whatever they watch.

use std::collections::HashSet;
use std::time::Instant;

use serde::Serialize;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Watched, raise_peaks};
use crate::db::{Db, DbError};

/// Who told an api of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ToldBy {
    /// A holder of a key.
    Key,
    /// The player itself.
    Player,
    /// Nobody: the edge saw its requests.
    Edge,
}

/// Where a player of a recording was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When it told so.
    pub at: Instant,
    /// Seconds from the beginning.
    pub position: f64,
    /// It went on from there.
    pub playing: bool,
}

/// What an api knows of a session since it wrote it down last. What is `None` stays as it was; counts only grow.
#[derive(Debug, Clone)]
pub struct Noted {
    pub watched: Watched,
    pub session: String,
    pub told_by: ToldBy,
    /// See [`super::watcher`]; `None` where it is not known who it is.
    pub watcher: Option<Uuid>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub user_id: Option<String>,
    /// The rendition.
    pub resolution: Option<String>,
    pub device_type: Option<String>,
    /// The country, for recordings.
    pub location: Option<String>,
    /// Stalls.
    pub buffer_events: Option<i32>,
    /// Switches.
    pub quality_changes: Option<i32>,
    pub stalled_seconds: Option<f64>,
    pub startup_ms: Option<i32>,
    pub buffered_seconds: Option<f64>,
    pub bytes: Option<i64>,
    pub segments: Option<i64>,
    /// Of the recording as the player sees it; its own length stands above it.
    pub duration_seconds: Option<f64>,
    /// Since it was written down, oldest first. None of a livestream.
    pub points: Vec<Point>,
    pub left: bool,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub rows: u64,
    pub statements: u64,
    /// Those that are of something else, or of nothing that is there.
    pub refused: Vec<(Watched, String)>,
}

/// A viewer watches no faster than so many times.
const FASTEST: f64 = 4.0;
/// A step that is ahead of that by more seconds is a jump, and nothing of it was watched.
const SLACK: f64 = 2.0;
/// Nobody knows what was watched by who told nothing for so many seconds.
const SILENCE: f64 = 120.0;
/// Statements take longer or shorter to reach the database: what seems to be older than what is known by so many seconds may be newer.
const BLUR: f64 = 0.1;
/// Of a recording, what counts as all of it.
const COMPLETE: f64 = 0.95;

/// [`Noted`], as the statement reads it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    livestream: Option<Uuid>,
    recording: Option<Uuid>,
    session: &'a str,
    told_by: ToldBy,
    watcher: Option<Uuid>,
    ip_address: Option<&'a str>,
    user_agent: Option<&'a str>,
    user_id: Option<&'a str>,
    resolution: Option<&'a str>,
    device_type: Option<&'a str>,
    location: Option<&'a str>,
    buffer_events: Option<i32>,
    quality_changes: Option<i32>,
    stalled: Option<f64>,
    startup_ms: Option<i32>,
    buffered: Option<f64>,
    bytes: Option<i64>,
    segments: Option<i64>,
    duration: Option<f64>,
    points: Vec<ToldPoint>,
    gone: bool,
}

/// [`Point`], by its age: clocks of apis are not asked.
#[derive(Debug, Serialize)]
struct ToldPoint {
    nth: usize,
    age: f64,
    position: f64,
    playing: bool,
}

impl<'a> Told<'a> {
    fn new(noted: &'a Noted, now: Instant) -> Self {
        let (livestream, recording) = match noted.watched {
            Watched::Livestream(id) => (Some(id.0), None),
            Watched::Recording(id) => (None, Some(id.0)),
        };
        let points = noted.points.iter().enumerate().map(|(nth, point)| ToldPoint {
            nth,
            age: now.saturating_duration_since(point.at).as_secs_f64(),
            position: point.position,
            playing: point.playing,
        });
        Self {
            livestream,
            recording,
            session: &noted.session,
            told_by: noted.told_by,
            watcher: noted.watcher,
            ip_address: noted.ip_address.as_deref(),
            user_agent: noted.user_agent.as_deref(),
            user_id: noted.user_id.as_deref(),
            resolution: noted.resolution.as_deref(),
            device_type: noted.device_type.as_deref(),
            location: noted.location.as_deref(),
            buffer_events: noted.buffer_events,
            quality_changes: noted.quality_changes,
            stalled: noted.stalled_seconds,
            startup_ms: noted.startup_ms,
            buffered: noted.buffered_seconds,
            bytes: noted.bytes,
            segments: noted.segments,
            duration: noted.duration_seconds,
            points: points.collect(),
            gone: noted.left,
        }
    }
}

/// `known` are the sessions that are there, locked in one order, so that two apis that know the same ones wait for each other and no more
/// than that. A path goes on from the last point that any api wrote down, and leaves out what is older: it may be cut anywhere, written by
/// whichever api, and written again after a reply that was lost, and what was played is the same. What a session has played is limited by
/// all the time it has lasted, since a single step may seem to have taken less or more.
const NOTE: &str = "with told as materialized (
        select distinct on (project_id, n.session) coalesce(l.project_id, r.project_id) as project_id, n.*,
               coalesce(r.duration_seconds, n.duration) as length
        from jsonb_to_recordset($1) as n (
                 livestream uuid, recording uuid, session text, told_by text, watcher uuid, ip_address text, user_agent text,
                 user_id text, resolution text, device_type text, location text, buffer_events int, quality_changes int,
                 stalled float8, startup_ms int, buffered float8, bytes bigint, segments bigint, duration float8, points jsonb,
                 gone bool)
             left join livestreams l on l.id = n.livestream and l.deleted_at is null
             left join recordings r on r.id = n.recording and r.deleted_at is null
        where coalesce(l.id, r.id) is not null
        order by project_id, n.session),
    known as materialized (
        select v.project_id, v.id as session, t.length, v.told_at as at, v.position_seconds as position, v.playing
        from told t join viewer_sessions v on v.project_id = t.project_id and v.id = t.session and v.recording_id = t.recording
        order by v.project_id, v.id for update of v),
    path as (
        select project_id, session, length, at, -1 as nth, position, playing from known where at is not null
        union all
        select t.project_id, t.session, t.length,
               greatest(now() - make_interval(secs => p.age), k.at + make_interval(secs => (p.nth + 1) * 1e-6)), p.nth, p.position, p.playing
        from told t cross join lateral jsonb_to_recordset(t.points) as p (nth int, age float8, position float8, playing bool)
            left join known k on k.project_id = t.project_id and k.session = t.session
        where k.at is null or now() - make_interval(secs => p.age) > k.at - make_interval(secs => $6)),
    steps as (
        select project_id, session, length, position as reached, lag(position) over before as began,
               lag(playing) over before as played, extract(epoch from at - lag(at) over before)::float8 as took
        from path window before as (partition by project_id, session order by at, nth)),
    played as (
        select project_id, session, reached, reached - began as seconds,
               least(floor(round((began / length * 100)::numeric, 6)), 99)::int as first,
               least(ceil(round((reached / length * 100)::numeric, 6)) - 1, 99)::int as last
        from steps
        where played and reached > began and length > 0 and took <= $4 and reached - began <= took * $2 + $3),
    sums as (
        select project_id, session, sum(seconds) as seconds, max(reached) as furthest,
               bit_or((repeat('0', first) || repeat('1', last - first + 1) || repeat('0', 99 - last))::bit(100)) as watched
        from played group by project_id, session),
    newest as (
        select distinct on (project_id, session) project_id, session, at, position, playing
        from path order by project_id, session, at desc, nth desc),
    oldest as (select project_id, session, min(at) as at from path group by project_id, session)
    insert into viewer_sessions as v (
        project_id, livestream_id, recording_id, id, told_by, watcher, ip_address, user_agent, user_id, resolution, device_type,
        location, buffer_events, quality_changes, stalled_seconds, startup_ms, buffered_seconds, bytes, segments, duration_seconds,
        position_seconds, playing, told_at, played_seconds, furthest_seconds, watched, completed, joined_at, seen_at, left_at)
    select t.project_id, t.livestream, t.recording, t.session, t.told_by, t.watcher, t.ip_address, t.user_agent, t.user_id,
           t.resolution, t.device_type, t.location, t.buffer_events, t.quality_changes,
           case when k.session is null then least(t.stalled, extract(epoch from newest.at - oldest.at)::float8) else t.stalled end,
           t.startup_ms, t.buffered, t.bytes,
           t.segments, t.length, newest.position, newest.playing, newest.at,
           case when t.recording is null then null when k.session is not null then coalesce(sums.seconds, 0)
                else least(coalesce(sums.seconds, 0), $2 * extract(epoch from newest.at - oldest.at)::float8) end,
           case when t.recording is not null then coalesce(sums.furthest, 0) end,
           case when t.recording is not null then coalesce(sums.watched, repeat('0', 100)::bit(100)) end,
           case when t.recording is not null then coalesce(sums.furthest >= t.length * $5, false) end,
           coalesce(oldest.at, now()), coalesce(newest.at, now()), case when t.gone then coalesce(newest.at, now()) end
    from told t left join sums using (project_id, session) left join newest using (project_id, session)
         left join oldest using (project_id, session) left join known k using (project_id, session)
    order by t.project_id, t.session
    on conflict (project_id, id) do update
    set watcher = coalesce(excluded.watcher, v.watcher), ip_address = coalesce(excluded.ip_address, v.ip_address),
        user_agent = coalesce(excluded.user_agent, v.user_agent), user_id = coalesce(excluded.user_id, v.user_id),
        resolution = coalesce(excluded.resolution, v.resolution), device_type = coalesce(excluded.device_type, v.device_type),
        location = coalesce(excluded.location, v.location), buffer_events = greatest(v.buffer_events, excluded.buffer_events),
        quality_changes = greatest(v.quality_changes, excluded.quality_changes),
        stalled_seconds = least(greatest(v.stalled_seconds, excluded.stalled_seconds),
                                extract(epoch from excluded.seen_at - v.joined_at)::float8),
        startup_ms = coalesce(v.startup_ms, excluded.startup_ms),
        buffered_seconds = coalesce(excluded.buffered_seconds, v.buffered_seconds), bytes = greatest(v.bytes, excluded.bytes),
        segments = greatest(v.segments, excluded.segments),
        duration_seconds = coalesce(excluded.duration_seconds, v.duration_seconds),
        position_seconds = case when v.told_at > excluded.told_at then v.position_seconds else excluded.position_seconds end,
        playing = case when v.told_at > excluded.told_at then v.playing else excluded.playing end,
        told_at = greatest(v.told_at, excluded.told_at),
        played_seconds = greatest(v.played_seconds, least(
            v.played_seconds + excluded.played_seconds,
            $2 * extract(epoch from greatest(v.seen_at, excluded.seen_at) - v.joined_at)::float8)),
        furthest_seconds = greatest(v.furthest_seconds, excluded.furthest_seconds), watched = v.watched | excluded.watched,
        completed = v.completed or excluded.completed, seen_at = greatest(v.seen_at, excluded.seen_at),
        left_at = case when v.told_at >= excluded.told_at then v.left_at else excluded.left_at end
    where v.livestream_id is not distinct from excluded.livestream_id and v.recording_id is not distinct from excluded.recording_id
      and (v.told_by = excluded.told_by or v.recording_id is not null)
    returning id as session, livestream_id, recording_id, xmax = 0 as is_new";

/// Writes down all sessions that an api knows something new of. One that is of something else, or a livestream's that was told of by
/// somebody else, stays as it is.
pub async fn note(db: &Db, all: &[Noted]) -> Result<Written, DbError> {
    let client = db.get().await?;
    let statement = client.prepare_cached(NOTE).await?;
    // Behind the wait for a connection: ages count from now.
    let now = Instant::now();
    let told: Vec<Told<'_>> = all.iter().map(|noted| Told::new(noted, now)).collect();
    let rows = client.query(&statement, &[&Json(told), &FASTEST, &SLACK, &SILENCE, &COMPLETE, &BLUR]).await?;
    let mut written = Written { rows: rows.len() as u64, statements: 1, refused: vec![] };
    let mut joined: Vec<Uuid> = vec![];
    let mut taken = HashSet::new();
    for row in &rows {
        let livestream: Option<Uuid> = row.get("livestream_id");
        if row.get("is_new") {
            joined.extend(livestream);
        }
        taken.insert((livestream.or(row.get("recording_id")), row.get::<_, &str>("session")));
    }
    let is_taken = |noted: &Noted| taken.contains(&(Some(noted.watched.id()), noted.session.as_str()));
    written.refused = all
        .iter()
        .filter(|noted| !is_taken(noted))
        .map(|noted| (noted.watched, noted.session.clone()))
        .collect();
    if !joined.is_empty() {
        raise_peaks(&client, &joined).await?;
        written.statements += 1;
    }
    Ok(written)
}
