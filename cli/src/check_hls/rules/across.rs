//! Renditions beside each other: reports, numbers, dates.

use url::Url;

use super::seconds;
use crate::check_hls::findings::Findings;
use crate::check_hls::observation::{Observation, Seen};
use crate::check_hls::playlist::{Last, Segment};

/// What dates of one playlist may be off, in milliseconds: encoders' clocks drift, by less than a second (6.2.1).
const DRIFT: i64 = 1000;
/// What renditions may differ by, in seconds: pictures and sound are not cut at the same places.
const CUT: f64 = 0.1;
/// How many of the newest segments are compared: the others were when they were new.
const NEWEST: usize = 32;

/// 21a. Each of the other renditions is reported once, by a URI that a proxy can move (4.4.5.4, B.1).
pub(super) fn one_report_each(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Siblings { seen, others } = observation else { return };
    let media = &seen.media;
    if media.part_target.is_none() || media.end || others.is_empty() {
        return;
    }
    for report in &media.reports {
        let relative =
            Url::parse(&report.uri).is_err() && !report.uri.starts_with("//") && !report.uri.is_empty();
        findings.check(relative, &seen.place.clone().line(report.line), || {
            (format!("a report of {:?}", report.uri), "a relative URI".to_owned())
        });
    }
    for other in *others {
        let reports = media.reports.iter().filter(|report| same(seen, &report.uri, other)).count();
        findings.check(reports == 1, &seen.place, || {
            (format!("{reports} reports of {}", other.path()), "one".to_owned())
        });
    }
}

fn same(seen: &Seen, uri: &str, other: &Url) -> bool {
    seen.base.join(uri).is_ok_and(|uri| uri.path() == other.path() && uri.host() == other.host())
}

/// 21b. A report tells how far the rendition is, give or take a moment.
pub(super) fn reports_right(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Report(seen) = observation else { return };
    // What is left out is as in the playlist it stands in.
    let Some(own) = seen.own else { return };
    let msn = seen.report.last_msn.unwrap_or(own.msn);
    let told = Last { msn, part: seen.report.last_part.unwrap_or(own.part) };
    let not_before = seen.before.is_none_or(|before| told >= before);
    findings.check(not_before && told <= seen.after, &seen.place, || {
        let wanted = match seen.before {
            Some(before) if before != seen.after => format!("between {before} and {}", seen.after),
            _ => format!("up to {}", seen.after),
        };
        (format!("LAST-MSN and LAST-PART of {told}"), wanted)
    });
}

/// 25b. The same number means the same piece of time (6.2.4).
pub(super) fn shared_numbers(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Across { one, other } = observation else { return };
    let (Some(a), Some(b)) = (one.media.last(), other.media.last()) else { return };
    if !one.media.end && !other.media.end {
        let apart = one.at.abs_diff(other.at).as_secs() / one.media.target_duration.max(1);
        // Gaps come at once with what follows them: who is asked a moment later has all of them.
        let further = if a.msn > b.msn { one } else { other };
        let told =
            further.media.segments.iter().filter(|it| it.gap && it.msn >= a.msn.min(b.msn)).count() as u64;
        findings.check(a.msn.abs_diff(b.msn) <= apart + 1 + told, &one.place, || {
            (format!("it ends with {a}, {} with {b}", other.place.rendition), "the same numbers".to_owned())
        });
    }
    for (ours, theirs) in pairs(one, other) {
        let place = one.place.clone().line(ours.line).segment(ours.msn);
        findings.check(ours.discontinuity_number == theirs.discontinuity_number, &place, || {
            let of = |segment: &Segment| format!("discontinuity {}", segment.discontinuity_number);
            (of(ours), format!("{} as in {}", of(theirs), other.place.rendition))
        });
    }
}

/// The newest whole segments that both have.
fn pairs<'s>(one: &'s Seen, other: &'s Seen) -> impl Iterator<Item = (&'s Segment, &'s Segment)> {
    one.media.segments.iter().rev().take(NEWEST).filter_map(|ours| {
        let theirs = other.media.segment(ours.msn).filter(|theirs| theirs.msn != other.media.open.msn)?;
        Some((ours, theirs))
    })
}

/// 25c. Dates count on as durations do, parts make up their segment, and renditions agree.
pub(super) fn dates_agree(observation: &Observation<'_>, findings: &mut Findings) {
    match observation {
        Observation::Playlist(seen) => within(seen, findings),
        Observation::Next { before, after } => parts_add_up(before, after, findings),
        Observation::Across { one, other } => between(one, other, findings),
        _ => {}
    }
}

fn within(seen: &Seen, findings: &mut Findings) {
    for pair in seen.media.segments.windows(2) {
        let [segment, next] = pair else { continue };
        let (Some(begins), Some(date)) = (segment.begins, next.date) else { continue };
        if next.discontinuity || segment.gap || next.gap {
            continue;
        }
        let off = date - (begins + (segment.duration * 1000.0) as i64);
        findings.check(off.abs() < DRIFT, &seen.place.clone().line(next.line).segment(next.msn), || {
            (
                format!("its date is {} off", seconds(off as f64 / 1000.0)),
                "the date where the segment before ends".to_owned(),
            )
        });
    }
}

/// A segment that has just become whole still has all its parts.
fn parts_add_up(before: &Seen, after: &Seen, findings: &mut Findings) {
    if before.media.open.parts.is_empty() {
        return;
    }
    let Some(segment) = after.media.segment(before.media.open.msn) else { return };
    if segment.msn == after.media.open.msn
        || segment.parts.len() < before.media.open.parts.len()
        || segment.gap
    {
        return;
    }
    let sum: f64 = segment.parts.iter().map(|part| part.duration).sum();
    // Every one of them is rounded.
    let rounding = 0.001 * (segment.parts.len() + 1) as f64;
    findings.check(
        (sum - segment.duration).abs() <= rounding,
        &after.place.clone().line(segment.line).segment(segment.msn),
        || {
            (
                format!("EXTINF {}", seconds(segment.duration)),
                format!("{}, which its parts last", seconds(sum)),
            )
        },
    );
}

fn between(one: &Seen, other: &Seen, findings: &mut Findings) {
    for (ours, theirs) in pairs(one, other) {
        let place = one.place.clone().line(ours.line).segment(ours.msn);
        let name = &other.place.rendition;
        findings.check((ours.duration - theirs.duration).abs() <= CUT, &place, || {
            (
                format!("EXTINF {}", seconds(ours.duration)),
                format!("{} as in {name}", seconds(theirs.duration)),
            )
        });
        if let (Some(our_date), Some(their_date)) = (ours.begins, theirs.begins) {
            let off = (our_date - their_date) as f64 / 1000.0;
            findings.check(off.abs() <= CUT, &place, || {
                (format!("it begins {} off {name}", seconds(off)), format!("the date of {name}"))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::observation::ReportSeen;
    use crate::check_hls::rules::fixtures::{failures, good, next, seen};

    #[test]
    fn every_other_rendition_is_reported_once() {
        let others = [Url::parse("http://host/live/b.m3u8").unwrap()];
        let judged = |text: &str| {
            failures(one_report_each, &Observation::Siblings { seen: &seen(text), others: &others })
        };
        let good = good();
        assert_eq!(judged(&good), 0);
        assert_eq!(judged(&good.replace("URI=\"b.m3u8\"", "URI=\"http://host/live/b.m3u8\"")), 1);
        assert_eq!(judged(&good.replace("URI=\"b.m3u8\"", "URI=\"c.m3u8\"")), 1);
        let report = good.lines().find(|line| line.contains("REPORT")).unwrap().to_owned();
        assert_eq!(judged(&good.replace(&report, "")), 1);
        assert_eq!(judged(&good.replace(&report, &format!("{report}\n{report}"))), 1);
    }

    #[test]
    fn reports_tell_the_truth() {
        let own = seen(&good());
        let last = |msn, part| Last { msn, part };
        let judged = |last_msn, last_part| {
            let mut report = own.media.reports[0].clone();
            (report.last_msn, report.last_part) = (last_msn, last_part);
            let (before, after) = (Some(last(108, 4)), last(109, 1));
            let seen = ReportSeen { place: own.place.clone(), report, own: own.media.last(), before, after };
            failures(reports_right, &Observation::Report(&seen))
        };
        assert_eq!((judged(Some(109), Some(0)), judged(Some(108), Some(4)), judged(None, None)), (0, 0, 0));
        assert_eq!(
            (judged(Some(108), Some(3)), judged(Some(109), Some(2)), judged(Some(110), Some(0))),
            (1, 1, 1)
        );
    }

    #[test]
    fn renditions_run_beside_each_other() {
        let one = seen(&good());
        let judged =
            |rule, other: &str| failures(rule, &Observation::Across { one: &one, other: &seen(other) });
        let good = good();
        assert_eq!((judged(shared_numbers, &next()), judged(dates_agree, &next())), (0, 0));
        assert_eq!(judged(shared_numbers, &good.replace("MEDIA-SEQUENCE:100", "MEDIA-SEQUENCE:90")), 1);
        assert_eq!(
            judged(shared_numbers, &good.replace("DISCONTINUITY-SEQUENCE:3", "DISCONTINUITY-SEQUENCE:2")),
            9
        );
        // Two more at once are too many, unless one of them is a gap.
        let further = |gap: &str| {
            let whole = "#EXTINF:1.0,\ns109.m4s\n#EXTINF:1.0,\ns110.m4s\n#EXT-X-PART:DURATION=0.2,URI=\"p111.0.m4s\",INDEPENDENT=YES\n";
            let (before, _) = good.split_once("#EXT-X-PART:DURATION=0.2,URI=\"p109.0").unwrap();
            format!("{before}{gap}{whole}")
        };
        assert_eq!(judged(shared_numbers, &further("")), 1);
        assert_eq!(judged(shared_numbers, &further("#EXT-X-GAP\n")), 0);
        assert_eq!(judged(dates_agree, &good.replace("T10:00:00.000Z", "T10:00:00.200Z")), 9);
        assert_eq!(judged(dates_agree, &good.replace("EXTINF:1.0,\ns108", "EXTINF:0.8,\ns108")), 1);
    }

    #[test]
    fn dates_and_parts_count_on() {
        let playlist = |text: &str| failures(dates_agree, &Observation::Playlist(&seen(text)));
        let dated = |date: &str| {
            good().replace(
                "#EXTINF:1.0,\ns105",
                &format!("#EXT-X-PROGRAM-DATE-TIME:2026-11-20T10:00:{date}Z\n#EXTINF:1.0,\ns105"),
            )
        };
        assert_eq!((playlist(&good()), playlist(&dated("05.3")), playlist(&dated("06.5"))), (0, 0, 1));
        let jump = dated("50").replace(
            "#EXT-X-PROGRAM-DATE-TIME:2026-11-20T10:00:50Z",
            "#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-20T10:00:50Z",
        );
        assert_eq!(playlist(&jump), 0);
        let closed = |duration: &str| {
            let head = good().split_once("#EXT-X-PRELOAD").unwrap().0.to_owned();
            let (before, after) = (seen(&good()), seen(&format!("{head}#EXTINF:{duration},\ns109.m4s\n")));
            failures(dates_agree, &Observation::Next { before: &before, after: &after })
        };
        assert_eq!((closed("0.4"), closed("0.5")), (0, 1));
    }
}
