//! The beginning of a long source that lies in a remote store, without the rest: a file with a hole in it. Enough to tell what it is and
//! to encode its first seconds, and there long before all of it would be.

use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path;

use futures::StreamExt;
use reelmill_shared::db::sources::Source;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::Extent;
use reelmill_shared::storage::Storage;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// Bytes that hold the first seconds of anything ordinary.
pub const BEGINNING: u64 = 8 << 20;
/// The index of twelve hours of video and sound is about half of this.
const MAX_INDEX: u64 = 64 << 20;
/// Boxes that are walked over in search of the index.
const MAX_BOXES: usize = 64;
const MATROSKA: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

/// The first `bytes` bytes of a source and, where its index lies elsewhere, the index; `None` where that is not known to be enough, or is no
/// less than all of it.
pub async fn beginning(storage: &Storage, source: &Source, bytes: u64) -> Result<Option<Extent>, TaskError> {
    let size = source.bytes.unwrap_or(0);
    if size <= bytes {
        return Ok(None);
    }
    let head = read(storage, source, 0..16).await?;
    if head.starts_with(&MATROSKA) {
        return Ok(Some(Extent(vec![(0, bytes)])));
    }
    let Some(index) = find_index(storage, source, size).await? else { return Ok(None) };
    if index.end <= bytes {
        return Ok(Some(Extent(vec![(0, bytes)])));
    }
    let fits = index.start >= bytes && index.end - index.start <= MAX_INDEX;
    Ok(fits.then(|| Extent(vec![(0, bytes), (index.start, index.end)])))
}

/// Walks over the boxes of an MP4 (ISO/IEC 14496-12, 4.2) to its `moov`.
async fn find_index(storage: &Storage, source: &Source, size: u64) -> Result<Option<Range<u64>>, TaskError> {
    let mut at = 0;
    for _ in 0..MAX_BOXES {
        if at + 16 > size {
            return Ok(None);
        }
        let header = read(storage, source, at..at + 16).await?;
        let Some((kind, length)) = box_header(&header) else { return Ok(None) };
        let Some(end) = at.checked_add(length).filter(|end| *end <= size) else { return Ok(None) };
        match &kind {
            b"moov" => return Ok(Some(at..end)),
            // Fragments have no index of the whole.
            b"moof" => return Ok(None),
            _ => at = end,
        }
    }
    Ok(None)
}

/// Kind and length of a box; `None` for what is none, or goes on to the end of the file.
fn box_header(bytes: &[u8]) -> Option<([u8; 4], u64)> {
    let (length, kind) = (bytes.first_chunk::<4>()?, bytes.get(4..8)?.first_chunk::<4>()?);
    let length = match u32::from_be_bytes(*length) {
        1 => u64::from_be_bytes(*bytes.get(8..16)?.first_chunk::<8>()?),
        length => length.into(),
    };
    let plain = kind.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    (plain && length >= 8).then_some((*kind, length))
}

/// Whether `extent` holds all of these bytes.
pub fn holds(extent: &Extent, bytes: &Range<u64>) -> bool {
    extent.0.iter().any(|(from, to)| *from <= bytes.start && bytes.end <= *to)
}

/// Writes what `extent` names of a source to `path`, each byte at its place.
pub async fn fetch(
    storage: &Storage,
    source: &Source,
    extent: &Extent,
    path: &Path,
) -> Result<(), TaskError> {
    let disk = |error: std::io::Error| {
        TaskError::retryable(Reason::Storage, format!("could not keep the source's beginning: {error}"))
    };
    let mut file = File::create(path).await.map_err(disk)?;
    file.set_len(source.bytes.unwrap_or(0)).await.map_err(disk)?;
    for (from, to) in &extent.0 {
        file.seek(SeekFrom::Start(*from)).await.map_err(disk)?;
        for (key, range) in pieces(source, *from..*to) {
            let mut object = storage.get(&key, Some(range)).await.map_err(|error| unread(&error))?;
            while let Some(chunk) = object.body.next().await {
                file.write_all(&chunk.map_err(|error| unread(&error))?).await.map_err(disk)?;
            }
        }
    }
    file.flush().await.map_err(disk)
}

async fn read(storage: &Storage, source: &Source, range: Range<u64>) -> Result<Vec<u8>, TaskError> {
    let mut bytes = vec![];
    for (key, range) in pieces(source, range) {
        let mut object = storage.get(&key, Some(range)).await.map_err(|error| unread(&error))?;
        while let Some(chunk) = object.body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| unread(&error))?);
        }
    }
    Ok(bytes)
}

fn unread(error: &dyn std::fmt::Display) -> TaskError {
    TaskError::retryable(Reason::Storage, format!("could not read the source: {error}"))
}

/// A range of a source as ranges of its objects.
fn pieces(source: &Source, range: Range<u64>) -> Vec<(String, Range<u64>)> {
    let mut start = 0;
    let mut found = vec![];
    for piece in source.pieces.iter().flatten() {
        let (from, to) = (range.start.max(start), range.end.min(start + piece.bytes));
        if from < to {
            found.push((piece.key.clone(), from - start..to - start));
        }
        start += piece.bytes;
    }
    found
}

#[cfg(test)]
mod tests {
    use reelmill_shared::db::sources::Piece;
    use reelmill_shared::ids::{ProjectId, SourceId, UploadId};
    use reelmill_shared::job::spec::Input;

    use super::*;

    #[test]
    fn headers_of_boxes() {
        assert_eq!(box_header(b"\0\0\0\x20ftypisom\0\0\0\0"), Some((*b"ftyp", 32)));
        assert_eq!(box_header(b"\0\0\0\x01mdat\0\0\0\x02\0\0\0\0"), Some((*b"mdat", 2 << 32)));
        for none in [&b"\0\0\0\0mdat\0\0\0\0\0\0\0\0"[..], b"\0\0\0\x08\0\x01\x02\x03", b"\0\0", b""] {
            assert_eq!(box_header(none), None, "{none:?}");
        }
    }

    #[test]
    fn ranges_are_found_in_their_pieces() {
        let piece = |key: &str, bytes| Piece { key: key.into(), bytes };
        let source = Source {
            id: SourceId::new(),
            project_id: ProjectId::new(),
            origin: Input::UploadId(UploadId::new()),
            pieces: Some(vec![piece("a", 10), piece("b", 5), piece("c", 10)]),
            bytes: Some(25),
            sha256: None,
            probe: None,
        };
        let found = pieces(&source, 8..18);
        assert_eq!(found, [("a".into(), 8..10), ("b".into(), 0..5), ("c".into(), 0..3)]);
        assert_eq!(pieces(&source, 25..30), []);
    }
}
