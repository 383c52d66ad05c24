//! Who carries a livestream, and what it published. Every write is guarded by the epoch of whoever writes: a holder that was
//! superseded finds [`DbError::LostRace`], and nothing is changed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::sets::{Rendition, TrackKind};
use super::{Db, DbError, GenericClient, Transaction, retrying};
use crate::ids::{BroadcastId, LivestreamId, ProjectId, SetId, WorkerId};
use crate::job::transition::words;
use crate::live::event::{LiveEventType, Severity};
use crate::live::spec::LiveSpec;
use crate::live::state::{BroadcastStatus, LiveStatus};
use crate::media::live::plan::LivePlan;

mod window;

pub use window::{StoredRun, StoredSegment, StoredWindow, window};

/// The right to carry a livestream until its lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LiveHold {
    pub livestream: LivestreamId,
    pub epoch: i32,
}

/// Who wants to carry a livestream.
#[derive(Debug, Clone)]
pub struct Carrier {
    pub worker: WorkerId,
    /// The address edges reach it at.
    pub origin: String,
    /// What they show there.
    pub pass: String,
    pub lease: Duration,
}

/// A livestream that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    pub hold: LiveHold,
    pub project: ProjectId,
    pub spec: LiveSpec,
    /// What is on air already, and goes on.
    pub broadcast: Option<OnAir>,
    /// The first media sequence number that nobody was given.
    pub next_sequence: u64,
}

/// A broadcast that is on air.
#[derive(Debug, Clone)]
pub struct OnAir {
    pub id: BroadcastId,
    pub set: SetId,
    pub plan: LivePlan,
    pub started_at: DateTime<Utc>,
}

/// Why a livestream is not given to who asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no stream with this key")]
    UnknownKey,
    #[error("this stream takes publishers only after it was started")]
    NotStarted,
    #[error("this stream is not pushed, but fetched")]
    NotPushed,
    #[error("the project has as many streams on air as it may")]
    TooMany,
}

/// How a livestream is found.
#[derive(Debug, Clone, Copy)]
pub enum Claim<'a> {
    /// By the digest of the key that a publisher sent.
    Key(&'a [u8]),
    /// By its id: a pull that somebody asked for.
    Pull(LivestreamId),
}

/// Streams of a project that may be on air at once, where nothing else is said.
pub const MAX_ON_AIR: i64 = 100;

/// Takes a livestream: whoever carried it until now has lost it.
pub async fn take(db: &Db, claim: Claim<'_>, carrier: &Carrier) -> Result<Result<Taken, Refusal>, DbError> {
    retrying(|| take_once(db, claim, carrier)).await
}

async fn take_once(db: &Db, claim: Claim<'_>, carrier: &Carrier) -> Result<Result<Taken, Refusal>, DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let (condition, parameter): (&str, &(dyn tokio_postgres::types::ToSql + Sync)) = match &claim {
        Claim::Key(hash) => ("l.key_hash = $1", hash),
        Claim::Pull(id) => ("l.id = $1", &id.0),
    };
    let select = format!(
        "select l.id, l.project_id, l.status, l.spec, l.epoch, l.next_sequence, l.armed_at, l.broadcast_id
         from livestreams l where {condition} and l.deleted_at is null for update"
    );
    let Some(row) = transaction.query_opt(&select, &[parameter]).await? else {
        return Ok(Err(Refusal::UnknownKey));
    };
    let livestream = LivestreamId(row.get("id"));
    let project = ProjectId(row.get("project_id"));
    let status: LiveStatus = row.get::<_, &str>("status").parse()?;
    let Json(spec): Json<LiveSpec> = row.get("spec");
    let armed = row.get::<_, Option<DateTime<Utc>>>("armed_at").is_some();
    match claim {
        Claim::Key(_) if spec.is_pull() => return Ok(Err(Refusal::NotPushed)),
        Claim::Key(_) if spec.require_start && !armed => return Ok(Err(Refusal::NotStarted)),
        Claim::Pull(_) if !armed => return Ok(Err(Refusal::NotStarted)),
        Claim::Key(_) | Claim::Pull(_) => {}
    }
    if !status.is_busy() && busy(&transaction, project).await? >= MAX_ON_AIR {
        return Ok(Err(Refusal::TooMany));
    }
    let epoch: i32 = row.get::<_, i32>("epoch") + 1;
    let next = if status.is_busy() { status } else { LiveStatus::Starting };
    transaction
        .execute(
            "update livestreams
             set epoch = $2, status = $3, error = null, retry_at = null, updated_at = now() where id = $1",
            &[&livestream.0, &epoch, &next.as_str()],
        )
        .await?;
    transaction
        .execute(
            "insert into live_leases (livestream_id, project_id, worker_id, epoch, origin, pass, expires_at)
             values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
             on conflict (livestream_id) do update
             set worker_id = excluded.worker_id, epoch = excluded.epoch, origin = excluded.origin,
                 pass = excluded.pass, expires_at = excluded.expires_at",
            &[
                &livestream.0,
                &project.0,
                &carrier.worker.0,
                &epoch,
                &carrier.origin,
                &carrier.pass,
                &carrier.lease.as_secs_f64(),
            ],
        )
        .await?;
    let broadcast = match row.get::<_, Option<Uuid>>("broadcast_id") {
        Some(id) => on_air(&transaction, BroadcastId(id)).await?,
        None => None,
    };
    transaction.commit().await?;
    let hold = LiveHold { livestream, epoch };
    let next_sequence = row.get::<_, i64>("next_sequence") as u64;
    Ok(Ok(Taken { hold, project, spec, broadcast, next_sequence }))
}

/// How many livestreams of a project are on air, or about to be.
pub async fn busy(client: &impl GenericClient, project: ProjectId) -> Result<i64, DbError> {
    let row = client
        .query_one(
            "select count(*) from live_leases where project_id = $1 and expires_at > now()",
            &[&project.0],
        )
        .await?;
    Ok(row.get(0))
}

async fn on_air(client: &impl GenericClient, id: BroadcastId) -> Result<Option<OnAir>, DbError> {
    let row = client
        .query_opt(
            "select set_id, plan, started_at from broadcasts where id = $1 and status = 'recording'",
            &[&id.0],
        )
        .await?;
    Ok(row.map(|row| {
        let Json(plan): Json<LivePlan> = row.get("plan");
        OnAir { id, set: SetId(row.get("set_id")), plan, started_at: row.get("started_at") }
    }))
}

/// Prolongs the leases that still stand; gives those. The others are lost.
pub async fn renew(
    db: &Db,
    worker: WorkerId,
    holds: &[LiveHold],
    lease: Duration,
) -> Result<Vec<LiveHold>, DbError> {
    let client = db.get().await?;
    let ids: Vec<Uuid> = holds.iter().map(|hold| hold.livestream.0).collect();
    let epochs: Vec<i32> = holds.iter().map(|hold| hold.epoch).collect();
    let statement = client
        .prepare_cached(
            "update live_leases l set expires_at = now() + make_interval(secs => $4)
             from unnest($2::uuid[], $3::int[]) as mine (livestream_id, epoch)
             where l.livestream_id = mine.livestream_id and l.epoch = mine.epoch and l.worker_id = $1
             returning l.livestream_id, l.epoch",
        )
        .await?;
    let rows = client.query(&statement, &[&worker.0, &ids, &epochs, &lease.as_secs_f64()]).await?;
    Ok(rows.iter().map(|row| LiveHold { livestream: LivestreamId(row.get(0)), epoch: row.get(1) }).collect())
}

/// A broadcast that is about to begin.
#[derive(Debug, Clone)]
pub struct NewBroadcast<'a> {
    pub plan: &'a LivePlan,
    /// The moment of tick zero.
    pub started_at: DateTime<Utc>,
    /// Whether it is kept when it is over.
    pub recorded: bool,
}

/// Begins a broadcast of a stream that is held.
pub async fn begin_broadcast(
    db: &Db,
    hold: LiveHold,
    project: ProjectId,
    new: NewBroadcast<'_>,
) -> Result<OnAir, DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    let (id, set) = (BroadcastId::new(), SetId::new());
    let target = new.plan.cadence.target_duration as i32;
    let (video, audio) = (!new.plan.rungs.is_empty(), new.plan.audio.is_some());
    transaction
        .execute(
            "insert into sets (id, project_id, target_duration, needs_video, needs_audio) values ($1, $2, $3, $4, $5)",
            &[&set.0, &project.0, &target, &video, &audio],
        )
        .await?;
    transaction
        .execute(
            "insert into broadcasts (id, livestream_id, project_id, set_id, plan, started_at, recorded)
             values ($1, $2, $3, $4, $5, $6, $7)",
            &[&id.0, &hold.livestream.0, &project.0, &set.0, &Json(new.plan), &new.started_at, &new.recorded],
        )
        .await?;
    transaction
        .execute(
            "update livestreams set broadcast_id = $2, started_at = $3, ended_at = null, updated_at = now()
             where id = $1",
            &[&hold.livestream.0, &id.0, &new.started_at],
        )
        .await?;
    transaction.commit().await?;
    Ok(OnAir { id, set, plan: new.plan.clone(), started_at: new.started_at })
}

/// A run that is about to begin.
#[derive(Debug, Clone)]
pub struct NewRun<'a> {
    pub worker: WorkerId,
    pub first_number: u64,
    /// Who publishes, as an address.
    pub publisher: Option<&'a str>,
    /// The tracks, in their order, each with its init segment.
    pub renditions: &'a [Rendition],
}

/// Begins a run: the stream is live from now on. Says how many runs came before it.
pub async fn begin_run(db: &Db, hold: LiveHold, on_air: &OnAir, run: NewRun<'_>) -> Result<u32, DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    let before: i64 = transaction
        .query_one("select count(*) from broadcast_runs where broadcast_id = $1", &[&on_air.id.0])
        .await?
        .get(0);
    let inits: serde_json::Map<String, Value> = run
        .renditions
        .iter()
        .map(|rendition| {
            let init = serde_json::json!({
                "key": rendition.init_key, "bytes": rendition.init_bytes, "codec": rendition.codec,
            });
            (rendition.rung.clone(), init)
        })
        .collect();
    transaction
        .execute(
            "insert into broadcast_runs (broadcast_id, epoch, first_number, worker_id, publisher, inits)
             values ($1, $2, $3, $4, $5, $6)",
            &[
                &on_air.id.0,
                &hold.epoch,
                &(run.first_number as i32),
                &run.worker.0,
                &run.publisher,
                &Value::Object(inits),
            ],
        )
        .await?;
    for rendition in run.renditions {
        insert_rendition(&transaction, on_air.set, hold.epoch, rendition).await?;
    }
    let became = set_status(&transaction, hold, LiveStatus::Live).await?;
    transaction.execute("update broadcasts set heard_at = now() where id = $1", &[&on_air.id.0]).await?;
    let (kind, message) = match (before, became) {
        (0, _) => (LiveEventType::StreamStarted, "the broadcast has begun"),
        (_, LiveStatus::Live) => (LiveEventType::ConnectionRestored, "another publisher has taken over"),
        (_, _) => (LiveEventType::ConnectionRestored, "the publisher is back"),
    };
    note(&transaction, hold.livestream, Some(on_air.id), kind, Severity::Info, message, Value::Null).await?;
    transaction.commit().await?;
    Ok(u32::try_from(before).unwrap_or(u32::MAX))
}

async fn insert_rendition(
    client: &impl GenericClient,
    set: SetId,
    epoch: i32,
    r: &Rendition,
) -> Result<(), DbError> {
    client
        .execute(
            "insert into renditions (set_id, rung, position, kind, codec, width, height, fps_num, fps_den, sample_rate,
                 channels, timescale, init_key, init_bytes, peak_bandwidth, average_bandwidth, duration_ticks, epoch)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 0, $17)
             on conflict (set_id, rung) do nothing",
            &[
                &set.0,
                &r.rung,
                &r.position,
                &r.kind.as_str(),
                &r.codec,
                &r.width.map(|n| n as i32),
                &r.height.map(|n| n as i32),
                &r.frame_rate.map(|(num, _)| num as i32),
                &r.frame_rate.map(|(_, den)| den as i32),
                &r.sample_rate.map(|n| n as i32),
                &r.channels.map(|n| n as i32),
                &(r.timescale as i32),
                &r.init_key,
                &(r.init_bytes as i32),
                &(r.peak_bandwidth as i64),
                &(r.average_bandwidth as i64),
                &epoch,
            ],
        )
        .await?;
    Ok(())
}

/// Gives out the media sequence numbers below `next`: nobody else will use them.
pub async fn reserve(db: &Db, hold: LiveHold, next: u64) -> Result<(), DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "update livestreams set next_sequence = greatest(next_sequence, $3) where id = $1 and epoch = $2",
        )
        .await?;
    let changed = client.execute(&statement, &[&hold.livestream.0, &hold.epoch, &(next as i64)]).await?;
    if changed == 0 { Err(DbError::LostRace) } else { Ok(()) }
}

/// A segment that lies in the store, or is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSegment {
    pub track: String,
    pub number: u64,
    /// Of the run that made it; its holder may have taken the stream again since.
    pub epoch: u32,
    /// Empty where nobody has it.
    pub key: String,
    pub bytes: u64,
    pub start_ticks: u64,
    pub ticks: u64,
    pub gap: bool,
}

/// Publishes segments of a broadcast.
pub async fn publish(
    db: &Db,
    hold: LiveHold,
    on_air: &OnAir,
    segments: &[LiveSegment],
) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    let tracks: Vec<&str> = segments.iter().map(|s| s.track.as_str()).collect();
    let numbers: Vec<i32> = segments.iter().map(|s| s.number as i32).collect();
    let keys: Vec<&str> = segments.iter().map(|s| s.key.as_str()).collect();
    let bytes: Vec<i32> = segments.iter().map(|s| s.bytes as i32).collect();
    let starts: Vec<i64> = segments.iter().map(|s| s.start_ticks as i64).collect();
    let ticks: Vec<i64> = segments.iter().map(|s| s.ticks as i64).collect();
    let gaps: Vec<bool> = segments.iter().map(|s| s.gap).collect();
    let epochs: Vec<i32> = segments.iter().map(|s| s.epoch as i32).collect();
    transaction
        .execute(
            "insert into segments (set_id, rung, epoch, number, key, bytes, start_ticks, duration_ticks, gap)
             select $1, rung, epoch, number, key, bytes, starts, ticks, gap
             from unnest($2::int[], $3::text[], $4::int[], $5::text[], $6::int[], $7::bigint[], $8::bigint[],
                     $9::bool[])
                 as s (epoch, rung, number, key, bytes, starts, ticks, gap)
             on conflict (set_id, rung, number) do nothing",
            &[&on_air.set.0, &epochs, &tracks, &numbers, &keys, &bytes, &starts, &ticks, &gaps],
        )
        .await?;
    let sum: i64 = segments.iter().map(|s| s.bytes as i64).sum();
    transaction
        .execute(
            "update broadcasts set heard_at = now(), bytes = bytes + $2 where id = $1",
            &[&on_air.id.0, &sum],
        )
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Says that the publisher is away: it may come back to the same broadcast, whose segments go on at `next_sequence`.
pub async fn lose(
    db: &Db,
    hold: LiveHold,
    on_air: &OnAir,
    next_sequence: u64,
    why: &str,
) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    set_status(&transaction, hold, LiveStatus::Reconnecting).await?;
    transaction
        .execute(
            "update livestreams set next_sequence = $2 where id = $1",
            &[&hold.livestream.0, &(next_sequence as i64)],
        )
        .await?;
    note(
        &transaction,
        hold.livestream,
        Some(on_air.id),
        LiveEventType::ConnectionLost,
        Severity::Warning,
        why,
        Value::Null,
    )
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Ends what is on air, and gives the stream back. A pull that is no longer wanted is at rest, too.
pub async fn end(db: &Db, hold: LiveHold, on_air: Option<&OnAir>, reason: &str) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    set_status(&transaction, hold, LiveStatus::Idle).await?;
    transaction
        .execute(
            "update livestreams set broadcast_id = null, ended_at = now() where id = $1",
            &[&hold.livestream.0],
        )
        .await?;
    if let Some(on_air) = on_air {
        finish_broadcast(&transaction, on_air.id, reason).await?;
        let details = serde_json::json!({ "reason": reason });
        note(
            &transaction,
            hold.livestream,
            Some(on_air.id),
            LiveEventType::StreamEnded,
            Severity::Info,
            "the broadcast is over",
            details,
        )
        .await?;
    }
    transaction
        .execute(
            "delete from live_leases where livestream_id = $1 and epoch = $2",
            &[&hold.livestream.0, &hold.epoch],
        )
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Closes a broadcast's books: how long it is, and that it can be watched. In the caller's transaction.
pub(crate) async fn finish_broadcast(
    client: &impl GenericClient,
    id: BroadcastId,
    reason: &str,
) -> Result<(), DbError> {
    client
        .execute(
            "update broadcasts b
             set status = case when exists (select 1 from segments s where s.set_id = b.set_id and not s.gap)
                          then 'available' else 'failed' end,
                 ended_at = now(), end_reason = $2,
                 duration_seconds = (
                     select max((s.start_ticks + s.duration_ticks) / r.timescale::double precision)
                     from segments s join renditions r using (set_id, rung) where s.set_id = b.set_id)
             where b.id = $1 and b.status = any($3)",
            &[&id.0, &reason, &words(&[BroadcastStatus::Recording, BroadcastStatus::Finalizing])],
        )
        .await?;
    Ok(())
}

/// Where the origin of a livestream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub hold: LiveHold,
    pub address: String,
    pub pass: String,
}

/// Who carries a livestream now; `None` where nobody does.
pub async fn origin(db: &Db, livestream: LivestreamId) -> Result<Option<Origin>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select epoch, origin, pass from live_leases where livestream_id = $1 and expires_at > now()",
        )
        .await?;
    let row = client.query_opt(&statement, &[&livestream.0]).await?;
    Ok(row.map(|row| Origin {
        hold: LiveHold { livestream, epoch: row.get("epoch") },
        address: row.get("origin"),
        pass: row.get("pass"),
    }))
}

/// Whether somebody carries a livestream, or will: its broadcast is not over.
pub async fn is_carried(db: &Db, livestream: LivestreamId) -> Result<bool, DbError> {
    let client = db.get().await?;
    let row = client
        .query_opt("select broadcast_id is not null from livestreams where id = $1", &[&livestream.0])
        .await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// Gives a stream back whose worker ends: another one may take its publisher at once.
pub async fn hand_over(db: &Db, hold: LiveHold, on_air: &OnAir, next_sequence: u64) -> Result<(), DbError> {
    lose(db, hold, on_air, next_sequence, "the worker ends").await.or_else(|error| match error {
        // It was interrupted already.
        DbError::LostRace => Ok(()),
        error => Err(error),
    })?;
    db.get()
        .await?
        .execute(
            "delete from live_leases where livestream_id = $1 and epoch = $2",
            &[&hold.livestream.0, &hold.epoch],
        )
        .await?;
    Ok(())
}

/// Finds that the stream is still held, and keeps it so until the transaction ends.
async fn guard(transaction: &Transaction<'_>, hold: LiveHold) -> Result<(), DbError> {
    let row = transaction
        .query_opt(
            "select 1 from livestreams where id = $1 and epoch = $2 for no key update",
            &[&hold.livestream.0, &hold.epoch],
        )
        .await?;
    row.map(|_| ()).ok_or(DbError::LostRace)
}

/// Moves to a state; gives the one before. In the caller's guarded transaction.
async fn set_status(
    client: &impl GenericClient,
    hold: LiveHold,
    status: LiveStatus,
) -> Result<LiveStatus, DbError> {
    let row = client
        .query_opt(
            "update livestreams l set status = $3, updated_at = now()
             from (select id, status from livestreams where id = $1) before
             where l.id = before.id and l.epoch = $2 and l.status = any($4)
             returning before.status",
            &[&hold.livestream.0, &hold.epoch, &status.as_str(), &words(status.predecessors())],
        )
        .await?;
    let before: &str = row.as_ref().map(|row: &Row| row.get(0)).ok_or(DbError::LostRace)?;
    Ok(before.parse()?)
}

/// Tells who runs the stream what happened.
pub async fn tell(
    db: &Db,
    livestream: LivestreamId,
    broadcast: Option<BroadcastId>,
    kind: LiveEventType,
    severity: Severity,
    message: &str,
    details: Value,
) -> Result<(), DbError> {
    note(&db.get().await?, livestream, broadcast, kind, severity, message, details).await
}

pub(crate) async fn note(
    client: &impl GenericClient,
    livestream: LivestreamId,
    broadcast: Option<BroadcastId>,
    kind: LiveEventType,
    severity: Severity,
    message: &str,
    details: Value,
) -> Result<(), DbError> {
    let details = if details.is_null() { serde_json::json!({}) } else { details };
    client
        .execute(
            "insert into livestream_events (id, livestream_id, broadcast_id, type, severity, message, details)
             values ($1, $2, $3, $4, $5, $6, $7)",
            &[
                &Uuid::now_v7(),
                &livestream.0,
                &broadcast.map(|id| id.0),
                &kind.as_str(),
                &severity.as_str(),
                &message,
                &details,
            ],
        )
        .await?;
    Ok(())
}

/// Whether a track is picture or sound.
pub fn kind_of(track: &str) -> TrackKind {
    if track == crate::media::live::plan::AUDIO { TrackKind::Audio } else { TrackKind::Video }
}
