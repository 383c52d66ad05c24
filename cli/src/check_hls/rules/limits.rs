//! Lengths and numbers that a playlist states, and what may change from one version to the next.

use super::{ROUNDING, seconds};
use crate::check_hls::findings::Findings;
use crate::check_hls::observation::{Observation, Seen};
use crate::check_hls::playlist::{Last, Segment};

/// What rounded durations may add up to, in milliseconds, until a date is written out again.
const REDATED: u64 = 100;

/// 3. What players set their buffers by stays as it is (6.2.1, 4.4.3.7).
pub(super) fn never_change(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Next { before, after } = observation else { return };
    let stated = |name: &str, value: Option<f64>| match value {
        Some(value) => format!("{name} {}", seconds(value)),
        None => format!("no {name}"),
    };
    let of = |seen: &Seen| {
        let media = &seen.media;
        [
            stated("TARGETDURATION", Some(media.target_duration as f64)),
            stated("PART-TARGET", media.part_target),
            stated("PART-HOLD-BACK", media.control.part_hold_back),
        ]
    };
    for (old, new) in of(before).into_iter().zip(of(after)) {
        findings.check(old == new, &after.place, || (format!("{new} after {old}"), old));
    }
}

/// 4. PART-HOLD-BACK is there and long enough (4.4.3.8; Apple's specification makes the draft's SHOULD a must).
pub(super) fn part_hold_back(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Playlist(seen) = observation else { return };
    let Some(target) = seen.media.part_target else { return };
    let control = &seen.media.control;
    let ok = control.part_hold_back.is_some_and(|hold| hold + ROUNDING >= 3.0 * target);
    findings.check(ok, &seen.place.clone().line(control.line), || {
        let saw = control
            .part_hold_back
            .map_or("no PART-HOLD-BACK".to_owned(), |hold| format!("PART-HOLD-BACK {}", seconds(hold)));
        (saw, format!("at least {}", seconds(3.0 * target)))
    });
}

/// 5. HOLD-BACK is long enough (4.4.3.8).
pub(super) fn hold_back(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Playlist(seen) = observation else { return };
    let Some(hold) = seen.media.control.hold_back else { return };
    let least = 3.0 * seen.media.target_duration as f64;
    findings.check(hold + ROUNDING >= least, &seen.place.clone().line(seen.media.control.line), || {
        (format!("HOLD-BACK {}", seconds(hold)), format!("at least {}", seconds(least)))
    });
}

/// 6. No segment is longer than the target, rounded to a second (4.4.3.1).
pub(super) fn segment_length(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Playlist(seen) = observation else { return };
    let target = seen.media.target_duration;
    for segment in &seen.media.segments {
        let ok = segment.duration.round() <= target as f64;
        findings.check(ok, &seen.place.clone().line(segment.line).segment(segment.msn), || {
            (format!("EXTINF {}", seconds(segment.duration)), format!("at most {target}, rounded"))
        });
    }
}

/// 7. The skip boundary is far enough from the end (4.4.3.8).
pub(super) fn skip_boundary(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Playlist(seen) = observation else { return };
    let Some(boundary) = seen.media.control.can_skip_until else { return };
    let least = 6.0 * seen.media.target_duration as f64;
    findings.check(boundary + ROUNDING >= least, &seen.place.clone().line(seen.media.control.line), || {
        (format!("CAN-SKIP-UNTIL {}", seconds(boundary)), format!("at least {}", seconds(least)))
    });
}

/// 25a. Numbers go forward only, and a segment that is listed stays what it was (6.2.1, 6.2.2).
pub(super) fn only_forward(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Next { before, after } = observation else { return };
    let (old, new) = (&before.media, &after.media);
    let pairs = [
        ("EXT-X-MEDIA-SEQUENCE", old.media_sequence, new.media_sequence),
        ("EXT-X-DISCONTINUITY-SEQUENCE", old.discontinuity_sequence, new.discontinuity_sequence),
    ];
    for (name, old, new) in pairs {
        findings.check(new >= old, &after.place, || {
            (format!("{name} {new} after {old}"), format!("{old} or more"))
        });
    }
    findings.check(new.last() >= old.last(), &after.place, || {
        let told = |last: Option<_>| last.map_or("nothing".to_owned(), |last: Last| last.to_string());
        (format!("it ends with {} after {}", told(new.last()), told(old.last())), "no step back".to_owned())
    });
    for segment in &old.segments {
        let Some(now) = new.segment(segment.msn).filter(|now| now.msn != new.open.msn) else { continue };
        let told = |segment: &Segment| {
            let number = segment.discontinuity_number;
            format!("{} of {} after discontinuity {number}", segment.uri, seconds(segment.duration))
        };
        let same = now.uri == segment.uri
            && now.duration == segment.duration
            && same_date(segment, now)
            && now.discontinuity_number == segment.discontinuity_number;
        findings.check(same, &after.place.clone().line(now.line).segment(now.msn), || {
            (format!("it became {}", told(now)), told(segment))
        });
    }
}

/// Dates are compared where both have one: the first segment of a window may get its own, counted on from one that left.
fn same_date(before: &Segment, now: &Segment) -> bool {
    match (before.begins, now.begins) {
        (Some(before), Some(now)) => before.abs_diff(now) <= REDATED,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::rules::fixtures::{failures, good, next, seen};

    fn playlist(rule: fn(&Observation<'_>, &mut Findings), text: &str) -> u64 {
        failures(rule, &Observation::Playlist(&seen(text)))
    }

    #[test]
    fn lengths_have_their_bounds() {
        let good = good();
        for rule in [part_hold_back, hold_back, segment_length, skip_boundary] {
            assert_eq!(playlist(rule, &good), 0);
        }
        let broken = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replace(from, to)
        };
        assert_eq!(playlist(part_hold_back, &broken("PART-HOLD-BACK=0.6", "PART-HOLD-BACK=0.5")), 1);
        assert_eq!(playlist(part_hold_back, &broken("PART-HOLD-BACK=0.6,", "")), 1);
        assert_eq!(playlist(hold_back, &broken(",HOLD-BACK=3.0", ",HOLD-BACK=2.9")), 1);
        assert_eq!(playlist(skip_boundary, &broken("CAN-SKIP-UNTIL=6.0", "CAN-SKIP-UNTIL=5.9")), 1);
        // 1.4 is 1 when rounded; 1.5 is 2.
        assert_eq!(playlist(segment_length, &good.replacen("EXTINF:1.0", "EXTINF:1.4", 1)), 0);
        assert_eq!(playlist(segment_length, &good.replacen("EXTINF:1.0", "EXTINF:1.5", 1)), 1);
    }

    #[test]
    fn what_players_rely_on_stays() {
        let (good, after) = (good(), next());
        let pair = |rule, after: &str| {
            let (before, after) = (seen(&good), seen(after));
            failures(rule, &Observation::Next { before: &before, after: &after })
        };
        assert_eq!((pair(never_change, &after), pair(only_forward, &after)), (0, 0));
        for (from, to) in [
            ("TARGETDURATION:1", "TARGETDURATION:2"),
            ("PART-TARGET=0.2", "PART-TARGET=0.21"),
            ("PART-HOLD-BACK=0.6", "PART-HOLD-BACK=0.7"),
        ] {
            assert_eq!(pair(never_change, &after.replace(from, to)), 1, "{from}");
        }
        let backwards = good.replace("#EXT-X-MEDIA-SEQUENCE:100", "#EXT-X-MEDIA-SEQUENCE:99");
        assert!(pair(only_forward, &backwards) > 0);
        assert_eq!(pair(only_forward, &after.replace("SEQUENCE:3", "SEQUENCE:2")), 1 + 9);
        assert_eq!(pair(only_forward, &after.replace("s105.m4s", "other.m4s")), 1);
        assert_eq!(pair(only_forward, &after.replace("EXTINF:1.0,\ns106", "EXTINF:0.9,\ns106")), 1);
    }
}
