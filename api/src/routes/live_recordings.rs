//! `/recordings/{id}/stream/start-live` and `…/stop-live`: a recording that comes live, or is played out as if it did.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::live_recordings::{self, LiveRecording, LiveSide, NewLiveRecording, Opened};
use reelmill_shared::db::livestreams::KeptKey;
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::db::{livestreams as livestreams_db, sources};
use reelmill_shared::ids::{LivestreamId, RecordingId};
use reelmill_shared::job::state::RecordingStatus;
use reelmill_shared::live::key::StreamKey;

use crate::auth::Caller;
use crate::dto::live_recording::{LiveRecordingWishDto, LiveStartedDto, LiveStoppedDto};
use crate::dto::livestream::PatchLivestreamDto;
use crate::extract::{Body, Path};
use crate::idempotency::reserved;
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::livestreams::control::live_token;
use crate::routes::livestreams::wish::Draft;
use crate::routes::livestreams::{publishing, sealed_key};
use crate::routes::recordings;
use crate::state::App;

const ROOM_LIMIT: usize = 255;

/// Take a recording live.
///
/// With `ingest` a publisher sends to `ingest_url`, and when that is over the recording is made of it, without encoding it again: the
/// recording must have no video yet (`POST /recordings` with the input `{"live": true}` makes one), and what is sent after a
/// first broadcast is not let in. With `replay` the recording is played out once, as fast as it is meant to be seen.
#[utoipa::path(post, path = "/recordings/{id}/stream/start-live", tag = "recordings", params(("id" = RecordingId, Path)),
    request_body = Option<LiveRecordingWishDto>, responses(
    (status = 201, description = "It waits for its publisher, or is about to be played out; Location is its livestream.", body = LiveStartedDto),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
    (status = 409, description = "It is live already, the room is taken, or what it has does not go with the source.", body = ProblemDocument),
    (status = 422, description = "Fields are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn start(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<RecordingId>,
    body: Option<Body<LiveRecordingWishDto>>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    caller.need(Scope::LiveWrite)?;
    let body = body.map(|Body(body)| body).unwrap_or_default();
    let recording = recordings::find(&app, &caller, id).await?;
    let source = body.source.unwrap_or(LiveSide::Ingest);
    check_room(body.room_id.as_deref())?;
    fits(&app, &caller, &recording, source).await?;

    let livestream = reserved().map_or_else(LivestreamId::new, LivestreamId);
    let wish = PatchLivestreamDto {
        title: Some(recording.title.clone()),
        low_latency: body.low_latency,
        dvr_enabled: body.dvr_enabled,
        settings: body.settings,
        // Nobody is let in once it is over.
        require_start: Some(true),
        ..PatchLivestreamDto::default()
    };
    let draft = Draft::new().with(&app, wish)?;
    let terms = match source {
        LiveSide::Ingest => draft.recorded(true),
        LiveSide::Replay => draft.recorded(false).replaying(id),
    };
    let terms = terms.sealed(&app, livestream)?;
    let key = StreamKey::generate();
    let sealed = sealed_key(&app, livestream, &key)?;
    let kept = KeptKey { hash: &key.hash(), sealed: &sealed };
    let room = body.room_id.as_deref();
    let new = NewLiveRecording { livestream, recording: id, source, room, terms: &terms, key: &kept };
    match live_recordings::open(&app.db, caller.project_id, &new).await? {
        Opened::Now(live) => started(&app, &caller, &headers, live).await,
        Opened::Busy => Err(Problem::new(
            Kind::Conflict,
            "the recording is live already, or what was on air is about to become it: DELETE …/stream/stop-live ends it",
        )),
        Opened::RoomTaken => Err(Problem::new(Kind::Conflict, "another recording is live in this room")),
    }
}

fn check_room(room: Option<&str>) -> Answer<()> {
    let fits =
        |room: &str| (1..=ROOM_LIMIT).contains(&room.chars().count()) && !room.chars().any(char::is_control);
    match room {
        Some(room) if !fits(room) => Err(Problem::field(
            "/room_id",
            format!("has 1 to {ROOM_LIMIT} characters, none of them a control"),
        )),
        _ => Ok(()),
    }
}

/// Refuses what a recording cannot be: made of something else, or played out before it is whole.
async fn fits(app: &App, caller: &Caller, recording: &Recording, source: LiveSide) -> Answer<()> {
    match (source, recording.status) {
        (LiveSide::Replay, RecordingStatus::Ready) => Ok(()),
        (LiveSide::Replay, status) => Err(Problem::new(
            Kind::Conflict,
            format!("only what is ready can be played out: the recording is {status}"),
        )),
        (LiveSide::Ingest, _) => {
            let source = sources::of_recording(&app.db, caller.project_id, recording.id).await?;
            match (source.flatten(), recording.status) {
                (None, RecordingStatus::Pending) => Ok(()),
                _ => Err(Problem::new(
                    Kind::Conflict,
                    "the recording has a source of its own: POST /api/v1/recordings with the input {\"live\": true} makes \
                     one that has none",
                )),
            }
        }
    }
}

async fn started(app: &App, caller: &Caller, headers: &HeaderMap, live: LiveRecording) -> Answer<Response> {
    let id = live.livestream;
    let livestream = crate::routes::livestreams::find(app, caller, id).await?;
    let publisher = publishing(app, headers, &livestream)?;
    let (token, _) = live_token(app, id).await;
    let (public, media) = (app.public_url(headers), app.media_url(headers).await);
    let (ingest_url, stream_key) = publisher.unzip();
    let dto = LiveStartedDto {
        stream_id: id,
        recording_id: live.recording,
        source: live.source,
        room_id: live.room,
        ingest_url,
        stream_key,
        playlist_url: format!("{media}/v/{token}/live/{id}/master.m3u8"),
        watch_url: format!("{public}/watch/live/{id}?token={token}"),
        started_at: live.started_at,
    };
    let location = format!("/api/v1/livestreams/{id}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(dto)).into_response())
}

/// End a live recording.
///
/// Its publisher is sent away. What was on air becomes the recording from now on; its job is the recording's.
#[utoipa::path(delete, path = "/recordings/{id}/stream/stop-live", tag = "recordings", params(("id" = RecordingId, Path)), responses(
    (status = 200, description = "Nothing of it is on air.", body = LiveStoppedDto),
    (status = 404, description = "There is no such recording, or it is not live.", body = ProblemDocument),
))]
pub(crate) async fn stop(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
) -> Answer<Json<LiveStoppedDto>> {
    caller.need(Scope::Write)?;
    caller.need(Scope::LiveWrite)?;
    let recording = recordings::find(&app, &caller, id).await?;
    let live = live_recordings::of_recording(&app.db, recording.id).await?;
    let live = live.ok_or_else(|| Problem::new(Kind::NotFound, "the recording is not live"))?;
    livestreams_db::stop(&app.db, caller.project_id, live.livestream).await?;
    live_recordings::stop(&app.db, live.livestream).await?;
    let message = match live.source {
        LiveSide::Ingest => "it is over; what was on air becomes the recording",
        LiveSide::Replay => "it is over",
    };
    Ok(Json(LiveStoppedDto { stream_id: live.livestream, recording_id: id, message }))
}

/// What there is to be seen of a recording: what is on air for it, while it is live, else what it has.
pub(crate) async fn now_of(app: &App, id: RecordingId) -> Answer<Watched> {
    let live = live_recordings::of_recording(&app.db, id).await?;
    let Some(live) = live.filter(|live| live.stopped_at.is_none()) else { return Ok(Watched::Recording(id)) };
    let livestream = livestreams_db::find(&app.db, live.livestream).await?;
    let is_on_air = livestream.is_some_and(|livestream| livestream.on_air.is_some());
    Ok(if is_on_air { Watched::Livestream(live.livestream) } else { Watched::Recording(id) })
}
