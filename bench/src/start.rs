//! Submit to FFmpeg started. A small program stands in for `ffmpeg` on the workers' PATH: it notes the time, then becomes the real one.
//! So the figure ends where FFmpeg's own process begins, and holds everything before: HTTP, both commits, the ring, the claim.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
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

/// Measures `jobs` submissions, one after the other, on an otherwise idle farm.
pub(crate) async fn run(jobs: usize, without_broker: bool) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = stage(dir.path())?;
    let mut builder = Farm::builder().set("PATH", path.display()).set("REELMILL_POLL_SECONDS", 10);
    if without_broker {
        builder = builder.without_broker();
    } else if std::env::var_os("REELMILL_TEST_AMQP_URL").is_none() {
        bail!("no RabbitMQ: run this with scripts/with-services, or give --without-broker");
    }
    let farm = builder.start().await;
    let clip = media::clip(dir.path(), 10, "320x180");
    let recording = farm.client.transcode(&clip, &json!("fast")).await;
    let recording = recording["id"].as_str().context("a recording has an id")?.to_owned();

    let times = dir.path().join("bin").join(TIMES);
    let warm_up = 20;
    let mut latencies = vec![];
    for n in 0..jobs + warm_up {
        std::fs::write(&times, "")?;
        let picture = json!({ "time": (n % 100) as f64 / 20.0, "width": 64 + n % 200 });
        let body = json!({ "kind": "thumbnail", "input": { "recording_id": recording }, "picture": picture });
        let sent = nanoseconds();
        let job = farm.client.post("/jobs", &body).await;
        let started = first_time(&times).await?;
        farm.client.wait_for(job["id"].as_str().context("a job has an id")?).await;
        if n >= warm_up {
            latencies.push((started.saturating_sub(sent)) as f64 / 1e6);
        }
    }
    farm.stop().await;
    let broker = if without_broker { "no broker" } else { "RabbitMQ" };
    println!("submit to FFmpeg started, {jobs} thumbnail jobs, idle farm, {broker}:");
    for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
        println!("  {name} {:.2} ms", quantile(&mut latencies, q));
    }
    Ok(())
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

/// A PATH whose `ffmpeg` is the stand-in.
fn stage(dir: &Path) -> anyhow::Result<PathBuf> {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin)?;
    for (name, link) in [("ffmpeg", REAL), ("ffprobe", "ffprobe")] {
        let found = which(name).with_context(|| format!("{name} is not installed"))?;
        std::os::unix::fs::symlink(found, bin.join(link))?;
    }
    std::os::unix::fs::symlink(std::env::current_exe()?.with_file_name(STAND_IN), bin.join("ffmpeg"))?;
    Ok(bin)
}

fn which(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|file| file.is_file())
}
