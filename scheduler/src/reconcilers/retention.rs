//! Lets go of what has reached its age.

use std::sync::Mutex;

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::retention::{self, Wishes};
use reelmill_shared::ids::RecordingId;
use reelmill_shared::job::retention::Kept;

use super::{Context, Duty, Failure};

/// Rows of a kind that go in one statement, or recordings one by one.
const BATCH: i64 = 500;
/// Batches of a kind and project in one run: the others have their turn, and the rest goes the next time.
const BATCHES: usize = 20;

/// Knows how far the rows of deleted recordings were looked through.
#[derive(Default)]
pub(super) struct Retention {
    buried: Mutex<Option<RecordingId>>,
}

#[async_trait]
impl Duty for Retention {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        // Each deletion looks at what is there: run twice, or by two leaders, it does the same.
        let db = &context.db;
        let mut gone = 0;
        while retention::settle(db, BATCH).await? == BATCH as u64 {}
        for Wishes { project, retention: own } in retention::wishes(db).await? {
            let ages = own.or(&context.config.retention.ages);
            for kept in Kept::ALL {
                for _ in 0..BATCHES {
                    let went = retention::delete_due(db, project, kept, ages.of(kept), BATCH).await?;
                    gone += went;
                    if went > 0 {
                        tracing::info!(project_id = %project, kind = kept.as_str(), count = went, "deleted what had reached its age");
                    }
                    if went < BATCH as u64 {
                        break;
                    }
                }
            }
        }
        let from = *self.buried.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (count, next) = retention::bury(db, from, BATCH).await?;
        *self.buried.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = next;
        Ok(gone + count)
    }
}
