//! Workers that have nothing to do but the queue: the calls that a real one makes for a task, in its order and its transactions, with no
//! FFmpeg between. Their loop is that of `worker/src/claim_loop.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reelmill_shared::broker::{Broker, Delivery, QueueKey, Subscription, ring_later};
use reelmill_shared::db::finish::{self, AttemptNote};
use reelmill_shared::db::tasks::{self, Claimant, Hold};
use reelmill_shared::db::workers::{self, Registration};
use reelmill_shared::db::{Db, DbError};
use reelmill_shared::ids::{JobId, ProjectId, WorkerId};
use reelmill_shared::job::capability::Pool;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// As a worker's default.
const LEASE: Duration = Duration::from_secs(30);

/// What the workers are and work with.
#[derive(Clone)]
pub(crate) struct Crew {
    pub(crate) db: Db,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) workers: usize,
    /// Of each worker.
    pub(crate) slots: usize,
    pub(crate) poll: Duration,
    /// How long a task takes: half to one and a half of it.
    pub(crate) work: Duration,
}

/// A claim that was answered with a task.
pub(crate) struct Taken {
    pub(crate) hold: Hold,
    pub(crate) job: JobId,
    pub(crate) project: ProjectId,
    /// From the question to the answer.
    pub(crate) took: Duration,
    pub(crate) at: Instant,
}

/// Workers at work.
pub(crate) struct Working {
    pub(crate) taken: mpsc::UnboundedReceiver<Taken>,
    /// Tasks that are over.
    pub(crate) finished: Arc<AtomicUsize>,
    over: watch::Sender<bool>,
    workers: JoinSet<anyhow::Result<()>>,
}

impl Crew {
    /// Starts all of them.
    pub(crate) async fn start(&self) -> Result<Working, DbError> {
        let (say, taken) = mpsc::unbounded_channel();
        let (over, is_over) = watch::channel(false);
        let finished = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for n in 0..self.workers {
            let claimant = self.register(n).await?;
            let worker = Worker {
                crew: self.clone(),
                claimant,
                say: say.clone(),
                finished: Arc::clone(&finished),
                over: is_over.clone(),
            };
            workers.spawn(worker.run());
        }
        Ok(Working { taken, finished, over, workers })
    }

    async fn register(&self, n: usize) -> Result<Claimant, DbError> {
        let (id, capabilities) = (WorkerId::new(), vec!["base".to_owned(), "libx264".to_owned()]);
        let registration = Registration {
            id,
            name: &format!("claimer-{n}"),
            pool: Pool::Cpu.as_str(),
            slots: self.slots as i32,
            capabilities: &capabilities,
            version: "bench",
        };
        workers::register(&self.db, &registration).await?;
        Ok(Claimant { worker_id: id, pool: Pool::Cpu, capabilities, lease: LEASE })
    }
}

impl Working {
    /// How many tasks are over.
    pub(crate) fn finished(&self) -> usize {
        self.finished.load(Ordering::Relaxed)
    }

    /// Waits until `tasks` are over.
    pub(crate) async fn reach(&mut self, tasks: usize) -> anyhow::Result<()> {
        while self.finished() < tasks {
            tokio::select! {
                Some(ended) = self.workers.join_next() => ended??,
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
        Ok(())
    }

    /// Lets them end what they have begun, and gives what they took.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Vec<Taken>> {
        let _ = self.over.send(true);
        while let Some(ended) = self.workers.join_next().await {
            ended??;
        }
        let mut all = vec![];
        while let Ok(taken) = self.taken.try_recv() {
            all.push(taken);
        }
        Ok(all)
    }
}

struct Worker {
    crew: Crew,
    claimant: Claimant,
    say: mpsc::UnboundedSender<Taken>,
    finished: Arc<AtomicUsize>,
    over: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self) -> anyhow::Result<()> {
        let slots = Arc::new(Semaphore::new(self.crew.slots));
        let nudge = Arc::new(Notify::new());
        let mut subscription: Option<Box<dyn Subscription>> = None;
        let mut rung: Option<Delivery> = None;
        let mut attempts = JoinSet::new();
        loop {
            while let Some(ended) = attempts.try_join_next() {
                ended??;
            }
            let slot = match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => {
                    subscription = None;
                    Arc::clone(&slots).acquire_owned().await?
                }
            };
            if *self.over.borrow() {
                break;
            }
            let asked = Instant::now();
            let claimed = tasks::claim(&self.crew.db, &self.claimant).await;
            let at = Instant::now();
            if let Some(delivery) = rung.take() {
                delivery.ack();
            }
            let Some(claimed) = claimed? else {
                rung = self.wait(&mut subscription, &nudge).await?;
                continue;
            };
            let (hold, job, project) = (claimed.hold, claimed.job_id, claimed.project_id);
            let _ = self.say.send(Taken { hold, job, project, took: at - asked, at });
            let (crew, finished, nudge) = (self.crew.clone(), Arc::clone(&self.finished), Arc::clone(&nudge));
            attempts.spawn(async move {
                if !crew.work.is_zero() {
                    tokio::time::sleep(about(crew.work)).await;
                }
                let followed = finish::succeed(&crew.db, &claimed, &[], &AttemptNote::default()).await?;
                ring_later(&crew.broker, followed.rings);
                finished.fetch_add(1, Ordering::Relaxed);
                drop(slot);
                nudge.notify_one();
                Ok::<(), anyhow::Error>(())
            });
        }
        while let Some(ended) = attempts.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn wait(
        &mut self,
        subscription: &mut Option<Box<dyn Subscription>>,
        nudge: &Notify,
    ) -> anyhow::Result<Option<Delivery>> {
        let Some(listening) = subscription else {
            let queues: Vec<QueueKey> = self
                .claimant
                .capabilities
                .iter()
                .map(|capability| QueueKey { pool: Pool::Cpu, capability: capability.clone() })
                .collect();
            *subscription = Some(self.crew.broker.subscribe(&queues).await?);
            // Whatever came between the last look and the subscription is seen by looking once more.
            return Ok(None);
        };
        tokio::select! {
            ring = listening.next() => return Ok(Some(ring?)),
            () = nudge.notified() => {}
            () = tokio::time::sleep(about(self.crew.poll)) => {}
            changed = self.over.changed() => changed?,
        }
        Ok(None)
    }
}

/// Anywhere from half to one and a half of it, by the clock's last digits.
fn about(time: Duration) -> Duration {
    let digits = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    time.mul_f64(0.5 + f64::from(digits / 10 % 1000) / 1000.0)
}
