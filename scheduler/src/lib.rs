//! The steward: one leader among replicas runs the reconcilers, each on a timer of its own.

mod health;
mod reconcilers;

use std::sync::Arc;
use std::time::Duration;

use reelmill_shared::broker::Broker;
use reelmill_shared::cdn::CdnClient;
use reelmill_shared::config::SchedulerConfig;
use reelmill_shared::db::leader::{self, Leadership};
use reelmill_shared::db::{Db, DbError, migrate};
use reelmill_shared::ids::SchedulerId;
use reelmill_shared::lifecycle::wait_for_schema;
use reelmill_shared::net::Mediamtx;
use reelmill_shared::storage::Storage;
use reelmill_shared::webhook::Sender;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::reconcilers::{Context, Failure, Reconciler};

/// How long what is under way may go on after a signal.
const GRACE: Duration = Duration::from_secs(3);

/// Runs a scheduler until `shutdown`.
pub async fn run(
    config: SchedulerConfig,
    broker: Arc<dyn Broker>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let db = Db::new(&config.database)?;
    let storage = Storage::open(&config.storage)?;
    let health = health::serve(config.listen, db.clone(), shutdown.clone()).await?;
    let holder = SchedulerId::new();
    let sender = Sender::new(config.webhooks.net.clone(), config.webhooks.timeout)?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let cdn = config.cdn.clone().map(|config| CdnClient::new(http.clone(), config));
    let mediamtx = config.mediamtx.clone().map(|config| Mediamtx::new(http, config));
    let background = TaskTracker::new();
    let context = Context { db, broker, storage, config, sender, mediamtx, cdn, background };
    if context.config.migrate {
        migrate_when_reachable(&context.db, &shutdown).await?;
    } else {
        wait_for_schema(&context.db, &shutdown).await?;
    }
    while !shutdown.is_cancelled() {
        match leader::acquire(&context.db, holder, context.config.leader_lease).await {
            Ok(Some(leadership)) => lead(&context, leadership, &shutdown).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "could not ask for the lead"),
        }
        tokio::select! {
            () = sleep(context.config.leader_lease / 3) => {}
            () = shutdown.cancelled() => {}
        }
    }
    // What is cut off is sent again when its lease has ended, so a receiver that hangs is not worth a longer wait.
    context.background.close();
    if timeout(GRACE, context.background.wait()).await.is_err() {
        tracing::info!("leaving deliveries that are under way");
    }
    health.await?;
    Ok(())
}

/// Migrates and returns: what `--migrate` does.
pub async fn migrate_once(config: &SchedulerConfig) -> Result<(), DbError> {
    migrate::migrate(&Db::new(&config.database)?).await
}

async fn migrate_when_reachable(db: &Db, shutdown: &CancellationToken) -> Result<(), DbError> {
    const PAUSE: Duration = Duration::from_millis(500);
    loop {
        match migrate::migrate(db).await {
            Ok(()) => return Ok(()),
            Err(error @ DbError::Schema(_)) => return Err(error),
            Err(error) => tracing::warn!(%error, "could not migrate the database yet"),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Leads until the lead is lost or the program ends.
async fn lead(context: &Context, leadership: Leadership, shutdown: &CancellationToken) {
    tracing::info!(epoch = leadership.epoch, "leading");
    metrics::gauge!("reelmill_scheduler_leading").set(1.0);
    let lost = CancellationToken::new();
    let loops = reconcilers::all(&context.config)
        .into_iter()
        .map(|reconciler| repeat(context, reconciler, leadership, &lost, shutdown));
    tokio::join!(renew(context, leadership, &lost, shutdown), futures::future::join_all(loops));
    metrics::gauge!("reelmill_scheduler_leading").set(0.0);
    if shutdown.is_cancelled()
        && let Err(error) = leader::resign(&context.db, leadership).await
    {
        tracing::debug!(%error, "could not step down; the lease will end by itself");
    }
}

/// Keeps the lead. A leader that cannot renew stops by itself: its writes would fail their guard anyway.
async fn renew(
    context: &Context,
    leadership: Leadership,
    lost: &CancellationToken,
    shutdown: &CancellationToken,
) {
    let lease = context.config.leader_lease;
    let mut tick = interval(lease / 3);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            // A duty found the lease run out. It may be had anew, but only from the start: nobody does the duties of this one.
            () = lost.cancelled() => return,
            () = shutdown.cancelled() => break,
        }
        match leader::acquire(&context.db, leadership.holder, lease).await {
            Ok(Some(renewed)) if renewed.epoch == leadership.epoch => {}
            Ok(_) => {
                tracing::warn!("another scheduler leads now");
                break;
            }
            Err(error) => tracing::warn!(%error, "could not renew the lead"),
        }
    }
    lost.cancel();
}

async fn repeat(
    context: &Context,
    reconciler: Reconciler,
    leadership: Leadership,
    lost: &CancellationToken,
    shutdown: &CancellationToken,
) {
    let mut tick = interval(reconciler.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = lost.cancelled() => return,
            () = shutdown.cancelled() => return,
        }
        match reconciler.duty.run(context, &leadership).await {
            Ok(0) => {}
            Ok(done) => {
                tracing::info!(reconciler = reconciler.name, done, "reconciled");
                metrics::counter!("reelmill_reconciled_total", "reconciler" => reconciler.name)
                    .increment(done);
            }
            Err(Failure::Db(DbError::NotLeader)) => {
                tracing::warn!(reconciler = reconciler.name, "the lead has run out");
                lost.cancel();
                return;
            }
            Err(error) => {
                tracing::warn!(reconciler = reconciler.name, %error, "a reconciler failed; it will run again");
                metrics::counter!("reelmill_reconcile_failures_total", "reconciler" => reconciler.name)
                    .increment(1);
            }
        }
    }
}
