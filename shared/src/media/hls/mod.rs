//! HLS playlists over CMAF segments, as text (RFC 8216, and its revision draft-pantos-hls-rfc8216bis where noted).
//!
//! Both kinds of playlist are rendered from plain data with `render`; nothing here reads a clock or a file.
//! All arithmetic is in whole numbers: the same input gives the same bytes on every host.
#![forbid(unsafe_code)]

mod bandwidth;
mod master;
mod media;
mod text;

pub(super) use text::{date_time, decimal};

pub use bandwidth::{Bandwidth, MeasuredSegment, measure_bandwidth};
pub use master::{AudioRendition, IframeVariant, MasterPlaylist, SubtitleRendition, Variant};
pub use media::{ByteRange, MediaPlaylist, PlaylistKind, Segment, Ticks, target_duration};

/// `EXT-X-MAP` in a playlist that is not made of I-frames alone needs 6; 7 is what Apple's tools write for fMP4
/// (RFC 8216, section 7).
const VERSION: u32 = 7;
/// Segments that need no map need only the fractions of `EXTINF`.
const VERSION_WITHOUT_MAP: u32 = 3;

#[cfg(test)]
mod tests;
