//! One line of a result file: whose it is, and what it comes to.
//!
//! Lines of both files are read alike: a failed request can stand in either, with `error` null and
//! its error inside the body. A line is a success only if nothing speaks against it.
//!
//! ```text
//!   {"id":…,"custom_id":…,"response":{"status_code":…,"request_id":…,"body":BODY},"error":null}
//!                                                                      └──▶ as the reply of a realtime call
//! ```
//!
//! The body is handed on as the bytes that came, without a copy of its text.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::MapAccess;
use serde_json::value::RawValue;

use super::shapes::Id;
use crate::domain::{Endpoint, FailureClass, Reading};
use crate::provider::decode::envelope::Told;
use crate::provider::decode::loose::{Loose, Shape, from_object};
use crate::provider::decode::message::short;
use crate::provider::decode::{failures, mend};
use crate::provider::{ReplyHeaders, reading};

/// A line of an output or error file. It holds people's data: never logged.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultLine {
    /// Whose it is; by this alone it is matched.
    pub custom_id: Option<String>,
    /// The inner status.
    pub status_code: Option<u16>,
    /// The provider's id for the request, or else for the line.
    pub provider_request_id: Option<String>,
    /// What it comes to.
    pub reading: Reading,
}

/// A line that is not a JSON object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the line is not a JSON object")]
pub struct Garbled {
    /// Whose it is, if that can be read all the same and beyond doubt.
    pub custom_id: Option<String>,
}

/// Reads a line of a result file.
pub fn result_line(endpoint: Endpoint, bytes: &[u8]) -> Result<ResultLine, Garbled> {
    match read(endpoint, bytes) {
        Ok(line) => line,
        Err(_) => mend::mended(bytes).and_then(|bytes| read(endpoint, &bytes).ok()).flatten(),
    }
    .ok_or_else(|| Garbled { custom_id: fished(bytes) })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LineOnWire<'a> {
    id: Loose<Id>,
    custom_id: Loose<String>,
    #[serde(borrow)]
    response: Loose<Response<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response<'a> {
    status_code: Loose<Status>,
    request_id: Loose<Id>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

struct Status(u16);

impl Shape<'_> for Status {
    fn text(text: &str) -> Option<Self> {
        text.trim().parse().ok().map(Self)
    }

    fn number(number: f64) -> Option<Self> {
        let is_status = number.fract() == 0.0 && (0.0..=f64::from(u16::MAX)).contains(&number);
        is_status.then_some(Self(number as u16))
    }
}

impl<'de: 'a, 'a> Shape<'de> for LineOnWire<'a> {
    fn object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        from_object(object)
    }
}

impl<'de: 'a, 'a> Shape<'de> for Response<'a> {
    fn object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        from_object(object)
    }
}

fn read(endpoint: Endpoint, bytes: &[u8]) -> serde_json::Result<Option<ResultLine>> {
    let Loose::Is(line) = serde_json::from_slice::<Loose<LineOnWire<'_>>>(bytes)? else {
        return Ok(None);
    };
    let has_response = matches!(line.response, Loose::Is(_));
    let response = line.response.get().unwrap_or_default();
    let status_code = response.status_code.get().map(|Status(status)| status);
    let request_id = response.request_id.get().or(line.id.get());
    let parts = Parts {
        status_code,
        has_response,
        body: response.body.map(body_bytes),
        error: line.error.map(|error| error.get().as_bytes()),
    };
    Ok(Some(ResultLine {
        custom_id: line.custom_id.get().filter(|id| !id.is_empty()),
        status_code,
        provider_request_id: request_id.map(|Id(id)| short(&id)),
        reading: parts.reading(endpoint),
    }))
}

/// Some write the body as a JSON text inside a JSON text.
fn body_bytes(body: &RawValue) -> Cow<'_, [u8]> {
    let raw = body.get().as_bytes();
    if !raw.starts_with(b"\"") {
        return Cow::Borrowed(raw);
    }
    let text = |raw: &[u8]| serde_json::from_slice::<String>(raw).ok();
    text(raw)
        .or_else(|| text(&mend::mended(raw)?))
        .map_or(Cow::Borrowed(raw), |text| Cow::Owned(text.into_bytes()))
}

struct Parts<'a> {
    status_code: Option<u16>,
    has_response: bool,
    body: Option<Cow<'a, [u8]>>,
    error: Option<&'a [u8]>,
}

impl Parts<'_> {
    fn reading(self, endpoint: Endpoint) -> Reading {
        let told = self.error.map(Told::read).filter(says_something);
        let plain = |status, body: &[u8]| reading(endpoint, status, &ReplyHeaders::default(), body);
        match (told, self.status_code, &self.body) {
            (Some(told), Some(status @ 400..=599), body) => {
                let in_line = failures::in_line(&told);
                let body = body.as_deref().filter(|body| says_something(&Told::read(body)));
                match body.or(self.error) {
                    Some(error) if !is_end_of_batch(&in_line) => plain(status, error),
                    Some(_) | None => in_line,
                }
            }
            (Some(told), _, _) => failures::in_line(&told),
            (None, Some(status @ 200..=299), Some(body)) => plain(status, body),
            (None, Some(200..=299), None) => malformed("the line's response has no body"),
            // A redirect would read as a wrong base URL, which is none of a line's.
            (None, Some(300..=399), _) => malformed("the line's status is a redirect"),
            (None, Some(status), body) => plain(status, body.as_deref().unwrap_or_default()),
            (None, None, _) if self.has_response => malformed("the line's response has no status"),
            (None, None, _) => malformed("the line has neither a response nor an error"),
        }
    }
}

/// An error that is there and holds nothing (`{}`, `""`) is as if it were null.
fn says_something(told: &Told) -> bool {
    let Told { code, kind, param, message, is_page, is_envelope: _ } = told;
    *is_page || [code, kind, param, message].iter().any(|part| !part.is_empty())
}

fn is_end_of_batch(reading: &Reading) -> bool {
    use crate::domain::Verdict::Failed;
    use FailureClass::{BatchCancelled, BatchExpired};
    matches!(reading.verdict, Failed { class: BatchExpired | BatchCancelled, .. })
}

fn malformed(what: &str) -> Reading {
    Reading::failed(FailureClass::MalformedReply, what)
}

/// Finds the `custom_id` of a broken line. Inside an answer its quotes would be escaped, so what is found is the
/// line's own; two that differ are two lines run together.
fn fished(bytes: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\"custom_id\"";
    let mut found: Option<&[u8]> = None;
    let mut rest = bytes;
    while let Some(at) = rest.windows(KEY.len()).position(|part| part == KEY) {
        rest = &rest[at + KEY.len()..];
        let Some(id) = value(rest) else { continue };
        if found.is_some_and(|earlier| earlier != id) {
            return None;
        }
        found = Some(id);
    }
    std::str::from_utf8(found?).ok().map(str::to_owned)
}

fn value(after_key: &[u8]) -> Option<&[u8]> {
    const MAX_BYTES: usize = 64;
    let text = after_key.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let text = text.strip_prefix(b"\"")?;
    let is_ours = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let length = text.iter().take_while(|byte| is_ours(byte)).count();
    let is_whole = text.get(length) == Some(&b'"') && (1..=MAX_BYTES).contains(&length);
    is_whole.then(|| &text[..length])
}
