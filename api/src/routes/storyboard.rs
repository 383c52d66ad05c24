//! `/recordings/{id}/storyboard.vtt`: which part of which sheet shows a time.

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use reelmill_shared::auth::Scope;
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::stills;
use reelmill_shared::ids::RecordingId;
use reelmill_shared::job::state::RecordingStatus;

use crate::auth::Caller;
use crate::extract::Path;
use crate::media::{Caching, send_text};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::recordings::find;
use crate::state::App;

/// W3C WebVTT, 10.
const VTT: &str = "text/vtt; charset=utf-8";

/// Get the storyboard of a recording.
///
/// WebVTT; each cue names a part of a sheet of small pictures (`stream/storyboard-1-0.jpg#xywh=0,0,160,90`), relative to this
/// address: the first frame of what is shown from the cue's start to its end. Players use it for previews on the seek bar.
#[utoipa::path(get, path = "/recordings/{id}/storyboard.vtt", operation_id = "storyboard", tag = "recordings",
    params(("id" = RecordingId, Path)), responses(
    (status = 200, description = "The storyboard.", content_type = "text/vtt", body = String),
    (status = 404, description = "There is no such recording, or no storyboard of it.", body = ProblemDocument),
))]
pub(crate) async fn of_recording(
    State(app): State<App>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    Path(id): Path<RecordingId>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    serve(&app, &recording, true, &method, &headers).await
}

/// Answers a request for a recording's storyboard.
pub(crate) async fn serve(
    app: &App,
    recording: &Recording,
    private: bool,
    method: &Method,
    headers: &HeaderMap,
) -> Answer<Response> {
    let Some((ordinal, board)) = stills::storyboard(&app.db, recording.id).await? else {
        return Err(none(recording));
    };
    let text = board.vtt(|number| format!("stream/storyboard-{ordinal}-{number}.jpg"));
    // A later encode brings another one, and this one still shows the same.
    let caching = if private { Caching::PrivateDay } else { Caching::Day };
    Ok(send_text(text, VTT, caching, method, headers))
}

fn none(recording: &Recording) -> Problem {
    match recording.status {
        RecordingStatus::Pending | RecordingStatus::Processing | RecordingStatus::Playable => Problem::new(
            Kind::NotReady,
            format!("the recording has no storyboard yet: it is {}", recording.status),
        ),
        RecordingStatus::Ready | RecordingStatus::Failed => Problem::new(
            Kind::NotFound,
            "the recording has no storyboard; one is made of recordings with a picture where outputs names storyboard, \
             and of those of ten seconds or more where outputs is left out",
        ),
    }
}
