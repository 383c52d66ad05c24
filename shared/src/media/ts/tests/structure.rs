//! Packets, counters and clocks, by a small parser of their own, and the bound on lengths.

use super::packets::PACKET;
use super::*;
use crate::media::cmaf::tests::ffmpeg::{H264, VIDEO};

#[derive(Debug)]
struct Packet<'a> {
    pid: u16,
    starts: bool,
    counter: u8,
    /// In ticks of 90 kHz.
    clock: Option<i64>,
    payload: &'a [u8],
}

fn packets(bytes: &[u8]) -> Vec<Packet<'_>> {
    assert!(bytes.len().is_multiple_of(PACKET));
    bytes.chunks(PACKET).map(packet).collect()
}

fn packet(bytes: &[u8]) -> Packet<'_> {
    assert_eq!(bytes[0], 0x47);
    let (field, payload) = match bytes[3] >> 4 & 3 {
        1 => (&[][..], &bytes[4..]),
        _ => bytes[5..].split_at(usize::from(bytes[4])),
    };
    let clock = field.first().filter(|flags| *flags & 0x10 != 0).map(|_| {
        let mut base = [0; 8];
        base[3..].copy_from_slice(&field[1..6]);
        i64::from_be_bytes(base) >> 7
    });
    Packet {
        pid: u16::from_be_bytes([bytes[1], bytes[2]]) & 0x1fff,
        starts: bytes[1] & 0x40 != 0,
        counter: bytes[3] & 0x0f,
        clock,
        payload,
    }
}

fn check(segments: &[Bytes], clock_pid: u16) {
    let mut next = std::collections::HashMap::new();
    let mut clock = None;
    for segment in segments {
        let packets = packets(segment);
        assert_eq!((packets[0].pid, packets[1].pid), (0, 0x1000), "the tables come first");
        for packet in packets {
            let expected = next.entry(packet.pid).or_insert(packet.counter);
            if packet.payload.is_empty() {
                assert_eq!((packet.counter + 1) & 0x0f, *expected);
            } else {
                assert_eq!(packet.counter, *expected, "the counter of {:#x}", packet.pid);
                *expected = (packet.counter + 1) & 0x0f;
            }
            if let Some(now) = packet.clock {
                assert_eq!(packet.pid, clock_pid);
                let passed = now - clock.unwrap_or(now);
                assert!((0..=9000).contains(&passed), "{passed} ticks between two clocks");
                clock = Some(now);
            }
            if packet.starts && packet.pid >= 0x100 && packet.pid < 0x1000 {
                assert_eq!(packet.payload[..3], [0, 0, 1]);
                // The presentation time, which the clock must be before.
                let [a, b, c, d, e] = *packet.payload[9..].first_chunk::<5>().unwrap();
                let pts = i64::from(a >> 1 & 7) << 30
                    | i64::from(b) << 22
                    | i64::from(c >> 1) << 15
                    | i64::from(d) << 7
                    | i64::from(e >> 1);
                assert!(clock.is_some_and(|clock| clock < pts), "{clock:?} {pts}");
            }
        }
    }
}

#[test]
fn counters_and_clock_go_on_across_segments() {
    let slow = "testsrc2=size=192x108:rate=3:duration=4";
    for (source, encoder) in [(VIDEO, H264), (slow, "-c:v libx264 -g 3 -bf 0 -pix_fmt yuv420p")] {
        let Some(recording) = Recording::new(source, encoder, 0) else { return };
        check(&recording.segments(), 0x100);
        let alone = |n: usize| remux(n as u32, None, Some(recording.audio.media(n))).unwrap();
        check(&[alone(0), alone(1)], 0x101);
        let silent = |n: usize| remux(n as u32, Some(recording.video.media(n)), None).unwrap();
        check(&[silent(0), silent(1)], 0x100);
    }
}

#[test]
fn a_segment_without_sound_keeps_the_counters_and_the_tables() {
    let Some(recording) = Recording::new(VIDEO, H264, 0) else { return };
    let (video, audio) = (&recording.video, &recording.audio);
    let first = remux(15, Some(video.media(0)), Some(audio.media(0))).unwrap();
    let second = remux(16, Some(video.media(1)), Some(audio.media(99))).unwrap();
    assert!(packets(&second).iter().all(|packet| packet.pid != 0x101));
    assert_eq!(packets(&first)[1].payload, packets(&second)[1].payload);
    check(&[first, second], 0x100);
}

#[test]
fn no_segment_is_longer_than_was_said() {
    let video = "testsrc2=size=192x108:rate=25:duration=4";
    let noise = "nullsrc=size=320x180:rate=30000/1001:duration=4,geq=lum='random(1)*255':cb=128:cr=128";
    for (source, bitrate) in [(video, "60k"), (video, "400k"), (noise, "3000k")] {
        let encoder = format!("-c:v libx264 -preset veryfast -b:v {bitrate} -g 50 -bf 3 -pix_fmt yuv420p");
        let Some(recording) = Recording::new(source, &encoder, 0) else { return };
        let amount = |rendition: &Rendition, number: usize| {
            let bytes = &rendition.segments[number];
            let (_, fragments) = demux(&[&rendition.init[..], bytes].concat());
            let ticks: u64 = fragments.iter().map(Fragment::duration).sum();
            Amount {
                bytes: bytes.len() as u64,
                samples: fragments.iter().map(|fragment| fragment.samples.len() as u64).sum(),
                millis: (ticks * 1000).div_ceil(rendition.track.timescale.into()),
                init_bytes: rendition.init.len() as u64,
                sample_rate: 48_000,
            }
        };
        for (number, segment) in recording.segments().iter().enumerate() {
            let (video, audio) = (amount(&recording.video, number), amount(&recording.audio, number));
            let (bound, length) = (at_most(Some(video), Some(audio)), segment.len() as u64);
            println!("{bitrate}: {} of CMAF, {length} of TS, {bound} at most", video.bytes + audio.bytes);
            assert!(length <= bound);
            // It counts the worst ending of every picture's last packet, which shows where pictures are small.
            let slack = if bitrate == "60k" { 1.5 } else { 1.2 };
            assert!(bound as f64 <= length as f64 * slack, "{bound} says little of {length}");
            let alone = remux(0, None, Some(recording.audio.media(number))).unwrap();
            assert!(alone.len() as u64 <= at_most(None, Some(audio)));
        }
    }
}
