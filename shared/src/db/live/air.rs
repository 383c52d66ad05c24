//! What is put on air: broadcasts, runs, and their segments.

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::types::Json;

use super::super::events::EventType;
use super::super::livestream_events::NewEntry;
use super::super::sets::Rendition;
use super::super::{Db, DbError, GenericClient};
use super::{LiveHold, OnAir, guard, set_status, tell};
use crate::ids::{BroadcastId, ProjectId, SetId, WorkerId};
use crate::job::transition::words;
use crate::live::event::{LiveEventType, Severity};
use crate::live::state::{BroadcastStatus, LiveStatus};
use crate::media::live::plan::LivePlan;

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
    /// The tracks, in their order, each with its init segment; without those that were dropped.
    pub renditions: &'a [Rendition],
    /// The rung that was dropped just now, because encoding all of them was too slow.
    pub dropped: Option<&'a str>,
}

/// Another epoch for who holds a stream: its publisher goes on in another run.
pub async fn raise(db: &Db, hold: LiveHold) -> Result<LiveHold, DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    let next = LiveHold { epoch: hold.epoch + 1, ..hold };
    for table in [
        "livestreams set epoch = $2, updated_at = now() where id",
        "live_leases set epoch = $2 where livestream_id",
    ] {
        let update = format!("update {table} = $1");
        transaction.execute(&update, &[&hold.livestream.0, &next.epoch]).await?;
    }
    transaction.commit().await?;
    Ok(next)
}

/// Begins a run: the stream is live from now on. Says how many seams lie before it in the broadcast, with its own.
pub async fn begin_run(db: &Db, hold: LiveHold, on_air: &OnAir, run: NewRun<'_>) -> Result<u32, DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    guard(&transaction, hold).await?;
    let row = transaction
        .query_one(
            "select count(*) as runs, count(distinct first_number) filter (where first_number < $2) as seams
             from broadcast_runs where broadcast_id = $1",
            &[&on_air.id.0, &(run.first_number as i32)],
        )
        .await?;
    let before: i64 = row.get("runs");
    // One that never had a segment left no seam.
    let seams: i64 = row.get("seams");
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
    let was = set_status(&transaction, hold, LiveStatus::Live).await?;
    transaction.execute("update broadcasts set heard_at = now() where id = $1", &[&on_air.id.0]).await?;
    transaction
        .execute("update livestreams set failures = 0, error = null where id = $1", &[&hold.livestream.0])
        .await?;
    let (event, kind, message) = match (before, was, run.dropped) {
        (0, _, _) => (
            Some(EventType::LivestreamStarted),
            LiveEventType::StreamStarted,
            "the broadcast has begun".to_owned(),
        ),
        (_, _, Some(rung)) => {
            let message =
                format!("{rung} was dropped until the end of the broadcast, because encoding was too slow");
            (None, LiveEventType::QualityChanged, message)
        }
        (_, LiveStatus::Live, None) => {
            (None, LiveEventType::ConnectionRestored, "another publisher has taken over".to_owned())
        }
        (_, _, None) => (None, LiveEventType::ConnectionRestored, "the publisher is back".to_owned()),
    };
    let severity = if run.dropped.is_some() { Severity::Warning } else { Severity::Info };
    let details = serde_json::json!({ "publisher": run.publisher, "dropped": run.dropped });
    let broadcast_id = Some(on_air.id);
    let entry = NewEntry { broadcast_id, kind, severity, message: &message, details };
    tell(&transaction, hold.livestream, event, &entry).await?;
    transaction.commit().await?;
    Ok(u32::try_from(seams).unwrap_or(u32::MAX))
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

/// Keeps a picture for the recording of a broadcast that goes on; the one before is handed to the sweeper.
pub async fn set_thumbnail(db: &Db, broadcast: BroadcastId, key: &str) -> Result<(), DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "with before as (select id, thumbnail_key from broadcasts where id = $1 for update),
             now as (
                 update broadcasts b set thumbnail_key = $2 from before
                 where b.id = before.id and b.status = 'recording' and b.recorded returning b.id)
             insert into garbage (prefix, due_at)
             select case when exists (select 1 from now) then thumbnail_key else $2 end, now() + interval '1 minute'
             from before where thumbnail_key is distinct from $2
               and (thumbnail_key is not null or not exists (select 1 from now))",
        )
        .await?;
    client.execute(&statement, &[&broadcast.0, &key]).await?;
    Ok(())
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

/// Publishes segments of a broadcast whose books are open. Whose they are does not matter: a number is given out once, and what was
/// told as lost stays lost.
pub async fn publish(db: &Db, on_air: &OnAir, segments: &[LiveSegment]) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let open = words(&[BroadcastStatus::Recording, BroadcastStatus::Finalizing]);
    let found = transaction
        .query_opt(
            "select 1 from broadcasts where id = $1 and status = any($2) for no key update",
            &[&on_air.id.0, &open],
        )
        .await?;
    let is_open = found.is_some();
    let tracks: Vec<&str> = segments.iter().map(|s| s.track.as_str()).collect();
    let numbers: Vec<i32> = segments.iter().map(|s| s.number as i32).collect();
    let keys: Vec<&str> = segments.iter().map(|s| s.key.as_str()).collect();
    let bytes: Vec<i32> = segments.iter().map(|s| s.bytes as i32).collect();
    let starts: Vec<i64> = segments.iter().map(|s| s.start_ticks as i64).collect();
    let ticks: Vec<i64> = segments.iter().map(|s| s.ticks as i64).collect();
    let gaps: Vec<bool> = segments.iter().map(|s| s.gap).collect();
    let epochs: Vec<i32> = segments.iter().map(|s| s.epoch as i32).collect();
    if is_open {
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
    }
    // What was told as lost meanwhile, or came after the books were closed, is nobody's.
    transaction
        .execute(
            "insert into garbage (prefix, due_at)
             select key, now() from unnest($2::text[]) as s (key)
             where key <> '' and not exists (select 1 from segments g where g.set_id = $1 and g.key = s.key)",
            &[&on_air.set.0, &keys],
        )
        .await?;
    if !is_open {
        transaction.commit().await?;
        return Err(DbError::LostRace);
    }
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
