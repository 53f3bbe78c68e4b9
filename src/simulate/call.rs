//! One call to an endpoint that completes, from its body to its reply.
//!
//! It passes, in this order: the body's size, the key, its type and JSON, the specification, the
//! model, the context, the pace; and only then, as it would be answered, an ordered fault. So a
//! fault never hides a mistake of the caller's. After that the completion is made and charged, the
//! latency is waited out, and the reply leaves, or is lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::completion::{Answer, Ask, Completion, Finish, Overflow, Said};
use super::faults::{Draw, Fault};
use super::ledger::{Charge, lock};
use super::reply::{INVALID, Pace, Problem, Reply, Stamp};
use super::server::Fate;
use super::service::{State, Stop};
use super::{answer, chat, check, models, responses, tokens};
use crate::domain::Endpoint;

/// The largest body that is read.
const BODY_BYTES: usize = 128 * 1024 * 1024;
/// What an ordered 429 asks its caller to wait.
const ORDERED_WAIT: Duration = Duration::from_millis(100);

/// A body and what is known of it before it is read.
struct Call {
    endpoint: Endpoint,
    bytes: Bytes,
    /// SHA-256 of the bytes.
    body: [u8; 32],
    /// How often these bytes came before.
    same_before: u64,
}

/// A completion, and all that led to it.
struct Made<'a> {
    call: &'a Call,
    ask: &'a Ask<'a>,
    parsed: &'a Value,
    fault: Option<Fault>,
    completion: Completion,
}

/// What a draw is for; each use has its own stream of numbers.
#[derive(Clone, Copy)]
enum Purpose {
    /// The same body always gets the same answer.
    Answer,
    /// Each further try of a body draws anew.
    Fault(u64),
    Latency(u64),
    Id(u64),
}

/// Answers one call.
pub(super) async fn complete(
    state: &State,
    fate: &Fate,
    endpoint: Endpoint,
    request: Request<Incoming>,
) -> Result<Reply, Stop> {
    let (head, body) = request.into_parts();
    let call = receive(state, endpoint, body).await?;
    let parsed = admit(state, &head.headers, &call)?;
    let ask = match endpoint {
        Endpoint::ChatCompletions => chat::read(&parsed),
        Endpoint::Responses => responses::read(&parsed),
    };
    if !models::is_served(&state.settings.models, ask.model) {
        return Err(Problem::no_model(ask.model).into());
    }
    let input_tokens = count_input(state, &ask)?;
    take_pace(state, &ask)?;
    let fault = pick_fault(state, &ask, &call);
    if let Some(fault) = fault {
        state.ledger.count_fault(fault);
        if let Some(reply) = strike(state, fate, fault, (&ask, &call)).await? {
            return Ok(reply);
        }
    }
    let rng = call.rng(state.settings.seed, Purpose::Answer);
    let completion = answer::complete(&ask, input_tokens, fault, rng);
    let made = Made { call: &call, ask: &ask, parsed: &parsed, fault, completion };
    made.charge(state)?;
    let value = made.write(state);
    tokio::time::sleep(latency(state, &call)).await;
    made.deliver(state, fate, value)
}

async fn receive(state: &State, endpoint: Endpoint, body: Incoming) -> Result<Call, Stop> {
    // An announced length is believed at once, so that the caller need not send it all in vain.
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return Err(too_large().into());
    }
    let collected = Limited::new(body, BODY_BYTES).collect().await;
    let bytes = collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Stop::Problem(too_large())
        } else {
            // The client left in the middle of its own request.
            Stop::Gone
        }
    })?;
    let body: [u8; 32] = Sha256::digest(&bytes).into();
    let same_before = state.ledger.arrive(body);
    Ok(Call { endpoint, bytes, body, same_before })
}

/// Checks who calls and with what; returns the body's JSON.
fn admit(state: &State, headers: &HeaderMap, call: &Call) -> Result<Value, Problem> {
    state.check_key(headers)?;
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let told = format!(
            "Unsupported content type: '{kind}'. This API method only accepts 'application/json' \
             requests, but you specified the header 'Content-Type: {given}'. Please try again \
             with a supported content type."
        );
        return Err(Problem::invalid("", "unsupported_content_type", told));
    }
    let parsed = serde_json::from_slice(&call.bytes).map_err(|_| {
        let told = "We could not parse the JSON body of your request. (HINT: This likely means \
                    you aren't using your HTTP library correctly. The OpenAI API expects a JSON \
                    payload, but what was sent was not valid JSON.)";
        Problem::new(StatusCode::BAD_REQUEST, INVALID, None, told)
    })?;
    match call.endpoint {
        Endpoint::ChatCompletions => check::chat::check(&parsed)?,
        Endpoint::Responses => check::responses::check(&parsed)?,
    }
    Ok(parsed)
}

/// Counts the prompt's tokens, and refuses what is longer than the context.
fn count_input(state: &State, ask: &Ask<'_>) -> Result<u64, Problem> {
    let most = u64::from(state.settings.context_tokens);
    let input = tokens::count_prompt(&ask.turns);
    let output = ask.limit.unwrap_or(0);
    if ask.overflow == Overflow::Dropped {
        return Ok(input.min(most));
    }
    if input.saturating_add(output) <= most {
        return Ok(input);
    }
    Err(too_long(ask.endpoint, most, (input, output)))
}

fn too_long(endpoint: Endpoint, most: u64, (input, output): (u64, u64)) -> Problem {
    let (param, told) = match endpoint {
        Endpoint::Responses => (
            "input",
            "Your input exceeds the context window of this model. Please adjust your input and \
             try again."
                .to_owned(),
        ),
        Endpoint::ChatCompletions if input > most => (
            "messages",
            format!(
                "This model's maximum context length is {most} tokens. However, your messages \
                 resulted in {input} tokens. Please reduce the length of the messages."
            ),
        ),
        Endpoint::ChatCompletions => (
            "messages",
            format!(
                "This model's maximum context length is {most} tokens. However, you requested {} \
                 tokens ({input} in the messages, {output} in the completion). Please reduce the \
                 length of the messages or completion.",
                input.saturating_add(output)
            ),
        ),
    };
    Problem::invalid(param, "context_length_exceeded", told)
}

/// Takes the call from the minute's allowance.
fn take_pace(state: &State, ask: &Ask<'_>) -> Result<(), Problem> {
    let Some(limits) = &state.limits else { return Ok(()) };
    let texts = ask.turns.iter().flat_map(|turn| &turn.texts);
    let characters: usize = texts.map(|text| text.chars().count()).sum();
    let tokens = (characters as u64).div_ceil(4).max(ask.limit.unwrap_or(0)).max(1);
    lock(limits)
        .take(tokens, Instant::now())
        .map_err(|excess| Problem::over_limit(ask.model, &excess))
}

fn pick_fault(state: &State, ask: &Ask<'_>, call: &Call) -> Option<Fault> {
    let before = state.good_requests.fetch_add(1, Ordering::Relaxed);
    let unit = call.rng(state.settings.seed, Purpose::Fault(call.same_before)).f64();
    let draw = Draw { before, same_before: call.same_before, unit };
    let fault = state.settings.faults.pick(draw)?;
    // A retry with a higher limit is another body of the same conversation, and must get through.
    let struck = fault == Fault::Length && !lock(&state.truncated).insert(conversation(ask));
    (!struck).then_some(fault)
}

/// Names a model and its prompt, whatever else the body says.
fn conversation(ask: &Ask<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let turns = ask.turns.iter().flat_map(|turn| {
        turn.texts.iter().copied().chain([turn.role, turn.name.unwrap_or_default()])
    });
    for part in turns.chain([ask.model]) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Lets a fault strike that comes instead of a completion; the others are left for later.
async fn strike(
    state: &State,
    fate: &Fate,
    fault: Fault,
    (ask, call): (&Ask<'_>, &Call),
) -> Result<Option<Reply>, Stop> {
    if let Some(problem) = ordered_problem(fault, ask, state.settings.context_tokens) {
        // A refusal comes at once; a breakdown comes when the answer would have.
        if problem.status.is_server_error() {
            tokio::time::sleep(latency(state, call)).await;
        }
        return Err(problem.into());
    }
    if fault == Fault::Hang {
        tokio::time::sleep(state.settings.hang).await;
    } else if fault == Fault::Reset {
        fate.reset();
    } else if fault == Fault::Html {
        tokio::time::sleep(latency(state, call)).await;
        let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
                    <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";
        return Ok(Some(Reply::typed(StatusCode::BAD_GATEWAY, "text/html", page)));
    } else if fault.is_charged() {
        return Ok(None);
    }
    Err(Stop::Gone)
}

/// Returns the error that a fault replies with, if it replies with one.
fn ordered_problem(fault: Fault, ask: &Ask<'_>, context_tokens: u32) -> Option<Problem> {
    let make = |status: StatusCode, kind, code, told: &str| {
        Some(Problem::new(status, kind, Some(code), told))
    };
    match fault {
        Fault::RateLimit => {
            let told = format!(
                "Rate limit reached for {} in organization org-simulated on requests per min \
                 (RPM): Limit 500, Used 500, Requested 1. Please try again in 100ms. Visit \
                 https://platform.openai.com/account/rate-limits to learn more.",
                ask.model
            );
            let retry_after = Some(ORDERED_WAIT);
            Some(Problem { retry_after, ..Problem::rate_limit("requests", told) })
        }
        Fault::Quota => make(
            StatusCode::TOO_MANY_REQUESTS,
            "insufficient_quota",
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details. For \
             more information on this error, read the docs: \
             https://platform.openai.com/docs/guides/error-codes/api-errors.",
        ),
        Fault::ServerError => make(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "server_error",
            "The server had an error while processing your request. Sorry about that!",
        ),
        Fault::Overloaded => make(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable_error",
            "server_is_overloaded",
            "The server is currently overloaded. Please try again later.",
        ),
        Fault::Unauthorized => Some(Problem::wrong_key()),
        Fault::Forbidden => make(
            StatusCode::FORBIDDEN,
            "request_forbidden",
            "unsupported_country_region_territory",
            "Country, region, or territory not supported",
        ),
        Fault::ModelNotFound => Some(Problem::no_model(ask.model)),
        Fault::InvalidRequest => Some(Problem::invalid(
            "messages",
            "invalid_value",
            "Invalid value: the simulator was told to refuse this request.",
        )),
        Fault::Context => {
            let most = u64::from(context_tokens);
            Some(too_long(ask.endpoint, most, (most.saturating_add(1), 0)))
        }
        Fault::TooLarge => Some(too_large()),
        Fault::Reset
        | Fault::Close
        | Fault::Hang
        | Fault::Slow
        | Fault::Cut
        | Fault::BadJson
        | Fault::Html
        | Fault::Empty
        | Fault::Refusal
        | Fault::ContentFilter
        | Fault::Length
        | Fault::WrongType
        | Fault::WrongLabel
        | Fault::Lost => None,
    }
}

fn too_large() -> Problem {
    let code = Some("request_too_large");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, code, "The request body is too large.")
}

impl Made<'_> {
    fn charge(&self, state: &State) -> Result<(), Problem> {
        let charge = Charge {
            at_ms: (state.settings.now)().0,
            endpoint: self.call.endpoint,
            model: self.ask.model,
            usage: self.completion.usage,
            fault: self.fault,
        };
        state.ledger.charge(self.call.body, &charge).map_err(|error| {
            let told = format!("the simulator cannot write its ledger: {error}");
            let code = "server_error";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, Some(code), told)
        })
    }

    fn write(&self, state: &State) -> Value {
        let mut rng = self.call.rng(state.settings.seed, Purpose::Id(self.call.same_before));
        let created = (state.settings.now)().0 / 1000;
        let stamp = Stamp { id: format!("{:032x}", rng.u128(..)), created };
        match self.call.endpoint {
            Endpoint::ChatCompletions => chat::write(self.ask, &self.completion, &stamp),
            Endpoint::Responses => responses::write(self.parsed, &self.completion, &stamp),
        }
    }

    /// Sends a reply that was charged, with what was ordered to happen to it on the way.
    fn deliver(&self, state: &State, fate: &Fate, mut value: Value) -> Result<Reply, Stop> {
        let is = |fault| self.fault == Some(fault);
        if is(Fault::Lost) {
            fate.reset();
            return Err(Stop::Gone);
        }
        if is(Fault::WrongType) {
            let field = match self.call.endpoint {
                Endpoint::ChatCompletions => "choices",
                Endpoint::Responses => "output",
            };
            value[field] = json!("none");
        }
        let mut reply = Reply::json(StatusCode::OK, &value);
        if is(Fault::Slow) {
            reply.pace = Pace::Drip(state.settings.drip);
        } else if is(Fault::Cut) {
            reply.pace = Pace::Cut;
        } else if is(Fault::BadJson) {
            reply.body = reply.body.slice(..reply.body.len() / 2);
        } else if is(Fault::Empty) {
            reply.body = Bytes::new();
        }
        let unspoilt = self.fault.is_none() || is(Fault::Slow);
        if unspoilt && self.completion.answers.iter().all(is_usable) {
            state.ledger.answer(self.call.body);
        }
        Ok(reply)
    }
}

fn is_usable(answer: &Answer) -> bool {
    answer.finish == Finish::Stop && matches!(answer.said, Said::Text(_))
}

fn latency(state: &State, call: &Call) -> Duration {
    let settings = &state.settings;
    let swing = settings.latency_jitter.clamp(0.0, 1.0);
    let drawn = call.rng(settings.seed, Purpose::Latency(call.same_before)).f64();
    settings.latency.mul_f64(1.0 + swing * (2.0 * drawn - 1.0))
}

impl Call {
    fn rng(&self, seed: u64, purpose: Purpose) -> Rng {
        let (stream, attempt) = match purpose {
            Purpose::Answer => (1, 0),
            Purpose::Fault(attempt) => (2, attempt),
            Purpose::Latency(attempt) => (3, attempt),
            Purpose::Id(attempt) => (4, attempt),
        };
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(self.body);
        hash.update([stream]);
        hash.update(attempt.to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Rng::with_seed(u64::from_le_bytes(first))
    }
}
