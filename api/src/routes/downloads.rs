//! `/recordings/{id}/download` and `/recordings/{id}/transcode`: renditions as files, and what makes them.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::tasks;
use reelmill_shared::ids::RecordingId;
use reelmill_shared::job::spec::JobKind;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::downloads::serve;
use crate::dto::job::{InputDto, JobDto};
use crate::extract::{Path, Query};
use crate::problem::{Answer, ProblemDocument};
use crate::routes::recordings::find;
use crate::state::App;
use crate::submit::{Wish, submit};
use crate::trace::traceparent;

/// Which file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DownloadQuery {
    /// Name of a rendition, or `best`, which is what it means where it is left out.
    pub(crate) quality: Option<String>,
}

/// Download a rendition with its sound as one MP4.
///
/// Answers to Range, ETag and HEAD. The recording lists in `mp4` what there is.
#[utoipa::path(get, path = "/recordings/{id}/download", operation_id = "download", tag = "recordings", params(
    ("id" = RecordingId, Path), DownloadQuery,
), responses(
    (status = 200, description = "The file.", content_type = "video/mp4", body = String),
    (status = 206, description = "The range of it that was asked for."),
    (status = 404, description = "There is no such quality, or not as a file yet.", body = ProblemDocument),
    (status = 416, description = "The range lies outside the file.", body = ProblemDocument),
))]
pub(crate) async fn download(
    State(app): State<App>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    Path(id): Path<RecordingId>,
    Query(query): Query<DownloadQuery>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    serve(&app, &recording, query.quality.as_deref(), true, &method, &headers).await
}

/// What a recording is converted to.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Hls,
    Dash,
    Mp4,
}

/// Into what.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConvertQuery {
    #[param(inline)]
    format: Format,
}

/// Convert a recording from what is stored of it.
///
/// Encodes only what is missing: `mp4` makes the downloads that are not there; `hls` and `dash` are there already, so that their job is
/// done at once. Of a recording that has nothing finished it is a transcode, by the recipe it was meant to have, else by `web`. More
/// qualities are made by `transcode/quality`.
#[utoipa::path(post, path = "/recordings/{id}/transcode", operation_id = "transcode", tag = "recordings", params(
    ("id" = RecordingId, Path), ConvertQuery,
), responses(
    (status = 202, description = "Accepted; Location is the job.", body = JobDto),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
    (status = 409, description = "Another job still makes qualities of the recording.", body = ProblemDocument),
))]
pub(crate) async fn convert(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<RecordingId>,
    Query(query): Query<ConvertQuery>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    let recording = find(&app, &caller, id).await?;
    let output = match query.format {
        Format::Hls => "hls",
        Format::Dash => "dash",
        Format::Mp4 => "mp4",
    };
    let input = InputDto { recording_id: Some(recording.id), ..InputDto::default() };
    let wish = Wish {
        outputs: Some(vec![output.to_owned()]),
        ..Wish::new(JobKind::VodConvert, input, traceparent(&headers))
    };
    let job = submit(&app, &caller, wish).await?;
    let location = format!("/api/v1/jobs/{}", job.id);
    let dto = JobDto::new(job.clone(), tasks::of_job(&app.db, job.id).await?);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(dto)).into_response())
}
