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

/// Says that a worker lives, and how. A worker that was thought gone is back.
pub async fn touch(db: &Db, id: WorkerId, state: WorkerState) -> Result<(), DbError> {
    db.get()
        .await?
        .execute("update workers set seen_at = now(), state = $2 where id = $1", &[&id.0, &state.as_str()])
        .await?;
    Ok(())
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
