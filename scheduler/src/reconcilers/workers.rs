//! Lists workers that have fallen silent as gone.

use std::time::Duration;

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::workers;

use super::{Context, Duty, Failure};

pub(super) struct SilentWorkers;

/// Four beats of the slowest default heartbeat.
const SILENCE: Duration = Duration::from_secs(60);

#[async_trait]
impl Duty for SilentWorkers {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        Ok(workers::mark_gone(&context.db, leadership, SILENCE).await?)
    }
}
