//! `/keys`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::{Scope, hash_key, key_prefix, new_key};
use reelmill_shared::db::keys::{self, NewKey};
use reelmill_shared::db::projects;
use reelmill_shared::ids::KeyId;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dto::key::{CreatedKeyDto, KeyDto, KeyListDto, NewKeyDto};
use crate::extract::{Body, Path, Query, cursor, cut_page, limit};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::profiles::is_name;
use crate::state::App;

/// Create a key.
///
/// Its secret is shown in this answer and never again. Needs the scope `admin`.
#[utoipa::path(post, path = "/keys", tag = "keys", request_body = NewKeyDto, responses(
    (status = 201, description = "The key with its secret.", body = CreatedKeyDto),
    (status = 403, description = "The caller's key lacks the scope admin.", body = ProblemDocument),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<NewKeyDto>,
) -> Answer<Response> {
    caller.need(Scope::Admin)?;
    let name = body.name.trim();
    if name.is_empty() || name.chars().count() > 100 || name.contains('\0') {
        return Err(Problem::field("/name", "must have 1 to 100 characters"));
    }
    if body.scopes.is_empty() {
        return Err(Problem::field("/scopes", "must name at least one scope"));
    }
    if body.expires_at.is_some_and(|at| at <= chrono::Utc::now()) {
        return Err(Problem::field("/expires_at", "lies in the past"));
    }
    let project_id = match body.project.as_deref() {
        None => caller.project_id,
        Some(project) => {
            if !is_name(project) {
                let detail = "must be 1 to 64 lower-case letters, digits, underscores or hyphens";
                return Err(Problem::field("/project", detail));
            }
            projects::ensure(&app.db, project).await?
        }
    };
    let secret = new_key(true);
    let new = NewKey {
        project_id,
        name,
        prefix: &key_prefix(&secret),
        hash: &hash_key(&secret),
        scopes: &body.scopes,
        expires_at: body.expires_at,
    };
    let key = KeyDto::from(keys::insert(&app.db, &new).await?);
    Ok((StatusCode::CREATED, Json(CreatedKeyDto { key, secret })).into_response())
}

/// Where a list of keys goes on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeyQuery {
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List the project's keys, newest first.
///
/// Needs the scope `admin`.
#[utoipa::path(get, path = "/keys", tag = "keys", params(KeyQuery), responses(
    (status = 200, description = "A page of keys.", body = KeyListDto),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<KeyQuery>,
) -> Answer<Json<KeyListDto>> {
    caller.need(Scope::Admin)?;
    let limit = limit(query.limit)?;
    let after = cursor(query.cursor.as_deref())?;
    let mut rows = keys::list(&app.db, caller.project_id, after, limit + 1).await?;
    let next_cursor = cut_page(&mut rows, limit, |key| key.id);
    Ok(Json(KeyListDto { keys: rows.into_iter().map(KeyDto::from).collect(), next_cursor }))
}

/// Revoke a key.
///
/// It stops working within seconds. Needs the scope `admin`.
#[utoipa::path(delete, path = "/keys/{id}", tag = "keys", params(("id" = KeyId, Path)), responses(
    (status = 204, description = "It is revoked."),
    (status = 404, description = "There is no such key.", body = ProblemDocument),
    (status = 409, description = "A key cannot revoke itself.", body = ProblemDocument),
))]
pub(crate) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<KeyId>,
) -> Answer<StatusCode> {
    caller.need(Scope::Admin)?;
    if id == caller.key_id {
        return Err(Problem::new(Kind::Conflict, "a key cannot revoke itself; use another one"));
    }
    if !keys::revoke(&app.db, caller.project_id, id).await? {
        return Err(Problem::not_found("key", id));
    }
    app.caches.keys.invalidate_all();
    Ok(StatusCode::NO_CONTENT)
}
