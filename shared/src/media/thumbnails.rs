//! A series of numbered pictures at an interval.

use serde::{Deserialize, Serialize};

use super::grid::Grid;

/// From this many GOPs on an interval is served by keyframes alone: each picture is off by half a GOP at most.
const KEYFRAME_GOPS: f64 = 2.0;

/// Which frames of a rendition a series shows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Series {
    /// The keyframe nearest to each multiple of so many seconds.
    Keyframes { seconds: f64, count: u32 },
    /// Every so many frames: all of the rendition is decoded.
    Frames { step: u64, count: u32 },
}

impl Series {
    /// The series of a picture every `seconds` over all of `grid`, from zero on.
    pub fn every(seconds: f64, grid: &Grid) -> Self {
        if seconds >= KEYFRAME_GOPS * grid.rate.seconds(u64::from(grid.gop_frames)) {
            let count = (grid.duration() / seconds).ceil().max(1.0);
            return Self::Keyframes { seconds, count: count as u32 };
        }
        let step = grid.rate.frames_in(seconds).max(1);
        Self::Frames { step, count: grid.frames.div_ceil(step).max(1) as u32 }
    }

    /// How many pictures there are, at least 1.
    pub fn count(&self) -> u32 {
        match self {
            Self::Keyframes { count, .. } | Self::Frames { count, .. } => *count,
        }
    }

    /// The frame that each picture shows, in order.
    pub fn frames(&self, grid: &Grid) -> Vec<u64> {
        let numbers = 0..u64::from(self.count());
        match self {
            Self::Keyframes { seconds, .. } => {
                let gop = u64::from(grid.gop_frames.max(1));
                let last = grid.frames.saturating_sub(1) / gop;
                let nearest = |number: u64| {
                    let frame = grid.rate.frames_in(number as f64 * seconds);
                    ((frame + gop / 2) / gop).min(last) * gop
                };
                numbers.map(nearest).collect()
            }
            Self::Frames { step, .. } => numbers.map(|number| number * step).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::grid::Rate;

    fn grid(num: u64, den: u64, seconds: f64) -> Grid {
        let rate = Rate::new(num, den).unwrap();
        Grid::new(rate, rate.frames_in(seconds), 6)
    }

    #[test]
    fn wide_intervals_take_keyframes_to_half_a_gop() {
        let grid = grid(30_000, 1001, 61.0);
        for seconds in [4.01, 5.0, 7.3, 60.0, 61.0, 3600.0] {
            let series = Series::every(seconds, &grid);
            assert!(matches!(series, Series::Keyframes { .. }));
            let frames = series.frames(&grid);
            assert_eq!(frames.len(), (grid.duration() / seconds).ceil() as usize);
            for (number, frame) in frames.iter().enumerate() {
                assert!(frame.is_multiple_of(u64::from(grid.gop_frames)) && *frame < grid.frames);
                let off = grid.rate.seconds(*frame) - number as f64 * seconds;
                // At the very end the next keyframe may not be there any more.
                let most = if number + 1 == frames.len() { 2.002 } else { 1.02 };
                assert!(off.abs() <= most, "{seconds}: picture {number} is off by {off}");
            }
            assert!(frames.windows(2).all(|pair| pair[0] < pair[1]), "{seconds}: no picture twice");
        }
    }

    #[test]
    fn narrow_intervals_are_exact() {
        let grid = grid(25, 1, 10.0);
        let series = Series::every(1.5, &grid);
        assert_eq!(series, Series::Frames { step: 38, count: 7 });
        assert_eq!(series.frames(&grid), [0, 38, 76, 114, 152, 190, 228]);
        assert_eq!(Series::every(0.001, &grid), Series::Frames { step: 1, count: 250 });
        let blink = Grid::new(Rate { num: 5, den: 1 }, 2, 6);
        assert_eq!(Series::every(10.0, &blink).frames(&blink), [0]);
        assert_eq!(Series::every(1.0, &blink).frames(&blink), [0]);
    }
}
