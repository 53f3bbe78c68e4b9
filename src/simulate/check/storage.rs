//! Files and batches: the form of an upload, the body of a new batch, the queries of their lists.

use serde_json::{Map, Value, json};

use super::chat::METADATA;
use super::rule::{ANY_LENGTH, Field, Rule, nullable, optional, required};
use crate::simulate::reply::Problem;

/// The purposes that a file can be uploaded for.
const PURPOSES: &[&str] = &["assistants", "batch", "fine-tune", "vision", "user_data", "evals"];

/// When a file is to expire, in seconds after it is made.
const EXPIRY: Rule = Rule::Object(&[
    required("anchor", Rule::Word(&["created_at"])),
    required("seconds", Rule::Integer(3600, 2_592_000)),
]);

const FORM: &[Field] = &[
    required("file", Rule::Anything),
    required("purpose", Rule::Word(PURPOSES)),
    optional("expires_after", EXPIRY),
];

const BATCH: &[Field] = &[
    required("input_file_id", Rule::Text(ANY_LENGTH)),
    required(
        "endpoint",
        Rule::Word(&[
            "/v1/responses",
            "/v1/chat/completions",
            "/v1/embeddings",
            "/v1/completions",
            "/v1/moderations",
            "/v1/images/generations",
            "/v1/images/edits",
            "/v1/videos",
        ]),
    ),
    required("completion_window", Rule::Word(&["24h"])),
    nullable("metadata", METADATA),
    optional("output_expires_after", EXPIRY),
];

const BATCH_LIST: &[Field] =
    &[optional("after", Rule::Text(ANY_LENGTH)), optional("limit", Rule::Integer(1, 100))];

const FILE_LIST: &[Field] = &[
    optional("purpose", Rule::Text(ANY_LENGTH)),
    optional("limit", Rule::Integer(1, 10_000)),
    optional("order", Rule::Word(&["asc", "desc"])),
    optional("after", Rule::Text(ANY_LENGTH)),
];

/// Checks the fields of an upload, the nested ones under their parent.
pub(in crate::simulate) fn check_form(form: &Value) -> Result<(), Problem> {
    Rule::Object(FORM).check_body(form)
}

/// Checks the body of `POST /v1/batches`.
pub(in crate::simulate) fn check_batch(body: &Value) -> Result<(), Problem> {
    Rule::Object(BATCH).check_body(body)
}

/// Reads and checks the query of `GET /v1/batches`.
pub(in crate::simulate) fn read_batch_query(query: &str) -> Result<Value, Problem> {
    read_query(query, BATCH_LIST)
}

/// Reads and checks the query of `GET /v1/files`.
pub(in crate::simulate) fn read_file_query(query: &str) -> Result<Value, Problem> {
    read_query(query, FILE_LIST)
}

fn read_query(query: &str, fields: &'static [Field]) -> Result<Value, Problem> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let read: Map<String, Value> = pairs
        .map(|(name, text)| {
            let value = if name == "limit" { number(&text) } else { json!(text) };
            (name.into_owned(), value)
        })
        .collect();
    let read = Value::Object(read);
    Rule::Object(fields).check_body(&read)?;
    Ok(read)
}

/// Reads a whole number; what is none stays a text, and is refused for its type.
pub(in crate::simulate) fn number(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number))
}
