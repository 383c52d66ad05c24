//! Sums up how recordings were watched, a day when it is over: sessions are forgotten later, the sums are not.

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::viewing;

use super::{Context, Duty, Failure};

pub(super) struct Viewing;

#[async_trait]
impl Duty for Viewing {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        Ok(viewing::sum_up(&context.db, leadership).await?)
    }
}
