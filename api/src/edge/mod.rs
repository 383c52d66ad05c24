//! The edge: serves the viewers of live streams out of a copy of what their origins hold. One feed a stream keeps its window,
//! playlists are rendered once a version, and a file is asked for upstream once, however many viewers wait for it.

mod archive;
mod files;
mod follower;
mod following;
mod pictures;
mod playlists;
mod serve;
mod view;

pub(crate) use archive::serve_archived;
pub(crate) use following::Following;
pub(crate) use pictures::{live_thumbnail, recorded_thumbnail};
pub(crate) use serve::{LiveQuery, TakesGzip, serve, window};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::future::Cache;
use reelmill_shared::db::Db;
use reelmill_shared::ids::{BroadcastId, LivestreamId};
use reelmill_shared::media::live::window::Window;
use reelmill_shared::storage::Storage;
use tokio::sync::Semaphore;

use self::files::Files;
use self::view::View;

/// All streams that somebody watches here.
pub(crate) struct Edges {
    db: Db,
    http: reqwest::Client,
    files: Files,
    /// Broadcasts from their beginning, for a moment: they may still grow, or be deleted.
    archives: Cache<BroadcastId, Arc<Window>>,
    pictures: pictures::Pictures,
    views: Mutex<HashMap<LivestreamId, Arc<View>>>,
    /// Requests that may wait for what is yet to come.
    waiting: Semaphore,
}

/// Requests that wait at once; more are told to come again.
const WAITING: usize = 50_000;
/// For so long many viewers of a broadcast cost one look into the index.
const MOMENT: Duration = Duration::from_secs(3);
/// A stream that nobody asked for in so long is no longer followed.
const IDLE: Duration = Duration::from_secs(60);

impl Edges {
    /// Edges that keep at most so many bytes of media.
    pub(crate) fn new(db: Db, storage: Storage, bytes: u64) -> Result<Self, reqwest::Error> {
        // An origin is one of ours, on a network of ours.
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .no_proxy()
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        let files = Files::new(http.clone(), storage, bytes);
        let archives = Cache::builder().max_capacity(200).time_to_live(MOMENT).build();
        Ok(Self {
            db,
            http,
            files,
            archives,
            pictures: pictures::pictures(),
            views: Mutex::default(),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// What speaks to servers of ours.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// What is known here of a stream that somebody watches.
    pub(crate) fn known<T>(&self, livestream: LivestreamId, look: impl FnOnce(&Window) -> T) -> Option<T> {
        let view = self.views.lock().unwrap_or_else(PoisonError::into_inner).get(&livestream).cloned();
        view?.look(look)
    }

    /// Somebody watches a stream, also while they ask for nothing.
    pub(crate) fn touch(&self, livestream: LivestreamId) {
        if let Some(view) = self.views.lock().unwrap_or_else(PoisonError::into_inner).get(&livestream) {
            view.touch();
        }
    }

    /// How many requests wait for what is yet to come.
    pub(crate) fn waiting(&self) -> usize {
        WAITING - self.waiting.available_permits()
    }

    /// The view of a stream; it is followed from now on.
    fn view(self: &Arc<Self>, livestream: LivestreamId) -> Arc<View> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(&livestream) {
            view.touch();
            return Arc::clone(view);
        }
        let view = Arc::new(View::new(livestream));
        views.insert(livestream, Arc::clone(&view));
        tokio::spawn(follower::follow(Arc::downgrade(self), self.http.clone(), Arc::clone(&view)));
        view
    }

    /// Forgets a stream that nobody watches; false where somebody does again.
    fn forget(&self, view: &View) -> bool {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if view.idle() < IDLE {
            return false;
        }
        views.remove(&view.livestream);
        true
    }
}
