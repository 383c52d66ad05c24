//! `/segments`: segments that somebody wants delivered, and how that fares.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use reelmill_shared::auth::Scope;
use reelmill_shared::db::segment_deliveries::{self, NewSegmentDelivery, Outcomes};
use reelmill_shared::db::streams::{self as streams_db};
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::ids::SegmentDeliveryId;
use reelmill_shared::media::abr::BitrateProfile;

use crate::auth::Caller;
use crate::dto::segments::{DeliverDto, DistributionHealthDto, SegmentDeliveryDto};
use crate::extract::{Body, Path};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::streams::{check_viewer, opened};
use crate::segment_deliveries::{Wanted, warmable};
use crate::state::App;

const PRIORITY: i16 = 50;
/// Who finds a queue full tries again after so many seconds.
const RETRY: u16 = 2;
/// What is looked at to tell how deliveries fare.
const WINDOW: Duration = Duration::from_secs(300);
/// With more failures than this something is wrong: a share of all, and a number that is no accident.
const RATE: f64 = 0.05;
const SOME: u32 = 3;

/// Deliver a segment.
///
/// To a viewer who joined the stream and has a WebSocket open, at whichever api; without one, to a CDN, which fetches it ahead. It is tried a few
/// times, by the viewer's bitrate, and fails when it was not delivered within 30 s (a setting).
#[utoipa::path(post, path = "/segments/deliver", tag = "streams", operation_id = "deliver_segment", request_body = DeliverDto, responses(
    (status = 202, description = "It is queued.", body = SegmentDeliveryDto, headers(("location" = String, description = "Where it can be looked at."))),
    (status = 404, description = "No stream of it is open, or nobody of that name has a place.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
    (status = 429, description = "As many wait as may; Retry-After says when to ask again.", body = ProblemDocument),
))]
pub(crate) async fn deliver(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<DeliverDto>,
) -> Answer<Response> {
    let id = match (body.recording_id, body.livestream_id) {
        (Some(id), None) => id.0,
        (None, Some(id)) => id.0,
        (Some(_), Some(_)) => {
            return Err(Problem::field("/livestream_id", "cannot stand beside recording_id"));
        }
        (None, None) => return Err(Problem::field("/recording_id", "is missing, and so is livestream_id")),
    };
    let priority = body.priority.unwrap_or(PRIORITY);
    if !(0..=100).contains(&priority) {
        return Err(Problem::field("/priority", "is from 0 to 100"));
    }
    let stream = opened(&app, &caller, id).await?;
    caller.need(match stream.watched {
        Watched::Recording(_) => Scope::Write,
        Watched::Livestream(_) => Scope::LiveWrite,
    })?;
    if Wanted::parse(stream.watched, &body.segment_id).is_none() {
        return Err(Problem::field("/segment_id", "is no file name of a segment, such as 720p-1-12.m4s"));
    }
    let bitrate = match &body.viewer_id {
        Some(viewer) => {
            check_viewer(viewer)?;
            let nobody = || Problem::new(Kind::NotFound, "nobody of that name has a place");
            streams_db::bitrate(&app.db, stream.id, viewer).await?.ok_or_else(nobody)?
        }
        None => {
            warmable(&app)?;
            BitrateProfile::Low
        }
    };
    let new = NewSegmentDelivery {
        viewer: body.viewer_id.as_deref(),
        segment: &body.segment_id,
        priority,
        max_attempts: bitrate.attempts(),
        timeout: bitrate.timeout(),
        keep: app.config.deliveries.keep,
    };
    let most = app.config.deliveries.queue;
    let queued = segment_deliveries::queue(&app.db, &stream, &new, most.into()).await?;
    let delivery = queued.ok_or_else(|| {
        Problem::new(Kind::TooMany, format!("{most} deliveries of this stream wait already"))
            .with_retry_after(RETRY)
    })?;
    app.sockets.nudge();
    let location = format!("/api/v1/segments/deliveries/{}", delivery.id);
    let dto = Json(SegmentDeliveryDto::from(delivery));
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], dto).into_response())
}

/// Look at a delivery.
///
/// It is forgotten an hour after it was over.
#[utoipa::path(get, path = "/segments/deliveries/{id}", tag = "streams", operation_id = "segment_delivery",
    params(("id" = SegmentDeliveryId, Path)), responses(
    (status = 200, description = "The delivery.", body = SegmentDeliveryDto),
    (status = 404, description = "There is no such delivery, or no more.", body = ProblemDocument),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SegmentDeliveryId>,
) -> Answer<Json<SegmentDeliveryDto>> {
    caller.need(Scope::Read)?;
    let found = segment_deliveries::find(&app.db, caller.project_id, id).await?;
    Ok(Json(found.ok_or_else(|| Problem::not_found("delivery", id))?.into()))
}

/// Hear how deliveries fare.
#[utoipa::path(get, path = "/distribution/health", tag = "streams", operation_id = "distribution_health", responses(
    (status = 200, description = "Of the project's deliveries that ended in the last five minutes.", body = DistributionHealthDto),
))]
pub(crate) async fn health(State(app): State<App>, caller: Caller) -> Answer<Json<DistributionHealthDto>> {
    caller.need(Scope::Read)?;
    let outcomes = segment_deliveries::outcomes(&app.db, caller.project_id, WINDOW).await?;
    let (failure_rate, degraded) = judged(outcomes);
    Ok(Json(DistributionHealthDto {
        status: if degraded { "degraded" } else { "healthy" },
        failure_rate,
        delivered: outcomes.delivered,
        failed: outcomes.failed,
        waiting: outcomes.waiting,
        window_seconds: WINDOW.as_secs(),
        timestamp: Utc::now(),
    }))
}

/// The share of failures, and whether it is too high.
fn judged(outcomes: Outcomes) -> (Option<f64>, bool) {
    let all = outcomes.delivered + outcomes.failed;
    let rate = (all > 0).then(|| f64::from(outcomes.failed) / f64::from(all));
    (rate, outcomes.failed >= SOME && rate.is_some_and(|rate| rate > RATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_accidents_are_no_trouble() {
        let judge = |delivered, failed| judged(Outcomes { delivered, failed, waiting: 0 });
        assert_eq!(judge(0, 0), (None, false));
        assert_eq!(judge(0, 2), (Some(1.0), false));
        assert_eq!(judge(0, 3), (Some(1.0), true));
        assert_eq!(judge(57, 3), (Some(0.05), false));
        assert!(judge(56, 3).1);
    }
}
