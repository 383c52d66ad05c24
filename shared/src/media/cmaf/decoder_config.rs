//! What a decoder must know before the first sample, taken apart for containers that carry it within the stream.

use bytes::Bytes;

use super::boxes::{RawBox, Reader, child, kind};
use super::codecs::{self, EsdsAudio};
use super::{CmafError, Track, TrackConfig};

/// The decoder's configuration of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecoderConfig {
    /// H.264 (14496-15, 5.3.3).
    Avc(NalConfig),
    /// HEVC (14496-15, 8.3.3).
    Hevc(NalConfig),
    /// MPEG-4 audio (14496-3, 1.6.2.1).
    Aac(AacConfig),
    /// Any other codec.
    Other,
}

/// How the samples of H.264 and HEVC are made of NAL units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NalConfig {
    /// Bytes of the length before each NAL unit, 1 to 4.
    pub length_bytes: usize,
    /// Parameter sets in the order a decoder needs them.
    pub parameter_sets: Vec<Bytes>,
}

/// The fields of an `AudioSpecificConfig` that ADTS repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacConfig {
    /// Audio object type: 2 for AAC-LC.
    pub object_type: u8,
    /// Place in the table of sampling rates (14496-3, table 1.18); `None` where the rate is none of them.
    pub frequency_index: Option<u8>,
    /// 1 for mono, 2 for stereo, 6 for 5.1; 0 where only the stream says.
    pub channel_configuration: u8,
}

/// Bytes of a `VisualSampleEntry` and of an `AudioSampleEntry` before their boxes (14496-12, 12.1.3 and 12.2.3).
const VISUAL_FIELDS: usize = 78;
const AUDIO_FIELDS: usize = 28;

impl Track {
    /// The decoder's configuration.
    ///
    /// # Errors
    ///
    /// When the configuration box is broken.
    pub fn decoder_config(&self) -> Result<DecoderConfig, CmafError> {
        let stsd = kind(b"stsd");
        let entry =
            Reader::new(stsd, &self.sample_entry).next_box()?.ok_or(CmafError::Truncated { kind: stsd })?;
        let mut fields = Reader::new(entry.kind, entry.body);
        fields.skip(match self.config {
            TrackConfig::Video { .. } => VISUAL_FIELDS,
            TrackConfig::Audio { .. } => AUDIO_FIELDS,
        })?;
        let children = RawBox { kind: entry.kind, body: fields.rest() };
        Ok(match &entry.kind.0 {
            b"avc1" | b"avc3" => DecoderConfig::Avc(avc(child(&children, b"avcC")?)?),
            b"hvc1" | b"hev1" => DecoderConfig::Hevc(hevc(child(&children, b"hvcC")?)?),
            b"mp4a" => match codecs::esds_audio(child(&children, b"esds")?)? {
                EsdsAudio::Mpeg4(audio) => DecoderConfig::Aac(AacConfig {
                    object_type: audio.object_type,
                    frequency_index: Some(audio.frequency_index)
                        .filter(|index| *index != codecs::EXPLICIT_FREQUENCY),
                    channel_configuration: audio.channel_configuration,
                }),
                EsdsAudio::Other(_) => DecoderConfig::Other,
            },
            _ => DecoderConfig::Other,
        })
    }
}

/// An `AVCDecoderConfigurationRecord`: sequence parameter sets, then picture parameter sets.
fn avc(avcc: RawBox<'_>) -> Result<NalConfig, CmafError> {
    let mut reader = Reader::new(avcc.kind, avcc.body);
    // Version, profile, constraints, level.
    reader.skip(4)?;
    let length_bytes = usize::from(reader.u8()? & 3) + 1;
    let mut parameter_sets = vec![];
    for mask in [0x1f, 0xff] {
        for _ in 0..reader.u8()? & mask {
            parameter_sets.push(unit(&mut reader)?);
        }
    }
    Ok(NalConfig { length_bytes, parameter_sets })
}

/// NAL unit types of the video, sequence and picture parameter sets of HEVC (23008-2, table 7-1).
const HEVC_PARAMETER_SETS: [u8; 3] = [32, 33, 34];

/// An `HEVCDecoderConfigurationRecord`: arrays of NAL units of one type each, in any order.
fn hevc(hvcc: RawBox<'_>) -> Result<NalConfig, CmafError> {
    let mut reader = Reader::new(hvcc.kind, hvcc.body);
    reader.skip(21)?;
    let length_bytes = usize::from(reader.u8()? & 3) + 1;
    let mut found: Vec<(u8, Bytes)> = vec![];
    for _ in 0..reader.u8()? {
        let nal_unit_type = reader.u8()? & 0x3f;
        for _ in 0..reader.u16()? {
            found.push((nal_unit_type, unit(&mut reader)?));
        }
    }
    found.retain(|(nal_unit_type, _)| HEVC_PARAMETER_SETS.contains(nal_unit_type));
    found.sort_by_key(|(nal_unit_type, _)| *nal_unit_type);
    Ok(NalConfig { length_bytes, parameter_sets: found.into_iter().map(|(_, unit)| unit).collect() })
}

fn unit(reader: &mut Reader<'_>) -> Result<Bytes, CmafError> {
    let len = reader.u16()?;
    reader.bytes(usize::from(len)).map(Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw<'a>(code: &[u8; 4], body: &'a [u8]) -> RawBox<'a> {
        RawBox { kind: kind(code), body }
    }

    #[test]
    fn avcc_gives_its_sets_in_order() {
        let body = [1, 0x64, 0, 0x28, 0xff, 0xe2, 0, 1, 0x67, 0, 2, 0x67, 7, 1, 0, 1, 0x68, 0xfd];
        let config = avc(raw(b"avcC", &body)).unwrap();
        assert_eq!(config.length_bytes, 4);
        assert_eq!(config.parameter_sets, [&[0x67][..], &[0x67, 7], &[0x68]]);
        let cut = avc(raw(b"avcC", &body[..16]));
        assert_eq!(cut, Err(CmafError::Truncated { kind: kind(b"avcC") }));
    }

    #[test]
    fn hvcc_gives_its_sets_in_the_order_of_decoding() {
        let mut body = vec![0; 21];
        // Two-byte lengths; PPS, SEI, VPS.
        body.extend([0xfd, 3, 0x22, 0, 1, 0, 1, 0x44, 0x27, 0, 1, 0, 1, 0x4e, 0xa0, 0, 1, 0, 1, 0x40]);
        let config = hevc(raw(b"hvcC", &body)).unwrap();
        assert_eq!(config.length_bytes, 2);
        assert_eq!(config.parameter_sets, [&[0x40][..], &[0x44]]);
    }
}
