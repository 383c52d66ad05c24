//! The streams that this worker carries, and what happens to one between its publishers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reelmill_shared::auth::seal::Sealer;
use reelmill_shared::config::LiveConfig;
use reelmill_shared::db::live::{self, Carrier, LiveHold};
use reelmill_shared::db::{Db, DbError};
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::media::live::window::Update;
use reelmill_shared::net::GuardedClient;
use reelmill_shared::storage::Storage;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::Parts;
use super::channel::{Channel, Stage};
use super::ingest::{Kind, Publisher};
use super::run;
use super::store::{Budget, Shelf};
use crate::ffmpeg::Programs;
use crate::scratch::Scratch;

/// Longer than parts stay that have left a playlist (rfc8216bis, 6.2.2).
const FORMER: Duration = Duration::from_secs(60);

/// What all streams of a worker share.
pub(crate) struct Studio {
    pub(crate) config: LiveConfig,
    pub(crate) db: Db,
    pub(crate) storage: Storage,
    pub(crate) programs: Programs,
    /// Proven by this worker.
    pub(crate) encoders: Vec<Encoder>,
    pub(crate) scratch: Arc<Scratch>,
    pub(crate) carrier: Carrier,
    pub(crate) sealer: Sealer,
    pub(crate) http: GuardedClient,
    pub(crate) input_roots: Vec<PathBuf>,
    /// Held while an epoch is raised, and while leases are renewed.
    pub(crate) epochs: tokio::sync::Mutex<()>,
    may_work: watch::Receiver<bool>,
    /// What waits for the store.
    unstored: Budget,
    channels: Mutex<HashMap<LivestreamId, Arc<Channel>>>,
    /// Those that others carry by now: viewers still ask for what was listed here.
    former: Mutex<HashMap<LivestreamId, (Arc<Channel>, Instant)>>,
    runs: TaskTracker,
}

impl Studio {
    pub(crate) fn new(parts: Parts, carrier: Carrier) -> Self {
        Self {
            config: parts.config,
            db: parts.db,
            storage: parts.storage,
            programs: parts.programs,
            encoders: parts.encoders,
            scratch: parts.scratch,
            carrier,
            sealer: parts.sealer,
            http: parts.http,
            input_roots: parts.input_roots,
            epochs: tokio::sync::Mutex::default(),
            may_work: parts.may_work,
            unstored: Budget::default(),
            channels: Mutex::default(),
            former: Mutex::default(),
            runs: TaskTracker::new(),
        }
    }

    /// Whether streams may come here: not while the worker drains, or is in quarantine. Those that are here stay.
    pub(crate) fn takes_streams(&self) -> bool {
        *self.may_work.borrow()
    }

    /// The stream, where it is carried here.
    pub(crate) fn channel(&self, livestream: LivestreamId) -> Option<Arc<Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(&livestream).cloned()
    }

    fn formers(&self) -> MutexGuard<'_, HashMap<LivestreamId, (Arc<Channel>, Instant)>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream as it was carried here until a moment ago.
    fn former(&self, livestream: LivestreamId) -> Option<Arc<Channel>> {
        self.formers().get(&livestream).map(|(channel, _)| Arc::clone(channel))
    }

    /// Who may have files of a stream: whoever carries it here, and whoever did.
    pub(crate) fn holding(&self, livestream: LivestreamId) -> Vec<Arc<Channel>> {
        self.channel(livestream).into_iter().chain(self.former(livestream)).collect()
    }

    /// Somebody else took a stream with this epoch: the run here is brought to its end. The first number that it did not use, once all
    /// that it published is in the index; `None` where nothing of it is here.
    pub(crate) async fn give_way(&self, livestream: LivestreamId, epoch: i32) -> Option<u64> {
        let channel = match self.channel(livestream) {
            Some(channel) => {
                let hold = channel.hold();
                if hold.epoch >= epoch {
                    return None;
                }
                self.lose(&channel, hold).await;
                channel
            }
            // It heard of it by itself.
            None => self.former(livestream)?,
        };
        let stage = channel.stage.lock().await;
        (channel.hold().epoch < epoch && stage.on_air.is_some()).then_some(stage.next_number)
    }

    /// Forgets what nobody may ask for any more.
    pub(crate) fn tidy(&self) {
        self.formers().retain(|_, (_, since)| since.elapsed() < FORMER);
    }

    /// All that are carried here.
    pub(crate) fn channels(&self) -> Vec<Arc<Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Puts a publisher on air, in place of the one before.
    pub(crate) fn admit(self: &Arc<Self>, publisher: Publisher) {
        let hold = publisher.taken.hold;
        let channel = {
            let mut all = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Channel::new(hold, publisher.taken.project));
            let channel = all.entry(hold.livestream).or_insert_with(new);
            if channel.lost.is_cancelled() {
                *channel = new();
            }
            Arc::clone(channel)
        };
        channel.change_hands(hold, publisher.dismissed.clone());
        let studio = Arc::clone(self);
        self.runs.spawn(async move { studio.carry(channel, publisher).await });
    }

    /// One publisher from its first byte to the end of its grace.
    async fn carry(self: Arc<Self>, channel: Arc<Channel>, publisher: Publisher) {
        let mut hold = publisher.taken.hold;
        let (dismissed, kind) = (publisher.dismissed.clone(), publisher.kind);
        let played_out = Arc::clone(&publisher.played_out);
        {
            let mut stage = channel.stage.lock().await;
            // Another one may have come while the one before was sent away.
            if channel.hold() != hold || channel.lost.is_cancelled() {
                dismissed.cancel();
                return;
            }
            let shelf =
                Shelf::open(self.db.clone(), self.storage.clone(), Arc::clone(&channel), &self.unstored);
            let ran = run::run(&self, &channel, &mut stage, publisher, &shelf).await;
            channel.running.store(false, Ordering::Release);
            // It may have gone on in another run.
            hold = LiveHold { epoch: stage.epoch.max(hold.epoch), ..hold };
            let failed = ran.is_err();
            let why = ran.unwrap_or_else(|error| {
                tracing::info!(livestream = %hold.livestream, %error, "a live run failed");
                error.to_string()
            });
            // A camera that goes on after its run has failed is fetched anew.
            dismissed.cancel();
            shelf.close().await;
            let over = kind == Kind::Finite && !failed && played_out.load(Ordering::Acquire);
            if over && channel.hold() == hold && stage.on_air.is_some() {
                self.end(&channel, &mut stage, "it was played to its end", true).await;
                return;
            }
            if let Err(error) = self.interrupted(&channel, &stage, hold, kind, &why).await {
                drop(stage);
                self.let_go_of(&channel, hold, &error).await;
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(self.config.grace) => {}
            () = channel.lost.cancelled() => return,
        }
        let mut stage = channel.stage.lock().await;
        if channel.hold() == hold {
            self.end(&channel, &mut stage, "the publisher did not come back", false).await;
        }
    }

    /// The publisher is away. What never was on air is over at once.
    async fn interrupted(
        &self,
        channel: &Channel,
        stage: &Stage,
        hold: LiveHold,
        kind: Kind,
        why: &str,
    ) -> Result<(), DbError> {
        // Somebody may have come in the meantime; then nothing is lost.
        if channel.hold() != hold {
            return Ok(());
        }
        let pulled = kind != Kind::Pushed;
        match &stage.on_air {
            Some(on_air) => {
                live::lose(&self.db, hold, on_air, stage.next_number, why).await?;
                if pulled {
                    live::retry_later(&self.db, hold, Some(on_air), why).await?;
                }
                Ok(())
            }
            None if pulled => {
                live::retry_later(&self.db, hold, None, why).await?;
                self.forget(channel);
                Ok(())
            }
            None => {
                live::give_up(&self.db, hold, why).await?;
                self.forget(channel);
                Ok(())
            }
        }
    }

    /// Ends what is on air.
    async fn end(&self, channel: &Channel, stage: &mut Stage, reason: &str, over: bool) {
        let Some(on_air) = &stage.on_air else { return };
        let hold = channel.hold();
        if let Err(error) = live::end(&self.db, hold, on_air, reason, over).await {
            tracing::info!(livestream = %channel.livestream, %error, "could not end a broadcast");
            // The supervisor ends what nobody holds any more.
            self.forget(channel);
            return;
        }
        channel.tell(Update::Ended);
        stage.on_air = None;
        self.forget(channel);
    }

    async fn let_go_of(&self, channel: &Channel, hold: LiveHold, error: &DbError) {
        match error {
            DbError::LostRace => self.lose(channel, hold).await,
            // The supervisor ends what nobody holds any more.
            error => {
                tracing::warn!(livestream = %channel.livestream, %error, "could not write what became of a live stream");
                self.forget(channel);
            }
        }
    }

    /// Somebody else has the stream, or it was stopped, unless it was taken again here since it was held by `hold`.
    pub(crate) async fn lose(&self, channel: &Channel, hold: LiveHold) {
        {
            let mut all = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever comes now finds no channel, and makes a new one.
            if channel.hold() != hold || channel.lost.is_cancelled() {
                return;
            }
            if all.get(&channel.livestream).is_some_and(|known| std::ptr::eq(known.as_ref(), channel))
                && let Some(channel) = all.remove(&channel.livestream)
            {
                self.formers().insert(channel.livestream, (channel, Instant::now()));
            }
        }
        tracing::info!(livestream = %channel.livestream, "a live stream was stopped, or is carried by another worker");
        channel.dismiss();
        // What has come in is still made into segments and stored.
        let stage = channel.stage.lock().await;
        // Viewers are told of the end here where there is nobody else to tell them.
        match live::is_carried(&self.db, channel.livestream).await {
            Ok(false) => channel.tell(Update::Ended),
            Ok(true) => {}
            Err(error) => tracing::debug!(%error, "could not find out who carries a stream"),
        }
        if let Some(on_air) = &stage.on_air
            && let Err(error) = live::finalize(&self.db, on_air.id).await
        {
            // The supervisor does it later.
            tracing::debug!(%error, broadcast = %on_air.id, "could not close the books of a broadcast");
        }
        channel.lost.cancel();
    }

    fn forget(&self, channel: &Channel) {
        channel.lost.cancel();
        let mut all = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&channel.livestream).is_some_and(|known| std::ptr::eq(known.as_ref(), channel)) {
            all.remove(&channel.livestream);
        }
    }

    /// The end of the worker: publishers are sent away, and may come back to another one.
    pub(crate) async fn leave(&self) {
        for channel in self.channels() {
            channel.dismiss();
            let stage = channel.stage.lock().await;
            if let Some(on_air) = &stage.on_air
                && let Err(error) = live::hand_over(&self.db, channel.hold(), on_air, stage.next_number).await
            {
                tracing::debug!(%error, livestream = %channel.livestream, "could not give a live stream back");
            }
            channel.lost.cancel();
        }
        self.runs.close();
        self.runs.wait().await;
    }
}
