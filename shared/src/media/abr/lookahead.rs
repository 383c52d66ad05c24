//! What a rung promises: the expected quality of experience of the next segments, by a model of the player (as model predictive control
//! does it: Yin et al., SIGCOMM 2015, section 4), over several networks that may come instead of a single guess.

use super::ladder::Ladder;

/// How things stand, as far as the model wants to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlook {
    /// Bits per second that downloads may count on, and how far that may be off: the deviation of its logarithm.
    pub(super) predicted: f64,
    pub(super) deviation: f64,
    /// Seconds.
    pub(super) buffer: f64,
    pub(super) full: f64,
    pub(super) segment: f64,
    /// The rung played now.
    pub(super) current: usize,
}

/// Networks that may come, by their distance from what is predicted in deviations, and how likely each is: a normal distribution by five points.
const NETWORKS: [(f64, f64); 5] = [(-1.8, 0.1), (-0.8, 0.2), (0.0, 0.4), (0.8, 0.2), (1.8, 0.1)];
/// Segments that are looked ahead: one of the rung in question, the others of whatever is best then.
const AHEAD: u32 = 6;
/// A second without a picture costs so many times what a segment of the highest rung brings. More than viewers are said to mind, since what the
/// model does not know of (a network that is gone for seconds) comes on top.
const STALL: f64 = 2.4;
/// A switch costs so many times the difference of the rungs: what is chosen now is chosen for longer than is looked ahead.
const SWITCH: f64 = 1.5;
/// What of a second in the buffer at the end is worth: it can be spent on a better picture later, but not all of it will.
const SPARE: f64 = 0.6;
/// Share of a full buffer that should be left at the end; each second less costs so much of a segment of the highest rung.
const RESERVE: f64 = 0.1;
const SHORT: f64 = 0.9;

/// The allowed rung that promises the most.
pub(super) fn best(ladder: &Ladder<'_>, outlook: &Outlook) -> usize {
    let promise = |rung: usize| -> f64 {
        let on = |(distance, share): &(f64, f64)| {
            let rate = outlook.predicted * (distance * outlook.deviation).exp();
            share * promised(ladder, outlook, rung, rate)
        };
        NETWORKS.iter().map(on).sum()
    };
    let promises = ladder.allowed().map(|rung| (rung, promise(rung)));
    // The lower of two that promise the same.
    let best = promises.reduce(|best, other| if other.1 > best.1 { other } else { best });
    best.map_or(ladder.lowest(), |(rung, _)| rung)
}

/// What one segment of `rung` and then the best that could follow bring on a network of `rate` bits per second; in bits per second, summed up
/// over segments.
fn promised(ladder: &Ladder<'_>, outlook: &Outlook, rung: usize, rate: f64) -> f64 {
    let top = ladder.rate(ladder.top());
    let change = |from: usize, to: usize| SWITCH * (ladder.rate(to) - ladder.rate(from)).abs();
    let (first, buffer) = played(ladder, outlook, (rung, 1), outlook.buffer, rate);
    let followed = |next: usize| {
        let (then, left) = played(ladder, outlook, (next, AHEAD - 1), buffer, rate);
        let spare = SPARE * rate.min(top) / outlook.segment * left;
        let short = SHORT * top * (RESERVE * outlook.full - left).max(0.0);
        then + spare - short - change(rung, next)
    };
    let rest = ladder.allowed().map(followed).fold(f64::NEG_INFINITY, f64::max);
    first - change(outlook.current, rung) + rest
}

/// What so many segments of a rung bring, less what standing still costs, and the buffer after them.
fn played(
    ladder: &Ladder<'_>,
    outlook: &Outlook,
    (rung, count): (usize, u32),
    mut buffer: f64,
    rate: f64,
) -> (f64, f64) {
    let takes = ladder.rate(rung) * outlook.segment / rate;
    let mut stalled = 0.0;
    for _ in 0..count {
        stalled += (takes - buffer).max(0.0);
        buffer = ((buffer - takes).max(0.0) + outlook.segment).min(outlook.full);
    }
    (ladder.rate(rung) * f64::from(count) - STALL * ladder.rate(ladder.top()) * stalled, buffer)
}
