//! The heartbeat of all streams that are carried, in one statement.

use std::collections::HashSet;
use std::sync::Arc;

use reelmill_shared::db::live;
use tokio_util::sync::CancellationToken;

use super::studio::Studio;

/// Renews the leases three times in their length, until `stop`. Streams that somebody else has by now are let go.
pub(crate) async fn run(studio: Arc<Studio>, stop: CancellationToken) {
    let lease = studio.carrier.lease;
    loop {
        tokio::select! {
            () = tokio::time::sleep(lease / 3) => {}
            () = stop.cancelled() => return,
        }
        let channels = studio.channels();
        if channels.is_empty() {
            continue;
        }
        let holds: Vec<_> = channels.iter().map(|channel| channel.hold()).collect();
        match live::renew(&studio.db, studio.carrier.worker, &holds, lease).await {
            Ok(renewed) => {
                let renewed: HashSet<_> = renewed.into_iter().collect();
                for (channel, hold) in channels.iter().zip(&holds) {
                    // It may have been taken again here since it was asked for.
                    if !renewed.contains(hold) && channel.hold() == *hold {
                        studio.lose(channel).await;
                    }
                }
            }
            // Nobody else can take it either while the database is away, and viewers need none.
            Err(error) => tracing::warn!(%error, "could not renew the leases of live streams"),
        }
    }
}
