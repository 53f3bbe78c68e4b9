//! Keys: one line is the key, the rest is what somebody says.
//!
//! What comes out of the redaction never holds the key, and is what came in wherever neither the key stands nor anything
//! that could be a disguise of it.

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
            let is_short = key.len() < 12 && holds(text, key.as_bytes());
            assert!(stands_there || is_short || may_be_disguised(text, key.len()));
            assert!(!holds(&clean, key.as_bytes()), "the key stands in {clean:?}");
            assert!(clean.len() <= text.len());
        }
    }
}

/// Says whether a text has an escape in it, or a run that is long enough to be a key's base64.
fn may_be_disguised(text: &[u8], key: usize) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    text.iter().any(|byte| b"\\%&".contains(byte))
        || text.split(|byte| !is_digit(byte)).any(|run| run.len() + 4 >= key)
}

/// The oracle.
fn holds(text: &[u8], key: &[u8]) -> bool {
    !key.is_empty() && text.windows(key.len()).any(|window| window == key)
}
