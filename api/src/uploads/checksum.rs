//! What a request says its bytes hash to, and what they do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Terms;

/// A digest a client sent along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checksum {
    Sha1(Vec<u8>),
    Sha256(Vec<u8>),
}

impl Checksum {
    /// The algorithms, as tus lists them.
    pub(crate) const ALGORITHMS: &str = "sha1,sha256";

    /// Reads an `Upload-Checksum`: the algorithm and the digest in base64.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (algorithm, digest) = text.split_once(' ')?;
        let digest = STANDARD.decode(digest.trim()).ok()?;
        match algorithm {
            "sha1" => Some(Self::Sha1(digest)),
            "sha256" => Some(Self::Sha256(digest)),
            _ => None,
        }
    }
}

/// Digests of bytes as they come. SHA-256 always: it names a source.
#[derive(Clone)]
pub(super) struct Digests {
    sha256: Sha256,
    sha1: Option<Sha1>,
}

impl Digests {
    pub(super) fn new(terms: &Terms) -> Self {
        Self {
            sha256: Sha256::new(),
            sha1: matches!(terms, Terms::Checked(Checksum::Sha1(_))).then(Sha1::new),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
    }

    pub(super) fn sha256(self) -> [u8; 32] {
        self.sha256.finalize().into()
    }

    /// Is this what the client said?
    pub(super) fn are(&self, wanted: &Checksum) -> bool {
        match wanted {
            Checksum::Sha256(wanted) => self.sha256.clone().finalize().as_slice() == wanted,
            Checksum::Sha1(wanted) => {
                let sha1 = self.sha1.clone().map(|hash| hash.finalize().to_vec());
                sha1.as_ref() == Some(wanted)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_compared_by_their_algorithm() {
        // Of no bytes at all, by sha1sum and sha256sum.
        let sha1 = Checksum::parse("sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=").unwrap();
        let sha256 = Checksum::parse("sha256 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=").unwrap();
        for right in [sha1, sha256] {
            let mut digests = Digests::new(&Terms::Checked(right.clone()));
            assert!(digests.are(&right));
            digests.update(b"x");
            assert!(!digests.are(&right));
        }
        for bad in ["", "sha1", "md5 AAAA", "sha1 %%", "SHA1 AAAA"] {
            assert_eq!(Checksum::parse(bad), None, "{bad}");
        }
    }
}
