//! Fragmented MP4 whose samples are numbers.

use bytes::Bytes;
use reelmill_shared::media::cmaf::{Sample, Track, media_segment};

const FRAME: u32 = 3600;

fn bx(code: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap();
    [&size.to_be_bytes()[..], code, body].concat()
}

fn full(code: &[u8; 4], flags: u32, words: &[u32]) -> Vec<u8> {
    let mut body = flags.to_be_bytes().to_vec();
    words.iter().for_each(|word| body.extend(word.to_be_bytes()));
    bx(code, &body)
}

/// An init segment of H.264 at 90000 ticks a second.
pub fn init() -> Bytes {
    let avcc = bx(b"avcC", &[1, 0x64, 0, 0x28, 0xff, 0xe0, 0]);
    let mut entry = [0; 78];
    entry[24..28].copy_from_slice(&[1, 64, 0, 180]);
    let stsd = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &bx(b"avc1", &[&entry[..], &avcc].concat())].concat();
    let hdlr = full(b"hdlr", 0, &[0, u32::from_be_bytes(*b"vide"), 0, 0, 0, 0]);
    let mdhd = full(b"mdhd", 0, &[1, 2, 90_000, 4, 0x55c4_0000]);
    let minf = bx(b"minf", &bx(b"stbl", &bx(b"stsd", &stsd)));
    let mut tkhd = vec![0, 0, 1, 0, 0];
    tkhd.extend([0; 13]);
    tkhd.extend([320 << 16, 180 << 16]);
    let trak = bx(b"trak", &[full(b"tkhd", 3, &tkhd), bx(b"mdia", &[mdhd, hdlr, minf].concat())].concat());
    let mvex = bx(b"mvex", &full(b"trex", 0, &[1, 1, 0, 0, 0]));
    Track::parse(&[trak, mvex].concat()).unwrap().init_segment()
}

/// What may be wrong with a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flaws {
    /// Ticks that its times are off.
    pub jump: u64,
    /// It does not begin with a sync sample.
    pub no_sync: bool,
    /// Its samples are not those that they should be.
    pub other: bool,
}

/// Frames `first` to `first + count`; with a sync sample at `key`.
pub fn frames(first: u64, count: u64, key: u64, flaws: Flaws) -> Bytes {
    let sample = |frame: u64| {
        let number = if flaws.other { frame + 1 } else { frame };
        let data = Bytes::from(number.to_be_bytes().repeat(50));
        Sample { duration: FRAME, composition_offset: 0, sync: frame == key && !flaws.no_sync, data }
    };
    let samples: Vec<Sample> = (first..first + count).map(sample).collect();
    media_segment(1, first * u64::from(FRAME) + flaws.jump, &[&samples]).bytes
}

/// A gzip file (RFC 1952) that stores without compressing.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut chunks = data.chunks(0xffff).peekable();
    while let Some(chunk) = chunks.next() {
        let len = u16::try_from(chunk.len()).unwrap();
        out.push(u8::from(chunks.peek().is_none()));
        out.extend(len.to_le_bytes());
        out.extend((!len).to_le_bytes());
        out.extend(chunk);
    }
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 });
    }
    out.extend((!crc).to_le_bytes());
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out
}
