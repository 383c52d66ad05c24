//! What a player downloads: parts while they are hinted at and when they are listed, segments when they are whole.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use url::Url;

use super::probe::resolve;
use super::{Rendition, Watch};
use crate::check_hls::boxes::{Init, Run};
use crate::check_hls::http::{Ask, Got, Miss, PART_LIMIT, SEGMENT_LIMIT};
use crate::check_hls::observation::{
    Burst, Fetched, HintSeen, Kind, Observation, PartMedia, Place, Seen, SegmentMedia, Transport,
};
use crate::check_hls::playlist::{ByteRange, Last, Map, Part, Segment};

/// For one file.
const DOWNLOAD: Duration = Duration::from_secs(15);
/// Segments that are downloaded where many are new at once.
const MOST_AT_ONCE: usize = 8;
/// What a stream that has ended is sampled by, at either end.
const SAMPLES: usize = 3;
const MOST_INITS: usize = 16;
const MOST_HINTS: usize = 4;
const MOST_PARTS: usize = 4096;
const MOST_DEPARTED: usize = 64;

/// Downloads what the playlists name until no more of them come.
pub(super) async fn fetch(watch: &Watch, rendition: &Rendition, mut queue: mpsc::Receiver<Arc<Seen>>) {
    let mut player = Player {
        watch,
        rendition,
        inits: HashMap::new(),
        cursor: None,
        parts: BTreeMap::new(),
        segment: None,
        hints: VecDeque::new(),
        departed: VecDeque::new(),
    };
    let mut before: Option<Arc<Seen>> = None;
    while let Some(seen) = queue.recv().await {
        if let Some(before) = &before {
            player.note_departed(before, &seen);
        }
        player.went_on(&seen).await;
        player.ask_for_departed().await;
        before = Some(seen);
    }
}

/// One viewer's downloads.
struct Player<'w> {
    watch: &'w Watch,
    rendition: &'w Rendition,
    /// By address and range; `None` for one that cannot be read.
    inits: HashMap<String, Option<Arc<Init>>>,
    /// What has been downloaded last.
    cursor: Option<Last>,
    parts: BTreeMap<Last, PartMedia>,
    /// The newest segment: its number, its samples, and what they are decoded with.
    segment: Option<(u64, Vec<Run>, Option<Map>)>,
    hints: VecDeque<Hinted>,
    /// To be asked for once more.
    departed: VecDeque<Departed>,
}

/// A file to download.
struct File<'f> {
    url: &'f Url,
    range: Option<ByteRange>,
    kind: Kind,
    /// In bytes.
    limit: usize,
}

/// A part that has left the playlist, and the end of the time it has to stay for.
struct Departed {
    until: Duration,
    place: Place,
    url: Url,
    range: Option<ByteRange>,
}

/// A part that was asked for before it was there.
struct Hinted {
    url: Url,
    download: JoinHandle<Result<Got, Miss>>,
    /// Ends the download with its owner.
    _end: EndOnDrop,
}

struct EndOnDrop(AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Player<'_> {
    async fn went_on(&mut self, seen: &Arc<Seen>) {
        let media = &seen.media;
        let segments: Vec<&Segment> = match self.cursor {
            // All of it is there, more than anybody wants to download.
            None if media.end => {
                let count = media.segments.len();
                media
                    .segments
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| *index < SAMPLES || index + SAMPLES >= count)
                    .map(|(_, segment)| segment)
                    .collect()
            }
            // Begin at the live edge; where there are no parts, with the newest segment.
            None => media.segments.last().filter(|_| media.part_target.is_none()).into_iter().collect(),
            Some(cursor) => {
                let new = media.segments.iter().filter(|segment| {
                    segment.msn > cursor.msn || segment.msn == cursor.msn && cursor.part != Last::WHOLE
                });
                let new: Vec<_> = new.collect();
                new[new.len().saturating_sub(MOST_AT_ONCE)..].to_vec()
            }
        };
        let whole = media.last_whole().map(|msn| Last { msn, part: Last::WHOLE });
        if !media.end {
            let from = self.cursor.or(whole);
            let parts: Vec<_> =
                media.parts_after(from).filter(|(_, segment, part)| !part.gap && !segment.gap).collect();
            // After a pause there may be many; the newest are played.
            let parts = &parts[parts.len().saturating_sub(4 * MOST_AT_ONCE)..];
            self.fetch_parts(seen, parts).await;
            self.follow_hint(seen);
        }
        for segment in segments {
            self.fetch_segment(seen, segment).await;
        }
        self.cursor = match media.open.parts.len() as u64 {
            0 => whole.or(self.cursor),
            parts => Some(Last { msn: media.open.msn, part: parts - 1 }),
        };
        while self.parts.len() > MOST_PARTS {
            self.parts.pop_first();
        }
    }

    async fn fetch_parts(&mut self, seen: &Seen, parts: &[(Last, &Segment, &Part)]) {
        for (_, segment, _) in parts {
            self.init(seen, segment).await;
        }
        let this = &*self;
        let downloads = parts.iter().map(|(last, segment, part)| async move {
            let place = seen.place.clone().line(part.line).last(*last);
            let init = this.known_init(seen, segment);
            let read = |bytes: &Bytes| samples(init.as_deref(), bytes);
            let url = resolve(seen, &part.uri)?;
            let file = File { url: &url, range: part.range, kind: Kind::Media, limit: PART_LIMIT };
            let (runs, got) = this.file(place.clone(), file, read).await?;
            Some((*last, url, got.as_burst(), PartMedia { place, independent: part.independent, runs }))
        });
        for (last, url, burst, part) in join_all(downloads).await.into_iter().flatten() {
            self.judge_hint(&part.place, &url, burst).await;
            if !part.runs.is_empty() {
                self.watch.observe(&Observation::Part(&part));
                self.parts.insert(last, part);
            }
        }
    }

    async fn fetch_segment(&mut self, seen: &Seen, segment: &Segment) {
        if segment.gap {
            self.segment = None;
            return;
        }
        self.init(seen, segment).await;
        let init = self.known_init(seen, segment);
        let place = Place { url: seen.place.url.clone(), ..seen.place.clone() }
            .line(segment.line)
            .segment(segment.msn);
        let Some(url) = resolve(seen, &segment.uri) else { return };
        let read = |bytes: &Bytes| samples(init.as_deref(), bytes);
        let file = File { url: &url, range: segment.range, kind: Kind::Media, limit: SEGMENT_LIMIT };
        let Some((runs, _)) = self.file(place.clone(), file, read).await else {
            return;
        };
        if runs.is_empty() {
            return;
        }
        let joins = |(msn, _, map): &(u64, Vec<Run>, Option<Map>)| {
            msn + 1 == segment.msn && !segment.discontinuity && *map == segment.map
        };
        let before = self.segment.take().filter(joins).map(|(_, runs, _)| runs);
        let count = segment.parts.len() as u64;
        let parts: Vec<_> =
            (0..count).filter_map(|part| self.parts.remove(&Last { msn: segment.msn, part })).collect();
        let parts = Some(parts).filter(|parts| !parts.is_empty() && parts.len() as u64 == count);
        let media = SegmentMedia { place, runs, parts, before };
        self.watch.observe(&Observation::Segment(&media));
        self.segment = Some((segment.msn, media.runs, segment.map.clone()));
    }

    /// Downloads a file, and shows it to the rules about files. `None` where it did not come or cannot be read.
    async fn file<T>(
        &self,
        place: Place,
        file: File<'_>,
        read: impl FnOnce(&Bytes) -> Result<T, String>,
    ) -> Option<(T, Got)> {
        let File { url, range, kind, limit } = file;
        // Nobody closes it.
        let _turn = self.watch.downloads.acquire().await.ok()?;
        let ask = Ask { range, gzip: false, timeout: DOWNLOAD, limit };
        let got = self.watch.http.get(url, ask).await;
        let status = got.as_ref().map(|got| got.status).map_err(|miss| format!("{}: {miss}", url.path()));
        let mut fetched = Fetched {
            place,
            kind,
            target_duration: self.rendition.latest().media.target_duration,
            status,
            transport: Transport::default(),
            unreadable: None,
        };
        let mut found = None;
        if let Ok(got) = got {
            fetched.transport = got.transport.clone();
            if range.is_some() && got.status == 200 {
                fetched.unreadable = Some(format!("{}: all of it, where a range was asked for", url.path()));
            } else if matches!(got.status, 200 | 206) {
                match read(&got.body) {
                    Ok(content) => found = Some((content, got)),
                    Err(wrong) => fetched.unreadable = Some(format!("{}: {wrong}", url.path())),
                }
            }
        }
        if found.is_none() && kind == Kind::Media && self.becomes_a_gap(fetched.place.msn).await {
            return None;
        }
        self.watch.observe(&Observation::Fetched(&fetched));
        found
    }

    /// Whether a segment that could not be had is told to be lost, with its server, before players give it up.
    async fn becomes_a_gap(&self, msn: Option<u64>) -> bool {
        let Some(msn) = msn else { return false };
        let mut changes = self.rendition.changes();
        let told = async {
            loop {
                let seen = changes.borrow_and_update().clone();
                let gap = seen.media.segment(msn).map(|segment| segment.gap);
                // There it is still, or it has left the playlist.
                if gap != Some(false) || seen.media.end {
                    return gap == Some(true);
                }
                if changes.changed().await.is_err() {
                    return false;
                }
            }
        };
        let most = Duration::from_secs(3 * self.rendition.latest().media.target_duration);
        timeout(most, told).await.unwrap_or(false)
    }

    /// Has the init segment of a segment downloaded.
    async fn init(&mut self, seen: &Seen, segment: &Segment) {
        let Some((key, url, map)) = init_of(seen, segment).filter(|(key, ..)| !self.inits.contains_key(key))
        else {
            return;
        };
        if self.inits.len() == MOST_INITS {
            self.inits.clear();
        }
        let place = seen.place.clone().segment(segment.msn);
        let file = File { url: &url, range: map.range, kind: Kind::Media, limit: PART_LIMIT };
        let init = self.file(place, file, |bytes| Init::parse(bytes)).await;
        self.inits.insert(key, init.map(|(init, _)| init.into()));
    }

    fn known_init(&self, seen: &Seen, segment: &Segment) -> Option<Arc<Init>> {
        let (key, ..) = init_of(seen, segment).filter(|_| !segment.is_sealed())?;
        self.inits.get(&key).cloned().flatten()
    }

    /// Asks for the part that comes next, as it is hinted at.
    fn follow_hint(&mut self, seen: &Seen) {
        let hint = seen
            .media
            .hints
            .iter()
            .find(|hint| hint.kind == "PART" && hint.start == 0 && hint.length.is_none());
        let Some(url) = hint.and_then(|hint| resolve(seen, &hint.uri)) else { return };
        if self.hints.iter().any(|hinted| hinted.url == url) {
            return;
        }
        // Of a segment made in one file all parts are hinted at by the same name.
        if seen.media.parts_after(None).any(|(.., part)| part.range.is_some()) {
            return;
        }
        if self.hints.len() == MOST_HINTS {
            self.hints.pop_front();
        }
        let (http, asked) = (self.watch.http.clone(), url.clone());
        let wait = Duration::from_secs(3 * seen.media.target_duration) + DOWNLOAD;
        let ask = Ask { range: None, gzip: false, timeout: wait, limit: PART_LIMIT };
        let download = tokio::spawn(async move { http.get(&asked, ask).await });
        let end = EndOnDrop(download.abort_handle());
        self.hints.push_back(Hinted { url, download, _end: end });
    }

    /// The hinted part has been listed and downloaded again: did the first download bring it?
    async fn judge_hint(&mut self, place: &Place, url: &Url, again: Burst) {
        let Some(index) = self.hints.iter().position(|hinted| hinted.url == *url) else { return };
        let Some(mut hinted) = self.hints.remove(index) else { return };
        let first = match timeout(Duration::from_secs(1), &mut hinted.download).await {
            Ok(Ok(Ok(got))) if got.status == 200 => Ok(got.as_burst()),
            Ok(Ok(Ok(got))) => Err(format!("status {} while it was hinted at", got.status)),
            Ok(Ok(Err(miss))) => Err(miss.to_string()),
            Ok(Err(ended)) => Err(ended.to_string()),
            Err(_) => Err("no answer a second after it was listed".to_owned()),
        };
        let place = Place { url: url.to_string(), ..place.clone() };
        let part_target = self.rendition.latest().media.part_target.unwrap_or_default();
        self.watch.observe(&Observation::Hint(&HintSeen { place, first, again, part_target }));
    }

    /// Notes one part of each segment whose parts have left the playlist.
    fn note_departed(&mut self, before: &Seen, seen: &Seen) {
        // It was still there then, so it has to stay for this long at least.
        let until = before.at + Duration::from_secs(3 * before.media.target_duration);
        for segment in &before.media.segments {
            let Some(part) = segment.parts.first().filter(|part| !part.gap) else { continue };
            let now = seen.media.segment(segment.msn);
            let still = now.is_some_and(|now| now.parts.first().is_some_and(|now| now.uri == part.uri));
            // A segment that became a gap was lost with its server, and the playlist says so.
            let lost = now.is_some_and(|now| now.gap);
            let Some(url) = resolve(before, &part.uri).filter(|_| !still && !lost) else { continue };
            if self.departed.len() < MOST_DEPARTED {
                let place = Place { url: url.to_string(), ..before.place.clone() }
                    .last(Last { msn: segment.msn, part: 0 });
                self.departed.push_back(Departed { until, place, url, range: part.range });
            }
        }
    }

    /// Asks for parts that have left, near the end of the time they have to stay.
    async fn ask_for_departed(&mut self) {
        let part_target = self.rendition.latest().media.part_target.unwrap_or_default();
        // Playlists, by which this is woken, come that far apart.
        let near = Duration::from_millis(200) + Duration::from_secs_f64(2.0 * part_target.min(10.0));
        let now = self.watch.now();
        while let Some(departed) = self.departed.pop_front_if(|departed| departed.until <= now + near) {
            // After a stall it may be too late.
            if now < departed.until {
                let Departed { place, url, range, .. } = departed;
                let file = File { url: &url, range, kind: Kind::Departed, limit: PART_LIMIT };
                self.file(place, file, |_| Ok(())).await;
            }
        }
    }
}

/// The name and place of a segment's init segment.
fn init_of<'s>(seen: &Seen, segment: &'s Segment) -> Option<(String, Url, &'s Map)> {
    let map = segment.map.as_ref()?;
    let url = resolve(seen, &map.uri)?;
    Some((format!("{url} {:?}", map.range), url, map))
}

/// The samples of a file; none of one that has no init segment, or that is sealed.
fn samples(init: Option<&Init>, bytes: &[u8]) -> Result<Vec<Run>, String> {
    init.map_or(Ok(vec![]), |init| init.samples(bytes))
}
