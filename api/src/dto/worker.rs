//! Workers on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::workers::{Worker, WorkerState};
use reelmill_shared::ids::WorkerId;
use serde::Serialize;
use utoipa::ToSchema;

/// A worker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerDto {
    pub(crate) id: WorkerId,
    pub(crate) name: String,
    pub(crate) pool: String,
    pub(crate) state: WorkerState,
    /// When it was asked to drain.
    pub(crate) drain_at: Option<DateTime<Utc>>,
    /// Since when it gets no work because it failed what others finished, and what was seen of that.
    pub(crate) quarantined_at: Option<DateTime<Utc>>,
    pub(crate) quarantine_reason: Option<String>,
    pub(crate) slots: i32,
    pub(crate) running: i64,
    /// What it has proven.
    pub(crate) capabilities: Vec<String>,
    pub(crate) version: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) seen_at: DateTime<Utc>,
}

/// A page of workers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerListDto {
    pub(crate) workers: Vec<WorkerDto>,
    pub(crate) next_cursor: Option<String>,
}

impl From<Worker> for WorkerDto {
    fn from(worker: Worker) -> Self {
        Self {
            id: worker.id,
            name: worker.name,
            pool: worker.pool,
            state: worker.state,
            drain_at: worker.drain_at,
            quarantined_at: worker.quarantined_at,
            quarantine_reason: worker.quarantine_reason,
            slots: worker.slots,
            running: worker.running,
            capabilities: worker.capabilities,
            version: worker.version,
            started_at: worker.started_at,
            seen_at: worker.seen_at,
        }
    }
}
