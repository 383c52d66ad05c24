//! Parts: their lengths, their tags, and when they come and go.

use super::{ROUNDING, seconds};
use crate::check_hls::findings::Findings;
use crate::check_hls::observation::Observation;
use crate::check_hls::playlist::Last;

/// Updates that tell a habit from an accident.
const ENOUGH: u64 = 6;

/// 1. No part is longer than the target (4.4.4.9).
pub(super) fn at_most_target(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Playlist(seen) = observation else { return };
    let Some(target) = seen.media.part_target else { return };
    for (place, _, part) in seen.media.parts_after(None) {
        let ok = part.duration <= target + ROUNDING;
        findings.check(ok, &seen.place.clone().line(part.line).last(place), || {
            (format!("DURATION {}", seconds(part.duration)), format!("at most {}", seconds(target)))
        });
    }
}

/// 2. Parts are no shorter than most of the target (4.4.4.9), but for those that begin or end something.
pub(super) fn at_least_most_of_target(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Playlist(seen) = observation else { return };
    let Some(least) = seen.media.part_target.map(|target| 0.85 * target) else { return };
    for segment in seen.media.all() {
        // The last one is always free; in the open segment nobody knows yet which that is.
        for (index, pair) in segment.parts.windows(2).enumerate() {
            let [part, following] = pair else { continue };
            if part.independent || part.gap || following.gap || segment.gap {
                continue;
            }
            let place = Last { msn: segment.msn, part: index as u64 };
            findings.check(
                part.duration + ROUNDING >= least,
                &seen.place.clone().line(part.line).last(place),
                || (format!("DURATION {}", seconds(part.duration)), format!("at least {}", seconds(least))),
            );
        }
    }
}

/// 23b. What governs a part stands before it (4.4.4).
pub(super) fn tags_first(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Playlist(seen) = observation else { return };
    for segment in seen.media.all().filter(|segment| !segment.parts.is_empty()) {
        let place = seen.place.clone().segment(segment.msn);
        let (line, tag) = segment.late.first().copied().unwrap_or_default();
        findings.check(segment.late.is_empty(), &place.line(line), || {
            (format!("{tag} behind a part of its segment"), format!("{tag} before the first part"))
        });
    }
}

/// 24a. Parts leave when players have no more use for them (6.2.2). A server that drops those of a whole segment at once is
/// given a segment's time.
pub(super) fn leave(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Playlist(seen) = observation else { return };
    let media = &seen.media;
    if media.part_target.is_none() || media.end {
        return;
    }
    let most = 4.0 * media.target_duration as f64;
    let behind = media.open_duration();
    for (segment, distance) in media.segments.iter().zip(media.distances()) {
        let Some(part) = segment.parts.first() else { continue };
        let distance = distance + behind;
        findings.check(
            distance <= most + ROUNDING,
            &seen.place.clone().line(part.line).segment(segment.msn),
            || {
                (
                    format!("parts {} from the end", seconds(distance)),
                    format!("none more than {} from it", seconds(most)),
                )
            },
        );
    }
}

/// 24c. A part is added within PART-TARGET of the one before (6.2.1). Only the time a request was held is looked at, half as much
/// again is let pass, and one update in five may be late: publishers pause, networks hiccup, and machines are busy.
pub(super) fn punctual(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Pace(pace) = observation else { return };
    if pace.updates < ENOUGH {
        return;
    }
    findings.check(pace.late * 5 <= pace.updates, &pace.place, || {
        let saw = format!(
            "{} of {} updates late, one by a wait of {}",
            pace.late,
            pace.updates,
            seconds(pace.worst.as_secs_f64())
        );
        (saw, format!("a new part every {}", seconds(pace.part_target)))
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::check_hls::observation::{Pace, Place};
    use crate::check_hls::rules::fixtures::{failures, good, seen};

    fn playlist(rule: fn(&Observation<'_>, &mut Findings), text: &str) -> u64 {
        failures(rule, &Observation::Playlist(&seen(text)))
    }

    #[test]
    fn parts_have_the_right_length() {
        let good = good();
        assert_eq!((playlist(at_most_target, &good), playlist(at_least_most_of_target, &good)), (0, 0));
        let long = good.replace("DURATION=0.2,URI=\"p107.2.m4s\"", "DURATION=0.21,URI=\"p107.2.m4s\"");
        assert_eq!(playlist(at_most_target, &long), 1);
        let short = |part: &str| {
            let text = format!("DURATION=0.2,URI=\"{part}.m4s\"");
            assert!(good.contains(&text));
            playlist(at_least_most_of_target, &good.replace(&text, &text.replace("0.2", "0.1")))
        };
        // In the middle; independent; last of its segment; last of all.
        assert_eq!([short("p107.2"), short("p107.0"), short("p107.4"), short("p109.1")], [1, 0, 0, 0]);
        let before_gap = good
            .replace("DURATION=0.2,URI=\"p107.2.m4s\"", "DURATION=0.1,URI=\"p107.2.m4s\"")
            .replace("URI=\"p107.3.m4s\"", "URI=\"p107.3.m4s\",GAP=YES");
        assert_eq!(playlist(at_least_most_of_target, &before_gap), 0);
    }

    #[test]
    fn tags_stand_before_parts() {
        let good = good();
        assert_eq!(playlist(tags_first, &good), 0);
        for tag in [
            "#EXT-X-MAP:URI=\"x.mp4\"",
            "#EXT-X-DISCONTINUITY",
            "#EXT-X-KEY:METHOD=NONE",
            "#EXT-X-PROGRAM-DATE-TIME:2026-11-20T10:00:00Z",
        ] {
            let late = good.replace("#EXTINF:1.0,\ns107.m4s", &format!("{tag}\n#EXTINF:1.0,\ns107.m4s"));
            assert_eq!(playlist(tags_first, &late), 1, "{tag}");
        }
    }

    #[test]
    fn parts_go_in_time() {
        let good = good();
        assert_eq!(playlist(leave, &good), 0);
        let kept = good
            .replace("#EXTINF:1.0,\ns103.m4s", "#EXT-X-PART:DURATION=1,URI=\"x\"\n#EXTINF:1.0,\ns103.m4s");
        assert_eq!(playlist(leave, &kept), 1);
        assert_eq!(playlist(leave, &format!("{kept}#EXT-X-ENDLIST\n")), 0);
    }

    #[test]
    fn parts_come_in_time() {
        let pace = |late| Pace {
            place: Place::default(),
            part_target: 0.2,
            updates: 20,
            late,
            worst: Duration::from_millis(700),
        };
        assert_eq!([0, 4, 5].map(|late| failures(punctual, &Observation::Pace(&pace(late)))), [0, 0, 1]);
    }
}
