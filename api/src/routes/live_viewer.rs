//! `/v/{token}/live/{id}/…`: everything a viewer needs for one livestream, without a key.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use axum::routing::get;
use reelmill_shared::auth::token::{Purpose, TokenError};
use reelmill_shared::ids::LivestreamId;
use tower_http::cors::{Any, CorsLayer};

use crate::edge::{LiveQuery, serve};
use crate::extract::{Path, Query};
use crate::problem::{Answer, Kind, Problem, method_not_allowed};
use crate::state::{App, now};

/// The routes under `/v/{token}/live/{id}`. Players of other sites may use them: the token is the permission.
pub(crate) fn routes() -> Router<App> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::RANGE, header::IF_NONE_MATCH])
        .expose_headers([header::CONTENT_LENGTH, header::RETRY_AFTER, header::DATE]);
    Router::new()
        .route("/v/{token}/live/{id}/{file}", get(file))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors)
}

async fn file(
    State(app): State<App>,
    headers: HeaderMap,
    Path((token, id, name)): Path<(String, LivestreamId, String)>,
    Query(query): Query<LiveQuery>,
) -> Answer<Response> {
    check(&app, &token, id)?;
    serve(&app, id, &name, &query, false, &headers).await
}

/// A token opens the one stream it names.
fn check(app: &App, token: &str, id: LivestreamId) -> Answer<()> {
    let refused = |detail: &str| Problem::new(Kind::BadToken, detail);
    let verified =
        app.signer().verify(Purpose::PlayLivestream, token, now()).map_err(|error| match error {
            TokenError::Invalid => refused("the playback token is not valid"),
            TokenError::Expired => refused("the playback token has ended"),
        })?;
    if verified.subject == id.0 { Ok(()) } else { Err(refused("the playback token is for another stream")) }
}
