//! Token counts with OpenAI's `o200k_base`, and cutting a text at a token's edge.

use super::completion::Turn;

/// Tokens that frame each message: its start, the end of its role, its end.
const PER_MESSAGE: u64 = 3;
/// Tokens that open the reply.
const PER_REPLY: u64 = 3;
/// Tokens that an image, a sound or a file counts for: an image's at low detail.
const PER_MEDIUM: u64 = 85;

fn o200k() -> &'static tiktoken::CoreBpe {
    tiktoken::get_encoding("o200k_base").expect("the vocabulary is compiled in")
}

/// Counts the tokens of a text.
pub(super) fn count(text: &str) -> u64 {
    o200k().count(text) as u64
}

/// Counts the tokens of a prompt as OpenAI's cookbook does.
pub(super) fn count_prompt(turns: &[Turn<'_>]) -> u64 {
    let turns = turns.iter().map(|turn| {
        let name = turn.name.map_or(0, |name| count(name) + 1);
        let texts: u64 = turn.texts.iter().map(|text| count(text)).sum();
        PER_MESSAGE + count(turn.role) + name + texts + PER_MEDIUM * turn.media
    });
    turns.sum::<u64>() + PER_REPLY
}

/// Cuts `text` to its first `most` tokens; `None` if it has no more than that.
///
/// A token can end inside a character; that character is left out.
pub(super) fn cut(text: &str, most: u64) -> Option<String> {
    let tokens = o200k().encode(text);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let kept = tokens.get(..most).filter(|kept| kept.len() < tokens.len())?;
    let bytes = o200k().decode(kept);
    let whole = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
    Some(String::from_utf8_lossy(&bytes[..whole]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_o200k() {
        // tiktoken: len(get_encoding("o200k_base").encode("hello world")) == 2
        assert_eq!(count("hello world"), 2);
        assert_eq!(count(""), 0);
        // Three for the frame, one for `user`, two for the text, three for the reply.
        let turn = Turn { role: "user", name: None, texts: vec!["hello world"], media: 0 };
        assert_eq!(count_prompt(&[turn]), 9);
    }

    #[test]
    fn a_cut_text_is_a_prefix_with_no_more_tokens() {
        let text = "The delivery was late. 배송이 늦었지만 상품은 훌륭했어요 🦀🦀🦀.";
        let all = count(text);
        assert_eq!(cut(text, all), None);
        for most in 0..all {
            let kept = cut(text, most).unwrap();
            assert!(text.starts_with(&kept), "{kept}");
            assert!(kept.len() < text.len());
        }
        assert_eq!(cut(text, 0).unwrap(), "");
    }
}
