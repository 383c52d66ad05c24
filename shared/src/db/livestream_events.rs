//! What happened to livestreams, for who runs them. What others are told of is in [`super::events`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Db, DbError, GenericClient};
use crate::ids::{BroadcastId, LivestreamId};
use crate::live::event::{LiveEventType, Severity};

/// An entry as read back.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: Uuid,
    pub broadcast_id: Option<BroadcastId>,
    pub kind: LiveEventType,
    pub severity: Severity,
    pub message: String,
    pub details: Value,
    pub created_at: DateTime<Utc>,
}

/// An entry about to be written.
#[derive(Debug)]
pub struct NewEntry<'a> {
    pub broadcast_id: Option<BroadcastId>,
    pub kind: LiveEventType,
    pub severity: Severity,
    /// A plain sentence.
    pub message: &'a str,
    /// An object.
    pub details: Value,
}

/// Writes an entry, in the transaction of what it tells where there is one.
pub async fn append(
    client: &impl GenericClient,
    livestream: LivestreamId,
    new: &NewEntry<'_>,
) -> Result<(), DbError> {
    let statement = client
        .prepare_cached(
            "insert into livestream_events (id, livestream_id, broadcast_id, type, severity, message, details)
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .await?;
    client
        .execute(
            &statement,
            &[
                &Uuid::now_v7(),
                &livestream.0,
                &new.broadcast_id.map(|id| id.0),
                &new.kind.as_str(),
                &new.severity.as_str(),
                &new.message,
                &new.details,
            ],
        )
        .await?;
    Ok(())
}

/// Which entries are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct EntryFilter {
    pub kind: Option<LiveEventType>,
    pub severity: Option<Severity>,
    pub from: Option<DateTime<Utc>>,
    /// The first moment that is no longer of it.
    pub to: Option<DateTime<Utc>>,
}

fn read(row: &Row) -> Result<Entry, DbError> {
    Ok(Entry {
        id: row.get("id"),
        broadcast_id: row.get::<_, Option<Uuid>>("broadcast_id").map(BroadcastId),
        kind: row.get::<_, &str>("type").parse()?,
        severity: row.get::<_, &str>("severity").parse()?,
        message: row.get("message"),
        details: row.get("details"),
        created_at: row.get("created_at"),
    })
}

/// Entries of a livestream, newest first, after `after`.
pub async fn list(
    db: &Db,
    livestream: LivestreamId,
    filter: EntryFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Entry>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select id, broadcast_id, type, severity, message, details, created_at from livestream_events
             where livestream_id = $1 and ($2::text is null or type = $2) and ($3::text is null or severity = $3)
               and ($4::timestamptz is null or created_at >= $4) and ($5::timestamptz is null or created_at < $5)
               and ($6::uuid is null or id < $6)
             order by id desc limit $7",
            &[
                &livestream.0,
                &filter.kind.map(LiveEventType::as_str),
                &filter.severity.map(Severity::as_str),
                &filter.from,
                &filter.to,
                &after,
                &limit,
            ],
        )
        .await?;
    super::known(&rows, read)
}

/// Forgets entries that are older than `age`, at most so many. Gives how many that were.
pub async fn delete_old(db: &Db, age: Duration, most: i64) -> Result<u64, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "delete from livestream_events where id = any(array(
                 select id from livestream_events where created_at < now() - make_interval(secs => $1) limit $2))",
        )
        .await?;
    Ok(client.execute(&statement, &[&age.as_secs_f64(), &most]).await?)
}
