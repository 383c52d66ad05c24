//! What workers fetch: cameras by RTSP, and videos played out as if they were live. A copy-only FFmpeg with that one protocol brings it
//! into a pipe; whichever worker looks first takes a stream, and any other may when it is lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use reelmill_shared::db::live::{self, Claim, Taken};
use reelmill_shared::db::sets::{self, TrackKind};
use reelmill_shared::ids::RecordingId;
use reelmill_shared::live::address::SrtAddress;
use reelmill_shared::live::event::Severity;
use reelmill_shared::live::spec::{LiveSource, SourceKind};
use reelmill_shared::net::redacted;
use reqwest::header::HeaderMap;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::{Kind, PIECES, Publisher, open_source, relay};
use crate::collect::collect;
use crate::ffmpeg::argv::{self, Address, Pull};
use crate::ffmpeg::process::{self, Limits, RunError};
use crate::live::outlet;
use crate::live::studio::Studio;
use crate::tasks::fetch::allowed_path;

/// Why a stream could not be fetched. For people: addresses are told without their credentials.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("{0}")]
    Source(String),
    #[error("{0}")]
    Disk(#[from] std::io::Error),
    #[error("{0}")]
    Fetch(String),
}

/// How often it is looked for streams to be fetched.
const LOOK: Duration = Duration::from_secs(1);
/// Streams looked at each time.
const AT_ONCE: i64 = 20;

/// Fetches what is wanted until `shutdown`.
pub(crate) async fn serve(studio: Arc<Studio>, sessions: TaskTracker, shutdown: CancellationToken) {
    loop {
        // Not in step with other workers.
        tokio::select! {
            () = tokio::time::sleep(LOOK.mul_f64(rand::random_range(0.5..1.5))) => {}
            () = shutdown.cancelled() => return,
        }
        if !studio.takes_streams() {
            continue;
        }
        let wanted = match live::wanted(&studio.db, AT_ONCE).await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::debug!(%error, "could not look for streams to fetch");
                continue;
            }
        };
        for livestream in wanted {
            match live::take(&studio.db, Claim::Pull(livestream), &studio.carrier).await {
                Ok(Ok(taken)) => {
                    sessions.spawn(fetch(Arc::clone(&studio), taken, shutdown.clone()));
                }
                // Another worker was first, or it was stopped.
                Ok(Err(refusal)) => tracing::debug!(%livestream, %refusal, "a pull was not taken"),
                Err(error) => tracing::warn!(%livestream, %error, "could not take a pull"),
            }
        }
    }
}

async fn fetch(studio: Arc<Studio>, taken: Taken, shutdown: CancellationToken) {
    let hold = taken.hold;
    let dismissed = shutdown.child_token();
    let (sender, media) = mpsc::channel(PIECES);
    let source = open_source(&studio.sealer, hold.livestream, taken.source.as_deref())
        .map_err(|error| PullError::Source(error.to_owned()));
    let kind = match &source {
        Ok(source) if taken.spec.source == SourceKind::File && !source.repeat => Kind::Finite,
        _ => Kind::Pulled,
    };
    let played_out = Arc::<AtomicBool>::default();
    let shown = source.as_ref().ok().and_then(|source| Url::parse(source.url.as_deref()?).ok());
    let kind_of_source = taken.spec.source;
    studio.admit(Publisher {
        taken,
        address: shown.map_or_else(|| "a source".to_owned(), |url| redacted(&url)),
        media,
        dismissed: dismissed.clone(),
        kind,
        played_out: Arc::clone(&played_out),
    });
    let fetched = async {
        let source = source?;
        let name = format!("pull-{}-{}", hold.livestream, hold.epoch);
        let errand = Errand { kind: kind_of_source, source, name, played_out };
        bring(&studio, errand, &dismissed, sender).await
    };
    if let Err(error) = fetched.await {
        tracing::info!(livestream = %hold.livestream, %error, "could not fetch a live stream");
        if let Err(error) = live::note(&studio.db, hold.livestream, Severity::Error, &error.to_string()).await
        {
            tracing::debug!(%error, "could not tell why a pull failed");
        }
    }
}

/// Brings the media into `sender` until it ends or nobody wants it.
async fn bring(
    studio: &Studio,
    errand: Errand,
    dismissed: &CancellationToken,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), PullError> {
    let Errand { kind, source, name, played_out } = errand;
    let dir = Directory(studio.scratch.attempt(&name)?, CancellationToken::new());
    let pipe = dir.0.join("out");
    outlet::make(&pipe)?;
    let url = source.url.as_deref().and_then(|url| url.parse::<Url>().ok());
    let pull = match (kind, &url, source.recording) {
        (SourceKind::File, _, Some(recording)) => tracks(studio, recording, &dir.0, dismissed).await?,
        (SourceKind::File, Some(url), None) => {
            Pull::File { path: file(studio, url, &dir.0, dismissed).await?, repeat: source.repeat }
        }
        (SourceKind::Rtsp, Some(url), _) => {
            script(&dir.0, &Address::Rtsp(checked(studio, url, &dir.1).await?)).await?
        }
        (SourceKind::Srt, Some(url), _) => {
            script(&dir.0, &called(studio, url, source.passphrase).await?).await?
        }
        (SourceKind::Push, ..) => {
            return Err(PullError::Source("this kind of source is not fetched".into()));
        }
        (_, None, _) => return Err(PullError::Source("its address does not read".into())),
    };
    let args = argv::pull(&pull, &pipe);
    let over = CancellationToken::new();
    let pouring = tokio::spawn(outlet::pour(outlet::receiver(&pipe)?, sender, over.clone()));
    let never = Duration::from_secs(10 * 365 * 24 * 3600);
    let limits = Limits { file_size: 1 << 20, ..Limits::standard(never, 1) };
    let program = &studio.programs.ffmpeg;
    let job = process::Run { program, args: &args, dir: &dir.0, deadline: never, stall: never, limits };
    let ended = process::run(job, dismissed, |_| {}).await;
    let whole = ended.as_ref().is_ok_and(|ended| ended.status.success()) && !dismissed.is_cancelled();
    played_out.store(whole, Ordering::Release);
    // What it wrote last is still in the pipe, and is read before this ends.
    over.cancel();
    let _ = pouring.await;
    match ended {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => {
            let last = ended.log_tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let (shown, said) = match &url {
                Some(url) => (redacted(url), veiled(last.trim(), url)),
                None => ("the recording".to_owned(), last.trim().to_owned()),
            };
            Err(PullError::Fetch(format!("{shown} could not be fetched: {said}")))
        }
        Err(RunError::Stopped) => Ok(()),
        Err(error) => Err(PullError::Fetch(error.to_string())),
    }
}

/// What is to be brought.
struct Errand {
    kind: SourceKind,
    source: LiveSource,
    /// Of its scratch.
    name: String,
    played_out: Arc<AtomicBool>,
}

/// What FFmpeg said, without the address: it holds credentials.
fn veiled(said: &str, url: &Url) -> String {
    let mut said = said
        .split_whitespace()
        .map(|word| if word.contains("://") { "the source:" } else { word })
        .collect::<Vec<_>>()
        .join(" ");
    for secret in [url.password(), url.query()].into_iter().flatten().filter(|secret| !secret.is_empty()) {
        said = said.replace(secret, "…");
    }
    said
}

/// The video to play out, on this machine.
async fn file(
    studio: &Studio,
    url: &Url,
    dir: &Path,
    stop: &CancellationToken,
) -> Result<PathBuf, PullError> {
    if url.scheme() == "file" {
        return allowed_path(url, &studio.input_roots).map_err(|error| PullError::Fetch(error.message));
    }
    let failed = |error: &dyn std::fmt::Display| {
        PullError::Fetch(format!("{} could not be fetched: {error}", redacted(url)))
    };
    let path = dir.join("video");
    let download = async {
        let response = studio.http.get(url, HeaderMap::new()).await.map_err(|error| failed(&error))?;
        let mut file = tokio::fs::File::create(&path).await?;
        let mut chunks = std::pin::pin!(response.into_stream());
        while let Some(chunk) = chunks.next().await {
            file.write_all(&chunk.map_err(|error| failed(&error))?).await?;
        }
        file.flush().await?;
        Ok(())
    };
    tokio::select! {
        downloaded = download => downloaded.map(|()| path),
        () = stop.cancelled() => Err(PullError::Fetch("it was stopped".into())),
    }
}

/// The best of what a recording has, on this machine.
async fn tracks(
    studio: &Studio,
    recording: RecordingId,
    dir: &Path,
    stop: &CancellationToken,
) -> Result<Pull, PullError> {
    let failed =
        |error: &dyn std::fmt::Display| PullError::Fetch(format!("the recording could not be read: {error}"));
    let bring = async {
        let references = sets::of_recording(&studio.db, recording).await.map_err(|error| failed(&error))?;
        let set =
            references.iter().find(|set| set.active).ok_or_else(|| failed(&"there is nothing of it"))?;
        let renditions = sets::renditions(&studio.db, set.set_id).await.map_err(|error| failed(&error))?;
        let mut paths = vec![];
        for kind in [TrackKind::Video, TrackKind::Audio] {
            let Some(best) = renditions.iter().find(|rendition| rendition.kind == kind) else { continue };
            let path = dir.join(kind.as_str());
            collect(&studio.db, &studio.storage, set.set_id, best, &path)
                .await
                .map_err(|error| failed(&error.message))?;
            paths.push(path);
        }
        Ok(Pull::Tracks(paths))
    };
    tokio::select! {
        brought = bring => brought,
        () = stop.cancelled() => Err(PullError::Fetch("it was stopped".into())),
    }
}

/// The address of an SRT server, which was checked. SRT knows no redirection.
async fn called(studio: &Studio, url: &Url, passphrase: Option<String>) -> Result<Address, PullError> {
    let failed = |error: &dyn std::fmt::Display| {
        PullError::Fetch(format!("{} could not be reached: {error}", redacted(url)))
    };
    let address = SrtAddress::parse(url.as_str()).map_err(|error| failed(&error))?;
    let resolved = studio.http.policy().resolve(&address.host, address.port).await;
    let to = *resolved
        .map_err(|error| failed(&error))?
        .first()
        .ok_or_else(|| failed(&"its host has no address"))?;
    Ok(Address::SrtCaller { to, stream: address.stream, passphrase })
}

/// The address of a camera by a way that leads to where it was checked to be, and nowhere else.
async fn checked(studio: &Studio, url: &Url, over: &CancellationToken) -> Result<Url, PullError> {
    let failed = |error: &dyn std::fmt::Display| {
        PullError::Fetch(format!("{} could not be reached: {error}", redacted(url)))
    };
    let host = url.host_str().ok_or_else(|| failed(&"it names no host"))?;
    let port = url.port().unwrap_or(RTSP_PORT);
    let addresses = studio.http.policy().resolve(host, port).await.map_err(|error| failed(&error))?;
    let address = addresses.first().ok_or_else(|| failed(&"its host has no address"))?;
    let near = relay::open(*address, over.clone()).await?;
    let mut by_relay = url.clone();
    let put = by_relay.set_ip_host(near.ip()).and_then(|()| by_relay.set_port(Some(near.port())));
    put.map_err(|()| failed(&"its host cannot be put in"))?;
    Ok(by_relay)
}

/// RFC 2326, section 9.2.
const RTSP_PORT: u16 = 554;

/// Writes down where it comes from, for FFmpeg alone to read.
pub(super) async fn script(dir: &Path, address: &Address) -> std::io::Result<Pull> {
    let path = dir.join("address");
    let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).await?;
    file.write_all(address.script().as_bytes()).await?;
    file.flush().await?;
    Ok(Pull::Script { path, container: address.container() })
}

/// A directory that goes with what is fetched, and the end of what serves it.
pub(super) struct Directory(pub(super) PathBuf, pub(super) CancellationToken);

impl Drop for Directory {
    fn drop(&mut self) {
        self.1.cancel();
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "could not remove the scratch of a pull");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_camera_holds_no_password() {
        let url = Url::parse("rtsp://admin:hunter2@10.0.0.1/x?key=s3cret").unwrap();
        let said =
            "[error] rtsp://admin:hunter2@10.0.0.1/x?key=s3cret: Connection refused (hunter2, key=s3cret)";
        let told = veiled(said, &url);
        assert_eq!(told, "[error] the source: Connection refused (…, …)");
    }
}
