//! Wire types: what bodies look like. Made from rows by explicit conversions, never the rows themselves.

pub(crate) mod dry_run;
pub(crate) mod edit;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod profile;
pub(crate) mod recording;
pub(crate) mod transcode;
pub(crate) mod webhook;
pub(crate) mod worker;

use serde::Serialize;
use utoipa::ToSchema;

/// A rendition as one file.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DownloadDto {
    /// Of the rendition, or `best`.
    #[schema(example = "720p")]
    pub(crate) name: String,
    /// Of the picture, in pixels.
    pub(crate) height: Option<u32>,
    pub(crate) url: String,
}

/// Why something failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorDto {
    /// A stable word.
    #[schema(example = "not_media")]
    pub(crate) reason: String,
    /// A plain sentence.
    pub(crate) message: String,
    /// True where another attempt may succeed.
    pub(crate) retryable: bool,
}

impl From<reelmill_shared::job::error::TaskError> for ErrorDto {
    fn from(error: reelmill_shared::job::error::TaskError) -> Self {
        Self { reason: error.reason.to_string(), message: error.message, retryable: error.retryable }
    }
}
