//! What it means that a call to the Files or Batch API did not succeed.
//!
//! Most of all it must be told whether the call may have been carried out all the same: then the
//! provider's lists are read before anything is repeated. And a server without these APIs is told from one
//! that does not have this file or batch.

use std::time::Duration;

use serde::Deserialize;

use super::TokenLimit;
use super::problems::limit_in;
use crate::domain::{FailureClass, UnixMs, Verdict};
use crate::provider::decode::envelope::Told;
use crate::provider::decode::failures;
use crate::provider::decode::loose::{Loose, Present, object_shapes};
use crate::provider::{RateHeaders, ReplyHeaders, wait_in_message};

/// What to make of a call that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server has no such API. A 404 says it by its wording, or by holding no error of such an API, so the look at
    /// one file or batch can say it too.
    NoSuchApi,
    /// It has the API, and not this file or batch.
    NotFound,
    /// Too many calls; nothing was done.
    Busy,
    /// It may have been carried out or not.
    Unclear,
    /// The body is bigger than the server accepts.
    TooLarge,
    /// No more input tokens of this model may wait.
    TokenLimit(TokenLimit),
    /// What stops a run: every other call would be refused alike.
    Stops(FailureClass),
    /// It will not be carried out, for this reason or that.
    Refused,
}

/// A call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalOf {
    /// What to make of it.
    pub kind: Refusal,
    /// What the provider said, on one line and bounded, or what is wrong with its reply.
    pub message: String,
    /// How long to wait, as far as that can be told without a clock; one hour at most.
    pub retry_after: Option<Duration>,
}

/// Reads the reply to a call that did not succeed; also one that says success and cannot be read.
pub fn refusal(status: u16, headers: &ReplyHeaders, body: &[u8]) -> RefusalOf {
    let told = Told::read(body);
    let is_success = (200..=299).contains(&status);
    if is_success && !holds_error(body) {
        let message = "the reply says success and cannot be read".to_owned();
        return RefusalOf { kind: Refusal::Unclear, message, retry_after: None };
    }
    let reading = if is_success {
        failures::in_line(&told)
    } else {
        failures::reading(status, headers, body)
    };
    let (class, message) = match reading.verdict {
        Verdict::Failed { class, message } => (class, message),
        Verdict::Text(_) | Verdict::Truncated(_) => (FailureClass::MalformedReply, String::new()),
    };
    let retry_after = wait_told(headers).or_else(|| wait_in_message(&told.message));
    RefusalOf { kind: kind(status, &told, class), message, retry_after }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MayFail {
    error: Loose<Present>,
}

object_shapes!(MayFail);

fn holds_error(body: &[u8]) -> bool {
    let read = serde_json::from_slice::<Loose<MayFail>>(body);
    matches!(read, Ok(Loose::Is(MayFail { error: Loose::Is(Present) })))
}

/// A date cannot be told from here, so it is as if it had already passed, and left out.
fn wait_told(headers: &ReplyHeaders) -> Option<Duration> {
    let end_of_time = UnixMs(i64::MAX);
    RateHeaders::read(headers, end_of_time).retry_after.filter(|wait| !wait.is_zero())
}

fn kind(status: u16, told: &Told, class: FailureClass) -> Refusal {
    if status < 500
        && let Some(limit) = limit_in(&told.code, &told.message)
    {
        return Refusal::TokenLimit(limit);
    }
    match status {
        404 | 410 if class == FailureClass::ModelNotFound => Refusal::Stops(class),
        404 if is_path_missing(told) => Refusal::NoSuchApi,
        404 | 410 => Refusal::NotFound,
        405 | 501 => Refusal::NoSuchApi,
        413 => Refusal::TooLarge,
        420 | 429 | 498 if class != FailureClass::QuotaExhausted => Refusal::Busy,
        408 | 409 | 425 => Refusal::Unclear,
        300..=499 => of_class(class),
        // LM Studio says 200 to any path.
        200..=299 if speaks_of_path(told) => Refusal::NoSuchApi,
        200..=299 if class.stops_run() => Refusal::Stops(class),
        _ => Refusal::Unclear,
    }
}

/// Reads the class of a redirect, which stops a run wherever it is met, or of any other 4xx.
fn of_class(class: FailureClass) -> Refusal {
    use FailureClass as F;
    match class {
        F::QuotaExhausted
        | F::Unauthorized
        | F::Forbidden
        | F::ModelNotFound
        | F::EndpointNotFound => Refusal::Stops(class),
        F::RateLimited | F::Overloaded => Refusal::Busy,
        F::ServerError | F::Timeout | F::Connection | F::Unreachable | F::MalformedReply => {
            Refusal::Unclear
        }
        F::RequestTooLarge => Refusal::TooLarge,
        F::InvalidRequest
        | F::ContextTooLong
        | F::ContentFiltered
        | F::Refused
        | F::SchemaUnsupported
        | F::InvalidAnswer
        | F::RenderFailed
        | F::BatchExpired
        | F::BatchCancelled
        | F::BatchFailed
        | F::MissingFromBatch => Refusal::Refused,
    }
}

/// Says whether a 404 is about the path: in so many words, or by being no answer of such an API at all.
fn is_path_missing(told: &Told) -> bool {
    speaks_of_path(told) || !(told.is_envelope || speaks_of_object(told))
}

/// How servers say that they have no such path, in lower case.
const NO_PATH: [&str; 13] = [
    // OpenAI
    "invalid url (",
    "unrecognized request url",
    // Groq
    "unknown request url",
    // LM Studio
    "unexpected endpoint",
    // Kong, Cloudflare, Fastify
    "no route",
    "route not found",
    "route post:",
    "route get:",
    // Go, nginx, Apache, gateways
    "page not found",
    "path not found",
    "url was not found",
    "endpoint not found",
    "cannot post /",
];

fn speaks_of_path(told: &Told) -> bool {
    let message = told.message.trim().trim_end_matches('.');
    let lower = message.to_ascii_lowercase();
    told.code == "unknown_url"
        || lower == "not found"
        // llama.cpp, of any path; others say which file.
        || message == "File Not Found"
        || NO_PATH.iter().any(|phrase| lower.contains(phrase))
}

fn speaks_of_object(told: &Told) -> bool {
    let message = told.message.to_ascii_lowercase();
    let mut words = message.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| matches!(word, "file" | "batch" | "job")) && says_missing(&message).is_some()
}

/// Says whether a server refuses a file because it does not know that files can expire.
pub fn mentions_expiry(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["expires_after", "expires after", "expiresafter"].iter().any(|name| message.contains(name))
}

/// Says whether a server does not have the input file, or not yet.
pub fn mentions_missing_file(message: &str) -> bool {
    const ABOUT_ITS_CONTENT: [&str; 6] = ["model", "line", "row", "field", "column", "parameter"];
    let message = message.to_ascii_lowercase();
    if message.contains("no such file") || message.contains("file_not_found") {
        return true;
    }
    let not_ready =
        ["not processed", "not yet", "not ready", "still processing", "being processed"];
    let at = says_missing(&message)
        .or_else(|| not_ready.iter().filter_map(|phrase| message.find(phrase)).min());
    let Some(subject) = at.map(|at| &message[..at]) else { return false };
    let mut words = subject.split(|c: char| !c.is_ascii_alphanumeric());
    words.clone().any(|word| word == "file") && !words.any(|word| ABOUT_ITS_CONTENT.contains(&word))
}

/// Returns where a sentence, in lower case, says that something is not there.
fn says_missing(message: &str) -> Option<usize> {
    const MISSING: [&str; 8] = [
        "not found",
        "no such",
        "does not exist",
        "doesn't exist",
        "could not be found",
        "couldn't be found",
        "cannot be found",
        "unable to find",
    ];
    MISSING.iter().filter_map(|phrase| message.find(phrase)).min()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(status: u16, body: &str) -> RefusalOf {
        refusal(status, &ReplyHeaders::default(), body.as_bytes())
    }

    fn kind_of(status: u16, body: &str) -> Refusal {
        read(status, body).kind
    }

    fn error(message: &str, kind: &str, code: Option<&str>) -> String {
        json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
            .to_string()
    }

    #[test]
    fn every_status_without_a_body_has_its_meaning() {
        use FailureClass as F;
        use Refusal::{Busy, NoSuchApi, NotFound, Refused, Stops, TooLarge, Unclear};
        let table = [
            (0, Unclear),
            (100, Unclear),
            (200, Unclear),
            (201, Unclear),
            (302, Stops(F::EndpointNotFound)),
            (400, Refused),
            (401, Stops(F::Unauthorized)),
            (402, Stops(F::QuotaExhausted)),
            (403, Stops(F::Forbidden)),
            (404, NoSuchApi),
            (405, NoSuchApi),
            (408, Unclear),
            (409, Unclear),
            (410, NotFound),
            (413, TooLarge),
            (418, Refused),
            (422, Refused),
            (425, Unclear),
            (429, Busy),
            (498, Busy),
            (500, Unclear),
            (501, NoSuchApi),
            (502, Unclear),
            (503, Unclear),
            (504, Unclear),
            (524, Unclear),
            (529, Unclear),
            (999, Unclear),
        ];
        for (status, wanted) in table {
            let got = read(status, "");
            assert_eq!(got.kind, wanted, "{status}");
            assert!(!got.message.is_empty(), "{status}");
        }
    }

    #[test]
    fn a_server_without_the_api_is_told_from_a_missing_object() {
        let none = [
            error("Invalid URL (POST /v1/batches)", "invalid_request_error", None),
            error("Unknown request URL: POST /openai/v1/x. Please check", "x", Some("unknown_url")),
            error("File Not Found", "not_found_error", None),
            error("Not Found", "x", None),
            r#"{"detail":"Not Found"}"#.to_owned(),
            r#"{"message":"no Route matched with those values"}"#.to_owned(),
            r#"{"message":"Route POST:/v1/files not found","error":"Not Found","statusCode":404}"#
                .to_owned(),
            r#"{"status":404,"error":"Not Found","path":"/v1/files"}"#.to_owned(),
            "404 page not found\n".to_owned(),
            "<html>404 file batch not found</html>".to_owned(),
            "{}".to_owned(),
            "nope".to_owned(),
        ];
        for body in none {
            assert_eq!(kind_of(404, &body), Refusal::NoSuchApi, "{body}");
        }
        let missing = [
            error("No such File object: file-abc", "invalid_request_error", None),
            error("No batch found with id 'batch_1'.", "invalid_request_error", None),
            error("Input file not found", "x", None),
            error("gone", "x", None),
            r#"{"detail":"Batch batch_1 not found"}"#.to_owned(),
            r#"{"error":"file file-abc does not exist"}"#.to_owned(),
        ];
        for body in missing {
            assert_eq!(kind_of(404, &body), Refusal::NotFound, "{body}");
        }
        let lm_studio = r#"{"error":"Unexpected endpoint or method. (POST /v1/files)"}"#;
        assert_eq!(kind_of(200, lm_studio), Refusal::NoSuchApi);
        let model = error("The model `m` does not exist", "x", Some("model_not_found"));
        assert_eq!(kind_of(404, &model), Refusal::Stops(FailureClass::ModelNotFound));
    }

    #[test]
    fn too_many_batches_an_hour_is_a_wait_and_an_empty_account_is_not() {
        let headers =
            ReplyHeaders { retry_after: Some("17".to_owned()), ..ReplyHeaders::default() };
        let rate =
            error("Batch creation rate limit: 2,000 per hour", "x", Some("rate_limit_exceeded"));
        let got = refusal(429, &headers, rate.as_bytes());
        assert_eq!((got.kind, got.retry_after), (Refusal::Busy, Some(Duration::from_secs(17))));
        let quota = error("You exceeded your current quota", "insufficient_quota", None);
        assert_eq!(kind_of(429, &quota), Refusal::Stops(FailureClass::QuotaExhausted));
        assert_eq!(kind_of(400, &quota), Refusal::Stops(FailureClass::QuotaExhausted));
        let in_words = error("Please try again in 2s.", "x", None);
        assert_eq!(read(429, &in_words).retry_after, Some(Duration::from_secs(2)));
        let date = Some("Mon, 23 Nov 2026 12:00:30 GMT".to_owned());
        let date = ReplyHeaders { retry_after: date, ..ReplyHeaders::default() };
        assert_eq!(refusal(503, &date, b"").retry_after, None);
    }

    #[test]
    fn a_token_limit_told_at_once_is_known() {
        let body = error(
            "Enqueued token limit reached for m in organization o. Limit: 90,000 enqueued tokens.",
            "x",
            Some("token_limit_exceeded"),
        );
        for status in [200, 400, 403, 429] {
            let wanted = Refusal::TokenLimit(TokenLimit { told: Some(90_000) });
            assert_eq!(kind_of(status, &body), wanted, "{status}");
        }
        assert_eq!(kind_of(500, &body), Refusal::Unclear);
    }

    #[test]
    fn success_that_cannot_be_read_may_have_happened() {
        for body in
            ["", "{}", "secret", "<html>", r#"{"id":""}"#, r#"{"error":null}"#, "{\"id\":\"b"]
        {
            let got = read(200, body);
            assert_eq!(got.kind, Refusal::Unclear, "{body}");
            assert!(!got.message.contains("secret"), "{}", got.message);
        }
        let key =
            error("Incorrect API key provided: sk-0123456789abcdef", "x", Some("invalid_api_key"));
        let got = read(200, &key);
        assert_eq!(got.kind, Refusal::Stops(FailureClass::Unauthorized));
        assert!(!got.message.contains("0123"), "{}", got.message);
        assert_eq!(kind_of(200, &error("odd", "x", None)), Refusal::Unclear);
    }

    #[test]
    fn a_message_is_one_bounded_line() {
        let got = read(400, &error(&"a\nb ".repeat(1_000), "x", None));
        assert!(got.message.chars().count() <= 501);
        assert!(!got.message.contains('\n'));
    }

    #[test]
    fn a_server_that_does_not_know_expiry_is_told() {
        for message in [
            "Unknown parameter: 'expires_after'.",
            "Unknown parameter: 'expires_after[anchor]'.",
            "body.expires_after.seconds: Extra inputs are not permitted",
            "output_expires_after is not supported",
            "Expires after must be at least 1209600 seconds",
        ] {
            assert!(mentions_expiry(message), "{message}");
        }
        for message in ["The file has expired", "Unknown parameter: 'purpose'", ""] {
            assert!(!mentions_expiry(message), "{message}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_told() {
        for message in [
            "Input file not found",
            "No such File object: file-abc123",
            "No such file: file-abc",
            "The input file 'file-1' does not exist.",
            "File file-1 could not be found",
            "file_not_found",
            "File is not yet processed",
            "The file is still being processed",
        ] {
            assert!(mentions_missing_file(message), "{message}");
        }
        for message in [
            "Model not found in input file",
            "Input file: the model `m` does not exist",
            "Line 3 of the file: row not found",
            "Invalid file format for Batch API. Must be .jsonl",
            "Not found",
            "",
        ] {
            assert!(!mentions_missing_file(message), "{message}");
        }
    }
}
