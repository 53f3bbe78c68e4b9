//! Holds the dialect against the wire samples in `fixtures/wire/openai/batches/`, and against noise.
//!
//! A sample is one JSON file: `about`, `kind` (what it is a reply to), for a line its `endpoint`, for a
//! refusal its `status` and `headers`, the bytes as `body` (JSON) or `body_text`, and under `reads` what
//! they come to; what is not named there, or is null, is absent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;
use crate::domain::{
    AttemptId, BatchCounts, BatchEnd, Endpoint, FailureClass, Reading, RemoteStatus, Verdict,
};
use crate::provider::ReplyHeaders;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    #[serde(rename = "about")]
    _about: String,
    kind: String,
    endpoint: Option<Endpoint>,
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    body_text: Option<String>,
    reads: Value,
}

impl Sample {
    fn read(&self) -> Value {
        let body = match (&self.body, &self.body_text) {
            (Some(json), None) => serde_json::to_vec(json).unwrap(),
            (None, Some(text)) => text.clone().into_bytes(),
            _ => panic!("one of body and body_text"),
        };
        match self.kind.as_str() {
            "batch" => batch_object(&body).map_or_else(unreadable, of_batch),
            "file" => file_object(&body).map_or_else(unreadable, of_file),
            "batch_page" => {
                batch_page(&body).map_or_else(unreadable, |page| of_page(page, of_batch))
            }
            "file_page" => file_page(&body).map_or_else(unreadable, |page| of_page(page, of_file)),
            "refusal" => of_refusal(refusal(self.status.unwrap(), &self.headers(), &body)),
            "line" => match result_line(self.endpoint.unwrap(), &body) {
                Ok(line) => of_line(line),
                Err(Garbled { custom_id }) => json!({"garbled": custom_id}),
            },
            other => panic!("no kind of sample: {other}"),
        }
    }

    fn headers(&self) -> ReplyHeaders {
        let pair = |(name, value): (&String, &String)| {
            (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
        };
        ReplyHeaders::from_map(&self.headers.iter().map(pair).collect::<HeaderMap>())
    }
}

fn unreadable(Unreadable(what): Unreadable) -> Value {
    json!({"unreadable": what})
}

fn of_file(FileObject { id, filename, bytes, status }: FileObject) -> Value {
    json!({"id": id, "filename": filename, "bytes": bytes, "status": status})
}

fn of_batch(batch: BatchObject) -> Value {
    let status = match batch.status {
        RemoteStatus::Validating => "validating",
        RemoteStatus::InProgress => "in_progress",
        RemoteStatus::Finalizing => "finalizing",
        RemoteStatus::Cancelling => "cancelling",
        RemoteStatus::Ended(BatchEnd::Completed) => "completed",
        RemoteStatus::Ended(BatchEnd::Failed) => "failed",
        RemoteStatus::Ended(BatchEnd::Expired) => "expired",
        RemoteStatus::Ended(BatchEnd::Cancelled) => "cancelled",
    };
    let limit = token_limit(&batch.errors).map(|TokenLimit { told }| json!({"told": told}));
    let errors: Vec<Value> = batch.errors.into_iter().map(of_problem).collect();
    json!({
        "id": batch.id, "status": status, "word": batch.word,
        "input_file_id": batch.input_file_id, "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at, "expires_at": batch.expires_at,
        "counts": batch.counts.map(|BatchCounts { total, completed, failed }| [total, completed, failed]),
        "errors": (!errors.is_empty()).then_some(errors),
        "token": batch.token, "token_limit": limit,
    })
}

fn of_problem(BatchProblem { code, message, line }: BatchProblem) -> Value {
    json!({"code": code, "message": message, "line": line})
}

fn of_page<T>(Page { items, next }: Page<T>, each: impl Fn(T) -> Value) -> Value {
    json!({"items": items.into_iter().map(|item| each(item.object)).collect::<Vec<_>>(), "next": next})
}

fn of_refusal(RefusalOf { kind, message, retry_after }: RefusalOf) -> Value {
    let retry_after = retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap());
    json!({"kind": format!("{kind:?}"), "message": message, "retry_after_ms": retry_after})
}

fn of_line(line: ResultLine) -> Value {
    let mut told = json!({
        "custom_id": line.custom_id, "status": line.status_code,
        "request_id": line.provider_request_id,
        "finish_reason": line.reading.finish_reason,
        "usage": line.reading.usage.map(|u| [u.input, u.cached, u.output, u.reasoning]),
        "served_model": line.reading.served_model,
        "body_id": line.reading.provider_request_id,
    });
    match line.reading.verdict {
        Verdict::Text(text) => told["text"] = text.into(),
        Verdict::Truncated(text) => told["truncated"] = text.into(),
        Verdict::Failed { class, message } => {
            told["failed"] = class.as_str().into();
            told["message"] = message.into();
        }
    }
    told
}

/// Takes nulls out, at every depth.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, bare(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(bare).collect(),
        other => other,
    }
}

#[test]
fn every_wire_sample_reads_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire/openai/batches");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let sample: Sample = serde_json::from_slice(&fs::read(&path).unwrap())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(bare(sample.read()), bare(sample.reads), "{name}");
        seen += 1;
    }
    assert!(seen > 50, "only {seen} samples");
}

fn line(body: &[u8]) -> Result<ResultLine, Garbled> {
    result_line(Endpoint::ChatCompletions, body)
}

fn verdict(body: &str) -> Verdict {
    line(body.as_bytes()).unwrap().reading.verdict
}

fn class(body: &Value) -> Result<FailureClass, Verdict> {
    match verdict(&body.to_string()) {
        Verdict::Failed { class, .. } => Ok(class),
        other => Err(other),
    }
}

const GOOD: &str = r#"{"choices":[{"message":{"content":"yes"},"finish_reason":"stop"}]}"#;

fn good() -> Verdict {
    Verdict::Text("yes".to_owned())
}

/// A file of results as the traps have it: a byte order mark, carriage returns, blank lines, line
/// separators inside an answer, a line twice, a broken line, and an end without a line feed.
#[test]
fn one_bad_line_costs_that_line_and_no_other() {
    let good = |id: &str, text: &str| {
        let body = json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]});
        json!({"custom_id": id, "response": {"status_code": 200, "body": body}, "error": null})
            .to_string()
    };
    let broken = good("t-3", "three").replace("three", "th\"ree");
    let file = [
        format!("\u{feff}{}\r\n\r\n", good("t-2", "a\u{2028}b\u{2029}c\u{85}d")),
        format!("{broken}\n"),
        format!("{}\n", good("t-1", "one")),
        format!("{}\n \n", good("t-1", "one again")),
        good("t-4", "four"),
    ]
    .concat();
    let mut read = Vec::new();
    let mut each = |line: Line<'_>| {
        let told = match self::line(line.bytes) {
            Ok(ResultLine { custom_id, reading, .. }) => (custom_id, Some(reading.verdict)),
            Err(Garbled { custom_id }) => (custom_id, None),
        };
        read.push((line.number, line.is_whole, told));
    };
    let mut lines = Lines::new();
    for chunk in file.as_bytes().chunks(7) {
        lines.push(chunk, &mut each);
    }
    lines.finish(&mut each);
    let text = |text: &str| Some(Verdict::Text(text.to_owned()));
    let id = |id: &str| Some(id.to_owned());
    assert_eq!(
        read,
        [
            (1, true, (id("t-2"), text("a\u{2028}b\u{2029}c\u{85}d"))),
            (3, true, (id("t-3"), None)),
            (4, true, (id("t-1"), text("one"))),
            (5, true, (id("t-1"), text("one again"))),
            (7, false, (id("t-4"), text("four"))),
        ]
    );
}

#[test]
fn an_error_that_says_nothing_is_no_error() {
    for error in ["null", "\"\"", "{}", "[]", "{\"code\":null,\"message\":\"\"}"] {
        let body = format!(r#"{{"response":{{"status_code":200,"body":{GOOD}}},"error":{error}}}"#);
        assert_eq!(verdict(&body), good(), "{error}");
    }
    let body = format!(r#"{{"response":{{"status_code":"201","body":{GOOD}}}}}"#);
    assert_eq!(verdict(&body), good());
}

#[test]
fn an_error_without_a_status_is_classed_by_its_code_then_by_its_words() {
    use FailureClass::*;
    let table = [
        (json!({"code": "batch_expired"}), BatchExpired),
        (json!({"code": "BATCH_CANCELLED"}), BatchCancelled),
        (json!({"code": "batch_canceled", "message": "x"}), BatchCancelled),
        (json!({"code": "request_timeout"}), Timeout),
        (json!({"code": "timeout"}), Timeout),
        (json!({"code": "rate_limit_exceeded"}), RateLimited),
        (json!({"code": "server_error", "message": "invalid"}), ServerError),
        (json!({"code": "content_filter"}), ContentFiltered),
        (json!({"code": "context_length_exceeded"}), ContextTooLong),
        (json!({"code": "insufficient_quota"}), QuotaExhausted),
        (json!({"code": 400, "message": "x"}), InvalidRequest),
        (json!({"code": "429", "message": "x"}), RateLimited),
        (json!({"code": 500, "message": "invalid"}), ServerError),
        (json!({"code": null, "message": "The completion window expired."}), BatchExpired),
        (json!({"type": "invalid_request_error", "message": "odd"}), InvalidRequest),
        (json!("Invalid value for 'temperature'"), InvalidRequest),
        (json!("temperature must be below 2"), InvalidRequest),
        (json!("This model's maximum context length is 8 tokens"), ContextTooLong),
        (json!("The model `m` does not exist"), ModelNotFound),
        (json!("Could not parse 'the model does not exist'"), ServerError),
        (json!("flagged by our usage policies"), ContentFiltered),
        (json!("something broke"), ServerError),
        (json!({"code": "brand_new"}), ServerError),
        (json!({"error": {"message": "odd", "code": "batch_expired"}}), BatchExpired),
    ];
    for (error, wanted) in table {
        for response in [json!(null), json!({"status_code": 0}), json!({"status_code": 200})] {
            let body = json!({"response": response, "error": error});
            assert_eq!(class(&body), Ok(wanted), "{body}");
        }
    }
}

#[test]
fn the_end_of_a_batch_wins_over_a_status() {
    let body = json!({"response": {"status_code": 500, "body": {"error": {"message": "x"}}},
        "error": {"code": "batch_expired", "message": "y"}});
    assert_eq!(class(&body), Ok(FailureClass::BatchExpired));
}

#[test]
fn a_status_that_tells_no_result_is_malformed_and_stops_nothing() {
    for status in
        [json!(0), json!(100), json!(302), json!(600), json!(null), json!("OK"), json!(2.5)]
    {
        let body = json!({"response": {"status_code": status, "body": {}}, "error": null});
        assert_eq!(class(&body), Ok(FailureClass::MalformedReply), "{status}");
    }
    for response in [json!(null), json!(""), json!([]), json!(7)] {
        let body = json!({"response": response});
        assert_eq!(class(&body), Ok(FailureClass::MalformedReply), "{body}");
    }
}

#[test]
fn half_a_character_costs_no_answer() {
    let lone = br#"{"custom_id":"t-1","response":{"status_code":200,"body":{"choices":[{"message":{"content":"ok \ud83d"}}]}}}"#;
    assert_eq!(line(lone).unwrap().reading.verdict, Verdict::Text("ok \u{fffd}".to_owned()));
    let bytes = b"{\"custom_id\":\"t-1\",\"response\":{\"status_code\":200,\"body\":{\"choices\":[{\"message\":{\"content\":\"ok \xf0\x9f\"}}]}}}";
    let got = line(bytes).unwrap();
    assert_eq!(got.custom_id.as_deref(), Some("t-1"));
    assert_eq!(got.reading.verdict, Verdict::Text("ok \u{fffd}".to_owned()));
}

#[test]
fn whose_a_broken_line_is_can_be_told_only_beyond_doubt() {
    let fished = |text: &str| line(text.as_bytes()).unwrap_err().custom_id;
    let one = Some("t-1".to_owned());
    assert_eq!(fished(r#"{"custom_id":"t-1","response":{"#), one);
    assert_eq!(fished("{\"x\":\u{1},\"custom_id\" : \t\"t-1\""), one);
    assert_eq!(fished(r#"{"custom_id":"t-1"}{"custom_id":"t-1"}"#), one);
    assert_eq!(fished(r#"{"response":"say \"custom_id\":\"t-9\"","custom_id":"t-1","#), one);
    for text in [
        "",
        "{",
        r#"{"custom_id":"#,
        r#"{"custom_id":"t-1"#,
        r#"{"custom_id":"","x"#,
        r#"{"custom_id":"t 1","x"#,
        r#"{"custom_id":"t\u002d1","x"#,
        r#"{"custom_id":7,"x"#,
        r#"{"text":"\"custom_id\":\"t-1\"","#,
        r#"{"custom_id":"t-1"}{"custom_id":"t-2"}"#,
        &format!(r#"{{"custom_id":"{}","x"#, "t".repeat(65)),
    ] {
        assert_eq!(fished(text), None, "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_line_is_named_and_never_repeated() {
    for body in [
        "secret",
        "\"secret\"",
        "[\"secret\"]",
        r#"{"custom_id":"t-1","response":"secret"}"#,
        r#"{"response":{"status_code":200,"body":"secret"}}"#,
        r#"{"response":{"status_code":200,"body":{"choices":"secret"}}}"#,
        r#"{"response":{"status_code":"secret","body":{"a":"secret"}}}"#,
        r#"{"response":{"status_code":200,"body":{"choices":[{"message":{"content":"secret"#,
    ] {
        let told = match line(body.as_bytes()) {
            Ok(line) => format!("{line:?}"),
            Err(garbled) => format!("{garbled} {garbled:?}"),
        };
        assert!(!told.contains("secret"), "{body}: {told}");
    }
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = "[".repeat(200_000);
    for body in [
        deep.clone(),
        format!("{{\"error\":{deep}"),
        format!("{{\"data\":{deep}"),
        format!("{{\"response\":{{\"body\":{deep}"),
        format!("{{\"error\":{deep}{}}}", "]".repeat(200_000)),
        format!("{{\"response\":{{\"status_code\":200,\"body\":{deep}{}}}}}", "]".repeat(200_000)),
    ] {
        all_decoders(body.as_bytes());
    }
}

fn all_decoders(body: &[u8]) {
    let _ = (file_object(body), batch_object(body), file_page(body), batch_page(body));
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses] {
        let _ = result_line(endpoint, body);
    }
    for status in [200, 400, 404, 429, 500] {
        let got = refusal(status, &ReplyHeaders::default(), body);
        assert!(!got.message.is_empty());
        assert!(got.message.chars().count() <= 501);
        assert!(!got.message.contains(char::is_control));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            prop::sample::select(
                &[
                    "failed",
                    "COMPLETED",
                    "token_limit_exceeded",
                    "batch_expired",
                    "Limit: 2,0",
                    "{}"
                ][..]
            )
            .prop_map(Value::from),
            prop::sample::select(&[0, 200, 400, 404, 500, 70_000][..]).prop_map(Value::from),
        ];
    let key = prop::sample::select(
        &[
            "id",
            "custom_id",
            "response",
            "status_code",
            "request_id",
            "body",
            "error",
            "code",
            "message",
            "data",
            "job",
            "has_more",
            "last_id",
            "object",
            "status",
            "created_at",
            "request_counts",
            "total",
            "errors",
            "line",
            "metadata",
            "overnight_batch",
            "choices",
        ][..],
    );
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_can_make_a_decoder_panic(
        body in prop::collection::vec(any::<u8>(), 0..200),
        status in 0..1000_u16,
        text in "\\PC{0,40}",
    ) {
        all_decoders(&body);
        refusal(status, &ReplyHeaders::default(), &body);
        let problem = BatchProblem { code: None, message: format!("enqueued tokens limit: {text}"), line: None };
        prop_assert!(token_limit(&[problem]).is_some());
        let _ = (attempt_of(&text, ""), mentions_expiry(&text), mentions_missing_file(&text));
    }

    #[test]
    fn no_json_can_make_a_decoder_panic(value in any_json()) {
        all_decoders(value.to_string().as_bytes());
    }

    #[test]
    fn a_line_that_was_cut_never_reads_as_an_answer(at in 0..200_usize) {
        let whole = format!(r#"{{"custom_id":"t-1","response":{{"status_code":200,"body":{GOOD}}},"error":null}}"#);
        prop_assert_eq!(verdict(&whole), good());
        let cut = &whole.as_bytes()[..at.min(whole.len() - 1)];
        prop_assert!(line(cut).is_err());
    }

    #[test]
    fn what_was_asked_is_found_again_by_what_comes_back(
        number in 0..i64::MAX,
        text in "\\PC{0,40}",
        is_text in any::<bool>(),
    ) {
        let id = custom_id("o7f3a9c2e1b4d5f60", AttemptId(number));
        let body = json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]});
        let body = if is_text { json!(body.to_string()) } else { body };
        let line = json!({"custom_id": id, "response": {"status_code": 200, "body": body}});
        let got = self::line(line.to_string().as_bytes()).unwrap();
        let attempt = attempt_of(&got.custom_id.unwrap(), "o7f3a9c2e1b4d5f60");
        prop_assert_eq!(attempt, Some(AttemptId(number)));
        let Reading { verdict, .. } = got.reading;
        prop_assert_eq!(verdict, Verdict::Text(text));
    }
}
