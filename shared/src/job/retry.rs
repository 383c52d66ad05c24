//! When a failed task is tried again.

use std::time::Duration;

/// Attempts a task gets unless its job says otherwise.
pub const MAX_ATTEMPTS: i32 = 3;

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// The wait before the attempt after `attempts` failed ones (at least 1): four times as long each time, up to five minutes.
/// `jitter` in `[0, 1)` spreads it over the upper half, so that what failed together does not return together.
pub fn backoff(attempts: i32, jitter: f64) -> Duration {
    let doublings = 2 * attempts.clamp(1, 8).unsigned_abs().saturating_sub(1);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_stays_within_its_bounds() {
        assert_eq!(backoff(1, 1.0), FIRST);
        assert_eq!(backoff(2, 1.0), FIRST * 4);
        assert_eq!(backoff(100, 1.0), LONGEST);
        assert_eq!(backoff(1, 0.0), FIRST / 2);
        assert!(backoff(i32::MIN, 0.5) >= FIRST / 2);
    }
}
