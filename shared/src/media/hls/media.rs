//! The media playlist (RFC 8216, 4.3.2 and 4.3.3).

use std::fmt::Write as _;

use super::text::{decimal, quoted, scaled, uri_line};
use super::{VERSION, VERSION_WITHOUT_MAP};

/// A length of time on a track's own clock: `ticks / timescale` seconds. A timescale of zero counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// How many ticks.
    pub ticks: u64,
    /// How many of them make a second.
    pub timescale: u32,
}

impl Ticks {
    /// The length as a player reads it from `EXTINF`: microseconds, rounded half up.
    pub(in crate::media) fn micros(self) -> u128 {
        scaled(self.ticks, self.timescale, 1_000_000)
    }
}

/// Whether and how the playlist may still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaylistKind {
    /// Complete, and never changes again.
    Vod,
    /// Segments are only ever added.
    Event {
        /// The last one has been added.
        ended: bool,
    },
}

/// One media segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it is, relative to the playlist.
    pub uri: String,
    /// How long it lasts; in a playlist of I-frames the time to the next one.
    pub duration: Ticks,
    /// The part of the file that it is; `None` for all of it.
    pub range: Option<ByteRange>,
}

/// Some bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Bytes of the file before it.
    pub offset: u64,
    /// How many bytes it is.
    pub bytes: u64,
}

/// The segments of one rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// Whether and how the playlist may still change.
    pub kind: PlaylistKind,
    /// In seconds, at least [`target_duration`] of the longest segment there is and, while the playlist grows, that
    /// there will be: it may never change.
    pub target_duration: u32,
    /// Where the init segment is, relative to the playlist; `None` for MPEG-TS and WebVTT, which have none.
    pub map_uri: Option<String>,
    /// Each segment is one I-frame, for scrubbing (RFC 8216, 4.3.3.6).
    pub iframes_only: bool,
    /// The number of the first segment listed.
    pub first_sequence: u64,
    /// The segments in order.
    pub segments: Vec<Segment>,
}

impl MediaPlaylist {
    /// Writes the playlist. Strings are cleaned so that none can break out of its attribute or line.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(256 + self.segments.len() * 64);
        self.render_head(&mut out);
        self.segments.iter().for_each(|segment| segment.render_into(&mut out));
        self.render_tail(&mut out);
        out
    }

    /// What holds for the whole playlist. Low latency's SERVER-CONTROL and PART-INF will stand here too.
    fn render_head(&self, out: &mut String) {
        let kind = match self.kind {
            PlaylistKind::Vod => "VOD",
            PlaylistKind::Event { .. } => "EVENT",
        };
        let version = if self.map_uri.is_some() { VERSION } else { VERSION_WITHOUT_MAP };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "#EXTM3U\n\
             #EXT-X-VERSION:{version}\n\
             #EXT-X-TARGETDURATION:{}\n\
             #EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-PLAYLIST-TYPE:{kind}\n\
             #EXT-X-INDEPENDENT-SEGMENTS\n",
            self.target_duration, self.first_sequence,
        );
        if self.iframes_only {
            out.push_str("#EXT-X-I-FRAMES-ONLY\n");
        }
        if let Some(uri) = &self.map_uri {
            let _ = writeln!(out, "#EXT-X-MAP:URI={}", quoted(uri));
        }
    }

    /// What follows the last segment. Low latency's open parts, PRELOAD-HINT and RENDITION-REPORT will stand here too.
    fn render_tail(&self, out: &mut String) {
        match self.kind {
            PlaylistKind::Vod | PlaylistKind::Event { ended: true } => out.push_str("#EXT-X-ENDLIST\n"),
            PlaylistKind::Event { ended: false } => {}
        }
    }
}

impl Segment {
    /// The segment's tags and its URI. Low latency's PART lines will come before them.
    fn render_into(&self, out: &mut String) {
        let Ticks { ticks, timescale } = self.duration;
        let _ = writeln!(out, "#EXTINF:{},", decimal(ticks, timescale, 6));
        if let Some(ByteRange { offset, bytes }) = self.range {
            let _ = writeln!(out, "#EXT-X-BYTERANGE:{bytes}@{offset}");
        }
        let _ = writeln!(out, "{}", uri_line(&self.uri));
    }
}

/// The `EXT-X-TARGETDURATION` in seconds for a rendition whose longest segment is this long: every `EXTINF`, rounded
/// to the nearest whole second, must not exceed it (RFC 8216, 4.3.3.1). At least 1.
pub fn target_duration(longest: Ticks) -> u32 {
    // Rounded from what EXTINF says, not from the exact length: 6.4999999 s is written as 6.500000, which makes 7.
    let seconds = (longest.micros() + 500_000) / 1_000_000;
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}
