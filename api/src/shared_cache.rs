//! What apis keep for each other in a Valkey or Redis, where there is one. Its loss costs time and nothing else: without a connection no
//! request waits for it, and whatever it says is believed only if one of us sealed it for that place.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError};
use reelmill_shared::auth::seal::Sealer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

/// Longer than any answer takes that is worth waiting for: the database would have answered by then.
const PATIENCE: Duration = Duration::from_millis(100);
/// For making a connection, which nobody waits for.
const CONNECTING: Duration = Duration::from_secs(2);
/// Waits between two tries to connect: the first, and the longest.
const SOON: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(10);
/// What is longer is not worth its way.
const MOST_BYTES: usize = 4 << 20;
/// Raised when what is kept changes its form; the version of the program is part of all names, too.
const FORM: u32 = 1;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A playback session.
    Session,
    /// What is made for one: its segment map and its playlists. Goes as a whole.
    Footage,
    /// A playlist or manifest of a finished set.
    Listing,
}

impl Kept {
    fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Footage => "footage",
            Self::Listing => "listing",
        }
    }
}

/// Where something is kept: by a name, and within that by a field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kept: Kept,
    pub(crate) name: &'a str,
    pub(crate) field: &'a str,
}

impl Place<'_> {
    fn key(&self) -> String {
        format!("reelmill:{FORM}:{}:{}:{}", env!("CARGO_PKG_VERSION"), self.kept.as_str(), self.name)
    }

    /// What it is sealed for.
    fn sealed_for(&self) -> String {
        format!("{} {}", self.key(), self.field)
    }
}

/// The cache that is configured, if any.
pub(crate) struct SharedCache {
    link: Option<Arc<Link>>,
    sealer: Sealer,
}

/// The connection, while there is one.
struct Link {
    client: Client,
    /// With a number of its own, so that who waited for an older one does not take it away.
    connection: RwLock<Option<(u64, MultiplexedConnection)>>,
    made: AtomicU64,
    /// Somebody tries to make it.
    connecting: AtomicBool,
}

impl SharedCache {
    /// Begins to connect; nobody waits for that.
    ///
    /// # Errors
    /// The address does not read.
    pub(crate) fn new(url: Option<&str>, sealer: Sealer) -> Result<Self, RedisError> {
        let link = match url {
            Some(url) => {
                let client = Client::open(url)?;
                let link = Link {
                    client,
                    connection: RwLock::default(),
                    made: AtomicU64::new(0),
                    connecting: AtomicBool::new(false),
                };
                let link = Arc::new(link);
                link.connect();
                Some(link)
            }
            None => None,
        };
        Ok(Self { link, sealer })
    }

    /// What is kept there, and for how long it may still be believed.
    pub(crate) async fn get<T: DeserializeOwned>(&self, place: Place<'_>) -> Option<(T, Duration)> {
        let link = self.link.as_ref()?;
        let key = place.key();
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGET").arg(&key).arg(place.field).cmd("PTTL").arg(&key);
        let asked = link.ask::<(Option<Vec<u8>>, i64)>(&pipeline).await;
        let outcome = match asked {
            Asked::Answered((Some(sealed), left)) if left > 0 => {
                let plain = self.sealer.open(&place.sealed_for(), &sealed).ok();
                match plain.and_then(|plain| serde_json::from_slice(&plain).ok()) {
                    Some(value) => {
                        count(place.kept, "hit");
                        return Some((value, Duration::from_millis(left.unsigned_abs())));
                    }
                    // Not from one of us, or of another form.
                    None => "error",
                }
            }
            Asked::Answered(_) => "miss",
            Asked::Failed => "error",
            Asked::Skipped => "skipped",
        };
        count(place.kept, outcome);
        None
    }

    /// Keeps something for others; what is kept under the same name goes no later than that.
    pub(crate) async fn put(&self, place: Place<'_>, value: &impl Serialize, lifetime: Duration) {
        let Some(link) = self.link.as_ref().filter(|_| !lifetime.is_zero()) else { return };
        let plain = serde_json::to_vec(value).ok().filter(|plain| plain.len() <= MOST_BYTES);
        let sealed = plain.and_then(|plain| self.sealer.seal(&place.sealed_for(), &plain).ok());
        let Some(sealed) = sealed else { return };
        let key = place.key();
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("HSET").arg(&key).arg(place.field).arg(sealed).ignore();
        // Whole milliseconds: a rest would outlast what it was read from.
        pipeline.cmd("PEXPIRE").arg(&key).arg(u64::try_from(lifetime.as_millis()).unwrap_or(1)).ignore();
        link.ask::<()>(&pipeline).await;
    }

    /// Forgets all that is kept under a name.
    pub(crate) async fn forget(&self, kept: Kept, name: &str) {
        let Some(link) = &self.link else { return };
        let mut pipeline = redis::pipe();
        pipeline.cmd("DEL").arg(Place { kept, name, field: "" }.key()).ignore();
        link.ask::<()>(&pipeline).await;
    }
}

fn count(kept: Kept, outcome: &'static str) {
    metrics::counter!("reelmill_shared_cache_requests_total", "kept" => kept.as_str(), "outcome" => outcome)
        .increment(1);
}

/// What came of a question.
enum Asked<T> {
    Answered(T),
    Failed,
    /// There is no connection.
    Skipped,
}

impl Link {
    async fn ask<T: redis::FromRedisValue>(self: &Arc<Self>, pipeline: &Pipeline) -> Asked<T> {
        let connection = self.connection.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((number, mut connection)) = connection else { return Asked::Skipped };
        match timeout(PATIENCE, pipeline.query_async(&mut connection)).await {
            Ok(Ok(answer)) => Asked::Answered(answer),
            // It answers, if only that it will not do this.
            Ok(Err(error)) if error.code().is_some() => {
                tracing::debug!(%error, "the shared cache refused");
                Asked::Failed
            }
            Ok(Err(error)) => {
                self.lost(number, &error.to_string());
                Asked::Failed
            }
            Err(_) => {
                self.lost(number, "it does not answer");
                Asked::Failed
            }
        }
    }

    /// Goes on without it until it is there again.
    fn lost(self: &Arc<Self>, number: u64, why: &str) {
        let had = self
            .connection
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|(current, _)| *current == number);
        if had.is_some() {
            tracing::warn!(error = why, "the shared cache is lost; going on without it");
            self.connect();
        }
    }

    fn connect(self: &Arc<Self>) {
        metrics::gauge!("reelmill_shared_cache_up").set(0.0);
        if !self.connecting.swap(true, Ordering::SeqCst) {
            tokio::spawn(connect(Arc::downgrade(self)));
        }
    }

    async fn connected(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTING))
            .set_response_timeout(Some(CONNECTING));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // One that hangs takes connections all the same.
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(connection)
    }
}

/// Tries to connect until that succeeds, or nobody needs it any more.
async fn connect(link: Weak<Link>) {
    let (mut wait, mut told) = (SOON, false);
    while let Some(link) = link.upgrade() {
        match link.connected().await {
            Ok(connection) => {
                // First: whoever loses it at once begins anew.
                link.connecting.store(false, Ordering::SeqCst);
                let number = link.made.fetch_add(1, Ordering::Relaxed);
                *link.connection.write().unwrap_or_else(PoisonError::into_inner) = Some((number, connection));
                metrics::gauge!("reelmill_shared_cache_up").set(1.0);
                tracing::info!("the shared cache is there");
                return;
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "the shared cache cannot be reached; going on without it");
            }
            Err(error) => tracing::debug!(%error, "the shared cache cannot be reached"),
        }
        drop(link);
        sleep(wait).await;
        wait = (wait * 2).min(LATE);
    }
}
