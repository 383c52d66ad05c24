//! What of a broadcast is listed at a moment. The origin writes it, edges keep a copy by the same updates, so both render the
//! same playlists.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::plan::LivePlan;

/// All that playlists of a broadcast say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub plan: LivePlan,
    /// What its objects' names in the store begin with; an epoch comes behind it.
    pub place: String,
    /// The moment of tick zero of every track, in microseconds since 1970.
    pub started: i64,
    /// Runs that listed segments belong to, oldest first.
    pub runs: Vec<Run>,
    /// In the order of [`LivePlan::tracks`].
    pub tracks: Vec<Track>,
    /// Nothing comes any more.
    pub ended: bool,
    /// It is listed from its beginning, and nothing leaves.
    #[serde(default)]
    pub whole: bool,
}

/// One publisher, one FFmpeg: what joins without a discontinuity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub epoch: u32,
    /// How many runs of the broadcast came before it.
    pub ordinal: u32,
    pub first_number: u64,
    /// Codecs by RFC 6381, in the order of the tracks; empty where a track was dropped: it has gaps only.
    pub codecs: Vec<String>,
    /// Where its first segment begins, in microseconds from tick zero; `None` where that has been forgotten.
    #[serde(default)]
    pub began: Option<u64>,
}

impl Run {
    /// The codec of a track, by its place; `None` where it was dropped.
    pub fn codec(&self, track: usize) -> Option<&str> {
        self.codecs.get(track).map(String::as_str).filter(|codec| !codec.is_empty())
    }
}

/// One track of the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    pub name: String,
    pub timescale: u32,
    /// Whole segments, oldest first; their numbers follow each other, but where a recording leaves some out.
    pub segments: VecDeque<Segment>,
    /// The one that grows.
    pub open: Option<Segment>,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub number: u64,
    pub epoch: u32,
    /// In ticks of the track.
    pub start: u64,
    pub ticks: u64,
    /// Nobody has it: it was lost with its worker.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
    /// How many parts it was made of.
    pub part_count: u32,
    /// Those that are still listed: all of them, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

impl Segment {
    /// Where the next one begins.
    pub fn end(&self) -> u64 {
        self.start + self.ticks
    }
}

/// A part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub ticks: u32,
    pub independent: bool,
}

/// One thing that happened. What an origin tells its edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// A run begins: what follows is its.
    Run(Run),
    /// A part can be had. With the last of a segment the segment is whole: no version of a playlist lies between.
    Part { track: usize, number: u64, epoch: u32, segment_start: u64, part: Part, closes: bool },
    /// The growing segment of a track is whole, earlier than planned.
    Closed { track: usize, number: u64 },
    /// A number that was given out, and that nobody has.
    Gap { track: usize, number: u64, epoch: u32, start: u64, ticks: u64 },
    /// The broadcast is over.
    Ended,
}

/// A line of the feed that an origin gives its edges: first all there is, then what happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    Window(Box<Window>),
    Update(Update),
    /// Nothing happened for a while.
    Alive,
}

/// Parts are listed for so many target durations, and can be fetched for as many again (rfc8216bis, 4.4.4.9).
pub const PARTS_LISTED: u64 = 3;

/// What a request for a version of a playlist that may not be there yet comes to (rfc8216bis, 6.2.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It is there.
    Ready,
    /// It is yet to come.
    Later,
    /// It is too far ahead to be waited for.
    TooFar,
}

impl Window {
    /// The window of a broadcast that begins.
    pub fn new(plan: LivePlan, place: String, started: i64) -> Self {
        let tracks = plan
            .tracks()
            .map(|name| Track {
                name: name.to_owned(),
                timescale: plan.timescale(name).unwrap_or(1),
                segments: VecDeque::new(),
                open: None,
            })
            .collect();
        Self { plan, place, started, runs: vec![], tracks, ended: false, whole: false }
    }

    /// Takes what happened. What does not fit (a track there is none of, a segment that is not open) changes nothing.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Run(run) => self.runs.push(run),
            Update::Part { track, number, epoch, segment_start, part, closes } => {
                let Some(track) = self.tracks.get_mut(track) else { return };
                let open = track.open.get_or_insert_with(|| Segment {
                    number,
                    epoch,
                    start: segment_start,
                    ticks: 0,
                    gap: false,
                    part_count: 0,
                    parts: vec![],
                });
                open.ticks += u64::from(part.ticks);
                open.part_count += 1;
                open.parts.push(part);
                if closes {
                    track.segments.extend(track.open.take());
                    self.trim();
                }
            }
            Update::Closed { track, number } => {
                let Some(list) = self.tracks.get_mut(track) else { return };
                if list.open.as_ref().is_some_and(|open| open.number == number) {
                    list.segments.extend(list.open.take());
                }
                self.trim();
            }
            Update::Gap { track, number, epoch, start, ticks } => {
                let Some(list) = self.tracks.get_mut(track) else { return };
                list.segments.push_back(Segment {
                    number,
                    epoch,
                    start,
                    ticks,
                    gap: true,
                    part_count: 0,
                    parts: vec![],
                });
                self.trim();
            }
            Update::Ended => self.ended = true,
        }
    }

    /// The track of this name, with its place.
    pub fn track(&self, name: &str) -> Option<(usize, &Track)> {
        self.tracks.iter().enumerate().find(|(_, track)| track.name == name)
    }

    /// The run that made a segment.
    pub fn run(&self, epoch: u32) -> Option<&Run> {
        self.runs.iter().find(|run| run.epoch == epoch)
    }

    /// How long its playlists say that it is.
    pub fn seconds(&self) -> f64 {
        let of = |track: &Track| {
            let ticks: u64 = track.segments.iter().map(|segment| segment.ticks).sum();
            ticks as f64 / f64::from(track.timescale.max(1))
        };
        self.tracks.iter().map(of).fold(0.0, f64::max)
    }

    /// Whether the present run has a track, by its place: one that was dropped does not come back.
    pub fn goes_on(&self, track: usize) -> bool {
        self.runs.last().is_none_or(|run| run.codec(track).is_some())
    }

    /// Something can be watched.
    pub fn is_playable(&self) -> bool {
        self.tracks.iter().all(|track| track.open.is_some() || !track.segments.is_empty())
    }

    /// Forgets what is no longer listed.
    pub fn trim(&mut self) {
        let target = u64::from(self.plan.cadence.target_duration);
        // Nothing may leave that is needed to hold back from the end.
        let window = u64::from(self.plan.window_seconds).max(3 * target);
        // All tracks leave out the same segments, or their sequence numbers would disagree: what the one that is behind may.
        let first = self.tracks.iter().map(|track| track.first_within(window)).min().flatten();
        for track in &mut self.tracks {
            while track
                .segments
                .front()
                .is_some_and(|segment| first.is_some_and(|first| segment.number < first))
            {
                track.segments.pop_front();
            }
            let reach = PARTS_LISTED * target * u64::from(track.timescale);
            let old = track.ending_beyond(reach.saturating_sub(1));
            track.segments.iter_mut().take(old).for_each(|segment| segment.parts = vec![]);
        }
        let oldest = self.tracks.iter().filter_map(|track| track.segments.front()).map(|s| s.epoch).min();
        self.runs.retain(|run| oldest.is_none_or(|oldest| run.epoch >= oldest));
    }
}

impl Track {
    /// Where what is there ends, in ticks.
    pub fn end(&self) -> u64 {
        self.open.as_ref().or(self.segments.back()).map_or(0, Segment::end)
    }

    /// The newest part that is there: its segment and its place in it. A segment without parts counts as its last.
    pub fn last_part(&self) -> Option<(u64, u32)> {
        let newest = self.open.as_ref().or(self.segments.back())?;
        Some((newest.number, newest.part_count.saturating_sub(1)))
    }

    /// Whether the newest segment is made of parts.
    pub fn is_in_parts(&self) -> bool {
        self.open.as_ref().or(self.segments.back()).is_some_and(|newest| newest.part_count > 0)
    }

    /// The part that comes next, where the run goes on.
    pub fn next_part(&self) -> (u64, u32) {
        match (&self.open, self.segments.back()) {
            (Some(open), _) => (open.number, open.part_count),
            (None, Some(last)) => (last.number + 1, 0),
            (None, None) => (0, 0),
        }
    }

    /// A segment that is listed, growing or not.
    pub fn segment(&self, number: u64) -> Option<&Segment> {
        let whole = self.segments.binary_search_by_key(&number, |segment| segment.number);
        let whole = whole.ok().and_then(|place| self.segments.get(place));
        whole.or(self.open.as_ref()).filter(|segment| segment.number == number)
    }

    /// Whether a playlist with segment `msn`, or its part `part`, can be had. `part_target` in microseconds.
    pub fn wait_for(&self, msn: u64, part: Option<u32>, part_target: u64) -> Wait {
        let Some((last, last_part)) = self.last_part() else { return Wait::Later };
        if msn > last + 2 {
            return Wait::TooFar;
        }
        let whole = self.segments.back().map(|segment| segment.number);
        let is_whole = |number: u64| whole.is_some_and(|whole| number <= whole);
        let Some(part) = part else {
            return if is_whole(msn) { Wait::Ready } else { Wait::Later };
        };
        // A part beyond the last of a whole segment is the first of the next.
        let (msn, part) = match self.segment(msn) {
            Some(segment) if is_whole(msn) && part >= segment.part_count => (msn + 1, 0),
            _ => (msn, part),
        };
        if is_whole(msn) || (msn, part) < self.next_part() {
            return Wait::Ready;
        }
        // Three seconds of parts, or three of them where they are longer than a second.
        let limit = if part_target < 1_000_000 { 3_000_000 / part_target.max(1) } else { 3 };
        let ahead = if msn == last { u64::from(part.saturating_sub(last_part)) } else { u64::from(part) };
        if ahead > limit { Wait::TooFar } else { Wait::Later }
    }

    /// The first segment that begins within `seconds` of the end; `None` before there is one.
    fn first_within(&self, seconds: u64) -> Option<u64> {
        let reach = seconds * u64::from(self.timescale);
        let mut behind = self.open.as_ref().map_or(0, |open| open.ticks);
        let within = self.segments.iter().rev().take_while(|segment| {
            behind += segment.ticks;
            behind <= reach
        });
        let first = self.segments.len().checked_sub(within.count().max(1))?;
        self.segments.get(first).map(|segment| segment.number)
    }

    /// How many segments end further than so many ticks from the end. Holes between runs are not listed, so they do not count.
    pub fn ending_beyond(&self, ticks: u64) -> usize {
        let mut behind = self.open.as_ref().map_or(0, |open| open.ticks);
        let within = self.segments.iter().rev().take_while(|segment| {
            let near = behind <= ticks;
            behind += segment.ticks;
            near
        });
        self.segments.len() - within.count()
    }
}
