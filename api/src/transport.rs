//! Streams as MPEG-TS, for players that know nothing newer. Nothing of it is stored: segments are made of the stored ones when
//! somebody asks, and kept in memory while there is room.

use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use reelmill_shared::db::sets::{self, Rendition, Segment, SetReference, TrackKind};
use reelmill_shared::ids::SetId;
use reelmill_shared::media::cmaf;
use reelmill_shared::media::grid::AAC_FRAME;
use reelmill_shared::media::hls::{Bandwidth, MeasuredSegment, Ticks, measure_bandwidth};
use reelmill_shared::media::presentation;
use reelmill_shared::media::ts::{self, Amount, Media, TsError};
use tokio::sync::Semaphore;

use crate::cdn::Had;
use crate::media::{MediaBytes, MediaFile, etag};
use crate::playback::{Container, StreamFile, locate, renditions};
use crate::problem::{Answer, Kind, Problem, request_id};
use crate::state::App;

/// Memory that the segments made at once may take together, in MiB; one alone may need more than that.
const MEMORY: u32 = 192;
/// What making a segment takes for each of its bytes: what is read, what is made, and what lies between.
const TIMES: u64 = 3;

/// Bytes of init segments that are kept; most have a kB.
const INITS: u64 = 16 << 20;

/// What is kept, and how much is made at once.
pub(crate) struct Transport {
    segments: Cache<SegmentName, MediaBytes>,
    /// Init segments by their keys: every segment needs one, and they are small.
    inits: Cache<String, Bytes>,
    /// A permit a MiB.
    memory: Semaphore,
}

/// A set, what of it, and which segment.
pub(crate) type SegmentName = (SetId, String, u32);

impl Transport {
    /// With room for `bytes` of segments.
    pub(crate) fn new(bytes: u64) -> Self {
        let weigh =
            |_: &SegmentName, media: &MediaBytes| u32::try_from(media.bytes.len()).unwrap_or(u32::MAX);
        let weigh_init =
            |key: &String, init: &Bytes| u32::try_from(key.len() + init.len()).unwrap_or(u32::MAX);
        Self {
            segments: Cache::builder().max_capacity(bytes).weigher(weigh).build(),
            inits: Cache::builder().max_capacity(INITS).weigher(weigh_init).build(),
            memory: Semaphore::new(MEMORY as usize),
        }
    }
}

/// Refuses a rendition that MPEG-TS has no place for.
pub(crate) fn check(rendition: &Rendition) -> Answer<()> {
    if ts::carries(&rendition.codec) {
        return Ok(());
    }
    let codec = &rendition.codec;
    Err(Problem::new(
        Kind::NotFound,
        format!("MPEG-TS cannot carry {} ({codec}); it is there as fragmented MP4 only", rendition.rung),
    ))
}

/// The sound that is muxed with `rendition`: the first there is.
fn sound_of<'a>(all: &'a [Rendition], rendition: &Rendition) -> Option<&'a Rendition> {
    let mut sounds = all.iter().filter(|other| other.kind == TrackKind::Audio && ts::carries(&other.codec));
    sounds.next().filter(|_| rendition.kind == TrackKind::Video)
}

/// A segment, made now where it is not in memory. Who asks for the same one meanwhile waits for it.
pub(crate) async fn segment(
    app: &App,
    set: &SetReference,
    rung: &str,
    number: u32,
) -> Answer<Option<(MediaBytes, Had)>> {
    // Before a set can be played its sound may be missing, and a segment never changes.
    if !set.is_finished() && !set.active {
        return Ok(None);
    }
    let all = if set.is_finished() {
        renditions(app, set).await?
    } else {
        // Not what is kept for a moment: it may be from before there was any sound.
        Arc::new(sets::renditions(&app.db, set.set_id).await?)
    };
    let Some(rendition) = all.iter().find(|rendition| rendition.rung == rung) else {
        return Ok(None);
    };
    check(rendition)?;
    let main = Part::find(app, set, rendition, number).await?;
    if main.segment.is_none() {
        return Ok(None);
    }
    let beside = match sound_of(&all, rendition) {
        Some(sound) => Some(Part::find(app, set, sound, number).await?),
        None => None,
    };
    // The sound may end a segment earlier; while it grows it may only be late.
    if !set.is_finished() && beside.as_ref().is_some_and(|part| part.segment.is_none()) {
        return Ok(None);
    }
    let name = (set.set_id, rung.to_owned(), number);
    made(app, name, rendition.kind, main, beside).await.map(Some)
}

/// A segment of parts that are known; `name` is what it is kept by.
pub(crate) async fn made(
    app: &App,
    name: SegmentName,
    kind: TrackKind,
    main: Part,
    beside: Option<Part>,
) -> Answer<(MediaBytes, Had)> {
    let making = make(app, name.2, kind, main, beside);
    let made = app.caches.transport.segments.entry(name).or_try_insert_with(making).await;
    let made = made.map_err(|problem: Arc<Problem>| Problem::clone(&problem))?;
    let had = Had(!made.is_fresh());
    Ok((made.into_value(), had))
}

/// Where a rendition's part of a segment lies.
pub(crate) struct Part {
    pub(crate) init: MediaFile,
    /// `None` where it has no segment of this number.
    pub(crate) segment: Option<MediaFile>,
    /// Ticks of its timeline from which nothing is taken; `None` for all of it.
    pub(crate) end: Option<i64>,
}

impl Part {
    async fn find(app: &App, set: &SetReference, rendition: &Rendition, number: u32) -> Answer<Self> {
        let rung = &rendition.rung;
        let (ordinal, container) = (set.ordinal, Container::Fmp4);
        let segment = StreamFile::Segment { rung: rung.clone(), ordinal, number, container };
        let init = MediaFile { key: rendition.init_key.clone(), bytes: rendition.init_bytes };
        Ok(Self { init, segment: locate(app, set, rung, &segment).await?, end: None })
    }

    /// What it is, among all objects there ever are.
    fn name(&self) -> String {
        let segment = self.segment.as_ref().map_or("", |segment| &segment.key);
        format!("{} {segment} {:?}", self.init.key, self.end)
    }

    fn bytes(&self) -> u64 {
        self.init.bytes + self.segment.as_ref().map_or(0, |segment| segment.bytes)
    }

    /// Its init segment; an object never changes.
    async fn init(&self, app: &App) -> Answer<Bytes> {
        let inits = &app.caches.transport.inits;
        // On the heap: it is large, and each part of a segment has one.
        let read = Box::pin(inits.try_get_with_by_ref(&self.init.key, read(app, &self.init))).await;
        read.map_err(|problem: Arc<Problem>| Problem::clone(&problem))
    }

    /// Its init segment and its segment, which is empty where there is none.
    pub(crate) async fn read(self, app: &App) -> Answer<(Bytes, Bytes)> {
        let segment = async {
            match &self.segment {
                Some(segment) => read(app, segment).await,
                None => Ok(Bytes::new()),
            }
        };
        let (init, segment) = tokio::try_join!(self.init(app), segment)?;
        match self.end.filter(|_| !segment.is_empty()) {
            None => Ok((init, segment)),
            Some(end) => {
                let cut = cmaf::cut_off(&init, &segment, end).map_err(|error| failed(&error))?;
                Ok((init, cut.into()))
            }
        }
    }
}

async fn make(
    app: &App,
    number: u32,
    kind: TrackKind,
    main: Part,
    beside: Option<Part>,
) -> Answer<MediaBytes> {
    let bytes = [Some(&main), beside.as_ref()].into_iter().flatten().map(Part::bytes).sum::<u64>();
    if bytes > ts::MOST_BYTES as u64 {
        let detail = format!(
            "this segment has {bytes} bytes: too many to be made MPEG-TS of; it is there as fragmented MP4"
        );
        return Err(Problem::new(Kind::NotFound, detail));
    }
    // Objects never change: what they are called says what is made of them, and costs less than to look at all of it.
    let parts = [Some(&main), beside.as_ref()].map(|part| part.map(Part::name).unwrap_or_default());
    let etag = etag(format!("{} {number} {}", env!("CARGO_PKG_VERSION"), parts.join(" ")));
    let permits = u32::try_from((bytes * TIMES) >> 20).map_or(MEMORY, |mib| mib.clamp(1, MEMORY));
    // The semaphore is never closed.
    let _turn = app.caches.transport.memory.acquire_many(permits).await.ok();
    let beside = async {
        match beside {
            Some(part) => part.read(app).await.map(Some),
            None => Ok(None),
        }
    };
    let (main, beside) = tokio::try_join!(main.read(app), beside)?;
    let remuxing = tokio::task::spawn_blocking(move || {
        let bytes = match kind {
            TrackKind::Video => ts::remux(number, Some(media(main)), beside.map(media)),
            TrackKind::Audio | TrackKind::Text => ts::remux(number, None, Some(media(main))),
        }?;
        Ok(MediaBytes { etag, bytes })
    });
    metrics::counter!("reelmill_ts_segments_made_total").increment(1);
    let made = remuxing.await.map_err(|error| failed(&error))?;
    made.map_err(|error: TsError| failed(&error))
}

fn media((init, segment): (Bytes, Bytes)) -> Media {
    Media { init, segment }
}

/// What is stored is ours, so that it does not read is our fault.
pub(crate) fn failed(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, request_id = request_id(), "a segment could not be made");
    Problem::new(Kind::Internal, "the segment could not be made")
}

/// Reads an object whole.
pub(crate) async fn read(app: &App, file: &MediaFile) -> Answer<Bytes> {
    Ok(app.storage.whole(&file.key).await?)
}

/// The master playlist of what MPEG-TS can carry.
pub(crate) async fn master(app: &App, set: &SetReference) -> Answer<String> {
    let all = renditions(app, set).await?;
    let pictures: Vec<&Rendition> =
        all.iter().filter(|rendition| rendition.kind == TrackKind::Video).collect();
    let offered: Vec<&Rendition> = if pictures.is_empty() { all.iter().collect() } else { pictures };
    let offered: Vec<&Rendition> = offered.into_iter().filter(|rendition| check(rendition).is_ok()).collect();
    if offered.is_empty() {
        // Says which and why.
        all.iter().try_for_each(check)?;
    }
    let mut presented = vec![];
    for rendition in &offered {
        let bandwidth = bandwidth(app, set, rendition, sound_of(&all, rendition)).await?;
        let mut one = rendition.presented(format!("{}-ts.m3u8", rendition.rung), String::new());
        // Those there are lie in fragmented MP4.
        one.iframes = None;
        (one.peak_bandwidth, one.average_bandwidth) = (bandwidth.peak, bandwidth.average);
        presented.push(one);
    }
    let sound = offered.first().and_then(|rendition| sound_of(&all, rendition));
    Ok(presentation::master_muxed(&presented, sound.map(|sound| sound.codec.as_str())).render())
}

/// Bit rates that the segments, which are not made yet, will not exceed: by each stored segment, or, while they grow, by the
/// declared rates.
async fn bandwidth(
    app: &App,
    set: &SetReference,
    rendition: &Rendition,
    sound: Option<&Rendition>,
) -> Answer<Bandwidth> {
    let declared = {
        let second = |rate: fn(&Rendition) -> u64| {
            let amount = |rendition: &Rendition| {
                amount(rendition, rate(rendition).div_ceil(8), u64::from(rendition.timescale))
            };
            at_most(rendition.kind, amount(rendition), sound.map(amount)) * 8
        };
        Bandwidth { peak: second(|r| r.peak_bandwidth), average: second(|r| r.average_bandwidth) }
    };
    if !set.is_finished() {
        return Ok(declared);
    }
    let segments = sets::segments(&app.db, set.set_id, &rendition.rung).await?;
    let beside = match sound {
        Some(sound) => sets::segments(&app.db, set.set_id, &sound.rung).await?,
        None => vec![],
    };
    let of =
        |rendition: &Rendition, segment: &Segment| amount(rendition, segment.bytes, segment.duration_ticks);
    let measured: Vec<MeasuredSegment> = segments
        .iter()
        .map(|segment| {
            // Numbers count from zero, without a hole.
            let beside = beside.get(segment.number as usize);
            let beside = sound.map(|sound| beside.map_or(Amount::default(), |segment| of(sound, segment)));
            MeasuredSegment {
                bytes: at_most(rendition.kind, of(rendition, segment), beside),
                duration: Ticks { ticks: segment.duration_ticks, timescale: rendition.timescale },
            }
        })
        .collect();
    Ok(measure_bandwidth(&measured).unwrap_or(declared))
}

fn at_most(kind: TrackKind, main: Amount, beside: Option<Amount>) -> u64 {
    match kind {
        TrackKind::Video => ts::at_most(Some(main), beside),
        TrackKind::Audio | TrackKind::Text => ts::at_most(None, Some(main)),
    }
}

/// What `bytes` of a rendition that last for `ticks` are made of.
fn amount(rendition: &Rendition, bytes: u64, ticks: u64) -> Amount {
    let timescale = u64::from(rendition.timescale.max(1));
    let sample_rate = u64::from(rendition.sample_rate.unwrap_or(0));
    let samples = match rendition.kind {
        TrackKind::Video => {
            let (num, den) = rendition.frame_rate.unwrap_or((1, 1));
            (ticks * u64::from(num)).div_ceil(timescale * u64::from(den.max(1)))
        }
        // Text never gets here: MPEG-TS does not carry it.
        TrackKind::Audio | TrackKind::Text => (ticks * sample_rate).div_ceil(timescale * AAC_FRAME),
    };
    let millis = (ticks * 1000).div_ceil(timescale);
    Amount { bytes, samples, millis, init_bytes: rendition.init_bytes, sample_rate }
}
