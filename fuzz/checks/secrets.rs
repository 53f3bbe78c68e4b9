//! Keys: one line is the key, the rest is what somebody says.
//!
//! What comes out of the redaction never holds the key, and is what came in wherever the key does not stand.

use overnight::engine::Secret;

/// Checks a key and a text.
pub fn check(data: &[u8]) {
    let (key, text) = super::halves(data);
    let Ok(key) = std::str::from_utf8(key) else { return };
    let secret = Secret::new(key);
    let key = key.trim();
    assert!(!format!("{secret:?}").contains(key) || "[key]".contains(key));
    assert_eq!(secret.expose(), key);
    let stands_there = key.len() >= 12 && holds(text, key.as_bytes());
    match secret.redact(text) {
        None => assert!(!stands_there),
        Some(clean) => {
            assert!(stands_there);
            assert!(!holds(&clean, key.as_bytes()), "the key stands in {clean:?}");
            assert!(clean.len() <= text.len());
        }
    }
}

/// The oracle.
fn holds(text: &[u8], key: &[u8]) -> bool {
    !key.is_empty() && text.windows(key.len()).any(|window| window == key)
}
