//! Names of a livestream's files, as they stand in playlists and in requests. All lie beside the master playlist.

use std::fmt;

/// What a name means. Numbers are media sequence numbers: they never mean anything else, whoever made the segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LiveFile {
    Master,
    Manifest,
    Playlist { track: String },
    Init { track: String, epoch: u32 },
    Segment { track: String, number: u64 },
    Part { track: String, number: u64, part: u32 },
}

impl LiveFile {
    /// Reads a name; `None` where it is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "master.m3u8" => return Some(Self::Master),
            "manifest.mpd" => return Some(Self::Manifest),
            _ => {}
        }
        if let Some(track) = name.strip_suffix(".m3u8") {
            return is_track(track).then(|| Self::Playlist { track: track.to_owned() });
        }
        if let Some((track, epoch)) = name.strip_suffix(".mp4").and_then(|name| name.rsplit_once("-init-")) {
            let epoch = number(epoch)?;
            return is_track(track).then(|| Self::Init { track: track.to_owned(), epoch: epoch as u32 });
        }
        let (track, rest) = name.strip_suffix(".m4s")?.rsplit_once('-')?;
        let track = is_track(track).then(|| track.to_owned())?;
        match rest.split_once('.') {
            None => Some(Self::Segment { track, number: number(rest)? }),
            Some((segment, part)) => {
                Some(Self::Part { track, number: number(segment)?, part: number(part)? as u32 })
            }
        }
    }
}

impl fmt::Display for LiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => f.write_str("master.m3u8"),
            Self::Manifest => f.write_str("manifest.mpd"),
            Self::Playlist { track } => write!(f, "{track}.m3u8"),
            Self::Init { track, epoch } => write!(f, "{track}-init-{epoch}.mp4"),
            Self::Segment { track, number } => write!(f, "{track}-{number}.m4s"),
            Self::Part { track, number, part } => write!(f, "{track}-{number}.{part}.m4s"),
        }
    }
}

/// A rung's name, or that of a track of sound.
fn is_track(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.len() <= 32 && text.bytes().all(plain)
}

/// At most nine digits, written in the one way we write them.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let track = || "720p".to_owned();
        for file in [
            LiveFile::Master,
            LiveFile::Manifest,
            LiveFile::Playlist { track: track() },
            LiveFile::Init { track: track(), epoch: 3 },
            LiveFile::Segment { track: track(), number: 0 },
            LiveFile::Part { track: track(), number: 1234, part: 11 },
        ] {
            assert_eq!(LiveFile::parse(&file.to_string()), Some(file));
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        for name in [
            "",
            "..m3u8",
            "../x.m3u8",
            "720p.mp4",
            "720p-01.m4s",
            "720p-1.2.3.m4s",
            "720p--1.m4s",
            "720P.m3u8",
            "a-init-.mp4",
            "720p-99999999999.m4s",
            "720p-1.m4s\n",
            "é.m3u8",
        ] {
            assert_eq!(LiveFile::parse(name), None, "{name:?}");
        }
    }
}
