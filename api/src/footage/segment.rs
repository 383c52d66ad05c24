//! Segments of a session: those of its tracks put together, in fragmented MP4 or MPEG-TS.

use axum::Extension;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use reelmill_shared::cdn::SurrogateKey;
use reelmill_shared::db::sets::Rendition;
use reelmill_shared::media::cmaf::{self, CmafError, Place, muxed_init, place};
use reelmill_shared::media::footage::Wrapping;

use super::{Footage, Spot, playlist};
use crate::cdn::{Had, tag};
use crate::media::{Caching, MediaBytes, etag, send_bytes, send_text};
use crate::playback::{PLAYLIST, TRANSPORT, VIDEO, stored};
use crate::problem::{Answer, Kind, Problem};
use crate::state::App;
use crate::transport::{self, Part};

/// A file of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FootageFile {
    Playlist(Wrapping),
    Segment(Wrapping, u32),
    /// What the segments from this one on need, in fragmented MP4.
    Init(u32),
}

impl FootageFile {
    /// Reads what stands behind `segment/`; `None` where that is none of our names.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        let index = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
        match (stem.strip_suffix("-init"), extension) {
            (Some(stem), "mp4") => Some(Self::Init(index(stem)?)),
            (None, "ts") => Some(Self::Segment(Wrapping::Ts, index(stem)?)),
            (None, "m4s") => Some(Self::Segment(Wrapping::Fmp4, index(stem)?)),
            _ => None,
        }
    }
}

/// Answers a request for a file of a session. `lent` where a CDN may keep it.
pub(crate) async fn serve(
    app: &App,
    footage: &Footage,
    file: FootageFile,
    quality: Option<&str>,
    lent: bool,
    method: &Method,
    headers: &HeaderMap,
) -> Answer<Response> {
    // What a session plays never changes; whether it may be played does, so nobody keeps it for others, but a CDN of ours for a moment.
    let (settled, fixed) = if lent {
        (Caching::LentSettled, Caching::LentImmutable)
    } else {
        (Caching::PrivateSettled, Caching::PrivateImmutable)
    };
    let mut response = match file {
        FootageFile::Playlist(wrapping) => {
            let text = playlist(app, footage, quality, wrapping).await?;
            send_text(text, PLAYLIST, settled, method, headers)
        }
        FootageFile::Segment(wrapping, index) => {
            let (bytes, had) = segment(app, footage, index, quality, wrapping).await?;
            let content_type = if wrapping == Wrapping::Ts { TRANSPORT } else { VIDEO };
            (Extension(had), send_bytes(bytes, content_type, fixed, method, headers)?).into_response()
        }
        FootageFile::Init(index) => {
            let bytes = init(app, footage, index, quality).await?;
            send_bytes(bytes, VIDEO, fixed, method, headers)?
        }
    };
    if lent {
        let session = &footage.session;
        tag(
            &mut response,
            &[SurrogateKey::Session(session.id), SurrogateKey::Livestream(session.livestream)],
        );
    }
    Ok(response)
}

/// The parts of a segment: of what is seen, and of what is heard beside it.
pub(super) struct Tracks<'a> {
    pub(super) main: &'a Rendition,
    pub(super) picture: Part,
    pub(super) sound: Option<Part>,
}

impl<'a> Tracks<'a> {
    /// Finds them; without a picture (or sound, where that is all) nobody has the segment.
    pub(super) async fn find(app: &App, spot: &Spot<'a>, quality: Option<&str>) -> Answer<Self> {
        let lost = || Problem::new(Kind::NotFound, "this segment was lost; the playlist marks it as a gap");
        let main = spot.material.main(quality).ok_or_else(lost)?;
        let picture = part(app, spot, main).await?.filter(|part| part.segment.is_some()).ok_or_else(lost)?;
        let sound = match spot.material.beside(main) {
            Some(sound) => part(app, spot, sound).await?,
            None => None,
        };
        Ok(Self { main, picture, sound })
    }

    /// Takes nothing from a moment on, in microseconds since 1970.
    pub(super) fn end_at(&mut self, spot: &Spot<'_>, moment: i64) {
        let since = moment - spot.stretch.started;
        self.picture.end = Some(ticks(since, self.main));
        if let (Some(part), Some(sound)) = (&mut self.sound, spot.material.beside(self.main)) {
            part.end = Some(ticks(since, sound));
        }
    }
}

async fn part(app: &App, spot: &Spot<'_>, track: &Rendition) -> Answer<Option<Part>> {
    let Some(init) = spot.material.init(track, spot.number) else { return Ok(None) };
    let segment = stored(app, spot.stretch.set, &track.rung, spot.number).await?;
    Ok(Some(Part { init, segment, end: None }))
}

async fn segment(
    app: &App,
    footage: &Footage,
    index: u32,
    quality: Option<&str>,
    wrapping: Wrapping,
) -> Answer<(MediaBytes, Had)> {
    footage.check(quality)?;
    let spot = footage.spot(index)?;
    let mut tracks = Tracks::find(app, &spot, quality).await?;
    let (set, number, kind) = (spot.stretch.set, spot.number, tracks.main.kind);
    let mut name = tracks.main.rung.clone();
    if let Some((_, to)) = footage.exact().filter(|_| spot.last) {
        tracks.end_at(&spot, to);
        name = format!("{name} until {to}");
    }
    if wrapping == Wrapping::Ts {
        return transport::made(app, (set, name, number), kind, tracks.picture, tracks.sound).await;
    }
    let picture = tracks.picture.read(app);
    let sound = async {
        match tracks.sound {
            Some(part) => part.read(app).await.map(|(_, segment)| segment),
            None => Ok(Bytes::new()),
        }
    };
    let ((_, picture), sound) = tokio::try_join!(picture, sound)?;
    let later = footage.later(spot.stretch);
    let picture = (picture, ticks(later, tracks.main));
    let sound = (sound, spot.material.beside(tracks.main).map_or(0, |sound| ticks(later, sound)));
    let bytes = joined(number, picture, sound).map_err(|error| transport::failed(&error))?;
    Ok((MediaBytes { etag: etag(&bytes), bytes }, Had(false)))
}

/// Microseconds in ticks of a track.
pub(super) fn ticks(micros: i64, track: &Rendition) -> i64 {
    let ticks = (i128::from(micros) * i128::from(track.timescale)).div_euclid(1_000_000);
    i64::try_from(ticks).unwrap_or_default()
}

/// Ids of the two tracks.
pub(super) const PICTURE: u32 = 1;
pub(super) const SOUND: u32 = 2;

/// Picture and sound of a segment in one, each moved by so many ticks.
fn joined(number: u32, picture: (Bytes, i64), sound: (Bytes, i64)) -> Result<Bytes, CmafError> {
    let mut out = Vec::with_capacity(picture.0.len() + sound.0.len());
    let mut sequence = number.saturating_mul(2).saturating_add(1);
    for (track, (bytes, shift)) in [(PICTURE, picture), (SOUND, sound)] {
        place(&mut out, &bytes, Place { track, shift }, &mut sequence)?;
    }
    Ok(out.into())
}

async fn init(app: &App, footage: &Footage, index: u32, quality: Option<&str>) -> Answer<MediaBytes> {
    let spot = footage.spot(index)?;
    footage.check(quality)?;
    let missing = || Problem::new(Kind::NotFound, "there is no such file");
    let main = spot.material.main(quality).ok_or_else(missing)?;
    let mut all = vec![];
    for track in [Some(main), spot.material.beside(main)].into_iter().flatten() {
        let Some(init) = spot.material.init(track, spot.number) else { continue };
        let (bytes, _) = Part { init, segment: None, end: None }.read(app).await?;
        all.push(bytes);
    }
    if all.is_empty() {
        return Err(missing());
    }
    let bytes = joined_init(&all).map_err(|error| transport::failed(&error))?;
    Ok(MediaBytes { etag: etag(&bytes), bytes })
}

fn joined_init(inits: &[Bytes]) -> Result<Bytes, CmafError> {
    let mut tracks = vec![];
    for init in inits {
        tracks.push((cmaf::read(init, &[])?.0, cmaf::delay_of(init)?));
    }
    let tracks: Vec<_> = tracks.iter().map(|(track, delay)| (track, *delay)).collect();
    Ok(muxed_init(&tracks))
}
