//! `/distribution/cdn`: the CDN in front, its switch, and what it is to fetch ahead.

use axum::Json;
use axum::extract::State;
use reelmill_shared::auth::Scope;
use reelmill_shared::cdn::paths;
use reelmill_shared::db::cdn::{self, Switch};

use crate::auth::Caller;
use crate::dto::cdn::{CdnDto, TurnCdnDto, WarmDto, WarmedDto};
use crate::extract::Body;
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::recordings;
use crate::state::App;

/// Look at the CDN.
#[utoipa::path(get, path = "/distribution/cdn", tag = "streams", operation_id = "get_cdn", responses(
    (status = 200, description = "How it stands.", body = CdnDto),
))]
pub(crate) async fn get(State(app): State<App>, caller: Caller) -> Answer<Json<CdnDto>> {
    caller.need(Scope::Read)?;
    Ok(Json(told(&app, cdn::switch(&app.db).await?).await?))
}

/// Switch the CDN on or off.
///
/// All apis see it within seconds. Addresses that were given out stay as they are; what changes is purged all the same.
#[utoipa::path(put, path = "/distribution/cdn", tag = "streams", operation_id = "turn_cdn", request_body = TurnCdnDto, responses(
    (status = 200, description = "How it stands now.", body = CdnDto),
    (status = 409, description = "No CDN is configured.", body = ProblemDocument),
))]
pub(crate) async fn turn(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<TurnCdnDto>,
) -> Answer<Json<CdnDto>> {
    caller.need(Scope::Admin)?;
    if app.cdn.client().is_none() {
        let detail = "no CDN is configured: set REELMILL_CDN_URL of all apis and schedulers";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let turned = app.cdn.turn(body.enabled).await?;
    tracing::info!(enabled = body.enabled, "the CDN was switched");
    Ok(Json(told(&app, turned).await?))
}

async fn told(app: &App, switch: Switch) -> Answer<CdnDto> {
    let config = app.cdn.client().map(|client| client.config());
    let (waiting, _) = cdn::waiting(&app.db).await?;
    Ok(CdnDto {
        configured: config.is_some(),
        enabled: config.is_some() && switch.enabled,
        url: config.map(|config| config.url.clone()),
        purges: config.is_some_and(|config| config.purge_url.is_some()),
        purges_waiting: waiting.unsigned_abs(),
        warms_by_hook: config.is_some_and(|config| config.warm_url.is_some()),
        updated_at: switch.updated_at,
    })
}

/// Let the CDN fetch a recording ahead.
///
/// Its playlists, and its first half minute in each quality.
#[utoipa::path(post, path = "/distribution/cdn/warm", tag = "streams", operation_id = "warm_cdn", request_body = WarmDto, responses(
    (status = 200, description = "It has it, or was asked to.", body = WarmedDto),
    (status = 404, description = "There is no such recording, or nothing to play of it.", body = ProblemDocument),
    (status = 409, description = "No CDN is configured, or it is switched off.", body = ProblemDocument),
    (status = 503, description = "The CDN does not answer.", body = ProblemDocument),
))]
pub(crate) async fn warm(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<WarmDto>,
) -> Answer<Json<WarmedDto>> {
    caller.need(Scope::Write)?;
    let recording = recordings::find(&app, &caller, body.recording_id).await?;
    let (token, _) = recordings::viewer_token(&app, recording.id).await?;
    let paths = paths(&app.db, recording.id, &token).await?;
    if paths.is_empty() {
        return Err(Problem::new(Kind::NotReady, "there is nothing to play of this recording yet"));
    }
    app.cdn.warm(&paths).await?;
    Ok(Json(WarmedDto { recording_id: recording.id, files: paths.len() }))
}
