//! What is counted of a stream that is carried. Counts only grow: whoever looks takes the difference to what it saw last.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// All that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Bytes that came in.
    pub(crate) bytes: u64,
    /// Spans from one keyframe to the next, and how long they were together.
    pub(crate) gops: u64,
    pub(crate) gop_milliseconds: u64,
    /// Pictures that did not come.
    pub(crate) missing: u64,
    /// Pictures that FFmpeg left out.
    pub(crate) left_out: u64,
    /// Milliseconds by which sound was ahead of a picture when that came, together, and of how many pictures.
    pub(crate) sound_ahead: i64,
    pub(crate) pictures: u64,
    /// Pictures, or frames of sound where there is no picture, that were encoded, and how long they last.
    pub(crate) frames: u64,
    pub(crate) encoded: Duration,
    /// How long nothing came in.
    pub(crate) silent: Duration,
    /// How long FFmpeg did not take what had come in.
    pub(crate) refused: Duration,
}

impl Totals {
    /// What was counted since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(before.bytes),
            gops: self.gops.saturating_sub(before.gops),
            gop_milliseconds: self.gop_milliseconds.saturating_sub(before.gop_milliseconds),
            missing: self.missing.saturating_sub(before.missing),
            left_out: self.left_out.saturating_sub(before.left_out),
            sound_ahead: self.sound_ahead.saturating_sub(before.sound_ahead),
            pictures: self.pictures.saturating_sub(before.pictures),
            frames: self.frames.saturating_sub(before.frames),
            encoded: self.encoded.saturating_sub(before.encoded),
            silent: self.silent.saturating_sub(before.silent),
            refused: self.refused.saturating_sub(before.refused),
        }
    }

    /// Seconds encoded a second, in so much time less that in which nothing came in; `None` where hardly anything did.
    pub(crate) fn speed(&self, time: Duration) -> Option<f64> {
        let fed = time.saturating_sub(self.silent);
        (fed >= time / 4 && !fed.is_zero()).then(|| self.encoded.as_secs_f64() / fed.as_secs_f64())
    }
}

/// What is waited for on the way from a publisher to FFmpeg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The next bytes.
    Input,
    /// FFmpeg, to take them.
    Ffmpeg,
}

/// Silence of a publisher that is no longer than this lies in how packets come.
const BREATH: Duration = Duration::from_millis(500);

/// Counts.
#[derive(Default)]
pub(crate) struct Meter(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    totals: Totals,
    wait: Option<(Wait, Instant)>,
}

impl Inner {
    /// With the wait that is not over yet.
    fn totals(&self) -> Totals {
        let mut totals = self.totals;
        match self.wait {
            Some((Wait::Input, since)) => totals.silent += since.elapsed().saturating_sub(BREATH),
            Some((Wait::Ffmpeg, since)) => totals.refused += since.elapsed(),
            None => {}
        }
        totals
    }
}

impl Meter {
    /// Adds to what was counted.
    pub(crate) fn add(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).totals);
    }

    /// Waits for something, and counts how long that takes.
    pub(super) async fn wait<T>(&self, what: Wait, done: impl Future<Output = T>) -> T {
        let _waiting = Waiting::begin(self, what);
        done.await
    }

    /// All until now.
    pub(crate) fn totals(&self) -> Totals {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).totals()
    }
}

/// A wait under way. Over when it is dropped: who waits may be sent away.
struct Waiting<'a>(&'a Meter);

impl<'a> Waiting<'a> {
    fn begin(meter: &'a Meter, what: Wait) -> Self {
        meter.0.lock().unwrap_or_else(PoisonError::into_inner).wait = Some((what, Instant::now()));
        Self(meter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.totals = inner.totals();
        inner.wait = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_told_of_the_time_in_which_something_came_in() {
        let seconds = Duration::from_secs;
        let told = |encoded, silent| {
            let totals = Totals { encoded: seconds(encoded), silent: seconds(silent), ..Totals::default() };
            totals.speed(seconds(10))
        };
        assert_eq!((told(5, 0), told(5, 5), told(0, 9)), (Some(0.5), Some(1.0), None));
    }

    #[tokio::test]
    async fn waits_count_while_they_last_and_once() {
        let meter = Meter::default();
        let within = meter.wait(Wait::Ffmpeg, async {
            loop {
                let refused = meter.totals().refused;
                if !refused.is_zero() {
                    return refused;
                }
                tokio::task::yield_now().await;
            }
        });
        let within = within.await;
        let after = meter.totals().refused;
        assert!(after >= within, "{within:?} {after:?}");
        meter.wait(Wait::Input, async {}).await;
        assert_eq!((meter.totals().silent, meter.totals().refused), (Duration::ZERO, after));
    }
}
