//! The DASH manifest of a broadcast: whole segments, a period for each uninterrupted stretch of a run (ISO/IEC 23009-1, 5.3.2).
//!
//! The timeline of the manifest is that of the broadcast, so a segment keeps its time whatever leaves the window before it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::names::LiveFile;
use super::presented::presented;
use super::window::{Run, Segment, Track, Window};
use crate::media::dash::{Files, Manifest, ManifestKind, Period, Timeline};
use crate::media::hls::Ticks;
use crate::media::presentation::{self, Presented};

/// Ticks a second of the starts of periods.
const MICROS: u32 = 1_000_000;

/// What is listed, as it is at `now`; `None` before there is a whole segment.
pub fn manifest(window: &Window, now: DateTime<Utc>) -> Option<Manifest> {
    let periods: Vec<Period> = stretches(window).into_iter().filter_map(|it| period(window, &it)).collect();
    if periods.is_empty() {
        return None;
    }
    // What players followed is told to them as what they may now play to its end.
    let kind = if window.ended {
        ManifestKind::Static
    } else {
        ManifestKind::Live {
            available_from: DateTime::from_timestamp_micros(window.started).unwrap_or_default(),
            published: now,
            window: (!window.whole).then_some(window.plan.window_seconds),
            target_duration: window.plan.cadence.target_duration,
        }
    };
    Some(Manifest { kind, periods })
}

/// Numbers of segments that follow each other on all tracks, made by one run.
struct Stretch {
    epoch: u32,
    numbers: std::ops::Range<u64>,
    /// There was none of its run before it, as far as is listed.
    is_first: bool,
}

/// A stretch ends where its run does, and with a segment that a track has not got or that is left out.
fn stretches(window: &Window) -> Vec<Stretch> {
    let listed = || window.tracks.iter().flat_map(|track| &track.segments);
    // A track that its run has no part in has nothing else, and is left out instead.
    let lacks = |track: usize, segment: &Segment| {
        segment.gap && window.run(segment.epoch).is_none_or(|run| run.codec(track).is_some())
    };
    let gaps: BTreeSet<u64> = window
        .tracks
        .iter()
        .enumerate()
        .flat_map(|(place, track)| track.segments.iter().filter(move |segment| lacks(place, segment)))
        .map(|segment| segment.number)
        .collect();
    let numbers: BTreeSet<(u64, u32)> = listed().map(|segment| (segment.number, segment.epoch)).collect();
    let mut found: Vec<Stretch> = vec![];
    for (number, epoch) in numbers {
        let of_run = found.last().is_some_and(|last| last.epoch == epoch);
        // A recording may leave numbers out: segments are named by counting.
        let joins =
            |last: &&mut Stretch| last.numbers.end == number && !gaps.contains(&number.wrapping_sub(1));
        match found.last_mut().filter(|_| of_run).filter(joins) {
            Some(last) => last.numbers.end = number + 1,
            None => found.push(Stretch { epoch, numbers: number..number + 1, is_first: !of_run }),
        }
    }
    found
}

fn period(window: &Window, stretch: &Stretch) -> Option<Period> {
    let run = window.run(stretch.epoch)?;
    let of_track = |track: &Track| -> Vec<Segment> {
        let within = track.segments.iter().filter(|segment| stretch.numbers.contains(&segment.number));
        within.filter(|segment| !segment.gap).cloned().collect()
    };
    let start = if stretch.is_first { run.began } else { None };
    let first = |track: &Track| {
        let start = of_track(track).first()?.start;
        Some(start * u64::from(MICROS) / u64::from(track.timescale.max(1)))
    };
    let start = start.or_else(|| window.tracks.iter().filter_map(first).min())?;
    let renditions = presented(&window.plan, &run.codecs).into_iter().filter_map(|presented| {
        let (_, track) = window.track(&presented.name)?;
        let timeline = timeline(run, track, &of_track(track), start)?;
        Some((presented, timeline))
    });
    let sets = presentation::sets(renditions.collect::<Vec<(Presented, Timeline)>>());
    let id = match stretch.is_first {
        true => run.epoch.to_string(),
        false => format!("{}.{}", run.epoch, stretch.numbers.start),
    };
    (!sets.is_empty()).then_some(Period { id, start: Ticks { ticks: start, timescale: MICROS }, sets })
}

fn timeline(run: &Run, track: &Track, segments: &[Segment], period_start: u64) -> Option<Timeline> {
    let first = segments.first()?;
    let timescale = track.timescale;
    // To the nearest tick.
    let period_start = (u128::from(period_start) * u128::from(timescale) * 2 + u128::from(MICROS))
        / (2 * u128::from(MICROS));
    Some(Timeline {
        timescale,
        first_number: first.number,
        first_start: first.start,
        period_start: u64::try_from(period_start).ok()?,
        durations: segments.iter().map(|segment| segment.ticks).collect(),
        files: Files::Template {
            init: LiveFile::Init { track: track.name.clone(), epoch: run.epoch }.to_string(),
            media: format!("{}-$Number$.m4s", track.name),
        },
    })
}
