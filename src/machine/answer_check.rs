//! What an accepted answer is, and how it is asked for.
//!
//! A reply is text; a prompt may want a label or JSON. The check is lenient in form (fences,
//! quotes, letter case of a label), since servers without structured outputs answer in words, and
//! strict in substance: what it accepts is exactly one of the choices or valid under the schema.
//! It must never follow a reference out of the schema, never run away on a hostile pattern or a
//! deep reply, and never put any part of a reply into an error.
//!
//! The schema and the words that are sent are part of rendering `r1` (see
//! [`crate::machine::render`]): they do not change under that tag.

mod label;
mod strict;
#[cfg(test)]
mod tests;

use jsonschema::{PatternOptions, Validator};
use serde_json::{Value, json};

pub use self::strict::strict_ready;
use crate::domain::AnswerFormat;

/// A prompt's demands on an answer, compiled once.
#[derive(Debug)]
pub struct AnswerCheck(Demand);

#[derive(Debug)]
enum Demand {
    Text,
    Choices(Vec<String>),
    Schema {
        validator: Box<Validator>,
        /// The schema as JSON text, to tell which names are the schema's own.
        text: String,
    },
}

/// Why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It breaks the rules of JSON Schema, or refers to what is not in it.
    #[error("the schema is not valid{}: {what}", at(path))]
    Invalid {
        /// The JSON Pointer to the offending part; empty for the whole.
        path: String,
        /// What is wrong there.
        what: String,
    },
    /// Its top is not an object, which structured outputs need.
    #[error("the schema must have `type: object` at its top")]
    NotAnObject,
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" at {path}") }
}

/// The longest JSON that is checked: its tree can take up forty times that.
const MAX_JSON_BYTES: usize = 4 << 20;
/// Steps that one pattern may take on one string before it counts as not matching.
const BACKTRACK_LIMIT: usize = 100_000;

impl AnswerCheck {
    /// Compiles the demands; fails only on a schema that is not valid or not self-contained.
    pub fn compile(format: &AnswerFormat) -> Result<Self, SchemaError> {
        Ok(Self(match format {
            AnswerFormat::Text => Demand::Text,
            AnswerFormat::Choices(labels) => Demand::Choices(labels.clone()),
            AnswerFormat::Schema(schema) => {
                if schema.get("type").and_then(Value::as_str) != Some("object") {
                    return Err(SchemaError::NotAnObject);
                }
                Demand::Schema { validator: Box::new(validator(schema)?), text: schema.to_string() }
            }
        }))
    }

    /// Returns the answer that a reply's text comes to, or what is wrong with it.
    ///
    /// Text is returned unchanged, a label as the prompt spells it, and JSON without white space
    /// between its tokens, keys and numbers as replied.
    pub fn check(&self, text: &str) -> Result<String, String> {
        match &self.0 {
            Demand::Text if text.trim().is_empty() => Err("the answer is empty".to_owned()),
            Demand::Text => Ok(text.to_owned()),
            Demand::Choices(labels) => label::find(text, labels)
                .map(str::to_owned)
                .ok_or_else(|| "the answer is none of the choices".to_owned()),
            Demand::Schema { validator, text: schema } => {
                let json = without_fences(text);
                if json.is_empty() {
                    return Err("the answer is empty".to_owned());
                }
                if json.len() > MAX_JSON_BYTES {
                    return Err("the answer is longer than JSON is checked".to_owned());
                }
                let value: Value = serde_json::from_str(json)
                    .map_err(|_| "the answer is not valid JSON".to_owned())?;
                validator.validate(&value).map_err(|error| {
                    let place = own_path(&error.instance_path().to_string(), schema);
                    let keyword = error.kind().keyword();
                    format!("the answer does not meet the schema{}: {keyword}", at(&place))
                })?;
                Ok(compact(json))
            }
        }
    }
}

fn validator(schema: &Value) -> Result<Validator, SchemaError> {
    let pattern = PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT);
    jsonschema::options().with_pattern_options(pattern).offline().build(schema).map_err(|error| {
        SchemaError::Invalid { path: error.instance_path().to_string(), what: error.to_string() }
    })
}

/// Returns the JSON Schema that is sent for a format; none for text.
///
/// Choices are wrapped, since the top of a schema must be an object.
pub fn wire_schema(format: &AnswerFormat) -> Option<Value> {
    match format {
        AnswerFormat::Text => None,
        AnswerFormat::Choices(labels) => Some(json!({
            "type": "object",
            "properties": {"answer": {"type": "string", "enum": labels}},
            "required": ["answer"],
            "additionalProperties": false,
        })),
        AnswerFormat::Schema(schema) => Some(schema.clone()),
    }
}

/// Returns the sentence that asks for a format in words; none for text.
pub fn words(format: &AnswerFormat) -> Option<String> {
    match format {
        AnswerFormat::Text => None,
        AnswerFormat::Choices(labels) => {
            let plain =
                |label: &String| label.trim() == label && !label.contains([',', '"', '\n', '\r']);
            let list: Vec<String> = if labels.iter().all(plain) {
                labels.clone()
            } else {
                labels.iter().map(|label| Value::from(label.as_str()).to_string()).collect()
            };
            Some(format!("Answer with exactly one of these and nothing else: {}", list.join(", ")))
        }
        AnswerFormat::Schema(schema) => Some(format!(
            "Answer with one JSON object that is valid under this JSON Schema and nothing else: {schema}"
        )),
    }
}

/// Returns the text inside of a Markdown code fence, or the text itself, trimmed.
fn without_fences(text: &str) -> &str {
    let text = text.trim();
    let fenced = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let Some(inside) = fenced else { return text };
    let word = inside.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let rest = &inside[word..];
    let names_a_language = rest.starts_with(['\n', '\r']) || inside[..word] == *"json";
    (if names_a_language { rest } else { inside }).trim()
}

/// Returns valid JSON text without the white space between its tokens.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in json.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            quoted = c == '"';
        }
        out.push(c);
    }
    out
}

/// Returns a path into a reply with the keys that the schema does not name blotted out.
fn own_path(path: &str, schema: &str) -> String {
    let own = |part: &str| {
        let name = part.replace("~1", "/").replace("~0", "~");
        part.bytes().all(|byte| byte.is_ascii_digit())
            || schema.contains(&Value::from(name).to_string())
    };
    let parts = path.split('/').map(|part| if own(part) { part } else { "*" });
    parts.collect::<Vec<_>>().join("/")
}
