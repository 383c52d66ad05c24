//! The origin: gives edges what is held. Nobody else: whoever asks shows the pass that only the database tells.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream;
use reelmill_shared::auth::same_secret;
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::origin::{GiveWay, Given, PASS_HEADER};
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::media::live::window::Message;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::studio::Studio;

/// A feed on which nothing happens says so this often, so that the other end knows it is there.
const ALIVE: Duration = Duration::from_secs(2);

pub(crate) fn routes(studio: Arc<Studio>) -> Router {
    Router::new()
        .route("/origin/{livestream}/feed", get(feed))
        .route("/origin/{livestream}/thumbnail", get(thumbnail))
        .route("/origin/{livestream}/give-way", post(give_way))
        .route("/origin/{livestream}/{file}", get(file))
        .with_state(studio)
}

/// Whoever took the stream waits until what was published of it here is in the index.
async fn give_way(
    State(studio): State<Arc<Studio>>,
    Path(livestream): Path<String>,
    headers: HeaderMap,
    Json(GiveWay { epoch }): Json<GiveWay>,
) -> Result<Json<Given>, StatusCode> {
    let id = asked(&studio, &headers, &livestream)?;
    let next_number = studio.give_way(id, epoch).await.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(Given { next_number }))
}

/// The stream that is asked for, by somebody who may.
fn asked(studio: &Studio, headers: &HeaderMap, livestream: &str) -> Result<LivestreamId, StatusCode> {
    let pass = headers.get(PASS_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !same_secret(pass, &studio.carrier.pass) {
        return Err(StatusCode::FORBIDDEN);
    }
    livestream.parse().map_err(|_| StatusCode::NOT_FOUND)
}

/// All that is listed, then every change, as lines of JSON, until the broadcast is over or the stream somebody else's.
async fn feed(
    State(studio): State<Arc<Studio>>,
    Path(livestream): Path<String>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    let channel = studio.channel(asked(&studio, &headers, &livestream)?).ok_or(StatusCode::NOT_FOUND)?;
    let (first, updates) = channel.listen().ok_or(StatusCode::NOT_FOUND)?;
    let lines = stream::unfold((Some(first), updates, channel), |(first, mut updates, channel)| async move {
        if let Some(first) = first {
            return Some((Ok::<_, std::convert::Infallible>(first), (None, updates, channel)));
        }
        let next = tokio::select! {
            // What was said before it was lost is still heard.
            biased;
            next = timeout(ALIVE, updates.recv()) => next,
            () = channel.lost.cancelled() => return None,
        };
        match next {
            Ok(Ok(line)) => Some((Ok(line), (None, updates, channel))),
            Err(_) => {
                let alive = serde_json::to_vec(&Message::Alive).unwrap_or_default();
                Some((Ok(Bytes::from([alive, vec![b'\n']].concat())), (None, updates, channel)))
            }
            // Too far behind: it begins anew.
            Ok(Err(RecvError::Lagged(_) | RecvError::Closed)) => None,
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn thumbnail(
    State(studio): State<Arc<Studio>>,
    Path(livestream): Path<String>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    let id = asked(&studio, &headers, &livestream)?;
    let picture = studio.channel(id).and_then(|channel| channel.picture()).ok_or(StatusCode::NOT_FOUND)?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], picture).into_response())
}

async fn file(
    State(studio): State<Arc<Studio>>,
    Path((livestream, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    let id = asked(&studio, &headers, &livestream)?;
    let file = LiveFile::parse(&file).ok_or(StatusCode::NOT_FOUND)?;
    let held = studio.holding(id).into_iter().find_map(|channel| channel.file(&file));
    let bytes = held.ok_or(StatusCode::NOT_FOUND)?;
    Ok(([(header::CONTENT_TYPE, "video/mp4")], bytes).into_response())
}
