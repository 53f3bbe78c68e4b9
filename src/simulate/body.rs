//! Bodies on their way in: their size, their type.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;

use super::reply::{INVALID, Problem};
use super::service::Stop;
use crate::engine::SentBody;

/// Reads a whole body of at most `most` bytes.
pub(super) async fn collect(body: SentBody, most: usize) -> Result<Bytes, Stop> {
    // An announced length is believed at once, so that the caller need not send it all in vain.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large().into());
    }
    let collected = Limited::new(body, most).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Stop::Problem(too_large())
        } else {
            // The client left in the middle of its own request.
            Stop::Gone
        }
    })
}

/// Checks that a body is said to be of the type `wanted`.
pub(super) fn check_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let told = format!(
        "Unsupported content type: '{kind}'. This API method only accepts '{wanted}' requests, \
         but you specified the header 'Content-Type: {given}'. Please try again with a supported \
         content type."
    );
    Err(Problem::invalid("", "unsupported_content_type", told))
}

/// Makes the 413 for a body.
pub(super) fn too_large() -> Problem {
    let code = Some("request_too_large");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, code, "The request body is too large.")
}
