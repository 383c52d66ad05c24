//! `/recordings/{id}/stream/{file}`: the stream, for holders of a key.

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use reelmill_shared::auth::Scope;
use reelmill_shared::ids::RecordingId;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::playback::{Container, StreamFile, serve};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::recordings::find;
use crate::state::App;

/// Parameters of a playlist.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct QualityQuery {
    /// With `playlist.m3u8`: name of the rendition; without it the master playlist.
    pub(crate) quality: Option<String>,
    /// With `playlist.m3u8` and `master.m3u8`: `ts` for segments of MPEG-TS, with picture and sound in one.
    #[param(inline)]
    pub(crate) container: Option<Container>,
}

/// Get a playlist, the manifest or a segment.
///
/// `master.m3u8`, `playlist.m3u8?quality=name`, `manifest.mpd` (DASH), and the files they name. Media answers to Range, ETag and
/// HEAD. A DASH player takes a recording that still grows for a live one: `manifest.mpd#t=0` has it begin at the start.
/// Where a query is in the way, `master-ts.m3u8` is the master playlist with `container=ts`.
#[utoipa::path(get, path = "/recordings/{id}/stream/{file}", operation_id = "stream", tag = "recordings", params(
    ("id" = RecordingId, Path), ("file" = String, Path, example = "master.m3u8"), QualityQuery,
), responses(
    (status = 200, description = "The file."),
    (status = 206, description = "The range of it that was asked for."),
    (status = 404, description = "There is no such file, or not yet.", body = ProblemDocument),
    (status = 416, description = "The range lies outside the file.", body = ProblemDocument),
))]
pub(crate) async fn file(
    State(app): State<App>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    Path((id, name)): Path<(RecordingId, String)>,
    Query(query): Query<QualityQuery>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    let file = named(&name, &query)?;
    serve(&app, &recording, &file, true, &method, &headers).await
}

/// What a name under `stream/` means.
pub(crate) fn named(name: &str, query: &QualityQuery) -> Answer<StreamFile> {
    let unknown = || Problem::new(Kind::NotFound, format!("there is no file {name} in a stream"));
    let file = match &query.quality {
        Some(rung) if name == "playlist.m3u8" => StreamFile::parse(&format!("{rung}.m3u8"))
            .filter(|file| matches!(file, StreamFile::Playlist { .. }))
            .ok_or_else(unknown)?,
        _ => StreamFile::parse(name).ok_or_else(unknown)?,
    };
    Ok(match (file, query.container) {
        (StreamFile::Master(_), Some(container)) => StreamFile::Master(container),
        (StreamFile::Playlist { rung, .. }, Some(container)) => StreamFile::Playlist { rung, container },
        (file, _) => file,
    })
}
