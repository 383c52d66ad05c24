//! How broadcasts are interrupted, and how they end: by whoever carries them, or by the supervisor where nobody does.

use std::time::Duration;

use serde_json::json;

use super::super::events::EventType;
use super::super::leader::Leadership;
use super::super::livestream_events::NewEntry;
use super::super::{Db, DbError, GenericClient, Transaction};
use super::{LiveHold, OnAir, guard, read_on_air, set_status, tell, whole};
use crate::ids::{BroadcastId, LivestreamId};
use crate::job::transition::words;
use crate::live::event::{LiveEventType, Severity};
use crate::live::state::{BroadcastStatus, LiveStatus};

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
    transaction
        .execute(
            "update livestreams set next_sequence = $2 where id = $1",
            &[&hold.livestream.0, &(next_sequence as i64)],
        )
        .await?;
    interrupt(&transaction, hold, on_air.id, why).await?;
    transaction.commit().await?;
    Ok(())
}

async fn interrupt(
    transaction: &Transaction<'_>,
    hold: LiveHold,
    broadcast: BroadcastId,
    why: &str,
) -> Result<(), DbError> {
    if set_status(transaction, hold, LiveStatus::Reconnecting).await? == LiveStatus::Reconnecting {
        // It was told when it happened.
        return Ok(());
    }
    let entry = NewEntry {
        broadcast_id: Some(broadcast),
        kind: LiveEventType::ConnectionLost,
        severity: Severity::Warning,
        message: why,
        details: json!({}),
    };
    tell(transaction, hold.livestream, Some(EventType::LivestreamReconnecting), &entry).await
}

/// Gives a stream up that was never on air: what came in cannot be streamed.
pub async fn give_up(db: &Db, hold: LiveHold, why: &str) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    set_status(&transaction, hold, LiveStatus::Idle).await?;
    let entry = NewEntry {
        broadcast_id: None,
        kind: LiveEventType::Error,
        severity: Severity::Error,
        message: why,
        details: json!({}),
    };
    tell(&transaction, hold.livestream, None, &entry).await?;
    release(&transaction, hold).await?;
    transaction.commit().await?;
    Ok(())
}

/// Says that a pull came to nothing, and when to try again: after two seconds, and twice as long each time, a minute at most. What is on
/// air stays so; what never was has failed until then.
pub async fn retry_later(db: &Db, hold: LiveHold, on_air: Option<&OnAir>, why: &str) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    transaction
        .execute(
            "update livestreams
             set failures = failures + 1, retry_at = now() + make_interval(secs => least(60, 2 ^ least(failures + 1, 6))),
                 error = jsonb_build_object('reason', 'unreachable', 'message', $2::text, 'retryable', true)
             where id = $1",
            &[&hold.livestream.0, &why],
        )
        .await?;
    if on_air.is_none() {
        set_status(&transaction, hold, LiveStatus::Failed).await?;
        let entry = NewEntry {
            broadcast_id: None,
            kind: LiveEventType::Error,
            severity: Severity::Error,
            message: why,
            details: json!({}),
        };
        tell(&transaction, hold.livestream, None, &entry).await?;
        release(&transaction, hold).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Ends what is on air, and gives the stream back. What is `over` altogether, such as a video that was played out, is not fetched again.
pub async fn end(db: &Db, hold: LiveHold, on_air: &OnAir, reason: &str, over: bool) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    if over {
        transaction
            .execute(
                "update livestreams set armed_at = null, retry_at = null where id = $1",
                &[&hold.livestream.0],
            )
            .await?;
    }
    rest(&transaction, hold, on_air.id, reason).await?;
    transaction.commit().await?;
    finalize(db, on_air.id).await?;
    Ok(())
}

async fn rest(
    transaction: &Transaction<'_>,
    hold: LiveHold,
    broadcast: BroadcastId,
    reason: &str,
) -> Result<(), DbError> {
    set_status(transaction, hold, LiveStatus::Idle).await?;
    transaction
        .execute(
            "update livestreams set broadcast_id = null, ended_at = now(), recording_paused_at = null where id = $1",
            &[&hold.livestream.0],
        )
        .await?;
    transaction
        .execute(
            "update broadcasts set status = 'finalizing', ended_at = now(), end_reason = $2
             where id = $1 and status = any($3)",
            &[&broadcast.0, &reason, &words(BroadcastStatus::Finalizing.predecessors())],
        )
        .await?;
    let entry = NewEntry {
        broadcast_id: Some(broadcast),
        kind: LiveEventType::StreamEnded,
        severity: Severity::Info,
        message: reason,
        details: json!({ "reason": reason }),
    };
    tell(transaction, hold.livestream, Some(EventType::LivestreamEnded), &entry).await?;
    release(transaction, hold).await
}

/// Gives up the lease, and what is left of older ones.
async fn release(client: &impl GenericClient, hold: LiveHold) -> Result<(), DbError> {
    client
        .execute(
            "delete from live_leases where livestream_id = $1 and epoch <= $2",
            &[&hold.livestream.0, &hold.epoch],
        )
        .await?;
    Ok(())
}

/// Gives a stream back whose worker ends: another one may take its publisher at once.
pub async fn hand_over(db: &Db, hold: LiveHold, on_air: &OnAir, next_sequence: u64) -> Result<(), DbError> {
    lose(db, hold, on_air, next_sequence, "the worker ends").await?;
    release(&db.get().await?, hold).await
}

/// Closes the books of a broadcast that is over: how long it is, until when it is kept, and that it can be watched. Done again it changes
/// nothing.
pub async fn finalize(db: &Db, id: BroadcastId) -> Result<(), DbError> {
    let Some(on_air) = finalizing(db, id).await? else { return Ok(()) };
    let window = whole(db, &on_air, String::new()).await?;
    let is_there = window.tracks.iter().flat_map(|track| &track.segments).any(|segment| !segment.gap);
    // As long as its playlists say: what was lost counts, what was left out and the time between two publishers do not.
    let seconds = is_there.then(|| window.seconds());
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let row = transaction
        .query_opt(
            "update broadcasts b
             set status = case when $2 then 'available' else 'failed' end, duration_seconds = $3,
                 retention_until = b.ended_at + make_interval(days => (l.spec -> 'settings' ->> 'retention_days')::int)
             from livestreams l
             where b.id = $1 and b.status = 'finalizing' and l.id = b.livestream_id
             returning b.livestream_id, b.recorded and b.status = 'available' as kept",
            &[&id.0, &is_there, &seconds],
        )
        .await?;
    if let Some(row) = row.filter(|row| row.get("kept")) {
        let livestream = LivestreamId(row.get("livestream_id"));
        let project = transaction
            .query_one("select project_id from livestreams where id = $1", &[&livestream.0])
            .await?;
        let event = super::super::events::NewEvent {
            project_id: crate::ids::ProjectId(project.get(0)),
            kind: EventType::BroadcastRecorded,
            job_id: None,
            recording_id: None,
            livestream_id: Some(livestream),
            data: json!({ "livestream_id": livestream, "broadcast_id": id }),
        };
        super::super::events::append(&transaction, event).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn finalizing(db: &Db, id: BroadcastId) -> Result<Option<OnAir>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            "select set_id, plan, started_at from broadcasts where id = $1 and status = 'finalizing'",
            &[&id.0],
        )
        .await?;
    Ok(row.map(|row| read_on_air(id, &row)))
}

/// What became of a stream that nobody carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// It waits for its publisher.
    Reconnecting,
    /// It was never on air, or its grace is over.
    Ended,
}

/// Streams that claim to be on air and that nobody carries: their leases have ended, or there is none.
pub async fn uncarried(db: &Db) -> Result<Vec<LiveHold>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select l.id, l.epoch from livestreams l left join live_leases e on e.livestream_id = l.id
             where l.status in ('starting', 'live', 'reconnecting') and (e.expires_at is null or e.expires_at < now())
             order by l.id limit 200",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| LiveHold { livestream: LivestreamId(row.get("id")), epoch: row.get("epoch") })
        .collect())
}

/// Looks after streams that nobody carries: says that they are off air, and ends those whose publisher has been away for longer than
/// `grace`.
pub async fn abandoned(
    db: &Db,
    leadership: &Leadership,
    holds: &[LiveHold],
    grace: Duration,
) -> Result<Vec<(LivestreamId, Abandoned)>, DbError> {
    let mut all = vec![];
    for hold in holds.iter().copied() {
        match look_after(db, leadership, hold, grace).await {
            Ok(Some(became)) => all.push((hold.livestream, became)),
            // Somebody has taken it meanwhile.
            Ok(None) | Err(DbError::LostRace) => {}
            Err(DbError::NotLeader) => return Err(DbError::NotLeader),
            // One bad row must not keep the others from being looked after.
            Err(error) => {
                tracing::error!(%error, livestream = %hold.livestream, "could not look after a live stream")
            }
        }
    }
    Ok(all)
}

async fn look_after(
    db: &Db,
    leadership: &Leadership,
    hold: LiveHold,
    grace: Duration,
) -> Result<Option<Abandoned>, DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    leadership.guard(&transaction).await?;
    guard(&transaction, hold).await?;
    let row = transaction
        .query_one(
            "select l.status, l.broadcast_id,
                    coalesce(b.heard_at < now() - make_interval(secs => $2), true) as over,
                    exists (select 1 from live_leases e where e.livestream_id = l.id and e.expires_at > now()) as carried
             from livestreams l left join broadcasts b on b.id = l.broadcast_id where l.id = $1",
            &[&hold.livestream.0, &grace.as_secs_f64()],
        )
        .await?;
    if row.get("carried") {
        return Ok(None);
    }
    let status: LiveStatus = row.get::<_, &str>("status").parse()?;
    let broadcast = row.get::<_, Option<uuid::Uuid>>("broadcast_id").map(BroadcastId);
    let ends = broadcast.is_none() || row.get::<_, bool>("over");
    if ends {
        // Whoever had it and wakes up again has lost it.
        transaction
            .execute("update livestreams set epoch = epoch + 1 where id = $1", &[&hold.livestream.0])
            .await?;
    }
    let hold = LiveHold { epoch: hold.epoch + i32::from(ends), ..hold };
    let became = match (broadcast, ends) {
        (Some(broadcast), true) => {
            rest(&transaction, hold, broadcast, "the publisher did not come back").await?;
            Some(Abandoned::Ended)
        }
        (Some(broadcast), false) if status == LiveStatus::Live => {
            interrupt(&transaction, hold, broadcast, "the worker is gone").await?;
            Some(Abandoned::Reconnecting)
        }
        (Some(_), false) => None,
        (None, _) => {
            set_status(&transaction, hold, LiveStatus::Idle).await?;
            release(&transaction, hold).await?;
            Some(Abandoned::Ended)
        }
    };
    transaction.commit().await?;
    Ok(became)
}

/// Broadcasts that are over and whose books are not closed, though whoever carried them had time enough.
pub async fn unfinished(db: &Db, patience: Duration) -> Result<Vec<BroadcastId>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select id from broadcasts
             where status = 'finalizing' and ended_at < now() - make_interval(secs => $1) order by id limit 200",
            &[&patience.as_secs_f64()],
        )
        .await?;
    Ok(rows.iter().map(|row| BroadcastId(row.get(0))).collect())
}
