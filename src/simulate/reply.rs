//! Replies on their way to the socket: OpenAI's error envelope, its headers, and how bytes leave.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::{Value, json};
use tokio::time::Sleep;

use super::limits::{Excess, go_duration};

/// An error that OpenAI's envelope carries.
#[derive(Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) code: Option<&'static str>,
    pub(super) param: Option<String>,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

impl Problem {
    /// Makes an error of any kind.
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, kind, code, param: None, message: message.into(), retry_after: None }
    }

    /// Makes a 400 about one parameter, or about the whole body where `param` is empty.
    pub(super) fn invalid(param: &str, code: &'static str, message: impl Into<String>) -> Self {
        let made = Self::new(StatusCode::BAD_REQUEST, INVALID, Some(code), message);
        Self { param: (!param.is_empty()).then(|| param.to_owned()), ..made }
    }

    /// Makes the 404 for a model that is not served.
    pub(super) fn no_model(name: &str) -> Self {
        let name: String = name.chars().take(128).collect();
        let told = format!("The model `{name}` does not exist or you do not have access to it.");
        Self::new(StatusCode::NOT_FOUND, INVALID, Some("model_not_found"), told)
    }

    /// Makes the 401 for a key that is missing or wrong; it does not repeat the key.
    pub(super) fn wrong_key() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            INVALID,
            Some("invalid_api_key"),
            "Incorrect API key provided. You can find your API key at \
             https://platform.openai.com/account/api-keys.",
        )
    }

    /// Makes the 429 for a request over a limit.
    pub(super) fn over_limit(model: &str, excess: &Excess) -> Self {
        let Excess { meter, limit, used, requested, .. } = excess;
        let told = match excess.wait {
            Some(wait) => format!(
                "Rate limit reached for {model} in organization org-simulated on {meter}: Limit \
                 {limit}, Used {used}, Requested {requested}. Please try again in {}. Visit \
                 https://platform.openai.com/account/rate-limits to learn more.",
                go_duration(wait)
            ),
            None => format!(
                "Request too large for {model} in organization org-simulated on {meter}: Limit \
                 {limit}, Requested {requested}. The input or output tokens must be reduced in \
                 order to run successfully."
            ),
        };
        Self { retry_after: excess.wait, ..Self::rate_limit(excess.kind, told) }
    }

    /// Makes the 500 of a provider that broke down.
    pub(super) fn server_error() -> Self {
        let told = "The server had an error while processing your request. Sorry about that!";
        let code = "server_error";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, Some(code), told)
    }

    /// Makes a 429 that passes.
    pub(super) fn rate_limit(kind: &'static str, message: String) -> Self {
        let code = Some("rate_limit_exceeded");
        Self::new(StatusCode::TOO_MANY_REQUESTS, kind, code, message)
    }

    /// Returns the word under which the ledger counts it.
    pub(super) fn word(&self) -> &'static str {
        self.code.unwrap_or(self.kind)
    }

    /// Writes the reply's JSON.
    pub(super) fn envelope(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

/// OpenAI's word for whatever the caller did wrong.
pub(super) const INVALID: &str = "invalid_request_error";

/// What makes one completion that completion.
#[derive(Debug)]
pub(super) struct Stamp {
    /// 32 characters that stand in all its ids.
    pub(super) id: String,
    /// Seconds since 1970-01-01 UTC.
    pub(super) created: i64,
}

/// A reply that is ready to leave.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) pace: Pace,
}

/// How a body leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// All at once.
    Whole,
    /// In parts, with this time between them.
    Drip(Duration),
    /// The first half, and then the connection is closed.
    Cut,
}

impl Reply {
    /// Makes a reply of JSON.
    pub(super) fn json(status: StatusCode, value: &Value) -> Self {
        Self::typed(status, "application/json", value.to_string())
    }

    /// Makes a reply of another type.
    pub(super) fn typed(
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: body.into(), pace: Pace::Whole }
    }

    /// Adds a header, unless its value cannot stand in one.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Gives the reply to hyper.
    pub(super) fn into_response(self) -> Response<Outgoing> {
        let length = self.body.len();
        let mut response = Response::new(Outgoing::new(self.body, self.pace));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        response
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let reply = Self::json(problem.status, &problem.envelope());
        let Some(wait) = problem.retry_after else { return reply };
        let seconds = wait.as_millis().div_ceil(1000).max(1).to_string();
        reply
            .with(RETRY_AFTER, &seconds)
            .with(HeaderName::from_static("retry-after-ms"), &wait.as_millis().to_string())
    }
}

/// A body that leaves at its pace.
#[derive(Debug)]
pub(super) struct Outgoing {
    parts: VecDeque<Bytes>,
    /// Waited out before each part but the first, and before the connection is closed.
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Good,
    Broken,
}

/// How many parts a slow reply comes in.
const PARTS: usize = 8;
/// How long a cut reply's first half is given to leave before the connection is closed.
const CUT_PAUSE: Duration = Duration::from_millis(5);

impl Outgoing {
    fn new(body: Bytes, pace: Pace) -> Self {
        let (parts, pause, end) = match pace {
            Pace::Whole => (VecDeque::from([body]), Duration::ZERO, End::Good),
            Pace::Drip(pause) => {
                let size = body.len().div_ceil(PARTS).max(1);
                let parts = (0..body.len()).step_by(size);
                let parts = parts.map(|at| body.slice(at..body.len().min(at + size)));
                (parts.collect(), pause, End::Good)
            }
            Pace::Cut => (VecDeque::from([body.slice(..body.len() / 2)]), CUT_PAUSE, End::Broken),
        };
        Self { parts, pause, sleep: None, end }
    }

    fn is_whole(&self) -> bool {
        self.end == End::Good && self.pause.is_zero()
    }
}

/// The connection is to be closed in the middle of a body.
#[derive(Debug, thiserror::Error)]
#[error("the reply is cut as ordered")]
pub(super) struct CutShort;

impl Body for Outgoing {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(context));
            self.sleep = None;
        }
        let Some(part) = self.parts.pop_front() else {
            return Poll::Ready((self.end == End::Broken).then_some(Err(CutShort)));
        };
        let more = !self.parts.is_empty() || self.end == End::Broken;
        if more && !self.pause.is_zero() {
            self.sleep = Some(Box::pin(tokio::time::sleep(self.pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.end == End::Good
    }

    /// Tells the length of a whole body only: a cut one must not contradict its header.
    fn size_hint(&self) -> SizeHint {
        if self.is_whole() {
            SizeHint::with_exact(self.parts.iter().map(|part| part.len() as u64).sum())
        } else {
            SizeHint::default()
        }
    }
}
