//! What a `moof` says about the samples in the `mdat` that follows it (ISO/IEC 14496-12, 8.8).

use bytes::Bytes;

use super::boxes::{RawBox, Reader, child, kind};
use super::flags::{
    SAMPLE_IS_NON_SYNC, TFHD_BASE_DATA_OFFSET, TFHD_DURATION, TFHD_FLAGS, TFHD_SAMPLE_DESCRIPTION, TFHD_SIZE,
    TRUN_COMPOSITION_OFFSET, TRUN_DATA_OFFSET, TRUN_DURATION, TRUN_FIRST_FLAGS, TRUN_FLAGS, TRUN_SIZE,
};
use super::track::{SampleDefaults, SourceTrack};
use super::{CmafError, Fragment, Sample};

/// A run whose samples all take the defaults costs no bytes a sample, so its length needs a limit of its own. This is
/// an hour and a half of AAC at 48 kHz, and about 16 MB of headers.
const MAX_SAMPLES: u64 = 1 << 18;

/// A fragment whose media data has not come yet.
#[derive(Debug)]
pub(super) struct FragmentHeader {
    base_decode_time: u64,
    samples: Vec<SampleHeader>,
    /// Where the data of the last run ends, as a position in the stream.
    next_offset: u64,
}

#[derive(Debug)]
struct SampleHeader {
    duration: u32,
    composition_offset: i32,
    sync: bool,
    /// Where its data begins, as a position in the stream.
    offset: u64,
    size: u32,
}

impl FragmentHeader {
    /// Reads the body of a `moof` whose first byte, that of its header, was at `moof_start` in the stream.
    pub(super) fn parse(moof: &[u8], moof_start: u64, track: SourceTrack) -> Result<Self, CmafError> {
        let moof = RawBox { kind: kind(b"moof"), body: moof };
        let traf = child(&moof, b"traf")?;
        let (base_offset, defaults) = parse_tfhd(child(&traf, b"tfhd")?, moof_start, track)?;
        let base_decode_time = parse_tfdt(child(&traf, b"tfdt")?)?;
        let mut header = Self { base_decode_time, samples: Vec::new(), next_offset: base_offset };
        let mut children = Reader::new(traf.kind, traf.body);
        while let Some(child) = children.next_box()? {
            if child.kind == kind(b"trun") {
                header.parse_trun(child, base_offset, defaults)?;
            }
        }
        Ok(header)
    }

    /// Whether there is anything to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The position in the stream where the last byte of any sample has gone by.
    pub(super) fn data_end(&self) -> u64 {
        self.samples.iter().map(|sample| sample.offset + u64::from(sample.size)).max().unwrap_or(0)
    }

    /// The first sample, cut out of bytes that begin at `start` in the stream; `None` where they end before it does.
    pub(super) fn first_sample(&self, bytes: &[u8], start: u64) -> Result<Option<Sample>, CmafError> {
        let Some(first) = self.samples.first() else { return Ok(None) };
        let from = first.offset.checked_sub(start).ok_or(CmafError::SampleOutsideData)?;
        let range = || {
            let from = usize::try_from(from).ok()?;
            bytes.get(from..from.checked_add(usize::try_from(first.size).ok()?)?)
        };
        Ok(range().map(|data| Sample {
            duration: first.duration,
            composition_offset: first.composition_offset,
            sync: first.sync,
            data: Bytes::copy_from_slice(data),
        }))
    }

    /// Cuts the samples out of the body of an `mdat` that began at `data_start` in the stream.
    pub(super) fn into_fragment(self, data: &Bytes, data_start: u64) -> Result<Fragment, CmafError> {
        let base_decode_time = self.base_decode_time;
        let samples = self.samples.into_iter().map(|sample| sample.cut_out(data, data_start));
        Ok(Fragment { base_decode_time, samples: samples.collect::<Result<_, _>>()? })
    }

    /// Track run (14496-12, 8.8.8), of either version.
    fn parse_trun(
        &mut self,
        trun: RawBox<'_>,
        base_offset: u64,
        defaults: SampleDefaults,
    ) -> Result<(), CmafError> {
        let mut reader = Reader::new(trun.kind, trun.body);
        let (version, flags) = reader.version_and_flags()?;
        let has = |flag| flags & flag != 0;
        let count = reader.u32()?;
        let total = self.samples.len() as u64 + u64::from(count);
        if total > MAX_SAMPLES {
            return Err(CmafError::TooManySamples { count: total, limit: MAX_SAMPLES });
        }
        // Without an offset of its own a run goes on where the one before it ended.
        if has(TRUN_DATA_OFFSET) {
            let relative = i32::from_be_bytes(reader.array()?);
            self.next_offset =
                base_offset.checked_add_signed(relative.into()).ok_or(CmafError::SampleOutsideData)?;
        }
        let mut first_flags = if has(TRUN_FIRST_FLAGS) { Some(reader.u32()?) } else { None };
        for _ in 0..count {
            let duration = if has(TRUN_DURATION) { reader.u32()? } else { defaults.duration };
            let size = if has(TRUN_SIZE) { reader.u32()? } else { defaults.size };
            let own_flags = if has(TRUN_FLAGS) { reader.u32()? } else { defaults.flags };
            let sample_flags = first_flags.take().unwrap_or(own_flags);
            let composition_offset = match (has(TRUN_COMPOSITION_OFFSET), version) {
                (false, _) => 0,
                (true, 0) => i32::try_from(reader.u32()?).map_err(|_| CmafError::Invalid {
                    kind: trun.kind,
                    reason: "a composition offset is out of range",
                })?,
                (true, _) => i32::from_be_bytes(reader.array()?),
            };
            let sync = sample_flags & SAMPLE_IS_NON_SYNC == 0;
            let offset = self.next_offset;
            self.next_offset = offset.checked_add(size.into()).ok_or(CmafError::SampleOutsideData)?;
            self.samples.push(SampleHeader { duration, composition_offset, sync, offset, size });
        }
        Ok(())
    }
}

impl SampleHeader {
    fn cut_out(self, data: &Bytes, data_start: u64) -> Result<Sample, CmafError> {
        let range = || {
            let start = usize::try_from(self.offset.checked_sub(data_start)?).ok()?;
            let end = start.checked_add(usize::try_from(self.size).ok()?)?;
            (end <= data.len()).then_some(start..end)
        };
        Ok(Sample {
            duration: self.duration,
            composition_offset: self.composition_offset,
            sync: self.sync,
            data: data.slice(range().ok_or(CmafError::SampleOutsideData)?),
        })
    }
}

/// Track fragment header (14496-12, 8.8.7): where data offsets count from, and the defaults.
fn parse_tfhd(
    tfhd: RawBox<'_>,
    moof_start: u64,
    track: SourceTrack,
) -> Result<(u64, SampleDefaults), CmafError> {
    let mut reader = Reader::new(tfhd.kind, tfhd.body);
    let (_, flags) = reader.version_and_flags()?;
    let has = |flag| flags & flag != 0;
    if reader.u32()? != track.id {
        return Err(CmafError::Invalid { kind: tfhd.kind, reason: "it belongs to another track" });
    }
    // Without an offset of its own the only track of a fragment counts from the moof, with the flag or without.
    let base_offset = if has(TFHD_BASE_DATA_OFFSET) { reader.u64()? } else { moof_start };
    if has(TFHD_SAMPLE_DESCRIPTION) && reader.u32()? != 1 {
        return Err(CmafError::Invalid { kind: tfhd.kind, reason: "its sample description does not exist" });
    }
    let mut defaults = track.defaults;
    if has(TFHD_DURATION) {
        defaults.duration = reader.u32()?;
    }
    if has(TFHD_SIZE) {
        defaults.size = reader.u32()?;
    }
    if has(TFHD_FLAGS) {
        defaults.flags = reader.u32()?;
    }
    Ok((base_offset, defaults))
}

/// Decode time of the first sample (14496-12, 8.8.12), of 32 or 64 bits.
fn parse_tfdt(tfdt: RawBox<'_>) -> Result<u64, CmafError> {
    let mut reader = Reader::new(tfdt.kind, tfdt.body);
    match reader.version_and_flags()? {
        (0, _) => reader.u32().map(u64::from),
        _ => reader.u64(),
    }
}
