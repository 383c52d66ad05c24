//! Files built by hand, box by box, for the tests beside this file.

mod demux;
pub(in crate::media) mod ffmpeg;
mod hostile;
mod mux;
pub(in crate::media) mod round_trip;

use bytes::Bytes;

use super::{CmafError, Demuxer, Event, Fragment, Sample};

const LIMIT: usize = 1 << 20;

fn bx(code: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap();
    [&size.to_be_bytes()[..], code, body].concat()
}

fn full(code: &[u8; 4], version: u8, flags: u32, words: &[u32]) -> Vec<u8> {
    let mut body = (u32::from(version) << 24 | flags).to_be_bytes().to_vec();
    words.iter().for_each(|word| body.extend(word.to_be_bytes()));
    bx(code, &body)
}

/// An H.264 track of 320x180 with the id 7; `trex` gives samples 40 ticks, 5 bytes, and non-sync flags.
fn moov(mvex: &[u8]) -> Vec<u8> {
    let avcc = bx(b"avcC", &[1, 0x64, 0, 0x28, 0xff, 0xe0, 0]);
    let mut entry = [0; 78];
    entry[24..28].copy_from_slice(&[1, 64, 0, 180]);
    entry[42..50].copy_from_slice(b"\x07encoder");
    let entry = bx(b"avc1", &[&entry[..], &avcc, &bx(b"btrt", &[9; 12])].concat());
    let stsd = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &entry].concat();
    let stbl = bx(b"stbl", &bx(b"stsd", &stsd));
    let hdlr = full(b"hdlr", 0, 0, &[0, u32::from_be_bytes(*b"vide"), 0, 0, 0, 0]);
    let mdhd = full(b"mdhd", 0, 0, &[1, 2, 1000, 4, 0x55c4_0000]);
    let mdia = bx(b"mdia", &[mdhd, hdlr, bx(b"minf", &stbl)].concat());
    let mut tkhd = vec![0, 0, 7, 0, 0];
    tkhd.extend([0; 13]);
    tkhd.extend([320 << 16, 180 << 16]);
    let trak = bx(b"trak", &[full(b"tkhd", 0, 3, &tkhd), bx(b"edts", &[1; 9]), mdia].concat());
    bx(b"moov", &[&full(b"mvhd", 0, 0, &[0; 24])[..], &trak, mvex, &bx(b"udta", &[0; 3])].concat())
}

fn mvex() -> Vec<u8> {
    bx(b"mvex", &full(b"trex", 0, 0, &[7, 1, 40, 5, 0x0101_0000]))
}

/// A `moof` with these boxes in its `traf`, where `{data}` words of a run are made of the length of the moof.
fn moof(traf: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let build = |data: u32| bx(b"moof", &[full(b"mfhd", 0, 0, &[1]), bx(b"traf", &traf(data))].concat());
    let len = u32::try_from(build(0).len()).unwrap();
    build(len + 8)
}

fn tfhd() -> Vec<u8> {
    full(b"tfhd", 0, 0x02_0000, &[7])
}

fn read_in(bytes: &[u8], piece: usize) -> Result<Vec<Event>, CmafError> {
    let mut demuxer = Demuxer::new(LIMIT);
    let mut events = Vec::new();
    for piece in bytes.chunks(piece) {
        demuxer.push(piece);
        while let Some(event) = demuxer.next()? {
            events.push(event);
        }
    }
    demuxer.finish().map(|()| events)
}

/// The fragments of a file, which must be the same however it is cut.
fn fragments(bytes: &[u8]) -> Result<Vec<Fragment>, CmafError> {
    let whole = read_in(bytes, usize::MAX);
    assert_eq!(whole, read_in(bytes, 1));
    let fragment = |event| {
        if let Event::Fragment(fragment) = event { Some(fragment) } else { None }
    };
    whole.map(|events| events.into_iter().filter_map(fragment).collect())
}

fn error_of(after_moov: &[u8]) -> CmafError {
    fragments(&[&moov(&mvex()), after_moov].concat()).unwrap_err()
}

fn sample(duration: u32, composition_offset: i32, sync: bool, data: &[u8]) -> Sample {
    Sample { duration, composition_offset, sync, data: Bytes::copy_from_slice(data) }
}

fn simple_moof() -> Vec<u8> {
    moof(|data| [tfhd(), full(b"tfdt", 0, 0, &[0]), full(b"trun", 0, 1, &[1, data])].concat())
}
