//! Footage chosen by its time: which stored segments it is made of, and how it is listed. Moments are microseconds since 1970.

mod playlist;
mod stitch;

pub use playlist::{Entry, NOTICED, Playlist, Wrapping};
pub use stitch::{Picked, Shot, stitch};

/// Microseconds of so many ticks.
pub fn micros(ticks: u64, timescale: u32) -> i64 {
    let micros = u128::from(ticks) * 1_000_000 / u128::from(timescale.max(1));
    i64::try_from(micros).unwrap_or(i64::MAX)
}
