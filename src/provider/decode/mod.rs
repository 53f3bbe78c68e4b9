//! From a reply's bytes to what it comes to.
//!
//! Total: any status, any headers, any bytes give a [`Reading`], in time linear in their length.
//! Servers that call themselves compatible disagree on everything but the middle of the road, so
//! what is not needed is not looked at, and what is needed and of another type makes a
//! `malformed_reply` that names the part and never repeats its content.
//!
//! ```text
//!   2xx ──▶ chat | responses ──▶ content, usage           anything else ──▶ envelope ──▶ classes
//!              └─ an `error` in a 200 ─────────────────────────────────────▶┘
//! ```
//!
//! An answer is never edited here: a `<think>` block or a code fence stays as it came.

mod chat;
mod classes;
mod content;
pub(super) mod envelope;
pub(super) mod failures;
pub(super) mod loose;
pub(super) mod mend;
pub(super) mod message;
mod responses;
mod usage;

#[cfg(test)]
mod samples;

use crate::domain::{Endpoint, FailureClass, Reading};
use crate::provider::ReplyHeaders;

/// Reads a reply; for a line of a batch, its inner status and body, and empty headers.
pub fn reading(endpoint: Endpoint, status: u16, headers: &ReplyHeaders, body: &[u8]) -> Reading {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let mut reading = match status {
        200..=299 => success(endpoint, body),
        _ => failures::reading(status, headers, body),
    };
    if headers.request_id.is_some() {
        reading.provider_request_id.clone_from(&headers.request_id);
    }
    reading
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

fn success(endpoint: Endpoint, body: &[u8]) -> Reading {
    let read = |body: &[u8]| match endpoint {
        Endpoint::ChatCompletions => chat::read(body),
        Endpoint::Responses => responses::read(body),
    };
    read(body).unwrap_or_else(|cause| {
        let mended = mend::mended(body).and_then(|body| read(&body).ok());
        mended.unwrap_or_else(|| malformed(unreadable(body, &cause)))
    })
}

fn malformed(what: impl Into<String>) -> Reading {
    Reading::failed(FailureClass::MalformedReply, what)
}

/// Says why a body could not be read at all. serde's own words would repeat parts of it.
fn unreadable(body: &[u8], cause: &serde_json::Error) -> &'static str {
    let text = body.trim_ascii_start();
    if text.is_empty() {
        "the reply is empty"
    } else if text.starts_with(b"<") {
        "the reply is a web page, not JSON; check the base URL"
    } else if text.starts_with(b"data:") || text.starts_with(b"event:") {
        "the reply is a stream of events, not one JSON object"
    } else if cause.is_eof() {
        "the reply's JSON is cut short"
    } else if cause.is_data() {
        "the reply's JSON has a field twice"
    } else {
        "the reply is not valid JSON"
    }
}
