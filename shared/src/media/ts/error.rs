//! What keeps a segment from becoming MPEG-TS.

use crate::media::cmaf::CmafError;

/// Why a segment was not made. All of them are final: the same bytes give the same error again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TsError {
    #[error(transparent)]
    Cmaf(#[from] CmafError),
    /// There is no mapping for it, or none that players know.
    #[error("MPEG-TS cannot carry {0}")]
    Codec(String),
    /// An init segment of sound where one of pictures is due, or the other way round.
    #[error("the {0} track is none")]
    Kind(&'static str),
    /// Neither pictures nor sound.
    #[error("there is nothing to put into the segment")]
    Empty,
    #[error("a sample does not read: {0}")]
    Sample(&'static str),
    /// Longer than any segment of ours, in whatever way.
    #[error("the segment is too long: {0}")]
    TooLong(&'static str),
}
