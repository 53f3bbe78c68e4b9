//! The input file of a batch: whether it is one, and its lines.
//!
//! What is checked here is what makes a batch fail as a whole before anything is done. Whether a
//! line's body is a good one shows when it is worked on, and costs that line alone.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::Endpoint;
use crate::simulate::files::Kept;
use crate::simulate::{Settings, models};

/// Why a batch failed, as its `errors.data` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct BatchError {
    pub(super) code: &'static str,
    /// The line of the input file, from 1.
    pub(super) line: Option<usize>,
    pub(super) message: String,
    pub(super) param: Option<&'static str>,
}

/// An input file that can be worked on.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) bytes: Kept,
    /// Where each line stands, without its end.
    pub(super) lines: Vec<Range<usize>>,
    pub(super) model: String,
}

/// A line that was found valid.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) custom_id: String,
    /// The request, byte for byte as it was written.
    pub(super) body: &'a str,
}

/// The most errors that are told of one file.
const MOST_ERRORS: usize = 100;
/// The longest `custom_id`, in characters.
const ID_CHARS: usize = 64;

impl BatchError {
    /// Makes an error that is about no line.
    pub(super) fn whole(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, line: None, message: message.into(), param: None }
    }

    fn field(code: &'static str, param: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param), ..Self::whole(code, message) }
    }
}

impl Input {
    /// Reads a file whose lines must all go to `endpoint`.
    pub(super) fn read(
        (kept, bytes): (&Kept, &[u8]),
        endpoint: Endpoint,
        settings: &Settings,
    ) -> Result<Self, Vec<BatchError>> {
        let lines = lines(bytes);
        if lines.is_empty() {
            return Err(vec![BatchError::whole("empty_file", "The input file is empty.")]);
        }
        if lines.len() > settings.batch_requests as usize {
            let told = format!(
                "The input file has {} requests, and may have at most {}.",
                lines.len(),
                settings.batch_requests
            );
            return Err(vec![BatchError::whole("too_many_tasks", told)]);
        }
        let mut seen = Seen { endpoint, settings, ids: HashSet::new(), model: None };
        let errors: Vec<_> = lines
            .iter()
            .enumerate()
            .filter_map(|(index, range)| {
                let error = seen.check(&bytes[range.clone()]).err()?;
                Some(BatchError { line: Some(index + 1), ..error })
            })
            .take(MOST_ERRORS)
            .collect();
        let model = seen.model.unwrap_or_default();
        let bytes = kept.clone();
        if errors.is_empty() { Ok(Self { bytes, lines, model }) } else { Err(errors) }
    }

    /// Reads a line again from the file's bytes; a line that was found valid always reads.
    pub(super) fn line<'a>(&self, bytes: &'a [u8], index: usize) -> Option<Line<'a>> {
        let fields = read_fields(bytes.get(self.lines.get(index)?.clone())?).ok()?;
        let custom_id = serde_json::from_str(fields.get("custom_id")?.get()).ok()?;
        Some(Line { custom_id, body: fields.get("body")?.get() })
    }
}

/// Finds the lines of a file; only the last may lack its end.
fn lines(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let rest = &bytes[start..];
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let carriage = usize::from(rest[..length].ends_with(b"\r"));
        lines.push(start..start + length - carriage);
        start += length + 1;
    }
    lines
}

/// The fields of a line, each as it was written.
type Fields<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

fn read_fields(line: &[u8]) -> Result<Fields<'_>, BatchError> {
    let not_json =
        || BatchError::whole("invalid_json_line", "This line is not parseable as valid JSON.");
    let text = std::str::from_utf8(line).map_err(|_| not_json())?;
    let whole: &RawValue = serde_json::from_str(text).map_err(|_| not_json())?;
    serde_json::from_str(whole.get())
        .map_err(|_| BatchError::whole("invalid_request", "This line is not a JSON object."))
}

/// What the lines so far had.
struct Seen<'a> {
    endpoint: Endpoint,
    settings: &'a Settings,
    ids: HashSet<String>,
    model: Option<String>,
}

impl Seen<'_> {
    fn check(&mut self, line: &[u8]) -> Result<(), BatchError> {
        let fields = read_fields(line)?;
        let known = ["custom_id", "method", "url", "body"];
        if fields.keys().any(|name| !known.contains(&name.as_ref())) {
            let told = "Unknown parameter: only 'custom_id', 'method', 'url' and 'body' are known.";
            return Err(BatchError::whole("unknown_parameter", told));
        }
        let custom_id = text(&fields, "custom_id")?;
        self.check_id(custom_id)?;
        if text(&fields, "method")? != "POST" {
            let told = "Invalid value for 'method': expected 'POST'.";
            return Err(BatchError::field("invalid_method", "method", told));
        }
        if text(&fields, "url")?.strip_prefix("/v1/") != Some(self.endpoint.as_str()) {
            let told =
                "The URL provided for this request does not match the endpoint of the batch.";
            return Err(BatchError::field("url_mismatch", "url", told));
        }
        let body = fields.get("body").ok_or_else(|| missing("body"))?;
        self.check_model(body)
    }

    fn check_id(&mut self, custom_id: String) -> Result<(), BatchError> {
        let chars = custom_id.chars().count();
        if !(1..=ID_CHARS).contains(&chars) {
            let told = format!(
                "Invalid 'custom_id': expected 1 to {ID_CHARS} characters, but got {chars} instead."
            );
            return Err(BatchError::field("invalid_custom_id", "custom_id", told));
        }
        if self.ids.insert(custom_id) {
            return Ok(());
        }
        let told = "The custom_id for this request is a duplicate of another request. The \
                    custom_id parameter must be unique for each request in a batch.";
        Err(BatchError::field("duplicate_custom_id", "custom_id", told))
    }

    fn check_model(&mut self, body: &RawValue) -> Result<(), BatchError> {
        /// The one field of a body that concerns the whole file.
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            model: Cow<'a, str>,
        }
        let body: Body<'_> = serde_json::from_str(body.get()).map_err(|_| missing("body.model"))?;
        let expected = match &self.model {
            Some(expected) => expected,
            None if models::is_served(&self.settings.models, &body.model) => {
                self.model.insert(body.model.clone().into_owned())
            }
            None => {
                let told =
                    "The model of this request does not exist, or cannot be used in batches.";
                return Err(BatchError::field("model_not_found", "body.model", told));
            }
        };
        if *expected == body.model {
            return Ok(());
        }
        let told = "The model of this request does not match the model of the requests before it. \
                    All requests of a batch must name the same model.";
        Err(BatchError::field("mismatched_model", "body.model", told))
    }
}

fn text(fields: &Fields<'_>, name: &'static str) -> Result<String, BatchError> {
    let value = fields.get(name).ok_or_else(|| missing(name))?;
    serde_json::from_str(value.get()).map_err(|_| {
        let told = format!("Invalid type for '{name}': expected a string.");
        BatchError::field("invalid_type", name, told)
    })
}

fn missing(name: &'static str) -> BatchError {
    let told = format!("Missing required parameter: '{name}'.");
    BatchError::field("missing_required_parameter", name, told)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::UnixMs;
    use crate::simulate::Keeps;

    const GOOD: &str = r#"{"custom_id":"a","method":"POST","url":"/v1/responses","body":{"model":"m","input":"x"}}"#;

    fn read(text: &str) -> Result<Input, Vec<BatchError>> {
        let mut settings = Settings::new(|| UnixMs(0));
        settings.batch_requests = 3;
        settings.models = vec!["m".to_owned(), "n".to_owned()];
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let kept = Kept::new(bytes.clone(), Keeps::Plain);
        Input::read((&kept, &bytes), Endpoint::Responses, &settings)
    }

    fn told(text: &str) -> Vec<(&'static str, Option<usize>, Option<&'static str>)> {
        let errors = read(text).unwrap_err();
        errors.iter().map(|error| (error.code, error.line, error.param)).collect()
    }

    fn with(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replace(from, to)
    }

    #[test]
    fn a_good_file_gives_back_each_body_as_it_was_written() {
        let spaced = with(r#"{"model":"m","input":"x"}"#, r#"{ "input" : "\u0041", "model":"m" }"#);
        let input = read(&format!("{GOOD}\r\n{}\n", spaced.replace("\"a\"", "\"b\""))).unwrap();
        assert_eq!((input.lines.len(), input.model.as_str()), (2, "m"));
        let bytes = input.bytes.open();
        let line = input.line(&bytes, 1).unwrap();
        assert_eq!(line.custom_id, "b");
        assert_eq!(line.body, r#"{ "input" : "\u0041", "model":"m" }"#);
        assert!(input.line(&bytes, 2).is_none());
        assert_eq!(read(GOOD).unwrap().lines.len(), 1, "the last line may lack its end");
    }

    #[test]
    fn each_mistake_of_a_line_is_told_with_its_line() {
        for (line, code, param) in [
            ("{", "invalid_json_line", None),
            ("", "invalid_json_line", None),
            ("\u{feff}{}", "invalid_json_line", None),
            ("[]", "invalid_request", None),
            (&with(r#""method""#, r#""verb":1,"method""#), "unknown_parameter", None),
            (&with(r#""custom_id":"a","#, ""), "missing_required_parameter", Some("custom_id")),
            (&with(r#""a""#, "7"), "invalid_type", Some("custom_id")),
            (&with(r#""a""#, r#""""#), "invalid_custom_id", Some("custom_id")),
            (
                &with(r#""a""#, &format!("\"{}\"", "é".repeat(65))),
                "invalid_custom_id",
                Some("custom_id"),
            ),
            (&with("POST", "GET"), "invalid_method", Some("method")),
            (&with("/v1/responses", "/v1/chat/completions"), "url_mismatch", Some("url")),
            (&with("/v1/responses", "responses"), "url_mismatch", Some("url")),
            (
                &with(r#","body":{"model":"m","input":"x"}"#, ""),
                "missing_required_parameter",
                Some("body"),
            ),
            (&with(r#""model":"m","#, ""), "missing_required_parameter", Some("body.model")),
            (
                &with(r#"{"model":"m","input":"x"}"#, "[]"),
                "missing_required_parameter",
                Some("body.model"),
            ),
            (&with(r#""m""#, r#""other""#), "model_not_found", Some("body.model")),
        ] {
            let text = format!("{}\n{line}\n", with("\"a\"", "\"first\""));
            let expected = if line.contains("\"other\"") { "mismatched_model" } else { code };
            assert_eq!(told(&text), [(expected, Some(2), param)], "{line}");
            assert_eq!(told(&format!("{line}\n")), [(code, Some(1), param)], "{line}");
        }
        let long = "é".repeat(64);
        assert!(read(&with("\"a\"", &format!("\"{long}\""))).is_ok(), "characters, not bytes");
    }

    #[test]
    fn lines_are_held_against_each_other() {
        let other = with(r#""m""#, r#""n""#).replace("\"a\"", "\"b\"");
        assert_eq!(
            told(&format!("{GOOD}\n{GOOD}\n{other}")),
            [
                ("duplicate_custom_id", Some(2), Some("custom_id")),
                ("mismatched_model", Some(3), Some("body.model"))
            ]
        );
    }

    #[test]
    fn files_that_are_empty_or_too_long_fail_as_a_whole() {
        assert_eq!(told(""), [("empty_file", None, None)]);
        assert_eq!(told(&format!("{GOOD}\n").repeat(4)), [("too_many_tasks", None, None)]);
    }
}
