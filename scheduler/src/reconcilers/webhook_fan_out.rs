//! Turns events into deliveries.

use async_trait::async_trait;
use reelmill_shared::db::fan_out;
use reelmill_shared::db::leader::Leadership;

use super::{Context, Duty, Failure};

pub(super) struct FanOut;

/// Batches of one run.
const ROUNDS: usize = 20;

#[async_trait]
impl Duty for FanOut {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        for _ in 0..ROUNDS {
            if fan_out::advance(&context.db, leadership).await? == 0 {
                break;
            }
        }
        // Every event of the farm passes here: that is nothing to report.
        Ok(0)
    }
}
