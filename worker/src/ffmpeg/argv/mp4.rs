//! The command lines of a download: tracks that are there already, in one MP4.

use std::ffi::OsString;
use std::path::Path;

use super::{Args, MAX_ALLOC, ffmpeg_start, guarded_input};
use crate::ffmpeg::file_url;

/// Copies the one track of each of `inputs`, at most a picture and a sound, into an MP4 whose index comes first, so that it plays
/// while it loads. `timescale` is the picture's, in ticks a second: its times stay exact. `tags` is a file of FFmpeg's metadata format that says what the
/// work is: what a stranger wrote is on no command line.
pub fn mp4(inputs: &[&Path], timescale: u32, tags: Option<&Path>, output: &Path) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    inputs.iter().for_each(|input| guarded_input(&mut args, input));
    let mut kept = "-1".to_owned();
    if let Some(tags) = tags {
        args.add(["-protocol_whitelist", "file,pipe", "-f", "ffmetadata", "-i"]);
        args.0.push(file_url(tags));
        kept = inputs.len().to_string();
    }
    // No other tags but the tracks' languages, which are what our own init segments say.
    args.add(["-map_metadata", &kept, "-map_chapters", "-1", "-fflags", "+bitexact"]);
    for index in 0..inputs.len() {
        args.add(["-map", &format!("{index}:0")]);
        args.add([&format!("-map_metadata:s:{index}"), &format!("{index}:s:0")]);
    }
    args.add(["-c", "copy", "-video_track_timescale", &timescale.to_string()]);
    args.add(["-movflags", "+faststart", "-f", "mp4"]);
    args.0.push(file_url(output));
    args.0
}

/// Asks ffprobe how many frames the index of a file lists for each track, as JSON.
pub fn count_frames(input: &Path) -> Vec<OsString> {
    let mut args = Args::default();
    args.add(["-hide_banner", "-loglevel", "error", "-max_alloc", MAX_ALLOC]);
    args.add(["-show_entries", "stream=nb_frames", "-of", "json=compact=1"]);
    guarded_input(&mut args, input);
    args.0
}
