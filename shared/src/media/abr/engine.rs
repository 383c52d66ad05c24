//! Which rung is played next.

use super::bandwidth::Bandwidth;
use super::caps::{Cap, Rung};
use super::ladder::Ladder;
use super::lookahead::{Outlook, best};
use crate::job::state::words;

/// How things stand when a segment is to be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// In ascending order of bitrate.
    pub rungs: &'a [Rung],
    /// Why each of them is out of question, as [`super::Caps::judge`] says; as many as rungs.
    pub caps: &'a [Option<Cap>],
    /// Seconds that are there to be played.
    pub buffer: f64,
    /// Seconds after which the player fetches no more.
    pub full: f64,
    /// Seconds of a segment.
    pub segment: f64,
}

words! {
    /// What decided.
    Reason("reason") {
        /// Nothing is known of the network yet.
        Start = "start",
        /// The buffer is nearly empty: the lowest.
        BufferCritical = "buffer_critical",
        /// The buffer is low: one less than the network seems to carry.
        BufferLow = "buffer_low",
        /// What promises the most on what the network is likely to carry.
        Throughput = "throughput",
        /// The buffer is nearly full: one more is tried.
        BufferHigh = "buffer_high",
        /// Another would fit a little better; so little is not worth a change.
        Steady = "steady",
        /// More would be carried, and the device or the viewer has no use for it.
        Capped = "capped",
    }
}

/// What is played next, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Of the rungs.
    pub rung: usize,
    pub reason: Reason,
}

/// One viewer's choices so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Engine {
    pub bandwidth: Bandwidth,
    /// The rung played now.
    current: Option<usize>,
    /// The buffer was well filled once: what empties it since is the network, and not that playback has just begun.
    pub(super) filled: bool,
}

/// Of a full buffer: below is played the lowest rung; below, one less than is carried; above, one more.
const CRITICAL: f64 = 0.2;
const LOW: f64 = 0.4;
const HIGH: f64 = 0.85;

/// How much of what is carried may be asked for while the buffer fills for the first time: what is fetched then is there at once.
const FILLING: f64 = 1.4;
/// How far the prediction may be off at least, and how many times as far as predictions were of late (deviations of the logarithm).
const LEAST_DEVIATION: f64 = 0.07;
const DEVIATES: f64 = 1.4;

impl Engine {
    /// Of somebody whose choices were made elsewhere so far: what is played now, and whether its buffer was filled before.
    pub fn resumed(bandwidth: Bandwidth, current: Option<usize>, filled: bool) -> Self {
        Self { bandwidth, current, filled }
    }

    /// A buffer of so many seconds has been well filled.
    pub(super) fn fills(buffer: f64, full: f64) -> bool {
        buffer / full >= LOW
    }

    /// The rung of the next segment. Without any rungs it is number 0.
    pub fn choose(&mut self, situation: &Situation<'_>) -> Choice {
        let share = situation.buffer / situation.full;
        self.filled |= Self::fills(situation.buffer, situation.full);
        let choice = self.judge(situation, share);
        self.current = Some(choice.rung);
        choice
    }

    fn judge(&self, situation: &Situation<'_>, share: f64) -> Choice {
        let ladder = Ladder::of(situation.rungs, situation.caps);
        let current = self.current.map_or_else(|| ladder.lowest(), |rung| ladder.nearest(rung));
        let Some(carried) = self.bandwidth.predicted() else {
            return Choice { rung: current, reason: Reason::Start };
        };
        if self.filled && share < CRITICAL {
            return Choice { rung: ladder.lowest(), reason: Reason::BufferCritical };
        }
        let fits = ladder.highest(carried);
        let best = best(
            &ladder,
            &Outlook {
                predicted: carried,
                deviation: LEAST_DEVIATION + DEVIATES * self.bandwidth.deviation(),
                buffer: situation.buffer,
                full: situation.full,
                segment: situation.segment,
                current,
            },
        );
        if self.filled && share < LOW {
            let rung = best.min(ladder.below(fits)).min(current);
            return Choice { rung, reason: Reason::BufferLow };
        }
        let most = if self.filled { ladder.top() } else { ladder.highest(carried * FILLING) };
        // A buffer that is nearly full loses nothing by one more.
        let least = if share > HIGH { fits.min(ladder.above(current)) } else { ladder.lowest() };
        let rung = best.min(most).max(least);
        let reason = if rung == ladder.top() && ladder.holds_back(carried) {
            Reason::Capped
        } else if share > HIGH && rung > current && rung > best.min(fits) {
            Reason::BufferHigh
        } else if rung == current && rung != fits {
            Reason::Steady
        } else {
            Reason::Throughput
        };
        Choice { rung, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Caps;
    use super::*;

    const SEGMENT: f64 = 4.0;
    const FULL: f64 = 30.0;

    fn rungs() -> Vec<Rung> {
        let rung = |(name, bitrate, height): (&str, u64, u32)| Rung {
            name: name.into(),
            bitrate,
            width: height * 16 / 9,
            height,
            codecs: "avc1.64001f,mp4a.40.2".into(),
        };
        [
            ("240p", 400_000, 240),
            ("480p", 1_400_000, 480),
            ("720p", 2_800_000, 720),
            ("1080p", 5_000_000, 1080),
        ]
        .map(rung)
        .into()
    }

    /// Somebody whose downloads all came at so many bits per second.
    fn carrying(rate: f64) -> Engine {
        let mut engine = Engine::default();
        for _ in 0..20 {
            engine.bandwidth.sample((rate * 2.0 / 8.0) as u64, 2.0);
        }
        engine
    }

    /// What is chosen with so much of a full buffer.
    fn with(engine: &mut Engine, share: f64, caps: &Caps) -> (String, Reason) {
        let rungs = rungs();
        let caps = caps.judge(&rungs);
        let situation =
            Situation { rungs: &rungs, caps: &caps, buffer: share * FULL, full: FULL, segment: SEGMENT };
        let Choice { rung, reason } = engine.choose(&situation);
        (rungs[rung].name.clone(), reason)
    }

    fn chosen(engine: &mut Engine, share: f64) -> (String, Reason) {
        with(engine, share, &Caps::default())
    }

    #[test]
    fn who_is_not_known_starts_low_and_then_gets_what_is_carried() {
        let mut engine = Engine::default();
        assert_eq!(chosen(&mut engine, 0.0), ("240p".into(), Reason::Start));
        engine.bandwidth.sample(1_000_000, 1.0);
        assert_eq!(chosen(&mut engine, 0.13), ("1080p".into(), Reason::Throughput));
    }

    #[test]
    fn the_buffer_shifts_what_is_carried() {
        let at = |share| {
            let mut engine = carrying(3e6);
            chosen(&mut engine, 0.5);
            chosen(&mut engine, share)
        };
        assert_eq!(at(0.19), ("240p".into(), Reason::BufferCritical));
        assert_eq!(at(0.3), ("480p".into(), Reason::BufferLow));
        assert_eq!(at(0.5), ("720p".into(), Reason::Throughput));
        assert_eq!(at(0.9).0, "1080p");
    }

    #[test]
    fn a_little_more_or_less_changes_nothing() {
        let mut engine = carrying(3e6);
        assert_eq!(chosen(&mut engine, 0.5).0, "720p");
        engine.bandwidth = carrying(2.6e6).bandwidth;
        assert_eq!(chosen(&mut engine, 0.5), ("720p".into(), Reason::Steady));
        engine.bandwidth = carrying(0.9e6).bandwidth;
        assert_eq!(chosen(&mut engine, 0.42), ("480p".into(), Reason::Throughput));
        engine.bandwidth = carrying(2e6).bandwidth;
        assert_eq!(chosen(&mut engine, 0.42), ("480p".into(), Reason::Throughput));
    }

    #[test]
    fn what_is_in_the_buffer_is_spent_where_that_is_worth_it() {
        // Between two rungs: the higher one for a while, as long as there is enough.
        let mut engine = carrying(4e6);
        assert_eq!(chosen(&mut engine, 0.87).0, "1080p");
        assert_eq!(chosen(&mut engine, 0.6), ("1080p".into(), Reason::Steady));
        assert_eq!(chosen(&mut engine, 0.39), ("480p".into(), Reason::BufferLow));
    }

    #[test]
    fn who_was_surprised_of_late_gets_less() {
        let restless = || {
            let mut engine = Engine::default();
            for n in 0..20 {
                engine.bandwidth.sample(if n % 2 == 0 { 1_600_000 } else { 800_000 }, 2.0);
            }
            engine
        };
        let (mut restless, mut steady) = (restless(), carrying(5.4e6));
        assert_eq!(chosen(&mut steady, 0.45).0, "1080p");
        assert_ne!(chosen(&mut restless, 0.45).0, "1080p");
    }

    #[test]
    fn what_the_device_has_no_use_for_is_not_chosen() {
        let small = Caps { screen: Some((854, 480)), ..Caps::default() };
        let mut engine = carrying(20e6);
        assert_eq!(with(&mut engine, 0.6, &small), ("480p".into(), Reason::Capped));
        // The window grew.
        assert_eq!(with(&mut engine, 0.6, &Caps::default()).0, "1080p");
        assert_eq!(with(&mut engine, 0.6, &small), ("480p".into(), Reason::Capped));
    }

    #[test]
    fn nothing_to_choose_from_is_no_reason_to_fail() {
        let situation = Situation { rungs: &[], caps: &[], buffer: 1.0, full: FULL, segment: SEGMENT };
        assert_eq!(carrying(3e6).choose(&situation).rung, 0);
        let nonsense = Situation { full: 0.0, segment: 0.0, buffer: f64::NAN, ..situation };
        assert_eq!(carrying(3e6).choose(&nonsense).rung, 0);
    }
}
