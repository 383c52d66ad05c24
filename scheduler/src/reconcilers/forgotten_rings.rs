//! Gives due retries and due jobs their place, and rings again for work that is ready and was not taken: rings get lost, and
//! what becomes due has nobody to ring for it.

use std::time::Duration;

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::tasks;

use super::{Context, Duty, Failure};

pub(super) struct ForgottenRings;

/// Work that is younger was rung for a moment ago.
const AGE: Duration = Duration::from_secs(1);
/// Tasks promoted at once; the rest comes with the next run.
const DUE: i64 = 5_000;
/// A worker that hears one ring claims until nothing is left, so few are enough.
const RINGS: i64 = 16;

#[async_trait]
impl Duty for ForgottenRings {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let promoted = tasks::promote_due(&context.db, DUE).await?;
        let rings = tasks::forgotten(&context.db, AGE, RINGS).await?;
        if rings.is_empty() {
            return Ok(promoted);
        }
        if let Err(error) = context.broker.ring(&rings).await {
            tracing::debug!(%error, "could not ring again");
        }
        // A full fleet leaves work ready for long; that is nothing to report every two seconds.
        Ok(promoted)
    }
}
