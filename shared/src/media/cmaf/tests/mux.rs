//! Segments beside each other and elsewhere in time.

use super::super::{Place, Track, cut_off, media_segment, muxed_init, place, read};
use super::*;

fn track() -> Track {
    let init = [bx(b"ftyp", b""), moov(&mvex())].concat();
    let mut demuxer = Demuxer::new(LIMIT);
    demuxer.push(&init);
    match demuxer.next().unwrap() {
        Some(Event::Track(track)) => track,
        other => panic!("{other:?}"),
    }
}

/// Ids, numbers and times of all fragments.
fn places(bytes: &[u8]) -> Vec<(u32, u32, u64)> {
    let all = |code: &[u8; 4], skip: usize| -> Vec<Vec<u8>> {
        let found = bytes.windows(4).enumerate().filter(|(_, window)| *window == code);
        found.map(|(at, _)| bytes[at + 4 + skip..at + 12 + skip].to_vec()).collect()
    };
    let word = |bytes: &Vec<u8>| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    let long = |bytes: &Vec<u8>| u64::from_be_bytes(bytes[..8].try_into().unwrap());
    let (ids, numbers, times) = (all(b"tfhd", 4), all(b"mfhd", 4), all(b"tfdt", 4));
    ids.iter().zip(&numbers).zip(&times).map(|((id, n), time)| (word(id), word(n), long(time))).collect()
}

#[test]
fn fragments_are_moved_and_their_samples_stay() {
    let gop = || [sample(40, 0, true, b"abc"), sample(40, 0, false, b"d")];
    let gops = [gop(), gop()];
    let segment = media_segment(7, 1000, &[&gops[0], &gops[1]]).bytes;
    let (mut out, mut sequence) = (vec![], 5);
    place(&mut out, &segment, Place { track: 1, shift: -900 }, &mut sequence).unwrap();
    place(&mut out, &segment, Place { track: 2, shift: 20 }, &mut sequence).unwrap();
    assert_eq!(places(&out), [(1, 5, 100), (1, 6, 180), (2, 7, 1020), (2, 8, 1100)]);
    assert_eq!(sequence, 9);
    let (mut earlier, mut sequence) = (vec![], 1);
    place(&mut earlier, &segment, Place { track: 1, shift: -2000 }, &mut sequence).unwrap();
    assert_eq!(places(&earlier)[0].2, 0, "nothing is before zero");
    let (_, fragments) = read(&track().init_segment(), &out[..out.len() / 2]).unwrap();
    assert_eq!(fragments.len(), 2);
    assert_eq!(fragments[1].samples, gops[1]);
    for end in 1..segment.len() {
        // Whatever is missing, it is an error or a shorter segment.
        let _ = place(&mut vec![], &segment[..end], Place { track: 1, shift: 0 }, &mut 1);
    }
}

#[test]
fn several_tracks_have_an_id_each() {
    let track = track();
    let init = muxed_init(&[(&track, 0), (&track, 12)]);
    let count = |code: &[u8; 4]| init.windows(4).filter(|window| window == code).count();
    assert_eq!((count(b"trak"), count(b"trex"), count(b"elst")), (2, 2, 1));
    let ids: Vec<u8> = init
        .windows(4)
        .enumerate()
        .filter(|(_, window)| window == b"trex")
        .map(|(at, _)| init[at + 11])
        .collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn what_is_shown_after_the_end_is_cut_off() {
    // Shown at 40, 160, 80, 120, 200: with a reordering delay of one picture.
    let offsets = [40, 120, 0, 0, 40];
    let samples: Vec<Sample> = offsets.iter().map(|it| sample(40, *it, *it == 40, b"x")).collect();
    let segment = media_segment(1, 0, &[&samples]).bytes;
    let init = track().init_segment_delayed(40);
    let kept = |end: i64| {
        let cut = cut_off(&init, &segment, end).unwrap();
        if cut.is_empty() { 0 } else { read(&init, &cut).unwrap().1[0].samples.len() }
    };
    assert_eq!([kept(0), kept(1), kept(40), kept(41), kept(81), kept(1000)], [0, 1, 1, 3, 4, 5]);
}
