//! Objects: where they are named, read and written.

pub mod keys;

use std::io::SeekFrom;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart,
};

use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::config::StorageConfig;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("there is no object {0}")]
    NotFound(String),
    #[error("object store: {0}")]
    Store(object_store::Error),
    #[error("object store: {0}")]
    Read(#[from] std::io::Error),
    #[error("object store: {0}")]
    Settings(String),
}

impl From<object_store::Error> for StorageError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { path, .. } => Self::NotFound(path),
            other => Self::Store(other),
        }
    }
}

/// The farm's object store.
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    /// Set where objects are plain files on this machine.
    root: Option<PathBuf>,
}

/// Bytes of a file that are read at once: what `object_store` reads by itself, 8 KiB, costs more to arrange than to read.
const PIECE: u64 = 256 << 10;

/// A part of a file, as it is read.
async fn pieces(
    file: std::fs::File,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
    let length = range.end - range.start;
    let mut file = tokio::fs::File::from_std(file);
    file.seek(SeekFrom::Start(range.start)).await?;
    // At most a piece, whatever the number is.
    let piece = length.clamp(1, PIECE) as usize;
    Ok(ReaderStream::with_capacity(file.take(length), piece).map_err(StorageError::from).boxed())
}

/// An object, or a part of it, on its way out.
pub struct Object {
    pub body: BoxStream<'static, Result<Bytes, StorageError>>,
}

/// Objects larger than this are written in parts.
const PART_BYTES: usize = 8 << 20;
/// Parts of one object under way at once.
const PARTS_AT_ONCE: usize = 4;

impl Storage {
    /// Opens the store of `config`. Makes the directory of a local one.
    pub fn open(config: &StorageConfig) -> Result<Self, StorageError> {
        let url = &config.url;
        if url.scheme() == "file" {
            let root = url
                .to_file_path()
                .map_err(|()| StorageError::Settings(format!("{url} is not an absolute path")))?;
            std::fs::create_dir_all(&root)
                .map_err(|error| StorageError::Settings(format!("{}: {error}", root.display())))?;
            let root = root
                .canonicalize()
                .map_err(|error| StorageError::Settings(format!("{}: {error}", root.display())))?;
            let store = LocalFileSystem::new_with_prefix(&root)?;
            return Ok(Self { store: Arc::new(store), root: Some(root) });
        }
        // Credentials, region and endpoint come from the store's own variables.
        let options = std::env::vars_os()
            .filter_map(|(name, value)| {
                Some((name.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?))
            })
            .filter(|(name, _)| ["aws_", "google_", "azure_"].iter().any(|vendor| name.starts_with(vendor)));
        let (store, prefix) = object_store::parse_url_opts(url, options)?;
        Ok(Self { store: Arc::new(PrefixStore::new(store, prefix)), root: None })
    }

    /// Writes a whole object.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        if bytes.len() > PART_BYTES {
            let mut writer = self.writer(key).await?;
            writer.write(bytes).await?;
            return writer.finish().await;
        }
        self.store.put(&Path::from(key), PutPayload::from_bytes(bytes)).await?;
        Ok(())
    }

    /// Writes an object as its bytes come.
    pub async fn writer(&self, key: &str) -> Result<Writer, StorageError> {
        let upload = self.store.put_multipart(&Path::from(key)).await?;
        Ok(Writer { inner: WriteMultipart::new_with_chunk_size(upload, PART_BYTES) })
    }

    /// Reads an object, or `range` of it; a range beyond its end is cut.
    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Object, StorageError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let result = self.store.get_opts(&Path::from(key), options).await?;
        let range = result.range.clone();
        let body = match result.payload {
            GetResultPayload::File(file, _) => pieces(file, range).await?,
            GetResultPayload::Stream(stream) => stream.map_err(StorageError::from).boxed(),
        };
        Ok(Object { body })
    }

    /// Reads an object into memory.
    pub async fn whole(&self, key: &str) -> Result<Bytes, StorageError> {
        Ok(self.store.get(&Path::from(key)).await?.bytes().await?)
    }

    /// The file behind an object, where the store is this machine's file system.
    pub fn local_path(&self, key: &str) -> Option<PathBuf> {
        // Keys are our own and never hold "..": see keys.rs.
        self.root.as_ref().map(|root| root.join(key))
    }

    /// Deletes one object; one that is not there is no mistake.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes every object under `prefix`. Returns how many there were.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64, StorageError> {
        let path = Path::from(prefix.trim_end_matches('/'));
        let mut count = 0;
        let found = self.store.list(Some(&path)).map_ok(|meta| meta.location).boxed();
        let mut deleted = self.store.delete_stream(found);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) => count += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(root) = &self.root {
            // Empty directories are left over on a file system; a store of objects has none.
            let _ = tokio::fs::remove_dir_all(root.join(prefix.trim_end_matches('/'))).await;
        }
        Ok(count)
    }

    /// Answers where the store answers.
    pub async fn check(&self) -> Result<(), StorageError> {
        match self.store.head(&Path::from("reelmill-check")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How long a piece of an upload may grow. Local stores take a file in one piece, so that it is used in place.
    pub fn piece_limit(&self) -> u64 {
        if self.root.is_some() { 1 << 40 } else { 256 << 20 }
    }
}

/// An object being written. Dropped without [`Writer::finish`], nothing is visible of it.
pub struct Writer {
    inner: WriteMultipart,
}

impl Writer {
    /// Adds bytes, waiting while too many parts are under way.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.inner.wait_for_capacity(PARTS_AT_ONCE).await?;
        self.inner.put(bytes);
        Ok(())
    }

    /// Makes the object visible.
    pub async fn finish(self) -> Result<(), StorageError> {
        self.inner.finish().await?;
        Ok(())
    }

    /// Gives up; parts already sent are removed.
    pub async fn abort(self) -> Result<(), StorageError> {
        Ok(self.inner.abort().await?)
    }
}
