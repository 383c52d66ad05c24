//! Brings live media into a pipe and decodes nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use url::Url;

use super::{ffmpeg_start, file_url, guarded_input};

/// What is brought.
#[derive(Debug, Clone)]
pub enum Pull {
    /// A video, as fast as it is meant to be seen, over and over where `repeat` says so.
    File { path: PathBuf, repeat: bool },
    /// A camera, at an address that was checked.
    Rtsp { url: Url },
}

/// Microseconds that a camera may be silent.
const SILENCE: &str = "10000000";

/// The command line: picture and sound as they are, in Matroska, which takes all codecs, in clusters of a frame or two.
pub fn pull(pull: &Pull, output: &Path) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    match pull {
        Pull::File { path, repeat } => {
            args.add(["-re"]);
            if *repeat {
                args.add(["-stream_loop", "-1"]);
            }
            guarded_input(&mut args, path);
        }
        Pull::Rtsp { url } => {
            args.add([
                "-protocol_whitelist",
                "rtsp,rtp,udp,tcp",
                "-rtsp_transport",
                "tcp",
                "-timeout",
                SILENCE,
            ]);
            args.add(["-probesize", "5M", "-analyzeduration", "2000000", "-i", url.as_str()]);
        }
    }
    args.add([
        "-map",
        "0:v:0?",
        "-map",
        "0:a:0?",
        "-c",
        "copy",
        "-map_metadata",
        "-1",
        "-map_chapters",
        "-1",
    ]);
    args.add(["-flush_packets", "1", "-cluster_time_limit", "40", "-live", "1", "-f", "matroska"]);
    args.0.push(file_url(output));
    args.0
}
