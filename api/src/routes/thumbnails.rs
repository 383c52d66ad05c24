//! `/recordings/{id}/thumbnail`: pictures, made by a task when somebody asks for the first time.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use reelmill_shared::auth::{Scope, allows};
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
    /// Seconds from the start, of the last frame where that is earlier; the moment of the recording's poster where it is left out.
    pub(crate) t: Option<f64>,
    /// Pixels of the box the picture fits into, 16 to 3840; 320x180 where both sides are left out, and without a time the poster's own.
    /// A picture that is not there yet is made for the next of 45, 90, 120, 160, 180, 200, 240, 270, 320, 360, 400, 480, 540, 640, 720,
    /// 800, 960, 1080, 1280, 1440, 1600, 1920, 2160, 2560 and 3840.
    pub(crate) width: Option<u32>,
    /// As `width`. Of one side alone the other follows in 16:9.
    pub(crate) height: Option<u32>,
}

/// Sides that pictures are made with.
const SIDES: [u32; 25] = [
    45, 90, 120, 160, 180, 200, 240, 270, 320, 360, 400, 480, 540, 640, 720, 800, 960, 1080, 1280, 1440,
    1600, 1920, 2160, 2560, 3840,
];

/// Which pictures answer a query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// To the letter, as a job may have made it.
    asked: PictureRequest,
    /// What is made where neither is there: there is an end to how many of these a recording has.
    made: PictureRequest,
}

impl PictureQuery {
    /// Checks the query.
    pub(crate) async fn wanted(&self, app: &App, recording: &Recording) -> Answer<Wanted> {
        if self.t.is_none() && self.width.is_none() && self.height.is_none() {
            let poster = pictures::poster_request(&app.db, recording.id, USUAL).await?;
            return Ok(Wanted { asked: poster, made: poster });
        }
        self.pictures(recording.duration_seconds)
    }

    fn pictures(&self, duration_seconds: Option<f64>) -> Answer<Wanted> {
        let wrong = |(field, detail): (&str, &str)| {
            let field = if field == "time" { "t" } else { field };
            Problem::new(Kind::Malformed, format!("{field} {detail}"))
        };
        let side = |side: Option<u32>| side.and_then(|side| SIDES.into_iter().find(|made| *made >= side));
        let asked = picture_request(self.t, self.width, self.height).map_err(wrong)?;
        let time = self.t.map(|time| time.min(duration_seconds.unwrap_or(f64::INFINITY)));
        let made = picture_request(time, side(self.width), side(self.height)).map_err(wrong)?;
        Ok(Wanted { asked, made })
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
/// Any other picture than the poster is made when it is asked for the first time, by a key with the scope `write`; that takes a moment.
/// A key that may only read gets those that are there.
#[utoipa::path(get, path = "/recordings/{id}/thumbnail", operation_id = "thumbnail", tag = "recordings", params(
    ("id" = RecordingId, Path), PictureQuery,
), responses(
    (status = 200, description = "A JPEG.", content_type = "image/jpeg", body = String),
    (status = 403, description = "The picture would have to be made, and the key may only read.", body = ProblemDocument),
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
    let wanted = query.wanted(&app, &recording).await?;
    if let Some(response) = stored(&app, id, wanted, true, &method, &headers).await? {
        return Ok(response);
    }
    let job = make(&app, &caller, &recording, wanted.made, &headers).await?;
    wait_for(&app, job).await?;
    stored(&app, id, wanted, true, &method, &headers)
        .await?
        .ok_or_else(|| not_yet("the picture was not made"))
}

/// Sends a picture that is there.
pub(crate) async fn stored(
    app: &App,
    id: RecordingId,
    wanted: Wanted,
    private: bool,
    method: &Method,
    headers: &HeaderMap,
) -> Answer<Option<Response>> {
    let mut found = pictures::find(&app.db, id, wanted.asked).await?;
    if found.is_none() && wanted.made != wanted.asked {
        found = pictures::find(&app.db, id, wanted.made).await?;
    }
    let Some(picture) = found else { return Ok(None) };
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
    if !allows(&caller.scopes, Scope::Write) {
        return Err(Problem::new(
            Kind::Forbidden,
            "there is no such picture yet, and this key may only read; ask for it once with a key that has the scope write",
        ));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(t: Option<f64>, width: Option<u32>, height: Option<u32>, duration: Option<f64>) -> Wanted {
        PictureQuery { t, width, height }.pictures(duration).unwrap()
    }

    #[test]
    fn there_is_an_end_to_what_can_be_made() {
        let sides = |width, height| {
            let made = pictures(None, width, height, None).made;
            (made.width, made.height)
        };
        assert_eq!(sides(Some(320), None), (320, 180));
        assert_eq!(sides(Some(201), None), (240, 135));
        assert_eq!(sides(None, Some(17)), (80, 45));
        assert_eq!(sides(Some(3840), Some(1081)), (3840, 1280));
        let asked = pictures(Some(2.5), Some(201), None, Some(60.0)).asked;
        assert_eq!((asked.at_ms, asked.width, asked.height), (Some(2500), 201, 113));
        assert_eq!(pictures(Some(5000.0), None, None, Some(60.0)).made.at_ms, Some(60_000));
        assert_eq!(pictures(Some(5000.0), None, None, None).made.at_ms, Some(5_000_000));
        assert!(PictureQuery { t: Some(-1.0), width: None, height: None }.pictures(None).is_err());
    }
}
