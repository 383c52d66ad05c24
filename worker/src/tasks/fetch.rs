//! Brings a source into the store, once: over HTTP through the guarded client, or from a directory that is allowed.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::sources::Piece;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::spec::Input;
use reelmill_shared::job::task::FetchSpec;
use reelmill_shared::net::redacted;
use reelmill_shared::storage::keys;
use reqwest::header::HeaderMap;
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;
use url::Url;

use super::{Bench, aired};

pub(super) async fn perform(bench: &Bench, spec: &FetchSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let url = match &source.origin {
        Input::Url(url) => url,
        Input::BroadcastId(broadcast) => {
            let path = aired::assemble(bench, *broadcast).await?;
            let stored = store_file(bench, &path, unreadable_late).await?;
            return Ok(vec![Publication::Stored {
                source: spec.source,
                pieces: vec![stored.0],
                sha256: stored.1,
            }]);
        }
        Input::UploadId(_) | Input::RecordingId(_) => {
            return Err(TaskError::fatal(Reason::Internal, "the source has no URL to fetch"));
        }
    };
    let stored = match url.scheme() {
        "file" => {
            let path = allowed_path(url, &bench.shop.config.input_roots)?;
            let unreadable = |error: std::io::Error| {
                TaskError::fatal(Reason::Unreachable, format!("cannot read {url}: {error}"))
            };
            store_file(bench, &path, unreadable).await?
        }
        _ => {
            let shown = redacted(url);
            let net = |error: reelmill_shared::net::NetError| TaskError {
                reason: Reason::Unreachable,
                retryable: error.retryable(),
                message: format!("cannot fetch {shown}: {error}"),
            };
            let response = bench.shop.http.get(url, HeaderMap::new()).await.map_err(&net)?;
            let size = response.content_length();
            store(bench, size, response.into_stream().map(|chunk| chunk.map_err(&net))).await?
        }
    };
    Ok(vec![Publication::Stored { source: spec.source, pieces: vec![stored.0], sha256: stored.1 }])
}

/// Stores a file of this host; `unreadable` says what it means where that cannot be read.
async fn store_file(
    bench: &Bench,
    path: &Path,
    unreadable: impl Fn(std::io::Error) -> TaskError,
) -> Result<(Piece, Vec<u8>), TaskError> {
    let file = tokio::fs::File::open(path).await.map_err(&unreadable)?;
    let size = file.metadata().await.map_err(unreadable)?.len();
    let stream = ReaderStream::with_capacity(file, 1 << 20).map(|chunk| chunk.map_err(unreadable_late));
    store(bench, Some(size), stream).await
}

fn unreadable_late(error: std::io::Error) -> TaskError {
    TaskError::retryable(Reason::Unreachable, format!("reading the file broke off: {error}"))
}

async fn store(
    bench: &Bench,
    size: Option<u64>,
    chunks: impl Stream<Item = Result<Bytes, TaskError>>,
) -> Result<(Piece, Vec<u8>), TaskError> {
    let storage_error =
        |error| TaskError::retryable(Reason::Storage, format!("could not store the source: {error}"));
    let key = keys::fetched(&bench.prefix);
    let mut writer = bench.shop.storage.writer(&key).await.map_err(storage_error)?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut chunks = std::pin::pin!(chunks);
    loop {
        let chunk = tokio::select! {
            chunk = chunks.next() => chunk,
            () = bench.stop.cancelled() => Some(Err(TaskError::retryable(Reason::Internal, "the task was stopped"))),
        };
        match chunk {
            Some(Ok(chunk)) => {
                bytes += chunk.len() as u64;
                hash.update(&chunk);
                writer.write(chunk).await.map_err(storage_error)?;
                let done = size.filter(|size| *size > 0).map_or(0.0, |size| bytes as f64 / size as f64);
                bench.say(done, "fetching the source", None);
            }
            Some(Err(error)) => {
                // What was written so far is swept with the attempt anyway.
                let _ = writer.abort().await;
                return Err(error);
            }
            None => break,
        }
    }
    if bytes == 0 {
        let _ = writer.abort().await;
        return Err(TaskError::fatal(Reason::NotMedia, "the source is empty: zero bytes"));
    }
    writer.finish().await.map_err(storage_error)?;
    Ok((Piece { key, bytes }, hash.finalize().to_vec()))
}

/// The file behind a `file://` URL, if it lies under one of `roots` once all links are followed.
pub(crate) fn allowed_path(url: &Url, roots: &[PathBuf]) -> Result<PathBuf, TaskError> {
    let refused = || {
        TaskError::fatal(
            Reason::Unreachable,
            format!("{url} does not lie under a directory this worker may read (REELMILL_INPUT_LOCAL_ROOTS)"),
        )
    };
    let path = url.to_file_path().map_err(|()| refused())?;
    // The same answer for "forbidden" and "not there": which files exist outside the roots is nobody's business.
    let path = path.canonicalize().map_err(|_| match under_any(&path, roots) {
        true => TaskError::fatal(Reason::Unreachable, format!("there is no file {url}")),
        false => refused(),
    })?;
    if under_any(&path, roots) && path.is_file() { Ok(path) } else { Err(refused()) }
}

fn under_any(path: &Path, roots: &[PathBuf]) -> bool {
    let plain = !path.components().any(|part| matches!(part, std::path::Component::ParentDir));
    plain && roots.iter().filter_map(|root| root.canonicalize().ok()).any(|root| path.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_under_a_root_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("in");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("a.mp4"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).unwrap();
        let url = |path: &str| Url::parse(&format!("file://{}/{path}", root.display())).unwrap();
        let roots = [root.clone()];
        assert!(allowed_path(&url("a.mp4"), &roots).is_ok());
        for bad in ["link", "%2e%2e/secret", "missing", "", "../secret"] {
            assert!(allowed_path(&url(bad), &roots).is_err(), "{bad}");
        }
        assert!(allowed_path(&url("a.mp4"), &[]).is_err());
    }
}
