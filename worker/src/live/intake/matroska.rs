//! Matroska to a pipe (RFC 9559): a head, then clusters. FFmpeg writes them with their sizes, we ourselves without.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::{Packet, Track, Unit, Unreadable, whole};

#[derive(Default)]
pub(super) struct Reader {
    pub(super) buffer: BytesMut,
    /// All before the first cluster.
    head: BytesMut,
    is_headed: bool,
    tracks: Vec<(u64, Track)>,
    /// The beginning of a cluster of unknown size, which stands with its first block, and the cluster's time.
    opening: BytesMut,
    time: i64,
}

const SEGMENT: u64 = 0x1853_8067;
const CLUSTER: u64 = 0x1f43_b675;
const TRACKS: u64 = 0x1654_ae6b;
const TRACK_ENTRY: u64 = 0xae;
const TRACK_NUMBER: u64 = 0xd7;
const TRACK_TYPE: u64 = 0x83;
const TIMESTAMP: u64 = 0xe7;
const SIMPLE_BLOCK: u64 = 0xa3;
const BLOCK_GROUP: u64 = 0xa0;
const BLOCK: u64 = 0xa1;
const REFERENCE: u64 = 0xfb;
/// No element of ours is larger.
const LONGEST: u64 = 32 << 20;
/// The head has some hundred bytes, and descriptions.
const LONGEST_HEAD: usize = 4 << 20;

impl Reader {
    pub(super) fn push(&mut self, piece: &Bytes, units: &mut VecDeque<Unit>) -> Result<(), Unreadable> {
        self.buffer.extend_from_slice(piece);
        loop {
            let Some(Element { id, size, header }) = element(&self.buffer)? else { return Ok(()) };
            // What follows the header of the segment is its content.
            let length = match (id, size) {
                (SEGMENT, _) | (CLUSTER, None) => header,
                (_, Some(size)) if size <= LONGEST => header + size as usize,
                _ => return Err(Unreadable),
            };
            let Some(bytes) = whole(&mut self.buffer, length) else { return Ok(()) };
            self.is_headed |= id == CLUSTER;
            if !self.is_headed {
                self.head.extend_from_slice(&bytes);
                if self.head.len() > LONGEST_HEAD {
                    return Err(Unreadable);
                }
            }
            let content = bytes.slice(header.min(bytes.len())..);
            let packets = match id {
                TRACKS => {
                    self.tracks = tracks(content)?;
                    vec![]
                }
                CLUSTER if size.is_some() => self.packets(content)?,
                CLUSTER | TIMESTAMP => {
                    self.time = i64::try_from(number(&content)).unwrap_or(i64::MAX);
                    self.opening.extend_from_slice(&bytes);
                    continue;
                }
                SIMPLE_BLOCK => self.packet(self.time, content, None)?.into_iter().collect(),
                _ => vec![],
            };
            // A block within a cluster that has begun already is nothing without it.
            let alone = id == CLUSTER || !self.opening.is_empty();
            let bytes = if self.opening.is_empty() {
                bytes
            } else {
                self.opening.extend_from_slice(&bytes);
                std::mem::take(&mut self.opening).freeze()
            };
            let has_pictures = self.tracks.iter().any(|(_, track)| *track == Track::Video);
            let first = packets.iter().find(|packet| !has_pictures || packet.track == Track::Video);
            let begins = alone && first.is_some_and(|packet| packet.key);
            units.push_back(Unit { bytes, packets, begins });
        }
    }

    /// In the milliseconds that FFmpeg counts in.
    fn packets(&self, mut cluster: Bytes) -> Result<Vec<Packet>, Unreadable> {
        let (mut time, mut packets) = (0, vec![]);
        while let Some((id, content)) = child(&mut cluster)? {
            match id {
                TIMESTAMP => time = i64::try_from(number(&content)).unwrap_or(i64::MAX),
                SIMPLE_BLOCK => packets.extend(self.packet(time, content, None)?),
                BLOCK_GROUP => {
                    let (mut group, mut block, mut refers) = (content, None, false);
                    while let Some((id, content)) = child(&mut group)? {
                        refers |= id == REFERENCE;
                        block = if id == BLOCK { Some(content) } else { block };
                    }
                    if let Some(block) = block {
                        packets.extend(self.packet(time, block, Some(!refers))?);
                    }
                }
                _ => {}
            }
        }
        Ok(packets)
    }

    /// `key` where the block itself does not say it.
    fn packet(&self, time: i64, mut block: Bytes, key: Option<bool>) -> Result<Option<Packet>, Unreadable> {
        let (number, length) = vint(&block, true)?.ok_or(Unreadable)?;
        block.advance(length);
        if block.len() < 3 {
            return Err(Unreadable);
        }
        let (offset, flags) = (i64::from(block.get_i16()), block.get_u8());
        let track = self.tracks.iter().find(|(known, _)| *known == number);
        let key = key.unwrap_or(flags & 0x80 != 0);
        Ok(track.map(|(_, track)| Packet { track: *track, time: time.saturating_add(offset), key }))
    }

    pub(super) fn head(&self) -> Bytes {
        self.head.clone().freeze()
    }
}

fn tracks(mut content: Bytes) -> Result<Vec<(u64, Track)>, Unreadable> {
    let mut tracks = vec![];
    while let Some((id, mut entry)) = child(&mut content)? {
        if id != TRACK_ENTRY {
            continue;
        }
        let (mut number_of, mut kind) = (0, None);
        while let Some((id, value)) = child(&mut entry)? {
            match (id, number(&value)) {
                (TRACK_NUMBER, number) => number_of = number,
                (TRACK_TYPE, 1) => kind = Some(Track::Video),
                (TRACK_TYPE, 2) => kind = Some(Track::Audio),
                _ => {}
            }
        }
        tracks.extend(kind.map(|kind| (number_of, kind)));
    }
    Ok(tracks)
}

struct Element {
    id: u64,
    /// `None` where it is not known.
    size: Option<u64>,
    header: usize,
}

/// The header of the element that a buffer begins with; `None` where it is not all there.
fn element(buffer: &[u8]) -> Result<Option<Element>, Unreadable> {
    let Some((id, id_length)) = vint(buffer, false)? else { return Ok(None) };
    let Some((size, size_length)) = vint(buffer.get(id_length..).unwrap_or_default(), true)? else {
        return Ok(None);
    };
    let unknown = size == (1 << (7 * size_length)) - 1;
    Ok(Some(Element { id, size: (!unknown).then_some(size), header: id_length + size_length }))
}

/// The next element of a content that is all there.
fn child(content: &mut Bytes) -> Result<Option<(u64, Bytes)>, Unreadable> {
    if content.is_empty() {
        return Ok(None);
    }
    let Element { id, size, header } = element(content)?.ok_or(Unreadable)?;
    let size = size.and_then(|size| usize::try_from(size).ok()).ok_or(Unreadable)?;
    if size > content.len() - header {
        return Err(Unreadable);
    }
    content.advance(header);
    Ok(Some((id, content.split_to(size))))
}

/// A number of variable length (RFC 8794, section 4) and how many bytes it has; an id keeps the bits that tell its length.
fn vint(buffer: &[u8], without_marker: bool) -> Result<Option<(u64, usize)>, Unreadable> {
    let Some(first) = buffer.first() else { return Ok(None) };
    let length = first.leading_zeros() as usize + 1;
    if length > 8 {
        return Err(Unreadable);
    }
    let Some(bytes) = buffer.get(..length) else { return Ok(None) };
    let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let mask = if without_marker { (1 << (7 * length)) - 1 } else { u64::MAX };
    Ok(Some((value & mask, length)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// What FFmpeg writes as a pull does: two seconds, a keyframe every half of one.
    fn written(dir: &Path) -> Vec<u8> {
        let path = dir.join("written.mkv");
        let status = Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-loglevel",
                "error",
                "-f",
                "lavfi",
                "-i",
                "testsrc=size=64x64:rate=20:duration=2",
            ])
            .args([
                "-f",
                "lavfi",
                "-i",
                "sine=duration=2",
                "-c:v",
                "libx264",
                "-g",
                "10",
                "-bf",
                "2",
                "-c:a",
                "aac",
            ])
            .args(["-flush_packets", "1", "-cluster_time_limit", "40", "-live", "1", "-f", "matroska"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::read(path).unwrap()
    }

    #[test]
    fn clusters_are_found_and_another_reader_can_begin_at_a_keyframe() {
        let dir = tempfile::tempdir().unwrap();
        let all = written(dir.path());
        let (mut reader, mut units) = (Reader::default(), VecDeque::new());
        for piece in all.chunks(1000) {
            reader.push(&Bytes::copy_from_slice(piece), &mut units).unwrap();
        }
        let handed_on: Vec<u8> = units.iter().flat_map(|unit| unit.bytes.to_vec()).collect();
        assert!(
            all.starts_with(&handed_on) && all.len() - handed_on.len() < 2000,
            "all but an unfinished end"
        );
        let pictures: Vec<Packet> = units
            .iter()
            .flat_map(|unit| unit.packets.iter().copied())
            .filter(|packet| packet.track == Track::Video)
            .collect();
        assert_eq!(pictures.len(), 40);
        let keys: Vec<i64> = pictures.iter().filter(|it| it.key).map(|it| it.time).collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        assert!(keys.windows(2).all(|pair| pair[1] - pair[0] == 500), "{keys:?}");

        // FFmpeg takes what lies behind the second keyframe, with the head before it.
        let from = units.iter().enumerate().filter(|(_, unit)| unit.begins).nth(1).unwrap().0;
        let tail: Vec<u8> = units.iter().skip(from).flat_map(|unit| unit.bytes.to_vec()).collect();
        let path = dir.path().join("tail.mkv");
        std::fs::write(&path, [reader.head().to_vec(), tail].concat()).unwrap();
        let output = Command::new("ffprobe")
            .args(["-loglevel", "error", "-count_frames", "-select_streams", "v", "-of", "csv=p=0"])
            .args(["-show_entries", "stream=nb_read_frames"])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "30");
    }

    #[test]
    fn clusters_of_our_own_begin_with_each_keyframe() {
        use crate::live::matroska::{AUDIO, Codec, Frame, Track as Described, VIDEO, Writer, header};
        let tracks = [Codec::Hevc, Codec::Opus].map(|codec| Described { codec, private: Bytes::new() });
        let mut writer = Writer::default();
        let frames =
            [(VIDEO, 0, true), (AUDIO, 5, true), (VIDEO, 40, false), (AUDIO, 70, true), (VIDEO, 80, true)];
        let written = frames.map(|(track, at, key)| writer.frame(Frame { track, at, key, data: &[1, 2, 3] }));
        let all = [header(&tracks).to_vec(), written.concat()].concat();
        let (mut reader, mut units) = (Reader::default(), VecDeque::new());
        for piece in all.chunks(7) {
            reader.push(&Bytes::copy_from_slice(piece), &mut units).unwrap();
        }
        assert_eq!(units.iter().flat_map(|unit| unit.bytes.to_vec()).collect::<Vec<u8>>(), all);
        let told: Vec<_> = units
            .iter()
            .flat_map(|unit| unit.packets.iter().map(|packet| (packet.time, unit.begins)))
            .collect();
        assert_eq!(told, [(0, true), (5, false), (40, false), (70, false), (80, true)]);
        assert_eq!(reader.head(), header(&tracks));
    }

    #[test]
    fn what_does_not_read_is_no_loop_and_no_panic() {
        for bytes in
            [&[0_u8; 40][..], &[0x16, 0x54, 0xae, 0x6b, 0xff], &[0x1f, 0x43, 0xb6, 0x75, 0x83, 0xa3, 0x8f, 1]]
        {
            let (mut reader, mut units) = (Reader::default(), VecDeque::new());
            assert_eq!(reader.push(&Bytes::copy_from_slice(bytes), &mut units), Err(Unreadable), "{bytes:?}");
        }
    }
}
