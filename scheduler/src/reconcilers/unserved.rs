//! Fails jobs that wait for what no worker can do: nobody is told anything by a job that waits for ever.

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::unserved;

use super::{Context, Duty, Failure};

pub(super) struct Unserved;

/// So many at once; the rest comes with the next run.
const BATCH: i64 = 100;

#[async_trait]
impl Duty for Unserved {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        let jobs = unserved::fail(&context.db, leadership, context.config.unserved, BATCH).await?;
        for (job, class) in &jobs {
            tracing::warn!(job_id = %job, class, "job failed: no worker could do a task of it");
        }
        Ok(jobs.len() as u64)
    }
}
