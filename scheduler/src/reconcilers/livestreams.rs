//! Looks after live streams that nobody carries: none goes on claiming to be live.

use std::time::Duration;

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::live;

use super::{Context, Duty, Failure};

pub(super) struct Livestreams;

/// A worker that was told of the end stores its last segments in this time.
const LAST_SEGMENTS: Duration = Duration::from_secs(60);

#[async_trait]
impl Duty for Livestreams {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        let abandoned = live::abandoned(&context.db, leadership, context.config.live_grace).await?;
        for (livestream, became) in &abandoned {
            tracing::info!(%livestream, ?became, "looked after a live stream that nobody carries");
        }
        let unfinished = live::unfinished(&context.db, LAST_SEGMENTS).await?;
        for broadcast in &unfinished {
            live::finalize(&context.db, *broadcast).await?;
        }
        Ok((abandoned.len() + unfinished.len()) as u64)
    }
}
