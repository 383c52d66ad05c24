//! The command line that makes WebVTT of text tracks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{ffmpeg_start, guarded_input};
use crate::ffmpeg::file_url;

/// Bytes that are made of one track: a day of talk.
pub const MAX_SUBTITLES: u64 = 16 << 20;

/// Makes a WebVTT file of each of the tracks with these indices, in one walk through the file. Times are those of the file less its
/// start, as with picture and sound.
pub fn subtitles(streams: &[u32], input: &Path, outputs: &[PathBuf]) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    args.add(["-threads", "1"]);
    guarded_input(&mut args, input);
    for (stream, output) in streams.iter().zip(outputs) {
        args.add(["-map", &format!("0:{stream}"), "-c:s", "webvtt", "-map_metadata", "-1"]);
        // A text from before the start must not move all the others.
        args.add(["-avoid_negative_ts", "disabled", "-fs", &MAX_SUBTITLES.to_string(), "-f", "webvtt"]);
        args.0.push(file_url(output));
    }
    args.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_track_has_a_file() {
        let outputs = ["/s/a.vtt", "/s/b.vtt"].map(PathBuf::from);
        let args = subtitles(&[3, 5], Path::new("/s/source"), &outputs);
        let line: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let line = line.join(" ");
        assert!(line.find("-i file:/s/source") < line.find("-map 0:3"), "{line}");
        assert_eq!(line.matches("-c:s webvtt").count(), 2);
        assert!(line.contains("-map 0:5") && line.ends_with("-f webvtt file:/s/b.vtt"), "{line}");
    }
}
