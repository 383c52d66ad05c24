//! Surrogate keys: names of things in the headers of what is made of them, by which a CDN forgets all of it at once.

use std::fmt;

use crate::ids::{BroadcastId, LivestreamId, PlaybackSessionId, RecordingId, SetId};

/// Fastly, and Varnish with `xkey.purge` of this header: separated by spaces.
pub const SURROGATE_KEY: &str = "surrogate-key";
/// Cloudflare: separated by commas.
pub const CACHE_TAG: &str = "cache-tag";
/// Akamai: the same.
pub const EDGE_CACHE_TAG: &str = "edge-cache-tag";

/// A name. Letters, digits and hyphens: all CDNs take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SurrogateKey {
    /// All that is made of a recording.
    Recording(RecordingId),
    /// Its playlists, manifests and pictures of its time line: what another encoding takes the place of.
    Listings(RecordingId),
    /// What was made by one encoding.
    Set(SetId),
    /// All of a livestream, its broadcasts included.
    Livestream(LivestreamId),
    Broadcast(BroadcastId),
    /// What a playback session plays.
    Session(PlaybackSessionId),
}

impl fmt::Display for SurrogateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recording(id) => write!(f, "recording-{id}"),
            Self::Listings(id) => write!(f, "listings-{id}"),
            Self::Set(id) => write!(f, "set-{id}"),
            Self::Livestream(id) => write!(f, "livestream-{id}"),
            Self::Broadcast(id) => write!(f, "broadcast-{id}"),
            Self::Session(id) => write!(f, "session-{id}"),
        }
    }
}

/// Keys as a header lists them.
pub fn listed(keys: &[SurrogateKey], separator: &str) -> String {
    keys.iter().map(SurrogateKey::to_string).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_words_that_every_cdn_takes() {
        let keys = [SurrogateKey::Recording(RecordingId::new()), SurrogateKey::Set(SetId::new())];
        let text = listed(&keys, " ");
        assert_eq!(text.split(' ').count(), 2);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b' '), "{text}");
        assert!(keys.iter().all(|key| key.to_string().len() < 128), "{text}");
    }
}
