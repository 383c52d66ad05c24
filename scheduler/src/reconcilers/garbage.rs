//! Deletes objects that no row refers to any more, and finishes deletions that were broken off.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::{garbage, jobs, recordings};

use super::{Context, Duty, Failure};

pub(super) struct Garbage;

const BATCH: i64 = 100;
/// Prefixes swept at once.
const AT_ONCE: usize = 8;
/// One run begins no batch after this: who shuts the program down should not have to wait.
const RUN: Duration = Duration::from_secs(8);

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
        let began = Instant::now();
        let mut objects = 0;
        loop {
            let due = garbage::due(&context.db, BATCH).await?;
            let is_last = (due.len() as i64) < BATCH;
            let swept: Vec<Result<u64, Failure>> = stream::iter(due)
                .map(|garbage| sweep(context, leadership, garbage))
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            for result in swept {
                objects += result?;
            }
            if is_last || began.elapsed() > RUN {
                return Ok(objects);
            }
        }
    }
}

async fn sweep(
    context: &Context,
    leadership: &Leadership,
    garbage: garbage::Garbage,
) -> Result<u64, Failure> {
    // One object, or all under a prefix.
    let deleted = if garbage.prefix.ends_with('/') {
        context.storage.delete_prefix(&garbage.prefix).await
    } else {
        context.storage.delete(&garbage.prefix).await.map(|()| 1)
    };
    match deleted {
        Ok(count) => {
            garbage::swept(&context.db, leadership, &garbage).await?;
            Ok(count)
        }
        Err(error) => {
            // One prefix that resists must not keep the others from being swept.
            tracing::warn!(%error, prefix = garbage.prefix, "could not sweep; trying again later");
            garbage::postpone(&context.db, leadership, &garbage).await?;
            Ok(0)
        }
    }
}
