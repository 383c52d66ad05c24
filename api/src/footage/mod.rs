//! Footage of livestreams, chosen by its time: sessions, the playlist that joins what was recorded, and its segments, none of which is
//! encoded again.

mod export;
mod segment;
mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::future::Cache;
use reelmill_shared::db::live::{self, StoredRun};
use reelmill_shared::db::playback::{self, Listed, Session, Stretch};
use reelmill_shared::db::sets::{self, Rendition, TrackKind};
use reelmill_shared::ids::{PlaybackSessionId, SetId};
use reelmill_shared::media::footage::{Entry, NOTICED, Playlist, Wrapping, micros};
use reelmill_shared::media::hls::Ticks;
use reelmill_shared::media::ts;
use serde::{Deserialize, Serialize};

pub(crate) use self::export::export;
pub(crate) use self::segment::{FootageFile, serve};
pub(crate) use self::session::{LIVE, LONGEST, Wanted, WantedLive, end, extend, find, start, start_live};
use crate::media::MediaFile;
use crate::problem::{Answer, Kind, Problem};
use crate::shared_cache::{Kept, Place};
use crate::state::App;

/// What is kept of sessions in memory.
pub(crate) struct Footages {
    /// Short: one that was ended works on for a few seconds at most.
    sessions: Cache<PlaybackSessionId, Known>,
    /// What the segments of a session are made of never changes.
    materials: Cache<PlaybackSessionId, Arc<Footage>>,
    playlists: Cache<(PlaybackSessionId, String), Bytes>,
}

/// Bytes of playlists kept.
const PLAYLISTS: u64 = 64 << 20;
/// What nobody has asked for in so long is forgotten.
const IDLE: Duration = Duration::from_secs(600);

impl Footages {
    pub(crate) fn new() -> Self {
        let weigh = |_: &_, text: &Bytes| u32::try_from(text.len()).unwrap_or(u32::MAX);
        Self {
            sessions: Cache::builder().max_capacity(10_000).expire_after(ByLife).build(),
            materials: Cache::builder().max_capacity(2_000).time_to_idle(IDLE).build(),
            playlists: Cache::builder().weigher(weigh).max_capacity(PLAYLISTS).time_to_idle(IDLE).build(),
        }
    }

    /// Forgets a session and what was made for it.
    async fn forget(&self, id: PlaybackSessionId) {
        self.sessions.invalidate(&id).await;
        self.materials.invalidate(&id).await;
        // Their names hold the quality, of which there are few; those of other sessions stay.
        let of_session: Vec<_> =
            self.playlists.iter().map(|(key, _)| key).filter(|key| key.0 == id).collect();
        for key in of_session {
            self.playlists.invalidate(key.as_ref()).await;
        }
    }
}

/// A session, if there is one, as the database had it.
#[derive(Clone)]
struct Known {
    session: Option<Arc<Session>>,
    /// For how long that may be believed.
    lives: Duration,
}

struct ByLife;

impl Expiry<PlaybackSessionId, Known> for ByLife {
    fn expire_after_create(&self, _: &PlaybackSessionId, known: &Known, _: Instant) -> Option<Duration> {
        Some(known.lives)
    }
}

/// A session with what its segments are made of.
pub(crate) struct Footage {
    pub(crate) session: Arc<Session>,
    materials: HashMap<SetId, Material>,
}

/// What is known of a set that a session plays.
#[derive(Serialize, Deserialize)]
struct Material {
    /// The best first; of its pictures, then its sounds.
    renditions: Vec<Rendition>,
    /// Of a broadcast: whose init segments go with which numbers.
    runs: Vec<StoredRun>,
}

impl Material {
    fn of_kind(&self, kind: TrackKind) -> impl Iterator<Item = &Rendition> {
        self.renditions.iter().filter(move |rendition| rendition.kind == kind)
    }

    /// The picture of a quality, else the best; where there are no pictures, the sound.
    fn main(&self, quality: Option<&str>) -> Option<&Rendition> {
        let named = self.of_kind(TrackKind::Video).find(|one| Some(one.rung.as_str()) == quality);
        named.or_else(|| self.of_kind(TrackKind::Video).next()).or_else(|| self.sound())
    }

    fn sound(&self) -> Option<&Rendition> {
        self.of_kind(TrackKind::Audio).next()
    }

    /// The sound that goes with what is played.
    fn beside(&self, main: &Rendition) -> Option<&Rendition> {
        self.sound().filter(|_| main.kind == TrackKind::Video)
    }

    /// The run that made a segment, and whether that is the first of it.
    fn run(&self, number: u32) -> Option<&StoredRun> {
        self.runs.iter().rfind(|run| run.first_number <= u64::from(number))
    }

    /// Where the init segment of a track lies, for a segment.
    fn init(&self, track: &Rendition, number: u32) -> Option<MediaFile> {
        let Some(run) = self.run(number) else {
            let usable = !track.init_key.is_empty();
            return usable.then(|| MediaFile { key: track.init_key.clone(), bytes: track.init_bytes });
        };
        let init = run.inits.get(&track.rung)?;
        let key = init.get("key")?.as_str()?.to_owned();
        Some(MediaFile { key, bytes: init.get("bytes")?.as_u64()? })
    }
}

/// A segment by its place in a session.
#[derive(Clone, Copy)]
struct Spot<'a> {
    stretch: &'a Stretch,
    material: &'a Material,
    number: u32,
    /// Nothing comes behind it.
    last: bool,
}

impl Footage {
    /// What a session plays; read once, for it never changes.
    pub(crate) async fn of(app: &App, session: &Arc<Session>) -> Answer<Arc<Self>> {
        let name = session.id.to_string();
        let place = Place { kept: Kept::Footage, name: &name, field: "segments" };
        let reading = async {
            if let Some((materials, _)) = app.shared.get(place).await {
                return Ok(Arc::new(Self { session: Arc::clone(session), materials }));
            }
            let mut materials = HashMap::new();
            for stretch in &session.stretches {
                if materials.contains_key(&stretch.set) {
                    continue;
                }
                let runs = match stretch.recording {
                    None => live::runs(&app.db, stretch.broadcast).await?,
                    Some(_) => vec![],
                };
                let renditions = sets::renditions(&app.db, stretch.set).await?;
                materials.insert(stretch.set, Material { renditions, runs });
            }
            app.shared.put(place, &materials, IDLE).await;
            Ok(Arc::new(Self { session: Arc::clone(session), materials }))
        };
        let found = app.caches.footage.materials.try_get_with(session.id, reading).await;
        found.map_err(|problem: Arc<Problem>| Problem::clone(&problem))
    }

    fn material(&self, stretch: &Stretch) -> Answer<&Material> {
        let gone = || Problem::new(Kind::NotFound, "this footage is no longer there");
        self.materials.get(&stretch.set).filter(|material| !material.renditions.is_empty()).ok_or_else(gone)
    }

    /// How many segments there are.
    pub(crate) fn count(&self) -> u32 {
        self.session.stretches.iter().map(Stretch::len).sum()
    }

    /// Names of the qualities there are, the best first.
    pub(crate) fn qualities(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec![];
        let stretches = self.session.stretches.iter().filter_map(|it| self.materials.get(&it.set));
        for one in stretches.flat_map(|material| material.of_kind(TrackKind::Video)) {
            if !names.contains(&one.rung.as_str()) {
                names.push(&one.rung);
            }
        }
        names
    }

    /// Refuses a quality that there is nowhere.
    fn check(&self, quality: Option<&str>) -> Answer<()> {
        let Some(quality) = quality else { return Ok(()) };
        let names = self.qualities();
        if names.contains(&quality) {
            return Ok(());
        }
        let names = names.join(", ");
        Err(Problem::new(Kind::NotFound, format!("there is no quality of that name; there are {names}")))
    }

    /// The segment of an index.
    fn spot(&self, index: u32) -> Answer<Spot<'_>> {
        let mut before = 0;
        for stretch in &self.session.stretches {
            if index - before < stretch.len() {
                let number = stretch.first + (index - before);
                let last = index + 1 == self.count();
                return Ok(Spot { stretch, material: self.material(stretch)?, number, last });
            }
            before += stretch.len();
        }
        Err(Problem::new(Kind::NotFound, format!("there are {before} segments, counted from 0")))
    }

    /// By how many microseconds the timeline of a stretch began after the first: moved by that, times only grow, as some players want them to
    /// across a discontinuity, too.
    fn later(&self, stretch: &Stretch) -> i64 {
        stretch.started - self.session.stretches.first().map_or(0, |first| first.started)
    }

    /// What is asked for of the footage at its ends, in microseconds since 1970, where that is exact to a frame.
    fn exact(&self) -> Option<(i64, i64)> {
        let (from, to) = self.session.span.filter(|_| self.session.exact)?;
        Some((from.timestamp_micros(), to.timestamp_micros()))
    }
}

/// The playlist of a session; made once.
pub(crate) async fn playlist(
    app: &App,
    footage: &Footage,
    quality: Option<&str>,
    wrapping: Wrapping,
) -> Answer<Bytes> {
    footage.check(quality)?;
    let name = (footage.session.id, format!("{} {}", wrapping.extension(), quality.unwrap_or_default()));
    let session = footage.session.id.to_string();
    let field = name.1.clone();
    let place = Place { kept: Kept::Footage, name: &session, field: &field };
    let rendering = async {
        if let Some((text, _)) = app.shared.get::<String>(place).await {
            return Ok(text.into());
        }
        let mut entries = listed(app, footage, quality, wrapping).await?;
        let begins = trim(footage, &mut entries);
        let query = quality.map(|quality| format!("?quality={quality}")).unwrap_or_default();
        let text = Playlist { wrapping, entries: &entries, begins, query: &query }.render();
        app.shared.put(place, &text, IDLE).await;
        Ok(text.into())
    };
    let text = app.caches.footage.playlists.try_get_with(name, rendering).await;
    text.map_err(|problem: Arc<Problem>| Problem::clone(&problem))
}

/// All segments of a session.
async fn listed(
    app: &App,
    footage: &Footage,
    quality: Option<&str>,
    wrapping: Wrapping,
) -> Answer<Vec<Entry>> {
    let mut mains = vec![];
    for stretch in &footage.session.stretches {
        let material = footage.material(stretch)?;
        let Some(main) = material.main(quality) else { continue };
        let unfit =
            [Some(main), material.beside(main)].into_iter().flatten().find(|it| !ts::carries(&it.codec));
        if let Some(track) = unfit.filter(|_| wrapping == Wrapping::Ts) {
            let detail =
                format!("MPEG-TS cannot carry {} ({}); ask for container=fmp4", track.rung, track.codec);
            return Err(Problem::new(Kind::NotFound, detail));
        }
        mains.push((stretch, material, main));
    }
    let wanted: Vec<_> = mains.iter().map(|(stretch, _, main)| (*stretch, main.rung.as_str())).collect();
    let rows = playback::listed(&app.db, &wanted).await?;
    let stretches = mains.iter().zip(&rows);
    Ok(stretches
        .flat_map(|((stretch, material, main), rows)| entries(stretch, material, main, rows))
        .collect())
}

/// An entry for each number, also of those that the index has nothing of.
fn entries(stretch: &Stretch, material: &Material, main: &Rendition, rows: &[Listed]) -> Vec<Entry> {
    let mut rows = rows.iter().peekable();
    let usual = rows.peek().map_or(1, |row| row.ticks);
    let (mut entries, mut end) = (vec![], rows.peek().map_or(0, |row| row.start));
    for number in stretch.first..stretch.until {
        let row = rows.next_if(|row| row.number == number);
        let (start, ticks, gap) = row.map_or((end, usual, true), |row| (row.start, row.ticks, row.gap));
        let is_first_of_run = material.run(number).is_some_and(|run| run.first_number == u64::from(number));
        entries.push(Entry {
            start: stretch.started.saturating_add(micros(start, main.timescale)),
            duration: Ticks { ticks, timescale: main.timescale },
            gap,
            seam: number == stretch.first || is_first_of_run,
        });
        end = start + ticks;
    }
    entries
}

/// Makes both ends exact to a frame where that was asked for: gives where players begin, and shortens the last segment.
fn trim(footage: &Footage, entries: &mut [Entry]) -> Option<u64> {
    let (from, to) = footage.exact()?;
    if let Some(last) = entries.last_mut() {
        let left = u64::try_from(to.saturating_sub(last.start)).unwrap_or_default();
        let ticks = u128::from(left) * u128::from(last.duration.timescale) / 1_000_000;
        last.duration.ticks = last.duration.ticks.min(u64::try_from(ticks).unwrap_or(u64::MAX)).max(1);
    }
    let begins = from.saturating_sub(entries.first()?.start);
    u64::try_from(begins).ok().filter(|micros| *micros > 0)
}

/// What there is of the span of a session, by its best quality.
pub(crate) struct Extent {
    /// Microseconds of footage.
    pub(crate) there: i64,
    /// Spans of which there is nothing, in microseconds since 1970.
    pub(crate) gaps: Vec<(i64, i64)>,
}

/// Looks what there is of the span of a session.
pub(crate) async fn extent(app: &App, footage: &Footage) -> Answer<Extent> {
    let mut extent = Extent { there: 0, gaps: vec![] };
    let Some((from, to)) = footage.session.span else { return Ok(extent) };
    let (to, mut end) = (to.timestamp_micros(), from.timestamp_micros());
    for entry in listed(app, footage, None, Wrapping::Fmp4).await?.iter().filter(|one| !one.gap) {
        if entry.start - end > NOTICED {
            extent.gaps.push((end, entry.start));
        }
        end = end.max(entry.end());
        extent.there += entry.end() - entry.start;
    }
    if to - end > NOTICED {
        extent.gaps.push((end, to));
    }
    Ok(extent)
}
