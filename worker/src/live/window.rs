//! The window of a broadcast that another worker carried before.

use std::collections::HashMap;

use reelmill_shared::db::live::{LiveSegment, OnAir, StoredWindow};
use reelmill_shared::media::live::window::{Run, Segment, Window};

/// What is listed of it: all that was stored, and gaps for the numbers that were given out and that nobody has. Gives those gaps,
/// too: they go into the index.
pub(crate) fn resumed(
    on_air: &OnAir,
    place: String,
    stored: &StoredWindow,
    next_sequence: u64,
) -> (Window, Vec<LiveSegment>) {
    let mut window = Window::new(on_air.plan.clone(), place, on_air.started_at.timestamp_micros());
    let names: Vec<String> = on_air.plan.tracks().map(str::to_owned).collect();
    window.runs = stored
        .runs
        .iter()
        .zip(0..)
        .map(|(run, ordinal)| Run {
            epoch: run.epoch,
            ordinal,
            first_number: run.first_number,
            codecs: names.iter().map(|name| codec(&run.inits, name)).collect(),
        })
        .collect();
    let mut by_track: HashMap<&str, Vec<_>> = HashMap::new();
    for segment in &stored.segments {
        by_track.entry(&segment.track).or_default().push(segment);
    }
    // Tracks list the same numbers: from where all of them have something, to what was given out last.
    let first = by_track.values().filter_map(|segments| segments.first()).map(|s| s.number).max();
    let mut lost = vec![];
    for track in &mut window.tracks {
        let segments = by_track.remove(track.name.as_str()).unwrap_or_default();
        let usual = on_air.plan.cadence.segment_seconds() * f64::from(track.timescale);
        for stored in segments {
            if first.is_some_and(|first| stored.number < first) {
                continue;
            }
            // A hole in the index is a gap, too.
            while let Some(last) = track.segments.back().filter(|last| last.number + 1 < stored.number) {
                let ticks = (stored.start_ticks.saturating_sub(last.start + last.ticks)
                    / (stored.number - last.number - 1))
                    .max(1);
                let gap = gap_after(last, ticks);
                lost.push(row(&track.name, &gap));
                track.segments.push_back(gap);
            }
            track.segments.push_back(Segment {
                number: stored.number,
                epoch: stored.epoch,
                start: stored.start_ticks,
                ticks: stored.ticks,
                gap: stored.gap,
                part_count: 1,
                parts: vec![],
            });
        }
        while let Some(last) = track.segments.back().filter(|last| last.number + 1 < next_sequence) {
            let gap = gap_after(last, usual.round() as u64);
            lost.push(row(&track.name, &gap));
            track.segments.push_back(gap);
        }
    }
    (window, lost)
}

fn gap_after(last: &Segment, ticks: u64) -> Segment {
    Segment {
        number: last.number + 1,
        epoch: last.epoch,
        start: last.start + last.ticks,
        ticks,
        gap: true,
        part_count: 0,
        parts: vec![],
    }
}

fn row(track: &str, gap: &Segment) -> LiveSegment {
    LiveSegment {
        track: track.to_owned(),
        number: gap.number,
        epoch: gap.epoch,
        key: String::new(),
        bytes: 0,
        start_ticks: gap.start,
        ticks: gap.ticks,
        gap: true,
    }
}

fn codec(inits: &serde_json::Value, track: &str) -> String {
    let codec = inits.get(track).and_then(|init| init.get("codec")).and_then(|codec| codec.as_str());
    codec.unwrap_or_default().to_owned()
}
