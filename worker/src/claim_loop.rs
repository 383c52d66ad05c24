//! Takes work while a slot is free: when rung, and every few seconds without.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use reelmill_shared::broker::{Broker, Delivery, QueueKey, Subscription};
use reelmill_shared::db::DbError;
use reelmill_shared::db::tasks::{self, Claimant, Claimed};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempt::{self, Attempt};
use crate::beat::Holds;
use crate::scratch::Scratch;
use crate::tasks::Shop;

/// What the loop needs.
pub(crate) struct ClaimLoop {
    pub(crate) shop: Arc<Shop>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) claimant: Claimant,
    pub(crate) queues: Vec<QueueKey>,
    pub(crate) scratch: Arc<Scratch>,
    pub(crate) holds: Holds,
    pub(crate) tasks: TaskTracker,
}

/// From when work is taken until what was taken is over.
pub(crate) struct Shift {
    /// Cancelled when no more work is to be taken.
    pub(crate) over: CancellationToken,
    /// Cancelled when tasks must be given back.
    pub(crate) give_back: CancellationToken,
}

/// After a claim that the database did not answer, or that brought what this worker does not understand.
const PAUSE: Duration = Duration::from_millis(500);

impl ClaimLoop {
    /// Claims until the shift is over.
    pub(crate) async fn run(&self, shift: &Shift) {
        let Shift { over, give_back } = shift;
        let slots = Arc::new(Semaphore::new(self.shop.config.slots as usize));
        let nudge = Arc::new(Notify::new());
        let mut subscription: Option<Box<dyn Subscription>> = None;
        let mut rung: Option<Delivery> = None;
        loop {
            let slot = match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => {
                    // Busy: rings are for those who have a slot.
                    subscription = None;
                    tokio::select! {
                        slot = Arc::clone(&slots).acquire_owned() => match slot {
                            Ok(slot) => slot,
                            Err(_) => return,
                        },
                        () = over.cancelled() => return,
                    }
                }
            };
            if over.is_cancelled() {
                return;
            }
            let asked = Instant::now();
            let claimed = tasks::claim(&self.shop.db, &self.claimant).await;
            // Acknowledged at the claim, never at the end: the broker does not wait for an encode.
            if let Some(delivery) = rung.take() {
                delivery.ack();
            }
            match claimed {
                Ok(Some(claimed)) => {
                    self.start(claimed, asked, slot, &nudge, give_back);
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "could not look for work");
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        () = over.cancelled() => return,
                    }
                    // Behind it there may be work that this worker does understand.
                    if matches!(error, DbError::Orders(..)) {
                        continue;
                    }
                }
            }
            rung = self.wait(&mut subscription, &nudge, over).await;
        }
    }

    /// Waits for a ring, a nudge from a task of this worker, or the next look.
    async fn wait(
        &self,
        subscription: &mut Option<Box<dyn Subscription>>,
        nudge: &Notify,
        over: &CancellationToken,
    ) -> Option<Delivery> {
        if subscription.is_none() {
            match self.broker.subscribe(&self.queues).await {
                Ok(new) => *subscription = Some(new),
                Err(error) => tracing::debug!(%error, "no rings; looking every few seconds instead"),
            }
            // Whatever came between the last look and the subscription is seen by looking once more.
            if subscription.is_some() {
                return None;
            }
        }
        let jitter = rand::rng().random_range(0.5..1.5);
        let poll = self.shop.config.poll.mul_f64(jitter);
        let ring = async {
            match subscription {
                Some(listening) => listening.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ring = ring => match ring {
                Ok(delivery) => return Some(delivery),
                Err(error) => {
                    tracing::debug!(%error, "the subscription ended");
                    *subscription = None;
                    // A broker that comes and goes must not make this loop spin.
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        () = over.cancelled() => {}
                    }
                }
            },
            () = nudge.notified() => {}
            () = sleep(poll) => {}
            () = over.cancelled() => {}
        }
        None
    }

    fn start(
        &self,
        claimed: Claimed,
        asked: Instant,
        slot: OwnedSemaphorePermit,
        nudge: &Arc<Notify>,
        give_back: &CancellationToken,
    ) {
        metrics::histogram!("reelmill_task_wait_seconds", "kind" => claimed.spec.kind().as_str())
            .record(claimed.waited.as_secs_f64());
        let stop = self.holds.add(claimed.hold, asked);
        let attempt = Attempt {
            shop: Arc::clone(&self.shop),
            broker: Arc::clone(&self.broker),
            scratch: Arc::clone(&self.scratch),
            give_back: give_back.clone(),
            claimed,
            stop,
        };
        let (holds, nudge) = (self.holds.clone(), Arc::clone(nudge));
        self.tasks.spawn(async move {
            let hold = attempt.claimed.hold;
            match attempt::run(attempt).await {
                Ok(()) => {}
                Err(DbError::LostRace) => {
                    tracing::info!(task_id = %hold.task_id, epoch = hold.epoch, "somebody else has this task; dropped");
                }
                Err(error) => {
                    tracing::error!(%error, task_id = %hold.task_id, epoch = hold.epoch, "could not report a task's end");
                }
            }
            holds.remove(hold);
            drop(slot);
            nudge.notify_one();
        });
    }
}
