//! Segments that were stored a track apart, put beside each other and elsewhere in time. No coded byte is touched.

use super::boxes::{BoxHeader, kind};
use super::{CmafError, Demuxer, Event, FourCc, Fragment, Track, delay_of, media_segment};

/// Where a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The id of its track in [`muxed_init`](super::muxed_init).
    pub track: u32,
    /// Ticks of the track that it moves: later, or earlier where negative. Never before zero.
    pub shift: i64,
}

/// Appends the fragments of a segment of ours to `out`, at another place. `sequence` is the `mfhd` number of the first, and counts on. What is not
/// a fragment (`styp`) is left out.
///
/// # Errors
///
/// When a box is broken, or a fragment has no `mfhd`, `tfhd` or `tfdt` of 64 bits.
pub fn place(out: &mut Vec<u8>, segment: &[u8], place: Place, sequence: &mut u32) -> Result<(), CmafError> {
    let mut rest = segment;
    while !rest.is_empty() {
        let (header, whole) = next(rest)?;
        let (taken, behind) = rest.split_at(whole);
        rest = behind;
        if header.kind == MOOF {
            let start = out.len();
            out.extend_from_slice(taken);
            // Just appended, so it is there.
            if let Some(moof) = out.get_mut(start..) {
                move_fragment(moof, place, *sequence)?;
            }
            *sequence = sequence.wrapping_add(1);
        } else if header.kind == MDAT {
            out.extend_from_slice(taken);
        }
    }
    Ok(())
}

const MOOF: FourCc = kind(b"moof");
const MDAT: FourCc = kind(b"mdat");

/// The header of the box that `bytes` begin with, and how long the box is in all.
fn next(bytes: &[u8]) -> Result<(BoxHeader, usize), CmafError> {
    let header = BoxHeader::parse(bytes)?.ok_or(CmafError::Unfinished)?;
    let body = match header.body_len {
        Some(len) => usize::try_from(len).unwrap_or(usize::MAX),
        None => bytes.len() - header.header_len,
    };
    let whole = header.header_len.saturating_add(body);
    if whole > bytes.len() {
        return Err(CmafError::Truncated { kind: header.kind });
    }
    Ok((header, whole))
}

fn move_fragment(moof: &mut [u8], place: Place, sequence: u32) -> Result<(), CmafError> {
    // Behind the four bytes of version and flags that each of them begins with.
    field(inside(moof, &[b"moof", b"mfhd"])?, b"mfhd")
        .map(|to: &mut [u8; 4]| *to = sequence.to_be_bytes())?;
    field(inside(moof, &[b"moof", b"traf", b"tfhd"])?, b"tfhd")
        .map(|to: &mut [u8; 4]| *to = place.track.to_be_bytes())?;
    let tfdt = inside(moof, &[b"moof", b"traf", b"tfdt"])?;
    if tfdt.first() != Some(&1) {
        return Err(CmafError::Invalid { kind: kind(b"tfdt"), reason: "its time must have 64 bits" });
    }
    field(tfdt, b"tfdt").map(|to: &mut [u8; 8]| {
        *to = u64::from_be_bytes(*to).saturating_add_signed(place.shift).to_be_bytes();
    })
}

fn field<'a, const N: usize>(body: &'a mut [u8], name: &[u8; 4]) -> Result<&'a mut [u8; N], CmafError> {
    let truncated = CmafError::Truncated { kind: kind(name) };
    body.get_mut(4..).and_then(|rest| rest.first_chunk_mut()).ok_or(truncated)
}

/// The body of the first box of each name within the one before.
fn inside<'a>(mut bytes: &'a mut [u8], path: &[&[u8; 4]]) -> Result<&'a mut [u8], CmafError> {
    for name in path {
        let mut at = 0;
        let body = loop {
            let missing = CmafError::Missing { kind: kind(name) };
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty()).ok_or(missing)?;
            let (header, whole) = next(rest)?;
            if header.kind == kind(name) {
                break at + header.header_len..at + whole;
            }
            at += whole;
        };
        // Within the length, as `next` has checked.
        bytes = bytes.get_mut(body).unwrap_or_default();
    }
    Ok(bytes)
}

/// Reads a segment of ours with its init segment.
///
/// # Errors
///
/// When they do not read, or end too early.
pub fn read(init: &[u8], segment: &[u8]) -> Result<(Track, Vec<Fragment>), CmafError> {
    let mut demuxer = Demuxer::new(init.len() + segment.len());
    demuxer.push(init);
    demuxer.push(segment);
    let (mut track, mut fragments) = (None, vec![]);
    while let Some(event) = demuxer.next()? {
        match event {
            Event::Track(found) => track = Some(found),
            Event::Fragment(fragment) => fragments.push(fragment),
        }
    }
    demuxer.finish()?;
    Ok((track.ok_or(CmafError::Missing { kind: kind(b"moov") })?, fragments))
}

/// The same segment without what is presented from `end` on, in ticks of its track. What comes before the last picture that is kept in decode
/// order stays: others may need it.
///
/// # Errors
///
/// As for [`read`].
pub fn cut_off(init: &[u8], segment: &[u8], end: i64) -> Result<Vec<u8>, CmafError> {
    let delay = i64::from(delay_of(init)?);
    let (_, mut fragments) = read(init, segment)?;
    for fragment in &mut fragments {
        let mut decoded = fragment.base_decode_time as i64;
        let mut kept = 0;
        for (sample, count) in fragment.samples.iter().zip(1..) {
            if decoded + i64::from(sample.composition_offset) - delay < end {
                kept = count;
            }
            decoded += i64::from(sample.duration);
        }
        fragment.samples.truncate(kept);
    }
    let mut out = vec![];
    for (fragment, sequence) in fragments.iter().filter(|fragment| !fragment.samples.is_empty()).zip(1..) {
        let written = media_segment(sequence, fragment.base_decode_time, &[&fragment.samples]);
        out.extend_from_slice(&written.bytes);
    }
    Ok(out)
}
