//! Segments on their way to the store and the segment index, in order, beside the viewers who watch them already.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reelmill_shared::db::live::{self, LiveSegment, OnAir};
use reelmill_shared::db::{Db, DbError};
use reelmill_shared::storage::Storage;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::channel::Channel;

/// Takes segments that are to be kept.
pub(crate) struct Shelf {
    sender: mpsc::UnboundedSender<(OnAir, LiveSegment, Bytes)>,
    storing: JoinHandle<()>,
}

/// How long the end of a run waits for what is not stored yet.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts at the same.
const PAUSE: Duration = Duration::from_millis(500);
/// Then it is lost. A database that is away for longer than this has other worries.
const ATTEMPTS: u32 = 1200;
/// After so many it is told as a gap, so that memory does not fill with what cannot be stored.
const TO_STORE: u32 = 10;
/// An attempt to store a segment may take so long.
const PUT: Duration = Duration::from_secs(10);

impl Shelf {
    pub(crate) fn open(db: Db, storage: Storage, channel: Arc<Channel>) -> Self {
        let (sender, mut segments) = mpsc::unbounded_channel();
        let storing = tokio::spawn(async move {
            while let Some((on_air, segment, bytes)) = segments.recv().await {
                store(&db, &storage, &channel, &on_air, segment, bytes).await;
            }
        });
        Self { sender, storing }
    }

    /// Puts a segment down; it is stored as soon as those before it are.
    pub(crate) fn put(&self, on_air: &OnAir, segment: LiveSegment, bytes: Bytes) {
        // The other end goes only when this one does.
        let _ = self.sender.send((on_air.clone(), segment, bytes));
    }

    /// Waits until all is stored, for a while.
    pub(crate) async fn close(self) {
        drop(self.sender);
        let mut storing = self.storing;
        if timeout(PATIENCE, &mut storing).await.is_err() {
            tracing::warn!("the end of a live run was not stored in time");
            storing.abort();
        }
    }
}

async fn store(
    db: &Db,
    storage: &Storage,
    channel: &Channel,
    on_air: &OnAir,
    mut segment: LiveSegment,
    bytes: Bytes,
) {
    let mut stored = false;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            sleep(PAUSE).await;
        }
        if !stored && !segment.gap {
            let put = timeout(PUT, storage.put(&segment.key, bytes.clone())).await;
            let put = put
                .map_err(|_| "it took too long".to_owned())
                .and_then(|it| it.map_err(|error| error.to_string()));
            match put {
                Ok(()) => stored = true,
                Err(error) => {
                    tracing::warn!(%error, livestream = %channel.livestream, number = segment.number, "could not store a live segment");
                    // What cannot be kept is told as lost, so that those behind it can be.
                    segment.gap = attempt + 1 >= TO_STORE;
                    continue;
                }
            }
        }
        match live::publish(db, on_air, std::slice::from_ref(&segment)).await {
            Ok(()) | Err(DbError::LostRace) => return,
            Err(error) => {
                tracing::warn!(%error, livestream = %channel.livestream, number = segment.number, "could not publish a live segment");
            }
        }
    }
    tracing::error!(livestream = %channel.livestream, number = segment.number, "a live segment is lost");
}
