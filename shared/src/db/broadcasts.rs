//! Broadcasts: the times a livestream was on air. What was published is in the segment index.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Db, DbError, GenericClient, cdn};
use crate::cdn::SurrogateKey;
use crate::ids::{BroadcastId, LivestreamId, ProjectId, RecordingId};
use crate::job::state::words;
use crate::job::transition;
use crate::live::state::BroadcastStatus;
use crate::storage::keys;

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
    /// A picture of it, in the store.
    pub thumbnail_key: Option<String>,
    /// It was recorded elsewhere, and has no media but the recording that was made of it.
    pub imported: bool,
}

impl Broadcast {
    /// Media of its own can be had.
    pub fn is_there(&self) -> bool {
        !self.imported && !matches!(self.status, BroadcastStatus::Expired | BroadcastStatus::Failed)
    }
}

/// What is imported is gone with its recording.
const STATUS: &str = "case when set_id is null and status = 'converted'
        and not exists (select 1 from recordings r where r.id = broadcasts.recording_id and r.deleted_at is null)
    then 'expired' else status end";

const COLUMNS: &str = "id, livestream_id, set_id is null as imported, started_at, ended_at, end_reason, bytes, retention_until, thumbnail_key,
    (select r.id from recordings r where r.id = broadcasts.recording_id and r.deleted_at is null) as recording_id,
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
        thumbnail_key: row.get("thumbnail_key"),
        imported: row.get("imported"),
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
            &format!("select {COLUMNS}, {STATUS} as status from broadcasts where id = $1 and livestream_id = $2 and recorded"),
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
                "select {COLUMNS}, {STATUS} as status from broadcasts
                 where livestream_id = $1 and recorded and ($2::text is null or {STATUS} = $2)
                   and ($3::uuid is null or id < $3)
                 order by id desc limit $4"
            ),
            &[&livestream.0, &status.map(BroadcastStatus::as_str), &after.map(|id| id.0), &limit],
        )
        .await?;
    super::known(&rows, read)
}

/// The media of a broadcast `b` that was recorded here is there, nobody works on it, and nobody watches it with a token.
pub(super) const UNTOUCHED: &str = "b.recorded and b.set_id is not null and b.status in ('available', 'converted', 'failed') and (b.kept_until is null or b.kept_until < now())";

/// Somebody watches a broadcast with a token that lasts until then: its age does not delete it before.
pub async fn keep(
    db: &Db,
    livestream: LivestreamId,
    id: BroadcastId,
    until: DateTime<Utc>,
) -> Result<(), DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "update broadcasts set kept_until = $2
             where id = $1 and livestream_id = $3 and recorded and (kept_until is null or kept_until < $2)",
        )
        .await?;
    client.execute(&statement, &[&id.0, &until, &livestream.0]).await?;
    Ok(())
}

/// Lets go of the media of a broadcast that is over; its row stays. One that was `recorded` must not be touched by anybody meanwhile.
/// False where there is nothing to be done.
pub async fn expire(db: &Db, id: BroadcastId, recorded: bool) -> Result<bool, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // Who writes down a token, or begins a conversion, changes the row, too: what follows sees it.
    tx.execute("select 1 from broadcasts where id = $1 for update", &[&id.0]).await?;
    let row = tx
        .query_opt(
            &format!(
                "update broadcasts b set status = 'expired'
                 where b.id = $1 and b.status = any($2) and case when $3 then {UNTOUCHED} else not b.recorded end
                 returning b.project_id, b.set_id, b.livestream_id"
            ),
            &[&id.0, &transition::words(BroadcastStatus::Expired.predecessors()), &recorded],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let (project, set): (Uuid, Uuid) = (row.get("project_id"), row.get("set_id"));
    let prefix = keys::broadcast(ProjectId(project), id);
    tx.execute("insert into garbage (prefix, due_at) values ($1, now())", &[&prefix]).await?;
    tx.execute("delete from segments where set_id = $1", &[&set]).await?;
    tx.execute("delete from broadcast_pauses where broadcast_id = $1", &[&id.0]).await?;
    cdn::forget(&tx, SurrogateKey::Broadcast(id)).await?;
    // What was fetched while it was on air does not say of which broadcast it is.
    cdn::forget(&tx, SurrogateKey::Livestream(LivestreamId(row.get("livestream_id")))).await?;
    tx.commit().await?;
    Ok(true)
}

/// Says that a broadcast becomes `new`, where nothing has become of it since `old` was read; false where something has.
pub async fn begin_conversion(
    db: &Db,
    id: BroadcastId,
    old: Option<RecordingId>,
    new: RecordingId,
) -> Result<bool, DbError> {
    let changed = db
        .get()
        .await?
        .execute(
            "update broadcasts b set status = 'converting', recording_id = $3
             where id = $1 and status = any($4)
               and $2 is not distinct from (
                   select r.id from recordings r where r.id = b.recording_id and r.deleted_at is null)",
            &[
                &id.0,
                &old.map(|id| id.0),
                &new.0,
                &transition::words(BroadcastStatus::Converting.predecessors()),
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Says of broadcasts whose conversion is over what came of it; of those that were imported also how long they are. Returns how many there were.
pub async fn settle_conversions(db: &Db) -> Result<u64, DbError> {
    let settled = db
        .get()
        .await?
        .execute(
            "update broadcasts b
             set status = case when r.status = 'ready' and r.deleted_at is null then 'converted'
                               when b.set_id is null then 'failed' else 'available' end,
                 duration_seconds = case when b.set_id is null then coalesce(r.duration_seconds, 0) else b.duration_seconds end,
                 ended_at = case when b.set_id is null then b.started_at + make_interval(secs => coalesce(r.duration_seconds, 0))
                                 else b.ended_at end,
                 bytes = case when b.set_id is null then coalesce(
                     (select sum(s.bytes) from recording_sets rs join segments s on s.set_id = rs.set_id
                      where rs.recording_id = r.id and rs.active), 0)::bigint else b.bytes end
             from recordings r
             where b.status = 'converting' and r.id = b.recording_id
               and not exists (select 1 from jobs j where j.recording_id = r.id and j.status in ('queued', 'running'))",
            &[],
        )
        .await?;
    Ok(settled)
}

/// Footage that was recorded elsewhere.
#[derive(Debug, Clone)]
pub struct Import {
    pub id: BroadcastId,
    pub livestream: LivestreamId,
    pub project: ProjectId,
    /// What is made of it, or was.
    pub recording: RecordingId,
    /// When its first picture was taken.
    pub started_at: DateTime<Utc>,
}

/// Writes down footage that was recorded elsewhere as a broadcast of its livestream. How long it is shows when the recording is ready.
pub async fn import(db: &Db, import: &Import) -> Result<Broadcast, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            &format!(
                "insert into broadcasts (id, livestream_id, project_id, recording_id, plan, started_at, heard_at, status, recorded)
                 values ($1, $2, $3, $4, '{{}}', $5, $5, 'converting', true) returning {COLUMNS}, status"
            ),
            &[&import.id.0, &import.livestream.0, &import.project.0, &import.recording.0, &import.started_at],
        )
        .await?;
    read(&row)
}

/// Leaves what is published of a broadcast on air from now on out of its recording, or takes it in again. Segments are left out whole: the
/// one that grows when it is paused, too, and the one that grows when it goes on, so that nothing of a pause is ever recorded. In the
/// caller's transaction, which holds the livestream.
pub(super) async fn pause(tx: &impl GenericClient, id: BroadcastId, paused: bool) -> Result<(), DbError> {
    // Numbers are given out a segment ahead: the last but one is the one that grows, while there is a publisher.
    let statement = if paused {
        "insert into broadcast_pauses (broadcast_id, first_number)
         select $1, (next_sequence - case when status = 'reconnecting' then 0 else 2 end)::int
         from livestreams where broadcast_id = $1
         on conflict (broadcast_id, first_number) do update set until_number = null, swept = false"
    } else {
        "update broadcast_pauses p set until_number = greatest(l.next_sequence, p.first_number)
         from livestreams l where l.broadcast_id = $1 and p.broadcast_id = $1 and p.until_number is null"
    };
    tx.execute(statement, &[&id.0]).await?;
    Ok(())
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
