//! A publisher by RTMP that does what others do not: written by the chunk, from Adobe's specification (RTMP 1.0) and Veovera's (E-RTMP).

use std::path::Path;
use std::time::Duration;

use reelmill_testkit::ffmpeg::ffmpeg_log;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// A connection that publishes.
pub(crate) struct Peer {
    input: OwnedReadHalf,
    output: OwnedWriteHalf,
    heard: Vec<u8>,
}

/// A message with media.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) at: u32,
    pub(crate) sound: bool,
    pub(crate) data: Vec<u8>,
}

/// Bytes of a chunk where nobody said otherwise (5.4.1).
const CHUNK: usize = 128;
const PATIENCE: Duration = Duration::from_secs(20);

impl Peer {
    /// Connects, and asks to publish under a name.
    ///
    /// # Errors
    /// What was answered where that was no yes.
    pub(crate) async fn publish(address: &str, name: &str) -> Result<Self, String> {
        let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let (input, output) = socket.into_split();
        let mut peer = Self { input, output, heard: vec![] };
        let mut hello = vec![3];
        hello.extend([0; 1536]);
        peer.send(&hello).await?;
        let mut answer = vec![0; 1 + 1536 * 2];
        timeout(PATIENCE, peer.input.read_exact(&mut answer))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        peer.send(&answer[1..1537]).await?;

        let mut connect = vec![];
        string(&mut connect, "connect");
        number(&mut connect, 1.0);
        connect.push(3);
        for (key, value) in [("app", "live"), ("tcUrl", "rtmp://localhost/live"), ("type", "nonprivate")] {
            connect.extend((key.len() as u16).to_be_bytes());
            connect.extend(key.as_bytes());
            string(&mut connect, value);
        }
        connect.extend([0, 0, 9]);
        peer.command(0, &connect).await?;
        peer.hears("_result").await?;
        let mut create = vec![];
        string(&mut create, "createStream");
        number(&mut create, 2.0);
        create.push(5);
        peer.command(0, &create).await?;
        peer.hears("_result").await?;
        let mut publish = vec![];
        string(&mut publish, "publish");
        number(&mut publish, 3.0);
        publish.push(5);
        string(&mut publish, name);
        string(&mut publish, "live");
        peer.command(1, &publish).await?;
        peer.hears("NetStream.Publish.Start").await?;
        Ok(peer)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.output.write_all(bytes).await.map_err(|error| error.to_string())
    }

    async fn command(&mut self, stream: u32, body: &[u8]) -> Result<(), String> {
        let mut bytes = vec![];
        for chunk in chunks(3, 0, 20, stream, body) {
            bytes.extend(chunk);
        }
        self.send(&bytes).await
    }

    /// Reads until a word was said; what was heard until then is forgotten.
    async fn hears(&mut self, word: &str) -> Result<(), String> {
        let mut buffer = vec![0; 4096];
        loop {
            let all = String::from_utf8_lossy(&self.heard).into_owned();
            if all.contains(word) {
                self.heard.clear();
                return Ok(());
            }
            if all.contains("_error")
                || all.contains("NetStream.Publish.BadName")
                || all.contains("NetStream.Publish.Denied")
            {
                return Err(all);
            }
            let read =
                timeout(PATIENCE, self.input.read(&mut buffer)).await.map_err(|error| error.to_string())?;
            match read {
                Ok(0) => return Err(format!("it hung up; before it said {all:?}")),
                Ok(count) => self.heard.extend(&buffer[..count]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Sends messages, the chunks of each picture between those of the sound that follows it.
    pub(crate) async fn interleaved(&mut self, messages: &[Message]) -> Result<(), String> {
        let mut bytes = vec![];
        for pair in messages.chunks(2) {
            let mut tracks: Vec<_> = pair
                .iter()
                .enumerate()
                // Of one kind they go one after the other: a chunk stream carries one message at a time.
                .map(|(place, message)| {
                    let (channel, kind) = if message.sound { (4, 8) } else { (6, 9) };
                    let channel =
                        if place == 1 && pair[0].sound == message.sound { channel + 3 } else { channel };
                    chunks(channel, message.at, kind, 1, &message.data).into_iter()
                })
                .collect();
            loop {
                let before = bytes.len();
                for track in &mut tracks {
                    bytes.extend(track.next().unwrap_or_default());
                }
                if bytes.len() == before {
                    break;
                }
            }
        }
        self.send(&bytes).await
    }

    /// Waits until the other side hangs up.
    pub(crate) async fn waits_to_be_sent_away(mut self) {
        let mut rest = vec![];
        let _ = timeout(PATIENCE, self.input.read_to_end(&mut rest)).await.unwrap();
    }
}

/// A message cut into chunks: a whole header, and then none (5.3.1).
fn chunks(channel: u8, at: u32, kind: u8, stream: u32, body: &[u8]) -> Vec<Vec<u8>> {
    let pieces: Vec<&[u8]> = if body.is_empty() { vec![body] } else { body.chunks(CHUNK).collect() };
    let chunk = |(place, piece): (usize, &&[u8])| {
        let mut chunk = vec![];
        if place == 0 {
            chunk.push(channel);
            chunk.extend(&at.to_be_bytes()[1..]);
            chunk.extend(&(body.len() as u32).to_be_bytes()[1..]);
            chunk.push(kind);
            chunk.extend(stream.to_le_bytes());
        } else {
            chunk.push(0xc0 | channel);
        }
        chunk.extend(*piece);
        chunk
    };
    pieces.iter().enumerate().map(chunk).collect()
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(2);
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn number(out: &mut Vec<u8>, number: f64) {
    out.push(0);
    out.extend(number.to_be_bytes());
}

/// What a publisher would send of a video in H.264 with AAC, as FFmpeg puts it into FLV.
pub(crate) fn messages(video: &Path, dir: &Path) -> Vec<Message> {
    let flv = dir.join("messages.flv");
    let (from, to) = (video.to_str().unwrap(), flv.to_str().unwrap());
    ffmpeg_log(&["-loglevel", "error", "-y", "-i", from, "-t", "5", "-c", "copy", "-f", "flv", to]);
    let bytes = std::fs::read(&flv).unwrap();
    let mut rest = &bytes[13..];
    let mut all = vec![];
    while rest.len() > 15 {
        let size = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        let at = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
        let data = rest[11..11 + size].to_vec();
        match rest[0] {
            8 => all.push(Message { at, sound: true, data }),
            9 => all.push(Message { at, sound: false, data }),
            _ => {}
        }
        rest = &rest[size + 15..];
    }
    all
}

/// What a publisher of Enhanced RTMP would send of a picture: `four` is the codec's name there, `config` the name of the box that
/// describes it. Taken from a fragmented MP4 with a frame in each fragment, without reordered pictures.
pub(crate) fn enhanced(mp4: &Path, four: &[u8; 4], config: &[u8; 4], frame_ms: u32) -> Vec<Message> {
    let bytes = std::fs::read(mp4).unwrap();
    let at = bytes.windows(4).position(|name| name == config).unwrap();
    let size = u32::from_be_bytes(bytes[at - 4..at].try_into().unwrap()) as usize;
    let private = &bytes[at + 4..at - 4 + size];
    let mut all = vec![Message { at: 0, sound: false, data: [&[0x90], &four[..], private].concat() }];
    let mut rest = &bytes[..];
    let mut key = true;
    while rest.len() >= 8 {
        let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        if &rest[4..8] == b"mdat" {
            let at = (all.len() as u32 - 1) * frame_ms;
            // A coded frame whose composition time is zero; of AV1 there is none at all.
            let first = if key { 0x93 } else { 0xa3 };
            all.push(Message { at, sound: false, data: [&[first], &four[..], &rest[8..size]].concat() });
            key = false;
        }
        rest = &rest[size..];
    }
    all
}
