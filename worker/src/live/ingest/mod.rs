//! Where live media enters. Each way in is a file here; all of them hand over the same: bytes in a container that FFmpeg reads,
//! as they come.

pub(crate) mod pull;
mod relay;
pub(crate) mod rtmp;
pub(crate) mod srt;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use reelmill_shared::auth::seal::Sealer;
use reelmill_shared::db::live::Taken;
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::key::source_seal;
use reelmill_shared::live::spec::LiveSource;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Somebody who publishes to a stream that was taken for it.
pub(crate) struct Publisher {
    pub(crate) taken: Taken,
    /// Who it is, for people.
    pub(crate) address: String,
    /// Ends when the publisher does. It holds few pieces: who cannot be kept up with is slowed down.
    pub(crate) media: mpsc::Receiver<Bytes>,
    /// Cancelled to send it away.
    pub(crate) dismissed: CancellationToken,
    pub(crate) kind: Kind,
    /// Set once all that there is was handed over.
    pub(crate) played_out: Arc<AtomicBool>,
}

/// What follows when nothing comes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The publisher may come back by itself.
    Pushed,
    /// Somebody has to fetch it again.
    Pulled,
    /// That was all.
    Finite,
}

/// Pieces on their way from a publisher to FFmpeg: a second or so.
pub(crate) const PIECES: usize = 64;

/// Where a stream comes from, opened.
///
/// # Errors
/// For people: why it cannot be.
fn open_source(
    sealer: &Sealer,
    livestream: LivestreamId,
    sealed: Option<&[u8]>,
) -> Result<LiveSource, &'static str> {
    let unreadable = "its source cannot be opened: has REELMILL_SECRET_KEY changed?";
    let opened = sealer.open(&source_seal(livestream), sealed.ok_or("it has no source")?);
    serde_json::from_slice(&opened.map_err(|_| unreadable)?).map_err(|_| unreadable)
}
