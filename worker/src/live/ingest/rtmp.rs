//! RTMP, on rtmp-rs. One handler and one registry a connection: a publisher whose connection hangs then holds no key.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reelmill_shared::db::live::{self, Claim, LiveHold, Refusal};
use reelmill_shared::live::event::Severity;
use reelmill_shared::live::key::StreamKey;
use rtmp_rs::media::FlvTag;
use rtmp_rs::media::flv::FlvTagType;
use rtmp_rs::protocol::message::{ConnectParams, PlayParams, PublishParams};
use rtmp_rs::server::connection::Connection;
use rtmp_rs::server::handler::MediaDeliveryMode;
use rtmp_rs::session::{SessionContext, StreamContext};
use rtmp_rs::{AuthResult, RegistryConfig, RtmpHandler, ServerConfig, StreamRegistry};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Kind, PIECES, Publisher};
use crate::live::flv::{Tag, TagKind};
use crate::live::studio::Studio;
use crate::live::wrap::Wrapper;

/// The application in the address: `rtmp://host/live/KEY`.
const APP: &str = "live";
/// Connections at once; a publisher needs one.
const CONNECTIONS: usize = 500;
/// Connections of one address at once.
const OF_ONE_ADDRESS: usize = 100;
/// Who is connected for so long and publishes nothing is sent away: until then what it sends is kept in memory.
const TO_PUBLISH: Duration = Duration::from_secs(10);
/// Bytes of the largest message: a keyframe of the highest rate that is taken.
const LARGEST: usize = 4 << 20;
/// A publisher that is silent for so long is gone.
const IDLE: Duration = Duration::from_secs(30);
/// Wrong keys that an address may send within [`FORGET`] before it is turned away unheard.
const WRONG_KEYS: u32 = 10;
const FORGET: Duration = Duration::from_secs(60);

/// Serves publishers until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    studio: Arc<Studio>,
    sessions: TaskTracker,
    shutdown: CancellationToken,
) {
    let limit = Arc::new(Semaphore::new(CONNECTIONS));
    let suspects = Arc::new(Suspects::default());
    let guests = Arc::new(Guests::default());
    let mut next_id = 0_u64;
    loop {
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most often: others may end.
                    tracing::warn!(%error, "could not accept a publisher");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => return,
        };
        if suspects.is_shut_out(peer.ip()) {
            metrics::counter!("reelmill_live_refused_total", "reason" => "rate").increment(1);
            continue;
        }
        let Ok(permit) = Arc::clone(&limit).try_acquire_owned() else {
            metrics::counter!("reelmill_live_refused_total", "reason" => "connections").increment(1);
            continue;
        };
        let Some(guest) = guests.enter(peer.ip()) else {
            metrics::counter!("reelmill_live_refused_total", "reason" => "connections").increment(1);
            continue;
        };
        next_id += 1;
        let session = session(next_id, socket, peer, Arc::clone(&studio), Arc::clone(&suspects));
        let shutdown = shutdown.clone();
        sessions.spawn(async move {
            tokio::select! {
                () = session => {}
                () = shutdown.cancelled() => {}
            }
            drop((permit, guest));
        });
    }
}

async fn session(id: u64, socket: TcpStream, peer: SocketAddr, studio: Arc<Studio>, suspects: Arc<Suspects>) {
    let dismissed = CancellationToken::new();
    let handler =
        Arc::new(Handler { studio, suspects, dismissed: dismissed.clone(), publishing: Mutex::default() });
    let idle = Arc::clone(&handler);
    let loiters = async {
        tokio::time::sleep(TO_PUBLISH).await;
        if idle.is_publishing() {
            std::future::pending::<()>().await;
        }
    };
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "could not set TCP_NODELAY");
    }
    let config = ServerConfig {
        idle_timeout: IDLE,
        connection_timeout: Duration::from_secs(10),
        gop_buffer_enabled: false,
        gop_buffer_max_size: 0,
        ..ServerConfig::default()
    };
    let registry = RegistryConfig { max_gop_size: 0, broadcast_capacity: 1, ..RegistryConfig::default() };
    let registry = Arc::new(StreamRegistry::with_config(registry));
    let mut connection = Connection::new(id, socket, peer, config, handler, registry);
    tokio::select! {
        // Dropping the connection closes it, and with it the way to FFmpeg.
        () = dismissed.cancelled() => {}
        () = loiters => tracing::debug!(%peer, "a connection that published nothing was closed"),
        result = connection.run() => if let Err(error) = result {
            tracing::debug!(%peer, %error, "a publisher's connection ended");
        },
    }
}

/// What one connection does.
struct Handler {
    studio: Arc<Studio>,
    suspects: Arc<Suspects>,
    dismissed: CancellationToken,
    publishing: Mutex<Option<Publishing>>,
}

/// A publisher that was let in.
struct Publishing {
    sender: mpsc::Sender<Bytes>,
    wrapper: Wrapper,
    last: Instant,
    hold: LiveHold,
}

impl Handler {
    fn is_publishing(&self) -> bool {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn admit(&self, context: &SessionContext, params: &PublishParams) -> Result<(), String> {
        let peer = context.peer_addr;
        if context.app.trim_matches('/') != APP {
            return Err(format!("publish to /{APP}/ and your stream key"));
        }
        if self.is_publishing() {
            return Err("this connection publishes already".into());
        }
        if !self.studio.takes_streams() {
            metrics::counter!("reelmill_live_refused_total", "reason" => "draining").increment(1);
            return Err("this worker takes no more streams; come again, to another one".into());
        }
        let Some(key) = StreamKey::from_publisher(&params.stream_key) else {
            self.suspects.note(peer.ip());
            return Err(Refusal::UnknownKey.to_string());
        };
        let taken = match live::take(&self.studio.db, Claim::Key(&key.hash()), &self.studio.carrier).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(refusal)) => {
                if refusal == Refusal::UnknownKey {
                    self.suspects.note(peer.ip());
                }
                tracing::info!(%peer, %refusal, "turned a publisher away");
                metrics::counter!("reelmill_live_refused_total", "reason" => refusal.word()).increment(1);
                return Err(refusal.to_string());
            }
            Err(error) => {
                tracing::warn!(%peer, %error, "could not look a stream key up");
                return Err("the stream key cannot be checked now; try again".into());
            }
        };
        let (sender, media) = mpsc::channel(PIECES);
        let publishing =
            Publishing { sender, wrapper: Wrapper::default(), last: Instant::now(), hold: taken.hold };
        *self.publishing.lock().unwrap_or_else(PoisonError::into_inner) = Some(publishing);
        self.studio.admit(Publisher {
            taken,
            address: peer.to_string(),
            media,
            dismissed: self.dismissed.clone(),
            kind: Kind::Pushed,
            played_out: Arc::default(),
        });
        Ok(())
    }
}

impl RtmpHandler for Handler {
    async fn on_connect(&self, _context: &SessionContext, _params: &ConnectParams) -> AuthResult {
        AuthResult::Accept
    }

    async fn on_publish(&self, context: &SessionContext, params: &PublishParams) -> AuthResult {
        match self.admit(context, params).await {
            Ok(()) => AuthResult::Accept,
            Err(reason) => AuthResult::Reject(reason),
        }
    }

    async fn on_play(&self, _context: &SessionContext, _params: &PlayParams) -> AuthResult {
        AuthResult::Reject("nothing is played here".into())
    }

    async fn on_media_tag(&self, _context: &StreamContext, tag: &FlvTag) -> bool {
        let kind = match tag.tag_type {
            FlvTagType::Audio => TagKind::Audio,
            FlvTagType::Video => TagKind::Video,
            FlvTagType::Script => return true,
        };
        if tag.data.len() > LARGEST {
            tracing::info!(bytes = tag.data.len(), "a publisher sent a message that is too large");
            self.dismissed.cancel();
            return false;
        }
        let tag = Tag { kind, timestamp: tag.timestamp, data: tag.data.clone() };
        let (sender, wrapped, hold) = {
            let mut publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(publishing) = publishing.as_mut() else { return true };
            let now = Instant::now();
            let waited = now - std::mem::replace(&mut publishing.last, now);
            (publishing.sender.clone(), publishing.wrapper.push(tag, waited), publishing.hold)
        };
        let bytes = match wrapped {
            Ok(bytes) if bytes.is_empty() => return true,
            Ok(bytes) => bytes,
            Err(unread) => {
                tracing::info!(livestream = %hold.livestream, %unread, "sent a publisher away");
                if let Err(error) =
                    live::note(&self.studio.db, hold.livestream, Severity::Error, &unread.to_string()).await
                {
                    tracing::debug!(%error, "could not tell why a publisher was sent away");
                }
                self.dismissed.cancel();
                return false;
            }
        };
        // Waiting here leaves the publisher's bytes in its socket: it is slowed down.
        sender.send(bytes).await.is_ok()
    }

    async fn on_unpublish(&self, _context: &StreamContext) {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn media_delivery_mode(&self) -> MediaDeliveryMode {
        MediaDeliveryMode::RawFlv
    }
}

/// How many connections each address has.
#[derive(Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address.
struct Guest(Arc<Guests>, IpAddr);

impl Guests {
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_insert(0);
        (*count < OF_ONE_ADDRESS).then(|| {
            *count += 1;
            Guest(Arc::clone(self), address)
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// Addresses that sent wrong keys.
#[derive(Default)]
struct Suspects(Mutex<HashMap<IpAddr, (u32, Instant)>>);

/// Addresses remembered at once; those that are forgotten first make room.
const REMEMBERED: usize = 10_000;

impl Suspects {
    fn note(&self, address: IpAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if all.len() >= REMEMBERED {
            all.retain(|_, (_, since)| now - *since < FORGET);
        }
        if all.len() < REMEMBERED || all.contains_key(&address) {
            let (count, since) = all.entry(address).or_insert((0, now));
            if now - *since >= FORGET {
                (*count, *since) = (0, now);
            }
            *count += 1;
        }
    }

    fn is_shut_out(&self, address: IpAddr) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&address).is_some_and(|(count, since)| *count >= WRONG_KEYS && since.elapsed() < FORGET)
    }
}
