//! Preload hints (4.4.5.3, 6.2.6).

use std::time::Duration;

use crate::check_hls::findings::Findings;
use crate::check_hls::observation::Observation;

/// A part that came in pieces over more than this is being dribbled, where it comes faster the second time.
const BURST: Duration = Duration::from_millis(100);

/// 19a. The part that comes next is the one that was hinted at. After a gap or a discontinuity plans may have changed.
pub(super) fn kept(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Next { before, after } = observation else { return };
    let Some(hint) = before.media.hints.iter().find(|hint| hint.kind == "PART") else { return };
    let Some((place, segment, part)) = after.media.parts_after(before.media.last()).next() else { return };
    // Where parts have left the list since, what is first now was not next then.
    let (msn, index) = before.media.next();
    let next = (place.msn, place.part) == (msn, index) || (place.msn, place.part) == (msn + 1, 0);
    if !next || part.gap || segment.gap || segment.discontinuity {
        return;
    }
    let start = part.range.map_or(0, |range| range.start);
    findings.check(
        hint.uri == part.uri && hint.start == start,
        &after.place.clone().line(part.line).last(place),
        || {
            (
                format!("{} from byte {start}", part.uri),
                format!("{} from byte {}, as was hinted", hint.uri, hint.start),
            )
        },
    );
}

/// 19b. One hint of each type, and none where nothing comes any more.
pub(super) fn at_most_one(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Playlist(seen) = observation else { return };
    let hints = &seen.media.hints;
    if hints.is_empty() {
        return;
    }
    let place = |line| seen.place.clone().line(line);
    if seen.media.end {
        findings.check(false, &place(hints[0].line), || {
            ("a hint and EXT-X-ENDLIST".to_owned(), "no hint".to_owned())
        });
    }
    for (index, hint) in hints.iter().enumerate() {
        let again = hints[..index].iter().any(|other| other.kind == hint.kind);
        findings.check(!again, &place(hint.line), || {
            (format!("a second hint of the type {}", hint.kind), "one of each type".to_owned())
        });
    }
}

/// 20a. A hinted part comes when it is ready, all of it, and then at the speed of the line.
pub(super) fn whole(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Hint(seen) = observation else { return };
    let wanted = format!("{} bytes in one go", seen.again.bytes);
    let fails = |saw: Option<String>| {
        findings.check(saw.is_none(), &seen.place, || (saw.unwrap_or_default(), wanted));
    };
    let first = match &seen.first {
        Ok(first) => first,
        Err(why) => return fails(Some(why.clone())),
    };
    let dribbled =
        first.took > BURST.max(seen.again.took * 3) && first.took.as_secs_f64() > seen.part_target / 3.0;
    fails(if (first.bytes, first.digest) != (seen.again.bytes, seen.again.digest) {
        Some(format!("{} bytes, not those that came later", first.bytes))
    } else if dribbled {
        Some(format!("bytes over {:.2} s", first.took.as_secs_f64()))
    } else {
        None
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::observation::{Burst, HintSeen, Place};
    use crate::check_hls::rules::fixtures::{failures, good, next, seen};

    #[test]
    fn the_hinted_part_comes() {
        let pair = |after: &str| {
            let (before, after) = (seen(&good()), seen(after));
            failures(kept, &Observation::Next { before: &before, after: &after })
        };
        let other = next().replace("p109.2.m4s\"\n", "other.m4s\"\n");
        assert_ne!(other, next());
        assert_eq!((pair(&next()), pair(&other)), (0, 1));
        let ranged = next().replace("p109.2.m4s\"\n", "p109.2.m4s\",BYTERANGE=\"5@5\"\n");
        assert_eq!(pair(&ranged), 1);
        // The segment ended early, and the publisher came back.
        let back = good().split_once("#EXT-X-PRELOAD").unwrap().0.to_owned()
            + "#EXTINF:0.4,\ns109.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-PART:DURATION=0.2,URI=\"new.m4s\"\n";
        assert_eq!((pair(&back), pair(&back.replace("#EXT-X-DISCONTINUITY\n", ""))), (0, 1));
    }

    #[test]
    fn hints_are_few() {
        let judged = |text: &str| failures(at_most_one, &Observation::Playlist(&seen(text)));
        let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x\"\n";
        assert_eq!(judged(&good()), 0);
        assert_eq!(judged(&format!("{}#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"x\"\n", good())), 0);
        assert_eq!(judged(&format!("{}{hint}", good())), 1);
        assert_eq!(judged(&format!("{}#EXT-X-ENDLIST\n", good())), 1);
    }

    #[test]
    fn a_hinted_part_comes_whole() {
        let burst = |bytes, took| Burst { bytes, digest: bytes as u64, took: Duration::from_millis(took) };
        let judged = |first| {
            let seen = HintSeen { place: Place::default(), first, again: burst(100, 2), part_target: 0.2 };
            failures(whole, &Observation::Hint(&seen))
        };
        assert_eq!(judged(Ok(burst(100, 20))), 0);
        assert_eq!(judged(Ok(burst(100, 150))), 1);
        assert_eq!(judged(Ok(burst(60, 2))), 1);
        assert_eq!(judged(Err("status 404".to_owned())), 1);
    }
}
