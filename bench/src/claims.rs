//! Many claimers on a queue of a million tasks: how long a claim takes, whether two ever get the same task, who gets how much; and what a
//! long history and an old snapshot do to the rate.

mod held;
mod scans;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reelmill_shared::broker::{self, Broker};
use reelmill_shared::config::{BrokerConfig, DatabaseConfig};
use reelmill_shared::db::{Db, migrate};
use reelmill_testkit::database::TestDatabase;

use crate::claimer::{Crew, Taken};
use crate::figures::quantile;
use crate::rows::{self, Customer};

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Tasks in the queue, and jobs in the history.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: i64,
    #[arg(long, default_value_t = 50)]
    projects: usize,
    /// Workers of one slot that claim at once.
    #[arg(long, default_value_t = 64)]
    claimers: usize,
    /// How long a task takes where the order is looked at, in milliseconds.
    #[arg(long, default_value_t = 200)]
    work_ms: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Alternating rounds of the rate with and without a history.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Workers where the rate is looked at: as in `queue`.
const WORKERS: usize = 8;
/// Weights of the projects, by turns; every tenth project may run one task at a time.
const WEIGHTS: [u32; 5] = [1, 1, 1, 2, 4];

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let (database, db) = open(options.claimers).await?;
    let begun = Instant::now();
    let customers = crowd(&db, &options).await?;
    println!("{} tasks of {} projects made in {:.0?}", options.tasks, options.projects, begun.elapsed());
    scans::tell(&db, customers[0].project).await?;
    order(&db, &options, &customers).await?;
    few(&options).await?;
    let full = crew(&db, options.claimers, Duration::ZERO);
    let (rate, taken) = rate(&full, options.seconds).await?;
    let mut claims = milliseconds(&taken);
    println!(
        "{} claimers without a pause: {rate:.0} tasks/s, claim p50 {:.2} ms, p99 {:.2} ms; given twice: {} of {}",
        options.claimers,
        quantile(&mut claims, 0.5),
        quantile(&mut claims, 0.99),
        twice(&taken),
        taken.len()
    );
    history(&options).await?;
    held::run(&db, &crew(&db, WORKERS, Duration::ZERO), options.seconds).await?;
    db.close();
    database.drop().await;
    Ok(())
}

async fn open(clients: usize) -> anyhow::Result<(TestDatabase, Db)> {
    let database = TestDatabase::new().await;
    let db = Db::new(&DatabaseConfig { url: database.url.clone(), pool_size: clients as u32 + 4 })?;
    migrate::migrate(&db).await?;
    Ok((database, db))
}

/// Nobody waits here, so nobody needs to be rung.
fn silence() -> Arc<dyn Broker> {
    broker::open(&BrokerConfig { url: None, prefix: String::new(), quorum: false })
}

fn crew(db: &Db, workers: usize, work: Duration) -> Crew {
    Crew { db: db.clone(), broker: silence(), workers, slots: 1, poll: Duration::from_secs(1), work }
}

/// Projects of several weights, some of them limited, with the same number of jobs each.
async fn crowd(db: &Db, options: &Options) -> anyhow::Result<Vec<Customer>> {
    let mut customers = vec![];
    for n in 0..options.projects {
        customers.push(Customer::new(db, &format!("project-{n}")).await?);
    }
    let client = db.get().await?;
    for (n, customer) in customers.iter().enumerate() {
        let limit = (n % 10 == 9).then_some(1);
        client
            .execute(
                "update projects set weight = $2::int, max_running = $3 where id = $1",
                &[&customer.project.0, &(WEIGHTS[n % WEIGHTS.len()] as i32), &limit],
            )
            .await?;
    }
    drop(client);
    rows::queue(db, options.tasks / options.projects as i64 - 1, 1).await?;
    Ok(customers)
}

/// The same with few projects, so that each has several slots: between many, which all have a slot before one has two, weight says little.
async fn few(options: &Options) -> anyhow::Result<()> {
    let (database, db) = open(options.claimers).await?;
    let few = Options { tasks: 20_000.min(options.tasks), projects: WEIGHTS.len(), ..options.clone() };
    let customers = crowd(&db, &few).await?;
    println!("{} projects:", few.projects);
    order(&db, &few, &customers).await?;
    db.close();
    database.drop().await;
    Ok(())
}

/// Who gets how much while all slots are held, whether a claim is ever given twice, and whether a limit is ever passed.
async fn order(db: &Db, options: &Options, customers: &[Customer]) -> anyhow::Result<()> {
    let working = crew(db, options.claimers, Duration::from_millis(options.work_ms)).start().await?;
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let mut most_over = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let row = db
            .get()
            .await?
            .query_one(
                "select count(*) from (select 1 from task_leases l join projects p on p.id = l.project_id
                 group by p.id having count(*) > p.max_running) as passed",
                &[],
            )
            .await?;
        most_over = most_over.max(row.get::<_, i64>(0));
    }
    let taken = working.stop().await?;
    let mut claims = milliseconds(&taken);
    println!(
        "{} claimers, tasks of about {} ms: {} claims, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        options.claimers,
        options.work_ms,
        taken.len(),
        quantile(&mut claims, 0.5),
        quantile(&mut claims, 0.99),
        quantile(&mut claims, 1.0)
    );
    println!("  given twice: {}; projects beyond their limit: {most_over}", twice(&taken));
    shares(customers, &taken);
    Ok(())
}

/// Claims of a task that was claimed before: none was lost or given back, so each must be its first.
fn twice(taken: &[Taken]) -> usize {
    let tasks: HashSet<_> = taken.iter().map(|taken| taken.hold.task_id).collect();
    let again = taken.iter().filter(|taken| taken.hold.epoch != 1).count();
    taken.len() - tasks.len() + again
}

fn shares(customers: &[Customer], taken: &[Taken]) {
    let mut got: HashMap<_, usize> = HashMap::new();
    for taken in taken {
        *got.entry(taken.project).or_default() += 1;
    }
    let free = |n: usize| n % 10 != 9;
    for weight in [1, 2, 4] {
        let of_weight =
            customers.iter().enumerate().filter(|(n, _)| free(*n) && WEIGHTS[n % WEIGHTS.len()] == weight);
        let mut counts: Vec<f64> =
            of_weight.map(|(_, customer)| got.get(&customer.project).copied().unwrap_or(0) as f64).collect();
        let mean = counts.iter().sum::<f64>() / counts.len().max(1) as f64;
        println!(
            "  weight {weight}: {} projects got {mean:.1} tasks on average ({:.1} for each point of weight), {:.0} to {:.0}",
            counts.len(),
            mean / f64::from(weight),
            quantile(&mut counts, 0.0),
            quantile(&mut counts, 1.0)
        );
    }
    let mut limited: Vec<f64> = customers
        .iter()
        .enumerate()
        .filter(|(n, _)| !free(*n))
        .map(|(_, customer)| got.get(&customer.project).copied().unwrap_or(0) as f64)
        .collect();
    if !limited.is_empty() {
        println!(
            "  weight 4, one at a time: {} projects got {:.0} at the median",
            limited.len(),
            quantile(&mut limited, 0.5)
        );
    }
}

/// Tasks per second, and the claims.
async fn rate(crew: &Crew, seconds: u64) -> anyhow::Result<(f64, Vec<Taken>)> {
    let begun = Instant::now();
    let working = crew.start().await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let rate = working.finished() as f64 / begun.elapsed().as_secs_f64();
    Ok((rate, working.stop().await?))
}

/// From the question to the answer of each.
fn milliseconds(taken: &[Taken]) -> Vec<f64> {
    taken.iter().map(|taken| taken.took.as_secs_f64() * 1e3).collect()
}

/// The rate on tables that hold the past of as many jobs, and on tables that do not.
async fn history(options: &Options) -> anyhow::Result<()> {
    let enough = (options.tasks / 10).max(1000);
    let (young, young_db) = open(WORKERS).await?;
    let (old, old_db) = open(WORKERS).await?;
    for db in [&young_db, &old_db] {
        Customer::new(db, "default").await?;
    }
    rows::history(&old_db, options.tasks).await?;
    let mut rates = (vec![], vec![]);
    for _ in 0..options.rounds {
        for (db, rates) in [(&young_db, &mut rates.0), (&old_db, &mut rates.1)] {
            rows::queue(db, enough, 1).await?;
            rates.push(rate(&crew(db, WORKERS, Duration::ZERO), options.seconds / 2).await?.0);
        }
    }
    let (young_rate, old_rate) = (quantile(&mut rates.0, 0.5), quantile(&mut rates.1, 0.5));
    println!(
        "{WORKERS} workers: {young_rate:.0} tasks/s in a new farm, {old_rate:.0}/s after {} jobs: {:.2} (each the median of {} rounds)",
        options.tasks,
        old_rate / young_rate,
        options.rounds
    );
    for (database, db) in [(young, young_db), (old, old_db)] {
        db.close();
        database.drop().await;
    }
    Ok(())
}
