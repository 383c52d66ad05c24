//! Figures of what is on its way to webhooks.

use async_trait::async_trait;
use reelmill_shared::db::deliveries;
use reelmill_shared::db::leader::Leadership;

use super::{Context, Duty, Failure};

pub(super) struct Figures;

#[async_trait]
impl Duty for Figures {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let (pending, oldest) = deliveries::pending(&context.db).await?;
        ::metrics::gauge!("reelmill_webhook_deliveries_pending").set(pending as f64);
        ::metrics::gauge!("reelmill_webhook_oldest_pending_age_seconds").set(oldest);
        Ok(0)
    }
}
