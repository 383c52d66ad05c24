//! SRT, by FFmpeg, whose listener takes one publisher at one port: so each livestream has a port of its own here while a publisher may
//! come to it. To listen is not to carry the stream; it is taken when a publisher comes who knew the passphrase.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reelmill_shared::config::{LiveConfig, Ports};
use reelmill_shared::db::DbError;
use reelmill_shared::db::live::{self, Claim, Listener, Taken};
use reelmill_shared::db::livestream_events::{self, NewEntry};
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::event::{LiveEventType, Severity};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::pull::{Directory, script};
use super::{Kind, PIECES, Publisher, open_source};
use crate::ffmpeg::argv::{self, Address};
use crate::ffmpeg::process::{self, Limits, RunError};
use crate::live::outlet;
use crate::live::studio::Studio;

/// Where this worker listens.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    ip: IpAddr,
    ports: Ports,
    /// What publishers call it.
    host: String,
}

impl Place {
    /// `origin` is where edges reach this worker: publishers do by the same host unless the settings say otherwise.
    pub(crate) fn new(config: &LiveConfig, origin: &str) -> Self {
        let ip = config.rtmp_listen.ip();
        let near = || Some(Url::parse(origin).ok()?.host_str()?.to_owned());
        let host = config.srt_host.clone().or_else(near).unwrap_or_else(|| ip.to_string());
        Self { ip, ports: config.srt_ports.clone(), host }
    }

    fn told(&self, port: u16) -> String {
        format!("{}:{port}", self.host)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ip, self.ports)
    }
}

/// How often it is looked for streams to listen for.
const LOOK: Duration = Duration::from_secs(1);
/// A listener that came to nothing is not opened again before this.
const PAUSE: Duration = Duration::from_secs(2);
/// Wrong passphrases are told so often, however many there are.
const TOLD: Duration = Duration::from_secs(30);

/// Who is listened for here.
type Open = Arc<Mutex<HashMap<LivestreamId, Seat>>>;

/// A port where one stream is listened for.
#[derive(Clone)]
struct Seat {
    port: u16,
    source: Option<Vec<u8>>,
    /// Nobody is expected any more: who is on air stays.
    over: CancellationToken,
    /// Somebody is on air.
    busy: Arc<AtomicBool>,
}

/// Listens for publishers until `shutdown`.
pub(crate) async fn serve(
    studio: Arc<Studio>,
    place: Place,
    sessions: TaskTracker,
    shutdown: CancellationToken,
) {
    let open = Open::default();
    loop {
        // Not in step with other workers.
        tokio::select! {
            () = sleep(LOOK.mul_f64(rand::random_range(0.5..1.5)).min(studio.carrier.lease / 3)) => {}
            () = shutdown.cancelled() => break,
        }
        if let Err(error) = keep(&studio, &open).await {
            tracing::warn!(%error, "could not say that streams are listened for");
            continue;
        }
        if !studio.takes_streams() {
            seats(&open)
                .values()
                .filter(|seat| !seat.busy.load(Ordering::Acquire))
                .for_each(|seat| seat.over.cancel());
            continue;
        }
        if let Err(error) = widen(&studio, &place, &open, &sessions, &shutdown).await {
            tracing::debug!(%error, "could not look for streams to listen for");
        }
    }
    seats(&open).values().for_each(|seat| seat.over.cancel());
}

fn seats(open: &Open) -> std::sync::MutexGuard<'_, HashMap<LivestreamId, Seat>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews what is listened for, and lets go of what nobody is expected for any more, or with another passphrase.
async fn keep(studio: &Studio, open: &Open) -> Result<(), DbError> {
    let before: HashMap<LivestreamId, Seat> = seats(open).clone();
    if before.is_empty() {
        return Ok(());
    }
    let ids: Vec<LivestreamId> = before.keys().copied().collect();
    let kept = live::keep_listening(&studio.db, studio.carrier.worker, &ids, studio.carrier.lease).await?;
    for (livestream, seat) in &before {
        let stays = |kept: &Listener| kept.livestream == *livestream && kept.source == seat.source;
        if !kept.iter().any(stays) {
            seat.over.cancel();
        }
    }
    Ok(())
}

/// Listens for more streams, as far as there are ports.
async fn widen(
    studio: &Arc<Studio>,
    place: &Place,
    open: &Open,
    sessions: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(), DbError> {
    let room = place.ports.count().saturating_sub(seats(open).len());
    if room == 0 {
        return Ok(());
    }
    for livestream in live::unheard(&studio.db, room as i64).await? {
        if seats(open).contains_key(&livestream) {
            continue;
        }
        let Some(port) = free_port(place, open, livestream) else { return Ok(()) };
        let carrier = &studio.carrier;
        let listened =
            live::listen(&studio.db, livestream, carrier.worker, &place.told(port), carrier.lease).await?;
        let Some(Listener { source, .. }) = listened else { continue };
        let seat = Seat { port, source, over: shutdown.child_token(), busy: Arc::default() };
        seats(open).insert(livestream, seat.clone());
        let (studio, open, shutdown, ip) = (Arc::clone(studio), Arc::clone(open), shutdown.clone(), place.ip);
        sessions.spawn(async move {
            let at = SocketAddr::from((ip, seat.port));
            let sitting = Sitting { studio: &studio, livestream, at, seat: &seat, shutdown: &shutdown };
            if let Err(error) = sitting.listen().await {
                tracing::warn!(%livestream, %at, %error, "could not listen for a publisher by SRT");
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = shutdown.cancelled() => {}
                }
            }
            seats(&open).remove(&livestream);
            if let Err(error) = live::hang_up(&studio.db, livestream, studio.carrier.worker).await {
                // Others wait until the lease is over.
                tracing::debug!(%error, %livestream, "could not say that a stream is not listened for any more");
            }
        });
    }
    Ok(())
}

/// A port that nobody has, and the same one each time where that can be: publishers need not be told of another.
fn free_port(place: &Place, open: &Open, livestream: LivestreamId) -> Option<u16> {
    let taken: Vec<u16> = seats(open).values().map(|seat| seat.port).collect();
    // The lower half of an id is chance.
    let preferred = livestream.0.as_u128() as u64;
    place
        .ports
        .from(preferred)
        .filter(|port| !taken.contains(port))
        .find(|port| UdpSocket::bind((place.ip, *port)).is_ok())
}

/// Why nobody can be listened for. For people.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("{0}")]
    Source(&'static str),
    #[error(transparent)]
    Disk(#[from] std::io::Error),
    #[error("{0}")]
    Listener(String),
}

/// One stream at its port.
struct Sitting<'a> {
    studio: &'a Arc<Studio>,
    livestream: LivestreamId,
    at: SocketAddr,
    seat: &'a Seat,
    shutdown: &'a CancellationToken,
}

/// Runs of listeners, for the names of their directories.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Sitting<'_> {
    /// One publisher after the other.
    async fn listen(&self) -> Result<(), ListenError> {
        let source = open_source(&self.studio.sealer, self.livestream, self.seat.source.as_deref());
        let passphrase = source.map_err(ListenError::Source)?.passphrase;
        let passphrase = passphrase.ok_or(ListenError::Source("it has no passphrase"))?;
        let address = Address::SrtListener { at: self.at, passphrase };
        while !self.seat.over.is_cancelled() {
            self.one(&address).await?;
            self.seat.busy.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Waits for a publisher, and carries it to its end.
    async fn one(&self, address: &Address) -> Result<(), ListenError> {
        let name = format!("srt-{}-{}", self.livestream, NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Directory(self.studio.scratch.attempt(&name)?, CancellationToken::new());
        let pipe = dir.0.join("out");
        outlet::make(&pipe)?;
        let media = outlet::receiver(&pipe)?;
        let args = argv::pull(&script(&dir.0, address).await?, &pipe);
        let never = Duration::from_secs(10 * 365 * 24 * 3600);
        let limits = Limits { file_size: 1 << 20, ..Limits::standard(never, 1) };
        let program = &self.studio.programs.ffmpeg;
        let job = process::Run { program, args: &args, dir: &dir.0, deadline: never, stall: never, limits };
        // Who is on air is sent away by what becomes of the stream, not by whether more are expected.
        let dismissed = self.shutdown.child_token();
        let (heard, mut wrong) = mpsc::channel(1);
        let on_log = move |said: &str| {
            if said.contains(WRONG) || said.contains(NONE) {
                metrics::counter!("reelmill_live_refused_total", "reason" => "passphrase").increment(1);
                let _ = heard.try_send(());
            }
        };
        let mut listening = pin!(process::run_heard(job, &dismissed, |_| {}, on_log));
        let taken = {
            let mut arriving = pin!(self.arriving(&media));
            let mut telling = pin!(self.tell_of_wrong_ones(&mut wrong));
            tokio::select! {
                ended = &mut listening => return nothing_came(ended),
                () = self.seat.over.cancelled() => None,
                taken = &mut arriving => taken,
                () = &mut telling => None,
            }
        };
        let Some(taken) = taken else {
            dismissed.cancel();
            let _ = listening.await;
            return Ok(());
        };
        self.seat.busy.store(true, Ordering::Release);
        let (sender, receiver) = mpsc::channel(PIECES);
        let over = CancellationToken::new();
        let pouring = tokio::spawn(outlet::pour(media, sender, over.clone()));
        self.studio.admit(Publisher {
            taken,
            address: format!("SRT at port {}", self.at.port()),
            media: receiver,
            dismissed: dismissed.clone(),
            kind: Kind::Pushed,
            played_out: Arc::default(),
        });
        if let Err(error) = listening.await
            && !matches!(error, RunError::Stopped)
        {
            tracing::warn!(%error, livestream = %self.livestream, "a listener for SRT ended");
        }
        // What it wrote last is still in the pipe, and is read before this ends.
        over.cancel();
        let _ = pouring.await;
        Ok(())
    }

    /// The stream, once somebody sends it; `None` where it may not be sent now.
    async fn arriving(&self, media: &pipe::Receiver) -> Option<Taken> {
        media.readable().await.ok()?;
        match live::take(&self.studio.db, Claim::Heard(self.livestream), &self.studio.carrier).await {
            Ok(Ok(taken)) => return Some(taken),
            Ok(Err(refusal)) => {
                tracing::info!(livestream = %self.livestream, %refusal, "turned a publisher by SRT away");
                metrics::counter!("reelmill_live_refused_total", "reason" => refusal.word()).increment(1);
            }
            Err(error) => {
                tracing::warn!(livestream = %self.livestream, %error, "could not take a stream for its publisher");
            }
        }
        // It will come again at once.
        sleep(PAUSE).await;
        None
    }

    /// Tells who runs the stream of publishers that did not know the passphrase. Never ends.
    async fn tell_of_wrong_ones(&self, wrong: &mut mpsc::Receiver<()>) {
        while wrong.recv().await.is_some() {
            let entry = NewEntry {
                broadcast_id: None,
                kind: LiveEventType::Error,
                severity: Severity::Warning,
                message: "a publisher by SRT was refused: it had another passphrase, or none",
                details: serde_json::json!({ "port": self.at.port() }),
            };
            let told = async {
                livestream_events::append(&self.studio.db.get().await?, self.livestream, &entry).await
            };
            if let Err(error) = told.await {
                tracing::debug!(%error, "could not tell of a wrong passphrase");
            }
            sleep(TOLD).await;
        }
        std::future::pending().await
    }
}

/// What libsrt says of callers that it refuses.
const WRONG: &str = "Incorrect passphrase";
const NONE: &str = "Password required";

/// What an end without any media means.
fn nothing_came(ended: Result<process::Ended, RunError>) -> Result<(), ListenError> {
    match ended {
        // Somebody came, and went before there was anything to be seen.
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => {
            let last = ended.log_tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            Err(ListenError::Listener(last.trim().to_owned()))
        }
        Err(RunError::Stopped) => Ok(()),
        Err(error) => Err(ListenError::Listener(error.to_string())),
    }
}
