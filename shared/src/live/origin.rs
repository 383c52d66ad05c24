//! How edges ask an origin.

use crate::ids::LivestreamId;
use crate::media::live::names::LiveFile;

/// The header that holds the pass of an origin.
pub const PASS_HEADER: &str = "x-reelmill-pass";

/// The path of the feed of a livestream: lines of JSON, each a [`crate::media::live::window::Message`].
pub fn feed(livestream: LivestreamId) -> String {
    format!("/origin/{livestream}/feed")
}

/// The path of a file of a livestream.
pub fn file(livestream: LivestreamId, file: &LiveFile) -> String {
    format!("/origin/{livestream}/{file}")
}
