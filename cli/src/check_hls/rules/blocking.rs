//! Blocking playlist reload and its limits (6.2.5.2).

use std::time::Duration;

use crate::check_hls::findings::Findings;
use crate::check_hls::observation::{Answer, Asked, Observation, Outcome};

/// "At once" is a round trip and this much, so that a busy machine is not taken for a server that waits.
const AT_ONCE: Duration = Duration::from_millis(500);
/// How much a server may be off three target durations.
const GIVE_UP_SLACK: Duration = Duration::from_millis(500);

/// The answer to a request of this kind.
fn answer<'o>(observation: &Observation<'o>, kind: fn(&Asked) -> bool) -> Option<&'o Answer> {
    match observation {
        Observation::Answer(answer) if kind(&answer.asked) => Some(answer),
        _ => None,
    }
}

/// Checks that a request was refused. Once the stream has ended directives are ignored instead.
fn refused(answer: &Answer, findings: &mut Findings) {
    if matches!(&answer.outcome, Outcome::Playlist(seen) if seen.media.end) {
        return;
    }
    let ok = matches!(answer.outcome, Outcome::Status(400));
    findings.check(ok, &answer.place, || (answer.outcome.told(), "status 400 at once".to_owned()));
}

/// 11. When all is there, there is nothing to wait for and nothing to leave out.
pub(super) fn ignored_after_end(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(answer) = answer(observation, |asked| *asked == Asked::AfterEnd) else { return };
    let known = &answer.known.media;
    let ok = match &answer.outcome {
        Outcome::Playlist(seen) => {
            seen.media.skips.is_empty() && seen.media.segments.len() == known.segments.len()
        }
        _ => false,
    };
    findings.check(ok, &answer.place, || {
        let saw = match &answer.outcome {
            Outcome::Playlist(seen) if !seen.media.skips.is_empty() => "a delta update".to_owned(),
            Outcome::Playlist(seen) => format!("{} segments", seen.media.segments.len()),
            other => other.told(),
        };
        (saw, format!("the whole playlist of {} segments", known.segments.len()))
    });
}

/// 12. The part that was asked for is there. Players that are answered early ask again at once, for ever.
pub(super) fn part_not_early(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(answer) = answer(observation, |asked| matches!(asked, Asked::Part { .. })) else { return };
    let (Asked::Part { msn, part }, Outcome::Playlist(seen)) = (answer.asked, &answer.outcome) else {
        return;
    };
    let ok = seen.media.end || seen.media.has_part(msn, part);
    findings.check(ok, &answer.place, || {
        (answer.outcome.told(), format!("an answer only when part {msn}.{part} is there"))
    });
}

/// 13. The segment that was asked for is there, and whole.
pub(super) fn whole_segment(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(answer) = answer(observation, |asked| matches!(asked, Asked::Whole { .. })) else { return };
    let (Asked::Whole { msn }, Outcome::Playlist(seen)) = (answer.asked, &answer.outcome) else { return };
    let ok = seen.media.end || seen.media.last_whole() >= Some(msn);
    findings.check(ok, &answer.place, || {
        (answer.outcome.told(), format!("an answer only when segment {msn} is whole"))
    });
}

/// 14. Nobody knows beforehand how many parts a segment will have, so one too many is the first of the next.
pub(super) fn beyond_last_part(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(answer) = answer(observation, |asked| matches!(asked, Asked::BeyondLastPart { .. })) else {
        return;
    };
    let Asked::BeyondLastPart { msn, part } = answer.asked else { return };
    let ok = match &answer.outcome {
        // The latest that may be: somebody waited for all of the next segment.
        Outcome::Playlist(seen) => {
            seen.media.end || seen.media.has_part(msn, part) && seen.media.last_whole() <= Some(msn + 1)
        }
        // A stall is another rule's.
        Outcome::Status(503) | Outcome::Silence => return,
        Outcome::Status(_) => false,
    };
    findings.check(ok, &answer.place, || {
        (answer.outcome.told(), format!("an answer when part {}.0 is there", msn + 1))
    });
}

/// 15. What is there already need not be waited for.
pub(super) fn old_at_once(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(answer) = answer(observation, |asked| matches!(asked, Asked::Old { .. })) else { return };
    let in_time = answer.took <= answer.usual + AT_ONCE;
    findings.check(matches!(answer.outcome, Outcome::Playlist(_)) && in_time, &answer.place, || {
        (
            format!("{} after {:.1} s", answer.outcome.told(), answer.took.as_secs_f64()),
            "the playlist at once".to_owned(),
        )
    });
}

/// 16. A part of no segment is nonsense.
pub(super) fn part_alone(observation: &Observation<'_>, findings: &mut Findings) {
    if let Some(answer) = answer(observation, |asked| *asked == Asked::PartAlone) {
        refused(answer, findings);
    }
}

/// 17a. Nobody waits for what is more than two segments away.
pub(super) fn far_segment(observation: &Observation<'_>, findings: &mut Findings) {
    if let Some(answer) = answer(observation, |asked| matches!(asked, Asked::FarSegment { .. })) {
        refused(answer, findings);
    }
}

/// 17b. Nor for a part beyond the advance part limit, unless its segment has ended meanwhile.
pub(super) fn far_part(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(answer) = answer(observation, |asked| matches!(asked, Asked::FarPart { .. })) else { return };
    let Asked::FarPart { msn, .. } = answer.asked else { return };
    match &answer.outcome {
        Outcome::Playlist(seen) if seen.media.last_whole() >= Some(msn) => {
            // One too many is the first of the next (rule 14), which takes its time where the stream was interrupted.
            let known = answer.known.media.open.discontinuity_number;
            let interrupted = seen.media.open.discontinuity_number > known;
            if answer.took > answer.usual + AT_ONCE && !interrupted {
                refused(answer, findings);
            }
        }
        _ => refused(answer, findings),
    }
}

/// 18. A request for something that does not come is given up after three target durations: not sooner, not much later.
pub(super) fn stalled(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(answer) = answer(observation, |asked| {
        matches!(asked, Asked::Part { .. } | Asked::Whole { .. } | Asked::BeyondLastPart { .. })
    }) else {
        return;
    };
    let limit = Duration::from_secs(3 * answer.known.media.target_duration);
    let early = answer.took + GIVE_UP_SLACK < limit;
    let ok = match &answer.outcome {
        Outcome::Status(503) => !early,
        // Something came; whether in time is another rule's.
        _ if answer.took <= limit + answer.usual + GIVE_UP_SLACK => return,
        _ => false,
    };
    findings.check(ok, &answer.place, || {
        let saw = format!("{} after {:.1} s", answer.outcome.told(), answer.took.as_secs_f64());
        (saw, format!("status 503 after {} s", limit.as_secs()))
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::check_hls::rules::fixtures::{failures, good, next, seen};

    type Check = fn(&Observation<'_>, &mut Findings);

    fn judged(rule: Check, asked: Asked, outcome: Outcome, took: f64) -> (u64, u64) {
        let known = Arc::new(seen(&good()));
        let (took, usual) = (Duration::from_secs_f64(took), Duration::from_millis(10));
        let answer = Answer { place: known.place.clone(), asked, known, took, usual, outcome };
        let mut findings = Findings::default();
        rule(&Observation::Answer(&answer), &mut findings);
        (findings.checks, findings.failed)
    }

    fn playlist(text: &str) -> Outcome {
        Outcome::Playlist(seen(text).into())
    }

    const GOOD: (u64, u64) = (1, 0);
    const BAD: (u64, u64) = (1, 1);
    const NOTHING: (u64, u64) = (0, 0);

    #[test]
    fn answers_come_when_there_is_something_to_say() {
        let asked = Asked::Part { msn: 109, part: 2 };
        assert_eq!(judged(part_not_early, asked, playlist(&next()), 0.2), GOOD);
        assert_eq!(judged(part_not_early, asked, playlist(&good()), 0.0), BAD);
        assert_eq!(judged(part_not_early, asked, playlist(&format!("{}#EXT-X-ENDLIST", good())), 0.0), GOOD);
        assert_eq!(judged(part_not_early, Asked::Whole { msn: 109 }, playlist(&good()), 0.0), NOTHING);
        assert_eq!(judged(whole_segment, Asked::Whole { msn: 108 }, playlist(&good()), 0.2), GOOD);
        assert_eq!(judged(whole_segment, Asked::Whole { msn: 109 }, playlist(&next()), 0.2), BAD);
    }

    #[test]
    fn a_part_too_many_is_the_first_of_the_next() {
        let judged =
            |msn, part, outcome| judged(beyond_last_part, Asked::BeyondLastPart { msn, part }, outcome, 0.5);
        assert_eq!(judged(108, 5, playlist(&good())), GOOD);
        // Too early; too late; refused.
        assert_eq!(judged(109, 5, playlist(&good())), BAD);
        assert_eq!(judged(106, 5, playlist(&good())), BAD);
        assert_eq!(judged(108, 5, Outcome::Status(400)), BAD);
        assert_eq!(judged(108, 5, Outcome::Silence), NOTHING);
    }

    #[test]
    fn the_old_is_answered_and_nonsense_refused() {
        let old = Asked::Old { msn: 100, part: None };
        assert_eq!(judged(old_at_once, old, playlist(&good()), 0.05), GOOD);
        assert_eq!(judged(old_at_once, old, playlist(&good()), 0.9), BAD);
        assert_eq!(judged(old_at_once, old, Outcome::Status(400), 0.0), BAD);
        for (rule, asked) in [
            (part_alone as Check, Asked::PartAlone),
            (far_segment, Asked::FarSegment { msn: 120 }),
            (far_part, Asked::FarPart { msn: 109, part: 60 }),
        ] {
            assert_eq!(judged(rule, asked, Outcome::Status(400), 0.0), GOOD);
            assert_eq!(judged(rule, asked, playlist(&good()), 0.0), BAD);
            assert_eq!(judged(rule, asked, Outcome::Silence, 3.0), BAD);
            assert_eq!(judged(rule, asked, playlist(&format!("{}#EXT-X-ENDLIST", good())), 0.0), NOTHING);
        }
        // Its segment had ended when the request came.
        assert_eq!(judged(far_part, Asked::FarPart { msn: 108, part: 60 }, playlist(&good()), 0.0), NOTHING);
        assert_eq!(judged(far_part, Asked::FarPart { msn: 108, part: 60 }, playlist(&good()), 2.0), BAD);
        let after_a_seam = next().replace(
            "#EXT-X-PART:DURATION=0.2,URI=\"p109.0",
            "#EXT-X-DISCONTINUITY\n#EXT-X-PART:DURATION=0.2,URI=\"p109.0",
        );
        assert_eq!(
            judged(far_part, Asked::FarPart { msn: 108, part: 60 }, playlist(&after_a_seam), 2.0),
            NOTHING
        );
    }

    #[test]
    fn nothing_is_held_for_ever() {
        let asked = Asked::Part { msn: 109, part: 2 };
        assert_eq!(judged(stalled, asked, Outcome::Status(503), 3.0), GOOD);
        assert_eq!(judged(stalled, asked, Outcome::Status(503), 1.0), BAD);
        assert_eq!(judged(stalled, asked, Outcome::Status(500), 4.0), BAD);
        assert_eq!(judged(stalled, asked, Outcome::Silence, 5.0), BAD);
        assert_eq!(judged(stalled, asked, playlist(&next()), 2.9), NOTHING);
        assert_eq!(judged(stalled, asked, playlist(&next()), 4.0), BAD);
    }

    #[test]
    fn the_end_is_the_end() {
        let ended = format!("{}#EXT-X-ENDLIST", good());
        assert_eq!(judged(ignored_after_end, Asked::AfterEnd, playlist(&ended), 0.0), GOOD);
        assert_eq!(judged(ignored_after_end, Asked::AfterEnd, Outcome::Silence, 3.0), BAD);
        let skipped = ended.replace("#EXTINF:1.0,\ns100.m4s", "#EXT-X-SKIP:SKIPPED-SEGMENTS=1");
        assert_eq!(judged(ignored_after_end, Asked::AfterEnd, playlist(&skipped), 0.0), BAD);
        assert_eq!(failures(stalled, &Observation::Playlist(&seen(&good()))), 0);
    }
}
