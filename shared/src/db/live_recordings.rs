//! Recordings that are live: those that a broadcast becomes, and those that are played out as if they were.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::livestreams::{self, KeptKey, Terms};
use super::{Db, DbError};
use crate::ids::{BroadcastId, LivestreamId, ProjectId, RecordingId};
use crate::job::state::words;

words! {
    /// Where the media of a recording that is live comes from.
    LiveSide("source of a live recording") {
        /// A publisher: the broadcast becomes the recording.
        Ingest = "ingest",
        /// The recording: it is played out.
        Replay = "replay",
    }
}

/// A recording that is live, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRecording {
    pub livestream: LivestreamId,
    pub recording: RecordingId,
    pub project: ProjectId,
    pub source: LiveSide,
    /// A name that the project gave to it.
    pub room: Option<String>,
    pub started_at: DateTime<Utc>,
    pub stopped_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str =
    "r.livestream_id, r.recording_id, r.project_id, r.source, r.room_id, r.started_at, r.stopped_at";

fn read(row: &Row) -> Result<LiveRecording, DbError> {
    Ok(LiveRecording {
        livestream: LivestreamId(row.get("livestream_id")),
        recording: RecordingId(row.get("recording_id")),
        project: ProjectId(row.get("project_id")),
        source: row.get::<_, &str>("source").parse()?,
        room: row.get("room_id"),
        started_at: row.get("started_at"),
        stopped_at: row.get("stopped_at"),
    })
}

/// What is to be live.
#[derive(Debug)]
pub struct NewLiveRecording<'a> {
    pub livestream: LivestreamId,
    pub recording: RecordingId,
    pub source: LiveSide,
    pub room: Option<&'a str>,
    pub terms: &'a Terms,
    pub key: &'a KeptKey<'a>,
}

/// What came of a wish for a recording to be live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    Now(LiveRecording),
    /// The recording is live already, or what was on air is about to become it.
    Busy,
    /// Another one has the room.
    RoomTaken,
}

/// Makes a recording live: with a livestream that waits for its publisher, or is about to be fetched. A request that is repeated with the
/// same ids finds what it made.
pub async fn open(db: &Db, project: ProjectId, new: &NewLiveRecording<'_>) -> Result<Opened, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // Held, so that what is about to become the recording has become it, or sees that another is on its way.
    let free = tx
        .query_opt(
            "select 1 from recordings
             where id = $1 and deleted_at is null and (not $2 or source_id is null and status = 'pending') for update",
            &[&new.recording.0, &(new.source == LiveSide::Ingest)],
        )
        .await?;
    if free.is_none() {
        return Ok(Opened::Busy);
    }
    livestreams::insert(&tx, project, new.livestream, new.terms, new.key).await?;
    let inserted = tx
        .query_one(
            &format!(
                "insert into live_recordings as r (livestream_id, recording_id, project_id, source, room_id) values ($1, $2, $3, $4, $5)
                 on conflict (livestream_id) do update set livestream_id = excluded.livestream_id returning {COLUMNS}"
            ),
            &[&new.livestream.0, &new.recording.0, &project.0, &new.source.as_str(), &new.room],
        )
        .await;
    let row = match inserted {
        Ok(row) => row,
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            let constraint = error.as_db_error().and_then(|error| error.constraint());
            return Ok(if constraint == Some("live_recordings_room") {
                Opened::RoomTaken
            } else {
                Opened::Busy
            });
        }
        Err(error) => return Err(error.into()),
    };
    tx.execute(
        "update livestreams set armed_at = coalesce(armed_at, now()) where id = $1",
        &[&new.livestream.0],
    )
    .await?;
    tx.commit().await?;
    Ok(Opened::Now(read(&row)?))
}

/// What makes a recording live, or is about to become it.
pub async fn of_recording(db: &Db, recording: RecordingId) -> Result<Option<LiveRecording>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!(
            "select {COLUMNS} from live_recordings r where r.recording_id = $1 and r.settled_at is null"
        ))
        .await?;
    client.query_opt(&statement, &[&recording.0]).await?.as_ref().map(read).transpose()
}

/// A live recording is not to go on: its room is free.
pub async fn stop(db: &Db, livestream: LivestreamId) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "update live_recordings set stopped_at = coalesce(stopped_at, now()) where livestream_id = $1",
            &[&livestream.0],
        )
        .await?;
    Ok(())
}

/// Nothing more is to come of a live recording.
pub async fn settle(db: &Db, livestream: LivestreamId) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "update live_recordings set stopped_at = coalesce(stopped_at, now()), settled_at = now()
             where livestream_id = $1 and settled_at is null",
            &[&livestream.0],
        )
        .await?;
    Ok(())
}

/// What is to be done about a recording that was live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Its broadcast is over, and becomes the recording.
    Convert(LiveRecording, BroadcastId),
    /// Nothing comes of it any more.
    Settle(LiveRecording),
}

/// The oldest of what is to be done, at most `limit`.
pub async fn due(db: &Db, limit: i64) -> Result<Vec<Due>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {COLUMNS}, case when v.deleted_at is null
                        and (b.status = 'available' or b.status in ('converting', 'converted') and v.source_id is null)
                    then b.id end as broadcast_id
                 from live_recordings r
                     join livestreams l on l.id = r.livestream_id
                     join recordings v on v.id = r.recording_id
                     -- Its first broadcast: whoever publishes again after that made another one.
                     left join lateral (
                         select id, status from broadcasts b where b.livestream_id = l.id and b.recorded order by id limit 1
                     ) b on r.source = 'ingest'
                 where r.settled_at is null
                   and (v.deleted_at is not null
                     -- It can be converted; or it was already, or has nothing in it.
                     or b.status not in ('recording', 'finalizing')
                     or b.id is null and (r.stopped_at is not null or l.deleted_at is not null)
                     or r.source = 'replay' and l.armed_at is null and l.broadcast_id is null)
                 order by r.started_at limit $1"
            ),
            &[&limit],
        )
        .await?;
    let due = |row: &Row| {
        let of = read(row)?;
        let broadcast = row.get::<_, Option<Uuid>>("broadcast_id").map(BroadcastId);
        Ok(match broadcast {
            Some(broadcast) => Due::Convert(of, broadcast),
            None => Due::Settle(of),
        })
    };
    rows.iter().map(due).collect()
}
