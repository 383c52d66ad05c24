//! Who watches livestreams and recordings, and how they fare. No request waits for the database: what is told, and what is seen of players that
//! tell nothing, is kept in memory and written down in one statement every few seconds; what was measured of livestreams, every ten.

mod crowd;
mod measured;
pub(crate) mod session_id;
#[cfg(test)]
mod tests;
mod visitor;

pub(crate) use visitor::Visitor;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use reelmill_shared::db::distribution::{self, Asked};
use reelmill_shared::db::livestream_figures::{self, EdgeFigures, SPAN};
use reelmill_shared::db::streams::{self, Served};
use reelmill_shared::db::viewers::{self, Noted, ToldBy, Watched};
use reelmill_shared::db::{Db, DbError};
use reelmill_shared::ids::{LivestreamId, RecordingId};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::crowd::Crowd;
use self::measured::Measured;

/// Between two times that viewers are written down: what a process that is killed loses.
const BEAT: Duration = Duration::from_secs(3);
/// Sessions in one statement.
const BATCH: usize = 5_000;
/// How often, and how long apart, what is left at the end is tried to be written down.
const LAST_TRIES: usize = 5;
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// The viewers of all livestreams and recordings that tell this process of themselves, or that it serves.
pub(crate) struct Audience {
    /// Of this process, among those who measure.
    id: Uuid,
    crowds: Mutex<HashMap<Watched, Crowd>>,
    /// What viewers of streams were given since it was written down: bytes and segments.
    given: Mutex<HashMap<(Watched, String), (u64, u64)>>,
    /// How often media was asked for since it was written down, and how often it was here.
    asked: Mutex<HashMap<Watched, (u64, u64)>>,
}

/// What a player of a livestream tells of itself.
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

/// What a player of a recording tells of itself. All counts are since its session began.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) session: String,
    pub(crate) user_id: Option<String>,
    pub(crate) position: f64,
    pub(crate) duration: f64,
    pub(crate) playing: bool,
    pub(crate) left: bool,
    pub(crate) rendition: Option<String>,
    pub(crate) buffered_seconds: Option<f64>,
    pub(crate) stalls: Option<i32>,
    pub(crate) stalled_seconds: Option<f64>,
    pub(crate) startup_ms: Option<i32>,
    pub(crate) switches: Option<i32>,
    pub(crate) device_type: Option<String>,
    pub(crate) country: Option<String>,
    pub(crate) bytes: Option<i64>,
    pub(crate) segments: Option<i64>,
    pub(crate) ip_address: Option<String>,
    pub(crate) user_agent: Option<String>,
}

impl Audience {
    pub(crate) fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            crowds: Mutex::default(),
            given: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    fn crowds(&self) -> MutexGuard<'_, HashMap<Watched, Crowd>> {
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request for a livestream was answered with so many bytes, or could not be. `player` where it was for a playlist: who asks for those plays.
    pub(crate) fn served(
        &self,
        livestream: LivestreamId,
        bytes: u64,
        failed: bool,
        player: Option<&Visitor>,
    ) {
        let watched = Watched::Livestream(livestream);
        let mut crowds = self.crowds();
        let crowd = crowds.entry(watched).or_default();
        crowd.measured.sent(bytes, failed);
        if let Some(visitor) = player {
            crowd.saw(watched, visitor);
        }
    }

    /// A player of a livestream that there is tells of itself.
    pub(crate) fn heard(&self, livestream: LivestreamId, visitor: &Visitor, report: Report) {
        let watched = Watched::Livestream(livestream);
        self.crowds().entry(watched).or_default().heard(watched, visitor, report);
    }

    /// A holder of a key tells of a player of a livestream.
    pub(crate) fn told(&self, livestream: LivestreamId, latency: Option<u32>, errors: u32) {
        if latency.is_some() || errors > 0 {
            let mut crowds = self.crowds();
            let measured = &mut crowds.entry(Watched::Livestream(livestream)).or_default().measured;
            measured.errors(errors);
            measured.latency(latency);
        }
    }

    /// A player of a recording tells how far it is; without a visitor somebody with a key does. False where the session is known to be of
    /// something else.
    pub(crate) fn progressed(
        &self,
        recording: RecordingId,
        visitor: Option<&Visitor>,
        progress: Progress,
    ) -> bool {
        let watched = Watched::Recording(recording);
        let told_by = if visitor.is_some() { ToldBy::Player } else { ToldBy::Key };
        self.crowds().entry(watched).or_default().progressed(watched, told_by, visitor, progress)
    }

    /// A viewer of a stream was given so many bytes.
    pub(crate) fn gave(&self, watched: Watched, session: &str, bytes: u64, is_segment: bool) {
        let mut given = self.given();
        let (sum, segments) = given.entry((watched, session.to_owned())).or_default();
        *sum += bytes;
        *segments += u64::from(is_segment);
    }

    /// Media was asked for, and was here or had to be fetched.
    pub(crate) fn asked(&self, watched: Watched, had: bool) {
        if let Watched::Livestream(_) = watched {
            self.crowds().entry(watched).or_default().measured.asked(had);
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (requests, hits) = asked.entry(watched).or_default();
        *requests += 1;
        *hits += u64::from(had);
    }

    /// Writes down how often media was asked for; what could not be is kept for the next time.
    async fn write_asked(&self, db: &Db) -> Result<(), DbError> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        if asked.is_empty() {
            return Ok(());
        }
        let sums: Vec<Asked> =
            asked.iter().map(|(&watched, &(requests, hits))| Asked { watched, requests, hits }).collect();
        let outcome = distribution::add(db, &sums).await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, "could not write down how often media was asked for");
            let mut kept = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            for (watched, (requests, hits)) in asked {
                let known = kept.entry(watched).or_default();
                *known = (known.0 + requests, known.1 + hits);
            }
        }
        outcome
    }

    fn given(&self) -> MutexGuard<'_, HashMap<(Watched, String), (u64, u64)>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what viewers of streams were given; what could not be is kept for the next time.
    async fn write_given(&self, db: &Db) -> Result<(), DbError> {
        let given = std::mem::take(&mut *self.given());
        if given.is_empty() {
            return Ok(());
        }
        let served = |((watched, session), (bytes, segments)): (&(Watched, String), &(u64, u64))| Served {
            watched: *watched,
            session: session.clone(),
            bytes: *bytes,
            segments: *segments,
        };
        let all: Vec<Served> = given.iter().map(served).collect();
        let outcome = streams::serve(db, &all).await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, viewers = all.len(), "could not write down what viewers of streams were given");
            let mut kept = self.given();
            for (viewer, (bytes, segments)) in given {
                let known = kept.entry(viewer).or_default();
                *known = (known.0 + bytes, known.1 + segments);
            }
        }
        outcome
    }

    /// How many players are known here: of livestreams, and of recordings.
    fn sessions(&self) -> (usize, usize) {
        let crowds = self.crowds();
        crowds.iter().fold((0, 0), |(live, recorded), (watched, crowd)| match watched {
            Watched::Livestream(_) => (live + crowd.sessions.len(), recorded),
            Watched::Recording(_) => (live, recorded + crowd.sessions.len()),
        })
    }

    /// Who is to be written down now.
    fn due(&self) -> Vec<Noted> {
        let mut due = vec![];
        let now = Instant::now();
        self.crowds().retain(|_, crowd| {
            crowd.due(now, &mut due);
            !crowd.sessions.is_empty() || crowd.measured != Measured::default()
        });
        due
    }

    fn measured(&self) -> Vec<EdgeFigures> {
        let mut crowds = self.crowds();
        let taken = crowds.iter_mut().filter_map(|(watched, crowd)| {
            let Watched::Livestream(livestream) = *watched else { return None };
            (crowd.measured != Measured::default())
                .then(|| std::mem::take(&mut crowd.measured).figures(livestream))
        });
        taken.collect()
    }

    /// Writes down what is due; what could not be is due again.
    async fn write(&self, db: &Db) -> Result<(), DbError> {
        let given = self.write_given(db).await;
        let asked = self.write_asked(db).await;
        self.write_viewers(db).await.and(given).and(asked)
    }

    async fn write_viewers(&self, db: &Db) -> Result<(), DbError> {
        let mut due = self.due();
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(BATCH));
            match viewers::note(db, &due).await {
                Ok(written) => {
                    metrics::counter!("reelmill_viewer_rows_written_total").increment(written.rows);
                    metrics::counter!("reelmill_viewer_statements_total").increment(written.statements);
                    let mut crowds = self.crowds();
                    for (watched, session) in written.refused {
                        if let Some(crowd) = crowds.get_mut(&watched) {
                            crowd.refuse(&session);
                        }
                    }
                }
                Err(error) => {
                    let viewers = due.len() + rest.len();
                    tracing::warn!(%error, viewers, "could not write down who watches");
                    // What the database refuses it will refuse again.
                    if !error.is_outage() {
                        due.clear();
                    }
                    let mut crowds = self.crowds();
                    for noted in due.into_iter().chain(rest) {
                        crowds.entry(noted.watched).or_default().take_back(noted);
                    }
                    return Err(error);
                }
            }
            due = rest;
        }
        Ok(())
    }
}

/// Writes down who watches and what was measured, until `stop`.
pub(crate) async fn keep(audience: Arc<Audience>, db: Db, stop: CancellationToken) {
    tokio::join!(keep_viewers(&audience, &db, &stop), keep_figures(&audience, &db, &stop));
}

async fn keep_viewers(audience: &Audience, db: &Db, stop: &CancellationToken) {
    loop {
        let over = tokio::select! {
            () = tokio::time::sleep(BEAT) => false,
            () = stop.cancelled() => true,
        };
        let (live, recorded) = audience.sessions();
        metrics::gauge!("reelmill_live_viewers").set(live as f64);
        metrics::gauge!("reelmill_recording_viewers").set(recorded as f64);
        let outcome = audience.write(db).await;
        if over {
            if outcome.is_err() {
                write_last(audience, db).await;
            }
            return;
        }
    }
}

/// Nobody will write down later what is left now.
async fn write_last(audience: &Audience, db: &Db) {
    for _ in 1..LAST_TRIES {
        tokio::time::sleep(LAST_PAUSE).await;
        if audience.write(db).await.is_ok() {
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
