//! `…/stream/live`: media over a WebSocket, for holders of a key and for viewers.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use reelmill_shared::auth::Scope;
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::db::streams as streams_db;
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::ids::{LivestreamId, RecordingId};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::audience::{Visitor, session_id};
use crate::auth::{Caller, own_pages_only};
use crate::extract::{Path, Query};
use crate::problem::{Answer, Kind, Problem, ProblemDocument, method_not_allowed};
use crate::routes::live_recordings::now_of;
use crate::routes::viewer::named_by;
use crate::routes::{livestreams, recordings};
use crate::sockets::{Right, Terms, Viewer, open};
use crate::state::App;
use crate::tokens;

/// What a request to speak WebSocket came to: whoever may not watch is told that first.
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// The furthest that anybody begins: more than any recording lasts.
const FURTHEST: f64 = 1e7;

/// Those under `/v/{token}`. Pages of other sites may open them: the token is the permission.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v/{token}/stream/live", get(viewers_recording))
        .route("/v/{token}/as/{session}/stream/live", get(placed_recording))
        .route("/v/{token}/live/{id}/stream/live", get(viewers_livestream))
        .route("/v/{token}/live/{id}/as/{session}/stream/live", get(placed_livestream))
        .method_not_allowed_fallback(method_not_allowed)
}

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SocketQuery {
    /// Name of a rendition, or `auto`.
    #[param(example = "720p")]
    quality: Option<String>,
}

/// Where to begin a recording.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PositionQuery {
    /// Name of a rendition, or `auto`.
    #[param(example = "720p")]
    quality: Option<String>,
    /// Seconds from its beginning.
    #[param(example = 12.5, minimum = 0)]
    position: Option<f64>,
}

impl PositionQuery {
    fn position(&self) -> Answer<f64> {
        let position = self.position.unwrap_or_default();
        if (0.0..=FURTHEST).contains(&position) {
            return Ok(position);
        }
        Err(Problem::new(Kind::Malformed, "position is a number of seconds from 0 on"))
    }
}

/// Play a recording over a WebSocket.
///
/// While the recording is live (`…/stream/start-live`) it is what is on air, as of `/livestreams/{id}/stream/live`.
///
/// Each binary message is four bytes with the length of a JSON header (big-endian), the header, and fragmented MP4 of one track:
/// `{"type":"init"|"segment"|"dropped"|"end","track":"video"|"audio","quality","codecs","sequence","duration","position","independent"}`. An init
/// segment comes before the first segment of each quality. It is played out at its own pace, a few segments ahead; whoever does not keep up
/// finds whole segments left out, and is told how many (`segments`) from which on. One that is still made is followed until it ends.
/// Text messages to the server: `{"type":"quality","quality":name|"auto"}`, `{"type":"buffer","health":0-100}`, `{"type":"pause"}`,
/// `{"type":"resume"}`; another quality begins with the next segment. It closes with 1000 at the end, 1008 where watching is not allowed any
/// more, 1001 and 1013 where it is worth connecting again.
#[utoipa::path(get, path = "/recordings/{id}/stream/live", operation_id = "recording_socket", tag = "recordings",
    params(("id" = RecordingId, Path), PositionQuery), responses(
    (status = 101, description = "A WebSocket."),
    (status = 400, description = "This is no request for a WebSocket.", body = ProblemDocument),
    (status = 403, description = "Another site's page asks with a session of ours.", body = ProblemDocument),
    (status = 404, description = "There is no such recording, or nothing to play of it yet.", body = ProblemDocument),
    (status = 503, description = "All sockets of this process are taken.", body = ProblemDocument),
))]
pub(crate) async fn recording(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<RecordingId>,
    Query(query): Query<PositionQuery>,
    upgrade: Upgrade,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    own_pages_only(&headers)?;
    let id = recordings::find(&app, &caller, id).await?.id;
    let watched = now_of(&app, id).await?;
    let terms = Terms { watched, right: Right::Key(caller.key_id), viewer: None, visitor: None };
    open(&app, asked(upgrade)?, terms, query.quality.as_deref(), query.position()?).await
}

/// Play what is on air over a WebSocket.
///
/// Messages are as those of a recording's, which see; they begin with the newest segment, and tell when it happened (`start`). Of streams with
/// low latency parts come as they appear (`"type":"part"` with `part`); `independent` says which can be decoded without those before.
#[utoipa::path(get, path = "/livestreams/{id}/stream/live", operation_id = "livestream_socket", tag = "livestreams",
    params(("id" = LivestreamId, Path), SocketQuery), responses(
    (status = 101, description = "A WebSocket."),
    (status = 400, description = "This is no request for a WebSocket.", body = ProblemDocument),
    (status = 403, description = "Another site's page asks with a session of ours.", body = ProblemDocument),
    (status = 404, description = "There is no such livestream, or it is not on air.", body = ProblemDocument),
    (status = 503, description = "All sockets of this process are taken.", body = ProblemDocument),
))]
pub(crate) async fn livestream(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
    Query(query): Query<SocketQuery>,
    upgrade: Upgrade,
) -> Answer<Response> {
    caller.need(Scope::LiveRead)?;
    own_pages_only(&headers)?;
    let id = livestreams::find(&app, &caller, id).await?.id;
    let terms = Terms {
        watched: Watched::Livestream(id),
        right: Right::Key(caller.key_id),
        viewer: None,
        visitor: None,
    };
    open(&app, asked(upgrade)?, terms, query.quality.as_deref(), 0.0).await
}

async fn viewers_recording(
    State(app): State<App>,
    visitor: Visitor,
    Path(token): Path<String>,
    Query(query): Query<PositionQuery>,
    upgrade: Upgrade,
) -> Answer<Response> {
    let verified = tokens::look(&app, Purpose::PlayRecording, &token)?;
    let id = named_by(&app, &token).await?.id;
    let (watched, right) = (now_of(&app, id).await?, Right::Token(verified));
    let terms = Terms { watched, right, viewer: None, visitor: Some(visitor) };
    open(&app, asked(upgrade)?, terms, query.quality.as_deref(), query.position()?).await
}

/// The same for a viewer who joined a stream of it, and for whom it is counted.
async fn placed_recording(
    State(app): State<App>,
    Path((token, session)): Path<(String, String)>,
    Query(query): Query<PositionQuery>,
    upgrade: Upgrade,
) -> Answer<Response> {
    let verified = tokens::look(&app, Purpose::PlayRecording, &token)?;
    let id = named_by(&app, &token).await?.id;
    let watched = Watched::Recording(id);
    let viewer = Some(placed(&app, watched, &session).await?);
    let terms = Terms { watched, right: Right::Token(verified), viewer, visitor: None };
    open(&app, asked(upgrade)?, terms, query.quality.as_deref(), query.position()?).await
}

async fn viewers_livestream(
    State(app): State<App>,
    visitor: Visitor,
    Path((token, id)): Path<(String, LivestreamId)>,
    Query(query): Query<SocketQuery>,
    upgrade: Upgrade,
) -> Answer<Response> {
    let verified = tokens::look_for(&app, Purpose::PlayLivestream, &token, id.0)?;
    let watched = Watched::Livestream(id);
    let terms = Terms { watched, right: Right::Token(verified), viewer: None, visitor: Some(visitor) };
    open(&app, asked(upgrade)?, terms, query.quality.as_deref(), 0.0).await
}

async fn placed_livestream(
    State(app): State<App>,
    Path((token, id, session)): Path<(String, LivestreamId, String)>,
    Query(query): Query<SocketQuery>,
    upgrade: Upgrade,
) -> Answer<Response> {
    let verified = tokens::look_for(&app, Purpose::PlayLivestream, &token, id.0)?;
    let watched = Watched::Livestream(id);
    let viewer = Some(placed(&app, watched, &session).await?);
    let terms = Terms { watched, right: Right::Token(verified), viewer, visitor: None };
    open(&app, asked(upgrade)?, terms, query.quality.as_deref(), 0.0).await
}

/// Who a session is; refused where it has no place.
async fn placed(app: &App, watched: Watched, session: &str) -> Answer<Viewer> {
    session_id::check(app, watched, session)?;
    let found = streams_db::placed(&app.db, watched, session).await?;
    let (stream, viewer) = found.ok_or_else(|| {
        Problem::new(Kind::Gone, "this viewer has no place in the stream, or no more: join again")
    })?;
    Ok(Viewer::new(stream, viewer))
}

/// Refuses what is not the beginning of a WebSocket.
fn asked(upgrade: Upgrade) -> Answer<WebSocketUpgrade> {
    upgrade.map_err(|rejection| {
        let detail = format!("this address speaks WebSocket: {}", rejection.body_text());
        // RFC 9110, 15.5.22: what to speak is named.
        Problem::new(Kind::Malformed, detail)
            .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
    })
}
