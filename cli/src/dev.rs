//! `reelmill dev`: api, scheduler and one worker in one process on loopback, with a private PostgreSQL cluster, the in-process
//! broker and the local file system.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use reelmill_shared::auth::{new_key, new_secret};
use reelmill_shared::broker::{self, Broker, LocalBroker};
use reelmill_shared::config::{ApiConfig, SchedulerConfig, Vars, WorkerConfig};
use reelmill_shared::db::cluster::{Cluster, ClusterOptions};
use reelmill_shared::lifecycle::shutdown_on_signal;
use reelmill_shared::telemetry::{self, LogFormat};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Options of `reelmill dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// Port of the API and the pages, on 127.0.0.1; 0 for any that is free.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port where publishers of live streams come in, by RTMP; 0 for any that is free. Left out: 1935, or any where that is taken.
    #[arg(long)]
    rtmp_port: Option<u16>,
    /// Throw everything away at the end.
    #[arg(long)]
    ephemeral: bool,
    /// Use this database instead of a private cluster.
    #[arg(long, env = "REELMILL_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Use this RabbitMQ instead of the in-process broker.
    #[arg(long, env = "REELMILL_AMQP_URL", hide_env_values = true)]
    amqp_url: Option<String>,
    /// Use this object store instead of the data directory (file://, s3://, gs://, az://).
    #[arg(long, env = "REELMILL_STORAGE_URL")]
    storage: Option<Url>,
    /// Tasks that run at once; the number of cores where it is left out.
    #[arg(long, env = "REELMILL_WORKER_SLOTS")]
    slots: Option<u32>,
}

/// Names of files in the data directory that other commands read.
pub(crate) const ADMIN_KEY_FILE: &str = "admin-key";
pub(crate) const SERVER_FILE: &str = "server-url";
const SECRET_KEY_FILE: &str = "secret-key";
const LOGIN_FILE: &str = "login-url";
/// What publishers take where no port is given (Adobe RTMP 1.0, 5).
const RTMP_PORT: u16 = 1935;

/// Runs the farm until Ctrl-C or SIGTERM.
pub(crate) async fn run(args: DevArgs, data_dir: PathBuf) -> anyhow::Result<()> {
    telemetry::init_logs(LogFormat::Text);
    telemetry::metrics();
    let hurry = CancellationToken::new();
    let shutdown = shutdown_on_signal(Some(hurry.clone()))?;
    let ephemeral = if args.ephemeral { Some(Ephemeral::new()?) } else { None };
    let data_dir = ephemeral.as_ref().map_or(data_dir, |dir| dir.0.clone());
    make_private(&data_dir)?;
    let data_dir = data_dir.canonicalize()?;

    let mut cluster = match args.database_url {
        Some(_) => None,
        None => Some(start_cluster(&data_dir, args.ephemeral).await?),
    };
    let result = tokio::select! {
        result = farm(&args, &data_dir, cluster.as_mut(), shutdown) => result,
        // What runs is dropped with its children, but the database server is still ended in order.
        () = hurry.cancelled() => Err(anyhow::anyhow!("stopped before everything had ended")),
    };
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    result
}

async fn start_cluster(data_dir: &Path, ephemeral: bool) -> anyhow::Result<Cluster> {
    let options = ClusterOptions { data_dir: data_dir.to_owned(), durable: !ephemeral, max_connections: 100 };
    let cluster = Cluster::start(options).await?;
    tracing::info!(location = %cluster.location().display(), "private PostgreSQL cluster ready");
    Ok(cluster)
}

async fn farm(
    args: &DevArgs,
    data_dir: &Path,
    cluster: Option<&mut Cluster>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let publishers = publishers(args.rtmp_port)?;
    let mut settings = settings(args, data_dir, publishers.local_addr()?)?;
    if let Some(cluster) = &cluster {
        settings.insert("REELMILL_DATABASE_URL", cluster.url("postgres"));
    }
    let mut vars = Vars::load(None).with_pairs(settings.iter().map(|(name, value)| (*name, value.clone())));
    let mut api = ApiConfig::read(&mut vars);
    // Only this machine reaches it, and what waits here for it does not know the certificate.
    api.tls = None;
    let worker = WorkerConfig::read(&mut vars);
    let mut scheduler = SchedulerConfig::read(&mut vars);
    vars.finish()?;
    // Who develops a receiver runs it here. Downloads go on without: what is fetched comes back to whoever asked for it, of a webhook's
    // answer no more than its beginning.
    for webhooks in [&mut api.webhooks, &mut scheduler.webhooks] {
        webhooks.net = webhooks.net.clone().with_loopback();
    }

    let broker: Arc<dyn Broker> = match &args.amqp_url {
        Some(_) => broker::open(&api.broker),
        None => Arc::new(LocalBroker::default()),
    };
    let admin_key = api.admin_key.clone().unwrap_or_default();
    // The farm's parts end together: one that fails takes the others down in order.
    let stop = shutdown.child_token();
    let (started, listening) = oneshot::channel();
    let mut parts = JoinSet::new();
    parts.spawn(named("scheduler", reelmill_scheduler::run(scheduler, Arc::clone(&broker), stop.clone())));
    let api = reelmill_api::run(api, Arc::clone(&broker), stop.clone(), started);
    parts.spawn(named("api", async { api.await.map_err(port_taken) }));
    parts.spawn(named("worker", reelmill_worker::run(worker, broker, Some(publishers), stop.clone())));

    let hello = {
        let rtmp = settings.remove("REELMILL_PUBLIC_RTMP_URL").unwrap_or_default();
        let data_dir = data_dir.to_owned();
        async move {
            let Ok(started) = listening.await else {
                return Ok(());
            };
            greet(&data_dir, started.address, started.login_path.as_deref(), &admin_key, &rtmp)
        }
    };
    parts.spawn(named("greeting", hello));

    let mut result = Ok(());
    let database_failed = async {
        match cluster {
            Some(cluster) => anyhow::Error::from(cluster.failed().await),
            None => std::future::pending().await,
        }
    };
    tokio::pin!(database_failed);
    let mut database_lives = true;
    loop {
        tokio::select! {
            part = parts.join_next() => match part {
                None => break,
                Some(Ok(Ok("greeting"))) => {}
                Some(Ok(Ok(name))) if stop.is_cancelled() => tracing::debug!(name, "ended"),
                Some(Ok(Ok(name))) => { result = result.and(Err(anyhow::anyhow!("the {name} ended by itself"))); stop.cancel(); }
                Some(Ok(Err(error))) => { result = result.and(Err(error)); stop.cancel(); }
                Some(Err(error)) => { result = result.and(Err(error.into())); stop.cancel(); }
            },
            error = &mut database_failed, if database_lives => {
                database_lives = false;
                result = result.and(Err(error));
                stop.cancel();
            }
        }
    }
    // Being told to stop while starting is no failure.
    if shutdown.is_cancelled() { Ok(()) } else { result }
}

/// Says what to do where somebody else listens already.
fn port_taken(error: anyhow::Error) -> anyhow::Error {
    let taken = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::AddrInUse);
    if taken {
        error.context("the port is in use; choose another with --port (0 for any that is free)")
    } else {
        error
    }
}

async fn named(
    name: &'static str,
    part: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<&'static str> {
    part.await.context(name)?;
    Ok(name)
}

/// Settings of a farm that lives in `data_dir`. Address, hosts and secret are its own; otherwise what the environment sets stays.
fn settings(
    args: &DevArgs,
    data_dir: &Path,
    rtmp: SocketAddr,
) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &'static str, value: String| settings.insert(name, value);
    if let Some(url) = &args.database_url {
        set("REELMILL_DATABASE_URL", url.clone());
    }
    if let Some(url) = &args.amqp_url {
        set("REELMILL_AMQP_URL", url.clone());
    }
    let storage = match &args.storage {
        Some(url) => url.clone(),
        None => directory_url(&data_dir.join("objects"))?,
    };
    set("REELMILL_STORAGE_URL", storage.into());
    if let Some(slots) = args.slots {
        set("REELMILL_WORKER_SLOTS", slots.to_string());
    }
    set("REELMILL_API_LISTEN", SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port).to_string());
    set("REELMILL_RTMP_LISTEN", rtmp.to_string());
    set("REELMILL_PUBLIC_RTMP_URL", format!("rtmp://{rtmp}/live"));
    // A web page whose name points at this machine sends its own name along, and is turned away.
    set("REELMILL_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]".into());
    set("REELMILL_SECRET_KEY", kept(&data_dir.join(SECRET_KEY_FILE), None, new_secret)?);
    let given = std::env::var("REELMILL_ADMIN_KEY").ok().filter(|key| !key.is_empty());
    set("REELMILL_ADMIN_KEY", kept(&data_dir.join(ADMIN_KEY_FILE), given, || new_key(false))?);
    for (name, folder) in [("REELMILL_SCRATCH_DIR", "scratch"), ("REELMILL_CACHE_DIR", "cache")] {
        if !is_set(name) {
            set(name, data_dir.join(folder).display().to_string());
        }
    }
    // Somebody waits at the terminal; tasks that are given back go on at the next start.
    if !is_set("REELMILL_DRAIN_SECONDS") {
        set("REELMILL_DRAIN_SECONDS", "2".into());
    }
    // After a crash the tasks that were running wait for their leases to end, and somebody waits for them.
    if !is_set("REELMILL_LEASE_SECONDS") {
        set("REELMILL_LEASE_SECONDS", "15".into());
    }
    if !is_set("REELMILL_INPUT_LOCAL_ROOTS") {
        let here = std::env::current_dir()?;
        // A comma in a folder's name would read as two folders.
        let roots: Vec<String> = [here.as_path(), data_dir]
            .iter()
            .map(|root| root.display().to_string())
            .filter(|root| !root.contains(','))
            .collect();
        set("REELMILL_INPUT_LOCAL_ROOTS", roots.join(","));
    }
    Ok(settings)
}

/// Where publishers come in. Held from here on: what the API tells of the port must stay true until the worker listens.
fn publishers(wanted: Option<u16>) -> anyhow::Result<TcpListener> {
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    match wanted {
        None => bind(RTMP_PORT).or_else(|_| bind(0)).context("no port is free for publishers"),
        Some(port) => {
            bind(port).with_context(|| format!("port {port} is in use; choose another with --rtmp-port"))
        }
    }
}

/// An empty variable counts as not set.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn directory_url(path: &Path) -> anyhow::Result<Url> {
    Url::from_directory_path(path).map_err(|()| anyhow::anyhow!("{} is not an absolute path", path.display()))
}

/// A secret kept in a file of mode 0600: the given one, else the one kept before, else a new one.
fn kept(path: &Path, given: Option<String>, new: impl FnOnce() -> String) -> anyhow::Result<String> {
    let before = match std::fs::read_to_string(path) {
        Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    match (given, before) {
        (Some(given), before) if before.as_ref() != Some(&given) => {
            write_private(path, &given)?;
            Ok(given)
        }
        (_, Some(before)) => Ok(before),
        (_, None) => {
            let new = new();
            write_private(path, &new)?;
            Ok(new)
        }
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    // Written beside and renamed: a reader never sees half of it, nor a moment with another mode.
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .with_context(|| beside.display().to_string())?;
    writeln!(file, "{text}")?;
    std::fs::rename(&beside, path).with_context(|| path.display().to_string())
}

fn make_private(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() {
        return Ok(());
    }
    if dir.exists() {
        bail!("{} is not a directory", dir.display());
    }
    // The private database may belong to another user, who must be able to pass through; secrets have modes of their own.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .with_context(|| dir.display().to_string())
}

fn greet(
    data_dir: &Path,
    address: SocketAddr,
    login_path: Option<&str>,
    admin_key: &str,
    rtmp: &str,
) -> anyhow::Result<()> {
    let base = format!("http://{address}");
    write_private(&data_dir.join(SERVER_FILE), &base)?;
    let login = format!("{base}{}", login_path.unwrap_or("/login"));
    write_private(&data_dir.join(LOGIN_FILE), &login)?;
    let data = data_dir.display();
    println!();
    println!("  Reelmill is running, on this machine only.");
    println!();
    println!("  pages:  {base}/");
    println!("  login:  {login}");
    println!("  docs:   {base}/docs");
    println!("  live:   {rtmp}, with the key that `reelmill live create` gives");
    println!("  data:   {data}");
    println!("  key:    {}… (in {data}/{ADMIN_KEY_FILE})", admin_key.chars().take(12).collect::<String>());
    println!();
    println!("  Submit a video:");
    println!("    reelmill --data-dir {data} job submit --watch VIDEO");
    println!("  or, with curl:");
    println!(
        "    curl {base}/api/v1/recordings -H \"Authorization: Bearer $(cat {data}/{ADMIN_KEY_FILE})\" -F file=@VIDEO"
    );
    println!();
    std::io::stdout().flush()?;
    Ok(())
}

/// A data directory that goes with the process.
struct Ephemeral(PathBuf);

impl Ephemeral {
    fn new() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("reelmill-dev-{}", uuid::Uuid::now_v7().simple()));
        make_private(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, dir = %self.0.display(), "could not remove the ephemeral data directory");
        }
    }
}
