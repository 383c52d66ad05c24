//! The master playlist (RFC 8216, 4.3.4; "multivariant" in the revision).

use std::fmt::Write as _;

use super::VERSION;
use super::text::{decimal, quoted, uri_line};

/// One quality a player may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Where its media playlist is, relative to the master playlist.
    pub uri: String,
    /// Peak bit rate in bits a second, of the video and the largest rendition of its audio group together.
    pub bandwidth: u64,
    /// Average bit rate in bits a second, of video and audio together, once it is known.
    pub average_bandwidth: Option<u64>,
    /// Codecs by RFC 6381, of the video and of its audio group.
    pub codecs: Vec<String>,
    /// Width and height in pixels; `None` for audio alone.
    pub resolution: Option<(u32, u32)>,
    /// Frames a second as numerator and denominator; `None` for audio alone.
    pub frame_rate: Option<(u32, u32)>,
    /// [`AudioRendition::group`] to play with it; `None` when it has no audio or is audio itself.
    pub audio_group: Option<String>,
    /// [`SubtitleRendition::group`] that can be shown with it; `None` when there is none.
    pub subtitle_group: Option<String>,
    /// The rung's name, for quality menus. Not an attribute of the RFC, whose clients skip what they do not know;
    /// hls.js and Video.js show it. Left out when empty.
    pub name: String,
}

/// One audio track that variants can be played with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioRendition {
    /// The group that variants refer to.
    pub group: String,
    /// The name in a player's menu, unique within the group.
    pub name: String,
    /// Language by RFC 5646 (`en`, `pt-BR`), when it is known.
    pub language: Option<String>,
    /// Where its media playlist is, relative to the master playlist.
    pub uri: String,
    /// Number of channels.
    pub channels: u32,
    /// Played when the viewer has chosen nothing. At most one of a group.
    pub default: bool,
    /// Can be chosen for the viewer's language. Taken as true when `default` is, as the RFC demands.
    pub autoselect: bool,
    /// What it is good for besides its language: media characteristic tags (RFC 8216bis, 4.4.6.1).
    pub characteristics: Option<&'static str>,
}

/// One text track that variants can be shown with. None is shown unasked: DEFAULT is always NO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubtitleRendition {
    /// The group that variants refer to.
    pub group: String,
    /// The name in a player's menu, unique within the group.
    pub name: String,
    /// Language by RFC 5646, when it is known.
    pub language: Option<String>,
    /// Where its media playlist is, relative to the master playlist.
    pub uri: String,
    /// Can be chosen for the viewer's language.
    pub autoselect: bool,
    /// Only what nobody could follow without it.
    pub forced: bool,
    /// As with sound.
    pub characteristics: Option<&'static str>,
}

/// The I-frames of one quality, which players show while a viewer scrubs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IframeVariant {
    /// Where its playlist of I-frames is, relative to the master playlist.
    pub uri: String,
    /// Peak bit rate of the I-frames alone, in bits a second.
    pub bandwidth: u64,
    /// Average bit rate of the I-frames alone, in bits a second.
    pub average_bandwidth: u64,
    /// Codec of the video by RFC 6381.
    pub codec: String,
    /// Width and height in pixels.
    pub resolution: (u32, u32),
}

/// All qualities of a recording or a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterPlaylist {
    /// The qualities, in the order a player should try them: many start with the first.
    pub variants: Vec<Variant>,
    /// The audio tracks of all groups.
    pub audio: Vec<AudioRendition>,
    /// The text tracks of all groups.
    pub subtitles: Vec<SubtitleRendition>,
    /// The I-frames of the qualities.
    pub iframes: Vec<IframeVariant>,
}

impl MasterPlaylist {
    /// Writes the playlist. Strings are cleaned so that none can break out of its attribute or line.
    pub fn render(&self) -> String {
        let mut out = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
        self.audio.iter().for_each(|rendition| rendition.render_into(&mut out));
        self.subtitles.iter().for_each(|rendition| rendition.render_into(&mut out));
        self.variants.iter().for_each(|variant| variant.render_into(&mut out));
        self.iframes.iter().for_each(|variant| variant.render_into(&mut out));
        out
    }
}

// Writing to a String cannot fail, so the results of `write!` are dropped.

/// What `EXT-X-MEDIA` says of every kind of track.
fn media_into(
    out: &mut String,
    kind: &str,
    (group, name): (&str, &str),
    language: Option<&str>,
    characteristics: Option<&str>,
) {
    let _ = write!(out, "#EXT-X-MEDIA:TYPE={kind},GROUP-ID={},NAME={}", quoted(group), quoted(name));
    if let Some(language) = language {
        let _ = write!(out, ",LANGUAGE={}", quoted(language));
    }
    if let Some(characteristics) = characteristics {
        let _ = write!(out, ",CHARACTERISTICS={}", quoted(characteristics));
    }
}

impl SubtitleRendition {
    fn render_into(&self, out: &mut String) {
        let names = (self.group.as_str(), self.name.as_str());
        media_into(out, "SUBTITLES", names, self.language.as_deref(), self.characteristics);
        let _ = writeln!(
            out,
            ",DEFAULT=NO,AUTOSELECT={},FORCED={},URI={}",
            yes_or_no(self.autoselect),
            yes_or_no(self.forced),
            quoted(&self.uri)
        );
    }
}

impl AudioRendition {
    fn render_into(&self, out: &mut String) {
        let names = (self.group.as_str(), self.name.as_str());
        media_into(out, "AUDIO", names, self.language.as_deref(), self.characteristics);
        let _ = writeln!(
            out,
            ",DEFAULT={},AUTOSELECT={},CHANNELS=\"{}\",URI={}",
            yes_or_no(self.default),
            yes_or_no(self.default || self.autoselect),
            self.channels,
            quoted(&self.uri)
        );
    }
}

impl Variant {
    fn render_into(&self, out: &mut String) {
        let _ = write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={}", self.bandwidth);
        if let Some(average) = self.average_bandwidth {
            let _ = write!(out, ",AVERAGE-BANDWIDTH={average}");
        }
        if !self.codecs.is_empty() {
            let _ = write!(out, ",CODECS={}", quoted(&self.codecs.join(",")));
        }
        if let Some((width, height)) = self.resolution {
            let _ = write!(out, ",RESOLUTION={width}x{height}");
        }
        if let Some((frames, seconds)) = self.frame_rate {
            let _ = write!(out, ",FRAME-RATE={}", decimal(frames.into(), seconds, 3));
        }
        if let Some(group) = &self.audio_group {
            let _ = write!(out, ",AUDIO={}", quoted(group));
        }
        if let Some(group) = &self.subtitle_group {
            let _ = write!(out, ",SUBTITLES={}", quoted(group));
        }
        if !self.name.is_empty() {
            let _ = write!(out, ",NAME={}", quoted(&self.name));
        }
        // Saying so keeps players from looking for captions in the video and offering an empty menu.
        let _ = writeln!(out, ",CLOSED-CAPTIONS=NONE\n{}", uri_line(&self.uri));
    }
}

impl IframeVariant {
    /// One line: the URI is an attribute here (RFC 8216, 4.3.4.3).
    fn render_into(&self, out: &mut String) {
        let (width, height) = self.resolution;
        let _ = writeln!(
            out,
            "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS={},RESOLUTION={width}x{height},URI={}",
            self.bandwidth,
            self.average_bandwidth,
            quoted(&self.codec),
            quoted(&self.uri)
        );
    }
}

fn yes_or_no(value: bool) -> &'static str {
    if value { "YES" } else { "NO" }
}
