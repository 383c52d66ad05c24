//! What of a livestream is held in memory on its way to viewers: an immutable ring of bytes, and the window that lists them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};
use reelmill_shared::db::live::{LiveHold, OnAir};
use reelmill_shared::ids::{LivestreamId, ProjectId};
use reelmill_shared::media::grid::Rate;
use reelmill_shared::media::live::cutter::Cut;
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::media::live::window::{Message, PARTS_LISTED, Part, Run, Update, Window};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::meter::Meter;

/// A livestream that this worker carries.
pub(crate) struct Channel {
    pub(crate) livestream: LivestreamId,
    pub(crate) project: ProjectId,
    hold: Mutex<LiveHold>,
    ring: RwLock<Option<Ring>>,
    feed: broadcast::Sender<Bytes>,
    /// The newest picture.
    picture: RwLock<Option<Bytes>>,
    /// Whoever has it puts media in: one run at a time.
    pub(crate) stage: tokio::sync::Mutex<Stage>,
    /// Ends the publisher of the run that is under way.
    dismiss: Mutex<CancellationToken>,
    /// Media comes in.
    pub(crate) running: AtomicBool,
    pub(crate) meter: Arc<Meter>,
    /// Somebody else has the stream, or nobody shall.
    pub(crate) lost: CancellationToken,
}

/// What goes from one run to the next.
#[derive(Default)]
pub(crate) struct Stage {
    pub(crate) on_air: Option<OnAir>,
    /// The number of the segment that comes next.
    pub(crate) next_number: u64,
    /// Of the last run here.
    pub(crate) epoch: i32,
    /// So many of the best rungs are left out until the broadcast ends.
    pub(crate) dropped: usize,
    /// The picture was found to be unfit for being passed through, until the broadcast ends.
    pub(crate) unfit: bool,
    /// The picture that came in last: its size, and pictures a second.
    pub(crate) picture: Option<((u32, u32), Rate)>,
}

/// A segment that a track has just completed.
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    pub(crate) start: u64,
    pub(crate) ticks: u64,
}

struct Ring {
    window: Window,
    inits: HashMap<(String, u32), Bytes>,
    /// By track.
    segments: Vec<VecDeque<Held>>,
}

struct Held {
    number: u64,
    start: u64,
    ticks: u64,
    /// Once the segment is whole they share its memory.
    parts: Vec<Bytes>,
    whole: Option<Bytes>,
}

/// Target durations for which segments of a track are held behind the one that grows: their parts are listed for three, and until the
/// next one closes, and may be fetched for as long again. Counted in time, because those at seams are short.
const HELD: u64 = 2 * (PARTS_LISTED + 1);
/// Updates that an edge may be behind before it has to begin anew.
const BACKLOG: usize = 1024;

impl Channel {
    pub(crate) fn new(hold: LiveHold, project: ProjectId) -> Self {
        Self {
            livestream: hold.livestream,
            project,
            hold: Mutex::new(hold),
            ring: RwLock::new(None),
            feed: broadcast::channel(BACKLOG).0,
            picture: RwLock::default(),
            stage: tokio::sync::Mutex::default(),
            dismiss: Mutex::default(),
            running: AtomicBool::new(false),
            meter: Arc::default(),
            lost: CancellationToken::new(),
        }
    }

    /// The right to the stream as it is now.
    pub(crate) fn hold(&self) -> LiveHold {
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over: the publisher of the run before is sent away.
    pub(crate) fn change_hands(&self, hold: LiveHold, dismiss: CancellationToken) {
        {
            let mut held = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
            // Two that took it one after the other may come here the other way round.
            if held.epoch > hold.epoch {
                dismiss.cancel();
                return;
            }
            *held = hold;
        }
        let before =
            std::mem::replace(&mut *self.dismiss.lock().unwrap_or_else(PoisonError::into_inner), dismiss);
        before.cancel();
    }

    /// Goes on with the same publisher, where nobody has taken over since `before`.
    pub(crate) fn raise(&self, before: LiveHold, hold: LiveHold) {
        let mut held = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        if *held == before {
            *held = hold;
        }
    }

    /// Sends the publisher away.
    pub(crate) fn dismiss(&self) {
        self.dismiss.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    /// Begins with what is listed of a broadcast already: nothing, where it is new.
    pub(crate) fn open(&self, window: Window) {
        let segments = window.tracks.iter().map(|_| VecDeque::new()).collect();
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        *ring = Some(Ring { window, inits: HashMap::new(), segments });
    }

    /// A run begins, with the init segment of each track.
    pub(crate) fn begin(&self, run: Run, inits: Vec<(String, Bytes)>) {
        self.change(|ring| {
            for (track, init) in inits {
                ring.inits.insert((track, run.epoch), init);
            }
            vec![Update::Run(run)]
        });
    }

    /// Takes a part; gives its segment where it is the last.
    pub(crate) fn part(&self, track: usize, epoch: u32, cut: &Cut, bytes: Bytes) -> Option<Whole> {
        let mut whole = None;
        self.change(|ring| {
            let target = u64::from(ring.window.plan.cadence.target_duration);
            let timescale = ring.window.tracks.get(track).map_or(1, |track| u64::from(track.timescale));
            let Some(held) = ring.segments.get_mut(track) else { return vec![] };
            if held.back().is_none_or(|segment| segment.number != cut.number) {
                held.push_back(Held {
                    number: cut.number,
                    start: cut.start,
                    ticks: 0,
                    parts: vec![],
                    whole: None,
                });
                let mut behind: u64 = held.iter().skip(1).map(|segment| segment.ticks).sum();
                while behind > HELD * target * timescale && held.pop_front().is_some() {
                    behind -= held.front().map_or(behind, |segment| segment.ticks);
                }
            }
            let Some(segment) = held.back_mut() else { return vec![] };
            segment.parts.push(bytes);
            segment.ticks += cut.ticks();
            let part =
                Part { ticks: u32::try_from(cut.ticks()).unwrap_or(u32::MAX), independent: cut.independent };
            let segment_start = segment.start;
            let closes = cut.closes;
            if closes {
                let bytes = segment.close();
                whole = Some(Whole { bytes, start: segment.start, ticks: segment.ticks });
            }
            vec![Update::Part { track, number: cut.number, epoch, segment_start, part, closes }]
        });
        whole
    }

    /// Closes the segment that a track is in, with the parts it has.
    pub(crate) fn close(&self, track: usize, number: u64) -> Option<Whole> {
        let mut whole = None;
        self.change(|ring| {
            let segment = ring.segments.get_mut(track).and_then(VecDeque::back_mut);
            let Some(segment) = segment.filter(|it| it.number == number && it.whole.is_none()) else {
                return vec![];
            };
            let bytes = segment.close();
            whole = Some(Whole { bytes, start: segment.start, ticks: segment.ticks });
            vec![Update::Closed { track, number }]
        });
        whole
    }

    /// Something else happened.
    pub(crate) fn tell(&self, update: Update) {
        self.change(|_| vec![update]);
    }

    fn change(&self, change: impl FnOnce(&mut Ring) -> Vec<Update>) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let Some(ring) = ring.as_mut() else { return };
        for update in change(ring) {
            ring.window.apply(update.clone());
            // Nobody may be listening. Sent under the lock, so that who begins to listen misses nothing and hears nothing twice.
            let _ = self.feed.send(line(&Message::Update(update)));
        }
    }

    /// Where each track ends on the timeline, in seconds, and the numbers that come next; `None` before anything is on air.
    pub(crate) fn ends(&self) -> Option<Vec<(f64, u64)>> {
        self.look(|window| {
            let end = |track: &reelmill_shared::media::live::window::Track| {
                (track.end() as f64 / f64::from(track.timescale.max(1)), track.next_part().0)
            };
            window.tracks.iter().map(end).collect()
        })
    }

    /// Looks at the window.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Window) -> T) -> Option<T> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.as_ref().map(|ring| look(&ring.window))
    }

    /// All there is, and what happens from then on; `None` before anything is on air.
    pub(crate) fn listen(&self) -> Option<(Bytes, broadcast::Receiver<Bytes>)> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let window = ring.as_ref()?.window.clone();
        Some((line(&Message::Window(Box::new(window))), self.feed.subscribe()))
    }

    /// The newest keyframe of a track of this run, as a file of its own, and the number of its segment.
    pub(crate) fn newest_keyframe(&self, track: usize, epoch: u32) -> Option<(u64, Bytes)> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let ring = ring.as_ref()?;
        let name = &ring.window.tracks.get(track)?.name;
        let init = ring.inits.get(&(name.clone(), epoch))?;
        let newest = ring.segments.get(track)?.back()?;
        // Every segment begins with one.
        let part = newest.parts.first()?;
        (ring.window.runs.last()?.first_number <= newest.number)
            .then(|| (newest.number, [init.as_ref(), part.as_ref()].concat().into()))
    }

    /// Shows this picture from now on.
    pub(crate) fn show(&self, picture: Bytes) {
        *self.picture.write().unwrap_or_else(PoisonError::into_inner) = Some(picture);
    }

    /// The newest picture.
    pub(crate) fn picture(&self) -> Option<Bytes> {
        self.picture.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bytes of a file that is held.
    pub(crate) fn file(&self, file: &LiveFile) -> Option<Bytes> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let ring = ring.as_ref()?;
        let held = |track: &str, number: u64| {
            let (place, _) = ring.window.track(track)?;
            ring.segments.get(place)?.iter().find(|segment| segment.number == number)
        };
        match file {
            LiveFile::Init { track, epoch } => ring.inits.get(&(track.clone(), *epoch)).cloned(),
            LiveFile::Segment { track, number } => held(track, *number)?.whole.clone(),
            LiveFile::Part { track, number, part } => {
                held(track, *number)?.parts.get(*part as usize).cloned()
            }
            LiveFile::Master | LiveFile::Manifest | LiveFile::Playlist { .. } => None,
        }
    }
}

impl Held {
    /// Joins the parts, and lets them share the memory of the whole.
    fn close(&mut self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.parts.iter().map(Bytes::len).sum());
        self.parts.iter().for_each(|part| whole.extend_from_slice(part));
        let whole = whole.freeze();
        let mut start = 0;
        for part in &mut self.parts {
            let end = start + part.len();
            *part = whole.slice(start..end);
            start = end;
        }
        self.whole = Some(whole.clone());
        whole
    }
}

/// A message as a line of JSON.
fn line(message: &Message) -> Bytes {
    // These types always serialize: no maps with keys that are no strings, nothing that fails.
    let mut text = serde_json::to_vec(message).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
