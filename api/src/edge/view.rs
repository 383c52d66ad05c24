//! What is known here of one stream, and who waits for more of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reelmill_shared::db::live::Origin;
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::media::live::playlist::Form;
use reelmill_shared::media::live::window::{Message, Track, Update, Window};
use tokio::sync::watch;

use super::playlists::Rendered;

/// For so long parts may be asked for that who carried the stream before had listed.
const FORMER: Duration = Duration::from_secs(60);

/// A stream as this edge knows it.
pub(crate) struct View {
    pub(crate) livestream: LivestreamId,
    state: RwLock<State>,
    presence: watch::Sender<Presence>,
    /// The multivariant playlist, and what it was made for.
    master: Mutex<Option<(Version, Rendered)>>,
    /// The DASH manifest, and the second it was made in.
    manifest: Mutex<Option<(i64, Rendered)>>,
    began: Instant,
    /// Milliseconds from `began` to the last request.
    touched: AtomicU64,
}

#[derive(Default)]
struct State {
    window: Option<Window>,
    origin: Option<Origin>,
    /// Who carried it before: parts that were listed then are nowhere else.
    former: Option<(Origin, Instant)>,
    tracks: HashMap<String, Arc<Listing>>,
}

/// What the multivariant playlist depends on: the broadcast, its run, and whether it is over.
type Version = (String, u32, bool);

/// Whether there is anything of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It was not asked for yet.
    Unknown,
    /// It is not on air.
    Absent,
    /// There is a window.
    Here,
}

/// The playlist of one track.
#[derive(Default)]
pub(crate) struct Listing {
    /// Counts what happened to the track.
    version: watch::Sender<u64>,
    rendered: Mutex<HashMap<Form, (u64, Rendered)>>,
}

impl View {
    pub(crate) fn new(livestream: LivestreamId) -> Self {
        Self {
            livestream,
            state: RwLock::default(),
            presence: watch::Sender::new(Presence::Unknown),
            master: Mutex::default(),
            manifest: Mutex::default(),
            began: Instant::now(),
            touched: AtomicU64::new(0),
        }
    }

    /// Somebody asks for it.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touched.store(now, Ordering::Relaxed);
    }

    /// How long nobody has asked for it.
    pub(crate) fn idle(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.touched.load(Ordering::Relaxed)))
    }

    /// Waits until it is known whether it is on air.
    pub(crate) async fn presence(&self) -> Presence {
        let mut presence = self.presence.subscribe();
        let known = presence.wait_for(|presence| *presence != Presence::Unknown).await;
        known.map_or(Presence::Unknown, |presence| *presence)
    }

    /// Looks at the window; `None` before there is one.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Window) -> T) -> Option<T> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.window.as_ref().map(look)
    }

    /// Who carries the stream, as far as is known.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).origin.clone()
    }

    /// Who carried the stream before that one did, while it may have parts that were listed then.
    pub(crate) fn former(&self) -> Option<Origin> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let former = state.former.as_ref().filter(|(_, until)| *until > Instant::now());
        former.map(|(origin, _)| origin.clone())
    }

    pub(crate) fn set_origin(&self, origin: Option<Origin>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let other = |before: &Origin| origin.as_ref().is_none_or(|now| now.address != before.address);
        if let Some(before) = state.origin.take().filter(other) {
            state.former = Some((before, Instant::now() + FORMER));
        }
        state.origin = origin;
    }

    /// It is not on air. What is here of it stays for who watches it, and ends where it is over.
    pub(crate) fn absent(&self, over: bool) {
        if over && self.look(|window| !window.ended).unwrap_or(false) {
            self.take(Message::Update(Update::Ended));
        }
        self.presence.send_if_modified(|presence| {
            let unknown = *presence == Presence::Unknown;
            if unknown {
                *presence = Presence::Absent;
            }
            unknown
        });
    }

    /// Takes what the origin says.
    pub(crate) fn take(&self, message: Message) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match message {
            Message::Alive => {}
            Message::Window(window) => {
                for track in &window.tracks {
                    state.tracks.entry(track.name.clone()).or_default();
                }
                state.window = Some(*window);
                state.tracks.values().for_each(|listing| listing.changed());
                self.presence.send_replace(Presence::Here);
            }
            Message::Update(update) => {
                let State { window: Some(window), tracks, .. } = &mut *state else { return };
                let of_one = match &update {
                    Update::Part { track, .. } | Update::Closed { track, .. } | Update::Gap { track, .. } => {
                        window.tracks.get(*track).map(|track| track.name.clone())
                    }
                    Update::Run(_) | Update::Ended => None,
                };
                let first = |track: &Track| track.segments.front().map(|segment| segment.number);
                let before: Vec<_> = window.tracks.iter().map(first).collect();
                window.apply(update);
                // A segment leaves all tracks at once, with what happens to the one that is behind.
                let left = window.tracks.iter().zip(before).filter(|(track, before)| first(track) != *before);
                for (track, _) in left.filter(|(track, _)| of_one.as_ref() != Some(&track.name)) {
                    if let Some(listing) = tracks.get(&track.name) {
                        listing.changed();
                    }
                }
                // Still under the lock: whoever reads a version finds the window that belongs to it.
                match of_one {
                    Some(name) => {
                        if let Some(listing) = tracks.get(&name) {
                            listing.changed();
                        }
                    }
                    None => tracks.values().for_each(|listing| listing.changed()),
                }
            }
        }
    }

    /// The multivariant playlist; `None` before every track has something.
    pub(crate) fn master(&self) -> Option<Rendered> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let window = state.window.as_ref()?;
        let version = (window.place.clone(), window.runs.last()?.epoch, window.ended);
        let mut master = self.master.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, text)) = master.as_ref()
            && *of == version
        {
            return Some(text.clone());
        }
        let text = Rendered::master(window)?;
        *master = Some((version, text.clone()));
        Some(text)
    }

    /// The DASH manifest, made once a second: it tells the time, by which players know what is there. `None` before there is a whole
    /// segment.
    pub(crate) fn manifest(&self, now: DateTime<Utc>) -> Option<Rendered> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((second, text)) = manifest.as_ref()
            && *second == now.timestamp()
        {
            return Some(text.clone());
        }
        let text = self.look(|window| Rendered::manifest(window, now)).flatten()?;
        *manifest = Some((now.timestamp(), text.clone()));
        Some(text)
    }

    /// The playlist of a track, to wait for; `None` where there is no such track.
    pub(crate) fn listing(&self, track: &str) -> Option<Arc<Listing>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).tracks.get(track).cloned()
    }

    /// The playlist of a track as it is now, rendered once for all who ask.
    pub(crate) fn rendered(&self, listing: &Listing, track: &str, form: Form) -> Option<Rendered> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let window = state.window.as_ref()?;
        let version = *listing.version.borrow();
        let mut rendered = listing.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, text)) = rendered.get(&form)
            && *of == version
        {
            return Some(text.clone());
        }
        let text = Rendered::media(window, track, form)?;
        rendered.insert(form, (version, text.clone()));
        Some(text)
    }
}

impl Listing {
    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Tells of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
