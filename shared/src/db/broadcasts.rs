//! Broadcasts: the times a livestream was on air. What was published is in the segment index.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Db, DbError, GenericClient};
use crate::ids::{BroadcastId, LivestreamId, RecordingId};
use crate::job::state::words;
use crate::job::transition;
use crate::live::state::BroadcastStatus;

words! {
    /// Why somebody ended a broadcast.
    EndReason("end of a broadcast") {
        Stopped = "stopped",
        /// Its livestream was deleted.
        Deleted = "deleted",
    }
}

/// A broadcast as read back.
#[derive(Debug, Clone)]
pub struct Broadcast {
    pub id: BroadcastId,
    pub livestream_id: LivestreamId,
    pub status: BroadcastStatus,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// A word; the programs that end broadcasts may know more of them than this one.
    pub end_reason: Option<String>,
    /// So far, while it goes on.
    pub duration_seconds: f64,
    pub bytes: u64,
    /// What it was converted to.
    pub recording_id: Option<RecordingId>,
    pub retention_until: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, livestream_id, status, started_at, ended_at, end_reason, bytes, recording_id, retention_until,
    coalesce(duration_seconds, greatest(extract(epoch from heard_at - started_at), 0)::float8) as duration_seconds";

fn read(row: &Row) -> Result<Broadcast, DbError> {
    Ok(Broadcast {
        id: BroadcastId(row.get("id")),
        livestream_id: LivestreamId(row.get("livestream_id")),
        status: row.get::<_, &str>("status").parse()?,
        started_at: row.get("started_at"),
        ended_at: row.get("ended_at"),
        end_reason: row.get("end_reason"),
        duration_seconds: row.get("duration_seconds"),
        bytes: row.get::<_, i64>("bytes").unsigned_abs(),
        recording_id: row.get::<_, Option<Uuid>>("recording_id").map(RecordingId),
        retention_until: row.get("retention_until"),
    })
}

/// The recorded broadcast of a livestream with this id.
pub async fn recorded(
    db: &Db,
    livestream: LivestreamId,
    id: BroadcastId,
) -> Result<Option<Broadcast>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            &format!("select {COLUMNS} from broadcasts where id = $1 and livestream_id = $2 and recorded"),
            &[&id.0, &livestream.0],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// Recorded broadcasts of a livestream, newest first, after `after`.
pub async fn list_recorded(
    db: &Db,
    livestream: LivestreamId,
    status: Option<BroadcastStatus>,
    after: Option<BroadcastId>,
    limit: i64,
) -> Result<Vec<Broadcast>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {COLUMNS} from broadcasts
                 where livestream_id = $1 and recorded and ($2::text is null or status = $2)
                   and ($3::uuid is null or id < $3)
                 order by id desc limit $4"
            ),
            &[&livestream.0, &status.map(BroadcastStatus::as_str), &after.map(|id| id.0), &limit],
        )
        .await?;
    super::known(&rows, read)
}

/// Ends a broadcast; one that is over stays as it is. In the caller's transaction, which holds its livestream.
pub(super) async fn end(tx: &impl GenericClient, id: BroadcastId, reason: EndReason) -> Result<(), DbError> {
    tx.execute(
        "update broadcasts set status = 'finalizing', ended_at = now(), end_reason = $2
         where id = $1 and status = any($3)",
        &[&id.0, &reason.as_str(), &transition::words(BroadcastStatus::Finalizing.predecessors())],
    )
    .await?;
    Ok(())
}
