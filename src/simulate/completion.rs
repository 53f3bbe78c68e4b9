//! What the two endpoints have in common: what is asked, and what is completed.
//!
//! An endpoint reads its body into an [`Ask`] and writes a [`Completion`] as its reply; what is
//! between knows nothing of either form.

use serde_json::Value;

use crate::domain::{Endpoint, Usage};

/// A request, once its body has been checked.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// Where it came in.
    pub(super) endpoint: Endpoint,
    /// The model it names.
    pub(super) model: &'a str,
    /// The prompt.
    pub(super) turns: Vec<Turn<'a>>,
    /// The most tokens that an answer may have.
    pub(super) limit: Option<u64>,
    /// The form of the answer.
    pub(super) format: Format<'a>,
    /// Where an answer ends before its end.
    pub(super) stops: Vec<&'a str>,
    /// How many answers are asked for.
    pub(super) answers: u64,
    /// Whether a prompt that is too long is cut rather than refused.
    pub(super) overflow: Overflow,
}

/// One message of a prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn<'a> {
    /// Who speaks.
    pub(super) role: &'a str,
    /// The name that tells speakers of one role apart.
    pub(super) name: Option<&'a str>,
    /// What is said, in parts.
    pub(super) texts: Vec<&'a str>,
    /// How many images, sounds and files come with it.
    pub(super) media: u64,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Format<'a> {
    /// Any text.
    Text,
    /// Any JSON object.
    Object,
    /// JSON under this schema.
    Schema(&'a Value),
}

/// What becomes of a prompt that is longer than the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It is refused.
    Refused,
    /// Its beginning is dropped.
    Dropped,
}

/// What is answered to an [`Ask`].
#[derive(Debug, PartialEq)]
pub(super) struct Completion {
    /// As many as were asked for.
    pub(super) answers: Vec<Answer>,
    /// What it comes to.
    pub(super) usage: Usage,
}

/// One answer.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// What is said.
    pub(super) said: Said,
    /// Why it ends.
    pub(super) finish: Finish,
    /// How many tokens it has.
    pub(super) tokens: u64,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A text, which may be empty.
    Text(String),
    /// That the model declines.
    Refusal(String),
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It is complete.
    Stop,
    /// It met the token limit.
    Length,
    /// A filter withheld it.
    Filter,
}

impl<'a> Turn<'a> {
    /// Reads a message of either endpoint that has been checked.
    pub(super) fn read(message: &'a Value) -> Self {
        let text = |field: &str| message.get(field).and_then(Value::as_str);
        let mut turn = Self {
            role: text("role").unwrap_or("user"),
            name: text("name"),
            texts: Vec::new(),
            media: 0,
        };
        match message.get("content") {
            Some(Value::String(text)) => turn.texts.push(text),
            Some(Value::Array(parts)) => {
                for part in parts {
                    let text = part.get("text").or_else(|| part.get("refusal"));
                    match text.and_then(Value::as_str) {
                        Some(text) => turn.texts.push(text),
                        None => turn.media += 1,
                    }
                }
            }
            _ => {}
        }
        turn
    }
}
