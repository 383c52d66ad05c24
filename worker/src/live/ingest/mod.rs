//! Where live media enters. Each way in is a file here; all of them hand over the same: bytes in a container that FFmpeg reads,
//! as they come.

pub(crate) mod pull;
pub(crate) mod rtmp;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use reelmill_shared::db::live::Taken;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Somebody who publishes to a stream that was taken for it.
pub(crate) struct Publisher {
    pub(crate) taken: Taken,
    /// Who it is, for people.
    pub(crate) address: String,
    pub(crate) container: Container,
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

/// What the bytes of a publisher are wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Flv,
    Matroska,
}

impl Container {
    /// FFmpeg's name of it.
    pub(crate) fn format(self) -> &'static str {
        match self {
            Self::Flv => "flv",
            Self::Matroska => "matroska",
        }
    }
}

/// Pieces on their way from a publisher to FFmpeg: a second or so.
pub(crate) const PIECES: usize = 64;
