//! An API key: held in memory, never shown.

use std::fmt;

/// What stands where a key stood.
const MASK: &str = "[key]";

/// A key. Its `Debug` does not show it, and [`Secret::redact`] takes it out of what others say.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes a key, without the white space that copying brings along.
    pub fn new(key: &str) -> Self {
        Self(key.trim().to_owned())
    }

    /// Returns the key, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns `bytes` without the key, `None` if it does not stand there. A server that echoes
    /// the key must not get it into the record.
    pub fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.as_bytes();
        // Shorter ones are no keys but words such as `none` or `EMPTY`, for servers that need no key.
        if key.len() < 12 {
            return None;
        }
        let mut clean = masked(bytes, key)?;
        // What stood around a key can come to the key again once the mask is between.
        while let Some(cleaner) = masked(&clean, key) {
            clean = cleaner;
        }
        Some(clean)
    }
}

/// Returns `bytes` with the mask in the key's place, `None` if it does not stand there.
fn masked(bytes: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes;
    let mut clean = Vec::new();
    while let Some(at) = find(rest, key) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(MASK.as_bytes());
        rest = &rest[at + key.len()..];
    }
    if rest.len() == bytes.len() {
        return None;
    }
    clean.extend_from_slice(rest);
    Some(clean)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

fn find(bytes: &[u8], key: &[u8]) -> Option<usize> {
    let (first, tail) = key.split_first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
        let at = from + at;
        if bytes[at + 1..].starts_with(tail) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_key_is_not_shown_and_is_taken_out_of_replies() {
        let key = Secret::new(" sk-abcdefghijklmnop \n");
        assert_eq!(format!("{key:?}"), "[key]");
        assert_eq!(key.redact(b"nothing here"), None);
        assert_eq!(
            key.redact(b"bad key sk-abcdefghijklmnop; sk-abcdefghijklmnop!").as_deref(),
            Some(b"bad key [key]; [key]!".as_slice())
        );
        assert_eq!(Secret::new("none").redact(b"none"), None);
    }
}
