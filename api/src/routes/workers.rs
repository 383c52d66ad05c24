//! `/workers`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reelmill_shared::auth::Scope;
use reelmill_shared::db::workers;
use reelmill_shared::ids::WorkerId;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dto::worker::{WorkerDto, WorkerListDto};
use crate::extract::{Path, Query, cursor, cut_page, limit};
use crate::problem::{Answer, Problem, ProblemDocument};
use crate::state::App;

/// Where a list of workers goes on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WorkerQuery {
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List workers, newest first.
///
/// Those gone for more than a day are left out.
#[utoipa::path(get, path = "/workers", operation_id = "workers", tag = "fleet", params(WorkerQuery), responses(
    (status = 200, description = "A page of workers.", body = WorkerListDto),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<WorkerQuery>,
) -> Answer<Json<WorkerListDto>> {
    caller.need(Scope::FleetRead)?;
    let limit = limit(query.limit)?;
    let mut rows = workers::list(&app.db, cursor(query.cursor.as_deref())?, limit + 1).await?;
    let next_cursor = cut_page(&mut rows, limit, |worker| worker.id);
    Ok(Json(WorkerListDto { workers: rows.into_iter().map(WorkerDto::from).collect(), next_cursor }))
}

/// Drain a worker.
///
/// It takes nothing more, finishes what it has within its drain time, and gives the rest back without counting the attempt. It stays
/// there and idle until it is ended or resumed.
#[utoipa::path(post, path = "/workers/{id}/drain", operation_id = "drain_worker", tag = "fleet", params(("id" = WorkerId, Path)),
    responses(
    (status = 202, description = "It is told within about a second."),
    (status = 404, description = "There is no such worker, or it is gone.", body = ProblemDocument),
))]
pub(crate) async fn drain(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkerId>,
) -> Answer<StatusCode> {
    caller.need(Scope::FleetWrite)?;
    if !workers::drain(&app.db, id).await? {
        return Err(Problem::not_found("worker", id));
    }
    Ok(StatusCode::ACCEPTED)
}

/// Let a worker work again.
///
/// One that was asked to drain, or is in quarantine: what it failed before counts no longer.
#[utoipa::path(post, path = "/workers/{id}/resume", operation_id = "resume_worker", tag = "fleet",
    params(("id" = WorkerId, Path)), responses(
    (status = 202, description = "It is told within about a second."),
    (status = 404, description = "There is no such worker, or it is gone.", body = ProblemDocument),
))]
pub(crate) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkerId>,
) -> Answer<StatusCode> {
    caller.need(Scope::FleetWrite)?;
    if !workers::resume(&app.db, id).await? {
        return Err(Problem::not_found("worker", id));
    }
    Ok(StatusCode::ACCEPTED)
}
