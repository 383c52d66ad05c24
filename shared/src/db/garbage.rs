//! Objects that nothing refers to any more.

use std::time::Duration;

use super::leader::Leadership;
use super::{Db, DbError};

/// What is to be swept.
#[derive(Debug, Clone)]
pub struct Garbage {
    pub id: i64,
    /// All under it where it ends in a slash, else the one object of this name.
    pub prefix: String,
    /// How often it has been swept.
    pub sweeps: i32,
}

/// A prefix is swept once more after this: a worker that had lost its lease may have written late.
const SECOND_SWEEP: Duration = Duration::from_secs(3600);

/// Prefixes that are due, `limit` at most.
pub async fn due(db: &Db, limit: i64) -> Result<Vec<Garbage>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select id, prefix, sweeps from garbage where due_at <= now() order by due_at limit $1",
            &[&limit],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Garbage { id: row.get("id"), prefix: row.get("prefix"), sweeps: row.get("sweeps") })
        .collect())
}

/// Says that a prefix was swept: it comes up once more, then never.
pub async fn swept(db: &Db, leadership: &Leadership, garbage: &Garbage) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    leadership.guard(&tx).await?;
    if garbage.sweeps == 0 {
        tx.execute(
            "update garbage set sweeps = 1, due_at = now() + make_interval(secs => $2) where id = $1",
            &[&garbage.id, &SECOND_SWEEP.as_secs_f64()],
        )
        .await?;
    } else {
        tx.execute("delete from garbage where id = $1", &[&garbage.id]).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Puts a prefix that could not be swept back for ten minutes.
pub async fn postpone(db: &Db, leadership: &Leadership, garbage: &Garbage) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    leadership.guard(&tx).await?;
    tx.execute("update garbage set due_at = now() + interval '10 minutes' where id = $1", &[&garbage.id])
        .await?;
    tx.commit().await?;
    Ok(())
}
