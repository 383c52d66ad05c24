//! What splitting a source gains and costs: wall time of two workers pinned to a core each against one, CPU and quality against the
//! same ladder in one plain FFmpeg command, memory, and how soon it could be played.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use reelmill_testkit::farm::Part;
use reelmill_testkit::{Client, Farm};
use serde_json::{Value, json};

use crate::cost::{children_cpu, footage, plain_command, plain_cost};
use crate::memory::Peak;
use crate::quality::{Quality, compare};

/// Frames per second and seconds of a GOP of the footage.
const RATE: f64 = 25.0;
const GOP_SECONDS: f64 = 2.0;

/// Length of the chunks, so that both farms make the same plan of a source that is long enough for both.
const CHUNK_SECONDS: u32 = 60;

struct Milled {
    wall: f64,
    cpu: f64,
    playable: f64,
    peak_mb: f64,
    job: Value,
    /// Video renditions, best first: name and file.
    renditions: Vec<(String, PathBuf)>,
}

/// Measures `seconds` of footage with this profile.
pub(crate) async fn run(seconds: u32, profile: &str) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let source = footage(dir.path(), seconds)?;
    let one = mill(dir.path(), &source, profile, 1).await?;
    println!("one worker:  {:.1} s wall, {:.1} CPU s", one.wall, one.cpu);
    let two = mill(dir.path(), &source, profile, 2).await?;
    println!("two workers: {:.1} s wall, {:.1} CPU s", two.wall, two.cpu);
    let plain = plain_cost(&plain_command(&two.job, &source, dir.path())?)?;
    println!("plain FFmpeg: {:.1} s wall, {:.1} CPU s", plain.wall, plain.cpu);

    println!(
        "{seconds} s of 720p footage, profile {profile}, one thread a task, chunks of {CHUNK_SECONDS} s:"
    );
    println!("  wall, two workers against one:           {:.3}", two.wall / one.wall);
    println!("  CPU, one worker against plain FFmpeg:    {:.3}", one.cpu / plain.cpu);
    println!("  CPU, two workers against plain FFmpeg:   {:.3}", two.cpu / plain.cpu);
    println!("  from submission to playable:             {:.2} s, {:.2} s", one.playable, two.playable);
    println!("  peak memory of a worker and its FFmpeg:  {:.0} MB, {:.0} MB", one.peak_mb, two.peak_mb);
    let same = one
        .renditions
        .iter()
        .zip(&two.renditions)
        .all(|(a, b)| std::fs::read(&a.1).ok() == std::fs::read(&b.1).ok());
    let (of_one, seams) = (seams(&one.job)?, seams(&two.job)?);
    let told = match (of_one == seams, same) {
        (true, true) => "yes",
        (true, false) => "NO",
        // The planner looks at the slots there are.
        (false, _) => "not to be told: so short a source is cut otherwise for two workers",
    };
    println!("  the same bytes in both runs:             {told}");
    println!(
        "  {} seams, at {seams:?} s; against plain FFmpeg, both measured against the source:",
        seams.len()
    );
    for (index, (name, file)) in two.renditions.iter().enumerate() {
        let split = compare(file, &source)?;
        let whole = compare(&plain_output(dir.path(), index)?, &source)?;
        report(name, &split, &whole, &seams)?;
    }
    Ok(())
}

fn report(name: &str, split: &Quality, whole: &Quality, seams: &[f64]) -> anyhow::Result<()> {
    let after: Vec<f64> = seams
        .iter()
        .map(|seam| {
            let first = (seam * RATE).round() as usize;
            let frames = first..(first + (RATE / 2.0) as usize);
            Ok(split.psnr(frames.clone())? - whole.psnr(frames)?)
        })
        .collect::<anyhow::Result<_>>()?;
    let worst = after.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = after.iter().sum::<f64>() / after.len().max(1) as f64;
    println!(
        "  {name}: {} and {} frames; mean PSNR {:+.3} dB, SSIM {:+.5}, size {:.3}; the half second after a seam {mean:+.2} dB \
         on average, {worst:+.2} dB at worst",
        split.frames(),
        whole.frames(),
        split.psnr(0..split.frames())? - whole.psnr(0..whole.frames())?,
        split.ssim - whole.ssim,
        split.bytes as f64 / whole.bytes as f64,
    );
    Ok(())
}

/// A farm of `workers` workers with one slot each, each pinned to a core of its own.
async fn mill(dir: &Path, source: &Path, profile: &str, workers: usize) -> anyhow::Result<Milled> {
    let farm = Farm::builder()
        .processes(1, workers, 1)
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_ENCODE_THREADS", 1)
        .set("REELMILL_CHUNK_SECONDS", CHUNK_SECONDS)
        .set("REELMILL_LEASE_SECONDS", 60)
        .start()
        .await;
    let pids: Vec<i32> =
        farm.processes.iter().filter(|process| process.part == Part::Worker).map(|p| p.pid()).collect();
    for (core, pid) in pids.iter().enumerate() {
        pin(*pid, core)?;
    }
    let upload = farm.client.upload(source).await;
    let before = children_cpu(&farm)?;
    let peak = Peak::of(&pids);
    let body =
        json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": profile, "force": true });
    let job = farm.client.post("/jobs", &body).await;
    let job = ended(&farm.client, job["id"].as_str().context("a job has an id")?).await?;
    let peak_mb = peak.stop();
    let cpu = children_cpu(&farm)? - before;
    let seconds = |field: &str| job["timings"][field].as_f64().with_context(|| format!("timings.{field}"));
    let (wall, playable) = (seconds("total")?, seconds("playable")?);
    let recording = job["recording_id"].as_str().context("a job has a recording")?;
    let renditions = download(&farm.client, recording, &dir.join(format!("{workers}-workers"))).await?;
    farm.stop().await;
    Ok(Milled { wall, cpu, playable, peak_mb, job, renditions })
}

/// All threads of a process, and with them whatever it starts.
fn pin(pid: i32, core: usize) -> anyhow::Result<()> {
    let done = Command::new("taskset").args(["-acp", &core.to_string(), &pid.to_string()]).output()?;
    if !done.status.success() {
        bail!("taskset: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

async fn ended(client: &Client, id: &str) -> anyhow::Result<Value> {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let job = client.get(&format!("/jobs/{id}")).await;
        match job["status"].as_str() {
            Some("queued" | "running") => {}
            Some("succeeded") => return Ok(job),
            _ => bail!("the job failed: {}", job["error"]),
        }
    }
}

/// Init and media segments of each video rendition in one file.
async fn download(client: &Client, recording: &str, dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    std::fs::create_dir_all(dir)?;
    let master = client.play_url(recording).await;
    let base = master.rsplit_once('/').context("a URL has slashes")?.0.to_owned();
    let recording = client.get(&format!("/recordings/{recording}")).await;
    let mut files = vec![];
    for rendition in recording["renditions"].as_array().context("renditions")? {
        if rendition["kind"] != "video" {
            continue;
        }
        let name = rendition["name"].as_str().context("a rendition has a name")?;
        let playlist = client.text(&format!("{base}/{name}.m3u8")).await;
        let init =
            playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")?.strip_suffix('"'));
        let mut bytes = client.bytes(&format!("{base}/{}", init.context("an init segment")?)).await;
        for segment in playlist.lines().filter(|line| !line.starts_with('#')) {
            bytes.extend(client.bytes(&format!("{base}/{segment}")).await);
        }
        let file = dir.join(format!("{name}.mp4"));
        std::fs::write(&file, bytes)?;
        files.push((name.to_owned(), file));
    }
    Ok(files)
}

/// Where chunks meet, from the commands that made them: each begins a warm-up before its first frame.
fn seams(job: &Value) -> anyhow::Result<Vec<f64>> {
    let mut seams = vec![];
    for task in job["tasks"].as_array().context("a job has tasks")? {
        if task["kind"] != "encode" {
            continue;
        }
        let words = task["command"].as_array().context("an encode has a command")?;
        let graph = words.iter().filter_map(Value::as_str).find(|word| word.contains("start_time="));
        let start =
            graph.and_then(|graph| graph.split("start_time=").nth(1)?.split(':').next()?.parse().ok());
        let start: f64 = start.context("an encode starts somewhere")?;
        if start > 0.0 {
            seams.push(start + GOP_SECONDS);
        }
    }
    seams.sort_by(f64::total_cmp);
    Ok(seams)
}

/// The file of the plain command's rung `index`.
fn plain_output(dir: &Path, index: usize) -> anyhow::Result<PathBuf> {
    let mut files: Vec<(usize, PathBuf)> = vec![];
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.strip_prefix("plain-")?.parse().ok());
        files.extend(number.map(|number| (number, path)));
    }
    files.sort();
    Ok(files.into_iter().nth(index).context("plain FFmpeg made fewer rungs")?.1)
}
