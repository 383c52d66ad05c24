//! Live streams: what viewers cost and how late they hear, what serving parts costs beside other servers, how many broadcasts fit.

pub(crate) mod bare;
pub(crate) mod broadcasts;
mod feed;
mod http;
pub(crate) mod parts;
pub(crate) mod viewers;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use reelmill_shared::config::DatabaseConfig;
use reelmill_shared::db::Db;
use reelmill_shared::db::live::{self, Origin};
use reelmill_shared::ids::LivestreamId;
use reelmill_testkit::farm::Part;
use reelmill_testkit::{Farm, FarmBuilder};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use http::Connection;

/// How long a broadcast may take to be on air.
const ON_AIR: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// A farm whose one worker takes live streams.
fn farm() -> FarmBuilder {
    Farm::builder().set("REELMILL_RTMP_LISTEN", "127.0.0.1:0").without_broker()
}

/// A livestream on air.
struct OnAir {
    id: LivestreamId,
    origin: Origin,
    publisher: Child,
}

/// Makes a livestream of `settings`, and publishes `footage` on it over and over.
async fn on_air(farm: &Farm, db: &Db, settings: &Value, footage: &Path) -> anyhow::Result<OnAir> {
    let body = json!({ "title": "bench", "low_latency": true, "settings": settings });
    let stream = farm.client.post("/livestreams", &body).await;
    let key = stream["stream_key"].as_str().context("a livestream has a key")?;
    let worker =
        farm.processes.iter().find(|process| process.part == Part::Worker).context("there is no worker")?;
    let rtmp = worker.rtmp().context("the worker takes no publishers")?;
    let publisher = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i"])
        .arg(footage)
        .args(["-c", "copy", "-f", "flv", &format!("rtmp://{rtmp}/live/{key}")])
        .kill_on_drop(true)
        .spawn()?;
    let id: LivestreamId = stream["id"].as_str().context("a livestream has an id")?.parse()?;
    let begun = tokio::time::Instant::now();
    let origin = loop {
        let state = farm.client.get(&format!("/livestreams/{id}")).await;
        if state["status"] == "live"
            && let Some(origin) = live::origin(db, id).await?
        {
            break origin;
        }
        if begun.elapsed() > ON_AIR {
            bail!("the livestream did not go on air:\n{}", worker.log());
        }
        tokio::time::sleep(LOOK).await;
    };
    Ok(OnAir { id, origin, publisher })
}

/// The path, below the api, of what a viewer may have of a livestream, with a slash at its end.
async fn watched_at(farm: &Farm, id: LivestreamId) -> anyhow::Result<String> {
    let token = farm.client.post(&format!("/livestreams/{id}/playback-token"), &json!({})).await;
    let url = token["hls_url"].as_str().context("a token has an address")?;
    let path = url.strip_prefix(&farm.client.base).context("the address is another's")?;
    Ok(path.strip_suffix("master.m3u8").context("the address is no playlist")?.to_owned())
}

/// Waits until all `tracks` can be played at `place`.
async fn playable(address: &str, place: &str, tracks: &[String]) -> anyhow::Result<()> {
    let begun = tokio::time::Instant::now();
    for track in tracks {
        let path = format!("{place}{track}.m3u8");
        while let Err(error) = Connection::open(address).await?.text(&path).await {
            if begun.elapsed() > ON_AIR {
                return Err(error);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

fn database(farm: &Farm) -> anyhow::Result<Db> {
    Ok(Db::new(&DatabaseConfig { url: farm.database.url.clone(), pool_size: 2 })?)
}

fn address(farm: &Farm) -> anyhow::Result<String> {
    let api = farm.processes.iter().find(|process| process.part == Part::Api).context("there is no api")?;
    Ok(api.address.clone())
}
