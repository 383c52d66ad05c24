//! Distribution: recordings and livestreams that viewers join by name, so many at most. A viewer is a viewer session, like any other.

mod bandwidth;

pub use bandwidth::StreamLimits;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::livestreams::WATCHING;
use super::viewers::Watched;
use super::{Db, DbError, GenericClient};
use crate::ids::{LivestreamId, ProjectId, RecordingId, StreamId};
use crate::media::abr::BitrateProfile;

/// A stream as read back.
#[derive(Debug, Clone)]
pub struct Stream {
    pub id: StreamId,
    pub project: ProjectId,
    pub watched: Watched,
    pub limits: StreamLimits,
    pub peak_viewers: u32,
    /// Who holds a place now.
    pub active_viewers: u32,
    /// Bits per second that they take, as [`StreamLimits`] counts.
    pub bandwidth: u64,
    pub segments: u64,
    pub bytes: u64,
    pub started_at: DateTime<Utc>,
}

/// A change of a viewer's profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub from: BitrateProfile,
    pub to: BitrateProfile,
    pub at: DateTime<Utc>,
}

/// Changes that are kept of a viewer.
const SWITCHES: usize = 50;

/// Somebody who joined a stream.
#[derive(Debug, Clone)]
pub struct StreamViewer {
    /// What the caller calls them.
    pub viewer: String,
    pub session: String,
    pub bitrate: BitrateProfile,
    /// Per cent; `None` where nobody told.
    pub buffer_health: Option<f32>,
    pub switches: Vec<Switch>,
    pub segments: u64,
    pub bytes: u64,
    pub stalls: Option<i32>,
    pub joined_at: DateTime<Utc>,
    pub seen_at: DateTime<Utc>,
}

/// A viewer `v` of a stream holds a place.
fn holding() -> String {
    format!("v.left_at is null and v.seen_at > now() - {WATCHING}")
}

fn columns() -> String {
    format!(
        "s.id, s.project_id, s.recording_id, s.livestream_id, s.max_viewers, s.bandwidth_limit, s.least_bitrate, s.peak_viewers, s.started_at,
         (select {} from viewer_sessions v where v.stream_id = s.id and {}) as bandwidth,
         (select count(*) from viewer_sessions v where v.stream_id = s.id and {})::int as active,
         s.past_segments + (select coalesce(sum(v.served_segments), 0) from viewer_sessions v where v.stream_id = s.id)::bigint as segments,
         s.past_bytes + (select coalesce(sum(v.served_bytes), 0) from viewer_sessions v where v.stream_id = s.id)::bigint as bytes",
        bandwidth::sum(),
        holding(),
        holding()
    )
}

fn read(row: &Row) -> Stream {
    // It is one of both.
    let watched = match row.get::<_, Option<Uuid>>("recording_id") {
        Some(id) => Watched::Recording(RecordingId(id)),
        None => Watched::Livestream(LivestreamId(row.get("livestream_id"))),
    };
    let count = |name: &str| row.get::<_, i32>(name).unsigned_abs();
    let sum = |name: &str| row.get::<_, i64>(name).unsigned_abs();
    Stream {
        id: StreamId(row.get("id")),
        project: ProjectId(row.get("project_id")),
        watched,
        limits: StreamLimits {
            viewers: count("max_viewers"),
            bandwidth: sum("bandwidth_limit"),
            least_bitrate: sum("least_bitrate"),
        },
        peak_viewers: count("peak_viewers"),
        active_viewers: count("active"),
        bandwidth: sum("bandwidth"),
        segments: sum("segments"),
        bytes: sum("bytes"),
        started_at: row.get("started_at"),
    }
}

/// Opens the stream of something that is watched, or changes the limits of the one that is open.
pub async fn start(
    db: &Db,
    project: ProjectId,
    watched: Watched,
    limits: StreamLimits,
) -> Result<Stream, DbError> {
    let client = db.get().await?;
    let (recording, livestream) = watched.columns();
    client
        .execute(
            "insert into streams (id, project_id, recording_id, livestream_id, max_viewers, bandwidth_limit, least_bitrate)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (coalesce(recording_id, livestream_id)) where ended_at is null
             do update set max_viewers = excluded.max_viewers, bandwidth_limit = excluded.bandwidth_limit,
                 least_bitrate = excluded.least_bitrate",
            &[
                &StreamId::new().0,
                &project.0,
                &recording,
                &livestream,
                &i32::try_from(limits.viewers).unwrap_or(i32::MAX),
                &i64::try_from(limits.bandwidth).unwrap_or(i64::MAX),
                &i64::try_from(limits.least_bitrate).unwrap_or(i64::MAX),
            ],
        )
        .await?;
    // In a statement of its own, which sees it.
    open(&client, project, watched.id()).await?.ok_or(DbError::LostRace)
}

/// The stream that is open of a recording or livestream.
pub async fn find(db: &Db, project: ProjectId, watched: Uuid) -> Result<Option<Stream>, DbError> {
    let client = db.get().await?;
    open(&client, project, watched).await
}

async fn open(
    client: &impl GenericClient,
    project: ProjectId,
    watched: Uuid,
) -> Result<Option<Stream>, DbError> {
    let row = client
        .query_opt(
            &format!(
                "select {} from streams s
                 where coalesce(s.recording_id, s.livestream_id) = $2 and s.project_id = $1 and s.ended_at is null",
                columns()
            ),
            &[&project.0, &watched],
        )
        .await?;
    Ok(row.as_ref().map(read))
}

/// What came of somebody's wish to join.
#[derive(Debug)]
pub enum Joined {
    /// They have a place: a new one, or the one they had.
    In(Box<StreamViewer>),
    /// All places are taken.
    Full,
    /// What others take leaves too little for the lowest profile.
    Busy,
    /// There is no such stream, or no more.
    Closed,
}

/// Gives a viewer a place, with the profile they ask for or the best below it for which there is bandwidth. `session` is for one who has
/// none: its name in the sessions of all viewers.
pub async fn join(
    db: &Db,
    stream: &Stream,
    viewer: &str,
    session: &str,
    bitrate: BitrateProfile,
) -> Result<Joined, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // One at a time, whichever api asks: else two would take the last place.
    let held = tx
        .query_opt(
            "select max_viewers, bandwidth_limit, least_bitrate from streams where id = $1 and ended_at is null for update",
            &[&stream.id.0],
        )
        .await?;
    let Some(row) = held else { return Ok(Joined::Closed) };
    let most: i32 = row.get(0);
    let (limit, least) = (row.get::<_, i64>(1).unsigned_abs(), row.get::<_, i64>(2).unsigned_abs());
    let known = tx
        .query_opt(
            &format!(
                "update viewer_sessions v set seen_at = now() where v.stream_id = $1 and v.user_id = $2 and {} returning {VIEWER}",
                holding()
            ),
            &[&stream.id.0, &viewer],
        )
        .await?;
    if let Some(row) = known {
        tx.commit().await?;
        return Ok(Joined::In(Box::new(read_viewer(&row)?)));
    }
    let (active, used) = bandwidth::taken(&tx, stream.id, None).await?;
    if active >= most {
        return Ok(Joined::Full);
    }
    let Some(bitrate) = bitrate.within(limit.saturating_sub(used), least) else { return Ok(Joined::Busy) };
    let (recording, livestream) = stream.watched.columns();
    let row = tx
        .query_one(
            &format!(
                "insert into viewer_sessions as v (project_id, id, recording_id, livestream_id, user_id, stream_id, bitrate, told_by,
                     played_seconds, furthest_seconds, watched, completed)
                 values ($1, $2, $3, $4, $5, $6, $7, 'player', case when $3::uuid is null then null else 0 end,
                     case when $3::uuid is null then null else 0 end, case when $3::uuid is null then null else repeat('0', 100)::bit(100) end,
                     case when $3::uuid is null then null else false end)
                 returning {VIEWER}"
            ),
            &[&stream.project.0, &session, &recording, &livestream, &viewer, &stream.id.0, &bitrate.as_str()],
        )
        .await?;
    tx.execute(
        "update streams set peak_viewers = greatest(peak_viewers, $2) where id = $1",
        &[&stream.id.0, &(active + 1)],
    )
    .await?;
    tx.commit().await?;
    Ok(Joined::In(Box::new(read_viewer(&row)?)))
}

const VIEWER: &str = "v.user_id, v.id, v.bitrate, v.buffer_health, v.bitrate_switches, v.served_segments, v.served_bytes, v.buffer_events,
    v.joined_at, v.seen_at";

fn read_viewer(row: &Row) -> Result<StreamViewer, DbError> {
    Ok(StreamViewer {
        viewer: row.get("user_id"),
        session: row.get("id"),
        bitrate: row.get::<_, &str>("bitrate").parse()?,
        buffer_health: row.get("buffer_health"),
        switches: row.get::<_, Option<Json<Vec<Switch>>>>("bitrate_switches").map_or(vec![], |list| list.0),
        segments: row.get::<_, i64>("served_segments").unsigned_abs(),
        bytes: row.get::<_, i64>("served_bytes").unsigned_abs(),
        stalls: row.get("buffer_events"),
        joined_at: row.get("joined_at"),
        seen_at: row.get("seen_at"),
    })
}

/// Who holds a place in a stream, the first to join first.
pub async fn viewers(db: &Db, stream: StreamId, limit: i64) -> Result<Vec<StreamViewer>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {VIEWER} from viewer_sessions v where v.stream_id = $1 and {} order by v.joined_at, v.id limit $2",
                holding()
            ),
            &[&stream.0, &limit],
        )
        .await?;
    super::known(&rows, read_viewer)
}

/// A viewer leaves; false where they had no place.
pub async fn leave(db: &Db, stream: StreamId, viewer: &str) -> Result<bool, DbError> {
    let left = db
        .get()
        .await?
        .execute(
            &format!(
                "update viewer_sessions v set left_at = now() where v.stream_id = $1 and v.user_id = $2 and {}",
                holding()
            ),
            &[&stream.0, &viewer],
        )
        .await?;
    Ok(left > 0)
}

/// Closes a stream: nobody has a place any more.
pub async fn end(db: &Db, stream: StreamId) -> Result<bool, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let ended = tx
        .execute("update streams set ended_at = now() where id = $1 and ended_at is null", &[&stream.0])
        .await?;
    tx.execute(
        "update viewer_sessions set left_at = now() where stream_id = $1 and left_at is null",
        &[&stream.0],
    )
    .await?;
    tx.commit().await?;
    Ok(ended > 0)
}

/// A viewer tells how full the buffer is, in per cent: what they are to play from now on, which is more than before only where there is bandwidth
/// for it. `None` where they have no place.
pub async fn adapt(
    db: &Db,
    stream: StreamId,
    viewer: &str,
    buffer_health: f32,
) -> Result<Option<StreamViewer>, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let Some(before) = profile(&tx, stream, viewer).await? else { return Ok(None) };
    let wished = before.adapted(buffer_health.into());
    // The stream before the viewer, as in `join`: else two would wait for each other.
    let rises = wished > before && bandwidth::may_rise(&tx, stream, viewer, wished).await?;
    let most = if rises { wished } else { before };
    let row = tx
        .query_opt(
            &format!(
                "select {VIEWER} from viewer_sessions v where v.stream_id = $1 and v.user_id = $2 and {} for update",
                holding()
            ),
            &[&stream.0, &viewer],
        )
        .await?;
    let Some(mut known) = row.as_ref().map(read_viewer).transpose()? else { return Ok(None) };
    let wished = known.bitrate.adapted(buffer_health.into());
    // Another report of the same viewer may have come meanwhile.
    let to = if wished > known.bitrate.max(most) { known.bitrate } else { wished };
    if to != known.bitrate {
        known.switches.push(Switch { from: known.bitrate, to, at: Utc::now() });
        let surplus = known.switches.len().saturating_sub(SWITCHES);
        known.switches.drain(..surplus);
    }
    (known.bitrate, known.buffer_health) = (to, Some(buffer_health));
    tx.execute(
        "update viewer_sessions set bitrate = $3, buffer_health = $4, bitrate_switches = $5, seen_at = now()
         where stream_id = $1 and id = $2",
        &[&stream.0, &known.session, &to.as_str(), &buffer_health, &Json(&known.switches)],
    )
    .await?;
    tx.commit().await?;
    Ok(Some(known))
}

/// Whether a session has a place in a stream; what it plays where it has.
pub async fn place(db: &Db, watched: Watched, session: &str) -> Result<Option<BitrateProfile>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!(
            "select v.bitrate from viewer_sessions v join streams s on s.id = v.stream_id
             where v.id = $1 and coalesce(v.recording_id, v.livestream_id) = $2 and s.ended_at is null and {}",
            holding()
        ))
        .await?;
    let row = client.query_opt(&statement, &[&session, &watched.id()]).await?;
    Ok(row.map(|row| row.get::<_, &str>(0).parse()).transpose()?)
}

/// What a viewer of a stream plays; `None` where they have no place.
pub async fn bitrate(db: &Db, stream: StreamId, viewer: &str) -> Result<Option<BitrateProfile>, DbError> {
    let client = db.get().await?;
    profile(&client, stream, viewer).await
}

async fn profile(
    client: &impl GenericClient,
    stream: StreamId,
    viewer: &str,
) -> Result<Option<BitrateProfile>, DbError> {
    let playing = format!(
        "select v.bitrate from viewer_sessions v where v.stream_id = $1 and v.user_id = $2 and {}",
        holding()
    );
    let row = client.query_opt(&playing, &[&stream.0, &viewer]).await?;
    Ok(row.map(|row| row.get::<_, &str>(0).parse()).transpose()?)
}

/// Who a session is that has a place in a stream, and which stream.
pub async fn placed(
    db: &Db,
    watched: Watched,
    session: &str,
) -> Result<Option<(StreamId, StreamViewer)>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            &format!(
                "select {VIEWER}, v.stream_id from viewer_sessions v join streams s on s.id = v.stream_id
                 where v.id = $1 and coalesce(v.recording_id, v.livestream_id) = $2 and s.ended_at is null and {}",
                holding()
            ),
            &[&session, &watched.id()],
        )
        .await?;
    row.map(|row| Ok((StreamId(row.get("stream_id")), read_viewer(&row)?))).transpose()
}

/// What edges gave a viewer since they wrote it down last.
#[derive(Debug, Clone)]
pub struct Served {
    pub watched: Watched,
    pub session: String,
    pub bytes: u64,
    pub segments: u64,
}

/// Writes down what edges gave viewers of streams, who are still there by that.
pub async fn serve(db: &Db, all: &[Served]) -> Result<(), DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "with given as materialized (
                 select v.project_id, v.id, g.bytes, g.segments
                 from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) as g (watched, session, bytes, segments)
                 join viewer_sessions v on v.id = g.session and coalesce(v.recording_id, v.livestream_id) = g.watched
                 where v.stream_id is not null
                 order by v.project_id, v.id for update of v)
             update viewer_sessions v
             set served_bytes = v.served_bytes + given.bytes, served_segments = v.served_segments + given.segments, seen_at = now()
             from given where v.project_id = given.project_id and v.id = given.id",
        )
        .await?;
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let watched: Vec<Uuid> = all.iter().map(|it| it.watched.id()).collect();
    let sessions: Vec<&str> = all.iter().map(|it| it.session.as_str()).collect();
    let bytes: Vec<i64> = all.iter().map(|it| number(it.bytes)).collect();
    let segments: Vec<i64> = all.iter().map(|it| number(it.segments)).collect();
    client.execute(&statement, &[&watched, &sessions, &bytes, &segments]).await?;
    Ok(())
}

/// What a project distributes, all together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Streams that are open.
    pub streams: u32,
    pub viewers: u32,
    /// Of all streams there ever were.
    pub segments: u64,
    pub bytes: u64,
    pub delivery_failures: u64,
}

/// Sums of all streams of a project.
pub async fn totals(db: &Db, project: ProjectId) -> Result<Totals, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            &format!(
                "select (select count(*) from streams where project_id = $1 and ended_at is null)::int as streams,
                        count(*) filter (where {})::int as viewers,
                        (coalesce(sum(v.served_segments), 0)
                         + (select coalesce(sum(past_segments), 0) from streams where project_id = $1))::bigint as segments,
                        (coalesce(sum(v.served_bytes), 0)
                         + (select coalesce(sum(past_bytes), 0) from streams where project_id = $1))::bigint as bytes,
                        (select coalesce(sum(delivery_failures), 0) from streams where project_id = $1)::bigint as delivery_failures
                 from viewer_sessions v where v.project_id = $1 and v.stream_id is not null",
                holding()
            ),
            &[&project.0],
        )
        .await?;
    Ok(Totals {
        streams: row.get::<_, i32>("streams").unsigned_abs(),
        viewers: row.get::<_, i32>("viewers").unsigned_abs(),
        segments: row.get::<_, i64>("segments").unsigned_abs(),
        bytes: row.get::<_, i64>("bytes").unsigned_abs(),
        delivery_failures: row.get::<_, i64>("delivery_failures").unsigned_abs(),
    })
}
