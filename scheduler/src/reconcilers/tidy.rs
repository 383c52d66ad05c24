//! Forgets what has served its time: kept answers, uploads that were abandoned or never used, stale progress, workers long gone,
//! what was seen of livestreams, who watched, and players that left.

use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::{
    abr, distribution, idempotency, livestream_events, livestream_figures, progress, revocations, uploads,
    viewers, viewing, workers,
};

use super::{Context, Duty, Failure};

pub(super) struct Tidy;

/// Workers that went away are shown, with what they did, for so long.
const WORKERS: Duration = Duration::from_secs(30 * 24 * 3600);

/// Figures and events of livestreams, and viewers, are kept for so long.
const LIVE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How recordings were watched hour by hour is kept for so long.
const HOURS: TimeDelta = TimeDelta::days(180);
/// Rows of each of them, and sessions of players, deleted at a time.
const LIVE_BATCH: i64 = 20_000;

/// Sources deleted at a time.
const BATCH: i64 = 1000;

#[async_trait]
impl Duty for Tidy {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        // Each deletes by age alone: run twice, or by two leaders, it does the same.
        let answers = idempotency::delete_old(&context.db).await?;
        let idle = context.config.upload_idle;
        let uploads = uploads::delete_abandoned(&context.db, idle).await?
            + uploads::delete_unused(&context.db, idle, BATCH).await?;
        let stale = progress::delete_stale(&context.db).await?;
        let gone = workers::delete_gone(&context.db, WORKERS).await?;
        let live = livestream_figures::delete_old(&context.db, LIVE, LIVE_BATCH).await?
            + livestream_events::delete_old(&context.db, LIVE, LIVE_BATCH).await?
            + viewers::delete_old(&context.db, LIVE, LIVE_BATCH).await?;
        let days = distribution::delete_old(&context.db, 2 * LIVE).await?;
        let tokens = revocations::delete_over(&context.db).await?;
        let players = abr::delete_old(&context.db, LIVE_BATCH).await?;
        let sums = viewing::delete_old_hours(&context.db, HOURS, LIVE_BATCH).await?;
        Ok(answers + uploads + stale + gone + live + days + tokens + players + sums)
    }
}
