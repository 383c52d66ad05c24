//! Gives no more work to workers that keep failing what others finish.

use std::time::Duration;

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::workers;

use super::{Context, Duty, Failure};

pub(super) struct BadWorkers;

/// As many may be bad luck no longer.
const MOST: i64 = 5;
/// What is older is forgotten.
const PERIOD: Duration = Duration::from_secs(3600);

#[async_trait]
impl Duty for BadWorkers {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        let bad = workers::quarantine(&context.db, leadership, MOST, PERIOD).await?;
        for worker in &bad {
            tracing::warn!(worker_id = %worker.id, name = worker.name, reason = worker.reason, "worker put into quarantine");
        }
        let count = bad.len() as u64;
        ::metrics::counter!("reelmill_workers_quarantined_total").increment(count);
        Ok(count)
    }
}
