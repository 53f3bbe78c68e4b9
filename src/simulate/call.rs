//! One call to an endpoint that completes, from its body to its reply.
//!
//! It passes, in this order: the body's size, the key, its type and JSON, the specification, the
//! model, the context, the pace; and only then, as it would be answered, an ordered fault. So a
//! fault never hides a mistake of the caller's. After that the completion is made and charged, the
//! latency is waited out, and the reply leaves, or is lost.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::body;
use super::completion::Ask;
use super::draws::Purpose;
use super::fault::{Fault, Moment};
use super::ledger::lock;
use super::reply::{Pace, Problem, Reply};
use super::server::Fate;
use super::service::{State, Stop};
use super::work::{self, Call, Good, Made};
use crate::domain::Endpoint;
use crate::engine::SentBody;

/// The largest body that is read.
const BODY_BYTES: usize = 128 * 1024 * 1024;
/// What an ordered 429 asks its caller to wait.
const ORDERED_WAIT: Duration = Duration::from_millis(100);

/// Answers one call.
pub(super) async fn complete(
    state: &State,
    fate: &Fate,
    endpoint: Endpoint,
    request: Request<SentBody>,
) -> Result<Reply, Stop> {
    let (head, incoming) = request.into_parts();
    let bytes = body::collect(incoming, BODY_BYTES).await?;
    let call = Call::arrive(state, endpoint, bytes, None);
    state.check_key(&head.headers)?;
    body::check_type(&head.headers, "application/json")?;
    let parsed = call.read(state.settings.likeness.takes)?;
    let good = Good::admit(state, &call, &parsed)?;
    let Some(limits) = state.limits_of.get(good.ask.model) else {
        return answer(state, fate, good).await;
    };
    let mut reply = match answer(state, fate, good).await {
        Ok(reply) => reply,
        Err(Stop::Gone) => return Err(Stop::Gone),
        Err(Stop::Problem(problem)) => {
            state.ledger.count_error(problem.word());
            Reply::from(problem)
        }
    };
    lock(limits).write_headers(&mut reply.headers, Instant::now());
    Ok(reply)
}

/// Answers a call that nothing is wrong with.
async fn answer(state: &State, fate: &Fate, good: Good<'_>) -> Result<Reply, Stop> {
    take_pace(state, &good.ask)?;
    let fault = good.draw_fault(state, Moment::Call);
    if let Some(fault) = fault
        && let Some(reply) = strike(state, fate, fault, &good).await?
    {
        return Ok(reply);
    }
    let latency = latency(state, &good);
    let made = good.complete(state, fault)?;
    let value = made.write(state);
    tokio::time::sleep(latency).await;
    deliver(&made, state, fate, &value)
}

/// Takes the call from the minute's allowance.
fn take_pace(state: &State, ask: &Ask<'_>) -> Result<(), Problem> {
    let Some(limits) = state.limits_of(ask.model) else { return Ok(()) };
    let texts = ask.turns.iter().flat_map(|turn| &turn.texts);
    let characters: usize = texts.map(|text| text.chars().count()).sum();
    let tokens = (characters as u64).div_ceil(4).max(ask.limit.unwrap_or(0)).max(1);
    lock(limits)
        .take(tokens, Instant::now())
        .map_err(|excess| Problem::over_limit(ask.model, &excess))
}

/// Lets a fault strike that comes instead of a completion; the others are left for later.
async fn strike(
    state: &State,
    fate: &Fate,
    fault: Fault,
    good: &Good<'_>,
) -> Result<Option<Reply>, Stop> {
    if let Some(problem) = ordered_problem(fault, &good.ask, state.settings.context_tokens) {
        // A refusal comes at once; a breakdown comes when the answer would have.
        if problem.status.is_server_error() {
            tokio::time::sleep(latency(state, good)).await;
        }
        return Err(problem.into());
    }
    if fault == Fault::Hang {
        tokio::time::sleep(state.settings.hang).await;
    } else if fault == Fault::Reset {
        fate.reset();
    } else if fault == Fault::Html {
        tokio::time::sleep(latency(state, good)).await;
        let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
                    <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";
        return Ok(Some(Reply::typed(StatusCode::BAD_GATEWAY, "text/html", page)));
    } else if fault != Fault::Close {
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
        Fault::ServerError => Some(Problem::server_error()),
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
            Some(work::too_long(ask.endpoint, most, (most.saturating_add(1), 0)))
        }
        Fault::TooLarge => Some(body::too_large()),
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
        | Fault::Lost
        | Fault::UploadServerError
        | Fault::UploadLost
        | Fault::CreateServerError
        | Fault::CreateRateLimit
        | Fault::CreateNotFound
        | Fault::CreateLost
        | Fault::BatchFailed
        | Fault::BatchTokens
        | Fault::BatchBroken
        | Fault::BatchExpired
        | Fault::BatchCancelled
        | Fault::BatchVanished
        | Fault::BatchStuck
        | Fault::ResultEmptyIds
        | Fault::ResultEmptyFile
        | Fault::ResultCounts
        | Fault::LineRateLimit
        | Fault::LineServerError
        | Fault::LineMissing
        | Fault::LineDoubled
        | Fault::LineUnknown
        | Fault::LineGarbled
        | Fault::LineSeparator
        | Fault::LineBoth
        | Fault::PollServerError
        | Fault::PollRateLimit
        | Fault::ContentNotFound
        | Fault::ContentServerError
        | Fault::ContentCut => None,
    }
}

/// Sends a reply that was charged, with what was ordered to happen to it on the way.
fn deliver(made: &Made<'_>, state: &State, fate: &Fate, value: &Value) -> Result<Reply, Stop> {
    let is = |fault| made.fault == Some(fault);
    if is(Fault::Lost) {
        fate.reset();
        return Err(Stop::Gone);
    }
    let mut reply = Reply::json(StatusCode::OK, value);
    if is(Fault::Slow) {
        reply.pace = Pace::Drip(state.settings.drip);
    } else if is(Fault::Cut) {
        reply.pace = Pace::Cut;
    } else if is(Fault::BadJson) {
        reply.body = reply.body.slice(..reply.body.len() / 2);
    } else if is(Fault::Empty) {
        reply.body = Bytes::new();
    }
    let unspoilt = made.fault.is_none() || is(Fault::Slow);
    if unspoilt && made.is_usable() {
        state.ledger.answer(made.good.call.body);
    }
    Ok(reply)
}

fn latency(state: &State, good: &Good<'_>) -> Duration {
    let settings = &state.settings;
    let model = settings.likeness.models.get(good.ask.model);
    let latency = model.and_then(|model| model.latency).unwrap_or(settings.latency);
    let swing = settings.latency_jitter.clamp(0.0, 1.0);
    let drawn = good.call.rng(settings.seed, Purpose::Latency).f64();
    latency.mul_f64(1.0 + swing * (2.0 * drawn - 1.0))
}
