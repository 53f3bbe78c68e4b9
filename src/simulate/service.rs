//! Routes: which request goes where, and what every reply carries.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use http::header::{ALLOW, AUTHORIZATION};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::ledger::{Books, lock};
use super::limits::Limits;
use super::reply::{INVALID, Outgoing, Problem, Reply};
use super::server::Fate;
use super::{Settings, call, models};
use crate::domain::Endpoint;

/// What all connections share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) ledger: Books,
    pub(super) limits: Option<Mutex<Limits>>,
    /// How many requests could have been answered so far.
    pub(super) good_requests: AtomicU64,
    /// The conversations that the fault `length` has struck.
    pub(super) truncated: Mutex<HashSet<[u8; 32]>>,
    /// How many requests came, of whatever kind.
    requests: AtomicU64,
}

/// Why no reply to a good request is made.
#[derive(Debug)]
pub(super) enum Stop {
    /// An error is replied.
    Problem(Problem),
    /// Nothing is replied, and the connection ends.
    Gone,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// The connection is to be closed without a reply.
#[derive(Debug, thiserror::Error)]
#[error("the connection ends without a reply")]
pub(super) struct Closed;

impl State {
    /// Makes the state of a simulator that has seen nothing; opens the ledger's file.
    pub(super) fn new(settings: Settings) -> io::Result<Self> {
        let ledger = Books::open(settings.ledger.as_deref())?;
        let limited = settings.rpm.is_some() || settings.tpm.is_some();
        let limits =
            limited.then(|| Mutex::new(Limits::new(settings.rpm, settings.tpm, Instant::now())));
        Ok(Self {
            settings,
            ledger,
            limits,
            good_requests: AtomicU64::new(0),
            truncated: Mutex::default(),
            requests: AtomicU64::new(0),
        })
    }

    /// Checks that a request carries the key, if one is demanded.
    pub(super) fn check_key(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(key) = &self.settings.api_key else { return Ok(()) };
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent = sent.and_then(|value| value.strip_prefix("Bearer "));
        if sent == Some(key) { Ok(()) } else { Err(Problem::wrong_key()) }
    }
}

/// Answers one request, or has its connection closed.
pub(super) async fn serve(
    state: Arc<State>,
    fate: Arc<Fate>,
    request: Request<Incoming>,
) -> Result<Response<Outgoing>, Closed> {
    let started = Instant::now();
    let number = state.requests.fetch_add(1, Ordering::Relaxed);
    let mut reply = match route(&state, &fate, request).await {
        Ok(reply) => reply,
        Err(Stop::Gone) => return Err(Closed),
        Err(Stop::Problem(problem)) => {
            state.ledger.count_error(problem.word());
            Reply::from(problem)
        }
    };
    if let Some(limits) = &state.limits {
        lock(limits).write_headers(&mut reply.headers, Instant::now());
    }
    let mut rng = Rng::with_seed(state.settings.seed.wrapping_add(number));
    let took = started.elapsed().as_millis().to_string();
    let reply = reply
        .with(HeaderName::from_static("x-request-id"), &format!("req_{:032x}", rng.u128(..)))
        .with(HeaderName::from_static("openai-version"), "2020-10-01")
        .with(HeaderName::from_static("openai-processing-ms"), &took);
    Ok(reply.into_response())
}

async fn route(state: &State, fate: &Fate, request: Request<Incoming>) -> Result<Reply, Stop> {
    let path = request.uri().path().to_owned();
    let completes = match path.as_str() {
        "/v1/chat/completions" => Some(Endpoint::ChatCompletions),
        "/v1/responses" => Some(Endpoint::Responses),
        _ => None,
    };
    let model = path.strip_prefix("/v1/models/").filter(|name| !name.is_empty());
    let known = path == "/ledger" || path == "/v1/models" || model.is_some();
    match (completes, request.method()) {
        (Some(endpoint), &Method::POST) => call::complete(state, fate, endpoint, request).await,
        (Some(_), method) => Ok(wrong_method(state, method, &path, "POST")),
        (None, &Method::GET) => Ok(get(state, &path, model, request.headers())?),
        (None, method) if known => Ok(wrong_method(state, method, &path, "GET")),
        (None, method) => Err(unknown_path(method, &path).into()),
    }
}

fn get(
    state: &State,
    path: &str,
    model: Option<&str>,
    headers: &HeaderMap,
) -> Result<Reply, Problem> {
    let served = &state.settings.models;
    let value = match (path, model) {
        // The simulator's own; a provider has no such thing, so no key is asked for.
        ("/ledger", _) => serde_json::to_value(state.ledger.snapshot()).unwrap_or_default(),
        ("/v1/models", _) => {
            state.check_key(headers)?;
            models::list(served)
        }
        (_, Some(name)) => {
            state.check_key(headers)?;
            models::get(served, &decode_percent(name))?
        }
        (_, None) => return Err(unknown_path(&Method::GET, path)),
    };
    Ok(Reply::json(StatusCode::OK, &value))
}

fn unknown_path(method: &Method, path: &str) -> Problem {
    let told = format!("Invalid URL ({method} {path})");
    Problem::new(StatusCode::NOT_FOUND, INVALID, Some("unknown_url"), told)
}

fn wrong_method(state: &State, method: &Method, path: &str, allowed: &str) -> Reply {
    let told = format!(
        "Not allowed to {method} on {path} (HINT: Perhaps you meant to use a different HTTP method?)"
    );
    let code = Some("method_not_supported");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, code, told);
    state.ledger.count_error(problem.word());
    Reply::from(problem).with(ALLOW, allowed)
}

/// Decodes `%2F` and the like; what is no such sequence stays as it is.
fn decode_percent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let coded = after.get(..2).filter(|_| *first == b'%');
        let coded = coded.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = coded.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::decode_percent;

    #[test]
    fn names_of_models_are_decoded() {
        assert_eq!(decode_percent("openai%2Fgpt-oss%3a20b"), "openai/gpt-oss:20b");
        assert_eq!(decode_percent("100%"), "100%");
        assert_eq!(decode_percent("%zz%4"), "%zz%4");
        assert_eq!(decode_percent("%ED%95%9C"), "한");
    }
}
