//! What the demuxer makes of the many ways to write the same thing.

use super::super::{Fragment, Track, TrackConfig};
use super::*;

#[test]
fn init_segment_is_clean_and_reads_back() {
    let moov = moov(&mvex());
    let track = Track::parse(&moov[8..]).unwrap();
    assert_eq!((track.timescale, track.codec.as_str()), (1000, "avc1.640028"));
    assert_eq!(track.config, TrackConfig::Video { width: 320, height: 180 });
    let init = track.init_segment();
    for gone in [&b"edts"[..], b"udta", b"btrt", b"encoder"] {
        assert!(!init.windows(gone.len()).any(|window| window == gone));
    }
    let events = read_in(&init, usize::MAX).unwrap();
    let [Event::Track(again)] = events.as_slice() else { panic!("one track, not {events:?}") };
    assert_eq!(again.init_segment(), init);
    assert_eq!((&again.codec, again.config), (&track.codec, track.config));
}

#[test]
fn every_combination_of_trun_fields_is_read() {
    for bits in 0..128_u32 {
        let has = |bit: u32| bits >> bit & 1 == 1;
        let version = u8::from(has(6));
        let second_offset = if has(6) { (-80_i32).cast_unsigned() } else { 80 };
        let flags = [0x1, 0x4, 0x100, 0x200, 0x400, 0x800]
            .iter()
            .enumerate()
            .filter(|(bit, _)| has(u32::try_from(*bit).unwrap()))
            .fold(0, |flags, (_, flag)| flags | flag);
        let file = [
            moov(&mvex()),
            moof(|data| {
                let mut words = vec![2];
                words.extend(has(0).then_some(data));
                words.extend(has(1).then_some(0x0200_0000));
                for (duration, size, flags, offset) in [(41, 4, 0x0101_0000, 120), (42, 6, 0, second_offset)]
                {
                    let fields = [(2, duration), (3, size), (4, flags), (5, offset)];
                    words.extend(fields.iter().filter(|(bit, _)| has(*bit)).map(|(_, value)| *value));
                }
                // Without a data offset the run begins where the track fragment does: past the moof here.
                let tfhd = if has(0) { tfhd() } else { full(b"tfhd", 0, 1, &[7, 0, data + moov_len()]) };
                let mut traf = tfhd;
                traf.extend(full(b"tfdt", 0, 0, &[77]));
                traf.extend(full(b"trun", version, flags, &words));
                traf
            }),
            bx(b"mdat", b"0123456789"),
        ]
        .concat();
        let size = if has(3) { 4 } else { 5 };
        let pick = |bit, one, other| if has(bit) { one } else { other };
        let offsets = match (has(5), has(6)) {
            (false, _) => [0, 0],
            (true, false) => [120, 80],
            (true, true) => [120, -80],
        };
        let expected = Fragment {
            base_decode_time: 77,
            samples: vec![
                sample(pick(2, 41, 40), offsets[0], has(1), &b"0123456789"[..size]),
                sample(pick(2, 42, 40), offsets[1], has(4), &b"0123456789"[size..]),
            ],
        };
        assert_eq!(fragments(&file).unwrap(), [expected], "fields {bits:07b}");
    }
}

fn moov_len() -> u32 {
    u32::try_from(moov(&mvex()).len()).unwrap()
}

#[test]
fn a_run_goes_on_where_the_one_before_it_ended() {
    let runs = moof(|data| {
        [
            full(b"tfhd", 0, 0x02_003a, &[7, 1, 30, 2, 0]),
            full(b"tfdt", 1, 0, &[1, 0]),
            full(b"trun", 0, 0x1, &[2, data + 1]),
            full(b"trun", 0, 0x200, &[1, 3]),
            full(b"trun", 1, 0x201, &[1, data, 1]),
        ]
        .concat()
    });
    let file = [moov(&mvex()), runs, bx(b"mdat", b"abcdefgh")].concat();
    let [fragment] = fragments(&file).unwrap().try_into().unwrap();
    assert_eq!((fragment.base_decode_time, fragment.duration()), (1 << 32, 120));
    let data: Vec<_> = fragment.samples.iter().map(|sample| &sample.data[..]).collect();
    assert_eq!(data, [&b"bc"[..], b"de", b"fgh", b"a"]);
}

#[test]
fn boxes_without_interest_go_by_and_lengths_may_take_any_form() {
    let large = |code: &[u8; 4], body: &[u8]| {
        let size = body.len() as u64 + 16;
        [&[0, 0, 0, 1][..], code, &size.to_be_bytes(), body].concat()
    };
    let moof_then = |between: &[u8], mdat: Vec<u8>| {
        let skew = u32::try_from(between.len() + mdat.len() - 8 - 5).unwrap();
        let moof =
            moof(|data| [tfhd(), full(b"tfdt", 0, 0, &[0]), full(b"trun", 0, 1, &[1, data + skew])].concat());
        [moof, between.to_vec(), mdat].concat()
    };
    let endless_mdat = [&[0, 0, 0, 0][..], b"mdat", b"three"].concat();
    let file = [
        bx(b"ftyp", b"iso6\0\0\0\0"),
        large(b"free", &[0; 300]),
        moov(&mvex()),
        bx(b"styp", b"msdh\0\0\0\0"),
        bx(b"sidx", &[0; 20]),
        bx(b"prft", &[0; 20]),
        bx(b"\xa9\0\n?", b"unknown"),
        moof_then(&bx(b"emsg", b"between"), bx(b"mdat", b"first")),
        moof_then(&[], large(b"mdat", b"again")),
        bx(b"mfra", &[0; 40]),
        moof_then(&[], endless_mdat),
        vec![0xff; 999],
    ]
    .concat();
    let fragments = fragments(&file).unwrap();
    let data: Vec<_> = fragments.iter().map(|fragment| &fragment.samples[0].data[..]).collect();
    assert_eq!(data, [&b"first"[..], b"again", b"three"]);
}
