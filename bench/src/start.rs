//! Submit to FFmpeg started. A small program stands in for `ffmpeg` on the workers' PATH: it notes the time, then becomes the real one.
//! So the figure ends where FFmpeg's own process begins, and holds everything before: HTTP, both commits, the ring, the claim.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use reelmill_shared::broker::{self, Broker, QueueKey, Ring, Subscription, ring_later};
use reelmill_shared::config::{BrokerConfig, DatabaseConfig};
use reelmill_shared::db::idempotency::{self, Answer};
use reelmill_shared::db::{Db, projects};
use reelmill_shared::ids::ProjectId;
use reelmill_shared::job::capability::{Capability, Pool};
use reelmill_testkit::{Farm, media};
use serde_json::json;

use crate::figures::quantile;

/// Beside the stand-in: where the real program is, and where the times go. The stand-in knows these names.
const REAL: &str = "real-ffmpeg";
const TIMES: &str = "times";
/// The stand-in, beside this program.
const STAND_IN: &str = "reelmill-bench-stand-in";

fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Measures `jobs` submissions, one after the other, on an otherwise idle farm, and the floor in turn with them.
pub(crate) async fn run(jobs: usize, without_broker: bool) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = stage(dir.path(), "bin", &which("ffmpeg")?)?;
    let mut builder = Farm::builder().set("PATH", path.display()).set("REELMILL_POLL_SECONDS", 10);
    let amqp = std::env::var("REELMILL_TEST_AMQP_URL").ok().filter(|_| !without_broker);
    if without_broker {
        builder = builder.without_broker();
    } else if amqp.is_none() {
        bail!("no RabbitMQ: run this with scripts/with-services, or give --without-broker");
    }
    let farm = builder.start().await;
    let clip = media::clip(dir.path(), 10, "320x180");
    let recording = farm.client.transcode(&clip, &json!("fast")).await;
    let recording = recording["id"].as_str().context("a recording has an id")?.to_owned();
    let mut floor = match amqp {
        Some(url) => Some(Floor::new(&farm, &url, dir.path()).await?),
        None => None,
    };

    let times = path.join(TIMES);
    let warm_up = 20;
    let (mut latencies, mut floors) = (vec![], vec![]);
    for n in 0..jobs + warm_up {
        std::fs::write(&times, "")?;
        let picture = json!({ "time": (n % 100) as f64 / 20.0, "width": 64 + n % 200 });
        let body = json!({ "kind": "thumbnail", "input": { "recording_id": recording }, "picture": picture });
        let sent = nanoseconds();
        let job = farm.client.post("/jobs", &body).await;
        let started = first_time(&times).await?;
        farm.client.wait_for(job["id"].as_str().context("a job has an id")?).await;
        let bare = match &mut floor {
            Some(floor) => floor.once(n).await?,
            None => 0.0,
        };
        if n >= warm_up {
            latencies.push((started.saturating_sub(sent)) as f64 / 1e6);
            floors.push(bare);
        }
    }
    farm.stop().await;
    let broker = if without_broker { "no broker" } else { "RabbitMQ" };
    println!("submit to FFmpeg started, {jobs} thumbnail jobs, idle farm, {broker}:");
    for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
        let (farm, bare) = (quantile(&mut latencies, q), quantile(&mut floors, q));
        match &floor {
            Some(_) => println!("  {name} {farm:.2} ms, {:.2} of the floor's {bare:.2} ms", farm / bare),
            None => println!("  {name} {farm:.2} ms"),
        }
    }
    Ok(())
}

/// The least that any farm of this shape must do, in one process and without HTTP: a row is committed, a ring goes through the
/// broker, a row is changed and committed, a program is started.
struct Floor {
    db: Db,
    project: ProjectId,
    broker: Arc<dyn Broker>,
    subscription: Box<dyn Subscription>,
    program: PathBuf,
    times: PathBuf,
}

impl Floor {
    async fn new(farm: &Farm, amqp: &str, dir: &Path) -> anyhow::Result<Self> {
        let db = Db::new(&DatabaseConfig { url: farm.database.url.clone(), pool_size: 2 })?;
        let project = projects::ensure(&db, "default").await?;
        let prefix = "reelmill-bench-floor".to_owned();
        let broker = broker::open(&BrokerConfig { url: Some(amqp.to_owned()), prefix, quorum: false });
        let queue = QueueKey { pool: Pool::Cpu, capability: Capability::Base.to_string() };
        let subscription = broker.subscribe(&[queue]).await?;
        let bin = stage(dir, "floor", &which("true")?)?;
        Ok(Self { db, project, broker, subscription, program: bin.join("ffmpeg"), times: bin.join(TIMES) })
    }

    /// Milliseconds of one round.
    async fn once(&mut self, n: usize) -> anyhow::Result<f64> {
        std::fs::write(&self.times, "")?;
        let key = format!("floor-{n}");
        let ring = Ring {
            pool: Pool::Cpu,
            class: Capability::Base.to_string(),
            job_id: None,
            task_id: None,
            traceparent: None,
        };
        let answer = Answer { status: 200, content_type: None, location: None, body: vec![] };
        let sent = nanoseconds();
        idempotency::begin(&self.db, self.project, &key, &[0; 32]).await?;
        ring_later(&self.broker, vec![ring]);
        let delivery = self.subscription.next().await?;
        idempotency::complete(&self.db, self.project, &key, &answer).await?;
        let mut child = tokio::process::Command::new(&self.program).spawn()?;
        let started = first_time(&self.times).await?;
        delivery.ack();
        child.wait().await?;
        Ok(started.saturating_sub(sent) as f64 / 1e6)
    }
}

async fn first_time(times: &Path) -> anyhow::Result<u128> {
    for _ in 0..30_000 {
        let text = std::fs::read_to_string(times)?;
        if let Some(line) = text.lines().next().filter(|_| text.ends_with('\n')) {
            return Ok(line.parse()?);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("FFmpeg was not started within 30 s")
}

/// A PATH whose `ffmpeg` is the stand-in for `real`.
fn stage(dir: &Path, name: &str, real: &Path) -> anyhow::Result<PathBuf> {
    let bin = dir.join(name);
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(real, bin.join(REAL))?;
    std::os::unix::fs::symlink(which("ffprobe")?, bin.join("ffprobe"))?;
    std::os::unix::fs::symlink(std::env::current_exe()?.with_file_name(STAND_IN), bin.join("ffmpeg"))?;
    Ok(bin)
}

fn which(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not installed"))
}
