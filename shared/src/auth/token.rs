//! Tokens that prove themselves: a purpose, what they name, when they end, and an HMAC over all of it.

use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// What a token is for. A token of one purpose is worthless for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Playing one recording.
    PlayRecording = 1,
    /// The pages, in a cookie; names an API key.
    Session = 2,
    /// Opening a session by a link; names an API key.
    Login = 3,
    /// Playing one livestream.
    PlayLivestream = 4,
    /// Being counted as one viewer of one recording.
    WatchRecording = 5,
    /// The same of one livestream.
    WatchLivestream = 6,
    /// Playing footage of one playback session.
    PlaySession = 7,
}

/// Signs with the first key, verifies with all: keys rotate without breaking what is out there.
#[derive(Clone)]
pub struct Signer {
    keys: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({} keys)", self.keys.len())
    }
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not one of ours")]
    Invalid,
    #[error("the token has ended")]
    Expired,
}

/// A token that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub subject: Uuid,
    /// Unix seconds.
    pub expires: u64,
    /// How often those of its subject had been taken back when it was given out.
    pub generation: u32,
}

/// What makes a token the only one of its kind.
const NONCE_BYTES: usize = 16;

/// 128 bits are plenty against guessing online, and keep the path short.
const MAC_BYTES: usize = 16;
const BODY_BYTES: usize = 1 + 16 + 8;

impl Signer {
    /// A signer; `keys` must not be empty for it to be of use.
    pub fn new<K: AsRef<[u8]>>(keys: &[K]) -> Self {
        Self { keys: keys.iter().map(|key| key.as_ref().to_vec()).collect() }
    }

    /// A token that ends at `expires` (Unix seconds).
    pub fn sign(&self, purpose: Purpose, subject: Uuid, expires: u64) -> String {
        self.seal(body(purpose, subject, expires))
    }

    /// A token that is like no other, however often one is asked for.
    pub fn sign_unique(&self, purpose: Purpose, subject: Uuid, expires: u64) -> String {
        let mut bytes = body(purpose, subject, expires);
        bytes.extend(rand::random::<[u8; NONCE_BYTES]>());
        self.seal(bytes)
    }

    fn seal(&self, bytes: Vec<u8>) -> String {
        self.seal_of(bytes, 0)
    }

    /// The generation is signed, and does not stand in the token.
    fn seal_of(&self, mut bytes: Vec<u8>, generation: u32) -> String {
        let key = self.keys.first().map(Vec::as_slice).unwrap_or_default();
        let mac = mac(key, &bytes, generation);
        bytes.extend(mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A token that lasts at least `lifetime` and is the same for everybody in the same bucket of time,
    /// so that a CDN sees one URL. `generation`: how often those of the subject were taken back.
    pub fn sign_bucketed(
        &self,
        purpose: Purpose,
        subject: Uuid,
        now: u64,
        lifetime: Duration,
        generation: u32,
    ) -> (String, u64) {
        let bucket = lifetime.as_secs().max(1);
        let expires = (now / bucket + 2) * bucket;
        (self.seal_of(body(purpose, subject, expires), generation), expires)
    }

    /// Checks a token at `now` (Unix seconds).
    ///
    /// # Errors
    /// It is forged, mangled, of another purpose, or over.
    pub fn verify(&self, purpose: Purpose, token: &str, now: u64) -> Result<Verified, TokenError> {
        self.open(purpose, token, now, 0, |_| 0..=0)
    }

    /// The same where those of a subject may have been taken back: of these generations it is good.
    ///
    /// # Errors
    /// As of [`Self::verify`]; one that was taken back is [`TokenError::Invalid`].
    pub fn verify_generation(
        &self,
        purpose: Purpose,
        token: &str,
        now: u64,
        good: impl Fn(Uuid) -> RangeInclusive<u32>,
    ) -> Result<Verified, TokenError> {
        self.open(purpose, token, now, 0, good)
    }

    /// The same of a token that is like no other.
    ///
    /// # Errors
    /// As of [`Self::verify`].
    pub fn verify_unique(&self, purpose: Purpose, token: &str, now: u64) -> Result<Verified, TokenError> {
        self.open(purpose, token, now, NONCE_BYTES, |_| 0..=0)
    }

    fn open(
        &self,
        purpose: Purpose,
        token: &str,
        now: u64,
        nonce: usize,
        good: impl Fn(Uuid) -> RangeInclusive<u32>,
    ) -> Result<Verified, TokenError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Invalid)?;
        let Some((body, given)) = bytes.split_at_checked(BODY_BYTES + nonce) else {
            return Err(TokenError::Invalid);
        };
        let ([found], rest) = body.split_at(1) else {
            return Err(TokenError::Invalid);
        };
        let (subject, rest) = rest.split_at(16);
        let subject = Uuid::from_slice(subject).map_err(|_| TokenError::Invalid)?;
        let signed = |generation: &u32| {
            self.keys.iter().any(|key| bool::from(mac(key, body, *generation).as_slice().ct_eq(given)))
        };
        let generation = good(subject).find(signed).ok_or(TokenError::Invalid)?;
        if *found != purpose as u8 {
            return Err(TokenError::Invalid);
        }
        let (expires, _) = rest.split_at(8);
        let expires = u64::from_be_bytes(expires.try_into().map_err(|_| TokenError::Invalid)?);
        if now >= expires { Err(TokenError::Expired) } else { Ok(Verified { subject, expires, generation }) }
    }
}

fn body(purpose: Purpose, subject: Uuid, expires: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BODY_BYTES + NONCE_BYTES + MAC_BYTES);
    bytes.push(purpose as u8);
    bytes.extend(subject.as_bytes());
    bytes.extend(expires.to_be_bytes());
    bytes
}

fn mac(key: &[u8], body: &[u8], generation: u32) -> [u8; MAC_BYTES] {
    let mut hmac =
        Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    hmac.update(body);
    if generation > 0 {
        hmac.update(&generation.to_be_bytes());
    }
    let full = hmac.finalize().into_bytes();
    let mut short = [0; MAC_BYTES];
    short.copy_from_slice(&full[..MAC_BYTES]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_back_is_not_one_of_ours() {
        let signer = Signer::new(&["a".repeat(32)]);
        let subject = Uuid::now_v7();
        let life = Duration::from_secs(100);
        let given = |generation| signer.sign_bucketed(Purpose::PlayRecording, subject, 0, life, generation).0;
        let good = |token: &str, generations: RangeInclusive<u32>| {
            let good = |found| {
                assert_eq!(found, subject);
                generations.clone()
            };
            signer.verify_generation(Purpose::PlayRecording, token, 99, good).map(|it| it.generation)
        };
        // As before there were generations.
        assert_eq!(given(0), signer.sign(Purpose::PlayRecording, subject, 200));
        assert_eq!((good(&given(0), 0..=1), good(&given(1), 0..=1)), (Ok(0), Ok(1)));
        assert_eq!(good(&given(0), 1..=2), Err(TokenError::Invalid));
        assert_eq!(good(&given(3), 1..=2), Err(TokenError::Invalid));
        assert_eq!(signer.verify(Purpose::PlayRecording, &given(1), 99), Err(TokenError::Invalid));
    }

    #[test]
    fn only_the_right_token_passes() {
        let signer = Signer::new(&["a".repeat(32)]);
        let subject = Uuid::now_v7();
        let token = signer.sign(Purpose::PlayRecording, subject, 100);
        assert_eq!(signer.verify(Purpose::PlayRecording, &token, 99).unwrap().subject, subject);
        assert_eq!(signer.verify(Purpose::PlayRecording, &token, 100), Err(TokenError::Expired));
        assert_eq!(signer.verify(Purpose::Session, &token, 0), Err(TokenError::Invalid));
        for bad in ["", "x", &token[1..], &token.to_uppercase(), &format!("{token}A")] {
            assert_eq!(signer.verify(Purpose::PlayRecording, bad, 0), Err(TokenError::Invalid), "{bad}");
        }
        let other = Signer::new(&["b".repeat(32)]);
        assert_eq!(other.verify(Purpose::PlayRecording, &token, 0), Err(TokenError::Invalid));
    }

    #[test]
    fn a_rotated_key_still_verifies() {
        let old = Signer::new(&["a".repeat(32)]);
        let new = Signer::new(&["b".repeat(32), "a".repeat(32)]);
        let token = old.sign(Purpose::Session, Uuid::nil(), 10);
        assert!(new.verify(Purpose::Session, &token, 0).is_ok());
    }

    /// Caches leave out the rest, which says until when, and is signed.
    #[test]
    fn the_first_23_characters_name_what_a_token_opens() {
        let signer = Signer::new(&["a".repeat(32)]);
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        let name = |purpose, subject, expires| signer.sign(purpose, subject, expires)[..23].to_owned();
        let long_after = u64::from(u32::MAX) << 24;
        let named = name(Purpose::PlayRecording, one, 100);
        assert_eq!(named, name(Purpose::PlayRecording, one, long_after));
        assert_ne!(named, name(Purpose::PlayRecording, other, 100));
        assert_ne!(named, name(Purpose::PlayLivestream, one, 100));
        // The last bit of what is named counts, too.
        let next = Uuid::from_u128(one.as_u128() ^ 1);
        assert_ne!(named, name(Purpose::PlayRecording, next, 100));
    }

    #[test]
    fn unique_tokens_are_each_their_own() {
        let signer = Signer::new(&["a".repeat(32)]);
        let subject = Uuid::now_v7();
        let sign = || signer.sign_unique(Purpose::WatchRecording, subject, 100);
        let (one, other) = (sign(), sign());
        assert_ne!(one, other);
        let verify = |token: &str, now| signer.verify_unique(Purpose::WatchRecording, token, now);
        assert_eq!(verify(&one, 99), Ok(Verified { subject, expires: 100, generation: 0 }));
        assert_eq!(verify(&one, 100), Err(TokenError::Expired));
        let plain = signer.sign(Purpose::WatchRecording, subject, 100);
        let mangled = format!("{}{}", &one[..60], &other[60..]);
        for bad in [plain.as_str(), &mangled, &one[4..], ""] {
            assert_eq!(verify(bad, 0), Err(TokenError::Invalid), "{bad}");
        }
        assert_eq!(signer.verify_unique(Purpose::WatchLivestream, &one, 0), Err(TokenError::Invalid));
        assert_eq!(signer.verify(Purpose::WatchRecording, &one, 0), Err(TokenError::Invalid));
    }

    #[test]
    fn a_bucket_shares_one_token_that_lasts() {
        let signer = Signer::new(&["a".repeat(32)]);
        let life = Duration::from_secs(100);
        let (a, expires) = signer.sign_bucketed(Purpose::PlayRecording, Uuid::nil(), 1000, life, 0);
        let (b, _) = signer.sign_bucketed(Purpose::PlayRecording, Uuid::nil(), 1099, life, 0);
        assert_eq!(a, b);
        assert!(expires >= 1099 + 100);
    }
}
