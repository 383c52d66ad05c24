//! Codec strings for `CODECS` (RFC 6381), read from the decoder configuration boxes.

use std::fmt::Write as _;

use super::av1_sequence::colours;
use super::boxes::{RawBox, Reader, kind};
use super::{CmafError, FourCc};

/// `avc1.PPCCLL`: profile, constraint flags and level as hexadecimal bytes (RFC 6381, 3.3), from an `avcC`
/// (14496-15, 5.3.3).
pub(super) fn avc(sample_entry: FourCc, avcc: RawBox<'_>) -> Result<String, CmafError> {
    let mut reader = Reader::new(avcc.kind, avcc.body);
    expect_version(&mut reader, avcc.kind, 1)?;
    let [profile, constraints, level] = reader.array()?;
    Ok(format!("{sample_entry}.{profile:02x}{constraints:02x}{level:02x}"))
}

/// `hvc1.[A-C]P.C.TL[.constraints]`: profile space and profile, compatibility flags in reverse bit order, tier and
/// level, then the constraint bytes without trailing zeros (14496-15, annex E), from an `hvcC` (8.3.3).
pub(super) fn hevc(sample_entry: FourCc, hvcc: RawBox<'_>) -> Result<String, CmafError> {
    let mut reader = Reader::new(hvcc.kind, hvcc.body);
    expect_version(&mut reader, hvcc.kind, 1)?;
    let profile_byte = reader.u8()?;
    let compatibility = reader.u32()?.reverse_bits();
    let constraints: [u8; 6] = reader.array()?;
    let level = reader.u8()?;

    let space = ["", "A", "B", "C"].get(usize::from(profile_byte >> 6)).copied().unwrap_or_default();
    let tier = if profile_byte & 0x20 == 0 { 'L' } else { 'H' };
    let profile = profile_byte & 0x1f;
    let mut codec = format!("{sample_entry}.{space}{profile}.{compatibility:X}.{tier}{level}");
    let significant = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in constraints.iter().take(significant) {
        // Writing to a String cannot fail.
        let _ = write!(codec, ".{byte:X}");
    }
    Ok(codec)
}

/// `vp09.PP.LL.DD`, and the colours where they are not the default ("VP Codec ISO Media File Format Binding", Codecs
/// Parameter String), from a `vpcC`.
pub(super) fn vp9(vpcc: RawBox<'_>) -> Result<String, CmafError> {
    let mut reader = Reader::new(vpcc.kind, vpcc.body);
    expect_version(&mut reader, vpcc.kind, 1)?;
    reader.skip(3)?;
    let [profile, level, packed, primaries, transfer, matrix] = reader.array()?;
    let (depth, chroma, full_range) = (packed >> 4, packed >> 1 & 7, packed & 1);

    let mut codec = format!("vp09.{profile:02}.{level:02}.{depth:02}");
    // Value 2 is "unspecified": a player then takes the default, BT.709.
    let colour_is_default = matches!((primaries, transfer, matrix), (1, 1, 1) | (2, 2, 2));
    if chroma > 1 || full_range == 1 || !colour_is_default {
        let _ = write!(codec, ".{chroma:02}.{primaries:02}.{transfer:02}.{matrix:02}.{full_range:02}");
    }
    Ok(codec)
}

/// `av01.P.LLT.DD`, and chroma and colours where they are not the default ("AV1 Codec ISO Media File Format
/// Binding", Codecs Parameter String), from an `av1C` and the sample entry's `colr`, or the stream's own word where there is none.
pub(super) fn av1(av1c: RawBox<'_>, colr: Option<RawBox<'_>>) -> Result<String, CmafError> {
    let mut reader = Reader::new(av1c.kind, av1c.body);
    let [marker, profile_level, packed] = reader.array()?;
    if marker != 0x81 {
        return Err(CmafError::Invalid { kind: av1c.kind, reason: "its version is not known" });
    }
    let (profile, level) = (profile_level >> 5, profile_level & 0x1f);
    let bit = |position: u8| packed >> position & 1;
    let tier = if bit(7) == 1 { 'H' } else { 'M' };
    let depth = match (bit(6), bit(5)) {
        (0, _) => 8,
        (_, 1) if profile == 2 => 12,
        _ => 10,
    };
    let (monochrome, subsampling_x, subsampling_y) = (bit(4), bit(3), bit(2));
    // Where chroma samples lie is only told for 4:2:0.
    let position = if (subsampling_x, subsampling_y) == (1, 1) { packed & 3 } else { 0 };
    let chroma = [subsampling_x, subsampling_y, position];
    let stream = || colours(reader.rest().get(1..).unwrap_or_default());
    let colour = colr.map(nclx).transpose()?.flatten().or_else(stream).unwrap_or(Nclx::BT709);
    // A player takes what is not specified for the default, BT.709.
    let colour_is_default = [Nclx::BT709, Nclx::UNSPECIFIED].contains(&colour);

    let mut codec = format!("av01.{profile}.{level:02}{tier}.{depth:02}");
    if monochrome == 1 || chroma != [1, 1, 0] || !colour_is_default {
        let [x, y, position] = chroma;
        let Nclx { primaries, transfer, matrix, full_range } = colour;
        let full_range = u8::from(full_range);
        let _ = write!(
            codec,
            ".{monochrome}.{x}{y}{position}.{primaries:02}.{transfer:02}.{matrix:02}.{full_range}"
        );
    }
    Ok(codec)
}

/// Colours by the code points of ISO/IEC 23091-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nclx {
    pub(super) primaries: u16,
    pub(super) transfer: u16,
    pub(super) matrix: u16,
    pub(super) full_range: bool,
}

impl Nclx {
    const BT709: Self = Self { primaries: 1, transfer: 1, matrix: 1, full_range: false };
    const UNSPECIFIED: Self = Self { primaries: 2, transfer: 2, matrix: 2, full_range: false };
}

/// Reads a `colr` box (14496-12, 12.1.5); `None` when it holds an ICC profile instead.
fn nclx(colr: RawBox<'_>) -> Result<Option<Nclx>, CmafError> {
    let mut reader = Reader::new(colr.kind, colr.body);
    if FourCc(reader.array()?) != kind(b"nclx") {
        return Ok(None);
    }
    let (primaries, transfer, matrix) = (reader.u16()?, reader.u16()?, reader.u16()?);
    Ok(Some(Nclx { primaries, transfer, matrix, full_range: reader.u8()? & 0x80 != 0 }))
}

/// What an `esds` says about an audio stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mp4Audio {
    pub(super) codec: String,
    /// Channels that come out of the decoder; `None` when only the bit stream says.
    pub(super) channels: Option<u16>,
}

/// Object type indication of ISO/IEC 14496-3 audio in a decoder configuration (14496-1, table 5).
const MPEG4_AUDIO: u8 = 0x40;
/// Audio object type of parametric stereo (HE-AAC v2).
const PARAMETRIC_STEREO: u8 = 29;
/// Frequency index that says a rate of 24 bits follows.
pub(super) const EXPLICIT_FREQUENCY: u8 = 15;

/// `mp4a.OO[.A]`: object type indication in hexadecimal and, for MPEG-4 audio, the audio object type (RFC 6381, 3.3),
/// from an `esds` (14496-14, 5.6) and the descriptors in it (14496-1, 7.2.6).
pub(super) fn mp4a(esds: RawBox<'_>) -> Result<Mp4Audio, CmafError> {
    Ok(match esds_audio(esds)? {
        EsdsAudio::Mpeg4(audio) => {
            Mp4Audio { codec: format!("mp4a.40.{}", audio.object_type), channels: audio.channels() }
        }
        EsdsAudio::Other(object_type) => Mp4Audio { codec: format!("mp4a.{object_type:x}"), channels: None },
    })
}

/// What kind of audio an `esds` describes.
pub(super) enum EsdsAudio {
    Mpeg4(AudioSpecific),
    /// Another object type indication: MP3, for example.
    Other(u8),
}

/// Reads an `esds` down to the decoder's own configuration.
pub(super) fn esds_audio(esds: RawBox<'_>) -> Result<EsdsAudio, CmafError> {
    let mut reader = Reader::new(esds.kind, esds.body);
    reader.version_and_flags()?;
    let mut stream = descriptor(&mut reader, esds.kind, 3)?;
    stream.skip(2)?;
    let flags = stream.u8()?;
    if flags & 0x80 != 0 {
        stream.skip(2)?;
    }
    if flags & 0x40 != 0 {
        let url_len = stream.u8()?;
        stream.skip(usize::from(url_len))?;
    }
    if flags & 0x20 != 0 {
        stream.skip(2)?;
    }
    let mut decoder = descriptor(&mut stream, esds.kind, 4)?;
    let object_type = decoder.u8()?;
    if object_type != MPEG4_AUDIO {
        return Ok(EsdsAudio::Other(object_type));
    }
    // Stream type, buffer size, largest and average bit rate.
    decoder.skip(1 + 3 + 4 + 4)?;
    let config = descriptor(&mut decoder, esds.kind, 5)?;
    let audio = AudioSpecific::parse(config.rest()).ok_or(CmafError::Truncated { kind: esds.kind })?;
    Ok(EsdsAudio::Mpeg4(audio))
}

/// Reads one descriptor with the given tag. Its length takes one to four bytes of seven bits each; FFmpeg always
/// writes four.
fn descriptor<'a>(reader: &mut Reader<'a>, esds: FourCc, tag: u8) -> Result<Reader<'a>, CmafError> {
    if reader.u8()? != tag {
        return Err(CmafError::Invalid { kind: esds, reason: "its descriptors are not in order" });
    }
    let mut len = 0_usize;
    for _ in 0..4 {
        let byte = reader.u8()?;
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(Reader::new(esds, reader.bytes(len)?));
        }
    }
    Err(CmafError::Invalid { kind: esds, reason: "the length of a descriptor has no end" })
}

/// The first fields of an `AudioSpecificConfig` (14496-3, 1.6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AudioSpecific {
    pub(super) object_type: u8,
    /// Place in the table of sampling rates; 15 where the rate is spelt out.
    pub(super) frequency_index: u8,
    pub(super) channel_configuration: u8,
}

impl AudioSpecific {
    /// All that is wanted lies within the first 43 bits.
    fn parse(config: &[u8]) -> Option<Self> {
        if config.len() < 2 {
            return None;
        }
        let mut padded = [0; 8];
        for (to, from) in padded.iter_mut().zip(config) {
            *to = *from;
        }
        let mut bits = u64::from_be_bytes(padded);
        let mut take = |count: u32| {
            let value = bits >> (64 - count);
            bits <<= count;
            value as u8
        };
        let object_type = match take(5) {
            31 => 32 + take(6),
            short => short,
        };
        let frequency_index = take(4);
        if frequency_index == EXPLICIT_FREQUENCY {
            take(24);
        }
        Some(Self { object_type, frequency_index, channel_configuration: take(4) })
    }

    /// Channels that come out of the decoder. The count of the sample entry is no help: FFmpeg writes 2 there whatever the
    /// stream has.
    fn channels(self) -> Option<u16> {
        match self.channel_configuration {
            1 if self.object_type == PARAMETRIC_STEREO => Some(2),
            count @ 1..=6 => Some(u16::from(count)),
            7 | 12 | 14 => Some(8),
            11 => Some(7),
            _ => None,
        }
    }
}

fn expect_version(reader: &mut Reader<'_>, kind: FourCc, expected: u8) -> Result<(), CmafError> {
    if reader.u8()? == expected {
        Ok(())
    } else {
        Err(CmafError::Invalid { kind, reason: "its version is not known" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw<'a>(code: &[u8; 4], body: &'a [u8]) -> RawBox<'a> {
        RawBox { kind: kind(code), body }
    }

    #[test]
    fn avc_is_three_bytes_of_the_configuration() {
        let high_level_4 = raw(b"avcC", &[1, 0x64, 0x00, 0x28, 0xff]);
        assert_eq!(avc(kind(b"avc1"), high_level_4).unwrap(), "avc1.640028");
        let version_2 = raw(b"avcC", &[2, 0x64, 0x00, 0x28]);
        assert!(matches!(avc(kind(b"avc1"), version_2), Err(CmafError::Invalid { .. })));
        let short = raw(b"avcC", &[1, 0x64]);
        assert_eq!(avc(kind(b"avc1"), short), Err(CmafError::Truncated { kind: kind(b"avcC") }));
    }

    #[test]
    fn hevc_reverses_compatibility_and_drops_trailing_zeros() {
        // The example of 14496-15, annex E: main profile, main tier, level 3.1, one constraint byte.
        let main = [1, 0x01, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93];
        assert_eq!(hevc(kind(b"hvc1"), raw(b"hvcC", &main)).unwrap(), "hvc1.1.6.L93.B0");
        let high_tier = [1, 0x62, 0x20, 0, 0, 0, 0x90, 0, 0x10, 0, 0, 0, 153];
        assert_eq!(hevc(kind(b"hev1"), raw(b"hvcC", &high_tier)).unwrap(), "hev1.A2.4.H153.90.0.10");
        let none = [1, 0x01, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60];
        assert_eq!(hevc(kind(b"hvc1"), raw(b"hvcC", &none)).unwrap(), "hvc1.1.6.L60");
    }

    #[test]
    fn vp9_names_colours_only_where_they_are_not_the_default() {
        let plain = [1, 0, 0, 0, 0, 10, 0x82, 2, 2, 2, 0, 0];
        assert_eq!(vp9(raw(b"vpcC", &plain)).unwrap(), "vp09.00.10.08");
        let hdr = [1, 0, 0, 0, 2, 10, 0xa2, 9, 16, 9, 0, 0];
        assert_eq!(vp9(raw(b"vpcC", &hdr)).unwrap(), "vp09.02.10.10.01.09.16.09.00");
    }

    #[test]
    fn av1_names_colours_only_where_they_are_not_the_default() {
        assert_eq!(av1(raw(b"av1C", &[0x81, 0x04, 0x0c, 0]), None).unwrap(), "av01.0.04M.08");
        let colr = [b'n', b'c', b'l', b'x', 0, 9, 0, 16, 0, 9, 0];
        let hdr = av1(raw(b"av1C", &[0x81, 0x0c, 0xce, 0]), Some(raw(b"colr", &colr))).unwrap();
        assert_eq!(hdr, "av01.0.12H.10.0.112.09.16.09.0");
        let gray = av1(raw(b"av1C", &[0x81, 0x04, 0x1c, 0]), None).unwrap();
        assert_eq!(gray, "av01.0.04M.08.1.110.01.01.01.0");
    }

    /// An `esds` around an `AudioSpecificConfig`, with lengths of `len_bytes` bytes.
    fn esds(object_type: u8, len_bytes: usize, config: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, body: &[u8]| {
            let mut out = vec![tag];
            out.extend(std::iter::repeat_n(0x80, len_bytes - 1));
            out.push(u8::try_from(body.len()).unwrap());
            out.extend_from_slice(body);
            out
        };
        let mut decoder = vec![object_type, 0x15];
        decoder.extend([0; 11]);
        decoder.extend(wrap(5, config));
        let mut stream = vec![0, 1, 0];
        stream.extend(wrap(4, &decoder));
        stream.extend(wrap(6, &[2]));
        let mut body = vec![0; 4];
        body.extend(wrap(3, &stream));
        body
    }

    #[test]
    fn mp4a_is_read_through_descriptor_lengths_of_one_to_four_bytes() {
        for len_bytes in 1..=4 {
            let body = esds(0x40, len_bytes, &[0x12, 0x10]);
            let aac = mp4a(raw(b"esds", &body)).unwrap();
            assert_eq!((aac.codec.as_str(), aac.channels), ("mp4a.40.2", Some(2)));
        }
        let body = esds(0x40, 5, &[0x12, 0x10]);
        assert!(matches!(mp4a(raw(b"esds", &body)), Err(CmafError::Invalid { .. })));
    }

    #[test]
    fn mp4a_knows_object_types_and_channels() {
        let of = |object_type, config: &[u8]| {
            let body = esds(object_type, 4, config);
            mp4a(raw(b"esds", &body)).map(|audio| (audio.codec, audio.channels))
        };
        assert_eq!(of(0x40, &[0x11, 0x88]).unwrap(), ("mp4a.40.2".to_owned(), Some(1)));
        assert_eq!(of(0x40, &[0x2b, 0x09, 0x88]).unwrap(), ("mp4a.40.5".to_owned(), Some(1)));
        assert_eq!(of(0x40, &[0xeb, 0x09, 0x88]).unwrap(), ("mp4a.40.29".to_owned(), Some(2)));
        // Escaped: 31, then 10 more than 32; an explicit sampling rate; five channels and a subwoofer.
        let escaped = [0xf9, 0x5e, 0x01, 0x77, 0x00, 0xc0];
        assert_eq!(of(0x40, &escaped).unwrap(), ("mp4a.40.42".to_owned(), Some(6)));
        assert_eq!(of(0x6b, &[]).unwrap(), ("mp4a.6b".to_owned(), None));
        assert_eq!(of(0x40, &[0x12]), Err(CmafError::Truncated { kind: kind(b"esds") }));
    }
}
