//! WebSockets that send media. What is to be sent next is decided when a viewer has taken what came before: nothing waits in memory for who is
//! slow, who finds whole segments left out instead, and is told.

mod desk;
mod doubt;
mod frame;
mod on_air;
mod playing;
mod recorded;
mod wishes;

pub(crate) use desk::PushError;
pub(crate) use playing::{Right, Terms, Viewer};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::ids::{SegmentDeliveryId, StreamId};
use reelmill_shared::media::abr::BitrateProfile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::desk::Desk;
use self::on_air::OnAir;
use self::playing::{Source, play};
use self::recorded::Recorded;
use self::wishes::Wishes;
use crate::problem::{Answer, Kind, Problem};
use crate::segment_deliveries::Wanted;
use crate::state::App;

/// Bytes of the longest message that a viewer sends.
const TOLD: usize = 4096;
/// Sockets of one address: of a household or an office, and far from all there are.
const PER_ADDRESS: usize = 64;
/// How long sockets may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);
/// Who finds all sockets taken tries again after so many seconds.
const RETRY: u16 = 10;

/// All sockets of this process.
pub(crate) struct Sockets {
    free: Arc<Semaphore>,
    /// How many each address has that is let in by a token alone.
    by_address: Arc<Mutex<HashMap<String, usize>>>,
    leaving: CancellationToken,
    open: TaskTracker,
    desk: Desk,
}

/// One of the sockets that an address may have.
struct Share {
    by_address: Arc<Mutex<HashMap<String, usize>>>,
    address: String,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// One of the sockets there may be.
pub(crate) struct Ticket {
    _free: OwnedSemaphorePermit,
    _share: Option<Share>,
    _open: TaskTrackerToken,
    leaving: CancellationToken,
}

impl Sockets {
    /// At most so many at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(most)),
            by_address: Arc::default(),
            leaving: CancellationToken::new(),
            open: TaskTracker::new(),
            desk: Desk::default(),
        }
    }

    /// Lets somebody in; `address` of whoever has no right of their own, but a token that all viewers share.
    fn enter(&self, address: Option<&str>) -> Answer<Ticket> {
        let share = address.map(|address| self.share(address)).transpose()?;
        let full = |_| {
            Problem::new(Kind::Unavailable, "all WebSockets of this process are taken")
                .with_retry_after(RETRY)
        };
        let free = Arc::clone(&self.free).try_acquire_owned().map_err(full)?;
        Ok(Ticket { _free: free, _share: share, _open: self.open.token(), leaving: self.leaving.clone() })
    }

    fn share(&self, address: &str) -> Answer<Share> {
        let mut all = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address.to_owned()).or_default();
        if *count >= PER_ADDRESS {
            let detail = format!("{PER_ADDRESS} WebSockets from one address are all there may be");
            return Err(Problem::new(Kind::TooMany, detail).with_retry_after(RETRY));
        }
        *count += 1;
        Ok(Share { by_address: Arc::clone(&self.by_address), address: address.to_owned() })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    /// Viewers of streams who hold one.
    pub(crate) fn viewers(&self) -> Vec<(StreamId, String)> {
        self.desk.viewers()
    }

    /// Sends a viewer of a stream a segment, besides what they play.
    pub(crate) async fn push(
        &self,
        stream: StreamId,
        viewer: &str,
        delivery: SegmentDeliveryId,
        wanted: Wanted,
    ) -> Result<(), PushError> {
        self.desk.push(stream, viewer, delivery, wanted).await
    }

    /// There may be something to deliver.
    pub(crate) fn nudge(&self) {
        self.desk.nudge.notify_one();
    }

    pub(crate) async fn nudged(&self) {
        self.desk.nudge.notified().await;
    }

    /// All sockets say that this process goes away, and close.
    pub(crate) fn leave(&self) {
        self.leaving.cancel();
        self.open.close();
    }

    /// Waits until they are closed.
    pub(crate) async fn left(&self) {
        if tokio::time::timeout(FAREWELL, self.open.wait()).await.is_err() {
            tracing::warn!(sockets = self.open.len(), "some WebSockets did not close in time");
        }
    }
}

/// Opens a socket of what may be watched, if there is something to see.
pub(crate) async fn open(
    app: &App,
    upgrade: WebSocketUpgrade,
    terms: Terms,
    quality: Option<&str>,
    position: f64,
) -> Answer<Response> {
    let profile = terms.viewer.as_ref().map_or(BitrateProfile::Low, |viewer| viewer.bitrate);
    let wishes = Wishes::new(quality, profile);
    let source = match terms.watched {
        Watched::Recording(id) => Source::Recorded(Box::new(Recorded::new(app, id, position).await?)),
        Watched::Livestream(id) => Source::OnAir(Box::new(OnAir::new(app, id, &wishes).await?)),
    };
    let stranger = terms.visitor.as_ref().filter(|_| terms.viewer.is_none());
    let ticket = app.sockets.enter(stranger.map(|visitor| visitor.address.as_str()))?;
    let app = app.clone();
    Ok(upgrade
        .max_message_size(TOLD)
        .max_frame_size(TOLD)
        .on_upgrade(move |socket| Box::pin(play(app, socket, terms, wishes, source, ticket))))
}
