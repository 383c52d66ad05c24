//! Broken files, and bytes nobody meant.

use proptest::prelude::*;

use super::super::Track;
use super::super::boxes::kind;
use super::round_trip::file;
use super::*;

#[test]
fn what_is_not_a_fragmented_mp4_of_one_track_is_told_apart() {
    let missing = |code| CmafError::Missing { kind: kind(code) };
    assert_eq!(fragments(&moov(&[])), Err(missing(b"trex")));
    assert_eq!(fragments(&moov(&bx(b"mvex", &[]))), Err(missing(b"trex")));
    let of_another = bx(b"mvex", &full(b"trex", 0, 0, &[8, 1, 0, 0, 0]));
    assert_eq!(fragments(&moov(&of_another)), Err(missing(b"trex")));
    assert_eq!(fragments(&bx(b"moov", &[])), Err(missing(b"trak")));
    assert_eq!(fragments(&bx(b"ftyp", b"iso6\0\0\0\0")), Err(missing(b"moov")));
    assert_eq!(fragments(&[]), Err(missing(b"moov")));
    let two_tracks = bx(b"moov", &[bx(b"trak", &[]), bx(b"trak", &[])].concat());
    assert_eq!(fragments(&two_tracks), Err(CmafError::Repeated { kind: kind(b"trak") }));

    let out_of_place = |code| CmafError::OutOfPlace { kind: kind(code) };
    assert_eq!(fragments(&simple_moof()), Err(out_of_place(b"moof")));
    assert_eq!(error_of(&bx(b"mdat", b"12345")), out_of_place(b"mdat"));
    assert_eq!(error_of(&[simple_moof(), simple_moof()].concat()), out_of_place(b"moof"));
    assert_eq!(error_of(&moov(&mvex())), CmafError::Repeated { kind: kind(b"moov") });
    assert_eq!(error_of(&moof(|_| tfhd())), missing(b"tfdt"));
    let of_another = moof(|_| full(b"tfhd", 0, 0, &[8]));
    assert!(matches!(error_of(&of_another), CmafError::Invalid { .. }));
    let two_trafs = bx(b"moof", &[bx(b"traf", &[]), bx(b"traf", &[])].concat());
    assert_eq!(error_of(&two_trafs), CmafError::Repeated { kind: kind(b"traf") });
}

#[test]
fn a_file_cut_anywhere_is_unfinished() {
    let file = [moov(&mvex()), simple_moof(), bx(b"mdat", b"12345"), bx(b"free", &[0; 9])].concat();
    let moov_len = moov(&mvex()).len();
    let ends = [moov_len, file.len() - 17, file.len()];
    for len in 1..=file.len() {
        let result = fragments(&file[..len]);
        if ends.contains(&len) {
            assert!(result.is_ok(), "cut at {len}: {result:?}");
        } else {
            assert_eq!(result, Err(CmafError::Unfinished), "cut at {len}");
        }
    }
}

#[test]
fn absurd_lengths_are_refused_before_memory_is_set_aside() {
    let header = |size: u32, code: &[u8; 4]| [&size.to_be_bytes()[..], code].concat();
    let too_large = |code, size| CmafError::BoxTooLarge { kind: kind(code), size, limit: LIMIT as u64 };
    assert_eq!(fragments(&header(u32::MAX, b"moov")), Err(too_large(b"moov", u32::MAX.into())));
    let huge = [&header(1, b"moof")[..], &[0xff; 8]].concat();
    assert_eq!(error_of(&huge), too_large(b"moof", u64::MAX));
    let mdat = [simple_moof(), header(1 << 30, b"mdat")].concat();
    assert_eq!(error_of(&mdat), too_large(b"mdat", 1 << 30));
    assert_eq!(fragments(&header(7, b"free")), Err(CmafError::BoxLength { kind: kind(b"free"), size: 7 }));
    assert!(matches!(fragments(&header(0, b"moov")), Err(CmafError::Invalid { .. })));
    let child_too_long = bx(b"moov", &header(9, b"trak"));
    assert_eq!(fragments(&child_too_long), Err(CmafError::BoxLength { kind: kind(b"trak"), size: 9 }));
    // A box that is only skipped may be of any length: it takes no memory, and the file ends within it.
    assert_eq!(fragments(&header(u32::MAX, b"free")), Err(CmafError::Unfinished));

    let run =
        |words: &[u32]| moof(|_| [tfhd(), full(b"tfdt", 0, 0, &[0]), full(b"trun", 0, 1, words)].concat());
    assert!(matches!(error_of(&run(&[u32::MAX, 0])), CmafError::TooManySamples { .. }));
    for offset in [0, 1 << 31, (1 << 31) - 1] {
        let file = [run(&[1, offset]), bx(b"mdat", b"12345")].concat();
        assert_eq!(error_of(&file), CmafError::SampleOutsideData, "offset {offset:#x}");
    }
    let far = moof(|_| {
        let tfhd = full(b"tfhd", 0, 1, &[7, u32::MAX, u32::MAX]);
        [tfhd, full(b"tfdt", 0, 0, &[0]), full(b"trun", 0, 0, &[2])].concat()
    });
    assert_eq!(error_of(&far), CmafError::SampleOutsideData);
}

#[test]
fn a_failed_demuxer_stays_failed() {
    let mut demuxer = Demuxer::new(LIMIT);
    demuxer.push(&bx(b"moov", &[]));
    let error = demuxer.next().unwrap_err();
    demuxer.push(&moov(&mvex()));
    assert_eq!(demuxer.next(), Err(error.clone()));
    assert_eq!(demuxer.finish(), Err(error));
}

proptest! {
    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = fragments(&bytes);
        let _ = fragments(&bx(b"moov", &bytes));
        let _ = error_of(&bx(b"moof", &bytes));
        let _ = Track::parse(&bytes);
    }

    #[test]
    fn damaged_files_are_survived(
        (mut bytes, _) in file(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = fragments(&bytes);
    }
}
