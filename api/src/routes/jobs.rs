//! `/jobs`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::jobs::{self, Cancelled, Job, JobFilter};
use reelmill_shared::db::{stills, tasks};
use reelmill_shared::ids::{JobId, RecordingId};
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::job::state::JobStatus;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dry_run;
use crate::dto::dry_run::DryRunDto;
use crate::dto::job::{AttemptDto, JobDto, JobListDto, JobLogDto, NewJobDto, ThumbnailDto};
use crate::extract::{Body, Path, Query, cursor, cut_page, limit};
use crate::media::{etag, is_known};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;
use crate::submit::{Wish, submit};
use crate::trace::traceparent;

/// Parameters of a submission.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CreateQuery {
    /// Only tell what would be done.
    pub(crate) dry_run: Option<bool>,
}

/// Submit a job.
///
/// Everything is checked before anything is written; what is accepted is never lost. The profile is copied into the job: later
/// edits do not touch it. What the project has encoded before by the same recipe is not encoded again, unless `force` is true.
///
/// With `dry_run=true` nothing is made: the answer tells the plan, the ladder, the commands and an estimate. A worker looks into the
/// source for it, in a job of kind `probe`; where that takes longer than some seconds the answer is 202 with that job, whose result
/// has under `dry_run` what the answer would have been when it is done. An `Idempotency-Key` means nothing to a dry run.
#[utoipa::path(post, path = "/jobs", tag = "jobs", params(CreateQuery), request_body = NewJobDto, responses(
    (status = 201, description = "Accepted; Location is the job.", body = JobDto),
    (status = 200, description = "What would be done, for a dry run.", body = DryRunDto),
    (status = 202, description = "The job that finds out what would be done, for a dry run that takes longer.", body = JobDto),
    (status = 409, description = "The dry run was cancelled.", body = ProblemDocument),
    (status = 422, description = "Fields are not right, or, for a dry run, the input is not; each is named in errors[].", body = ProblemDocument),
    (status = 503, description = "The farm could not carry the dry run out.", body = ProblemDocument),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<CreateQuery>,
    Body(body): Body<NewJobDto>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    let wish = Wish {
        profile: body.profile,
        outputs: body.outputs,
        priority: body.priority,
        run_at: body.run_at,
        metadata: body.metadata,
        edit: body.edit,
        thumbnail: body.thumbnail,
        thumbnails: body.thumbnails,
        ladder: body.ladder,
        quality: body.quality,
        callback_url: body.callback_url,
        force: body.force,
        ..Wish::new(body.kind, body.input, traceparent(&headers))
    };
    if query.dry_run == Some(true) {
        return dry_run::answer(&app, &caller, wish).await;
    }
    let job = submit(&app, &caller, wish).await?;
    let location = format!("/api/v1/jobs/{}", job.id);
    let dto = whole(&app, job).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(dto)).into_response())
}

/// A job with its tasks.
pub(crate) async fn whole(app: &App, job: Job) -> Answer<JobDto> {
    let tasks = tasks::of_job(&app.db, job.id).await?;
    let has_series = job.status == JobStatus::Succeeded && job.spec.series.is_some();
    let (id, recording) = (job.id, job.recording_id.filter(|_| has_series));
    let mut dto = JobDto::new(job, tasks);
    if let Some(recording) = recording {
        dto.outputs.thumbnails = stills::series_of_job(&app.db, id)
            .await?
            .into_iter()
            .map(|(ordinal, number, at_ms)| ThumbnailDto {
                number,
                time: at_ms as f64 / 1000.0,
                url: format!("/api/v1/recordings/{recording}/stream/thumbnail-{ordinal}-{number}.jpg"),
            })
            .collect();
    }
    Ok(dto)
}

/// Filters of a list of jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobQuery {
    status: Option<JobStatus>,
    kind: Option<JobKind>,
    recording_id: Option<RecordingId>,
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List jobs, newest first.
///
/// As they are read one by one, but for what would make a page large: the command lines of their tasks (`tasks[].command` is `null`),
/// what a dry run tells (`result.dry_run`), and series of thumbnails.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(JobQuery), responses(
    (status = 200, description = "A page of jobs.", body = JobListDto),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<JobQuery>,
) -> Answer<Json<JobListDto>> {
    caller.need(Scope::Read)?;
    let limit = limit(query.limit)?;
    let filter = JobFilter { status: query.status, kind: query.kind, recording_id: query.recording_id };
    let after = cursor(query.cursor.as_deref())?;
    let mut rows = jobs::list(&app.db, caller.project_id, filter, after, limit + 1).await?;
    let next_cursor = cut_page(&mut rows, limit, |job| job.id);
    let ids: Vec<JobId> = rows.iter().map(|job| job.id).collect();
    let mut tasks = tasks::of_jobs(&app.db, &ids).await?;
    let jobs = rows
        .into_iter()
        .map(|job| {
            let tasks = tasks.remove(&job.id).unwrap_or_default();
            JobDto::listed(job, tasks)
        })
        .collect();
    Ok(Json(JobListDto { jobs, next_cursor }))
}

/// Read a job.
///
/// The answer has an ETag; `If-None-Match` makes watching cheap.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs", params(("id" = JobId, Path)), responses(
    (status = 200, description = "The job.", body = JobDto),
    (status = 304, description = "Nothing has changed."),
    (status = 404, description = "There is no such job.", body = ProblemDocument),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<JobId>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let job =
        jobs::get(&app.db, caller.project_id, id).await?.ok_or_else(|| Problem::not_found("job", id))?;
    let dto = whole(&app, job).await?;
    let text =
        serde_json::to_vec(&dto).map_err(|error| Problem::from(reelmill_shared::db::DbError::from(error)))?;
    let etag = etag(&text);
    let validators = [
        (header::ETAG, etag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, validators).into_response());
    }
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((kind, validators, text).into_response())
}

/// Cancel a job.
///
/// Its running tasks stop within about a second; what was half made is removed.
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "jobs", params(("id" = JobId, Path)), responses(
    (status = 200, description = "The job, cancelled.", body = JobDto),
    (status = 404, description = "There is no such job.", body = ProblemDocument),
    (status = 409, description = "It was over already.", body = ProblemDocument),
))]
pub(crate) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<JobId>,
) -> Answer<Json<JobDto>> {
    caller.need(Scope::Write)?;
    match jobs::cancel(&app.db, caller.project_id, id).await? {
        Cancelled::Now | Cancelled::TooLate(JobStatus::Cancelled) => {
            let job = jobs::get(&app.db, caller.project_id, id).await?;
            Ok(Json(whole(&app, job.ok_or_else(|| Problem::not_found("job", id))?).await?))
        }
        Cancelled::TooLate(status) => {
            Err(Problem::new(Kind::Conflict, format!("the job cannot be cancelled: it has {status}")))
        }
        Cancelled::NotFound => Err(Problem::not_found("job", id)),
    }
}

/// Read a job's log.
///
/// What happened, attempt by attempt, with commands and the ends of FFmpeg's logs.
#[utoipa::path(get, path = "/jobs/{id}/log", tag = "jobs", params(("id" = JobId, Path)), responses(
    (status = 200, description = "All attempts in order of time.", body = JobLogDto),
    (status = 404, description = "There is no such job.", body = ProblemDocument),
))]
pub(crate) async fn log(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<JobId>,
) -> Answer<Json<JobLogDto>> {
    caller.need(Scope::Read)?;
    let job =
        jobs::get(&app.db, caller.project_id, id).await?.ok_or_else(|| Problem::not_found("job", id))?;
    let attempts = tasks::attempts_of_job(&app.db, id).await?;
    let deleted_at = job.logs_deleted_at;
    Ok(Json(JobLogDto { deleted_at, attempts: attempts.into_iter().map(AttemptDto::from).collect() }))
}
