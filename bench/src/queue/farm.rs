//! The farm's own queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use reelmill_shared::broker::{self, Broker, Ring, ring_later};
use reelmill_shared::config::{BrokerConfig, DatabaseConfig};
use reelmill_shared::db::{Db, jobs, migrate, tasks};
use reelmill_shared::ids::WorkerId;
use reelmill_shared::job::capability::Pool;
use reelmill_testkit::database::TestDatabase;

use super::{Options, PAUSE_MS, Pickups};
use crate::claimer::Crew;
use crate::figures::quantile;
use crate::rows::{self, Customer};

/// A worker's default.
pub(super) const POLL: Duration = Duration::from_secs(10);

async fn open(clients: usize) -> anyhow::Result<(TestDatabase, Db)> {
    let database = TestDatabase::new().await;
    let db = Db::new(&DatabaseConfig { url: database.url.clone(), pool_size: clients as u32 })?;
    migrate::migrate(&db).await?;
    Ok((database, db))
}

/// Rings as a farm with one RabbitMQ has them, under a name of their own.
fn bell(amqp: Option<&str>) -> Arc<dyn Broker> {
    let prefix = format!("reelmill-bench-{}", WorkerId::new());
    broker::open(&BrokerConfig { url: amqp.map(str::to_owned), prefix, quorum: false })
}

/// Tasks per second, of jobs with `each` tasks. All are queued before the first is claimed.
pub(super) async fn rate(amqp: &str, options: &Options, each: usize) -> anyhow::Result<f64> {
    let (workers, slots) = (options.workers, options.slots);
    let (database, db) = open(workers * slots + 2).await?;
    Customer::new(&db, "default").await?;
    rows::queue(&db, (options.tasks / each) as i64, each as i64).await?;
    let tasks = options.tasks / each * each;
    let crew =
        Crew { db: db.clone(), broker: bell(Some(amqp)), workers, slots, poll: POLL, work: Duration::ZERO };
    let begun = Instant::now();
    let mut working = crew.start().await?;
    working.reach(tasks).await?;
    let rate = tasks as f64 / begun.elapsed().as_secs_f64();
    working.stop().await?;
    db.close();
    database.drop().await;
    Ok(rate)
}

/// Jobs of one task, submitted one at a time to workers that wait.
pub(super) async fn pickup(
    amqp: Option<&str>,
    samples: usize,
    workers: usize,
    poll: Duration,
) -> anyhow::Result<Pickups> {
    let (database, db) = open(workers * 2 + 2).await?;
    let customer = Customer::new(&db, "default").await?;
    let broker = bell(amqp);
    let crew =
        Crew { db: db.clone(), broker: Arc::clone(&broker), workers, slots: 2, poll, work: Duration::ZERO };
    let mut working = crew.start().await?;
    // The job that came with the project.
    working.taken.recv().await.context("the workers ended")?;
    let mut pickups = Pickups { from_call: vec![], from_commit: vec![] };
    let warm_up = 20.min(samples);
    for n in 0..samples + warm_up {
        tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
        let job = customer.job(1)?;
        let rings: Vec<Ring> = job.tasks.iter().map(Ring::from).collect();
        let called = Instant::now();
        jobs::submit(&db, customer.project, &job).await?;
        let committed = Instant::now();
        ring_later(&broker, rings);
        let taken = working.taken.recv().await.context("the workers ended")?;
        if taken.job != job.id {
            anyhow::bail!("another job was claimed than the one that was submitted");
        }
        let milliseconds = |from: Instant| match taken.at.checked_duration_since(from) {
            Some(later) => later.as_secs_f64() * 1e3,
            None => -((from - taken.at).as_secs_f64() * 1e3),
        };
        // Over before the next one is submitted, as on an idle farm.
        working.reach(n + 2).await?;
        if n >= warm_up {
            pickups.from_call.push(milliseconds(called));
            pickups.from_commit.push(milliseconds(committed));
        }
    }
    working.stop().await?;
    db.close();
    database.drop().await;
    Ok(pickups)
}

/// What it costs to look where there is nothing: what a short poll is paid with.
pub(super) async fn empty_claim() -> anyhow::Result<()> {
    let (database, db) = open(2).await?;
    let mut took = vec![];
    let claimant = tasks::Claimant {
        worker_id: WorkerId::new(),
        pool: Pool::Cpu,
        capabilities: vec!["base".to_owned(), "libx264".to_owned()],
        lease: POLL,
    };
    for _ in 0..500 {
        let asked = Instant::now();
        tasks::claim(&db, &claimant).await?;
        took.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "  a look at an empty queue: p50 {:.2} ms, p99 {:.2} ms",
        quantile(&mut took, 0.5),
        quantile(&mut took, 0.99)
    );
    db.close();
    database.drop().await;
    Ok(())
}
