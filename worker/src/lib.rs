//! The mill: claims tasks, runs them under a lease, publishes what they made.

mod attempt;
mod beat;
mod cache;
mod capabilities;
mod claim_loop;
mod collect;
mod extent;
pub mod ffmpeg;
mod health;
mod live;
mod packager;
mod scratch;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reelmill_shared::broker::{Broker, QueueKey};
use reelmill_shared::config::WorkerConfig;
use reelmill_shared::db::Db;
use reelmill_shared::db::tasks::Claimant;
use reelmill_shared::db::workers::{self, Registration, WorkerState};
use reelmill_shared::ids::WorkerId;
use reelmill_shared::job::capability::Capability;
use reelmill_shared::lifecycle::wait_for_schema;
use reelmill_shared::net::{GuardedClient, Limits};
use reelmill_shared::storage::Storage;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::beat::Holds;
use crate::cache::SourceCache;
use crate::claim_loop::{ClaimLoop, Shift};
use crate::ffmpeg::Programs;
use crate::scratch::Scratch;
use crate::tasks::Shop;

/// Runs a worker until `shutdown`; then lets its tasks end within the drain time and gives the rest back.
///
/// `publishers` is where RTMP comes in, for who had to know the port before; else `REELMILL_RTMP_LISTEN` says it.
pub async fn run(
    config: WorkerConfig,
    broker: Arc<dyn Broker>,
    publishers: Option<std::net::TcpListener>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let programs = Programs::find().map_err(anyhow::Error::msg)?;
    let id = WorkerId::new();
    let scratch = Scratch::open(&config.scratch, id)
        .with_context(|| format!("the scratch directory {}", config.scratch.display()))?;
    let proven = capabilities::prove(&programs, config.pool, &scratch).await;
    if !proven.contains(&Capability::Base) {
        anyhow::bail!("FFmpeg at {} does not work", programs.ffmpeg.display());
    }
    let db = Db::new(&config.database)?;
    let storage = Storage::open(&config.storage)?;
    let cache = SourceCache::open(&config.cache, config.cache_bytes)
        .with_context(|| format!("the source cache {}", config.cache.display()))?;
    let http = GuardedClient::new(config.net.clone(), Limits::download(config.max_source_bytes))?;

    let scratch = Arc::new(scratch);
    let stop_health = CancellationToken::new();
    let listener = health::bind(config.listen, config.live.is_some()).await?;
    let (told, may_work) = watch::channel(true);
    let live = match (&config.live, &listener) {
        (Some(live), Some(listener)) => {
            let parts = live::Parts {
                worker: id,
                config: live.clone(),
                db: db.clone(),
                storage: storage.clone(),
                programs: programs.clone(),
                encoders: proven.iter().filter_map(|capability| capability.encoder()).collect(),
                scratch: Arc::clone(&scratch),
                sealer: config.secret.sealer.clone(),
                http: http.clone(),
                input_roots: config.input_roots.clone(),
                may_work: may_work.clone(),
            };
            Some(live::Live::open(parts, publishers, listener.local_addr()?).await?)
        }
        _ => None,
    };
    let origin = live.as_ref().map(live::Live::routes);
    let health = health::serve(listener, origin, db.clone(), stop_health.clone())?;
    if !wait_for_schema(&db, &shutdown).await? {
        stop_health.cancel();
        health.await?;
        return Ok(());
    }

    let capabilities: Vec<String> = proven.iter().map(ToString::to_string).collect();
    let name = config.name.clone().unwrap_or_else(default_name);
    let registration = Registration {
        id,
        name: &name,
        pool: config.pool.as_str(),
        slots: config.slots as i32,
        capabilities: &capabilities,
        version: env!("CARGO_PKG_VERSION"),
    };
    workers::register(&db, &registration).await?;
    tracing::info!(worker_id = %id, name, pool = %config.pool, slots = config.slots, ?capabilities, "worker ready");

    let holds = Holds::new(config.lease);
    // The beat outlives the claim loop: tasks that drain still hold their leases.
    let stop_beat = CancellationToken::new();
    let beating =
        tokio::spawn(beat::run(db.clone(), id, holds.clone(), told, shutdown.clone(), stop_beat.clone()));
    let queues =
        proven.iter().map(|cap| QueueKey { pool: config.pool, capability: cap.to_string() }).collect();
    let claimant = Claimant { worker_id: id, pool: config.pool, capabilities, lease: config.lease };
    let drain = config.drain;
    let shop = Arc::new(Shop { config, db: db.clone(), storage, cache, programs, http });
    let claims = ClaimLoop { shop, broker, claimant, queues, scratch, holds, tasks: TaskTracker::new() };
    let streaming = live.map(|live| tokio::spawn(live.run(shutdown.clone())));
    work(&claims, may_work, drain, &shutdown).await;
    if let Some(streaming) = streaming {
        let _ = streaming.await;
    }
    stop_beat.cancel();
    let _ = beating.await;
    if let Err(error) = workers::touch(&db, id, WorkerState::Gone).await {
        tracing::debug!(%error, "could not say goodbye");
    }
    stop_health.cancel();
    health.await?;
    Ok(())
}

/// Works in shifts until `shutdown`: one ends when the farm wants the worker to take nothing more, the next begins when it wants it back.
async fn work(
    claims: &ClaimLoop,
    mut may_work: watch::Receiver<bool>,
    drain: Duration,
    shutdown: &CancellationToken,
) {
    loop {
        let shift = Shift { over: shutdown.child_token(), give_back: CancellationToken::new() };
        // Never dropped half way: what was claimed must be begun.
        let claiming = async {
            claims.run(&shift).await;
            shift.over.cancel();
        };
        let listening = async {
            tokio::select! {
                _ = may_work.wait_for(|may| !may) => {
                    tracing::info!("taking no more work: asked to drain, or in quarantine");
                    shift.over.cancel();
                }
                () = shift.over.cancelled() => {}
            }
        };
        tokio::join!(claiming, listening);
        claims.tasks.close();
        if timeout(drain, claims.tasks.wait()).await.is_err() {
            tracing::info!(tasks = claims.tasks.len(), "giving back what is still running");
            shift.give_back.cancel();
            claims.tasks.wait().await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = may_work.wait_for(|may| *may) => {}
        }
        tracing::info!("taking work again");
        claims.tasks.reopen();
    }
}

fn default_name() -> String {
    let host = sysinfo::System::host_name().unwrap_or_else(|_| "worker".into());
    format!("{host}-{}", std::process::id())
}
