//! Samples as they stand in a transport stream: H.264 and HEVC as a byte stream (annex B of both), AAC as ADTS.

use super::TsError;
use super::input::Unit;
use super::pieces::Pieces;
use crate::media::cmaf::{AacConfig, NalConfig};

/// Bytes before each AAC frame (14496-3, 1.A.2.2).
pub(super) const ADTS_HEADER: usize = 7;
/// What comes before every NAL unit; the first of a picture has a zero more.
static START_CODE: [u8; 3] = [0, 0, 1];

/// A codec with what every segment must repeat of it.
#[derive(Debug)]
pub(super) enum Codec {
    Avc(NalConfig),
    Hevc(NalConfig),
    Aac(Adts),
}

impl Codec {
    /// AAC that a header of ADTS can describe: profiles up to LTP, a rate of the table, and channels in a layout of the table.
    pub(super) fn adts(config: AacConfig) -> Option<Self> {
        let profile = config.object_type.checked_sub(1).filter(|profile| *profile <= 3)?;
        let frequency_index = config.frequency_index.filter(|index| *index <= 12)?;
        let channels = Some(config.channel_configuration).filter(|channels| (1..=7).contains(channels))?;
        Some(Self::Aac(Adts { profile, frequency_index, channels }))
    }

    /// `stream_type` in the program map (13818-1, table 2-34).
    pub(super) fn stream_type(&self) -> u8 {
        match self {
            Self::Avc(_) => 0x1b,
            Self::Hevc(_) => 0x24,
            Self::Aac(_) => 0x0f,
        }
    }

    /// Appends one sample.
    pub(super) fn gather<'a>(&'a self, out: &mut Pieces<'a>, unit: &'a Unit) -> Result<(), TsError> {
        match self {
            // An access unit delimiter that allows any kind of slice (14496-10, 7.3.2.4; 23008-2, 7.3.2.5) comes first.
            Self::Avc(config) => {
                byte_stream(out, config, unit, &[0x09, 0xf0], |nal| nal & 0x1f == AVC_DELIMITER)
            }
            Self::Hevc(config) => {
                byte_stream(out, config, unit, &[0x46, 0x01, 0x50], |nal| nal >> 1 & 0x3f == HEVC_DELIMITER)
            }
            Self::Aac(adts) => adts.gather(out, &unit.data),
        }
    }
}

/// Most NAL units of a picture, each of which takes memory beside its bytes. Encoders make a slice or a few, and one a row at most.
const MOST_NALS: usize = 1 << 16;

/// NAL unit types of access unit delimiters (14496-10, table 7-1; 23008-2, table 7-1).
const AVC_DELIMITER: u8 = 9;
const HEVC_DELIMITER: u8 = 35;

/// The delimiter, the parameter sets where decoding can begin, and the NAL units of the sample without their lengths. Lengths of
/// four bytes, which all of ours have, become start codes that are no longer.
fn byte_stream<'a>(
    out: &mut Pieces<'a>,
    config: &'a NalConfig,
    unit: &'a Unit,
    delimiter: &'static [u8],
    is_delimiter: impl Fn(u8) -> bool,
) -> Result<(), TsError> {
    let put = |out: &mut Pieces<'a>, nal: &'a [u8]| {
        out.push(&START_CODE);
        out.push(nal);
    };
    out.push(&[0]);
    put(out, delimiter);
    if unit.sync {
        config.parameter_sets.iter().for_each(|set| put(out, set));
    }
    let mut rest = &unit.data[..];
    let mut count = 0;
    while !rest.is_empty() {
        let broken = TsError::Sample("the length of a NAL unit goes beyond it");
        let (length, tail) = rest.split_at_checked(config.length_bytes).ok_or(broken.clone())?;
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (nal, tail) = tail.split_at_checked(length).ok_or(broken)?;
        count += 1;
        if count > MOST_NALS {
            return Err(TsError::TooLong("a picture of it has too many NAL units"));
        }
        if nal.first().is_some_and(|header| !is_delimiter(*header)) {
            put(out, nal);
        }
        rest = tail;
    }
    Ok(())
}

/// The fields of a header of ADTS that do not change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adts {
    /// Audio object type less one.
    profile: u8,
    frequency_index: u8,
    channels: u8,
}

impl Adts {
    fn gather<'a>(self, out: &mut Pieces<'a>, frame: &'a [u8]) -> Result<(), TsError> {
        let length = u16::try_from(frame.len() + ADTS_HEADER).ok().filter(|length| *length < 1 << 13);
        let length = length.ok_or(TsError::Sample("an AAC frame is longer than ADTS can say"))?;
        // The sync word, MPEG-4, no checksum; then fields of 2, 4, 1, 3 bits, four flags, 13 bits of length, 11 bits of fullness, all
        // ones for a variable rate, and one block of raw data.
        out.push_adts([
            0xff,
            0xf1,
            self.profile << 6 | self.frequency_index << 2 | self.channels >> 2,
            self.channels << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1f,
            0xfc,
        ]);
        out.push(frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn unit(sync: bool, data: &'static [u8]) -> Unit {
        Unit { dts: 0, pts: 0, end: 1, sync, data: Bytes::from_static(data) }
    }

    fn avc(length_bytes: usize) -> Codec {
        let parameter_sets = vec![Bytes::from_static(&[0x67, 1]), Bytes::from_static(&[0x68, 2])];
        Codec::Avc(NalConfig { length_bytes, parameter_sets })
    }

    fn written(codec: &Codec, unit: &Unit) -> Result<Vec<u8>, TsError> {
        let mut out = Pieces::default();
        codec.gather(&mut out, unit)?;
        let written = out.slices().collect::<Vec<_>>().concat();
        assert_eq!(out.len(), written.len());
        Ok(written)
    }

    #[test]
    fn lengths_become_start_codes_behind_one_delimiter() {
        // A delimiter of its own, an empty unit, and a slice.
        let data = &[0, 2, 9, 0x10, 0, 0, 0, 3, 0x65, 7, 8];
        let key = written(&avc(2), &unit(true, data)).unwrap();
        assert_eq!(key, [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 7, 8]);
        let other = written(&avc(4), &unit(false, &[0, 0, 0, 2, 0x41, 7])).unwrap();
        assert_eq!(other, [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x41, 7]);
        for broken in [&[0, 0, 0][..], &[0, 0, 0, 2, 0x41], &[0xff, 0xff, 0xff, 0xff, 1]] {
            assert!(written(&avc(4), &unit(false, broken)).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn adts_says_what_the_frame_is() {
        let config = AacConfig { object_type: 2, frequency_index: Some(3), channel_configuration: 2 };
        let codec = Codec::adts(config).unwrap();
        let frame = written(&codec, &unit(true, &[1, 2, 3])).unwrap();
        assert_eq!(frame, [0xff, 0xf1, 0x4c, 0x80, 0x01, 0x5f, 0xfc, 1, 2, 3]);
        static LONG: [u8; 8185] = [0; 8185];
        assert!(written(&codec, &unit(true, &LONG)).is_err());
        assert!(Codec::adts(AacConfig { object_type: 5, ..config }).is_none());
        assert!(Codec::adts(AacConfig { frequency_index: None, ..config }).is_none());
        assert!(Codec::adts(AacConfig { channel_configuration: 0, ..config }).is_none());
    }
}
