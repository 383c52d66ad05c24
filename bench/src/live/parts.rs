//! How many parts a second one core serves: the edge, a bare axum server, and nginx, with the same bytes, in turn.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::http::Connection;
use crate::cost::{footage, own_cpu};
use crate::figures::quantile;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Turns of each server.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The rung whose parts are served.
    #[arg(long, default_value = "480p")]
    rung: String,
}

/// The core that servers run on; clients have the others.
const CORE: &str = "0";
/// Parts of the newest segments: edges forget older ones.
const PARTS: usize = 16;

/// One of those compared.
struct Server {
    name: &'static str,
    address: String,
    /// What stands before the name of a part.
    place: String,
    pid: i32,
}

/// A turn: parts a second, and microseconds of the server's CPU for each.
#[derive(Default)]
struct Turns {
    rates: Vec<f64>,
    costs: Vec<f64>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let source = footage(dir.path(), 60)?;
    let mut farm = super::farm()
        .processes(0, 1, 1)
        .set("TOKIO_WORKER_THREADS", 1)
        // What is served has to stay while nobody publishes.
        .set("REELMILL_LIVE_GRACE_SECONDS", 3600)
        .start()
        .await;
    farm.add_under(Part::Api, &["taskset", "-c", CORE]).await;
    farm.ready().await;
    let api = farm.processes.last().context("no api")?;
    farm.client = reelmill_testkit::Client::new(&format!("http://{}", api.address), &farm.client.key);
    let files = dir.path().join("files");
    std::fs::create_dir(&files)?;
    let (place, names) = published(&farm, &options, &source, &files).await?;
    let api = farm.processes.last().context("no api")?;
    let mut servers = vec![Server { name: "reelmill", address: api.address.clone(), place, pid: api.pid() }];
    let (bare, _bare) = bare(&files).await?;
    servers.push(bare);
    let nginx = nginx(dir.path(), &files).await;
    match nginx {
        Ok((server, _)) => servers.push(server),
        Err(error) => println!("without nginx: {error:#}"),
    }
    let names = Arc::new(names);
    let mut turns: Vec<Turns> = servers.iter().map(|_| Turns::default()).collect();
    for _ in 0..options.rounds {
        for (server, turns) in servers.iter().zip(&mut turns) {
            let cpu = own_cpu(server.pid)?;
            let (parts, took) = turn(server, &names, &options).await?;
            turns.rates.push(parts as f64 / took);
            turns.costs.push((own_cpu(server.pid)? - cpu) * 1e6 / parts as f64);
        }
    }
    let bytes: u64 =
        names.iter().filter_map(|name| files.join(name).metadata().ok()).map(|file| file.len()).sum();
    println!(
        "{} parts of {} bytes on average, {} connections, one core for the server, medians of {} turns of {} s:",
        names.len(),
        bytes / names.len().max(1) as u64,
        options.connections,
        options.rounds,
        options.seconds
    );
    for (server, turns) in servers.iter().zip(&mut turns) {
        let (rate, cost) = (quantile(&mut turns.rates, 0.5), quantile(&mut turns.costs, 0.5));
        println!("  {:9} {rate:8.0} parts/s, {cost:6.1} us of CPU a part", server.name);
    }
    farm.stop().await;
    Ok(())
}

/// Publishes for a while, and writes the parts that are then listed to `files`. Where they are served, and their names.
async fn published(
    farm: &Farm,
    options: &Options,
    source: &Path,
    files: &Path,
) -> anyhow::Result<(String, Vec<String>)> {
    let db = super::database(farm)?;
    let settings = json!({
        "resolutions": [options.rung], "segment_duration": 4, "keyframe_interval": 2, "part_duration": 0.5,
    });
    let mut stream = super::on_air(farm, &db, &settings, source).await?;
    let place = super::watched_at(farm, stream.id).await?;
    let address = super::address(farm)?;
    super::playable(&address, &place, std::slice::from_ref(&options.rung)).await?;
    let mut connection = Connection::open(&address).await?;
    let names = loop {
        let text = connection.text(&format!("{place}{}.m3u8", options.rung)).await?;
        let parts = text.lines().filter(|line| line.starts_with("#EXT-X-PART:"));
        let names = parts.filter_map(|line| Some(line.split_once("URI=\"")?.1.split_once('"')?.0.to_owned()));
        let names: Vec<String> = names.collect();
        if names.len() >= PARTS {
            break names[names.len() - PARTS..].to_vec();
        }
        tokio::time::sleep(super::LOOK).await;
    };
    // The machine should have nothing else to do.
    stream.publisher.kill().await?;
    for name in &names {
        let mut bytes = vec![];
        connection.get(&format!("{place}{name}"), |piece| bytes.extend_from_slice(piece)).await?;
        std::fs::write(files.join(name), bytes)?;
    }
    db.close();
    Ok((place, names))
}

async fn turn(server: &Server, names: &Arc<Vec<String>>, options: &Options) -> anyhow::Result<(u64, f64)> {
    let mut connections = vec![];
    for _ in 0..options.connections {
        connections.push(Connection::open(&server.address).await?);
    }
    let begun = Instant::now();
    let until = begun + Duration::from_secs(options.seconds);
    let mut asking = JoinSet::new();
    for (n, mut connection) in connections.into_iter().enumerate() {
        let (names, place) = (Arc::clone(names), server.place.clone());
        asking.spawn(async move {
            let mut parts = 0u64;
            while Instant::now() < until {
                let name = &names[(n + parts as usize) % names.len()];
                connection.get(&format!("{place}{name}"), |_| ()).await?;
                parts += 1;
            }
            anyhow::Ok(parts)
        });
    }
    let mut parts = 0;
    while let Some(asked) = asking.join_next().await {
        parts += asked??;
    }
    Ok((parts, begun.elapsed().as_secs_f64()))
}

async fn bare(files: &Path) -> anyhow::Result<(Server, Child)> {
    let mut child = Command::new("taskset")
        .args(["-c", CORE])
        .arg(std::env::current_exe()?)
        .arg("bare-files")
        .arg(files)
        .env("TOKIO_WORKER_THREADS", "1")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("no output")?;
    let address = BufReader::new(stdout).lines().next_line().await?.context("the bare server ended")?;
    let pid = child.id().context("the bare server ended")?.cast_signed();
    Ok((Server { name: "axum", address, place: "/".into(), pid }, child))
}

/// From Debian's `nginx-light` or any other, of one process; `REELMILL_NGINX` says where it is if not on the path.
async fn nginx(dir: &Path, files: &Path) -> anyhow::Result<(Server, Child)> {
    // Chosen by the system, and free a moment later.
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string();
    let (root, temporary) = (files.display(), dir.join("nginx"));
    std::fs::create_dir(&temporary)?;
    let place = temporary.display();
    let temporaries: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
        .collect();
    let settings = format!(
        "daemon off; master_process off; pid {place}/pid; error_log {place}/log;\nevents {{ worker_connections 1024; }}\n\
         http {{ {temporaries} access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         open_file_cache max=1000; types {{ video/mp4 m4s; }}\nserver {{ listen {address}; root {root}; }} }}\n"
    );
    let written = dir.join("nginx.conf");
    std::fs::write(&written, settings)?;
    let program = std::env::var("REELMILL_NGINX").unwrap_or_else(|_| "nginx".to_owned());
    let child = Command::new("taskset")
        .args(["-c", CORE, &program, "-p"])
        .arg(&temporary)
        .arg("-c")
        .arg(written)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("starting nginx")?;
    let pid = child.id().context("nginx ended")?.cast_signed();
    for _ in 0..50 {
        if TcpStream::connect(&address).await.is_ok() {
            return Ok((Server { name: "nginx", address, place: "/".into(), pid }, child));
        }
        tokio::time::sleep(super::LOOK).await;
    }
    bail!("it does not answer")
}
