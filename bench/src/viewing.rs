//! Viewers of a recording that tell where they are: whether all are counted, and what that costs the apis and the database.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use reelmill_testkit::farm::Part;
use reelmill_testkit::{Client, Farm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cost::own_cpu;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many watch.
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// Seconds between two beats of one of them.
    #[arg(long, default_value_t = 10)]
    every: u64,
    /// Beats of each, with the first.
    #[arg(long, default_value_t = 7)]
    beats: u32,
    /// Kill one of both apis half-way. Who asked it asks the other from then on; only what is counted is told then.
    #[arg(long)]
    kill: bool,
}

/// Seconds of the recording.
const LENGTH: f64 = 7200.0;
/// Until what was told last is written down.
const WRITTEN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);
/// Seconds that what is counted may differ from what was told.
const RIGHT: f64 = 0.01;

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let mut farm =
        Farm::builder().processes(2, 0, 1).set("REELMILL_PROXIES", 1).without_broker().start().await;
    let apis = [farm.api(0), farm.api(1)];
    let pids: Vec<i32> =
        farm.processes.iter().filter(|process| process.part == Part::Api).map(|api| api.pid()).collect();
    let new = json!({ "title": "bench", "input": { "url": "https://media.example/a.mp4" } });
    let recording = apis[0].post("/recordings", &new).await;
    let id = recording["id"].as_str().context("a recording has an id")?.to_owned();
    let token = apis[0].post(&format!("/recordings/{id}/playback-token"), &json!({})).await;
    let token = token["token"].as_str().context("a token")?.to_owned();
    println!(
        "{} sessions, a beat every {} s, {} each, on two apis in turn:",
        options.sessions, options.every, options.beats
    );

    let before = (written(&apis).await?, own_cpu(pids[0])? + own_cpu(pids[1])?);
    let begun = Instant::now();
    let mut watching = JoinSet::new();
    for n in 0..options.sessions {
        let viewer = Viewer { n, apis: apis.clone(), token: token.clone() };
        watching.spawn(viewer.watch(options.clone()));
    }
    if options.kill {
        tokio::time::sleep(Duration::from_secs(options.every * u64::from(options.beats) / 2)).await;
        let api = farm.processes.iter_mut().filter(|process| process.part == Part::Api).nth(1);
        let api = api.context("the farm has two apis")?;
        api.signal(Signal::SIGKILL);
        api.ended(WRITTEN).await;
        println!("  one api was killed after {:.0} s", begun.elapsed().as_secs_f64());
    }
    let mut expected = 0.0;
    while let Some(played) = watching.join_next().await {
        expected += played??;
    }
    let took = begun.elapsed().as_secs_f64();
    let path = format!("/recordings/{id}/analytics");
    let ended = Instant::now();
    let figures = loop {
        let figures = apis[0].get(&path).await;
        if (playtime(&figures) - expected).abs() < RIGHT || ended.elapsed() > WRITTEN {
            break figures;
        }
        tokio::time::sleep(LOOK).await;
    };
    let verdict = |right: bool| if right { "right" } else { "WRONG" };
    let sessions = figures["total_sessions"].as_u64().unwrap_or_default();
    println!("  {sessions} sessions: {}", verdict(sessions == options.sessions as u64));
    println!(
        "  {:.2} s played, of {expected:.2} told: {}",
        playtime(&figures),
        verdict((playtime(&figures) - expected).abs() < RIGHT)
    );
    if options.kill {
        farm.stop().await;
        return Ok(());
    }
    let after = (written(&apis).await?, own_cpu(pids[0])? + own_cpu(pids[1])?);
    let beats = options.sessions as f64 * f64::from(options.beats);
    println!("  beats: {:.1}/s", beats / took);
    println!("  rows: {:.1}/s", (after.0.0 - before.0.0) / took);
    println!("  statements: {:.2}/s", (after.0.1 - before.0.1) / took);
    println!("  of a core, both apis together: {:.1} %", (after.1 - before.1) / took * 100.0);
    farm.stop().await;
    Ok(())
}

fn playtime(figures: &Value) -> f64 {
    figures["total_playtime"].as_f64().unwrap_or_default()
}

/// Rows and statements that both apis have written viewers with.
async fn written(apis: &[Client]) -> anyhow::Result<(f64, f64)> {
    let (mut rows, mut statements) = (0.0, 0.0);
    for api in apis {
        let text = api.anonymous(Method::GET, "/metrics").send().await?.text().await?;
        let figure = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            // Nothing was written yet.
            line.unwrap_or_default()
        };
        rows += figure("reelmill_viewer_rows_written_total");
        statements += figure("reelmill_viewer_statements_total");
    }
    Ok((rows, statements))
}

/// One player.
struct Viewer {
    n: usize,
    apis: [Client; 2],
    token: String,
}

impl Viewer {
    async fn tell(&self, api: usize, body: &Value) -> reqwest::Result<reqwest::Response> {
        let address = format!("10.{}.{}.{}", self.n >> 16, self.n >> 8 & 255, self.n & 255);
        let path = format!("/v/{}/progress", self.token);
        self.apis[api]
            .anonymous(Method::POST, &path)
            .header("x-forwarded-for", address)
            .json(body)
            .send()
            .await
    }

    /// Plays from when its turn comes. Seconds that it told.
    async fn watch(self, options: Options) -> anyhow::Result<f64> {
        let every = Duration::from_secs(options.every);
        tokio::time::sleep(every * self.n as u32 / options.sessions as u32).await;
        let given = self.apis[self.n % 2].anonymous(Method::POST, &format!("/v/{}/sessions", self.token));
        let given: Value = given.send().await?.json().await?;
        let mut tick = tokio::time::interval(every);
        let (mut begun, mut position) = (None, 0.0);
        for beat in 0..options.beats {
            tick.tick().await;
            position = begun.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
            let event = if beat == 0 {
                "playback_start"
            } else if beat + 1 == options.beats {
                "playback_end"
            } else {
                "playback_progress"
            };
            let body = json!({
                "session_id": given["session_id"], "event": event, "position": position, "duration": LENGTH, "stalls": 0,
            });
            let first = (self.n + beat as usize) % 2;
            let told = match self.tell(first, &body).await {
                // As behind a balancer.
                Err(_) if options.kill => self.tell(1 - first, &body).await?,
                told => told?,
            };
            if told.status() != StatusCode::NO_CONTENT {
                bail!("a viewer was turned away: {}", told.text().await?);
            }
        }
        Ok(position)
    }
}
