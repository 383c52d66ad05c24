//! Who watches recordings, and how: told by players and by holders of keys, read by the latter.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::viewers::{self, Place, ViewerSession, Watched};
use reelmill_shared::db::viewing;
use reelmill_shared::ids::RecordingId;
use reelmill_shared::media::profile::FieldError;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::audience::{Progress, Visitor, session_id};
use crate::auth::Caller;
use crate::dto::viewing::{
    AccessDto, AccessLogDto, PlaybackEvent, ProgressDto, RecordingAnalyticsDto, StepDto, ViewingDto,
    ViewingStepDto,
};
use crate::extract::{Body, Path, Query, cursor, cut_page, limit, parse, read_json};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::recordings::find;
use crate::routes::viewer::{named_by, opened_by};
use crate::state::App;
use crate::submit::fault;

const SESSION: usize = 128;
const USER: usize = 255;
const RENDITION: usize = 64;
const DEVICE: usize = 32;
const AGENT: usize = 512;
/// No recording is longer, in seconds, nor does anybody wait or buffer for longer.
const LONGEST: f64 = 31.0 * 86_400.0;
/// What a player counts as the end may lie a little behind it.
const BEHIND: f64 = 5.0;
/// The most that is believed of stalls, switches and segments, of milliseconds before the first picture, and of bytes.
const MOST: i64 = 10_000_000;
const MOST_STARTUP: i64 = 3_600_000;
const MOST_BYTES: i64 = 1 << 50;

/// Tell how far a viewer is.
///
/// For who has players of their own: send it when one begins, every ten seconds or so, when it pauses or jumps (before, with `playing`
/// false, and after) and when it ends. What was played is counted from one place to the next: never faster than four times, and not where
/// nothing was told for two minutes.
#[utoipa::path(post, path = "/recordings/{id}/progress", operation_id = "tell_progress", tag = "recordings",
    params(("id" = RecordingId, Path)), request_body = ProgressDto, responses(
    (status = 204, description = "It counts, and is written down within seconds."),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
    (status = 409, description = "The session is one of something else.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn progress(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
    Body(body): Body<ProgressDto>,
) -> Answer<StatusCode> {
    caller.need(Scope::Write)?;
    let owned = (caller.project_id, id);
    if app.caches.owned.get(&owned).await.is_none() {
        find(&app, &caller, id).await?;
        app.caches.owned.insert(owned, ()).await;
    }
    if !app.audience.progressed(id, None, read(body, false)?) {
        return Err(Problem::new(Kind::Conflict, "the session_id is that of a session of something else"));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The same from the player itself, under `/v/{token}`. Content types are not looked at: a page that is left can send plain text only.
pub(crate) async fn viewers_progress(
    State(app): State<App>,
    headers: HeaderMap,
    visitor: Visitor,
    Path(token): Path<String>,
    body: HttpBody,
) -> Answer<StatusCode> {
    let id = opened_by(&app, &token)?;
    let progress = read(parse(&read_json(&headers, body).await?)?, true)?;
    session_id::check(&app, Watched::Recording(id), &progress.session)?;
    app.audience.progressed(id, Some(&visitor), progress);
    Ok(StatusCode::NO_CONTENT)
}

/// A name for a viewer, under `/v/{token}/sessions`.
pub(crate) async fn viewers_session(State(app): State<App>, Path(token): Path<String>) -> Answer<Response> {
    let id = named_by(&app, &token).await?.id;
    Ok(given(&app, Watched::Recording(id)))
}

/// The answer that names a viewer.
pub(crate) fn given(app: &App, watched: Watched) -> Response {
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::CREATED, no_store, Json(session_id::give(app, watched))).into_response()
}

/// What was told, or all that is wrong with it.
fn read(body: ProgressDto, by_viewer: bool) -> Answer<Progress> {
    let faults = faults(&body, by_viewer);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let count = |count: Option<i64>| count.and_then(|count| i32::try_from(count).ok());
    let left = body.event == PlaybackEvent::End;
    Ok(Progress {
        session: body.session_id,
        user_id: body.user_id,
        position: body.position.min(body.duration),
        duration: body.duration,
        playing: body.playing.unwrap_or(true) && !left,
        left,
        rendition: body.rendition,
        buffered_seconds: body.buffered,
        stalls: count(body.stalls),
        stalled_seconds: body.stalled_seconds,
        startup_ms: count(body.startup_ms),
        switches: count(body.switches),
        device_type: body.device_type,
        country: body.country,
        bytes: body.bytes,
        segments: body.segments,
        ip_address: body.ip_address,
        user_agent: body.user_agent,
    })
}

fn faults(body: &ProgressDto, by_viewer: bool) -> Vec<FieldError> {
    let mut faults: Vec<FieldError> = vec![];
    let session = body.session_id.as_bytes();
    if !(1..=SESSION).contains(&session.len()) || !session.iter().all(u8::is_ascii_graphic) {
        let detail = format!("must have 1 to {SESSION} visible ASCII characters, none of them a space");
        faults.push(fault("/session_id", detail));
    }
    for (name, text, limit) in [
        ("/user_id", &body.user_id, USER),
        ("/rendition", &body.rendition, RENDITION),
        ("/device_type", &body.device_type, DEVICE),
        ("/user_agent", &body.user_agent, AGENT),
    ] {
        if text.as_ref().is_some_and(|text| text.chars().count() > limit || text.contains('\0')) {
            faults.push(fault(name, format!("may have at most {limit} characters, and none that is NUL")));
        }
    }
    if body.country.as_ref().is_some_and(|c| c.len() != 2 || !c.bytes().all(|b| b.is_ascii_uppercase())) {
        faults.push(fault("/country", "must be two capital letters (ISO 3166-1)"));
    }
    if body.ip_address.as_ref().is_some_and(|text| text.parse::<IpAddr>().is_err()) {
        faults.push(fault("/ip_address", "is not an IPv4 or IPv6 address"));
    }
    if by_viewer {
        let of_request = [("/ip_address", &body.ip_address), ("/user_agent", &body.user_agent)];
        let told = of_request.into_iter().filter(|(_, text)| text.is_some());
        faults
            .extend(told.map(|(name, _)| fault(name, "is that of the request; only a key can tell another")));
    }
    let mut seconds = |name: &str, seconds: Option<f64>, range: RangeInclusive<f64>| {
        if seconds.is_some_and(|seconds| !range.contains(&seconds)) {
            faults.push(fault(name, format!("must be from {} to {} seconds", range.start(), range.end())));
        }
    };
    seconds("/duration", Some(body.duration), f64::MIN_POSITIVE..=LONGEST);
    let end = if body.duration.is_finite() { body.duration.clamp(0.0, LONGEST) } else { LONGEST };
    seconds("/position", Some(body.position), 0.0..=end + BEHIND);
    seconds("/buffered", body.buffered, 0.0..=LONGEST);
    seconds("/stalled_seconds", body.stalled_seconds, 0.0..=LONGEST);
    for (name, count, most) in [
        ("/stalls", body.stalls, MOST),
        ("/switches", body.switches, MOST),
        ("/segments", body.segments, MOST),
        ("/startup_ms", body.startup_ms, MOST_STARTUP),
        ("/bytes", body.bytes, MOST_BYTES),
    ] {
        if count.is_some_and(|count| !(0..=most).contains(&count)) {
            faults.push(fault(name, format!("must be from 0 to {most}")));
        }
    }
    faults
}

/// Which sessions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AccessQuery {
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List who watched a recording, the last to join first.
///
/// Kept for 30 days after a session was heard of last.
#[utoipa::path(get, path = "/recordings/{id}/access-log", operation_id = "access_log", tag = "recordings",
    params(("id" = RecordingId, Path), AccessQuery), responses(
    (status = 200, description = "A page of sessions.", body = AccessLogDto),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
))]
pub(crate) async fn access_log(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
    Query(query): Query<AccessQuery>,
) -> Answer<Json<AccessLogDto>> {
    caller.need(Scope::Read)?;
    let limit = limit(query.limit)?;
    let after: Option<Place> = cursor(query.cursor.as_deref())?;
    let watched = Watched::Recording(find(&app, &caller, id).await?.id);
    let mut rows = viewers::list(&app.db, watched, false, after.as_ref(), limit + 1).await?;
    let place = |row: &ViewerSession| Place { joined_at: row.joined_at, session: row.id.clone() };
    let next_cursor = cut_page(&mut rows, limit, place);
    Ok(Json(AccessLogDto { sessions: rows.into_iter().map(AccessDto::from).collect(), next_cursor }))
}

/// Steps an answer has at most.
const MOST_STEPS: i64 = 2000;
/// A span up to this is told by the hour unless it is said otherwise.
const BY_HOUR: TimeDelta = TimeDelta::days(3);

/// Which span.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AnalyticsQuery {
    /// When the recording was made where it is left out.
    from: Option<DateTime<Utc>>,
    /// The first moment that is no longer of it; now where it is left out.
    to: Option<DateTime<Utc>>,
    /// `hour` up to three days where it is left out, `day` beyond. An answer has at most 2000 steps.
    step: Option<StepDto>,
}

impl AnalyticsQuery {
    fn span(
        &self,
        made: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Answer<(DateTime<Utc>, DateTime<Utc>, StepDto)> {
        let bad = |detail: &str| Problem::new(Kind::Malformed, detail);
        let to = self.to.unwrap_or(now);
        let step = |from| self.step.unwrap_or(if to - from > BY_HOUR { StepDto::Day } else { StepDto::Hour });
        let most = |step| match step {
            StepDto::Hour => TimeDelta::hours(MOST_STEPS),
            StepDto::Day => TimeDelta::days(MOST_STEPS),
        };
        // Only a span that somebody asked for can be too long.
        let from = match self.from {
            Some(from) => from,
            None => made.min(to - TimeDelta::seconds(1)).max(to - most(step(made))),
        };
        let step = step(from);
        if to <= from {
            return Err(bad("to must lie after from"));
        }
        if to - from > most(step) {
            return Err(bad("the span has more than 2000 steps"));
        }
        Ok((from, to, step))
    }
}

/// Read how a recording was watched.
///
/// Of all sessions that were joined within the span, and of those of each hour or day (UTC) in it. Of what is older than four weeks there
/// are sums of whole days only, and of hours for half a year.
#[utoipa::path(get, path = "/recordings/{id}/analytics", operation_id = "recording_analytics", tag = "recordings",
    params(("id" = RecordingId, Path), AnalyticsQuery), responses(
    (status = 200, description = "The figures.", body = RecordingAnalyticsDto),
    (status = 400, description = "The span or the step is not right.", body = ProblemDocument),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
))]
pub(crate) async fn analytics(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
    Query(query): Query<AnalyticsQuery>,
) -> Answer<Json<RecordingAnalyticsDto>> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    let (from, to, step) = query.span(recording.created_at, Utc::now())?;
    let totals = viewing::totals(&app.db, id, from, to).await?.into();
    let series = viewing::series(&app.db, id, from, to, step.into()).await?;
    let series = series.into_iter().map(ViewingStepDto::from).collect();
    Ok(Json(RecordingAnalyticsDto { totals, series, from, to, step }))
}

/// How a recording was watched since it was made; `None` where it was not.
pub(crate) async fn summary(app: &App, recording: &Recording) -> Answer<Option<ViewingDto>> {
    // A session may be a little older by the clock of whoever told of it.
    let from = recording.created_at - TimeDelta::days(1);
    let totals = viewing::totals(&app.db, recording.id, from, Utc::now() + TimeDelta::days(1)).await?;
    Ok((totals.sum.sessions > 0).then(|| totals.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl FnOnce(&mut ProgressDto)) -> Vec<String> {
        let mut body: ProgressDto =
            parse(br#"{"session_id": "a", "event": "playback_progress", "position": 3, "duration": 10}"#)
                .unwrap();
        change(&mut body);
        faults(&body, true).into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(told(|_| ()), Vec::<String>::new());
        assert_eq!(told(|body| body.position = 12.0), Vec::<String>::new(), "a little behind the end");
        for position in [f64::NAN, -1.0, f64::INFINITY, 16.0] {
            assert_eq!(told(|body| body.position = position), ["/position"], "{position}");
        }
        for duration in [f64::NAN, f64::INFINITY, 1e9] {
            assert_eq!(told(|body| body.duration = duration), ["/duration"], "{duration}");
        }
        assert_eq!(told(|body| body.duration = -5.0), ["/duration"]);
        assert_eq!(told(|body| body.duration = 0.0), ["/duration"]);
        assert_eq!(told(|body| body.stalls = Some(-1)), ["/stalls"]);
        assert_eq!(told(|body| body.stalled_seconds = Some(f64::NAN)), ["/stalled_seconds"]);
        assert_eq!(told(|body| body.bytes = Some(i64::MAX)), ["/bytes"]);
        assert_eq!(told(|body| body.country = Some("ch".into())), ["/country"]);
        assert_eq!(told(|body| body.ip_address = Some("10.0.0.1".into())), ["/ip_address"]);
        assert_eq!(told(|body| body.session_id = "a b".into()), ["/session_id"]);
    }

    #[test]
    fn a_player_goes_on_unless_it_says_otherwise() {
        let read = |event: &str, more: &str| {
            let body =
                format!(r#"{{"session_id": "a", "event": "{event}", "position": 11, "duration": 10{more}}}"#);
            let told = super::read(parse(body.as_bytes()).unwrap(), true).unwrap();
            (told.playing, told.left, told.position)
        };
        assert_eq!(read("playback_start", ""), (true, false, 10.0));
        assert_eq!(read("playback_progress", r#", "playing": false"#), (false, false, 10.0));
        assert_eq!(read("playback_end", r#", "playing": true"#), (false, true, 10.0));
    }
}
