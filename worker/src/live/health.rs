//! How a run fares: each trouble is told once when it begins and once when it is over. Pure but for [`watch`], which looks once a second.

use std::collections::VecDeque;
use std::time::Duration;

use reelmill_shared::db::livestream_events::{self, NewEntry};
use reelmill_shared::db::{Db, DbError};
use reelmill_shared::ids::{BroadcastId, LivestreamId};
use reelmill_shared::live::event::{LiveEventType, Severity};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::meter::{Meter, Totals};

/// How often it is looked.
const TICK: Duration = Duration::from_secs(1);
/// What is decided on.
const WINDOW: usize = 5;
/// In the beginning an encoder catches up with what came while it was looked for.
const WARM_UP: u32 = 5;
/// Seconds encoded a second, below which encoding is too slow where it also holds up what comes in for such a share of the time.
const SLOW: f64 = 0.95;
const REFUSED: f64 = 0.3;
/// So many looks after it was found too slow something is done about it.
const SLOW_FOR: u32 = 6;
/// Nothing came in for so long.
const SILENCE: Duration = Duration::from_millis(1500);
/// A share of pictures that is worth a word, of so many of them at least, and one that is not any more.
const MISSED: f64 = 0.05;
const MISSED_LEAST: u64 = 5;
const MISSED_NO_MORE: f64 = 0.01;
/// A rate that is so many times, or such a part of, what it was.
const RATE_CHANGE: f64 = 2.0;
/// What the usual rate takes of the present one each time.
const RATE_MEMORY: f64 = 0.05;
/// A trouble that comes again so soon is the same one.
const AGAIN: u32 = 60;

/// What may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Encoding is slower than what comes in.
    Slow,
    /// Nothing comes in, though the publisher is connected.
    Silence,
    /// Pictures are missing in what comes in.
    Missing,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq)]
enum Finding {
    Began(Trouble, f64),
    /// After so many seconds.
    Over(Trouble, u32),
    /// Bits per second, before and now.
    Rate(f64, f64),
}

/// One kind of trouble in the course of a run.
#[derive(Debug, Default)]
struct Episode {
    /// At which look it began.
    since: Option<u32>,
    ended: Option<u32>,
}

/// What was seen of a run.
#[derive(Debug, Default)]
struct Watch {
    looks: u32,
    ticks: VecDeque<Totals>,
    slow: Episode,
    silence: Episode,
    missing: Episode,
    /// The usual rate, in bits per second, and at which look another was told of.
    rate: Option<f64>,
    rate_told: Option<u32>,
}

impl Watch {
    /// Takes what was counted within the last second; gives what there is to tell.
    fn look(&mut self, tick: Totals) -> Vec<Finding> {
        self.looks += 1;
        self.ticks.push_back(tick);
        if self.ticks.len() > WINDOW {
            self.ticks.pop_front();
        }
        if self.looks < WARM_UP || self.ticks.len() < WINDOW {
            return vec![];
        }
        let time = TICK * WINDOW as u32;
        let sum = |of: fn(&Totals) -> f64| self.ticks.iter().map(of).sum::<f64>();
        let speed = sum(|it| it.encoded.as_secs_f64()) / time.as_secs_f64();
        let refused = sum(|it| it.refused.as_secs_f64()) / time.as_secs_f64();
        let silent = sum(|it| it.silent.as_secs_f64());
        let (missing, frames) = (sum(|it| it.missing as f64), sum(|it| it.frames as f64).max(1.0));
        let mut found = vec![];

        // What catches up is refused as well, but is not slow.
        let slow = match self.slow.since {
            None => speed < SLOW && refused > REFUSED,
            Some(_) => speed < 1.0 && refused > REFUSED,
        };
        found.extend(self.slow.turn(slow, self.looks, Trouble::Slow, speed));
        let silence = silent >= SILENCE.as_secs_f64();
        found.extend(self.silence.turn(silence, self.looks, Trouble::Silence, silent));
        let share = missing / frames;
        let misses = match self.missing.since {
            None => share > MISSED && missing >= MISSED_LEAST as f64,
            Some(_) => share > MISSED_NO_MORE,
        };
        found.extend(self.missing.turn(misses, self.looks, Trouble::Missing, share));
        // While something is wrong, the rate is no other, but not known.
        if !silence && !slow {
            found.extend(self.rate(sum(|it| it.bytes as f64) * 8.0 / time.as_secs_f64()));
        }
        found
    }

    fn rate(&mut self, now: f64) -> Option<Finding> {
        let usual = match self.rate {
            Some(usual) if usual > 0.0 => usual,
            _ => {
                self.rate = Some(now);
                return None;
            }
        };
        if (usual / RATE_CHANGE..=usual * RATE_CHANGE).contains(&now) {
            self.rate = Some(usual + (now - usual) * RATE_MEMORY);
            return None;
        }
        self.rate = Some(now);
        if self.rate_told.is_some_and(|told| self.looks - told < AGAIN) {
            return None;
        }
        self.rate_told = Some(self.looks);
        Some(Finding::Rate(usual, now))
    }

    /// Encoding has been too slow for long enough to do something about it.
    fn must_lighten(&self) -> bool {
        self.slow.since.is_some_and(|since| self.looks - since >= SLOW_FOR)
    }
}

impl Episode {
    fn turn(&mut self, is: bool, now: u32, trouble: Trouble, value: f64) -> Option<Finding> {
        match (self.since, is) {
            (None, true) if self.ended.is_none_or(|ended| now - ended >= AGAIN) => {
                self.since = Some(now);
                Some(Finding::Began(trouble, value))
            }
            (Some(since), false) => {
                (self.since, self.ended) = (None, Some(now));
                Some(Finding::Over(trouble, now - since))
            }
            _ => None,
        }
    }
}

impl Finding {
    /// For who runs the stream: what, how bad, in a sentence, and in figures.
    fn told(&self) -> (LiveEventType, Severity, String, Value) {
        match self {
            Self::Began(Trouble::Slow, speed) => (
                LiveEventType::HighLatency,
                Severity::Error,
                format!("encoding is slower than what comes in: {speed:.2} seconds a second"),
                json!({ "state": "began", "speed": round(*speed) }),
            ),
            Self::Began(Trouble::Silence, seconds) => (
                LiveEventType::BufferUnderflow,
                Severity::Warning,
                format!("the publisher is connected and sent nothing for {seconds:.1} s"),
                json!({ "state": "began", "seconds": round(*seconds) }),
            ),
            Self::Began(Trouble::Missing, share) => (
                LiveEventType::FrameDrop,
                Severity::Warning,
                format!("{:.0} % of the pictures do not come in", share * 100.0),
                json!({ "state": "began", "share": round(*share) }),
            ),
            Self::Over(trouble, seconds) => {
                let (kind, what) = match trouble {
                    Trouble::Slow => (LiveEventType::HighLatency, "encoding keeps up again"),
                    Trouble::Silence => (LiveEventType::BufferUnderflow, "media comes in again"),
                    Trouble::Missing => (LiveEventType::FrameDrop, "all pictures come in again"),
                };
                let details = json!({ "state": "over", "seconds": seconds });
                (kind, Severity::Info, format!("{what}, after {seconds} s"), details)
            }
            Self::Rate(before, now) => (
                LiveEventType::BitrateChange,
                Severity::Info,
                format!("what comes in went from {:.0} to {:.0} kbit/s", before / 1000.0, now / 1000.0),
                json!({ "from": before.round(), "to": now.round() }),
            ),
        }
    }
}

fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

/// Whose health is watched, and who is told.
pub(super) struct Patient<'a> {
    pub(super) db: &'a Db,
    pub(super) livestream: LivestreamId,
    pub(super) broadcast: BroadcastId,
    pub(super) meter: &'a Meter,
}

/// Looks after a run, and tells what there is to tell. Returns when encoding must be made lighter, and never where it may not be.
pub(super) async fn watch(patient: Patient<'_>, may_lighten: bool) {
    let mut watch = Watch::default();
    let mut before = patient.meter.totals();
    let mut ticks = tokio::time::interval(TICK);
    // Looks must lie as far apart as the figures say.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = patient.meter.totals();
        let found = watch.look(now.since(before));
        before = now;
        for finding in found {
            patient.tell(&finding);
        }
        if may_lighten && watch.must_lighten() {
            return;
        }
    }
}

impl Patient<'_> {
    /// Beside the work: a run does not wait for the database.
    fn tell(&self, finding: &Finding) {
        let (kind, severity, message, details) = finding.told();
        let (db, livestream, broadcast) = (self.db.clone(), self.livestream, self.broadcast);
        tracing::info!(%livestream, %kind, message, "how a live run fares");
        tokio::spawn(async move {
            let entry =
                NewEntry { broadcast_id: Some(broadcast), kind, severity, message: &message, details };
            let told = async {
                livestream_events::append(&db.get().await?, livestream, &entry).await?;
                Ok::<_, DbError>(())
            };
            if let Err(error) = told.await {
                tracing::debug!(%error, %livestream, "could not tell how a live run fares");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second in which all is well: 25 pictures of 1 Mbit/s.
    fn well() -> Totals {
        Totals { bytes: 125_000, frames: 25, encoded: TICK, ..Totals::default() }
    }

    fn slow() -> Totals {
        Totals { frames: 15, encoded: TICK * 6 / 10, refused: TICK * 9 / 10, ..well() }
    }

    /// What is told of so many seconds of each.
    fn told(course: &[(Totals, u32)]) -> (Vec<String>, Watch) {
        let mut watch = Watch::default();
        let mut all = vec![];
        for (tick, seconds) in course {
            for _ in 0..*seconds {
                for finding in watch.look(*tick) {
                    let (kind, severity, _, details) = finding.told();
                    let state = details.get("state").and_then(Value::as_str).unwrap_or_default();
                    all.push(format!("{kind} {severity} {state}").trim().to_owned());
                }
            }
        }
        (all, watch)
    }

    #[test]
    fn a_healthy_run_is_not_spoken_of() {
        let (all, watch) = told(&[(well(), 600)]);
        assert_eq!(all, Vec::<String>::new());
        assert!(!watch.must_lighten());
    }

    #[test]
    fn a_slow_encoder_is_told_of_once_and_answered_when_it_stays_slow() {
        let (all, watch) = told(&[(well(), 20), (slow(), 5)]);
        assert_eq!(all, ["high_latency error began"]);
        assert!(!watch.must_lighten());
        let (all, watch) = told(&[(well(), 20), (slow(), 30)]);
        assert_eq!(all, ["high_latency error began"]);
        assert!(watch.must_lighten());
        // It is over when what was held up is caught up with.
        let catching_up = Totals { encoded: TICK * 2, refused: TICK, ..well() };
        let (all, watch) = told(&[(well(), 20), (slow(), 5), (catching_up, 10), (well(), 10)]);
        assert_eq!(all, ["high_latency error began", "high_latency info over"]);
        assert!(!watch.must_lighten());
    }

    #[test]
    fn a_publisher_that_sends_slowly_is_no_slow_encoder() {
        let starved =
            Totals { bytes: 60_000, frames: 12, encoded: TICK / 2, silent: TICK / 5, ..Totals::default() };
        let (all, watch) = told(&[(well(), 20), (starved, 4)]);
        assert_eq!(all, Vec::<String>::new());
        assert!(!watch.must_lighten());
    }

    #[test]
    fn silence_and_missing_pictures_are_told_once_each() {
        let silent = Totals { silent: TICK, ..Totals::default() };
        let (all, _) = told(&[(well(), 20), (silent, 10), (well(), 10)]);
        assert_eq!(all, ["buffer_underflow warning began", "buffer_underflow info over"]);
        let missing = Totals { missing: 3, frames: 25, ..well() };
        let (all, _) = told(&[(well(), 20), (missing, 10), (well(), 10)]);
        assert_eq!(all, ["frame_drop warning began", "frame_drop info over"]);
    }

    #[test]
    fn what_flaps_is_no_flood() {
        let missing = Totals { missing: 5, ..well() };
        let course: Vec<_> = (0..60).flat_map(|_| [(missing, 6), (well(), 6)]).collect();
        let (all, _) = told(&course);
        // Twelve minutes.
        assert!(all.len() <= 24, "{}", all.len());
    }

    #[test]
    fn another_rate_is_told_once() {
        let much = Totals { bytes: 500_000, ..well() };
        let (all, _) = told(&[(well(), 20), (much, 30), (well(), 10)]);
        assert_eq!(all, ["bitrate_change info"]);
        let (all, _) = told(&[(well(), 20), (Totals { bytes: 180_000, ..well() }, 30)]);
        assert_eq!(all, Vec::<String>::new(), "less than twice as much");
    }
}
