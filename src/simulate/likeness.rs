//! What the simulated provider takes on of a real one, so that a run can be rehearsed against it.
//!
//! By itself it is like OpenAI and serves every model alike. Here each model has limits of its own, and answers as
//! long as those that it gave before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;

use super::completion::Ask;

/// What is like a real provider.
#[derive(Clone, Debug, Default)]
pub struct Likeness {
    /// Of each model, by its name on the wire.
    pub models: HashMap<String, ModelLikeness>,
    /// The sentences that ask for the form of an answer in words, and the schemas that they stand for.
    pub in_words: Vec<AskedInWords>,
    /// Which bodies it takes.
    pub takes: Takes,
    /// Whether it remembers each body for good. One that does not counts no second charges.
    pub remembers: Remembers,
    /// How it keeps files.
    pub keeps: Keeps,
    /// How far the time varies that a batch takes, as a share of itself.
    pub batch_jitter: f64,
}

/// Which bodies are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takes {
    /// Those that OpenAI's specification allows.
    #[default]
    WhatOpenAiDoes,
    /// All that are JSON: other servers have parameters of their own.
    Anything,
}

/// What is remembered of the bodies that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remembers {
    /// How often each came and was charged.
    #[default]
    EachBody,
    /// Nothing but the sums: for so many bodies that the memory would not hold them.
    SumsAlone,
}

/// How files are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeps {
    /// As they are, with the results growing as a batch goes on.
    #[default]
    Plain,
    /// Packed. A batch is worked on at its end, all at once: until then none of its lines is seen to be done.
    Packed,
}

/// What is like a real model; `None` leaves it to the settings of the server.
#[derive(Clone, Debug, Default)]
pub struct ModelLikeness {
    /// Requests per minute.
    pub rpm: Option<u32>,
    /// Tokens per minute.
    pub tpm: Option<u32>,
    /// The most tokens that a prompt may have.
    pub input_tokens: Option<u64>,
    /// The most tokens that an answer may have.
    pub output_tokens: Option<u64>,
    /// The most prompt tokens that its batches may have in all while they are under way.
    pub enqueued_tokens: Option<u64>,
    /// How long a reply takes.
    pub latency: Option<Duration>,
    /// How long answers are: each conversation draws one of these. Empty leaves it to their text.
    pub answers: Arc<[AnswerLength]>,
}

/// How long an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLength {
    /// Its tokens, those of the reasoning included.
    pub output: u64,
    /// Of these, the tokens of the reasoning.
    pub reasoning: u64,
}

/// A sentence that asks for the form of an answer.
#[derive(Clone, Debug)]
pub struct AskedInWords {
    /// As it stands in a message.
    pub sentence: String,
    /// The form.
    pub schema: Value,
    /// The field of it that alone is said, without any JSON around it.
    pub bare: Option<&'static str>,
}

impl AskedInWords {
    /// Returns what an answer in this form says.
    pub(super) fn answer(&self, value: &Value) -> String {
        match self.bare.map(|field| &value[field]) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => value.to_string(),
        }
    }
}

impl Likeness {
    /// Returns how long the answer of a conversation is, where that is not left to its text.
    pub(super) fn length(
        &self,
        model: &str,
        conversation: impl FnOnce() -> [u8; 32],
    ) -> Option<AnswerLength> {
        let lengths = &self.models.get(model)?.answers;
        if lengths.is_empty() {
            return None;
        }
        let mut first = [0; 8];
        first.copy_from_slice(&conversation()[..8]);
        let index = Rng::with_seed(u64::from_le_bytes(first)).usize(..lengths.len());
        lengths.get(index).copied()
    }

    /// Returns what a conversation asks for in words.
    pub(super) fn asked_in_words(&self, ask: &Ask<'_>) -> Option<&AskedInWords> {
        self.in_words.iter().find(|asked| {
            let mut texts = ask.turns.iter().flat_map(|turn| &turn.texts);
            texts.any(|text| text.contains(&asked.sentence))
        })
    }
}
