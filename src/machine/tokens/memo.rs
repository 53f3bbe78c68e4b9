//! Counting one request after another without counting again what they begin with.
//!
//! Most of a prompt is the same for every row, and a long one takes its time. A text is split into pieces from left to right
//! before any token is made, and a piece that ends in a letter before a space ends there whatever comes
//! after the space. So a text that begins like the last one, up to such an end, has the same tokens up to there, and is
//! counted from there on. The counts are those of [`InputTokens::count`], and a property test holds them to it.

use super::InputTokens;
use crate::domain::Message;

/// Counts requests of one prompt, one after another.
#[derive(Debug)]
pub struct Memo<'a> {
    counter: &'a InputTokens,
    last: Vec<Beginning>,
}

/// What the texts of one message begin with.
#[derive(Debug, Default)]
struct Beginning {
    /// The last text that was counted whole, or the beginning that later ones share with it.
    text: String,
    /// Of `text`, up to the end of a piece.
    bytes: usize,
    /// The tokens of these bytes.
    tokens: u64,
    /// The tokens of `text`.
    whole: u64,
}

impl<'a> Memo<'a> {
    /// Starts with nothing in mind.
    pub fn new(counter: &'a InputTokens) -> Self {
        Self { counter, last: Vec::new() }
    }

    /// Counts the input tokens of a request.
    pub fn count(&mut self, messages: &[Message]) -> u64 {
        self.last.resize_with(messages.len().max(self.last.len()), Beginning::default);
        let texts = messages.iter().zip(&mut self.last);
        let texts: u64 = texts.map(|(message, last)| last.count(&message.text, self.counter)).sum();
        texts + self.counter.around(messages)
    }
}

impl Beginning {
    fn count(&mut self, text: &str, counter: &InputTokens) -> u64 {
        if self.text == text {
            return self.whole;
        }
        let vocabulary = counter.vocabulary;
        if self.bytes > 0 && text.as_bytes().starts_with(&self.text.as_bytes()[..=self.bytes]) {
            return self.tokens + vocabulary.count(&text[self.bytes..]);
        }
        self.bytes = last_end(text, shared(&self.text, text));
        let (beginning, rest) = text.split_at(self.bytes);
        self.tokens = vocabulary.count(beginning);
        self.whole = self.tokens + vocabulary.count(rest);
        text.clone_into(&mut self.text);
        self.whole
    }
}

/// Returns where the last piece ends that lies in the first `shared` bytes with the byte after it, and ends there in every
/// text that goes on with the same byte.
fn last_end(text: &str, shared: usize) -> usize {
    let pairs = text.as_bytes()[..shared].windows(2).rev();
    let back = pairs.take_while(|pair| !(pair[0].is_ascii_alphabetic() && pair[1] == b' ')).count();
    shared.saturating_sub(back + 1)
}

/// Counts the bytes that two texts begin with in common.
fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}
