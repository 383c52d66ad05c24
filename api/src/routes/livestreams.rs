//! `/livestreams`: channels that may be on air.

pub(crate) mod control;
pub(crate) mod convert;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod viewers;
pub(crate) mod wish;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::seal::SealError;
use reelmill_shared::auth::{Scope, allows};
use reelmill_shared::db::livestreams::{self, KeptKey, Livestream, LivestreamFilter, Page};
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::key::{StreamKey, key_seal};
use reelmill_shared::live::spec::SourceKind;
use reelmill_shared::live::state::LiveStatus;
use serde::Deserialize;
use utoipa::IntoParams;

use self::wish::{Draft, open_source};
use crate::auth::Caller;
use crate::dto::livestream::{
    Ingest, LivestreamDto, LivestreamListDto, NewLivestreamDto, PatchLivestreamDto,
};
use crate::extract::{Body, Path, Query, cursor, cut_page, limit};
use crate::idempotency::reserved;
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;

/// Rows that may be passed over: the database counts them one by one.
const MAX_OFFSET: i64 = 100_000;

/// Create a livestream.
///
/// Publishers send to `rtmp_ingest_url` (or `srt_ingest_url`, which is there as soon as a worker listens), and that puts it on air; what is fetched, and what has `require_start`, waits for `POST …/start`.
#[utoipa::path(post, path = "/livestreams", tag = "livestreams", request_body = NewLivestreamDto, responses(
    (status = 201, description = "The livestream; Location is where it is read.", body = LivestreamDto),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<NewLivestreamDto>,
) -> Answer<Response> {
    caller.need(Scope::LiveWrite)?;
    // A request that is repeated makes one.
    let id = reserved().map_or_else(LivestreamId::new, LivestreamId);
    let terms = Draft::new().with(&app, body.0)?.sealed(&app, id)?;
    let key = StreamKey::generate();
    let sealed = sealed_key(&app, id, &key)?;
    let kept = KeptKey { hash: &key.hash(), sealed: &sealed };
    livestreams::create(&app.db, caller.project_id, id, &terms, &kept).await?;
    let dto = told(&app, &caller, &headers, find(&app, &caller, id).await?);
    let location = format!("/api/v1/livestreams/{id}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(dto)).into_response())
}

/// A key as it is kept.
pub(crate) fn sealed_key(app: &App, id: LivestreamId, key: &StreamKey) -> Answer<Vec<u8>> {
    Ok(app.config.secret.sealer.seal(&key_seal(id), key.reveal().as_bytes())?)
}

/// The caller's livestream, or a problem.
pub(crate) async fn find(app: &App, caller: &Caller, id: LivestreamId) -> Answer<Livestream> {
    let found = livestreams::get(&app.db, caller.project_id, id).await?;
    found.ok_or_else(|| Problem::not_found("livestream", id))
}

/// Where a livestream is fetched from by RTSP, with its credentials; `None` of one that comes otherwise.
pub(crate) fn source_url(app: &App, livestream: &Livestream) -> Answer<Option<String>> {
    let is_camera = livestream.terms.spec.source == SourceKind::Rtsp;
    let source = open_source(app, livestream.id, &livestream.terms)?;
    Ok(source.and_then(|source| source.url).filter(|_| is_camera))
}

/// A livestream as this caller may see it. A secret that cannot be read any more does not hide the rest.
fn told(app: &App, caller: &Caller, headers: &HeaderMap, livestream: Livestream) -> LivestreamDto {
    let source = open_source(app, livestream.id, &livestream.terms).ok().flatten();
    let may_publish = allows(&caller.scopes, Scope::LiveWrite);
    let key = may_publish.then(|| stream_key(app, &livestream).ok()).flatten();
    let ingest = key.as_ref().and_then(|key| ingest_url(app, headers, &livestream, key));
    let ingest = Ingest { rtmp: ingest, srt: srt_ingest_url(&livestream).filter(|_| may_publish), key };
    LivestreamDto::new(livestream, source.as_ref(), ingest)
}

/// The key of a livestream, for who may see it.
fn stream_key(app: &App, livestream: &Livestream) -> Answer<String> {
    let plain = app.config.secret.sealer.open(&key_seal(livestream.id), &livestream.key_sealed)?;
    Ok(String::from_utf8(plain).map_err(|_| SealError)?)
}

/// Where a publisher sends to, and with which key; `None` of what is fetched.
pub(crate) fn publishing(
    app: &App,
    headers: &HeaderMap,
    livestream: &Livestream,
) -> Answer<Option<(String, String)>> {
    let key = stream_key(app, livestream)?;
    Ok(ingest_url(app, headers, livestream, &key).map(|url| (url, key)))
}

/// Where a publisher sends to, if one does.
fn ingest_url(app: &App, headers: &HeaderMap, livestream: &Livestream, key: &str) -> Option<String> {
    let is_sent = livestream.terms.spec.source == SourceKind::Push;
    is_sent.then(|| format!("{}/{key}", app.public_rtmp_url(headers)))
}

/// The same by SRT, while a worker listens for it.
fn srt_ingest_url(livestream: &Livestream) -> Option<String> {
    livestream.srt_address.as_ref().map(|address| format!("srt://{address}"))
}

/// Filters of a list of livestreams.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LivestreamQuery {
    user_id: Option<String>,
    status: Option<LiveStatus>,
    /// The one that a recording is live with in this room.
    room_id: Option<String>,
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// So many of the newest are passed over, up to 100,000. A cursor is quicker, and misses none when others are made meanwhile.
    offset: Option<i64>,
}

/// List livestreams, newest first.
#[utoipa::path(get, path = "/livestreams", tag = "livestreams", params(LivestreamQuery), responses(
    (status = 200, description = "A page of livestreams.", body = LivestreamListDto),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<LivestreamQuery>,
) -> Answer<Json<LivestreamListDto>> {
    caller.need(Scope::LiveRead)?;
    let limit = limit(query.limit)?;
    let offset = query.offset.unwrap_or(0);
    if !(0..=MAX_OFFSET).contains(&offset) {
        return Err(Problem::new(Kind::Malformed, format!("offset must be from 0 to {MAX_OFFSET}")));
    }
    if offset > 0 && query.cursor.is_some() {
        return Err(Problem::new(Kind::Malformed, "cursor and offset do not go together"));
    }
    let filter = LivestreamFilter {
        user_id: query.user_id.as_deref(),
        status: query.status,
        room: query.room_id.as_deref(),
    };
    let page = Page { after: cursor(query.cursor.as_deref())?, offset, limit: limit + 1 };
    let mut rows = livestreams::list(&app.db, caller.project_id, filter, page).await?;
    let next_cursor = cut_page(&mut rows, limit, |livestream| livestream.id);
    let streams = rows.into_iter().map(|row| told(&app, &caller, &headers, row)).collect();
    Ok(Json(LivestreamListDto { streams, next_cursor, limit, offset }))
}

/// Read a livestream.
#[utoipa::path(get, path = "/livestreams/{id}", tag = "livestreams", params(("id" = LivestreamId, Path)), responses(
    (status = 200, description = "The livestream.", body = LivestreamDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
) -> Answer<Json<LivestreamDto>> {
    caller.need(Scope::LiveRead)?;
    Ok(Json(told(&app, &caller, &headers, find(&app, &caller, id).await?)))
}

/// Change a livestream.
///
/// What is on air goes on as it began; the next broadcast is as is said here.
#[utoipa::path(patch, path = "/livestreams/{id}", tag = "livestreams", params(("id" = LivestreamId, Path)),
    request_body = PatchLivestreamDto, responses(
    (status = 200, description = "The livestream as it is now.", body = LivestreamDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
    Body(body): Body<PatchLivestreamDto>,
) -> Answer<Json<LivestreamDto>> {
    caller.need(Scope::LiveWrite)?;
    let edit = |before: &Livestream| Draft::of(&app, before)?.with(&app, body)?.sealed(&app, id);
    let changed = livestreams::update(&app.db, caller.project_id, id, edit).await?;
    let livestream = changed.ok_or_else(|| Problem::not_found("livestream", id))?;
    Ok(Json(told(&app, &caller, &headers, livestream)))
}

/// Delete a livestream.
///
/// One that is on air is stopped first. Its key lets nobody in any more; recordings that were converted stay.
#[utoipa::path(delete, path = "/livestreams/{id}", tag = "livestreams", params(("id" = LivestreamId, Path)), responses(
    (status = 204, description = "It is gone."),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<LivestreamId>,
) -> Answer<StatusCode> {
    caller.need(Scope::LiveWrite)?;
    if !livestreams::delete(&app.db, caller.project_id, id).await? {
        return Err(Problem::not_found("livestream", id));
    }
    Ok(StatusCode::NO_CONTENT)
}
