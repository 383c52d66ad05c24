//! Brings a rendition here as one file: its init segment and all its segments.

use std::fmt::Display;
use std::path::Path;

use futures::StreamExt;
use reelmill_shared::db::Db;
use reelmill_shared::db::sets::{self, Rendition};
use reelmill_shared::ids::SetId;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::storage::Storage;
use tokio::io::AsyncWriteExt;

/// Writes a rendition of a finished set to `path`.
///
/// # Errors
/// Where an object is missing, or has another length than the index says; or where the disk is full.
pub(crate) async fn collect(
    db: &Db,
    storage: &Storage,
    set: SetId,
    rendition: &Rendition,
    path: &Path,
) -> Result<(), TaskError> {
    let segments = sets::segments(db, set, &rendition.rung)
        .await
        .map_err(|error| TaskError::internal("reading the segment index", error))?;
    let mut file = tokio::fs::File::create(path).await.map_err(disk)?;
    let init = (&rendition.init_key, rendition.init_bytes);
    for (key, bytes) in std::iter::once(init).chain(segments.iter().map(|s| (&s.key, s.bytes))) {
        let mut object = storage.get(key, None).await.map_err(store)?;
        let mut received = 0;
        while let Some(chunk) = object.body.next().await {
            let chunk = chunk.map_err(store)?;
            received += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(disk)?;
        }
        if received != bytes {
            return Err(store(format!("a segment has {received} of {bytes} bytes")));
        }
    }
    file.flush().await.map_err(disk)
}

fn disk(error: std::io::Error) -> TaskError {
    TaskError::retryable(Reason::Storage, format!("no room for a rendition: {error}"))
}

fn store(error: impl Display) -> TaskError {
    TaskError::retryable(Reason::Storage, format!("the object store: {error}"))
}
