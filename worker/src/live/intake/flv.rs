//! FLV: tags one after the other.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::{Packet, Track, Unit, Unreadable, whole};
use crate::live::flv::{Tag, TagKind, header};

#[derive(Default)]
pub(super) struct Reader {
    pub(super) buffer: BytesMut,
    is_begun: bool,
    /// The last description of each track.
    video: Option<Bytes>,
    audio: Option<Bytes>,
    /// There is a picture, so nobody begins without a keyframe.
    has_pictures: bool,
}

/// Before a tag's data, and behind it.
const TAG_HEADER: usize = 11;
const TAG_END: usize = 4;
/// No tag of ours is larger.
const LONGEST: usize = 8 << 20;

impl Reader {
    pub(super) fn push(&mut self, piece: &Bytes, units: &mut VecDeque<Unit>) -> Result<(), Unreadable> {
        self.buffer.extend_from_slice(piece);
        if !self.is_begun {
            let Some(bytes) = whole(&mut self.buffer, header().len()) else { return Ok(()) };
            self.is_begun = true;
            units.push_back(Unit::unread(bytes));
        }
        while let Some(size) = self.buffer.get(1..4) {
            let size = size.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
            if size > LONGEST {
                return Err(Unreadable);
            }
            let Some(bytes) = whole(&mut self.buffer, TAG_HEADER + size + TAG_END) else { return Ok(()) };
            units.push_back(self.unit(bytes)?);
        }
        Ok(())
    }

    fn unit(&mut self, bytes: Bytes) -> Result<Unit, Unreadable> {
        let mut fields = bytes.clone();
        let kind = match fields.get_u8() {
            8 => TagKind::Audio,
            9 => TagKind::Video,
            18 => return Ok(Unit::unread(bytes)),
            _ => return Err(Unreadable),
        };
        fields.advance(3);
        let low = fields.get_uint(3) as u32;
        // The upper eight bits of the time come last.
        let timestamp = u32::from(fields.get_u8()) << 24 | low;
        let data = bytes.slice(TAG_HEADER..bytes.len() - TAG_END);
        let first = data.first().copied().unwrap_or_default();
        let tag = Tag { kind, timestamp, data };
        self.has_pictures |= kind == TagKind::Video;
        if tag.is_config() {
            let slot = if kind == TagKind::Video { &mut self.video } else { &mut self.audio };
            *slot = Some(bytes.clone());
            return Ok(Unit::unread(bytes));
        }
        // In the enhanced form too the frame's type is 1, behind a bit of its own (Veovera, E-RTMP v1).
        let key = kind == TagKind::Video && (first >> 4) & 7 == 1;
        let track = if kind == TagKind::Video { Track::Video } else { Track::Audio };
        let packets = vec![Packet { track, time: i64::from(timestamp), key }];
        Ok(Unit { bytes, packets, begins: key || !self.has_pictures })
    }

    pub(super) fn head(&self) -> Bytes {
        let mut head = BytesMut::from(header().as_ref());
        [&self.video, &self.audio].into_iter().flatten().for_each(|config| head.extend_from_slice(config));
        head.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::live::flv::{Clock, write};

    #[test]
    fn tags_are_found_however_they_come() {
        let mut clock = Clock::default();
        let tags = [
            (TagKind::Video, 0, Bytes::from_static(&[0x17, 0, 0, 0, 0])),
            (TagKind::Audio, 0, Bytes::from_static(&[0xaf, 0, 1])),
            (TagKind::Video, 0, Bytes::from_static(&[0x17, 1, 0, 0, 0, 9])),
            (TagKind::Audio, 10, Bytes::from_static(&[0xaf, 1, 9])),
            (TagKind::Video, 40, Bytes::from_static(&[0x27, 1, 0, 0, 0, 9])),
        ]
        .map(|(kind, timestamp, data)| write(&mut clock, &Tag { kind, timestamp, data }, Duration::ZERO));
        let all = Bytes::from([header().to_vec(), tags.concat()].concat());
        for step in [1, 7, all.len()] {
            let (mut reader, mut units) = (Reader::default(), VecDeque::new());
            for piece in all.chunks(step) {
                reader.push(&Bytes::copy_from_slice(piece), &mut units).unwrap();
            }
            let handed_on: Vec<u8> = units.iter().flat_map(|unit| unit.bytes.to_vec()).collect();
            assert_eq!(handed_on, all, "nothing is lost");
            assert_eq!(
                units.iter().map(|unit| unit.begins).collect::<Vec<_>>(),
                [false, false, false, true, false, false]
            );
            let times: Vec<i64> =
                units.iter().flat_map(|unit| &unit.packets).map(|packet| packet.time).collect();
            assert_eq!(times, [0, 10, 40]);
            assert_eq!(reader.head(), [header(), tags[0].clone(), tags[1].clone()].concat());
        }
    }

    #[test]
    fn what_is_no_flv_is_handed_on() {
        let (mut reader, mut units) = (super::super::Reader::Flv(Reader::default()), VecDeque::new());
        let nonsense = Bytes::from(vec![0xff; 100]);
        reader.push(&nonsense, &mut units);
        reader.push(&nonsense, &mut units);
        let handed_on: usize = units.iter().map(|unit| unit.bytes.len()).sum();
        assert_eq!(handed_on, 200);
        assert!(units.iter().all(|unit| !unit.begins));
    }
}
