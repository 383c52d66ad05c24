//! The rate frames really come at, whatever the header says of it.

use reelmill_shared::media::grid::Rate;

/// Output rates are halved until they are no higher, and doubled until they are no lower: a picture an hour is still a segment every few
/// seconds.
const MAX_RATE: f64 = 61.0;
const MIN_RATE: f64 = 1.0;
/// No rate of the trade has larger parts. Averages over a whole file have, and leave no room to reckon with.
const MAX_PART: u32 = 200_000;

/// What the times of a track's frames tell.
#[derive(Debug, PartialEq)]
pub(super) struct Timing {
    pub(super) rate: Rate,
    pub(super) variable: bool,
    /// Longest hole between two frames, in seconds.
    pub(super) gap: f64,
}

/// The rates a header gives. It knows them exactly where it knows them at all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Declared {
    pub(super) nominal: Option<Rate>,
    pub(super) average: Option<Rate>,
    /// Field-coded pictures come as two packets a frame: their times say nothing of the rate.
    pub(super) interlaced: bool,
}

impl Timing {
    /// From the times of all frames in any order, which count in `tick` seconds. There may be millions: nothing is copied.
    pub(super) fn of(declared: Declared, mut times: Vec<i64>, tick: f64) -> Self {
        let Declared { nominal, average, interlaced } = declared;
        times.sort_unstable();
        times.dedup();
        let (first, last) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
        let mut steps = into_steps(times);
        steps.sort_unstable();
        let seconds = |step: &i64| *step as f64 * tick;
        let gap = steps.last().map_or(0.0, seconds);
        let Some(median) = steps.get(steps.len() / 2).map(seconds).filter(|step| *step > 0.0) else {
            let rate = average.or(nominal).unwrap_or(FALLBACK);
            return Self { rate: usable(rate.snapped()), variable: false, gap };
        };
        // A container that counts in milliseconds is off by one of its ticks here and there.
        let slack = (2.0 * tick).max(0.0021);
        let regular = |step: f64| (step - median).abs() <= slack;
        let variable = !steps.iter().map(seconds).all(regular);
        let rate = if interlaced {
            average.or(nominal)
        } else if variable {
            // The mean of the steps that are regular, because a single one is as coarse as the tick.
            let (sum, count) = steps
                .iter()
                .map(seconds)
                .filter(|step| regular(*step))
                .fold((0.0, 0_u32), |(sum, count), step| (sum + step, count + 1));
            let measured = f64::from(count) / sum;
            let near = |rate: &Rate, share: f64| (rate.as_f64() / measured - 1.0).abs() < share;
            // What a container makes up for a rate that varies lies beside the grid that the frames keep to.
            nominal
                .filter(|rate| near(rate, 0.001))
                .or_else(|| Rate::standard_near(measured, 0.01))
                .or(nominal.filter(|rate| near(rate, 0.01)))
                .or(average.filter(|rate| near(rate, 0.01)))
                .or_else(|| thousandths(measured))
        } else {
            let measured = steps.len() as f64 / seconds(&last.saturating_sub(first));
            let near = |rate: &Rate| (rate.as_f64() / measured - 1.0).abs() < 0.01;
            nominal.filter(near).or(average.filter(near)).or_else(|| thousandths(measured))
        };
        Self { rate: usable(rate.unwrap_or(FALLBACK).snapped()), variable, gap }
    }
}

/// From each of these times to the next.
fn into_steps(mut times: Vec<i64>) -> Vec<i64> {
    let mut before = times.first().copied();
    times.retain_mut(|time| {
        let next = *time;
        let step = before.replace(next).map_or(0, |before| next.saturating_sub(before));
        *time = step;
        step > 0
    });
    times
}

/// Where nothing is known.
const FALLBACK: Rate = Rate { num: 25, den: 1 };

fn thousandths(rate: f64) -> Option<Rate> {
    Rate::new((rate * 1000.0).round() as u64, 1000)
}

/// The rate itself, or one near it that the grid can be laid out in.
fn usable(rate: Rate) -> Rate {
    let (num, den) = (u64::from(rate.num), u64::from(rate.den));
    if rate.as_f64() > MAX_RATE {
        return Rate::new(num, den * 2).map_or(FALLBACK, usable);
    }
    if rate.as_f64() < MIN_RATE {
        return Rate::new(num * 2, den).map_or(FALLBACK, usable);
    }
    if rate.num.max(rate.den) > MAX_PART { thousandths(rate.as_f64()).unwrap_or(FALLBACK) } else { rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: f64 = 0.001;

    fn declared(nominal: (u32, u32), average: (u32, u32)) -> Declared {
        let rate = |(num, den)| Some(Rate { num, den });
        Declared { nominal: rate(nominal), average: rate(average), interlaced: false }
    }

    fn rate_of(declared: Declared, times: impl IntoIterator<Item = i64>) -> (u32, u32, bool) {
        let found = Timing::of(declared, times.into_iter().collect(), MILLISECOND);
        (found.rate.num, found.rate.den, found.variable)
    }

    #[test]
    fn millisecond_times_are_still_a_constant_rate() {
        let times = (0..300).map(|n| (f64::from(n) * 1001.0 / 30.0).round() as i64);
        assert_eq!(rate_of(declared((30000, 1001), (2997, 100)), times), (30000, 1001, false));
        let times = (0..300).map(|n| (f64::from(n) * 6000.0 / 179.0).round() as i64);
        assert_eq!(rate_of(declared((179, 6), (179, 6)), times), (179, 6, false));
    }

    #[test]
    fn a_rate_that_varies_is_the_grid_its_frames_keep_to() {
        let dropped = |n: &i32| n % 7 != 3 && n % 11 != 5;
        let times = |seconds: f64| {
            (0..200).filter(dropped).map(move |n| (f64::from(n) * seconds * 1000.0).round() as i64)
        };
        assert_eq!(rate_of(declared((25, 1), (19, 1)), times(0.04)), (25, 1, true));
        // What FFmpeg's demuxer made of such a file.
        assert_eq!(rate_of(declared((21364, 859), (19, 1)), times(0.04)), (25, 1, true));
        // Steps of 33 and 34 ms.
        assert_eq!(rate_of(declared((1000, 1), (19, 1)), times(1.001 / 30.0)), (30000, 1001, true));
        assert_eq!(rate_of(declared((179, 6), (19, 1)), times(6.0 / 179.0)), (179, 6, true));
        assert_eq!(rate_of(declared((1000, 1), (9, 1)), times(0.08)), (25, 2, true));
    }

    #[test]
    fn rates_beyond_any_screen_are_halved() {
        let times = (0..300).map(|n| (f64::from(n) * 1000.0 / 120.0).round() as i64);
        assert_eq!(rate_of(declared((120, 1), (120, 1)), times), (60, 1, false));
    }

    #[test]
    fn rates_are_those_that_a_grid_can_be_laid_out_in() {
        let average = declared((90_000, 1), (810_000_000, 24_275_311));
        let uneven = (0..300).map(|n| n * 30 + (n % 7) * (n % 5));
        let (num, den, variable) = rate_of(average, uneven);
        assert!(variable && num.max(den) <= MAX_PART, "{num}/{den}");
        let slow = |frames: i64| rate_of(declared((1, 3600), (1, 3600)), (0..frames).map(|n| n * 3_600_000));
        for (num, den, _) in [slow(1), slow(3)] {
            assert!((1.0..=2.0).contains(&(f64::from(num) / f64::from(den))), "{num}/{den}");
        }
        assert_eq!(usable(Rate { num: u32::MAX, den: 1 }), Rate { num: 32, den: 1 });
    }

    #[test]
    fn one_frame_has_the_rate_of_its_header() {
        assert_eq!(rate_of(declared((1000, 1), (2997, 100)), [40]), (30000, 1001, false));
        assert_eq!(rate_of(Declared::default(), [40]), (25, 1, false));
    }
}
