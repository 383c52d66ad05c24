//! Footage of a livestream that was recorded elsewhere.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::broadcasts;
use reelmill_shared::db::livestreams::Livestream;
use reelmill_shared::ids::{BroadcastId, LivestreamId, RecordingId};
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::job::state::RecordingStatus;
use serde_json::json;

use super::find;
use crate::auth::Caller;
use crate::dto::live_history::BroadcastDto;
use crate::dto::livestream::ImportDto;
use crate::extract::{Body, Path};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::recordings;
use crate::state::App;
use crate::submit::{Wish, submit};
use crate::trace::traceparent;

/// Import footage that was recorded elsewhere.
///
/// It becomes a recording of the livestream that began at `start_time`: `converting` until its media is ready, then `converted`, or `failed`
/// where nothing can be made of it. A recording that there is already is taken as it is, and nothing is encoded. Lists have it where it was
/// imported, and not where it was recorded.
#[utoipa::path(post, path = "/livestreams/{id}/recordings/import", tag = "livestreams", operation_id = "import_recording",
    params(("id" = LivestreamId, Path)), request_body = ImportDto, responses(
    (status = 202, description = "Accepted; Location is the recording of the livestream, `video_id` what is made.", body = BroadcastDto),
    (status = 404, description = "There is no such livestream, or no such recording.", body = ProblemDocument),
    (status = 409, description = "The recording failed: there is nothing in it.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn import(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
    Body(body): Body<ImportDto>,
) -> Answer<Response> {
    caller.need(Scope::LiveWrite)?;
    let livestream = find(&app, &caller, id).await?;
    let started_at = moment(body.start_time)?;
    let rid = BroadcastId::new();
    let recording = match body.input.recording_id {
        Some(recording) => there(&app, &caller, recording, &body).await?,
        None => made(&app, &caller, livestream, rid, body, traceparent(&headers)).await?,
    };
    let import =
        broadcasts::Import { id: rid, livestream: id, project: caller.project_id, recording, started_at };
    let broadcast = broadcasts::import(&app.db, &import).await?;
    let location = format!("/api/v1/livestreams/{id}/recordings/{rid}");
    let body = Json(BroadcastDto::new(broadcast, None));
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], body).into_response())
}

/// When footage may have been recorded.
fn moment(start_time: DateTime<Utc>) -> Answer<DateTime<Utc>> {
    if start_time > Utc::now() {
        return Err(Problem::field("/start_time", "lies in the future"));
    }
    if start_time < DateTime::UNIX_EPOCH {
        return Err(Problem::field("/start_time", "lies before 1970"));
    }
    Ok(start_time)
}

/// A recording that there is already.
async fn there(app: &App, caller: &Caller, id: RecordingId, body: &ImportDto) -> Answer<RecordingId> {
    let input = &body.input;
    if input.url.is_some() || input.upload_id.is_some() || input.broadcast_id.is_some() {
        return Err(Problem::field("/input", "names more than one place: give one of them"));
    }
    for (field, is_given) in [("/profile", body.profile.is_some()), ("/title", body.title.is_some())] {
        if is_given {
            return Err(Problem::field(field, "is for footage of which a recording is yet to be made"));
        }
    }
    let recording = recordings::find(app, caller, id).await?;
    if recording.status == RecordingStatus::Failed {
        return Err(Problem::new(Kind::Conflict, format!("recording {id} failed: there is nothing in it")));
    }
    Ok(id)
}

/// A recording that is made of it.
async fn made(
    app: &App,
    caller: &Caller,
    livestream: Livestream,
    rid: BroadcastId,
    body: ImportDto,
    traceparent: String,
) -> Answer<RecordingId> {
    caller.need(Scope::Write)?;
    if body.input.broadcast_id.is_some() {
        return Err(Problem::field("/input/broadcast_id", "is a recording of a livestream already"));
    }
    let wish = Wish {
        profile: body.profile,
        title: Some(body.title.unwrap_or(livestream.terms.title)),
        recording_metadata: Some(json!({
            "livestream_id": livestream.id, "broadcast_id": rid, "start_time": body.start_time,
        })),
        ..Wish::new(JobKind::Transcode, body.input, traceparent)
    };
    let job = submit(app, caller, wish).await?;
    job.recording_id.ok_or_else(|| Problem::new(Kind::Internal, "the job makes no recording"))
}
