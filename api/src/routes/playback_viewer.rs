//! `/v/{token}/playback/{id}/…`: what a playback session plays, without a key.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use axum::routing::get;
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::db::playback::Session;
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::ids::PlaybackSessionId;
use tower_http::cors::{Any, CorsLayer};

use crate::cdn::{self, ByCdn};
use crate::extract::{Path, Query};
use crate::footage::{self, FootageFile};
use crate::problem::{Answer, method_not_allowed};
use crate::routes::playback::{FootageQuery, exported, footage_of, named};
use crate::routes::viewer::good_token;
use crate::state::App;
use crate::tokens;

/// Players of other sites may use them: the token is the permission.
pub(crate) fn routes() -> Router<App> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        // Any is any: a cache need not keep an answer for each site.
        .vary([])
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH])
        .expose_headers([header::CONTENT_RANGE, header::CONTENT_LENGTH, header::ETAG]);
    Router::new()
        .route("/v/{token}/playback/{id}/playlist.m3u8", get(playlist))
        .route("/v/{token}/playback/{id}/segment/{file}", get(segment))
        .route("/v/{token}/playback/{id}/export.mp4", get(export))
        .route("/v/{token}/playback/{id}/check", get(check))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors)
}

/// The session that a token opens.
pub(crate) async fn opened(app: &App, token: &str, id: PlaybackSessionId) -> Answer<Arc<Session>> {
    tokens::look_for(app, Purpose::PlaySession, token, id.0)?;
    footage::find(app, id).await
}

/// Whether a token is good: for a CDN that keeps things across tokens.
async fn check(
    State(app): State<App>,
    Path((token, id)): Path<(String, PlaybackSessionId)>,
) -> Answer<Response> {
    opened(&app, &token, id).await?;
    Ok(good_token())
}

async fn playlist(
    State(app): State<App>,
    method: Method,
    headers: HeaderMap,
    Path((token, id)): Path<(String, PlaybackSessionId)>,
    Query(query): Query<FootageQuery>,
) -> Answer<Response> {
    let footage = footage_of(&app, &opened(&app, &token, id).await?).await?;
    let file = FootageFile::Playlist(query.wrapping());
    let lent = app.cdn.base().await.is_some();
    footage::serve(&app, &footage, file, query.quality.as_deref(), lent, &method, &headers).await
}

async fn segment(
    State(app): State<App>,
    method: Method,
    headers: HeaderMap,
    by: ByCdn,
    Path((token, id, name)): Path<(String, PlaybackSessionId, String)>,
    Query(query): Query<FootageQuery>,
) -> Answer<Response> {
    let footage = footage_of(&app, &opened(&app, &token, id).await?).await?;
    let lent = app.cdn.base().await.is_some();
    let file = named(&name)?;
    let answer =
        footage::serve(&app, &footage, file, query.quality.as_deref(), lent, &method, &headers).await?;
    cdn::count(&app, Watched::Livestream(footage.session.livestream), by, &answer);
    Ok(answer)
}

async fn export(
    State(app): State<App>,
    method: Method,
    Path((token, id)): Path<(String, PlaybackSessionId)>,
    Query(query): Query<FootageQuery>,
) -> Answer<Response> {
    let session = opened(&app, &token, id).await?;
    exported(&app, &session, query, &method).await
}
