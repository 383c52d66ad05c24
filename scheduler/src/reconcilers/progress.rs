//! Tells the event log how far jobs are, in quarters.

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::progress;

use super::{Context, Duty, Failure};

pub(super) struct Progress;

#[async_trait]
impl Duty for Progress {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        Ok(progress::tell(&context.db, leadership).await?)
    }
}
