//! What was: recordings, figures and events of a livestream.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::livestream_events::{self, EntryFilter};
use reelmill_shared::db::livestream_figures::{self, Steps};
use reelmill_shared::db::{broadcasts, projects};
use reelmill_shared::ids::{BroadcastId, LivestreamId};
use reelmill_shared::job::retention::{Age, Kept};
use reelmill_shared::live::event::{LiveEventType, Severity};
use reelmill_shared::live::state::BroadcastStatus;
use serde::Deserialize;
use utoipa::IntoParams;

use super::find;
use crate::auth::Caller;
use crate::dto::live_history::{
    AnalyticsDto, BroadcastDto, BroadcastListDto, FiguresDto, LiveEventDto, LiveEventListDto,
};
use crate::edge::recorded_thumbnail;
use crate::extract::{Path, Query, cursor, cut_page, limit};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;

/// Which figures are told unless it is said otherwise.
const USUAL_SPAN: TimeDelta = TimeDelta::hours(1);
const LONGEST_SPAN: TimeDelta = TimeDelta::days(31);
/// Steps an answer has at most, and about as many as it has unless it is said otherwise.
const MOST_STEPS: f64 = 2000.0;
const USUAL_STEPS: f64 = 300.0;
/// Seconds between figures: shorter steps would be empty.
const SHORTEST_STEP: f64 = livestream_figures::SPAN.as_secs() as f64;

/// Filters of a list of recordings.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BroadcastQuery {
    status: Option<BroadcastStatus>,
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List recordings of a livestream, newest first.
///
/// Every time it was on air while `record` was set, the present one among them.
#[utoipa::path(get, path = "/livestreams/{id}/recordings", tag = "livestreams",
    params(("id" = LivestreamId, Path), BroadcastQuery), responses(
    (status = 200, description = "A page of recordings.", body = BroadcastListDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn recordings(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<LivestreamId>,
    Query(query): Query<BroadcastQuery>,
) -> Answer<Json<BroadcastListDto>> {
    caller.need(Scope::LiveRead)?;
    let limit = limit(query.limit)?;
    let after = cursor(query.cursor.as_deref())?;
    let id = find(&app, &caller, id).await?.id;
    let mut rows = broadcasts::list_recorded(&app.db, id, query.status, after, limit + 1).await?;
    let next_cursor = cut_page(&mut rows, limit, |broadcast| broadcast.id);
    let age = kept(&app, &caller).await?;
    let recordings = rows.into_iter().map(|broadcast| BroadcastDto::new(broadcast, age)).collect();
    Ok(Json(BroadcastListDto { recordings, next_cursor }))
}

/// Read a recording of a livestream.
#[utoipa::path(get, path = "/livestreams/{id}/recordings/{rid}", tag = "livestreams",
    params(("id" = LivestreamId, Path), ("rid" = BroadcastId, Path)), responses(
    (status = 200, description = "The recording.", body = BroadcastDto),
    (status = 404, description = "There is no such livestream, or it has no such recording.", body = ProblemDocument),
))]
pub(crate) async fn recording(
    State(app): State<App>,
    caller: Caller,
    Path((id, rid)): Path<(LivestreamId, BroadcastId)>,
) -> Answer<Json<BroadcastDto>> {
    caller.need(Scope::LiveRead)?;
    let id = find(&app, &caller, id).await?.id;
    let found = broadcasts::recorded(&app.db, id, rid).await?;
    let found = found.ok_or_else(|| Problem::not_found("recording", rid))?;
    Ok(Json(BroadcastDto::new(found, kept(&app, &caller).await?)))
}

/// Get the picture of a recording.
///
/// Taken now and then while it was on air. That of the video it was converted to is a picture of a recording.
#[utoipa::path(get, path = "/livestreams/{id}/recordings/{rid}/thumbnail", operation_id = "broadcast_thumbnail", tag = "livestreams",
    params(("id" = LivestreamId, Path), ("rid" = BroadcastId, Path)), responses(
    (status = 200, description = "A JPEG within 320x180.", content_type = "image/jpeg"),
    (status = 404, description = "There is no such recording, or no picture of it.", body = ProblemDocument),
))]
pub(crate) async fn thumbnail(
    State(app): State<App>,
    caller: Caller,
    Path((id, rid)): Path<(LivestreamId, BroadcastId)>,
) -> Answer<Response> {
    caller.need(Scope::LiveRead)?;
    let id = find(&app, &caller, id).await?.id;
    let found = broadcasts::recorded(&app.db, id, rid).await?;
    recorded_thumbnail(&app, &found.ok_or_else(|| Problem::not_found("recording", rid))?, true).await
}

/// How long recordings of livestreams are kept for the caller's project, where they do not say it themselves.
async fn kept(app: &App, caller: &Caller) -> Answer<Option<Age>> {
    let own =
        projects::get(&app.db, caller.project_id).await?.and_then(|it| it.retention.of(Kept::Broadcasts));
    Ok(own.or_else(|| app.config.retention.ages.of(Kept::Broadcasts)))
}

/// Which figures.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AnalyticsQuery {
    /// An hour before `to` where it is left out.
    from: Option<DateTime<Utc>>,
    /// The first moment that is no longer of it; now where it is left out. At most 31 days after `from`.
    to: Option<DateTime<Utc>>,
    /// Seconds, at least 10; about 300 steps where it is left out. An answer has at most 2000.
    step: Option<f64>,
}

impl AnalyticsQuery {
    fn steps(&self, now: DateTime<Utc>) -> Answer<Steps> {
        let bad = |detail: String| Problem::new(Kind::Malformed, detail);
        let to = self.to.unwrap_or(now);
        let from = match self.from {
            Some(from) => from,
            None => to.checked_sub_signed(USUAL_SPAN).ok_or_else(|| bad("to is too early".to_owned()))?,
        };
        let span = to.signed_duration_since(from);
        if span <= TimeDelta::zero() || span > LONGEST_SPAN {
            return Err(bad("to must lie after from, at most 31 days".to_owned()));
        }
        let seconds = span.as_seconds_f64();
        let step = self.step.unwrap_or_else(|| (seconds / USUAL_STEPS).ceil().max(SHORTEST_STEP));
        let shortest = (seconds / MOST_STEPS).ceil().max(SHORTEST_STEP);
        if !(shortest..=LONGEST_SPAN.as_seconds_f64()).contains(&step) {
            return Err(bad(format!("step must be at least {shortest} seconds for this span")));
        }
        Ok(Steps { from, to, step: Duration::from_secs_f64(step) })
    }
}

/// Read figures of a livestream.
///
/// What was measured in each step, counted from `from`, by the worker that carries the livestream and all apis together. It is kept for
/// 30 days, in steps of ten seconds.
#[utoipa::path(get, path = "/livestreams/{id}/analytics", tag = "livestreams",
    params(("id" = LivestreamId, Path), AnalyticsQuery), responses(
    (status = 200, description = "Figures, oldest first.", body = AnalyticsDto),
    (status = 400, description = "The span or the step is not right.", body = ProblemDocument),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn analytics(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<LivestreamId>,
    Query(query): Query<AnalyticsQuery>,
) -> Answer<Json<AnalyticsDto>> {
    caller.need(Scope::LiveRead)?;
    let steps = query.steps(Utc::now())?;
    let id = find(&app, &caller, id).await?.id;
    let figures = livestream_figures::read_steps(&app.db, id, steps).await?;
    Ok(Json(AnalyticsDto {
        analytics: figures.into_iter().map(FiguresDto::from).collect(),
        from: steps.from,
        to: steps.to,
        step: steps.step.as_secs_f64(),
    }))
}

/// Filters of a list of events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LiveEventQuery {
    event_type: Option<LiveEventType>,
    severity: Option<Severity>,
    from: Option<DateTime<Utc>>,
    /// The first moment that is no longer of it.
    to: Option<DateTime<Utc>>,
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List what happened to a livestream, newest first.
#[utoipa::path(get, path = "/livestreams/{id}/events", operation_id = "log", tag = "livestreams",
    params(("id" = LivestreamId, Path), LiveEventQuery), responses(
    (status = 200, description = "A page of events.", body = LiveEventListDto),
    (status = 404, description = "There is no such livestream.", body = ProblemDocument),
))]
pub(crate) async fn events(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<LivestreamId>,
    Query(query): Query<LiveEventQuery>,
) -> Answer<Json<LiveEventListDto>> {
    caller.need(Scope::LiveRead)?;
    let limit = limit(query.limit)?;
    let after = cursor(query.cursor.as_deref())?;
    let id = find(&app, &caller, id).await?.id;
    let filter =
        EntryFilter { kind: query.event_type, severity: query.severity, from: query.from, to: query.to };
    let mut rows = livestream_events::list(&app.db, id, filter, after, limit + 1).await?;
    let next_cursor = cut_page(&mut rows, limit, |entry| entry.id);
    Ok(Json(LiveEventListDto { events: rows.into_iter().map(LiveEventDto::from).collect(), next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_as_many_as_a_chart_needs() {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let ask = |from: Option<&str>, step| {
            let from = from.map(|text| text.parse().unwrap());
            AnalyticsQuery { from, to: None, step }.steps(now)
        };
        let hour = ask(None, None).unwrap();
        assert_eq!((hour.to - hour.from, hour.step), (TimeDelta::hours(1), Duration::from_secs(12)));
        let month = ask(Some("2026-02-01T00:00:00Z"), None).unwrap();
        assert_eq!(month.step, Duration::from_secs(8208));
        assert_eq!(ask(None, Some(60.0)).unwrap().step, Duration::from_secs(60));
        for (from, step) in [
            (Some("2026-03-01T12:00:00Z"), None),
            (Some("2026-01-01T00:00:00Z"), None),
            (Some("2026-02-01T00:00:00Z"), Some(60.0)),
            (None, Some(1.0)),
            (None, Some(f64::NAN)),
            (None, Some(f64::INFINITY)),
        ] {
            assert!(ask(from, step).is_err(), "{from:?} {step:?}");
        }
    }
}
