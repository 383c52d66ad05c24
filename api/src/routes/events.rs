//! Server-sent events: the event log, and for one job its progress as well.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use futures::Stream;
use reelmill_shared::auth::Scope as Right;
use reelmill_shared::db::events::{self, Event, EventType, Position};
use reelmill_shared::db::jobs;
use reelmill_shared::db::progress::{self, Changed};
use reelmill_shared::ids::{JobId, LivestreamId, ProjectId, RecordingId};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;
use crate::submit::fault;

/// An end that cannot be read so long after it has reached its age; before, a transaction that is under way may hide it.
const FORGOTTEN: TimeDelta = TimeDelta::minutes(10);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events read from the log at once when a listener catches up.
const BATCH: i64 = 500;

/// Follow one job.
///
/// Frames of the log carry an `id`; give it back as `Last-Event-ID` to go on where you were. `progress` frames carry the latest
/// figures and no id. The stream ends when the job does.
#[utoipa::path(get, path = "/jobs/{id}/events", operation_id = "events", tag = "jobs", params(
    ("id" = JobId, Path),
    ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event."),
), responses(
    (status = 200, description = "Server-sent events.", content_type = "text/event-stream", body = String),
    (status = 204, description = "The job is over and Last-Event-ID was its last event, or its events have reached their age: there is nothing to wait for."),
    (status = 400, description = "Last-Event-ID is not one this stream gave out.", body = ProblemDocument),
    (status = 404, description = "There is no such job.", body = ProblemDocument),
))]
pub(crate) async fn of_job(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<JobId>,
) -> Answer<Response> {
    caller.need(Right::Read)?;
    let job =
        jobs::get(&app.db, caller.project_id, id).await?.ok_or_else(|| Problem::not_found("job", id))?;
    let from = last_event_id(&headers)?.unwrap_or_default();
    let filter = Filter { scope: Scope::Job(id), types: vec![], recording: None, livestream: None };
    if job.status.is_final() {
        let story = events::of_job_after(&app.db, id, Position::default()).await?;
        let end = story.iter().rfind(|event| filter.ends_with(event));
        // Whoever has heard the end would come back for ever, and so would he who can hear it no more because the log has reached its age:
        // 204 tells a browser to stop asking.
        let is_long_over = job.finished_at.is_some_and(|at| Utc::now() - at > FORGOTTEN);
        if end.map_or(is_long_over, |end| from > Position::default() && end.position <= from) {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    Ok(stream(app, filter, from))
}

/// What somebody wants to hear of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// Only events of these types, separated by commas; all where it is left out.
    #[param(example = "job.succeeded,job.failed")]
    types: Option<String>,
    /// Only events of this recording.
    recording_id: Option<RecordingId>,
    /// Only events of this livestream.
    livestream_id: Option<LivestreamId>,
}

impl EventQuery {
    fn types(&self) -> Answer<Vec<EventType>> {
        let words = self.types.iter().flat_map(|text| text.split(','));
        words
            .map(|word| {
                word.trim().parse().map_err(|_| {
                    let known: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
                    let detail = format!("{word:?} is no event type; there are {}", known.join(", "));
                    Problem::fields(vec![fault("/types", detail)])
                })
            })
            .collect()
    }
}

/// Follow everything in the project.
///
/// Without `Last-Event-ID` the stream starts now.
#[utoipa::path(get, path = "/events", operation_id = "follow", tag = "events", params(
    EventQuery,
    ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event."),
), responses(
    (status = 200, description = "Server-sent events.", content_type = "text/event-stream", body = String),
    (status = 400, description = "Last-Event-ID is not one this stream gave out.", body = ProblemDocument),
    (status = 422, description = "There is no such type.", body = ProblemDocument),
))]
pub(crate) async fn all(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<EventQuery>,
) -> Answer<Response> {
    caller.need(Right::Read)?;
    let types = query.types()?;
    let from = match last_event_id(&headers)? {
        Some(position) => position,
        None => events::end(&app.db).await?,
    };
    let scope = Scope::Project(caller.project_id);
    let (recording, livestream) = (query.recording_id, query.livestream_id);
    Ok(stream(app, Filter { scope, types, recording, livestream }, from))
}

fn last_event_id(headers: &HeaderMap) -> Answer<Option<Position>> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed
        .map(Some)
        .ok_or_else(|| Problem::new(Kind::Malformed, "Last-Event-ID is not one this stream gave out"))
}

#[derive(Clone, Copy)]
enum Scope {
    Job(JobId),
    Project(ProjectId),
}

struct Filter {
    scope: Scope,
    /// Empty for all.
    types: Vec<EventType>,
    recording: Option<RecordingId>,
    livestream: Option<LivestreamId>,
}

impl Filter {
    fn takes(&self, event: &Event) -> bool {
        let in_scope = match self.scope {
            Scope::Job(id) => event.job_id == Some(id),
            Scope::Project(id) => event.project_id == id,
        };
        in_scope
            && (self.types.is_empty() || self.types.iter().any(|kind| kind.as_str() == event.kind))
            && (self.recording.is_none() || event.recording_id == self.recording)
            && (self.livestream.is_none() || event.livestream_id == self.livestream)
    }

    /// True for the event after which nothing follows.
    fn ends_with(&self, event: &Event) -> bool {
        use EventType::{JobCancelled, JobFailed, JobSucceeded};
        let last = [JobSucceeded, JobFailed, JobCancelled].map(|kind| kind.as_str());
        matches!(self.scope, Scope::Job(_)) && last.contains(&event.kind.as_str())
    }
}

fn stream(app: App, filter: Filter, from: Position) -> Response {
    let (send, receive) = mpsc::channel(64);
    tokio::spawn(async move {
        // Ends when the log's reader fails, the job is over or the listener is gone.
        if let Err(error) = feed(&app, &filter, from, &send).await {
            tracing::warn!(?error, "an event stream ended early");
        }
    });
    let frames = ReceiverStream::new(receive);
    let mut response = sse(frames).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Tells nginx not to hold frames back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn sse(
    frames: impl Stream<Item = Result<Frame, Infallible>> + Send + 'static,
) -> Sse<impl Stream<Item = Result<Frame, Infallible>>> {
    Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

type Out = mpsc::Sender<Result<Frame, Infallible>>;

async fn feed(app: &App, filter: &Filter, from: Position, out: &Out) -> Answer<()> {
    // Listening starts before the log is read: what comes between is seen twice, never not at all.
    let mut live = app.hub.subscribe();
    let mut progress = match filter.scope {
        Scope::Job(job) => Some(app.hub.watch(job)),
        Scope::Project(_) => None,
    };
    let mut position = from;
    if over_already(app, filter, from).await? || catch_up(app, filter, &mut position, out).await? {
        return Ok(());
    }
    if let Scope::Job(job) = filter.scope {
        for change in progress::changed_since(&app.db, &[job], DateTime::UNIX_EPOCH).await? {
            if !say_progress(out, &change).await {
                return Ok(());
            }
        }
    }
    loop {
        let changed = async {
            match &mut progress {
                Some(changes) => changes.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = live.recv() => match event {
                Ok(event) => {
                    if event.position > position && filter.takes(&event) {
                        position = event.position;
                        if !say(out, &event).await || filter.ends_with(&event) {
                            return Ok(());
                        }
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    live = live.resubscribe();
                    if catch_up(app, filter, &mut position, out).await? {
                        return Ok(());
                    }
                }
                Err(RecvError::Closed) => return Ok(()),
            },
            changed = changed => {
                // Older changes mean nothing any more.
                if let Ok(change) = changed && !say_progress(out, &change).await {
                    return Ok(());
                }
            }
            () = out.closed() => return Ok(()),
        }
    }
}

/// True where a listener that comes back has seen the end of its job.
async fn over_already(app: &App, filter: &Filter, from: Position) -> Answer<bool> {
    let Scope::Job(job) = filter.scope else { return Ok(false) };
    let story = events::of_job_after(&app.db, job, Position::default()).await?;
    Ok(story.iter().any(|event| filter.ends_with(event) && event.position <= from))
}

/// Sends what the log has after `position`. True where nothing more is to come.
async fn catch_up(app: &App, filter: &Filter, position: &mut Position, out: &Out) -> Answer<bool> {
    loop {
        let (batch, more) = match filter.scope {
            Scope::Job(job) => (events::of_job_after(&app.db, job, *position).await?, false),
            Scope::Project(project) => {
                let batch = events::of_project_after(&app.db, project, *position, BATCH).await?;
                let is_full = batch.len() as i64 == BATCH;
                (batch, is_full)
            }
        };
        for event in batch {
            *position = event.position;
            if !filter.takes(&event) {
                continue;
            }
            if !say(out, &event).await || filter.ends_with(&event) {
                return Ok(true);
            }
        }
        if !more {
            return Ok(false);
        }
    }
}

/// Sends one event. False where nobody listens any more.
async fn say(out: &Out, event: &Event) -> bool {
    let body = json!({
        "id": event.event_id,
        "type": event.kind,
        "timestamp": event.created_at,
        "data": event.data,
    });
    let frame =
        Frame::default().id(event.position.to_string()).event(event.kind.as_str()).data(body.to_string());
    out.send(Ok(frame)).await.is_ok()
}

/// Sends a change of progress. False where nobody listens any more.
async fn say_progress(out: &Out, change: &Changed) -> bool {
    let body = json!({ "task_id": change.task_id, "progress": change.progress });
    out.send(Ok(Frame::default().event("progress").data(body.to_string()))).await.is_ok()
}
