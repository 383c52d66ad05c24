//! A session as one MP4 file, made while it is sent: fragments of the stored segments, moved to follow each other.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::{StreamExt, stream};
use reelmill_shared::db::playback::{self, Listed, Stretch};
use reelmill_shared::db::sets::Rendition;
use reelmill_shared::media::cmaf::{self, Place, Track, muxed_init, place};
use reelmill_shared::media::footage::micros;

use super::segment::{PICTURE, SOUND, Tracks, ticks};
use super::{Footage, Spot};
use crate::downloads::disposition;
use crate::media::Caching;
use crate::problem::{Answer, Kind, Problem};
use crate::state::App;
use crate::transport::{self, Part};

/// Segments read ahead of whoever downloads.
const AHEAD: usize = 2;
/// Numbers of fragments grow by this from one segment to the next: none has more of them.
const FRAGMENTS: u32 = 1 << 12;

/// A segment on its way into the file.
#[derive(Clone)]
struct Piece {
    index: u32,
    /// Where its stretch moves to, in microseconds.
    shift: i64,
}

/// Sends the footage of a session as a file. Gaps are left out; what follows one follows at once.
pub(crate) async fn export(
    app: &App,
    footage: Arc<Footage>,
    title: &str,
    quality: Option<String>,
    method: &Method,
) -> Answer<Response> {
    footage.check(quality.as_deref())?;
    let pieces = pieces(app, &footage, quality.as_deref()).await?;
    let Some(first) = pieces.first() else {
        return Err(Problem::new(Kind::NotFound, "all of this footage was lost"));
    };
    let tracks = tracks(app, &footage, &pieces, quality.as_deref()).await?;
    let lead = lead(app, &footage.spot(first.index)?, quality.as_deref()).await?;
    let init = init(&tracks, lead + before_start(&footage, first)?);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("video/mp4"));
    headers.insert(header::CACHE_CONTROL, Caching::PrivateSettled.header());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    let from = footage.session.span.map_or(footage.session.created_at, |(from, _)| from);
    if let Ok(value) = HeaderValue::from_str(&disposition(title, &in_a_name(from))) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    if method != Method::HEAD {
        let app = app.clone();
        let segments = stream::iter(pieces)
            .map(move |piece| moved(app.clone(), Arc::clone(&footage), piece, quality.clone(), lead))
            .buffered(AHEAD);
        let whole = stream::iter([Ok(init)]).chain(segments);
        *response.body_mut() = Body::from_stream(whole);
    }
    Ok(response)
}

/// A moment as it may stand in a file's name.
fn in_a_name(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true).replace(':', "-")
}

/// The segments that there are, each with where it goes.
async fn pieces(app: &App, footage: &Footage, quality: Option<&str>) -> Answer<Vec<Piece>> {
    let (mut mains, mut index) = (vec![], 0);
    for stretch in &footage.session.stretches {
        if let Some(main) = footage.material(stretch)?.main(quality) {
            mains.push((stretch, main, index));
        }
        index += stretch.len();
    }
    let wanted: Vec<_> = mains.iter().map(|(stretch, main, _)| (*stretch, main.rung.as_str())).collect();
    let listed = playback::listed(&app.db, &wanted).await?;
    let (mut pieces, mut end) = (vec![], 0);
    for ((stretch, main, index), rows) in mains.into_iter().zip(listed) {
        let mut shift = None;
        for row in rows.iter().filter(|row| !row.gap) {
            let shift = *shift.get_or_insert_with(|| end - micros(row.start, main.timescale));
            pieces.push(Piece { index: index + row.number.saturating_sub(stretch.first), shift });
            end = shift + micros(row.start + row.ticks, main.timescale);
        }
    }
    Ok(pieces)
}

/// What a file says of its tracks.
struct Described {
    track: Track,
    delay: u32,
}

/// The tracks, which must be the same all along: a file says once what they are.
async fn tracks(
    app: &App,
    footage: &Footage,
    pieces: &[Piece],
    quality: Option<&str>,
) -> Answer<Vec<Described>> {
    let mut known: HashMap<String, Bytes> = HashMap::new();
    let mut before: Option<Vec<Bytes>> = None;
    for piece in pieces {
        let spot = footage.spot(piece.index)?;
        let Some(main) = spot.material.main(quality) else { continue };
        let mut inits = vec![];
        for track in [Some(main), spot.material.beside(main)].into_iter().flatten() {
            let Some(init) = spot.material.init(track, spot.number) else { continue };
            if !known.contains_key(&init.key) {
                let key = init.key.clone();
                known.insert(key, Part { init, segment: None, end: None }.read(app).await?.0);
            }
            let init = spot.material.init(track, spot.number).and_then(|init| known.get(&init.key));
            inits.extend(init.cloned());
        }
        if before.as_ref().is_some_and(|before| *before != inits) {
            let detail = format!(
                "the footage changes its format at segment {}: export what comes before and what comes after apart",
                piece.index
            );
            return Err(Problem::new(Kind::Conflict, detail));
        }
        before = Some(inits);
    }
    let described =
        |init: Bytes| Ok(Described { track: cmaf::read(&init, &[])?.0, delay: cmaf::delay_of(&init)? });
    let all: Result<_, cmaf::CmafError> = before.unwrap_or_default().into_iter().map(described).collect();
    all.map_err(|error| transport::failed(&error))
}

/// How much earlier than the picture the sound begins, in microseconds: nothing may come before zero.
async fn lead(app: &App, spot: &Spot<'_>, quality: Option<&str>) -> Answer<i64> {
    let Some(main) = spot.material.main(quality) else { return Ok(0) };
    let Some(sound) = spot.material.beside(main) else { return Ok(0) };
    let one = Stretch { first: spot.number, until: spot.number + 1, ..spot.stretch.clone() };
    let tracks = [main, sound];
    let rows = playback::listed(&app.db, &tracks.map(|track| (&one, track.rung.as_str()))).await?;
    let began =
        |(track, rows): (&Rendition, &Vec<Listed>)| Some(micros(rows.first()?.start, track.timescale));
    let begins: Vec<Option<i64>> = tracks.into_iter().zip(&rows).map(began).collect();
    Ok(match begins[..] {
        [Some(picture), Some(sound)] => (picture - sound).max(0),
        _ => 0,
    })
}

/// Microseconds of the first segment that lie before a start that is exact to a frame.
fn before_start(footage: &Footage, first: &Piece) -> Answer<i64> {
    let Some((from, _)) = footage.exact() else { return Ok(0) };
    // The first segment moves to zero.
    let began = footage.spot(first.index)?.stretch.started - first.shift;
    Ok((from - began).max(0))
}

/// The head of the file. An edit list takes away what is not to be seen: so many microseconds.
fn init(tracks: &[Described], hidden: i64) -> Bytes {
    let tracks: Vec<(&Track, u32)> = tracks
        .iter()
        .map(|one| {
            let ticks = i128::from(hidden) * i128::from(one.track.timescale) / 1_000_000;
            (&one.track, one.delay.saturating_add(u32::try_from(ticks).unwrap_or_default()))
        })
        .collect();
    muxed_init(&tracks)
}

/// A segment at its place in the file.
async fn moved(
    app: App,
    footage: Arc<Footage>,
    piece: Piece,
    quality: Option<String>,
    lead: i64,
) -> io::Result<Bytes> {
    let moving = moved_bytes(&app, &footage, &piece, quality.as_deref(), lead);
    moving.await.map_err(|problem| {
        // Whoever downloads sees the file end early.
        tracing::warn!(session = %footage.session.id, index = piece.index, ?problem, "could not export a segment");
        io::Error::other("a segment could not be had")
    })
}

async fn moved_bytes(
    app: &App,
    footage: &Footage,
    piece: &Piece,
    quality: Option<&str>,
    lead: i64,
) -> Answer<Bytes> {
    let spot = footage.spot(piece.index)?;
    let mut tracks = Tracks::find(app, &spot, quality).await?;
    if let Some((_, to)) = footage.exact().filter(|_| spot.last) {
        tracks.end_at(&spot, to);
    }
    let shift = |track: &Rendition| ticks(piece.shift + lead, track);
    let shifts = (shift(tracks.main), spot.material.beside(tracks.main).map(shift));
    let (_, picture) = tracks.picture.read(app).await?;
    let sound = match tracks.sound {
        Some(part) => part.read(app).await?.1,
        None => Bytes::new(),
    };
    let mut out = Vec::with_capacity(picture.len() + sound.len());
    let mut sequence = piece.index.wrapping_mul(FRAGMENTS).wrapping_add(1);
    let mut add = |bytes: &Bytes, track: u32, shift: i64| {
        place(&mut out, bytes, Place { track, shift }, &mut sequence)
            .map_err(|error| transport::failed(&error))
    };
    add(&picture, PICTURE, shifts.0)?;
    add(&sound, SOUND, shifts.1.unwrap_or_default())?;
    Ok(out.into())
}
