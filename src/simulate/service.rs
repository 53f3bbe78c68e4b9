//! Routes: which request goes where, and what every reply carries.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use http::header::{ALLOW, AUTHORIZATION};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use tokio::time::Instant;

use super::batches::{self, Desk};
use super::draws::Draws;
use super::fault::{Fault, Moment};
use super::files::{self, Shelf};
use super::ledger::{Books, Ledger, lock};
use super::limits::Limits;
use super::reply::{INVALID, Outgoing, Problem, Reply};
use super::server::Fate;
use super::{ModelLikeness, Settings, call, models};
use crate::domain::{Endpoint, UnixMs};
use crate::engine::{Clock, SentBody};

/// What all connections share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) ledger: Books,
    /// The server's limits.
    pub(super) limits: Option<Mutex<Limits>>,
    /// The limits of the models that have some of their own.
    pub(super) limits_of: HashMap<String, Mutex<Limits>>,
    pub(super) files: Mutex<Shelf>,
    pub(super) desk: Desk,
    pub(super) draws: Draws,
    /// The conversations that the fault `length` has struck.
    pub(super) truncated: Mutex<HashSet<[u8; 32]>>,
    /// How many requests came, of whatever kind.
    requests: AtomicU64,
    time: Time,
}

/// Which time goes by, and on which threads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Time {
    /// That of the settings; work that takes long may go to a thread of its own.
    OfSettings,
    /// That of the settings, with all work on the caller's thread.
    OfSettingsOnOneThread,
    /// That of a clock, with all work on the caller's thread.
    Of(Clock),
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
    pub(super) fn new(settings: Settings, time: Time) -> io::Result<Self> {
        let ledger = Books::open(settings.ledger.as_deref(), settings.likeness.remembers)?;
        let started = time.now(&settings);
        let own = |(name, model): (&String, &ModelLikeness)| {
            let is_limited = model.rpm.is_some() || model.tpm.is_some();
            let limits = || Mutex::new(Limits::new(model.rpm, model.tpm, Instant::now()));
            is_limited.then(|| (name.clone(), limits()))
        };
        let limits_of = settings.likeness.models.iter().filter_map(own).collect();
        let limited = settings.rpm.is_some() || settings.tpm.is_some();
        let limits =
            limited.then(|| Mutex::new(Limits::new(settings.rpm, settings.tpm, Instant::now())));
        Ok(Self {
            files: Mutex::new(Shelf::new(settings.seed, started, settings.likeness.keeps)),
            desk: Desk::new(settings.seed, started),
            settings,
            ledger,
            limits,
            limits_of,
            draws: Draws::default(),
            truncated: Mutex::default(),
            requests: AtomicU64::new(0),
            time,
        })
    }

    /// Returns the time.
    pub(super) fn now(&self) -> UnixMs {
        self.time.now(&self.settings)
    }

    /// Says whether work that takes long may go to a thread of its own.
    pub(super) fn has_threads(&self) -> bool {
        matches!(self.time, Time::OfSettings)
    }

    /// Returns the limits that a model is held to.
    pub(super) fn limits_of(&self, model: &str) -> Option<&Mutex<Limits>> {
        self.limits_of.get(model).or(self.limits.as_ref())
    }

    /// Draws the fault that strikes at `moment`, and counts it if one does.
    pub(super) fn draw_fault(&self, moment: Moment, key: &[u8]) -> Option<Fault> {
        let fault = self.draws.draw(&self.settings, moment, key)?;
        self.ledger.count_fault(fault);
        Some(fault)
    }

    /// Copies the ledger, once what is due by now is in it.
    pub(super) fn books(&self) -> Ledger {
        batches::settle(self);
        self.ledger.snapshot()
    }

    /// Checks that a request carries the key, if one is demanded.
    pub(super) fn check_key(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(key) = &self.settings.api_key else { return Ok(()) };
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent = sent.and_then(|value| value.strip_prefix("Bearer "));
        if sent == Some(key) { Ok(()) } else { Err(Problem::wrong_key()) }
    }
}

impl Time {
    fn now(self, settings: &Settings) -> UnixMs {
        match self {
            Self::OfSettings | Self::OfSettingsOnOneThread => (settings.now)(),
            Self::Of(clock) => clock.time_of_day(),
        }
    }
}

/// Answers one request, or has its connection closed.
pub(super) async fn serve(
    state: Arc<State>,
    fate: Arc<Fate>,
    request: Request<SentBody>,
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

/// A place that requests can be sent to.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Complete(Endpoint),
    /// The simulator's own; a provider has no such thing, so no key is asked for.
    Ledger,
    Models,
    Model(String),
    Files,
    File(String),
    Content(String),
    Batches,
    Batch(String),
    Cancel(String),
}

impl Place {
    fn find(path: &str) -> Option<Self> {
        let whole = match path {
            "/ledger" => Some(Self::Ledger),
            "/v1/chat/completions" => Some(Self::Complete(Endpoint::ChatCompletions)),
            "/v1/responses" => Some(Self::Complete(Endpoint::Responses)),
            "/v1/models" => Some(Self::Models),
            "/v1/files" => Some(Self::Files),
            "/v1/batches" => Some(Self::Batches),
            _ => None,
        };
        if whole.is_some() {
            return whole;
        }
        let (collection, rest) = path.strip_prefix("/v1/")?.split_once('/')?;
        let (id, action) = match (collection, rest.split_once('/')) {
            // The name of a model may have slashes in it.
            ("models", _) | (_, None) => (decode_percent(rest), ""),
            (_, Some((id, action))) => (decode_percent(id), action),
        };
        match (collection, action) {
            _ if id.is_empty() => None,
            ("models", "") => Some(Self::Model(id)),
            ("files", "") => Some(Self::File(id)),
            ("files", "content") => Some(Self::Content(id)),
            ("batches", "") => Some(Self::Batch(id)),
            ("batches", "cancel") => Some(Self::Cancel(id)),
            _ => None,
        }
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::Complete(_) | Self::Cancel(_) => "POST",
            Self::Ledger | Self::Models | Self::Model(_) | Self::Content(_) | Self::Batch(_) => {
                "GET"
            }
            Self::Files | Self::Batches => "GET, POST",
            Self::File(_) => "GET, DELETE",
        }
    }
}

async fn route(state: &Arc<State>, fate: &Fate, request: Request<SentBody>) -> Result<Reply, Stop> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let Some(place) = Place::find(&path) else { return Err(unknown_path(&method, &path).into()) };
    if !place.methods().split(", ").any(|allowed| method == allowed) {
        return Ok(wrong_method(state, &method, &path, place.methods()));
    }
    let is_post = method == Method::POST;
    match place {
        // What has a body checks the key by itself, in its turn.
        Place::Complete(endpoint) => return call::complete(state, fate, endpoint, request).await,
        Place::Files if is_post => return files::upload(state, request).await,
        Place::Batches if is_post => return batches::create(state, request).await,
        Place::Ledger => {
            let ledger = batches::off_thread(state, State::books).await?;
            return Ok(ok(&serde_json::to_value(ledger).unwrap_or_default()));
        }
        Place::Models
        | Place::Model(_)
        | Place::Files
        | Place::File(_)
        | Place::Content(_)
        | Place::Batches
        | Place::Batch(_)
        | Place::Cancel(_) => state.check_key(request.headers())?,
    }
    let query = request.uri().query().unwrap_or_default();
    match place {
        Place::Models => Ok(ok(&models::list(&state.settings.models))),
        Place::Model(name) => Ok(ok(&models::get(&state.settings.models, &name)?)),
        Place::Files => Ok(files::list(state, query)?),
        Place::File(id) if method == Method::DELETE => Ok(files::delete(state, &id)?),
        Place::File(id) => Ok(files::get(state, &id)?),
        Place::Content(id) => Ok(files::content(state, &id)?),
        Place::Batches => batches::list(state, query).await,
        Place::Batch(id) => batches::get(state, id).await,
        Place::Cancel(id) => batches::cancel(state, id).await,
        Place::Complete(_) | Place::Ledger => Err(unknown_path(&method, &path).into()),
    }
}

fn ok(value: &serde_json::Value) -> Reply {
    Reply::json(StatusCode::OK, value)
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
    use super::{Place, decode_percent};

    #[test]
    fn paths_lead_to_places_and_others_nowhere() {
        let file = || "file-1".to_owned();
        assert_eq!(Place::find("/v1/models/team/large"), Some(Place::Model("team/large".into())));
        assert_eq!(Place::find("/v1/files/file-1"), Some(Place::File(file())));
        assert_eq!(Place::find("/v1/files/file-1/content"), Some(Place::Content(file())));
        assert_eq!(Place::find("/v1/batches/b%31/cancel"), Some(Place::Cancel("b1".into())));
        for path in ["/", "/v1/files/", "/v1/files//content", "/v1/files/a/b", "/v1/batches/a/b/c"]
        {
            assert_eq!(Place::find(path), None, "{path}");
        }
    }

    #[test]
    fn names_of_models_are_decoded() {
        assert_eq!(decode_percent("openai%2Fgpt-oss%3a20b"), "openai/gpt-oss:20b");
        assert_eq!(decode_percent("100%"), "100%");
        assert_eq!(decode_percent("%zz%4"), "%zz%4");
        assert_eq!(decode_percent("%ED%95%9C"), "한");
    }
}
