//! Which rung is played next.

use serde::{Deserialize, Serialize};

use super::bandwidth::Bandwidth;
use super::caps::{Cap, Rung};

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

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing is known of the network yet.
    Start,
    /// The buffer is nearly empty: the lowest.
    BufferCritical,
    /// The buffer is low: one less than the network seems to carry.
    BufferLow,
    /// What the network carries.
    Throughput,
    /// The buffer is nearly full: one more than the network carries.
    BufferHigh,
    /// Another would fit a little better; so little is not worth a change.
    Steady,
    /// More would be carried, and the device has no use for it.
    Capped,
}

/// What is played next, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Of the rungs.
    pub rung: usize,
    pub reason: Reason,
}

/// One viewer's choices so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Engine {
    pub bandwidth: Bandwidth,
    /// The rung played now.
    current: Option<usize>,
    /// The buffer was well filled once: what empties it since is the network, and not that playback has just begun.
    filled: bool,
}

/// Of a full buffer: below is played the lowest rung; below, one less than is carried; above, one more.
const CRITICAL: f64 = 0.2;
const LOW: f64 = 0.4;
const HIGH: f64 = 0.85;

/// Segments over which what the buffer holds beyond [`LOW`] may be spent.
const AHEAD: f64 = 2.0;
/// Another rung has to fit so much better, or the one played so much worse, that a change is worth it.
const WORTHWHILE: f64 = 1.15;
/// How much of what is carried is asked for while the buffer fills for the first time.
const FILLING: f64 = 0.9;

impl Engine {
    /// Of somebody whose choices were made elsewhere so far: what is played now, and whether its buffer was filled before.
    pub fn resumed(bandwidth: Bandwidth, current: Option<usize>, filled: bool) -> Self {
        Self { bandwidth, current, filled }
    }

    /// The rung of the next segment. Without any rungs it is number 0.
    pub fn choose(&mut self, situation: &Situation<'_>) -> Choice {
        let share = situation.buffer / situation.full;
        self.filled |= share >= LOW;
        let choice = self.judge(situation, share);
        self.current = Some(choice.rung);
        choice
    }

    fn judge(&self, situation: &Situation<'_>, share: f64) -> Choice {
        let ladder = Ladder::of(situation);
        let current = self.current.map_or_else(|| ladder.lowest(), |rung| ladder.nearest(rung));
        let Some(carried) = self.bandwidth.predicted() else {
            return Choice { rung: current, reason: Reason::Start };
        };
        if share < LOW && !self.filled {
            return Choice { rung: ladder.highest(carried * FILLING), reason: Reason::Throughput };
        }
        if share < CRITICAL {
            return Choice { rung: ladder.lowest(), reason: Reason::BufferCritical };
        }
        if share < LOW {
            let rung = ladder.below(ladder.highest(carried)).min(current);
            return Choice { rung, reason: Reason::BufferLow };
        }
        // What is held beyond the reserve may be spent, the more of it the better the network is known.
        let spare = (situation.buffer - LOW * situation.full) / (AHEAD * situation.segment);
        let affordable = carried * (1.0 + spare * self.bandwidth.confidence().powi(2));
        let fits = ladder.highest(affordable);
        let (rung, reason) = if fits > current {
            match ladder.highest(affordable / WORTHWHILE) {
                worth if worth > current => (worth, Reason::Throughput),
                _ if share > HIGH => (ladder.above(current), Reason::BufferHigh),
                _ => (current, Reason::Steady),
            }
        } else if fits < current && ladder.rate(current) > affordable * WORTHWHILE {
            (fits, Reason::Throughput)
        } else {
            (current, if fits < current { Reason::Steady } else { Reason::Throughput })
        };
        let capped = rung == ladder.top() && ladder.holds_back(affordable);
        Choice { rung, reason: if capped { Reason::Capped } else { reason } }
    }
}

/// The rungs that are not out of question.
struct Ladder<'a> {
    rungs: &'a [Rung],
    allowed: Vec<usize>,
}

impl<'a> Ladder<'a> {
    fn of(situation: &Situation<'a>) -> Self {
        let allowed = |rung: &usize| situation.caps.get(*rung).is_none_or(Option::is_none);
        Self { rungs: situation.rungs, allowed: (0..situation.rungs.len()).filter(allowed).collect() }
    }

    fn rate(&self, rung: usize) -> f64 {
        self.rungs.get(rung).map_or(0.0, |rung| rung.bitrate as f64)
    }

    fn lowest(&self) -> usize {
        self.allowed.first().copied().unwrap_or(0)
    }

    fn top(&self) -> usize {
        self.allowed.last().copied().unwrap_or(0)
    }

    /// The highest of at most so many bits per second; the lowest where none is.
    fn highest(&self, rate: f64) -> usize {
        let fits = |rung: &usize| self.rate(*rung) <= rate;
        self.allowed.iter().rev().copied().find(fits).unwrap_or(self.lowest())
    }

    fn below(&self, rung: usize) -> usize {
        self.allowed.iter().rev().copied().find(|other| *other < rung).unwrap_or(self.lowest())
    }

    fn above(&self, rung: usize) -> usize {
        self.allowed.iter().copied().find(|other| *other > rung).unwrap_or(self.top())
    }

    /// The same rung, or the next below where it has gone out of question.
    fn nearest(&self, rung: usize) -> usize {
        self.allowed.iter().rev().copied().find(|other| *other <= rung).unwrap_or(self.lowest())
    }

    /// A rung that would be affordable is out of question.
    fn holds_back(&self, rate: f64) -> bool {
        self.rungs.len() > self.top() + 1 && self.rate(self.top() + 1) <= rate
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
        let mut engine = carrying(4e6);
        assert_eq!(chosen(&mut engine, 0.42).0, "720p");
        engine.bandwidth = carrying(2.6e6).bandwidth;
        assert_eq!(chosen(&mut engine, 0.42), ("720p".into(), Reason::Steady));
        engine.bandwidth = carrying(2.2e6).bandwidth;
        assert_eq!(chosen(&mut engine, 0.42), ("480p".into(), Reason::Throughput));
        engine.bandwidth = carrying(3e6).bandwidth;
        assert_eq!(chosen(&mut engine, 0.4), ("480p".into(), Reason::Steady));
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
    fn the_same_is_chosen_whatever_is_kept_between() {
        let mut engine = carrying(3e6);
        chosen(&mut engine, 0.7);
        let kept = serde_json::to_string(&engine).unwrap();
        let mut read: Engine = serde_json::from_str(&kept).unwrap();
        assert_eq!(read, engine);
        assert_eq!(chosen(&mut read, 0.3), chosen(&mut engine, 0.3));
    }

    #[test]
    fn nothing_to_choose_from_is_no_reason_to_fail() {
        let situation = Situation { rungs: &[], caps: &[], buffer: 1.0, full: FULL, segment: SEGMENT };
        assert_eq!(carrying(3e6).choose(&situation).rung, 0);
        let nonsense = Situation { full: 0.0, segment: 0.0, buffer: f64::NAN, ..situation };
        assert_eq!(carrying(3e6).choose(&nonsense).rung, 0);
    }
}
