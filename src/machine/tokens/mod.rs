//! How many input tokens a request has: exactly, nearly, and at most.
//!
//! Three numbers that must not be taken for one another. A *count* is what the vocabulary of the model makes
//! of the messages, and of the vocabulary of OpenAI's newer models where the model's own is not known. An *estimate*
//! is a count put right by what the provider billed for requests of the same kind ([`Calibration`]). The *most* is
//! what no provider bills more than; money is reserved by it, so it errs on the high side alone.
//!
//! ```text
//!   messages ──count──▶ ×ratio + offset ──▶ estimate      (plan)
//!      └───────bytes or count, with a margin──▶ most      (reservations)
//! ```
//!
//! What is not in the messages and billed all the same (the schema of the answer, tools) is counted by its text: no
//! provider says how it is written for the model, so this part is never exact until answers have told it.

mod calibration;
mod memo;
mod output;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::OnceLock;

use serde_json::Value;

pub use self::calibration::{Basis, Calibration, Counted};
pub use self::memo::Memo;
pub use self::output::guessed_output;
pub use self::vocabulary::Vocabulary;
use crate::domain::{Message, PromptSpec, Structured};
use crate::machine::answer_check::{wire_schema, words};

/// Tokens that frame each message besides its role: its start, the end of its role, its end.
///
/// From OpenAI's cookbook, "How to count tokens with tiktoken".
const PER_MESSAGE: u64 = 3;
/// Tokens that open the reply, from the same source.
const PER_REPLY: u64 = 3;
/// What a server of unknown habits may put around a message.
const UNKNOWN_PER_MESSAGE: u64 = 16;
/// What a server of unknown habits may put before all messages: a system message of its own.
const UNKNOWN_PER_REQUEST: u64 = 256;
/// What a server of unknown habits may put around a schema: instructions on how to keep to it.
const UNKNOWN_PER_FORM: u64 = 768;
/// What a known one may add to a request, and again to a schema.
const MARGIN: u64 = 32;
/// From so many answers on, the dearest of them says more than the bytes do.
const ANSWERS_TO_TRUST: u64 = 20;

/// Counts the input tokens of one prompt's requests that ask for the form of the answer in one way.
#[derive(Clone, Debug)]
pub struct InputTokens {
    vocabulary: Vocabulary,
    is_exact: bool,
    /// The sentence that asks for the form in words; it ends the last user message.
    words: Option<String>,
    /// The schema, tools: what is billed and in no message.
    form: Vec<String>,
    fixed: OnceLock<Fixed>,
}

/// Tokens that are the same for all requests of a prompt; counted when they are first asked for.
#[derive(Clone, Copy, Debug)]
struct Fixed {
    words: u64,
    form: u64,
}

impl InputTokens {
    /// Prepares what is the same for all requests of a prompt.
    pub fn of(spec: &PromptSpec, form: Structured) -> Self {
        let known = Vocabulary::of(&spec.model);
        let vocabulary = known.unwrap_or_default();
        let (schema, words) = match form {
            Structured::Schema => (wire_schema(&spec.answer), None),
            Structured::Words => (None, words(&spec.answer)),
        };
        Self {
            vocabulary,
            // Servers of the open models write a system message of their own before the prompt's.
            is_exact: known.is_some() && !spec.model.model.contains("gpt-oss"),
            words,
            form: schema.iter().chain(apart(spec)).map(Value::to_string).collect(),
            fixed: OnceLock::new(),
        }
    }

    fn fixed(&self) -> Fixed {
        *self.fixed.get_or_init(|| Fixed {
            words: self.words.as_deref().map_or(0, |words| self.vocabulary.count(words) + 1),
            form: self.form.iter().map(|text| self.vocabulary.count(text)).sum(),
        })
    }

    /// Returns whether the tokens of the messages are those that the provider counts.
    pub fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Returns whether something is billed that is in no message, and known by its text only.
    pub fn has_form(&self) -> bool {
        !self.form.is_empty()
    }

    /// Counts the input tokens of a request.
    pub fn count(&self, messages: &[Message]) -> u64 {
        let texts: u64 = messages.iter().map(|message| self.vocabulary.count(&message.text)).sum();
        texts + self.around(messages)
    }

    /// Counts what is around the messages' texts: their frames, the sentence on the form, the schema.
    fn around(&self, messages: &[Message]) -> u64 {
        // Each of the three roles is one token in both vocabularies.
        let frames = messages.len() as u64 * (PER_MESSAGE + 1);
        let Fixed { words, form } = self.fixed();
        frames + PER_REPLY + words + form
    }

    /// Returns what no provider counts more than: never below the count, nor below what any vocabulary that
    /// falls back on single bytes could make of an unknown model's request.
    ///
    /// With a known vocabulary it is the count with a tenth to spare. Else it is the bytes; once enough answers
    /// are on file, half as much again as the dearest of them would make it, where that is less.
    pub fn most_input_tokens(
        &self,
        messages: &[Message],
        calibration: Option<&Calibration>,
    ) -> u64 {
        match self.is_exact || calibration.is_some_and(|seen| seen.answers() >= ANSWERS_TO_TRUST) {
            true => self.most_of_counted(messages, self.count(messages), calibration),
            false => self.most_bytes(messages),
        }
    }

    /// Returns the same of a request that has been counted already.
    pub fn most_of_counted(
        &self,
        messages: &[Message],
        counted: u64,
        calibration: Option<&Calibration>,
    ) -> u64 {
        // No token is less than a byte: the bytes are never below the count.
        let bytes = self.most_bytes(messages);
        let trusted = calibration.filter(|seen| seen.answers() >= ANSWERS_TO_TRUST);
        if !self.is_exact && trusted.is_none() {
            return bytes;
        }
        // A schema can be written for the model with more white space and quotes than it is sent with.
        let spare = counted / 10 + self.fixed().form + MARGIN * (1 + u64::from(self.has_form()));
        let at_dearest = calibration.map_or(0, |seen| seen.most(counted));
        let learned = match self.is_exact {
            true => at_dearest + MARGIN,
            false => at_dearest + at_dearest / 2 + MARGIN,
        };
        (counted + spare).max(learned.min(bytes))
    }

    /// Returns the bytes of all that is sent for the model to read, each of which can be a token.
    fn most_bytes(&self, messages: &[Message]) -> u64 {
        let texts: u64 = messages.iter().map(|message| message.text.len() as u64).sum();
        let words = self.words.as_ref().map_or(0, |words| words.len() as u64 + 2);
        let frames = messages.len() as u64 * UNKNOWN_PER_MESSAGE + UNKNOWN_PER_REQUEST;
        // Twice, for a schema can be written with more white space than it is sent with.
        let form: u64 = self.form.iter().map(|text| UNKNOWN_PER_FORM + 2 * text.len() as u64).sum();
        texts + words + frames + form
    }
}

/// Returns what a prompt's own parameters have the model read besides the messages.
fn apart(spec: &PromptSpec) -> impl Iterator<Item = &Value> {
    let paths =
        ["/tools", "/functions", "/response_format/json_schema/schema", "/text/format/schema"];
    paths.into_iter().filter_map(|path| {
        let (name, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        let value = spec.parameters.get(name)?;
        if rest.is_empty() { Some(value) } else { value.pointer(&path[1 + name.len()..]) }
    })
}
