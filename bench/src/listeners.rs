//! What those cost who listen to the event log: the api's CPU and memory, its questions to the database, and how late an event comes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use reelmill_shared::config::DatabaseConfig;
use reelmill_shared::db::{Db, projects};
use reelmill_shared::ids::ProjectId;
use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cost::own_cpu;
use crate::figures::quantile;
use crate::memory::resident_kb;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many listen, one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "0,1,1000")]
    listeners: Vec<usize>,
    /// Events a second.
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// Until connections have come to rest: a session of PostgreSQL that is idle tells what it did after ten seconds.
const SETTLE: Duration = Duration::from_secs(11);
/// How many connect at once.
const BATCH: usize = 50;

/// When each event was committed, by its number.
type Committed = Arc<Mutex<Vec<Instant>>>;

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let mut farm = Farm::builder().processes(1, 0, 1).without_broker().start().await;
    // Its own questions to the database would count with the api's.
    for process in farm.processes.iter_mut().filter(|process| process.part == Part::Scheduler) {
        process.signal(Signal::SIGTERM);
        process.ended(SETTLE).await.context("the scheduler did not end")?;
    }
    let db = Db::new(&DatabaseConfig { url: farm.database.url.clone(), pool_size: 4 })?;
    let project = projects::ensure(&db, "default").await?;
    println!("{} events/s for {} s:", options.rate, options.seconds);
    for listeners in &options.listeners {
        measure(&farm, &db, project, *listeners, &options).await?;
    }
    db.close();
    farm.stop().await;
    Ok(())
}

async fn measure(
    farm: &Farm,
    db: &Db,
    project: ProjectId,
    listeners: usize,
    options: &Options,
) -> anyhow::Result<()> {
    let api = farm.processes.iter().find(|process| process.part == Part::Api).context("no api")?;
    let (pid, address) = (api.pid(), api.address.clone());
    let before_kb = resident_kb(pid);
    let committed: Committed = Arc::default();
    let mut connected = JoinSet::new();
    let mut streams = vec![];
    for n in 0..listeners {
        let (address, key) = (address.clone(), farm.client.key.clone());
        connected.spawn(async move { connect(&address, &key).await });
        if n % BATCH == BATCH - 1 || n + 1 == listeners {
            while let Some(stream) = connected.join_next().await {
                streams.push(stream??);
            }
        }
    }
    let mut hearing = JoinSet::new();
    for stream in streams {
        hearing.spawn(hear(stream, Arc::clone(&committed), (options.rate * options.seconds) as usize));
    }
    tokio::time::sleep(SETTLE).await;
    let each_kb = (resident_kb(pid) as f64 - before_kb as f64) / listeners.max(1) as f64;
    let (cpu, commits) = (own_cpu(pid)?, commits(db).await?);
    let begun = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / options.rate);
    let events = options.rate * options.seconds;
    for n in 0..events {
        tick.tick().await;
        tell(db, project, n, &committed).await?;
    }
    let mut delays = vec![];
    while let Some(heard) = hearing.join_next().await {
        delays.extend(heard??);
    }
    let took = begun.elapsed().as_secs_f64();
    let cpu = (own_cpu(pid)? - cpu) / took;
    tokio::time::sleep(SETTLE).await;
    let asked = (self::commits(db).await? - commits) as f64 - f64::from(events) - 1.0;
    let asked = asked.max(0.0) / begun.elapsed().as_secs_f64();
    println!("  {listeners} listeners: api {:.1} % of a core, {asked:.1} transactions/s", cpu * 100.0);
    if listeners > 0 {
        println!(
            "    an event comes after p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            quantile(&mut delays, 0.5),
            quantile(&mut delays, 0.99),
            quantile(&mut delays, 1.0)
        );
    }
    // Of a few it is lost in what the api needs for anything.
    if listeners >= BATCH {
        println!("    {each_kb:.1} kB of memory each");
    }
    Ok(())
}

/// A stream of server-sent events, its answer's head read.
async fn connect(address: &str, key: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nAccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("a listener was turned away: {}", String::from_utf8_lossy(&head));
    }
    Ok(stream)
}

/// Reads until the last event came. Milliseconds from the commit of each until it was here.
async fn hear(mut stream: TcpStream, committed: Committed, events: usize) -> anyhow::Result<Vec<f64>> {
    const MARK: &[u8] = b"\"bench\":";
    let (mut delays, mut rest) = (vec![], vec![]);
    let mut buffer = vec![0; 8192];
    while delays.len() < events {
        let read = stream.read(&mut buffer).await?;
        let now = Instant::now();
        if read == 0 {
            bail!("a stream ended after {} of {events} events", delays.len());
        }
        rest.extend_from_slice(&buffer[..read]);
        // An event ends with an empty line.
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = rest.drain(..end + 2).collect();
            let Some(at) = frame.windows(MARK.len()).position(|part| part == MARK) else { continue };
            let number = frame[at + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            let number = number.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
            let committed = committed.lock().unwrap_or_else(PoisonError::into_inner).get(number).copied();
            // Heard before the writer knew of its own commit.
            let delay = committed.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            delays.push(delay.as_secs_f64() * 1e3);
        }
    }
    Ok(delays)
}

async fn tell(db: &Db, project: ProjectId, number: u32, committed: &Committed) -> anyhow::Result<()> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "insert into events (project_id, type, data)
             values ($1, 'job.queued', jsonb_build_object('bench', $2::int8, 'job_id', gen_random_uuid(), 'kind', 'transcode'))",
        )
        .await?;
    client.execute(&statement, &[&project.0, &i64::from(number)]).await?;
    committed.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    Ok(())
}

/// Transactions of this database so far, of everybody.
async fn commits(db: &Db) -> anyhow::Result<i64> {
    let row = db
        .get()
        .await?
        .query_one("select xact_commit from pg_stat_database where datname = current_database()", &[])
        .await?;
    Ok(row.get(0))
}
