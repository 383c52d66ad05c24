//! Deletes what left the live windows of streams that are not recorded, so that a channel that never ends does not fill the store.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use reelmill_shared::db::broadcasts;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::live::{self, Outdated};

use super::{Context, Duty, Failure};

pub(super) struct LiveWindows;

const BATCH: i64 = 500;
/// Objects deleted at once.
const AT_ONCE: usize = 16;
/// One run begins no batch after this: who shuts the program down should not have to wait.
const RUN: Duration = Duration::from_secs(8);

#[async_trait]
impl Duty for LiveWindows {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        let began = Instant::now();
        let mut gone = 0;
        loop {
            let outdated = live::outdated(&context.db, BATCH).await?;
            let is_last = (outdated.len() as i64) < BATCH;
            // The object first: while its row is there it is found again, whatever ends this program.
            let deleted =
                stream::iter(outdated).map(|segment| delete(context, segment)).buffer_unordered(AT_ONCE);
            let deleted: Vec<Outdated> = deleted.filter_map(std::future::ready).collect().await;
            live::forget(&context.db, leadership, &deleted).await?;
            gone += deleted.len() as u64;
            // One that resists comes up again at the next look.
            if is_last || deleted.is_empty() || began.elapsed() > RUN {
                break;
            }
        }
        for broadcast in live::over(&context.db, BATCH).await? {
            gone += u64::from(broadcasts::expire(&context.db, broadcast, false).await?);
        }
        Ok(gone)
    }
}

async fn delete(context: &Context, segment: Outdated) -> Option<Outdated> {
    if segment.key.is_empty() {
        return Some(segment);
    }
    match context.storage.delete(&segment.key).await {
        Ok(()) => Some(segment),
        Err(error) => {
            tracing::warn!(%error, key = segment.key, "could not delete a segment that left its window");
            None
        }
    }
}
