//! `/profiles`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::profiles;
use reelmill_shared::media::profile::{BUILT_IN, Profile};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dto::profile::{NewProfileDto, ProfileDto, ProfileListDto};
use crate::extract::{Body, Path, Query, cut_page, limit};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;

/// Create a profile.
///
/// The body is a profile with its `name`; the fields are those of an inline profile.
#[utoipa::path(post, path = "/profiles", tag = "profiles", request_body = NewProfileDto, responses(
    (status = 201, description = "The profile.", body = ProfileDto),
    (status = 409, description = "The name is taken.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Value>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let profile = read(&name, &body)?;
    let taken = BUILT_IN.contains(&name.as_str())
        || !profiles::insert(&app.db, caller.project_id, &name, &profile).await?;
    if taken {
        return Err(Problem::new(Kind::Conflict, format!("there is a profile {name:?} already")));
    }
    let location = format!("/api/v1/profiles/{name}");
    let dto = ProfileDto::new(profile, false);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(dto)).into_response())
}

/// True for what can be the name of a profile or a project.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

/// The project's own profile with this name. What is no name is not looked up.
pub(crate) async fn find(app: &App, caller: &Caller, name: &str) -> Answer<Option<Profile>> {
    if !is_name(name) {
        return Ok(None);
    }
    Ok(profiles::get(&app.db, caller.project_id, name).await?)
}

fn read(name: &str, body: &Value) -> Answer<Profile> {
    if !is_name(name) {
        return Err(Problem::field(
            "/name",
            "must be 1 to 64 lower-case letters, digits, underscores or hyphens",
        ));
    }
    let profile = Profile::from_json(body).map_err(Problem::fields)?;
    Ok(Profile { name: Some(name.to_owned()), ..profile })
}

/// Where a list of profiles goes on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProfileQuery {
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List profiles.
///
/// The built-in ones, then the project's own by name.
#[utoipa::path(get, path = "/profiles", tag = "profiles", params(ProfileQuery), responses(
    (status = 200, description = "A page of profiles.", body = ProfileListDto),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ProfileQuery>,
) -> Answer<Json<ProfileListDto>> {
    caller.need(Scope::Read)?;
    let limit = limit(query.limit)?;
    if query.cursor.as_deref().is_some_and(|cursor| !is_name(cursor)) {
        return Err(Problem::new(Kind::Malformed, "cursor is not one a list gave out"));
    }
    let mut own = profiles::list(&app.db, caller.project_id, query.cursor.as_deref(), limit + 1).await?;
    let next_cursor = cut_page(&mut own, limit, |profile| profile.name.clone().unwrap_or_default());
    // The built-in ones head the first page and do not count.
    let built_in =
        BUILT_IN.iter().filter(|_| query.cursor.is_none()).filter_map(|name| Profile::built_in(name));
    let profiles = built_in
        .map(|profile| ProfileDto::new(profile, true))
        .chain(own.into_iter().map(|profile| ProfileDto::new(profile, false)))
        .collect();
    Ok(Json(ProfileListDto { profiles, next_cursor }))
}

/// Read a profile.
#[utoipa::path(get, path = "/profiles/{name}", tag = "profiles", params(("name" = String, Path)), responses(
    (status = 200, description = "The profile.", body = ProfileDto),
    (status = 404, description = "There is no such profile.", body = ProblemDocument),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<Json<ProfileDto>> {
    caller.need(Scope::Read)?;
    if let Some(profile) = Profile::built_in(&name) {
        return Ok(Json(ProfileDto::new(profile, true)));
    }
    let own = find(&app, &caller, &name).await?;
    Ok(Json(ProfileDto::new(own.ok_or_else(|| Problem::not_found("profile", &name))?, false)))
}

/// Replace a profile.
///
/// Jobs that were submitted with the old one keep it.
#[utoipa::path(put, path = "/profiles/{name}", tag = "profiles", params(("name" = String, Path)), request_body = NewProfileDto,
    responses(
    (status = 200, description = "The profile as it is now.", body = ProfileDto),
    (status = 404, description = "There is no such profile.", body = ProblemDocument),
    (status = 409, description = "Built-in profiles cannot be changed.", body = ProblemDocument),
))]
pub(crate) async fn replace(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<Value>,
) -> Answer<Json<ProfileDto>> {
    caller.need(Scope::Write)?;
    own(&name)?;
    let profile = read(&name, &body)?;
    if !profiles::replace(&app.db, caller.project_id, &name, &profile).await? {
        return Err(Problem::not_found("profile", &name));
    }
    Ok(Json(ProfileDto::new(profile, false)))
}

/// Delete a profile.
///
/// Jobs that were submitted with it keep it.
#[utoipa::path(delete, path = "/profiles/{name}", tag = "profiles", params(("name" = String, Path)), responses(
    (status = 204, description = "It is gone."),
    (status = 404, description = "There is no such profile.", body = ProblemDocument),
    (status = 409, description = "Built-in profiles cannot be deleted.", body = ProblemDocument),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    caller.need(Scope::Write)?;
    own(&name)?;
    if !is_name(&name) || !profiles::delete(&app.db, caller.project_id, &name).await? {
        return Err(Problem::not_found("profile", &name));
    }
    Ok(StatusCode::NO_CONTENT)
}

fn own(name: &str) -> Answer<()> {
    if BUILT_IN.contains(&name) {
        return Err(Problem::new(Kind::Conflict, format!("{name} is built in and cannot be changed")));
    }
    Ok(())
}
