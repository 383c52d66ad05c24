//! `/workers`.

use axum::Json;
use axum::extract::State;
use reelmill_shared::auth::Scope;
use reelmill_shared::db::workers;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dto::worker::{WorkerDto, WorkerListDto};
use crate::extract::{Query, cursor, cut_page, limit};
use crate::problem::Answer;
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
