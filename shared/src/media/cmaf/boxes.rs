//! Reading and writing boxes (ISO/IEC 14496-12, 4.2), one field after another.

use std::fmt::{self, Write as _};

use super::CmafError;

/// A four-character code: the type of a box, a handler, a sample entry or a brand.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Display for FourCc {
    /// Writes the code with anything but printable ASCII escaped: it comes from hostile input and goes to logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().try_for_each(|byte| f.write_char(char::from(byte)))
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FourCc({self})")
    }
}

/// Shorthand for a code written in the source: `kind(b"moov")`.
pub(super) const fn kind(code: &[u8; 4]) -> FourCc {
    FourCc(*code)
}

/// The first bytes of a box: what it is and how far it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxHeader {
    pub(super) kind: FourCc,
    /// Length of the header itself: 8 bytes, or 16 with a 64-bit length.
    pub(super) header_len: usize,
    /// Length of what follows the header; `None` for a box that goes on to the end of the file (length 0).
    pub(super) body_len: Option<u64>,
}

impl BoxHeader {
    /// Reads a header from the start of `bytes`; `None` when more bytes are needed to tell.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, CmafError> {
        let Some((short, rest)) = bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let Some((code, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let kind = FourCc(*code);
        let (size, header_len) = match u32::from_be_bytes(*short) {
            0 => {
                return Ok(Some(Self { kind, header_len: 8, body_len: None }));
            }
            1 => match rest.first_chunk::<8>() {
                Some(long) => (u64::from_be_bytes(*long), 16),
                None => return Ok(None),
            },
            size => (u64::from(size), 8),
        };
        match size.checked_sub(header_len as u64) {
            Some(body_len) => Ok(Some(Self { kind, header_len, body_len: Some(body_len) })),
            None => Err(CmafError::BoxLength { kind, size }),
        }
    }
}

/// A box inside another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawBox<'a> {
    pub(super) kind: FourCc,
    pub(super) body: &'a [u8],
}

/// Takes the fields of one box from front to back. Every read is checked; running out is
/// [`CmafError::Truncated`] and names the box.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    kind: FourCc,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of the body of a box of this kind.
    pub(super) fn new(kind: FourCc, body: &'a [u8]) -> Self {
        Self { kind, rest: body }
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], CmafError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(CmafError::Truncated { kind: self.kind })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CmafError> {
        let (taken, rest) =
            self.rest.split_first_chunk::<N>().ok_or(CmafError::Truncated { kind: self.kind })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), CmafError> {
        self.bytes(count).map(drop)
    }

    pub(super) fn u8(&mut self) -> Result<u8, CmafError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CmafError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CmafError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CmafError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads the version and the flags that a `FullBox` begins with.
    pub(super) fn version_and_flags(&mut self) -> Result<(u8, u32), CmafError> {
        let [version, high, middle, low] = self.array()?;
        Ok((version, u32::from_be_bytes([0, high, middle, low])))
    }

    /// Reads the next box inside this one; `None` at the end.
    pub(super) fn next_box(&mut self) -> Result<Option<RawBox<'a>>, CmafError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let truncated = CmafError::Truncated { kind: self.kind };
        let header = BoxHeader::parse(self.rest)?.ok_or(truncated)?;
        self.skip(header.header_len)?;
        let body = match header.body_len {
            None => std::mem::take(&mut self.rest),
            Some(len) => {
                let too_long = CmafError::BoxLength {
                    kind: header.kind,
                    size: len.saturating_add(header.header_len as u64),
                };
                usize::try_from(len).ok().and_then(|len| self.bytes(len).ok()).ok_or(too_long)?
            }
        };
        Ok(Some(RawBox { kind: header.kind, body }))
    }
}

/// The body of the only box of kind `wanted` among the children of `parent`; `None` when there is none.
pub(super) fn optional_child<'a>(
    parent: &RawBox<'a>,
    wanted: &[u8; 4],
) -> Result<Option<RawBox<'a>>, CmafError> {
    let mut reader = Reader::new(parent.kind, parent.body);
    let mut found = None;
    while let Some(child) = reader.next_box()? {
        if child.kind == kind(wanted) && found.replace(child).is_some() {
            return Err(CmafError::Repeated { kind: child.kind });
        }
    }
    Ok(found)
}

/// Like [`optional_child`], and having none is an error.
pub(super) fn child<'a>(parent: &RawBox<'a>, wanted: &[u8; 4]) -> Result<RawBox<'a>, CmafError> {
    optional_child(parent, wanted)?.ok_or(CmafError::Missing { kind: kind(wanted) })
}

/// Appends a box to `out`; `body` appends what is inside.
pub(super) fn write_box(out: &mut Vec<u8>, kind: &[u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(kind);
    body(out);
    // Boxes written through here are headers: 2^32 bytes of them would take hundreds of millions of samples.
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    patch_u32(out, start, size);
}

/// Appends a `FullBox`: a box that begins with a version and 24 bits of flags.
pub(super) fn write_full_box(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    write_box(out, kind, |out| {
        put_u32(out, u32::from(version) << 24 | flags & 0x00ff_ffff);
        body(out);
    });
}

pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Overwrites four bytes that were written as a placeholder at `position`.
pub(super) fn patch_u32(out: &mut [u8], position: usize, value: u32) {
    if let Some(slot) = out.get_mut(position..).and_then(|tail| tail.first_chunk_mut()) {
        *slot = value.to_be_bytes();
    }
}
