//! Playing the part of several viewers: what is asked for, and when. What it sees goes to the judge.

mod follow;
mod media;
mod probe;
mod reports;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch::{Receiver, Sender};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use url::Url;

use super::http::{Ask, Got, Http, Miss, PLAYLIST_LIMIT};
use super::judge::Judge;
use super::observation::{Answer, Asked, Fetched, Kind, Observation, Outcome, Pace, Place, Seen, Transport};
use super::playlist::{Last, Listed, Media, Multivariant, Playlist};
use crate::client::Failure;
use reports::Reports;

/// For what should be answered at once.
const SOON: Duration = Duration::from_secs(5);
/// More than any stream has.
const MOST_RENDITIONS: usize = 16;
/// Segments and parts that are downloaded at the same time.
const DOWNLOADS: usize = 8;
/// How many answers a rendition's history goes back.
const HISTORY: usize = 1024;

/// A stream that is being watched.
pub(super) struct Watch {
    http: Http,
    started: Instant,
    judge: Mutex<Judge>,
    reports: Mutex<Reports>,
    pub(super) renditions: Vec<Rendition>,
    multivariant: Option<(Url, Multivariant)>,
    /// The longest that a plain request took, in microseconds.
    usual: AtomicU64,
    /// Whole files are kept in memory while they are read, so there are not many at once.
    downloads: Semaphore,
}

/// A media playlist that is being watched.
pub(super) struct Rendition {
    pub(super) name: Arc<str>,
    url: Url,
    /// The other ones of the stream, watched or not.
    others: Vec<Url>,
    latest: Sender<Arc<Seen>>,
    history: Mutex<VecDeque<(Duration, Last)>>,
    pace: Mutex<Pace>,
}

/// How something is asked that is a playlist.
struct Request<'d> {
    directives: &'d [(&'static str, String)],
    timeout: Duration,
    /// Any other status than 200 is a fault by itself.
    must_come: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Reads what is at `url` and finds the renditions to watch.
    ///
    /// # Errors
    ///
    /// When nothing can be had there, when it is no playlist, or when there is no rendition of that name.
    pub(super) async fn begin(url: &Url, http: Http, wanted: Option<&str>) -> Result<Self, Failure> {
        let mut watch = Self {
            http,
            started: Instant::now(),
            judge: Mutex::default(),
            reports: Mutex::default(),
            renditions: vec![],
            multivariant: None,
            usual: AtomicU64::new(0),
            downloads: Semaphore::new(DOWNLOADS),
        };
        let cannot = |why: String| Failure::Unreachable(format!("{url}: {why}"));
        let got = watch.get(url, SOON * 2, false).await.map_err(|miss| cannot(miss.to_string()))?;
        if got.status != 200 {
            return Err(cannot(format!("status {}", got.status)));
        }
        let base = got.url.clone();
        let text =
            std::str::from_utf8(&got.body).map_err(|_| cannot("it is not text in UTF-8".to_owned()))?;
        let listed = match Playlist::parse(text).map_err(|wrong| cannot(wrong.to_string()))? {
            Playlist::Media => vec![("media".into(), url.clone(), false)],
            Playlist::Multivariant(found) => {
                let listed = names(&base, &found).map_err(|uri| cannot(format!("{uri} is no URI")))?;
                watch.observe(&Observation::Fetched(&Fetched {
                    place: Place {
                        rendition: "multivariant".into(),
                        url: url.to_string(),
                        ..Place::default()
                    },
                    // That of a live stream may change, too, but it does so as rarely as one likes.
                    kind: Kind::Plain { live: false },
                    target_duration: 0,
                    status: Ok(got.status),
                    transport: got.transport,
                    unreadable: None,
                }));
                watch.multivariant = Some((url.clone(), found));
                listed
            }
        };
        watch.add(listed, wanted).await?;
        Ok(watch)
    }

    /// Reads the playlists of the renditions that are wanted.
    async fn add(&mut self, listed: Vec<(Arc<str>, Url, bool)>, wanted: Option<&str>) -> Result<(), Failure> {
        let playable = || listed.iter().filter(|(.., i_frames)| !i_frames);
        let chosen: Vec<_> =
            playable().filter(|(name, ..)| wanted.is_none_or(|wanted| wanted == &**name)).collect();
        if chosen.is_empty() {
            let names: Vec<&str> = playable().map(|(name, ..)| &**name).collect();
            return Err(match wanted {
                Some(wanted) => {
                    Failure::Usage(format!("no rendition {wanted}; there are: {}", names.join(", ")))
                }
                None => Failure::Unreachable("the playlist names no renditions".to_owned()),
            });
        }
        let mut missing = None;
        for (name, url, _) in chosen.into_iter().take(MOST_RENDITIONS) {
            let request = Request { directives: &[], timeout: SOON * 2, must_come: true };
            match self.playlist(name, url, 0, &request).await {
                Some((Outcome::Playlist(seen), took)) => {
                    self.took(took);
                    let others =
                        playable().map(|(_, url, _)| url.clone()).filter(|other| other != url).collect();
                    self.renditions.push(Rendition::new(name.clone(), url.clone(), others, *seen));
                }
                _ => missing = Some(url),
            }
        }
        match missing {
            // One that is missing is a finding; all of them are no stream.
            Some(url) if self.renditions.is_empty() => {
                Err(Failure::Unreachable(format!("{url}: no media playlist can be read there")))
            }
            _ => Ok(()),
        }
    }

    /// Watches until the stream has ended and everything about its end was asked, or for ever.
    pub(super) async fn run(&self) {
        join_all(self.renditions.iter().map(|rendition| async move {
            let (fresh, queue) = mpsc::channel(2);
            tokio::join!(
                follow::follow(self, rendition, fresh),
                media::fetch(self, rendition, queue),
                probe::probe(self, rendition),
            );
        }))
        .await;
    }

    /// Ends the watch and hands out what was found.
    pub(super) fn end(self) -> (Judge, Duration) {
        let at = self.started.elapsed();
        for rendition in &self.renditions {
            self.observe(&Observation::Pace(&lock(&rendition.pace).clone()));
        }
        let mut judge = self.judge.into_inner().unwrap_or_else(PoisonError::into_inner);
        judge.end(at);
        (judge, at)
    }

    /// Something about how it stands, for whoever waits.
    pub(super) fn so_far(&self) -> (u64, u64, u64, usize) {
        let judge = lock(&self.judge);
        let sum = |of: fn(&super::judge::Figures) -> u64| judge.figures.values().map(of).sum();
        (sum(|f| f.playlists), sum(|f| f.parts), sum(|f| f.segments), judge.failed())
    }

    fn observe(&self, observation: &Observation<'_>) {
        lock(&self.judge).observe(observation);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The longest that a plain request took so far.
    fn usual(&self) -> Duration {
        Duration::from_micros(self.usual.load(Ordering::Relaxed))
    }

    fn took(&self, took: Duration) {
        self.usual.fetch_max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    async fn get(&self, url: &Url, timeout: Duration, gzip: bool) -> Result<Got, Miss> {
        self.http.get(url, Ask { range: None, gzip, timeout, limit: PLAYLIST_LIMIT }).await
    }

    /// Asks for a media playlist, shows it to the rules about playlists and files, and hands it out with the time it took. `None`
    /// where that failed in a way that is judged already.
    async fn playlist(
        &self,
        name: &Arc<str>,
        url: &Url,
        target_duration: u64,
        request: &Request<'_>,
    ) -> Option<(Outcome, Duration)> {
        let mut url = url.clone();
        if !request.directives.is_empty() {
            url.query_pairs_mut().extend_pairs(request.directives);
        }
        let place = Place { rendition: name.clone(), url: url.to_string(), ..Place::default() };
        let asked = Instant::now();
        let got = self.get(&url, request.timeout, false).await;
        let took = asked.elapsed();
        let directed = request.directives.iter().any(|(name, _)| *name == "_HLS_msn");
        let mut fetched = Fetched {
            place: place.clone(),
            kind: if directed { Kind::Directed } else { Kind::Plain { live: true } },
            target_duration,
            status: Ok(200),
            transport: Transport::default(),
            unreadable: None,
        };
        let got = match got {
            Ok(got) if got.status == 200 => got,
            Err(Miss::Silence(_)) if !request.must_come => return Some((Outcome::Silence, took)),
            Ok(Got { status, .. }) if !request.must_come => return Some((Outcome::Status(status), took)),
            Ok(Got { status, .. }) => {
                fetched.status = Ok(status);
                self.observe(&Observation::Fetched(&fetched));
                return Some((Outcome::Status(status), took));
            }
            Err(miss) => {
                fetched.status = Err(miss.to_string());
                self.observe(&Observation::Fetched(&fetched));
                return None;
            }
        };
        fetched.transport = got.transport;
        let media = std::str::from_utf8(&got.body)
            .map_err(|_| "it is not text in UTF-8".to_owned())
            .and_then(|text| Media::parse(text).map_err(|wrong| wrong.to_string()));
        match media {
            Ok(media) => {
                fetched.target_duration = media.target_duration;
                if media.end {
                    fetched.kind = Kind::Plain { live: false };
                }
                self.observe(&Observation::Fetched(&fetched));
                let seen = Seen { place, base: got.url, at: self.now(), media };
                self.observe(&Observation::Playlist(&seen));
                Some((Outcome::Playlist(seen.into()), took))
            }
            Err(wrong) => {
                fetched.unreadable = Some(wrong);
                self.observe(&Observation::Fetched(&fetched));
                None
            }
        }
    }

    /// Asks with directives and shows the outcome to the rules about answers.
    async fn ask(&self, rendition: &Rendition, asked: Asked, timeout: Duration) -> Option<Outcome> {
        let known = rendition.latest();
        let directives = directives(asked);
        let request = Request { directives: &directives, timeout, must_come: false };
        let target = known.media.target_duration;
        let (outcome, took) = self.playlist(&rendition.name, &rendition.url, target, &request).await?;
        let mut url = rendition.url.clone();
        url.query_pairs_mut().extend_pairs(&directives);
        let mut place = rendition.place();
        place.url = url.into();
        let answer = Answer { place, asked, known, took, usual: self.usual(), outcome };
        self.observe(&Observation::Answer(&answer));
        Some(answer.outcome)
    }

    /// Shows that a playlist was refused that should have come.
    fn refused(&self, rendition: &Rendition, target_duration: u64, status: u16) {
        self.observe(&Observation::Fetched(&Fetched {
            place: rendition.place(),
            kind: Kind::Directed,
            target_duration,
            status: Ok(status),
            transport: Transport::default(),
            unreadable: None,
        }));
    }
}

impl Rendition {
    fn new(name: Arc<str>, url: Url, others: Vec<Url>, seen: Seen) -> Self {
        let place = Place { rendition: name.clone(), url: url.to_string(), ..Place::default() };
        let part_target = seen.media.part_target.unwrap_or_default();
        let pace = Pace { place, part_target, updates: 0, late: 0, worst: Duration::ZERO };
        let (latest, _) = tokio::sync::watch::channel(Arc::new(seen));
        Self { name, url, others, latest, history: Mutex::default(), pace: Mutex::new(pace) }
    }

    fn place(&self) -> Place {
        Place { rendition: self.name.clone(), url: self.url.to_string(), ..Place::default() }
    }

    /// The newest full playlist that its follower has.
    fn latest(&self) -> Arc<Seen> {
        self.latest.borrow().clone()
    }

    fn changes(&self) -> Receiver<Arc<Seen>> {
        self.latest.subscribe()
    }

    fn remember(&self, at: Duration, last: Last) {
        let mut history = lock(&self.history);
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back((at, last));
    }

    /// Notes how long a request for the next part was held.
    fn pace(&self, held: Duration) {
        let mut pace = lock(&self.pace);
        pace.updates += 1;
        pace.worst = pace.worst.max(held);
        if held.as_secs_f64() > 1.5 * pace.part_target {
            pace.late += 1;
        }
    }
}

/// How long a blocking request may be held before its client gives it up.
fn patience(seen: &Seen, usual: Duration) -> Duration {
    Duration::from_secs(3 * seen.media.target_duration) + usual + Duration::from_millis(1500)
}

/// Delivery directives (6.2.5).
fn directives(asked: Asked) -> Vec<(&'static str, String)> {
    let msn = |msn: u64| ("_HLS_msn", msn.to_string());
    let part = |part: u64| ("_HLS_part", part.to_string());
    match asked {
        Asked::Part { msn: m, part: p }
        | Asked::BeyondLastPart { msn: m, part: p }
        | Asked::FarPart { msn: m, part: p } => vec![msn(m), part(p)],
        Asked::Old { msn: m, part: Some(p) } => vec![msn(m), part(p)],
        Asked::Whole { msn: m } | Asked::Old { msn: m, part: None } | Asked::FarSegment { msn: m } => {
            vec![msn(m)]
        }
        Asked::PartAlone => vec![part(0)],
        Asked::AfterEnd => vec![msn(1 << 40), part(0), ("_HLS_skip", "YES".to_owned())],
    }
}

/// A name for each rendition: what its tag says, where no other is called so, else the end of its path.
fn names(base: &Url, found: &Multivariant) -> Result<Vec<(Arc<str>, Url, bool)>, String> {
    let mut taken = HashSet::new();
    let mut name = |listed: &Listed, url: &Url| -> Arc<str> {
        let path = url.path().trim_start_matches('/').trim_end_matches(".m3u8");
        let ends = path.rmatch_indices('/').map(|(at, _)| &path[at + 1..]).chain([path]);
        let choices = listed.name.as_deref().into_iter().chain(ends);
        let free = choices.map(str::to_owned).find(|name| !name.is_empty() && taken.insert(name.clone()));
        free.unwrap_or_else(|| url.to_string()).into()
    };
    let renditions = found.renditions.iter().map(|listed| {
        let url = base.join(&listed.uri).map_err(|_| listed.uri.clone())?;
        Ok((name(listed, &url), url, listed.i_frames))
    });
    renditions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renditions_get_names_that_can_be_told_apart() {
        let listed = |name: Option<&str>, uri: &str| Listed {
            name: name.map(str::to_owned),
            uri: uri.to_owned(),
            i_frames: false,
        };
        let found = Multivariant {
            renditions: vec![
                listed(None, "720p/index.m3u8?x=1"),
                listed(None, "480p/index.m3u8"),
                listed(Some("English"), "audio.m3u8"),
                listed(Some("English"), "audio_2.m3u8"),
            ],
        };
        let base = Url::parse("http://host/live/master.m3u8").unwrap();
        let named = names(&base, &found).unwrap();
        let shown: Vec<&str> = named.iter().map(|(name, ..)| &**name).collect();
        assert_eq!(shown, ["index", "480p/index", "English", "audio_2"]);
        assert_eq!(named[1].1.as_str(), "http://host/live/480p/index.m3u8");
    }
}
