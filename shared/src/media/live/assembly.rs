//! From a broadcast with holes to a timeline without any: what of it is joined, and where each piece comes to lie. So a recording that is
//! made of it is one video as all others, cut on one grid, and nothing is encoded for that.

use super::window::{Track, Window};
use crate::media::grid::{AAC_FRAME, Grid};

/// A broadcast whose holes are closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembly {
    /// Of all that there is.
    pub grid: Grid,
    /// In the order of time.
    pub stretches: Vec<Stretch>,
}

/// A piece of a broadcast that joins without a break: segments of one run, one after the other, that no track lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Of its run.
    pub epoch: u32,
    /// Numbers of its segments, from the first to the last.
    pub first: u64,
    pub last: u64,
    /// The frame of the grid at which it comes to lie: the first of a GOP.
    pub at: u64,
    /// Frames that every rung has.
    pub frames: u64,
    /// For how many more its last picture is held, so that what follows begins with a GOP.
    pub held: u64,
}

impl Assembly {
    /// Joins what is listed; `None` where there is no picture, or nothing of it.
    pub fn new(window: &Window) -> Option<Self> {
        let cadence = &window.plan.cadence;
        let rungs = window.tracks.get(..window.plan.rungs.len()).filter(|rungs| !rungs.is_empty())?;
        let leading = rungs.first()?;
        let mut stretches: Vec<Stretch> = vec![];
        for segment in &leading.segments {
            let has = |track: &Track| {
                track.segment(segment.number).is_some_and(|it| !it.gap && it.epoch == segment.epoch)
            };
            if !window.tracks.iter().all(has) {
                continue;
            }
            // Runs end at other frames in each rung: what all of them have is used.
            let ticks = rungs.iter().filter_map(|rung| Some(rung.segment(segment.number)?.ticks)).min();
            let frames = ticks.unwrap_or(0) / u64::from(cadence.rate.frame_ticks());
            let (epoch, number) = (segment.epoch, segment.number);
            match stretches.last_mut() {
                Some(stretch) if stretch.epoch == epoch && stretch.last + 1 == number => {
                    stretch.last = number;
                    stretch.frames += frames;
                }
                _ => stretches.push(Stretch { epoch, first: number, last: number, at: 0, frames, held: 0 }),
            }
        }
        stretches.retain(|stretch| stretch.frames > 0);
        let gop = u64::from(cadence.gop_frames.max(1));
        let mut at = 0;
        let count = stretches.len();
        for (place, stretch) in stretches.iter_mut().enumerate() {
            stretch.at = at;
            if place + 1 < count {
                stretch.held = stretch.frames.next_multiple_of(gop) - stretch.frames;
            }
            at += stretch.frames + stretch.held;
        }
        let grid = Grid {
            rate: cadence.rate,
            gop_frames: cadence.gop_frames,
            segment_gops: cadence.segment_gops,
            frames: at,
        };
        (at > 0).then_some(Self { grid, stretches })
    }

    /// Frames for which a picture is held, in all.
    pub fn held_frames(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.held).sum()
    }

    /// AAC frames of the sound beside a stretch, from the first to the one behind the last, on a grid of `frames` in all.
    pub fn sound_of(&self, stretch: &Stretch, sample_rate: u32, frames: u64) -> std::ops::Range<u64> {
        let at = |frame: u64| self.nearest(self.grid.rate.seconds(frame), sample_rate).min(frames);
        let end = stretch.at + stretch.frames + stretch.held;
        at(stretch.at)..if end == self.grid.frames { frames } else { at(end) }
    }

    /// The AAC frame nearest to the first one of the sound of a stretch: as far from the picture as it was on air.
    pub fn sound_begins(&self, stretch: &Stretch, window: &Window, sound: &Track) -> Option<u64> {
        let begins = |track: &Track| {
            let start = track.segment(stretch.first)?.start;
            Some(start as f64 / f64::from(track.timescale.max(1)))
        };
        let late = begins(sound)? - begins(window.tracks.first()?)?;
        Some(self.nearest(self.grid.rate.seconds(stretch.at) + late, sound.timescale))
    }

    fn nearest(&self, seconds: f64, sample_rate: u32) -> u64 {
        (seconds * f64::from(sample_rate) / AAC_FRAME as f64).round().max(0.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{grow, window};
    use super::super::window::{Run, Update};
    use super::*;

    /// Three whole segments, a number that was lost, another one, and a run that ended within its first.
    fn broken() -> Window {
        let mut window = window();
        grow(&mut window, 1, 1, 0..12);
        for (track, ticks) in [(0, 25_600), (1, 96_000)] {
            window.apply(Update::Gap { track, number: 4, epoch: 1, start: 3 * ticks, ticks });
        }
        grow(&mut window, 1, 1, 16..20);
        let codecs = vec!["avc1.64001e".into(), "mp4a.40.2".into()];
        window.apply(Update::Run(Run { epoch: 2, ordinal: 1, first_number: 6, codecs, began: None }));
        grow(&mut window, 2, 1, 20..23);
        for track in 0..2 {
            window.apply(Update::Closed { track, number: 6 });
        }
        let codecs = vec!["avc1.64001e".into(), "mp4a.40.2".into()];
        window.apply(Update::Run(Run { epoch: 3, ordinal: 2, first_number: 7, codecs, began: None }));
        grow(&mut window, 3, 1, 24..26);
        for track in 0..2 {
            window.apply(Update::Closed { track, number: 7 });
        }
        window
    }

    #[test]
    fn what_is_there_is_joined_and_each_piece_begins_with_a_gop() {
        let window = broken();
        let assembly = Assembly::new(&window).unwrap();
        let told: Vec<_> = assembly
            .stretches
            .iter()
            .map(|stretch| (stretch.first, stretch.last, stretch.at, stretch.frames, stretch.held))
            .collect();
        // GOPs of fifty frames, parts of twelve and a half.
        assert_eq!(told, [(1, 3, 0, 150, 0), (5, 5, 150, 50, 0), (6, 6, 200, 37, 13), (7, 7, 250, 25, 0)]);
        assert_eq!((assembly.grid.frames, assembly.held_frames()), (275, 13));
        assert_eq!((assembly.grid.gop_frames, assembly.grid.segment_gops), (50, 1));
    }

    #[test]
    fn the_sound_covers_all_of_the_picture_without_a_hole() {
        let window = broken();
        let assembly = Assembly::new(&window).unwrap();
        let frames = crate::media::grid::AudioGrid::beside(&assembly.grid, 48_000).frames;
        let mut next = 0;
        for stretch in &assembly.stretches {
            let range = assembly.sound_of(stretch, 48_000, frames);
            assert_eq!(range.start, next);
            next = range.end;
            let begins = assembly.sound_begins(stretch, &window, &window.tracks[1]).unwrap();
            assert!(begins.abs_diff(range.start) <= 1, "{begins} {range:?}");
        }
        assert_eq!(next, frames);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        let mut lost = window();
        assert_eq!(Assembly::new(&lost), None);
        lost.apply(Update::Gap { track: 0, number: 1, epoch: 1, start: 0, ticks: 25_600 });
        assert_eq!(Assembly::new(&lost), None);
    }
}
