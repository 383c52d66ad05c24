//! Why a task failed, in words for the person who submitted the job.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::state::words;

words! {
    /// What kind of failure it was. The word is stable: clients switch on it.
    Reason("failure reason") {
        /// The input cannot be read as video or audio.
        NotMedia = "not_media",
        /// The input is damaged or incomplete.
        Damaged = "damaged",
        /// The input exceeds a limit of the farm.
        LimitExceeded = "limit_exceeded",
        /// The input lacks what the job needs, such as a video track.
        Unsuitable = "unsuitable",
        /// The input could not be fetched.
        Unreachable = "unreachable",
        /// The object store did not do its part.
        Storage = "storage",
        /// FFmpeg ended with an error.
        Ffmpeg = "ffmpeg",
        /// What was encoded is not what was planned.
        CheckFailed = "check_failed",
        /// A rendition is not as near to its source as the job asks for.
        Quality = "quality",
        /// The task ran longer than its deadline.
        DeadlineExceeded = "deadline_exceeded",
        /// The worker died or lost touch.
        WorkerLost = "worker_lost",
        /// The job was cancelled.
        Cancelled = "cancelled",
        /// A fault of the farm itself.
        Internal = "internal",
    }
}

impl Reason {
    /// True where the input is at fault: another one may succeed, however well the farm does.
    pub fn is_of_the_input(self) -> bool {
        match self {
            Self::NotMedia | Self::Damaged | Self::LimitExceeded | Self::Unsuitable | Self::Unreachable => {
                true
            }
            Self::Storage
            | Self::Ffmpeg
            | Self::CheckFailed
            | Self::Quality
            | Self::DeadlineExceeded
            | Self::WorkerLost
            | Self::Cancelled
            | Self::Internal => false,
        }
    }
}

/// A failure: kept with the attempt, the task and, if it was the last, the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct TaskError {
    pub reason: Reason,
    /// A plain sentence: what was wrong and, where possible, what to do.
    pub message: String,
    /// True where another attempt may succeed.
    pub retryable: bool,
}

impl TaskError {
    /// A failure that another attempt cannot mend: the input is at fault.
    pub fn fatal(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retryable: false }
    }

    /// A failure that may pass.
    pub fn retryable(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retryable: true }
    }

    /// A fault of the farm or its surroundings, with what was being done when it happened.
    pub fn internal(doing: &str, error: impl fmt::Display) -> Self {
        Self::retryable(Reason::Internal, format!("{doing}: {error}"))
    }
}
