//! Players whose quality the farm chooses: what they tell, and what they are told.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::abr::{self, Kept};
use reelmill_shared::db::livestreams as livestreams_db;
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::ids::{LivestreamId, ProjectId, RecordingId};
use reelmill_shared::media::abr::{Bandwidth, Download, Preference, Session};
use reelmill_shared::media::profile::FieldError;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::abr::{Offer, preference};
use crate::auth::Caller;
use crate::dto::abr::{AbrSessionDto, MetricsAnswerDto, MetricsDto, SegmentDto, SelectDto, SelectedDto};
use crate::extract::{Body, Path, Query};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::viewer::named_by;
use crate::routes::{live_viewer, livestreams, recordings};
use crate::state::App;
use crate::submit::fault;

const SESSION_LIMIT: usize = 128;
const SEGMENTS_LIMIT: usize = 100;
const CODECS_LIMIT: usize = 32;
const CODEC_LIMIT: usize = 64;
const USER_LIMIT: usize = 255;
/// Bytes of a segment: a minute at 143 Mb/s.
const MOST_BYTES: u64 = 1 << 30;
/// Milliseconds of a download.
const LONGEST_DOWNLOAD: f64 = 600_000.0;
/// Seconds of a segment, and of a buffer.
const LONGEST_SEGMENT: f64 = 60.0;
const LONGEST_BUFFER: f64 = 3600.0;
const MOST_BANDWIDTH: u64 = 1_000_000_000_000;
const MOST_PIXELS: u32 = 100_000;

/// Tell what a player fetched.
///
/// After each segment, or after several. With `select` the answer also says which rung is to be played next. A session that is not heard of
/// for an hour is forgotten.
#[utoipa::path(post, path = "/abr/metrics", tag = "abr", request_body = MetricsDto, responses(
    (status = 200, description = "What the farm makes of it.", body = MetricsAnswerDto),
    (status = 404, description = "There is no such recording or livestream, or nothing to play of it.", body = ProblemDocument),
    (status = 409, description = "Several sessions are called so: say what is watched.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn metrics(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<MetricsDto>,
) -> Answer<Response> {
    check_metrics(&body)?;
    let named = named(body.recording_id, body.livestream_id)?;
    let offer = offer(&app, &caller, named, Some(&body.session_id)).await?;
    tell(&app, &offer, body).await
}

/// Ask which rung to play next.
///
/// By what the session told before and what stands here. Below a fifth of the buffer it is the lowest, below two fifths one less than the
/// network carries, above 85 % it may be one more.
#[utoipa::path(post, path = "/abr/select", tag = "abr", request_body = SelectDto, responses(
    (status = 200, description = "The rung, and why.", body = SelectedDto),
    (status = 404, description = "There is no such recording or livestream, or nothing to play of it.", body = ProblemDocument),
    (status = 409, description = "Several sessions are called so: say what is watched.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn select(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<SelectDto>,
) -> Answer<Response> {
    check_select(&body)?;
    let named = named(body.recording_id, body.livestream_id)?;
    let offer = offer(&app, &caller, named, body.session_id.as_deref()).await?;
    choose(&app, &offer, &body).await
}

/// Which session, where several are called so.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionQuery {
    /// What is watched.
    recording_id: Option<RecordingId>,
    livestream_id: Option<LivestreamId>,
}

/// Read what is known of a player.
#[utoipa::path(get, path = "/abr/sessions/{id}", tag = "abr", params(("id" = String, Path), SessionQuery), responses(
    (status = 200, description = "Its estimates, its limits, and its changes of the rung.", body = AbrSessionDto),
    (status = 404, description = "No session is called so, or it was not heard of for an hour.", body = ProblemDocument),
    (status = 409, description = "Several sessions are called so: say what is watched.", body = ProblemDocument),
))]
pub(crate) async fn session(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<SessionQuery>,
) -> Answer<Response> {
    let named = named(query.recording_id, query.livestream_id)?;
    let kept = known(&app, caller.project_id, &id, named).await?;
    let kept = kept.ok_or_else(|| Problem::not_found("session", &id))?;
    caller.need(scope(kept.watched))?;
    Ok(unstored(AbrSessionDto::from(kept)))
}

/// The same for the holder of a viewer's token, of what it names.
pub(crate) async fn viewers_metrics(
    State(app): State<App>,
    Path(token): Path<String>,
    Body(body): Body<MetricsDto>,
) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    check_metrics(&body)?;
    only(Watched::Recording(recording.id), body.recording_id, body.livestream_id)?;
    tell(&app, &Offer::recording(&app, &recording).await?, body).await
}

pub(crate) async fn viewers_select(
    State(app): State<App>,
    Path(token): Path<String>,
    Body(body): Body<SelectDto>,
) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    check_select(&body)?;
    only(Watched::Recording(recording.id), body.recording_id, body.livestream_id)?;
    choose(&app, &Offer::recording(&app, &recording).await?, &body).await
}

pub(crate) async fn live_metrics(
    State(app): State<App>,
    Path((token, id)): Path<(String, LivestreamId)>,
    Body(body): Body<MetricsDto>,
) -> Answer<Response> {
    live_viewer::check(&app, &token, id)?;
    check_metrics(&body)?;
    only(Watched::Livestream(id), body.recording_id, body.livestream_id)?;
    tell(&app, &live(&app, id).await?, body).await
}

pub(crate) async fn live_select(
    State(app): State<App>,
    Path((token, id)): Path<(String, LivestreamId)>,
    Body(body): Body<SelectDto>,
) -> Answer<Response> {
    live_viewer::check(&app, &token, id)?;
    check_select(&body)?;
    only(Watched::Livestream(id), body.recording_id, body.livestream_id)?;
    choose(&app, &live(&app, id).await?, &body).await
}

async fn live(app: &App, id: LivestreamId) -> Answer<Offer> {
    let stream = livestreams_db::find(&app.db, id).await?;
    Offer::livestream(app, &stream.ok_or_else(|| Problem::not_found("livestream", id))?).await
}

/// What a body says is watched.
fn named(recording: Option<RecordingId>, livestream: Option<LivestreamId>) -> Answer<Option<Watched>> {
    match (recording, livestream) {
        (Some(_), Some(_)) => Err(Problem::field("/livestream_id", "cannot stand beside recording_id")),
        (recording, livestream) => {
            Ok(recording.map(Watched::Recording).or(livestream.map(Watched::Livestream)))
        }
    }
}

/// A token is for one thing, whatever a body says.
fn only(watched: Watched, recording: Option<RecordingId>, livestream: Option<LivestreamId>) -> Answer<()> {
    match named(recording, livestream)? {
        Some(other) if other != watched => {
            let field = if recording.is_some() { "/recording_id" } else { "/livestream_id" };
            Err(Problem::field(field, "is not what the token is for"))
        }
        _ => Ok(()),
    }
}

fn scope(watched: Watched) -> Scope {
    match watched {
        Watched::Recording(_) => Scope::Read,
        Watched::Livestream(_) => Scope::LiveRead,
    }
}

/// What the caller says is watched, else what the session is known to watch.
async fn offer(app: &App, caller: &Caller, named: Option<Watched>, session: Option<&str>) -> Answer<Offer> {
    let watched = match (named, session) {
        (Some(watched), _) => Some(watched),
        (None, Some(id)) => known(app, caller.project_id, id, None).await?.map(|kept| kept.watched),
        (None, None) => None,
    };
    let needed = || Problem::field("/recording_id", "is needed, or livestream_id: no such session is known");
    let watched = watched.ok_or_else(needed)?;
    caller.need(scope(watched))?;
    match watched {
        Watched::Recording(id) => Offer::recording(app, &recordings::find(app, caller, id).await?).await,
        Watched::Livestream(id) => Offer::livestream(app, &livestreams::find(app, caller, id).await?).await,
    }
}

/// The session that is called so, of what is named where something is.
async fn known(app: &App, project: ProjectId, id: &str, named: Option<Watched>) -> Answer<Option<Kept>> {
    let mut found = abr::find(&app.db, project, id).await?;
    found.retain(|kept| named.is_none_or(|watched| kept.watched == watched));
    if found.len() > 1 {
        let detail = "several sessions are called so: say recording_id or livestream_id";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    Ok(found.pop())
}

async fn tell(app: &App, offer: &Offer, body: MetricsDto) -> Answer<Response> {
    let unknown = |(at, segment): (usize, &SegmentDto)| {
        let name = format!("/segments/{at}/rung");
        let detail = || format!("is none of the qualities: {}", offer.names.join(", "));
        (!offer.names.contains(&segment.rung)).then(|| fault(name, detail()))
    };
    refuse(body.segments.iter().enumerate().filter_map(unknown).collect())?;
    let id = &body.session_id;
    let answer = abr::change(&app.db, offer.project, offer.watched, id, |session, at| {
        for segment in &body.segments {
            let download = Download {
                bytes: segment.bytes,
                seconds: segment.download_ms / 1000.0,
                duration: segment.duration,
                rung: &segment.rung,
                buffer: segment.buffer_seconds,
            };
            session.downloaded(&download, at);
        }
        let chosen = body.select.then(|| session.choose(&offer.rungs, offer.segment, at)).flatten();
        let selected = chosen.map(|chosen| SelectedDto::new(&chosen, &offer.rungs, &session.bandwidth));
        MetricsAnswerDto::new(id.clone(), session, selected)
    })
    .await?;
    Ok(unstored(answer))
}

async fn choose(app: &App, offer: &Offer, body: &SelectDto) -> Answer<Response> {
    let preference = match (offer.watched, &body.user_id) {
        (Watched::Recording(id), Some(user)) => Some(preference(app, id, Some(user)).await?),
        _ => None,
    };
    let choose = |session: &mut Session, at| {
        hear(session, body, preference);
        let chosen = session.choose(&offer.rungs, offer.segment, at)?;
        Some(SelectedDto::new(&chosen, &offer.rungs, &session.bandwidth))
    };
    let selected = match &body.session_id {
        Some(id) => abr::change(&app.db, offer.project, offer.watched, id, choose).await?,
        None => choose(&mut Session::default(), chrono::Utc::now()),
    };
    let nothing = || Problem::new(Kind::NotReady, "there is nothing to choose from");
    Ok(unstored(selected.ok_or_else(nothing)?))
}

/// Takes over what a player says of itself.
fn hear(session: &mut Session, body: &SelectDto, preference: Option<Preference>) {
    if let Some(rate) = body.bandwidth.filter(|_| !session.bandwidth.is_measured()) {
        session.bandwidth = Bandwidth::told(rate as f64);
    }
    session.buffer = body.buffer_seconds.or(session.buffer);
    session.full = body.buffer_target.or(session.full);
    let caps = &mut session.caps;
    caps.screen = body.screen.map(|screen| (screen.width, screen.height)).or(caps.screen);
    if let Some(codecs) = &body.codecs {
        caps.codecs.clone_from(codecs);
    }
    caps.data_saver = body.data_saver.unwrap_or(caps.data_saver);
    if let Some(preference) = preference {
        caps.preference = preference;
    }
}

/// An answer that holds for a moment.
fn unstored(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(body)).into_response()
}

fn refuse(faults: Vec<FieldError>) -> Answer<()> {
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}

fn bad_session(id: &str) -> Option<FieldError> {
    let good = (1..=SESSION_LIMIT).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let detail = || format!("must have 1 to {SESSION_LIMIT} visible ASCII characters, none of them a space");
    (!good).then(|| fault("/session_id", detail()))
}

/// What is wrong with the name of a user.
pub(crate) fn bad_user(id: &str) -> Option<FieldError> {
    let good = (1..=USER_LIMIT).contains(&id.chars().count()) && !id.contains('\0');
    (!good)
        .then(|| fault("/user_id", format!("must have 1 to {USER_LIMIT} characters, and none that is NUL")))
}

fn check_metrics(body: &MetricsDto) -> Answer<()> {
    let mut faults: Vec<FieldError> = bad_session(&body.session_id).into_iter().collect();
    if !(1..=SEGMENTS_LIMIT).contains(&body.segments.len()) {
        faults.push(fault("/segments", format!("must be 1 to {SEGMENTS_LIMIT}")));
        return refuse(faults);
    }
    for (at, segment) in body.segments.iter().enumerate() {
        let mut check = |name: &str, good: bool, detail: &str| {
            if !good {
                faults.push(fault(format!("/segments/{at}/{name}"), detail));
            }
        };
        let SegmentDto { bytes, download_ms, duration, buffer_seconds, rung: _ } = *segment;
        let most = format!("must be from 1 to {MOST_BYTES}");
        check("bytes", (1..=MOST_BYTES).contains(&bytes), &most);
        let good = download_ms > 0.0 && download_ms <= LONGEST_DOWNLOAD;
        check("download_ms", good, "must be more than 0, and at most 600000");
        let good = duration > 0.0 && duration <= LONGEST_SEGMENT;
        check("duration", good, "must be more than 0 seconds, and at most 60");
        let good = (0.0..=LONGEST_BUFFER).contains(&buffer_seconds);
        check("buffer_seconds", good, "must be from 0 to 3600 seconds");
    }
    refuse(faults)
}

fn check_select(body: &SelectDto) -> Answer<()> {
    let mut faults: Vec<FieldError> = vec![];
    faults.extend(body.session_id.as_deref().and_then(bad_session));
    if body.bandwidth.is_some_and(|rate| !(1..=MOST_BANDWIDTH).contains(&rate)) {
        faults.push(fault("/bandwidth", format!("must be from 1 to {MOST_BANDWIDTH} bits per second")));
    }
    if body.buffer_seconds.is_some_and(|buffer| !(0.0..=LONGEST_BUFFER).contains(&buffer)) {
        faults.push(fault("/buffer_seconds", "must be from 0 to 3600 seconds"));
    }
    if body.buffer_target.is_some_and(|full| !(1.0..=LONGEST_BUFFER).contains(&full)) {
        faults.push(fault("/buffer_target", "must be from 1 to 3600 seconds"));
    }
    if let Some(screen) = &body.screen {
        for (name, pixels) in [("/screen/width", screen.width), ("/screen/height", screen.height)] {
            if !(1..=MOST_PIXELS).contains(&pixels) {
                faults.push(fault(name, format!("must be from 1 to {MOST_PIXELS} pixels")));
            }
        }
    }
    let codecs = body.codecs.as_deref().unwrap_or_default();
    if codecs.len() > CODECS_LIMIT {
        faults.push(fault("/codecs", format!("may be at most {CODECS_LIMIT}")));
    }
    let bad = |codec: &str| !(1..=CODEC_LIMIT).contains(&codec.len()) || codec.contains('\0');
    let bad = codecs.iter().take(CODECS_LIMIT).enumerate().filter(|(_, codec)| bad(codec));
    let detail = || format!("must have 1 to {CODEC_LIMIT} characters, and none that is NUL");
    faults.extend(bad.map(|(at, _)| fault(format!("/codecs/{at}"), detail())));
    faults.extend(body.user_id.as_deref().and_then(bad_user));
    refuse(faults)
}
