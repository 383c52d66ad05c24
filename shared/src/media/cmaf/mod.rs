//! Fragmented MP4 in, CMAF out.
//!
//! FFmpeg writes one fragmented MP4 per rendition into a growing file. The [`Demuxer`] takes those bytes apart
//! while FFmpeg still runs; [`Track::init_segment`] and [`media_segment`] write what is published. Nothing FFmpeg
//! wrote around the samples survives: no edit list, no tags, no times. The caller computes `tfdt` from frame
//! indices, so that chunks encoded on different machines join without a gap.
//!
//! Everything here is bytes in, bytes out. Input is hostile: every length is checked against what is there and
//! against a limit before memory is set aside for it.
//!
//! Box layouts are those of ISO/IEC 14496-12 (2020), the constraints of a segment those of ISO/IEC 23000-19 (CMAF).
#![forbid(unsafe_code)]

mod av1_sequence;
mod boxes;
mod codecs;
mod decoder_config;
mod demuxer;
mod error;
mod flags;
mod fragment;
mod init;
mod mux;
mod sample_entry;
mod segment;
mod track;
mod vp9_level;

pub use boxes::FourCc;
pub use decoder_config::{AacConfig, DecoderConfig, NalConfig};
pub use demuxer::{Demuxer, Event};
pub use error::CmafError;
pub use init::{delay_of, muxed_init};
pub use mux::{Place, cut_off, place, read};
pub use segment::media_segment;
pub use track::{Track, TrackConfig};

use bytes::Bytes;

/// One coded picture, or one audio frame, in decode order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// How long the sample lasts, in ticks of the track's timescale.
    pub duration: u32,
    /// Presentation time minus decode time, in ticks; negative where the picture is shown before its turn to be
    /// decoded (`trun` version 1).
    pub composition_offset: i32,
    /// Decoding can begin at this sample. True of every audio frame.
    pub sync: bool,
    /// The coded bytes. Shares its memory with the other samples of the fragment it was read from.
    pub data: Bytes,
}

/// What one `moof` and its `mdat` hold, as FFmpeg wrote it: a closed GOP of video, a run of frames of audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Decode time of the first sample by the file's `tfdt`, in ticks. To be checked against the frame index, not to
    /// be trusted in its place.
    pub base_decode_time: u64,
    /// The samples in decode order; never empty when it comes from a [`Demuxer`].
    pub samples: Vec<Sample>,
}

impl Fragment {
    /// The sum of the samples' durations, in ticks.
    pub fn duration(&self) -> u64 {
        duration(&self.samples)
    }
}

/// A media segment as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSegment {
    /// The segment.
    pub bytes: Bytes,
    /// One for each GOP that begins with a sample at which decoding can begin, in order.
    pub keyframes: Vec<Keyframe>,
}

/// The bytes of a segment that show the first picture of a GOP and nothing more: its `moof`, the header of its `mdat`, and the
/// first sample. What a playlist of I-frames names (RFC 8216, 4.3.3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyframe {
    /// Bytes of the segment before it.
    pub offset: u32,
    /// Its length.
    pub bytes: u32,
    /// How long the GOP lasts, so the time to the next one, in ticks of the track's timescale.
    pub ticks: u64,
}

/// The sum of the samples' durations, in ticks. Cannot overflow: that would take 2^32 samples of the longest kind.
fn duration(samples: &[Sample]) -> u64 {
    samples.iter().map(|sample| u64::from(sample.duration)).sum()
}

#[cfg(test)]
pub(super) mod tests;
