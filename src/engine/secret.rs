//! An API key: held in memory, never shown.
//!
//! A server can repeat the key that it was sent, in a body or in a header, as it is or in the disguises that text
//! takes on its way: JSON's and URLs' escapes, HTML's entities, base64. What it says is kept without it.

mod echo;

use std::fmt;

use self::echo::Echoes;

/// What stands where a key stood.
const MASK: &str = "[key]";

/// A key. Its `Debug` does not show it, and [`Secret::redact`] takes it out of what others say.
#[derive(Clone)]
pub struct Secret {
    key: String,
    echoes: Option<Echoes>,
}

impl Secret {
    /// Takes a key, without the white space that copying brings along.
    pub fn new(key: &str) -> Self {
        let key = key.trim().to_owned();
        let echoes = is_secret(&key).then(|| Echoes::of(&key));
        Self { key, echoes }
    }

    /// Returns the key, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.key
    }

    /// Returns `bytes` without the key, `None` if it does not stand there. A server that echoes
    /// the key must not get it into the record.
    pub fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let echoes = self.echoes.as_ref()?;
        let mut clean = masked(bytes, echoes)?;
        // What stood around a key can come to the key again once the mask is between.
        while let Some(cleaner) = masked(&clean, echoes) {
            clean = cleaner;
        }
        Some(clean)
    }

    /// Returns a text without the key.
    pub fn redact_text(&self, text: &str) -> Option<String> {
        self.redact(text.as_bytes()).map(|clean| String::from_utf8_lossy(&clean).into_owned())
    }
}

/// Says whether a key is one. Short ones are words such as `none` or `EMPTY`, for servers that need no key, and an
/// answer may well hold such a word.
fn is_secret(key: &str) -> bool {
    const LONG: usize = 12;
    const SHORT: usize = 8;
    let has_digit = key.bytes().any(|byte| byte.is_ascii_digit());
    key.len() >= LONG || (key.len() >= SHORT && has_digit)
}

/// Returns `bytes` with the mask in the key's place, `None` if it does not stand there.
fn masked(bytes: &[u8], echoes: &Echoes) -> Option<Vec<u8>> {
    let (mut clean, mut kept, mut at) = (Vec::new(), 0, 0);
    while let Some(found) = echoes.find(&bytes[at..]) {
        clean.extend_from_slice(&bytes[kept..at + found.start]);
        clean.extend_from_slice(MASK.as_bytes());
        at += found.end;
        kept = at;
    }
    if kept == 0 {
        return None;
    }
    clean.extend_from_slice(&bytes[kept..]);
    Some(clean)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "sk-abc/def+GHI=jklmnop9";

    fn clean(text: &str) -> Option<String> {
        Secret::new(KEY).redact_text(text)
    }

    #[test]
    fn a_key_is_not_shown_and_is_taken_out_of_replies() {
        let key = Secret::new(" sk-abcdefghijklmnop \n");
        assert_eq!(format!("{key:?}"), "[key]");
        assert_eq!(format!("{:#?}", Some(&key)), "Some(\n    [key],\n)");
        assert_eq!(key.redact(b"nothing here"), None);
        assert_eq!(
            key.redact(b"bad key sk-abcdefghijklmnop; sk-abcdefghijklmnop!").as_deref(),
            Some(b"bad key [key]; [key]!".as_slice())
        );
        assert_eq!(Secret::new("none").redact(b"none"), None);
        assert_eq!(Secret::new("anything").redact(b"anything"), None, "a word, and no key");
        assert_eq!(Secret::new("passw0rd").redact(b"passw0rd").as_deref(), Some(&b"[key]"[..]));
    }

    #[test]
    fn a_key_in_disguise_is_taken_out_too() {
        for disguised in [
            "sk-abc\\/def+GHI=jklmnop9",
            "\\u0073k-abc\\u002Fdef\\u002bGHI\\u003djklmnop9",
            "\\\\u0073k-abc\\\\/def+GHI=jklmnop9",
            "sk-abc%2Fdef%2BGHI%3Djklmnop9",
            "sk%2dabc%2fdef%2bGHI%3djklmnop%39",
            "sk-abc%252Fdef%252BGHI%253Djklmnop9",
            "sk-abc&#47;def&#x2B;GHI&#x3d;jklmnop9",
            "sk&#45;abc/def&#0043;GHI=jklmnop&#57;",
        ] {
            let text = format!("a {disguised} b");
            assert_eq!(clean(&text).as_deref(), Some("a [key] b"), "{disguised}");
        }
    }

    #[test]
    fn a_key_in_base64_leaves_nothing_that_it_could_be_read_from() {
        // `Bearer KEY`, `user:KEY`, `KEY` and `x:KEY`, by another program.
        for encoded in [
            "QmVhcmVyIHNrLWFiYy9kZWYrR0hJPWprbG1ub3A5",
            "dXNlcjpzay1hYmMvZGVmK0dIST1qa2xtbm9wOQ==",
            "c2stYWJjL2RlZitHSEk9amtsbW5vcDk=",
            "eDpzay1hYmMvZGVmK0dIST1qa2xtbm9wOQ==",
        ] {
            let left = clean(encoded).unwrap();
            assert!(left.contains(MASK) && left.len() < 20, "{left}");
        }
    }

    #[test]
    fn what_is_near_a_key_stays() {
        for text in [
            "sk-abc/def+GHI=jklmnop8",
            "k-abc/def+GHI=jklmnop9",
            "sk-abc%2",
            "sk-abc\\u002",
            "sk-abc&#",
            "\\",
            "%",
            "&#x;",
        ] {
            assert_eq!(clean(text), None, "{text}");
        }
        let twice = format!("sk-abc{KEY}sk-abc");
        assert_eq!(clean(&twice).as_deref(), Some("sk-abc[key]sk-abc"));
    }

    proptest! {
        #[test]
        fn wherever_it_stands_a_key_goes_and_the_rest_stays(
            before in "[a-zA-Z \\\\%&#;\"]{0,20}", after in "[a-zA-Z \\\\%&#;\"]{0,20}", percent in any::<bool>()
        ) {
            let key = match percent {
                true => KEY.bytes().fold(String::new(), |all, byte| all + &format!("%{byte:02X}")),
                false => KEY.to_owned(),
            };
            let left = clean(&format!("{before}{key}{after}")).unwrap();
            prop_assert!(left.starts_with(before.trim_end_matches(['\\', '%', '&', '#'])), "{left}");
            prop_assert!(left.ends_with(&after) && left.contains(MASK));
        }

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            Secret::new(KEY).redact(&bytes);
        }
    }
}
