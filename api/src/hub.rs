//! One tail of the event log for all listeners of this process.

use std::sync::Arc;
use std::time::Duration;

use reelmill_shared::db::events::{self, Event, Position};
use reelmill_shared::db::{Db, DbError};
use tokio::sync::{Notify, broadcast};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often the log is looked at while somebody listens, and while nobody does.
const POLL: Duration = Duration::from_millis(150);
const IDLE: Duration = Duration::from_secs(2);
/// A listener that falls further behind than this reads from the log again.
const BACKLOG: usize = 4096;
const BATCH: i64 = 1000;

/// The tail.
#[derive(Clone)]
pub struct Hub {
    events: broadcast::Sender<Arc<Event>>,
    nudge: Arc<Notify>,
}

impl Hub {
    /// Starts the tail at the present end of the log; it ends with `shutdown`.
    ///
    /// It never loses its place, with listeners or without: whoever subscribes and then reads the log misses nothing.
    pub async fn start(db: Db, shutdown: CancellationToken) -> Result<Self, DbError> {
        let position = events::end(&db).await?;
        let (events, _) = broadcast::channel(BACKLOG);
        let hub = Self { events, nudge: Arc::default() };
        let tailing = hub.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tailing.tail(&db, position) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Ok(hub)
    }

    /// Events from now on. Read the log for what was before, after subscribing, and pass over what comes twice.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        let receiver = self.events.subscribe();
        self.nudge.notify_one();
        receiver
    }

    async fn tail(&self, db: &Db, mut position: Position) {
        loop {
            let pause = if self.events.receiver_count() > 0 { POLL } else { IDLE };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.nudge.notified() => {}
            }
            match events::after(db, position, BATCH).await {
                Ok(batch) => {
                    for event in batch {
                        position = event.position;
                        // Fails only without listeners.
                        let _ = self.events.send(Arc::new(event));
                    }
                }
                Err(error) => tracing::warn!(%error, "could not read the event log"),
            }
        }
    }
}
