//! `/webhooks`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use reelmill_shared::auth::Scope;
use reelmill_shared::db::webhooks::{self, Change, Created, MOST, NewWebhook, Webhook};
use reelmill_shared::ids::WebhookId;
use reelmill_shared::media::profile::FieldError;
use reelmill_shared::net::NetError;
use reelmill_shared::webhook::{Message, Secret, TEST_EVENT, WebhookKind, body as event_body, receiver};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;
use url::Url;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::auth::Caller;
use crate::dto::webhook::{
    NewWebhookDto, PatchWebhookDto, RotateSecretDto, SecretWebhookDto, WebhookDto, WebhookListDto,
    WebhookTestDto,
};
use crate::extract::{Body, Path, Query, cursor, cut_page, limit};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;
use crate::submit::fault;

/// How long a name is looked up for: whether it is public is said at once where that is known at once.
const LOOK_UP: Duration = Duration::from_secs(3);
const DESCRIPTION_LIMIT: usize = 500;
const KEEP: u64 = 24 * 3600;
const LONGEST_KEEP: u64 = 7 * KEEP;

/// Create a webhook.
///
/// From now on it gets the project's events, signed by Standard Webhooks. Its secret is shown in this answer and never again.
#[utoipa::path(post, path = "/webhooks", tag = "webhooks", request_body = NewWebhookDto, responses(
    (status = 201, description = "The webhook with its secret.", body = SecretWebhookDto),
    (status = 409, description = "The project has as many as it may have, or its callbacks have one already.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<NewWebhookDto>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    let mut faults = vec![];
    let url = match (body.kind.unwrap_or(WebhookKind::Endpoint), &body.url) {
        (WebhookKind::Endpoint, Some(url)) => address(&app, url, &mut faults).await,
        (WebhookKind::Endpoint, None) => {
            faults.push(fault("/url", "is missing"));
            None
        }
        (WebhookKind::Callbacks, None) => None,
        (WebhookKind::Callbacks, Some(_)) => {
            faults.push(fault("/url", "does not go with callbacks: each job names its own"));
            None
        }
    };
    let description = body.description.unwrap_or_default();
    describe(&description, &mut faults);
    let secret = secret(body.secret.as_deref(), &mut faults);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let id = WebhookId::new();
    let new = NewWebhook {
        id,
        project_id: caller.project_id,
        url: url.as_ref().map(Url::as_str),
        description: &description,
        events: &distinct(body.events),
        secret: &sealed(&app, id, &secret)?,
    };
    let webhook = match webhooks::insert(&app.db, &new).await? {
        Created::Now(webhook) => WebhookDto::from(*webhook),
        Created::TooMany => {
            return Err(Problem::new(Kind::Conflict, format!("a project may have {MOST} webhooks")));
        }
        Created::Taken => {
            let detail = "the project's callbacks have a webhook already; rotate its secret to see one";
            return Err(Problem::new(Kind::Conflict, detail));
        }
    };
    let location = format!("/api/v1/webhooks/{id}");
    let dto = SecretWebhookDto { webhook, secret: secret.expose() };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(dto)).into_response())
}

/// Reads an endpoint's address. A name that stands for nothing public is refused; one that is not known now may be later.
async fn address(app: &App, text: &str, faults: &mut Vec<FieldError>) -> Option<Url> {
    let policy = app.sender.policy();
    let read = match receiver(policy, text) {
        Ok(url) => url,
        Err(detail) => {
            faults.push(fault("/url", detail));
            return None;
        }
    };
    let looked_up =
        policy.resolve(read.host_str().unwrap_or_default(), read.port_or_known_default().unwrap_or(0));
    if let Ok(Err(error @ NetError::Refused { .. })) = timeout(LOOK_UP, looked_up).await {
        faults.push(fault("/url", error.to_string()));
        return None;
    }
    Some(read)
}

fn describe(description: &str, faults: &mut Vec<FieldError>) {
    if description.chars().count() > DESCRIPTION_LIMIT || description.contains('\0') {
        let detail = format!("may have at most {DESCRIPTION_LIMIT} characters, and none that is NUL");
        faults.push(fault("/description", detail));
    }
}

fn secret(given: Option<&str>, faults: &mut Vec<FieldError>) -> Secret {
    match given.map(str::parse) {
        None => Secret::random(),
        Some(Ok(secret)) => secret,
        Some(Err(error)) => {
            faults.push(fault("/secret", error.to_string()));
            Secret::random()
        }
    }
}

fn sealed(app: &App, id: WebhookId, secret: &Secret) -> Answer<Vec<u8>> {
    Ok(secret.seal(&app.config.secret.sealer, id)?)
}

fn distinct<T: PartialEq>(words: Vec<T>) -> Vec<T> {
    words.into_iter().fold(vec![], |mut kept, word| {
        if !kept.contains(&word) {
            kept.push(word);
        }
        kept
    })
}

/// The caller's webhook, or a problem.
pub(crate) async fn find(app: &App, caller: &Caller, id: WebhookId) -> Answer<Webhook> {
    let found = webhooks::get(&app.db, caller.project_id, id).await?;
    found.ok_or_else(|| Problem::not_found("webhook", id))
}

/// Where a list of webhooks goes on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WebhookQuery {
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List webhooks, newest first.
#[utoipa::path(get, path = "/webhooks", tag = "webhooks", params(WebhookQuery), responses(
    (status = 200, description = "A page of webhooks.", body = WebhookListDto),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<WebhookQuery>,
) -> Answer<Json<WebhookListDto>> {
    caller.need(Scope::Read)?;
    let limit = limit(query.limit)?;
    let after = cursor(query.cursor.as_deref())?;
    let mut rows = webhooks::list(&app.db, caller.project_id, after, limit + 1).await?;
    let next_cursor = cut_page(&mut rows, limit, |webhook| webhook.id);
    Ok(Json(WebhookListDto { webhooks: rows.into_iter().map(WebhookDto::from).collect(), next_cursor }))
}

/// Read a webhook.
#[utoipa::path(get, path = "/webhooks/{id}", tag = "webhooks", params(("id" = WebhookId, Path)), responses(
    (status = 200, description = "The webhook, without its secret.", body = WebhookDto),
    (status = 404, description = "There is no such webhook.", body = ProblemDocument),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WebhookId>,
) -> Answer<Json<WebhookDto>> {
    caller.need(Scope::Read)?;
    Ok(Json(find(&app, &caller, id).await?.into()))
}

/// Change a webhook.
///
/// Enabling one that was disabled forgets its failures. What is on its way goes to the new address.
#[utoipa::path(patch, path = "/webhooks/{id}", tag = "webhooks", params(("id" = WebhookId, Path)),
    request_body = PatchWebhookDto, responses(
    (status = 200, description = "The webhook as it is now.", body = WebhookDto),
    (status = 404, description = "There is no such webhook.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    Body(body): Body<PatchWebhookDto>,
) -> Answer<Json<WebhookDto>> {
    caller.need(Scope::Write)?;
    let webhook = find(&app, &caller, id).await?;
    let mut faults = vec![];
    let url = match &body.url {
        Some(_) if webhook.kind == WebhookKind::Callbacks => {
            faults.push(fault("/url", "does not go with callbacks: each job names its own"));
            None
        }
        Some(url) => address(&app, url, &mut faults).await,
        None => None,
    };
    body.description.iter().for_each(|description| describe(description, &mut faults));
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let events = body.events.map(distinct);
    let change = Change {
        url: url.as_ref().map(Url::as_str),
        description: body.description.as_deref(),
        events: events.as_deref(),
        enabled: body.enabled,
    };
    let changed = webhooks::update(&app.db, caller.project_id, id, &change).await?;
    Ok(Json(changed.ok_or_else(|| Problem::not_found("webhook", id))?.into()))
}

/// Delete a webhook.
///
/// Its deliveries go with it; what is on its way is not sent.
#[utoipa::path(delete, path = "/webhooks/{id}", tag = "webhooks", params(("id" = WebhookId, Path)), responses(
    (status = 204, description = "It is gone."),
    (status = 404, description = "There is no such webhook.", body = ProblemDocument),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WebhookId>,
) -> Answer<StatusCode> {
    caller.need(Scope::Write)?;
    if !webhooks::delete(&app.db, caller.project_id, id).await? {
        return Err(Problem::not_found("webhook", id));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Send a test event.
///
/// A `webhook.test` event is sent now, once, also to an endpoint that is disabled, and the answer tells what came back. It is in
/// no list of deliveries.
#[utoipa::path(post, path = "/webhooks/{id}/test", tag = "webhooks", params(("id" = WebhookId, Path)), responses(
    (status = 200, description = "What came of it, whether it was delivered or not.", body = WebhookTestDto),
    (status = 404, description = "There is no such webhook.", body = ProblemDocument),
    (status = 409, description = "Callbacks have no address of their own.", body = ProblemDocument),
))]
pub(crate) async fn test(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WebhookId>,
) -> Answer<Json<WebhookTestDto>> {
    caller.need(Scope::Write)?;
    let webhook = find(&app, &caller, id).await?;
    let Some(url) = webhook.url.as_deref().and_then(|url| Url::parse(url).ok()) else {
        return Err(Problem::new(Kind::Conflict, "callbacks have no address of their own to send a test to"));
    };
    let open = |sealed: Vec<u8>| Secret::open(&app.config.secret.sealer, id, &sealed);
    let secrets =
        webhooks::secrets(&app.db, id).await?.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let event_id = Uuid::now_v7();
    let text = event_body(TEST_EVENT, Utc::now(), &json!({ "webhook_id": id }));
    let message = Message { url: &url, id: event_id, body: &text, secrets: &secrets };
    // Closed only when the process ends.
    let _turn = app.tests.acquire().await;
    Ok(Json(WebhookTestDto::new(event_id, app.sender.send(&message).await)))
}

/// Rotate a webhook's secret.
///
/// The new one is shown in this answer and never again. For a day, or `keep_seconds`, both sign every message, so that receivers
/// can change over.
#[utoipa::path(post, path = "/webhooks/{id}/rotate-secret", operation_id = "rotate_secret", tag = "webhooks",
    params(("id" = WebhookId, Path)), request_body = Option<RotateSecretDto>, responses(
    (status = 200, description = "The webhook with its new secret.", body = SecretWebhookDto),
    (status = 404, description = "There is no such webhook.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn rotate_secret(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    body: Option<Body<RotateSecretDto>>,
) -> Answer<Json<SecretWebhookDto>> {
    caller.need(Scope::Write)?;
    let body = body.map(|Body(body)| body).unwrap_or_default();
    let mut faults = vec![];
    let keep = body.keep_seconds.unwrap_or(KEEP);
    if keep > LONGEST_KEEP {
        faults.push(fault("/keep_seconds", format!("must be from 0 to {LONGEST_KEEP}")));
    }
    let secret = secret(body.secret.as_deref(), &mut faults);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let sealed = sealed(&app, id, &secret)?;
    let rotated =
        webhooks::rotate(&app.db, caller.project_id, id, &sealed, Duration::from_secs(keep)).await?;
    let webhook = rotated.ok_or_else(|| Problem::not_found("webhook", id))?.into();
    Ok(Json(SecretWebhookDto { webhook, secret: secret.expose() }))
}
