//! `/v1/batches`: creating, looking, listing, cancelling.
//!
//! ```text
//! create ─▶ input (valid?) ─▶ queue (tokens) ─▶ job ◀─ look, list, cancel, ledger
//!                                                │  schedule: what is due by now
//!                                                └▶ results: each line as a call ─▶ shelf, ledger
//! ```
//!
//! Whether an input is valid is found out when the batch is created, and told when it is looked at:
//! so the order in which batches take tokens from the queue is the order of their creation. Reading
//! and working are done off the threads that serve sockets.

mod desk;
mod input;
mod job;
mod results;
mod schedule;

use std::sync::Arc;

use http::{Request, StatusCode};
use serde_json::{Value, json};

pub(super) use desk::Desk;

use self::input::{BatchError, Input};
use self::job::{Asked, Job, Prospect};
use self::schedule::{Course, Status};
use super::check::storage;
use super::fault::{Fault, Moment};
use super::files::{StoredFile, no_file};
use super::ledger::lock;
use super::page::Turn;
use super::reply::{INVALID, Problem, Reply};
use super::service::{State, Stop};
use super::{Takes, body, work};
use crate::domain::Endpoint;
use crate::engine::SentBody;

/// The largest body of a create.
const BODY_BYTES: usize = 1024 * 1024;
/// The batches of a list without a limit.
const LIST_LIMIT: usize = 20;
/// The limit that an ordered refusal tells where none was set.
const TOLD_TOKENS: u64 = 2_000_000;

/// Answers `POST /v1/batches`.
pub(super) async fn create(state: &Arc<State>, request: Request<SentBody>) -> Result<Reply, Stop> {
    let (head, incoming) = request.into_parts();
    state.check_key(&head.headers)?;
    body::check_type(&head.headers, "application/json")?;
    let parsed = work::parse(&body::collect(incoming, BODY_BYTES).await?)?;
    storage::check_batch(&parsed)?;
    let asked = read(&parsed)?;
    let file = find_input(state, &asked.input_file_id)?;
    let fault = state.draw_fault(Moment::Create, asked.input_file_id.as_bytes());
    if fault == Some(Fault::CreateServerError) {
        return Err(Problem::server_error().into());
    } else if fault == Some(Fault::CreateRateLimit) {
        return Err(ordered_429("batches").into());
    } else if fault == Some(Fault::CreateNotFound) {
        return Err(no_file(&asked.input_file_id, "input_file_id").into());
    }
    let made = off_thread(state, move |state| make(state, asked, &file)).await?;
    if fault == Some(Fault::CreateLost) {
        return Err(Stop::Gone);
    }
    Ok(Reply::json(StatusCode::OK, &made))
}

/// Answers `GET /v1/batches`.
pub(super) async fn list(state: &Arc<State>, query: &str) -> Result<Reply, Stop> {
    let query = storage::read_batch_query(query)?;
    let page = off_thread(state, move |state| {
        let mut all = state.desk.all();
        all.reverse();
        all.retain(|(_, job)| {
            let mut job = lock(job);
            job.settle(state);
            !job.is_gone()
        });
        let turn = Turn::read(&query, LIST_LIMIT);
        let page = turn.cut(all.into_iter());
        page.map(|page| page.write(|job| lock(job).write()))
            .ok_or_else(|| no_batch(turn.after.unwrap_or_default()))
    });
    Ok(Reply::json(StatusCode::OK, &page.await??))
}

/// Answers `GET /v1/batches/{id}`.
pub(super) async fn get(state: &Arc<State>, id: String) -> Result<Reply, Stop> {
    let job = state.desk.get(&id).ok_or_else(|| no_batch(&id))?;
    let seen = off_thread(state, move |state| look(state, &mut lock(&job)));
    Ok(Reply::json(StatusCode::OK, &seen.await??))
}

fn look(state: &State, job: &mut Job) -> Result<Value, Problem> {
    job.settle(state);
    if job.is_gone() {
        return Err(no_batch(&job.id));
    }
    let fault = state.draw_fault(Moment::Poll, job.id.as_bytes());
    if fault == Some(Fault::PollServerError) {
        return Err(Problem::server_error());
    } else if fault == Some(Fault::PollRateLimit) {
        return Err(ordered_429("requests"));
    }
    job.look(state);
    if job.is_gone() { Err(no_batch(&job.id)) } else { Ok(job.write()) }
}

/// Answers `POST /v1/batches/{id}/cancel`.
pub(super) async fn cancel(state: &Arc<State>, id: String) -> Result<Reply, Stop> {
    let job = state.desk.get(&id).ok_or_else(|| no_batch(&id))?;
    let seen = off_thread(state, move |state| {
        let mut job = lock(&job);
        let could = job.cancel(state);
        if job.is_gone() {
            Err(no_batch(&job.id))
        } else if could {
            Ok(job.write())
        } else {
            Err(too_late(job.status()))
        }
    });
    Ok(Reply::json(StatusCode::OK, &seen.await??))
}

/// Moves every batch on to where it should be by now.
pub(super) fn settle(state: &State) {
    for (_, job) in state.desk.all() {
        lock(&job).settle(state);
    }
}

/// Forgets a batch and its files, of which nobody will ask again.
pub(super) fn forget(state: &State, id: &str) {
    let Some(job) = state.desk.remove(id) else { return };
    let mut files = lock(&state.files);
    for file in lock(&job).files() {
        files.remove(file, state.now());
    }
}

/// Reads a body that was checked; refuses the endpoints that are not simulated.
fn read(body: &Value) -> Result<Asked, Problem> {
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let endpoint = match text("endpoint") {
        "/v1/chat/completions" => Endpoint::ChatCompletions,
        "/v1/responses" => Endpoint::Responses,
        _ => {
            let told = "the simulator does not make batches for this endpoint";
            return Err(Problem::invalid("endpoint", "unsupported_by_simulator", told));
        }
    };
    Ok(Asked {
        endpoint,
        input_file_id: text("input_file_id").to_owned(),
        metadata: body.get("metadata").cloned().unwrap_or_default(),
        output_lifetime_s: body["output_expires_after"]["seconds"].as_i64(),
    })
}

fn find_input(state: &State, id: &str) -> Result<Arc<StoredFile>, Problem> {
    let file = lock(&state.files).get(id, state.now());
    let file = file.ok_or_else(|| no_file(id, "input_file_id"))?;
    if file.purpose == "batch" {
        return Ok(file);
    }
    let told = format!("Invalid file purpose: expected 'batch', but got '{}'.", file.purpose);
    Err(Problem::invalid("input_file_id", "invalid_file_purpose", told))
}

/// Makes a batch; returns it as it is told first.
fn make(state: &State, asked: Asked, file: &StoredFile) -> Value {
    // What has ended by now leaves the queue first.
    settle(state);
    let prospect = foresee(state, &asked, file);
    let (number, id) = state.desk.next_id();
    state.ledger.count_batch();
    let job = Job::new(state, (number, id), asked, prospect);
    let told = job.write();
    state.desk.add(number, job);
    told
}

/// Finds out what will become of a batch.
fn foresee(state: &State, asked: &Asked, file: &StoredFile) -> Prospect {
    let fail =
        |errors| Prospect { input: Err(errors), course: Course::Invalid, told: None, tokens: 0 };
    let bytes = file.bytes.open();
    let input = match Input::read((&file.bytes, &bytes), asked.endpoint, &state.settings) {
        Ok(input) => input,
        Err(errors) => return fail(errors),
    };
    let fault = state.draw_fault(Moment::Batch, &bytes);
    let own = state.settings.likeness.models.get(&input.model);
    let most = own.and_then(|own| own.enqueued_tokens).or(state.settings.enqueued_tokens);
    if fault == Some(Fault::BatchFailed) {
        let told = "The server had an error while processing your batch.";
        return fail(vec![BatchError::whole("server_error", told)]);
    }
    if fault == Some(Fault::BatchTokens) {
        return fail(vec![too_many_tokens(&input.model, most.unwrap_or(TOLD_TOKENS))]);
    }
    let tokens = if most.is_some() {
        count_tokens(&input, (asked.endpoint, state.settings.likeness.takes))
    } else {
        0
    };
    if let Some(most) = most
        && !state.desk.enqueue(&input.model, tokens, most)
    {
        return fail(vec![too_many_tokens(&input.model, most)]);
    }
    let course = fault.map_or(Course::Good, course);
    let told = state.draw_fault(Moment::Result, &bytes);
    Prospect { input: Ok(input), course, told, tokens }
}

fn course(fault: Fault) -> Course {
    if fault == Fault::BatchBroken {
        Course::Half(Status::Failed)
    } else if fault == Fault::BatchExpired {
        Course::Half(Status::Expired)
    } else if fault == Fault::BatchCancelled {
        Course::Half(Status::Cancelled)
    } else if fault == Fault::BatchVanished {
        Course::Vanishes
    } else if fault == Fault::BatchStuck {
        Course::Stuck
    } else {
        Course::Good
    }
}

fn count_tokens(input: &Input, (endpoint, takes): (Endpoint, Takes)) -> u64 {
    let bytes = input.bytes.open();
    let lines = (0..input.lines.len()).filter_map(|index| input.line(&bytes, index));
    lines.map(|line| work::prompt_tokens(endpoint, line.body.as_bytes(), takes)).sum()
}

fn too_many_tokens(model: &str, most: u64) -> BatchError {
    let told = format!(
        "Enqueued token limit reached for {model} in organization org-simulated. Limit: {} \
         enqueued tokens. Please try again once some in_progress batches have been completed.",
        with_commas(most)
    );
    BatchError::whole("token_limit_exceeded", told)
}

/// Writes a number as `2,000,000`.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().collect();
    let groups: Vec<_> = groups.into_iter().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// Does what may take long where it keeps no socket waiting.
pub(super) async fn off_thread<T: Send + 'static>(
    state: &Arc<State>,
    work: impl FnOnce(&State) -> T + Send + 'static,
) -> Result<T, Problem> {
    if !state.has_threads() {
        return Ok(work(state));
    }
    let state = Arc::clone(state);
    let done = tokio::task::spawn_blocking(move || work(&state)).await;
    done.map_err(|_| Problem::server_error())
}

fn ordered_429(kind: &'static str) -> Problem {
    let told = "Rate limit reached in organization org-simulated. Please try again in 1s.";
    let retry_after = Some(std::time::Duration::from_secs(1));
    Problem { retry_after, ..Problem::rate_limit(kind, told.to_owned()) }
}

fn no_batch(id: &str) -> Problem {
    let id: String = id.chars().take(128).collect();
    let told = format!("No batch found with id '{id}'.");
    Problem::new(StatusCode::NOT_FOUND, INVALID, None, told)
}

fn too_late(status: Status) -> Problem {
    let status = json!(status);
    let told =
        format!("Cannot cancel a batch with status '{}'.", status.as_str().unwrap_or_default());
    Problem::new(StatusCode::CONFLICT, INVALID, None, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_queue_reads_as_openais() {
        let told = too_many_tokens("gpt-4o-mini", 2_000_000).message;
        assert!(told.starts_with("Enqueued token limit reached for gpt-4o-mini in organization "));
        assert!(told.contains(" Limit: 2,000,000 enqueued tokens. Please try again once some "));
        assert_eq!([0, 999, 1_000, 12_345].map(with_commas), ["0", "999", "1,000", "12,345"]);
    }
}
