//! Takes back tasks whose worker died or lost touch.

use async_trait::async_trait;
use reelmill_shared::broker::ring_later;
use reelmill_shared::db::finish;
use reelmill_shared::db::leader::Leadership;

use super::{Context, Duty, Failure};

pub(super) struct ExpiredLeases;

/// So many at once; the rest comes with the next run.
const BATCH: i64 = 200;

#[async_trait]
impl Duty for ExpiredLeases {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        let taken_back = finish::expire_leases(&context.db, leadership, BATCH).await?;
        let count = taken_back.len() as u64;
        ::metrics::counter!("reelmill_lease_expiries_total").increment(count);
        ring_later(&context.broker, taken_back.into_iter().flat_map(|followed| followed.rings).collect());
        Ok(count)
    }
}
