//! The states of jobs, tasks and recordings.

/// A word in the database that is no state: the schema and the program disagree.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is not a known {1}")]
pub struct UnknownWord(pub String, pub &'static str);

// The words are `tt`: what passes as a `literal` is hidden from the derives, which would then describe the variants by their Rust names.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident ($what:literal) { $($(#[$vdoc:meta])* $variant:ident = $word:tt),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, ::serde::Serialize, ::serde::Deserialize, ::utoipa::ToSchema,
        )]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::job::state::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|state| state.as_str() == word)
                    .ok_or_else(|| $crate::job::state::UnknownWord(word.to_owned(), $what))
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a job stands. `Succeeded`, `Failed` and `Cancelled` are final.
    JobStatus("job status") {
        Queued = "queued",
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

words! {
    /// Where a task stands. `Blocked` waits for other tasks of its job, `Ready` for a worker.
    TaskStatus("task status") {
        Blocked = "blocked",
        Ready = "ready",
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

words! {
    /// Where a recording stands.
    RecordingStatus("recording status") {
        Pending = "pending",
        Processing = "processing",
        Playable = "playable",
        Ready = "ready",
        Failed = "failed",
    }
}

words! {
    /// How one attempt at a task ended.
    Outcome("attempt outcome") {
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
        /// The lease ran out: the worker died or lost touch.
        Lost = "lost",
        /// Given back by a worker that shuts down; does not count.
        Released = "released",
        Cancelled = "cancelled",
    }
}

words! {
    /// Who may play a recording without a token.
    Access("access") {
        /// Nobody: holders of a key and viewers with a token.
        Private = "private",
        /// Everybody logged in to the project.
        Project = "project",
        Public = "public",
    }
}
