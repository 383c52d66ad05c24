//! Viewers of one low-latency stream: playlists by blocking reload, each part as soon as it is listed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reelmill_testkit::farm::Part;
use serde_json::json;
use tokio::task::JoinSet;

use super::feed::{Heard, PartName};
use super::http::Connection;
use crate::cost::{footage, own_cpu};
use crate::figures::quantile;
use crate::memory::resident_kb;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many watch, one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "1,500,2000")]
    viewers: Vec<usize>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// The one rung of the ladder; viewers play it and the sound.
    #[arg(long, default_value = "480p")]
    rung: String,
    /// Seconds of a part, 0.1 to 5.
    #[arg(long, default_value_t = 0.5)]
    part: f64,
    /// Without sound: one playlist and one part at a time instead of two.
    #[arg(long)]
    silent: bool,
}

/// How many connect at once.
const BATCH: usize = 50;
/// Until all have what they need to go on with.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let source = footage(dir.path(), 60)?;
    let farm = super::farm().start().await;
    let db = super::database(&farm)?;
    let settings = json!({
        "resolutions": [options.rung], "segment_duration": 4, "keyframe_interval": 2, "part_duration": options.part,
    });
    let stream = super::on_air(&farm, &db, &settings, &source).await?;
    let heard = Heard::listen(stream.id, &stream.origin)?;
    let place = super::watched_at(&farm, stream.id).await?;
    let address = super::address(&farm)?;
    let pid = |part| farm.processes.iter().find(|process| process.part == part).map(|process| process.pid());
    let (api, worker) = (pid(Part::Api).context("no api")?, pid(Part::Worker).context("no worker")?);
    let mut tracks = vec![options.rung.clone()];
    if !options.silent {
        tracks.push("audio".to_owned());
    }
    super::playable(&address, &place, &tracks).await?;
    println!(
        "{} and {}, parts of {} s, {} s each:",
        options.rung,
        tracks[1..].join(""),
        options.part,
        options.seconds
    );
    for viewers in &options.viewers {
        let before_kb = resident_kb(api);
        let audience = Audience::assemble(&address, &place, &tracks, *viewers, &heard).await?;
        tokio::time::sleep(SETTLE).await;
        audience.counts.reset();
        let begun = Instant::now();
        let cpu = (own_cpu(api)?, own_cpu(worker)?, own_cpu(std::process::id().cast_signed())?);
        tokio::time::sleep(Duration::from_secs(options.seconds.into())).await;
        let took = begun.elapsed().as_secs_f64();
        let share = |now: f64, before: f64| (now - before) / took;
        let api_share = share(own_cpu(api)?, cpu.0);
        let worker_share = share(own_cpu(worker)?, cpu.1);
        let own_share = share(own_cpu(std::process::id().cast_signed())?, cpu.2);
        let after_kb = resident_kb(api);
        let (bytes, parts) = audience.counts.read();
        let (mut delays, unheard) = audience.disband().await?;
        let per_viewer = bytes as f64 * 8.0 / took / *viewers as f64 / 1e6;
        println!("  {viewers} viewers: {:.0} parts/s, {per_viewer:.2} Mb/s each", parts as f64 / took);
        println!(
            "    a part comes after p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} measured, {unheard} not)",
            quantile(&mut delays, 0.5),
            quantile(&mut delays, 0.99),
            quantile(&mut delays, 1.0),
            delays.len()
        );
        println!(
            "    of a core: api {:.1} %, worker without its FFmpeg {:.1} %, the viewers {:.1} %",
            api_share * 100.0,
            worker_share * 100.0,
            own_share * 100.0
        );
        println!("    so a core of the api holds {:.0} of them", *viewers as f64 / api_share);
        if *viewers >= BATCH {
            println!(
                "    memory of the api: {:.1} kB a viewer ({:.0} MB in all)",
                (after_kb as f64 - before_kb as f64) / *viewers as f64,
                after_kb as f64 / 1024.0
            );
        }
    }
    drop(stream.publisher);
    db.close();
    farm.stop().await;
    Ok(())
}

/// What all viewers together got.
#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    parts: AtomicU64,
    /// What is measured counts from now on.
    measuring: AtomicBool,
    over: AtomicBool,
}

impl Counts {
    fn reset(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.parts.store(0, Ordering::Relaxed);
        self.measuring.store(true, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        self.measuring.store(false, Ordering::Relaxed);
        (self.bytes.load(Ordering::Relaxed), self.parts.load(Ordering::Relaxed))
    }
}

/// Everybody who watches.
struct Audience {
    counts: Arc<Counts>,
    watching: JoinSet<anyhow::Result<Vec<(PartName, Instant)>>>,
    heard: Heard,
}

impl Audience {
    async fn assemble(
        address: &str,
        place: &str,
        tracks: &[String],
        viewers: usize,
        heard: &Heard,
    ) -> anyhow::Result<Self> {
        let counts = Arc::<Counts>::default();
        let mut watching = JoinSet::new();
        let mut opening = JoinSet::new();
        for n in 0..viewers {
            for track in tracks {
                let viewer =
                    Viewer { place: place.to_owned(), track: track.clone(), counts: Arc::clone(&counts) };
                let address = address.to_owned();
                opening.spawn(async move { anyhow::Ok((viewer, Connection::open(&address).await?)) });
            }
            if n % BATCH == BATCH - 1 || n + 1 == viewers {
                while let Some(opened) = opening.join_next().await {
                    let (viewer, connection) = opened??;
                    watching.spawn(viewer.watch(connection));
                }
            }
        }
        Ok(Self { counts, watching, heard: heard.clone() })
    }

    /// Sends all home. Milliseconds that each part came after it was complete, and how many parts nothing is known of.
    async fn disband(mut self) -> anyhow::Result<(Vec<f64>, usize)> {
        self.counts.over.store(true, Ordering::Relaxed);
        let (mut delays, mut unheard) = (vec![], 0);
        while let Some(watched) = self.watching.join_next().await {
            for (part, at) in watched?? {
                match self.heard.of(&part) {
                    Some(completed) => {
                        delays.push(at.saturating_duration_since(completed.at).as_secs_f64() * 1e3);
                    }
                    None => unheard += 1,
                }
            }
        }
        Ok((delays, unheard))
    }
}

/// One player's view of one track.
struct Viewer {
    place: String,
    track: String,
    counts: Arc<Counts>,
}

impl Viewer {
    /// Plays until all is over. When each part was there.
    async fn watch(self, mut connection: Connection) -> anyhow::Result<Vec<(PartName, Instant)>> {
        let playlist = format!("{}{}.m3u8", self.place, self.track);
        let mut delivered = vec![];
        let mut next = hinted(&connection.text(&playlist).await?, &self.track)?;
        while !self.counts.over.load(Ordering::Relaxed) {
            let (number, part) = next;
            let asked = format!("{playlist}?_HLS_msn={number}&_HLS_part={part}&_HLS_skip=YES");
            let text = connection.text(&asked).await?;
            next = hinted(&text, &self.track)?;
            for (number, part) in listed(&text, &self.track).filter(|listed| *listed >= (number, part)) {
                let file = format!("{}{}-{number}.{part}.m4s", self.place, self.track);
                let bytes = connection.get(&file, |_| ()).await?;
                if self.counts.measuring.load(Ordering::Relaxed) {
                    self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                    self.counts.parts.fetch_add(1, Ordering::Relaxed);
                    delivered.push(((self.track.clone(), number, part), Instant::now()));
                }
            }
        }
        Ok(delivered)
    }
}

/// The part that a playlist says comes next.
fn hinted(playlist: &str, track: &str) -> anyhow::Result<(u64, u32)> {
    let hint = playlist.lines().rev().find(|line| line.starts_with("#EXT-X-PRELOAD-HINT:"));
    let Some(part) = hint.and_then(|line| part_of(line, track)) else {
        bail!("no part is hinted at in:\n{playlist}");
    };
    Ok(part)
}

/// The parts that a playlist lists, oldest first.
fn listed(playlist: &str, track: &str) -> impl Iterator<Item = (u64, u32)> {
    let parts = playlist.lines().filter(|line| line.starts_with("#EXT-X-PART:"));
    parts.filter_map(move |line| part_of(line, track))
}

/// The part that the URI of a tag names.
fn part_of(line: &str, track: &str) -> Option<(u64, u32)> {
    let (_, rest) = line.split_once("URI=\"")?;
    let name = rest.split_once(".m4s\"")?.0.strip_prefix(track)?.strip_prefix('-')?;
    let (number, part) = name.split_once('.')?;
    Some((number.parse().ok()?, part.parse().ok()?))
}
