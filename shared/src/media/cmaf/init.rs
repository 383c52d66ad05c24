//! The init segment, which CMAF calls the header (ISO/IEC 23000-19, 7.3.1).

use bytes::Bytes;

use super::boxes::{
    RawBox, Reader, child, kind, optional_child, put_u16, put_u32, write_box, write_full_box,
};
use super::{CmafError, Track, TrackConfig};

/// The one track has this id, in the init segment and in every media segment.
pub(super) const TRACK_ID: u32 = 1;

/// `iso6` brings `default-base-is-moof` and composition offsets below zero; `cmfc` and `cmf2` are CMAF's structural
/// brands, the second for tracks without an edit list whose fragments state all their defaults; `mp41` is where the
/// sample entries of MPEG-4 codecs come from.
const BRANDS: &[u8] = b"iso6cmfccmf2mp41";
/// The same with an edit list, which `cmf2` forbids.
const BRANDS_WITH_EDIT: &[u8] = b"iso6cmfcmp41";

/// CMAF allows one track, so what has several is plain ISO.
const BRANDS_OF_SEVERAL: &[u8] = b"iso6mp41";

/// No rotation and no scaling (14496-12, 6.2.2): fixed point 16.16, the last column 2.30.
const UNITY_MATRIX: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];

impl Track {
    /// Writes the init segment: `ftyp` and a `moov` without samples, times or durations.
    ///
    /// The same track gives the same bytes, and two encodes with the same settings give the same track, so that one
    /// init segment serves all chunks of a rendition.
    pub fn init_segment(&self) -> Bytes {
        self.init_segment_delayed(0)
    }

    /// The same for samples whose composition offsets are all at least zero and that are presented `delay` ticks after
    /// they are decoded: an edit list (14496-12, 8.6.6) takes the delay away again, so that presentation starts at zero.
    ///
    /// Offsets below zero would do without an edit, but FFmpeg and what is built on it then show the picture late by the
    /// reordering delay while the sound is on time.
    pub fn init_segment_delayed(&self, delay: u32) -> Bytes {
        write_init(if delay == 0 { BRANDS } else { BRANDS_WITH_EDIT }, &[(self, delay)])
    }

    fn write_trak(&self, out: &mut Vec<u8>, id: u32, delay: u32) {
        write_box(out, b"trak", |out| {
            self.write_tkhd(out, id);
            if delay > 0 {
                write_box(out, b"edts", |out| write_elst(out, delay));
            }
            write_box(out, b"mdia", |out| self.write_mdia(out));
        });
    }

    /// Track header (14496-12, 8.3.2): enabled, and part of the presentation.
    fn write_tkhd(&self, out: &mut Vec<u8>, id: u32) {
        const ENABLED_AND_IN_MOVIE: u32 = 3;
        let volume = match self.config {
            TrackConfig::Video { .. } => 0,
            TrackConfig::Audio { .. } => 0x0100,
        };
        write_full_box(out, b"tkhd", 0, ENABLED_AND_IN_MOVIE, |out| {
            put_u32(out, 0);
            put_u32(out, 0);
            put_u32(out, id);
            put_u32(out, 0);
            // Duration, reserved, layer and alternate group.
            put_u32(out, 0);
            out.extend_from_slice(&[0; 8]);
            put_u32(out, 0);
            put_u16(out, volume);
            put_u16(out, 0);
            put_matrix(out);
            self.display_size.iter().for_each(|side| put_u32(out, *side));
        });
    }

    fn write_mdia(&self, out: &mut Vec<u8>) {
        let (handler, name) = match self.config {
            TrackConfig::Video { .. } => (b"vide", b"Video\0"),
            TrackConfig::Audio { .. } => (b"soun", b"Audio\0"),
        };
        write_full_box(out, b"mdhd", 0, 0, |out| {
            put_u32(out, 0);
            put_u32(out, 0);
            put_u32(out, self.timescale);
            put_u32(out, 0);
            put_u16(out, self.language);
            put_u16(out, 0);
        });
        write_full_box(out, b"hdlr", 0, 0, |out| {
            put_u32(out, 0);
            out.extend_from_slice(handler);
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(name);
        });
        write_box(out, b"minf", |out| {
            match self.config {
                // The flag is required (14496-12, 12.1.2); mode and colour are "copy".
                TrackConfig::Video { .. } => {
                    write_full_box(out, b"vmhd", 0, 1, |out| out.extend_from_slice(&[0; 8]));
                }
                TrackConfig::Audio { .. } => {
                    write_full_box(out, b"smhd", 0, 0, |out| out.extend_from_slice(&[0; 4]));
                }
            }
            write_box(out, b"dinf", |out| {
                write_full_box(out, b"dref", 0, 0, |out| {
                    put_u32(out, 1);
                    // Flag 1: the media is in the same file.
                    write_full_box(out, b"url ", 0, 1, |_| {});
                });
            });
            write_box(out, b"stbl", |out| self.write_stbl(out));
        });
    }

    /// Sample table (14496-12, 8.5): the sample entry, and the four tables that must be there, empty.
    fn write_stbl(&self, out: &mut Vec<u8>) {
        write_full_box(out, b"stsd", 0, 0, |out| {
            put_u32(out, 1);
            out.extend_from_slice(&self.sample_entry);
        });
        write_full_box(out, b"stts", 0, 0, |out| put_u32(out, 0));
        write_full_box(out, b"stsc", 0, 0, |out| put_u32(out, 0));
        write_full_box(out, b"stsz", 0, 0, |out| out.extend_from_slice(&[0; 8]));
        write_full_box(out, b"stco", 0, 0, |out| put_u32(out, 0));
    }
}

/// Writes one init segment for several tracks, each with its delay ([`Track::init_segment_delayed`]); their ids count from 1. For fragments that
/// [`place`](super::place) gave those ids.
pub fn muxed_init(tracks: &[(&Track, u32)]) -> Bytes {
    write_init(BRANDS_OF_SEVERAL, tracks)
}

fn write_init(brands: &[u8], tracks: &[(&Track, u32)]) -> Bytes {
    let entries: usize = tracks.iter().map(|(track, _)| 600 + track.sample_entry.len()).sum();
    let mut out = Vec::with_capacity(160 + entries);
    write_box(&mut out, b"ftyp", |out| {
        out.extend_from_slice(b"iso6");
        put_u32(out, 0);
        out.extend_from_slice(brands);
    });
    let ids = || (TRACK_ID..).zip(tracks);
    write_box(&mut out, b"moov", |out| {
        let timescale = tracks.first().map_or(1, |(track, _)| track.timescale);
        write_mvhd(out, timescale, ids().count() as u32 + TRACK_ID);
        ids().for_each(|(id, (track, delay))| track.write_trak(out, id, *delay));
        write_box(out, b"mvex", |out| ids().for_each(|(id, _)| write_trex(out, id)));
    });
    out.into()
}

/// Movie header (14496-12, 8.2.2). Created at no time, of no length.
fn write_mvhd(out: &mut Vec<u8>, timescale: u32, next_track: u32) {
    write_full_box(out, b"mvhd", 0, 0, |out| {
        put_u32(out, 0);
        put_u32(out, 0);
        put_u32(out, timescale);
        put_u32(out, 0);
        // Rate 1.0 and volume 1.0.
        put_u32(out, 0x0001_0000);
        put_u16(out, 0x0100);
        out.extend_from_slice(&[0; 10]);
        put_matrix(out);
        out.extend_from_slice(&[0; 24]);
        put_u32(out, next_track);
    });
}

/// The delay an init segment of ours was written with ([`Track::init_segment_delayed`]), in ticks of its track.
///
/// # Errors
///
/// When a box is broken, or there is no `moov` with a `trak`.
pub fn delay_of(init: &[u8]) -> Result<u32, CmafError> {
    let file = RawBox { kind: kind(b"file"), body: init };
    let trak = child(&child(&file, b"moov")?, b"trak")?;
    let Some(edts) = optional_child(&trak, b"edts")? else { return Ok(0) };
    let elst = child(&edts, b"elst")?;
    let mut reader = Reader::new(elst.kind, elst.body);
    let (version, _) = reader.version_and_flags()?;
    if (version, reader.u32()?) != (0, 1) {
        return Err(CmafError::Invalid {
            kind: elst.kind,
            reason: "it must hold one edit with times of 32 bits",
        });
    }
    reader.skip(4)?;
    reader.u32()
}

/// Track extends (14496-12, 8.8.3). The defaults are zero: our fragments state their own, as `cmf2` asks.
fn write_trex(out: &mut Vec<u8>, id: u32) {
    write_full_box(out, b"trex", 0, 0, |out| {
        put_u32(out, id);
        put_u32(out, 1);
        out.extend_from_slice(&[0; 12]);
    });
}

/// One edit: from `delay` on, for as long as the fragments go on (duration zero), at normal speed.
fn write_elst(out: &mut Vec<u8>, delay: u32) {
    write_full_box(out, b"elst", 0, 0, |out| {
        put_u32(out, 1);
        put_u32(out, 0);
        put_u32(out, delay);
        put_u16(out, 1);
        put_u16(out, 0);
    });
}

fn put_matrix(out: &mut Vec<u8>) {
    UNITY_MATRIX.iter().for_each(|value| put_u32(out, *value));
}
