//! One tail of the event log, and one look at progress, for all listeners of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reelmill_shared::db::events::{self, Event, Position};
use reelmill_shared::db::progress::{self, Changed};
use reelmill_shared::db::{Db, DbError};
use reelmill_shared::ids::{JobId, TaskId};
use tokio::sync::{Notify, broadcast};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// How often the log is looked at while somebody listens, and while nobody does.
const POLL: Duration = Duration::from_millis(150);
const IDLE: Duration = Duration::from_secs(2);
/// A listener that falls further behind than this reads from the log again.
const BACKLOG: usize = 4096;
const BATCH: i64 = 1000;
/// How often the progress of the jobs that somebody watches is looked at.
const PROGRESS: Duration = Duration::from_millis(500);
/// What was written before another row was and committed after it may be so much older.
const LATE: TimeDelta = TimeDelta::seconds(2);
/// Changes of one job that a slow listener may be behind; it misses the older ones, which mean nothing any more.
const CHANGES: usize = 256;

/// The tail.
#[derive(Clone)]
pub struct Hub {
    events: broadcast::Sender<Arc<Event>>,
    nudge: Arc<Notify>,
    watched: Arc<Mutex<HashMap<JobId, broadcast::Sender<Arc<Changed>>>>>,
}

impl Hub {
    /// Starts the tail at the present end of the log; it ends with `shutdown`.
    ///
    /// It never loses its place, with listeners or without: whoever subscribes and then reads the log misses nothing.
    pub async fn start(db: Db, shutdown: CancellationToken) -> Result<Self, DbError> {
        let position = events::end(&db).await?;
        let (events, _) = broadcast::channel(BACKLOG);
        let hub = Self { events, nudge: Arc::default(), watched: Arc::default() };
        let tailing = hub.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tailing.tail(&db, position) => {}
                () = tailing.look(&db) => {}
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

    /// Changes of a job's progress from now on.
    pub(crate) fn watch(&self, job: JobId) -> broadcast::Receiver<Arc<Changed>> {
        self.watched().entry(job).or_insert_with(|| broadcast::channel(CHANGES).0).subscribe()
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<JobId, broadcast::Sender<Arc<Changed>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One statement for all watched jobs, however many watch them.
    async fn look(&self, db: &Db) {
        let mut tick = interval(PROGRESS);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut since = DateTime::UNIX_EPOCH;
        let mut told: HashMap<TaskId, DateTime<Utc>> = HashMap::new();
        loop {
            tick.tick().await;
            let jobs: Vec<JobId> = {
                let mut watched = self.watched();
                watched.retain(|_, listeners| listeners.receiver_count() > 0);
                watched.keys().copied().collect()
            };
            if jobs.is_empty() {
                continue;
            }
            match progress::changed_since(db, &jobs, since - LATE).await {
                Ok(changes) => {
                    // By the clock of the database.
                    since = changes.last().map_or(since, |change| change.updated_at.max(since));
                    told.retain(|_, at| *at > since - LATE * 2);
                    for change in changes {
                        if told.insert(change.task_id, change.updated_at) == Some(change.updated_at) {
                            continue;
                        }
                        if let Some(listeners) = self.watched().get(&change.job_id) {
                            // Fails only without listeners.
                            let _ = listeners.send(Arc::new(change));
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "could not read progress"),
            }
        }
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
