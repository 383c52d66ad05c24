//! What is done with a livestream: started, stopped, paused, given another key, and shown to viewers.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use reelmill_shared::auth::Scope;
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::cdn::SurrogateKey;
use reelmill_shared::db::livestreams::{self, KeptKey, Paused, Stopped};
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::key::StreamKey;

use super::{find, ingest_url, sealed_key, srt_ingest_url, stream_key, told};
use crate::auth::Caller;
use crate::dto::livestream::{LivePlaybackTokenDto, LivestreamDto, StartedDto, StoppedDto};
use crate::extract::Path;
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;
use crate::tokens;

/// Start a livestream.
///
/// What is fetched is fetched from now on, and fetched again when it breaks off; publishers of one with `require_start` are let in. Without
/// that they always are. Harmless when it was started already.
#[utoipa::path(post, path = "/livestreams/{id}/start", tag = "livestreams", params(("id" = LivestreamId, Path)), responses(
    (status = 200, description = "It waits for its media, or is on air.", body = StartedDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn start(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
) -> Answer<Json<StartedDto>> {
    caller.need(Scope::LiveWrite)?;
    let armed = livestreams::arm(&app.db, caller.project_id, id).await?;
    let livestream = armed.ok_or_else(|| Problem::not_found("livestream", id))?;
    let key = stream_key(&app, &livestream)?;
    let is_fetched = livestream.terms.spec.is_pull();
    let message = match (livestream.status.is_busy(), is_fetched) {
        (true, _) => "the livestream runs already",
        (false, true) => "the livestream is about to be fetched",
        (false, false) => "the livestream waits for its publisher",
    };
    Ok(Json(StartedDto {
        message: message.to_owned(),
        stream_id: id,
        rtmp_ingest_url: ingest_url(&app, &headers, &livestream, &key),
        srt_ingest_url: srt_ingest_url(&livestream),
    }))
}

/// Stop a livestream.
///
/// The broadcast ends, and its publisher is sent away. One who comes back puts it on air again, unless it has `require_start` or another
/// key by then. Harmless when nothing is on air.
#[utoipa::path(post, path = "/livestreams/{id}/stop", tag = "livestreams", params(("id" = LivestreamId, Path)), responses(
    (status = 200, description = "Nothing is on air.", body = StoppedDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn stop(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<LivestreamId>,
) -> Answer<Json<StoppedDto>> {
    caller.need(Scope::LiveWrite)?;
    let message = match livestreams::stop(&app.db, caller.project_id, id).await? {
        Stopped::Now(_) => "the livestream was stopped",
        Stopped::Idle => "the livestream was not running",
        Stopped::NotFound => return Err(Problem::not_found("livestream", id)),
    };
    Ok(Json(StoppedDto { message: message.to_owned() }))
}

/// Give a livestream another key.
///
/// Whoever publishes now goes on; publishers that come from now on need the new key. To send away one who has the old key, stop the
/// livestream afterwards.
#[utoipa::path(post, path = "/livestreams/{id}/rotate-key", tag = "livestreams", params(("id" = LivestreamId, Path)), responses(
    (status = 200, description = "The livestream with its new key.", body = LivestreamDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn rotate_key(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
) -> Answer<Json<LivestreamDto>> {
    caller.need(Scope::LiveWrite)?;
    let key = StreamKey::generate();
    let sealed = sealed_key(&app, id, &key)?;
    let kept = KeptKey { hash: &key.hash(), sealed: &sealed };
    if !livestreams::rotate_key(&app.db, caller.project_id, id, &kept).await? {
        return Err(Problem::not_found("livestream", id));
    }
    Ok(Json(told(&app, &caller, &headers, find(&app, &caller, id).await?)))
}

/// Pause the recording of what is on air.
///
/// Viewers go on seeing it; what is published until `…/resume`, or the end of the broadcast, is left out of the recording.
#[utoipa::path(post, path = "/livestreams/{id}/pause", tag = "livestreams", params(("id" = LivestreamId, Path)), responses(
    (status = 200, description = "The livestream as it is now.", body = LivestreamDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
    (status = 409, description = "Nothing is on air.", body = ProblemDocument),
))]
pub(crate) async fn pause(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
) -> Answer<Json<LivestreamDto>> {
    set_paused(&app, &caller, &headers, id, true).await
}

/// Go on with the recording of what is on air.
#[utoipa::path(post, path = "/livestreams/{id}/resume", tag = "livestreams", params(("id" = LivestreamId, Path)), responses(
    (status = 200, description = "The livestream as it is now.", body = LivestreamDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
    (status = 409, description = "Nothing is on air.", body = ProblemDocument),
))]
pub(crate) async fn resume(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
) -> Answer<Json<LivestreamDto>> {
    set_paused(&app, &caller, &headers, id, false).await
}

async fn set_paused(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    id: LivestreamId,
    paused: bool,
) -> Answer<Json<LivestreamDto>> {
    caller.need(Scope::LiveWrite)?;
    match livestreams::pause_recording(&app.db, caller.project_id, id, paused).await? {
        Paused::Now(livestream) => Ok(Json(told(app, caller, headers, *livestream))),
        Paused::Idle => Err(Problem::new(Kind::Conflict, "nothing is on air")),
        Paused::NotFound => Err(Problem::not_found("livestream", id)),
    }
}

/// Get a viewer's way in.
///
/// The token stands in the path, so that relative URIs inherit it; all viewers of a livestream share it for some hours, so that a CDN can
/// cache. It lets one in whether or not anything is on air.
#[utoipa::path(post, path = "/livestreams/{id}/playback-token", tag = "livestreams", params(("id" = LivestreamId, Path)), responses(
    (status = 201, description = "A token and the URLs it opens.", body = LivePlaybackTokenDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn playback_token(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
) -> Answer<Response> {
    caller.need(Scope::LiveRead)?;
    let id = find(&app, &caller, id).await?.id;
    let (token, expires_at) = live_token(&app, id).await;
    let (public, media) = (app.public_url(&headers), app.media_url(&headers).await);
    let dto = LivePlaybackTokenDto {
        expires_at,
        hls_url: format!("{media}/v/{token}/live/{id}/master.m3u8"),
        dash_url: format!("{media}/v/{token}/live/{id}/manifest.mpd"),
        watch_url: format!("{public}/watch/live/{id}?token={token}"),
        token,
    };
    Ok((StatusCode::CREATED, Json(dto)).into_response())
}

/// Take back what viewers have.
///
/// All tokens of the livestream that were given out so far end within seconds, on every api; a CDN that is told what to forget forgets the
/// livestream. The next `POST` gives another one.
#[utoipa::path(delete, path = "/livestreams/{id}/playback-token", tag = "livestreams", params(("id" = LivestreamId, Path)), responses(
    (status = 204, description = "They are worth nothing any more."),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn revoke_tokens(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<LivestreamId>,
) -> Answer<StatusCode> {
    caller.need(Scope::LiveWrite)?;
    let id = find(&app, &caller, id).await?.id;
    tokens::revoke(&app, id.0, SurrogateKey::Livestream(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The token viewers of a livestream share at the moment, and when it ends.
pub(crate) async fn live_token(app: &App, id: LivestreamId) -> (String, DateTime<Utc>) {
    tokens::give(app, Purpose::PlayLivestream, id.0).await
}
