//! Tells the CDN what it has to forget. What it was not told waits, however long.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use reelmill_shared::db::cdn;
use reelmill_shared::db::leader::Leadership;

use super::{Context, Duty, Failure};

pub(super) struct Purges;

/// Keys of one call; CDNs take 30 (Cloudflare) to 256 (Fastly), and ours is a hook that may divide them.
const BATCH: i64 = 100;
/// It goes on next time after so long.
const RUN: Duration = Duration::from_secs(5);
/// Of those that nobody is to be told of.
const DROPPED: i64 = 10_000;

#[async_trait]
impl Duty for Purges {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let db = &context.db;
        let Some(client) = context.cdn.as_ref().filter(|client| client.config().purge_url.is_some()) else {
            cdn::drop_some(db, DROPPED).await?;
            return Ok(0);
        };
        let (mut done, began) = (0, Instant::now());
        // Whoever wants this program to stop does not wait for all of it.
        while began.elapsed() < RUN {
            let due = cdn::due(db, BATCH).await?;
            if due.is_empty() {
                break;
            }
            let mut keys: Vec<String> = due.iter().map(|purge| purge.surrogate_key.clone()).collect();
            keys.sort_unstable();
            keys.dedup();
            let told = client.purge(&keys).await;
            let outcome = if told.is_ok() { "purged" } else { "failed" };
            metrics::counter!("reelmill_cdn_purges_total", "outcome" => outcome).increment(keys.len() as u64);
            if let Err(error) = told {
                tracing::warn!(%error, keys = keys.len(), "could not tell the CDN what to forget; it is tried again");
                cdn::unpurged(db, &due).await?;
                break;
            }
            cdn::purged(db, &due).await?;
            done += keys.len() as u64;
        }
        Ok(done)
    }
}
