//! What a batch brings: each line worked on, and the two files that come of it.
//!
//! Lines are worked on in an order drawn from the seed, which is the order of the output: OpenAI
//! does not keep the input's. They are written as they are done, so that no second copy is made.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::input::Line;
use crate::domain::{Endpoint, Usage};
use crate::simulate::draws::{self, Purpose};
use crate::simulate::fault::{Fault, Moment};
use crate::simulate::reply::Problem;
use crate::simulate::service::State;
use crate::simulate::work::{Call, Good, Made};

/// Which batch a line is worked on for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'a> {
    pub(super) id: &'a str,
    /// What the ids of its results are drawn from.
    pub(super) key: &'a [u8; 32],
    pub(super) endpoint: Endpoint,
}

/// The two files as they grow, and their sums.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) output: Vec<u8>,
    pub(super) errors: Vec<u8>,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) usage: Usage,
    /// The bodies whose whole and usable reply stands in the output.
    pub(super) answered: Vec<[u8; 32]>,
}

/// Why a line was not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The window closed.
    Expired,
    /// The batch was cancelled.
    Cancelled,
}

impl Results {
    /// Works on a line, the `index`-th of its file.
    pub(super) fn work(&mut self, state: &State, job: Job<'_>, index: usize, line: &Line<'_>) {
        let ids = Ids::draw(state.settings.seed, job.key, index);
        let bytes = Bytes::copy_from_slice(line.body.as_bytes());
        let call = Call::arrive(state, job.endpoint, bytes, Some(job.id));
        match complete(state, &call) {
            Ok((reply, fault, usage)) => {
                self.completed += 1;
                self.usage.input += usage.input;
                self.usage.cached += usage.cached;
                self.usage.output += usage.output;
                self.usage.reasoning += usage.reasoning;
                if self.put(&ids, &line.custom_id, &reply.body, fault) && reply.is_usable {
                    self.answered.push(call.body);
                }
            }
            Err(problem) => {
                state.ledger.count_error(problem.word());
                self.fail(&ids, &line.custom_id, &problem);
            }
        }
    }

    /// Puts a completion where it belongs, with what was ordered to happen to it; says whether it
    /// can be read there.
    fn put(&mut self, ids: &Ids, custom_id: &str, body: &Value, fault: Option<Fault>) -> bool {
        let is = |ordered| fault == Some(ordered);
        if is(Fault::LineMissing) {
            return false;
        }
        let unknown = format!("unknown-{}", ids.line);
        let custom_id = if is(Fault::LineUnknown) { &unknown } else { custom_id };
        let mut written = ids.reply(custom_id, StatusCode::OK, body).to_string();
        if is(Fault::LineGarbled) {
            let cut = written.floor_char_boundary(written.len() * 2 / 3);
            written.truncate(cut);
        }
        let times = if is(Fault::LineDoubled) { 2 } else { 1 };
        for _ in 0..times {
            push(&mut self.output, &written);
        }
        if is(Fault::LineBoth) {
            let problem = Problem::server_error();
            let told = ids.reply(custom_id, problem.status, &problem.envelope());
            push(&mut self.errors, &told.to_string());
        }
        !is(Fault::LineUnknown) && !is(Fault::LineGarbled)
    }

    fn fail(&mut self, ids: &Ids, custom_id: &str, problem: &Problem) {
        self.failed += 1;
        let told = ids.reply(custom_id, problem.status, &problem.envelope());
        push(&mut self.errors, &told.to_string());
    }

    /// Tells of a line, the `index`-th of its file, that it was left.
    pub(super) fn leave(&mut self, ids: &Ids, custom_id: &str, left: Left) {
        let (code, message) = match left {
            Left::Expired => (
                "batch_expired",
                "This request could not be executed before the completion window expired.",
            ),
            Left::Cancelled => (
                "batch_cancelled",
                "This request was not executed because the batch was cancelled.",
            ),
        };
        let told = json!({
            "id": ids.line,
            "custom_id": custom_id,
            "response": null,
            "error": {"code": code, "message": message},
        });
        push(&mut self.errors, &told.to_string());
    }
}

struct Reply {
    body: Value,
    is_usable: bool,
}

/// Makes the reply that a line's body gets, and charges it.
fn complete(state: &State, call: &Call<'_>) -> Result<(Reply, Option<Fault>, Usage), Problem> {
    let parsed = call.read(state.settings.likeness.takes)?;
    let good = Good::admit(state, call, &parsed)?;
    let fault = good.draw_fault(state, Moment::Line);
    if fault == Some(Fault::LineServerError) {
        return Err(Problem::server_error());
    }
    if fault == Some(Fault::LineRateLimit) {
        let told = "Requests per limit rate limit exceeded in Batch API.".to_owned();
        return Err(Problem::rate_limit("requests", told));
    }
    let made = good.complete(state, fault)?;
    let mut body = made.write(state);
    if fault == Some(Fault::LineSeparator) {
        separate(&mut body);
    }
    Ok((Reply { body, is_usable: is_usable(&made) }, fault, made.usage()))
}

/// Says whether a completion that stands in the output can be used as it is.
fn is_usable(made: &Made<'_>) -> bool {
    made.fault != Some(Fault::WrongType)
        && made.fault != Some(Fault::WrongLabel)
        && made.is_usable()
}

/// Puts characters that split lines for some readers where they do no harm to a structured answer.
fn separate(body: &mut Value) {
    let field = if body.get("choices").is_some() { "system_fingerprint" } else { "user" };
    body[field] = json!("fp_\u{2028}\u{2029}\u{85}");
}

/// The ids in one line of a result file.
#[derive(Debug)]
pub(super) struct Ids {
    line: String,
    request: String,
}

impl Ids {
    /// Draws the ids for the `index`-th line of the batch that `key` names.
    pub(super) fn draw(seed: u64, key: &[u8; 32], index: usize) -> Self {
        let mut rng = draws::rng(seed, key, Purpose::Name(index as u64));
        Self {
            line: format!("batch_req_{:032x}", rng.u128(..)),
            request: format!("req_{:032x}", rng.u128(..)),
        }
    }

    fn reply(&self, custom_id: &str, status: StatusCode, body: &Value) -> Value {
        json!({
            "id": self.line,
            "custom_id": custom_id,
            "response": {
                "status_code": status.as_u16(),
                "request_id": self.request,
                "body": body,
            },
            "error": null,
        })
    }
}

fn push(file: &mut Vec<u8>, line: &str) {
    file.extend_from_slice(line.as_bytes());
    file.push(b'\n');
}
