//! From the messages of an RTMP publisher to a container that FFmpeg reads: FLV as they are, or, where they are of Enhanced RTMP
//! (Veovera, E-RTMP v2), Matroska. Pure.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::flv::{self, Clock, Tag, TagKind};
use super::matroska::{self, Codec, Frame, Track};

/// Why a publisher cannot be read. For people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    #[error(
        "Enhanced RTMP with a codec that is not taken here: {0}; send H.264, HEVC, AV1 or VP9, and AAC or Opus"
    )]
    Codec(String),
    #[error(
        "Enhanced RTMP with several tracks in one, which is not taken here: send one picture and one sound"
    )]
    Multitrack,
    #[error("a publisher of Enhanced RTMP changed what it sends: it has to come anew")]
    Changed,
    #[error("a message of Enhanced RTMP that is cut short")]
    Short,
}

/// Puts messages into a container that it chooses by the first of them.
#[derive(Debug, Default)]
pub struct Wrapper {
    clock: Clock,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// Both tracks may have to be named before the first frame.
    Waiting(Vec<(Tag, Duration)>),
    Flv,
    Matroska(Box<Enhanced>),
}

impl Default for Form {
    fn default() -> Self {
        Self::Waiting(vec![])
    }
}

#[derive(Debug, Default)]
struct Enhanced {
    writer: matroska::Writer,
    tracks: Vec<Track>,
    began: bool,
}

/// Messages that are held until it is clear what comes: about a second.
const HELD: usize = 100;
/// Milliseconds between the first of them and the last.
const LATEST: u32 = 1000;

impl Wrapper {
    /// A message as FFmpeg reads it, with those before it that had to wait for it; often nothing. `waited` is how long it took to come
    /// after the one before.
    ///
    /// # Errors
    /// [`Unread`]: nothing of this publisher will be read.
    pub fn push(&mut self, tag: Tag, waited: Duration) -> Result<Bytes, Unread> {
        match &mut self.form {
            Form::Flv => Ok(flv::write(&mut self.clock, &tag, waited)),
            Form::Matroska(enhanced) => enhanced.push(&mut self.clock, &tag, waited),
            Form::Waiting(held) => {
                held.push((tag, waited));
                let Some(enhanced) = decided(held) else { return Ok(Bytes::new()) };
                let held = std::mem::take(held);
                self.begin(enhanced, held)
            }
        }
    }

    fn begin(&mut self, enhanced: bool, held: Vec<(Tag, Duration)>) -> Result<Bytes, Unread> {
        let mut out = BytesMut::new();
        if enhanced {
            let mut new = Enhanced::default();
            for (tag, _) in &held {
                if let Packet::Config(track) = read(tag)? {
                    new.name(track)?;
                }
            }
            self.form = Form::Matroska(Box::new(new));
        } else {
            out.extend_from_slice(&flv::header());
            self.form = Form::Flv;
        }
        for (tag, waited) in held {
            out.extend_from_slice(&self.push(tag, waited)?);
        }
        Ok(out.freeze())
    }
}

/// Whether it is of Enhanced RTMP; `None` while that is not clear, or a track may still be named.
fn decided(held: &[(Tag, Duration)]) -> Option<bool> {
    let enhanced = |kind: TagKind| {
        let first = |tag: &Tag| tag.data.first().copied();
        let of_kind = held.iter().filter(|(tag, _)| tag.kind == kind).find_map(|(tag, _)| first(tag))?;
        Some(match kind {
            TagKind::Video => of_kind & 0x80 != 0,
            TagKind::Audio => of_kind >> 4 == 9,
        })
    };
    let (video, audio) = (enhanced(TagKind::Video), enhanced(TagKind::Audio));
    let over = held.len() >= HELD
        || held.first().zip(held.last()).is_some_and(|((first, _), (last, _))| {
            last.timestamp.wrapping_sub(first.timestamp) as i32 >= LATEST as i32
        });
    match (video, audio) {
        (Some(false), Some(false)) => Some(false),
        // Its sound is most likely of the same kind, and FLV names no tracks before they come.
        (Some(false), None) => Some(false),
        (Some(video), Some(audio)) => Some(video || audio),
        (None, None) => None,
        (video, audio) => over.then(|| video.or(audio).unwrap_or(false)),
    }
}

impl Enhanced {
    /// A track, before anything of it.
    fn name(&mut self, track: Track) -> Result<(), Unread> {
        let same = |known: &&Track| is_sound(known.codec) == is_sound(track.codec);
        match self.tracks.iter().find(same) {
            Some(known) if *known == track => Ok(()),
            Some(_) => Err(Unread::Changed),
            // What nobody was told of before the first frame cannot be added any more.
            None if self.began => Ok(()),
            None => {
                self.tracks.push(track);
                Ok(())
            }
        }
    }

    fn push(&mut self, clock: &mut Clock, tag: &Tag, waited: Duration) -> Result<Bytes, Unread> {
        match read(tag)? {
            Packet::Config(track) => self.name(track).map(|()| Bytes::new()),
            Packet::Nothing => Ok(Bytes::new()),
            Packet::Frame { key, offset, data } => {
                let at = i64::from(clock.time(tag, waited)) + i64::from(offset);
                let sound = tag.kind == TagKind::Audio;
                if !self.tracks.iter().any(|track| is_sound(track.codec) == sound) {
                    return Ok(Bytes::new());
                }
                let track = if sound { matroska::AUDIO } else { matroska::VIDEO };
                let frame = self.writer.frame(Frame { track, at, key: key || sound, data: &data });
                if std::mem::replace(&mut self.began, true) {
                    return Ok(frame);
                }
                let mut out = BytesMut::from(matroska::header(&self.tracks));
                out.extend_from_slice(&frame);
                Ok(out.freeze())
            }
        }
    }
}

fn is_sound(codec: Codec) -> bool {
    matches!(codec, Codec::Aac | Codec::Opus)
}

/// What a message holds.
enum Packet {
    Config(Track),
    Frame {
        key: bool,
        /// Milliseconds from when it is decoded to when it is shown.
        offset: i32,
        data: Bytes,
    },
    /// Nothing to be seen or heard.
    Nothing,
}

fn read(tag: &Tag) -> Result<Packet, Unread> {
    let Some(first) = tag.data.first().copied() else { return Ok(Packet::Nothing) };
    match tag.kind {
        TagKind::Video if first & 0x80 != 0 => video(first, &tag.data),
        TagKind::Audio if first >> 4 == 9 => audio(first, &tag.data),
        TagKind::Video => old_video(first, &tag.data),
        TagKind::Audio => old_audio(first, &tag.data),
    }
}

/// E-RTMP v2, "ExVideoTagHeader".
fn video(first: u8, data: &Bytes) -> Result<Packet, Unread> {
    let (packet, key) = (first & 0x0f, (first >> 4) & 7 == 1);
    if packet >= 6 {
        return Err(Unread::Multitrack);
    }
    let four = data.get(1..5).ok_or(Unread::Short)?;
    let codec = match four {
        b"hvc1" => Codec::Hevc,
        b"avc1" => Codec::Avc,
        b"av01" => Codec::Av1,
        b"vp09" => Codec::Vp9,
        other => return Err(Unread::Codec(String::from_utf8_lossy(other).escape_default().to_string())),
    };
    let body = data.slice(5..);
    Ok(match packet {
        // Matroska has no use for what is said of VP9.
        0 if codec == Codec::Vp9 => Packet::Config(Track { codec, private: Bytes::new() }),
        0 => Packet::Config(Track { codec, private: body }),
        1 if matches!(codec, Codec::Hevc | Codec::Avc) => {
            let offset = offset(body.get(..3).ok_or(Unread::Short)?);
            Packet::Frame { key, offset, data: body.slice(3..) }
        }
        1 | 3 => Packet::Frame { key, offset: 0, data: body },
        _ => Packet::Nothing,
    })
}

/// E-RTMP v2, "ExAudioTagHeader".
fn audio(first: u8, data: &Bytes) -> Result<Packet, Unread> {
    let packet = first & 0x0f;
    if matches!(packet, 5 | 7) {
        return Err(Unread::Multitrack);
    }
    let codec = match data.get(1..5).ok_or(Unread::Short)? {
        b"mp4a" => Codec::Aac,
        b"Opus" => Codec::Opus,
        other => return Err(Unread::Codec(String::from_utf8_lossy(other).escape_default().to_string())),
    };
    let body = data.slice(5..);
    Ok(match packet {
        0 => Packet::Config(Track { codec, private: body }),
        1 => Packet::Frame { key: true, offset: 0, data: body },
        _ => Packet::Nothing,
    })
}

/// H.264 as it always was, beside sound that is enhanced.
fn old_video(first: u8, data: &Bytes) -> Result<Packet, Unread> {
    if first & 0x0f != 7 {
        return Err(Unread::Codec(format!("number {} of FLV's", first & 0x0f)));
    }
    let head = data.get(1..5).ok_or(Unread::Short)?;
    let body = data.slice(5..);
    Ok(match head.first() {
        Some(0) => Packet::Config(Track { codec: Codec::Avc, private: body }),
        Some(1) => {
            let offset = offset(head.get(1..).unwrap_or_default());
            Packet::Frame { key: first >> 4 == 1, offset, data: body }
        }
        _ => Packet::Nothing,
    })
}

/// AAC as it always was, beside a picture that is enhanced.
fn old_audio(first: u8, data: &Bytes) -> Result<Packet, Unread> {
    if first >> 4 != 10 {
        return Err(Unread::Codec(format!("sound number {} of FLV's", first >> 4)));
    }
    let kind = data.get(1).copied().ok_or(Unread::Short)?;
    let body = data.slice(2..);
    Ok(match kind {
        0 => Packet::Config(Track { codec: Codec::Aac, private: body }),
        _ => Packet::Frame { key: true, offset: 0, data: body },
    })
}

/// Three bytes with a sign.
fn offset(bytes: &[u8]) -> i32 {
    let number = bytes.iter().take(3).fold(0_i32, |number, byte| number << 8 | i32::from(*byte));
    (number << 8) >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: TagKind, timestamp: u32, data: &[u8]) -> Tag {
        Tag { kind, timestamp, data: Bytes::copy_from_slice(data) }
    }

    fn push(wrapper: &mut Wrapper, kind: TagKind, at: u32, data: &[u8]) -> Result<Bytes, Unread> {
        wrapper.push(tag(kind, at, data), Duration::from_millis(20))
    }

    const V: TagKind = TagKind::Video;
    const A: TagKind = TagKind::Audio;

    #[test]
    fn what_is_not_enhanced_goes_on_at_once_and_as_it_is() {
        let mut wrapper = Wrapper::default();
        assert!(push(&mut wrapper, A, 0, &[0xaf, 0, 0x12, 0x10]).unwrap().is_empty());
        let out = push(&mut wrapper, V, 0, &[0x17, 0, 0, 0, 0, 1]).unwrap();
        assert!(out.starts_with(b"FLV\x01\x05"));
        assert_eq!(out.len(), 13 + (4 + 15) + (6 + 15));
        // Sound alone waits for a picture for a while.
        let mut wrapper = Wrapper::default();
        assert!(push(&mut wrapper, A, 0, &[0xaf, 1, 1]).unwrap().is_empty());
        assert!(push(&mut wrapper, A, 1000, &[0xaf, 1, 1]).unwrap().starts_with(b"FLV"));
    }

    #[test]
    fn what_is_enhanced_becomes_matroska_with_both_tracks_in_its_header() {
        let mut wrapper = Wrapper::default();
        assert!(push(&mut wrapper, V, 0, b"\x90hvc1PRIVATE").unwrap().is_empty());
        assert!(push(&mut wrapper, V, 0, b"\x91hvc1\0\0\x28first").unwrap().is_empty(), "sound may come");
        let out = push(&mut wrapper, A, 0, &[0xaf, 0, 0x12, 0x10]).unwrap();
        assert!(out.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]));
        let has = |text: &[u8]| out.windows(text.len()).any(|words| words == text);
        assert!(has(b"V_MPEGH/ISO/HEVC") && has(b"PRIVATE") && has(b"A_AAC") && has(b"first"));
        let next = push(&mut wrapper, V, 40, b"\xa3hvc1second").unwrap();
        assert!(next.ends_with(b"second") && !next.starts_with(&[0x1a]));
        assert!(push(&mut wrapper, V, 80, b"\x90hvc1PRIVATE").unwrap().is_empty(), "said again");
        assert_eq!(push(&mut wrapper, V, 80, b"\x90hvc1OTHER"), Err(Unread::Changed));
    }

    #[test]
    fn what_is_not_taken_says_why() {
        let refused = |data: &[u8]| {
            let mut wrapper = Wrapper::default();
            let first = push(&mut wrapper, V, 0, data);
            first.and_then(|_| push(&mut wrapper, A, 1000, &[0xaf, 0, 0x12, 0x10])).unwrap_err()
        };
        assert!(matches!(refused(b"\x90xvid"), Unread::Codec(codec) if codec == "xvid"));
        assert_eq!(refused(b"\x96\x00hvc1"), Unread::Multitrack);
        assert_eq!(refused(b"\x90hv"), Unread::Short);
        assert_eq!(offset(&[0xff, 0xff, 0xd8]), -40);
    }
}
