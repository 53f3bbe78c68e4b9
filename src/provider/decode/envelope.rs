//! The error that a reply tells of, whatever envelope it comes in.
//!
//! Documented by `OpenAI`: `{"error":{"message","type","param","code"}}`. Seen elsewhere: the same fields
//! at the top (vLLM), a bare text in `error` (Ollama, Scaleway, TGI), `detail` (`FastAPI`),
//! a list around it all (Gemini), plain text, web pages. Errors are rare and small, so they are
//! read as a tree; it also takes a field of any type.

use serde_json::{Map, Value};

/// What an error body says. Holds a provider's words as they came: not for people before
/// [`super::message::one_line`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::provider) struct Told {
    /// `code`, in lower case; a number as its digits.
    pub(in crate::provider) code: String,
    /// `type`, in lower case.
    pub(in crate::provider) kind: String,
    /// `param`.
    pub(in crate::provider) param: String,
    /// The sentence for people.
    pub(in crate::provider) message: String,
    /// Whether the body is a web page: a proxy's or a firewall's, or of a site that is no API.
    pub(in crate::provider) is_page: bool,
    /// Whether it is `OpenAI`'s envelope, an object under `error`.
    pub(in crate::provider) is_envelope: bool,
}

impl Told {
    pub(in crate::provider) fn read(body: &[u8]) -> Self {
        let text = body.trim_ascii();
        if text.starts_with(b"<") {
            return Self { is_page: true, ..Self::default() };
        }
        if text.len() > MAX_TREE_BYTES && (text.starts_with(b"{") || text.starts_with(b"[")) {
            return Self::default();
        }
        match serde_json::from_slice(&text[..text.len().min(MAX_TREE_BYTES)]) {
            Ok(value) => Self::of(&value),
            Err(_) if text.starts_with(b"{") || text.starts_with(b"[") => Self::default(),
            Err(_) => {
                Self::saying(&String::from_utf8_lossy(&text[..text.len().min(MAX_PLAIN_BYTES)]))
            }
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Object(top) => Self::of_top(top),
            Value::Array(list) => match list.first() {
                Some(Value::Object(top)) => Self::of_top(top),
                _ => Self::default(),
            },
            Value::String(text) => Self::saying(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::default(),
        }
    }

    fn of_top(top: &Map<String, Value>) -> Self {
        match top.get("error") {
            Some(Value::Object(error)) => Self { is_envelope: true, ..Self::of_fields(error) },
            Some(Value::String(text)) if !text.is_empty() => {
                Self { message: text.clone(), ..Self::of_fields(top) }
            }
            _ => Self::of_fields(top),
        }
    }

    fn of_fields(fields: &Map<String, Value>) -> Self {
        let message = ["message", "msg", "detail", "error_message", "errors"]
            .iter()
            .filter_map(|name| fields.get(*name))
            .map(sentence)
            .find(|message| !message.is_empty());
        // Google puts the number into `code` and the word into `status`.
        let code = match (fields.get("code"), fields.get("status")) {
            (Some(Value::Number(_)), Some(word @ Value::String(_))) => word,
            (Some(code), _) => code,
            (None, _) => &Value::Null,
        };
        Self {
            code: word(Some(code)).to_ascii_lowercase(),
            kind: word(fields.get("type")).to_ascii_lowercase(),
            param: word(fields.get("param")),
            message: message.unwrap_or_default(),
            ..Self::default()
        }
    }

    fn saying(text: &str) -> Self {
        Self { message: text.to_owned(), ..Self::default() }
    }
}

/// Longer ones are no errors, and their trees would take up many times that.
const MAX_TREE_BYTES: usize = 1 << 20;
/// Enough of a plain text for a message.
const MAX_PLAIN_BYTES: usize = 4_096;

fn word(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(word)) => word.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Reads a text, an object with one, or the first of a list. `FastAPI` lists what it did not
/// like, with where (`loc`) and what (`msg`), and repeats the input beside it, which is left out.
fn sentence(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => match list.first() {
            Some(Value::Object(first)) => located(first),
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        },
        Value::Object(fields) => located(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

fn located(fields: &Map<String, Value>) -> String {
    let said = ["msg", "message", "error"].iter().map(|name| word(fields.get(*name)));
    let said = said.into_iter().find(|said| !said.is_empty()).unwrap_or_default();
    let place = fields.get("loc").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let place: Vec<String> = place.iter().map(|part| word(Some(part))).collect();
    if place.is_empty() || said.is_empty() { said } else { format!("{}: {said}", place.join(".")) }
}
