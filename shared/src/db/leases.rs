//! The heartbeat.

use std::collections::HashSet;
use std::time::Duration;

use super::tasks::Hold;
use super::{Db, DbError};
use crate::ids::{TaskId, WorkerId};

/// Prolongs the leases of `holds` that still stand, all in one statement. Returns those that do; the others are lost.
pub async fn renew(
    db: &Db,
    worker: WorkerId,
    holds: &[Hold],
    lease: Duration,
) -> Result<HashSet<Hold>, DbError> {
    let client = db.get().await?;
    let ids: Vec<_> = holds.iter().map(|hold| hold.task_id.0).collect();
    let epochs: Vec<i32> = holds.iter().map(|hold| hold.epoch).collect();
    let statement = client
        .prepare_cached(
            "update task_leases l set expires_at = now() + make_interval(secs => $4)
             from unnest($2::uuid[], $3::int[]) as mine (task_id, epoch)
             where l.task_id = mine.task_id and l.epoch = mine.epoch and l.worker_id = $1
             returning l.task_id, l.epoch",
        )
        .await?;
    let rows = client.query(&statement, &[&worker.0, &ids, &epochs, &lease.as_secs_f64()]).await?;
    Ok(rows.iter().map(|row| Hold { task_id: TaskId(row.get(0)), epoch: row.get(1) }).collect())
}

/// How many slots of a pool are free right now: those of its live workers, without running tasks and those that wait for one.
pub async fn free_slots(db: &Db, pool: &str) -> Result<i64, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "select coalesce((select sum(slots) from workers where pool = $1 and state = 'active'), 0)::bigint
                    - (select count(*) from task_leases where pool = $1)
                    - (select count(*) from (
                           select 1 from tasks where status = 'ready' and pool = $1 and ready_at <= now() limit 1000) r)",
            &[&pool],
        )
        .await?;
    Ok(row.get(0))
}
