//! What a worker must have proven to be given a task.

use std::collections::BTreeSet;
use std::fmt;

use super::state::words;

words! {
    /// A kind of worker.
    Pool("pool") {
        Cpu = "cpu",
        Gpu = "gpu",
        Live = "live",
    }
}

words! {
    /// Something a worker proves at boot by doing it once.
    Capability("capability") {
        /// FFmpeg and ffprobe run, and FFmpeg's own AAC encoder works.
        Base = "base",
        Libx264 = "libx264",
    }
}

/// The capabilities one task needs. Tasks of a class share a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Class(BTreeSet<&'static str>);

impl Class {
    /// The class that needs all of `capabilities` besides [`Capability::Base`], which every task needs.
    pub fn of(capabilities: &[Capability]) -> Self {
        Self(capabilities.iter().filter(|cap| **cap != Capability::Base).map(|cap| cap.as_str()).collect())
    }
}

impl fmt::Display for Class {
    /// The words joined by `+`, `base` where nothing special is needed: the form in the database and in queue names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(Capability::Base.as_str());
        }
        let words: Vec<&str> = self.0.iter().copied().collect();
        f.write_str(&words.join("+"))
    }
}
