//! How edges ask an origin.

use serde::{Deserialize, Serialize};

use crate::ids::LivestreamId;
use crate::media::live::names::LiveFile;

/// The header that holds the pass of an origin.
pub const PASS_HEADER: &str = "x-reelmill-pass";

/// The path of the feed of a livestream: lines of JSON, each a [`crate::media::live::window::Message`].
pub fn feed(livestream: LivestreamId) -> String {
    format!("/origin/{livestream}/feed")
}

/// The path of the newest picture of a livestream.
pub fn thumbnail(livestream: LivestreamId) -> String {
    format!("/origin/{livestream}/thumbnail")
}

/// The path of a file of a livestream.
pub fn file(livestream: LivestreamId, file: &LiveFile) -> String {
    format!("/origin/{livestream}/{file}")
}

/// The path at which whoever took a livestream asks the one that had it to finish: `POST` with a [`GiveWay`], answered with a [`Given`].
pub fn give_way(livestream: LivestreamId) -> String {
    format!("/origin/{livestream}/give-way")
}

/// What is said to whoever carried a livestream until now.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GiveWay {
    /// Of whoever took it.
    pub epoch: i32,
}

/// All that was published is in the index.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Given {
    /// The first number that was not used.
    pub next_number: u64,
}
