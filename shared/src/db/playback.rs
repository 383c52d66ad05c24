//! Footage chosen by its time: where there is some of a livestream, and the sessions of those who play it.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Db, DbError, cdn, live, sets};
use crate::cdn::SurrogateKey;
use crate::ids::{BroadcastId, LivestreamId, PlaybackSessionId, ProjectId, RecordingId, SetId};
use crate::job::state::words;
use crate::media::footage::{Shot, micros};

words! {
    /// What is played in a session.
    PlaybackKind("kind of playback") {
        /// A span of time that is over.
        Recorded = "recorded",
        /// What is on air.
        Live = "live",
    }
}

words! {
    /// How a session is played.
    PlaybackFormat("playback format") {
        Hls = "hls",
        Rtsp = "rtsp",
        Webrtc = "webrtc",
    }
}

/// Numbers that follow each other in one set, from `first` to the one before `until`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    pub broadcast: BroadcastId,
    pub set: SetId,
    /// The moment of tick zero of its tracks, in microseconds since 1970.
    pub started: i64,
    pub first: u32,
    pub until: u32,
    /// Of footage that was imported: what was made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingId>,
}

impl Stretch {
    /// How many segments that is.
    pub fn len(&self) -> u32 {
        self.until.saturating_sub(self.first)
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    pub id: PlaybackSessionId,
    pub project: ProjectId,
    pub livestream: LivestreamId,
    pub kind: PlaybackKind,
    pub format: PlaybackFormat,
    /// What was asked for; `None` of what is live.
    pub span: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Exact to a frame, else to a segment.
    pub exact: bool,
    pub stretches: Vec<Stretch>,
    /// Where a media server has it, and what it is called there.
    pub url: Option<String>,
    pub path: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

const COLUMNS: &str = "id, project_id, livestream_id, kind, format, start_time, end_time, exact, stretches, url, path, created_at, expires_at";

fn read(row: &Row) -> Result<Session, DbError> {
    let start: Option<DateTime<Utc>> = row.get("start_time");
    Ok(Session {
        id: PlaybackSessionId(row.get("id")),
        project: ProjectId(row.get("project_id")),
        livestream: LivestreamId(row.get("livestream_id")),
        kind: row.get::<_, &str>("kind").parse()?,
        format: row.get::<_, &str>("format").parse()?,
        span: start.zip(row.get("end_time")),
        exact: row.get("exact"),
        stretches: row.get::<_, Json<_>>("stretches").0,
        url: row.get("url"),
        path: row.get("path"),
        created_at: row.get("created_at"),
        expires_at: row.get("expires_at"),
    })
}

/// Writes down a session.
pub async fn create(db: &Db, session: &Session) -> Result<(), DbError> {
    let (start, end) = session.span.unzip();
    db.get()
        .await?
        .execute(
            &format!(
                "insert into playback_sessions ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
            ),
            &[
                &session.id.0,
                &session.project.0,
                &session.livestream.0,
                &session.kind.as_str(),
                &session.format.as_str(),
                &start,
                &end,
                &session.exact,
                &Json(&session.stretches),
                &session.url,
                &session.path,
                &session.created_at,
                &session.expires_at,
            ],
        )
        .await?;
    Ok(())
}

/// Keeps what a session plays from being deleted by its age before that ends.
pub async fn keep(db: &Db, session: &Session) -> Result<(), DbError> {
    let recordings: Vec<Uuid> = session
        .stretches
        .iter()
        .filter_map(|it| Some(it.recording?.0))
        .collect::<HashSet<_>>()
        .into_iter()
        .collect();
    let here = session.stretches.iter().filter(|it| it.recording.is_none());
    let broadcasts: Vec<Uuid> = here.map(|it| it.broadcast.0).collect::<HashSet<_>>().into_iter().collect();
    let client = db.get().await?;
    // Locked in an order, so that two sessions of the same footage do not wait for each other.
    client
        .execute(
            "update recordings set kept_until = $2 where id in (
                 select id from recordings
                 where id = any($1) and deleted_at is null and (kept_until is null or kept_until < $2)
                 order by id for no key update)",
            &[&recordings, &session.expires_at],
        )
        .await?;
    client
        .execute(
            "update broadcasts set kept_until = $2 where id in (
                 select id from broadcasts
                 where id = any($1) and recorded and (kept_until is null or kept_until < $2)
                 order by id for no key update)",
            &[&broadcasts, &session.expires_at],
        )
        .await?;
    Ok(())
}

/// A session, also one that is over, for as long as it is known.
pub async fn find(db: &Db, id: PlaybackSessionId) -> Result<Option<Session>, DbError> {
    let client = db.get().await?;
    let statement =
        client.prepare_cached(&format!("select {COLUMNS} from playback_sessions where id = $1")).await?;
    client.query_opt(&statement, &[&id.0]).await?.as_ref().map(read).transpose()
}

/// Lets a session that is not over end later; never earlier. `None` where there is none.
pub async fn extend(
    db: &Db,
    id: PlaybackSessionId,
    until: DateTime<Utc>,
) -> Result<Option<Session>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            &format!(
                "update playback_sessions set expires_at = greatest(expires_at, $2)
                 where id = $1 and expires_at > now() returning {COLUMNS}"
            ),
            &[&id.0, &until],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// Ends a session; gives it where there was one.
pub async fn end(db: &Db, id: PlaybackSessionId) -> Result<Option<Session>, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let row = tx
        .query_opt(&format!("delete from playback_sessions where id = $1 returning {COLUMNS}"), &[&id.0])
        .await?;
    if row.is_some() {
        cdn::forget(&tx, SurrogateKey::Session(id)).await?;
    }
    tx.commit().await?;
    row.as_ref().map(read).transpose()
}

/// Sessions that were over `age` ago, at most so many.
pub async fn over(db: &Db, age: Duration, limit: i64) -> Result<Vec<Session>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {COLUMNS} from playback_sessions
                 where expires_at < now() - make_interval(secs => $1) order by expires_at limit $2"
            ),
            &[&age.as_secs_f64(), &limit],
        )
        .await?;
    super::known(&rows, read)
}

/// Sessions that are over, and that a media server still has: each with what it is called there.
pub async fn served_on(db: &Db, limit: i64) -> Result<Vec<(PlaybackSessionId, String)>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select id, path from playback_sessions where path is not null and expires_at <= now() order by expires_at limit $1",
            &[&limit],
        )
        .await?;
    Ok(rows.iter().map(|row| (PlaybackSessionId(row.get("id")), row.get("path"))).collect())
}

/// A media server has a session no more.
pub async fn withdrawn(db: &Db, id: PlaybackSessionId) -> Result<(), DbError> {
    db.get().await?.execute("update playback_sessions set path = null where id = $1", &[&id.0]).await?;
    Ok(())
}

/// One place that has footage of a livestream.
#[derive(Debug, Clone)]
pub struct Source {
    pub broadcast: BroadcastId,
    pub set: SetId,
    /// The moment of tick zero of its tracks, in microseconds since 1970.
    pub started: i64,
    /// Of footage that was imported: what was made of it.
    pub recording: Option<RecordingId>,
}

/// Longer than any segment is.
const LONGEST: TimeDelta = TimeDelta::minutes(1);

/// What has footage of a livestream in a span of time: first what was recorded here, then what was imported, each in the order it began.
pub async fn sources(
    db: &Db,
    livestream: LivestreamId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Source>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select b.id, coalesce(b.set_id, rs.set_id) as set_id, b.started_at, case when b.set_id is null then r.id end as recording_id
             from broadcasts b
             left join recordings r on b.set_id is null and r.id = b.recording_id and r.deleted_at is null
             left join recording_sets rs on rs.recording_id = r.id and rs.active
             where b.livestream_id = $1 and b.recorded and b.started_at < $3 and coalesce(b.ended_at, now()) > $2
               and case when b.set_id is null then b.status = 'converted' and rs.set_id is not null
                        else b.status not in ('expired', 'failed') end
             order by b.set_id is null, b.started_at, b.id",
            &[&livestream.0, &(from - LONGEST), &to],
        )
        .await?;
    let source = |row: &Row| Source {
        broadcast: BroadcastId(row.get("id")),
        set: SetId(row.get("set_id")),
        started: row.get::<_, DateTime<Utc>>("started_at").timestamp_micros(),
        recording: row.get::<_, Option<Uuid>>("recording_id").map(RecordingId),
    };
    Ok(rows.iter().map(source).collect())
}

/// The segments of a source that lie in a span of time, in microseconds since 1970, by its picture, or its sound where there is none.
pub async fn shots(db: &Db, source: &Source, from: i64, to: i64) -> Result<Vec<Shot>, DbError> {
    let renditions = sets::renditions(db, source.set).await?;
    let Some(main) = renditions.iter().min_by_key(|it| (it.kind != sets::TrackKind::Video, it.position))
    else {
        return Ok(vec![]);
    };
    let shot = |number: u32, start: u64, ticks: u64, gap: bool| Shot {
        number,
        start: source.started.saturating_add(micros(start, main.timescale)),
        end: source.started.saturating_add(micros(start + ticks, main.timescale)),
        gap,
    };
    if source.recording.is_some() {
        let mut start = 0;
        let segments = sets::segments(db, source.set, &main.rung).await?;
        return Ok(segments
            .iter()
            .map(|segment| {
                let began = start;
                start += segment.duration_ticks;
                shot(segment.number, began, segment.duration_ticks, false)
            })
            .collect());
    }
    let ticks = |micros: i64| {
        let since = i128::from(micros - source.started);
        i64::try_from(since * i128::from(main.timescale) / 1_000_000).unwrap_or(i64::MAX)
    };
    let earliest = from.saturating_sub(LONGEST.num_microseconds().unwrap_or_default());
    let left_out = live::left_out(db, source.broadcast).await?;
    let kept =
        |one: &Listed| !left_out.iter().any(|(first, until)| (*first..*until).contains(&one.number.into()));
    let rows = placed(db, source.set, &main.rung, ticks(earliest)..ticks(to)).await?;
    Ok(rows.into_iter().filter(kept).map(|one| shot(one.number, one.start, one.ticks, one.gap)).collect())
}

/// Segments of a track of a broadcast that begin in a span of its timeline.
async fn placed(db: &Db, set: SetId, rung: &str, span: Range<i64>) -> Result<Vec<Listed>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select number, start_ticks, duration_ticks, gap from segments
             where set_id = $1 and rung = $2 and start_ticks >= $3 and start_ticks < $4 order by start_ticks",
        )
        .await?;
    let rows = client.query(&statement, &[&set.0, &rung, &span.start, &span.end]).await?;
    Ok(rows.iter().map(read_listed).collect())
}

/// A segment of a track: where it begins on the timeline of its set, and how long it lasts, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    pub number: u32,
    pub start: u64,
    pub ticks: u64,
    pub gap: bool,
}

/// What is listed of a track of each of these stretches, asked for at once.
pub async fn listed(db: &Db, wanted: &[(&Stretch, &str)]) -> Result<Vec<Vec<Listed>>, DbError> {
    let client = db.get().await?;
    // Of what was not live the start is known by what comes before, from the first of all.
    let statement = client
        .prepare_cached(
            "select k.place, l.* from unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::bool[])
                 with ordinality as k(set_id, rung, first, until, imported, place),
             lateral (
                 select number, coalesce(start_ticks, before)::bigint as start_ticks, duration_ticks, gap from (
                     select number, start_ticks, duration_ticks, gap,
                            case when k.imported then sum(duration_ticks) over (order by number) - duration_ticks end as before
                     from segments s
                     where s.set_id = k.set_id and s.rung = k.rung
                       and s.number >= case when k.imported then 0 else k.first end and s.number < k.until
                 ) as all_of_it
                 where number >= k.first
             ) as l
             order by k.place, l.number",
        )
        .await?;
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let sets: Vec<Uuid> = wanted.iter().map(|(stretch, _)| stretch.set.0).collect();
    let rungs: Vec<&str> = wanted.iter().map(|(_, rung)| *rung).collect();
    let first: Vec<i32> = wanted.iter().map(|(stretch, _)| number(stretch.first)).collect();
    let until: Vec<i32> = wanted.iter().map(|(stretch, _)| number(stretch.until)).collect();
    let imported: Vec<bool> = wanted.iter().map(|(stretch, _)| stretch.recording.is_some()).collect();
    let rows = client.query(&statement, &[&sets, &rungs, &first, &until, &imported]).await?;
    let mut all = vec![vec![]; wanted.len()];
    for row in &rows {
        let place = usize::try_from(row.get::<_, i64>("place") - 1).unwrap_or_default();
        if let Some(listed) = all.get_mut(place) {
            listed.push(read_listed(row));
        }
    }
    Ok(all)
}

fn read_listed(row: &Row) -> Listed {
    Listed {
        number: row.get::<_, i32>("number").unsigned_abs(),
        start: row.get::<_, Option<i64>>("start_ticks").unwrap_or_default().unsigned_abs(),
        ticks: row.get::<_, i64>("duration_ticks").unsigned_abs(),
        gap: row.get("gap"),
    }
}

/// When there is footage nearest to a moment, before it and after it: where somebody asked for a span in which there is none.
pub async fn nearest(
    db: &Db,
    livestream: LivestreamId,
    at: DateTime<Utc>,
) -> Result<(Option<DateTime<Utc>>, Option<DateTime<Utc>>), DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "select max(coalesce(ended_at, now())) filter (where started_at <= $2), min(started_at) filter (where started_at > $2)
             from broadcasts where livestream_id = $1 and recorded and status not in ('expired', 'failed')",
            &[&livestream.0, &at],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}
