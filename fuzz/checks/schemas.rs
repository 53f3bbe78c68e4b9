//! Schemas and labels: a JSON Schema, or a JSON list of labels, and behind `===` the answer.
//!
//! What is accepted is accepted again as it was returned, means the same JSON, and is one of the labels; what is
//! wrong with an answer or a schema is told in a bounded message.

use overnight::domain::AnswerFormat;
use overnight::machine::answer_check::{AnswerCheck, strict_ready, wire_schema, words};
use serde_json::Value;

/// Checks a schema with an answer.
pub fn check(data: &[u8]) {
    let (schema, answer) = super::halves(data);
    let Ok(answer) = std::str::from_utf8(answer) else { return };
    let Some(format) = format(schema) else { return };
    if let Some(schema) = wire_schema(&format) {
        let _ = strict_ready(&schema);
    }
    let _ = words(&format);
    let check = match AnswerCheck::compile(&format) {
        Ok(check) => check,
        Err(error) => {
            assert!(error.to_string().len() <= 16 * data.len() + 4096, "{error:.300}");
            return;
        }
    };
    match check.check(answer) {
        Ok(accepted) => {
            assert_eq!(check.check(&accepted).as_ref(), Ok(&accepted));
            match &format {
                AnswerFormat::Text => assert_eq!(accepted, answer),
                AnswerFormat::Choices(labels) => assert!(labels.contains(&accepted)),
                AnswerFormat::Schema(_) => {
                    assert!(serde_json::from_str::<Value>(&accepted).is_ok());
                }
            }
        }
        Err(what) => assert!(what.len() <= schema.len() * 8 + answer.len() + 1024, "{what:.300}"),
    }
}

fn format(schema: &[u8]) -> Option<AnswerFormat> {
    if schema.is_empty() {
        return Some(AnswerFormat::Text);
    }
    match serde_json::from_slice(schema).ok()? {
        Value::Array(labels) => {
            let labels = labels.iter().map(|label| label.as_str().map(str::to_owned));
            let labels: Vec<String> = labels.collect::<Option<_>>()?;
            (0..labels.len())
                .all(|at| !labels[at].trim().is_empty() && !labels[..at].contains(&labels[at]))
                .then_some(AnswerFormat::Choices(labels))
        }
        schema => Some(AnswerFormat::Schema(schema)),
    }
}
