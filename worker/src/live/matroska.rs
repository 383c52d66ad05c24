//! Matroska as FFmpeg reads it from a pipe (RFC 9559): a header, then a block a frame. What an Enhanced RTMP publisher sends goes this
//! way, because FFmpeg reads its codecs out of FLV only since 6.1. Pure.

use bytes::{BufMut, Bytes, BytesMut};

/// What a track is coded in, with what Matroska wants to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    pub codec: Codec,
    /// `hvcC`, `avcC`, `av1C`, an AudioSpecificConfig or an OpusHead.
    pub private: Bytes,
}

/// The codecs that publishers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Avc,
    Hevc,
    Av1,
    Vp9,
    Aac,
    Opus,
}

impl Codec {
    /// Matroska's name of it (RFC 9559, section 27.12).
    fn id(self) -> &'static str {
        match self {
            Self::Avc => "V_MPEG4/ISO/AVC",
            Self::Hevc => "V_MPEGH/ISO/HEVC",
            Self::Av1 => "V_AV1",
            Self::Vp9 => "V_VP9",
            Self::Aac => "A_AAC",
            Self::Opus => "A_OPUS",
        }
    }

    fn is_sound(self) -> bool {
        matches!(self, Self::Aac | Self::Opus)
    }
}

/// A frame on its way.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Sound or picture: the number its track has in the header.
    pub track: u8,
    /// When it is shown, in milliseconds.
    pub at: i64,
    pub key: bool,
    pub data: &'a [u8],
}

/// Writes frames one after the other.
#[derive(Debug, Default)]
pub struct Writer {
    /// Where the cluster begins that blocks are written into.
    cluster: Option<i64>,
}

/// A block's time is counted from its cluster's in 16 bits.
const CLUSTER: i64 = 5000;
/// Of the picture and of the sound.
pub const VIDEO: u8 = 1;
pub const AUDIO: u8 = 2;

/// What comes before all frames.
pub fn header(tracks: &[Track]) -> Bytes {
    let mut out = BytesMut::new();
    let mut ebml = BytesMut::new();
    element(&mut ebml, 0x4282, b"matroska");
    element(&mut ebml, 0x4287, &[4]);
    element(&mut ebml, 0x4285, &[2]);
    element(&mut out, 0x1a45_dfa3, &ebml);
    // A segment that goes on for as long as it does.
    out.put_u32(0x1853_8067);
    out.put_u64(0x01ff_ffff_ffff_ffff);
    let mut info = BytesMut::new();
    // A tick is a millisecond.
    element(&mut info, 0x2a_d7b1, &1_000_000_u32.to_be_bytes());
    element(&mut info, 0x4d80, b"reelmill");
    element(&mut info, 0x5741, b"reelmill");
    element(&mut out, 0x1549_a966, &info);
    let mut entries = BytesMut::new();
    for track in tracks {
        let sound = track.codec.is_sound();
        let number = if sound { AUDIO } else { VIDEO };
        let mut entry = BytesMut::new();
        element(&mut entry, 0xd7, &[number]);
        element(&mut entry, 0x73c5, &[number]);
        element(&mut entry, 0x83, &[number]);
        element(&mut entry, 0x9c, &[0]);
        element(&mut entry, 0x86, track.codec.id().as_bytes());
        if !track.private.is_empty() {
            element(&mut entry, 0x63a2, &track.private);
        }
        if sound {
            let (rate, channels) = form(track);
            let mut audio = BytesMut::new();
            element(&mut audio, 0xb5, &f64::from(rate).to_be_bytes());
            element(&mut audio, 0x9f, &[channels]);
            element(&mut entry, 0xe1, &audio);
        }
        element(&mut entries, 0xae, &entry);
    }
    element(&mut out, 0x1654_ae6b, &entries);
    out.freeze()
}

impl Writer {
    /// A frame as FFmpeg reads it.
    pub fn frame(&mut self, frame: Frame<'_>) -> Bytes {
        let mut out = BytesMut::with_capacity(frame.data.len() + 40);
        let since = self.cluster.map(|cluster| frame.at - cluster);
        let within = since.is_some_and(|since| (-CLUSTER..CLUSTER).contains(&since));
        let begins = !within || (frame.key && frame.track == VIDEO);
        let cluster = if begins { frame.at.max(0) } else { self.cluster.unwrap_or(0) };
        if begins {
            self.cluster = Some(cluster);
            out.put_u32(0x1f43_b675);
            out.put_u64(0x01ff_ffff_ffff_ffff);
            element(&mut out, 0xe7, &cluster.to_be_bytes());
        }
        id(&mut out, 0xa3);
        size(&mut out, frame.data.len() + 4);
        out.put_u8(0x80 | frame.track);
        out.put_i16((frame.at - cluster).clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16);
        out.put_u8(if frame.key { 0x80 } else { 0 });
        out.extend_from_slice(frame.data);
        out.freeze()
    }
}

fn element(out: &mut BytesMut, name: u32, data: &[u8]) {
    id(out, name);
    size(out, data.len());
    out.extend_from_slice(data);
}

/// The bytes of an id tell its length by themselves.
fn id(out: &mut BytesMut, name: u32) {
    let bytes = name.to_be_bytes();
    let leading = (name.leading_zeros() / 8) as usize;
    out.extend_from_slice(bytes.get(leading..).unwrap_or_default());
}

/// Always in eight bytes: RFC 8794, section 4.
fn size(out: &mut BytesMut, bytes: usize) {
    out.put_u64(0x0100_0000_0000_0000 | bytes as u64);
}

/// Samples per second and channels, as far as a track says them (ISO/IEC 14496-3, 1.6.2.1; RFC 7845, 5.1).
fn form(track: &Track) -> (u32, u8) {
    const RATES: [u32; 13] =
        [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];
    let byte = |index: usize| track.private.get(index).copied().unwrap_or(0);
    match track.codec {
        Codec::Opus => (48_000, byte(9).max(1)),
        _ => {
            let index = usize::from((byte(0) & 7) << 1 | byte(1) >> 7);
            let channels = (byte(1) >> 3) & 0x0f;
            (RATES.get(index).copied().unwrap_or(48_000), if channels == 7 { 8 } else { channels.max(1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_says_its_form() {
        let aac = Track { codec: Codec::Aac, private: Bytes::from_static(&[0x12, 0x10]) };
        assert_eq!(form(&aac), (44_100, 2));
        let opus = Track { codec: Codec::Opus, private: Bytes::from_static(b"OpusHead\x01\x02") };
        assert_eq!(form(&opus), (48_000, 2));
    }

    #[test]
    fn blocks_count_from_their_cluster() {
        let mut writer = Writer::default();
        let mut at = |at, key| {
            let bytes = writer.frame(Frame { track: VIDEO, at, key, data: b"x" });
            let begins = bytes.starts_with(&[0x1f, 0x43, 0xb6, 0x75]);
            (begins, i16::from_be_bytes([bytes[bytes.len() - 4], bytes[bytes.len() - 3]]))
        };
        assert_eq!(at(0, true), (true, 0));
        assert_eq!(at(40, false), (false, 40));
        assert_eq!(at(2000, true), (true, 0));
        assert_eq!(at(1960, false), (false, -40));
        assert_eq!(at(90_000, false), (true, 0));
    }
}
