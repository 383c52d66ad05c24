//! Segments on their way to the store and the segment index, in order, beside the viewers who watch them already.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reelmill_shared::db::live::{self, LiveSegment, OnAir};
use reelmill_shared::db::{Db, DbError};
use reelmill_shared::live::event::Severity;
use reelmill_shared::storage::Storage;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::channel::Channel;

/// Takes segments that are to be kept.
pub(crate) struct Shelf {
    sender: mpsc::UnboundedSender<Waiting>,
    held: Arc<AtomicU64>,
    storing: JoinHandle<()>,
}

/// Bytes that all streams of a worker together may hold while they cannot be stored; what comes then pushes out what waits longest.
#[derive(Clone, Default)]
pub(crate) struct Budget(Arc<AtomicU64>);

/// How long the end of a run waits for what is not stored yet. It goes on being stored afterwards.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts at the same.
const PAUSE: Duration = Duration::from_millis(500);
/// A minute of a ladder of 10 Mb/s is 75 MB.
const MOST_HELD: u64 = 512 << 20;
/// What could not be stored for so long is told as lost, or longer where viewers may still seek back to it.
const LONGEST: Duration = Duration::from_secs(1800);
/// An attempt to store a segment may take so long.
const PUT: Duration = Duration::from_secs(10);
/// Attempts in a row that fail before somebody is told.
const TOLD_AFTER: u32 = 3;

/// A segment that is not in the index yet.
struct Waiting {
    on_air: OnAir,
    segment: LiveSegment,
    /// Empty once it is stored.
    bytes: Bytes,
    since: Instant,
}

impl Waiting {
    /// What it counts in the budget.
    fn weight(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Nobody will have it.
    fn give_up(&mut self) {
        self.segment.gap = true;
        self.segment.key = String::new();
        self.segment.bytes = 0;
        self.bytes = Bytes::new();
    }
}

impl Shelf {
    pub(crate) fn open(db: Db, storage: Storage, channel: Arc<Channel>, budget: &Budget) -> Self {
        let (sender, segments) = mpsc::unbounded_channel();
        let held = Arc::clone(&budget.0);
        let line =
            Line { db, storage, channel, held: Arc::clone(&held), waiting: VecDeque::new(), failures: 0 };
        Self { sender, held, storing: tokio::spawn(line.work(segments)) }
    }

    /// Puts a segment down; it is stored as soon as those before it are.
    pub(crate) fn put(&self, on_air: &OnAir, segment: LiveSegment, bytes: Bytes) {
        self.held.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let waiting = Waiting { on_air: on_air.clone(), segment, bytes, since: Instant::now() };
        // The other end goes only when this one does.
        let _ = self.sender.send(waiting);
    }

    /// Waits until all is stored, for a while.
    pub(crate) async fn close(self) {
        drop(self.sender);
        if timeout(PATIENCE, self.storing).await.is_err() {
            tracing::warn!("the end of a live run was not stored in time; it is stored later");
        }
    }
}

/// What waits to be stored, in its order.
struct Line {
    db: Db,
    storage: Storage,
    channel: Arc<Channel>,
    held: Arc<AtomicU64>,
    waiting: VecDeque<Waiting>,
    /// Attempts in a row that came to nothing.
    failures: u32,
}

impl Line {
    async fn work(mut self, mut segments: mpsc::UnboundedReceiver<Waiting>) {
        loop {
            while let Ok(segment) = segments.try_recv() {
                self.waiting.push_back(segment);
            }
            let Some(mut first) = self.waiting.pop_front() else {
                match segments.recv().await {
                    Some(segment) => self.waiting.push_back(segment),
                    None => return,
                }
                continue;
            };
            match self.store(&mut first).await {
                Ok(()) => self.went_well().await,
                Err(error) => {
                    let livestream = self.channel.livestream;
                    tracing::warn!(%error, %livestream, number = first.segment.number, "could not keep a live segment");
                    let window = Duration::from_secs(first.on_air.plan.window_seconds.into());
                    let late = first.since.elapsed() > LONGEST.max(window);
                    let full = self.held.load(Ordering::Relaxed) > MOST_HELD;
                    if (late || full) && !first.bytes.is_empty() {
                        self.held.fetch_sub(first.weight(), Ordering::Relaxed);
                        first.give_up();
                        tracing::error!(%livestream, number = first.segment.number, "a live segment is lost");
                    }
                    self.waiting.push_front(first);
                    self.failed().await;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Stores a segment and publishes it; one whose books are closed is nobody's any more.
    async fn store(&self, waiting: &mut Waiting) -> Result<(), String> {
        if !waiting.bytes.is_empty() {
            let put = timeout(PUT, self.storage.put(&waiting.segment.key, waiting.bytes.clone())).await;
            put.map_err(|_| "storing it took too long".to_owned())?.map_err(|error| error.to_string())?;
            self.held.fetch_sub(waiting.weight(), Ordering::Relaxed);
            waiting.bytes = Bytes::new();
        }
        match live::publish(&self.db, &waiting.on_air, std::slice::from_ref(&waiting.segment)).await {
            Ok(()) | Err(DbError::LostRace) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn failed(&mut self) {
        self.failures += 1;
        if self.failures == TOLD_AFTER {
            self.tell(Severity::Error, "what is on air cannot be stored at the moment").await;
        }
    }

    async fn went_well(&mut self) {
        if std::mem::take(&mut self.failures) >= TOLD_AFTER {
            self.tell(Severity::Info, "what is on air is stored again").await;
        }
    }

    async fn tell(&self, severity: Severity, message: &str) {
        let told = live::note(&self.db, self.channel.livestream, severity, message);
        // Where the database is away nobody can be told.
        if let Ok(Err(error)) = timeout(PUT, told).await {
            tracing::debug!(%error, livestream = %self.channel.livestream, "could not tell of a live stream");
        }
    }
}
