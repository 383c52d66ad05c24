//! Parts, segments and init segments: asked for upstream once, from the origin while it holds them, from the store then.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use moka::Entry;
use moka::future::Cache;
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::origin::{self, PASS_HEADER};
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::storage::{Storage, StorageError};

use super::view::View;

/// The media that was asked for lately.
pub(super) struct Files {
    http: reqwest::Client,
    storage: Storage,
    cache: Cache<Name, Bytes>,
}

/// Of what, which broadcast of it, and which file.
type Name = (LivestreamId, String, LiveFile);

/// A file could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum FileError {
    #[error("nobody has it")]
    Missing,
    #[error("{0}")]
    Upstream(Arc<reqwest::Error>),
    #[error("{0}")]
    Store(Arc<StorageError>),
}

/// A file is kept for so long after it was asked for last: as long as viewers at the same place of a stream ask for it.
const KEPT: Duration = Duration::from_secs(60);
/// A segment of the highest rate we allow comes within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file, and whether it was here: fetched before, or by somebody who asked for it at the same time.
pub(super) struct Found {
    pub(super) bytes: Bytes,
    pub(super) had: bool,
}

fn found(entry: Result<Entry<Name, Bytes>, Arc<FileError>>) -> Result<Found, FileError> {
    let entry = entry.map_err(|error| (*error).clone())?;
    Ok(Found { had: !entry.is_fresh(), bytes: entry.into_value() })
}

impl Files {
    pub(super) fn new(http: reqwest::Client, storage: Storage, bytes: u64) -> Self {
        let weight = |_: &_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let cache = Cache::builder().weigher(weight).max_capacity(bytes).time_to_idle(KEPT).build();
        Self { http, storage, cache }
    }

    /// A file that is listed, or was a moment ago. `key` is where it lies in the store once it is there.
    pub(super) async fn get(
        &self,
        view: &View,
        file: &LiveFile,
        place: &str,
        key: Option<String>,
    ) -> Result<Found, FileError> {
        let name = (view.livestream, place.to_owned(), file.clone());
        let fetching = self.cache.entry(name).or_try_insert_with(async {
            let upstream = match self.upstream(view, file).await {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => FileError::Missing,
                Err(error) => error,
            };
            match key {
                Some(key) => match self.stored(&key).await {
                    // Its origin was lost before it had stored it.
                    Err(FileError::Missing) => self.joined(view, file, place).await.ok_or(upstream),
                    stored => stored,
                },
                None => Err(upstream),
            }
        });
        found(fetching.await)
    }

    /// A file that lies in the store.
    pub(super) async fn kept(
        &self,
        livestream: LivestreamId,
        place: &str,
        file: &LiveFile,
        key: &str,
    ) -> Result<Found, FileError> {
        let name = (livestream, place.to_owned(), file.clone());
        found(self.cache.entry(name).or_try_insert_with(self.stored(key)).await)
    }

    /// A segment all of whose parts were asked for here.
    async fn joined(&self, view: &View, file: &LiveFile, place: &str) -> Option<Bytes> {
        let LiveFile::Segment { track, number } = file else { return None };
        let count = view.look(|window| {
            let (_, list) = window.track(track)?;
            list.segment(*number).map(|segment| segment.part_count)
        })??;
        let mut whole = BytesMut::new();
        for part in 0..count {
            let part = LiveFile::Part { track: track.clone(), number: *number, part };
            whole.extend_from_slice(&self.cache.get(&(view.livestream, place.to_owned(), part)).await?);
        }
        (count > 0).then(|| whole.freeze())
    }

    /// From whoever carries the stream, or did a moment ago. The error is that of the last that has it and could not give it.
    async fn upstream(&self, view: &View, file: &LiveFile) -> Result<Option<Bytes>, FileError> {
        let mut failed = None;
        for origin in [view.origin(), view.former()].into_iter().flatten() {
            let url = format!("{}{}", origin.address, origin::file(view.livestream, file));
            let asked = self.http.get(url).header(PASS_HEADER, &origin.pass).timeout(PATIENCE).send().await;
            let response = match asked {
                Ok(response) if response.status().is_success() => response,
                Ok(_) => continue,
                // The origin is gone; what it has stored is still there.
                Err(error) if error.is_connect() || error.is_timeout() => continue,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            match response.bytes().await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), |error| Err(FileError::Upstream(Arc::new(error))))
    }

    pub(super) async fn stored(&self, key: &str) -> Result<Bytes, FileError> {
        self.storage.whole(key).await.map_err(|error| match error {
            StorageError::NotFound(_) => FileError::Missing,
            error => FileError::Store(Arc::new(error)),
        })
    }
}
