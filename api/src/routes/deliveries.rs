//! Deliveries of webhooks: their log, and sending again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use reelmill_shared::auth::Scope;
use reelmill_shared::db::deliveries;
use reelmill_shared::db::events::Span;
use reelmill_shared::db::fan_out::{self, MOST_REPLAYED, Replayed};
use reelmill_shared::ids::{DeliveryId, WebhookId};
use reelmill_shared::webhook::DeliveryState;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dto::webhook::{DeliveryDto, DeliveryListDto, ReplaySpanDto, ReplayedDto};
use crate::extract::{Body, Path, Query, cursor, cut_page, limit};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::webhooks::find;
use crate::state::App;

/// Which deliveries are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryQuery {
    state: Option<DeliveryState>,
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List a webhook's deliveries, the last ones first.
#[utoipa::path(get, path = "/webhooks/{id}/deliveries", operation_id = "deliveries", tag = "webhooks",
    params(("id" = WebhookId, Path), DeliveryQuery), responses(
    (status = 200, description = "A page of deliveries.", body = DeliveryListDto),
    (status = 404, description = "There is no such webhook.", body = ProblemDocument),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    Query(query): Query<DeliveryQuery>,
) -> Answer<Json<DeliveryListDto>> {
    caller.need(Scope::Read)?;
    let limit = limit(query.limit)?;
    let before = cursor(query.cursor.as_deref())?;
    find(&app, &caller, id).await?;
    let mut rows = deliveries::list(&app.db, id, query.state, before, limit + 1).await?;
    let next_cursor = cut_page(&mut rows, limit, |delivery| delivery.id);
    Ok(Json(DeliveryListDto { deliveries: rows.into_iter().map(DeliveryDto::from).collect(), next_cursor }))
}

/// Send the event of a delivery again.
///
/// As a delivery of its own, with the same body and the same `webhook-id`.
#[utoipa::path(post, path = "/deliveries/{id}/replay", operation_id = "replay_delivery", tag = "webhooks",
    params(("id" = DeliveryId, Path)), responses(
    (status = 202, description = "The delivery that is on its way.", body = DeliveryDto),
    (status = 404, description = "There is no such delivery.", body = ProblemDocument),
    (status = 409, description = "It is on its way already, or the webhook is disabled.", body = ProblemDocument),
))]
pub(crate) async fn replay(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<DeliveryId>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    match deliveries::replay(&app.db, caller.project_id, id).await? {
        Ok(made) => Ok((StatusCode::ACCEPTED, Json(DeliveryDto::from(made))).into_response()),
        Err(refused) => Err(refusal(refused, || Problem::not_found("delivery", id))),
    }
}

/// Send the events of a span of time again.
///
/// Those it never got because it was disabled are among them. What is on its way already is not doubled. At most 10,000 events at
/// once.
#[utoipa::path(post, path = "/webhooks/{id}/replay", operation_id = "replay_span", tag = "webhooks",
    params(("id" = WebhookId, Path)), request_body = ReplaySpanDto, responses(
    (status = 202, description = "How many deliveries are on their way.", body = ReplayedDto),
    (status = 404, description = "There is no such webhook.", body = ProblemDocument),
    (status = 409, description = "The webhook is disabled.", body = ProblemDocument),
    (status = 422, description = "Fields are not right, or there are too many events.", body = ProblemDocument),
))]
pub(crate) async fn replay_span(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    Body(body): Body<ReplaySpanDto>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    let to = body.to.unwrap_or_else(Utc::now);
    if body.from >= to {
        return Err(Problem::field("/from", "must be before the end of the span"));
    }
    let span = Span { project: caller.project_id, from: body.from, to, types: body.types };
    match fan_out::replay_span(&app.db, id, &span).await? {
        Replayed::Now(deliveries) => {
            Ok((StatusCode::ACCEPTED, Json(ReplayedDto { deliveries })).into_response())
        }
        refused => Err(refusal(refused, || Problem::not_found("webhook", id))),
    }
}

fn refusal(replayed: Replayed, not_found: impl FnOnce() -> Problem) -> Problem {
    match replayed {
        Replayed::NotFound | Replayed::Now(_) => not_found(),
        Replayed::Disabled => Problem::new(Kind::Conflict, "the webhook is disabled; enable it first"),
        Replayed::Pending => Problem::new(Kind::Conflict, "the event is on its way already"),
        Replayed::TooMany => Problem::field(
            "/from",
            format!("the span has more than {MOST_REPLAYED} events; replay it in parts"),
        ),
    }
}
