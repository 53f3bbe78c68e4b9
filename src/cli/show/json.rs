//! What a script reads: everything, nothing cut.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{InBatch, PromptTrail, Trail};
use crate::cli::batches::ended;
use crate::cli::page::hex;
use crate::cli::text::moment;
use crate::domain::{Fingerprint, Outcome, Usage};
use crate::store::{RequestPlace, TrailAttempt, TrailRequest, TrailRow};

#[derive(Serialize)]
pub(super) struct Json<'t> {
    row: Row<'t>,
    prompts: Vec<Prompt<'t>>,
}

#[derive(Serialize)]
struct Row<'t> {
    position: i64,
    key: &'t str,
    version: u32,
    source: &'t str,
    line: u64,
    source_sha256: String,
    cells: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Prompt<'t> {
    name: &'t str,
    version: u32,
    is_live: bool,
    model: String,
    endpoint: &'static str,
    state: &'static str,
    error_class: Option<&'static str>,
    error: Option<&'t str>,
    answer: Option<&'t str>,
    request: Option<Request<'t>>,
    attempts: Vec<Attempt<'t>>,
}

#[derive(Serialize)]
struct Request<'t> {
    id: i64,
    fingerprint: Option<String>,
    #[serde(flatten)]
    body: Body<'t>,
}

#[derive(Serialize)]
struct Attempt<'t> {
    id: i64,
    number: u32,
    shared_from: Option<Place<'t>>,
    route: &'t str,
    batch_id: Option<i64>,
    promised_at: String,
    settled_at: Option<String>,
    took_ms: Option<u64>,
    outcome: Option<&'static str>,
    error_class: Option<&'static str>,
    error: Option<&'t str>,
    status_code: Option<u16>,
    provider_request_id: Option<&'t str>,
    served_model: Option<&'t str>,
    finish_reason: Option<&'t str>,
    max_tokens: Option<u32>,
    tokens: Option<Usage>,
    cost_usd: Option<f64>,
    answer: Option<&'t str>,
    /// Of the bytes that were sent, where they are not the request's own.
    fingerprint: Option<String>,
    #[serde(flatten)]
    body: Body<'t>,
    #[serde(flatten)]
    reply: Reply<'t>,
    batch: Option<Batch<'t>>,
}

#[derive(Serialize)]
struct Batch<'t> {
    id: i64,
    provider_id: Option<&'t str>,
    status: &'static str,
    /// How it ended at the provider.
    ended: Option<&'static str>,
    error: Option<&'t str>,
    planned_at: String,
    expires_at: Option<String>,
    collected_at: Option<String>,
    custom_id: &'t str,
    input_file_id: Option<&'t str>,
    /// Of the input file, from 1.
    input_line: u64,
    /// `output` or `error`.
    result_file: Option<&'t str>,
    result_file_id: Option<&'t str>,
    /// Of that file, from 1.
    result_line: Option<u64>,
}

#[derive(Serialize)]
struct Place<'t> {
    position: i64,
    key: &'t str,
    prompt: &'t str,
    prompt_version: u32,
}

#[derive(Serialize)]
struct Body<'t> {
    body: Option<Cow<'t, str>>,
    /// Whether the bytes are no UTF-8, so that `--request` alone gives them exactly.
    #[serde(skip_serializing_if = "is_false")]
    body_is_lossy: bool,
}

#[derive(Serialize)]
struct Reply<'t> {
    reply: Option<Cow<'t, str>>,
    /// Whether the bytes are no UTF-8, so that `--reply` alone gives them exactly.
    #[serde(skip_serializing_if = "is_false")]
    reply_is_lossy: bool,
}

/// Returns what `show --json` prints.
pub(super) fn json(trail: &Trail) -> Json<'_> {
    Json { row: row(&trail.row), prompts: trail.prompts.iter().map(prompt).collect() }
}

fn row(row: &TrailRow) -> Row<'_> {
    Row {
        position: row.position,
        key: &row.key,
        version: row.version,
        source: &row.source,
        line: row.line,
        source_sha256: hex(&row.source_sha256),
        cells: RawValue::from_string(row.cells.clone()).ok(),
    }
}

fn prompt(one: &PromptTrail) -> Prompt<'_> {
    let request = one.request.as_ref();
    Prompt {
        name: &one.prompt.name,
        version: one.prompt.version,
        is_live: one.prompt.is_live,
        model: one.prompt.spec.model.to_string(),
        endpoint: one.prompt.spec.endpoint.as_str(),
        state: one.state.as_str(),
        error_class: one.state.class().map(crate::domain::FailureClass::as_str),
        error: request.and_then(|request| request.error.as_deref()),
        answer: one.answer(),
        request: request.map(self::request),
        attempts: one.attempts().iter().map(|made| attempt(made, one)).collect(),
    }
}

fn request(request: &TrailRequest) -> Request<'_> {
    Request {
        id: request.id.0,
        fingerprint: request.fingerprint.map(|fingerprint| fingerprint.to_string()),
        body: body(request.body.as_deref()),
    }
}

fn attempt<'t>(attempt: &'t TrailAttempt, one: &'t PromptTrail) -> Attempt<'t> {
    let shared_from = one.shared_from.as_ref().filter(|_| one.is_shared(attempt));
    let outcome = attempt.settled.map(|(_, outcome)| outcome);
    let settled_at = attempt.settled.map(|(at, _)| at);
    Attempt {
        id: attempt.id.0,
        number: attempt.number,
        shared_from: shared_from.map(place),
        route: &attempt.route,
        batch_id: attempt.batch,
        promised_at: moment(attempt.promised_at),
        settled_at: settled_at.map(moment),
        took_ms: settled_at.map(|at| at.since(attempt.promised_at).as_millis() as u64),
        outcome: outcome.map(Outcome::as_str),
        error_class: outcome.and_then(class),
        error: attempt.error.as_deref(),
        status_code: attempt.status_code,
        provider_request_id: attempt.provider_request_id.as_deref(),
        served_model: attempt.served_model.as_deref(),
        finish_reason: attempt.finish_reason.as_deref(),
        max_tokens: attempt.max_tokens,
        tokens: attempt.usage,
        cost_usd: attempt.cost.map(crate::domain::NanoUsd::usd),
        answer: attempt.answer.as_deref(),
        fingerprint: attempt.sent_body.as_ref().map(|body| Fingerprint::of(body).to_string()),
        body: body(attempt.sent_body.as_deref()),
        reply: reply(attempt.reply.as_deref()),
        batch: one.batches.get(&attempt.id).map(|place| batch(place, attempt)),
    }
}

fn batch<'t>(place: &'t InBatch, attempt: &'t TrailAttempt) -> Batch<'t> {
    let batch = &place.batch;
    let result = attempt.result_place.as_ref();
    let result_file_id = result.and_then(|(file, _)| match file.as_str() {
        "error" => batch.error_file_id.as_deref(),
        _ => batch.output_file_id.as_deref(),
    });
    Batch {
        id: batch.id.0,
        provider_id: batch.provider_id.as_deref(),
        status: batch.status.as_str(),
        ended: batch.ended.map(ended),
        error: batch.error.as_deref(),
        planned_at: moment(batch.planned_at),
        expires_at: batch.expires_at.map(moment),
        collected_at: batch.collected_at.map(moment),
        custom_id: &place.custom_id,
        input_file_id: batch.input_file_id.as_deref(),
        input_line: place.input_line,
        result_file: result.map(|(file, _)| file.as_str()),
        result_file_id,
        result_line: result.map(|(_, line)| *line),
    }
}

fn class(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Failed(class) => Some(class.as_str()),
        Outcome::Answered | Outcome::Truncated | Outcome::InDoubt => None,
    }
}

fn place(place: &RequestPlace) -> Place<'_> {
    Place {
        position: place.position,
        key: &place.key,
        prompt: &place.prompt,
        prompt_version: place.prompt_version,
    }
}

fn body(bytes: Option<&[u8]>) -> Body<'_> {
    let body = bytes.map(String::from_utf8_lossy);
    Body { body_is_lossy: matches!(body, Some(Cow::Owned(_))), body }
}

fn reply(bytes: Option<&[u8]>) -> Reply<'_> {
    let reply = bytes.map(String::from_utf8_lossy);
    Reply { reply_is_lossy: matches!(reply, Some(Cow::Owned(_))), reply }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}
