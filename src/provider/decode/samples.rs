//! Holds the decoder against the wire samples in `fixtures/wire/`, and against noise.
//!
//! A sample is one JSON file: `about`, `endpoint`, `status`, `headers`, the reply as `body` (JSON) or
//! `body_text` (anything else), and under `reading` what it comes to; what is not named there is absent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::domain::{Usage, Verdict};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    #[serde(rename = "about")]
    _about: String,
    endpoint: Endpoint,
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    body_text: Option<String>,
    reading: Wanted,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    text: Option<String>,
    truncated: Option<String>,
    failed: Option<String>,
    message: Option<String>,
    finish_reason: Option<String>,
    usage: Option<[u64; 4]>,
    cache_write: Option<u64>,
    provider_request_id: Option<String>,
    served_model: Option<String>,
}

impl Wanted {
    fn reading(self) -> Reading {
        let verdict = match (self.text, self.truncated, self.failed, self.message) {
            (Some(text), None, None, None) => Verdict::Text(text),
            (None, Some(text), None, None) => Verdict::Truncated(text),
            (None, None, Some(class), Some(message)) => {
                Verdict::Failed { class: FailureClass::parse(&class).expect(&class), message }
            }
            other => panic!("a reading is one of text, truncated, failed + message: {other:?}"),
        };
        Reading {
            verdict,
            finish_reason: self.finish_reason,
            usage: self.usage.map(|[input, cached, output, reasoning]| Usage {
                input,
                cached,
                cache_write: self.cache_write.unwrap_or(0),
                output,
                reasoning,
            }),
            provider_request_id: self.provider_request_id,
            served_model: self.served_model,
        }
    }
}

fn header_map(headers: &BTreeMap<String, String>) -> HeaderMap {
    let pair = |(name, value): (&String, &String)| {
        (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
    };
    headers.iter().map(pair).collect()
}

#[test]
fn every_wire_sample_reads_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire/openai");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let sample: Sample = serde_json::from_slice(&fs::read(&path).unwrap())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let body = match (&sample.body, sample.body_text) {
            (Some(json), None) => serde_json::to_vec(json).unwrap(),
            (None, Some(text)) => text.into_bytes(),
            _ => panic!("{name}: one of body and body_text"),
        };
        let headers = ReplyHeaders::from_map(&header_map(&sample.headers));
        let got = reading(sample.endpoint, sample.status, &headers, &body);
        assert_eq!(got, sample.reading.reading(), "{name}");
        seen += 1;
    }
    assert!(seen > 60, "only {seen} samples");
}

fn read(endpoint: Endpoint, status: u16, body: &[u8]) -> Reading {
    reading(endpoint, status, &ReplyHeaders::default(), body)
}

fn chat(body: &str) -> Reading {
    read(Endpoint::ChatCompletions, 200, body.as_bytes())
}

fn class(status: u16, body: &str) -> FailureClass {
    match read(Endpoint::ChatCompletions, status, body.as_bytes()).verdict {
        Verdict::Failed { class, .. } => class,
        other => panic!("{status} {body}: {other:?}"),
    }
}

#[test]
fn every_status_without_a_body_has_its_class() {
    use FailureClass::*;
    let table = [
        (0, MalformedReply),
        (101, MalformedReply),
        (200, MalformedReply),
        (301, EndpointNotFound),
        (307, EndpointNotFound),
        (400, InvalidRequest),
        (401, Unauthorized),
        (402, QuotaExhausted),
        (403, Forbidden),
        (404, EndpointNotFound),
        (405, EndpointNotFound),
        (408, Timeout),
        (409, ServerError),
        (410, EndpointNotFound),
        (413, RequestTooLarge),
        (418, InvalidRequest),
        (422, InvalidRequest),
        (425, ServerError),
        (429, RateLimited),
        (498, RateLimited),
        (500, ServerError),
        (501, ServerError),
        (502, ServerError),
        (503, Overloaded),
        (504, Timeout),
        (520, ServerError),
        (524, Timeout),
        (529, Overloaded),
        (600, MalformedReply),
        (999, MalformedReply),
    ];
    for (status, wanted) in table {
        assert_eq!(class(status, ""), wanted, "{status}");
    }
}

#[test]
fn a_429_stops_the_run_only_for_a_code_of_an_empty_account() {
    let nested = |code: &str, kind: &str| {
        json!({"error": {"message": "m", "type": kind, "param": null, "code": code}}).to_string()
    };
    for code in [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "enforced_spend_limit_reached",
    ] {
        assert_eq!(class(429, &nested(code, "x")), FailureClass::QuotaExhausted, "{code}");
        assert_eq!(class(400, &nested(code, "x")), FailureClass::QuotaExhausted, "{code}");
    }
    assert_eq!(class(429, &nested("new", "insufficient_quota")), FailureClass::QuotaExhausted);
    for body in [
        nested("rate_limit_exceeded", "tokens"),
        nested("slow_down", "rate_limit_error"),
        r#"{"error":"INSUFFICIENT QUOTA"}"#.to_owned(),
        r#"{"error":"insufficient_quota"}"#.to_owned(),
        "INSUFFICIENT QUOTA".to_owned(),
        "<html>".to_owned(),
    ] {
        assert_eq!(class(429, &body), FailureClass::RateLimited, "{body}");
    }
}

#[test]
fn a_sentence_that_quotes_a_row_does_not_stop_the_run() {
    let body = |message: &str| json!({"error": {"message": message}}).to_string();
    for message in [
        "Invalid value: 'invalid api key'",
        "Unsupported value: 'temperature' does not support 0.2 with this model.",
        "Could not parse 'The model does not exist'",
        "Invalid content: your credit balance is too low",
    ] {
        assert_eq!(class(400, &body(message)), FailureClass::InvalidRequest, "{message}");
    }
}

#[test]
fn an_unknown_reason_to_stop_is_a_whole_answer() {
    let body = |word: Value| {
        json!({"choices": [{"message": {"content": "yes"}, "finish_reason": word}]}).to_string()
    };
    for word in [json!("eos"), json!("stop_sequence"), json!(null), json!("brand_new")] {
        assert_eq!(chat(&body(word.clone())).verdict, Verdict::Text("yes".to_owned()), "{word}");
    }
    for word in ["length", "MAX_TOKENS", "model_length", "model_context_window_exceeded"] {
        assert_eq!(
            chat(&body(json!(word))).verdict,
            Verdict::Truncated("yes".to_owned()),
            "{word}"
        );
    }
}

#[test]
fn what_is_wrong_is_named_and_never_repeated() {
    let bodies = [
        "secret",
        "\"secret\"",
        "[\"secret\"]",
        "{\"choices\":\"secret\"}",
        "{\"choices\":[\"secret\"]}",
        "{\"choices\":[{\"message\":\"secret\"}]}",
        "{\"choices\":[{\"message\":{\"content\":7,\"x\":\"secret\"}}]}",
        "{\"choices\":[{\"message\":{\"content\":[{\"text\":[\"secret\"]}]}}]}",
        "{\"choices\":[{\"message\":{\"content\":\"secret\"},\"finish_reason\":{\"a\":\"secret\"}}]}",
        "{\"choices\":[{\"message\":{\"content\":\"secret",
        "{\"choices\":[{\"message\":{\"content\":\"secret\\x\"}}]}",
        "{\"model\":\"secret\",\"model\":\"secret\"}",
        "{\"output\":\"secret\"}",
        "{\"output\":[\"secret\"]}",
        "{\"status\":[\"secret\"],\"output\":[]}",
        "{\"status\":\"secret\",\"output\":[]}",
        "{\"output\":[{\"type\":\"message\",\"content\":{\"a\":\"secret\"}}]}",
    ];
    for body in bodies {
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses] {
            let Verdict::Failed { class, message } = read(endpoint, 200, body.as_bytes()).verdict
            else {
                panic!("{body}");
            };
            assert_eq!(class, FailureClass::MalformedReply, "{body}");
            assert!(!message.contains("secret"), "{body}: {message}");
        }
    }
}

#[test]
fn a_text_cut_inside_a_character_is_kept() {
    let half = br#"{"choices":[{"message":{"content":"ok \ud83d"},"finish_reason":"stop"}]}"#;
    let got = read(Endpoint::ChatCompletions, 200, half);
    assert_eq!(got.verdict, Verdict::Text("ok \u{fffd}".to_owned()));
    let bytes = b"{\"choices\":[{\"message\":{\"content\":\"ok \xf0\x9f\"}}]}";
    let got = read(Endpoint::ChatCompletions, 200, bytes);
    assert_eq!(got.verdict, Verdict::Text("ok \u{fffd}".to_owned()));
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = "[".repeat(200_000);
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses] {
        for status in [200, 400] {
            read(endpoint, status, deep.as_bytes());
            read(endpoint, status, format!("{{\"error\":{deep}").as_bytes());
            read(endpoint, status, format!("{{\"choices\":[{{\"message\":{deep}").as_bytes());
        }
    }
}

#[test]
fn a_byte_order_mark_and_blank_lines_before_a_reply_do_not_matter() {
    let body = "\u{feff}\n\n {\"choices\":[{\"message\":{\"content\":\"x\"}}]}\n";
    assert_eq!(chat(body).verdict, Verdict::Text("x".to_owned()));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(&["length", "failed", "message", "output_text", "incomplete"][..])
            .prop_map(Value::from),
    ];
    let key = prop::sample::select(
        &[
            "choices",
            "message",
            "content",
            "finish_reason",
            "refusal",
            "tool_calls",
            "usage",
            "prompt_tokens",
            "total_tokens",
            "output",
            "status",
            "type",
            "text",
            "error",
            "code",
            "detail",
            "incomplete_details",
            "reason",
            "id",
            "model",
            "output_tokens_details",
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
    fn no_bytes_can_make_it_panic(
        body in prop::collection::vec(any::<u8>(), 0..200),
        status in 0..1000_u16,
        responses in any::<bool>(),
    ) {
        let endpoint = if responses { Endpoint::Responses } else { Endpoint::ChatCompletions };
        read(endpoint, status, &body);
        read(endpoint, 200, &body);
    }

    #[test]
    fn no_json_can_make_it_panic_or_say_too_much(
        value in any_json(),
        status in prop::sample::select(&[200_u16, 400, 403, 404, 429, 500][..]),
        responses in any::<bool>(),
    ) {
        let endpoint = if responses { Endpoint::Responses } else { Endpoint::ChatCompletions };
        let got = read(endpoint, status, value.to_string().as_bytes());
        if let Verdict::Failed { message, .. } = got.verdict {
            prop_assert!(!message.is_empty());
            prop_assert!(message.chars().count() <= 501);
            prop_assert!(!message.contains(char::is_control));
        }
    }

    #[test]
    fn a_cut_reply_never_reads_as_an_answer(at in 0..200_usize) {
        let whole = br#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"positive","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#;
        let at = at.min(whole.len() - 1);
        let got = read(Endpoint::ChatCompletions, 200, &whole[..at]);
        let is_malformed =
            matches!(got.verdict, Verdict::Failed { class: FailureClass::MalformedReply, .. });
        prop_assert!(is_malformed);
    }
}
