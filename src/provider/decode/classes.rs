//! From a status and an error's words to the class that decides what happens next.
//!
//! The status comes first, then the error's own code, and sentences only where neither tells: a sentence can
//! quote a row. A class that stops the run is therefore never read out of the middle of a sentence.
//! The lists hold what providers document and what their servers were seen to send.

use super::envelope::Told;
use crate::domain::FailureClass::{
    self, BatchCancelled, BatchExpired, ContentFiltered, ContextTooLong, EndpointNotFound,
    Forbidden, InvalidRequest, ModelNotFound, Overloaded, QuotaExhausted, RateLimited,
    RequestTooLarge, ServerError, Timeout, Unauthorized,
};

/// Returns the class of a reply with this status, which is 400 to 599.
///
/// 498 is Groq's flex tier without capacity, which costs the row nothing, as 429 does not. 504, 522
/// and 524 are a proxy's: the model's server may still have done the work.
pub(super) fn of_status(status: u16, told: &Told) -> FailureClass {
    if status < 500 && is_quota(told) {
        return QuotaExhausted;
    }
    match status {
        401 => Unauthorized,
        402 => QuotaExhausted,
        403 => forbidden(told),
        404 | 410 if speaks_of_model(told) => ModelNotFound,
        404 | 405 | 410 => EndpointNotFound,
        408 | 504 | 522 | 524 => Timeout,
        413 if speaks_of_context(told) => ContextTooLong,
        413 => RequestTooLarge,
        420 | 429 | 498 => rate(told),
        503 | 529 => Overloaded,
        409 | 425 => ServerError,
        400..=499 => bad_request(told),
        // Some servers break where they should refuse; trying that again is futile.
        _ if speaks_of_context(told) => ContextTooLong,
        _ => ServerError,
    }
}

/// Returns the class of an error that came with a 2xx status, which tells nothing.
pub(super) fn of_words(told: &Told) -> FailureClass {
    let named = named(&told.code).or_else(|| match told.code.parse() {
        Ok(status @ 400..=599) => Some(of_status(status, told)),
        Ok(_) | Err(_) => None,
    });
    match named.or_else(|| named_kind(told)) {
        Some(InvalidRequest) | None if speaks_of_context(told) => ContextTooLong,
        Some(class) => class,
        None => ServerError,
    }
}

/// Returns the class of an error that stands in a line of a batch in place of a reply: no status, and often
/// no code either.
pub(super) fn of_line(told: &Told) -> FailureClass {
    match told.code.as_str() {
        "batch_expired" | "request_expired" | "expired" => return BatchExpired,
        "batch_cancelled" | "batch_canceled" | "request_cancelled" | "request_canceled"
        | "cancelled" | "canceled" => return BatchCancelled,
        _ => {}
    }
    let message = told.message.to_ascii_lowercase();
    match of_words(told) {
        ServerError if named(&told.code).or_else(|| named_kind(told)).is_some() => ServerError,
        ServerError if matches!(told.code.parse(), Ok(400..=599_u16)) => ServerError,
        ServerError if message.contains("completion window expired") => BatchExpired,
        ServerError => match bad_request(told) {
            InvalidRequest if !contains_any(&message, &INVALID) => ServerError,
            class => class,
        },
        InvalidRequest => bad_request(told),
        class => class,
    }
}

/// How servers say that a request is wrong where they give neither a status nor a code.
const INVALID: [&str; 12] = [
    "invalid",
    "not valid",
    "is required",
    "missing required",
    "must be",
    "should be",
    "not supported",
    "unsupported",
    "not allowed",
    "not permitted",
    "unrecognized",
    "unexpected keyword",
];

/// Codes of an account that has no money left or has met a limit that a person set. Waiting does
/// not help, unlike with every other 429.
const QUOTA: [&str; 8] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "enforced_spend_limit_reached",
    "billing_error",
];

/// Only codes count: Scaleway says `INSUFFICIENT QUOTA` in words when it means "too fast", and Gemini
/// says "exceeded your current quota" for a minute's limit.
fn is_quota(told: &Told) -> bool {
    QUOTA.contains(&told.code.as_str()) || QUOTA.contains(&told.kind.as_str())
}

/// A request above a whole minute's tokens is refused as a rate limit, and would be for ever.
fn rate(told: &Told) -> FailureClass {
    let never_fits = told.message.to_ascii_lowercase().starts_with("request too large");
    if never_fits { RequestTooLarge } else { RateLimited }
}

/// OpenRouter's moderation answers 403 for one row's text, which must not stop the run.
fn forbidden(told: &Told) -> FailureClass {
    match named(&told.code) {
        Some(class @ (ContentFiltered | ModelNotFound)) => class,
        Some(_) | None if speaks_of_filter(told) => ContentFiltered,
        Some(_) | None => Forbidden,
    }
}

fn bad_request(told: &Told) -> FailureClass {
    match named(&told.code).or_else(|| named_kind(told)) {
        Some(InvalidRequest) | None => {}
        Some(class) => return class,
    }
    let message = told.message.to_ascii_lowercase();
    if BAD_KEY.iter().any(|start| message.starts_with(start)) {
        Unauthorized
    } else if SUSPENDED.iter().any(|start| message.starts_with(start)) {
        QuotaExhausted
    } else if speaks_of_context(told) {
        ContextTooLong
    } else if speaks_of_filter(told) {
        ContentFiltered
    } else if told.param == "model" || starts_as_missing_model(&message) {
        ModelNotFound
    } else {
        InvalidRequest
    }
}

/// Gemini and xAI answer a wrong key with 400.
const BAD_KEY: [&str; 4] =
    ["api key not valid", "api key not found", "incorrect api key", "invalid api key"];

/// Anthropic's empty account (400).
const SUSPENDED: [&str; 1] = ["your credit balance is too low"];

fn named_kind(told: &Told) -> Option<FailureClass> {
    named(&told.kind)
}

/// Returns the class that a code or a type stands for by itself.
fn named(word: &str) -> Option<FailureClass> {
    let class = match word {
        quota if QUOTA.contains(&quota) => QuotaExhausted,
        "rate_limit_exceeded"
        | "rate_limit_error"
        | "slow_down"
        | "too_many_requests"
        | "resource_exhausted" => RateLimited,
        "overloaded_error"
        | "server_is_overloaded"
        | "service_unavailable_error"
        | "service_unavailable"
        | "unavailable"
        | "engine_overloaded"
        | "capacity_exceeded" => Overloaded,
        "server_error" | "internal_error" | "internal_server_error" | "api_error" | "internal" => {
            ServerError
        }
        "timeout"
        | "timeout_error"
        | "request_timeout"
        | "vector_store_timeout"
        | "deadline_exceeded" => Timeout,
        "invalid_api_key" | "authentication_error" | "unauthenticated" => Unauthorized,
        "permission_error" | "permission_denied" => Forbidden,
        "model_not_found"
        | "model_not_available"
        | "model_not_exist"
        | "invalid_model"
        | "unknown_model"
        | "deploymentnotfound" => ModelNotFound,
        "context_length_exceeded" | "context_window_exceeded" | "exceed_context_size_error" => {
            ContextTooLong
        }
        "request_too_large" => RequestTooLarge,
        "content_filter"
        | "content_policy_violation"
        | "invalid_prompt"
        | "bio_policy"
        | "image_content_policy_violation"
        | "responsibleaipolicyviolation"
        | "data_inspection_failed"
        | "moderation_blocked" => ContentFiltered,
        "invalid_request_error"
        | "invalid_request"
        | "invalid_argument"
        | "data_residency_mismatch" => InvalidRequest,
        // Responses fail with a dozen codes about images, which a table does not hold.
        image if image.contains("image") => InvalidRequest,
        _ => return None,
    };
    Some(class)
}

/// How servers say that a prompt does not fit the model, in lower case.
const CONTEXT: [&str; 16] = [
    // OpenAI, vLLM, Azure, Mistral
    "maximum context length",
    // llama.cpp
    "available context size",
    // SGLang
    "longer than the model's context length",
    // Groq
    "reduce the length of the messages",
    // Anthropic
    "prompt is too long",
    "exceed context limit",
    // Gemini
    "input token count",
    // Text Generation Inference
    "tokens + `max_new_tokens`",
    // xAI
    "maximum prompt length",
    // Fireworks, Together, DeepInfra, LM Studio and others
    "context length exceeded",
    "context_length_exceeded",
    "exceeds the context",
    "exceeds context",
    "context window",
    "input is too long",
    "too many tokens",
];

fn speaks_of_context(told: &Told) -> bool {
    let is_named = [&told.code, &told.kind].iter().any(|word| named(word) == Some(ContextTooLong));
    is_named || contains_any(&told.message, &CONTEXT)
}

/// How servers say that a filter stopped the prompt, in lower case.
const FILTER: [&str; 7] = [
    "content management policy",
    "content filter",
    "content policy",
    "usage policy",
    "usage policies",
    "requires moderation",
    "flagged",
];

fn speaks_of_filter(told: &Told) -> bool {
    contains_any(&told.message, &FILTER)
}

fn contains_any(message: &str, phrases: &[&str]) -> bool {
    let message = message.to_ascii_lowercase();
    phrases.iter().any(|phrase| message.contains(phrase))
}

/// Says whether a 404 is about the model rather than about the path.
fn speaks_of_model(told: &Told) -> bool {
    let message = told.message.to_ascii_lowercase();
    named(&told.code) == Some(ModelNotFound)
        || told.param == "model"
        // OpenRouter, for a model that nobody serves.
        || message.starts_with("no endpoints found")
        || message.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "model")
}

/// `DeepSeek`, Mistral, OpenRouter and others answer an unknown model with 400.
fn starts_as_missing_model(message: &str) -> bool {
    const WHOLE: [&str; 6] = [
        "model not exist",
        "model not found",
        "unknown model",
        "invalid model:",
        "invalid model id",
        "invalid model name",
    ];
    const MISSING: [&str; 4] =
        ["does not exist", "not found", "not a valid model", "is not available"];
    let subject = message.strip_prefix("the ").unwrap_or(message);
    WHOLE.iter().any(|start| message.starts_with(start))
        || (subject.starts_with("model ") && MISSING.iter().any(|end| subject.contains(end)))
        || message.contains("is not a valid model id")
}
