//! `/recordings/{id}/transcode/…`: other qualities of a recording, and how far its transcode is.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::jobs::{self, Basis, Job};
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::sets;
use reelmill_shared::ids::RecordingId;
use reelmill_shared::job::spec::{Adopt, JobKind, Output};
use reelmill_shared::media::profile::{FieldError, Profile, Rung};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::dto::job::{InputDto, JobDto};
use crate::dto::transcode::{QualitiesDto, TranscodeProgressDto};
use crate::extract::{Body, Path};
use crate::playback::active_set;
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::jobs::whole;
use crate::routes::recordings::find;
use crate::state::App;
use crate::submit::{Frozen, Wish, submit};
use crate::trace::traceparent;

/// Encode a recording in more qualities.
///
/// They join those the recording has, once they are ready; only what is missing is encoded, by the recipe of what is there. Where nothing
/// is missing the job is done at once; where nothing is there the qualities are all there will be.
#[utoipa::path(post, path = "/recordings/{id}/transcode/quality", tag = "recordings", operation_id = "transcode_quality",
    params(("id" = RecordingId, Path)), request_body = QualitiesDto, responses(
    (status = 202, description = "The job that makes them; Location is the job.", body = JobDto),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
    (status = 409, description = "Another job still makes qualities of the recording.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn quality(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<RecordingId>,
    Body(body): Body<QualitiesDto>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    let recording = find(&app, &caller, id).await?;
    // Each job is built around what is there now: of two at once the last would be without what the other makes.
    let basis = jobs::basis(&app.db, id).await?;
    let there = there(&app, basis).await?;
    let kind = if there.is_some() { JobKind::VodConvert } else { JobKind::Transcode };
    let recipe = match there {
        Some(there) => there,
        None => newest(&app, &recording).await?.map_or_else(Frozen::default, |job| Frozen {
            profile: job.spec.profile,
            edit: job.spec.edit,
            ..Frozen::default()
        }),
    };
    let Some(profile) = recipe.profile.or_else(|| Profile::built_in("web")) else {
        return Err(Problem::new(Kind::Internal, "there is no profile to begin with"));
    };
    let rungs = chosen(&app, &caller, &profile, recipe.adopt.as_ref(), &body.profiles).await?;
    let frozen =
        Frozen { profile: Some(Profile { name: None, rungs, ..profile }), basis: Some(basis), ..recipe };
    let input = InputDto { recording_id: Some(id), ..InputDto::default() };
    let wish = Wish {
        frozen: Some(frozen),
        outputs: Some(vec![Output::Hls.to_string(), Output::Dash.to_string()]),
        ..Wish::new(kind, input, traceparent(&headers))
    };
    let job = submit(&app, &caller, wish).await?;
    let location = format!("/api/v1/jobs/{}", job.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(whole(&app, job).await?)).into_response())
}

/// How a recording that has nothing finished is encoded: as it was to be the last time, else by the usual profile. `None` where it has
/// something.
pub(crate) async fn unmade(app: &App, recording: &Recording) -> Answer<Option<Frozen>> {
    if active_set(app, recording.id).await?.is_some_and(|set| set.is_finished()) {
        return Ok(None);
    }
    let basis = jobs::basis(&app.db, recording.id).await?;
    let tried = newest(app, recording).await?.map(|job| (job.spec.profile, job.spec.edit));
    let (profile, edit) = tried.unwrap_or_default();
    let profile = profile.or_else(|| Profile::built_in("web"));
    Ok(Some(Frozen { profile, edit, basis: Some(basis), ..Frozen::default() }))
}

/// The recipe that what a recording has was made by; `None` where nothing is finished.
async fn there(app: &App, basis: Basis) -> Answer<Option<Frozen>> {
    let Some(set) = basis.set else { return Ok(None) };
    let Some(spec) = jobs::maker(&app.db, set).await?.map(|job| job.spec) else { return Ok(None) };
    let segments = sets::prefixes(&app.db, set).await?;
    let renditions = segments.into_iter().map(|(name, prefix)| (name, prefix.segments as u64)).collect();
    let adopt = Some(Adopt { set, renditions });
    // On the grid that what is there was cut on.
    let taken = spec.taken;
    Ok(Some(Frozen { profile: spec.profile, edit: spec.edit, adopt, taken, ..Frozen::default() }))
}

/// How far a recording's newest transcode or conversion is.
#[utoipa::path(get, path = "/recordings/{id}/transcode/progress", tag = "recordings", operation_id = "transcode_progress",
    params(("id" = RecordingId, Path)), responses(
    (status = 200, description = "Its progress, of each rendition too.", body = TranscodeProgressDto),
    (status = 404, description = "There is no such recording, or it was never transcoded.", body = ProblemDocument),
))]
pub(crate) async fn progress(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    let Some(job) = newest(&app, &recording).await?.filter(|job| !job.hidden) else {
        let detail =
            format!("recording {id} was never transcoded, or so long ago that the job has reached its age");
        return Err(Problem::new(Kind::NotFound, detail));
    };
    let dto = TranscodeProgressDto::from(&whole(&app, job).await?);
    Ok(([(header::CACHE_CONTROL, "private, no-store")], Json(dto)).into_response())
}

/// The newest job that made or makes something to be played or downloaded of a recording.
async fn newest(app: &App, recording: &Recording) -> Answer<Option<Job>> {
    let kinds = [JobKind::Transcode, JobKind::VodConvert];
    Ok(jobs::newest_of(&app.db, &[recording.id], &kinds).await?.remove(&recording.id))
}

/// As many as a profile may have.
const MOST_RUNGS: usize = 12;

/// The rungs there will be, best first: those of the recording's recipe that are there and those that were chosen. A name is a rung of
/// the recipe or of `web`, or else a profile with all its rungs; an object is a rung.
async fn chosen(
    app: &App,
    caller: &Caller,
    recipe: &Profile,
    there: Option<&Adopt>,
    wanted: &[Value],
) -> Answer<Vec<Rung>> {
    let web = Profile::built_in("web");
    let is_there = |rung: &&Rung| there.is_some_and(|there| there.segments(&rung.name).is_some());
    let mut faults = vec![];
    let mut rungs: Vec<Rung> = recipe.rungs.iter().filter(is_there).cloned().collect();
    for (index, choice) in wanted.iter().enumerate().take(MOST_RUNGS) {
        let at = format!("/profiles/{index}");
        let found = match choice {
            Value::String(name) => {
                let known = recipe.rungs.iter().chain(web.iter().flat_map(|web| &web.rungs));
                match known.into_iter().find(|rung| rung.name == *name) {
                    Some(rung) => vec![rung.clone()],
                    None => profile_rungs(app, caller, name, &at, &mut faults).await?,
                }
            }
            inline => inline_rung(inline, &at, &mut faults),
        };
        for rung in found {
            match rungs.iter().find(|known| known.name == rung.name) {
                Some(known) if *known == rung => {}
                Some(_) => faults.push(FieldError {
                    pointer: at.clone(),
                    detail: format!(
                        "gives the name {:?} a second meaning: there is another of that name",
                        rung.name
                    ),
                }),
                None => rungs.push(rung),
            }
        }
    }
    if wanted.is_empty() {
        faults.push(FieldError { pointer: "/profiles".to_owned(), detail: "names no quality".to_owned() });
    }
    if wanted.len() > MOST_RUNGS || rungs.len() > MOST_RUNGS {
        let detail = format!("a recording has at most {MOST_RUNGS} qualities");
        faults.push(FieldError { pointer: "/profiles".to_owned(), detail });
    }
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    // As in every profile.
    rungs.sort_by_key(|rung| {
        std::cmp::Reverse((rung.width.min(rung.height), rung.rate_control.max_bitrate()))
    });
    Ok(rungs)
}

async fn profile_rungs(
    app: &App,
    caller: &Caller,
    name: &str,
    at: &str,
    faults: &mut Vec<FieldError>,
) -> Answer<Vec<Rung>> {
    let profile = match Profile::built_in(name) {
        Some(profile) => Some(profile),
        None => crate::routes::profiles::find(app, caller, name).await?,
    };
    let rungs = profile.map(|profile| profile.rungs).filter(|rungs| !rungs.is_empty());
    if rungs.is_none() {
        let detail = format!("there is neither a quality nor a profile with a picture called {name:?}");
        faults.push(FieldError { pointer: at.to_owned(), detail });
    }
    Ok(rungs.unwrap_or_default())
}

fn inline_rung(value: &Value, at: &str, faults: &mut Vec<FieldError>) -> Vec<Rung> {
    match Profile::from_json(&json!({ "rungs": [value] })) {
        Ok(profile) => profile.rungs,
        Err(errors) => {
            faults.extend(errors.into_iter().map(|error| FieldError {
                pointer: error.pointer.replacen("/rungs/0", at, 1),
                detail: error.detail,
            }));
            vec![]
        }
    }
}
