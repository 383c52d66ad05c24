//! Workers as the farm knows them.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::leader::Leadership;
use super::{Db, DbError};
use crate::ids::WorkerId;
use crate::job::capability::{Capability, Pool};
use crate::job::encoder::{Encoder, Gpus};
use crate::job::state::words;

words! {
    /// Whether a worker takes work.
    WorkerState("worker state") {
        Active = "active",
        Draining = "draining",
        Gone = "gone",
    }
}

/// A worker as listed.
#[derive(Debug, Clone)]
pub struct Worker {
    pub id: WorkerId,
    pub name: String,
    pub pool: String,
    pub slots: i32,
    pub running: i64,
    pub capabilities: Vec<String>,
    pub version: String,
    pub state: WorkerState,
    /// When somebody asked it to drain.
    pub drain_at: Option<DateTime<Utc>>,
    /// When it was found to fail what others finish, and of what that was seen.
    pub quarantined_at: Option<DateTime<Utc>>,
    pub quarantine_reason: Option<String>,
    pub started_at: DateTime<Utc>,
    pub seen_at: DateTime<Utc>,
}

/// What a worker says of itself.
#[derive(Debug, Clone)]
pub struct Registration<'a> {
    pub id: WorkerId,
    pub name: &'a str,
    pub pool: &'a str,
    pub slots: i32,
    pub capabilities: &'a [String],
    pub version: &'a str,
}

/// Enters a worker.
pub async fn register(db: &Db, worker: &Registration<'_>) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "insert into workers (id, name, pool, slots, capabilities, version) values ($1, $2, $3, $4, $5, $6)",
            &[
                &worker.id.0,
                &worker.name,
                &worker.pool,
                &worker.slots,
                &worker.capabilities,
                &worker.version,
            ],
        )
        .await?;
    Ok(())
}

/// Says that a worker lives, and how. A worker that was thought gone is back. Returns whether it may take work.
pub async fn touch(db: &Db, id: WorkerId, state: WorkerState) -> Result<bool, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "update workers set seen_at = now(), state = $2 where id = $1
             returning drain_at is null and quarantined_at is null",
        )
        .await?;
    let row = client.query_opt(&statement, &[&id.0, &state.as_str()]).await?;
    // One that nobody knows is nobody's to stop.
    Ok(row.is_none_or(|row| row.get(0)))
}

/// Whether a worker may take work: nobody asked it to drain, and it is not in quarantine.
pub async fn may_work(db: &Db, id: WorkerId) -> Result<bool, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached("select drain_at is null and quarantined_at is null from workers where id = $1")
        .await?;
    Ok(client.query_opt(&statement, &[&id.0]).await?.is_none_or(|row| row.get(0)))
}

/// Asks a worker to finish what it has, or give it back, and to take nothing more. False where there is none that is there.
pub async fn drain(db: &Db, id: WorkerId) -> Result<bool, DbError> {
    let changed = db
        .get()
        .await?
        .execute(
            "update workers set drain_at = coalesce(drain_at, now()) where id = $1 and state <> 'gone'",
            &[&id.0],
        )
        .await?;
    Ok(changed == 1)
}

/// Lets a worker take work again that was asked to drain or was in quarantine. What it failed before counts no longer. False where there
/// is none that is there.
pub async fn resume(db: &Db, id: WorkerId) -> Result<bool, DbError> {
    let changed = db
        .get()
        .await?
        .execute(
            "update workers set drain_at = null, quarantined_at = null, quarantine_reason = null, trusted_at = now()
             where id = $1 and state <> 'gone'",
            &[&id.0],
        )
        .await?;
    Ok(changed == 1)
}

/// A worker that was just put into quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub id: WorkerId,
    pub name: String,
    pub reason: String,
}

/// Puts workers into quarantine that failed at least `most` tasks in the last `period` which others then finished, and finished fewer than
/// they failed. Guarded by leadership.
pub async fn quarantine(
    db: &Db,
    leadership: &Leadership,
    most: i64,
    period: Duration,
) -> Result<Vec<Quarantined>, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    leadership.guard(&tx).await?;
    let rows = tx
        .query(
            "with failures as (
                 select a.worker_id, t.kind, a.error ->> 'message' as message, a.finished_at
                 from attempts a
                 join tasks t on t.id = a.task_id
                 join workers w on w.id = a.worker_id
                 where a.outcome in ('failed', 'lost') and a.finished_at > now() - make_interval(secs => $2)
                   and a.finished_at > coalesce(w.trusted_at, '-infinity') and w.quarantined_at is null
                   and exists (select 1 from attempts later
                               where later.task_id = a.task_id and later.epoch > a.epoch
                                 and later.outcome = 'succeeded' and later.worker_id <> a.worker_id)
             ),
             bad as (
                 select worker_id, count(*) as failed,
                        (array_agg(kind || ': ' || coalesce(message, 'lost touch') order by finished_at desc))[1] as last
                 from failures group by worker_id having count(*) >= $1
             )
             update workers w
             set quarantined_at = now(),
                 quarantine_reason = 'failed ' || b.failed || ' tasks that other workers finished; the last was ' || b.last
             from bad b
             where w.id = b.worker_id
               and b.failed > (select count(*) from attempts a
                               where a.worker_id = w.id and a.outcome = 'succeeded'
                                 and a.finished_at > greatest(now() - make_interval(secs => $2), w.trusted_at))
             returning w.id, w.name, w.quarantine_reason",
            &[&most, &period.as_secs_f64()],
        )
        .await?;
    tx.commit().await?;
    Ok(rows
        .iter()
        .map(|row| Quarantined {
            id: WorkerId(row.get("id")),
            name: row.get("name"),
            reason: row.get("quarantine_reason"),
        })
        .collect())
}

/// Workers, newest first. Those gone for more than a day are left out.
pub async fn list(db: &Db, after: Option<WorkerId>, limit: i64) -> Result<Vec<Worker>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select w.*, (select count(*) from task_leases l where l.worker_id = w.id) as running
             from workers w
             where (state <> 'gone' or seen_at > now() - interval '1 day') and ($1::uuid is null or id < $1)
             order by id desc limit $2",
            &[&after.map(|id| id.0), &limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Worker {
                id: WorkerId(row.get("id")),
                name: row.get("name"),
                pool: row.get("pool"),
                slots: row.get("slots"),
                running: row.get("running"),
                capabilities: row.get("capabilities"),
                version: row.get("version"),
                state: row.get::<_, &str>("state").parse()?,
                drain_at: row.get("drain_at"),
                quarantined_at: row.get("quarantined_at"),
                quarantine_reason: row.get("quarantine_reason"),
                started_at: row.get("started_at"),
                seen_at: row.get("seen_at"),
            })
        })
        .collect()
}

/// What the workers of the pool `gpu` have proven.
pub async fn gpus(db: &Db) -> Result<Gpus, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select c.word, bool_or(w.state = 'active') as here from workers w, unnest(w.capabilities) as c (word)
             where w.pool = $1 group by c.word",
            &[&Pool::Gpu.as_str()],
        )
        .await?;
    let mut gpus = Gpus::default();
    for row in rows {
        // What newer workers than this program can do is nothing it could plan for.
        let encoder =
            row.get::<_, &str>("word").parse().ok().filter(|encoder: &Encoder| encoder.is_hardware());
        let Some(encoder) = encoder else { continue };
        gpus.known.push(encoder);
        if row.get("here") {
            gpus.here.push(encoder);
        }
    }
    Ok(gpus)
}

/// The encoders that need no hardware of the workers of the pool `cpu` that are there, those of one worker together.
pub async fn mixes(db: &Db) -> Result<Vec<Vec<Encoder>>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select distinct capabilities from workers where pool = $1 and state = 'active'",
            &[&Pool::Cpu.as_str()],
        )
        .await?;
    let encoders = |words: Vec<String>| {
        words.iter().filter_map(|word| word.parse().ok()).filter(|it: &Encoder| !it.is_hardware()).collect()
    };
    Ok(rows.iter().map(|row| encoders(row.get(0))).collect())
}

/// The encoders that workers have proven which are there, or were.
pub async fn proven(db: &Db) -> Result<Vec<Encoder>, DbError> {
    let client = db.get().await?;
    let statement =
        client.prepare_cached("select distinct word from workers, unnest(capabilities) as c (word)").await?;
    let rows = client.query(&statement, &[]).await?;
    Ok(rows.iter().filter_map(|row| row.get::<_, &str>(0).parse().ok()).collect())
}

/// True where a worker of `pool` that is there has proven `capability`.
pub async fn any_has(db: &Db, pool: Pool, capability: Capability) -> Result<bool, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "select exists (select 1 from workers where state = 'active' and pool = $1 and $2 = any(capabilities))",
            &[&pool.as_str(), &capability.as_str()],
        )
        .await?;
    Ok(row.get(0))
}

/// Marks workers that have not been heard of for `silence` as gone, guarded by leadership. Returns how many.
pub async fn mark_gone(db: &Db, leadership: &Leadership, silence: Duration) -> Result<u64, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    leadership.guard(&tx).await?;
    let gone = tx
        .execute(
            "update workers set state = 'gone'
             where state <> 'gone' and seen_at < now() - make_interval(secs => $1)",
            &[&silence.as_secs_f64()],
        )
        .await?;
    tx.commit().await?;
    Ok(gone)
}

/// Forgets workers that have been gone for `age` and of which nothing is left to take back. Returns how many.
pub async fn delete_gone(db: &Db, age: Duration) -> Result<u64, DbError> {
    let gone = db
        .get()
        .await?
        .execute(
            "delete from workers w
             where state = 'gone' and seen_at < now() - make_interval(secs => $1)
               and not exists (select 1 from task_leases l where l.worker_id = w.id)",
            &[&age.as_secs_f64()],
        )
        .await?;
    Ok(gone)
}
