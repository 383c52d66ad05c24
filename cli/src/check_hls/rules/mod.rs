//! What a stream must do, one function an assertion, and the table of them all.
//!
//! Numbers are those of `docs/CHECK-HLS.md`. A rule looks at one observation at a time and remembers nothing; what it needs to
//! know of before is in the observation. So each is tested by two texts: one that is right, and one that breaks just that rule.

mod across;
mod blocking;
mod delta;
mod files;
mod hints;
mod limits;
mod parts;
mod samples;
mod transport;

#[cfg(test)]
pub(super) mod fixtures;

use super::findings::Findings;
use super::observation::Observation;

/// An assertion.
pub(super) struct Rule {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    /// What a stream must have for the rule to be about it.
    pub(super) about: About,
    pub(super) check: fn(&Observation<'_>, &mut Findings),
}

/// Streams that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum About {
    Any,
    Live,
    Parts,
    Blocking,
    DeltaUpdates,
    HoldBack,
    Directives,
    SeveralRenditions,
    LowLatencyRenditions,
    FragmentedMp4,
    PartsOfMp4,
    Tls,
}

impl About {
    /// Why a rule is not applicable where the stream is not of this kind.
    pub(super) fn missing(self) -> &'static str {
        match self {
            Self::Any => "nothing was seen",
            Self::Live => "the stream is not live",
            Self::Parts => "the stream has no parts",
            Self::Blocking => "the stream does not offer CAN-BLOCK-RELOAD",
            Self::DeltaUpdates => "the stream does not offer CAN-SKIP-UNTIL",
            Self::HoldBack => "the stream states no HOLD-BACK",
            Self::Directives => "the stream offers no delivery directives",
            Self::SeveralRenditions => "only one rendition was watched",
            Self::LowLatencyRenditions => "there are no two renditions with parts",
            Self::FragmentedMp4 => "no samples could be seen: nothing is clear fragmented MP4",
            Self::PartsOfMp4 => "no samples of parts could be seen: none is clear fragmented MP4",
            Self::Tls => "the stream came without TLS",
        }
    }
}

const fn rule(
    id: &'static str,
    name: &'static str,
    about: About,
    check: fn(&Observation<'_>, &mut Findings),
) -> Rule {
    Rule { id, name, about, check }
}

/// All of them, in the order they are reported.
pub(super) const RULES: &[Rule] = &[
    rule("0a", "what is listed can be fetched", About::Any, files::fetchable),
    rule("0b", "what is fetched can be read", About::Any, files::readable),
    rule("1", "a part is no longer than PART-TARGET", About::Parts, parts::at_most_target),
    rule("2", "a part is at least 85 % of PART-TARGET", About::Parts, parts::at_least_most_of_target),
    rule(
        "3",
        "PART-TARGET, PART-HOLD-BACK and TARGETDURATION never change",
        About::Live,
        limits::never_change,
    ),
    rule("4", "PART-HOLD-BACK is at least 3 x PART-TARGET", About::Parts, limits::part_hold_back),
    rule("5", "HOLD-BACK is at least 3 x TARGETDURATION", About::HoldBack, limits::hold_back),
    rule("6", "a segment rounds to TARGETDURATION at most", About::Any, limits::segment_length),
    rule("7", "CAN-SKIP-UNTIL is at least 6 x TARGETDURATION", About::DeltaUpdates, limits::skip_boundary),
    rule("8", "_HLS_skip is answered with one EXT-X-SKIP", About::DeltaUpdates, delta::one_skip),
    rule("9a", "a delta update merged is the full playlist", About::DeltaUpdates, delta::merges),
    rule("9b", "skipped segments lie beyond the skip boundary", About::DeltaUpdates, delta::beyond_boundary),
    rule("10", "EXT-X-VERSION is high enough for EXT-X-SKIP", About::DeltaUpdates, delta::version),
    rule("11", "directives are ignored after ENDLIST", About::Directives, blocking::ignored_after_end),
    rule("12", "_HLS_msn with _HLS_part is never answered early", About::Blocking, blocking::part_not_early),
    rule("13", "_HLS_msn alone waits for the whole segment", About::Blocking, blocking::whole_segment),
    rule(
        "14",
        "a part beyond the last is part 0 of the next segment",
        About::Blocking,
        blocking::beyond_last_part,
    ),
    rule("15", "an old _HLS_msn is answered at once", About::Blocking, blocking::old_at_once),
    rule("16", "_HLS_part without _HLS_msn is 400", About::Blocking, blocking::part_alone),
    rule("17a", "an _HLS_msn too far ahead is 400", About::Blocking, blocking::far_segment),
    rule("17b", "an _HLS_part too far ahead is 400", About::Blocking, blocking::far_part),
    rule("18", "a stalled request is 503 after 3 x TARGETDURATION", About::Blocking, blocking::stalled),
    rule("19a", "a hinted part is the part that comes", About::Parts, hints::kept),
    rule("19b", "one hint of a TYPE, and none after ENDLIST", About::Parts, hints::at_most_one),
    rule("20a", "a hinted part blocks, then comes whole", About::Parts, hints::whole),
    rule("20b", "a part that does not exist is 404", About::Parts, files::unknown),
    rule(
        "21a",
        "one rendition report for each other rendition",
        About::LowLatencyRenditions,
        across::one_report_each,
    ),
    rule("21b", "rendition reports are right", About::LowLatencyRenditions, across::reports_right),
    rule("22a", "parts make up their segment", About::PartsOfMp4, samples::parts_make_segment),
    rule("22b", "decode times are continuous", About::FragmentedMp4, samples::continuous),
    rule("23a", "INDEPENDENT parts start with a sync sample", About::PartsOfMp4, samples::independent),
    rule("23b", "tags precede the first part they govern", About::Parts, parts::tags_first),
    rule("24a", "parts leave the playlist after 3 x TARGETDURATION", About::Parts, parts::leave),
    rule("24b", "parts that left can be had 3 x TARGETDURATION more", About::Parts, files::departed),
    rule("24c", "a new part shows up within PART-TARGET", About::Blocking, parts::punctual),
    rule("25a", "numbers never decrease, and what is listed stays", About::Live, limits::only_forward),
    rule(
        "25b",
        "renditions share numbers and discontinuities",
        About::SeveralRenditions,
        across::shared_numbers,
    ),
    rule("25c", "dates and durations agree", About::Any, across::dates_agree),
    rule("T1", "HTTP/2 where there is TLS", About::Tls, transport::http2),
    rule("T2", "playlists are compressed with gzip", About::Any, transport::gzip),
    rule("T3", "pages of other sites may read the answers", About::Any, transport::cors),
    rule("T4", "caches are told what may be kept", About::Any, transport::caching),
    rule("T5", "no cookies, and the same URLs for every viewer", About::Any, transport::for_everybody),
];

/// Seconds for people: at most three decimals.
fn seconds(value: f64) -> String {
    let text = format!("{value:.3}");
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Decimal fractions are rounded in playlists; that much is let pass, in seconds.
const ROUNDING: f64 = 0.001;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_documentation_lists_every_rule() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CHECK-HLS.md")).unwrap();
        let listed: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .map(|(id, rest)| (id, rest.split(" | ").next().unwrap().trim_end_matches(" |")))
            .collect();
        let there: Vec<(&str, &str)> = RULES.iter().map(|rule| (rule.id, rule.name)).collect();
        assert_eq!(listed, there);
        assert_eq!(there.iter().map(|(id, _)| id).collect::<HashSet<_>>().len(), RULES.len());
    }
}
