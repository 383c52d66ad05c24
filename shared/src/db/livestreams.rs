//! Livestreams: what is asked of them, and bringing them to rest. Who takes one and carries it is elsewhere.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use super::broadcasts::{self, EndReason};
use super::events::{EventType, NewEvent, append};
use super::livestream_events::{self, NewEntry};
use super::{Db, DbError, GenericClient, cdn, retrying};
use crate::cdn::SurrogateKey;
use crate::ids::{BroadcastId, LivestreamId, ProjectId};
use crate::job::error::TaskError;
use crate::job::transition::words;
use crate::live::event::{LiveEventType, Severity};
use crate::live::spec::LiveSpec;
use crate::live::state::LiveStatus;

/// A livestream as read back.
#[derive(Debug, Clone)]
pub struct Livestream {
    pub id: LivestreamId,
    pub project_id: ProjectId,
    pub terms: Terms,
    pub status: LiveStatus,
    /// The stream key, sealed for [`crate::live::key::key_seal`].
    pub key_sealed: Vec<u8>,
    /// Raised by whoever takes the stream, or stops it.
    pub epoch: i32,
    pub on_air: Option<OnAir>,
    /// Where a worker listens for its publisher, as `host:port`.
    pub srt_address: Option<String>,
    /// Somebody asked for it to run.
    pub armed_at: Option<DateTime<Utc>>,
    /// Why it failed.
    pub error: Option<TaskError>,
    pub recording_paused_at: Option<DateTime<Utc>>,
    /// Sessions heard of within [`WATCHING`].
    pub viewer_count: u32,
    /// The most there ever were at once.
    pub peak_viewer_count: u32,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What a person says of a livestream. A broadcast takes the specification as it is when it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    pub title: String,
    pub description: Option<String>,
    pub user_id: Option<String>,
    pub spec: LiveSpec,
    /// A [`crate::live::spec::LiveSource`] as JSON, sealed for [`crate::live::key::source_seal`].
    pub source: Option<Vec<u8>>,
    pub metadata: Value,
}

/// What viewers see now.
#[derive(Debug, Clone)]
pub struct OnAir {
    pub broadcast_id: BroadcastId,
    /// Rungs and rates, frozen when it began.
    pub plan: Value,
    /// Those of its tracks that are still made: rungs may have been dropped. `None` until the first has begun.
    pub tracks: Option<Vec<String>>,
}

/// A stream key as it is kept.
#[derive(Debug)]
pub struct KeptKey<'a> {
    pub hash: &'a [u8],
    pub sealed: &'a [u8],
}

/// How long a viewer counts without being heard of: an SQL interval.
pub(super) const WATCHING: &str = "interval '1 minute'";

/// How many watch the livestream `l` now: those who are told of, and who an edge saw besides. Somebody told of without an address is taken
/// for one of those who were seen.
pub(super) const WATCHED: &str =
    "select coalesce(sum(told) + greatest(sum(seen) - sum(hidden), 0), 0)::int from (
    select count(*) filter (where told_by <> 'edge') as told,
           case when watcher is not null and bool_and(told_by = 'edge') then 1 else 0 end as seen,
           case when watcher is null then count(*) else 0 end as hidden
    from viewer_sessions v
    where v.livestream_id = l.id and v.left_at is null and v.seen_at > now() - interval '1 minute'
    group by watcher) as watching";

const COLUMNS: &str = "l.id, l.project_id, l.title, l.description, l.user_id, l.status, l.spec, l.source, l.metadata, l.key_sealed,
    l.epoch, l.armed_at, l.error, l.recording_paused_at, l.peak_viewer_count, l.started_at, l.ended_at, l.created_at, l.updated_at,
    b.id as broadcast_id, b.plan, s.address as srt_address,
    (select array(select jsonb_object_keys(r.inits)) from broadcast_runs r
     where r.broadcast_id = b.id order by r.epoch desc limit 1) as tracks";

fn select() -> String {
    format!(
        "select {COLUMNS}, ({WATCHED}) as viewers
         from livestreams l left join broadcasts b on b.id = l.broadcast_id
             left join live_listeners s on s.livestream_id = l.id and s.expires_at > now()"
    )
}

fn read(row: &Row) -> Result<Livestream, DbError> {
    let broadcast = row.get::<_, Option<Uuid>>("broadcast_id").map(BroadcastId);
    Ok(Livestream {
        id: LivestreamId(row.get("id")),
        project_id: ProjectId(row.get("project_id")),
        terms: Terms {
            title: row.get("title"),
            description: row.get("description"),
            user_id: row.get("user_id"),
            spec: serde_json::from_value(row.get("spec"))?,
            source: row.get("source"),
            metadata: row.get("metadata"),
        },
        status: row.get::<_, &str>("status").parse()?,
        key_sealed: row.get("key_sealed"),
        epoch: row.get("epoch"),
        on_air: broadcast.map(|broadcast_id| OnAir {
            broadcast_id,
            plan: row.get("plan"),
            tracks: row.get("tracks"),
        }),
        srt_address: row.get("srt_address"),
        armed_at: row.get("armed_at"),
        // A reason that only newer programs know must not hide the livestream.
        error: row.get::<_, Option<_>>("error").and_then(|error| serde_json::from_value(error).ok()),
        recording_paused_at: row.get("recording_paused_at"),
        viewer_count: u32::try_from(row.get::<_, i32>("viewers")).unwrap_or(u32::MAX),
        peak_viewer_count: row.get::<_, i32>("peak_viewer_count").unsigned_abs(),
        started_at: row.get("started_at"),
        ended_at: row.get("ended_at"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

/// Makes a livestream. One that has this id already stays as it is: a request that is repeated makes one.
pub async fn create(
    db: &Db,
    project: ProjectId,
    id: LivestreamId,
    terms: &Terms,
    key: &KeptKey<'_>,
) -> Result<(), DbError> {
    insert(&db.get().await?, project, id, terms, key).await
}

/// See [`create`]; in the caller's transaction.
pub(super) async fn insert(
    client: &impl GenericClient,
    project: ProjectId,
    id: LivestreamId,
    terms: &Terms,
    key: &KeptKey<'_>,
) -> Result<(), DbError> {
    client
        .execute(
            "insert into livestreams (id, project_id, title, description, user_id, spec, source, metadata, key_hash, key_sealed)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (id) do nothing",
            &[
                &id.0,
                &project.0,
                &terms.title,
                &terms.description,
                &terms.user_id,
                &serde_json::to_value(&terms.spec)?,
                &terms.source,
                &terms.metadata,
                &key.hash,
                &key.sealed,
            ],
        )
        .await?;
    Ok(())
}

/// The livestream with this id, of any project. The caller checks who asks.
pub async fn find(db: &Db, id: LivestreamId) -> Result<Option<Livestream>, DbError> {
    let client = db.get().await?;
    let statement =
        client.prepare_cached(&format!("{} where l.id = $1 and l.deleted_at is null", select())).await?;
    client.query_opt(&statement, &[&id.0]).await?.as_ref().map(read).transpose()
}

/// The project's livestream with this id.
pub async fn get(db: &Db, project: ProjectId, id: LivestreamId) -> Result<Option<Livestream>, DbError> {
    Ok(find(db, id).await?.filter(|livestream| livestream.project_id == project))
}

/// Which livestreams are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct LivestreamFilter<'a> {
    pub user_id: Option<&'a str>,
    pub status: Option<LiveStatus>,
    /// Where a recording is live.
    pub room: Option<&'a str>,
}

/// Which part of a list.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// What follows this one.
    pub after: Option<LivestreamId>,
    /// So many of that are passed over.
    pub offset: i64,
    pub limit: i64,
}

/// Livestreams of a project, newest first.
pub async fn list(
    db: &Db,
    project: ProjectId,
    filter: LivestreamFilter<'_>,
    page: Page,
) -> Result<Vec<Livestream>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "{} where l.project_id = $1 and l.deleted_at is null
                   and ($2::text is null or l.user_id = $2) and ($3::text is null or l.status = $3)
                   and ($4::uuid is null or l.id < $4)
                   and ($7::text is null or exists (select 1 from live_recordings r
                       where r.livestream_id = l.id and r.room_id = $7 and r.stopped_at is null))
                 order by l.id desc limit $5 offset $6",
                select()
            ),
            &[
                &project.0,
                &filter.user_id,
                &filter.status.map(LiveStatus::as_str),
                &page.after.map(|id| id.0),
                &page.limit,
                &page.offset,
                &filter.room,
            ],
        )
        .await?;
    super::known(&rows, read)
}

/// Changes what is said of a livestream to what `edit` makes of it; `None` where the project has none with this id. Nobody else changes it
/// meanwhile. What is on air goes on as it began.
///
/// # Errors
/// Those of `edit`, and then nothing is changed.
pub async fn update<E: From<DbError>>(
    db: &Db,
    project: ProjectId,
    id: LivestreamId,
    edit: impl FnOnce(&Livestream) -> Result<Terms, E>,
) -> Result<Option<Livestream>, E> {
    let mut client = db.get().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    let Some(before) = lock(&tx, project, id).await? else { return Ok(None) };
    let terms = edit(&before)?;
    let after = write(&tx, id, &terms).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(Some(after))
}

/// The project's livestream, which nobody else changes until the caller's transaction ends.
async fn lock(
    tx: &impl GenericClient,
    project: ProjectId,
    id: LivestreamId,
) -> Result<Option<Livestream>, DbError> {
    let held = tx
        .query_opt(
            "select 1 from livestreams where id = $1 and project_id = $2 and deleted_at is null for update",
            &[&id.0, &project.0],
        )
        .await?;
    if held.is_none() {
        return Ok(None);
    }
    // In a statement of its own: what is on air may have changed while the first one waited.
    reread(tx, id).await.map(Some)
}

/// A livestream that the caller's transaction holds.
async fn reread(tx: &impl GenericClient, id: LivestreamId) -> Result<Livestream, DbError> {
    read(&tx.query_one(&format!("{} where l.id = $1", select()), &[&id.0]).await?)
}

async fn write(tx: &impl GenericClient, id: LivestreamId, terms: &Terms) -> Result<Livestream, DbError> {
    tx.execute(
        "update livestreams
         set title = $2, description = $3, user_id = $4, spec = $5, source = $6, metadata = $7, updated_at = now()
         where id = $1",
        &[
            &id.0,
            &terms.title,
            &terms.description,
            &terms.user_id,
            &serde_json::to_value(&terms.spec)?,
            &terms.source,
            &terms.metadata,
        ],
    )
    .await?;
    reread(tx, id).await
}

/// Gives a livestream another key; false where the project has none with this id. Whoever publishes goes on: a key is looked at when a
/// publisher comes.
pub async fn rotate_key(
    db: &Db,
    project: ProjectId,
    id: LivestreamId,
    key: &KeptKey<'_>,
) -> Result<bool, DbError> {
    let changed = db
        .get()
        .await?
        .execute(
            "update livestreams set key_hash = $3, key_sealed = $4, updated_at = now()
             where id = $1 and project_id = $2 and deleted_at is null",
            &[&id.0, &project.0, &key.hash, &key.sealed],
        )
        .await?;
    Ok(changed == 1)
}

/// Asks for a livestream to run: a pull is fetched from now on, publishers of one with `require_start` are let in. What failed begins anew.
/// `None` where the project has none with this id. Harmless when done twice.
pub async fn arm(db: &Db, project: ProjectId, id: LivestreamId) -> Result<Option<Livestream>, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let Some(before) = lock(&tx, project, id).await? else { return Ok(None) };
    tx.execute(
        "update livestreams
         set armed_at = coalesce(armed_at, now()), retry_at = null, failures = 0, error = null, updated_at = now()
         where id = $1",
        &[&before.id.0],
    )
    .await?;
    tx.execute(
        "update livestreams set status = 'idle' where id = $1 and status = 'failed' and status = any($2)",
        &[&before.id.0, &words(LiveStatus::Idle.predecessors())],
    )
    .await?;
    let after = reread(&tx, id).await?;
    tx.commit().await?;
    Ok(Some(after))
}

/// What came of a wish to stop a livestream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It was on air, or about to be; with the broadcast that ended, if one had begun.
    Now(Option<BroadcastId>),
    /// It was not, and is not armed any more either.
    Idle,
    NotFound,
}

/// Brings a livestream to rest. The worker that carries it finds its lease gone; what it does late is not heard, for the epoch is higher.
pub async fn stop(db: &Db, project: ProjectId, id: LivestreamId) -> Result<Stopped, DbError> {
    retrying(|| async {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        let stopped = rest(&tx, project, id, EndReason::Stopped).await?;
        tx.commit().await?;
        Ok(stopped)
    })
    .await
}

/// Brings a livestream to rest and deletes it for its users, with its key and its source's address, and ends the sessions of those who play
/// its footage; what was recorded of it has its own age. False where the project has none with this id.
pub async fn delete(db: &Db, project: ProjectId, id: LivestreamId) -> Result<bool, DbError> {
    retrying(|| async {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        if rest(&tx, project, id, EndReason::Deleted).await? == Stopped::NotFound {
            return Ok(false);
        }
        // No digest of a key is as short as an id.
        tx.execute(
            "update livestreams set deleted_at = now(), key_hash = uuid_send(id), key_sealed = '', source = null where id = $1",
            &[&id.0],
        )
        .await?;
        // They are told that it is over, and a media server is told to forget it.
        let sessions = "update playback_sessions set expires_at = now() where livestream_id = $1 and expires_at > now()";
        tx.execute(sessions, &[&id.0]).await?;
        cdn::forget(&tx, SurrogateKey::Livestream(id)).await?;
        tx.commit().await?;
        Ok(true)
    })
    .await
}

/// Brings a livestream to rest. In the caller's transaction.
async fn rest(
    tx: &impl GenericClient,
    project: ProjectId,
    id: LivestreamId,
    reason: EndReason,
) -> Result<Stopped, DbError> {
    let Some(before) = lock(tx, project, id).await? else { return Ok(Stopped::NotFound) };
    let rested = tx
        .execute(
            "update livestreams
             set status = 'idle', epoch = epoch + 1, broadcast_id = null, armed_at = null, retry_at = null, failures = 0, error = null,
                 recording_paused_at = null,
                 ended_at = case when broadcast_id is null then ended_at else now() end, updated_at = now()
             where id = $1 and status = any($2)",
            &[&id.0, &words(LiveStatus::Idle.predecessors())],
        )
        .await?;
    if rested == 0 {
        tx.execute(
            "update livestreams set armed_at = null, retry_at = null, updated_at = now() where id = $1 and armed_at is not null",
            &[&id.0],
        )
        .await?;
        return Ok(Stopped::Idle);
    }
    tx.execute("delete from live_leases where livestream_id = $1", &[&id.0]).await?;
    let broadcast = before.on_air.map(|on_air| on_air.broadcast_id);
    if let Some(broadcast) = broadcast {
        broadcasts::end(tx, broadcast, reason).await?;
        let message = format!("the livestream was {reason}");
        let data =
            json!({ "livestream_id": id, "broadcast_id": broadcast, "message": message, "reason": reason });
        let event = NewEvent {
            project_id: project,
            kind: EventType::LivestreamEnded,
            job_id: None,
            recording_id: None,
            livestream_id: Some(id),
            data,
        };
        append(tx, event).await?;
        let entry = NewEntry {
            broadcast_id: Some(broadcast),
            kind: LiveEventType::StreamEnded,
            severity: Severity::Info,
            message: &message,
            details: json!({ "reason": reason }),
        };
        livestream_events::append(tx, id, &entry).await?;
    }
    Ok(Stopped::Now(broadcast))
}

/// What came of a wish to pause the recording of a livestream, or to go on with it.
#[derive(Debug, Clone)]
pub enum Paused {
    Now(Box<Livestream>),
    /// Nothing is on air.
    Idle,
    NotFound,
}

/// Leaves what is published from now on out of the recording, or takes it in again. Harmless when done twice.
pub async fn pause_recording(
    db: &Db,
    project: ProjectId,
    id: LivestreamId,
    paused: bool,
) -> Result<Paused, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let Some(before) = lock(&tx, project, id).await? else { return Ok(Paused::NotFound) };
    let Some(on_air) = &before.on_air else { return Ok(Paused::Idle) };
    if paused != before.recording_paused_at.is_some() {
        broadcasts::pause(&tx, on_air.broadcast_id, paused).await?;
    }
    tx.execute(
        "update livestreams
         set recording_paused_at = case when $2 then coalesce(recording_paused_at, now()) end, updated_at = now()
         where id = $1",
        &[&id.0, &paused],
    )
    .await?;
    let after = reread(&tx, id).await?;
    tx.commit().await?;
    Ok(Paused::Now(Box::new(after)))
}

/// How many streams a project has on air, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub busy: u32,
    pub most: u32,
}

/// Counts the streams of a project that somebody holds or may come back to, in the caller's transaction; `None` where there is no such
/// project. Nothing is held: who wants the count to stand locks the project's row first.
pub async fn room(client: &impl GenericClient, project: ProjectId) -> Result<Option<Room>, DbError> {
    // The index of busy streams is found by the condition that stands there as text.
    let busy: Vec<LiveStatus> = LiveStatus::ALL.iter().copied().filter(|status| status.is_busy()).collect();
    let row = client
        .query_opt(
            "select p.max_concurrent_streams as most,
                    (select count(*) from livestreams l
                     where l.project_id = p.id and l.status <> 'idle' and l.status = any($2)) as busy
             from projects p where p.id = $1",
            &[&project.0, &words(&busy)],
        )
        .await?;
    Ok(row.map(|row| Room {
        busy: u32::try_from(row.get::<_, i64>("busy")).unwrap_or(u32::MAX),
        most: row.get::<_, i32>("most").unsigned_abs(),
    }))
}

/// What is kept sealed of a livestream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub id: LivestreamId,
    pub key: Vec<u8>,
    pub source: Option<Vec<u8>>,
}

/// Everything sealed, of all projects, `limit` livestreams at a time in the order of their ids, after `after`.
pub async fn all_sealed(db: &Db, after: Option<LivestreamId>, limit: i64) -> Result<Vec<Sealed>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select id, key_sealed, source from livestreams
             where deleted_at is null and ($1::uuid is null or id > $1) order by id limit $2",
            &[&after.map(|id| id.0), &limit],
        )
        .await?;
    let read = |row: &Row| Sealed { id: LivestreamId(row.get(0)), key: row.get(1), source: row.get(2) };
    Ok(rows.iter().map(read).collect())
}

/// Puts what was sealed anew into its place; nothing where something else stands there by now.
pub async fn replace_sealed(db: &Db, old: &Sealed, new: &Sealed) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "update livestreams
             set key_sealed = case when key_sealed = $2 then $3 else key_sealed end,
                 source = case when source = $4 then $5 else source end
             where id = $1 and (key_sealed = $2 or source = $4)",
            &[&old.id.0, &old.key, &new.key, &old.source, &new.source],
        )
        .await?;
    Ok(())
}
