//! `/v/{token}/live/{id}/…`: everything a viewer needs for one livestream, without a key.

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use reelmill_shared::auth::Scope;
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::cdn::SurrogateKey;
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::db::{broadcasts, livestreams as livestreams_db};
use reelmill_shared::ids::{BroadcastId, LivestreamId};
use reelmill_shared::live::state::LiveStatus;
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::media::live::window::Window;
use serde::Serialize;
use serde_json::json;
use tower_http::cors::{Any, CorsLayer};

use crate::audience::Visitor;
use crate::auth::Caller;
use crate::cdn::{self, ByCdn, tag};
use crate::edge::{LiveQuery, TakesGzip, live_thumbnail, recorded_thumbnail, serve, serve_archived};
use crate::extract::{Path, Query, read_json};
use crate::problem::{Answer, Problem, ProblemDocument, method_not_allowed};
use crate::routes::livestreams::control::live_token;
use crate::routes::viewer::good_token;
use crate::routes::{abr, livestreams, streams, viewing};
use crate::state::App;
use crate::tokens;

/// The routes under `/v/{token}/live/{id}`. Players of other sites may use them: the token is the permission.
pub(crate) fn routes() -> Router<App> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        // Any is any: a cache need not keep an answer for each site.
        .vary([])
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([header::RANGE, header::IF_NONE_MATCH, header::CONTENT_TYPE])
        .expose_headers([header::CONTENT_LENGTH, header::RETRY_AFTER, header::DATE]);
    Router::new()
        .route("/v/{token}/live/{id}/info", get(info))
        .route("/v/{token}/live/{id}/renew", get(renew))
        .route("/v/{token}/live/{id}/check", get(checked))
        .route("/v/{token}/live/{id}/thumbnail.jpg", get(viewers_thumbnail))
        .route("/v/{token}/live/{id}/recordings/{rid}/thumbnail.jpg", get(archived_thumbnail))
        .route("/v/{token}/live/{id}/sessions", post(session))
        .route("/v/{token}/live/{id}/viewers/track", post(track))
        .route("/v/{token}/live/{id}/abr/metrics", post(abr::live_metrics))
        .route("/v/{token}/live/{id}/abr/select", post(abr::live_select))
        .route("/v/{token}/live/{id}/{file}", get(file))
        .route("/v/{token}/live/{id}/as/{session}/{file}", get(viewers_file))
        .route("/v/{token}/live/{id}/recordings/{rid}/{file}", get(archived))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors)
}

async fn file(
    State(app): State<App>,
    gzip: TakesGzip,
    by: ByCdn,
    visitor: Visitor,
    Path((token, id, name)): Path<(String, LivestreamId, String)>,
    Query(query): Query<LiveQuery>,
) -> Answer<Response> {
    check(&app, &token, id)?;
    let answer = serve(&app, id, &name, &query, false, gzip).await;
    // Who asks by a CDN is not known, and the CDN no viewer.
    count(&app, id, &name, &answer, by, Some(&visitor).filter(|_| !by.0));
    shared(answer, &[SurrogateKey::Livestream(id)])
}

/// An answer that everybody is given alike. What is not there a CDN knows for a second: of many who ask too early it asks for one.
fn shared(answer: Answer<Response>, keys: &[SurrogateKey]) -> Answer<Response> {
    match answer {
        Ok(mut response) => {
            tag(&mut response, keys);
            Ok(response)
        }
        Err(problem) if problem.is_missing() => {
            Err(problem.with_header(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=1")))
        }
        Err(problem) => Err(problem),
    }
}

/// The same for a viewer who joined a stream of it, and for whom it is counted.
async fn viewers_file(
    State(app): State<App>,
    gzip: TakesGzip,
    by: ByCdn,
    Path((token, id, session, name)): Path<(String, LivestreamId, String, String)>,
    Query(query): Query<LiveQuery>,
) -> Answer<Response> {
    check(&app, &token, id)?;
    let watched = Watched::Livestream(id);
    streams::check_place(&app, watched, &session).await?;
    let answer = serve(&app, id, &name, &query, true, gzip).await;
    count(&app, id, &name, &answer, by, None);
    let bytes = answer.as_ref().ok().and_then(|response| response.body().size_hint().exact());
    let file = LiveFile::parse(&name);
    let is_media = matches!(file, Some(LiveFile::Segment { .. } | LiveFile::Part { .. }));
    app.audience.gave(watched, &session, bytes.unwrap_or_default(), is_media && answer.is_ok());
    answer
}

/// Counts an answer. `visitor` where whoever asks may be a viewer.
fn count(
    app: &App,
    id: LivestreamId,
    name: &str,
    answer: &Answer<Response>,
    by: ByCdn,
    visitor: Option<&Visitor>,
) {
    if let Ok(response) = answer {
        cdn::count(app, Watched::Livestream(id), by, response);
    }
    let bytes =
        answer.as_ref().ok().and_then(|response| response.body().size_hint().exact()).unwrap_or_default();
    let failed = answer.as_ref().is_err_and(Problem::is_ours);
    metrics::counter!("reelmill_live_sent_bytes_total").increment(bytes);
    let file = LiveFile::parse(name);
    if answer.is_ok() && matches!(file, Some(LiveFile::Part { .. })) {
        metrics::counter!("reelmill_live_parts_total").increment(1);
    }
    let plays = matches!(file, Some(LiveFile::Playlist { .. } | LiveFile::Manifest));
    app.audience.served(id, bytes, failed, visitor.filter(|_| plays && answer.is_ok()));
}

/// A name for a viewer.
async fn session(
    State(app): State<App>,
    Path((token, id)): Path<(String, LivestreamId)>,
) -> Answer<Response> {
    check(&app, &token, id)?;
    Ok(viewing::given(&app, Watched::Livestream(id)))
}

/// A player tells of itself, as it does with a key under `/api/v1/livestreams/{id}/viewers/track`.
async fn track(
    State(app): State<App>,
    headers: HeaderMap,
    visitor: Visitor,
    Path((token, id)): Path<(String, LivestreamId)>,
    body: Body,
) -> Answer<StatusCode> {
    check(&app, &token, id)?;
    livestreams::viewers::report(&app, id, &visitor, &read_json(&headers, body).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A broadcast from its beginning.
async fn archived(
    State(app): State<App>,
    gzip: TakesGzip,
    by: ByCdn,
    Path((token, id, rid, name)): Path<(String, LivestreamId, BroadcastId, String)>,
) -> Answer<Response> {
    let expires = check(&app, &token, id)?;
    let answer = serve_archived(&app, id, rid, &name, false, gzip).await;
    let answer = shared(answer, &[SurrogateKey::Livestream(id), SurrogateKey::Broadcast(rid)])?;
    cdn::count(&app, Watched::Livestream(id), by, &answer);
    // A token is for all that a stream ever was; what is watched with it stays until it ends.
    if name.ends_with(".m3u8") || name.ends_with(".mpd") {
        broadcasts::keep(&app.db, id, rid, expires).await?;
    }
    Ok(answer)
}

/// Get a playlist or a segment of a recording.
///
/// `master.m3u8` and the files it names: all that was on air, from its beginning, also while it still is. What was lost is marked as a
/// gap.
#[utoipa::path(get, path = "/livestreams/{id}/recordings/{rid}/stream/{file}", operation_id = "broadcast_stream", tag = "livestreams", params(
    ("id" = LivestreamId, Path), ("rid" = BroadcastId, Path), ("file" = String, Path, example = "master.m3u8"),
), responses(
    (status = 200, description = "The file."),
    (status = 404, description = "There is no such file, or no such recording.", body = ProblemDocument),
))]
pub(crate) async fn recorded(
    State(app): State<App>,
    caller: Caller,
    gzip: TakesGzip,
    Path((id, rid, name)): Path<(LivestreamId, BroadcastId, String)>,
) -> Answer<Response> {
    caller.need(Scope::LiveRead)?;
    let id = livestreams::find(&app, &caller, id).await?.id;
    serve_archived(&app, id, rid, &name, true, gzip).await
}

async fn viewers_thumbnail(
    State(app): State<App>,
    Path((token, id)): Path<(String, LivestreamId)>,
) -> Answer<Response> {
    check(&app, &token, id)?;
    shared(live_thumbnail(&app, id, false).await, &[SurrogateKey::Livestream(id)])
}

async fn archived_thumbnail(
    State(app): State<App>,
    Path((token, id, rid)): Path<(String, LivestreamId, BroadcastId)>,
) -> Answer<Response> {
    check(&app, &token, id)?;
    let found = broadcasts::recorded(&app.db, id, rid).await?;
    let found = found.ok_or_else(|| Problem::not_found("recording", rid))?;
    let answer = recorded_thumbnail(&app, &found, false).await;
    shared(answer, &[SurrogateKey::Livestream(id), SurrogateKey::Broadcast(rid)])
}

/// Get a picture of what is on air.
///
/// Taken anew every eight seconds, of the newest keyframe.
#[utoipa::path(get, path = "/livestreams/{id}/thumbnail", operation_id = "live_thumbnail", tag = "livestreams",
    params(("id" = LivestreamId, Path)), responses(
    (status = 200, description = "A JPEG within 320x180.", content_type = "image/jpeg"),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
    (status = 409, description = "It is not on air.", body = ProblemDocument),
))]
pub(crate) async fn thumbnail(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<LivestreamId>,
) -> Answer<Response> {
    caller.need(Scope::LiveRead)?;
    let id = livestreams::find(&app, &caller, id).await?.id;
    live_thumbnail(&app, id, true).await
}

/// Get a playlist, a segment or a part of what is on air.
///
/// `master.m3u8` and the files it names. Playlists of low-latency streams take `_HLS_msn`, `_HLS_part` and `_HLS_skip`
/// (draft-pantos-hls-rfc8216bis, 6.2.5): such a request is answered when what it names is there, or with 503 after three target
/// durations in which nothing came.
#[utoipa::path(get, path = "/livestreams/{id}/stream/{file}", operation_id = "live_stream", tag = "livestreams", params(
    ("id" = LivestreamId, Path), ("file" = String, Path, example = "master.m3u8"), LiveQuery,
), responses(
    (status = 200, description = "The file."),
    (status = 400, description = "What is asked for is too far ahead.", body = ProblemDocument),
    (status = 404, description = "There is no such file, or no more, or nothing is on air.", body = ProblemDocument),
    (status = 503, description = "Nothing has come for a while.", body = ProblemDocument),
))]
pub(crate) async fn stream(
    State(app): State<App>,
    caller: Caller,
    gzip: TakesGzip,
    Path((id, name)): Path<(LivestreamId, String)>,
    Query(query): Query<LiveQuery>,
) -> Answer<Response> {
    caller.need(Scope::LiveRead)?;
    let id = livestreams::find(&app, &caller, id).await?.id;
    let answer = serve(&app, id, &name, &query, true, gzip).await;
    // No CDN keeps what needs a key.
    count(&app, id, &name, &answer, ByCdn(false), None);
    answer
}

/// What a viewer is told of a livestream.
#[derive(Serialize)]
struct LiveInfo {
    id: LivestreamId,
    title: String,
    status: LiveStatus,
    started_at: Option<DateTime<Utc>>,
    viewer_count: u32,
    renditions: Vec<LiveRendition>,
}

/// A rung, or the sound.
#[derive(Serialize)]
struct LiveRendition {
    name: String,
    width: Option<u32>,
    height: Option<u32>,
    frame_rate: Option<f64>,
    bandwidth: u64,
    codecs: String,
}

async fn info(State(app): State<App>, Path((token, id)): Path<(String, LivestreamId)>) -> Answer<Response> {
    check(&app, &token, id)?;
    // Looked for each time: what was deleted is gone at once.
    let stream =
        livestreams_db::find(&app.db, id).await?.ok_or_else(|| Problem::not_found("livestream", id))?;
    let info = LiveInfo {
        id,
        title: stream.terms.title,
        status: stream.status,
        started_at: stream.started_at,
        viewer_count: stream.viewer_count,
        renditions: app.edges.known(id, renditions).unwrap_or_default(),
    };
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(info)).into_response())
}

fn renditions(window: &Window) -> Vec<LiveRendition> {
    let codecs = window.runs.last().map(|run| run.codecs.as_slice()).unwrap_or_default();
    let plan = &window.plan;
    let rate = f64::from(plan.frame_rate.0) / f64::from(plan.frame_rate.1.max(1));
    plan.tracks()
        .zip(codecs)
        // Of a rung that was dropped there are none.
        .filter(|(_, codecs)| !codecs.is_empty())
        .map(|(name, codecs)| {
            let rung = plan.rungs.iter().find(|rung| rung.name == name);
            let sound = plan.audio.as_ref().map_or(0, |audio| audio.bitrate);
            LiveRendition {
                name: name.to_owned(),
                width: rung.map(|rung| rung.width),
                height: rung.map(|rung| rung.height),
                frame_rate: rung.map(|_| rate),
                bandwidth: rung.map_or(sound, |rung| rung.bitrate),
                codecs: codecs.clone(),
            }
        })
        .collect()
}

/// Whether a token is good: for a CDN that keeps things across tokens.
async fn checked(
    State(app): State<App>,
    Path((token, id)): Path<(String, LivestreamId)>,
) -> Answer<Response> {
    check(&app, &token, id)?;
    let found = livestreams_db::find(&app.db, id).await?;
    found.map(|_| good_token()).ok_or_else(|| Problem::not_found("livestream", id))
}

/// A newer token for the holder of one that still lasts.
async fn renew(State(app): State<App>, Path((token, id)): Path<(String, LivestreamId)>) -> Answer<Response> {
    check(&app, &token, id)?;
    let (token, expires_at) = live_token(&app, id).await;
    let body = Json(json!({ "token": token, "expires_at": expires_at }));
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], body).into_response())
}

/// A token opens the one stream it names; gives when it ends.
pub(crate) fn check(app: &App, token: &str, id: LivestreamId) -> Answer<DateTime<Utc>> {
    let verified = tokens::look_for(app, Purpose::PlayLivestream, token, id.0)?;
    Ok(tokens::end(&verified))
}
