//! Wire types: what bodies look like. Made from rows by explicit conversions, never the rows themselves.

pub(crate) mod abr;
pub(crate) mod cdn;
pub(crate) mod dry_run;
pub(crate) mod edit;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod live_history;
pub(crate) mod live_recording;
pub(crate) mod livestream;
pub(crate) mod playback;
pub(crate) mod profile;
pub(crate) mod project;
pub(crate) mod quality;
pub(crate) mod queue;
pub(crate) mod recording;
pub(crate) mod retention;
pub(crate) mod segments;
pub(crate) mod streams;
pub(crate) mod transcode;
pub(crate) mod viewing;
pub(crate) mod webhook;
pub(crate) mod worker;

use reelmill_shared::job::error::{Reason, TaskError};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Tells `null` from nothing.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

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

impl From<TaskError> for ErrorDto {
    fn from(error: TaskError) -> Self {
        Self { reason: error.reason.to_string(), message: error.message, retryable: error.retryable }
    }
}

impl ErrorDto {
    /// For who has no key: the farm's own words may name files, addresses and hosts.
    pub(crate) fn for_viewers(error: &TaskError) -> Self {
        let message = match error.reason {
            Reason::NotMedia => "The file is not video or audio that can be read.",
            Reason::Damaged => "The file is damaged or incomplete.",
            Reason::LimitExceeded => "The file is longer or larger than is allowed here.",
            Reason::Unsuitable => "The file lacks what is needed, such as a picture.",
            Reason::Unreachable => "The file could not be fetched from where it is.",
            Reason::Cancelled => "It was cancelled.",
            Reason::Quality => "It did not turn out as near to its source as was asked for.",
            Reason::Storage
            | Reason::Ffmpeg
            | Reason::CheckFailed
            | Reason::DeadlineExceeded
            | Reason::WorkerLost
            | Reason::Internal => "Something went wrong while it was made.",
        };
        Self { reason: error.reason.to_string(), message: message.to_owned(), retryable: error.retryable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_hear_the_reason_and_nothing_of_the_farm() {
        let error =
            TaskError::fatal(Reason::Unreachable, "cannot read file:///srv/secret/a.mp4: no such file");
        let told = ErrorDto::for_viewers(&error);
        assert_eq!((told.reason.as_str(), told.retryable), ("unreachable", false));
        assert_eq!(told.message, "The file could not be fetched from where it is.");
    }
}
