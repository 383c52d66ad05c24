//! Playlists as the checker sees them: what is in them, and the line each thing stands on.
//!
//! It reads more than a player would need and forgives less. Nothing here knows how this farm writes its playlists.

use std::fmt;

/// What kind of playlist it is.
#[derive(Debug)]
pub(super) enum Playlist {
    Multivariant(Multivariant),
    /// One that [`Media::parse`] reads.
    Media,
}

/// A playlist of playlists.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Multivariant {
    pub(super) renditions: Vec<Listed>,
}

/// A media playlist that a multivariant one names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listed {
    /// `NAME` of the tag, where it has one.
    pub(super) name: Option<String>,
    pub(super) uri: String,
    /// It lists I-frames alone.
    pub(super) i_frames: bool,
}

/// A media playlist.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Media {
    pub(super) version: u64,
    /// Seconds.
    pub(super) target_duration: u64,
    pub(super) media_sequence: u64,
    pub(super) discontinuity_sequence: u64,
    /// Seconds; there is one where the playlist has parts.
    pub(super) part_target: Option<f64>,
    pub(super) control: Control,
    pub(super) skips: Vec<Skip>,
    pub(super) segments: Vec<Segment>,
    /// The segment that is still being made: its number, and the parts and tags that are there.
    pub(super) open: Segment,
    pub(super) hints: Vec<Hint>,
    pub(super) reports: Vec<Report>,
    /// `EXT-X-ENDLIST`.
    pub(super) end: bool,
    /// Lines about the playlist as a whole that must stand in a delta update too.
    pub(super) head: Vec<String>,
    pub(super) date_ranges: Vec<String>,
}

/// `EXT-X-SERVER-CONTROL`; line 0 where there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Control {
    pub(super) line: usize,
    pub(super) can_block: bool,
    pub(super) can_skip_until: Option<f64>,
    pub(super) can_skip_date_ranges: bool,
    pub(super) hold_back: Option<f64>,
    pub(super) part_hold_back: Option<f64>,
}

/// `EXT-X-SKIP`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Skip {
    pub(super) line: usize,
    pub(super) segments: u64,
    pub(super) date_ranges: bool,
}

/// A media segment with what belongs to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Segment {
    /// That of the URI.
    pub(super) line: usize,
    pub(super) msn: u64,
    pub(super) uri: String,
    pub(super) duration: f64,
    pub(super) range: Option<ByteRange>,
    pub(super) gap: bool,
    /// It has an `EXT-X-DISCONTINUITY`.
    pub(super) discontinuity: bool,
    pub(super) discontinuity_number: u64,
    /// `EXT-X-PROGRAM-DATE-TIME` of its own, in milliseconds since 1970.
    pub(super) date: Option<i64>,
    /// When it begins, by its own date or counted on from one before it.
    pub(super) begins: Option<i64>,
    pub(super) map: Option<Map>,
    /// The `EXT-X-KEY` that applies, as it stands there.
    pub(super) key: Option<String>,
    pub(super) parts: Vec<Part>,
    /// Its tags as they stand there, but for those of parts.
    pub(super) tags: Vec<String>,
    /// Tags that came after the first part they govern.
    pub(super) late: Vec<(usize, &'static str)>,
}

/// `EXT-X-PART`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) line: usize,
    pub(super) uri: String,
    pub(super) duration: f64,
    pub(super) independent: bool,
    pub(super) gap: bool,
    pub(super) range: Option<ByteRange>,
}

/// Some bytes of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteRange {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// `EXT-X-MAP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) uri: String,
    pub(super) range: Option<ByteRange>,
}

/// `EXT-X-PRELOAD-HINT`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hint {
    pub(super) line: usize,
    /// `PART`, `MAP`, or what the future brings.
    pub(super) kind: String,
    pub(super) uri: String,
    /// Where in the resource it begins, and its length where that is known.
    pub(super) start: u64,
    pub(super) length: Option<u64>,
}

/// `EXT-X-RENDITION-REPORT`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) line: usize,
    pub(super) uri: String,
    pub(super) last_msn: Option<u64>,
    pub(super) last_part: Option<u64>,
}

/// How far a playlist goes: its last part, or its last segment where that has no parts (any more). The later is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Last {
    pub(super) msn: u64,
    /// The index of the part; [`Last::WHOLE`] for a segment without parts.
    pub(super) part: u64,
}

impl Last {
    pub(super) const WHOLE: u64 = u64::MAX;
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Self::WHOLE => write!(f, "segment {}", self.msn),
            part => write!(f, "part {}.{part}", self.msn),
        }
    }
}

impl Segment {
    /// All of it is encrypted, so that nobody without the key sees its samples. Other methods seal samples, not files.
    pub(super) fn is_sealed(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.contains("METHOD=AES-"))
    }
}

impl Media {
    /// The last part or segment; `None` in a playlist without media.
    pub(super) fn last(&self) -> Option<Last> {
        let of = |segment: &Segment| {
            let part = (segment.parts.len() as u64).checked_sub(1).unwrap_or(Last::WHOLE);
            Last { msn: segment.msn, part }
        };
        if self.open.parts.is_empty() { self.segments.last().map(of) } else { Some(of(&self.open)) }
    }

    /// The number of the last segment that is whole.
    pub(super) fn last_whole(&self) -> Option<u64> {
        self.segments.last().map(|segment| segment.msn)
    }

    /// The segment of that number; that may be the one still being made.
    pub(super) fn segment(&self, msn: u64) -> Option<&Segment> {
        if msn == self.open.msn {
            return Some(&self.open);
        }
        let first = self.segments.first()?.msn;
        self.segments.get(usize::try_from(msn.checked_sub(first)?).ok()?)
    }

    /// The part that comes after the last one.
    pub(super) fn next(&self) -> (u64, u64) {
        (self.open.msn, self.open.parts.len() as u64)
    }

    /// Whether a request with `_HLS_msn` and `_HLS_part` may be answered with this playlist (6.2.5.2): the part is listed, or
    /// its segment ended before it and the next one has begun.
    pub(super) fn has_part(&self, msn: u64, part: u64) -> bool {
        let listed = |segment: &Segment| segment.parts.len() as u64;
        if msn >= self.open.msn {
            return msn == self.open.msn && part < listed(&self.open);
        }
        let begun_after = msn + 1 < self.open.msn || listed(&self.open) > 0;
        // Parts of a segment leave the list one day; then it is long whole.
        self.segment(msn).is_none_or(|segment| segment.parts.is_empty() || part < listed(segment))
            || begun_after
    }

    /// All segments and the open one, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().chain([&self.open])
    }

    /// Every part after `last` with its place.
    pub(super) fn parts_after(&self, last: Option<Last>) -> impl Iterator<Item = (Last, &Segment, &Part)> {
        self.all()
            .flat_map(|segment| {
                let place = |part| Last { msn: segment.msn, part };
                segment.parts.iter().zip(0..).map(move |(part, index)| (place(index), segment, part))
            })
            .filter(move |(place, ..)| last.is_none_or(|last| *place > last))
    }

    /// How far the end of each segment lies from the end of the last whole one, in seconds; the last one's is zero.
    pub(super) fn distances(&self) -> Vec<f64> {
        let mut behind = 0.0;
        let mut distances: Vec<f64> = self
            .segments
            .iter()
            .rev()
            .map(|segment| {
                behind += segment.duration;
                behind - segment.duration
            })
            .collect();
        distances.reverse();
        distances
    }

    /// What the parts of the open segment last, in seconds.
    pub(super) fn open_duration(&self) -> f64 {
        self.open.parts.iter().map(|part| part.duration).sum()
    }

    /// A delta update made whole with the playlist before it (6.3.7).
    ///
    /// # Errors
    ///
    /// The number of a segment that is skipped and that `before` does not have.
    pub(super) fn merged(before: &Self, delta: &Self) -> Result<Self, u64> {
        let skipped: u64 = delta.skips.iter().map(|skip| skip.segments).sum();
        let mut whole = delta.clone();
        let first = delta.media_sequence;
        let mut segments = vec![];
        for msn in first..first.saturating_add(skipped) {
            let known = before.segment(msn).filter(|_| msn != before.open.msn);
            segments.push(known.ok_or(msn)?.clone());
        }
        // What is skipped takes its tags with it, and they still apply.
        let skipped = segments.len();
        let last = segments.last().cloned().unwrap_or_default();
        for segment in whole.segments.iter_mut().chain([&mut whole.open]) {
            segment.map = segment.map.take().or_else(|| last.map.clone());
            segment.key = segment.key.take().or_else(|| last.key.clone());
        }
        let numbers: Vec<u64> = segments.iter().map(|segment| segment.discontinuity_number).collect();
        segments.append(&mut whole.segments);
        whole.segments = segments;
        whole.skips.clear();
        whole.count_on();
        // The number of a segment is as it was, also where its tag has become part of EXT-X-DISCONTINUITY-SEQUENCE since; those
        // behind it count on from there.
        let counted = skipped.checked_sub(1).map_or(0, |at| whole.segments[at].discontinuity_number);
        let known = numbers.last().copied().unwrap_or_default();
        for segment in whole.segments.iter_mut().chain([&mut whole.open]).skip(skipped) {
            let since = segment.discontinuity_number.saturating_sub(counted);
            segment.discontinuity_number = known.saturating_add(since);
        }
        for (segment, number) in whole.segments.iter_mut().zip(numbers) {
            segment.discontinuity_number = number;
        }
        Ok(whole)
    }

    /// Works out what follows from the segments before: numbers of discontinuities, and dates.
    pub(super) fn count_on(&mut self) {
        let mut discontinuity = self.discontinuity_sequence;
        let mut date: Option<f64> = None;
        for segment in self.segments.iter_mut().chain([&mut self.open]) {
            if segment.discontinuity {
                discontinuity = discontinuity.saturating_add(1);
                date = None;
            }
            segment.discontinuity_number = discontinuity;
            date = segment.date.map(|date| date as f64).or(date);
            segment.begins = date.map(|date| date as i64);
            date = date.map(|date| date + segment.duration * 1000.0);
        }
    }
}
