//! Sample entries (ISO/IEC 14496-12, 8.5.2): read, and written again with only what a decoder needs.
//!
//! One init segment serves all chunks of a rendition, wherever they were encoded, so everything that can differ from
//! one run or host to the next goes: `btrt` is measured, the compressor name tells FFmpeg's version, and x265 writes
//! its thread counts into an SEI message inside `hvcC`.

use bytes::Bytes;

use super::boxes::{RawBox, Reader, child, kind, optional_child, put_u16, put_u32, write_box};
use super::{CmafError, TrackConfig, codecs};

/// A sample entry, cleaned.
pub(super) struct SampleEntry {
    /// The whole box.
    pub(super) bytes: Bytes,
    pub(super) codec: String,
    pub(super) config: TrackConfig,
}

/// Boxes that tell a player how to show the pictures: pixel aspect, colours, HDR metadata (for VP9 under its own
/// names).
const KEPT_OF_VIDEO: [&[u8; 4]; 6] = [b"pasp", b"colr", b"mdcv", b"clli", b"SmDm", b"CoLL"];

impl SampleEntry {
    /// Reads a `VisualSampleEntry` (14496-12, 12.1.3).
    pub(super) fn parse_video(entry: RawBox<'_>) -> Result<Self, CmafError> {
        let mut reader = Reader::new(entry.kind, entry.body);
        // Reserved, data reference index, predefined and reserved.
        reader.skip(8 + 16)?;
        let (width, height) = (reader.u16()?, reader.u16()?);
        if width == 0 || height == 0 {
            return Err(CmafError::Invalid { kind: entry.kind, reason: "its pictures have no size" });
        }
        // Resolution, reserved, frame count, compressor name, depth, predefined.
        reader.skip(12 + 2 + 32 + 4)?;
        let children = RawBox { kind: entry.kind, body: reader.rest() };

        let (config_box, codec) = match &entry.kind.0 {
            b"avc1" | b"avc3" => {
                let avcc = child(&children, b"avcC")?;
                (b"avcC", codecs::avc(entry.kind, avcc)?)
            }
            b"hvc1" | b"hev1" => {
                let hvcc = child(&children, b"hvcC")?;
                (b"hvcC", codecs::hevc(entry.kind, hvcc)?)
            }
            b"vp09" => (b"vpcC", codecs::vp9(child(&children, b"vpcC")?)?),
            b"av01" => {
                let colr = optional_child(&children, b"colr")?;
                (b"av1C", codecs::av1(child(&children, b"av1C")?, colr)?)
            }
            _ => {
                return Err(CmafError::UnsupportedCodec { sample_entry: entry.kind });
            }
        };

        let kept = kept_children(&children, config_box, &KEPT_OF_VIDEO)?;
        let mut bytes = Vec::with_capacity(entry.body.len() + 8);
        write_box(&mut bytes, &entry.kind.0, |out| {
            out.extend_from_slice(&[0; 6]);
            put_u16(out, 1);
            out.extend_from_slice(&[0; 16]);
            put_u16(out, width);
            put_u16(out, height);
            // 72 dpi both ways: a template value nobody reads.
            put_u32(out, 0x0048_0000);
            put_u32(out, 0x0048_0000);
            put_u32(out, 0);
            put_u16(out, 1);
            out.extend_from_slice(&[0; 32]);
            put_u16(out, 0x18);
            put_u16(out, 0xffff);
            out.extend_from_slice(&kept);
        });
        Ok(Self { bytes: bytes.into(), codec, config: TrackConfig::Video { width, height } })
    }

    /// Reads an `AudioSampleEntry` (14496-12, 12.2.3). `timescale` stands in for a sampling rate that does not fit
    /// into its 16 bits.
    pub(super) fn parse_audio(entry: RawBox<'_>, timescale: u32) -> Result<Self, CmafError> {
        let mut reader = Reader::new(entry.kind, entry.body);
        reader.skip(8)?;
        if reader.u16()? != 0 {
            return Err(CmafError::Invalid {
                kind: entry.kind,
                reason: "it has QuickTime's layout, not MP4's",
            });
        }
        reader.skip(6)?;
        let stated_channels = reader.u16()?;
        let sample_size = reader.u16()?;
        reader.skip(4)?;
        let stated_rate = reader.u16()?;
        reader.skip(2)?;
        let children = RawBox { kind: entry.kind, body: reader.rest() };

        let (config_box, codec, channels) = match &entry.kind.0 {
            b"mp4a" => {
                let audio = codecs::mp4a(child(&children, b"esds")?)?;
                (b"esds", audio.codec, audio.channels.unwrap_or(stated_channels))
            }
            b"Opus" => (b"dOps", entry.kind.to_string(), stated_channels),
            b"fLaC" => (b"dfLa", entry.kind.to_string(), stated_channels),
            _ => {
                return Err(CmafError::UnsupportedCodec { sample_entry: entry.kind });
            }
        };
        child(&children, config_box)?;

        let kept = kept_children(&children, config_box, &[])?;
        let mut bytes = Vec::with_capacity(entry.body.len() + 8);
        write_box(&mut bytes, &entry.kind.0, |out| {
            out.extend_from_slice(&[0; 6]);
            put_u16(out, 1);
            out.extend_from_slice(&[0; 8]);
            put_u16(out, channels);
            put_u16(out, sample_size);
            put_u32(out, 0);
            put_u32(out, u32::from(stated_rate) << 16);
            out.extend_from_slice(&kept);
        });
        let sample_rate = if stated_rate == 0 { timescale } else { u32::from(stated_rate) };
        Ok(Self { bytes: bytes.into(), codec, config: TrackConfig::Audio { sample_rate, channels } })
    }
}

/// The decoder configuration and the boxes in `others`, in the order they came in.
fn kept_children(
    entry: &RawBox<'_>,
    config_box: &[u8; 4],
    others: &[&[u8; 4]],
) -> Result<Vec<u8>, CmafError> {
    let mut out = Vec::new();
    let mut children = Reader::new(entry.kind, entry.body);
    while let Some(child) = children.next_box()? {
        let is_config = child.kind == kind(config_box);
        if is_config && child.kind == kind(b"hvcC") {
            let hvcc = without_sei(child)?;
            write_box(&mut out, config_box, |out| out.extend_from_slice(&hvcc));
        } else if is_config || others.iter().any(|other| child.kind == kind(other)) {
            write_box(&mut out, &child.kind.0, |out| out.extend_from_slice(child.body));
        }
    }
    Ok(out)
}

/// NAL unit types of HEVC's prefix and suffix SEI messages (ISO/IEC 23008-2, table 7-1).
const SEI: [u8; 2] = [39, 40];

/// Copies an `HEVCDecoderConfigurationRecord` (14496-15, 8.3.3) without its arrays of SEI messages. No decoder needs
/// them there, and x265's is 2 kB of its settings.
fn without_sei(hvcc: RawBox<'_>) -> Result<Vec<u8>, CmafError> {
    let mut reader = Reader::new(hvcc.kind, hvcc.body);
    let mut out = reader.bytes(22)?.to_vec();
    let count = reader.u8()?;
    let mut kept = 0_u8;
    let mut arrays = Vec::new();
    for _ in 0..count {
        let array = reader.rest();
        let nal_unit_type = reader.u8()? & 0x3f;
        let units = reader.u16()?;
        for _ in 0..units {
            let len = reader.u16()?;
            reader.skip(usize::from(len))?;
        }
        if !SEI.contains(&nal_unit_type) {
            kept += 1;
            let len = array.len() - reader.rest().len();
            arrays.extend_from_slice(array.get(..len).unwrap_or_default());
        }
    }
    out.push(kept);
    out.extend_from_slice(&arrays);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sei_leaves_hvcc_and_parameter_sets_stay() {
        let fixed = [7; 22];
        let sps = [0x21, 0, 1, 0, 2, 0x42, 0x01];
        let sei = [0x27, 0, 2, 0, 1, 0x4e, 0, 0];
        let pps = [0x22, 0, 1, 0, 1, 0x44];
        let hvcc = |arrays: &[&[u8]]| {
            let count = u8::try_from(arrays.len()).unwrap();
            [&fixed[..], &[count], &arrays.concat()].concat()
        };
        let before = hvcc(&[&sps, &sei, &pps]);
        let raw = RawBox { kind: kind(b"hvcC"), body: &before };
        assert_eq!(without_sei(raw).unwrap(), hvcc(&[&sps, &pps]));

        let truncated = RawBox { kind: kind(b"hvcC"), body: before.get(..before.len() - 1).unwrap() };
        assert_eq!(without_sei(truncated), Err(CmafError::Truncated { kind: kind(b"hvcC") }));
    }
}
