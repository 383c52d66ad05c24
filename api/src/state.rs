//! What all handlers share.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderValue, header};
use moka::future::{Cache, CacheBuilder};
use redis::RedisError;
use reelmill_shared::auth::token::Signer;
use reelmill_shared::broker::Broker;
use reelmill_shared::cdn::CdnClient;
use reelmill_shared::config::ApiConfig;
use reelmill_shared::db::Db;
use reelmill_shared::db::keys::ApiKey;
use reelmill_shared::db::sets::{Rendition, SetReference};
use reelmill_shared::ids::{ProjectId, RecordingId, SetId};
use reelmill_shared::net::Mediamtx;
use reelmill_shared::storage::Storage;
use reelmill_shared::webhook::Sender;
use tokio::sync::Semaphore;
use url::Url;
use uuid::Uuid;

use crate::audience::Audience;
use crate::cdn::Cdn;
use crate::dto::recording::ViewerInfoDto;
use crate::edge::Edges;
use crate::footage::Footages;
use crate::hub::Hub;
use crate::media::MediaFile;
use crate::middleware::content_security_policy;
use crate::playback::{Listing, StreamFile};
use crate::shared_cache::SharedCache;
use crate::sockets::Sockets;
use crate::tokens::Revoked;
use crate::transport::Transport;

/// The shared state; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// See [`App`].
pub struct Inner {
    pub config: ApiConfig,
    pub db: Db,
    pub broker: Arc<dyn Broker>,
    pub storage: Storage,
    pub hub: Hub,
    pub(crate) sender: Sender,
    /// Turns to try webhooks: receivers may hang, and each that does holds a connection.
    pub(crate) tests: Semaphore,
    pub(crate) caches: Caches,
    pub(crate) edges: Arc<Edges>,
    /// What plays cameras over RTSP and WebRTC.
    pub(crate) mediamtx: Option<Mediamtx>,
    pub(crate) audience: Arc<Audience>,
    pub(crate) cdn: Cdn,
    pub(crate) shared: SharedCache,
    /// Viewers' tokens that were taken back.
    pub(crate) revoked: Revoked,
    /// What pages may load.
    pub(crate) policy: HeaderValue,
    pub(crate) sockets: Sockets,
}

/// A set, the ordinal that its files are named by, and which of its listings.
type ListingOf = (SetId, i32, StreamFile);

/// What is kept in memory. Everything but the keys and the references is immutable once it exists.
pub(crate) struct Caches {
    /// By hash: a revoked key works on for a few seconds at most.
    pub(crate) keys: Cache<[u8; 32], Option<ApiKey>>,
    /// Where a segment or init segment lies.
    pub(crate) files: Cache<(SetId, String), MediaFile>,
    pub(crate) renditions: Cache<SetId, Arc<Vec<Rendition>>>,
    /// Renditions of sets that grow, with how many of their segments may be listed; for a moment, so that many viewers cost one look.
    pub(crate) growing: Cache<SetId, Arc<Vec<(Rendition, usize)>>>,
    /// Playlists and manifests of finished sets.
    pub(crate) settled: Cache<ListingOf, Listing>,
    /// Those that may change, for a moment.
    pub(crate) unsettled: Cache<ListingOf, Listing>,
    /// Which sets a recording plays; short, because deletion and new encodes change it.
    pub(crate) references: Cache<RecordingId, Arc<Vec<SetReference>>>,
    /// What viewers are told of a recording, each of whom asks every other second while it is made; for a moment, so that many cost one look.
    pub(crate) told: Cache<RecordingId, Arc<ViewerInfoDto>>,
    /// Recordings that a project has: who tells of their viewers does so all the time.
    pub(crate) owned: Cache<(ProjectId, RecordingId), ()>,
    pub(crate) transport: Transport,
    pub(crate) footage: Footages,
    /// Whether a session has a place in the stream of what it watches: one that left is refused within seconds.
    pub(crate) places: Cache<(Uuid, String), bool>,
}

/// Webhooks tried at once.
const TESTS: usize = 16;
/// For so long many viewers of what grows cost one look.
const MOMENT: Duration = Duration::from_secs(1);
/// Bytes of each cache of listings.
const LISTINGS: u64 = 32 << 20;

fn listings() -> CacheBuilder<ListingOf, Listing, Cache<ListingOf, Listing>> {
    let bytes = |_: &_, listing: &Listing| u32::try_from(listing.text.len()).unwrap_or(u32::MAX);
    Cache::builder().weigher(bytes).max_capacity(LISTINGS)
}

impl App {
    /// The state of an API with these parts.
    ///
    /// # Errors
    /// The address of the shared cache does not read.
    pub fn new(
        config: ApiConfig,
        db: Db,
        broker: Arc<dyn Broker>,
        storage: Storage,
        hub: Hub,
        sender: Sender,
        edges: Arc<Edges>,
    ) -> Result<Self, RedisError> {
        let mediamtx = config.mediamtx.clone().map(|config| Mediamtx::new(edges.http().clone(), config));
        let short = Duration::from_secs(3);
        let caches = Caches {
            keys: Cache::builder().max_capacity(10_000).time_to_live(short).build(),
            files: Cache::builder().max_capacity(200_000).time_to_idle(Duration::from_secs(3600)).build(),
            renditions: Cache::builder().max_capacity(10_000).time_to_idle(Duration::from_secs(3600)).build(),
            growing: Cache::builder().max_capacity(10_000).time_to_live(MOMENT).build(),
            settled: listings().time_to_idle(Duration::from_secs(600)).build(),
            unsettled: listings().time_to_live(MOMENT).build(),
            references: Cache::builder().max_capacity(10_000).time_to_live(short).build(),
            told: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(1)).build(),
            owned: Cache::builder().max_capacity(100_000).time_to_live(Duration::from_secs(60)).build(),
            transport: Transport::new(config.ts_cache_bytes),
            footage: Footages::new(),
            places: Cache::builder().max_capacity(100_000).time_to_live(short).build(),
        };
        let tests = Semaphore::new(TESTS);
        let audience = Arc::new(Audience::new());
        let sockets = Sockets::new(config.sockets);
        let client = config.cdn.clone().map(|config| CdnClient::new(edges.http().clone(), config));
        let cdn = Cdn::new(db.clone(), client);
        let shared = SharedCache::new(config.cache_url.as_deref(), config.secret.sealer.clone())?;
        let policy = content_security_policy(config.cdn.as_ref());
        Ok(Self(Arc::new(Inner {
            config,
            db,
            broker,
            storage,
            hub,
            sender,
            tests,
            caches,
            edges,
            mediamtx,
            audience,
            sockets,
            cdn,
            shared,
            revoked: Revoked::default(),
            policy,
        })))
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.config.secret.signer
    }

    /// The address viewers use, without a trailing slash: as configured, else as this request came.
    pub(crate) fn public_url(&self, headers: &HeaderMap) -> String {
        if let Some(url) = &self.config.public_url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        // Only what can stand in a URL's authority; anything else did not come from a client of ours.
        let plain = |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b));
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        match host.filter(plain) {
            Some(host) => format!("{scheme}://{host}"),
            None => format!("{scheme}://{}", self.config.listen),
        }
    }

    /// The address viewers fetch shared media from, without a trailing slash: the CDN while it is in use, else ours.
    pub(crate) async fn media_url(&self, headers: &HeaderMap) -> String {
        match self.cdn.base().await {
            Some(base) => base.to_owned(),
            None => self.public_url(headers),
        }
    }

    /// Where publishers send to, without a stream key and a trailing slash: as configured, else the usual port of the host that viewers use.
    pub(crate) fn public_rtmp_url(&self, headers: &HeaderMap) -> String {
        if let Some(url) = &self.config.public_rtmp_url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        let viewers = Url::parse(&self.public_url(headers)).ok();
        let host = viewers.as_ref().and_then(Url::host_str).unwrap_or("localhost");
        format!("rtmp://{host}:1935/live")
    }
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
