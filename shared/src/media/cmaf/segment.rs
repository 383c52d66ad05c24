//! Media segments (ISO/IEC 23000-19, 7.3.3): `styp`, then a `moof` and an `mdat` for every GOP.

use bytes::Bytes;

use super::boxes::{patch_u32, put_u32, put_u64, write_box, write_full_box};
use super::flags::{
    SAMPLE_DEPENDS_ON_NONE, SAMPLE_DEPENDS_ON_OTHERS, SAMPLE_IS_NON_SYNC, TFHD_BASE_IS_MOOF, TFHD_DURATION,
    TFHD_FLAGS, TFHD_SIZE, TRUN_COMPOSITION_OFFSET, TRUN_DATA_OFFSET, TRUN_DURATION, TRUN_FIRST_FLAGS,
    TRUN_FLAGS, TRUN_SIZE,
};
use super::init::TRACK_ID;
use super::{Keyframe, MediaSegment, Sample, duration};

/// Writes a media segment: one `moof` and `mdat` for each of `gops`, in order. An empty one is left out.
///
/// `sequence` is the `mfhd` sequence number of the first GOP, the next ones count on from it; the numbers must grow
/// along a rendition, and they may leave gaps. `base_decode_time` is the decode time of the first sample in ticks of
/// the track's timescale, counted by the caller from frame indices.
///
/// Where decoding starts at the first sample of each GOP, each `moof` with its `mdat` is a CMAF fragment. Durations,
/// sizes and flags that all samples of a GOP share are written once.
pub fn media_segment(sequence: u32, base_decode_time: u64, gops: &[&[Sample]]) -> MediaSegment {
    let samples: usize = gops.iter().map(|gop| gop.len()).sum();
    let payload: usize = gops.iter().copied().flatten().map(|sample| sample.data.len()).sum();
    let mut out = Vec::with_capacity(24 + gops.len() * 128 + samples * 16 + payload);
    write_box(&mut out, b"styp", |out| {
        // No `msix`: it would promise a `sidx`.
        out.extend_from_slice(b"msdh");
        put_u32(out, 0);
        out.extend_from_slice(b"msdhcmfs");
    });
    let (mut sequence, mut decode_time) = (sequence, base_decode_time);
    let mut keyframes = Vec::with_capacity(gops.len());
    for gop in gops {
        let Some(first) = gop.first() else { continue };
        let (start, ticks) = (out.len(), duration(gop));
        write_fragment(&mut out, sequence, decode_time, gop);
        if first.sync {
            let rest: usize = gop.iter().skip(1).map(|sample| sample.data.len()).sum();
            let bytes = len_u32(out.len() - rest - start);
            keyframes.push(Keyframe { offset: len_u32(start), bytes, ticks });
        }
        sequence = sequence.wrapping_add(1);
        decode_time = decode_time.saturating_add(ticks);
    }
    MediaSegment { bytes: Bytes::from(out), keyframes }
}

fn write_fragment(out: &mut Vec<u8>, sequence: u32, decode_time: u64, samples: &[Sample]) {
    let shared = Shared::of(samples);
    let moof_start = out.len();
    let mut data_offset_position = 0;
    write_box(out, b"moof", |out| {
        write_full_box(out, b"mfhd", 0, 0, |out| put_u32(out, sequence));
        write_box(out, b"traf", |out| {
            shared.write_tfhd(out);
            write_full_box(out, b"tfdt", 1, 0, |out| put_u64(out, decode_time));
            // Version 1: composition offsets are signed.
            write_full_box(out, b"trun", 1, shared.trun_flags(), |out| {
                put_u32(out, len_u32(samples.len()));
                data_offset_position = out.len();
                put_u32(out, 0);
                shared.write_samples(out, samples);
            });
        });
    });
    let moof_len = out.len() - moof_start;
    let payload: usize = samples.iter().map(|sample| sample.data.len()).sum();
    let header_len = write_mdat_header(out, payload);
    patch_u32(out, data_offset_position, len_u32(moof_len + header_len));
    samples.iter().for_each(|sample| out.extend_from_slice(&sample.data));
}

/// Appends the header of an `mdat`, with a 64-bit length where it is needed, and returns how long the header is.
fn write_mdat_header(out: &mut Vec<u8>, payload: usize) -> usize {
    if let Ok(size) = u32::try_from(payload + 8) {
        put_u32(out, size);
        out.extend_from_slice(b"mdat");
        8
    } else {
        put_u32(out, 1);
        out.extend_from_slice(b"mdat");
        put_u64(out, payload as u64 + 16);
        16
    }
}

/// What the samples of a fragment have in common, and is therefore written once in `tfhd`.
struct Shared {
    duration: Option<u32>,
    size: Option<u32>,
    flags: SampleFlags,
    composition_offsets: bool,
}

/// How the flags of a fragment's samples are written.
enum SampleFlags {
    /// All samples have these.
    All(u32),
    /// The first has the first, the rest the second: a GOP.
    FirstAndRest(u32, u32),
    /// Every sample has its own.
    Each,
}

impl Shared {
    fn of(samples: &[Sample]) -> Self {
        Self {
            duration: common(samples, |sample| sample.duration),
            size: common(samples, |sample| len_u32(sample.data.len())),
            flags: SampleFlags::of(samples),
            composition_offsets: samples.iter().any(|sample| sample.composition_offset != 0),
        }
    }

    fn write_tfhd(&self, out: &mut Vec<u8>) {
        let default_flags = match self.flags {
            SampleFlags::All(flags) | SampleFlags::FirstAndRest(_, flags) => Some(flags),
            SampleFlags::Each => None,
        };
        let fields = [(TFHD_DURATION, self.duration), (TFHD_SIZE, self.size), (TFHD_FLAGS, default_flags)];
        let present = fields.iter().filter(|(_, value)| value.is_some()).map(|(flag, _)| flag);
        let flags = present.fold(TFHD_BASE_IS_MOOF, |flags, flag| flags | flag);
        write_full_box(out, b"tfhd", 0, flags, |out| {
            put_u32(out, TRACK_ID);
            fields.iter().filter_map(|(_, value)| *value).for_each(|value| put_u32(out, value));
        });
    }

    fn trun_flags(&self) -> u32 {
        let mut flags = TRUN_DATA_OFFSET;
        if self.duration.is_none() {
            flags |= TRUN_DURATION;
        }
        if self.size.is_none() {
            flags |= TRUN_SIZE;
        }
        if self.composition_offsets {
            flags |= TRUN_COMPOSITION_OFFSET;
        }
        flags
            | match self.flags {
                SampleFlags::All(_) => 0,
                SampleFlags::FirstAndRest(..) => TRUN_FIRST_FLAGS,
                SampleFlags::Each => TRUN_FLAGS,
            }
    }

    /// Writes what follows the data offset in `trun`.
    fn write_samples(&self, out: &mut Vec<u8>, samples: &[Sample]) {
        if let SampleFlags::FirstAndRest(first, _) = self.flags {
            put_u32(out, first);
        }
        for sample in samples {
            if self.duration.is_none() {
                put_u32(out, sample.duration);
            }
            if self.size.is_none() {
                put_u32(out, len_u32(sample.data.len()));
            }
            if matches!(self.flags, SampleFlags::Each) {
                put_u32(out, flags_of(sample));
            }
            if self.composition_offsets {
                out.extend_from_slice(&sample.composition_offset.to_be_bytes());
            }
        }
    }
}

impl SampleFlags {
    fn of(samples: &[Sample]) -> Self {
        let Some((first, rest)) = samples.split_first() else {
            return Self::Each;
        };
        let first = flags_of(first);
        match (common(rest, flags_of), rest.is_empty()) {
            (Some(rest), _) if rest != first => Self::FirstAndRest(first, rest),
            (Some(_), _) | (None, true) => Self::All(first),
            (None, false) => Self::Each,
        }
    }
}

fn flags_of(sample: &Sample) -> u32 {
    if sample.sync { SAMPLE_DEPENDS_ON_NONE } else { SAMPLE_DEPENDS_ON_OTHERS | SAMPLE_IS_NON_SYNC }
}

/// The value that all samples have; `None` when two differ, or when there are no samples.
fn common(samples: &[Sample], value: impl Fn(&Sample) -> u32) -> Option<u32> {
    let (first, rest) = samples.split_first()?;
    let first_value = value(first);
    rest.iter().all(|sample| value(sample) == first_value).then_some(first_value)
}

/// A length for a 32-bit field. Samples come out of such fields, so none is longer.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
