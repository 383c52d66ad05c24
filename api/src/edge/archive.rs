//! Broadcasts from their beginning: the same window and the same playlists, read from the segment index, and media from the store.

use std::sync::Arc;

use axum::response::Response;
use chrono::Utc;
use reelmill_shared::db::live;
use reelmill_shared::ids::{BroadcastId, LivestreamId};
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::media::live::playlist::Form;
use reelmill_shared::media::live::window::Window;
use reelmill_shared::storage::keys;

use super::files::FileError;
use super::playlists::Rendered;
use super::serve::{Known, Reply, TakesGzip, known};
use crate::problem::{Answer, Kind, Problem};
use crate::state::App;

/// A file of a broadcast that is kept. `private` where the address needs a key.
pub(crate) async fn serve_archived(
    app: &App,
    livestream: LivestreamId,
    broadcast: BroadcastId,
    name: &str,
    private: bool,
    gzip: TakesGzip,
) -> Answer<Response> {
    let unknown = || Problem::new(Kind::NotFound, format!("there is no file {name} in this recording"));
    let file = LiveFile::parse(name).ok_or_else(unknown)?;
    let window = window(app, livestream, broadcast).await?;
    let reply = Reply { private, gzip };
    let rendered = match &file {
        LiveFile::Master => Rendered::master(&window),
        LiveFile::Playlist { track } => Rendered::media(&window, track, Form::Full),
        LiveFile::Init { .. } | LiveFile::Segment { .. } => {
            let Known::Here(Some(key)) = known(&window, &file) else { return Err(unknown()) };
            return match app.edges.files.kept(livestream, &window.place, &file, &key).await {
                Ok(found) => Ok(reply.media(found)),
                Err(FileError::Missing) => Err(unknown()),
                Err(error) => {
                    tracing::warn!(%livestream, %broadcast, %file, %error, "could not get a file of a broadcast");
                    Err(Problem::new(Kind::Unavailable, "this cannot be had now").with_retry_after(1))
                }
            };
        }
        LiveFile::Manifest => {
            let manifest = Rendered::manifest(&window, Utc::now()).ok_or_else(unknown)?;
            return Ok(reply.manifest(&manifest));
        }
        LiveFile::Part { .. } => None,
    };
    Ok(reply.playlist(&rendered.ok_or_else(unknown)?, false))
}

/// All that is stored of it, kept in memory for a moment while it grows.
async fn window(app: &App, livestream: LivestreamId, broadcast: BroadcastId) -> Answer<Arc<Window>> {
    if let Some(window) = app.edges.archives.get(&broadcast).await {
        return Ok(window);
    }
    let missing = || Problem::not_found("recording", broadcast);
    let kept = live::kept(&app.db, livestream, broadcast).await?.ok_or_else(missing)?;
    let mut window = live::whole(&app.db, &kept.on_air, keys::broadcast(kept.project, broadcast)).await?;
    window.ended = kept.ended;
    // What is over, or seen from its beginning, has no parts.
    window.plan.low_latency = false;
    let window = Arc::new(window);
    app.edges.archives.insert(broadcast, Arc::clone(&window)).await;
    Ok(window)
}
