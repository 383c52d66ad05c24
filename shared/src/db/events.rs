//! The one event log. Written in the transaction of what it tells; read in commit order up to the horizon.
//!
//! Readers poll while somebody listens: NOTIFY would take a global lock at every commit and may still get lost.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Db, DbError, GenericClient};
use crate::ids::{JobId, LivestreamId, ProjectId, RecordingId};
use crate::job::state::words;

words! {
    /// What happened. The words are the webhooks' event types.
    EventType("event type") {
        JobQueued = "job.queued",
        JobStarted = "job.started",
        /// A job has come another quarter of its way.
        JobProgress = "job.progress",
        JobSucceeded = "job.succeeded",
        JobFailed = "job.failed",
        JobCancelled = "job.cancelled",
        RecordingPlayable = "recording.playable",
        RecordingReady = "recording.ready",
        RecordingDeleted = "recording.deleted",
        LivestreamStarted = "livestream.started",
        /// Its publisher is away, and may come back to the same broadcast.
        LivestreamReconnecting = "livestream.reconnecting",
        LivestreamEnded = "livestream.ended",
        /// What was on air can be played again.
        BroadcastRecorded = "broadcast.recorded",
        /// A webhook that failed for too long, or is gone, gets no more events.
        WebhookDisabled = "webhook.disabled",
    }
}

/// A place in the log. Transactions commit out of the order in which their rows are numbered, so a place is the
/// transaction's id first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    pub xid: u64,
    pub id: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.xid, self.id)
    }
}

/// Not of the form `xid-id`.
#[derive(Debug, thiserror::Error)]
#[error("an event position has the form \"123-45\"")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (xid, id) = text.split_once('-').ok_or(BadPosition)?;
        Ok(Self { xid: xid.parse().map_err(|_| BadPosition)?, id: id.parse().map_err(|_| BadPosition)? })
    }
}

/// An event as read back.
#[derive(Debug, Clone)]
pub struct Event {
    pub position: Position,
    /// Stable id, the same in every delivery.
    pub event_id: Uuid,
    pub project_id: ProjectId,
    /// The word of an [`EventType`], or one that only newer programs know: it is passed on all the same.
    pub kind: String,
    pub job_id: Option<JobId>,
    pub recording_id: Option<RecordingId>,
    pub livestream_id: Option<LivestreamId>,
    pub data: Value,
    pub created_at: DateTime<Utc>,
}

/// An event about to be written.
pub(crate) struct NewEvent {
    pub(crate) project_id: ProjectId,
    pub(crate) kind: EventType,
    pub(crate) job_id: Option<JobId>,
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) livestream_id: Option<LivestreamId>,
    pub(crate) data: Value,
}

/// Appends an event in the caller's transaction.
pub(crate) async fn append(client: &impl GenericClient, event: NewEvent) -> Result<(), DbError> {
    let statement = client
        .prepare_cached(
            "insert into events (project_id, type, job_id, recording_id, livestream_id, data)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .await?;
    client
        .execute(
            &statement,
            &[
                &event.project_id.0,
                &event.kind.as_str(),
                &event.job_id.map(|id| id.0),
                &event.recording_id.map(|id| id.0),
                &event.livestream_id.map(|id| id.0),
                &event.data,
            ],
        )
        .await?;
    Ok(())
}

const COLUMNS: &str = "xid::text as xid_text, id, event_id, project_id, type, job_id, recording_id, livestream_id, data, created_at";

// The column stays `xid`, its text is `xid_text`: `order by` would take an alias `xid` for the text, and 1000 comes before 999
// there.
fn read(row: &Row) -> Event {
    let xid: String = row.get("xid_text");
    Event {
        position: Position { xid: xid.parse().unwrap_or_default(), id: row.get("id") },
        event_id: row.get("event_id"),
        project_id: ProjectId(row.get("project_id")),
        kind: row.get("type"),
        job_id: row.get::<_, Option<Uuid>>("job_id").map(JobId),
        recording_id: row.get::<_, Option<Uuid>>("recording_id").map(RecordingId),
        livestream_id: row.get::<_, Option<Uuid>>("livestream_id").map(LivestreamId),
        data: row.get("data"),
        created_at: row.get("created_at"),
    }
}

/// Events after `position` that can no longer be overtaken by one that commits late, oldest first.
pub async fn after(db: &Db, position: Position, limit: i64) -> Result<Vec<Event>, DbError> {
    read_after(&db.get().await?, position, limit).await
}

/// The same, in the caller's transaction.
pub(super) async fn read_after(
    client: &impl GenericClient,
    position: Position,
    limit: i64,
) -> Result<Vec<Event>, DbError> {
    let statement = client
        .prepare_cached(&format!(
            "select {COLUMNS} from events
                 where (xid, id) > ($1::text::xid8, $2) and xid < pg_snapshot_xmin(pg_current_snapshot())
                 order by xid, id limit $3"
        ))
        .await?;
    let rows = client.query(&statement, &[&position.xid.to_string(), &position.id, &limit]).await?;
    Ok(rows.iter().map(read).collect())
}

/// Events of one job after `position`, up to the horizon, oldest first.
pub async fn of_job_after(db: &Db, job: JobId, position: Position) -> Result<Vec<Event>, DbError> {
    let client = db.get().await?;
    let rows = client
        .query(
            &format!(
                "select {COLUMNS} from events
                 where job_id = $3 and (xid, id) > ($1::text::xid8, $2)
                   and xid < pg_snapshot_xmin(pg_current_snapshot())
                 order by xid, id"
            ),
            &[&position.xid.to_string(), &position.id, &job.0],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}

/// Events of one project after `position`, up to the horizon, oldest first.
pub async fn of_project_after(
    db: &Db,
    project: ProjectId,
    position: Position,
    limit: i64,
) -> Result<Vec<Event>, DbError> {
    let client = db.get().await?;
    let rows = client
        .query(
            &format!(
                "select {COLUMNS} from events
                 where project_id = $3 and (xid, id) > ($1::text::xid8, $2)
                   and xid < pg_snapshot_xmin(pg_current_snapshot())
                 order by xid, id limit $4"
            ),
            &[&position.xid.to_string(), &position.id, &project.0, &limit],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}

/// Which events of a project are read back.
#[derive(Debug, Clone)]
pub struct Span {
    pub project: ProjectId,
    pub from: DateTime<Utc>,
    /// The first moment that is no longer of it.
    pub to: DateTime<Utc>,
    /// Empty for all.
    pub types: Vec<EventType>,
}

/// Events of a span up to `end`, oldest first. In the caller's transaction.
pub(super) async fn read_span(
    client: &impl GenericClient,
    span: &Span,
    end: Position,
    limit: i64,
) -> Result<Vec<Event>, DbError> {
    let types: Vec<&str> = span.types.iter().map(|kind| kind.as_str()).collect();
    let rows = client
        .query(
            &format!(
                "select {COLUMNS} from events
                 where project_id = $1 and created_at >= $2 and created_at < $3
                   and (cardinality($4::text[]) = 0 or type = any($4)) and (xid, id) <= ($5::text::xid8, $6)
                 order by xid, id limit $7"
            ),
            &[&span.project.0, &span.from, &span.to, &types, &end.xid.to_string(), &end.id, &limit],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}

/// Where the log ends now: events of transactions that are under way come after it.
pub async fn end(db: &Db) -> Result<Position, DbError> {
    let client = db.get().await?;
    let row = client
        .query_opt(
            "select xid::text as xid_text, id from events
             where xid < pg_snapshot_xmin(pg_current_snapshot()) order by xid desc, events.id desc limit 1",
            &[],
        )
        .await?;
    Ok(row
        .map(|row| Position {
            xid: row.get::<_, &str>("xid_text").parse().unwrap_or_default(),
            id: row.get("id"),
        })
        .unwrap_or_default())
}
