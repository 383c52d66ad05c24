//! What the writer writes, byte by byte and read back.

use proptest::prelude::*;

use super::super::{Track, media_segment};
use super::*;

/// The bodies of the `tfhd` and `trun` of a segment's first fragment.
fn headers_of(segment: &[u8]) -> [Vec<u8>; 2] {
    [&b"tfhd"[..], b"trun"].map(|code| {
        let at = segment.windows(4).position(|window| window == code).unwrap();
        let size = u32::from_be_bytes(segment[at - 4..at].try_into().unwrap()) as usize;
        segment[at + 4..at - 4 + size].to_vec()
    })
}

#[test]
fn what_samples_share_is_written_once() {
    let flat = [sample(1024, 0, true, b"abc"), sample(1024, 0, true, b"def")];
    let [tfhd, trun] = headers_of(&media_segment(1, 0, &[&flat]).bytes);
    assert_eq!(tfhd, [0, 2, 0, 0x38, 0, 0, 0, 1, 0, 0, 4, 0, 0, 0, 0, 3, 2, 0, 0, 0]);
    assert_eq!(trun, [1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 108]);

    let gop = [sample(40, 0, true, b"abc"), sample(40, 40, false, b"d"), sample(40, -40, false, b"")];
    let [tfhd, trun] = headers_of(&media_segment(1, 0, &[&gop]).bytes);
    assert_eq!(tfhd, [0, 2, 0, 0x28, 0, 0, 0, 1, 0, 0, 0, 40, 1, 1, 0, 0]);
    let fields = [[1, 0, 0x0a, 5], [0, 0, 0, 3], [0, 0, 0, 132], [2, 0, 0, 0]];
    let rows = [[0, 0, 0, 3], [0; 4], [0, 0, 0, 1], [0, 0, 0, 40], [0; 4], [0xff, 0xff, 0xff, 0xd8]];
    assert_eq!(trun, [fields.as_flattened(), rows.as_flattened()].concat());
}

#[test]
fn keyframes_are_found_where_they_were_put() {
    let first = [sample(40, 0, true, b"abc"), sample(40, 0, false, b"d")];
    let open = [sample(40, 0, false, b"x")];
    let last = [sample(50, 0, true, b"efgh")];
    let segment = media_segment(1, 0, &[&first, &[], &open, &last]);
    let cut: Vec<&[u8]> = segment
        .keyframes
        .iter()
        .map(|key| &segment.bytes[key.offset as usize..(key.offset + key.bytes) as usize])
        .collect();
    assert_eq!(segment.keyframes.iter().map(|key| key.ticks).collect::<Vec<_>>(), [80, 50]);
    assert!(cut.iter().all(|bytes| &bytes[4..8] == b"moof"));
    assert!(cut[0].ends_with(b"mdatabc") && cut[1].ends_with(b"mdatefgh"));
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let data = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    // Few distinct values, so that samples often agree and often do not.
    let one = (40..42_u32, prop_oneof![Just(0), Just(i32::MIN), any::<i32>()], any::<bool>(), data);
    let one = one.prop_map(|(duration, composition_offset, sync, data)| Sample {
        duration,
        composition_offset,
        sync,
        data,
    });
    proptest::collection::vec(one, 1..6)
}

/// An init segment and a segment, and the fragments that should come out.
pub(in crate::media) fn file() -> impl Strategy<Value = (Vec<u8>, Vec<Fragment>)> {
    (proptest::collection::vec(samples(), 0..4), any::<u32>()).prop_map(|(gops, start)| {
        let mut base_decode_time = u64::from(start) << 8;
        let slices: Vec<&[Sample]> = gops.iter().map(Vec::as_slice).collect();
        let segment = media_segment(start, base_decode_time, &slices).bytes;
        let expected = gops.into_iter().map(|samples| {
            let fragment = Fragment { base_decode_time, samples };
            base_decode_time += fragment.duration();
            fragment
        });
        ([&moov_of_id_1()[..], &segment].concat(), expected.collect())
    })
}

fn moov_of_id_1() -> Bytes {
    Track::parse(&moov(&mvex())[8..]).unwrap().init_segment()
}

proptest! {
    #[test]
    fn what_is_written_reads_back((bytes, expected) in file()) {
        prop_assert_eq!(fragments(&bytes), Ok(expected));
    }

    #[test]
    fn pieces_make_no_difference((bytes, _) in file(), sizes in proptest::collection::vec(1..200_usize, 1..9)) {
        let mut demuxer = Demuxer::new(LIMIT);
        let (mut events, mut rest, mut sizes) = (Vec::new(), &bytes[..], sizes.into_iter().cycle());
        while let (false, Some(size)) = (rest.is_empty(), sizes.next()) {
            let (piece, tail) = rest.split_at(size.min(rest.len()));
            rest = tail;
            demuxer.push(piece);
            while let Some(event) = demuxer.next().unwrap() {
                events.push(event);
            }
        }
        prop_assert_eq!(Ok(events), read_in(&bytes, usize::MAX));
    }
}

#[test]
fn a_keyframe_can_be_had_without_the_rest_of_its_gop() {
    let gop = [sample(40, 80, true, b"keyframe"), sample(40, 80, false, b"other")];
    let segment = media_segment(1, 0, &[&gop]).bytes;
    let init = Track::parse(&moov(&mvex())[8..]).unwrap().init_segment();
    let enough = segment.len() - b"other".len();
    for end in 0..segment.len() {
        let mut demuxer = Demuxer::new(LIMIT);
        demuxer.push(&init);
        demuxer.push(&segment[..end]);
        while demuxer.next().unwrap().is_some_and(|event| matches!(event, Event::Track(_))) {}
        let first = demuxer.first_sample().unwrap();
        assert_eq!(first.as_ref(), (end >= enough).then_some(&gop[0]), "{end} bytes");
    }
}
