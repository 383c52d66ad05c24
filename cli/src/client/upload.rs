//! Uploads by tus (https://tus.io): one PATCH streams all that is missing; after an error the farm is asked how far it got.

use std::fs::Metadata;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use reelmill_shared::ids::UploadId;
use reqwest::{Body, Method, RequestBuilder, Response, header};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::{Instant, interval, sleep};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::failure::Failure;
use super::http::Farm;
use super::meter::UploadMeter;
use super::output::{Format, print};
use super::{Context, Interrupted};

const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const OFFSET: &str = "upload-offset";
const READ_AT_ONCE: usize = 256 * 1024;
/// Tries in a row that bring nothing forward.
const TRIES: u32 = 8;
/// Without a byte going out, the connection is given up.
const STALL: Duration = Duration::from_secs(60);
/// After the last byte the farm may have to put large pieces away.
const LAST_ANSWER: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(200);

/// Options of `upload`.
#[derive(Debug, clap::Args)]
pub(crate) struct UploadArgs {
    /// File to upload
    file: PathBuf,
}

/// Runs `upload`.
pub(crate) async fn run(context: &Context, args: UploadArgs) -> Result<(), Failure> {
    let source = Source::open(&args.file).await?;
    let bytes = source.bytes;
    let id = send_file(context, source, None).await?;
    match context.format {
        Format::Json => print(&json!({ "upload_id": id, "bytes": bytes }).to_string()),
        Format::Table => print(&id.to_string()),
    }
}

/// A file that is sent, as it was when it was first looked at.
pub(crate) struct Source {
    path: PathBuf,
    name: String,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Source {
    /// Opens a file and refuses what cannot be sent.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        let wrong =
            |why: &dyn std::fmt::Display| Failure::Usage(format!("cannot read {}: {why}", path.display()));
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let looked = tokio::fs::metadata(path).await.map_err(|error| wrong(&error))?;
        if !looked.is_file() {
            return Err(wrong(&"it is not a regular file"));
        }
        // Found out now rather than after the farm was bothered.
        drop(File::open(path).await.map_err(|error| wrong(&error))?);
        if looked.len() == 0 {
            return Err(wrong(&"it is empty"));
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { path: path.to_owned(), name, bytes: looked.len(), modified: looked.modified().ok() })
    }

    /// Half of one file and half of another would be worse than an error.
    fn check(&self, now: std::io::Result<Metadata>) -> Result<(), Failure> {
        let now = now.map_err(|error| self.broken(&error))?;
        if now.len() == self.bytes && now.modified().ok() == self.modified {
            return Ok(());
        }
        Err(self.broken(&"it changed while it was sent"))
    }

    async fn unchanged(&self) -> Result<(), Failure> {
        self.check(tokio::fs::metadata(&self.path).await)
    }

    fn broken(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::Failed(format!("cannot go on with {}: {why}", self.path.display()))
    }

    /// What is missing from `offset` on; counts what was read.
    async fn rest(&self, offset: u64, sent: &Arc<AtomicU64>) -> Result<Body, Failure> {
        // Opened anew each time: a request that was given up may still be reading through its own.
        let mut file = File::open(&self.path).await.map_err(|error| self.broken(&error))?;
        self.check(file.metadata().await)?;
        file.seek(SeekFrom::Start(offset)).await.map_err(|error| self.broken(&error))?;
        sent.store(offset, Ordering::Relaxed);
        let sent = Arc::clone(sent);
        let stream = ReaderStream::with_capacity(file.take(self.bytes - offset), READ_AT_ONCE);
        Ok(Body::wrap_stream(stream.inspect(move |chunk| {
            let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            sent.fetch_add(bytes, Ordering::Relaxed);
        })))
    }
}

/// Uploads a file. With the caller's own key the same upload is found again, also by a later command, and goes on.
pub(crate) async fn send_file(
    context: &Context,
    source: Source,
    key: Option<&str>,
) -> Result<UploadId, Failure> {
    let farm = &context.farm;
    // The key itself is for the job.
    let idempotency_key = key.map_or_else(|| Uuid::now_v7().to_string(), |key| format!("{key}/upload"));
    let (id, replayed) = create(farm, &source, &idempotency_key).await?;
    context.on_interrupt(Interrupted::Uploading { id, resumable: key.is_some() });
    let mut meter = UploadMeter::new(&source.name, source.bytes);
    let mut offset = if replayed { stands_at(farm, id).await? } else { 0 };
    let mut failed = 0;
    while offset < source.bytes {
        let before = offset;
        let trouble = match send_rest(farm, id, &source, offset, &mut meter).await {
            Ok(Some(now)) => {
                offset = now;
                None
            }
            Ok(None) => Some("the farm did not say how far it got".to_owned()),
            Err(failure) if goes_on_after(&failure) => Some(failure.to_string()),
            Err(failure) => return Err(failure),
        };
        // A file that became shorter shows as a connection that breaks.
        source.unchanged().await?;
        if let Some(trouble) = trouble {
            failed += 1;
            if failed >= TRIES {
                return Err(Failure::Unreachable(format!(
                    "gave the upload up after {TRIES} tries: {trouble}"
                )));
            }
            let wait = back_off(failed);
            meter.say(&format!("{trouble}; going on in {} s", wait.as_secs().max(1)));
            sleep(wait).await;
            match stands_at(farm, id).await {
                Ok(now) => offset = now,
                // Still away: counts as the next failed try.
                Err(failure) if failure.may_pass() => continue,
                Err(failure) => return Err(failure),
            }
        }
        if offset > before {
            failed = 0;
        }
        meter.set(offset);
    }
    meter.finish();
    context.on_interrupt(Interrupted::Nothing);
    Ok(id)
}

/// Half a second, doubling to ten, spread so that many clients do not come back at once.
fn back_off(failed: u32) -> Duration {
    let base = Duration::from_millis(500) * 2u32.pow(failed.saturating_sub(1).min(5));
    let spread = f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0;
    base.min(Duration::from_secs(10)).mul_f64(0.75 + spread / 2.0)
}

/// A farm that was away or busy, and one that stands elsewhere than we thought.
fn goes_on_after(failure: &Failure) -> bool {
    // 408, 409 and 425 speak of this moment; a connection that broke may be told as 400 by a proxy, but that is rare.
    failure.may_pass()
        || matches!(failure, Failure::Refused(refusal) if matches!(refusal.status, 408 | 409 | 425))
}

fn tus(farm: &Farm, method: Method, id: UploadId) -> RequestBuilder {
    let url = farm.url(&["uploads", &id.to_string()]);
    farm.request_without_end(method, url).header(TUS.0, TUS.1)
}

async fn create(farm: &Farm, source: &Source, idempotency_key: &str) -> Result<(UploadId, bool), Failure> {
    let request = farm
        .request(Method::POST, farm.url(&["uploads"]))
        .header(TUS.0, TUS.1)
        .header("idempotency-key", idempotency_key)
        .header("upload-length", source.bytes)
        .header("upload-metadata", format!("filename {}", STANDARD.encode(&source.name)));
    let response = farm.ask(request).await?;
    let replayed = response.headers().contains_key("idempotent-replayed");
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let id = location.and_then(|location| location.trim_end_matches('/').rsplit('/').next()?.parse().ok());
    let id = id.ok_or_else(|| Failure::Failed("the farm did not say where the upload is".to_owned()))?;
    Ok((id, replayed))
}

async fn stands_at(farm: &Farm, id: UploadId) -> Result<u64, Failure> {
    let request = tus(farm, Method::HEAD, id).timeout(Duration::from_secs(30));
    let response = farm.ask(request).await.map_err(|failure| match failure {
        // An answer to HEAD has no body that could tell.
        Failure::Refused(refusal) if refusal.status == 404 => {
            Failure::NotFound(format!("there is no upload {id}"))
        }
        other => other,
    })?;
    offset(&response)
        .ok_or_else(|| Failure::Failed(format!("the farm does not say how far the upload {id} is")))
}

fn offset(response: &Response) -> Option<u64> {
    response.headers().get(OFFSET)?.to_str().ok()?.parse().ok()
}

/// Sends everything from `offset` on, and gives what the farm has then.
async fn send_rest(
    farm: &Farm,
    id: UploadId,
    source: &Source,
    offset: u64,
    meter: &mut UploadMeter,
) -> Result<Option<u64>, Failure> {
    let sent = Arc::new(AtomicU64::new(offset));
    let request = tus(farm, Method::PATCH, id)
        .header(OFFSET, offset)
        .header(header::CONTENT_TYPE, "application/offset+octet-stream")
        // Without it the body would be chunked, and a farm that is full could not say so at once.
        .header(header::CONTENT_LENGTH, source.bytes - offset)
        .body(source.rest(offset, &sent).await?);
    let answer = farm.send(request);
    tokio::pin!(answer);
    let mut ticks = interval(TICK);
    let (mut last, mut moved) = (offset, Instant::now());
    loop {
        tokio::select! {
            answer = &mut answer => return Ok(self::offset(&answer?)),
            _ = ticks.tick() => {
                let now = sent.load(Ordering::Relaxed);
                meter.set(now);
                if now != last {
                    (last, moved) = (now, Instant::now());
                }
                let patience = if now == source.bytes { LAST_ANSWER } else { STALL };
                if moved.elapsed() > patience {
                    return Err(Failure::Broken(format!("nothing moved for {} s", patience.as_secs())));
                }
            }
        }
    }
}

/// Gives up an upload that nobody will go on with. Best effort: the farm clears up unfinished uploads anyway.
pub(crate) async fn abandon(farm: &Farm, id: UploadId) {
    let request = tus(farm, Method::DELETE, id).timeout(Duration::from_secs(2));
    let _ = farm.send(request).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end_growing() {
        for failed in 1..40 {
            let wait = back_off(failed).as_secs_f64();
            let base = (0.5 * 2f64.powi(failed as i32 - 1)).min(10.0);
            assert!((base * 0.74..=base * 1.26).contains(&wait), "{failed}: {wait}");
        }
    }

    #[tokio::test]
    async fn what_is_no_file_is_not_opened() {
        for path in ["/nonexistent/a.mp4", "/", "/dev/null"] {
            let error = Source::open(Path::new(path)).await.err().unwrap();
            assert_eq!(error.exit_code(), 2, "{path}: {error}");
        }
    }
}
