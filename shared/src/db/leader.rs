//! The scheduler's leader lease. A row, not an advisory lock: a stopped process would keep a lock for ever.

use std::time::Duration;

use super::{Db, DbError, GenericClient};
use crate::ids::SchedulerId;

/// The right to act as leader, as it was when it was last renewed. Its epoch guards the leader's writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    pub holder: SchedulerId,
    pub epoch: i64,
}

const NAME: &str = "scheduler";

impl Leadership {
    /// Fails the caller's transaction unless this leadership still stands, and keeps it standing until the commit.
    pub(crate) async fn guard(&self, tx: &impl GenericClient) -> Result<(), DbError> {
        let statement = tx
            .prepare_cached(
                "select 1 from leaders
                 where name = $1 and holder = $2 and epoch = $3 and expires_at > now() for share",
            )
            .await?;
        let row = tx.query_opt(&statement, &[&NAME, &self.holder.0, &self.epoch]).await?;
        row.map(|_| ()).ok_or(DbError::NotLeader)
    }
}

/// Takes the lead if nobody holds it, or renews it. `None` while another leads.
pub async fn acquire(db: &Db, holder: SchedulerId, lease: Duration) -> Result<Option<Leadership>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            "insert into leaders (name, holder, epoch, expires_at)
             values ($1, $2, 1, now() + make_interval(secs => $3))
             on conflict (name) do update
             set holder = excluded.holder,
                 epoch = leaders.epoch + case when leaders.holder = excluded.holder then 0 else 1 end,
                 expires_at = excluded.expires_at
             where leaders.holder = excluded.holder or leaders.expires_at < now()
             returning epoch",
            &[&NAME, &holder.0, &lease.as_secs_f64()],
        )
        .await?;
    Ok(row.map(|row| Leadership { holder, epoch: row.get(0) }))
}

/// Steps down, so that another may lead at once.
pub async fn resign(db: &Db, leadership: Leadership) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "update leaders set expires_at = now() where name = $1 and holder = $2 and epoch = $3",
            &[&NAME, &leadership.holder.0, &leadership.epoch],
        )
        .await?;
    Ok(())
}
