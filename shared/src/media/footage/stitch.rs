//! Which segments cover a span of time, where more than one source may have some of it.

use std::collections::BTreeMap;

/// A stored segment of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    pub number: u32,
    /// When it begins, and when the next one would.
    pub start: i64,
    pub end: i64,
    /// Nobody has it.
    pub gap: bool,
}

/// Numbers of one source that follow each other, from `first` to the one before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// Its place among the sources.
    pub source: usize,
    pub first: u32,
    pub until: u32,
}

/// Chooses what is played of `from..to`, in the order of time. Of each source whole segments, all that reach into it; where several sources have the
/// same moment, the first of them. A later one fills what is left: of it a segment is taken where most of that is not there yet, so that nothing
/// is lost for the length of a second that would be seen twice. What is known to be lost is taken last.
pub fn stitch(sources: &[Vec<Shot>], from: i64, to: i64) -> Vec<Picked> {
    let mut taken: BTreeMap<i64, (i64, usize, u32)> = BTreeMap::new();
    for gaps in [false, true] {
        for (source, shots) in sources.iter().enumerate() {
            let inside = |shot: &&Shot| shot.gap == gaps && shot.end > from && shot.start < to;
            for shot in shots.iter().filter(inside) {
                // Only what was asked for counts.
                if is_mostly_free(&taken, shot.start.max(from), shot.end.min(to)) {
                    taken.entry(shot.start).or_insert((shot.end, source, shot.number));
                }
            }
        }
    }
    let mut picked: Vec<Picked> = vec![];
    for (_, source, number) in taken.into_values() {
        match picked.last_mut().filter(|last| last.source == source && last.until == number) {
            Some(last) => last.until += 1,
            None => picked.push(Picked { source, first: number, until: number + 1 }),
        }
    }
    picked
}

/// Less than half of a time was taken already.
fn is_mostly_free(taken: &BTreeMap<i64, (i64, usize, u32)>, from: i64, to: i64) -> bool {
    // What was taken overlaps by less than half a segment, so ends are in the order of starts.
    let before = taken.range(..to).rev().take_while(|(_, (end, ..))| *end > from);
    let covered: i64 = before.map(|(start, (end, ..))| *end.min(&to) - *start.max(&from)).sum();
    covered * 2 < to - from
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shots(start: i64, count: u32) -> Vec<Shot> {
        let shot = |n: u32| {
            let start = start + i64::from(n) * 6;
            Shot { number: n + 10, start, end: start + 6, gap: false }
        };
        (0..count).map(shot).collect()
    }

    fn picked(source: usize, first: u32, until: u32) -> Picked {
        Picked { source, first, until }
    }

    #[test]
    fn both_ends_are_exact_to_a_segment() {
        let all = [shots(0, 10)];
        assert_eq!(stitch(&all, 0, 60), [picked(0, 10, 20)]);
        assert_eq!(stitch(&all, 6, 12), [picked(0, 11, 12)]);
        assert_eq!(stitch(&all, 7, 13), [picked(0, 11, 13)]);
        assert_eq!(stitch(&all, 60, 70), []);
        assert_eq!(stitch(&all, -10, 0), []);
    }

    #[test]
    fn broadcasts_follow_each_other_over_a_gap() {
        assert_eq!(stitch(&[shots(0, 3), shots(100, 3)], 5, 105), [picked(0, 10, 13), picked(1, 10, 11)]);
    }

    #[test]
    fn what_was_imported_fills_what_is_missing() {
        let mut camera = shots(0, 10);
        // 18 to 42 is missing.
        camera.drain(3..7);
        let card = shots(-5, 20);
        let stitched = stitch(&[camera, card], 0, 60);
        // From 19, as the second there is would be seen twice, to 43.
        assert_eq!(stitched, [picked(0, 10, 13), picked(1, 14, 18), picked(0, 17, 20)]);
    }

    #[test]
    fn what_was_lost_is_listed_where_nothing_else_has_it() {
        let mut camera = shots(0, 4);
        camera[1].gap = true;
        assert_eq!(stitch(&[camera.clone()], 0, 24), [picked(0, 10, 14)]);
        let stitched = stitch(&[camera, shots(6, 1)], 0, 24);
        assert_eq!(stitched, [picked(0, 10, 11), picked(1, 10, 11), picked(0, 12, 14)]);
    }

    #[test]
    fn numbers_that_are_left_out_end_a_stretch() {
        let mut camera = shots(0, 4);
        camera.remove(1);
        assert_eq!(stitch(&[camera], 0, 24), [picked(0, 10, 11), picked(0, 12, 14)]);
    }
}
