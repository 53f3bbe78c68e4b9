//! The body of a request: rendering `r1`.
//!
//! The bytes are evidence. They are fingerprinted, bought once and kept, so the same prompt and
//! messages must give the same bytes in every version of this program: the order of the keys is
//! fixed, and what is written here for `r1` never changes. A new form is a new rendering with its own tag.
//!
//! What is the same for every row (model, schema, parameters) is written once, in [`Encoder::new`].
//!
//! ```text
//!   {"model":…,"messages":[…],"max_completion_tokens":…,"response_format":…,PARAMETERS}
//!   {"model":…,"input":[…],"max_output_tokens":…,"text":…,"store":false,PARAMETERS}
//! ```

use std::io;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::domain::{AnswerFormat, Endpoint, Message, PromptSpec, Role, TokenLimitField};

/// How an answer's form is asked for on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum WireAnswer {
    /// Not at all: any text will do.
    Free,
    /// With a JSON Schema.
    Schema {
        /// The schema.
        schema: Value,
        /// Whether the server shall hold the answer to it; needs a schema that it can compile.
        strict: bool,
    },
    /// With a sentence at the end of the last user message.
    Words(String),
}

/// Parameters that a prompt may not set, because Overnight sets or relies on them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parameter {name:?} cannot be set: {reason}")]
pub struct ParameterError {
    /// The parameter.
    pub name: String,
    /// Why not, and what to do instead.
    pub reason: &'static str,
}

/// Checks that a prompt's parameters leave alone what a body and its reply are built on.
///
/// [`Encoder`] does not depend on it: a body is well-formed whatever the parameters are.
pub fn check_parameters(spec: &PromptSpec) -> Result<(), ParameterError> {
    for (name, value) in &spec.parameters {
        let reason = match name.as_str() {
            "model" => "name the model as `model`",
            "messages" | "input" | "instructions" => "messages come from the prompt's text",
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                "set the prompt's `max_tokens`, which is sent under the name that the model knows"
            }
            "stream" | "stream_options" => "replies are read whole",
            "background" => "replies are waited for",
            "n" if value.as_u64() != Some(1) => "one request has one answer",
            "response_format" if spec.answer != AnswerFormat::Text => {
                "it is made from the prompt's `choices` or `schema`"
            }
            _ => continue,
        };
        return Err(ParameterError { name: name.clone(), reason });
    }
    Ok(())
}

/// Writes the bodies of one prompt version.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Everything up to and including the opening bracket of the messages.
    head: Vec<u8>,
    /// `,"max_tokens":`, for the number to follow.
    limit_key: Vec<u8>,
    /// The limit that the parameters set, for when none is given.
    limit_in_parameters: Option<Vec<u8>>,
    /// Everything after the limit, with the closing brace.
    tail: Vec<u8>,
    /// The paragraph for the last user message.
    words: Option<String>,
}

impl Encoder {
    /// Prepares the parts that are the same for every row.
    pub fn new(spec: &PromptSpec, answer: WireAnswer) -> Self {
        let mut parts = Parts { spec, schema: None, words: None };
        match answer {
            WireAnswer::Free => {}
            WireAnswer::Schema { schema, strict } => parts.schema = Some((schema, strict)),
            WireAnswer::Words(words) => parts.words = Some(words),
        }
        let limit_name = limit_name(spec);
        Self {
            head: parts.head(),
            limit_key: [b",", written(limit_name).as_slice(), b":"].concat(),
            limit_in_parameters: spec.parameters.get(limit_name).map(written),
            tail: parts.tail(),
            words: parts.words,
        }
    }

    /// Returns the body for `messages`, with at most `max_tokens` tokens for the reply.
    pub fn body(&self, messages: &[Message], max_tokens: Option<u32>) -> Vec<u8> {
        let text: usize = messages.iter().map(|message| message.text.len() + 32).sum();
        let words = self.words.as_ref().map_or(0, String::len);
        let fixed = self.head.len() + self.limit_key.len() + self.tail.len();
        let mut body = Vec::with_capacity(fixed + text + text / 16 + words + 48);
        body.extend_from_slice(&self.head);
        self.write_messages(&mut body, messages);
        body.push(b']');
        self.write_limit(&mut body, max_tokens);
        body.extend_from_slice(&self.tail);
        body
    }

    fn write_messages(&self, body: &mut Vec<u8>, messages: &[Message]) {
        let last_user = messages.iter().rposition(|message| message.role == Role::User);
        for (at, message) in messages.iter().enumerate() {
            match &self.words {
                Some(words) if Some(at) == last_user => {
                    write_message(body, Role::User, &format!("{}\n\n{words}", message.text));
                }
                Some(_) | None => write_message(body, message.role, &message.text),
            }
        }
        if let (Some(words), None) = (&self.words, last_user) {
            write_message(body, Role::User, words);
        }
    }

    fn write_limit(&self, body: &mut Vec<u8>, max_tokens: Option<u32>) {
        let value = match (max_tokens, &self.limit_in_parameters) {
            (Some(max_tokens), _) => max_tokens.to_string().into_bytes(),
            (None, Some(given)) => given.clone(),
            (None, None) => return,
        };
        body.extend_from_slice(&self.limit_key);
        body.extend_from_slice(&value);
    }
}

/// Writes one message and, unless it is the first, the comma before it.
fn write_message(body: &mut Vec<u8>, role: Role, text: &str) {
    if !body.ends_with(b"[") {
        body.push(b',');
    }
    body.extend_from_slice(b"{\"role\":\"");
    body.extend_from_slice(role.as_str().as_bytes());
    body.extend_from_slice(b"\",\"content\":");
    write(body, text);
    body.push(b'}');
}

struct Parts<'a> {
    spec: &'a PromptSpec,
    schema: Option<(Value, bool)>,
    words: Option<String>,
}

impl Parts<'_> {
    fn head(&self) -> Vec<u8> {
        let model = written(&self.spec.model.model);
        let messages = written(messages_name(self.spec));
        [b"{\"model\":", model.as_slice(), b",", &messages, b":["].concat()
    }

    fn tail(&self) -> Vec<u8> {
        let mut fields = Map::new();
        if let Some((name, value)) = self.format() {
            fields.insert(name.to_owned(), value);
        }
        if self.spec.endpoint == Endpoint::Responses && !self.spec.parameters.contains_key("store")
        {
            // Unlike chat completions, responses are kept at the provider unless told otherwise.
            fields.insert("store".to_owned(), Value::Bool(false));
        }
        for (name, value) in &self.spec.parameters {
            if !self.is_ours(name) && !fields.contains_key(name) {
                fields.insert(name.clone(), value.clone());
            }
        }
        let mut tail = Vec::new();
        for (name, value) in &fields {
            tail.push(b',');
            write(&mut tail, name);
            tail.push(b':');
            write(&mut tail, value);
        }
        tail.push(b'}');
        tail
    }

    fn is_ours(&self, name: &str) -> bool {
        name == "model" || name == messages_name(self.spec) || name == limit_name(self.spec)
    }

    /// The field that carries the schema; in responses it may share its object with a parameter
    /// (`text: {verbosity: low}`).
    fn format(&self) -> Option<(&'static str, Value)> {
        let (schema, strict) = self.schema.as_ref()?;
        let format = json!({"name": "answer", "strict": strict, "schema": schema});
        Some(match self.spec.endpoint {
            Endpoint::ChatCompletions => {
                ("response_format", json!({"type": "json_schema", "json_schema": format}))
            }
            Endpoint::Responses => {
                let mut flat = Map::from_iter([("type".to_owned(), json!("json_schema"))]);
                flat.extend(format.as_object().cloned().unwrap_or_default());
                let mut text = Map::from_iter([("format".to_owned(), Value::Object(flat))]);
                let given = self.spec.parameters.get("text").and_then(Value::as_object);
                for (name, value) in given.into_iter().flatten() {
                    if name != "format" {
                        text.insert(name.clone(), value.clone());
                    }
                }
                ("text", Value::Object(text))
            }
        })
    }
}

fn messages_name(spec: &PromptSpec) -> &'static str {
    match spec.endpoint {
        Endpoint::ChatCompletions => "messages",
        Endpoint::Responses => "input",
    }
}

/// The name under which the limit goes: responses know only one, and chat completions do not know it.
fn limit_name(spec: &PromptSpec) -> &'static str {
    match (spec.endpoint, spec.token_limit_field) {
        (Endpoint::Responses, _) => TokenLimitField::MaxOutputTokens.as_str(),
        (Endpoint::ChatCompletions, TokenLimitField::MaxOutputTokens) => {
            TokenLimitField::MaxCompletionTokens.as_str()
        }
        (Endpoint::ChatCompletions, field) => field.as_str(),
    }
}

fn written<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, value);
    bytes
}

fn write<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) {
    let mut serializer = serde_json::Serializer::with_formatter(body, OneLine);
    // Text and JSON values always serialize, and a vector takes every byte.
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok(), "a JSON value did not serialize");
}

/// Compact JSON without the three characters that some readers of JSON Lines take for the end of
/// a line (U+0085, U+2028, U+2029): a body is also a part of a line of a batch file.
struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(['\u{85}', '\u{2028}', '\u{2029}']) {
            let (before, tail) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(found) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(found))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
