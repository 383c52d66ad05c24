//! Answers the requests of players (draft-pantos-hls-rfc8216bis, 6.2.5).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::media::live::playlist::Form;
use reelmill_shared::media::live::window::{Track, Wait, Window};
use reelmill_shared::storage::keys;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::files::{FileError, Found};
use super::playlists::Rendered;
use super::view::{Presence, View};
use crate::cdn::Had;
use crate::problem::{Answer, Kind, Problem};
use crate::state::App;

/// What a player says beside a playlist's name.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LiveQuery {
    /// Answer once the playlist has the media segment of this number.
    #[serde(rename = "_HLS_msn")]
    pub(crate) msn: Option<u64>,
    /// Answer once it has this part of that segment.
    #[serde(rename = "_HLS_part")]
    pub(crate) part: Option<u32>,
    /// `YES`: leave out segments that were listed before.
    #[serde(rename = "_HLS_skip")]
    pub(crate) skip: Option<String>,
}

/// How long it takes at most to learn of a stream that nobody watched here.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// An upper bound to what a player may wait, whatever the length of segments.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A file of a livestream. `private` where the address needs a key: shared caches keep nothing of it then.
pub(crate) async fn serve(
    app: &App,
    livestream: LivestreamId,
    name: &str,
    query: &LiveQuery,
    private: bool,
    gzip: TakesGzip,
) -> Answer<Response> {
    let file = LiveFile::parse(name)
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no file {name} in a live stream")))?;
    if query.part.is_some() && query.msn.is_none() {
        return Err(Problem::new(Kind::Malformed, "_HLS_part needs _HLS_msn beside it"));
    }
    let view = on_air(app, livestream).await?;
    let reply = Reply { private, gzip };
    match &file {
        LiveFile::Master => {
            let master = view.master().ok_or_else(|| {
                Problem::new(Kind::NotReady, "this stream has only just begun").with_retry_after(1)
            })?;
            Ok(reply.playlist(&master, false))
        }
        LiveFile::Manifest => {
            let manifest = view.manifest(Utc::now()).ok_or_else(|| {
                Problem::new(Kind::NotReady, "this stream has only just begun").with_retry_after(1)
            })?;
            Ok(reply.manifest(&manifest))
        }
        LiveFile::Playlist { track } => playlist(app, &view, track, query, &reply).await,
        LiveFile::Init { .. } | LiveFile::Segment { .. } | LiveFile::Part { .. } => {
            media(app, &view, &file, &reply).await
        }
    }
}

/// The view of a stream that is on air, or was a moment ago.
pub(super) async fn on_air(app: &App, livestream: LivestreamId) -> Answer<Arc<View>> {
    let view = app.edges.view(livestream);
    let known = tokio::time::timeout(FIRST_LOOK, view.presence()).await;
    if !matches!(known, Ok(Presence::Here)) && view.look(|_| ()).is_none() {
        return Err(not_on_air());
    }
    Ok(view)
}

pub(super) fn not_on_air() -> Problem {
    Problem::new(Kind::NotReady, "this stream is not on air").with_retry_after(2)
}

/// Looks at what is listed of a livestream.
pub(crate) async fn window<T>(
    app: &App,
    livestream: LivestreamId,
    look: impl FnOnce(&Window) -> T,
) -> Answer<T> {
    on_air(app, livestream).await?.look(look).ok_or_else(not_on_air)
}

async fn playlist(app: &App, view: &View, track: &str, query: &LiveQuery, reply: &Reply) -> Answer<Response> {
    let unknown = || Problem::new(Kind::NotFound, format!("this stream has no track {track}"));
    let listing = view.listing(track).ok_or_else(unknown)?;
    let form = match query.skip.as_deref() {
        Some("YES" | "v2") => Form::Delta,
        _ => Form::Full,
    };
    if let Some(msn) = query.msn {
        let mut changes = listing.changes();
        let wait = |window: &Window| {
            if window.ended || !window.plan.low_latency {
                return Wait::Ready;
            }
            let target = window.plan.cadence.part_target;
            window.track(track).map_or(Wait::Later, |(_, track)| track.wait_for(msn, query.part, target))
        };
        let until = deadline(view);
        let mut permit = None;
        loop {
            match view.look(wait).unwrap_or(Wait::Later) {
                Wait::Ready => break,
                Wait::TooFar => {
                    return Err(Problem::new(
                        Kind::Malformed,
                        "_HLS_msn or _HLS_part is too far ahead of the playlist",
                    ));
                }
                Wait::Later => {}
            }
            if permit.is_none() {
                let full =
                    |_| Problem::new(Kind::Unavailable, "too many requests wait here").with_retry_after(1);
                permit = Some(app.edges.waiting.try_acquire().map_err(full)?);
            }
            view.touch();
            if timeout_at(until, changes.changed()).await.is_err() {
                return Err(Problem::new(Kind::Unavailable, "the stream does not go on").with_retry_after(2));
            }
        }
    }
    let rendered = view
        .rendered(&listing, track, form)
        .ok_or_else(|| Problem::new(Kind::NotReady, "this stream has only just begun").with_retry_after(1))?;
    Ok(reply.playlist(&rendered, query.msn.is_some()))
}

/// A request is held for three target durations at most (Apple's authoring specification asks for an answer by then).
fn deadline(view: &View) -> Instant {
    let target = view.look(|window| window.plan.cadence.target_duration).unwrap_or(6);
    Instant::now() + Duration::from_secs(3 * u64::from(target)).min(LONGEST_WAIT)
}

/// What a window knows of a file.
pub(super) enum Known {
    /// It can be had: from where in the store, if not from the origin.
    Here(Option<String>),
    /// It is the part that comes next.
    Next,
    Unknown,
}

async fn media(app: &App, view: &View, file: &LiveFile, reply: &Reply) -> Answer<Response> {
    let missing = || Problem::new(Kind::NotFound, format!("there is no {file} in this stream, or no more"));
    let mut changes = match file {
        LiveFile::Part { track, .. } => Some(view.listing(track).ok_or_else(missing)?.changes()),
        _ => None,
    };
    let until = deadline(view);
    let mut permit = None;
    let (place, key) = loop {
        let (place, known) =
            view.look(|window| (window.place.clone(), known(window, file))).ok_or_else(missing)?;
        match (known, &mut changes) {
            (Known::Here(key), _) => break (place, key),
            (Known::Next, Some(changes)) => {
                if permit.is_none() {
                    let full = |_| {
                        Problem::new(Kind::Unavailable, "too many requests wait here").with_retry_after(1)
                    };
                    permit = Some(app.edges.waiting.try_acquire().map_err(full)?);
                }
                if timeout_at(until, changes.changed()).await.is_err() {
                    return Err(
                        Problem::new(Kind::Unavailable, "the stream does not go on").with_retry_after(2)
                    );
                }
            }
            _ => return Err(missing()),
        }
    };
    drop(permit);
    match app.edges.files.get(view, file, &place, key).await {
        Ok(found) => Ok(reply.media(found)),
        Err(FileError::Missing) => Err(missing()),
        Err(error) => {
            tracing::warn!(livestream = %view.livestream, %file, %error, "could not get a live file");
            Err(Problem::new(Kind::Unavailable, "this cannot be had now").with_retry_after(1))
        }
    }
}

pub(super) fn known(window: &Window, file: &LiveFile) -> Known {
    let prefix = |epoch: u32| keys::live_prefix(&window.place, epoch);
    match file {
        LiveFile::Init { track, epoch } => {
            let known = window.track(track).is_some() && window.run(*epoch).is_some();
            if known { Known::Here(Some(keys::init(&prefix(*epoch), track))) } else { Known::Unknown }
        }
        LiveFile::Segment { track, number } => {
            let Some((_, list)) = window.track(track) else { return Known::Unknown };
            if is_past(list, *number) {
                return Known::Here(None);
            }
            let whole = list.open.as_ref().is_none_or(|open| open.number != *number);
            let segment = list.segment(*number).filter(|segment| whole && !segment.gap);
            segment.map_or(Known::Unknown, |segment| {
                Known::Here(Some(keys::live_segment(&prefix(segment.epoch), track, *number)))
            })
        }
        LiveFile::Part { track, number, part } => {
            let Some((place, list)) = window.track(track) else { return Known::Unknown };
            if is_past(list, *number) {
                return Known::Here(None);
            }
            let next = list.next_part();
            if (*number, *part) == next && !window.ended && window.goes_on(place) {
                return Known::Next;
            }
            match list.segment(*number) {
                Some(segment) if *part < segment.part_count => Known::Here(None),
                _ => Known::Unknown,
            }
        }
        LiveFile::Master | LiveFile::Manifest | LiveFile::Playlist { .. } => Known::Unknown,
    }
}

/// It is no longer listed. Whoever read the playlist a moment ago may still ask for it, and the origin may still have it.
fn is_past(list: &Track, number: u64) -> bool {
    list.segments.front().is_some_and(|first| number < first.number)
}

/// How answers are sent.
pub(super) struct Reply {
    pub(super) private: bool,
    pub(super) gzip: TakesGzip,
}

/// Whether whoever asks takes gzip. All that is kept of the headers of a request that waits: they would hold the buffer they were
/// read into, for each viewer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakesGzip(bool);

impl<S: Sync> FromRequestParts<S> for TakesGzip {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(header::ACCEPT_ENCODING).iter();
        let mut words = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        Ok(Self(words.any(|word| word.trim().starts_with("gzip"))))
    }
}

impl Reply {
    /// `version`: it was asked for by what is in it, so that it is the same whenever it is asked for.
    pub(super) fn playlist(&self, rendered: &Rendered, version: bool) -> Response {
        self.text(rendered, version, "application/vnd.apple.mpegurl")
    }

    pub(super) fn manifest(&self, rendered: &Rendered) -> Response {
        self.text(rendered, false, "application/dash+xml")
    }

    fn text(&self, rendered: &Rendered, version: bool, content_type: &'static str) -> Response {
        let caching = match (self.private, rendered.is_final, version) {
            (true, _, _) => "private, no-cache",
            (false, true, _) => "public, max-age=60",
            (false, false, true) => "public, max-age=30",
            (false, false, false) => "public, max-age=1",
        };
        let gzip = self.gzip.0;
        let body = if gzip { rendered.gzip.clone() } else { rendered.plain.clone() };
        let mut response = (
            [
                (header::CONTENT_TYPE, content_type),
                (header::CACHE_CONTROL, caching),
                (header::VARY, "accept-encoding"),
            ],
            body,
        )
            .into_response();
        if gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    pub(super) fn media(&self, found: Found) -> Response {
        let caching = if self.private {
            "private, max-age=3600, immutable"
        } else {
            "public, max-age=31536000, s-maxage=86400, immutable"
        };
        let headers = [(header::CONTENT_TYPE, "video/mp4"), (header::CACHE_CONTROL, caching)];
        (StatusCode::OK, headers, Extension(Had(found.had)), found.bytes).into_response()
    }
}
