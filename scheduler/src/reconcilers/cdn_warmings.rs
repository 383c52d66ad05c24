//! Lets the CDN fetch recordings ahead that have something new to play, where that is wanted. What fails is left to viewers.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::cdn::paths;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::{cdn, revocations};

use super::{Context, Duty, Failure};

pub(super) struct Warmings;

/// Recordings at a time.
const BATCH: i64 = 10;

#[async_trait]
impl Duty for Warmings {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let recordings = cdn::take_warmings(&context.db, BATCH).await?;
        let wanted = context.cdn.as_ref().filter(|client| client.config().warm_recordings);
        let Some(client) = wanted.cloned() else { return Ok(0) };
        if recordings.is_empty() || !cdn::switch(&context.db).await?.enabled {
            return Ok(0);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let config = &context.config;
        for recording in recordings {
            let signer = &config.secret.signer;
            let generation = revocations::of(&context.db, recording.0).await?;
            let (token, _) = signer.sign_bucketed(
                Purpose::PlayRecording,
                recording.0,
                now,
                config.token_lifetime,
                generation,
            );
            let paths = paths(&context.db, recording, &token).await?;
            let client = client.clone();
            // A slow CDN holds up nobody but itself.
            context.background.spawn(async move {
                let warmed = client.warm(&paths).await;
                let outcome = if warmed.is_ok() { "warmed" } else { "failed" };
                metrics::counter!("reelmill_cdn_warmings_total", "outcome" => outcome).increment(1);
                if let Err(error) = warmed {
                    tracing::warn!(%recording, %error, "the CDN did not fetch a recording ahead");
                }
            });
        }
        // Counted by outcome.
        Ok(0)
    }
}
