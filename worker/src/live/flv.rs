//! FLV as FFmpeg reads it from a pipe: what an RTMP publisher sends, with times that only go forward (Adobe Flash Video File
//! Format Specification 10.1, annex E). Pure.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

/// A message of a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    pub kind: TagKind,
    /// Milliseconds, as sent: it may jump, wrap or run backwards.
    pub timestamp: u32,
    pub data: Bytes,
}

/// What a tag holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagKind {
    Audio,
    Video,
}

impl Tag {
    /// It describes the track instead of being of it: AVC and AAC sequence headers, and those of enhanced RTMP.
    pub fn is_config(&self) -> bool {
        let (first, second) = (self.data.first().copied(), self.data.get(1).copied());
        match (self.kind, first) {
            (_, None) => true,
            // Enhanced RTMP: packet type 0 is the start of a sequence (Veovera, E-RTMP v1).
            (TagKind::Video, Some(first)) if first & 0x80 != 0 => first & 0x0f == 0,
            (TagKind::Video, Some(first)) => first & 0x0f == 7 && second == Some(0),
            (TagKind::Audio, Some(first)) if first >> 4 == 9 => first & 0x0f == 0,
            (TagKind::Audio, Some(first)) => first >> 4 == 10 && second == Some(0),
        }
    }
}

/// The header of a stream that may have picture and sound.
pub fn header() -> Bytes {
    Bytes::from_static(b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")
}

/// A tag as FFmpeg reads it. `waited` is how long it took to come after the one before.
pub fn write(clock: &mut Clock, tag: &Tag, waited: Duration) -> Bytes {
    let time = if tag.is_config() { clock.now() } else { clock.time(tag, waited) };
    let size = u32::try_from(tag.data.len()).unwrap_or(u32::MAX) & 0x00ff_ffff;
    let mut out = BytesMut::with_capacity(tag.data.len() + 15);
    out.put_u8(match tag.kind {
        TagKind::Audio => 8,
        TagKind::Video => 9,
    });
    out.put_uint(u64::from(size), 3);
    // The upper eight bits of the time come last.
    out.put_uint(u64::from(time & 0x00ff_ffff), 3);
    out.put_u8((time >> 24) as u8);
    out.put_uint(0, 3);
    out.extend_from_slice(tag.data.get(..size as usize).unwrap_or_default());
    out.put_u32(size + 11);
    out.freeze()
}

/// Turns a publisher's clock into one that starts at zero and only goes forward.
#[derive(Debug, Default)]
pub struct Clock {
    /// The last time that was sent, and the one that was made of it.
    last: Option<(u32, i64)>,
    /// The last made of each kind: a track never goes backwards.
    audio: i64,
    video: i64,
}

/// Tracks are not interleaved exactly: a step back of so many milliseconds is no jump.
const BACK: i64 = 2000;
/// A step ahead beyond what was waited for, and these milliseconds, is a jump.
const AHEAD: i64 = 3000;
/// What follows a jump comes so many milliseconds behind what was before it.
const STEP: i64 = 40;

impl Clock {
    /// The time of what came last.
    pub fn now(&self) -> u32 {
        self.last.map_or(0, |(_, made)| made.max(0) as u32)
    }

    /// The time of a tag that came so long after the one before.
    pub fn time(&mut self, tag: &Tag, waited: Duration) -> u32 {
        let made = match self.last {
            None => 0,
            Some((sent, made)) => {
                // The difference of two 32-bit clocks that may have wrapped.
                let step = i64::from(tag.timestamp.wrapping_sub(sent) as i32);
                let patience = AHEAD + i64::try_from(waited.as_millis()).unwrap_or(i64::MAX / 2);
                if step < -BACK || step > patience {
                    metrics::counter!("reelmill_live_jumps_total").increment(1);
                    made + STEP
                } else {
                    made + step
                }
            }
        };
        let of_kind = match tag.kind {
            TagKind::Audio => &mut self.audio,
            TagKind::Video => &mut self.video,
        };
        // What is held back does not shift what follows.
        self.last = Some((tag.timestamp, made));
        let held = made.max(*of_kind).max(0);
        *of_kind = held;
        held as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: TagKind, timestamp: u32) -> Tag {
        let data = match kind {
            TagKind::Video => Bytes::from_static(&[0x27, 1, 0, 0, 0, 9]),
            TagKind::Audio => Bytes::from_static(&[0xaf, 1, 9]),
        };
        Tag { kind, timestamp, data }
    }

    fn times(tags: &[(TagKind, u32)]) -> Vec<u32> {
        let mut clock = Clock::default();
        tags.iter().map(|(kind, at)| clock.time(&tag(*kind, *at), Duration::from_millis(20))).collect()
    }

    const V: TagKind = TagKind::Video;
    const A: TagKind = TagKind::Audio;

    #[test]
    fn a_publisher_that_starts_anywhere_starts_at_zero_and_keeps_its_offsets() {
        assert_eq!(times(&[(V, 5000), (A, 5010), (V, 5040), (A, 5033), (V, 5080)]), [0, 10, 40, 33, 80]);
    }

    #[test]
    fn jumps_are_taken_out_and_wraps_go_on() {
        assert_eq!(times(&[(V, 0), (V, 40), (V, 9_000_000), (V, 9_000_040)]), [0, 40, 80, 120]);
        assert_eq!(times(&[(V, 900_000), (V, 900_040), (V, 0), (V, 40)]), [0, 40, 80, 120]);
        let end = u32::MAX - 19;
        assert_eq!(times(&[(V, end), (V, 20), (V, 60)]), [0, 40, 80]);
    }

    #[test]
    fn a_track_never_goes_backwards() {
        let made = times(&[(V, 100), (V, 80), (V, 120), (A, 0), (A, 10)]);
        assert_eq!(made, [0, 0, 20, 0, 0]);
    }

    #[test]
    fn silence_that_was_waited_for_is_no_jump() {
        let mut clock = Clock::default();
        clock.time(&tag(V, 0), Duration::ZERO);
        assert_eq!(clock.time(&tag(V, 8000), Duration::from_secs(8)), 8000);
        assert_eq!(clock.time(&tag(V, 16_000), Duration::ZERO), 8040);
    }

    #[test]
    fn ffmpeg_reads_what_is_written() {
        assert!(Tag { kind: V, timestamp: 0, data: Bytes::from_static(&[0x17, 0, 0, 0, 0]) }.is_config());
        assert!(!tag(V, 0).is_config() && !tag(A, 0).is_config());
        let written = write(&mut Clock::default(), &tag(A, 7), Duration::ZERO);
        assert_eq!(written.as_ref(), [8, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0xaf, 1, 9, 0, 0, 0, 14]);
    }
}
