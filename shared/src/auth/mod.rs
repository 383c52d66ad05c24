//! Keys, scopes and signed tokens.

pub mod seal;
pub mod token;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::job::state::words;

words! {
    /// What a key may do.
    Scope("scope") {
        /// Everything, keys and projects among it.
        Admin = "admin",
        /// Read jobs, recordings, uploads and profiles.
        Read = "read",
        /// Submit, change and delete them.
        Write = "write",
        /// Read live streams.
        LiveRead = "live:read",
        /// Run live streams and see their keys.
        LiveWrite = "live:write",
        /// See workers and queues.
        FleetRead = "fleet:read",
        /// Drain workers, pause queues.
        FleetWrite = "fleet:write",
    }
}

/// Does one of `held` allow what needs `wanted`? `admin` allows everything, writing includes reading.
pub fn allows(held: &[Scope], wanted: Scope) -> bool {
    let implied_by = match wanted {
        Scope::Read => Some(Scope::Write),
        Scope::LiveRead => Some(Scope::LiveWrite),
        Scope::FleetRead => Some(Scope::FleetWrite),
        _ => None,
    };
    held.iter().any(|scope| *scope == wanted || *scope == Scope::Admin || Some(*scope) == implied_by)
}

/// A new API key: 32 random bytes behind a recognisable prefix. Shown once, never kept.
pub fn new_key(live: bool) -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    let prefix = if live { "rm_live_" } else { "rm_dev_" };
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// A new secret for [`token::Signer`].
pub fn new_secret() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of a key. A fast hash is right: the key has 256 bits of its own, nothing to guess.
pub fn hash_key(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub fn same_secret(a: &str, b: &str) -> bool {
    bool::from(a.as_bytes().ct_eq(b.as_bytes()))
}

/// The part of a key that may be shown.
pub fn key_prefix(key: &str) -> String {
    key.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_imply_what_they_should() {
        assert!(allows(&[Scope::Admin], Scope::FleetWrite));
        assert!(allows(&[Scope::Write], Scope::Read));
        assert!(!allows(&[Scope::Read], Scope::Write));
        assert!(!allows(&[Scope::LiveWrite], Scope::Read));
        assert!(!allows(&[], Scope::Read));
    }

    #[test]
    fn keys_differ_and_hash_alike() {
        let key = new_key(true);
        assert!(key.starts_with("rm_live_") && key.len() > 48);
        assert_ne!(key, new_key(true));
        assert_eq!(hash_key(&key), hash_key(&key.clone()));
    }
}
