//! Which rendition of a recording suits a viewer now, and which one they prefer.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::preferences;
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::ids::RecordingId;
use reelmill_shared::media::abr::{Bandwidth, Cap, Caps, Engine, Preference, Rung, Situation};
use reelmill_shared::media::profile::FieldError;

use crate::abr::{Offer, preference};
use crate::auth::Caller;
use crate::dto::quality::{
    OfferedRungDto, PreferenceDto, PreferenceQuery, PutPreferenceDto, RecommendQuery, RecommendedDto,
};
use crate::extract::{Body, Path, Query};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::abr::bad_user;
use crate::routes::recordings::find;
use crate::routes::viewer::named_by;
use crate::state::App;
use crate::submit::fault;

/// Seconds that players buffer where they do not say.
const BUFFER: f64 = 30.0;
/// Seconds of a segment where nobody knows.
const SEGMENT: f64 = 6.0;
/// Lines that a preference may name.
const LINES: std::ops::RangeInclusive<u32> = 1..=16_384;

/// Recommend a quality.
///
/// By what the player says of its network, its buffer and its screen, and what its viewer prefers; nothing is kept. Below a fifth of its
/// buffer it is told the lowest, below two fifths one less than is carried.
#[utoipa::path(get, path = "/recordings/{id}/quality/recommended", tag = "recordings", operation_id = "recommended_quality",
    params(("id" = RecordingId, Path), RecommendQuery), responses(
    (status = 200, description = "What suits best, and why.", body = RecommendedDto),
    (status = 404, description = "There is no such recording, or nothing to play of it yet.", body = ProblemDocument),
    (status = 422, description = "A parameter is out of its range.", body = ProblemDocument),
))]
pub(crate) async fn recommended(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
    Query(query): Query<RecommendQuery>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    recommend(&app, &recording, &query).await
}

/// The same for the holder of a viewer's token.
pub(crate) async fn viewers_recommended(
    State(app): State<App>,
    Path(token): Path<String>,
    Query(query): Query<RecommendQuery>,
) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    recommend(&app, &recording, &query).await
}

async fn recommend(app: &App, recording: &Recording, query: &RecommendQuery) -> Answer<Response> {
    let full = query.buffer_target.unwrap_or(BUFFER);
    if !(1.0..=3600.0).contains(&full) {
        return Err(Problem::field("/buffer_target", "is between 1 and 3600 seconds"));
    }
    if query.buffer.is_some_and(|buffer| !buffer.is_finite() || buffer < 0.0) {
        return Err(Problem::field("/buffer", "is a number of seconds, 0 or more"));
    }
    if let Some(bad) = query.user_id.as_deref().and_then(bad_user) {
        return Err(Problem::fields(vec![bad]));
    }
    let offer = Offer::recording(app, recording).await?;
    let rungs = &offer.rungs;
    let current = match &query.current {
        Some(name) => Some(rungs.iter().position(|rung| rung.name == *name).ok_or_else(|| {
            Problem::field("/current", format!("is none of the qualities: {}", offer.names.join(", ")))
        })?),
        None => None,
    };
    let preference = preference(app, recording.id, query.user_id.as_deref()).await?;
    let caps = caps(query, preference).judge(rungs);
    let bandwidth = query.bandwidth.map(|rate| Bandwidth::told(rate as f64)).unwrap_or_default();
    let mut engine = Engine::resumed(bandwidth, current, query.buffer.is_some());
    let segment = offer.segment.unwrap_or(SEGMENT);
    let buffer = query.buffer.unwrap_or(0.0);
    let choice = engine.choose(&Situation { rungs, caps: &caps, buffer, full, segment });
    let mut told: Vec<OfferedRungDto> = rungs.iter().zip(&caps).map(|(rung, cap)| told(rung, *cap)).collect();
    let answer = RecommendedDto {
        rung: told.remove(choice.rung),
        reason: choice.reason,
        predicted_bandwidth: bandwidth.predicted().map(|rate| rate as u64),
        alternatives: told,
    };
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(answer)).into_response())
}

fn caps(query: &RecommendQuery, preference: Preference) -> Caps {
    let codecs = query
        .codecs
        .iter()
        .flat_map(|codecs| codecs.split(','))
        .map(str::trim)
        .filter(|codec| !codec.is_empty());
    Caps {
        // Of one side alone the other is no limit.
        screen: (query.width.is_some() || query.height.is_some())
            .then(|| (query.width.unwrap_or(u32::MAX), query.height.unwrap_or(u32::MAX))),
        codecs: codecs.map(str::to_owned).collect(),
        data_saver: query.data_saver.unwrap_or(false),
        preference,
    }
}

fn told(rung: &Rung, cap: Option<Cap>) -> OfferedRungDto {
    OfferedRungDto {
        rendition: rung.name.clone(),
        bitrate: rung.bitrate,
        width: rung.width,
        height: rung.height,
        codecs: rung.codecs.clone(),
        ruled_out: cap,
    }
}

/// Keep a viewer's preferred quality.
///
/// No more than that is recommended to them or selected for them, of this recording; less is where the network carries less. It takes the
/// place of what was kept.
#[utoipa::path(put, path = "/recordings/{id}/quality/preference", tag = "recordings", operation_id = "prefer_quality",
    params(("id" = RecordingId, Path)), request_body = PutPreferenceDto, responses(
    (status = 200, description = "What is kept.", body = PreferenceDto),
    (status = 404, description = "There is no such recording, or no rendition of it to be named yet.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn prefer(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
    Body(body): Body<PutPreferenceDto>,
) -> Answer<Json<PreferenceDto>> {
    caller.need(Scope::Write)?;
    let recording = find(&app, &caller, id).await?;
    let mut faults: Vec<FieldError> = bad_user(&body.user_id).into_iter().collect();
    if body.max_height.is_some_and(|height| !LINES.contains(&height)) {
        faults.push(fault("/max_height", format!("must be from {} to {}", LINES.start(), LINES.end())));
    }
    if body.rendition.is_some() && body.max_height.is_some() {
        faults.push(fault("/max_height", "cannot stand beside rendition"));
    }
    if body.rendition.is_none() && body.max_height.is_none() && body.data_saver.is_none() {
        faults.push(fault("/rendition", "is needed, or max_height, or data_saver"));
    }
    if let Some(name) = &body.rendition {
        let offer = Offer::recording(&app, &recording).await?;
        if !offer.names.contains(name) {
            let detail = format!("is none of the qualities: {}", offer.names.join(", "));
            faults.push(fault("/rendition", detail));
        }
    }
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let preference = Preference {
        rendition: body.rendition,
        max_height: body.max_height,
        data_saver: body.data_saver.unwrap_or(false),
    };
    preferences::put(&app.db, id, &body.user_id, &preference).await?;
    Ok(Json(PreferenceDto::new(body.user_id, preference)))
}

/// Read a viewer's preferred quality.
#[utoipa::path(get, path = "/recordings/{id}/quality/preference", tag = "recordings", operation_id = "preferred_quality",
    params(("id" = RecordingId, Path), PreferenceQuery), responses(
    (status = 200, description = "What they prefer.", body = PreferenceDto),
    (status = 404, description = "There is no such recording, or nothing is kept of them.", body = ProblemDocument),
    (status = 422, description = "user_id is missing, or too long.", body = ProblemDocument),
))]
pub(crate) async fn preferred(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
    Query(query): Query<PreferenceQuery>,
) -> Answer<Json<PreferenceDto>> {
    caller.need(Scope::Read)?;
    let id = find(&app, &caller, id).await?.id;
    let user = user(query)?;
    let found = preferences::get(&app.db, id, &user).await?.ok_or_else(not_kept)?;
    Ok(Json(PreferenceDto::new(user, found)))
}

/// Forget a viewer's preferred quality.
#[utoipa::path(delete, path = "/recordings/{id}/quality/preference", tag = "recordings", operation_id = "forget_quality",
    params(("id" = RecordingId, Path), PreferenceQuery), responses(
    (status = 204, description = "Nothing is kept of them any more."),
    (status = 404, description = "There is no such recording, or nothing was kept of them.", body = ProblemDocument),
    (status = 422, description = "user_id is missing, or too long.", body = ProblemDocument),
))]
pub(crate) async fn forget(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
    Query(query): Query<PreferenceQuery>,
) -> Answer<StatusCode> {
    caller.need(Scope::Write)?;
    let id = find(&app, &caller, id).await?.id;
    if preferences::delete(&app.db, id, &user(query)?).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(not_kept())
    }
}

fn not_kept() -> Problem {
    Problem::new(Kind::NotFound, "this viewer prefers no quality of this recording")
}

fn user(query: PreferenceQuery) -> Answer<String> {
    let user = query.user_id.ok_or_else(|| Problem::field("/user_id", "is missing"))?;
    bad_user(&user).map_or(Ok(user), |bad| Err(Problem::fields(vec![bad])))
}
