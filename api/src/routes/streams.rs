//! `/streams`, `/viewers`, `/distribution`: viewers who join something by name, so many at most.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use reelmill_shared::auth::Scope;
use reelmill_shared::config::STREAM_BANDWIDTHS;
use reelmill_shared::db::streams::{self, Joined, Stream, StreamLimits, StreamViewer};
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::db::{distribution, livestreams as livestreams_db, recordings as recordings_db};
use reelmill_shared::media::abr::{BitrateProfile, Rung};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::abr::Offer;
use crate::audience::session_id;
use crate::auth::Caller;
use crate::dto::streams::{
    AdaptDto, AdaptedDto, BitrateProfileDto, DistributionMetricsDto, JoinDto, JoinedDto, StartStreamDto,
    StreamDto, StreamStartedDto, ids,
};
use crate::extract::{Body, Path, Query};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::live_recordings::now_of;
use crate::routes::livestreams::control::live_token;
use crate::routes::recordings::viewer_token;
use crate::routes::{livestreams, recordings};
use crate::state::App;

/// Viewers where nothing else is said, and at most.
const VIEWERS: u32 = 100;
const MOST_VIEWERS: u32 = 100_000;
const VIEWER_LIMIT: usize = 255;
/// Viewers that are listed.
const LISTED: i64 = 1000;
/// Who finds a stream full tries again after so many seconds: within a minute whoever left without a word has lost their place.
const RETRY: u16 = 10;
/// Requests for media are summed up over so long.
const MEASURED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Open a stream.
///
/// From now on viewers join a recording or livestream by name, so many at a time, whichever api they ask. Opened again it takes the new
/// limits, and keeps its viewers.
#[utoipa::path(post, path = "/streams/start", tag = "streams", operation_id = "start_stream", request_body = StartStreamDto, responses(
    (status = 201, description = "It is open.", body = StreamStartedDto),
    (status = 404, description = "There is no such recording or livestream.", body = ProblemDocument),
    (status = 409, description = "The recording is live; what it is on air as can be had.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn start(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<StartStreamDto>,
) -> Answer<Response> {
    let watched = match (body.recording_id, body.livestream_id) {
        (Some(id), None) => Watched::Recording(id),
        (None, Some(id)) => Watched::Livestream(id),
        (Some(_), Some(_)) => {
            return Err(Problem::field("/livestream_id", "cannot stand beside recording_id"));
        }
        (None, None) => return Err(Problem::field("/recording_id", "is missing, and so is livestream_id")),
    };
    let viewers = body.max_viewers.unwrap_or(VIEWERS);
    if !(1..=MOST_VIEWERS).contains(&viewers) {
        return Err(Problem::field("/max_viewers", format!("is from 1 to {MOST_VIEWERS}")));
    }
    let bandwidth = body.bandwidth_limit.unwrap_or(app.config.stream_bandwidth);
    if !STREAM_BANDWIDTHS.contains(&bandwidth) {
        let (least, most) = (STREAM_BANDWIDTHS.start(), STREAM_BANDWIDTHS.end());
        return Err(Problem::field("/bandwidth_limit", format!("is from {least} to {most} bits per second")));
    }
    owned(&app, &caller, watched, Scope::Write, Scope::LiveWrite).await?;
    if let Watched::Recording(id) = watched
        && let Watched::Livestream(now) = now_of(&app, id).await?
    {
        let detail = format!("this recording is live: start a stream of livestream_id {now}");
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let rungs = rungs(&app, watched).await?;
    let least_bitrate = rungs.first().map_or(0, |lowest| lowest.bitrate);
    let limits = StreamLimits { viewers, bandwidth, least_bitrate };
    let stream = streams::start(&app.db, caller.project_id, watched, limits).await?;
    let (recording_id, livestream_id) = ids(watched);
    let dto = StreamStartedDto {
        recording_id,
        livestream_id,
        stream_id: stream.id,
        status: "started",
        max_viewers: stream.limits.viewers,
        bandwidth_limit: stream.limits.bandwidth,
        profiles: BitrateProfileDto::all(&rungs, stream.limits),
        message: "viewers may join",
        timestamp: Utc::now(),
    };
    Ok((StatusCode::CREATED, Json(dto)).into_response())
}

/// Refuses what is not the caller's.
async fn owned(app: &App, caller: &Caller, watched: Watched, recorded: Scope, live: Scope) -> Answer<()> {
    match watched {
        Watched::Recording(id) => {
            caller.need(recorded)?;
            recordings::find(app, caller, id).await.map(drop)
        }
        Watched::Livestream(id) => {
            caller.need(live)?;
            livestreams::find(app, caller, id).await.map(drop)
        }
    }
}

/// What there is to choose from; nothing while there is nothing to play.
async fn rungs(app: &App, watched: Watched) -> Answer<Vec<Rung>> {
    let offer = match watched {
        Watched::Recording(id) => match recordings_db::find(&app.db, id).await? {
            Some(recording) => Offer::recording(app, &recording).await,
            None => return Ok(vec![]),
        },
        Watched::Livestream(id) => match livestreams_db::find(&app.db, id).await? {
            Some(livestream) => Offer::livestream(app, &livestream).await,
            None => return Ok(vec![]),
        },
    };
    Ok(offer.map(|offer| offer.rungs).unwrap_or_default())
}

/// The stream that is open of something the caller may read.
pub(crate) async fn opened(app: &App, caller: &Caller, id: Uuid) -> Answer<Stream> {
    let found = streams::find(&app.db, caller.project_id, id).await?;
    let closed = || {
        Problem::new(
            Kind::NotFound,
            format!("no stream of {id} is open: POST /api/v1/streams/start opens one"),
        )
    };
    let stream = found.ok_or_else(closed)?;
    caller.need(match stream.watched {
        Watched::Recording(_) => Scope::Read,
        Watched::Livestream(_) => Scope::LiveRead,
    })?;
    Ok(stream)
}

pub(crate) fn check_viewer(viewer: &str) -> Answer<()> {
    let fits = (1..=VIEWER_LIMIT).contains(&viewer.chars().count()) && !viewer.chars().any(char::is_control);
    if fits {
        Ok(())
    } else {
        Err(Problem::field("/viewer_id", format!("has 1 to {VIEWER_LIMIT} plain characters")))
    }
}

/// Join a stream.
///
/// With the bitrate asked for, or the best below it for which the others leave bandwidth: `current_bitrate` says which.
///
/// The place is held while its playlist and segments are fetched, or its session tells how far it is, and for a minute after that.
#[utoipa::path(post, path = "/streams/{id}", tag = "streams", operation_id = "join_stream",
    params(("id" = Uuid, Path, description = "A recording or livestream.")), request_body = JoinDto, responses(
    (status = 200, description = "A place in it.", body = JoinedDto),
    (status = 404, description = "No stream of it is open.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
    (status = 429, description = "All places are taken, or all of the bandwidth; Retry-After says when to ask again.", body = ProblemDocument),
))]
pub(crate) async fn join(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
    Body(body): Body<JoinDto>,
) -> Answer<Json<JoinedDto>> {
    check_viewer(&body.viewer_id)?;
    let stream = opened(&app, &caller, id).await?;
    let session = session_id::give(&app, stream.watched).session_id;
    let bitrate = body.initial_bitrate.unwrap_or(BitrateProfile::Low);
    let viewer = match streams::join(&app.db, &stream, &body.viewer_id, &session, bitrate).await? {
        Joined::In(viewer) => *viewer,
        Joined::Closed => return Err(Problem::new(Kind::NotFound, "the stream has just been closed")),
        Joined::Full => {
            let detail = format!("all {} places are taken", stream.limits.viewers);
            return Err(Problem::new(Kind::TooMany, detail).with_retry_after(RETRY));
        }
        Joined::Busy => {
            let detail = format!(
                "too little is left of the {} kbit/s of this stream; its owner can open it again with another bandwidth_limit",
                stream.limits.bandwidth / 1000
            );
            return Err(Problem::new(Kind::TooMany, detail).with_retry_after(RETRY));
        }
    };
    let (recording_id, livestream_id) = ids(stream.watched);
    let (playlist_url, socket_url) = addresses(&app, &headers, stream.watched, &viewer).await?;
    Ok(Json(JoinedDto {
        recording_id,
        livestream_id,
        playlist_url,
        socket_url,
        viewer_id: viewer.viewer,
        session_id: viewer.session,
        current_bitrate: viewer.bitrate,
        buffer_health: viewer.buffer_health,
        message: "joined",
        timestamp: Utc::now(),
    }))
}

/// A viewer's own playlist and socket.
async fn addresses(
    app: &App,
    headers: &HeaderMap,
    watched: Watched,
    viewer: &StreamViewer,
) -> Answer<(String, String)> {
    let (public, session) = (app.public_url(headers), &viewer.session);
    // wss where that is https.
    let socket = public.replacen("http", "ws", 1);
    Ok(match watched {
        Watched::Recording(id) => {
            let (token, _) = viewer_token(app, id).await?;
            let own = format!("/v/{token}/as/{session}/stream");
            (format!("{public}{own}/master.m3u8"), format!("{socket}{own}/live"))
        }
        Watched::Livestream(id) => {
            let (token, _) = live_token(app, id).await;
            let own = format!("/v/{token}/live/{id}/as/{session}");
            (format!("{public}{own}/master.m3u8"), format!("{socket}{own}/stream/live"))
        }
    })
}

/// Look at a stream and its viewers.
#[utoipa::path(get, path = "/streams/{id}", tag = "streams", operation_id = "stream_statistics",
    params(("id" = Uuid, Path, description = "A recording or livestream.")), responses(
    (status = 200, description = "Its figures; what was served is known within seconds.", body = StreamDto),
    (status = 404, description = "No stream of it is open.", body = ProblemDocument),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Answer<Json<StreamDto>> {
    let stream = opened(&app, &caller, id).await?;
    let viewers = streams::viewers(&app.db, stream.id, LISTED).await?;
    Ok(Json(StreamDto::new(stream, viewers)))
}

/// Who leaves.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaveQuery {
    /// Who leaves; without it the stream is closed.
    pub(crate) viewer_id: Option<String>,
}

/// Leave a stream, or close it.
///
/// With `viewer_id` their place is free at once. Without it nobody has a place any more, and nothing is served to those who had.
#[utoipa::path(delete, path = "/streams/{id}", tag = "streams", operation_id = "leave_stream",
    params(("id" = Uuid, Path, description = "A recording or livestream."), LeaveQuery), responses(
    (status = 204, description = "Done."),
    (status = 404, description = "No stream of it is open, or nobody of that name has a place.", body = ProblemDocument),
))]
pub(crate) async fn leave(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<LeaveQuery>,
) -> Answer<StatusCode> {
    let stream = opened(&app, &caller, id).await?;
    match query.viewer_id {
        Some(viewer) => {
            if !streams::leave(&app.db, stream.id, &viewer).await? {
                return Err(Problem::new(Kind::NotFound, "nobody of that name has a place"));
            }
        }
        None => {
            caller.need(match stream.watched {
                Watched::Recording(_) => Scope::Write,
                Watched::Livestream(_) => Scope::LiveWrite,
            })?;
            streams::end(&app.db, stream.id).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Tell how full a viewer's buffer is, and hear what to play.
#[utoipa::path(post, path = "/viewers/adapt-quality", tag = "streams", operation_id = "adapt_quality", request_body = AdaptDto, responses(
    (status = 200, description = "The bitrate from now on.", body = AdaptedDto),
    (status = 404, description = "No stream of it is open, or nobody of that name has a place.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn adapt(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<AdaptDto>,
) -> Answer<Json<AdaptedDto>> {
    check_viewer(&body.viewer_id)?;
    if !(0.0..=100.0).contains(&body.buffer_health) {
        return Err(Problem::field("/buffer_health", "is from 0 to 100"));
    }
    let stream = opened(&app, &caller, body.recording_id).await?;
    let adapted = streams::adapt(&app.db, stream.id, &body.viewer_id, body.buffer_health).await?;
    let viewer = adapted.ok_or_else(|| Problem::new(Kind::NotFound, "nobody of that name has a place"))?;
    let rungs = rungs(&app, stream.watched).await?;
    let (recording_id, livestream_id) = ids(stream.watched);
    Ok(Json(AdaptedDto {
        recording_id,
        livestream_id,
        viewer_id: viewer.viewer,
        rendition: viewer.bitrate.rung(&rungs).map(|rung| rung.name.clone()),
        current_bitrate: viewer.bitrate,
        buffer_health: body.buffer_health,
        timestamp: Utc::now(),
    }))
}

/// Sum up all that is distributed.
#[utoipa::path(get, path = "/distribution/metrics", tag = "streams", operation_id = "distribution_metrics", responses(
    (status = 200, description = "Sums of the project's streams.", body = DistributionMetricsDto),
))]
pub(crate) async fn metrics(State(app): State<App>, caller: Caller) -> Answer<Json<DistributionMetricsDto>> {
    caller.need(Scope::Read)?;
    let totals = streams::totals(&app.db, caller.project_id).await?;
    Ok(Json(DistributionMetricsDto {
        total_distributors: totals.streams,
        total_active_viewers: totals.viewers,
        total_segments_served: totals.segments,
        total_bytes_served: totals.bytes,
        total_delivery_failures: totals.delivery_failures,
        cdn_cache_hit_rate: distribution::hit_rate(&app.db, caller.project_id, MEASURED).await?,
        timestamp: Utc::now(),
    }))
}

/// Refuses a session that has no place in a stream of what is watched. Asked for with every file, it is looked up every few seconds.
pub(crate) async fn check_place(app: &App, watched: Watched, session: &str) -> Answer<()> {
    session_id::check(app, watched, session)?;
    let key = (watched.id(), session.to_owned());
    let looking = async { Ok(streams::place(&app.db, watched, session).await?.is_some()) };
    let found = app.caches.places.try_get_with(key, looking).await;
    if found.map_err(|problem: std::sync::Arc<Problem>| Problem::clone(&problem))? {
        return Ok(());
    }
    Err(Problem::new(Kind::Gone, "this viewer has no place in the stream, or no more: join again"))
}
