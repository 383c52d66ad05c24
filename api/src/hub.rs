//! One tail of the event log for all listeners of this process. Polls only while somebody listens.

use std::sync::Arc;
use std::time::Duration;

use reelmill_shared::db::Db;
use reelmill_shared::db::events::{self, Event, Position};
use tokio::sync::broadcast;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often the log is looked at while somebody listens.
const POLL: Duration = Duration::from_millis(150);
/// A listener that falls further behind than this reads from the log again.
const BACKLOG: usize = 4096;
const BATCH: i64 = 1000;

/// The tail.
#[derive(Clone)]
pub struct Hub {
    events: broadcast::Sender<Arc<Event>>,
}

impl Hub {
    /// Starts the tail; it ends with `shutdown`.
    pub fn start(db: Db, shutdown: CancellationToken) -> Self {
        let (events, _) = broadcast::channel(BACKLOG);
        let hub = Self {
            events: events.clone(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = tail(&db, &events) => {}
                () = shutdown.cancelled() => {}
            }
        });
        hub
    }

    /// Events from now on. Read the log for what was before, after subscribing, and pass over what comes twice.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }
}

async fn tail(db: &Db, events: &broadcast::Sender<Arc<Event>>) {
    let mut position: Option<Position> = None;
    loop {
        sleep(POLL).await;
        if events.receiver_count() == 0 {
            // Whoever comes next starts from the end as it is then, and reads the rest from the log.
            position = None;
            continue;
        }
        let from = match position {
            Some(position) => position,
            None => match events::end(db).await {
                Ok(end) => end,
                Err(error) => {
                    tracing::warn!(%error, "could not find the end of the event log");
                    continue;
                }
            },
        };
        position = Some(from);
        match events::after(db, from, BATCH).await {
            Ok(batch) => {
                for event in batch {
                    position = Some(event.position);
                    // Fails only without listeners.
                    let _ = events.send(Arc::new(event));
                }
            }
            Err(error) => tracing::warn!(%error, "could not read the event log"),
        }
    }
}
