//! Taking a growing fragmented MP4 apart, box by box.

use bytes::{Bytes, BytesMut};

use super::boxes::{BoxHeader, kind};
use super::fragment::FragmentHeader;
use super::track::SourceTrack;
use super::{CmafError, Fragment, Sample, Track};

/// What a [`Demuxer`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The description of the track. Comes once, before any fragment.
    Track(Track),
    /// The next fragment, whole.
    Fragment(Fragment),
}

/// Reads a fragmented MP4 with one track while it is being written.
///
/// [`push`](Self::push) bytes as they come and call [`next`](Self::next) until it gives `None`; how the bytes are cut
/// into pieces makes no difference. Boxes it has no use for are dropped as they go by and may have any length. Memory
/// stays near the length of one `moof` and `mdat`, which the limit bounds.
///
/// After an error it stays failed: `next` repeats the error and pushed bytes are dropped.
#[derive(Debug)]
pub struct Demuxer {
    max_box_bytes: u64,
    buffer: BytesMut,
    /// Where the first byte of `buffer` lies in the stream.
    position: u64,
    /// How much of a box without interest is still to go by.
    skip: Skip,
    track: Option<SourceTrack>,
    /// A fragment whose `mdat` has not come yet.
    pending: Option<FragmentHeader>,
    failed: Option<CmafError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skip {
    Bytes(u64),
    /// A box of length 0 goes on to the end of the file.
    ToEnd,
}

impl Demuxer {
    /// A demuxer at the start of a file. `max_box_bytes` is the longest `moov`, `moof` or `mdat` it accepts, header
    /// included.
    pub fn new(max_box_bytes: usize) -> Self {
        Self {
            max_box_bytes: max_box_bytes as u64,
            buffer: BytesMut::new(),
            position: 0,
            skip: Skip::Bytes(0),
            track: None,
            pending: None,
            failed: None,
        }
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Takes the next bytes of the file without a copy, where nobody else has them and all before them was used.
    pub fn push_whole(&mut self, bytes: Bytes) {
        if self.failed.is_none() && self.buffer.is_empty() {
            self.buffer = BytesMut::from(bytes);
        } else {
            self.push(&bytes);
        }
    }

    /// The next thing found in the bytes pushed so far; `None` when more of them are needed.
    ///
    /// # Errors
    ///
    /// When the bytes are not a fragmented MP4 with one track, or when a box is longer than the limit.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end at the first None")]
    pub fn next(&mut self) -> Result<Option<Event>, CmafError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| {
            self.buffer = BytesMut::new();
            self.pending = None;
            self.failed = Some(error.clone());
        })
    }

    /// The first sample of a fragment whose `mdat` has begun, where its own bytes are here already: a keyframe can be had without
    /// the rest of its GOP.
    ///
    /// # Errors
    ///
    /// When the fragment says that the sample lies before its media data.
    pub fn first_sample(&self) -> Result<Option<Sample>, CmafError> {
        self.pending.as_ref().map_or(Ok(None), |fragment| fragment.first_sample(&self.buffer, self.position))
    }

    /// Says whether the file may end here. To be called after the last [`next`](Self::next).
    ///
    /// # Errors
    ///
    /// The error it failed with; [`CmafError::Missing`] when there was no `moov`; [`CmafError::Unfinished`] when the
    /// bytes end within a box, or after a `moof` without its `mdat`.
    pub fn finish(&self) -> Result<(), CmafError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if !self.buffer.is_empty() || self.pending.is_some() || matches!(self.skip, Skip::Bytes(1..)) {
            return Err(CmafError::Unfinished);
        }
        if self.track.is_none() {
            return Err(CmafError::Missing { kind: kind(b"moov") });
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Event>, CmafError> {
        loop {
            self.skip_bytes();
            let Some(header) = BoxHeader::parse(&self.buffer)? else {
                return Ok(None);
            };
            let out_of_place = CmafError::OutOfPlace { kind: header.kind };
            match (&header.kind.0, self.track) {
                (b"moov", None) => {
                    let Some((_, body)) = self.take_body(header, header.body_len)? else {
                        return Ok(None);
                    };
                    let track = Track::parse(&body)?;
                    self.track = Some(track.source);
                    return Ok(Some(Event::Track(track)));
                }
                (b"moov", Some(_)) => return Err(CmafError::Repeated { kind: header.kind }),
                (b"moof", Some(track)) if self.pending.is_none() => {
                    let moof_start = self.position;
                    let Some((_, body)) = self.take_body(header, header.body_len)? else {
                        return Ok(None);
                    };
                    let fragment = FragmentHeader::parse(&body, moof_start, track)?;
                    self.pending = (!fragment.is_empty()).then_some(fragment);
                }
                (b"mdat", Some(_)) => {
                    let Some(fragment) = &self.pending else {
                        return Err(out_of_place);
                    };
                    let data_len = header.body_len.or_else(|| {
                        // It goes on to the end of the file: the samples' own end is all there is to wait for.
                        let data_start = self.position + header.header_len as u64;
                        Some(fragment.data_end().saturating_sub(data_start))
                    });
                    let Some((start, data)) = self.take_body(header, data_len)? else {
                        return Ok(None);
                    };
                    if let Some(fragment) = self.pending.take() {
                        return fragment.into_fragment(&data, start).map(Event::Fragment).map(Some);
                    }
                }
                (b"moof" | b"mdat", _) => return Err(out_of_place),
                // A header (ftyp, styp), an index (sidx, mfra), a message (prft, emsg), padding, or unknown.
                _ => {
                    self.drop_front(header.header_len);
                    self.skip = header.body_len.map_or(Skip::ToEnd, Skip::Bytes);
                }
            }
        }
    }

    /// Takes the first `len` bytes of a box's body off the front of the buffer, with their position in the stream;
    /// `None` when they are not all there yet. That is the whole body, but for a box that goes on to the end.
    fn take_body(&mut self, header: BoxHeader, len: Option<u64>) -> Result<Option<(u64, Bytes)>, CmafError> {
        let Some(len) = len else {
            return Err(CmafError::Invalid { kind: header.kind, reason: "it states no length" });
        };
        let size = len.saturating_add(header.header_len as u64);
        if size > self.max_box_bytes {
            return Err(CmafError::BoxTooLarge { kind: header.kind, size, limit: self.max_box_bytes });
        }
        // It fits into a usize: the limit came from one.
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if self.buffer.len() < size {
            return Ok(None);
        }
        self.drop_front(header.header_len);
        let start = self.position;
        let body = self.buffer.split_to(size - header.header_len).freeze();
        self.position = start.saturating_add(len);
        if header.body_len.is_none() {
            self.skip = Skip::ToEnd;
        }
        Ok(Some((start, body)))
    }

    /// Drops what is there of the box that is being skipped.
    fn skip_bytes(&mut self) {
        let available = self.buffer.len();
        match &mut self.skip {
            Skip::ToEnd => self.drop_front(available),
            Skip::Bytes(left) => {
                let count = usize::try_from(*left).map_or(available, |left| left.min(available));
                *left -= count as u64;
                self.drop_front(count);
            }
        }
    }

    /// Drops bytes that are known to be in the buffer.
    fn drop_front(&mut self, count: usize) {
        bytes::Buf::advance(&mut self.buffer, count);
        self.position = self.position.saturating_add(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_does_not_grow_with_what_goes_by() {
        let mut demuxer = Demuxer::new(1 << 16);
        demuxer.push(&[&(1_u32 << 26).to_be_bytes()[..], b"free"].concat());
        let piece = [0; 1 << 12];
        for _ in 0..1 << 13 {
            demuxer.push(&piece);
            assert_eq!(demuxer.next(), Ok(None));
            assert!(demuxer.buffer.capacity() <= 1 << 13);
        }
    }
}
