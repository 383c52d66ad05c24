//! A playlist that breaks no rule, the one after it, the delta update between them, and media.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use reelmill_shared::media::cmaf::{Sample, Track, media_segment};
use url::Url;

use crate::check_hls::findings::Findings;
use crate::check_hls::observation::{Fetched, Kind, Observation, Place, Seen, Transport};
use crate::check_hls::playlist::Media;

/// Ticks of a frame.
pub(in crate::check_hls) const FRAME: u32 = 3600;

fn playlist(first: u64, parts_of_109: u64) -> String {
    let mut text = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:1\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6.0,PART-HOLD-BACK=0.6,HOLD-BACK=3.0\n\
        #EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-MEDIA-SEQUENCE:100\n#EXT-X-DISCONTINUITY-SEQUENCE:3\n"
        .to_owned();
    let mut put = |line: std::fmt::Arguments<'_>| text.write_fmt(line).unwrap();
    if first == 100 {
        put(format_args!("#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-20T10:00:00.000Z\n"));
    } else {
        put(format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={}\n", first - 100));
    }
    let part = |msn: u64, part: u64| {
        let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
        format!("#EXT-X-PART:DURATION=0.2,URI=\"p{msn}.{part}.m4s\"{independent}\n")
    };
    for msn in first..109 {
        if msn > 105 {
            (0..5).for_each(|index| put(format_args!("{}", part(msn, index))));
        }
        put(format_args!("#EXTINF:1.0,\ns{msn}.m4s\n"));
    }
    (0..parts_of_109).for_each(|index| put(format_args!("{}", part(109, index))));
    put(format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p109.{parts_of_109}.m4s\"\n"));
    put(format_args!("#EXT-X-RENDITION-REPORT:URI=\"b.m3u8\",LAST-MSN=109,LAST-PART={}\n", parts_of_109 - 1));
    text
}

/// Segments 100 to 108 of a second, and two parts of 109.
pub(in crate::check_hls) fn good() -> String {
    playlist(100, 2)
}

/// [`good`] a part later.
pub(in crate::check_hls) fn next() -> String {
    playlist(100, 3)
}

/// [`next`] without the first four segments.
pub(in crate::check_hls) fn delta() -> String {
    playlist(104, 3)
}

pub(in crate::check_hls) fn seen(text: &str) -> Seen {
    let base = Url::parse("http://host/live/a.m3u8").unwrap();
    let place = Place { rendition: "a".into(), url: base.to_string(), ..Place::default() };
    Seen { place, base, at: Duration::ZERO, media: Media::parse(text).unwrap() }
}

pub(in crate::check_hls) fn fetched(kind: Kind) -> Fetched {
    Fetched {
        place: Place::default(),
        kind,
        target_duration: 1,
        status: Ok(200),
        transport: Transport::default(),
        unreadable: None,
    }
}

/// How often a rule fails of an observation.
pub(in crate::check_hls) fn failures(
    rule: fn(&Observation<'_>, &mut Findings),
    observation: &Observation<'_>,
) -> u64 {
    let mut findings = Findings::default();
    rule(observation, &mut findings);
    findings.failed
}

fn bx(code: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap();
    [&size.to_be_bytes()[..], code, body].concat()
}

fn full(code: &[u8; 4], flags: u32, words: &[u32]) -> Vec<u8> {
    let mut body = flags.to_be_bytes().to_vec();
    words.iter().for_each(|word| body.extend(word.to_be_bytes()));
    bx(code, &body)
}

/// H.264 of 320x180 at 90000 ticks a second.
pub(in crate::check_hls) fn track() -> Track {
    let avcc = bx(b"avcC", &[1, 0x64, 0, 0x28, 0xff, 0xe0, 0]);
    let mut entry = [0; 78];
    entry[24..28].copy_from_slice(&[1, 64, 0, 180]);
    let stsd = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &bx(b"avc1", &[&entry[..], &avcc].concat())].concat();
    let stbl = bx(b"stbl", &bx(b"stsd", &stsd));
    let hdlr = full(b"hdlr", 0, &[0, u32::from_be_bytes(*b"vide"), 0, 0, 0, 0]);
    let mdhd = full(b"mdhd", 0, &[1, 2, 90_000, 4, 0x55c4_0000]);
    let mdia = bx(b"mdia", &[mdhd, hdlr, bx(b"minf", &stbl)].concat());
    let mut tkhd = vec![0, 0, 1, 0, 0];
    tkhd.extend([0; 13]);
    tkhd.extend([320 << 16, 180 << 16]);
    let trak = bx(b"trak", &[full(b"tkhd", 3, &tkhd), mdia].concat());
    let mvex = bx(b"mvex", &full(b"trex", 0, &[1, 1, 0, 0, 0]));
    Track::parse(&[trak, mvex].concat()).unwrap()
}

pub(in crate::check_hls) fn init() -> Bytes {
    track().init_segment()
}

/// A frame for each of `keys`, from `time` on; true for a sync sample.
pub(in crate::check_hls) fn media(time: u64, keys: &[bool]) -> Bytes {
    let sample = |(index, sync): (usize, &bool)| {
        let number = time / u64::from(FRAME) + index as u64;
        let data = Bytes::from(number.to_be_bytes().repeat(4));
        Sample { duration: FRAME, composition_offset: 0, sync: *sync, data }
    };
    let samples: Vec<Sample> = keys.iter().enumerate().map(sample).collect();
    media_segment(1, time, &[&samples]).bytes
}
