//! `/v/{token}/…`: everything a viewer needs for one recording, without a key.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::cdn::SurrogateKey;
use reelmill_shared::db::jobs::{self, JobFilter};
use reelmill_shared::db::recordings::{self, Recording};
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::db::{stills, tasks};
use reelmill_shared::ids::RecordingId;
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::job::state::RecordingStatus;
use serde_json::json;
use tower_http::cors::{Any, CorsLayer};

use crate::cdn::{self, ByCdn, tag};
use crate::downloads;
use crate::dto::ErrorDto;
use crate::dto::job::{JobDto, TaskDto};
use crate::dto::recording::{RenditionDto, RenditionProgressDto, ViewerInfoDto};
use crate::extract::{Path, Query};
use crate::playback::{StreamFile, active_set, renditions, serve};
use crate::problem::{Answer, Kind, Problem, method_not_allowed};
use crate::routes::downloads::DownloadQuery;
use crate::routes::recordings::viewer_token;
use crate::routes::stream::{QualityQuery, named};
use crate::routes::thumbnails::{PictureQuery, stored};
use crate::routes::{abr, quality, storyboard, streams, viewing};
use crate::state::App;
use crate::tokens;

/// The routes under `/v/{token}`. Players of other sites may use them: the token is the permission.
pub(crate) fn routes() -> Router<App> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        // Any is any: a cache need not keep an answer for each site.
        .vary([])
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::CONTENT_TYPE])
        .expose_headers([header::CONTENT_RANGE, header::CONTENT_LENGTH, header::ETAG]);
    Router::new()
        .route("/v/{token}/stream/{file}", get(file))
        .route("/v/{token}/as/{session}/stream/{file}", get(viewers_file))
        .route("/v/{token}/download", get(download))
        .route("/v/{token}/thumbnail", get(thumbnail))
        .route("/v/{token}/storyboard.vtt", get(storyboard))
        .route("/v/{token}/info", get(info))
        .route("/v/{token}/quality/recommended", get(quality::viewers_recommended))
        .route("/v/{token}/abr/metrics", post(abr::viewers_metrics))
        .route("/v/{token}/abr/select", post(abr::viewers_select))
        .route("/v/{token}/renew", get(renew))
        .route("/v/{token}/check", get(check))
        .route("/v/{token}/sessions", post(viewing::viewers_session))
        .route("/v/{token}/progress", post(viewing::viewers_progress))
        // Inside of the layer: it answers a browser's question (OPTIONS) before this would refuse it.
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors)
}

/// The recording a token names; there may be none by now.
pub(crate) fn opened_by(app: &App, token: &str) -> Answer<RecordingId> {
    Ok(RecordingId(tokens::look(app, Purpose::PlayRecording, token)?.subject))
}

/// The recording a token names.
pub(crate) async fn named_by(app: &App, token: &str) -> Answer<Recording> {
    let id = opened_by(app, token)?;
    recordings::find(&app.db, id).await?.ok_or_else(|| Problem::not_found("recording", id))
}

async fn file(
    State(app): State<App>,
    method: Method,
    headers: HeaderMap,
    by: ByCdn,
    Path((token, name)): Path<(String, String)>,
    Query(query): Query<QualityQuery>,
) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    let answer = serve(&app, &recording, &named(&name, &query)?, false, &method, &headers).await?;
    cdn::count(&app, Watched::Recording(recording.id), by, &answer);
    Ok(answer)
}

/// The same for a viewer who joined a stream of the recording, and for whom it is counted.
async fn viewers_file(
    State(app): State<App>,
    method: Method,
    headers: HeaderMap,
    by: ByCdn,
    Path((token, session, name)): Path<(String, String, String)>,
    Query(query): Query<QualityQuery>,
) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    let watched = Watched::Recording(recording.id);
    streams::check_place(&app, watched, &session).await?;
    let file = named(&name, &query)?;
    let answer = serve(&app, &recording, &file, true, &method, &headers).await?;
    cdn::count(&app, watched, by, &answer);
    let bytes = answer.body().size_hint().exact().or_else(|| length(&answer)).unwrap_or_default();
    app.audience.gave(watched, &session, bytes, matches!(file, StreamFile::Segment { .. }));
    Ok(answer)
}

/// Bytes of an answer that is read while it is sent.
fn length(answer: &Response) -> Option<u64> {
    answer.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A rendition as a file, where there is one.
async fn download(
    State(app): State<App>,
    method: Method,
    headers: HeaderMap,
    Path(token): Path<String>,
    Query(query): Query<DownloadQuery>,
) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    let mut answer =
        downloads::serve(&app, &recording, query.quality.as_deref(), false, &method, &headers).await?;
    tag(&mut answer, &[SurrogateKey::Recording(recording.id)]);
    Ok(answer)
}

/// A picture that is there. A viewer cannot make the farm work.
async fn thumbnail(
    State(app): State<App>,
    method: Method,
    headers: HeaderMap,
    Path(token): Path<String>,
    Query(query): Query<PictureQuery>,
) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    let wanted = query.wanted(&app, &recording).await?;
    let found = stored(&app, recording.id, wanted, false, &method, &headers).await?;
    let missing = || Problem::new(Kind::NotReady, "there is no such picture of this recording");
    let mut answer = found.ok_or_else(missing)?;
    tag(&mut answer, &[SurrogateKey::Recording(recording.id), SurrogateKey::Listings(recording.id)]);
    Ok(answer)
}

async fn storyboard(
    State(app): State<App>,
    method: Method,
    headers: HeaderMap,
    Path(token): Path<String>,
) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    let mut answer = storyboard::serve(&app, &recording, false, &method, &headers).await?;
    tag(&mut answer, &[SurrogateKey::Recording(recording.id), SurrogateKey::Listings(recording.id)]);
    Ok(answer)
}

async fn info(State(app): State<App>, Path(token): Path<String>) -> Answer<Response> {
    // Looked for each time: what was deleted is gone at once.
    let recording = named_by(&app, &token).await?;
    let id = recording.id;
    let told = match app.caches.told.get(&id).await {
        Some(told) => told,
        None => {
            let told = Arc::new(told(&app, recording).await?);
            app.caches.told.insert(id, Arc::clone(&told)).await;
            told
        }
    };
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(told.as_ref())).into_response())
}

/// What there is to be told of a recording, and how far what makes it is.
async fn told(app: &App, recording: Recording) -> Answer<ViewerInfoDto> {
    let renditions = match active_set(app, recording.id).await? {
        Some(set) => renditions(app, &set).await?.to_vec(),
        None => vec![],
    };
    let job = match recording.status {
        RecordingStatus::Pending | RecordingStatus::Processing | RecordingStatus::Playable => {
            let filter =
                JobFilter { kind: Some(JobKind::Transcode), recording_id: Some(recording.id), status: None };
            match jobs::list(&app.db, recording.project_id, filter, None, 1).await?.pop() {
                Some(job) => {
                    let tasks = tasks::of_jobs(&app.db, &[job.id]).await?.remove(&job.id);
                    Some(JobDto::listed(job, tasks.unwrap_or_default()))
                }
                None => None,
            }
        }
        RecordingStatus::Ready | RecordingStatus::Failed => None,
    };
    Ok(ViewerInfoDto {
        id: recording.id,
        title: recording.title,
        status: recording.status,
        duration_seconds: recording.duration_seconds,
        renditions: renditions
            .iter()
            .map(|r| RenditionDto::new(r, "stream/playlist.m3u8?quality="))
            .collect(),
        storyboard_url: stills::storyboard(&app.db, recording.id).await?.map(|_| "storyboard.vtt".to_owned()),
        error: recording.error.as_ref().map(ErrorDto::for_viewers),
        progress: job.as_ref().map(|job| job.progress),
        phase: job.as_ref().and_then(|job| job.phase.clone()),
        renditions_progress: job.iter().flat_map(rendition_progress).collect(),
    })
}

/// One entry a rendition, over all the chunks it is made in; the best first.
pub(crate) fn rendition_progress(job: &JobDto) -> Vec<RenditionProgressDto> {
    let mut all: Vec<RenditionProgressDto> = vec![];
    // The lead has the least of them alone; a chunk has them in order.
    let mut tasks: Vec<&TaskDto> = job.tasks.iter().collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.renditions.len()));
    for name in tasks.iter().flat_map(|task| &task.renditions) {
        if all.iter().any(|known| known.name == *name) {
            continue;
        }
        let makers: Vec<&TaskDto> = job.tasks.iter().filter(|task| task.renditions.contains(name)).collect();
        let total = |figure: fn(&TaskDto) -> Option<f32>| {
            makers.iter().filter_map(|task| figure(task)).reduce(|a, b| a + b)
        };
        all.push(RenditionProgressDto {
            name: name.clone(),
            progress: makers.iter().map(|task| task.progress).sum::<f64>() / makers.len().max(1) as f64,
            fps: total(|task| task.fps),
            speed: total(|task| task.speed),
            eta_seconds: seconds_left(&makers),
        });
    }
    all
}

/// How long the tasks that are not done will take, as many at a time as now, if all take what those under way seem to.
fn seconds_left(makers: &[&TaskDto]) -> Option<f32> {
    let running: Vec<f64> = makers
        .iter()
        .filter_map(|task| Some(f64::from(task.eta_seconds?) / (1.0 - task.progress).max(0.01)))
        .collect();
    let left: f64 = makers.iter().map(|task| 1.0 - task.progress).sum();
    let each = running.iter().sum::<f64>() / running.len().max(1) as f64;
    (!running.is_empty()).then(|| (left * each / running.len() as f64) as f32)
}

/// Whether a token is good: for a CDN that keeps things across tokens.
async fn check(State(app): State<App>, Path(token): Path<String>) -> Answer<Response> {
    named_by(&app, &token).await?;
    Ok(good_token())
}

/// The answer to who asks whether a token is good.
pub(crate) fn good_token() -> Response {
    let kept = HeaderValue::from_static("public, max-age=5");
    (StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, kept)]).into_response()
}

/// A newer token for the holder of one that still lasts.
async fn renew(State(app): State<App>, Path(token): Path<String>) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    let (token, expires_at) = viewer_token(&app, recording.id).await?;
    let body = Json(json!({ "token": token, "expires_at": expires_at }));
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], body).into_response())
}
