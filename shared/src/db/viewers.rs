//! Viewer sessions: one player playing, of whatever. Holders of a key tell of those of livestreams one by one; what else apis are told, and what
//! edges see of players that tell nothing, is written down together every few seconds.

mod note;

pub use note::{Noted, Point, ToldBy, Written, note};

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use uuid::Uuid;

use super::livestreams::{WATCHED, WATCHING};
use super::{Db, DbError, GenericClient};
use crate::ids::{LivestreamId, ProjectId, RecordingId};

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Watched {
    Livestream(LivestreamId),
    Recording(RecordingId),
}

impl Watched {
    pub fn id(self) -> Uuid {
        match self {
            Self::Livestream(id) => id.0,
            Self::Recording(id) => id.0,
        }
    }

    /// What a row names it by: a recording, or a livestream.
    pub(super) fn columns(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Self::Recording(id) => (Some(id.0), None),
            Self::Livestream(id) => (None, Some(id.0)),
        }
    }
}

/// A session as read back.
#[derive(Debug, Clone)]
pub struct ViewerSession {
    pub id: String,
    pub user_id: Option<String>,
    pub resolution: Option<String>,
    pub device_type: Option<String>,
    pub location: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    /// `None` where a player of a recording did not tell.
    pub buffer_events: Option<i32>,
    pub quality_changes: Option<i32>,
    /// Of a recording: where the player was last, and how much it has played.
    pub position_seconds: Option<f64>,
    pub played_seconds: Option<f64>,
    pub joined_at: DateTime<Utc>,
    pub seen_at: DateTime<Utc>,
    pub left_at: Option<DateTime<Utc>>,
}

/// What is told of a session. What is `None` stays as it was; counts only grow.
#[derive(Debug, Default)]
pub struct Sighting<'a> {
    pub session: &'a str,
    pub user_id: Option<&'a str>,
    pub resolution: Option<&'a str>,
    pub device_type: Option<&'a str>,
    pub location: Option<&'a str>,
    pub ip_address: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    /// See [`watcher`]; `None` where it is not known whose requests an edge sees of it.
    pub watcher: Option<Uuid>,
    pub buffer_events: Option<i32>,
    pub quality_changes: Option<i32>,
    pub left: bool,
}

/// One name for an address and a user agent: requests with both in common are taken for those of one player that tells nothing of itself.
pub fn watcher(address: &str, user_agent: &str) -> Uuid {
    let digest = Sha256::new().chain_update(address).chain_update([0]).chain_update(user_agent).finalize();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    Uuid::from_bytes(bytes)
}

const COLUMNS: &str =
    "id, user_id, resolution, device_type, location, ip_address, user_agent, buffer_events, quality_changes,
    position_seconds, played_seconds, joined_at, seen_at, left_at";

fn read(row: &Row) -> ViewerSession {
    ViewerSession {
        id: row.get("id"),
        user_id: row.get("user_id"),
        resolution: row.get("resolution"),
        device_type: row.get("device_type"),
        location: row.get("location"),
        ip_address: row.get("ip_address"),
        user_agent: row.get("user_agent"),
        buffer_events: row.get("buffer_events"),
        quality_changes: row.get("quality_changes"),
        position_seconds: row.get("position_seconds"),
        played_seconds: row.get("played_seconds"),
        joined_at: row.get("joined_at"),
        seen_at: row.get("seen_at"),
        left_at: row.get("left_at"),
    }
}

/// Notes that a session of a livestream was seen; `None` where the session is of something else. Whoever comes more often than once a second
/// is not written down again, unless it leaves or comes back.
pub async fn track(
    db: &Db,
    project: ProjectId,
    livestream: LivestreamId,
    seen: &Sighting<'_>,
) -> Result<Option<ViewerSession>, DbError> {
    let client = db.get().await?;
    let write = client
        .prepare_cached(&format!(
            "insert into viewer_sessions as v (project_id, livestream_id, id, user_id, resolution, device_type, location, ip_address,
                                               user_agent, buffer_events, quality_changes, left_at, watcher)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10::int, 0), coalesce($11::int, 0), case when $12 then now() end, $13)
             on conflict (project_id, id) do update
             set user_id = coalesce($4, v.user_id), resolution = coalesce($5, v.resolution),
                 device_type = coalesce($6, v.device_type), location = coalesce($7, v.location),
                 ip_address = coalesce($8, v.ip_address), user_agent = coalesce($9, v.user_agent),
                 buffer_events = greatest(v.buffer_events, $10), quality_changes = greatest(v.quality_changes, $11),
                 seen_at = now(), left_at = excluded.left_at, watcher = coalesce($13, v.watcher), told_by = 'key'
             where v.livestream_id = $2
               and (v.seen_at < now() - interval '1 second' or (v.left_at is null) <> (excluded.left_at is null))
             returning {COLUMNS}, v.xmax = 0 as is_new"
        ))
        .await?;
    let row = client
        .query_opt(
            &write,
            &[
                &project.0,
                &livestream.0,
                &seen.session,
                &seen.user_id,
                &seen.resolution,
                &seen.device_type,
                &seen.location,
                &seen.ip_address,
                &seen.user_agent,
                &seen.buffer_events,
                &seen.quality_changes,
                &seen.left,
                &seen.watcher,
            ],
        )
        .await?;
    let Some(row) = row else {
        // In a statement of its own, which sees what the first one may have waited for.
        let read_back = client
            .prepare_cached(&format!(
                "select {COLUMNS} from viewer_sessions where project_id = $1 and id = $2 and livestream_id = $3"
            ))
            .await?;
        let there = client.query_opt(&read_back, &[&project.0, &seen.session, &livestream.0]).await?;
        return Ok(there.as_ref().map(read));
    };
    if row.get("is_new") {
        raise_peaks(&client, &[livestream.0]).await?;
    }
    Ok(Some(read(&row)))
}

/// There can be more at once than ever only when somebody joins.
async fn raise_peaks(client: &impl GenericClient, livestreams: &[Uuid]) -> Result<(), DbError> {
    let statement = client
        .prepare_cached(&format!(
            "update livestreams l set peak_viewer_count = now_watching.count
             from (select l.id, ({WATCHED}) as count from livestreams l where l.id = any($1)) as now_watching
             where l.id = now_watching.id and l.peak_viewer_count < now_watching.count"
        ))
        .await?;
    client.execute(&statement, &[&livestreams]).await?;
    Ok(())
}

/// Forgets sessions that were not heard of for `age`, at most so many; of recordings only those that are summed up. Gives how many that were.
pub async fn delete_old(db: &Db, age: Duration, most: i64) -> Result<u64, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            // Streams go on to say what they served.
            "with gone as (
                 delete from viewer_sessions where ctid = any(array(
                     select ctid from viewer_sessions
                     where seen_at < now() - make_interval(secs => $1)
                       and (recording_id is null or joined_at < (select until from viewing_summed)) limit $2))
                 returning stream_id, served_bytes, served_segments),
             summed as (
                 update streams s set past_bytes = s.past_bytes + g.bytes, past_segments = s.past_segments + g.segments
                 from (select stream_id, sum(served_bytes)::bigint as bytes, sum(served_segments)::bigint as segments
                       from gone where stream_id is not null group by stream_id) g
                 where s.id = g.stream_id)
             select count(*) from gone",
        )
        .await?;
    let gone: i64 = client.query_one(&statement, &[&age.as_secs_f64(), &most]).await?.get(0);
    Ok(gone.unsigned_abs())
}

/// A place in a list of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub joined_at: DateTime<Utc>,
    pub session: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.joined_at.timestamp_micros(), self.session)
    }
}

/// Not of the form `microseconds_session`.
#[derive(Debug, thiserror::Error)]
#[error("a place in a list of sessions has the form \"123_abc\"")]
pub struct BadPlace;

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        let (micros, session) = text.split_once('_').ok_or(BadPlace)?;
        let micros = micros.parse().map_err(|_| BadPlace)?;
        let joined_at = DateTime::from_timestamp_micros(micros).ok_or(BadPlace)?;
        Ok(Self { joined_at, session: session.to_owned() })
    }
}

/// Sessions of a livestream or a recording, the last to join first, after `after`; with `watching` only those that count as viewers now.
pub async fn list(
    db: &Db,
    watched: Watched,
    watching: bool,
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<ViewerSession>, DbError> {
    let column = match watched {
        Watched::Livestream(_) => "livestream_id",
        Watched::Recording(_) => "recording_id",
    };
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {COLUMNS} from viewer_sessions
                 where {column} = $1 and (not $2 or (left_at is null and seen_at > now() - {WATCHING}))
                   and ($3::timestamptz is null or (joined_at, id) < ($3, $4::text))
                 order by joined_at desc, id desc limit $5"
            ),
            &[
                &watched.id(),
                &watching,
                &after.map(|place| place.joined_at),
                &after.map(|place| place.session.as_str()),
                &limit,
            ],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}
