//! From CMAF to coded units on the clock of a transport stream.

use bytes::Bytes;

use super::elementary::Codec;
use super::{CLOCK, MOST_BYTES, Media, START, TsError};
use crate::media::cmaf::{DecoderConfig, Demuxer, Event, Fragment, Track, TrackConfig, delay_of};

/// Most samples of a track: a sample that takes the defaults costs no bytes in a CMAF segment, but a packet here.
const MOST_SAMPLES: usize = 1 << 18;
/// Longest time a segment may cover, in ticks: an hour. Clocks are written all along it.
const LONGEST: i64 = 3600 * CLOCK as i64;

/// A track's part of a segment.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) codec: Codec,
    pub(super) units: Vec<Unit>,
}

impl Stream {
    /// Bytes of all its units.
    pub(super) fn bytes(&self) -> usize {
        self.units.iter().map(|unit| unit.data.len()).sum()
    }
}

/// A coded picture or an audio frame. Times are in ticks, [`START`] included, and not wrapped yet.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) dts: i64,
    pub(super) pts: i64,
    /// When the next one is due to be decoded.
    pub(super) end: i64,
    pub(super) sync: bool,
    pub(super) data: Bytes,
}

/// Reads the picture track.
pub(super) fn video(media: Media) -> Result<Stream, TsError> {
    let delay = delay_of(&media.init)?;
    let (track, fragments) = read(media)?;
    if !matches!(track.config, TrackConfig::Video { .. }) {
        return Err(TsError::Kind("picture"));
    }
    let codec = match track.decoder_config()? {
        DecoderConfig::Avc(config) => Codec::Avc(config),
        DecoderConfig::Hevc(config) => Codec::Hevc(config),
        DecoderConfig::Aac(_) | DecoderConfig::Other => return Err(TsError::Codec(track.codec)),
    };
    Ok(Stream { codec, units: units(&track, delay, fragments)? })
}

/// Reads the sound track.
pub(super) fn audio(media: Media) -> Result<Stream, TsError> {
    let delay = delay_of(&media.init)?;
    let (track, fragments) = read(media)?;
    if !matches!(track.config, TrackConfig::Audio { .. }) {
        return Err(TsError::Kind("sound"));
    }
    let codec = match track.decoder_config()? {
        DecoderConfig::Aac(config) => Codec::adts(config).ok_or(TsError::Codec(track.codec.clone()))?,
        _ => return Err(TsError::Codec(track.codec)),
    };
    Ok(Stream { codec, units: units(&track, delay, fragments)? })
}

/// Refuses a segment without samples, and one that covers more time than any of ours.
pub(super) fn check_span(streams: &[&Stream]) -> Result<(), TsError> {
    let units = || streams.iter().flat_map(|stream| &stream.units);
    let first = units().map(|unit| unit.dts).min().ok_or(TsError::Empty)?;
    let end = units().map(|unit| unit.end).max().ok_or(TsError::Empty)?;
    if end.saturating_sub(first) > LONGEST {
        return Err(TsError::TooLong("it covers more than an hour"));
    }
    Ok(())
}

fn read(media: Media) -> Result<(Track, Vec<Fragment>), TsError> {
    if media.init.len() + media.segment.len() > MOST_BYTES {
        return Err(TsError::TooLong("it has more than 256 MiB"));
    }
    let mut demuxer = Demuxer::new(MOST_BYTES);
    let (mut track, mut fragments, mut samples) = (None, vec![], 0);
    for bytes in [media.init, media.segment] {
        demuxer.push_whole(bytes);
        while let Some(event) = demuxer.next()? {
            match event {
                Event::Track(found) => track = Some(found),
                Event::Fragment(fragment) => {
                    samples += fragment.samples.len();
                    if samples > MOST_SAMPLES {
                        return Err(TsError::TooLong("it has too many samples"));
                    }
                    fragments.push(fragment);
                }
            }
        }
    }
    demuxer.finish()?;
    Ok((track.ok_or(TsError::Empty)?, fragments))
}

fn units(track: &Track, delay: u32, fragments: Vec<Fragment>) -> Result<Vec<Unit>, TsError> {
    let at = |ticks: i128| on_clock(ticks - i128::from(delay), track.timescale);
    let mut units = Vec::with_capacity(fragments.iter().map(|fragment| fragment.samples.len()).sum());
    for fragment in fragments {
        let mut time = i128::from(fragment.base_decode_time);
        for sample in fragment.samples {
            let end = time + i128::from(sample.duration);
            units.push(Unit {
                dts: at(time)?,
                pts: at(time + i128::from(sample.composition_offset))?,
                end: at(end)?,
                sync: sample.sync,
                data: sample.data,
            });
            time = end;
        }
    }
    Ok(units)
}

/// A time of a track on the clock of the stream, to the nearest tick.
fn on_clock(ticks: i128, timescale: u32) -> Result<i64, TsError> {
    let scale = i128::from(timescale.max(1));
    let ticks = (ticks * i128::from(CLOCK) + scale / 2).div_euclid(scale);
    // Leaves room for every sum that is made of it.
    let bounded = i64::try_from(ticks).ok().filter(|ticks| ticks.unsigned_abs() < 1 << 60);
    Ok(START + bounded.ok_or(TsError::TooLong("its times are beyond reason"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_the_nearest_tick_on_both_sides_of_zero() {
        assert_eq!(on_clock(0, 30_000), Ok(START));
        assert_eq!(on_clock(1024, 44_100), Ok(START + 2090));
        assert_eq!(on_clock(-2002, 30_000), Ok(START - 6006));
        assert_eq!(on_clock(-1, 60_000), Ok(START - 1));
        assert!(on_clock(i128::from(u64::MAX), 1).is_err());
    }
}
