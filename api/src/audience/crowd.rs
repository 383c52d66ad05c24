//! The viewers of one livestream or recording: who they are, and what of it is not written down yet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use reelmill_shared::db::viewers::{self, Noted, Point, ToldBy, Watched};
use uuid::Uuid;

use super::measured::Measured;
use super::{Progress, Report, Visitor};

/// A player that goes on unchanged is written down so often: thrice in the time after which it would no longer count.
pub(super) const AGAIN: Duration = Duration::from_secs(20);
/// Who has not been heard of for so long is forgotten here.
pub(super) const GONE: Duration = Duration::from_secs(60);
/// Whoever asks for playlists only within this is no player: those come again. Nor does a player get far within it.
pub(super) const PASSING: Duration = Duration::from_secs(1);
/// Sessions of one livestream or recording that are known here at once, and those of them that one address may have. What is beyond is served,
/// and not counted.
const SESSIONS: usize = 50_000;
pub(super) const OF_ONE_ADDRESS: u16 = 200;
/// Points of one session that wait to be written down: as long as a database may be away without loss, a quarter of an hour or so.
const POINTS: usize = 100;

/// All who watch one thing.
#[derive(Default)]
pub(super) struct Crowd {
    pub(super) sessions: HashMap<String, Session>,
    addresses: HashMap<String, u16>,
    pub(super) measured: Measured,
}

/// One player.
pub(super) struct Session {
    pub(super) noted: Noted,
    /// The one it counts for, among the sessions that one may have.
    address: Option<String>,
    pub(super) first: Instant,
    pub(super) last: Instant,
    /// When it was written down, and whether there is something new since.
    pub(super) written: Option<Instant>,
    is_new: bool,
    /// The database has a session of this name that is of something else.
    is_refused: bool,
}

impl Crowd {
    /// An edge saw a request of a player.
    pub(super) fn saw(&mut self, watched: Watched, visitor: &Visitor) {
        let watcher = viewers::watcher(&visitor.address, &visitor.agent);
        // The same player may watch another stream of the project.
        let of_thing = viewers::watcher(&watched.id().to_string(), &watcher.to_string());
        let id = format!("edge-{}", of_thing.simple());
        let Some(session) = self.session(watched, &id, ToldBy::Edge, Some(visitor)) else { return };
        session.last = Instant::now();
    }

    /// A player of a livestream tells of itself.
    pub(super) fn heard(&mut self, watched: Watched, visitor: &Visitor, report: Report) {
        self.measured.errors(report.errors);
        let Some(session) = self.session(watched, &report.session, ToldBy::Player, Some(visitor)) else {
            return;
        };
        let noted = &mut session.noted;
        let smooth = noted.buffer_events.is_none_or(|known| report.buffer_events <= known);
        noted.buffer_events = noted.buffer_events.max(Some(report.buffer_events));
        noted.quality_changes = noted.quality_changes.max(Some(report.quality_changes));
        session.is_new |=
            noted.left != report.left || report.resolution.is_some() && report.resolution != noted.resolution;
        noted.left = report.left;
        for (known, told) in [
            (&mut noted.user_id, report.user_id),
            (&mut noted.resolution, report.resolution),
            (&mut noted.device_type, report.device_type),
            (&mut noted.location, report.location),
        ] {
            *known = told.or(known.take());
        }
        let now = Instant::now();
        // One that joins has nothing to tell yet, and one that tells too often tells nothing more.
        let counts = session.written.is_some() && now - session.last >= PASSING;
        session.last = now;
        if counts {
            self.measured.report(smooth, report.latency);
        }
    }

    /// A player of a recording tells where it is, or somebody with a key tells it. False where its session is known to be of something else.
    pub(super) fn progressed(
        &mut self,
        watched: Watched,
        told_by: ToldBy,
        visitor: Option<&Visitor>,
        progress: Progress,
    ) -> bool {
        let Some(session) = self.session(watched, &progress.session, told_by, visitor) else { return true };
        if session.is_refused {
            return false;
        }
        let now = Instant::now();
        let noted = &mut session.noted;
        for (known, told) in [
            (&mut noted.user_id, progress.user_id),
            (&mut noted.resolution, progress.rendition),
            (&mut noted.device_type, progress.device_type),
            (&mut noted.location, progress.country),
            (&mut noted.ip_address, progress.ip_address),
            (&mut noted.user_agent, progress.user_agent),
        ] {
            *known = told.or(known.take());
        }
        if let (ToldBy::Key, Some(address), Some(agent)) = (told_by, &noted.ip_address, &noted.user_agent) {
            noted.watcher = Some(viewers::watcher(address, agent));
        }
        noted.buffer_events = noted.buffer_events.max(progress.stalls);
        noted.quality_changes = noted.quality_changes.max(progress.switches);
        noted.stalled_seconds = larger(noted.stalled_seconds, progress.stalled_seconds);
        noted.startup_ms = noted.startup_ms.or(progress.startup_ms);
        noted.buffered_seconds = progress.buffered_seconds.or(noted.buffered_seconds);
        noted.bytes = noted.bytes.max(progress.bytes);
        noted.segments = noted.segments.max(progress.segments);
        noted.duration_seconds = Some(progress.duration);
        noted.left = progress.left;
        let point = Point { at: now, position: progress.position, playing: progress.playing };
        add(&mut noted.points, point);
        session.last = now;
        session.is_new = true;
        true
    }

    /// The session of this name, new or known; `None` where there may be no more, it is somebody else's, or a machine's.
    fn session(
        &mut self,
        watched: Watched,
        id: &str,
        told_by: ToldBy,
        visitor: Option<&Visitor>,
    ) -> Option<&mut Session> {
        let full = self.sessions.len() >= SESSIONS;
        match self.sessions.entry(id.to_owned()) {
            Entry::Occupied(known) => {
                let session = known.into_mut();
                // What a recording's sessions are called cannot be guessed, and who has a key may tell of any.
                let same = session.noted.told_by == told_by || matches!(watched, Watched::Recording(_));
                same.then_some(session)
            }
            Entry::Vacant(place) => {
                if full || visitor.is_some_and(Visitor::is_machine) {
                    return None;
                }
                if let Some(visitor) = visitor {
                    let of_address = self.addresses.entry(visitor.address.clone()).or_default();
                    if *of_address >= OF_ONE_ADDRESS {
                        return None;
                    }
                    *of_address += 1;
                }
                Some(place.insert(Session::new(watched, id, told_by, visitor)))
            }
        }
    }

    /// Takes out what is to be written down, and forgets who is gone.
    pub(super) fn due(&mut self, now: Instant, due: &mut Vec<Noted>) {
        // Players that tell of themselves, and whether one has just left: what is seen of them needs no telling, then or later.
        let mut tellers: HashMap<Uuid, bool> = HashMap::new();
        for session in self.sessions.values().filter(|session| session.noted.told_by == ToldBy::Player) {
            let Some(watcher) = session.noted.watcher else { continue };
            *tellers.entry(watcher).or_default() |= session.noted.left;
        }
        let addresses = &mut self.addresses;
        self.sessions.retain(|_, session| {
            let of_edge = session.noted.told_by == ToldBy::Edge;
            let teller = session.noted.watcher.filter(|_| of_edge).and_then(|watcher| tellers.get(&watcher));
            session.noted.left |= teller.is_some_and(|left| *left);
            let known = session.written.is_some();
            if session.is_due(now) && teller.is_none() || teller.is_some() && session.noted.left && known {
                session.written = Some(now);
                session.is_new = false;
                let points = std::mem::take(&mut session.noted.points);
                due.push(Noted { points, ..session.noted.clone() });
            }
            let goes = session.noted.left || now - session.last >= GONE;
            if goes
                && let Some(address) = session.address.take()
                && let Entry::Occupied(mut of_address) = addresses.entry(address)
            {
                *of_address.get_mut() -= 1;
                if *of_address.get() == 0 {
                    of_address.remove();
                }
            }
            !goes
        });
    }

    /// Takes back what could not be written down. Who goes on without telling more of itself needs no taking back.
    pub(super) fn take_back(&mut self, mut noted: Noted) {
        if noted.points.is_empty() && !noted.left {
            return;
        }
        match self.sessions.entry(noted.session.clone()) {
            Entry::Occupied(known) => {
                let session = known.into_mut();
                noted.points.append(&mut session.noted.points);
                session.noted.points = noted.points;
                session.is_new = true;
            }
            Entry::Vacant(place) => {
                place.insert(Session::known(noted, None));
            }
        }
    }

    /// The database did not take what was told of a session.
    pub(super) fn refuse(&mut self, session: &str) {
        if let Some(session) = self.sessions.get_mut(session) {
            session.is_refused = true;
        }
    }
}

impl Session {
    fn new(watched: Watched, id: &str, told_by: ToldBy, visitor: Option<&Visitor>) -> Self {
        let noted = Noted {
            watched,
            session: id.to_owned(),
            told_by,
            watcher: visitor.map(|visitor| viewers::watcher(&visitor.address, &visitor.agent)),
            ip_address: visitor.map(|visitor| visitor.address.clone()),
            user_agent: visitor
                .filter(|visitor| !visitor.agent.is_empty())
                .map(|visitor| visitor.agent.clone()),
            user_id: None,
            resolution: None,
            device_type: None,
            location: None,
            buffer_events: matches!(watched, Watched::Livestream(_)).then_some(0),
            quality_changes: matches!(watched, Watched::Livestream(_)).then_some(0),
            stalled_seconds: None,
            startup_ms: None,
            buffered_seconds: None,
            bytes: None,
            segments: None,
            duration_seconds: None,
            points: vec![],
            left: false,
        };
        Self::known(noted, visitor.map(|visitor| visitor.address.clone()))
    }

    fn known(noted: Noted, address: Option<String>) -> Self {
        let now = Instant::now();
        Self { noted, address, first: now, last: now, written: None, is_new: true, is_refused: false }
    }

    fn is_due(&self, now: Instant) -> bool {
        if self.noted.told_by == ToldBy::Edge && self.last - self.first < PASSING {
            return false;
        }
        // Nothing is written of who was not heard of since. Of a recording each point is written at once: what is not is lost with the process.
        let again = matches!(self.noted.watched, Watched::Livestream(_))
            && self.written.is_none_or(|written| now - written >= AGAIN && self.last > written);
        self.is_new || again
    }
}

/// Beyond the limit the last point takes the place of the one before.
fn add(points: &mut Vec<Point>, point: Point) {
    if points.len() >= POINTS {
        points.pop();
    }
    points.push(point);
}

fn larger(known: Option<f64>, told: Option<f64>) -> Option<f64> {
    match (known, told) {
        (Some(known), Some(told)) => Some(known.max(told)),
        (known, told) => known.or(told),
    }
}
