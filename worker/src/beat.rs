//! The heartbeat: all leases of this worker in one statement. Leases run on the database's clock; this side only knows, on its
//! own monotonic clock, when the last beat was answered, and stops its work early rather than late.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reelmill_shared::db::tasks::Hold;
use reelmill_shared::db::workers::{self, WorkerState};
use reelmill_shared::db::{Db, leases};
use reelmill_shared::ids::WorkerId;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The leases this worker holds.
#[derive(Clone)]
pub(crate) struct Holds {
    held: Arc<Mutex<HashMap<Hold, Held>>>,
    lease: Duration,
}

struct Held {
    stop: CancellationToken,
    renewed: Instant,
}

/// Beats in a lease.
const BEATS: u32 = 4;
/// Presence is told at least this often, whatever the lease.
const PRESENCE: Duration = Duration::from_secs(15);
/// How soon a worker knows that somebody wants it to take nothing more, or work again.
const LOOK: Duration = Duration::from_secs(1);

impl Holds {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { held: Arc::default(), lease }
    }

    /// Keeps a fresh lease alive that was asked for at `asked`; the token is cancelled when it is lost.
    pub(crate) fn add(&self, hold: Hold, asked: Instant) -> CancellationToken {
        let stop = CancellationToken::new();
        self.lock().insert(hold, Held { stop: stop.clone(), renewed: asked });
        stop
    }

    pub(crate) fn remove(&self, hold: Hold) {
        self.lock().remove(&hold);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Hold, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Hold> {
        self.lock().keys().copied().collect()
    }

    /// Notes what a beat that was sent at `sent` has renewed, out of `asked`.
    fn renewed(&self, asked: &[Hold], standing: &std::collections::HashSet<Hold>, sent: Instant) {
        let mut held = self.lock();
        for hold in asked {
            let Some(entry) = held.get_mut(hold) else { continue };
            if standing.contains(hold) {
                entry.renewed = sent;
            } else {
                entry.stop.cancel();
            }
        }
    }

    /// Stops what nobody has confirmed for three quarters of a lease.
    fn stop_overdue(&self) {
        let overdue = self.lease.mul_f64(0.75);
        for (hold, entry) in self.lock().iter() {
            if entry.renewed.elapsed() > overdue && !entry.stop.is_cancelled() {
                tracing::warn!(task_id = %hold.task_id, "no answer to the heartbeat; stopping before the lease ends");
                entry.stop.cancel();
            }
        }
    }
}

/// Beats until `stop`, and says in `may_work` whether the farm wants the worker to work. While it does not, and once `leaving` is
/// cancelled, the worker is listed as draining.
pub(crate) async fn run(
    db: Db,
    id: WorkerId,
    holds: Holds,
    may_work: watch::Sender<bool>,
    leaving: CancellationToken,
    stop: CancellationToken,
) {
    // Side by side: a database that hangs in one must not keep the others from their times.
    let beats = async {
        tokio::join!(
            renew(&db, id, &holds),
            presence(&db, id, &holds, &may_work, &leaving),
            stop_in_time(&holds)
        )
    };
    tokio::select! {
        _ = beats => {}
        () = stop.cancelled() => {}
    }
}

async fn renew(db: &Db, id: WorkerId, holds: &Holds) {
    let beat = holds.lease / BEATS;
    let mut tick = interval(beat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let asked = holds.all();
        if asked.is_empty() {
            continue;
        }
        let sent = Instant::now();
        match timeout(beat, leases::renew(db, id, &asked, holds.lease)).await {
            Ok(Ok(standing)) => holds.renewed(&asked, &standing, sent),
            Ok(Err(error)) => tracing::warn!(%error, "a heartbeat failed"),
            Err(_) => tracing::warn!("a heartbeat was not answered in time"),
        }
    }
}

/// Stops what is overdue, on a clock of its own.
async fn stop_in_time(holds: &Holds) {
    let mut tick = interval(holds.lease / 20);
    loop {
        tick.tick().await;
        holds.stop_overdue();
    }
}

async fn presence(
    db: &Db,
    id: WorkerId,
    holds: &Holds,
    may_work: &watch::Sender<bool>,
    leaving: &CancellationToken,
) {
    let every = PRESENCE.min(holds.lease / BEATS);
    let mut told = None;
    loop {
        let works = *may_work.borrow() && !leaving.is_cancelled();
        let state = if works { WorkerState::Active } else { WorkerState::Draining };
        let due =
            told.is_none_or(|(at, before): (Instant, WorkerState)| at.elapsed() >= every || before != state);
        let answer = if due {
            timeout(every, workers::touch(db, id, state)).await
        } else {
            timeout(every, workers::may_work(db, id)).await
        };
        if let Ok(Ok(may)) = answer {
            told = if due { Some((Instant::now(), state)) } else { told };
            may_work.send_if_modified(|known| std::mem::replace(known, may) != may);
        }
        tokio::select! {
            () = sleep(LOOK.min(every / 2)) => {}
            () = leaving.cancelled(), if !leaving.is_cancelled() => {}
        }
    }
}
