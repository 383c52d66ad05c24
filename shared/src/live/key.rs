//! Stream keys: who has one may publish.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::ids::LivestreamId;

/// Longer ones are refused unread.
const LONGEST: usize = 128;

/// A stream key. It is shown to holders of `live:write`, and never written to a log.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKey(String);

impl std::fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamKey(…)")
    }
}

impl StreamKey {
    /// A new one: 144 random bits, in letters, digits, `-` and `_`, which stand in any URL.
    pub fn generate() -> Self {
        let mut bytes = [0; 18];
        rand::fill(&mut bytes);
        Self(format!("live_{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What a publisher sent; `None` where it cannot be a key of ours. What follows a `?` is not of the key.
    pub fn from_publisher(text: &str) -> Option<Self> {
        let key = text.split('?').next().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (!key.is_empty() && key.len() <= LONGEST && key.bytes().all(plain)).then(|| Self(key.to_owned()))
    }

    /// The key itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it to find its stream by. A key is random and long, so a plain digest will do.
    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.0.as_bytes()).to_vec()
    }
}

/// The place the key of a livestream is sealed for.
pub fn key_seal(livestream: LivestreamId) -> String {
    format!("livestream {livestream} key")
}

/// The place the source of a livestream is sealed for.
pub fn source_seal(livestream: LivestreamId) -> String {
    format!("livestream {livestream} source")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_a_publisher_with_or_without_a_query() {
        let key = StreamKey::generate();
        for sent in [key.reveal().to_owned(), format!("{}?token=1", key.reveal())] {
            assert_eq!(StreamKey::from_publisher(&sent), Some(key.clone()));
        }
        assert_ne!(StreamKey::generate(), key);
        assert!(!format!("{key:?}").contains(key.reveal()));
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        for text in ["", "?x", "a b", "a/b", "\u{0}", &"a".repeat(129), "ключ"] {
            assert_eq!(StreamKey::from_publisher(text), None, "{text:?}");
        }
    }
}
