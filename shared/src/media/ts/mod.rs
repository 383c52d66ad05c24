//! CMAF segments in, MPEG-TS segments out (ISO/IEC 13818-1), for players that know nothing newer.
//!
//! [`remux`] makes each segment from its own CMAF segments and nothing else, so that any process makes any segment at any
//! time and all of them play as one stream:
//!
//! - Times are those of the grid plus [`START`], the same for all segments; the reorder delay is taken away as the init
//!   segment's edit list asks, so that sound and picture stay together. They wrap at 33 bits.
//! - The continuity counters of pictures and sound start at zero in each segment and end at 15: the last PES packet of each is
//!   spread over so many TS packets that their number is a multiple of 16. The tables, one packet each at the start of a
//!   segment, take the number of the segment for a counter.
#![forbid(unsafe_code)]

mod bound;
mod elementary;
mod error;
mod input;
mod packets;
mod pieces;
mod tables;

pub use bound::{Amount, at_most};
pub use error::TsError;

use bytes::Bytes;

use self::elementary::Codec;
use self::input::{Stream, Unit};
use self::packets::{Adaptation, Pes, Pid, Writer};
use self::pieces::Pieces;

/// Ticks a second of every time in a transport stream.
pub const CLOCK: u32 = 90_000;
/// Time of the first frame in ticks: ten seconds. Decoding starts before presentation by the reorder delay, and the clock before
/// decoding by [`AHEAD`]; neither may come before zero.
pub const START: i64 = 10 * CLOCK as i64;

/// Longest input of a track, in bytes: several times a segment of the highest rate there is.
pub const MOST_BYTES: usize = 256 << 20;

/// How far the clock (PCR) is behind the decode time of the bytes that come with it: what a decoder buffers.
const AHEAD: i64 = CLOCK as i64 / 2;
/// Most ticks between two values of the clock, and of sound in one PES packet, so that the clock can travel with it where there
/// is nothing else. At most 100 ms are allowed (2.7.2).
const STEP: i64 = 8100;
/// Most bytes of sound in one PES packet, whose length has 16 bits.
const AUDIO_PES_BYTES: usize = 60_000;

/// A track and its part of the segment.
#[derive(Debug, Clone)]
pub struct Media {
    pub init: Bytes,
    /// A CMAF segment; empty where the track has nothing in this segment. Copied only where somebody else has it too.
    pub segment: Bytes,
}

/// Whether a codec, as RFC 6381 spells it, can be in a segment of ours.
pub fn carries(codec: &str) -> bool {
    let family = codec.split('.').next().unwrap_or_default();
    matches!(family, "avc1" | "avc3" | "hvc1" | "hev1") || codec == "mp4a.40.2"
}

/// Makes the MPEG-TS segment `number`, counted from zero, of a picture track, a sound track, or both. The same input gives the
/// same bytes. Needs memory for about twice the input, which may have up to [`MOST_BYTES`] a track.
///
/// # Errors
///
/// See [`TsError`].
pub fn remux(number: u32, video: Option<Media>, audio: Option<Media>) -> Result<Bytes, TsError> {
    let video = video.map(input::video).transpose()?;
    let audio = audio.map(input::audio).transpose()?;
    let streams: Vec<&Stream> = video.iter().chain(&audio).collect();
    input::check_span(&streams)?;

    // The clock travels with the pictures, and with the sound where there are none.
    let clock = if video.is_some() { Pid::Video } else { Pid::Audio };
    let mut steps = vec![];
    if let Some(stream) = &video {
        steps.extend(packets_of(Pid::Video, &stream.codec, stream.units.chunks(1)));
    }
    if let Some(stream) = &audio {
        steps.extend(packets_of(Pid::Audio, &stream.codec, bundles(&stream.units)));
    }
    steps.extend(clock_between(&steps, clock));
    // In decode order; stable, so that a picture comes before the sound of the same time.
    steps.sort_by_key(|step| step.time);

    let mut writer = Writer::new(streams.iter().map(|stream| stream.bytes()).sum());
    tables::write(&mut writer, number, clock, &streams);
    let mut body = Pieces::default();
    for step in &steps {
        let now = step.time - AHEAD;
        let Some(first) = step.units.first() else {
            writer.clock(step.pid, now);
            continue;
        };
        body.clear();
        step.units.iter().try_for_each(|unit| step.codec.gather(&mut body, unit))?;
        let pes = Pes { pid: step.pid, pts: first.pts, dts: first.dts, body: &body, last: step.last };
        let clock = (step.pid == clock).then_some(now);
        writer.pes(&pes, Adaptation { clock, random_access: first.sync });
    }
    Ok(writer.finish())
}

/// What is written next: a PES packet, or, without units, the clock alone.
#[derive(Clone, Copy)]
struct Step<'a> {
    time: i64,
    /// When the next one of the stream is due.
    end: i64,
    pid: Pid,
    codec: &'a Codec,
    units: &'a [Unit],
    /// Nothing of the stream comes after it.
    last: bool,
}

/// One PES packet for each of `groups`.
fn packets_of<'a>(pid: Pid, codec: &'a Codec, groups: impl Iterator<Item = &'a [Unit]>) -> Vec<Step<'a>> {
    let step = |units: &'a [Unit]| {
        let (time, end) = (units.first()?.dts, units.last()?.end);
        Some(Step { time, end, pid, codec, units, last: false })
    };
    let mut steps: Vec<Step<'a>> = groups.filter_map(step).collect();
    if let Some(step) = steps.last_mut() {
        step.last = true;
    }
    steps
}

/// Sound that shares a PES packet: frames that follow each other, for as long as [`STEP`].
fn bundles(units: &[Unit]) -> impl Iterator<Item = &[Unit]> {
    let mut rest = units;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut bytes = 0;
        let mut due = first.dts;
        let fits = |unit: &&Unit| {
            // Rounding moves times by a tick.
            let follows = (unit.dts - due).abs() <= 1;
            due = unit.end;
            bytes += unit.data.len() + elementary::ADTS_HEADER;
            follows && unit.end - first.dts <= STEP && bytes <= AUDIO_PES_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (bundle, tail) = rest.split_at(count);
        rest = tail;
        Some(bundle)
    })
}

/// The clock where the stream it travels with leaves more than [`STEP`] between two packets.
fn clock_between<'a>(steps: &[Step<'a>], clock: Pid) -> Vec<Step<'a>> {
    let of_clock = steps.iter().filter(|step| step.pid == clock);
    of_clock
        .flat_map(|step| {
            let times = (step.time..step.end).step_by(STEP as usize).skip(1);
            times.map(|time| Step { time, units: &[], last: false, ..*step })
        })
        .collect()
}

#[cfg(test)]
mod tests;
