//! Who watches what is on air, and what they get of it. No request waits for the database: what players tell, and what is seen of those that
//! tell nothing, is kept in memory and written down in one statement every few seconds; what was measured, every ten.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use chrono::Utc;
use reelmill_shared::db::Db;
use reelmill_shared::db::livestream_figures::{self, EdgeFigures, SPAN};
use reelmill_shared::db::viewers::{self, Noted, ToldBy};
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::latency;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Edges;
use crate::state::App;

/// Between two times that viewers are written down.
const BEAT: Duration = Duration::from_secs(3);
/// A player that goes on unchanged is written down so often: thrice in the time after which it would no longer count.
const AGAIN: Duration = Duration::from_secs(20);
/// Who has not been heard of for so long is forgotten here.
const GONE: Duration = Duration::from_secs(60);
/// Whoever asks for playlists only within this is no player: those come again.
const PASSING: Duration = Duration::from_secs(1);
/// Sessions of one livestream that are known here at once, and those of them that one address may have. What is beyond is served, and not counted.
const SESSIONS: usize = 50_000;
const OF_ONE_ADDRESS: u16 = 200;
/// Who watches further behind, in milliseconds, does so on purpose.
const LATE: u32 = 60_000;

/// The viewers of all livestreams that this process serves.
pub(crate) struct Audience {
    /// Of this process, among those who measure.
    id: Uuid,
    crowds: Mutex<HashMap<LivestreamId, Crowd>>,
}

/// The viewers of one livestream.
#[derive(Default)]
struct Crowd {
    sessions: HashMap<String, Session>,
    addresses: HashMap<String, u16>,
    counted: Counted,
}

/// One player.
struct Session {
    noted: Noted,
    first: Instant,
    last: Instant,
    /// When it was written down, and whether there is something new since.
    written: Option<Instant>,
    is_new: bool,
}

/// What was measured since it was written down.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Counted {
    bytes: u64,
    errors: u32,
    reports: u32,
    smooth: u32,
    latency_sum: u64,
    latency_count: u32,
    latencies: Vec<i32>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    pub(crate) address: String,
    pub(crate) agent: String,
}

/// User agents are not kept longer.
const AGENT: usize = 512;

impl FromRequestParts<App> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let address = forwarded(&parts.headers, app.config.proxies).or(peer);
        let agent =
            parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        Ok(Self {
            address: address
                .map_or_else(|| "unknown".to_owned(), |address| address.to_canonical().to_string()),
            agent: agent.chars().take(AGENT).collect(),
        })
    }
}

/// The address that the first of so many proxies of ours saw; `None` where there are none, or they did not tell.
fn forwarded(headers: &HeaderMap, proxies: u8) -> Option<IpAddr> {
    let nth = usize::from(proxies).checked_sub(1)?;
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    // What stands before was said by whoever came to it, and may be anything.
    lines.iter().flat_map(|line| line.split(',')).rev().nth(nth)?.trim().parse().ok()
}

/// What a player tells of itself.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) session: String,
    pub(crate) user_id: Option<String>,
    pub(crate) resolution: Option<String>,
    pub(crate) device_type: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) buffer_events: i32,
    pub(crate) quality_changes: i32,
    /// Milliseconds behind the live edge.
    pub(crate) latency: Option<u32>,
    pub(crate) errors: u32,
    pub(crate) left: bool,
}

impl Audience {
    pub(super) fn new() -> Self {
        Self { id: Uuid::now_v7(), crowds: Mutex::default() }
    }

    fn crowds(&self) -> MutexGuard<'_, HashMap<LivestreamId, Crowd>> {
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered with so many bytes, or could not be. `player` where it was for a playlist: who asks for those plays.
    pub(crate) fn served(
        &self,
        livestream: LivestreamId,
        bytes: u64,
        failed: bool,
        player: Option<&Visitor>,
    ) {
        let mut crowds = self.crowds();
        let crowd = crowds.entry(livestream).or_default();
        crowd.counted.bytes += bytes;
        crowd.counted.errors += u32::from(failed);
        if let Some(visitor) = player {
            crowd.saw(livestream, visitor);
        }
    }

    /// A player tells of itself. Its livestream is one that there is.
    pub(crate) fn heard(&self, livestream: LivestreamId, visitor: &Visitor, report: Report) {
        self.crowds().entry(livestream).or_default().heard(livestream, visitor, report);
    }

    /// A holder of a key tells of a player.
    pub(crate) fn told(&self, livestream: LivestreamId, latency: Option<u32>, errors: u32) {
        if latency.is_some() || errors > 0 {
            let mut crowds = self.crowds();
            let counted = &mut crowds.entry(livestream).or_default().counted;
            counted.errors = counted.errors.saturating_add(errors);
            counted.latency(latency);
        }
    }

    /// How many players are known here.
    fn sessions(&self) -> usize {
        self.crowds().values().map(|crowd| crowd.sessions.len()).sum()
    }

    /// Who is to be written down now.
    fn due(&self) -> Vec<Noted> {
        let mut due = vec![];
        let now = Instant::now();
        self.crowds().retain(|_, crowd| {
            crowd.due(now, &mut due);
            !crowd.sessions.is_empty() || crowd.counted != Counted::default()
        });
        due
    }

    fn measured(&self) -> Vec<EdgeFigures> {
        let mut crowds = self.crowds();
        let all = crowds.iter_mut().filter(|(_, crowd)| crowd.counted != Counted::default());
        all.map(|(livestream, crowd)| std::mem::take(&mut crowd.counted).figures(*livestream)).collect()
    }
}

impl Crowd {
    fn saw(&mut self, livestream: LivestreamId, visitor: &Visitor) {
        let watcher = viewers::watcher(&visitor.address, &visitor.agent);
        // The same player may watch another stream of the project.
        let id = format!("edge-{}", viewers::watcher(&livestream.to_string(), &watcher.to_string()).simple());
        let Some(session) = self.session(livestream, &id, ToldBy::Edge, visitor) else { return };
        session.last = Instant::now();
    }

    fn heard(&mut self, livestream: LivestreamId, visitor: &Visitor, report: Report) {
        self.counted.errors = self.counted.errors.saturating_add(report.errors);
        let Some(session) = self.session(livestream, &report.session, ToldBy::Player, visitor) else {
            return;
        };
        let noted = &mut session.noted;
        let smooth = report.buffer_events <= noted.buffer_events;
        noted.buffer_events = noted.buffer_events.max(report.buffer_events);
        noted.quality_changes = noted.quality_changes.max(report.quality_changes);
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
            self.counted.report(smooth, report.latency);
        }
    }

    /// The session of this name, new or known; `None` where there may be no more, or it is somebody else's.
    fn session(
        &mut self,
        livestream: LivestreamId,
        id: &str,
        told_by: ToldBy,
        visitor: &Visitor,
    ) -> Option<&mut Session> {
        let full = self.sessions.len() >= SESSIONS;
        match self.sessions.entry(id.to_owned()) {
            Entry::Occupied(known) => {
                let session = known.into_mut();
                (session.noted.told_by == told_by).then_some(session)
            }
            Entry::Vacant(place) => {
                let of_address = self.addresses.entry(visitor.address.clone()).or_default();
                if full || *of_address >= OF_ONE_ADDRESS {
                    return None;
                }
                *of_address += 1;
                let now = Instant::now();
                Some(place.insert(Session::new(livestream, id, told_by, visitor, now)))
            }
        }
    }

    fn due(&mut self, now: Instant, due: &mut Vec<Noted>) {
        // Players that tell of themselves, and whether one has just left: what is seen of them needs no telling, then or later.
        let mut tellers: HashMap<Uuid, bool> = HashMap::new();
        for session in self.sessions.values().filter(|session| session.noted.told_by == ToldBy::Player) {
            *tellers.entry(session.noted.watcher).or_default() |= session.noted.left;
        }
        let addresses = &mut self.addresses;
        self.sessions.retain(|_, session| {
            let teller =
                tellers.get(&session.noted.watcher).filter(|_| session.noted.told_by == ToldBy::Edge);
            session.noted.left |= teller.is_some_and(|left| *left);
            let known = session.written.is_some();
            if session.is_due(now) && teller.is_none() || teller.is_some() && session.noted.left && known {
                session.written = Some(now);
                session.is_new = false;
                due.push(session.noted.clone());
            }
            let goes = session.noted.left || now - session.last >= GONE;
            if goes && let Entry::Occupied(mut of_address) = addresses.entry(session.noted.ip_address.clone())
            {
                *of_address.get_mut() -= 1;
                if *of_address.get() == 0 {
                    of_address.remove();
                }
            }
            !goes
        });
    }
}

impl Session {
    fn new(livestream: LivestreamId, id: &str, told_by: ToldBy, visitor: &Visitor, now: Instant) -> Self {
        let noted = Noted {
            livestream,
            session: id.to_owned(),
            told_by,
            watcher: viewers::watcher(&visitor.address, &visitor.agent),
            ip_address: visitor.address.clone(),
            user_agent: (!visitor.agent.is_empty()).then(|| visitor.agent.clone()),
            user_id: None,
            resolution: None,
            device_type: None,
            location: None,
            buffer_events: 0,
            quality_changes: 0,
            left: false,
        };
        Self { noted, first: now, last: now, written: None, is_new: true }
    }

    fn is_due(&self, now: Instant) -> bool {
        if self.noted.told_by == ToldBy::Edge && self.last - self.first < PASSING {
            return false;
        }
        // Nothing is written of who was not heard of since.
        self.is_new || self.written.is_none_or(|written| now - written >= AGAIN && self.last > written)
    }
}

impl Counted {
    fn report(&mut self, smooth: bool, latency: Option<u32>) {
        self.reports += 1;
        self.smooth += u32::from(smooth);
        self.latency(latency);
    }

    fn latency(&mut self, latency: Option<u32>) {
        if let Some(milliseconds) = latency.filter(|latency| *latency <= LATE) {
            self.latency_sum += u64::from(milliseconds);
            self.latency_count += 1;
            self.latencies.resize(latency::CLASSES, 0);
            if let Some(class) = self.latencies.get_mut(latency::class(milliseconds)) {
                *class += 1;
            }
        }
    }

    fn figures(self, livestream: LivestreamId) -> EdgeFigures {
        let whole = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        EdgeFigures {
            livestream,
            bandwidth_usage: i64::try_from(self.bytes * 8 / SPAN.as_secs()).unwrap_or(i64::MAX),
            error_count: whole(self.errors),
            reports: whole(self.reports),
            smooth_reports: whole(self.smooth),
            latency_sum: i64::try_from(self.latency_sum).unwrap_or(i64::MAX),
            latency_count: whole(self.latency_count),
            latencies: self.latencies,
        }
    }
}

/// Writes down who watches and what was measured, until `stop`.
pub(crate) async fn keep(edges: Arc<Edges>, stop: CancellationToken) {
    tokio::join!(keep_viewers(&edges, &stop), keep_figures(&edges.audience, &edges.db, &stop));
}

async fn keep_viewers(edges: &Edges, stop: &CancellationToken) {
    let audience = &edges.audience;
    loop {
        let over = tokio::select! {
            () = tokio::time::sleep(BEAT) => false,
            () = stop.cancelled() => true,
        };
        let due = audience.due();
        metrics::gauge!("reelmill_live_viewers").set(audience.sessions() as f64);
        metrics::gauge!("reelmill_live_waiting_requests").set(edges.waiting() as f64);
        if !due.is_empty()
            && let Err(error) = viewers::note(&edges.db, &due).await
        {
            // They are written down again while they go on.
            tracing::warn!(%error, viewers = due.len(), "could not write down who watches live streams");
        }
        if over {
            return;
        }
    }
}

async fn keep_figures(audience: &Audience, db: &Db, stop: &CancellationToken) {
    loop {
        let now = Utc::now();
        let span = livestream_figures::span_of(now);
        let left = (span + SPAN - now).to_std().unwrap_or(SPAN);
        let over = tokio::select! {
            () = tokio::time::sleep(left) => false,
            () = stop.cancelled() => true,
        };
        let figures = audience.measured();
        if !figures.is_empty()
            && let Err(error) = livestream_figures::add_edge(db, audience.id, span, &figures).await
        {
            tracing::warn!(%error, "could not write down what was measured of live streams");
        }
        if over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitor(address: &str) -> Visitor {
        Visitor { address: address.to_owned(), agent: "player".to_owned() }
    }

    fn report(session: &str, buffer_events: i32) -> Report {
        Report { session: session.to_owned(), buffer_events, latency: Some(1500), ..Report::default() }
    }

    /// Lets all that is known of a livestream have happened so much earlier.
    fn pass(audience: &Audience, livestream: LivestreamId, time: Duration) {
        for session in audience.crowds().get_mut(&livestream).unwrap().sessions.values_mut() {
            session.first -= time;
            session.last -= time;
            session.written = session.written.map(|written| written - time);
        }
    }

    #[test]
    fn who_comes_again_is_a_viewer_and_who_comes_once_is_not() {
        let (audience, id) = (Audience::new(), LivestreamId::new());
        audience.served(id, 1000, false, Some(&visitor("10.0.0.1")));
        audience.served(id, 1000, false, Some(&visitor("10.0.0.1")));
        assert_eq!(audience.due().len(), 0, "not yet");
        pass(&audience, id, PASSING);
        audience.served(id, 1000, true, Some(&visitor("10.0.0.1")));
        let due = audience.due();
        assert_eq!((due.len(), due[0].told_by, due[0].ip_address.as_str()), (1, ToldBy::Edge, "10.0.0.1"));
        assert_eq!(audience.due().len(), 0, "once in a while will do");
        pass(&audience, id, AGAIN);
        assert_eq!(audience.due().len(), 0, "it was not seen since");
        audience.served(id, 1000, false, Some(&visitor("10.0.0.1")));
        assert_eq!(audience.due().len(), 1);
        let figures = audience.measured();
        assert_eq!((figures[0].bandwidth_usage, figures[0].error_count), (3200, 1));
        assert_eq!(audience.measured(), []);
        pass(&audience, id, GONE);
        audience.due();
        assert!(audience.crowds().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn players_tell_how_they_fare() {
        let (audience, id) = (Audience::new(), LivestreamId::new());
        let tell = |report| audience.heard(id, &visitor("10.0.0.1"), report);
        tell(report("a", 0));
        assert_eq!(audience.due().len(), 1, "who joins counts at once");
        for buffer_events in [0, 2, 2] {
            pass(&audience, id, Duration::from_secs(10));
            tell(report("a", buffer_events));
            // Said at once again it is not heard.
            tell(report("a", buffer_events));
        }
        let figures = &audience.measured()[0];
        assert_eq!((figures.reports, figures.smooth_reports), (3, 2));
        assert_eq!((figures.latency_sum, figures.latency_count), (4500, 3));
        tell(Report { left: true, latency: None, ..report("a", 2) });
        let due = audience.due();
        assert!(due.len() == 1 && due[0].left);
        assert_eq!(audience.sessions(), 0);
    }

    #[test]
    fn who_tells_is_not_seen_besides() {
        let (audience, id) = (Audience::new(), LivestreamId::new());
        let ask = || audience.served(id, 1, false, Some(&visitor("10.0.0.1")));
        ask();
        pass(&audience, id, PASSING);
        ask();
        assert_eq!(audience.due().len(), 1, "it was seen first");
        audience.heard(id, &visitor("10.0.0.1"), report("a", 0));
        pass(&audience, id, AGAIN);
        ask();
        audience.heard(id, &visitor("10.0.0.1"), report("a", 0));
        let told: Vec<ToldBy> = audience.due().iter().map(|noted| noted.told_by).collect();
        assert_eq!(told, [ToldBy::Player]);
        audience.heard(id, &visitor("10.0.0.1"), Report { left: true, ..report("a", 0) });
        let due = audience.due();
        assert!(due.len() == 2 && due.iter().all(|noted| noted.left), "it is gone in both ways: {due:?}");
    }

    #[test]
    fn only_our_own_proxies_are_believed() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 1.2.3.4".parse().unwrap());
        headers.append("x-forwarded-for", "10.0.0.7".parse().unwrap());
        let seen = |proxies| forwarded(&headers, proxies).map(|address| address.to_string());
        assert_eq!(seen(0), None);
        assert_eq!(seen(1).as_deref(), Some("10.0.0.7"));
        assert_eq!(seen(2).as_deref(), Some("1.2.3.4"));
        assert_eq!(seen(9), None);
    }

    #[test]
    fn one_address_is_no_crowd() {
        let (audience, id) = (Audience::new(), LivestreamId::new());
        for n in 0..1000 {
            audience.heard(id, &visitor("10.0.0.1"), report(&format!("bot-{n}"), 0));
        }
        audience.heard(id, &visitor("10.0.0.2"), report("somebody", 0));
        assert_eq!(audience.due().len(), usize::from(OF_ONE_ADDRESS) + 1);
        pass(&audience, id, GONE);
        audience.due();
        audience.heard(id, &visitor("10.0.0.1"), report("later", 0));
        assert_eq!(audience.due().len(), 1, "there is room again");
    }
}
