//! A provider's words on their way to people: one line, bounded, without keys.

/// The most characters of a message that are kept.
const MAX_CHARS: usize = 500;
/// The most characters of an id or a name that are kept.
const MAX_NAME_CHARS: usize = 200;

/// How eagerly something is taken for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Masking {
    /// What starts as the keys of known providers do.
    Known,
    /// Also any long mixture of letters and digits: the message is about a key.
    Anything,
}

/// Returns `text` on one line, without control characters, keys masked, at most 500 characters.
pub(in crate::provider) fn one_line(text: &str, masking: Masking) -> String {
    let mut line = String::new();
    let mut room = MAX_CHARS;
    let mut after_bearer = false;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if room == 0 {
            break;
        }
        let masking = if after_bearer { Masking::Anything } else { masking };
        after_bearer = word.eq_ignore_ascii_case("bearer");
        if !line.is_empty() {
            line.push(' ');
            room -= 1;
        }
        push_masked(&mut line, &mut room, word, masking);
    }
    if room == 0 {
        line.push('…');
    }
    line
}

/// Returns an id or a name as it may be shown and kept.
pub(in crate::provider) fn short(name: &str) -> String {
    name.chars().filter(|c| !is_unseen(*c)).take(MAX_NAME_CHARS).collect()
}

fn push_masked(line: &mut String, room: &mut usize, word: &str, masking: Masking) {
    for piece in word.split_inclusive(|c| !is_key_char(c)) {
        let core = piece.trim_end_matches(|c| !is_key_char(c));
        let masked = key_prefix(core, masking).map(|prefix| format!("{prefix}***"));
        let tail = &piece[core.len()..];
        for c in masked.as_deref().unwrap_or(core).chars().chain(tail.chars()) {
            if *room == 0 {
                return;
            }
            if !is_unseen(c) {
                line.push(c);
                *room -= 1;
            }
        }
    }
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*')
}

/// Control characters, and those that hide or turn around the text beside them.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// How keys start at `OpenAI` and its like, Groq, xAI, Perplexity, Fireworks, Together, Hugging Face,
/// Google, and in JSON Web Tokens.
const KEY_PREFIXES: [&str; 10] =
    ["sk-", "sk_", "gsk_", "xai-", "pplx-", "fw_", "tgp_", "hf_", "AIza", "eyJ"];

/// Returns what may be shown of a word that looks like a key, or `None` if it does not.
fn key_prefix(word: &str, masking: Masking) -> Option<&'static str> {
    const SHORTEST_KEY: usize = 12;
    const LONG: usize = 20;
    if word.len() < SHORTEST_KEY {
        return None;
    }
    if let Some(prefix) = KEY_PREFIXES.iter().find(|prefix| word.starts_with(**prefix)) {
        return Some(prefix);
    }
    let mixed = || {
        word.bytes().any(|b| b.is_ascii_digit()) && word.bytes().any(|b| b.is_ascii_alphabetic())
    };
    (masking == Masking::Anything && word.len() >= LONG && mixed()).then_some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(text: &str) -> String {
        one_line(text, Masking::Known)
    }

    #[test]
    fn a_message_is_one_bounded_line() {
        assert_eq!(known(" a\r\n\tb\u{1b}[31m \u{202e}c\0 "), "a b [31m c");
        let long = known(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), MAX_CHARS + 1);
        assert!(long.ends_with("é…"));
        assert_eq!(known(&"ab ".repeat(1_000)).chars().count(), MAX_CHARS + 1);
        assert_eq!(known(""), "");
    }

    #[test]
    fn keys_are_masked() {
        assert_eq!(
            known("Incorrect API key provided: sk-proj-Ab12_cd34ef56. You can"),
            "Incorrect API key provided: sk-***. You can"
        );
        assert_eq!(known("key='gsk_0123456789abcdef',x"), "key='gsk_***',x");
        assert_eq!(known("Bearer 0123456789abcdef01234567 is bad"), "Bearer *** is bad");
        assert_eq!(
            known("a sk-learn task-0123456789 org-0123456789abcdef"),
            "a sk-learn task-0123456789 org-0123456789abcdef"
        );
        assert_eq!(one_line("key 0123456789abcdef01234567", Masking::Anything), "key ***");
        assert_eq!(
            one_line("a_long_word_without_digits", Masking::Anything),
            "a_long_word_without_digits"
        );
    }

    #[test]
    fn a_key_at_the_cut_is_masked_too() {
        let text = format!("{} sk-0123456789abcdef", "x".repeat(MAX_CHARS - 8));
        assert!(!known(&text).contains("0123"));
    }
}
