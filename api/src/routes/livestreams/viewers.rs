//! Who watches a livestream.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::viewers::{self, Place, Sighting, Watched};
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::media::profile::FieldError;
use serde::Deserialize;
use utoipa::IntoParams;

use super::find;
use crate::audience::{Report, Visitor, session_id};
use crate::auth::Caller;
use crate::dto::live_history::{TrackDto, ViewerDto, ViewerListDto};
use crate::extract::{Body, Path, Query, cursor, cut_page, limit, parse};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;
use crate::submit::fault;

const SESSION_LIMIT: usize = 128;
const TEXT_LIMIT: usize = 255;
const AGENT_LIMIT: usize = 512;
const MOST_ERRORS: u32 = 100;

/// Tell of a viewer.
///
/// For who has players of their own: send it when one begins, every ten seconds or so while it plays, and with `left` when it ends. One that is
/// not heard of for a minute no longer counts. More often than once a second is not written down.
#[utoipa::path(post, path = "/livestreams/{id}/viewers/track", tag = "livestreams", params(("id" = LivestreamId, Path)),
    request_body = TrackDto, responses(
    (status = 200, description = "What is known of the session.", body = ViewerDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
    (status = 409, description = "The session is one of something else.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn track(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
    Body(body): Body<TrackDto>,
) -> Answer<Json<ViewerDto>> {
    caller.need(Scope::LiveWrite)?;
    check(&body)?;
    let of_request = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let of_request = of_request.filter(|agent| agent.len() <= AGENT_LIMIT);
    // Only who says both says whose requests an edge sees; the address of this request is that of whoever has the key.
    let told = body.ip_address.as_deref().zip(body.user_agent.as_deref());
    let count = |count: Option<i64>| count.and_then(|count| i32::try_from(count).ok());
    let seen = Sighting {
        session: &body.session_id,
        user_id: body.user_id.as_deref(),
        resolution: body.resolution.as_deref(),
        device_type: body.device_type.as_deref(),
        location: body.location.as_deref(),
        ip_address: body.ip_address.as_deref(),
        user_agent: body.user_agent.as_deref().or(of_request),
        watcher: told.map(|(address, agent)| viewers::watcher(address, agent)),
        buffer_events: count(body.buffer_events),
        quality_changes: count(body.quality_changes),
        left: body.left,
    };
    let id = find(&app, &caller, id).await?.id;
    app.audience.told(id, at_least(body.latency), at_least(body.errors).unwrap_or_default());
    let session = viewers::track(&app.db, caller.project_id, id, &seen).await?;
    let elsewhere = || Problem::new(Kind::Conflict, "the session_id is that of a session of something else");
    Ok(Json(session.ok_or_else(elsewhere)?.into()))
}

/// A count that was checked.
fn at_least(count: Option<i64>) -> Option<u32> {
    count.and_then(|count| u32::try_from(count).ok())
}

/// What a player tells of itself, without a key; under `/v/{token}/live/{id}`. Content types are not looked at: a page that is left can send plain
/// text only.
pub(crate) fn report(app: &App, id: LivestreamId, visitor: &Visitor, body: &[u8]) -> Answer<()> {
    let body: TrackDto = parse(body)?;
    check(&body)?;
    session_id::check_given(app, Watched::Livestream(id), &body.session_id)?;
    let count = |count: Option<i64>| count.and_then(|count| i32::try_from(count).ok()).unwrap_or_default();
    let report = Report {
        session: body.session_id,
        user_id: body.user_id,
        resolution: body.resolution,
        device_type: body.device_type,
        location: body.location,
        buffer_events: count(body.buffer_events),
        quality_changes: count(body.quality_changes),
        latency: at_least(body.latency),
        // Nobody has more of them within ten seconds.
        errors: at_least(body.errors).unwrap_or_default().min(MOST_ERRORS),
        left: body.left,
    };
    app.audience.heard(id, visitor, report);
    Ok(())
}

fn check(body: &TrackDto) -> Answer<()> {
    let mut faults: Vec<FieldError> = vec![];
    let session = body.session_id.as_bytes();
    if !(1..=SESSION_LIMIT).contains(&session.len()) || !session.iter().all(u8::is_ascii_graphic) {
        let detail = format!("must have 1 to {SESSION_LIMIT} visible ASCII characters, none of them a space");
        faults.push(fault("/session_id", detail));
    }
    for (name, text, limit) in [
        ("/user_id", &body.user_id, TEXT_LIMIT),
        ("/resolution", &body.resolution, TEXT_LIMIT),
        ("/device_type", &body.device_type, TEXT_LIMIT),
        ("/location", &body.location, TEXT_LIMIT),
        ("/user_agent", &body.user_agent, AGENT_LIMIT),
    ] {
        if text.as_ref().is_some_and(|text| text.chars().count() > limit || text.contains('\0')) {
            faults.push(fault(name, format!("may have at most {limit} characters, and none that is NUL")));
        }
    }
    if body.ip_address.as_ref().is_some_and(|text| text.parse::<IpAddr>().is_err()) {
        faults.push(fault("/ip_address", "is not an IPv4 or IPv6 address"));
    }
    for (name, count) in [
        ("/buffer_events", body.buffer_events),
        ("/quality_changes", body.quality_changes),
        ("/latency", body.latency),
        ("/errors", body.errors),
    ] {
        if count.is_some_and(|count| !(0..=i64::from(i32::MAX)).contains(&count)) {
            faults.push(fault(name, format!("must be from 0 to {}", i32::MAX)));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}

/// Which viewers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ViewerQuery {
    /// Only those who watch now.
    #[serde(default)]
    watching: bool,
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List viewers of a livestream, the last to join first.
#[utoipa::path(get, path = "/livestreams/{id}/viewers", operation_id = "viewers", tag = "livestreams",
    params(("id" = LivestreamId, Path), ViewerQuery), responses(
    (status = 200, description = "A page of viewers.", body = ViewerListDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<LivestreamId>,
    Query(query): Query<ViewerQuery>,
) -> Answer<Json<ViewerListDto>> {
    caller.need(Scope::LiveRead)?;
    let limit = limit(query.limit)?;
    let after: Option<Place> = cursor(query.cursor.as_deref())?;
    let id = find(&app, &caller, id).await?.id;
    let mut rows =
        viewers::list(&app.db, Watched::Livestream(id), query.watching, after.as_ref(), limit + 1).await?;
    let place = |row: &viewers::ViewerSession| Place { joined_at: row.joined_at, session: row.id.clone() };
    let next_cursor = cut_page(&mut rows, limit, place);
    Ok(Json(ViewerListDto { viewers: rows.into_iter().map(ViewerDto::from).collect(), next_cursor }))
}
