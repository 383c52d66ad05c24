//! The queue alone: tasks that do nothing, through the functions that a worker calls, beside PostgreSQL's bare floor and the queues of others.

pub(crate) mod bare;
mod farm;
mod peers;

use anyhow::Context;
use reelmill_testkit::database::TestDatabase;

use crate::figures::quantile;
use peers::Peers;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Tasks a round.
    #[arg(long, default_value_t = 50_000)]
    tasks: usize,
    /// Rounds, in each of which everything has its turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tasks picked up one at a time on an idle queue; 0 to leave that out.
    #[arg(long, default_value_t = 1000)]
    samples: usize,
    /// Workers; also the clients of the floor and of graphile-worker.
    #[arg(long, default_value_t = 8)]
    workers: usize,
    /// Slots of each worker.
    #[arg(long, default_value_t = 1)]
    slots: usize,
    /// Without graphile-worker and Celery, which are fetched from npm and PyPI.
    #[arg(long)]
    without_peers: bool,
}

/// Between two tasks on an idle queue, in milliseconds.
const PAUSE_MS: u64 = 10;

/// Tasks per second, by name, round by round.
#[derive(Default)]
struct Rates(Vec<(&'static str, Vec<f64>)>);

impl Rates {
    fn add(&mut self, name: &'static str, rate: f64) {
        println!("  {name}: {rate:.0}/s");
        match self.0.iter_mut().find(|row| row.0 == name) {
            Some(row) => row.1.push(rate),
            None => self.0.push((name, vec![rate])),
        }
    }
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let amqp = std::env::var("REELMILL_TEST_AMQP_URL")
        .context("no RabbitMQ: run this with scripts/with-services --durable")?;
    let peers = if options.without_peers { None } else { Some(Peers::install(&amqp)?) };
    let mut rates = Rates::default();
    for round in 1..=options.rounds {
        println!("round {round} of {}, {} tasks each:", options.rounds, options.tasks);
        throughput(&options, &amqp, peers.as_ref(), &mut rates).await?;
    }
    let bare = rates.0.first().map_or(1.0, |row| quantile(&mut row.1.clone(), 0.5));
    println!("tasks per second, median of {} rounds:", options.rounds);
    for (name, values) in &mut rates.0 {
        let median = quantile(values, 0.5);
        println!("  {name}: {median:.0}, {:.2} of bare PostgreSQL", median / bare);
    }
    if options.samples > 0 {
        pickup(&options, &amqp, peers.as_ref()).await?;
    }
    Ok(())
}

async fn throughput(
    options: &Options,
    amqp: &str,
    peers: Option<&Peers>,
    rates: &mut Rates,
) -> anyhow::Result<()> {
    let database = TestDatabase::new().await;
    rates.add("bare claim and complete", bare::rate(&database.url, options.tasks, options.workers).await?);
    database.drop().await;
    for (name, each) in [("farm, one task a job", 1), ("farm, ten tasks a job", 10)] {
        rates.add(name, farm::rate(amqp, options, each).await?);
    }
    let Some(peers) = peers else { return Ok(()) };
    for (name, variant) in [("graphile-worker", "as_it_comes"), ("graphile-worker, batched", "batched")] {
        let database = TestDatabase::new().await;
        rates.add(name, peers.graphile_rate(&database.url, options.tasks, options.workers, variant)?);
        database.drop().await;
    }
    for (name, variant) in [("Celery", "as_it_comes"), ("Celery, acks_late", "acks_late")] {
        rates.add(name, peers.celery_rate(options.tasks, variant)?);
    }
    Ok(())
}

/// Milliseconds from the enqueue until a worker has the task.
pub(crate) struct Pickups {
    /// Since the enqueue was asked for.
    pub(crate) from_call: Vec<f64>,
    /// Since its commit was answered; below zero where the worker was faster than that answer.
    pub(crate) from_commit: Vec<f64>,
}

impl Pickups {
    fn tell(mut self, name: &str) {
        let [c50, c99, e50, e99] = [
            quantile(&mut self.from_commit, 0.5),
            quantile(&mut self.from_commit, 0.99),
            quantile(&mut self.from_call, 0.5),
            quantile(&mut self.from_call, 0.99),
        ];
        println!(
            "  {name} ({}): p50 {c50:.2} ms, p99 {c99:.2} ms since the commit; p50 {e50:.2} ms, p99 {e99:.2} ms with the enqueue",
            self.from_call.len()
        );
    }
}

async fn pickup(options: &Options, amqp: &str, peers: Option<&Peers>) -> anyhow::Result<()> {
    println!("picked up on an idle queue:");
    let samples = options.samples;
    for (name, workers) in [("farm, RabbitMQ, one worker", 1), ("farm, RabbitMQ, eight workers", 8)] {
        farm::pickup(Some(amqp), samples, workers, farm::POLL).await?.tell(name);
    }
    let polls =
        [("farm, no broker, poll 0.05 s", 0.05, samples), ("farm, no broker, poll 1 s", 1.0, samples / 20)];
    for (name, seconds, samples) in polls {
        farm::pickup(None, samples, 1, std::time::Duration::from_secs_f64(seconds)).await?.tell(name);
    }
    farm::empty_claim().await?;
    let Some(peers) = peers else { return Ok(()) };
    let database = TestDatabase::new().await;
    peers.graphile_pickup(&database.url, samples)?.tell("graphile-worker");
    database.drop().await;
    peers.celery_pickup(samples)?.tell("Celery");
    Ok(())
}
