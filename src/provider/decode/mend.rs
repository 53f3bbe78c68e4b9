//! Second reading of a body that is nearly JSON.
//!
//! Some servers cut a text in the middle of a character and send half of it: bytes that are not
//! UTF-8, or one half of a surrogate pair. Such a reply was paid for; the half becomes U+FFFD and
//! the rest is kept. The raw bytes on record stay as they came.

/// Returns the body with broken characters replaced, or `None` if it has none.
pub(in crate::provider) fn mended(body: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(body);
    let mended = without_lone_surrogates(text.as_bytes());
    (mended != body).then_some(mended)
}

/// The length of `\uXXXX`.
const ESCAPE: usize = 6;

fn without_lone_surrogates(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let length = match (byte, unit(text, at)) {
            (b'\\', Some(0xD800..=0xDBFF)) => match unit(text, at + ESCAPE) {
                Some(0xDC00..=0xDFFF) => 2 * ESCAPE,
                _ => 0,
            },
            (b'\\', Some(0xDC00..=0xDFFF)) => 0,
            (b'\\', _) => 2,
            _ => 1,
        };
        if length == 0 {
            out.extend_from_slice(b"\\ufffd");
            at += ESCAPE;
        } else {
            let end = text.len().min(at + length);
            out.extend_from_slice(&text[at..end]);
            at = end;
        }
    }
    out
}

/// Returns the code unit that the escape at `at` stands for, if there is one.
fn unit(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(text: &str) -> Option<String> {
        mended(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn only_broken_characters_are_replaced() {
        assert_eq!(mend(r#""\ud83d\ude00 \\ud83d \u00e9 ok""#), None);
        assert_eq!(mend(r#""a\ud83d""#).as_deref(), Some(r#""a\ufffd""#));
        assert_eq!(
            mend(r#""\ude00\ud83d\ud83d\ude00""#).as_deref(),
            Some(r#""\ufffd\ufffd\ud83d\ude00""#)
        );
        assert_eq!(mend(r#""\ud83d\n""#).as_deref(), Some(r#""\ufffd\n""#));
        assert_eq!(mend("\\"), None);
        assert_eq!(mend("\\u12"), None);
        assert_eq!(mended(b"\"a\xf0\x9f\""), Some("\"a\u{fffd}\"".into()));
    }
}
