//! The two tables a player needs first: which programs there are (13818-1, 2.4.4.3), and of what ours is made (2.4.4.8).

use super::elementary::Codec;
use super::input::Stream;
use super::packets::{Pid, Writer};

/// The only program, and the number of the stream it is in.
const PROGRAM: u16 = 1;
const TRANSPORT_STREAM: u16 = 1;

/// Writes both tables, a packet each. There is one of each in a segment, so its number is their counter.
pub(super) fn write(writer: &mut Writer, number: u32, clock: Pid, streams: &[&Stream]) {
    let counter = (number % 16) as u8;
    let mut association = PROGRAM.to_be_bytes().to_vec();
    association.extend(marked(0xe000, Pid::Pmt.number()));
    writer.table(Pid::Pat, counter, &section(0, TRANSPORT_STREAM, &association));

    let mut map = marked(0xe000, clock.number()).to_vec();
    // No descriptors of the program, nor of its streams.
    map.extend(marked(0xf000, 0));
    for stream in streams {
        let pid = if matches!(stream.codec, Codec::Aac(_)) { Pid::Audio } else { Pid::Video };
        map.push(stream.codec.stream_type());
        map.extend(marked(0xe000, pid.number()));
        map.extend(marked(0xf000, 0));
    }
    writer.table(Pid::Pmt, counter, &section(2, PROGRAM, &map));
}

/// A number of 12 or 13 bits behind reserved ones.
fn marked(reserved: u16, value: u16) -> [u8; 2] {
    (reserved | value).to_be_bytes()
}

/// A section in the long form: the only one of its table, valid now.
fn section(table: u8, id: u16, body: &[u8]) -> Vec<u8> {
    let mut out = vec![table];
    // Five bytes come before the body, a checksum behind it.
    out.extend(marked(0xb000, body.len() as u16 + 9));
    out.extend(id.to_be_bytes());
    out.extend([0xc1, 0, 0]);
    out.extend_from_slice(body);
    out.extend(checksum(&out).to_be_bytes());
    out
}

/// The CRC of annex A: polynomial 0x04c11db7, most significant bit first, from all ones.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // The check value of CRC-32/MPEG-2 in the catalogue of parametrised algorithms.
        assert_eq!(checksum(b"123456789"), 0x0376_e6e7);
    }
}
