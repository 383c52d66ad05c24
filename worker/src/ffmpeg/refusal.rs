//! Why ffprobe would not read a source, in words for the person who sent it. FFmpeg's own words name our files and whitelists.

use reelmill_shared::job::error::{Reason, TaskError};

/// What the log of a failed probe means.
pub fn explain(log: &str) -> TaskError {
    if let Some(error) = limit(log) {
        return error;
    }
    if let Some(format) = speaker(log, "Format not on whitelist") {
        return TaskError::fatal(
            Reason::NotMedia,
            format!("the source is in a format that is not accepted ({format}); send a video or audio file"),
        );
    }
    if let Some(codec) = log.split_once("Codec (").and_then(|(_, rest)| rest.split_once(") not on whitelist"))
    {
        return TaskError::fatal(
            Reason::NotMedia,
            format!("the source holds a track in a codec that is not accepted ({})", codec.0),
        );
    }
    let why = last_words(log).map_or(String::new(), |why| format!(" (FFmpeg says: {why})"));
    TaskError::fatal(Reason::NotMedia, format!("the source is not a video or audio file we can read{why}"))
}

/// A limit of ours that FFmpeg ran into, also where it went on without the track.
pub fn limit(log: &str) -> Option<TaskError> {
    let what = if log.contains("exceeds max_streams") {
        "the source has too many tracks; at most 32 are allowed"
    } else if log.contains("exceeds specified max pixel count") {
        "the picture is too large; at most 40 megapixels are allowed"
    } else {
        return None;
    };
    Some(TaskError::fatal(Reason::LimitExceeded, what))
}

/// The part of FFmpeg that said `words`: `hls` of `[hls @ 0x5581…] Format …`.
fn speaker<'a>(log: &'a str, words: &str) -> Option<&'a str> {
    let line = log.lines().find(|line| line.contains(words))?;
    line.strip_prefix('[')?.split([' ', ',']).next()
}

/// The last line without the names of its speaker and of our scratch file.
fn last_words(log: &str) -> Option<&str> {
    let mut line = log.lines().rev().find(|line| !line.trim().is_empty())?;
    while let Some((_, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        line = rest;
    }
    if let Some((_, after)) = line.rsplit_once("file:") {
        line = after.split_once(": ").map_or("", |(_, why)| why);
    }
    Some(line.trim()).filter(|why| !why.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_is_a_format_that_is_not_accepted() {
        let error = explain(
            "[hls @ 0x558527d02580] Format not on whitelist 'mov,matroska'\nfile:/scratch/source: Invalid argument\n",
        );
        assert_eq!(
            (error.reason, error.retryable, error.message.as_str()),
            (
                Reason::NotMedia,
                false,
                "the source is in a format that is not accepted (hls); send a video or audio file"
            )
        );
    }

    #[test]
    fn limits_are_named() {
        for log in [
            "[matroska,webm @ 0x55aed8] Number of streams exceeds max_streams parameter (32), see the documentation",
            "[mjpeg @ 0x563e] [IMGUTILS @ 0x7fff] Picture size 15800x15800 exceeds specified max pixel count 40000000, see",
        ] {
            assert_eq!(explain(log).reason, Reason::LimitExceeded);
        }
        assert_eq!(limit("file:/scratch/source: Invalid argument"), None);
    }

    #[test]
    fn neither_addresses_nor_our_names_are_told() {
        let message = |log| explain(log).message;
        assert_eq!(
            message("[mov,mp4 @ 0x55ad88] moov atom not found\nfile:/scratch/source: Invalid data found\n\n"),
            "the source is not a video or audio file we can read (FFmpeg says: Invalid data found)"
        );
        assert_eq!(
            message("[png @ 0x5594da845840] Codec (png) not on whitelist 'h264,hevc'"),
            "the source holds a track in a codec that is not accepted (png)"
        );
        assert_eq!(
            message("[mov @ 0x55] [h264 @ 0x66] no frame!"),
            "the source is not a video or audio file we can read (FFmpeg says: no frame!)"
        );
        assert_eq!(message(""), "the source is not a video or audio file we can read");
    }
}
