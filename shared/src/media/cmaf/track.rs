//! What a `moov` says about its one track.

use bytes::Bytes;

use super::boxes::{RawBox, Reader, child, kind, optional_child};
use super::sample_entry::SampleEntry;
use super::{CmafError, FourCc};

/// What is known about a track beyond its codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackConfig {
    /// A video track.
    Video {
        /// Width of a coded picture in pixels, after cropping, before any pixel aspect ratio.
        width: u16,
        /// Height of a coded picture in pixels, after cropping.
        height: u16,
    },
    /// An audio track.
    Audio {
        /// Samples a second of one channel, in Hz.
        sample_rate: u32,
        /// Number of channels: 2 for stereo, 6 for 5.1.
        channels: u16,
    },
}

/// The one track of a fragmented MP4: what a player must know before the first segment.
///
/// Two chunks of a rendition belong together exactly when their [`init_segment`](Self::init_segment)s are the same
/// bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Ticks a second of every duration and time in this track; never 0.
    pub timescale: u32,
    /// The codec as RFC 6381 spells it, for `CODECS` of a playlist: `avc1.640028`, `mp4a.40.2`.
    pub codec: String,
    /// Picture size, or sampling rate and channels.
    pub config: TrackConfig,
    /// ISO 639-2 code as `mdhd` packs it: three letters of five bits.
    pub(super) language: u16,
    /// Width and height to show the picture at, 16.16 fixed point; zero for audio.
    pub(super) display_size: [u32; 2],
    /// The whole sample entry box, cleaned: only what a decoder needs.
    pub(super) sample_entry: Bytes,
    /// How the fragments of the file that was read refer to the track. What we write always says 1.
    pub(super) source: SourceTrack,
}

/// What is needed to read the fragments of the file a track came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceTrack {
    pub(super) id: u32,
    pub(super) defaults: SampleDefaults,
}

/// Values of samples that do not state their own: from `trex`, overridden by `tfhd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SampleDefaults {
    pub(super) duration: u32,
    pub(super) size: u32,
    pub(super) flags: u32,
}

const VIDEO: FourCc = kind(b"vide");
const AUDIO: FourCc = kind(b"soun");

impl Track {
    /// Reads the body of a `moov` box (what follows its header) of a fragmented MP4.
    ///
    /// # Errors
    ///
    /// When a box or a length is broken, when there is not exactly one track with one sample description, when there
    /// is no `mvex`/`trex` (the file is not fragmented), and when the codec is not one of H.264, HEVC, VP9, AV1, AAC,
    /// MP3, Opus and FLAC.
    pub fn parse(moov: &[u8]) -> Result<Self, CmafError> {
        let moov = RawBox { kind: kind(b"moov"), body: moov };
        let trak = child(&moov, b"trak")?;
        let mdia = child(&trak, b"mdia")?;
        let (timescale, language) = parse_mdhd(child(&mdia, b"mdhd")?)?;
        let handler = parse_hdlr(child(&mdia, b"hdlr")?)?;
        let (id, display_size) = parse_tkhd(child(&trak, b"tkhd")?)?;
        let stbl = child(&child(&mdia, b"minf")?, b"stbl")?;
        let description = only_sample_description(child(&stbl, b"stsd")?)?;
        let entry = match handler {
            VIDEO => SampleEntry::parse_video(description)?,
            AUDIO => SampleEntry::parse_audio(description, timescale)?,
            handler => return Err(CmafError::UnsupportedHandler { handler }),
        };
        let defaults = find_trex(&moov, id)?;
        Ok(Self {
            timescale,
            codec: entry.codec,
            config: entry.config,
            language,
            display_size: if handler == VIDEO { display_size } else { [0, 0] },
            sample_entry: entry.bytes,
            source: SourceTrack { id, defaults },
        })
    }
}

/// Media header (14496-12, 8.4.2): timescale and language.
fn parse_mdhd(mdhd: RawBox<'_>) -> Result<(u32, u16), CmafError> {
    let mut reader = Reader::new(mdhd.kind, mdhd.body);
    let (version, _) = reader.version_and_flags()?;
    // Creation and modification time, then duration after the timescale: 64 bits each in version 1.
    let time_len = if version == 1 { 8 } else { 4 };
    reader.skip(2 * time_len)?;
    let timescale = reader.u32()?;
    if timescale == 0 {
        return Err(CmafError::Invalid { kind: mdhd.kind, reason: "its timescale is zero" });
    }
    reader.skip(time_len)?;
    Ok((timescale, reader.u16()?))
}

/// Handler (14496-12, 8.4.3): what kind of track it is.
fn parse_hdlr(hdlr: RawBox<'_>) -> Result<FourCc, CmafError> {
    let mut reader = Reader::new(hdlr.kind, hdlr.body);
    reader.version_and_flags()?;
    reader.skip(4)?;
    reader.array().map(FourCc)
}

/// Track header (14496-12, 8.3.2): track id and the size to show the picture at.
fn parse_tkhd(tkhd: RawBox<'_>) -> Result<(u32, [u32; 2]), CmafError> {
    let mut reader = Reader::new(tkhd.kind, tkhd.body);
    let (version, _) = reader.version_and_flags()?;
    let time_len = if version == 1 { 8 } else { 4 };
    reader.skip(2 * time_len)?;
    let id = reader.u32()?;
    reader.skip(4 + time_len)?;
    // Reserved, layer, alternate group, volume, reserved, and the matrix: rotation is baked in.
    reader.skip(8 + 2 + 2 + 2 + 2 + 36)?;
    Ok((id, [reader.u32()?, reader.u32()?]))
}

/// Sample description (14496-12, 8.5.2). More than one would need more than one init segment.
fn only_sample_description(stsd: RawBox<'_>) -> Result<RawBox<'_>, CmafError> {
    let mut reader = Reader::new(stsd.kind, stsd.body);
    reader.version_and_flags()?;
    if reader.u32()? != 1 {
        return Err(CmafError::Invalid { kind: stsd.kind, reason: "it must hold one sample description" });
    }
    reader.next_box()?.ok_or(CmafError::Truncated { kind: stsd.kind })
}

/// Track extends (14496-12, 8.8.3): defaults for the samples of all fragments.
fn find_trex(moov: &RawBox<'_>, track_id: u32) -> Result<SampleDefaults, CmafError> {
    let missing = CmafError::Missing { kind: kind(b"trex") };
    let Some(mvex) = optional_child(moov, b"mvex")? else {
        return Err(missing);
    };
    let mut children = Reader::new(mvex.kind, mvex.body);
    while let Some(child) = children.next_box()? {
        if child.kind != kind(b"trex") {
            continue;
        }
        let mut reader = Reader::new(child.kind, child.body);
        reader.version_and_flags()?;
        if reader.u32()? != track_id {
            continue;
        }
        // The index of the sample description: there is only one.
        reader.skip(4)?;
        let (duration, size, flags) = (reader.u32()?, reader.u32()?, reader.u32()?);
        return Ok(SampleDefaults { duration, size, flags });
    }
    Err(missing)
}
