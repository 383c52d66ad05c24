//! Many broadcasts at once on one worker: how regularly their parts come, alone and beside one that is too much for the machine.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use reelmill_testkit::farm::Part;
use reelmill_testkit::media;
use serde_json::{Value, json};
use tokio::process::Command;

use super::feed::{Completed, Heard};
use crate::cost::own_cpu;
use crate::figures::quantile;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many are on air at once.
    #[arg(long, default_value_t = 20)]
    broadcasts: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// The small picture.
const RUNG: &str = "240p";

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let small = dir.path().join("small.mp4");
    let footage = media::footage().context("no test media")?;
    let source = footage.join("bbb-720p25-h264-aac.mp4");
    encode(&source, &["-vf", "scale=426:240"], &small).await?;
    let large = dir.path().join("large.mp4");
    encode(&source, &["-vf", "scale=1920:1080,fps=50"], &large).await?;
    let farm = super::farm().start().await;
    let db = super::database(&farm)?;
    let settings = json!({
        "resolutions": [RUNG], "segment_duration": 4, "keyframe_interval": 2, "part_duration": 1.0,
    });
    let mut on_air = vec![];
    for _ in 0..options.broadcasts {
        let stream = super::on_air(&farm, &db, &settings, &small).await?;
        let heard = Heard::listen(stream.id, &stream.origin)?;
        on_air.push((stream, heard));
    }
    let worker = farm.processes.iter().find(|process| process.part == Part::Worker).context("no worker")?;
    println!("{} broadcasts of {RUNG} at 25 pictures a second, parts of 1 s:", options.broadcasts);
    measure("alone", &on_air, worker.pid(), &options).await?;
    let too_much = json!({ "resolutions": ["1080p", "720p", "480p", "360p"], "segment_duration": 4 });
    let hog = super::on_air(&farm, &db, &too_much, &large).await?;
    let heavy = Heard::listen(hog.id, &hog.origin)?;
    measure("beside four rungs of 1080p50", &on_air, worker.pid(), &options).await?;
    let came = heavy.all("1080p");
    if let [first, .., last] = came.as_slice() {
        let took = last.at.duration_since(first.at).as_secs_f64();
        println!("  that one came at {:.2} of real time", (last.end - first.end) / took);
    }
    for (stream, _) in &on_air {
        let state: Value = farm.client.get(&format!("/livestreams/{}", stream.id)).await;
        if state["status"] != "live" {
            bail!("{} is {}", stream.id, state["status"]);
        }
    }
    drop(on_air);
    drop(hog);
    db.close();
    farm.stop().await;
    Ok(())
}

async fn measure(
    what: &str,
    on_air: &[(super::OnAir, Heard)],
    worker: i32,
    options: &Options,
) -> anyhow::Result<()> {
    let (begun, cpu) = (std::time::Instant::now(), own_cpu(worker)?);
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let took = begun.elapsed().as_secs_f64();
    let share = (own_cpu(worker)? - cpu) / took * 100.0;
    let (mut late, mut slowest) = (vec![], f64::INFINITY);
    for (_, heard) in on_air {
        let came: Vec<Completed> = heard.all(RUNG).into_iter().filter(|part| part.at >= begun).collect();
        let (Some(first), Some(last)) = (came.first(), came.last()) else {
            bail!("a broadcast stands still")
        };
        let at = |part: &Completed| part.at.duration_since(first.at).as_secs_f64() - (part.end - first.end);
        let earliest = came.iter().map(at).fold(f64::INFINITY, f64::min);
        late.extend(came.iter().map(|part| (at(part) - earliest) * 1e3));
        slowest = slowest.min((last.end - first.end) / last.at.duration_since(first.at).as_secs_f64());
    }
    println!(
        "  {what}: a part comes later than the earliest of its stream by p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms",
        quantile(&mut late, 0.5),
        quantile(&mut late, 0.99),
        quantile(&mut late, 1.0)
    );
    println!(
        "    the slowest came at {slowest:.3} of real time; the worker without its FFmpegs {share:.1} % of a core"
    );
    Ok(())
}

/// Ten seconds that a publisher may copy.
async fn encode(source: &Path, filter: &[&str], to: &Path) -> anyhow::Result<()> {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-t", "10", "-i"])
        .arg(source)
        .args(filter)
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "50", "-c:a", "copy"])
        .arg(to)
        .stderr(Stdio::inherit())
        .status()
        .await?;
    if !status.success() {
        bail!("could not make a source");
    }
    Ok(())
}
