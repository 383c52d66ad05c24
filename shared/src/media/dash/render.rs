//! The manifest as XML.

use std::cmp::Ordering;
use std::fmt::Write as _;

use chrono::SecondsFormat;

use super::{
    AdaptationSet, Content, Files, Format, Manifest, ManifestKind, Period, Representation, Timeline,
};
use crate::media::hls::Ticks;
use crate::media::tracks::Role;

/// How soon a player asks again for a manifest that grows: as long as caches keep one.
const UPDATE: &str = "PT2S";
/// A player of a live stream keeps so many of its longest segments away from the end, as in HLS.
const BEHIND: u32 = 3;

/// Channels as the MPEG audio standards number their layouts (ISO/IEC 23003-3; 23091-3).
const CHANNELS: &str = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";

// Writing to a String cannot fail, so the results of `write!` are dropped.

impl Manifest {
    /// Writes the manifest. Strings are escaped so that none can break out of its attribute or element.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(1024);
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = write!(out, "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"urn:mpeg:dash:profile:");
        // Lists of segments are not for live services.
        let listed = self.timelines().any(|timeline| matches!(timeline.files, Files::List { .. }));
        let _ = write!(out, "isoff-{}:2011\"", if listed { "main" } else { "live" });
        match &self.kind {
            ManifestKind::Static => {
                let _ = write!(out, " type=\"static\" mediaPresentationDuration=\"{}\"", self.end());
            }
            ManifestKind::Growing { available_from, published, .. } => {
                let time = |time: &chrono::DateTime<_>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
                let _ = write!(
                    out,
                    " type=\"dynamic\" availabilityStartTime=\"{}\" publishTime=\"{}\" minimumUpdatePeriod=\"{UPDATE}\"",
                    time(available_from),
                    time(published)
                );
            }
            ManifestKind::Live { available_from, published, window, target_duration } => {
                let time = |time: &chrono::DateTime<_>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
                let _ = write!(
                    out,
                    " type=\"dynamic\" availabilityStartTime=\"{}\" publishTime=\"{}\" minimumUpdatePeriod=\"{UPDATE}\" \
                     suggestedPresentationDelay=\"PT{}S\"",
                    time(available_from),
                    time(published),
                    BEHIND * target_duration
                );
                if let Some(window) = window {
                    let _ = write!(out, " timeShiftBufferDepth=\"PT{window}S\"");
                }
            }
        }
        // At its peak bit rate a representation has brought a whole segment after the time it lasts.
        let longest = self.longest();
        let _ = writeln!(out, " minBufferTime=\"{longest}\" maxSegmentDuration=\"{longest}\">");
        if let ManifestKind::Growing { next, .. } = &self.kind {
            let _ = writeln!(out, "  <Location>{}</Location>", escaped(next));
        }
        for period in &self.periods {
            let start = Seconds(period.start.micros());
            let _ = writeln!(out, "  <Period id=\"{}\" start=\"{start}\">", escaped(&period.id));
            for (id, set) in period.sets.iter().enumerate() {
                set.render_into(id, &mut out);
            }
            out.push_str("  </Period>\n");
        }
        if let ManifestKind::Growing { published, .. } | ManifestKind::Live { published, .. } = &self.kind {
            // Else some players would ask a third party for the time.
            let now = published.to_rfc3339_opts(SecondsFormat::Millis, true);
            let _ =
                writeln!(out, "  <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:direct:2014\" value=\"{now}\"/>");
        }
        out.push_str("</MPD>\n");
        out
    }

    fn timelines(&self) -> impl Iterator<Item = &Timeline> {
        let sets = self.periods.iter().flat_map(|period| &period.sets);
        sets.flat_map(|set| &set.representations).map(|representation| &representation.timeline)
    }

    /// The end of all there is, on the timeline of the manifest.
    fn end(&self) -> Seconds {
        let end = |period: &Period| {
            let timelines = period.sets.iter().flat_map(|set| &set.representations).map(|it| &it.timeline);
            period.start.micros() + timelines.map(Timeline::end).max().unwrap_or(0)
        };
        Seconds(self.periods.iter().map(end).max().unwrap_or(0))
    }

    fn longest(&self) -> Seconds {
        Seconds(self.timelines().map(|timeline| timeline.longest().micros()).max().unwrap_or(0))
    }
}

impl Content {
    /// Words of the role scheme (ISO/IEC 23009-1, 5.8.5.5).
    fn roles(&self) -> Vec<&'static str> {
        let (main, purpose) = match self {
            Self::Video => (true, None),
            Self::Audio { main, role, .. } => (*main, purpose(*role)),
            Self::Text { role, .. } => (false, Some(purpose(*role).unwrap_or("subtitle"))),
        };
        main.then_some("main").into_iter().chain(purpose).collect()
    }
}

/// What a track is for, where it is for something particular.
fn purpose(role: Role) -> Option<&'static str> {
    match role {
        Role::Main => None,
        Role::Commentary => Some("commentary"),
        Role::Description => Some("description"),
        Role::Captions => Some("caption"),
        Role::Forced => Some("forced-subtitle"),
    }
}

impl AdaptationSet {
    fn render_into(&self, id: usize, out: &mut String) {
        let (kind, mime_type) = match &self.content {
            Content::Video => ("video", "video/mp4"),
            Content::Audio { .. } => ("audio", "audio/mp4"),
            Content::Text { .. } => ("text", "text/vtt"),
        };
        let _ = write!(out, "    <AdaptationSet id=\"{id}\" contentType=\"{kind}\" mimeType=\"{mime_type}\"");
        match &self.content {
            Content::Video | Content::Audio { .. } => {
                out.push_str(" segmentAlignment=\"true\" startWithSAP=\"1\"");
            }
            Content::Text { .. } => {}
        }
        match &self.content {
            Content::Video => self.render_limits(out),
            Content::Audio { language, .. } | Content::Text { language, .. } => {
                if let Some(language) = language.as_deref().filter(|language| is_language(language)) {
                    let _ = write!(out, " lang=\"{language}\"");
                }
            }
        }
        out.push_str(">\n");
        // The schema wants them in this order.
        match &self.content {
            Content::Video => {}
            Content::Audio { label, .. } | Content::Text { label, .. } => {
                let _ = writeln!(out, "      <Label>{}</Label>", escaped(label));
            }
        }
        for role in self.content.roles() {
            let _ = writeln!(out, "      <Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"{role}\"/>");
        }
        for representation in &self.representations {
            representation.render_into(out);
        }
        out.push_str("    </AdaptationSet>\n");
    }

    /// The largest picture and rate of the set.
    fn render_limits(&self, out: &mut String) {
        let video = |representation: &Representation| match representation.format {
            Format::Video { width, height, frame_rate } => Some((width, height, frame_rate)),
            Format::Audio { .. } | Format::Text => None,
        };
        let all: Vec<_> = self.representations.iter().filter_map(video).collect();
        let width = all.iter().map(|(width, ..)| *width).max().unwrap_or(0);
        let height = all.iter().map(|(_, height, _)| *height).max().unwrap_or(0);
        let _ = write!(out, " maxWidth=\"{width}\" maxHeight=\"{height}\"");
        if let Some(rate) = all.iter().filter_map(|(.., rate)| *rate).max_by(faster) {
            let _ = write!(out, " maxFrameRate=\"{}\"", fraction(rate));
        }
    }
}

impl Representation {
    fn render_into(&self, out: &mut String) {
        let _ = write!(
            out,
            "      <Representation id=\"{}\" bandwidth=\"{}\"",
            escaped(&self.id),
            self.bandwidth
        );
        // The MIME type says all of text.
        if self.format != Format::Text {
            let _ = write!(out, " codecs=\"{}\"", escaped(&self.codec));
        }
        match self.format {
            Format::Video { width, height, frame_rate } => {
                let _ = write!(out, " width=\"{width}\" height=\"{height}\" sar=\"1:1\"");
                if let Some(rate) = frame_rate {
                    let _ = write!(out, " frameRate=\"{}\"", fraction(rate));
                }
                out.push_str(">\n");
            }
            Format::Audio { sample_rate, channels } => {
                if let Some(rate) = sample_rate {
                    let _ = write!(out, " audioSamplingRate=\"{rate}\"");
                }
                out.push_str(">\n");
                if let Some(layout) = layout(channels) {
                    let _ = writeln!(
                        out,
                        "        <AudioChannelConfiguration schemeIdUri=\"{CHANNELS}\" value=\"{layout}\"/>"
                    );
                }
            }
            Format::Text => out.push_str(">\n"),
        }
        self.timeline.render_into(out);
        out.push_str("      </Representation>\n");
    }
}

impl Timeline {
    /// Microseconds from the start of the period to the end of the last segment.
    fn end(&self) -> u128 {
        let from_start = u64::saturating_sub(self.first_start, self.period_start);
        Ticks { ticks: from_start + self.duration().ticks, timescale: self.timescale }.micros()
    }

    fn render_into(&self, out: &mut String) {
        let timescale = self.timescale;
        match &self.files {
            Files::Template { init, media } => {
                let _ = write!(
                    out,
                    "        <SegmentTemplate timescale=\"{timescale}\" startNumber=\"{}\"",
                    self.first_number
                );
                if self.period_start > 0 {
                    let _ = write!(out, " presentationTimeOffset=\"{}\"", self.period_start);
                }
                let _ = writeln!(out, " initialization=\"{}\" media=\"{}\">", escaped(init), escaped(media));
                self.render_durations(out, |a, b| a == b);
                out.push_str("        </SegmentTemplate>\n");
            }
            Files::List { init, media } => {
                let _ = writeln!(out, "        <SegmentList timescale=\"{timescale}\">");
                let _ = writeln!(out, "          <Initialization sourceURL=\"{}\"/>", escaped(init));
                // dash.js (5.2) takes the first files of a list for all of them where a line stands for several.
                self.render_durations(out, |_, _| false);
                for uri in media {
                    let _ = writeln!(out, "          <SegmentURL media=\"{}\"/>", escaped(uri));
                }
                out.push_str("        </SegmentList>\n");
            }
            Files::Whole(uri) => {
                let _ = writeln!(out, "        <BaseURL>{}</BaseURL>", escaped(uri));
            }
        }
    }

    /// Segments in a row that may be are one line.
    fn render_durations(&self, out: &mut String, together: impl Fn(&u64, &u64) -> bool) {
        out.push_str("          <SegmentTimeline>\n");
        let mut start = format!(" t=\"{}\"", self.first_start);
        for run in self.durations.chunk_by(&together) {
            let Some(duration) = run.first() else { continue };
            let _ = write!(out, "            <S{start} d=\"{duration}\"");
            if run.len() > 1 {
                let _ = write!(out, " r=\"{}\"", run.len() - 1);
            }
            out.push_str("/>\n");
            start.clear();
        }
        out.push_str("          </SegmentTimeline>\n");
    }
}

/// A length of time in microseconds, written as XML Schema's `duration`.
#[derive(Clone, Copy)]
struct Seconds(u128);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PT{}.{:06}S", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

fn faster(a: &(u32, u32), b: &(u32, u32)) -> Ordering {
    (u64::from(a.0) * u64::from(b.1)).cmp(&(u64::from(b.0) * u64::from(a.1)))
}

fn fraction((num, den): (u32, u32)) -> String {
    if den == 1 { num.to_string() } else { format!("{num}/{den}") }
}

/// The number of the layout that so many channels usually have; `None` where there is no usual one.
fn layout(channels: u32) -> Option<u32> {
    match channels {
        1..=6 => Some(channels),
        8 => Some(12),
        _ => None,
    }
}

/// What XML Schema's `language` allows: players refuse the whole manifest for less.
fn is_language(tag: &str) -> bool {
    let fits = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    tag.split('-').all(fits)
        && tag.split('-').next().is_some_and(|first| first.bytes().all(|b| b.is_ascii_alphabetic()))
}

/// Text as it may stand in an attribute or an element. Control characters, which XML cannot hold, go.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}
