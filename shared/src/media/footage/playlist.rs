//! The media playlist of chosen footage (RFC 8216).

use std::fmt::Write as _;

use super::super::hls::{Ticks, date_time, decimal, target_duration};

/// What its segments are wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping {
    /// Fragmented MP4, picture and sound in one.
    Fmp4,
    Ts,
}

impl Wrapping {
    /// What the names of segments end in.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Fmp4 => "m4s",
            Self::Ts => "ts",
        }
    }
}

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When it was recorded.
    pub start: i64,
    pub duration: Ticks,
    /// Nobody has it.
    pub gap: bool,
    /// It does not go on where the one before ended: another recording, another publisher, or something is missing.
    pub seam: bool,
}

impl Entry {
    /// When the next one would begin.
    pub fn end(&self) -> i64 {
        self.start.saturating_add(super::micros(self.duration.ticks, self.duration.timescale))
    }
}

/// A playlist whose segments are numbered from zero.
#[derive(Debug, Clone)]
pub struct Playlist<'a> {
    pub wrapping: Wrapping,
    pub entries: &'a [Entry],
    /// Where players begin, in microseconds from the start of the first segment; `None` for its start.
    pub begins: Option<u64>,
    /// What stands behind the names of files, with its question mark.
    pub query: &'a str,
}

/// Microseconds, the least that is said to be missing: less is a matter of rounding.
pub const NOTICED: i64 = 100_000;

impl Playlist<'_> {
    /// Writes the playlist. Names are `segment/{index}.ts`, or `.m4s` with `segment/{index}-init.mp4`.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(256 + self.entries.len() * 48);
        let longest = self.entries.iter().map(|entry| target_duration(entry.duration)).max().unwrap_or(1);
        // EXT-X-GAP needs 8, EXT-X-MAP in what is not I-frames alone 6 (rfc8216bis, section 8).
        let version = if self.entries.iter().any(|entry| entry.gap) { 8 } else { 6 };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{longest}\n#EXT-X-MEDIA-SEQUENCE:0\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        );
        if let Some(micros) = self.begins {
            let _ = writeln!(out, "#EXT-X-START:TIME-OFFSET={},PRECISE=YES", decimal(micros, 1_000_000, 6));
        }
        let mut before: Option<&Entry> = None;
        for (entry, index) in self.entries.iter().zip(0..) {
            self.render_entry(&mut out, entry, index, before);
            before = Some(entry);
        }
        out.push_str("#EXT-X-ENDLIST\n");
        out
    }

    fn render_entry(&self, out: &mut String, entry: &Entry, index: usize, before: Option<&Entry>) {
        if before.is_none() || entry.seam {
            if let Some(before) = before {
                out.push_str("#EXT-X-DISCONTINUITY\n");
                missing(out, index, before.end(), entry.start);
            }
            if self.wrapping == Wrapping::Fmp4 {
                let _ = writeln!(out, "#EXT-X-MAP:URI=\"segment/{index}-init.mp4{}\"", self.query);
            }
            let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", date_time(entry.start));
        }
        if entry.gap {
            out.push_str("#EXT-X-GAP\n");
        }
        let Ticks { ticks, timescale } = entry.duration;
        let (duration, extension) = (decimal(ticks, timescale, 6), self.wrapping.extension());
        let _ = writeln!(out, "#EXTINF:{duration},\nsegment/{index}.{extension}{}", self.query);
    }
}

/// Says that nothing is there of a span.
fn missing(out: &mut String, index: usize, from: i64, to: i64) {
    let length = to.saturating_sub(from);
    if length >= NOTICED {
        let duration = decimal(length.unsigned_abs(), 1_000_000, 3);
        let start = date_time(from);
        let _ = writeln!(
            out,
            "#EXT-X-DATERANGE:ID=\"gap-{index}\",CLASS=\"reelmill.gap\",START-DATE=\"{start}\",DURATION={duration}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start: i64, seam: bool, gap: bool) -> Entry {
        Entry { start: start * 1_000_000, duration: Ticks { ticks: 60, timescale: 10 }, gap, seam }
    }

    #[test]
    fn seams_have_dates_and_what_is_missing_is_said() {
        let entries = [entry(0, false, false), entry(6, false, true), entry(60, true, false)];
        let playlist = Playlist {
            wrapping: Wrapping::Fmp4,
            entries: &entries,
            begins: Some(1_500_000),
            query: "?quality=a",
        };
        let expected = "#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n\
            #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-START:TIME-OFFSET=1.500000,PRECISE=YES\n\
            #EXT-X-MAP:URI=\"segment/0-init.mp4?quality=a\"\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z\n\
            #EXTINF:6.000000,\nsegment/0.m4s?quality=a\n#EXT-X-GAP\n#EXTINF:6.000000,\nsegment/1.m4s?quality=a\n\
            #EXT-X-DISCONTINUITY\n\
            #EXT-X-DATERANGE:ID=\"gap-2\",CLASS=\"reelmill.gap\",START-DATE=\"1970-01-01T00:00:12.000Z\",DURATION=48.000\n\
            #EXT-X-MAP:URI=\"segment/2-init.mp4?quality=a\"\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:00.000Z\n\
            #EXTINF:6.000000,\nsegment/2.m4s?quality=a\n#EXT-X-ENDLIST\n";
        assert_eq!(playlist.render(), expected);
        let ts =
            Playlist { wrapping: Wrapping::Ts, entries: &entries[..1], begins: None, query: "" }.render();
        assert!(ts.contains("\nsegment/0.ts\n") && !ts.contains("MAP") && ts.contains("VERSION:6"), "{ts}");
    }
}
