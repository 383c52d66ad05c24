//! Sources on this host: used in place where the store is this file system, else fetched once for all tasks and processes of
//! the host into a size-capped cache whose files are named by their content.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use reelmill_shared::db::sources::Source;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::storage::Storage;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

/// The cache of this host.
#[derive(Debug, Clone)]
pub struct SourceCache {
    dir: PathBuf,
    most: u64,
}

/// A source as a file, for as long as this lives.
#[derive(Debug)]
pub struct SourceFile {
    pub path: PathBuf,
    /// A shared lock: the file is not evicted under a running FFmpeg.
    _lock: Option<Arc<Flock<File>>>,
}

impl SourceFile {
    /// A file of the attempt's own, which goes with its directory.
    pub fn own(path: PathBuf) -> Self {
        Self { path, _lock: None }
    }
}

/// A file that is removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// How often a lock that somebody else holds is tried.
const LOOK: Duration = Duration::from_millis(200);

impl SourceCache {
    /// A cache in `dir`, made if needed, of at most about `most` bytes.
    pub fn open(dir: &Path, most: u64) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), most })
    }

    /// The source as a file, if it is on this host already.
    pub fn at_hand(&self, storage: &Storage, source: &Source) -> Option<SourceFile> {
        if let [only] = source.pieces.as_deref()?
            && let Some(path) = storage.local_path(&only.key)
        {
            return Some(SourceFile { path, _lock: None });
        }
        let name = file_name(source);
        let lock = self.try_lock(&name, FlockArg::LockSharedNonblock).ok()??;
        let path = self.dir.join(&name);
        path.exists().then(|| SourceFile { path, _lock: Some(Arc::new(lock)) })
    }

    /// The source as a file.
    pub async fn file(&self, storage: &Storage, source: &Source) -> Result<SourceFile, TaskError> {
        let pieces = source
            .pieces
            .as_ref()
            .ok_or_else(|| TaskError::internal("opening the source", "it is not stored yet"))?;
        if let [only] = pieces.as_slice()
            && let Some(path) = storage.local_path(&only.key)
        {
            return Ok(SourceFile { path, _lock: None });
        }
        let name = file_name(source);
        let path = self.dir.join(&name);
        loop {
            // Many may use a file; the lock is tried, never waited for, so that a stop is heard.
            if let Some(lock) = self.try_lock(&name, FlockArg::LockSharedNonblock)?
                && path.exists()
            {
                // Recently used, for the eviction.
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                return Ok(SourceFile { path, _lock: Some(Arc::new(lock)) });
            }
            // Who gets it alone fills it; the others find it filled.
            if let Some(_alone) = self.try_lock(&name, FlockArg::LockExclusiveNonblock)? {
                if !path.exists() {
                    self.evict(pieces.iter().map(|piece| piece.bytes).sum()).await;
                    self.fill(storage, source, &path).await?;
                }
                continue;
            }
            sleep(LOOK).await;
        }
    }

    fn try_lock(&self, name: &str, how: FlockArg) -> Result<Option<Flock<File>>, TaskError> {
        let failed = |error: std::io::Error| TaskError::internal("locking the source cache", error);
        let path = self.dir.join(format!("{name}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        match Flock::lock(file, how) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    /// Fetches a source; on any failure nothing is left of it.
    async fn fill(&self, storage: &Storage, source: &Source, path: &Path) -> Result<(), TaskError> {
        let partial = Partial(path.with_extension("partial"));
        self.fetch(storage, source, &partial.0).await?;
        tokio::fs::rename(&partial.0, path).await.map_err(|error| {
            TaskError::retryable(Reason::Storage, format!("could not cache the source: {error}"))
        })
    }

    async fn fetch(&self, storage: &Storage, source: &Source, partial: &Path) -> Result<(), TaskError> {
        let storage_error = |error: &dyn std::fmt::Display| {
            TaskError::retryable(Reason::Storage, format!("could not read the source: {error}"))
        };
        let disk_error = |error: std::io::Error| {
            TaskError::retryable(Reason::Storage, format!("could not cache the source: {error}"))
        };
        let mut file = tokio::fs::File::create(partial).await.map_err(disk_error)?;
        let mut hash = Sha256::new();
        for piece in source.pieces.iter().flatten() {
            let mut object = storage.get(&piece.key, None).await.map_err(|e| storage_error(&e))?;
            let mut received = 0;
            while let Some(chunk) = object.body.next().await {
                let chunk = chunk.map_err(|e| storage_error(&e))?;
                received += chunk.len() as u64;
                hash.update(&chunk);
                file.write_all(&chunk).await.map_err(disk_error)?;
            }
            if received != piece.bytes {
                return Err(storage_error(&format!(
                    "an object ended after {received} of {} bytes",
                    piece.bytes
                )));
            }
        }
        file.flush().await.map_err(disk_error)?;
        drop(file);
        if source.sha256.as_ref().is_some_and(|known| known.as_slice() != hash.finalize().as_slice()) {
            return Err(storage_error(&"its bytes are not the ones that were stored"));
        }
        Ok(())
    }

    /// Makes room for `wanted` bytes: least recently used first, never what is in use.
    async fn evict(&self, wanted: u64) {
        let (dir, most) = (self.dir.clone(), self.most);
        let result = tokio::task::spawn_blocking(move || evict(&dir, most.saturating_sub(wanted))).await;
        if let Ok(Err(error)) = result {
            tracing::warn!(%error, "could not make room in the source cache");
        }
    }
}

/// Two sources with the same bytes share a file; a source without a digest has its id for a name.
fn file_name(source: &Source) -> String {
    source.sha256.as_ref().map_or_else(|| format!("id-{}", source.id), hex::encode)
}

fn evict(dir: &Path, most: u64) -> std::io::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf, u64)> = vec![];
    for entry in std::fs::read_dir(dir)? {
        let (entry, path) = entry.map(|entry| (entry.metadata(), entry.path()))?;
        match path.extension().map(|extension| extension.as_encoded_bytes()) {
            None => {
                if let Ok(metadata) = entry {
                    files.push((metadata.modified()?, path, metadata.len()));
                }
            }
            // Left by a worker that was killed: whoever fills holds the lock.
            Some(b"partial") if is_unlocked(&path) => std::fs::remove_file(&path)?,
            Some(_) => {}
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, _, size)| size).sum();
    for (_, path, size) in files {
        if total <= most {
            break;
        }
        if is_unlocked(&path) {
            std::fs::remove_file(&path)?;
            total -= size;
        }
    }
    Ok(())
}

fn is_unlocked(path: &Path) -> bool {
    let lock = File::open(path.with_extension("lock"));
    lock.is_ok_and(|lock| Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok())
}

/// SHA-256 of a file.
pub async fn digest(path: &Path) -> std::io::Result<Vec<u8>> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(hash.finalize().to_vec());
            }
            hash.update(&buffer[..count]);
        }
    })
    .await
    .map_err(std::io::Error::other)?
}
