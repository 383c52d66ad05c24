//! Fails segments that were not delivered in time, and forgets those that are over.

use std::time::Duration;

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::segment_deliveries;

use super::{Context, Duty, Failure};

pub(super) struct SegmentDeliveries;

/// For so long somebody may look what came of one.
const AGE: Duration = Duration::from_secs(3600);
/// Rows deleted at a time.
const BATCH: i64 = 20_000;

#[async_trait]
impl Duty for SegmentDeliveries {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        // Both go by the time alone: run twice, or by two leaders, they do the same.
        let late = segment_deliveries::expire(&context.db).await?;
        Ok(late + segment_deliveries::delete_old(&context.db, AGE, BATCH).await?)
    }
}
