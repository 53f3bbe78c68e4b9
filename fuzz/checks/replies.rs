//! Replies of a server: `ENDPOINT STATUS`, headers, a blank line, the body.
//!
//! Any of them comes to a reading, whose words are fit for a terminal and whose waits are an hour at most; and a
//! plain good reply comes to exactly the text that stands in it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use overnight::domain::{Endpoint, Reading, UnixMs, Verdict};
use overnight::provider::batch::{mentions_expiry, mentions_missing_file, refusal};
use overnight::provider::{
    RateHeaders, ReplyHeaders, Window, reading, refuses_schemas, wait_in_message,
};
use serde_json::Value;

/// 2026-11-23T12:00:00Z.
const NOW: UnixMs = UnixMs(1_795_435_200_000);
const HOUR: Duration = Duration::from_hours(1);
/// A message is cut at 500 characters, of four bytes at most.
pub(super) const MOST_BYTES: usize = 2_200;

/// Checks a reply.
pub fn check(data: &[u8]) {
    let (head, body) = head_and_body(data);
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let (endpoint, status) = lines.next().unwrap_or_default().split_once(' ').unwrap_or_default();
    let endpoint = Endpoint::parse(endpoint).unwrap_or(Endpoint::ChatCompletions);
    let status = status.trim().parse().unwrap_or(200);
    let headers = ReplyHeaders::from_map(&map(lines));
    check_headers(&headers);

    let read = reading(endpoint, status, &headers, body);
    assert_eq!(read, reading(endpoint, status, &headers, body));
    check_reading(&read);
    says_what_stands_there(endpoint, status, body, &read);

    let refused = refusal(status, &headers, body);
    super::assert_message(&refused.message, MOST_BYTES);
    assert!(refused.retry_after.is_none_or(|wait| wait <= HOUR));
    let text = String::from_utf8_lossy(body);
    assert!(wait_in_message(&text).is_none_or(|wait| wait <= HOUR));
    let _ = (mentions_expiry(&text), mentions_missing_file(&text), refuses_schemas(&text));
}

fn head_and_body(data: &[u8]) -> (&[u8], &[u8]) {
    match data.windows(2).position(|window| window == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (b"", data),
    }
}

fn map<'a>(lines: impl Iterator<Item = &'a str>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')).take(64) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim().as_bytes())) {
            map.append(name, value);
        }
    }
    map
}

fn check_headers(headers: &ReplyHeaders) {
    let rates = RateHeaders::read(headers, NOW);
    let bounded = |window: &Window| window.reset.is_none_or(|reset| reset <= HOUR);
    assert!(bounded(&rates.requests) && bounded(&rates.tokens));
    assert!(rates.retry_after.is_none_or(|wait| wait <= HOUR));
    for now in [UnixMs(0), UnixMs(i64::MAX), UnixMs(i64::MIN)] {
        let _ = RateHeaders::read(headers, now);
    }
}

/// Asserts what holds of a reading, wherever it came from.
pub(super) fn check_reading(read: &Reading) {
    match &read.verdict {
        Verdict::Failed { message, .. } => super::assert_message(message, MOST_BYTES),
        Verdict::Text(_) | Verdict::Truncated(_) => {}
    }
    if let Some(usage) = &read.usage {
        assert!(usage.cached + usage.cache_write <= usage.input && usage.reasoning <= usage.output);
        assert!(i64::try_from(usage.input).is_ok() && i64::try_from(usage.output).is_ok());
    }
    for name in [&read.finish_reason, &read.provider_request_id, &read.served_model] {
        super::assert_message(name.as_deref().unwrap_or_default(), 1_000);
    }
}

/// The oracle: a chat completion's text, found with nothing but a JSON tree.
fn says_what_stands_there(endpoint: Endpoint, status: u16, body: &[u8], read: &Reading) {
    let Verdict::Text(text) = &read.verdict else { return };
    assert!((200..=299).contains(&status), "an answer with status {status}");
    let Ok(tree) = serde_json::from_slice::<Value>(body) else { return };
    let told = match endpoint {
        Endpoint::ChatCompletions => tree.pointer("/choices/0/message/content"),
        Endpoint::Responses => return,
    };
    if let Some(Value::String(told)) = told {
        assert_eq!(text, told);
    }
}
