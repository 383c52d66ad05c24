//! Live streams on this worker: publishers come in, one FFmpeg a broadcast encodes the ladder, a ring of bytes is the origin that
//! edges draw from, and segments go to the store as they close.

mod beat;
mod channel;
mod encoder;
mod encoding;
mod figures;
mod flv;
mod health;
mod ingest;
mod intake;
mod look;
mod matroska;
mod meter;
mod origin;
mod outlet;
mod pack;
mod passing;
mod quality;
mod run;
mod store;
mod studio;
mod takeover;
mod thumbnail;
mod wrap;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use reelmill_shared::auth::new_secret;
use reelmill_shared::auth::seal::Sealer;
use reelmill_shared::config::LiveConfig;
use reelmill_shared::db::Db;
use reelmill_shared::db::live::Carrier;
use reelmill_shared::ids::WorkerId;
use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::net::GuardedClient;
use reelmill_shared::storage::Storage;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ffmpeg::Programs;
use crate::live::studio::Studio;
use crate::scratch::Scratch;

/// What live streams need of their worker.
pub(crate) struct Parts {
    pub(crate) worker: WorkerId,
    pub(crate) config: LiveConfig,
    pub(crate) db: Db,
    pub(crate) storage: Storage,
    pub(crate) programs: Programs,
    /// Proven by this worker.
    pub(crate) encoders: Vec<Encoder>,
    pub(crate) scratch: Arc<Scratch>,
    /// Opens where pulls come from.
    pub(crate) sealer: Sealer,
    pub(crate) http: GuardedClient,
    pub(crate) input_roots: Vec<PathBuf>,
    /// Whether the farm wants this worker to take anything.
    pub(crate) may_work: watch::Receiver<bool>,
}

/// The live streams of a worker, ready to be served.
pub(crate) struct Live {
    studio: Arc<Studio>,
    listener: TcpListener,
    srt: ingest::srt::Place,
}

impl Live {
    /// Begins to listen for publishers, unless that was done already; serves none yet. `origin` is where the origin is served.
    pub(crate) async fn open(
        parts: Parts,
        publishers: Option<std::net::TcpListener>,
        origin: SocketAddr,
    ) -> anyhow::Result<Self> {
        let listener = listener(publishers, parts.config.rtmp_listen).await?;
        let address = match &parts.config.advertise {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None if origin.ip().is_unspecified() => anyhow::bail!(
                "REELMILL_WORKER_LISTEN is {origin}, which says nothing of where edges reach this worker: set REELMILL_WORKER_ADVERTISE"
            ),
            None => format!("http://{origin}"),
        };
        let carrier =
            Carrier { worker: parts.worker, origin: address, pass: new_secret(), lease: parts.config.lease };
        let srt = ingest::srt::Place::new(&parts.config, &carrier.origin);
        tracing::info!(rtmp = %listener.local_addr()?, %srt, origin = %carrier.origin, "taking live streams");
        Ok(Self { studio: Arc::new(Studio::new(parts, carrier)), listener, srt })
    }

    /// What edges ask.
    pub(crate) fn routes(&self) -> Router {
        origin::routes(Arc::clone(&self.studio))
    }

    /// Serves publishers until `shutdown`, and then until all they sent is stored.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let sessions = TaskTracker::new();
        let stop_beat = CancellationToken::new();
        let beating = tokio::spawn(beat::run(Arc::clone(&self.studio), stop_beat.clone()));
        let measuring = tokio::spawn(figures::run(Arc::clone(&self.studio), stop_beat.clone()));
        tokio::join!(
            ingest::rtmp::serve(self.listener, Arc::clone(&self.studio), sessions.clone(), shutdown.clone()),
            ingest::pull::serve(Arc::clone(&self.studio), sessions.clone(), shutdown.clone()),
            ingest::srt::serve(Arc::clone(&self.studio), self.srt, sessions.clone(), shutdown),
        );
        sessions.close();
        sessions.wait().await;
        self.studio.leave().await;
        stop_beat.cancel();
        let _ = tokio::join!(beating, measuring);
    }
}

async fn listener(
    publishers: Option<std::net::TcpListener>,
    listen: SocketAddr,
) -> anyhow::Result<TcpListener> {
    let Some(bound) = publishers else {
        let bound = TcpListener::bind(listen).await;
        return bound.with_context(|| format!("listening for publishers on {listen}"));
    };
    bound.set_nonblocking(true)?;
    Ok(TcpListener::from_std(bound)?)
}
