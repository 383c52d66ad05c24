//! Playlist delta updates (6.2.5.1).

use super::{ROUNDING, seconds};
use crate::check_hls::findings::Findings;
use crate::check_hls::observation::{DeltaSeen, Observation};
use crate::check_hls::playlist::{Media, Segment};

/// 8. A delta update has one EXT-X-SKIP wherever there is something to skip.
pub(super) fn one_skip(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Delta(seen) = observation else { return };
    let media = &seen.full.media;
    let Some(boundary) = media.control.can_skip_until.filter(|_| !media.end) else { return };
    // Of a short playlist nothing can be skipped, and a segment may have been added between the two.
    let room = media.distances().get(1).is_some_and(|second| *second > boundary + ROUNDING);
    let skips = seen.delta.media.skips.len();
    if room || skips > 1 {
        findings.check(skips == 1, &seen.delta.place, || {
            (format!("{skips} EXT-X-SKIP"), "one EXT-X-SKIP".to_owned())
        });
    }
}

/// 9a. What a player makes of a delta update is the full playlist (6.3.7).
pub(super) fn merges(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Delta(seen) = observation else { return };
    let (delta, full) = (&seen.delta.media, &seen.full.media);
    // Two answers of different moments cannot be compared; numbers and names may both lie, but hardly at once.
    let same_end = delta.last() == full.last() || last_uri(delta) == last_uri(full);
    // The oldest may leave while nothing is added, such as when another rendition catches up.
    let same_moment = same_end && delta.media_sequence == full.media_sequence;
    if delta.skips.is_empty() || !same_moment || delta.end != full.end {
        return;
    }
    let difference = match Media::merged(&seen.before.media, delta) {
        Ok(merged) => difference(seen, &merged, full),
        Err(msn) => Some((
            msn,
            "it is skipped, and the playlist before does not have it".to_owned(),
            "a segment".to_owned(),
        )),
    };
    let place = seen.delta.place.clone();
    let place = difference.as_ref().map_or(place.clone(), |(msn, ..)| place.segment(*msn));
    findings.check(difference.is_none(), &place, || {
        difference
            .map(|(_, merged, full)| {
                (format!("merged: {merged}"), format!("as in the full playlist: {full}"))
            })
            .unwrap_or_default()
    });
}

fn last_uri(media: &Media) -> Option<&str> {
    let part = media.open.parts.last().map(|part| part.uri.as_str());
    part.or(media.segments.last().map(|segment| segment.uri.as_str()))
}

/// The first thing in which a merged playlist is not the full one: where, what it has, and what it should have.
fn difference(seen: &DeltaSeen, merged: &Media, full: &Media) -> Option<(u64, String, String)> {
    let first = full.media_sequence;
    if merged.media_sequence != first || merged.discontinuity_sequence != full.discontinuity_sequence {
        let told = |m: &Media| {
            format!("numbers from {} and discontinuities from {}", m.media_sequence, m.discontinuity_sequence)
        };
        return Some((first, told(merged), told(full)));
    }
    if merged.segments.len() != full.segments.len() {
        let told = |m: &Media| format!("{} segments", m.segments.len());
        return Some((first, told(merged), told(full)));
    }
    let begins = seen.delta.media.segments.first().map_or(full.open.msn, |segment| segment.msn);
    for (ours, theirs) in merged.all().zip(full.all()) {
        if let (Some(our_date), Some(their_date)) = (ours.date, theirs.date)
            && our_date != their_date
        {
            return Some((theirs.msn, format!("date {our_date} ms"), format!("date {their_date} ms")));
        }
        // A skipped segment is as it was in the playlist before, when it may still have had parts.
        let (ours, theirs) = (lines(ours, ours.msn >= begins), lines(theirs, ours.msn >= begins));
        if let Some((ours, theirs)) = first_difference(&ours, &theirs) {
            return Some((merged_msn(full, &theirs), ours, theirs));
        }
    }
    let (mut ours, mut theirs) = (merged.head.clone(), full.head.clone());
    let hints = |media: &Media| {
        media.hints.iter().map(|hint| format!("{} {}", hint.kind, hint.uri)).collect::<Vec<_>>()
    };
    ours.extend(hints(merged));
    theirs.extend(hints(full));
    // With v2 they may be left out.
    if !seen.date_ranges {
        ours.extend(merged.date_ranges.clone());
        theirs.extend(full.date_ranges.clone());
    }
    ours.sort();
    theirs.sort();
    first_difference(&ours, &theirs).map(|(ours, theirs)| (full.open.msn, ours, theirs))
}

/// The segment a line of it was found in.
fn merged_msn(full: &Media, line: &str) -> u64 {
    full.all()
        .find(|segment| lines(segment, true).iter().any(|own| own == line))
        .map_or(full.open.msn, |segment| segment.msn)
}

fn first_difference(ours: &[String], theirs: &[String]) -> Option<(String, String)> {
    let nothing = || "nothing".to_owned();
    (0..ours.len().max(theirs.len())).find_map(|index| {
        let (ours, theirs) = (ours.get(index), theirs.get(index));
        (ours != theirs)
            .then(|| (ours.cloned().unwrap_or_else(nothing), theirs.cloned().unwrap_or_else(nothing)))
    })
}

/// A segment as lines that can be compared. Tags that apply to all that follows move to the first segment of a window, so what
/// applies is compared, and not where it stands.
fn lines(segment: &Segment, with_parts: bool) -> Vec<String> {
    let Segment { msn, uri, duration, range, discontinuity_number, .. } = segment;
    let mut lines = vec![
        format!("{msn} {uri} {range:?} {} after discontinuity {discontinuity_number}", seconds(*duration)),
        format!("map {:?}", segment.map),
        format!("key {:?}", segment.key),
    ];
    let moves = [
        "#EXT-X-MAP:",
        "#EXT-X-KEY:",
        "#EXT-X-PROGRAM-DATE-TIME:",
        "#EXT-X-BITRATE:",
        // That of the first segment may be counted in EXT-X-DISCONTINUITY-SEQUENCE instead.
        "#EXT-X-DISCONTINUITY",
    ];
    let stays = |tag: &&String| !moves.iter().any(|moves| tag.starts_with(moves));
    lines.extend(segment.tags.iter().filter(stays).cloned());
    if with_parts {
        lines.extend(segment.parts.iter().map(|part| {
            let duration = seconds(part.duration);
            format!("part {} {duration} {:?} {} {}", part.uri, part.range, part.independent, part.gap)
        }));
    }
    lines
}

/// 9b. Nothing is skipped that lies within the boundary, measured from the end of the playlist (4.4.3.8).
pub(super) fn beyond_boundary(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Delta(seen) = observation else { return };
    let media = &seen.delta.media;
    let Some(boundary) = media.control.can_skip_until.or(seen.full.media.control.can_skip_until) else {
        return;
    };
    if media.skips.is_empty() {
        return;
    }
    // Where the last skipped segment ends is where the first that is listed begins.
    let listed: f64 =
        media.segments.iter().map(|segment| segment.duration).sum::<f64>() + media.open_duration();
    let first = media.segments.first().map_or(media.open.msn, |segment| segment.msn);
    let last_skipped = first.checked_sub(1).and_then(|msn| seen.before.media.segment(msn));
    // One that straddles the boundary may be counted to either side.
    let begins = listed + last_skipped.map_or(0.0, |segment| segment.duration);
    let line = media.skips[0].line;
    findings.check(begins + ROUNDING >= boundary, &seen.delta.place.clone().line(line), || {
        (
            format!("a segment skipped that begins {} from the end", seconds(begins)),
            format!("none within {}", seconds(boundary)),
        )
    });
}

/// 10. A player that does not know EXT-X-SKIP must be able to tell (section 8).
pub(super) fn version(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Delta(seen) = observation else { return };
    let media = &seen.delta.media;
    let Some(skip) = media.skips.first() else { return };
    let least = if skip.date_ranges { 10 } else { 9 };
    findings.check(media.version >= least, &seen.delta.place.clone().line(skip.line), || {
        (format!("EXT-X-VERSION {}", media.version), format!("at least {least}"))
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::check_hls::rules::fixtures::{delta, failures, good, next, seen};

    const ALL: [fn(&Observation<'_>, &mut Findings); 4] = [one_skip, merges, beyond_boundary, version];

    fn judged(delta: &str) -> [u64; 4] {
        let seen = DeltaSeen {
            before: Arc::new(seen(&good())),
            delta: seen(delta),
            full: seen(&next()),
            date_ranges: false,
        };
        ALL.map(|rule| failures(rule, &Observation::Delta(&seen)))
    }

    #[test]
    fn a_delta_update_is_right() {
        assert_eq!(judged(&delta()), [0, 0, 0, 0]);
    }

    #[test]
    fn one_that_is_not_breaks_one_rule() {
        let delta = delta();
        let broken = |from: &str, to: &str| {
            assert!(delta.contains(from), "{from}");
            judged(&delta.replace(from, to))
        };
        assert_eq!(judged(&next()), [1, 0, 0, 0]);
        assert_eq!(broken("VERSION:9", "VERSION:8"), [0, 0, 0, 1]);
        assert_eq!(broken("s106.m4s", "other.m4s"), [0, 1, 0, 0]);
        assert_eq!(broken("SKIPPED-SEGMENTS=4", "SKIPPED-SEGMENTS=5"), [0, 1, 0, 0]);
        assert_eq!(broken("SKIPPED-SEGMENTS=4", "SKIPPED-SEGMENTS=3"), [0, 1, 0, 0]);
        assert_eq!(broken("p109.2.m4s\"\n", "lie.m4s\"\n"), [0, 1, 0, 0]);
        assert_eq!(broken("#EXT-X-PART-INF:PART-TARGET=0.2\n", ""), [0, 1, 0, 0]);
        assert_eq!(broken("#EXT-X-SKIP", "#EXT-X-SKIP:SKIPPED-SEGMENTS=0\n#EXT-X-SKIP"), [1, 0, 0, 0]);
        let ranges = "SKIPPED-SEGMENTS=4,RECENTLY-REMOVED-DATERANGES=\"\"";
        assert_eq!(broken("SKIPPED-SEGMENTS=4", ranges), [0, 0, 0, 1]);
        // More is skipped than may be, but rightly.
        let end = delta.find("#EXT-X-PART:DURATION=0.2,URI=\"p106.0").unwrap();
        let start = delta.find("#EXTINF:1.0,\ns104.m4s").unwrap();
        let more = format!("{}{}", &delta[..start], &delta[end..]).replace("SEGMENTS=4", "SEGMENTS=6");
        assert_eq!(judged(&more), [0, 0, 1, 0]);
    }

    #[test]
    fn a_window_may_begin_with_what_was_a_discontinuity() {
        let tagged = |text: String| {
            text.replace(
                "#EXTINF:1.0,\ns101",
                "#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"2.mp4\"\n#EXTINF:1.0,\ns101",
            )
        };
        let slid = |text: &str| {
            text.replace("SEQUENCE:100", "SEQUENCE:101")
                .replace("DISCONTINUITY-SEQUENCE:3", "DISCONTINUITY-SEQUENCE:4")
                .replace("init.mp4", "2.mp4")
                .replace("T10:00:00", "T10:00:01")
                .replace("#EXTINF:1.0,\ns100.m4s\n", "")
                .replace("SEGMENTS=4", "SEGMENTS=3")
        };
        let judged = |delta: &str| {
            let (before, full) = (Arc::new(seen(&tagged(good()))), seen(&slid(&next())));
            let seen = DeltaSeen { before, delta: seen(delta), full, date_ranges: false };
            ALL.map(|rule| failures(rule, &Observation::Delta(&seen)))
        };
        assert_eq!(judged(&slid(&delta())), [0, 0, 0, 0]);
        // But numbers must stay.
        assert_eq!(
            judged(&slid(&delta()).replace("s105.m4s", "s105.m4s\n#EXT-X-DISCONTINUITY")),
            [0, 1, 0, 0]
        );
    }

    #[test]
    fn answers_of_different_moments_are_not_compared() {
        let mut seen = DeltaSeen {
            before: Arc::new(seen(&good())),
            delta: seen(&delta()),
            full: seen(&next()),
            date_ranges: false,
        };
        let judged = |seen: &DeltaSeen| {
            let mut findings = Findings::default();
            merges(&Observation::Delta(seen), &mut findings);
            (findings.checks, findings.failed)
        };
        seen.full.media.media_sequence += 1;
        assert_eq!(judged(&seen), (0, 0));
        seen.full.media.media_sequence -= 1;
        assert_eq!(judged(&seen), (1, 0));
        seen.full.media.open.parts.pop();
        assert_eq!(judged(&seen), (0, 0));
    }
}
