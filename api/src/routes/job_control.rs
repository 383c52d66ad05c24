//! `/jobs/{id}`: what can be done about a job that is there.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::broker::{Ring, ring_later};
use reelmill_shared::db::jobs;
use reelmill_shared::db::retry::{Retried, retry as retry_job};
use reelmill_shared::ids::JobId;

use crate::auth::Caller;
use crate::dto::job::{JobChangeDto, JobDto};
use crate::extract::{Body, Path};
use crate::idempotency::reserved;
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::jobs::whole;
use crate::state::App;
use crate::trace::traceparent;

/// Change a job's priority.
///
/// Its tasks that wait take their new place at once; those that run go on.
#[utoipa::path(patch, path = "/jobs/{id}", tag = "jobs", params(("id" = JobId, Path)), request_body = JobChangeDto,
    responses(
    (status = 200, description = "The job.", body = JobDto),
    (status = 404, description = "There is no such job.", body = ProblemDocument),
    (status = 409, description = "It is over.", body = ProblemDocument),
    (status = 422, description = "The priority is not from 0 to 100.", body = ProblemDocument),
))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<JobId>,
    Body(body): Body<JobChangeDto>,
) -> Answer<Json<JobDto>> {
    caller.need(Scope::Write)?;
    let priority = i16::try_from(body.priority).ok().filter(|priority| (0..=100).contains(priority));
    let priority = priority.ok_or_else(|| Problem::field("/priority", "must be from 0 to 100"))?;
    match jobs::set_priority(&app.db, caller.project_id, id, priority).await? {
        None => Err(Problem::not_found("job", id)),
        Some(status) if status.is_final() => Err(Problem::new(
            Kind::Conflict,
            format!("the job's priority means nothing now: it has {status}"),
        )),
        Some(_) => {
            let job = jobs::get(&app.db, caller.project_id, id).await?;
            Ok(Json(whole(&app, job.ok_or_else(|| Problem::not_found("job", id))?).await?))
        }
    }
}

/// Retry a job that failed or was cancelled.
///
/// Makes a new job (`retry_of` names the old one) by the same frozen recipe. What the old one published is taken over; only the rest is
/// done again.
#[utoipa::path(post, path = "/jobs/{id}/retry", tag = "jobs", params(("id" = JobId, Path)), responses(
    (status = 201, description = "The new job; Location is its address.", body = JobDto),
    (status = 404, description = "There is no such job.", body = ProblemDocument),
    (status = 409, description = "It is not over, went well, is being retried, or what it was made of was deleted.", body = ProblemDocument),
))]
pub(crate) async fn retry(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<JobId>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    let trace = traceparent(&headers);
    let anew = reserved().map_or_else(JobId::new, JobId);
    let (job, tasks) = match retry_job(&app.db, caller.project_id, id, anew, Some(&trace)).await? {
        Retried::Anew(job, tasks) => (*job, tasks),
        Retried::Needless(status) => {
            let detail = match status.is_final() {
                true => format!("the job has {status}: there is nothing to retry"),
                false => format!("the job is {status}; cancel it first, or wait for its end"),
            };
            return Err(Problem::new(Kind::Conflict, detail));
        }
        Retried::NotFound => return Err(Problem::not_found("job", id)),
    };
    let ring = |task| Ring { job_id: Some(job.id), traceparent: Some(trace.clone()), ..Ring::from(task) };
    ring_later(&app.broker, tasks.iter().filter(|task| task.blocked_by == 0).map(ring).collect());
    tracing::info!(job_id = %job.id, retry_of = %id, tasks = tasks.len(), "job retried");
    let location = format!("/api/v1/jobs/{}", job.id);
    let dto = whole(&app, job).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(dto)).into_response())
}
