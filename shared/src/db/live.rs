//! Who carries a livestream, and what it published. Every write is guarded by the epoch of whoever writes: a holder that was
//! superseded finds [`DbError::LostRace`], and nothing is changed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::events::{EventType, NewEvent};
use super::livestream_events::{self, NewEntry};
use super::{Db, DbError, GenericClient, Transaction, events, livestreams, retrying};
use crate::ids::{BroadcastId, LivestreamId, ProjectId, SetId, WorkerId};
use crate::job::transition::words;
use crate::live::event::{LiveEventType, Severity};
use crate::live::spec::{LiveSpec, SourceKind};
use crate::live::state::LiveStatus;
use crate::media::live::plan::LivePlan;

mod air;
mod ends;
mod listeners;
mod sweep;
mod window;

pub use air::{
    LiveSegment, NewBroadcast, NewRun, begin_broadcast, begin_run, publish, raise, reserve, set_thumbnail,
};
pub use ends::{
    Abandoned, abandoned, end, finalize, give_up, hand_over, lose, retry_later, uncarried, unfinished,
};
pub use listeners::{Listener, hang_up, keep_listening, listen, unheard};

pub use sweep::{Outdated, forget, outdated, over};
pub use window::{
    Follower, Kept, StoredRun, StoredSegment, StoredWindow, aired, kept, left_out, listed, recorded, runs,
    whole, window,
};

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
    /// Where a pull comes from, sealed.
    pub source: Option<Vec<u8>>,
    /// Who carried it until now, as far as is known.
    pub before: Option<Origin>,
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
    #[error("this stream takes no publishers by RTMP")]
    NotPushed,
    #[error("the project has as many streams on air as it may")]
    TooMany,
    #[error("somebody fetches this stream already")]
    Carried,
}

impl Refusal {
    /// In a word, for figures.
    pub fn word(self) -> &'static str {
        match self {
            Self::UnknownKey => "key",
            Self::NotStarted => "not_started",
            Self::NotPushed => "not_pushed",
            Self::TooMany => "too_many",
            Self::Carried => "carried",
        }
    }
}

/// How a livestream is found.
#[derive(Debug, Clone, Copy)]
pub enum Claim<'a> {
    /// By the digest of the key that a publisher sent.
    Key(&'a [u8]),
    /// By its id: a pull that somebody asked for.
    Pull(LivestreamId),
    /// By its id: a publisher came to the port where this carrier listens for it, and knew the passphrase.
    Heard(LivestreamId),
}

/// Takes a livestream: whoever carried it until now has lost it.
pub async fn take(db: &Db, claim: Claim<'_>, carrier: &Carrier) -> Result<Result<Taken, Refusal>, DbError> {
    retrying(|| take_once(db, claim, carrier)).await
}

async fn take_once(db: &Db, claim: Claim<'_>, carrier: &Carrier) -> Result<Result<Taken, Refusal>, DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let (condition, parameter): (&str, &(dyn tokio_postgres::types::ToSql + Sync)) = match &claim {
        Claim::Key(hash) => ("l.key_hash = $1", hash),
        Claim::Pull(id) | Claim::Heard(id) => ("l.id = $1", &id.0),
    };
    let select = format!(
        "select l.id, l.project_id, l.status, l.spec, l.source, l.epoch, l.next_sequence, l.armed_at, l.broadcast_id,
                l.retry_at <= now() as due
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
    // In a statement of its own: the one that waited for the row sees leases as they were before.
    let before = transaction
        .query_opt(
            "select epoch, origin, pass from live_leases where livestream_id = $1 and expires_at > now()",
            &[&livestream.0],
        )
        .await?
        .map(|row| read_origin(livestream, &row));
    match claim {
        Claim::Key(_) if spec.source != SourceKind::Push => return Ok(Err(Refusal::NotPushed)),
        Claim::Heard(_) if !spec.is_listened_for() => return Ok(Err(Refusal::NotPushed)),
        Claim::Key(_) | Claim::Heard(_) if spec.require_start && !armed => {
            return Ok(Err(Refusal::NotStarted));
        }
        Claim::Pull(_) if !armed => return Ok(Err(Refusal::NotStarted)),
        Claim::Pull(_) => {
            // Between two attempts anybody may make the next; a time for it is set only then.
            let between =
                status == LiveStatus::Reconnecting && row.get::<_, Option<bool>>("due") == Some(true);
            if !between && before.is_some() {
                return Ok(Err(Refusal::Carried));
            }
        }
        Claim::Key(_) | Claim::Heard(_) => {}
    }
    if !status.is_busy() && !has_room(&transaction, project).await? {
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
    let source = row.get("source");
    Ok(Ok(Taken { hold, project, spec, broadcast, next_sequence, source, before }))
}

/// Whether the project may have one more stream on air. Holds its row, so that two that ask at once are not both the last.
async fn has_room(transaction: &Transaction<'_>, project: ProjectId) -> Result<bool, DbError> {
    transaction.execute("select 1 from projects where id = $1 for no key update", &[&project.0]).await?;
    Ok(livestreams::room(transaction, project).await?.is_some_and(|room| room.busy < room.most))
}

async fn on_air(client: &impl GenericClient, id: BroadcastId) -> Result<Option<OnAir>, DbError> {
    let row = client
        .query_opt(
            "select set_id, plan, started_at from broadcasts where id = $1 and status = 'recording'",
            &[&id.0],
        )
        .await?;
    Ok(row.map(|row| read_on_air(id, &row)))
}

/// Of a row with `set_id`, `plan` and `started_at` of a broadcast.
fn read_on_air(id: BroadcastId, row: &Row) -> OnAir {
    let Json(plan): Json<LivePlan> = row.get("plan");
    OnAir { id, set: SetId(row.get("set_id")), plan, started_at: row.get("started_at") }
}

/// Streams that are to be fetched and that nobody fetches, those that wait longest first.
pub async fn wanted(db: &Db, limit: i64) -> Result<Vec<LivestreamId>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select l.id from livestreams l
             where l.armed_at is not null and l.deleted_at is null and (
                   l.spec->>'source' in ('rtsp', 'file') or l.spec->>'source' = 'srt' and (l.spec->>'calls')::bool)
               and coalesce(l.retry_at <= now(), true)
               and (l.status = 'reconnecting' and l.retry_at is not null or not exists (
                   select 1 from live_leases e where e.livestream_id = l.id and e.expires_at > now()))
             order by coalesce(l.retry_at, l.armed_at) limit $1",
        )
        .await?;
    let rows = client.query(&statement, &[&limit]).await?;
    Ok(rows.iter().map(|row| LivestreamId(row.get(0))).collect())
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

/// Says of streams that are held and on air that they are: the supervisor may have thought them lost while nobody could be heard.
pub async fn still_on_air(db: &Db, holds: &[LiveHold]) -> Result<(), DbError> {
    let ids: Vec<Uuid> = holds.iter().map(|hold| hold.livestream.0).collect();
    let epochs: Vec<i32> = holds.iter().map(|hold| hold.epoch).collect();
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "update livestreams l set status = 'live', updated_at = now()
             from unnest($1::uuid[], $2::int[]) as mine (id, epoch)
             where l.id = mine.id and l.epoch = mine.epoch and l.status = 'reconnecting'",
        )
        .await?;
    client.execute(&statement, &[&ids, &epochs]).await?;
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
    Ok(row.map(|row| read_origin(livestream, &row)))
}

fn read_origin(livestream: LivestreamId, row: &Row) -> Origin {
    Origin {
        hold: LiveHold { livestream, epoch: row.get("epoch") },
        address: row.get("origin"),
        pass: row.get("pass"),
    }
}

/// Whether somebody carries a livestream, or will: its broadcast is not over.
pub async fn is_carried(db: &Db, livestream: LivestreamId) -> Result<bool, DbError> {
    let client = db.get().await?;
    let row = client
        .query_opt("select broadcast_id is not null from livestreams where id = $1", &[&livestream.0])
        .await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// Tells who runs a stream of something that went wrong with it, or is well again.
pub async fn note(
    db: &Db,
    livestream: LivestreamId,
    severity: Severity,
    message: &str,
) -> Result<(), DbError> {
    let kind = LiveEventType::Error;
    let entry = NewEntry { broadcast_id: None, kind, severity, message, details: serde_json::json!({}) };
    livestream_events::append(&db.get().await?, livestream, &entry).await
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

/// Tells who runs the stream, and where it is of the kind that others hear of, them too. In the caller's transaction.
async fn tell(
    client: &impl GenericClient,
    livestream: LivestreamId,
    event: Option<EventType>,
    entry: &NewEntry<'_>,
) -> Result<(), DbError> {
    livestream_events::append(client, livestream, entry).await?;
    let Some(kind) = event else { return Ok(()) };
    let row = client.query_one("select project_id from livestreams where id = $1", &[&livestream.0]).await?;
    let data = serde_json::json!({
        "livestream_id": livestream, "broadcast_id": entry.broadcast_id, "message": entry.message,
    });
    let event = NewEvent {
        project_id: ProjectId(row.get(0)),
        kind,
        job_id: None,
        recording_id: None,
        livestream_id: Some(livestream),
        data,
    };
    events::append(client, event).await
}
