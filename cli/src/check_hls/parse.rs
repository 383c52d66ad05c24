//! From the text of a playlist to the model, line by line.

use chrono::DateTime;

use super::attributes::{Attributes, seconds};
use super::playlist::{
    ByteRange, Control, Hint, Listed, Map, Media, Multivariant, Part, Playlist, Report, Segment, Skip,
};

/// A day of segments of four seconds, with what a segment usually has.
const MOST_LINES: usize = 100_000;
const LONGEST_LINE: usize = 16 << 10;

/// Why a text is not a playlist, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub(super) struct Unreadable {
    pub(super) line: usize,
    pub(super) why: String,
}

impl Playlist {
    /// Reads a playlist of either kind.
    ///
    /// # Errors
    ///
    /// When it is none, when a tag that is known does not read, or when it is longer than any playlist should be.
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let master = text.lines().any(|line| line.starts_with("#EXT-X-STREAM-INF:"));
        if master {
            parse_multivariant(text).map(Self::Multivariant)
        } else {
            Media::parse(text).map(|_| Self::Media)
        }
    }
}

/// The lines that count, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = Result<(usize, &str), Unreadable>> {
    text.lines().zip(1..).filter_map(|(line, number)| {
        let wrong = |why: &str| Some(Err(Unreadable { line: number, why: why.to_owned() }));
        let line = line.trim_end();
        match line {
            _ if number > MOST_LINES => wrong("the playlist has too many lines"),
            _ if line.len() > LONGEST_LINE => wrong("the line is too long"),
            line if number == 1 && line != "#EXTM3U" => wrong("it does not begin with #EXTM3U"),
            "" | "#EXTM3U" => None,
            line if line.starts_with('#') && !line.starts_with("#EXT") => None,
            line => Some(Ok((number, line))),
        }
    })
}

/// A tag's name without `#EXT`, and what follows the colon.
fn tag(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("#EXT").map(|rest| rest.split_once(':').unwrap_or((rest, "")))
}

fn parse_multivariant(text: &str) -> Result<Multivariant, Unreadable> {
    let mut found = Multivariant::default();
    let mut variant: Option<Option<String>> = None;
    for line in lines(text) {
        let (line, content) = line?;
        let wrong = |why| Unreadable { line, why };
        let Some((name, value)) = tag(content) else {
            let name = variant.take().ok_or_else(|| wrong("a URI has no EXT-X-STREAM-INF".to_owned()))?;
            found.renditions.push(Listed { name, uri: content.to_owned(), i_frames: false });
            continue;
        };
        let attributes = || Attributes::parse(value).map_err(wrong);
        match name {
            "-X-STREAM-INF" => {
                variant = Some(attributes()?.string("NAME").map_err(wrong)?.map(str::to_owned));
            }
            "-X-MEDIA" | "-X-I-FRAME-STREAM-INF" => {
                let attributes = attributes()?;
                let text = |name| attributes.string(name).map(|text| text.map(str::to_owned)).map_err(wrong);
                // Without a URI it is within the variant, or captions.
                if let Some(uri) = text("URI")? {
                    let i_frames = name != "-X-MEDIA";
                    found.renditions.push(Listed { name: text("NAME")?, uri, i_frames });
                }
            }
            _ => {}
        }
    }
    // Several variants may share a playlist.
    let mut known = std::collections::HashSet::new();
    found.renditions.retain(|rendition| known.insert(rendition.uri.clone()));
    Ok(found)
}

/// A media playlist that is being read.
#[derive(Default)]
struct Reading {
    media: Media,
    target_duration: Option<u64>,
    /// What is known of the segment whose URI has not come.
    current: Segment,
    duration: Option<f64>,
    map: Option<Map>,
    key: Option<String>,
    /// Where the last byte range of a resource ended, for those that only state a length.
    range_end: Option<(String, u64)>,
    part_range_end: Option<(String, u64)>,
    range: Option<String>,
}

impl Media {
    /// Reads a media playlist.
    ///
    /// # Errors
    ///
    /// As [`Playlist::parse`].
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut reading = Reading { media: Self { version: 1, ..Self::default() }, ..Reading::default() };
        let mut last = 1;
        for line in lines(text) {
            let (line, content) = line?;
            last = line;
            reading.line(line, content).map_err(|why| Unreadable { line, why })?;
        }
        if text.is_empty() {
            return Err(Unreadable { line: 1, why: "it is empty".to_owned() });
        }
        reading.end().map_err(|why| Unreadable { line: last, why })
    }
}

impl Reading {
    fn line(&mut self, line: usize, content: &str) -> Result<(), String> {
        let Some((name, value)) = tag(content) else { return self.uri(line, content) };
        let number =
            || value.trim().parse::<u64>().map_err(|_| format!("#EXT{name} is not a decimal integer"));
        let attributes = || Attributes::parse(value);
        let media = &mut self.media;
        match name {
            "-X-VERSION" => {
                media.version = number()?;
                return Ok(());
            }
            "-X-TARGETDURATION" => self.target_duration = Some(number()?),
            "-X-MEDIA-SEQUENCE" => {
                media.media_sequence = number()?;
                return Ok(());
            }
            "-X-DISCONTINUITY-SEQUENCE" => {
                media.discontinuity_sequence = number()?;
                return Ok(());
            }
            "-X-PART-INF" => {
                let target = attributes()?.seconds("PART-TARGET")?.filter(|target| *target > 0.0);
                media.part_target = Some(target.ok_or("EXT-X-PART-INF has no PART-TARGET above zero")?);
            }
            "-X-SERVER-CONTROL" => media.control = control(line, &attributes()?)?,
            "-X-ENDLIST" => {
                media.end = true;
                return Ok(());
            }
            "-X-SKIP" => {
                let attributes = attributes()?;
                let segments =
                    attributes.integer("SKIPPED-SEGMENTS")?.ok_or("EXT-X-SKIP has no SKIPPED-SEGMENTS")?;
                let date_ranges = attributes.string("RECENTLY-REMOVED-DATERANGES")?.is_some();
                media.skips.push(Skip { line, segments, date_ranges });
                return Ok(());
            }
            "-X-PRELOAD-HINT" => {
                media.hints.push(hint(line, &attributes()?)?);
                return Ok(());
            }
            "-X-RENDITION-REPORT" => {
                media.reports.push(report(line, &attributes()?)?);
                return Ok(());
            }
            "-X-DATERANGE" => {
                media.date_ranges.push(content.to_owned());
                return Ok(());
            }
            "-X-PLAYLIST-TYPE"
            | "-X-I-FRAMES-ONLY"
            | "-X-INDEPENDENT-SEGMENTS"
            | "-X-START"
            | "-X-DEFINE" => {}
            _ => return self.segment_tag(line, name, value, content),
        }
        self.media.head.push(content.to_owned());
        Ok(())
    }

    /// A tag of the segment to come.
    fn segment_tag(&mut self, line: usize, name: &str, value: &str, content: &str) -> Result<(), String> {
        if name == "-X-PART" {
            let part = self.part(line, &Attributes::parse(value)?)?;
            self.current.parts.push(part);
            return Ok(());
        }
        self.current.tags.push(content.to_owned());
        let governs = match name {
            "INF" => {
                let text = value.split_once(',').map_or(value, |(duration, _)| duration);
                self.duration = Some(seconds(text.trim()).ok_or("EXTINF has no duration")?);
                return Ok(());
            }
            "-X-BYTERANGE" => {
                self.range = Some(value.to_owned());
                return Ok(());
            }
            "-X-GAP" => {
                self.current.gap = true;
                return Ok(());
            }
            "-X-DISCONTINUITY" => {
                self.current.discontinuity = true;
                "EXT-X-DISCONTINUITY"
            }
            "-X-PROGRAM-DATE-TIME" => {
                let date = DateTime::parse_from_rfc3339(value)
                    .or_else(|_| DateTime::parse_from_str(value, "%Y-%m-%dT%H:%M:%S%.f%z"));
                let date = date.map_err(|_| "EXT-X-PROGRAM-DATE-TIME is not a date with a time zone")?;
                self.current.date = Some(date.timestamp_millis());
                "EXT-X-PROGRAM-DATE-TIME"
            }
            "-X-MAP" => {
                let attributes = Attributes::parse(value)?;
                let uri = attributes.string("URI")?.ok_or("EXT-X-MAP has no URI")?.to_owned();
                let range = attributes
                    .string("BYTERANGE")?
                    .map(|text| byte_range(text, &uri, &mut None))
                    .transpose()?;
                self.map = Some(Map { uri, range });
                "EXT-X-MAP"
            }
            "-X-KEY" => {
                Attributes::parse(value)?;
                self.key = Some(content.to_owned());
                "EXT-X-KEY"
            }
            _ => return Ok(()),
        };
        if !self.current.parts.is_empty() {
            self.current.late.push((line, governs));
        }
        Ok(())
    }

    fn part(&mut self, line: usize, attributes: &Attributes<'_>) -> Result<Part, String> {
        let uri = attributes.string("URI")?.ok_or("EXT-X-PART has no URI")?.to_owned();
        let duration = attributes.seconds("DURATION")?.ok_or("EXT-X-PART has no DURATION")?;
        let range = attributes.string("BYTERANGE")?;
        let range = range.map(|text| byte_range(text, &uri, &mut self.part_range_end)).transpose()?;
        let (independent, gap) = (attributes.yes("INDEPENDENT"), attributes.yes("GAP"));
        Ok(Part { line, uri, duration, independent, gap, range })
    }

    fn uri(&mut self, line: usize, uri: &str) -> Result<(), String> {
        let duration = self.duration.take().ok_or("a URI has no EXTINF")?;
        let range = self.range.take().map(|text| byte_range(&text, uri, &mut self.range_end)).transpose()?;
        let mut segment = std::mem::take(&mut self.current);
        (segment.line, segment.uri, segment.duration, segment.range) =
            (line, uri.to_owned(), duration, range);
        self.settle(&mut segment)?;
        self.media.segments.push(segment);
        Ok(())
    }

    /// Gives a segment its number and what it inherits.
    fn settle(&self, segment: &mut Segment) -> Result<(), String> {
        let skipped = self.media.skips.iter().try_fold(0_u64, |sum, skip| sum.checked_add(skip.segments));
        let before = skipped.and_then(|skipped| skipped.checked_add(self.media.segments.len() as u64));
        let msn = before.and_then(|before| self.media.media_sequence.checked_add(before));
        segment.msn = msn.filter(|msn| *msn < u64::MAX / 2).ok_or("its number is too large")?;
        (segment.map, segment.key) = (self.map.clone(), self.key.clone());
        Ok(())
    }

    fn end(mut self) -> Result<Media, String> {
        self.media.target_duration = self
            .target_duration
            .filter(|target| *target <= 1 << 20)
            .ok_or("there is no sensible EXT-X-TARGETDURATION")?;
        let mut open = std::mem::take(&mut self.current);
        self.settle(&mut open)?;
        self.media.open = open;
        self.media.count_on();
        Ok(self.media)
    }
}

fn control(line: usize, attributes: &Attributes<'_>) -> Result<Control, String> {
    Ok(Control {
        line,
        can_block: attributes.yes("CAN-BLOCK-RELOAD"),
        can_skip_until: attributes.seconds("CAN-SKIP-UNTIL")?,
        can_skip_date_ranges: attributes.yes("CAN-SKIP-DATERANGES"),
        hold_back: attributes.seconds("HOLD-BACK")?,
        part_hold_back: attributes.seconds("PART-HOLD-BACK")?,
    })
}

fn hint(line: usize, attributes: &Attributes<'_>) -> Result<Hint, String> {
    Ok(Hint {
        line,
        kind: attributes.word("TYPE").ok_or("EXT-X-PRELOAD-HINT has no TYPE")?.to_owned(),
        uri: attributes.string("URI")?.ok_or("EXT-X-PRELOAD-HINT has no URI")?.to_owned(),
        start: attributes.integer("BYTERANGE-START")?.unwrap_or(0),
        length: attributes.integer("BYTERANGE-LENGTH")?,
    })
}

fn report(line: usize, attributes: &Attributes<'_>) -> Result<Report, String> {
    Ok(Report {
        line,
        uri: attributes.string("URI")?.unwrap_or_default().to_owned(),
        last_msn: attributes.integer("LAST-MSN")?,
        last_part: attributes.integer("LAST-PART")?,
    })
}

/// `length@start`, or a length alone: then it goes on where the last one of the same resource ended.
fn byte_range(text: &str, uri: &str, last: &mut Option<(String, u64)>) -> Result<ByteRange, String> {
    let wrong = || "a byte range is not right".to_owned();
    let (length, start) = text.split_once('@').map_or((text, None), |(length, start)| (length, Some(start)));
    let length: u64 = length.trim().parse().map_err(|_| wrong())?;
    let start = match (start, &last) {
        (Some(start), _) => start.trim().parse().map_err(|_| wrong())?,
        (None, Some((known, end))) if known == uri => *end,
        (None, _) => 0,
    };
    let end = length.checked_add(start).filter(|_| length > 0).ok_or_else(wrong)?;
    *last = Some((uri.to_owned(), end));
    Ok(ByteRange { start, length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::playlist::Last;

    const LIVE: &str = r#"#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=24.0,PART-HOLD-BACK=3.0,HOLD-BACK=12
#EXT-X-PART-INF:PART-TARGET=1.0
#EXT-X-MEDIA-SEQUENCE:266
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-MAP:URI="init.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-20T10:00:00.000Z
#EXTINF:4.0,
a.mp4
# a remark
#EXT-X-DISCONTINUITY
#EXT-X-PART:DURATION=1.0,URI="b.mp4",BYTERANGE="10@0",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.5,URI="b.mp4",BYTERANGE="20"
#EXT-X-MAP:URI="init2.mp4",BYTERANGE="5@6"
#EXTINF:1.5,title, with comma
b.mp4
#EXT-X-PART:DURATION=1.0,URI="c.0.mp4",GAP=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="c.1.mp4"
#EXT-X-RENDITION-REPORT:URI="../low/x.m3u8",LAST-MSN=268,LAST-PART=1
"#;

    #[test]
    fn a_low_latency_playlist_is_read() {
        let media = Media::parse(LIVE).unwrap();
        assert_eq!((media.version, media.target_duration, media.part_target), (9, 4, Some(1.0)));
        assert_eq!((media.control.line, media.control.can_skip_until), (4, Some(24.0)));
        let shown: Vec<_> =
            media.all().map(|s| (s.msn, s.line, s.discontinuity_number, s.parts.len())).collect();
        assert_eq!(shown, [(266, 11, 3, 0), (267, 18, 4, 2), (268, 0, 4, 1)]);
        let second = &media.segments[1];
        assert_eq!(second.parts[1].range, Some(ByteRange { start: 10, length: 20 }));
        assert_eq!(second.late, [(16, "EXT-X-MAP")]);
        assert_eq!(
            second.map,
            Some(Map { uri: "init2.mp4".into(), range: Some(ByteRange { start: 6, length: 5 }) })
        );
        // A date does not reach over a discontinuity.
        assert_eq!((media.segments[0].begins, second.begins), (Some(1_795_168_800_000), None));
        assert_eq!(media.last(), Some(Last { msn: 268, part: 0 }));
        assert_eq!((media.hints[0].line, media.reports[0].last_msn), (20, Some(268)));
        assert_eq!(media.distances(), [1.5, 0.0]);
    }

    #[test]
    fn a_part_is_there_when_it_is_listed_or_its_segment_ended_before_it() {
        let media = Media::parse(LIVE).unwrap();
        for (msn, part, there) in [
            (3, 9, true),
            (266, 7, true),
            (267, 1, true),
            (267, 2, true),
            (268, 0, true),
            (268, 1, false),
            (269, 0, false),
        ] {
            assert_eq!(media.has_part(msn, part), there, "{msn}.{part}");
        }
        let closed = Media::parse(LIVE.split_once("#EXT-X-PART:DURATION=1.0,URI=\"c").unwrap().0).unwrap();
        assert!(closed.has_part(267, 1) && !closed.has_part(267, 2) && !closed.has_part(268, 0));
        assert_eq!((closed.next(), closed.last()), ((268, 0), Some(Last { msn: 267, part: 1 })));
    }

    #[test]
    fn a_delta_update_is_made_whole() {
        let before = Media::parse(LIVE).unwrap();
        let delta = LIVE
            .replace("#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-20T10:00:00.000Z\n#EXTINF:4.0,\na.mp4\n", "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n");
        let delta = Media::parse(&delta).unwrap();
        assert_eq!((delta.segments.len(), delta.segments[0].msn), (1, 267));
        let whole = Media::merged(&before, &delta).unwrap();
        let uris: Vec<_> =
            whole.segments.iter().map(|s| (s.msn, s.uri.as_str(), s.discontinuity_number)).collect();
        assert_eq!(uris, [(266, "a.mp4", 3), (267, "b.mp4", 4)]);
        let older = Media::parse(&LIVE.replace("SEQUENCE:266", "SEQUENCE:300")).unwrap();
        assert_eq!(Media::merged(&older, &delta), Err(266));
    }

    #[test]
    fn a_multivariant_playlist_names_its_renditions_once() {
        let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"sound\",URI=\"a.m3u8\"\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"b\",NAME=\"in\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nv.m3u8\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n";
        let Playlist::Multivariant(found) = Playlist::parse(text).unwrap() else { panic!() };
        let uris: Vec<_> = found.renditions.iter().map(|r| (r.uri.as_str(), r.i_frames)).collect();
        assert_eq!(uris, [("a.m3u8", false), ("v.m3u8", false), ("i.m3u8", true)]);
    }

    #[test]
    fn what_is_no_playlist_says_where() {
        let line = |text: &str| Media::parse(text).unwrap_err().line;
        assert_eq!(line(""), 1);
        assert_eq!(line("<html>"), 1);
        assert_eq!(line("#EXTM3U\n#EXT-X-TARGETDURATION:4\nx.mp4"), 3);
        assert_eq!(line("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART:URI=\"x\"\n"), 3);
        assert_eq!(line("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXTINF:1,\nx"), 4);
        assert!(Media::parse("#EXTM3U\n#EXTINF:1,\nx\n").unwrap_err().why.contains("TARGETDURATION"));
        assert!(Media::parse(&format!("#EXTM3U\n{}", "#EXT-X-GAP\n".repeat(MOST_LINES))).is_err());
    }
}
