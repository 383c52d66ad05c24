//! `/recordings/{id}/thumbnail`: pictures, made by a task when somebody asks for the first time.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use reelmill_shared::auth::Scope;
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::{jobs, pictures};
use reelmill_shared::ids::{JobId, RecordingId};
use reelmill_shared::job::spec::{JobKind, PictureRequest, Poster};
use reelmill_shared::job::state::JobStatus;
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dto::job::InputDto;
use crate::extract::{Path, Query};
use crate::media::{Caching, MediaFile, send};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::recordings::find;
use crate::state::App;
use crate::submit::pictures::picture_request;
use crate::submit::{Wish, submit};
use crate::trace::traceparent;

/// How long a request waits for a picture that is being made.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);

/// Which picture.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PictureQuery {
    /// Seconds from the start; the moment of the recording's poster where it is left out.
    pub(crate) t: Option<f64>,
    /// Pixels of the box the picture fits into; 320x180 where both are left out, and without a time the poster's own.
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
}

impl PictureQuery {
    pub(crate) async fn request(&self, app: &App, id: RecordingId) -> Answer<PictureRequest> {
        if self.t.is_none() && self.width.is_none() && self.height.is_none() {
            return Ok(pictures::poster_request(&app.db, id, USUAL).await?);
        }
        picture_request(self.t, self.width, self.height).map_err(|(field, detail)| {
            let field = if field == "time" { "t" } else { field };
            Problem::new(Kind::Malformed, format!("{field} {detail}"))
        })
    }
}

/// Size of a poster where nobody chose one.
pub(crate) const USUAL: (u32, u32) = (Poster::DEFAULT.width, Poster::DEFAULT.height);

/// Whether there is a picture of the recording to be shown before it plays.
pub(crate) async fn has_poster(app: &App, id: RecordingId) -> Answer<bool> {
    let request = pictures::poster_request(&app.db, id, USUAL).await?;
    Ok(pictures::find(&app.db, id, request).await?.is_some())
}

/// Get a picture of a recording as JPEG.
///
/// Any other picture than the poster is made when it is asked for the first time; that takes a moment.
#[utoipa::path(get, path = "/recordings/{id}/thumbnail", operation_id = "thumbnail", tag = "recordings", params(
    ("id" = RecordingId, Path), PictureQuery,
), responses(
    (status = 200, description = "A JPEG.", content_type = "image/jpeg", body = String),
    (status = 404, description = "There is no such recording, or no picture yet.", body = ProblemDocument),
))]
pub(crate) async fn of_recording(
    State(app): State<App>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    Path(id): Path<RecordingId>,
    Query(query): Query<PictureQuery>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    let request = query.request(&app, id).await?;
    if let Some(response) = stored(&app, id, request, true, &method, &headers).await? {
        return Ok(response);
    }
    let job = make(&app, &caller, &recording, request, &headers).await?;
    wait_for(&app, job).await?;
    stored(&app, id, request, true, &method, &headers)
        .await?
        .ok_or_else(|| not_yet("the picture was not made"))
}

/// Sends a picture that is there.
pub(crate) async fn stored(
    app: &App,
    id: RecordingId,
    request: PictureRequest,
    private: bool,
    method: &Method,
    headers: &HeaderMap,
) -> Answer<Option<Response>> {
    let Some(picture) = pictures::find(&app.db, id, request).await? else {
        return Ok(None);
    };
    let file = MediaFile { key: picture.key, bytes: picture.bytes };
    let caching = if private { Caching::PrivateDay } else { Caching::Day };
    send(&app.storage, &file, "image/jpeg", caching, method, headers).await.map(Some)
}

async fn make(
    app: &App,
    caller: &Caller,
    recording: &Recording,
    request: PictureRequest,
    headers: &HeaderMap,
) -> Answer<JobId> {
    // Somebody may be waiting for the same one already.
    if let Some(job) = jobs::unfinished_thumbnail(&app.db, recording.id, request).await? {
        return Ok(job);
    }
    let input = InputDto { recording_id: Some(recording.id), ..InputDto::default() };
    // Somebody looks at an empty frame: before other work of the project.
    let wish = Wish {
        picture: Some(request),
        priority: Some(90),
        ..Wish::new(JobKind::Thumbnail, input, traceparent(headers))
    };
    match submit(app, caller, wish).await {
        Ok(job) => Ok(job.id),
        Err(problem) if problem.kind() == Kind::Validation => {
            Err(not_yet("the recording's source is not stored yet"))
        }
        Err(problem) => Err(problem),
    }
}

async fn wait_for(app: &App, id: JobId) -> Answer<()> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        match jobs::find(&app.db, id).await? {
            Some(job) if job.status == JobStatus::Succeeded => return Ok(()),
            Some(job) if job.status.is_final() => {
                let reason = job.error.map_or_else(|| "it was cancelled".to_owned(), |error| error.message);
                return Err(not_yet(&format!("no picture could be made: {reason}")));
            }
            _ => sleep(LOOK).await,
        }
    }
    Err(not_yet("the picture is being made").with_header(header::RETRY_AFTER, HeaderValue::from_static("5")))
}

fn not_yet(detail: &str) -> Problem {
    Problem::new(Kind::NotReady, detail)
}
