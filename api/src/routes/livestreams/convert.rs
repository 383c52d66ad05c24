//! What was on air becomes a video like any other.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::broadcasts::{self, Broadcast};
use reelmill_shared::db::jobs::{self, Job};
use reelmill_shared::db::live::{self, OnAir};
use reelmill_shared::db::recordings;
use reelmill_shared::ids::{BroadcastId, LivestreamId, RecordingId};
use reelmill_shared::job::conversion;
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::live::state::BroadcastStatus;
use reelmill_shared::media::live::assembly::Assembly;
use serde_json::json;

use super::find;
use crate::auth::Caller;
use crate::dto::job::{InputDto, JobDto};
use crate::dto::livestream::ConvertDto;
use crate::extract::{Body, Path};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::jobs::whole;
use crate::state::App;
use crate::submit::{Frozen, Wish, chosen_profile, submit};
use crate::trace::traceparent;

/// Make a video of a recording of a livestream.
///
/// The renditions that were on air are taken over as they are, without the holes between publishers; the rungs of `profile` that are
/// missing are encoded. Besides HLS and DASH there are an MP4 of each rendition, a poster and a storyboard. The recording it becomes is
/// `video_id`; it has an age of its own. Harmless when done twice: the first job is the answer.
#[utoipa::path(post, path = "/livestreams/{id}/recordings/{rid}/convert", tag = "livestreams",
    params(("id" = LivestreamId, Path), ("rid" = BroadcastId, Path)), request_body = Option<ConvertDto>, responses(
    (status = 202, description = "The job that makes it; Location is the job.", body = JobDto),
    (status = 404, description = "There is no such livestream, or it has no such recording.", body = ProblemDocument),
    (status = 409, description = "It is not over yet, its media is gone, or there is no picture in it.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn convert(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path((id, rid)): Path<(LivestreamId, BroadcastId)>,
    body: Option<Body<ConvertDto>>,
) -> Answer<Response> {
    caller.need(Scope::LiveWrite)?;
    let body = body.map(|Body(body)| body).unwrap_or_default();
    let livestream = find(&app, &caller, id).await?;
    let missing = || Problem::not_found("recording", rid);
    let broadcast = broadcasts::recorded(&app.db, livestream.id, rid).await?.ok_or_else(missing)?;
    if let Some(job) = under_way(&app, &broadcast).await? {
        return accepted(&app, job).await;
    }
    let Some(on_air) = live::aired(&app.db, caller.project_id, rid).await? else {
        let status = broadcast.status;
        return Err(Problem::new(
            Kind::Conflict,
            format!("there is nothing to be converted: it is {status}"),
        ));
    };
    let frozen = recipe(&app, &caller, &on_air, &body).await?;
    let input = InputDto { broadcast_id: Some(rid), ..InputDto::default() };
    let wish = Wish {
        frozen: Some(frozen),
        outputs: Some(conversion::OUTPUTS.iter().map(ToString::to_string).collect()),
        title: Some(body.title.unwrap_or(livestream.terms.title)),
        recording_metadata: Some(json!({
            "livestream_id": id, "broadcast_id": rid,
            "start_time": broadcast.started_at, "end_time": broadcast.ended_at,
        })),
        ..Wish::new(JobKind::Transcode, input, traceparent(&headers))
    };
    let job = submit(&app, &caller, wish).await?;
    let Some(recording) = job.recording_id else {
        return Err(Problem::new(Kind::Internal, "the conversion makes no recording"));
    };
    if !broadcasts::begin_conversion(&app.db, rid, broadcast.recording_id, recording).await? {
        // Somebody else was first, or its age was.
        undo(&app, &caller, &job, recording).await?;
        let now = broadcasts::recorded(&app.db, livestream.id, rid).await?.ok_or_else(missing)?;
        let Some(job) = under_way(&app, &now).await? else {
            return Err(Problem::new(
                Kind::Conflict,
                format!("nothing can be converted: it is {}", now.status),
            ));
        };
        return accepted(&app, job).await;
    }
    accepted(&app, job).await
}

/// The job that converts or has converted it.
async fn under_way(app: &App, broadcast: &Broadcast) -> Answer<Option<Job>> {
    let is_done = matches!(broadcast.status, BroadcastStatus::Converting | BroadcastStatus::Converted);
    let Some(recording) = broadcast.recording_id.filter(|_| is_done) else { return Ok(None) };
    Ok(jobs::newest_of(&app.db, &[recording], &[JobKind::Transcode]).await?.remove(&recording))
}

async fn undo(app: &App, caller: &Caller, job: &Job, recording: RecordingId) -> Answer<()> {
    jobs::cancel(&app.db, caller.project_id, job.id).await?;
    recordings::delete(&app.db, caller.project_id, recording).await?;
    Ok(())
}

async fn accepted(app: &App, job: Job) -> Answer<Response> {
    let location = format!("/api/v1/jobs/{}", job.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(whole(app, job).await?)).into_response())
}

/// What is there, and what is to be made beside it.
async fn recipe(app: &App, caller: &Caller, on_air: &OnAir, body: &ConvertDto) -> Answer<Frozen> {
    let asked = match &body.profile {
        Some(wanted) => Some(chosen_profile(app, caller, wanted).await?),
        None => None,
    };
    let window = live::whole(&app.db, on_air, String::new()).await?;
    let assembly = Assembly::new(&window).ok_or_else(|| {
        Problem::new(Kind::Conflict, "there is no picture in it: only pictures are converted")
    })?;
    let taken = conversion::taken(on_air.id, &on_air.plan, &assembly);
    let profile = Some(conversion::profile(&on_air.plan, &assembly, asked));
    Ok(Frozen { profile, taken: Some(taken), ..Frozen::default() })
}
