//! Secrets and signatures: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use rand::RngCore;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::auth::seal::{SealError, Sealer};
use crate::ids::WebhookId;

const PREFIX: &str = "whsec_";
/// Bytes of a secret, by the specification.
const SIZES: std::ops::RangeInclusive<usize> = 24..=64;
const NEW: usize = 32;
/// How far the clocks of sender and receiver may be apart, in seconds.
const TOLERANCE: i64 = 300;

/// Some generators leave the padding out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What sender and receiver share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// A text that is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be whsec_ and the base64 of 24 to 64 bytes")]
pub struct BadSecret;

/// Why a message is not to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("its timestamp does not read, or is more than five minutes away")]
    Timestamp,
    #[error("no signature of it fits")]
    Signature,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one of 32 random bytes.
    pub fn random() -> Self {
        let mut bytes = vec![0; NEW];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The secret as its receiver needs it. To be shown once.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// What is kept of it, which opens for this webhook alone.
    ///
    /// # Errors
    /// There is no key to seal with.
    pub fn seal(&self, sealer: &Sealer, webhook: WebhookId) -> Result<Vec<u8>, SealError> {
        sealer.seal(&place(webhook), &self.0)
    }

    /// Opens what [`Secret::seal`] gave.
    ///
    /// # Errors
    /// It was sealed by another key, or for another webhook.
    pub fn open(sealer: &Sealer, webhook: WebhookId, sealed: &[u8]) -> Result<Self, SealError> {
        sealer.open(&place(webhook), sealed).map(Self)
    }

    /// What is kept, sealed anew; `None` where the newest key sealed it already.
    ///
    /// # Errors
    /// As [`Secret::open`].
    pub fn reseal(sealer: &Sealer, webhook: WebhookId, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        if sealer.is_current(&place(webhook), sealed) {
            return Ok(None);
        }
        Self::open(sealer, webhook, sealed)?.seal(sealer, webhook).map(Some)
    }

    /// The signature of one attempt; `timestamp` in Unix seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.digest(id, timestamp, body)))
    }

    fn digest(&self, id: &str, timestamp: i64, body: &[u8]) -> [u8; 32] {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        hmac.update(format!("{id}.{timestamp}.").as_bytes());
        hmac.update(body);
        hmac.finalize().into_bytes().into()
    }
}

fn place(webhook: WebhookId) -> String {
    format!("webhook:{webhook}")
}

impl FromStr for Secret {
    type Err = BadSecret;

    fn from_str(text: &str) -> Result<Self, BadSecret> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| LENIENT.decode(text).ok());
        bytes.filter(|bytes| SIZES.contains(&bytes.len())).map(Self).ok_or(BadSecret)
    }
}

/// Checks what came with the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, as a receiver has to.
/// `now` in Unix seconds.
///
/// # Errors
/// [`Unverified`]; then nothing of the message is to be believed.
pub fn verify(
    secret: &Secret,
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: i64,
) -> Result<(), Unverified> {
    let timestamp: i64 = timestamp.parse().map_err(|_| Unverified::Timestamp)?;
    if now.abs_diff(timestamp) > TOLERANCE.unsigned_abs() {
        return Err(Unverified::Timestamp);
    }
    let expected = secret.digest(id, timestamp, body);
    let fits = signatures
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .any(|text| STANDARD.decode(text).is_ok_and(|given| bool::from(given.as_slice().ct_eq(&expected))));
    if fits { Ok(()) } else { Err(Unverified::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    const EXAMPLE: (&str, &str, i64, &str, &str) = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    );

    #[test]
    fn a_known_message_gets_its_known_signature() {
        let (secret, id, timestamp, body, signature) = EXAMPLE;
        let secret: Secret = secret.parse().unwrap();
        assert_eq!(secret.sign(id, timestamp, body.as_bytes()), signature);
        assert_eq!(secret.expose(), EXAMPLE.0);
        let check = |id: &str, time: &str, signatures: &str, body: &str, now: i64| {
            verify(&secret, id, time, signatures, body.as_bytes(), now)
        };
        let time = timestamp.to_string();
        check(id, &time, signature, body, timestamp + 300).unwrap();
        check(id, &time, &format!("v1,AAAA v2,x {signature}"), body, timestamp).unwrap();
        assert_eq!(check("other", &time, signature, body, timestamp), Err(Unverified::Signature));
        assert_eq!(check(id, &time, signature, "{}", timestamp), Err(Unverified::Signature));
        assert_eq!(check(id, &time, "", body, timestamp), Err(Unverified::Signature));
        assert_eq!(check(id, &time, signature, body, timestamp + 301), Err(Unverified::Timestamp));
        assert_eq!(check(id, &time, signature, body, timestamp - 301), Err(Unverified::Timestamp));
        assert_eq!(check(id, "soon", signature, body, timestamp), Err(Unverified::Timestamp));
        assert_eq!(check(id, &i64::MIN.to_string(), signature, body, 1), Err(Unverified::Timestamp));
    }

    #[test]
    fn secrets_have_their_form() {
        let secret = Secret::random();
        assert_eq!(secret.expose().parse(), Ok(secret.clone()));
        assert!(!format!("{secret:?}").contains(&secret.expose()));
        for bytes in [23, 65] {
            let text = format!("{PREFIX}{}", STANDARD.encode(vec![0; bytes]));
            assert_eq!(text.parse::<Secret>(), Err(BadSecret), "{bytes} bytes");
        }
        let unpadded = "whsec_".to_owned() + STANDARD.encode([7; 32]).trim_end_matches('=');
        assert_eq!(unpadded.parse(), Ok(Secret(vec![7; 32])));
        assert!("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse::<Secret>().is_err());
        assert!("whsec_%%%".parse::<Secret>().is_err());
    }

    #[test]
    fn what_is_kept_opens_for_its_webhook_and_outlives_its_key() {
        let (secret, webhook) = (Secret::random(), WebhookId::new());
        let [a, b] = ["a".repeat(32), "b".repeat(32)];
        let old = Sealer::new(&[&a]);
        let sealed = secret.seal(&old, webhook).unwrap();
        assert_eq!(Secret::open(&old, webhook, &sealed), Ok(secret.clone()));
        assert!(Secret::open(&old, WebhookId::new(), &sealed).is_err());
        assert_eq!(Secret::reseal(&old, webhook, &sealed), Ok(None));
        let both = Sealer::new(&[&b, &a]);
        let anew = Secret::reseal(&both, webhook, &sealed).unwrap().unwrap();
        assert_eq!(Secret::open(&Sealer::new(&[&b]), webhook, &anew), Ok(secret));
    }
}
