//! A stream as somebody sees it who is told what happens, instead of asking.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::select_all;
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::media::live::window::Window;
use tokio::time::timeout;

use super::serve::{Known, known, not_on_air, on_air};
use super::view::View;
use crate::problem::Answer;
use crate::state::App;

/// So often somebody who waits says that they are there: a stream that nobody watches is forgotten.
const TOUCH: Duration = Duration::from_secs(10);

/// See above.
pub(crate) struct Following {
    view: Arc<View>,
    livestream: LivestreamId,
}

impl Following {
    pub(crate) async fn new(app: &App, livestream: LivestreamId) -> Answer<Self> {
        Ok(Self { view: on_air(app, livestream).await?, livestream })
    }

    /// Looks at what is listed.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Window) -> T) -> Answer<T> {
        self.view.touch();
        self.view.look(look).ok_or_else(not_on_air)
    }

    /// Looks until there is something to see in one of the tracks, whose names `look` may change.
    pub(crate) async fn seen<T>(&self, tracks: &[&str], look: impl Fn(&Window) -> Option<T>) -> Answer<T> {
        let listings = tracks.iter().filter_map(|track| self.view.listing(track));
        let mut changes: Vec<_> = listings.map(|listing| listing.changes()).collect();
        loop {
            // What changes from here on is told.
            changes.iter_mut().for_each(|change| change.mark_unchanged());
            if let Some(seen) = self.look(&look)? {
                return Ok(seen);
            }
            if changes.is_empty() {
                return Err(not_on_air());
            }
            let waiting = select_all(changes.iter_mut().map(|change| Box::pin(change.changed())));
            // Whether something happened or nothing did, it is looked again.
            let _ = timeout(TOUCH, waiting).await;
        }
    }

    /// A file that is listed; `None` where it cannot be had.
    pub(crate) async fn get(&self, app: &App, file: &LiveFile) -> Option<Bytes> {
        let (place, known) = self.view.look(|window| (window.place.clone(), known(window, file)))?;
        let Known::Here(key) = known else { return None };
        let got = app.edges.files.get(&self.view, file, &place, key).await;
        if let Err(error) = &got {
            tracing::warn!(livestream = %self.livestream, %file, %error, "could not get a live file");
        }
        got.ok().map(|found| found.bytes)
    }
}
