//! What it costs to play footage by its time: an hour of it remuxed to MPEG-TS, against FFmpeg that copies the same to one file, and how long
//! the playlist of a day takes.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use reelmill_testkit::Farm;
use serde_json::{Value, json};

use crate::cost::{cpu_of, footage, plain_cost};

/// Settings of `footage`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Minutes that are remuxed.
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Segments of two seconds in the long playlist.
    #[arg(long, default_value_t = 20_000)]
    segments: u32,
}

const MINUTE: u32 = 60;
/// Of a minute.
const SEGMENTS: u32 = MINUTE / 2;
/// Players at once.
const PLAYERS: usize = 2;

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let source = footage(dir.path(), MINUTE)?;
    // Nothing is made once and served again.
    let farm = Farm::builder().set("REELMILL_TS_CACHE_BYTES", 0).start().await;
    let upload = farm.client.upload(&source).await;
    let rung = json!({ "name": "720p", "width": 1280, "height": 720, "crf": 24, "max_bitrate": 3_000_000 });
    let profile = json!({ "segment_duration": 2, "preset": "veryfast", "rungs": [rung] });
    let body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": profile });
    let job = farm.client.post("/jobs", &body).await;
    let job = farm.client.wait_for(job["id"].as_str().context("a job has an id")?).await;
    ensure!(job["status"] == "succeeded", "the job failed: {}", job["error"]);
    let camera = farm.client.post("/livestreams", &json!({ "title": "camera" })).await;
    let minutes = options.minutes.max(options.segments.div_ceil(SEGMENTS));
    let began = import(&farm, &camera, &job["recording_id"], minutes).await?;
    println!("{minutes} minutes of 720p footage, the same one over and over, in segments of two seconds:");

    let long = opened(&farm, &camera, began, options.segments.div_ceil(SEGMENTS)).await?;
    println!("  {} segments: the session in {:?}", long.session["segment_count"], long.took);
    let (first, bytes) = timed(&long.url).await?;
    let (again, _) = timed(&long.url).await?;
    println!("  its playlist, {bytes} bytes: the first time in {first:?}, then in {again:?}");

    let hour = opened(&farm, &camera, began, options.minutes).await?;
    let list = reqwest::get(&hour.url).await?.text().await?;
    let names: Vec<String> = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|name| hour.url.replace("playlist.m3u8", name))
        .collect();
    let started = Instant::now();
    let (ours, bytes) = fetched(&farm, &names).await?;
    let wall = started.elapsed();
    // The same, as it is stored: what it costs to find, read and send it.
    let recording = job["recording_id"].as_str().context("a job has a recording")?;
    let minute = stored(&farm.client.play_url(recording).await).await?;
    let all: Vec<String> = (0..options.minutes).flat_map(|_| minute.clone()).collect();
    let (sent, plain_bytes) = fetched(&farm, &all).await?;
    // The same bytes from a file of a minute.
    let minute = opened(&farm, &camera, began, 1).await?;
    let file = dir.path().join("minute.mp4");
    let export = minute.session["export_url"].as_str().context("a session has an export")?;
    std::fs::write(&file, reqwest::get(export).await?.bytes().await?)?;
    let loops = (options.minutes - 1).to_string();
    let args =
        ["-nostdin", "-loglevel", "error", "-stream_loop", &loops, "-i", file.to_str().context("a path")?];
    let copy = ["-map", "0", "-c", "copy", "-f", "mpegts", "-y", "/dev/null"];
    let plain = plain_cost(&args.iter().chain(&copy).map(|word| (*word).to_owned()).collect::<Vec<_>>())?;
    farm.stop().await;
    println!(
        "  {} minutes as MPEG-TS, {bytes} bytes in {} segments, in {wall:?}:",
        options.minutes,
        names.len()
    );
    println!(
        "    the api: {ours:.2} CPU s; for the same as it is stored, {plain_bytes} bytes in two files each: {sent:.2} CPU s"
    );
    println!("    ffmpeg -c copy from one file to another: {:.2} CPU s", plain.cpu);
    println!("    ratio, HTTP and the store included: {:.2}", ours / plain.cpu);
    Ok(())
}

/// What it costs the api to send these, in CPU seconds, and how many bytes that is.
async fn fetched(farm: &Farm, urls: &[String]) -> anyhow::Result<(f64, u64)> {
    let before = api_cpu(farm)?;
    let client = reqwest::Client::new();
    let bytes = stream::iter(urls)
        .map(|url| client.get(url).send())
        .map(|sent| async { anyhow::Ok(sent.await?.error_for_status()?.bytes().await?.len() as u64) })
        .buffered(PLAYERS)
        .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
        .await?;
    Ok((api_cpu(farm)? - before, bytes))
}

/// The addresses of all segments of a recording's renditions, of which it has one of each kind.
async fn stored(master: &str) -> anyhow::Result<Vec<String>> {
    let mut all = vec![];
    for track in ["720p", "audio"] {
        let list =
            reqwest::get(master.replace("master.m3u8", &format!("{track}.m3u8"))).await?.text().await?;
        let names = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        all.extend(names.map(|name| master.replace("master.m3u8", name)));
    }
    Ok(all)
}

/// The same minute over and over, without a hole between; gives when the first began.
async fn import(
    farm: &Farm,
    camera: &Value,
    recording: &Value,
    minutes: u32,
) -> anyhow::Result<DateTime<Utc>> {
    let id = camera["id"].as_str().context("a livestream has an id")?;
    let began = Utc::now() - TimeDelta::days(2);
    for minute in 0..minutes {
        let start = began + TimeDelta::minutes(minute.into());
        let body = json!({ "input": { "recording_id": recording }, "start_time": start });
        farm.client.post(&format!("/livestreams/{id}/recordings/import"), &body).await;
    }
    loop {
        let waiting =
            farm.client.get(&format!("/livestreams/{id}/recordings?status=converting&limit=1")).await;
        if waiting["recordings"].as_array().is_some_and(Vec::is_empty) {
            return Ok(began);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

struct Opened {
    session: Value,
    url: String,
    took: Duration,
}

async fn opened(farm: &Farm, camera: &Value, began: DateTime<Utc>, minutes: u32) -> anyhow::Result<Opened> {
    let end = began + TimeDelta::minutes(minutes.into());
    let body = json!({ "camera_id": camera["id"], "start_time": began, "end_time": end });
    let started = Instant::now();
    let session = farm.client.post("/playback/start", &body).await;
    let took = started.elapsed();
    let url = session["url"].as_str().context("a session has a url")?.to_owned();
    Ok(Opened { session, url, took })
}

async fn timed(url: &str) -> anyhow::Result<(Duration, usize)> {
    let started = Instant::now();
    let bytes = reqwest::get(url).await?.error_for_status()?.bytes().await?.len();
    Ok((started.elapsed(), bytes))
}

fn api_cpu(farm: &Farm) -> anyhow::Result<f64> {
    let api = cpu_of(farm)?.into_iter().find(|process| process.name == "api");
    Ok(api.context("the farm has an api")?.own)
}
