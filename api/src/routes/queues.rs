//! `/queues`: what waits in each pool, and whether it may be taken.

use axum::Json;
use axum::extract::State;
use reelmill_shared::auth::Scope;
use reelmill_shared::broker::{Ring, ring_later};
use reelmill_shared::db::pools;
use reelmill_shared::job::capability::{Capability, Pool};

use crate::auth::Caller;
use crate::dto::queue::{QueueDto, QueueListDto};
use crate::extract::Path;
use crate::problem::{Answer, Problem, ProblemDocument};
use crate::state::App;

/// List the pools and what waits in them.
#[utoipa::path(get, path = "/queues", operation_id = "queues", tag = "fleet", responses(
    (status = 200, description = "All pools.", body = QueueListDto),
))]
pub(crate) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<QueueListDto>> {
    caller.need(Scope::FleetRead)?;
    let queues = pools::list(&app.db).await?.into_iter().map(QueueDto::from).collect();
    Ok(Json(QueueListDto { queues }))
}

/// Pause a pool.
///
/// Its workers finish what they have and take nothing more; jobs are accepted and wait.
#[utoipa::path(post, path = "/queues/{pool}/pause", operation_id = "pause_queue", tag = "fleet",
    params(("pool" = String, Path)), responses(
    (status = 200, description = "The pool as it is now.", body = QueueDto),
    (status = 404, description = "There is no such pool.", body = ProblemDocument),
))]
pub(crate) async fn pause(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<String>,
) -> Answer<Json<QueueDto>> {
    set(&app, &caller, &pool, true).await
}

/// Let a paused pool go on.
#[utoipa::path(post, path = "/queues/{pool}/resume", operation_id = "resume_queue", tag = "fleet",
    params(("pool" = String, Path)), responses(
    (status = 200, description = "The pool as it is now.", body = QueueDto),
    (status = 404, description = "There is no such pool.", body = ProblemDocument),
))]
pub(crate) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<String>,
) -> Answer<Json<QueueDto>> {
    let queue = set(&app, &caller, &pool, false).await?;
    // The rings of what came meanwhile were for nothing.
    let class = Capability::Base.to_string();
    ring_later(
        &app.broker,
        vec![Ring { pool: queue.pool, class, job_id: None, task_id: None, traceparent: None }],
    );
    Ok(queue)
}

async fn set(app: &App, caller: &Caller, word: &str, paused: bool) -> Answer<Json<QueueDto>> {
    caller.need(Scope::FleetWrite)?;
    let pool: Pool = word.parse().map_err(|_| Problem::not_found("pool", word))?;
    pools::set_paused(&app.db, pool, paused).await?;
    let all = pools::list(&app.db).await?;
    let queue = all.into_iter().find(|state| state.pool == pool);
    Ok(Json(queue.ok_or_else(|| Problem::not_found("pool", word))?.into()))
}
