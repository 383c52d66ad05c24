//! Pools and what waits in them, on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::pools::PoolState;
use reelmill_shared::job::capability::Pool;
use serde::Serialize;
use utoipa::ToSchema;

/// A pool of workers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueDto {
    #[schema(value_type = String)]
    pub(crate) pool: Pool,
    pub(crate) paused: bool,
    pub(crate) paused_at: Option<DateTime<Utc>>,
    /// Tasks that a worker could take now.
    pub(crate) ready: u64,
    /// Tasks that are not due yet: of jobs for later, and retries that wait.
    pub(crate) scheduled: u64,
    pub(crate) running: u64,
    /// Seconds that the longest of those ready has waited.
    pub(crate) oldest_seconds: f64,
    /// Workers that take work, and their slots.
    pub(crate) workers: u64,
    pub(crate) slots: u64,
}

/// All pools.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueListDto {
    pub(crate) queues: Vec<QueueDto>,
}

impl From<PoolState> for QueueDto {
    fn from(state: PoolState) -> Self {
        Self {
            pool: state.pool,
            paused: state.paused_at.is_some(),
            paused_at: state.paused_at,
            ready: state.ready,
            scheduled: state.waiting,
            running: state.running,
            oldest_seconds: (state.oldest_seconds * 10.0).round() / 10.0,
            workers: state.workers,
            slots: state.slots,
        }
    }
}
