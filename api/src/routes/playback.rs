//! `/playback`: footage of cameras, by its time.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use reelmill_shared::auth::Scope;
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::db::livestreams::{self, Livestream};
use reelmill_shared::db::playback::{PlaybackFormat, PlaybackKind, Session};
use reelmill_shared::ids::{LivestreamId, PlaybackSessionId};
use reelmill_shared::media::footage::Wrapping;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dto::playback::{
    ExtendDto, GapDto, PlaybackSessionDto, Precision, RecordedDto, StartLiveDto, StartPlaybackDto,
};
use crate::extract::{Body, Path, Query};
use crate::footage::{self, Footage, FootageFile, LIVE, Wanted, WantedLive};
use crate::playback::Container;
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::livestreams::source_url;
use crate::state::App;
use crate::tokens;

/// Tokens of sessions last longer than any session: whether it goes on is looked up.
const TOKEN_SECONDS: u64 = 8 * 24 * 3600;
/// Segments that are named one by one.
const NAMED: usize = 1000;

/// Parameters of a session's files.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FootageQuery {
    /// One of the session's `qualities`; the best where it is left out, or where a part of the footage does not have it.
    pub(crate) quality: Option<String>,
    /// What segments are: MPEG-TS, which any player knows, or fragmented MP4, which also carries newer codecs.
    #[param(inline)]
    pub(crate) container: Option<Container>,
}

impl FootageQuery {
    pub(crate) fn wrapping(&self) -> Wrapping {
        match self.container {
            Some(Container::Fmp4) => Wrapping::Fmp4,
            Some(Container::Ts) | None => Wrapping::Ts,
        }
    }
}

/// Play what a camera recorded in a span of time.
///
/// Finds what was recorded, across broadcasts and what was imported, and joins it to one playlist; nothing is encoded again. The session
/// keeps what it plays from being deleted, for an hour or until it is extended or ended.
#[utoipa::path(post, path = "/playback/start", tag = "playback", operation_id = "start_playback", request_body = StartPlaybackDto, responses(
    (status = 201, description = "The session; Location is where to look it up.", body = PlaybackSessionDto),
    (status = 404, description = "There is no such camera, or it recorded nothing then: when it did is said.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn start(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<StartPlaybackDto>,
) -> Answer<Response> {
    caller.need(Scope::LiveRead)?;
    let livestream = camera(&app, &caller, body.camera_id).await?;
    if let Some(format) = body.format.filter(|format| *format != PlaybackFormat::Hls) {
        let detail = format!("is hls for what was recorded; {format} is for POST /api/v1/playback/live");
        return Err(Problem::field("/format", detail));
    }
    let exact = body.precision == Precision::Frame;
    let wanted = Wanted { livestream, from: body.start_time, to: body.end_time, exact };
    let session = footage::start(&app, caller.project_id, wanted).await?;
    created(&app, &headers, &session).await
}

/// Play what a camera has on air.
///
/// `hls` is our own low-latency HLS. For `rtsp` and `webrtc` the camera is made known to the MediaMTX that the farm is configured with, which
/// fetches it while somebody watches; the session ends after a day.
#[utoipa::path(post, path = "/playback/live", tag = "playback", operation_id = "start_live_playback", request_body = StartLiveDto, responses(
    (status = 201, description = "The session; Location is where to look it up.", body = PlaybackSessionDto),
    (status = 404, description = "There is no such camera.", body = ProblemDocument),
    (status = 422, description = "Fields are not right, or no MediaMTX is configured.", body = ProblemDocument),
    (status = 503, description = "MediaMTX does not answer.", body = ProblemDocument),
))]
pub(crate) async fn start_live(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<StartLiveDto>,
) -> Answer<Response> {
    caller.need(Scope::LiveRead)?;
    let livestream = camera(&app, &caller, body.camera_id).await?;
    let format = body.format.unwrap_or(PlaybackFormat::Hls);
    let id = PlaybackSessionId::new();
    let served = match format {
        PlaybackFormat::Hls => None,
        format => Some(served(&app, &headers, &livestream, id, format).await?),
    };
    let wanted = WantedLive { livestream, format, served };
    let session = footage::start_live(&app, caller.project_id, id, wanted).await?;
    created(&app, &headers, &session).await
}

async fn camera(app: &App, caller: &Caller, id: LivestreamId) -> Answer<Livestream> {
    let found = livestreams::get(&app.db, caller.project_id, id).await?;
    found.ok_or_else(|| Problem::not_found("camera", id))
}

/// Makes a camera known to the media server: where viewers find it, and what it is called there.
async fn served(
    app: &App,
    headers: &HeaderMap,
    livestream: &Livestream,
    id: PlaybackSessionId,
    format: PlaybackFormat,
) -> Answer<(String, String)> {
    let Some(mediamtx) = &app.mediamtx else {
        let detail = format!(
            "{format} needs a MediaMTX: set REELMILL_MEDIAMTX_API_URL, REELMILL_MEDIAMTX_RTSP_URL and \
             REELMILL_MEDIAMTX_WEBRTC_URL of the api, or ask for hls"
        );
        return Err(Problem::field("/format", detail));
    };
    let name = format!("reelmill-{}", id.0.simple());
    // It asks the camera itself where it can, and else plays what we make of it.
    let source = match source_url(app, livestream)? {
        Some(url) => url,
        None => {
            // As long as any session lasts: it is told the address once.
            let token = live_token(app, livestream.id, footage::LONGEST).await;
            live_url(&app.public_url(headers), livestream.id, &token)
        }
    };
    mediamtx.add(&name, &source).await.map_err(|error| {
        tracing::warn!(%error, livestream = %livestream.id, "could not make a camera known to the media server");
        Problem::new(Kind::Unavailable, "the media server does not answer").with_retry_after(5)
    })?;
    let url = match format {
        PlaybackFormat::Webrtc => mediamtx.webrtc_url(&name),
        _ => mediamtx.rtsp_url(&name),
    };
    Ok((url, name))
}

fn live_url(base: &str, id: LivestreamId, token: &str) -> String {
    format!("{base}/v/{token}/live/{id}/master.m3u8")
}

/// Lasts for `lifetime` at least; the same for all that begin within so long.
async fn live_token(app: &App, id: LivestreamId, lifetime: TimeDelta) -> String {
    let lifetime = lifetime.to_std().unwrap_or_default();
    tokens::give_for(app, Purpose::PlayLivestream, id.0, lifetime).await.0
}

async fn created(app: &App, headers: &HeaderMap, session: &Arc<Session>) -> Answer<Response> {
    let location = format!("/api/v1/playback/sessions/{}", session.id);
    let dto = told(app, headers, session).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(dto)).into_response())
}

/// A session as its owner sees it.
async fn told(app: &App, headers: &HeaderMap, session: &Arc<Session>) -> Answer<PlaybackSessionDto> {
    let (public, media) = (app.public_url(headers), app.media_url(headers).await);
    let id = session.id;
    let is_recorded = session.kind == PlaybackKind::Recorded;
    let token = session_token(app, session);
    let url = match (&session.url, session.kind) {
        (Some(url), _) => url.clone(),
        (None, PlaybackKind::Live) => {
            live_url(&media, session.livestream, &live_token(app, session.livestream, LIVE).await)
        }
        (None, PlaybackKind::Recorded) => format!("{media}/v/{token}/playback/{id}/playlist.m3u8"),
    };
    let watch_url = match (&session.url, session.kind) {
        (Some(_), _) => None,
        (None, PlaybackKind::Live) => {
            let (livestream, token) = (session.livestream, live_token(app, session.livestream, LIVE).await);
            Some(format!("{public}/watch/live/{livestream}?token={token}"))
        }
        (None, PlaybackKind::Recorded) => Some(format!("{public}/watch/playback/{id}?token={token}")),
    };
    Ok(PlaybackSessionDto {
        session_id: id,
        camera_id: session.livestream,
        kind: session.kind,
        format: session.format,
        start_time: session.span.map(|(start, _)| start),
        end_time: session.span.map(|(_, end)| end),
        url,
        watch_url,
        export_url: is_recorded.then(|| format!("{public}/v/{token}/playback/{id}/export.mp4")),
        created_at: session.created_at,
        expires_at: session.expires_at,
        recorded: if is_recorded { recorded(app, session).await? } else { RecordedDto::default() },
    })
}

/// What opens a session without a key.
pub(crate) fn session_token(app: &App, session: &Session) -> String {
    let began = u64::try_from(session.created_at.timestamp()).unwrap_or_default();
    app.signer().sign(Purpose::PlaySession, session.id.0, began + TOKEN_SECONDS)
}

async fn recorded(app: &App, session: &Arc<Session>) -> Answer<RecordedDto> {
    let footage = Footage::of(app, session).await?;
    let extent = footage::extent(app, &footage).await?;
    let moment = |micros: i64| DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
    let named = session
        .stretches
        .iter()
        .flat_map(|stretch| (stretch.first..stretch.until).map(|n| format!("{}/{n}", stretch.broadcast)));
    Ok(RecordedDto {
        segment_ids: named.take(NAMED).collect(),
        segment_count: footage.count(),
        duration: extent.there as f64 / 1e6,
        gaps: extent
            .gaps
            .iter()
            .map(|(from, to)| GapDto { start_time: moment(*from), end_time: moment(*to) })
            .collect(),
        qualities: footage.qualities().into_iter().map(str::to_owned).collect(),
    })
}

/// A session of the caller's project.
pub(crate) async fn own(app: &App, caller: &Caller, id: PlaybackSessionId) -> Answer<Arc<Session>> {
    caller.need(Scope::LiveRead)?;
    let missing = || Problem::not_found("playback session", id);
    let session = footage::find(app, id).await?;
    if session.project == caller.project_id { Ok(session) } else { Err(missing()) }
}

/// Get a session.
#[utoipa::path(get, path = "/playback/sessions/{id}", tag = "playback", operation_id = "playback_session",
    params(("id" = PlaybackSessionId, Path)), responses(
    (status = 200, description = "The session.", body = PlaybackSessionDto),
    (status = 404, description = "There is no such session.", body = ProblemDocument),
    (status = 410, description = "It is over.", body = ProblemDocument),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<PlaybackSessionId>,
) -> Answer<Json<PlaybackSessionDto>> {
    let session = own(&app, &caller, id).await?;
    Ok(Json(told(&app, &headers, &session).await?))
}

/// End a session.
///
/// Within seconds nothing is played by its address any more, and what was made for it is forgotten. What is on air by `hls` has one address for all
/// who play the camera: that goes on until its token ends or is taken back (`DELETE /livestreams/{id}/playback-token`).
#[utoipa::path(delete, path = "/playback/sessions/{id}", tag = "playback", operation_id = "end_playback",
    params(("id" = PlaybackSessionId, Path)), responses(
    (status = 204, description = "It is over."),
    (status = 404, description = "There is no such session.", body = ProblemDocument),
))]
pub(crate) async fn end(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<PlaybackSessionId>,
) -> Answer<StatusCode> {
    own(&app, &caller, id).await?;
    let ended = footage::end(&app, id).await?;
    if let (Some(mediamtx), Some(path)) = (&app.mediamtx, ended.and_then(|session| session.path))
        && let Err(error) = mediamtx.remove(&path).await
    {
        // What it fetches ends with the last who watches.
        tracing::warn!(%error, session = %id, "could not tell the media server that a session is over");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Let a session last longer.
#[utoipa::path(post, path = "/playback/sessions/{id}/extend", tag = "playback", operation_id = "extend_playback",
    params(("id" = PlaybackSessionId, Path)), request_body = ExtendDto, responses(
    (status = 200, description = "The session as it is now.", body = PlaybackSessionDto),
    (status = 404, description = "There is no such session.", body = ProblemDocument),
    (status = 410, description = "It is over.", body = ProblemDocument),
    (status = 422, description = "The time is out of its range.", body = ProblemDocument),
))]
pub(crate) async fn extend(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<PlaybackSessionId>,
    Body(body): Body<ExtendDto>,
) -> Answer<Json<PlaybackSessionDto>> {
    let session = own(&app, &caller, id).await?;
    if !(60..=86_400).contains(&body.duration_seconds) {
        return Err(Problem::field("/duration_seconds", "is from 60 to 86400"));
    }
    let session = footage::extend(&app, &session, TimeDelta::seconds(body.duration_seconds)).await?;
    Ok(Json(told(&app, &headers, &session).await?))
}

/// What was recorded, where that is what a session plays.
pub(crate) async fn footage_of(app: &App, session: &Arc<Session>) -> Answer<Arc<Footage>> {
    if session.kind == PlaybackKind::Live {
        let detail = "this session plays what is on air; its url says where";
        return Err(Problem::new(Kind::NotFound, detail));
    }
    Footage::of(app, session).await
}

/// Get the playlist of a session.
///
/// `#EXT-X-PLAYLIST-TYPE:VOD` with `segment/{index}.ts`, or `.m4s` for `container=fmp4`. Where the footage does not go on there is a
/// discontinuity with the date of what follows, and a date range of class `reelmill.gap` says what is missing.
#[utoipa::path(get, path = "/playback/sessions/{id}/playlist.m3u8", tag = "playback", operation_id = "playback_playlist",
    params(("id" = PlaybackSessionId, Path), FootageQuery), responses(
    (status = 200, description = "The playlist.", content_type = "application/vnd.apple.mpegurl"),
    (status = 404, description = "There is no such session, or no such quality.", body = ProblemDocument),
    (status = 410, description = "It is over.", body = ProblemDocument),
))]
pub(crate) async fn playlist(
    State(app): State<App>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    Path(id): Path<PlaybackSessionId>,
    Query(query): Query<FootageQuery>,
) -> Answer<Response> {
    let footage = footage_of(&app, &own(&app, &caller, id).await?).await?;
    let file = FootageFile::Playlist(query.wrapping());
    footage::serve(&app, &footage, file, query.quality.as_deref(), false, &method, &headers).await
}

/// Get a segment of a session.
///
/// `{index}.ts` is MPEG-TS, `{index}.m4s` fragmented MP4 behind `{index}-init.mp4` of where its playlist says so. Made of what is stored,
/// without encoding.
#[utoipa::path(get, path = "/playback/sessions/{id}/segment/{file}", tag = "playback", operation_id = "playback_segment",
    params(("id" = PlaybackSessionId, Path), ("file" = String, Path, example = "0.ts"), FootageQuery), responses(
    (status = 200, description = "The segment.", content_type = "video/mp2t"),
    (status = 404, description = "There is no such segment, or it was lost.", body = ProblemDocument),
    (status = 410, description = "The session is over.", body = ProblemDocument),
))]
pub(crate) async fn segment(
    State(app): State<App>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    Path((id, name)): Path<(PlaybackSessionId, String)>,
    Query(query): Query<FootageQuery>,
) -> Answer<Response> {
    let footage = footage_of(&app, &own(&app, &caller, id).await?).await?;
    footage::serve(&app, &footage, named(&name)?, query.quality.as_deref(), false, &method, &headers).await
}

/// What a name under `segment/` means.
pub(crate) fn named(name: &str) -> Answer<FootageFile> {
    let unknown = || Problem::new(Kind::NotFound, format!("there is no segment {name}"));
    FootageFile::parse(name).ok_or_else(unknown)
}

/// Get what a session plays as one file.
///
/// A fragmented MP4, made while it is sent; nothing is encoded. Gaps are left out. With `precision: frame` an edit list makes its start
/// exact.
#[utoipa::path(get, path = "/playback/sessions/{id}/export.mp4", tag = "playback", operation_id = "export_playback",
    params(("id" = PlaybackSessionId, Path), FootageQuery), responses(
    (status = 200, description = "The file.", content_type = "video/mp4"),
    (status = 404, description = "There is no such session, or no such quality.", body = ProblemDocument),
    (status = 409, description = "The footage changes its format on the way.", body = ProblemDocument),
    (status = 410, description = "The session is over.", body = ProblemDocument),
))]
pub(crate) async fn export(
    State(app): State<App>,
    caller: Caller,
    method: Method,
    Path(id): Path<PlaybackSessionId>,
    Query(query): Query<FootageQuery>,
) -> Answer<Response> {
    let session = own(&app, &caller, id).await?;
    exported(&app, &session, query, &method).await
}

pub(crate) async fn exported(
    app: &App,
    session: &Arc<Session>,
    query: FootageQuery,
    method: &Method,
) -> Answer<Response> {
    let footage = footage_of(app, session).await?;
    let livestream = livestreams::find(&app.db, session.livestream).await?;
    let title = livestream.map_or_else(|| "footage".to_owned(), |livestream| livestream.terms.title);
    footage::export(app, footage, &title, query.quality, method).await
}
