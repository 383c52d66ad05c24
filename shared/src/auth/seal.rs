//! Sealing: what has to be kept and read again, but not by whoever finds a copy of the database.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Seals with the first key, opens with all: keys rotate without losing what was sealed before.
#[derive(Clone)]
pub struct Sealer {
    keys: Vec<[u8; 32]>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({} keys)", self.keys.len())
    }
}

/// The sealed bytes are damaged, from elsewhere, or their key is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what was sealed cannot be opened")]
pub struct SealError;

impl Sealer {
    /// A sealer; `secrets` must not be empty for it to be of use.
    pub fn new<K: AsRef<[u8]>>(secrets: &[K]) -> Self {
        Self { keys: secrets.iter().map(|secret| derived(secret.as_ref())).collect() }
    }

    /// Seals `plain` for one place: what is moved elsewhere does not open.
    ///
    /// # Errors
    /// There is no key, or `plain` is too long to seal.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.keys.first().ok_or(SealError)?;
        let mut sealed = plain.to_vec();
        let nonce =
            cipher(key)?.seal_in_place_append_tag(Aad::from(place), &mut sealed).map_err(|_| SealError)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// True where the first key sealed this, so that it opens when the others are gone.
    pub fn is_current(&self, place: &str, sealed: &[u8]) -> bool {
        let first = Self { keys: self.keys.iter().take(1).copied().collect() };
        first.open(place, sealed).is_ok()
    }

    /// The same sealed by the first key; `None` where that has sealed it already.
    ///
    /// # Errors
    /// As [`Sealer::open`].
    pub fn reseal(&self, place: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        if self.is_current(place, sealed) {
            return Ok(None);
        }
        self.seal(place, &self.open(place, sealed)?).map(Some)
    }

    /// Opens what [`Sealer::seal`] gave for the same place.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError)?;
        self.keys
            .iter()
            .find_map(|key| {
                let mut bytes = sealed.to_vec();
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let plain = cipher(key).ok()?.open_in_place(nonce, Aad::from(place), &mut bytes);
                plain.ok().map(|plain| plain.to_vec())
            })
            .ok_or(SealError)
    }
}

/// Not the secret itself: that signs tokens, and one key should do one thing.
fn derived(secret: &[u8]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    hmac.update(b"reelmill: sealing");
    hmac.finalize().into_bytes().into()
}

fn cipher(key: &[u8; 32]) -> Result<RandomizedNonceKey, SealError> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_and_place_open() {
        let sealer = Sealer::new(&["a".repeat(32)]);
        let sealed = sealer.seal("here", b"secret").unwrap();
        assert_eq!(sealer.open("here", &sealed).unwrap(), b"secret");
        assert_eq!(sealer.open("there", &sealed), Err(SealError));
        assert_eq!(sealer.open("here", &sealed[..sealed.len() - 1]), Err(SealError));
        assert_eq!(sealer.open("here", b""), Err(SealError));
        assert_ne!(sealer.seal("here", b"secret").unwrap(), sealed, "the same twice would tell");
        let rotated = Sealer::new(&["b".repeat(32), "a".repeat(32)]);
        assert_eq!(rotated.open("here", &sealed).unwrap(), b"secret");
        let anew = rotated.reseal("here", &sealed).unwrap().unwrap();
        assert_eq!(Sealer::new(&["b".repeat(32)]).open("here", &anew).unwrap(), b"secret");
        assert_eq!(rotated.reseal("here", &anew), Ok(None));
        assert_eq!(rotated.reseal("there", &anew), Err(SealError));
        assert_eq!(Sealer::new(&["b".repeat(32)]).open("here", &sealed), Err(SealError));
    }
}
