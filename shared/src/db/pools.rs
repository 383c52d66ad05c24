//! Pools of workers: what waits in them, and whether they may work.

use chrono::{DateTime, Utc};

use super::{Db, DbError, known};
use crate::job::capability::Pool;

/// A pool as a person sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolState {
    pub pool: Pool,
    pub paused_at: Option<DateTime<Utc>>,
    /// Tasks that a worker could take now.
    pub ready: u64,
    /// Tasks that are not due yet.
    pub waiting: u64,
    pub running: u64,
    /// Seconds that the task has waited which became ready first.
    pub oldest_seconds: f64,
    /// Workers that take work, and their slots.
    pub workers: u64,
    pub slots: u64,
}

/// All pools.
pub async fn list(db: &Db) -> Result<Vec<PoolState>, DbError> {
    let words: Vec<&str> = Pool::ALL.iter().map(|pool| pool.as_str()).collect();
    let rows = db
        .get()
        .await?
        .query(
            "select n.name, p.paused_at, t.ready, later.waiting, t.oldest, l.running, w.workers, w.slots
             from unnest($1::text[]) as n (name)
             left join pools p on p.name = n.name,
             lateral (
                 select count(*) as ready, coalesce(extract(epoch from now() - min(ready_at)), 0)::float8 as oldest
                 from tasks where pool = n.name and status = 'ready' and ready_at <= now()) t,
             lateral (
                 select count(*) as waiting from tasks
                 where pool = n.name and status = 'ready' and ready_at > now()) later,
             lateral (select count(*) as running from task_leases where pool = n.name) l,
             lateral (
                 select count(*) as workers, coalesce(sum(slots), 0)::bigint as slots from workers
                 where pool = n.name and state = 'active' and drain_at is null and quarantined_at is null) w
             order by n.name",
            &[&words],
        )
        .await?;
    known(&rows, |row| {
        let count = |column: &str| row.get::<_, i64>(column).max(0) as u64;
        Ok(PoolState {
            pool: row.get::<_, &str>("name").parse()?,
            paused_at: row.get("paused_at"),
            ready: count("ready"),
            waiting: count("waiting"),
            running: count("running"),
            oldest_seconds: row.get::<_, f64>("oldest").max(0.0),
            workers: count("workers"),
            slots: count("slots"),
        })
    })
}

/// Lets the workers of a pool take nothing more, or take work again. What runs goes on.
pub async fn set_paused(db: &Db, pool: Pool, paused: bool) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "insert into pools (name, paused_at) values ($1, case when $2 then now() end)
             on conflict (name) do update
             set paused_at = case when $2 then coalesce(pools.paused_at, now()) end",
            &[&pool.as_str(), &paused],
        )
        .await?;
    Ok(())
}
