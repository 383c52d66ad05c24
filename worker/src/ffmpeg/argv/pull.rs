//! Brings live media into a pipe and decodes nothing.
//!
//! Addresses hold credentials, and every user of a machine may read command lines. So an address stands in a script of the concat
//! demuxer, in the run's own directory; whatever is opened from there may open nothing else.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use url::Url;

use super::{ffmpeg_start, file_url, guarded_input};

/// What is brought.
#[derive(Debug, Clone)]
pub enum Pull {
    /// A video, as fast as it is meant to be seen, over and over where `repeat` says so.
    File { path: PathBuf, repeat: bool },
    /// Picture and sound in files of their own, as fast as they are meant to be seen.
    Tracks(Vec<PathBuf>),
    /// What the script of an address leads to; [`Address::script`] is what stands in it.
    Script { path: PathBuf, container: Container },
}

/// What live media is wrapped in on its way between two programs of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// What RTMP publishers send.
    Flv,
    /// Takes all codecs, as files and cameras have them.
    Matroska,
    /// What came as MPEG-TS: its sound has no header that Matroska wants at the start.
    MpegTs,
}

impl Container {
    /// What begins like this. All of it was written by us, so it is one of them.
    pub fn of(head: &[u8]) -> Self {
        match head.first() {
            Some(b'F') => Self::Flv,
            Some(0x47) => Self::MpegTs,
            _ => Self::Matroska,
        }
    }

    /// FFmpeg's name of it.
    pub fn format(self) -> &'static str {
        match self {
            Self::Flv => "flv",
            Self::Matroska => "matroska",
            Self::MpegTs => "mpegts",
        }
    }
}

/// Where live media comes from. Whoever makes one has checked where it leads.
#[derive(Clone)]
pub enum Address {
    /// A camera.
    Rtsp(Url),
    /// Whoever calls at this address by SRT and knows the passphrase.
    SrtListener { at: SocketAddr, passphrase: String },
    /// A server that is called by SRT.
    SrtCaller { to: SocketAddr, stream: Option<String>, passphrase: Option<String> },
}

/// Microseconds that a camera may be silent.
const SILENCE: &str = "10000000";
/// Microseconds that SRT waits for what was lost on its way, and thereby the delay it adds.
const LATENCY: &str = "200000";

impl Address {
    /// What it is brought in.
    pub fn container(&self) -> Container {
        match self {
            Self::Rtsp(_) => Container::Matroska,
            Self::SrtListener { .. } | Self::SrtCaller { .. } => Container::MpegTs,
        }
    }

    /// The script that opens it.
    pub fn script(&self) -> String {
        let (url, protocols, formats) = match self {
            Self::Rtsp(url) => (url.to_string(), "rtsp,rtp,udp,tcp", "rtsp"),
            Self::SrtListener { at, .. } => (format!("srt://{at}"), "srt", "mpegts"),
            Self::SrtCaller { to, .. } => (format!("srt://{to}"), "srt", "mpegts"),
        };
        // These go before what the command line says: nothing else is opened from here, another script least of all.
        let mut options = vec![("protocol_whitelist", protocols), ("format_whitelist", formats)];
        options.extend([("probesize", "5000000"), ("analyzeduration", "2000000")]);
        match self {
            Self::Rtsp(_) => options.extend([("rtsp_transport", "tcp"), ("timeout", SILENCE)]),
            Self::SrtListener { passphrase, .. } => {
                options.extend([("mode", "listener"), ("latency", LATENCY)]);
                options.extend([("passphrase", passphrase.as_str()), ("enforced_encryption", "1")]);
            }
            Self::SrtCaller { stream, passphrase, .. } => {
                options.extend([("mode", "caller"), ("latency", LATENCY)]);
                options.extend(stream.as_deref().map(|stream| ("srt_streamid", stream)));
                options.extend(passphrase.as_deref().map(|passphrase| ("passphrase", passphrase)));
            }
        }
        let options = options.into_iter().map(|(name, value)| format!("option {name} {}\n", quoted(value)));
        format!("ffconcat version 1.0\nfile {}\n{}", quoted(&url), options.collect::<String>())
    }
}

/// A word of a script, whatever is in it (FFmpeg's utilities manual, "Quoting and escaping"). A line would end it.
fn quoted(text: &str) -> String {
    let text = text.replace(['\n', '\r', '\0'], "");
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Times that are there from the first packet on (cameras leave it without), and go on where the source's clock jumps or, as in MPEG-TS after 26 hours, starts again: by the length of a frame. Counted in
/// frames, because what a tick is differs between versions of FFmpeg.
const STEADY: &str = "if(eq(PREV_OUTDTS,NOPTS),if(eq(DTS,NOPTS),0,DTS),PREV_OUTDTS+\
if(between(DTS-PREV_INDTS,0,2000*max(DURATION,0.02/TB)),DTS-PREV_INDTS,max(DURATION,1)))";
/// How much later than decoded a picture is shown.
const REORDERED: &str = "if(eq(DTS,NOPTS)+eq(PTS,NOPTS),0,clip(PTS-DTS,0,100*max(DURATION,0.02/TB)))";

/// The command line: picture and sound as they are, each frame written as it comes.
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
        Pull::Tracks(paths) => {
            for path in paths {
                args.add(["-re"]);
                guarded_input(&mut args, path);
            }
        }
        Pull::Script { path, .. } => {
            args.add([
                "-protocol_whitelist",
                "file,rtsp,rtp,udp,tcp,srt",
                "-safe",
                "0",
                "-f",
                "concat",
                "-i",
            ]);
            args.0.push(file_url(path));
        }
    }
    match pull {
        Pull::Tracks(paths) => (0..paths.len()).for_each(|track| args.add(["-map", &format!("{track}:0")])),
        Pull::File { .. } | Pull::Script { .. } => args.add(["-map", "0:v:0?", "-map", "0:a:0?"]),
    }
    args.add(["-c", "copy"]);
    if matches!(pull, Pull::Script { .. }) {
        let steady = format!("setts=dts='{STEADY}':pts='{STEADY}+{REORDERED}'");
        args.add(["-bsf:v", &steady, "-bsf:a", &steady]);
    }
    args.add(["-map_metadata", "-1", "-map_chapters", "-1"]);
    let container = match pull {
        Pull::File { .. } | Pull::Tracks(_) => Container::Matroska,
        Pull::Script { container, .. } => *container,
    };
    match container {
        Container::Matroska => args.add(["-cluster_time_limit", "40", "-live", "1"]),
        Container::MpegTs => args.add(["-pes_payload_size", "0"]),
        Container::Flv => {}
    }
    args.add(["-flush_packets", "1", "-f", container.format()]);
    args.0.push(file_url(output));
    args.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_one_in_stands_in_the_script_and_nowhere_else() {
        let at = "127.0.0.1:10080".parse().unwrap();
        let script = Address::SrtListener { at, passphrase: r"it's\a secret".into() }.script();
        assert!(script.starts_with("ffconcat version 1.0\nfile 'srt://127.0.0.1:10080'\n"), "{script}");
        assert!(script.contains("option passphrase 'it'\\''s\\a secret'\n"), "{script}");
        assert!(script.contains("option format_whitelist 'mpegts'\n"), "{script}");
        let args = pull(
            &Pull::Script { path: "/scratch/address".into(), container: Container::MpegTs },
            Path::new("/scratch/out"),
        );
        assert!(!args.iter().any(|arg| arg.to_string_lossy().contains("secret")));
    }

    #[test]
    fn no_word_ends_its_line() {
        let url = Url::parse("rtsp://admin:it's@10.0.0.1/1?x=\\").unwrap();
        let script = Address::Rtsp(url).script();
        assert!(script.contains("file 'rtsp://admin:it'\\''s@10.0.0.1/1?x=\\'\n"), "{script}");
        let to = "[::1]:9000".parse().unwrap();
        let stream = Some("a\noption protocol_whitelist file".to_owned());
        let script = Address::SrtCaller { to, stream, passphrase: None }.script();
        assert!(script.contains("option srt_streamid 'aoption protocol_whitelist file'\n"), "{script}");
        assert!(!script.contains("option passphrase"), "{script}");
    }
}
