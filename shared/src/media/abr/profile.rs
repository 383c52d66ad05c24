//! Four bitrates that viewers of a distribution are told by name, and which rung each stands for.

use std::cmp::Ordering;
use std::time::Duration;

use super::Rung;
use crate::job::state::words;

words! {
    /// A bitrate by name, the lowest first.
    BitrateProfile("bitrate profile") {
        VeryLow = "VeryLow",
        Low = "Low",
        Medium = "Medium",
        High = "High",
    }
}

/// Per cent of a buffer below which the lowest is played, below which one less, and above which one more.
const CRITICAL: f64 = 20.0;
const LOW: f64 = 40.0;
const PLENTY: f64 = 85.0;

impl BitrateProfile {
    /// Bits a second.
    pub fn bitrate(self) -> u64 {
        match self {
            Self::VeryLow => 500_000,
            Self::Low => 1_000_000,
            Self::Medium => 2_000_000,
            Self::High => 4_000_000,
        }
    }

    /// Segments that a player of it keeps ahead of what it plays.
    pub fn buffer_segments(self) -> u32 {
        match self {
            Self::VeryLow => 3,
            Self::Low => 4,
            Self::Medium => 5,
            Self::High => 6,
        }
    }

    /// How often it is tried to send somebody who plays it a segment.
    pub fn attempts(self) -> i32 {
        if self == Self::High { 2 } else { 3 }
    }

    /// How long sending one may take.
    pub fn timeout(self) -> Duration {
        Duration::from_millis(match self {
            Self::VeryLow => 5000,
            Self::Low => 5500,
            Self::Medium => 6000,
            Self::High => 7000,
        })
    }

    /// What to play next with a buffer that is so full, in per cent.
    pub fn adapted(self, buffer_health: f64) -> Self {
        match buffer_health {
            full if full < CRITICAL => Self::VeryLow,
            full if full < LOW => self.beside(-1),
            full if full > PLENTY => self.beside(1),
            _ => self,
        }
    }

    /// This one, or the best below it, for which `room` is enough, in bits a second; none takes less than `least`.
    pub fn within(self, room: u64, least: u64) -> Option<Self> {
        Self::ALL.iter().copied().rfind(|one| *one <= self && one.bitrate().max(least) <= room)
    }

    /// The one so many steps above, as far as there are any.
    fn beside(self, steps: isize) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or_default();
        let wanted = at.saturating_add_signed(steps).min(Self::ALL.len() - 1);
        Self::ALL.get(wanted).copied().unwrap_or(self)
    }

    /// The rung it stands for: the best that takes no more, else the lowest there is. `rungs` are in ascending order.
    pub fn rung(self, rungs: &[Rung]) -> Option<&Rung> {
        rungs.iter().rfind(|rung| rung.bitrate <= self.bitrate()).or(rungs.first())
    }
}

impl Ord for BitrateProfile {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bitrate().cmp(&other.bitrate())
    }
}

impl PartialOrd for BitrateProfile {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_is_what_clients_rely_on() {
        let figures = BitrateProfile::ALL
            .iter()
            .map(|it| (it.bitrate() / 1000, it.buffer_segments(), it.attempts(), it.timeout().as_millis()));
        let wanted = [(500, 3, 3, 5000), (1000, 4, 3, 5500), (2000, 5, 3, 6000), (4000, 6, 2, 7000)];
        assert_eq!(figures.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_profile_shrinks_to_what_there_is() {
        use BitrateProfile::{High, Low, Medium};
        assert_eq!(Medium.within(2_000_000, 0), Some(Medium));
        assert_eq!(Medium.within(9_000_000, 0), Some(Medium));
        assert_eq!(High.within(1_999_999, 0), Some(Low));
        assert_eq!(Low.within(499_999, 0), None);
        assert_eq!(High.within(2_500_000, 3_000_000), None, "not even the lowest rung");
    }

    #[test]
    fn buffers_move_it_by_one_and_an_empty_one_to_the_lowest() {
        use BitrateProfile::{High, Low, Medium, VeryLow};
        let moved =
            |from: BitrateProfile| [0.0, 19.9, 20.0, 39.9, 40.0, 85.0, 85.1, 100.0].map(|b| from.adapted(b));
        assert_eq!(moved(Medium), [VeryLow, VeryLow, Low, Low, Medium, Medium, High, High]);
        assert_eq!(moved(VeryLow)[2..4], [VeryLow, VeryLow]);
        assert_eq!(moved(High)[6], High);
    }

    #[test]
    fn it_stands_for_the_best_rung_it_can_pay() {
        let rung = |bitrate: u64| Rung {
            name: bitrate.to_string(),
            bitrate,
            width: 1,
            height: 1,
            codecs: String::new(),
        };
        let rungs = [rung(700_000), rung(1_900_000), rung(5_000_000)];
        let named = |profile: BitrateProfile| profile.rung(&rungs).unwrap().bitrate;
        assert_eq!(
            BitrateProfile::ALL.iter().map(|one| named(*one)).collect::<Vec<_>>(),
            [700_000, 700_000, 1_900_000, 1_900_000]
        );
        assert_eq!(BitrateProfile::Low.rung(&[]).map(|rung| rung.bitrate), None);
    }
}
