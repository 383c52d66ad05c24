//! What a whole job costs, against the same ladder in one plain FFmpeg command in its best form: one decode, one split graph, one
//! thread, audio in the same command.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{DateTime, FixedOffset};
use reelmill_testkit::farm::Part;
use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use crate::figures::quantile;

/// Linux counts process times in hundredths of a second.
const TICKS: f64 = 100.0;

pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
    /// Of the farm's programs alone, without what they started.
    own: Vec<(&'static str, f64)>,
}

/// As often as a patient client asks. Every question costs the api about a millisecond.
const ASK: Duration = Duration::from_millis(500);

/// Measures pairs in turn, so that a machine that changes its speed changes both.
pub(crate) async fn run(pairs: usize, seconds: u32) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let source = footage(dir.path(), seconds)?;
    let farm = Farm::builder()
        .set("REELMILL_ENCODE_THREADS", 1)
        .set("REELMILL_CHUNK_SECONDS", 86_400)
        .set("REELMILL_LEASE_SECONDS", 60)
        .start()
        .await;
    // Once to warm up and to learn the exact command.
    let job = transcode(&farm, &source).await?;
    let plain = plain_command(&job, &source, dir.path())?;

    let mut ratios = (vec![], vec![]);
    for pair in 1..=pairs {
        let milled = farm_cost(&farm, &source).await?;
        let bare = plain_cost(&plain)?;
        println!(
            "pair {pair}: farm {:.2} CPU s, {:.2} s wall; plain FFmpeg {:.2} CPU s, {:.2} s wall",
            milled.cpu, milled.wall, bare.cpu, bare.wall
        );
        let own: Vec<String> = milled.own.iter().map(|(name, cpu)| format!("{name} {cpu:.2}")).collect();
        println!("  of it the farm's own programs: {} CPU s", own.join(", "));
        ratios.0.push(milled.cpu / bare.cpu);
        ratios.1.push(milled.wall / bare.wall);
    }
    farm.stop().await;
    println!("{seconds} s of 720p footage, profile web (three rungs), x264 medium, one thread:");
    println!("  CPU, farm against plain FFmpeg:  median {:.3}", quantile(&mut ratios.0, 0.5));
    println!("  wall, farm against plain FFmpeg: median {:.3}", quantile(&mut ratios.1, 0.5));
    Ok(())
}

/// Real footage, repeated without encoding it again.
pub(crate) fn footage(dir: &Path, seconds: u32) -> anyhow::Result<std::path::PathBuf> {
    let clip = media::footage().context("no test media")?.join("bbb-720p25-h264-aac.mp4");
    let long = dir.join("source.mp4");
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-stream_loop", "-1", "-i"])
        .arg(clip)
        .args(["-t", &seconds.to_string(), "-c", "copy"])
        .arg(&long)
        .status()?;
    if !status.success() {
        bail!("could not make the source");
    }
    Ok(long)
}

async fn transcode(farm: &Farm, source: &Path) -> anyhow::Result<Value> {
    let upload = farm.client.upload(source).await;
    let body =
        json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "web", "force": true });
    let job = farm.client.post("/jobs", &body).await;
    Ok(farm.client.wait_for(job["id"].as_str().context("a job has an id")?).await)
}

/// From the submission to the end. Counts the farm's own processes and their children; the database and the broker serve others too.
async fn farm_cost(farm: &Farm, source: &Path) -> anyhow::Result<Cost> {
    let upload = farm.client.upload(source).await;
    let before = cpu_of(farm)?;
    let body =
        json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "web", "force": true });
    let job = farm.client.post("/jobs", &body).await;
    let id = job["id"].as_str().context("a job has an id")?;
    let job = loop {
        tokio::time::sleep(ASK).await;
        let job = farm.client.get(&format!("/jobs/{id}")).await;
        match job["status"].as_str() {
            Some("queued" | "running") => {}
            Some("succeeded") => break job,
            _ => bail!("the job failed: {}", job["error"]),
        }
    };
    let after = cpu_of(farm)?;
    let time = |field: &str| -> anyhow::Result<DateTime<FixedOffset>> {
        Ok(DateTime::parse_from_rfc3339(job[field].as_str().context("a finished job has its times")?)?)
    };
    let wall = (time("finished_at")? - time("created_at")?).as_seconds_f64();
    let own =
        before.iter().zip(&after).map(|(before, after)| (before.name, after.own - before.own)).collect();
    let total = |all: &[ProcessCpu]| all.iter().map(|process| process.own + process.children).sum::<f64>();
    Ok(Cost { cpu: total(&after) - total(&before), wall, own })
}

/// Of all the farm's processes and what they started.
pub(crate) fn children_cpu(farm: &Farm) -> anyhow::Result<f64> {
    Ok(cpu_of(farm)?.iter().map(|process| process.own + process.children).sum())
}

/// Seconds of CPU so far: its own, and of children that were waited for.
pub(crate) struct ProcessCpu {
    pub(crate) name: &'static str,
    pub(crate) own: f64,
    pub(crate) children: f64,
}

pub(crate) fn cpu_of(farm: &Farm) -> anyhow::Result<Vec<ProcessCpu>> {
    farm.processes
        .iter()
        .map(|process| {
            let name = match process.part {
                Part::Api => "api",
                Part::Worker => "worker",
                Part::Scheduler => "scheduler",
            };
            let [user, system, child_user, child_system] = times(&format!("/proc/{}/stat", process.pid()))?;
            Ok(ProcessCpu { name, own: user + system, children: child_user + child_system })
        })
        .collect()
}

/// Seconds of CPU that a process took so far, without its children.
pub(crate) fn own_cpu(pid: i32) -> anyhow::Result<f64> {
    let [user, system, ..] = times(&format!("/proc/{pid}/stat"))?;
    Ok(user + system)
}

/// Seconds of user and system time, its own and of children that were waited for.
fn times(stat: &str) -> anyhow::Result<[f64; 4]> {
    let stat = std::fs::read_to_string(stat)?;
    let (_, fields) = stat.rsplit_once(')').context("an odd /proc/stat")?;
    let ticks: Vec<f64> =
        fields.split_whitespace().skip(11).take(4).map(str::parse).collect::<Result<_, _>>()?;
    let ticks: [f64; 4] = ticks.try_into().ok().context("an odd /proc/stat")?;
    Ok(ticks.map(|ticks| ticks / TICKS))
}

/// The command of the encode of the whole source, without what the farm adds around it, with the audio in the same run. Of a source that
/// was cut it is that of the first chunk, made to go on to the end.
pub(crate) fn plain_command(job: &Value, source: &Path, dir: &Path) -> anyhow::Result<Vec<String>> {
    let tasks = job["tasks"].as_array().context("a job has tasks")?;
    // The lead has fewer rungs than any chunk.
    let rungs = |task: &Value| task["renditions"].as_array().map_or(0, Vec::len);
    let encodes = tasks.iter().filter(|task| task["kind"] == "encode");
    let most = encodes.clone().map(rungs).max().unwrap_or(0);
    let encode = encodes.clone().find(|task| rungs(task) == most).context("the job has an encode")?;
    let words: Vec<String> = encode["command"]
        .as_array()
        .context("the encode has a command")?
        .iter()
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect();
    let filter = words.iter().position(|word| word == "-filter_complex").context("a filter graph")?;
    let mut plain: Vec<String> = [
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-filter_threads",
        "1",
        "-filter_complex_threads",
        "1",
        "-threads",
        "1",
        "-i",
    ]
    .map(str::to_owned)
    .to_vec();
    plain.push(source.display().to_string());
    let cut = encodes.clone().count() > 1;
    let mut rest = words[filter..].iter().enumerate();
    while let Some((n, word)) = rest.next() {
        if word.starts_with("file:") {
            plain.push(dir.join(format!("plain-{n}.mp4")).display().to_string());
        } else if cut && word == "-fs" {
            // The size a chunk may have.
            rest.next();
        } else {
            plain.push(if cut { unlimited(word) } else { word.clone() });
        }
    }
    plain.extend(
        ["-map", "0:a:0", "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-threads", "1"].map(str::to_owned),
    );
    plain.push(dir.join("plain-audio.mp4").display().to_string());
    Ok(plain)
}

/// A graph that begins with the first frame of every rung and ends with the last of the source.
fn unlimited(graph: &str) -> String {
    let kept = |filter: &&str| !filter.starts_with("trim=") && !filter.starts_with("tpad=");
    let chain = |chain: &str| {
        let mut filters = chain;
        while let Some((_, rest)) = filters.strip_prefix('[').and_then(|label| label.split_once(']')) {
            filters = rest;
        }
        let (labels, filters) = chain.split_at(chain.len() - filters.len());
        labels.to_owned() + &filters.split(',').filter(kept).collect::<Vec<_>>().join(",")
    };
    graph.split(';').map(chain).collect::<Vec<_>>().join(";")
}

pub(crate) fn plain_cost(args: &[String]) -> anyhow::Result<Cost> {
    let before = own_children()?;
    let started = Instant::now();
    let status = Command::new("ffmpeg").args(args).status()?;
    if !status.success() {
        bail!("plain FFmpeg failed");
    }
    Ok(Cost { cpu: own_children()? - before, wall: started.elapsed().as_secs_f64(), own: vec![] })
}

/// CPU of this process's children that were waited for. The farm's processes are not among them while they run.
fn own_children() -> anyhow::Result<f64> {
    let [_, _, user, system] = times("/proc/self/stat")?;
    Ok(user + system)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_graph_loses_its_limits_and_nothing_else() {
        let graph = "[0:0]fps=25,trim=end_frame=300,split=2[a][b];[a]trim=start_frame=150,scale=w=640[x];[b]scale=w=1280[y]";
        let whole = "[0:0]fps=25,split=2[a][b];[a]scale=w=640[x];[b]scale=w=1280[y]";
        assert_eq!(super::unlimited(graph), whole);
    }
}
