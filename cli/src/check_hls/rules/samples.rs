//! What is in the files: the same samples in parts and segments, at times that go on.

use crate::check_hls::boxes::{Run, Sample};
use crate::check_hls::findings::Findings;
use crate::check_hls::observation::Observation;

/// 22a. The parts of a segment hold its samples: the same ones, in the same order, at the same times (3.2).
pub(super) fn parts_make_segment(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Segment(segment) = observation else { return };
    let Some(parts) = &segment.parts else { return };
    for run in &segment.runs {
        let samples: Vec<Sample> = parts
            .iter()
            .flat_map(|part| part.runs.iter().filter(|own| own.track == run.track))
            .flat_map(|own| own.samples.iter().copied())
            .collect();
        let differs =
            (0..samples.len().max(run.samples.len())).find(|at| samples.get(*at) != run.samples.get(*at));
        findings.check(differs.is_none(), &segment.place, || {
            let told = |sample: Option<&Sample>| match sample {
                Some(sample) => {
                    let Sample { time, duration, size, .. } = sample;
                    format!("a sample of {size} bytes at {time} for {duration} ticks")
                }
                None => "no sample".to_owned(),
            };
            let at = differs.unwrap_or_default();
            (
                format!("in the parts, track {}, sample {at}: {}", run.track, told(samples.get(at))),
                format!("as in the segment: {}", told(run.samples.get(at))),
            )
        });
    }
}

/// 22b. Each sample begins where the one before it ended, within a segment and from one to the next.
pub(super) fn continuous(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Segment(segment) = observation else { return };
    for run in &segment.runs {
        let before = segment.before.iter().flatten().find(|before| before.track == run.track);
        let mut end = before.filter(|before| before.timescale == run.timescale).and_then(Run::end);
        let mut jump = None;
        for sample in &run.samples {
            // A millisecond of rounding is nobody's fault.
            let slack = u64::from(run.timescale / 1000);
            if let Some(end) = end.filter(|end| end.abs_diff(sample.time) > slack) {
                jump.get_or_insert((sample.time, end));
            }
            end = sample.time.checked_add(sample.duration.into());
        }
        findings.check(jump.is_none(), &segment.place, || {
            let (time, end) = jump.unwrap_or_default();
            (
                format!("track {} goes on at {time} of {} ticks a second", run.track, run.timescale),
                format!("{end}, where the sample before it ends"),
            )
        });
    }
}

/// 23a. A player may begin at a part that says it is independent.
pub(super) fn independent(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Part(part) = observation else { return };
    if !part.independent {
        return;
    }
    for run in &part.runs {
        let sync = run.samples.first().is_none_or(|sample| sample.sync);
        findings.check(sync, &part.place, || {
            (
                format!("track {} begins with a sample that needs others", run.track),
                "a sync sample".to_owned(),
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::boxes::Init;
    use crate::check_hls::observation::{PartMedia, Place, SegmentMedia};
    use crate::check_hls::rules::fixtures::{FRAME, failures, init, media};

    fn runs(frame: u64, keys: &[bool]) -> Vec<Run> {
        Init::parse(&init()).unwrap().samples(&media(frame * u64::from(FRAME), keys)).unwrap()
    }

    fn part(runs: Vec<Run>, independent: bool) -> PartMedia {
        PartMedia { place: Place::default(), independent, runs }
    }

    fn segment(parts: Option<Vec<PartMedia>>, before: Option<Vec<Run>>) -> SegmentMedia {
        SegmentMedia { place: Place::default(), runs: runs(10, &[true, false, false, false]), parts, before }
    }

    #[test]
    fn parts_are_the_segment() {
        let judged = |second| {
            let parts = vec![part(runs(10, &[true, false]), true), part(second, false)];
            failures(parts_make_segment, &Observation::Segment(&segment(Some(parts), None)))
        };
        assert_eq!(judged(runs(12, &[false, false])), 0);
        // One sample missing, another time, another flag, other bytes.
        assert_eq!(judged(runs(12, &[false])), 1);
        assert_eq!(judged(runs(13, &[false, false])), 1);
        assert_eq!(judged(runs(12, &[false, true])), 1);
        let mut other = runs(12, &[false, false]);
        other[0].samples[1].digest ^= 1;
        assert_eq!(judged(other), 1);
    }

    #[test]
    fn times_go_on() {
        let judged = |before| failures(continuous, &Observation::Segment(&segment(None, before)));
        assert_eq!(judged(None), 0);
        assert_eq!(judged(Some(runs(8, &[true, false]))), 0);
        assert_eq!(judged(Some(runs(7, &[true, false]))), 1);
        let mut torn = segment(None, None);
        torn.runs[0].samples[2].time += 5000;
        assert_eq!(failures(continuous, &Observation::Segment(&torn)), 1);
    }

    #[test]
    fn independent_parts_stand_alone() {
        let judged = |keys, independent| {
            failures(super::independent, &Observation::Part(&part(runs(0, keys), independent)))
        };
        assert_eq!(
            (judged(&[true, false], true), judged(&[false], false), judged(&[false, true], true)),
            (0, 0, 1)
        );
    }
}
