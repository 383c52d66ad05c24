//! Latencies in classes, so that what several processes counted can be added up and a percentile be told of all of it. Pure.

/// The upper end of the first class, in milliseconds.
const FIRST: f64 = 100.0;
/// Each class reaches so much further than the one before: a percentile is off by less than that.
const RATIO: f64 = 1.2;
/// The last class reaches beyond a minute. Who watches further back does so on purpose.
pub const CLASSES: usize = 38;

/// The class of a latency in milliseconds.
pub fn class(milliseconds: u32) -> usize {
    let above = (f64::from(milliseconds) / FIRST).log(RATIO);
    // Of zero it is minus infinity, which is cut to zero.
    (above.ceil().max(0.0) as usize).min(CLASSES - 1)
}

/// The latency, in milliseconds, that `share` (0 to 1) of what was counted does not exceed; `None` where nothing was.
pub fn percentile(counts: &[i64], share: f64) -> Option<f64> {
    let total: i64 = counts.iter().sum();
    if total <= 0 {
        return None;
    }
    let wanted = share * total as f64;
    let mut below = 0.0;
    for (class, count) in counts.iter().enumerate() {
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            let upper = FIRST * RATIO.powi(i32::try_from(class).unwrap_or(i32::MAX));
            let lower = if class == 0 { 0.0 } else { upper / RATIO };
            // As if they lay evenly in their class.
            return Some(lower + (upper - lower) * ((wanted - below) / count));
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_right_to_a_fifth() {
        let mut counts = [0; CLASSES];
        for milliseconds in 1..=2000 {
            counts[class(milliseconds)] += 1;
        }
        for (share, right) in [(0.5, 1000.0), (0.95, 1900.0), (0.99, 1980.0)] {
            let told = percentile(&counts, share).unwrap();
            assert!(told > right / RATIO && told < right * RATIO, "{share}: {told}");
        }
        assert_eq!(percentile(&[0; CLASSES], 0.95), None);
        assert_eq!(percentile(&[], 0.95), None);
    }

    #[test]
    fn classes_reach_from_nothing_to_beyond_a_minute() {
        assert_eq!((class(0), class(100), class(101), class(u32::MAX)), (0, 0, 1, CLASSES - 1));
        assert!(class(60_000) < CLASSES - 1);
    }
}
