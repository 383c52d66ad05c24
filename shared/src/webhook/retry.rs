//! When a delivery that failed is tried again: the schedule of Standard Webhooks.

use std::time::Duration;

/// Seconds before the second attempt, the third, …: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
const WAITS: [u64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// A receiver may ask for a longer wait, but not for a longer one than this.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// So many attempts a delivery has before what happened later to the same recording overtakes it. Most of what goes wrong is
/// over by then; who waited longer for one message would get the others late as well.
pub const HOLDS: i32 = 3;

/// The wait after `made` attempts (at least 1): by the schedule, a fifth more or less so that what failed together does not
/// return together, but at least what the receiver `asked` for, up to an hour. `None` where it was the last one.
pub fn wait(made: i32, asked: Option<Duration>) -> Option<Duration> {
    jittered(made, rand::random(), asked)
}

/// The same with `jitter` in `[0, 1)`.
fn jittered(made: i32, jitter: f64, asked: Option<Duration>) -> Option<Duration> {
    let scheduled = WAITS.get(usize::try_from(made - 1).ok()?)?;
    let spread = Duration::from_secs(*scheduled).mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
    Some(spread.max(granted(asked)))
}

/// What a receiver asked for, as far as it is granted.
pub fn granted(asked: Option<Duration>) -> Duration {
    asked.unwrap_or_default().min(LONGEST_ASKED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_that_of_the_specification() {
        let middle: Vec<u64> = (1..).map_while(|made| Some(jittered(made, 0.5, None)?.as_secs())).collect();
        assert_eq!(middle, WAITS);
        assert_eq!(jittered(1, 0.0, None), Some(Duration::from_secs(4)));
        assert_eq!(jittered(1, 1.0, None), Some(Duration::from_secs(6)));
        assert_eq!(jittered(0, 0.5, None), None);
    }

    #[test]
    fn a_receiver_may_ask_for_more_but_not_for_ever() {
        let asked = |seconds| jittered(1, 0.5, Some(Duration::from_secs(seconds))).unwrap().as_secs();
        assert_eq!((asked(0), asked(60), asked(u64::MAX)), (5, 60, 3600));
        assert_eq!(jittered(10, 0.5, Some(Duration::from_secs(60))), None, "the last one is the last one");
    }
}
