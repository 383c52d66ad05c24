//! The playlists of the stand-in, with whatever is to be wrong with them.

use std::fmt::Write as _;

use super::timeline::{PART, Segment, Timeline};
use super::{Fault, Form};

/// Segments in the window.
const WINDOW: usize = 10;
/// Parts that are listed before the open segment, at least nearly: three target durations of one second.
const PARTS: u64 = 15;

/// The multivariant playlist.
pub fn multivariant() -> String {
    "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"sound\",NAME=\"sound\",URI=\"a.m3u8\"\n\
     #EXT-X-STREAM-INF:BANDWIDTH=100000,CODECS=\"avc1.640028\",AUDIO=\"sound\"\nv.m3u8\n"
        .to_owned()
}

/// What is asked of a media playlist.
pub struct Wanted<'w> {
    /// `v` or `a`.
    pub rendition: &'w str,
    pub skip: bool,
    pub form: Form,
    pub fault: Option<Fault>,
    /// Counts the changes of the timeline.
    pub version: u64,
}

/// The first segment that has its parts listed.
pub fn first_with_parts(timeline: &Timeline) -> u64 {
    timeline.open().msn.saturating_sub(PARTS / timeline.parts_per_segment)
}

pub fn media(timeline: &Timeline, wanted: &Wanted<'_>) -> String {
    let Wanted { rendition, fault, .. } = *wanted;
    let is = |which| fault == Some(which);
    let low_latency = wanted.form == Form::LowLatency;
    let ahead = if is(Fault::RenditionsApart) && rendition == "a" { 3 } else { 0 };
    let whole: Vec<&Segment> = timeline.segments.iter().filter(|segment| segment.whole).collect();
    // With `BackAgain` segments come back that had left.
    let window = WINDOW + if is(Fault::BackAgain) && wanted.version % 4 < 2 { 2 } else { 0 };
    let window = if wanted.form == Form::Recording { whole.len() } else { window };
    let listed = &whole[whole.len().saturating_sub(window)..];
    let gone = &whole[..whole.len() - listed.len()];
    let mut out = String::new();
    let mut put = |line: &str| writeln!(out, "{line}").unwrap();
    put("#EXTM3U");
    let skipped =
        if wanted.skip && !is(Fault::NoSkip) { if is(Fault::SkipTooMuch) { 6 } else { 3 } } else { 0 };
    put(&format!("#EXT-X-VERSION:{}", if skipped > 0 && is(Fault::OldVersion) { 8 } else { 9 }));
    put("#EXT-X-TARGETDURATION:1");
    if low_latency {
        put(&server_control(fault));
        let target = match fault {
            Some(Fault::PartsTooLong) => "0.19",
            Some(Fault::PartsTooShort) => "0.24",
            Some(Fault::TargetChanges) if wanted.version % 8 > 3 => "0.21",
            _ => "0.2",
        };
        put(&format!("#EXT-X-PART-INF:PART-TARGET={target}"));
    }
    put(&format!("#EXT-X-MEDIA-SEQUENCE:{}", listed.first().map_or(0, |segment| segment.msn + ahead)));
    let discontinuities = gone.iter().filter(|segment| segment.discontinuity).count();
    put(&format!("#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}"));
    if wanted.form == Form::Recording {
        put("#EXT-X-PLAYLIST-TYPE:VOD");
    }
    let ended = timeline.ended;
    if skipped > 0 {
        put(&format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
        if is(Fault::TwoSkips) {
            put("#EXT-X-SKIP:SKIPPED-SEGMENTS=0");
        }
    }
    let mut publisher = None;
    let open = [timeline.open()];
    for (index, segment) in listed.iter().copied().chain(open).enumerate() {
        let known = publisher.replace(segment.publisher) == Some(segment.publisher);
        if index < skipped || !segment.whole && (!low_latency || ended) {
            continue;
        }
        let msn = segment.msn + ahead;
        let mut tags = vec![];
        if segment.discontinuity {
            tags.push("#EXT-X-DISCONTINUITY".to_owned());
        }
        // One would be enough for as long as it applies, and what is skipped takes its tags with it.
        if !known {
            tags.push(format!("#EXT-X-MAP:URI=\"{rendition}-init-{}.mp4\"", segment.publisher));
        }
        let off = if is(Fault::DatesOff) && rendition == "a" { 500 } else { 0 } + ahead * 1000;
        tags.push(format!("#EXT-X-PROGRAM-DATE-TIME:{}", date(segment.begins + off)));
        let mut parts: Vec<String> = vec![];
        let with_parts = segment.msn >= first_with_parts(timeline) || is(Fault::PartsStay);
        if low_latency && !ended && !segment.gap && with_parts {
            parts.extend((0..segment.parts).map(|part| {
                let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
                format!("#EXT-X-PART:DURATION={PART},URI=\"{rendition}-{msn}.{part}.m4s\"{independent}")
            }));
        }
        if is(Fault::TagsBehindParts) && !parts.is_empty() {
            parts.insert(1, tags.pop().unwrap());
        }
        if segment.parts > 0 || segment.whole {
            tags.iter().chain(&parts).for_each(|line| put(line));
        }
        if segment.whole {
            if segment.gap {
                put("#EXT-X-GAP");
            }
            put(&format!("#EXTINF:{:.3},", segment.parts as f64 * PART));
            let lie = is(Fault::DeltaLies) && skipped > 0 && index == 8;
            let renamed = is(Fault::Renames) && index < 8;
            let suffix = if lie || renamed { "?other" } else { "" };
            put(&format!("{rendition}-{msn}.m4s{suffix}"));
        }
    }
    if ended {
        if is(Fault::HintAfterEnd) {
            put("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x.m4s\"");
        }
        put("#EXT-X-ENDLIST");
    } else if low_latency {
        edge(&mut put, timeline, wanted, ahead);
    }
    out
}

/// What stands at the end of a low-latency playlist.
fn edge(put: &mut impl FnMut(&str), timeline: &Timeline, wanted: &Wanted<'_>, ahead: u64) {
    let Wanted { rendition, fault, .. } = *wanted;
    let open = timeline.open();
    let name = if fault == Some(Fault::HintElsewhere) { "x-" } else { "" };
    let hint = |part| {
        format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}{rendition}-{}.{part}.m4s\"", open.msn + ahead)
    };
    put(&hint(open.parts));
    if fault == Some(Fault::TwoHints) {
        put(&hint(open.parts + 1));
    }
    let other = if rendition == "v" { "a" } else { "v" };
    let (mut msn, part) = match open.parts {
        0 => (open.msn - 1, timeline.segment(open.msn - 1).unwrap().parts - 1),
        parts => (open.msn, parts - 1),
    };
    if fault == Some(Fault::RenditionsApart) && other == "a" {
        msn += 3;
    }
    match fault {
        Some(Fault::NoReports) => return,
        Some(Fault::ReportsBehind) => msn -= 2,
        Some(Fault::ReportsAhead) => msn += 2,
        _ => {}
    }
    put(&format!("#EXT-X-RENDITION-REPORT:URI=\"{other}.m3u8\",LAST-MSN={msn},LAST-PART={part}"));
}

fn server_control(fault: Option<Fault>) -> String {
    let skip = match fault {
        Some(Fault::SkipBoundaryNear) => "CAN-SKIP-UNTIL=5.0,",
        Some(Fault::BackAgain) => "",
        _ => "CAN-SKIP-UNTIL=6.0,",
    };
    let part_hold_back = match fault {
        Some(Fault::PartHoldBackShort) => 0.5,
        Some(Fault::PartsTooShort | Fault::TargetChanges) => 0.72,
        _ => 0.6,
    };
    let hold_back = if fault == Some(Fault::HoldBackShort) { 2.0 } else { 3.0 };
    format!(
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,{skip}PART-HOLD-BACK={part_hold_back},HOLD-BACK={hold_back}"
    )
}

fn date(milliseconds: u64) -> String {
    let (seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
    format!("2026-11-20T10:{:02}:{:02}.{milliseconds:03}Z", seconds / 60, seconds % 60)
}
