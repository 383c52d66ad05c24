//! `/projects`: tenants and their share of the farm.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::projects::{self, Change, Deleted};
use reelmill_shared::ids::ProjectId;
use reelmill_shared::media::profile::FieldError;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dto::project::{NewProjectDto, ProjectChangeDto, ProjectDto, ProjectListDto};
use crate::extract::{Body, Path, Query, cursor, cut_page, limit};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::profiles::is_name;
use crate::state::App;
use crate::submit::fault;

/// Create a project.
///
/// Keys are made for it by `POST /keys` with its name. Needs the scope `admin`.
#[utoipa::path(post, path = "/projects", tag = "projects", request_body = NewProjectDto, responses(
    (status = 201, description = "The project.", body = ProjectDto),
    (status = 409, description = "The name is taken.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<NewProjectDto>,
) -> Answer<Response> {
    caller.need(Scope::Admin)?;
    let change = Change {
        name: Some(&body.name),
        weight: body.weight,
        max_running: body.max_running.map(Some),
        max_concurrent_streams: body.max_concurrent_streams,
        retention: body.retention.into(),
    };
    check(&change)?;
    let project = projects::create(&app.db, &body.name, change).await?.ok_or_else(|| taken(&body.name))?;
    let location = format!("/api/v1/projects/{}", project.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(ProjectDto::from(project))).into_response())
}

/// Where a list of projects goes on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProjectQuery {
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List projects, newest first.
///
/// Needs the scope `admin`.
#[utoipa::path(get, path = "/projects", tag = "projects", params(ProjectQuery), responses(
    (status = 200, description = "A page of projects.", body = ProjectListDto),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ProjectQuery>,
) -> Answer<Json<ProjectListDto>> {
    caller.need(Scope::Admin)?;
    let limit = limit(query.limit)?;
    let mut rows = projects::list(&app.db, cursor(query.cursor.as_deref())?, limit + 1).await?;
    let next_cursor = cut_page(&mut rows, limit, |project| project.id);
    Ok(Json(ProjectListDto { projects: rows.into_iter().map(ProjectDto::from).collect(), next_cursor }))
}

/// Read a project.
///
/// Needs the scope `admin`.
#[utoipa::path(get, path = "/projects/{id}", tag = "projects", params(("id" = ProjectId, Path)), responses(
    (status = 200, description = "The project.", body = ProjectDto),
    (status = 404, description = "There is no such project.", body = ProblemDocument),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ProjectId>,
) -> Answer<Json<ProjectDto>> {
    caller.need(Scope::Admin)?;
    let project = projects::get(&app.db, id).await?;
    Ok(Json(project.ok_or_else(|| Problem::not_found("project", id))?.into()))
}

/// Change a project.
///
/// Weight and limit count from the next claim on; what runs goes on. Ages count from the scheduler's next look, a minute later at most; see
/// before what would go with `GET /projects/{id}/retention`. Needs the scope `admin`.
#[utoipa::path(patch, path = "/projects/{id}", tag = "projects", params(("id" = ProjectId, Path)),
    request_body = ProjectChangeDto, responses(
    (status = 200, description = "The project as it is now.", body = ProjectDto),
    (status = 404, description = "There is no such project.", body = ProblemDocument),
    (status = 409, description = "The new name is taken.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ProjectId>,
    Body(body): Body<ProjectChangeDto>,
) -> Answer<Json<ProjectDto>> {
    caller.need(Scope::Admin)?;
    let change = Change {
        name: body.name.as_deref(),
        weight: body.weight,
        max_running: body.max_running,
        max_concurrent_streams: body.max_concurrent_streams,
        retention: body.retention.into(),
    };
    check(&change)?;
    match projects::update(&app.db, id, change).await {
        Ok(Some(project)) => Ok(Json(project.into())),
        Ok(None) => Err(Problem::not_found("project", id)),
        Err(error) if error.is_duplicate() => Err(taken(body.name.as_deref().unwrap_or_default())),
        Err(error) => Err(error.into()),
    }
}

/// Delete a project.
///
/// Only one that has no jobs, recordings, livestreams, uploads or sources any more; its keys, profiles and webhooks go with it. Needs the scope `admin`.
#[utoipa::path(delete, path = "/projects/{id}", tag = "projects", params(("id" = ProjectId, Path)), responses(
    (status = 204, description = "It is gone."),
    (status = 404, description = "There is no such project.", body = ProblemDocument),
    (status = 409, description = "It has something still, or is the caller's own.", body = ProblemDocument),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ProjectId>,
) -> Answer<StatusCode> {
    caller.need(Scope::Admin)?;
    if id == caller.project_id {
        return Err(Problem::new(Kind::Conflict, "a key cannot delete its own project; use another one's"));
    }
    match projects::delete(&app.db, id).await? {
        Deleted::Now => {
            app.caches.keys.invalidate_all();
            Ok(StatusCode::NO_CONTENT)
        }
        Deleted::InUse(what) => {
            Err(Problem::new(Kind::Conflict, format!("the project has {what} still; delete them first")))
        }
        Deleted::NotFound => Err(Problem::not_found("project", id)),
    }
}

fn taken(name: &str) -> Problem {
    Problem::new(Kind::Conflict, format!("there is a project {name:?} already"))
}

fn check(change: &Change<'_>) -> Answer<()> {
    let mut faults: Vec<FieldError> = vec![];
    if change.name.is_some_and(|name| !is_name(name)) {
        faults.push(fault("/name", "must be 1 to 64 lower-case letters, digits, underscores or hyphens"));
    }
    if change.weight.is_some_and(|weight| !(0.01..=1000.0).contains(&weight)) {
        faults.push(fault("/weight", "must be from 0.01 to 1000"));
    }
    if change.max_running.flatten().is_some_and(|most| !(1..=10_000).contains(&most)) {
        faults.push(fault("/max_running", "must be from 1 to 10000, or null for no limit"));
    }
    if change.max_concurrent_streams.is_some_and(|most| !(1..=10_000).contains(&most)) {
        faults.push(fault("/max_concurrent_streams", "must be from 1 to 10000"));
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}
