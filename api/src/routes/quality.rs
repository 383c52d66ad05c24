//! Which rendition of a recording suits a viewer now.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::sets::{Rendition, SetReference, TrackKind};
use reelmill_shared::ids::RecordingId;
use reelmill_shared::media::abr::{Bandwidth, Cap, Caps, Choice, Engine, Rung, Situation};
use serde::Serialize;

use crate::auth::Caller;
use crate::dto::quality::{RecommendQuery, RecommendedDto, RungDto};
use crate::extract::{Path, Query};
use crate::playback::{active_set, renditions};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::recordings::find;
use crate::routes::viewer::named_by;
use crate::state::App;

/// Seconds that players buffer where they do not say.
const BUFFER: f64 = 30.0;

/// Recommend a quality.
///
/// By what the player says of its network, its buffer and its screen; nothing is kept. Below a fifth of its buffer it is told the lowest,
/// below two fifths one less than is carried.
#[utoipa::path(get, path = "/recordings/{id}/quality/recommended", tag = "recordings", operation_id = "recommended_quality",
    params(("id" = RecordingId, Path), RecommendQuery), responses(
    (status = 200, description = "What suits best, and why.", body = RecommendedDto),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
    (status = 409, description = "There is nothing to play yet.", body = ProblemDocument),
    (status = 422, description = "A parameter is out of its range.", body = ProblemDocument),
))]
pub(crate) async fn recommended(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
    Query(query): Query<RecommendQuery>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    recommend(&app, &recording, &query).await
}

/// The same for the holder of a viewer's token.
pub(crate) async fn viewers_recommended(
    State(app): State<App>,
    Path(token): Path<String>,
    Query(query): Query<RecommendQuery>,
) -> Answer<Response> {
    let recording = named_by(&app, &token).await?;
    recommend(&app, &recording, &query).await
}

async fn recommend(app: &App, recording: &Recording, query: &RecommendQuery) -> Answer<Response> {
    let full = query.buffer_target.unwrap_or(BUFFER);
    if !(1.0..=3600.0).contains(&full) {
        return Err(Problem::field("/buffer_target", "is between 1 and 3600 seconds"));
    }
    if query.buffer.is_some_and(|buffer| !buffer.is_finite() || buffer < 0.0) {
        return Err(Problem::field("/buffer", "is a number of seconds, 0 or more"));
    }
    let nothing = || Problem::new(Kind::NotReady, "there is nothing to play of this recording yet");
    let set = active_set(app, recording.id).await?.ok_or_else(nothing)?;
    let all = renditions(app, &set).await?;
    let rungs = rungs(&all);
    let caps = caps(query).judge(&rungs);
    let chosen = choose(query, full, &set, &rungs, &caps)?.ok_or_else(nothing)?;
    let mut told: Vec<RungDto> = rungs.iter().zip(&caps).map(|(rung, cap)| told(rung, *cap)).collect();
    let Choice { rung, reason } = chosen.choice;
    let answer = RecommendedDto {
        rung: told.remove(rung),
        reason: name(&reason),
        predicted_bandwidth: chosen.predicted.map(|rate| rate as u64),
        alternatives: told,
    };
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(answer)).into_response())
}

/// What was chosen, and by what.
struct Chosen {
    choice: Choice,
    predicted: Option<f64>,
}

/// `None` where there is nothing to choose from.
fn choose(
    query: &RecommendQuery,
    full: f64,
    set: &SetReference,
    rungs: &[Rung],
    caps: &[Option<Cap>],
) -> Answer<Option<Chosen>> {
    if rungs.is_empty() {
        return Ok(None);
    }
    let current = match &query.current {
        Some(name) => Some(rungs.iter().position(|rung| rung.name == *name).ok_or_else(|| {
            let names: Vec<&str> = rungs.iter().map(|rung| rung.name.as_str()).collect();
            Problem::field("/current", format!("is none of the qualities: {}", names.join(", ")))
        })?),
        None => None,
    };
    let bandwidth = query.bandwidth.map(|rate| Bandwidth::told(rate as f64)).unwrap_or_default();
    let mut engine = Engine::resumed(bandwidth, current, query.buffer.is_some());
    let segment = set.target_duration.map_or(6.0, f64::from);
    let buffer = query.buffer.unwrap_or(0.0);
    let choice = engine.choose(&Situation { rungs, caps, buffer, full, segment });
    Ok(Some(Chosen { choice, predicted: engine.bandwidth.predicted() }))
}

/// Pictures with the sound that goes with them, the lowest first; where there are none, sound alone.
fn rungs(renditions: &[Rendition]) -> Vec<Rung> {
    let of = |kind: TrackKind| renditions.iter().filter(move |rendition| rendition.kind == kind);
    let sound = of(TrackKind::Audio).min_by_key(|rendition| rendition.position);
    let rung = |picture: &Rendition| Rung {
        name: picture.rung.clone(),
        bitrate: picture.average_bandwidth + sound.map_or(0, |sound| sound.average_bandwidth),
        width: picture.width.unwrap_or_default(),
        height: picture.height.unwrap_or_default(),
        codecs: [picture.codec.as_str()]
            .into_iter()
            .chain(sound.map(|sound| sound.codec.as_str()))
            .collect::<Vec<_>>()
            .join(","),
    };
    let mut rungs: Vec<Rung> = of(TrackKind::Video).map(rung).collect();
    if rungs.is_empty() {
        rungs.extend(sound.map(|sound| Rung {
            name: sound.rung.clone(),
            bitrate: sound.average_bandwidth,
            width: 0,
            height: 0,
            codecs: sound.codec.clone(),
        }));
    }
    rungs.sort_by_key(|rung| rung.bitrate);
    rungs
}

fn caps(query: &RecommendQuery) -> Caps {
    let codecs = query
        .codecs
        .iter()
        .flat_map(|codecs| codecs.split(','))
        .map(str::trim)
        .filter(|codec| !codec.is_empty());
    Caps {
        // Of one side alone the other is no limit.
        screen: (query.width.is_some() || query.height.is_some())
            .then(|| (query.width.unwrap_or(u32::MAX), query.height.unwrap_or(u32::MAX))),
        codecs: codecs.map(str::to_owned).collect(),
        data_saver: query.data_saver.unwrap_or(false),
    }
}

fn told(rung: &Rung, cap: Option<Cap>) -> RungDto {
    RungDto {
        rendition: rung.name.clone(),
        bitrate: rung.bitrate,
        width: rung.width,
        height: rung.height,
        codecs: rung.codecs.clone(),
        ruled_out: cap.map(|cap| name(&cap)),
    }
}

/// A word as it is written in JSON.
fn name(word: &impl Serialize) -> String {
    serde_json::to_value(word).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
