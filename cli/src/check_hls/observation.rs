//! What the checker saw, as plain data: rules judge it without knowing how it was come by.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::boxes::Run;
use super::playlist::{Last, Media, Multivariant, Report};

/// One thing seen. Each rule picks out the kinds that it is about.
#[derive(Debug)]
pub(super) enum Observation<'o> {
    /// A media playlist as it came.
    Playlist(&'o Seen),
    /// Two full playlists of a rendition; the second was asked for when the first had come.
    Next {
        before: &'o Seen,
        after: &'o Seen,
    },
    /// A delta update beside the full playlist.
    Delta(&'o DeltaSeen),
    /// What a request for a playlist led to.
    Answer(&'o Answer),
    /// Two renditions at about the same moment.
    Across {
        one: &'o Seen,
        other: &'o Seen,
    },
    /// A playlist with the addresses of all the other renditions.
    Siblings {
        seen: &'o Seen,
        others: &'o [Url],
    },
    /// What a rendition report says, and what that rendition showed at about that time.
    Report(&'o ReportSeen),
    /// Any file that was asked for.
    Fetched(&'o Fetched),
    /// A part that was asked for while it was only hinted at.
    Hint(&'o HintSeen),
    Part(&'o PartMedia),
    Segment(&'o SegmentMedia),
    /// How punctually parts of a rendition were listed.
    Pace(&'o Pace),
    /// The multivariant playlist, asked for as by two viewers.
    Viewers {
        first: &'o Multivariant,
        second: &'o Multivariant,
        url: &'o Url,
    },
}

/// Where something was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) rendition: Arc<str>,
    pub(super) url: String,
    pub(super) line: Option<usize>,
    pub(super) msn: Option<u64>,
    pub(super) part: Option<u64>,
}

impl Place {
    pub(super) fn line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    pub(super) fn segment(mut self, msn: u64) -> Self {
        self.msn = Some(msn);
        self
    }

    pub(super) fn last(mut self, last: Last) -> Self {
        self.msn = Some(last.msn);
        self.part = Some(last.part).filter(|part| *part != Last::WHOLE);
        self
    }
}

/// A media playlist and when it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The rendition, and the address with the directives that were asked.
    pub(super) place: Place,
    /// Without directives, after redirects: what its URIs are relative to.
    pub(super) base: Url,
    /// Since the watch began.
    pub(super) at: Duration,
    pub(super) media: Media,
}

/// A delta update, the playlist the client had, and the full one of the same moment.
#[derive(Debug)]
pub(super) struct DeltaSeen {
    pub(super) before: Arc<Seen>,
    pub(super) delta: Seen,
    pub(super) full: Seen,
    /// Asked for with `_HLS_skip=v2`.
    pub(super) date_ranges: bool,
}

/// What was asked of a playlist, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A part that is to come.
    Part {
        msn: u64,
        part: u64,
    },
    /// A part that its segment will end before.
    BeyondLastPart {
        msn: u64,
        part: u64,
    },
    /// A segment that is to come, without a part.
    Whole {
        msn: u64,
    },
    /// Something that is there, or was there long ago.
    Old {
        msn: u64,
        part: Option<u64>,
    },
    PartAlone,
    FarSegment {
        msn: u64,
    },
    FarPart {
        msn: u64,
        part: u64,
    },
    /// Anything, with directives, of a playlist that has ended.
    AfterEnd,
}

/// A request for a playlist and its outcome.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) place: Place,
    pub(super) asked: Asked,
    /// The playlist as it was known when the request was sent.
    pub(super) known: Arc<Seen>,
    pub(super) took: Duration,
    /// The longest that a plain request took so far.
    pub(super) usual: Duration,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Playlist(Box<Seen>),
    Status(u16),
    /// Not answered within the time given.
    Silence,
}

impl Outcome {
    /// In words.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Playlist(seen) => match seen.media.last() {
                Some(last) => format!("a playlist up to {last}"),
                None => "a playlist without media".to_owned(),
            },
            Self::Status(status) => format!("status {status}"),
            Self::Silence => "no answer".to_owned(),
        }
    }
}

/// A rendition report and what is known of the rendition it is about.
#[derive(Debug)]
pub(super) struct ReportSeen {
    pub(super) place: Place,
    pub(super) report: Report,
    /// The playlist that it stands in: what a report leaves out is as there.
    pub(super) own: Option<Last>,
    /// How far the rendition was a moment before and a moment after.
    pub(super) before: Option<Last>,
    pub(super) after: Last,
}

/// What kind of file was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without directives; `live` while it may change.
    Plain { live: bool },
    /// With `_HLS_msn`.
    Directed,
    /// An init segment, a segment or a part.
    Media,
    /// A part that has left the playlist, within the time it must stay.
    Departed,
    /// A part that never was.
    Unknown,
}

/// A file that was asked for, and what came.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) target_duration: u64,
    /// The status, or what went wrong with the connection.
    pub(super) status: Result<u16, String>,
    pub(super) transport: Transport,
    /// What is wrong with its content.
    pub(super) unreadable: Option<String>,
}

/// What of an answer is about its way.
#[derive(Debug, Clone, Default)]
pub(super) struct Transport {
    pub(super) tls: bool,
    pub(super) http2: bool,
    /// Compression was asked for, and whether it was done.
    pub(super) gzip: Option<bool>,
    pub(super) cache_control: Option<String>,
    /// It was asked for with headers of ours, so it may be meant for us alone.
    pub(super) keyed: bool,
    /// `Access-Control-Allow-Origin`.
    pub(super) allow_origin: Option<String>,
    pub(super) sets_cookie: bool,
}

/// A hinted part: what came, and what came when it was asked for again after it had been listed.
#[derive(Debug)]
pub(super) struct HintSeen {
    pub(super) place: Place,
    pub(super) first: Result<Burst, String>,
    pub(super) again: Burst,
    /// Seconds.
    pub(super) part_target: f64,
}

/// The bytes of an answer and how they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Burst {
    pub(super) bytes: usize,
    pub(super) digest: u64,
    /// From the first byte to the last.
    pub(super) took: Duration,
}

/// A part's samples.
#[derive(Debug, Clone)]
pub(super) struct PartMedia {
    pub(super) place: Place,
    pub(super) independent: bool,
    pub(super) runs: Vec<Run>,
}

/// A segment's samples.
#[derive(Debug)]
pub(super) struct SegmentMedia {
    pub(super) place: Place,
    pub(super) runs: Vec<Run>,
    /// All its parts in order, where all of them were fetched.
    pub(super) parts: Option<Vec<PartMedia>>,
    /// The samples of the segment before it, where the two must join.
    pub(super) before: Option<Vec<Run>>,
}

/// How punctually parts were listed.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pub(super) place: Place,
    pub(super) part_target: f64,
    /// Blocking requests that brought a part, and how many of them took longer than they may.
    pub(super) updates: u64,
    pub(super) late: u64,
    pub(super) worst: Duration,
}
