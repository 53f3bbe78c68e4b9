//! How many output tokens an answer may have, before any is on file: a guess, and told as one.

use serde_json::{Value, json};

use super::Vocabulary;
use crate::domain::{AnswerFormat, PromptSpec, Structured};

/// What a text is guessed to have: a short paragraph.
const TEXT: u64 = 120;
/// What a string in an answer is guessed to have.
const STRING: u64 = 16;
/// Items that a list in an answer is guessed to have.
const ITEMS: u64 = 3;
/// What a model that thinks before it answers is guessed to think, where it is not told how hard.
const THOUGHT: u64 = 500;
/// How deep a schema is looked into.
const DEPTH: u32 = 8;

/// Guesses the output tokens of an answer, thoughts included, below the most that the prompt allows.
pub fn guessed_output(spec: &PromptSpec, form: Structured) -> u64 {
    let vocabulary = Vocabulary::of(&spec.model).unwrap_or_default();
    let answer = match (&spec.answer, form) {
        // A limit is set where answers hardly ever reach it.
        (AnswerFormat::Text, _) => {
            spec.max_tokens.map_or(TEXT, |most| TEXT.min((u64::from(most) / 2).max(1)))
        }
        (AnswerFormat::Choices(labels), form) => {
            let label = |label: &String| match form {
                Structured::Schema => vocabulary.count(&json!({ "answer": label }).to_string()),
                Structured::Words => vocabulary.count(label),
            };
            labels.iter().map(label).max().unwrap_or(1)
        }
        (AnswerFormat::Schema(schema), _) => value(schema, vocabulary, DEPTH),
    };
    let guess = answer + thought(spec);
    spec.max_tokens.map_or(guess, |most| guess.min(u64::from(most)))
}

/// Guesses the tokens of a value under a schema.
fn value(schema: &Value, vocabulary: Vocabulary, depth: u32) -> u64 {
    let Some(depth) = depth.checked_sub(1) else { return STRING };
    if let Some(labels) = schema.get("enum").and_then(Value::as_array) {
        let count = |label: &Value| vocabulary.count(&label.to_string());
        return labels.iter().map(count).max().unwrap_or(1);
    }
    let kind = schema.get("type").map(|kind| match kind {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or("string"),
        kind => kind.as_str().unwrap_or("string"),
    });
    match kind {
        Some("object") => {
            let fields = schema.get("properties").and_then(Value::as_object);
            let field = |(name, field): (&String, &Value)| {
                // The name in quotes, a colon and a comma.
                vocabulary.count(name) + 3 + value(field, vocabulary, depth)
            };
            2 + fields.into_iter().flatten().map(field).sum::<u64>()
        }
        Some("array") => {
            let item = schema.get("items").map_or(STRING, |item| value(item, vocabulary, depth));
            2 + ITEMS * (item + 1)
        }
        Some("integer" | "number" | "boolean" | "null") => 2,
        Some(_) => STRING,
        None => {
            let either = ["anyOf", "oneOf"].iter().find_map(|name| schema.get(*name)?.as_array());
            let each = either.into_iter().flatten().map(|one| value(one, vocabulary, depth));
            each.max().unwrap_or(STRING)
        }
    }
}

/// Guesses the tokens that the model thinks with; they are billed as output.
fn thought(spec: &PromptSpec) -> u64 {
    let model = spec.model.model.as_str();
    let named = |family: &str| model.starts_with(family);
    let thinks = spec.model.provider == "openai"
        && ["o1", "o3", "o4", "gpt-5", "gpt-6"].iter().any(|family| named(family))
        && !model.contains("chat");
    let effort = spec
        .parameters
        .get("reasoning_effort")
        .or_else(|| spec.parameters.get("reasoning").and_then(|reasoning| reasoning.get("effort")));
    match effort.and_then(Value::as_str) {
        Some("none" | "minimal") => 0,
        Some("low") => THOUGHT / 2,
        Some("high") => THOUGHT * 4,
        Some("xhigh" | "max") => THOUGHT * 8,
        Some(_) => THOUGHT,
        None if thinks => THOUGHT,
        None => 0,
    }
}
