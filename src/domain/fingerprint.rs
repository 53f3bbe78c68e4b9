//! The fingerprint of a request: which exact bytes were sent.

use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 of a request's body, under the version of the rendering that made the body.
///
/// It reads `r1:` and 64 hex digits. The tag is part of the name: should rendering ever change,
/// new requests carry a new tag, and what the old tag stood for never changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The tag of the rendering that this program makes.
    pub const TAG: &'static str = "r1";

    /// Takes the fingerprint of a body's exact bytes.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", Self::TAG)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    #[test]
    fn a_fingerprint_is_the_sha256_of_the_bytes() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            Fingerprint::of(b"abc").to_string(),
            "r1:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
