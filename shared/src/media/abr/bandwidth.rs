//! How much a viewer's network carries, as far as its downloads tell.

use serde::{Deserialize, Serialize};

/// Two averages that forget exponentially, the quick one to follow a drop and the slow one not to be carried away by a peak
/// (as dash.js and hls.js keep them: Spiteri, Sitaraman, Sparacio: "From Theory to Practice", MMSys 2018, section 4.2), and how far
/// predictions were above what came (Yin et al.: "A Control-Theoretic Approach", SIGCOMM 2015, section 4.3) and beside it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bandwidth {
    /// Bits per second, not yet corrected for that they began at nothing.
    fast: f64,
    slow: f64,
    /// Seconds of downloads that were counted.
    seconds: f64,
    /// How much too high predictions were of late, as a share of what came: 0 where they were not.
    excess: f64,
    /// How far they were off, as the mean square of the logarithm.
    error: f64,
}

/// Seconds of downloads after which half of an average is of what came since. Short: a player fetches two or three segments in that time,
/// and what their network will not keep up is for `excess` and `error` to say.
const FAST: f64 = 1.0;
const SLOW: f64 = 4.0;
/// The same of how wrong predictions were, which is remembered longer: who was surprised once may be again.
const SURPRISE: f64 = 40.0;
/// Seconds after which an estimate is trusted half.
const TRUSTED: f64 = 20.0;
/// More than so much too low or too high, by the logarithm, is no error of a prediction but another network.
const TOO_LOW: f64 = 0.3;
const TOO_HIGH: f64 = 0.7;
/// A download of fewer bytes that took less time tells of the way there and back, and not of bandwidth.
const LEAST_BYTES: u64 = 16_000;
const LEAST_SECONDS: f64 = 0.25;
/// A download counts for at least so many seconds, so that a network that became quick is believed after a few segments, and at most for so
/// many, so that one that hung does not forget all others.
const WEIGHS: (f64, f64) = (2.5, 12.0);
/// Nothing is faster than this, in bits per second: what seems to be came out of a cache beside the player.
const MOST: f64 = 1e9;

/// Seconds of downloads that a player's own word is worth.
const TOLD: f64 = 9.0;

impl Bandwidth {
    /// What a player says of itself, in bits per second.
    pub fn told(rate: f64) -> Self {
        let began = |half: f64| (1.0 - decay(TOLD, half)) * rate.clamp(1.0, MOST);
        Self { fast: began(FAST), slow: began(SLOW), seconds: TOLD, excess: 0.0, error: 0.0 }
    }

    /// A download of so many bytes took so many seconds. What tells nothing is left out.
    pub fn sample(&mut self, bytes: u64, seconds: f64) {
        if !seconds.is_finite() || seconds <= 0.0 || bytes == 0 {
            return;
        }
        if bytes < LEAST_BYTES && seconds < LEAST_SECONDS {
            return;
        }
        let came = (bytes as f64 * 8.0 / seconds).min(MOST);
        let weight = seconds.clamp(WEIGHS.0, WEIGHS.1);
        if let Some(expected) = self.estimate() {
            let excess = (expected / came - 1.0).clamp(0.0, 1.0);
            self.excess = mixed(self.excess, excess, weight, SURPRISE);
            let off = (came / expected).ln().clamp(-TOO_HIGH, TOO_LOW);
            self.error = mixed(self.error, off * off, weight, SURPRISE);
        }
        self.fast = mixed(self.fast, came, weight, FAST);
        self.slow = mixed(self.slow, came, weight, SLOW);
        self.seconds += weight;
    }

    /// The quick average and the slow one, in bits per second. `None` until something came.
    pub fn averages(&self) -> Option<(f64, f64)> {
        let began = |half: f64| 1.0 - decay(self.seconds, half);
        (self.seconds > 0.0).then(|| (self.fast / began(FAST), self.slow / began(SLOW)))
    }

    /// Bits per second: the lower of both averages. `None` until something came.
    pub fn estimate(&self) -> Option<f64> {
        self.averages().map(|(fast, slow)| fast.min(slow))
    }

    /// What the next download may count on, in bits per second: the estimate, less by what estimates were too high of late.
    pub fn predicted(&self) -> Option<f64> {
        self.estimate().map(|estimate| estimate / (1.0 + self.excess))
    }

    /// How far predictions were off of late: the deviation of their logarithm.
    pub fn deviation(&self) -> f64 {
        self.error.sqrt()
    }

    /// Something is known.
    pub fn is_measured(&self) -> bool {
        self.seconds > 0.0
    }

    /// How far that is to be believed: 0 where nothing came yet, 1 after many seconds that all went as expected.
    pub fn confidence(&self) -> f64 {
        (1.0 - decay(self.seconds, TRUSTED)) / (1.0 + self.excess + self.deviation())
    }
}

/// What is left of a weight after so many seconds.
fn decay(seconds: f64, half: f64) -> f64 {
    0.5_f64.powf(seconds / half)
}

fn mixed(old: f64, new: f64, weight: f64, half: f64) -> f64 {
    let kept = decay(weight, half);
    old * kept + new * (1.0 - kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(downloads: &[(u64, f64)]) -> Bandwidth {
        let mut bandwidth = Bandwidth::default();
        for (bytes, seconds) in downloads {
            bandwidth.sample(*bytes, *seconds);
        }
        bandwidth
    }

    #[test]
    fn one_download_is_believed_and_hardly_trusted() {
        assert_eq!((Bandwidth::default().estimate(), Bandwidth::default().confidence()), (None, 0.0));
        let one = after(&[(500_000, 1.0)]);
        assert!((one.estimate().unwrap() - 4e6).abs() < 1.0);
        assert!(one.confidence() < 0.1, "{}", one.confidence());
        let many = after(&[(500_000, 1.0); 60]);
        assert!((many.predicted().unwrap() - 4e6).abs() < 1.0);
        assert!(many.confidence() > 0.95);
    }

    #[test]
    fn a_drop_is_followed_at_once_and_a_rise_after_a_few() {
        let steady = [(500_000, 1.0); 30];
        let dropped = after(&[&steady[..], &[(125_000, 1.0)]].concat());
        assert!(dropped.estimate().unwrap() < 2e6, "{dropped:?}");
        let peaked = after(&[&steady[..], &[(2_000_000, 1.0)]].concat());
        assert!(peaked.estimate().unwrap() < 9e6, "{peaked:?}");
        let risen = after(&[&steady[..], &[(2_000_000, 1.0); 5]].concat());
        assert!(risen.estimate().unwrap() > 13e6, "{risen:?}");
        // So much better is no reason to trust it less for long; so much worse is.
        assert!(risen.deviation() < dropped.deviation(), "{risen:?} {dropped:?}");
    }

    #[test]
    fn who_was_surprised_is_careful() {
        let restless: Vec<(u64, f64)> =
            (0..40).map(|n| (if n % 2 == 0 { 800_000 } else { 200_000 }, 1.0)).collect();
        let restless = after(&restless);
        assert!(restless.predicted().unwrap() < 0.8 * restless.estimate().unwrap(), "{restless:?}");
        assert!(restless.confidence() < 0.8);
    }

    #[test]
    fn what_tells_nothing_changes_nothing() {
        let steady = after(&[(500_000, 1.0); 10]);
        let mut same = steady;
        for (bytes, seconds) in [
            (0, 1.0),
            (900, 0.004),
            (500_000, 0.0),
            (500_000, -1.0),
            (500_000, f64::NAN),
            (500_000, f64::INFINITY),
        ] {
            same.sample(bytes, seconds);
        }
        assert_eq!(same, steady);
        // Slow it is, however small.
        same.sample(900, 3.0);
        assert!(same.estimate().unwrap() < steady.estimate().unwrap());
    }
}
