//! The heartbeat of all streams that are carried, in one statement.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use reelmill_shared::db::{DbError, live};
use tokio::time::timeout;
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
        studio.tidy();
        let channels = studio.channels();
        if channels.is_empty() {
            continue;
        }
        // Whoever raises an epoch raises that of the lease with it; seen in between it would look lost.
        let _settled = studio.epochs.lock().await;
        let holds: Vec<_> = channels.iter().map(|channel| channel.hold()).collect();
        let renewing = async {
            let renewed = live::renew(&studio.db, studio.carrier.worker, &holds, lease).await?;
            let on_air = channels.iter().filter(|channel| channel.running.load(Ordering::Acquire));
            let on_air: Vec<_> =
                on_air.map(|channel| channel.hold()).filter(|hold| renewed.contains(hold)).collect();
            live::still_on_air(&studio.db, &on_air).await?;
            Ok::<_, DbError>(renewed)
        };
        match timeout(lease / 2, renewing).await {
            Ok(Ok(renewed)) => {
                let renewed: HashSet<_> = renewed.into_iter().collect();
                for (channel, hold) in channels.into_iter().zip(holds) {
                    if !renewed.contains(&hold) {
                        let studio = Arc::clone(&studio);
                        tokio::spawn(async move { studio.lose(&channel, hold).await });
                    }
                }
            }
            // Nobody else can take it either while the database is away, and viewers need none.
            Ok(Err(error)) => tracing::warn!(%error, "could not renew the leases of live streams"),
            Err(_) => tracing::warn!("the leases of live streams were not renewed in time"),
        }
    }
}
