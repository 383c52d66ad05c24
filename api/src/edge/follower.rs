//! Follows the feed of a stream's origin, wherever that is, while somebody watches.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use reelmill_shared::db::Db;
use reelmill_shared::db::live::{self, Origin};
use reelmill_shared::live::origin::{self, PASS_HEADER};
use reelmill_shared::media::live::window::Message;
use tokio::time::{sleep, timeout};

use super::view::View;
use super::{Edges, IDLE};

/// An origin that says nothing for so long is gone: it says at least that nothing happens.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two attempts to find an origin of what is on air.
const PAUSE: Duration = Duration::from_millis(250);
/// The same where nothing is on air, as far as is known.
const QUIET: Duration = Duration::from_secs(1);
/// How often it is looked whether whoever talks still carries the stream.
const DOUBT: Duration = Duration::from_secs(2);
/// Bytes of the longest line: the window of a day of short segments.
const LONGEST: usize = 64 << 20;

/// Why a feed ended.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("the origin does not answer: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the origin said nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the origin says what does not read: {0}")]
    Line(#[from] serde_json::Error),
    #[error("the origin says too much at once")]
    TooLong,
}

/// Keeps the view up to date until nobody has asked for it for a while.
pub(super) async fn follow(edges: Weak<Edges>, http: reqwest::Client, view: Arc<View>) {
    loop {
        let Some(edges) = edges.upgrade() else { return };
        let mut pause = PAUSE;
        if view.idle() >= IDLE && edges.forget(&view) {
            return;
        }
        match live::origin(&edges.db, view.livestream).await {
            Ok(Some(origin)) => {
                view.set_origin(Some(origin.clone()));
                let db = edges.db.clone();
                drop(edges);
                tokio::select! {
                    heard = listen(&http, &view, &origin) => if let Err(error) = heard {
                        tracing::debug!(livestream = %view.livestream, %error, "a live feed broke off");
                    },
                    () = another(&db, &origin) => {}
                }
            }
            Ok(None) => {
                view.set_origin(None);
                match live::is_carried(&edges.db, view.livestream).await {
                    Ok(carried) => {
                        view.absent(!carried);
                        if !carried {
                            pause = QUIET;
                        }
                    }
                    Err(error) => tracing::debug!(%error, "could not find out whether a stream is on air"),
                }
            }
            // What is known goes on being served.
            Err(error) => tracing::debug!(%error, "could not find out who carries a stream"),
        }
        sleep(pause).await;
    }
}

/// Returns when the stream is somebody else's. Who carried it may not have heard of that, and go on talking.
async fn another(db: &Db, origin: &Origin) {
    loop {
        sleep(DOUBT).await;
        match live::origin(db, origin.hold.livestream).await {
            Ok(Some(now)) if now.hold.epoch != origin.hold.epoch => return,
            // With nobody else to hear, or no database, the one that talks is heard.
            Ok(_) | Err(_) => {}
        }
    }
}

async fn listen(http: &reqwest::Client, view: &View, origin: &Origin) -> Result<(), FeedError> {
    let url = format!("{}{}", origin.address, origin::feed(view.livestream));
    let asked = http.get(url).header(PASS_HEADER, &origin.pass).send();
    let response = timeout(SILENCE, asked).await.map_err(|_| FeedError::Silent)??;
    if response.status() == reqwest::StatusCode::NOT_FOUND {
        // It is held, and nothing was published yet.
        view.absent(false);
        return Ok(());
    }
    let mut body = response.error_for_status()?.bytes_stream();
    let mut buffer = BytesMut::new();
    loop {
        let Some(piece) = timeout(SILENCE, body.next()).await.map_err(|_| FeedError::Silent)? else {
            return Ok(());
        };
        let mut from = buffer.len();
        buffer.extend_from_slice(&piece?);
        while let Some(end) = buffer.iter().skip(from).position(|byte| *byte == b'\n') {
            let line = buffer.split_to(from + end + 1);
            from = 0;
            view.take(serde_json::from_slice::<Message>(&line)?);
        }
        if buffer.len() > LONGEST {
            return Err(FeedError::TooLong);
        }
        if view.idle() >= IDLE {
            return Ok(());
        }
    }
}
