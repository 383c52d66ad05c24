//! Settings: one struct a concern, read from a TOML file and `REELMILL_*` variables, all errors told at once.
//!
//! A variable beats the file. `[database] url` in the file is `REELMILL_DATABASE_URL`.

mod cdn;
mod ports;
mod vars;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use cdn::CdnConfig;
pub use ports::Ports;
pub use vars::{ConfigErrors, Vars};

use crate::auth::seal::Sealer;
use crate::auth::token::Signer;
use crate::job::capability::Pool;
use crate::job::retention::{Age, Kept, Retention};
use crate::net::{MediamtxConfig, NetPolicy};

/// `REELMILL_DATABASE_URL`, `REELMILL_DATABASE_POOL_SIZE` (16).
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    pub url: String,
    pub pool_size: u32,
}

impl DatabaseConfig {
    pub fn read(vars: &mut Vars) -> Self {
        let pool_size = vars.value("REELMILL_DATABASE_POOL_SIZE").or(16);
        // Of two, one can wait for a lock that the other holds, and still somebody gets on.
        if pool_size < 2 {
            vars.fault("REELMILL_DATABASE_POOL_SIZE", "must be at least 2");
        }
        Self { url: vars.secret("REELMILL_DATABASE_URL").required(), pool_size }
    }
}

/// `REELMILL_AMQP_URL` (none: no rings, workers look by themselves), `REELMILL_AMQP_PREFIX` (`reelmill`),
/// `REELMILL_AMQP_QUEUE_TYPE` (`quorum`; `classic` where a single node is all there is).
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    pub url: Option<String>,
    /// First part of all queue names.
    pub prefix: String,
    pub quorum: bool,
}

impl BrokerConfig {
    pub fn read(vars: &mut Vars) -> Self {
        let queue_type = vars.value::<String>("REELMILL_AMQP_QUEUE_TYPE").or("quorum".into());
        if !matches!(queue_type.as_str(), "quorum" | "classic") {
            vars.fault("REELMILL_AMQP_QUEUE_TYPE", "must be quorum or classic");
        }
        Self {
            url: vars.secret("REELMILL_AMQP_URL").optional(),
            prefix: vars.value("REELMILL_AMQP_PREFIX").or("reelmill".into()),
            quorum: queue_type == "quorum",
        }
    }
}

/// `REELMILL_STORAGE_URL`: `file:///path`, `s3://bucket/prefix`, `gs://…`, `az://…`. Credentials and endpoints come from the
/// store's own variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT` …).
#[derive(Debug, Clone)]
pub struct StorageConfig {
    pub url: Url,
}

impl StorageConfig {
    pub fn read(vars: &mut Vars) -> Self {
        let fallback = || Url::parse("memory:///").unwrap_or_else(|_| unreachable!("a constant that parses"));
        Self { url: vars.value::<Url>("REELMILL_STORAGE_URL").required_or_else(fallback) }
    }
}

/// `REELMILL_SECRET_KEY`: at least 32 characters; several separated by commas while one is rotated, the first signs and seals.
#[derive(Debug, Clone)]
pub struct SecretConfig {
    pub signer: Signer,
    pub sealer: Sealer,
}

impl SecretConfig {
    pub fn read(vars: &mut Vars) -> Self {
        let text = vars.secret("REELMILL_SECRET_KEY").required();
        Self::of(vars, &text)
    }

    /// For a program that can do without one, but then opens nothing.
    fn read_if_set(vars: &mut Vars) -> Self {
        let text = vars.secret("REELMILL_SECRET_KEY").optional().unwrap_or_default();
        Self::of(vars, &text)
    }

    fn of(vars: &mut Vars, text: &str) -> Self {
        let keys: Vec<&str> = text.split(',').map(str::trim).filter(|key| !key.is_empty()).collect();
        if keys.is_empty() && !text.is_empty() {
            vars.fault("REELMILL_SECRET_KEY", "holds no key between its commas");
        }
        if keys.iter().any(|key| key.len() < 32) {
            vars.fault("REELMILL_SECRET_KEY", "each key must have at least 32 characters");
        }
        Self { signer: Signer::new(&keys), sealer: Sealer::new(&keys) }
    }
}

/// How webhooks are sent, by whomever.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// `REELMILL_NET_ALLOW`: ranges that they may reach besides public addresses.
    pub net: NetPolicy,
    /// `REELMILL_WEBHOOK_TIMEOUT_SECONDS` (15): how long a receiver may take to answer.
    pub timeout: Duration,
}

impl WebhookConfig {
    pub fn read(vars: &mut Vars) -> Self {
        let timeout: f64 = vars.value("REELMILL_WEBHOOK_TIMEOUT_SECONDS").or(15.0);
        if !(1.0..=60.0).contains(&timeout) {
            vars.fault("REELMILL_WEBHOOK_TIMEOUT_SECONDS", "must be from 1 to 60");
        }
        Self { net: net_policy(vars), timeout: Duration::from_secs_f64(timeout.clamp(1.0, 60.0)) }
    }
}

/// `REELMILL_MEDIAMTX_API_URL`, with `REELMILL_MEDIAMTX_RTSP_URL` and `REELMILL_MEDIAMTX_WEBRTC_URL`; `None` where none of them is set.
fn mediamtx(vars: &mut Vars) -> Option<MediamtxConfig> {
    let mut url = |name: &'static str, schemes: &[&str], form: &str| {
        let url: Option<Url> = vars.value(name).optional();
        if url.as_ref().is_some_and(|url| !schemes.contains(&url.scheme()) || !url.has_host()) {
            vars.fault(name, format!("must have the form {form}"));
        }
        url
    };
    let api = url("REELMILL_MEDIAMTX_API_URL", &["http", "https"], "http://host:9997");
    let rtsp = url("REELMILL_MEDIAMTX_RTSP_URL", &["rtsp", "rtsps"], "rtsp://host:8554");
    let webrtc = url("REELMILL_MEDIAMTX_WEBRTC_URL", &["http", "https"], "http://host:8889");
    match (api, rtsp, webrtc) {
        (Some(api), Some(rtsp), Some(webrtc)) => Some(MediamtxConfig { api, rtsp, webrtc }),
        (None, None, None) => None,
        _ => {
            vars.fault(
                "REELMILL_MEDIAMTX_API_URL",
                "goes together with REELMILL_MEDIAMTX_RTSP_URL and REELMILL_MEDIAMTX_WEBRTC_URL",
            );
            None
        }
    }
}

/// `REELMILL_CACHE_URL`; it may hold a password.
fn cache_url(vars: &mut Vars) -> Option<String> {
    let text = vars.secret("REELMILL_CACHE_URL").optional()?;
    let reads =
        Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
    if !reads {
        vars.fault(
            "REELMILL_CACHE_URL",
            "must have the form redis://host:6379 or rediss://user:password@host",
        );
    }
    Some(text)
}

/// Settings of the API.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    pub database: DatabaseConfig,
    pub broker: BrokerConfig,
    pub storage: StorageConfig,
    pub secret: SecretConfig,
    /// `REELMILL_API_LISTEN` (127.0.0.1:8080).
    pub listen: SocketAddr,
    /// `None`: HTTP in clear.
    pub tls: Option<TlsConfig>,
    /// `REELMILL_PUBLIC_URL`: how viewers reach the API; absolute URLs start with it.
    pub public_url: Option<Url>,
    /// `REELMILL_PUBLIC_RTMP_URL`: where publishers send to, without the stream key; `rtmp` or `rtmps`.
    pub public_rtmp_url: Option<Url>,
    /// `REELMILL_ALLOWED_HOSTS` (comma-separated): the only `Host` headers answered; empty for any.
    pub allowed_hosts: Vec<String>,
    /// `REELMILL_PROXIES` (0): how many proxies of ours a request comes through. So many addresses at the end of `X-Forwarded-For` are theirs to
    /// tell; who watches is told apart by the first of those.
    pub proxies: u8,
    /// `REELMILL_ADMIN_KEY`: the first key, scope `admin`, of the project `default`.
    pub admin_key: Option<String>,
    /// `REELMILL_INPUT_LOCAL_ROOTS` (comma-separated): directories `file://` inputs may come from.
    pub input_roots: Vec<PathBuf>,
    /// `REELMILL_UPLOAD_MAX_BYTES` (1 TiB).
    pub upload_max_bytes: u64,
    /// `REELMILL_TS_CACHE_BYTES` (256 MiB): MPEG-TS segments kept in memory.
    pub ts_cache_bytes: u64,
    /// `REELMILL_EDGE_CACHE_BYTES` (256 MiB): parts and segments of live streams kept in memory.
    pub edge_cache_bytes: u64,
    /// `REELMILL_STREAM_BANDWIDTH` (100000000): bits per second that the viewers of a stream may take together, where it says nothing else.
    pub stream_bandwidth: u64,
    /// `REELMILL_SOCKETS` (1000): WebSockets at once.
    pub sockets: usize,
    pub deliveries: DeliveryConfig,
    /// `REELMILL_PLAYBACK_TOKEN_SECONDS` (6 h): how long a viewer's token lasts at least.
    pub token_lifetime: Duration,
    /// What plays cameras over RTSP and WebRTC.
    pub mediamtx: Option<MediamtxConfig>,
    /// `REELMILL_CACHE_URL`: a Valkey or Redis in which apis keep things for each other.
    pub cache_url: Option<String>,
    /// What viewers fetch media from, if not from us.
    pub cdn: Option<CdnConfig>,
    pub webhooks: WebhookConfig,
    pub retention: RetentionConfig,
}

impl ApiConfig {
    pub fn read(vars: &mut Vars) -> Self {
        let admin_key = vars.secret("REELMILL_ADMIN_KEY").optional();
        if admin_key.as_ref().is_some_and(|key| key.len() < 20) {
            vars.fault("REELMILL_ADMIN_KEY", "must have at least 20 characters");
        }
        let public_rtmp_url: Option<Url> = vars.value("REELMILL_PUBLIC_RTMP_URL").optional();
        if public_rtmp_url
            .as_ref()
            .is_some_and(|url| !matches!(url.scheme(), "rtmp" | "rtmps") || !url.has_host())
        {
            vars.fault("REELMILL_PUBLIC_RTMP_URL", "must have the form rtmp://host:1935/live");
        }
        Self {
            database: DatabaseConfig::read(vars),
            broker: BrokerConfig::read(vars),
            storage: StorageConfig::read(vars),
            secret: SecretConfig::read(vars),
            listen: vars.value("REELMILL_API_LISTEN").or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            tls: TlsConfig::read(vars),
            public_url: vars.value("REELMILL_PUBLIC_URL").optional(),
            public_rtmp_url,
            allowed_hosts: vars.list("REELMILL_ALLOWED_HOSTS"),
            proxies: vars.value("REELMILL_PROXIES").or(0),
            admin_key,
            input_roots: local_roots(vars),
            upload_max_bytes: vars.value("REELMILL_UPLOAD_MAX_BYTES").or(1 << 40),
            ts_cache_bytes: vars.value("REELMILL_TS_CACHE_BYTES").or(256 << 20),
            edge_cache_bytes: vars.value("REELMILL_EDGE_CACHE_BYTES").or(256 << 20),
            stream_bandwidth: stream_bandwidth(vars),
            sockets: vars.value::<u32>("REELMILL_SOCKETS").or(1000) as usize,
            deliveries: DeliveryConfig::read(vars),
            token_lifetime: token_lifetime(vars),
            mediamtx: mediamtx(vars),
            cache_url: cache_url(vars),
            cdn: CdnConfig::read(vars),
            webhooks: WebhookConfig::read(vars),
            retention: RetentionConfig::read(vars),
        }
    }
}

/// Bits per second that the viewers of a stream may be allowed together: one of the lowest profile, to more than any farm sends.
pub const STREAM_BANDWIDTHS: RangeInclusive<u64> = 500_000..=100_000_000_000_000;

fn stream_bandwidth(vars: &mut Vars) -> u64 {
    let (least, most) = (STREAM_BANDWIDTHS.start(), STREAM_BANDWIDTHS.end());
    let bandwidth = vars.value("REELMILL_STREAM_BANDWIDTH").or(100_000_000);
    if !STREAM_BANDWIDTHS.contains(&bandwidth) {
        vars.fault("REELMILL_STREAM_BANDWIDTH", format!("must be from {least} to {most} bits per second"));
    }
    bandwidth
}

/// How segments are delivered that somebody asked for.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// `REELMILL_DELIVERY_WORKERS` (4): deliveries at once.
    pub workers: usize,
    /// `REELMILL_DELIVERY_QUEUE` (1000): deliveries of one stream that wait.
    pub queue: u32,
    /// `REELMILL_DELIVERY_SECONDS` (30): one that was not made by then fails.
    pub keep: Duration,
}

impl DeliveryConfig {
    fn read(vars: &mut Vars) -> Self {
        let workers: usize = vars.value("REELMILL_DELIVERY_WORKERS").or(4);
        if !(1..=64).contains(&workers) {
            vars.fault("REELMILL_DELIVERY_WORKERS", "must be from 1 to 64");
        }
        let keep: f64 = vars.value("REELMILL_DELIVERY_SECONDS").or(30.0);
        if !(1.0..=3600.0).contains(&keep) {
            vars.fault("REELMILL_DELIVERY_SECONDS", "must be from 1 to 3600");
        }
        Self {
            workers,
            queue: vars.value("REELMILL_DELIVERY_QUEUE").or(1000),
            keep: Duration::from_secs_f64(keep.clamp(1.0, 3600.0)),
        }
    }
}

/// What a server shows to be spoken to by TLS.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// `REELMILL_TLS_CERT`: a PEM file, the server's certificate first, those between it and the root behind it.
    pub cert: PathBuf,
    /// `REELMILL_TLS_KEY`: its key, a PEM file.
    pub key: PathBuf,
}

impl TlsConfig {
    fn read(vars: &mut Vars) -> Option<Self> {
        let cert = vars.value("REELMILL_TLS_CERT").optional();
        let key = vars.value("REELMILL_TLS_KEY").optional();
        if cert.is_some() != key.is_some() {
            vars.fault("REELMILL_TLS_CERT", "goes with REELMILL_TLS_KEY: both or none");
        }
        Some(Self { cert: cert?, key: key? })
    }
}

/// How long things are kept where neither a profile nor a project says so.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionConfig {
    /// Each has an age here.
    pub ages: Retention,
}

impl RetentionConfig {
    fn read(vars: &mut Vars) -> Self {
        let mut ages = Retention::default();
        let mut age = |name: &'static str, kept, default| {
            ages.0.insert(kept, vars.value(name).or(default));
        };
        age("REELMILL_RETENTION_SOURCES_DAYS", Kept::Sources, Age::Forever);
        age("REELMILL_RETENTION_OUTPUTS_DAYS", Kept::Outputs, Age::Forever);
        age("REELMILL_RETENTION_JOBS_DAYS", Kept::Jobs, Age::Days(90.0));
        age("REELMILL_RETENTION_LOGS_DAYS", Kept::Logs, Age::Days(30.0));
        age("REELMILL_RETENTION_EVENTS_DAYS", Kept::Events, Age::Days(30.0));
        age("REELMILL_RETENTION_DELIVERIES_DAYS", Kept::Deliveries, Age::Days(30.0));
        age("REELMILL_RETENTION_BROADCASTS_DAYS", Kept::Broadcasts, Age::Days(30.0));
        Self { ages }
    }
}

/// Settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    pub database: DatabaseConfig,
    pub broker: BrokerConfig,
    pub storage: StorageConfig,
    /// `REELMILL_WORKER_LISTEN`: health and metrics; none by default.
    pub listen: Option<SocketAddr>,
    /// `REELMILL_WORKER_POOL` (`cpu`).
    pub pool: Pool,
    /// `REELMILL_WORKER_NAME` (host name and process id).
    pub name: Option<String>,
    /// `REELMILL_WORKER_SLOTS` (the number of cores).
    pub slots: u32,
    /// `REELMILL_LEASE_SECONDS` (60): a quarter of it is the beat.
    pub lease: Duration,
    /// `REELMILL_POLL_SECONDS` (10): how often to look without being rung, jittered by half.
    pub poll: Duration,
    /// `REELMILL_SCRATCH_DIR` (a folder under the system's temporary directory).
    pub scratch: PathBuf,
    /// `REELMILL_CACHE_DIR` (`cache` beside the scratch): sources kept per host.
    pub cache: PathBuf,
    /// `REELMILL_CACHE_BYTES` (20 GiB).
    pub cache_bytes: u64,
    /// `REELMILL_ENCODE_THREADS` (0: one, or as many as there are idle slots when the job is planned).
    pub encode_threads: u32,
    /// `REELMILL_CHUNK_SECONDS` (0: by the source's length and the free slots): how much of a source one task encodes.
    pub chunk: Option<Duration>,
    /// `REELMILL_MAX_DURATION_SECONDS` (12 h): longer sources are refused.
    pub max_duration: Duration,
    /// `REELMILL_MAX_SOURCE_BYTES` (1 TiB): larger downloads are refused.
    pub max_source_bytes: u64,
    pub input_roots: Vec<PathBuf>,
    /// `REELMILL_NET_ALLOW`: ranges that downloads may reach besides public addresses.
    pub net: NetPolicy,
    /// `REELMILL_DRAIN_SECONDS` (25): how long tasks may go on after a signal before they are given back.
    pub drain: Duration,
    /// `REELMILL_STALL_SECONDS` (60): an FFmpeg that takes no CPU time for so long hangs, and is ended.
    pub stall: Duration,
    /// Where the worker carries live streams.
    pub live: Option<LiveConfig>,
    /// Opens where live streams are fetched from.
    pub secret: SecretConfig,
}

/// Settings of a worker that carries live streams.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// `REELMILL_RTMP_LISTEN` (in the pool `live` 0.0.0.0:1935; else a worker carries no live streams): where publishers come in.
    pub rtmp_listen: SocketAddr,
    /// `REELMILL_SRT_PORTS` (10080-10099): UDP ports, on the address where publishers come in by RTMP, each for a publisher by SRT.
    pub srt_ports: Ports,
    /// `REELMILL_SRT_HOST` (the host of `REELMILL_WORKER_ADVERTISE`): where publishers by SRT reach this worker.
    pub srt_host: Option<String>,
    /// `REELMILL_WORKER_ADVERTISE` (`http://` and the address it listens on): where edges reach the origin.
    pub advertise: Option<Url>,
    /// `REELMILL_LIVE_LEASE_SECONDS` (6): a worker that is silent for so long has lost its streams.
    pub lease: Duration,
    /// `REELMILL_LIVE_GRACE_SECONDS` (60): how long a publisher may be away before its broadcast is over.
    pub grace: Duration,
}

impl LiveConfig {
    fn read(vars: &mut Vars, pool: Pool) -> Option<Self> {
        let listen = vars.value::<SocketAddr>("REELMILL_RTMP_LISTEN").optional();
        let usual = || (pool == Pool::Live).then(|| SocketAddr::from(([0, 0, 0, 0], 1935)));
        let advertise = vars.value("REELMILL_WORKER_ADVERTISE").optional();
        let lease: f64 = vars.value("REELMILL_LIVE_LEASE_SECONDS").or(6.0);
        if !(1.0..=60.0).contains(&lease) {
            vars.fault("REELMILL_LIVE_LEASE_SECONDS", "must be from 1 to 60");
        }
        let grace = live_grace(vars);
        let srt_ports = vars.value("REELMILL_SRT_PORTS").or(Ports::SRT);
        let srt_host = vars.value::<String>("REELMILL_SRT_HOST").optional();
        if srt_host.as_deref().is_some_and(|host| url::Host::parse(host).is_err()) {
            vars.fault(
                "REELMILL_SRT_HOST",
                "must be a host name or an address, without a port; IPv6 in brackets",
            );
        }
        Some(Self {
            rtmp_listen: listen.or_else(usual)?,
            srt_ports,
            srt_host,
            advertise,
            lease: Duration::from_secs_f64(lease.clamp(1.0, 60.0)),
            grace,
        })
    }
}

impl WorkerConfig {
    pub fn read(vars: &mut Vars) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let directory = |vars: &mut Vars, name, default: PathBuf| {
            PathBuf::from(vars.value(name).or(default.display().to_string()))
        };
        let scratch = directory(vars, "REELMILL_SCRATCH_DIR", std::env::temp_dir().join("reelmill-scratch"));
        let lease: f64 = vars.value("REELMILL_LEASE_SECONDS").or(60.0);
        if !(1.0..=3600.0).contains(&lease) {
            vars.fault("REELMILL_LEASE_SECONDS", "must be from 1 to 3600");
        }
        let poll: f64 = vars.value("REELMILL_POLL_SECONDS").or(10.0);
        if !(0.05..=600.0).contains(&poll) {
            vars.fault("REELMILL_POLL_SECONDS", "must be from 0.05 to 600");
        }
        let chunk: u64 = vars.value("REELMILL_CHUNK_SECONDS").or(0);
        let slots = vars.value("REELMILL_WORKER_SLOTS").or(cores);
        if slots == 0 {
            vars.fault("REELMILL_WORKER_SLOTS", "must be at least 1");
        }
        let pool = vars.value("REELMILL_WORKER_POOL").or(Pool::Cpu);
        Self {
            database: DatabaseConfig::read(vars),
            broker: BrokerConfig::read(vars),
            storage: StorageConfig::read(vars),
            listen: vars.value("REELMILL_WORKER_LISTEN").optional(),
            live: LiveConfig::read(vars, pool),
            secret: SecretConfig::read_if_set(vars),
            pool,
            name: vars.value("REELMILL_WORKER_NAME").optional(),
            slots: slots.max(1),
            lease: Duration::from_secs_f64(lease.clamp(1.0, 3600.0)),
            poll: Duration::from_secs_f64(poll.clamp(0.05, 600.0)),
            cache: directory(vars, "REELMILL_CACHE_DIR", scratch.join("cache")),
            scratch,
            cache_bytes: vars.value("REELMILL_CACHE_BYTES").or(20 << 30),
            encode_threads: vars.value("REELMILL_ENCODE_THREADS").or(0),
            chunk: (chunk > 0).then(|| Duration::from_secs(chunk)),
            max_duration: Duration::from_secs(vars.value("REELMILL_MAX_DURATION_SECONDS").or(12 * 3600)),
            max_source_bytes: vars.value("REELMILL_MAX_SOURCE_BYTES").or(1 << 40),
            input_roots: local_roots(vars),
            net: net_policy(vars),
            drain: Duration::from_secs(vars.value("REELMILL_DRAIN_SECONDS").or(25)),
            stall: Duration::from_secs(vars.value("REELMILL_STALL_SECONDS").or(60_u64).max(1)),
        }
    }
}

/// Settings of a scheduler.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    pub database: DatabaseConfig,
    pub broker: BrokerConfig,
    pub storage: StorageConfig,
    /// `REELMILL_SCHEDULER_LISTEN`: health and metrics; none by default.
    pub listen: Option<SocketAddr>,
    /// `REELMILL_LEADER_LEASE_SECONDS` (10).
    pub leader_lease: Duration,
    /// `REELMILL_SWEEP_SECONDS` (2): how often expired leases and due retries are looked for.
    pub sweep: Duration,
    /// `REELMILL_UNSERVED_SECONDS` (1 h): jobs fail that wait for so long for what no worker can do.
    pub unserved: Duration,
    /// `REELMILL_UPLOAD_IDLE_SECONDS` (24 h): uploads untouched for so long, unfinished or unused, are deleted.
    pub upload_idle: Duration,
    /// `REELMILL_LIVE_GRACE_SECONDS` (60): how long the publisher of a stream that nobody carries may be away.
    pub live_grace: Duration,
    pub retention: RetentionConfig,
    /// Opens the secrets of webhooks.
    pub secret: SecretConfig,
    pub webhooks: WebhookConfig,
    /// `REELMILL_WEBHOOK_CONCURRENCY` (64): deliveries on their way at once.
    pub webhook_concurrency: usize,
    /// `REELMILL_WEBHOOK_DISABLE_SECONDS` (5 days): an endpoint to which everything failed for so long is disabled.
    pub webhook_patience: Duration,
    /// Where sessions that are over are forgotten, too.
    pub mediamtx: Option<MediamtxConfig>,
    /// What is told to forget what changed, and to fetch what is new.
    pub cdn: Option<CdnConfig>,
    /// `REELMILL_PLAYBACK_TOKEN_SECONDS` (6 h): the CDN fetches with the token that viewers have.
    pub token_lifetime: Duration,
    /// Migrate at start, under a lock; off with `--no-migrate`.
    pub migrate: bool,
}

impl SchedulerConfig {
    pub fn read(vars: &mut Vars) -> Self {
        Self::read_with(vars, SecretConfig::read)
    }

    /// For a run that only migrates: it needs no secret key.
    pub fn read_to_migrate(vars: &mut Vars) -> Self {
        Self::read_with(vars, SecretConfig::read_if_set)
    }

    fn read_with(vars: &mut Vars, secret: impl FnOnce(&mut Vars) -> SecretConfig) -> Self {
        let leader_lease: f64 = vars.value("REELMILL_LEADER_LEASE_SECONDS").or(10.0);
        let sweep: f64 = vars.value("REELMILL_SWEEP_SECONDS").or(2.0);
        for (name, value) in
            [("REELMILL_LEADER_LEASE_SECONDS", leader_lease), ("REELMILL_SWEEP_SECONDS", sweep)]
        {
            if !(0.05..=3600.0).contains(&value) {
                vars.fault(name, "must be from 0.05 to 3600");
            }
        }
        let webhook_concurrency: usize = vars.value("REELMILL_WEBHOOK_CONCURRENCY").or(64);
        if !(2..=1000).contains(&webhook_concurrency) {
            vars.fault("REELMILL_WEBHOOK_CONCURRENCY", "must be from 2 to 1000");
        }
        Self {
            database: DatabaseConfig::read(vars),
            broker: BrokerConfig::read(vars),
            storage: StorageConfig::read(vars),
            secret: secret(vars),
            webhooks: WebhookConfig::read(vars),
            webhook_concurrency: webhook_concurrency.clamp(2, 1000),
            webhook_patience: Duration::from_secs(
                vars.value("REELMILL_WEBHOOK_DISABLE_SECONDS").or(5 * 24 * 3600),
            ),
            mediamtx: mediamtx(vars),
            cdn: CdnConfig::read(vars),
            token_lifetime: token_lifetime(vars),
            listen: vars.value("REELMILL_SCHEDULER_LISTEN").optional(),
            leader_lease: Duration::from_secs_f64(leader_lease.clamp(0.05, 3600.0)),
            sweep: Duration::from_secs_f64(sweep.clamp(0.05, 3600.0)),
            unserved: Duration::from_secs(vars.value("REELMILL_UNSERVED_SECONDS").or(3600)),
            upload_idle: Duration::from_secs(vars.value("REELMILL_UPLOAD_IDLE_SECONDS").or(24 * 3600)),
            live_grace: live_grace(vars),
            retention: RetentionConfig::read(vars),
            migrate: true,
        }
    }
}

/// `REELMILL_PLAYBACK_TOKEN_SECONDS`.
fn token_lifetime(vars: &mut Vars) -> Duration {
    Duration::from_secs(vars.value("REELMILL_PLAYBACK_TOKEN_SECONDS").or(6 * 3600).max(60))
}

/// `REELMILL_LIVE_GRACE_SECONDS`.
fn live_grace(vars: &mut Vars) -> Duration {
    let grace: f64 = vars.value("REELMILL_LIVE_GRACE_SECONDS").or(60.0);
    if !(0.0..=3600.0).contains(&grace) {
        vars.fault("REELMILL_LIVE_GRACE_SECONDS", "must be from 0 to 3600");
    }
    Duration::from_secs_f64(grace.clamp(0.0, 3600.0))
}

/// `REELMILL_NET_ALLOW`.
fn net_policy(vars: &mut Vars) -> NetPolicy {
    let text = vars.value::<String>("REELMILL_NET_ALLOW").or(String::new());
    text.parse().unwrap_or_else(|error| {
        vars.fault("REELMILL_NET_ALLOW", format!("{error}"));
        NetPolicy::default()
    })
}

fn local_roots(vars: &mut Vars) -> Vec<PathBuf> {
    vars.list("REELMILL_INPUT_LOCAL_ROOTS").into_iter().map(PathBuf::from).collect()
}
