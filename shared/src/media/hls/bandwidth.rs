//! Measured bit rates for `BANDWIDTH` and `AVERAGE-BANDWIDTH` (RFC 8216, 4.1 and 4.3.4.2).

use serde::{Deserialize, Serialize};

use super::media::{Ticks, target_duration};

/// What is known of a segment that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasuredSegment {
    /// Its size in bytes.
    pub bytes: u64,
    /// How long it lasts.
    pub duration: Ticks,
}

/// The bit rates of a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// The peak segment bit rate, in bits a second, rounded up.
    pub peak: u64,
    /// The average segment bit rate, in bits a second, rounded up.
    pub average: u64,
}

/// Measures the bit rates of a rendition's segments, given in order; `None` when they last no time at all.
///
/// The peak is the largest bit rate of any contiguous set of segments that lasts between 0.5 and 1.5 times the target
/// duration ("peak segment bit rate" of RFC 8216, 4.1). So a short segment at the end, with a keyframe and little else,
/// does not count alone but together with the ones before it. Where no set lasts that long, as in a rendition of less
/// than half a second, the peak is the average.
pub fn measure_bandwidth(segments: &[MeasuredSegment]) -> Option<Bandwidth> {
    let total = segments.iter().fold(Span::default(), Span::and);
    let average = total.bits_per_second()?;
    let target = segments.iter().map(|segment| target_duration(segment.duration)).max()?;
    let shortest = u128::from(target) * 500_000;
    let longest = u128::from(target) * 1_500_000;

    let peak = (0..segments.len())
        .filter_map(|first| {
            let rest = segments.get(first..)?.iter();
            // All sets that begin with this segment, one segment longer each time.
            let growing = rest.scan(Span::default(), |span, segment| {
                *span = span.and(segment);
                Some(*span)
            });
            growing
                .take_while(|span| span.micros <= longest)
                .filter(|span| span.micros >= shortest)
                .filter_map(Span::bits_per_second)
                .max()
        })
        .max();
    Some(Bandwidth { peak: peak.unwrap_or(average), average })
}

/// Some segments in a row. Times are those a player reads from `EXTINF`.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    bytes: u128,
    micros: u128,
}

impl Span {
    fn and(self, segment: &MeasuredSegment) -> Self {
        Self {
            bytes: self.bytes + u128::from(segment.bytes),
            micros: self.micros + segment.duration.micros(),
        }
    }

    fn bits_per_second(self) -> Option<u64> {
        if self.micros == 0 {
            return None;
        }
        let rate = (self.bytes * 8 * 1_000_000).div_ceil(self.micros);
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}
