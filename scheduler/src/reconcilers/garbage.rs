//! Deletes objects that no row refers to any more, and finishes deletions that were broken off.

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::{garbage, jobs, recordings};

use super::{Context, Duty, Failure};

pub(super) struct Garbage;

const BATCH: i64 = 100;

#[async_trait]
impl Duty for Garbage {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        for (project, recording) in recordings::undiscarded(&context.db, BATCH).await? {
            // Deleted by an api process that ended before it was through.
            for job in jobs::unfinished_of_recording(&context.db, recording).await? {
                jobs::cancel(&context.db, project, job).await?;
            }
            recordings::discard(&context.db, recording).await?;
        }
        let due = garbage::due(&context.db, BATCH).await?;
        let mut objects = 0;
        for garbage in &due {
            match context.storage.delete_prefix(&garbage.prefix).await {
                Ok(count) => objects += count,
                Err(error) => {
                    // One prefix that resists must not keep the others from being swept.
                    tracing::warn!(%error, prefix = garbage.prefix, "could not sweep; trying again later");
                    garbage::postpone(&context.db, leadership, garbage).await?;
                    continue;
                }
            }
            garbage::swept(&context.db, leadership, garbage).await?;
        }
        Ok(objects)
    }
}
