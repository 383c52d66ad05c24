//! One file a duty. A reconciler looks at what is and brings it to what should be: idempotent, without input, safe to run
//! at any time. Writes that two leaders must not both make are guarded by the leader's epoch.

mod cdn_purges;
mod cdn_warmings;
mod forgotten_rings;
mod garbage;
mod leases;
mod live_recordings;
mod live_windows;
mod livestream_secrets;
mod livestreams;
mod metrics;
mod playback_sessions;
mod progress;
mod quarantine;
mod retention;
mod segment_deliveries;
mod tidy;
mod unserved;
mod viewing;
mod webhook_deliveries;
mod webhook_fan_out;
mod webhook_figures;
mod webhook_secrets;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reelmill_shared::broker::Broker;
use reelmill_shared::cdn::CdnClient;
use reelmill_shared::config::SchedulerConfig;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::{Db, DbError};
use reelmill_shared::net::Mediamtx;
use reelmill_shared::storage::{Storage, StorageError};
use reelmill_shared::webhook::Sender;
use tokio_util::task::TaskTracker;

/// What reconcilers work with.
pub(crate) struct Context {
    pub(crate) db: Db,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) storage: Storage,
    pub(crate) config: SchedulerConfig,
    pub(crate) sender: Sender,
    pub(crate) mediamtx: Option<Mediamtx>,
    pub(crate) cdn: Option<CdnClient>,
    /// What duties have begun and do not wait for.
    pub(crate) background: TaskTracker,
}

/// Why a reconciler could not do its duty this time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A duty of the leader.
#[async_trait]
pub(crate) trait Duty: Send + Sync {
    /// Does what is to be done now. Returns how much that was.
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure>;
}

/// A duty and how often it is done.
pub(crate) struct Reconciler {
    pub(crate) name: &'static str,
    pub(crate) every: Duration,
    pub(crate) duty: Box<dyn Duty>,
}

/// Somebody waits for these.
const PROMPT: Duration = Duration::from_millis(200);

/// All of them: a new one is a file and a line here.
pub(crate) fn all(config: &SchedulerConfig) -> Vec<Reconciler> {
    let sweep = config.sweep;
    let reconciler = |name, every, duty: Box<dyn Duty>| Reconciler { name, every, duty };
    vec![
        reconciler("leases", sweep, Box::new(leases::ExpiredLeases)),
        reconciler("forgotten_rings", sweep, Box::new(forgotten_rings::ForgottenRings)),
        reconciler("livestreams", sweep, Box::<livestreams::Livestreams>::default()),
        reconciler("live_recordings", sweep, Box::new(live_recordings::LiveRecordings)),
        reconciler("live_windows", sweep * 5, Box::new(live_windows::LiveWindows)),
        reconciler("workers", sweep * 5, Box::new(workers::SilentWorkers)),
        reconciler("quarantine", sweep * 5, Box::new(quarantine::BadWorkers)),
        reconciler("unserved", sweep * 10, Box::new(unserved::Unserved)),
        reconciler("garbage", sweep * 5, Box::new(garbage::Garbage)),
        reconciler("metrics", sweep * 2, Box::new(metrics::Demand)),
        reconciler("progress", sweep * 2, Box::new(progress::Progress)),
        reconciler("webhook_fan_out", PROMPT, Box::new(webhook_fan_out::FanOut)),
        reconciler("webhook_deliveries", PROMPT, Box::new(webhook_deliveries::Deliver::new(config))),
        reconciler("webhook_figures", sweep * 5, Box::new(webhook_figures::Figures)),
        reconciler("livestream_secrets", Duration::from_secs(300), Box::new(livestream_secrets::Secrets)),
        reconciler("webhook_secrets", Duration::from_secs(300), Box::new(webhook_secrets::Secrets)),
        reconciler("cdn_purges", PROMPT, Box::new(cdn_purges::Purges)),
        reconciler("cdn_warmings", sweep, Box::new(cdn_warmings::Warmings)),
        reconciler("playback_sessions", sweep * 5, Box::new(playback_sessions::Over)),
        reconciler("segment_deliveries", sweep, Box::new(segment_deliveries::SegmentDeliveries)),
        reconciler("retention", sweep * 30, Box::<retention::Retention>::default()),
        reconciler("viewing", Duration::from_secs(300), Box::new(viewing::Viewing)),
        reconciler("tidy", Duration::from_secs(300), Box::new(tidy::Tidy)),
    ]
}
