//! The media playlist of a live track: parts, delta updates, hints and reports (draft-pantos-hls-rfc8216bis).

use std::fmt::Write as _;

use super::names::LiveFile;
use super::window::{Segment, Track, Window};
use crate::media::hls::date_time;

/// Which form of a playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    Full,
    /// Without the segments that whoever asks has seen (`_HLS_skip=YES`).
    Delta,
}

/// Segments further than so many target durations from the end may be skipped: the least the draft allows (4.4.3.8).
const SKIP_UNTIL: u64 = 6;
/// EXT-X-SKIP needs 9 (rfc8216bis, section 8).
const VERSION: u32 = 9;
const VERSION_WITHOUT_SKIP: u32 = 7;

/// Writes the playlist of a track; `None` where there is no such track, or nothing of it yet.
pub fn media(window: &Window, track: &str, form: Form) -> Option<String> {
    let (place, track) = window.track(track)?;
    let first = track.segments.front().or(track.open.as_ref())?;
    let low_latency = window.plan.low_latency;
    // Nobody waits for parts of what is over, and they lie nowhere but in the memory of whoever made them.
    let in_parts = low_latency && !window.ended;
    let cadence = &window.plan.cadence;
    let target = cadence.target_duration;
    let skipped = match form {
        // After the end there is nothing to update.
        Form::Delta if in_parts => skippable(track, target),
        _ => 0,
    };
    let listed = track.segments.len() - skipped;
    let mut out = String::with_capacity(512 + listed * 160);
    // Writing to a String cannot fail, so the results of `write!` are dropped.
    let version = if low_latency { VERSION } else { VERSION_WITHOUT_SKIP };
    let _ = write!(out, "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}\n");
    if low_latency {
        let _ = writeln!(
            out,
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={},HOLD-BACK={},CAN-SKIP-UNTIL={}",
            seconds(cadence.part_hold_back()),
            3 * target,
            SKIP_UNTIL * u64::from(target),
        );
        let _ = writeln!(out, "#EXT-X-PART-INF:PART-TARGET={}", seconds(cadence.part_target));
    }
    let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{}", first.number);
    // A discontinuity stays before its segment until that leaves.
    let begun = window.run(first.epoch).map_or(0, |run| run.ordinal);
    let gone = begun - u32::from(begun > 0 && is_seam(window, first));
    if gone > 0 {
        let _ = writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{gone}");
    }
    match (window.whole, window.ended) {
        (true, true) => out.push_str("#EXT-X-PLAYLIST-TYPE:VOD\n"),
        (true, false) => out.push_str("#EXT-X-PLAYLIST-TYPE:EVENT\n"),
        (false, _) => {}
    }
    out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    if skipped > 0 {
        let _ = writeln!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
    }
    let mut before = skipped.checked_sub(1).and_then(|last| track.segments.get(last));
    for segment in track.segments.iter().skip(skipped) {
        head(&mut out, window, (place, track), segment, before);
        before = Some(segment);
        if in_parts {
            parts(&mut out, track, segment);
        }
        whole(&mut out, track, segment);
    }
    if let Some(open) = track.open.as_ref().filter(|_| in_parts) {
        head(&mut out, window, (place, track), open, before);
        parts(&mut out, track, open);
    }
    if window.ended {
        out.push_str("#EXT-X-ENDLIST\n");
    } else if low_latency {
        tail(&mut out, window, (place, track));
    }
    Some(out)
}

/// How many segments end further from the end than the skip boundary.
fn skippable(track: &Track, target: u32) -> usize {
    let boundary = SKIP_UNTIL * u64::from(target) * u64::from(track.timescale);
    track.ending_beyond(boundary)
}

/// Another run ended before it.
fn is_seam(window: &Window, segment: &Segment) -> bool {
    window.run(segment.epoch).is_some_and(|run| run.ordinal > 0 && run.first_number == segment.number)
}

/// What stands before the first part of a segment: what it depends on, and its date.
fn head(
    out: &mut String,
    window: &Window,
    (place, track): (usize, &Track),
    segment: &Segment,
    before: Option<&Segment>,
) {
    let left_out = before.is_some_and(|before| before.number + 1 != segment.number);
    if left_out || is_seam(window, segment) {
        out.push_str("#EXT-X-DISCONTINUITY\n");
    }
    // A run that the track has no part in has no description of it, and nothing there is to be decoded.
    let described = !segment.gap || window.run(segment.epoch).is_none_or(|run| run.codec(place).is_some());
    if before.map(|before| before.epoch) != Some(segment.epoch) && described {
        let init = LiveFile::Init { track: track.name.clone(), epoch: segment.epoch };
        let _ = writeln!(out, "#EXT-X-MAP:URI=\"{init}\"");
    }
    let micros = u128::from(segment.start) * 1_000_000 / u128::from(track.timescale.max(1));
    let date = window.started.saturating_add(i64::try_from(micros).unwrap_or(i64::MAX));
    let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", date_time(date));
}

fn parts(out: &mut String, track: &Track, segment: &Segment) {
    for (part, index) in segment.parts.iter().zip(0..) {
        let uri = LiveFile::Part { track: track.name.clone(), number: segment.number, part: index };
        let duration = decimal(u64::from(part.ticks), track.timescale);
        let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
        let _ = writeln!(out, "#EXT-X-PART:DURATION={duration},URI=\"{uri}\"{independent}");
    }
}

fn whole(out: &mut String, track: &Track, segment: &Segment) {
    if segment.gap {
        out.push_str("#EXT-X-GAP\n");
    }
    let uri = LiveFile::Segment { track: track.name.clone(), number: segment.number };
    let _ = writeln!(out, "#EXTINF:{},\n{uri}", decimal(segment.ticks, track.timescale));
}

/// What comes next, and how far the other tracks are.
fn tail(out: &mut String, window: &Window, (place, track): (usize, &Track)) {
    if window.goes_on(place) {
        let (number, part) = track.next_part();
        let hint = LiveFile::Part { track: track.name.clone(), number, part };
        let _ = writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{hint}\"");
    }
    // Those that were dropped, too: whoever read the multivariant playlist before knows of them.
    for other in window.tracks.iter().filter(|other| other.name != track.name) {
        let Some((msn, part)) = other.last_part() else { continue };
        let uri = LiveFile::Playlist { track: other.name.clone() };
        let _ = write!(out, "#EXT-X-RENDITION-REPORT:URI=\"{uri}\",LAST-MSN={msn}");
        // A gap of a rung that was dropped never had parts.
        let _ = if other.is_in_parts() { writeln!(out, ",LAST-PART={part}") } else { writeln!(out) };
    }
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1_000_000, micros % 1_000_000 / 1000)
}

fn decimal(ticks: u64, timescale: u32) -> String {
    crate::media::hls::decimal(ticks, timescale, 6)
}
