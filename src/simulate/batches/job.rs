//! One batch: what it was asked to do, where it stands, what it has done.
//!
//! Nothing runs behind it. Whenever somebody looks (at it, at the list, at the ledger), it is moved
//! on to where it should be by then, and the lines that are done by then are worked on and charged.

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::input::{BatchError, Input};
use super::results::{self, Ids, Left, Results};
use super::schedule::{At, Course, Move, Schedule, Status};
use crate::domain::Endpoint;
use crate::simulate::Settings;
use crate::simulate::draws::{self, Purpose};
use crate::simulate::fault::Fault;
use crate::simulate::files::{self, BATCH_LIFETIME_S, NewFile};
use crate::simulate::ledger::lock;
use crate::simulate::likeness::Keeps;
use crate::simulate::service::State;

/// What `POST /v1/batches` asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) endpoint: Endpoint,
    pub(super) input_file_id: String,
    pub(super) metadata: Value,
    /// How long the result files are kept, if that was said.
    pub(super) output_lifetime_s: Option<i64>,
}

/// What was made of its input, and how it will go.
#[derive(Debug)]
pub(super) struct Prospect {
    pub(super) input: Result<Input, Vec<BatchError>>,
    pub(super) course: Course,
    /// How its results are told.
    pub(super) told: Option<Fault>,
    /// What is enqueued for it.
    pub(super) tokens: u64,
}

/// A batch.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    asked: Asked,
    schedule: Schedule,
    at: At,
    times: Times,
    course: Course,
    told: Option<Fault>,
    /// What is still to do; gone once it has ended.
    work: Option<Work>,
    model: Option<String>,
    errors: Vec<BatchError>,
    results: Results,
    total: usize,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    /// What is enqueued for it until it ends.
    tokens: u64,
    is_gone: bool,
}

/// The lines of a batch, in the order in which they are worked on.
#[derive(Debug)]
struct Work {
    input: Input,
    order: Vec<u32>,
    done: usize,
    key: [u8; 32],
}

/// When it came to each status, in milliseconds.
#[derive(Debug, Default)]
struct Times {
    in_progress: Option<i64>,
    finalizing: Option<i64>,
    completed: Option<i64>,
    failed: Option<i64>,
    expired: Option<i64>,
    cancelling: Option<i64>,
    cancelled: Option<i64>,
}

impl Job {
    /// Makes a batch that is about to be validated.
    pub(super) fn new(
        state: &State,
        (number, id): (u64, String),
        asked: Asked,
        prospect: Prospect,
    ) -> Self {
        let settings = &state.settings;
        let created_ms = state.now().0;
        let millis =
            |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let schedule = Schedule {
            created_ms,
            delay_ms: millis(settings.batch_delay.mul_f64(swing(settings, number))),
            window_ms: millis(settings.batch_window),
        };
        let (work, errors) = match prospect.input {
            Ok(input) => (Some(Work::new(settings.seed, number, input)), Vec::new()),
            Err(errors) => (None, errors),
        };
        Self {
            id,
            asked,
            schedule,
            at: At { status: Status::Validating, since_ms: created_ms, looks: 0 },
            times: Times::default(),
            course: prospect.course,
            told: prospect.told,
            total: work.as_ref().map_or(0, |work| work.order.len()),
            model: work.as_ref().map(|work| work.input.model.clone()),
            work,
            errors,
            results: Results::default(),
            output_file_id: None,
            error_file_id: None,
            tokens: prospect.tokens,
            is_gone: false,
        }
    }

    /// Says whether it was forgotten.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Moves it on for somebody who looks at it.
    pub(super) fn look(&mut self, state: &State) {
        self.at.looks = self.at.looks.saturating_add(1);
        self.settle(state);
    }

    /// Moves it on to where it should be by now.
    pub(super) fn settle(&mut self, state: &State) {
        let now_ms = state.now().0;
        // Each move is to a later status, so there are never more than a few.
        while !self.is_gone
            && let Some(next) = self.schedule.due(self.at, self.course, now_ms)
        {
            self.take(state, next);
        }
        if self.at.status == Status::InProgress && !self.is_gone && goes_along(state) {
            self.work_until(state, now_ms);
        }
    }

    /// Cancels it, unless it has ended; says whether it could.
    pub(super) fn cancel(&mut self, state: &State) -> bool {
        self.settle(state);
        match self.at.status {
            Status::Validating | Status::InProgress | Status::Finalizing => {
                let now_ms = state.now().0;
                if self.at.status == Status::InProgress {
                    self.work_until(state, now_ms);
                } else if self.at.status == Status::Finalizing {
                    self.work_to(state, self.total);
                }
                self.enter(Status::Cancelling, now_ms);
                true
            }
            Status::Cancelling => true,
            Status::Failed | Status::Completed | Status::Expired | Status::Cancelled => false,
        }
    }

    /// Returns the ids of its files, those that go in and those that come out.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let results = [self.output_file_id.as_deref(), self.error_file_id.as_deref()];
        std::iter::once(self.asked.input_file_id.as_str()).chain(results.into_iter().flatten())
    }

    /// Returns its status.
    pub(super) fn status(&self) -> Status {
        self.at.status
    }

    fn take(&mut self, state: &State, next: Move) {
        let (status, at_ms) = match next {
            Move::To(status, at_ms) => (status, at_ms),
            Move::Gone => {
                self.is_gone = true;
                self.work = None;
                self.release(state);
                return;
            }
        };
        if self.at.status == Status::InProgress {
            if status == Status::Finalizing {
                if goes_along(state) {
                    self.work_to(state, self.total);
                }
            } else {
                self.work_until(state, at_ms);
            }
        }
        self.enter(status, at_ms);
        if status == Status::Completed {
            self.work_to(state, self.total);
        }
        if status.is_end() {
            self.finish(state, status);
        }
    }

    fn enter(&mut self, status: Status, at_ms: i64) {
        self.at = At { status, since_ms: at_ms, looks: 0 };
        let times = &mut self.times;
        let time = match status {
            Status::Validating => return,
            Status::InProgress => &mut times.in_progress,
            Status::Finalizing => &mut times.finalizing,
            Status::Completed => &mut times.completed,
            Status::Failed => &mut times.failed,
            Status::Expired => &mut times.expired,
            Status::Cancelling => &mut times.cancelling,
            Status::Cancelled => {
                // A provider that cancels by itself passes over the time between.
                times.cancelling.get_or_insert(at_ms);
                &mut times.cancelled
            }
        };
        *time = Some(at_ms);
    }

    fn work_until(&mut self, state: &State, now_ms: i64) {
        self.work_to(state, self.schedule.done(self.course, self.total, now_ms));
    }

    /// Works on lines until so many are done.
    fn work_to(&mut self, state: &State, count: usize) {
        let Some(work) = self.work.as_mut().filter(|work| work.done < count) else { return };
        let bytes = work.input.bytes.open();
        let job = results::Job { id: &self.id, key: &work.key, endpoint: self.asked.endpoint };
        while work.done < count {
            let Some(index) = work.order.get(work.done) else { return };
            if let Some(line) = work.input.line(&bytes, *index as usize) {
                self.results.work(state, job, *index as usize, &line);
            }
            work.done += 1;
        }
    }

    /// Makes the result files, books what can be read in them, and lets go of the rest.
    fn finish(&mut self, state: &State, end: Status) {
        let left = match end {
            Status::Expired => Some(Left::Expired),
            Status::Cancelled => Some(Left::Cancelled),
            Status::Failed
            | Status::Completed
            | Status::Validating
            | Status::InProgress
            | Status::Finalizing
            | Status::Cancelling => None,
        };
        if let (Some(work), Some(left)) = (&self.work, left) {
            let bytes = work.input.bytes.open();
            for index in &work.order[work.done..] {
                let ids = Ids::draw(state.settings.seed, &work.key, *index as usize);
                if let Some(line) = work.input.line(&bytes, *index as usize) {
                    self.results.leave(&ids, &line.custom_id, left);
                }
            }
        }
        if end == Status::Failed && self.work.is_some() {
            let told = "The server had an error while processing your batch.";
            self.errors = vec![BatchError::whole("server_error", told)];
        }
        self.work = None;
        let output = std::mem::take(&mut self.results.output);
        let errors = std::mem::take(&mut self.results.errors);
        self.output_file_id = self.store(state, "output", output);
        self.error_file_id = self.store(state, "error", errors);
        for body in self.results.answered.drain(..) {
            state.ledger.answer(body);
        }
        self.release(state);
    }

    /// Puts a result file on the shelf, if there is anything in it.
    fn store(&self, state: &State, which: &str, bytes: Vec<u8>) -> Option<String> {
        let is_ordered = which == "error" && self.told == Some(Fault::ResultEmptyFile);
        if bytes.is_empty() && !is_ordered {
            return None;
        }
        let new = NewFile {
            filename: format!("{}_{which}.jsonl", self.id),
            purpose: files::RESULTS.to_owned(),
            bytes: Bytes::from(bytes),
            lifetime_s: self.asked.output_lifetime_s.or(Some(BATCH_LIFETIME_S)),
        };
        let file = lock(&state.files).add(new, state.now());
        Some(file.id.clone())
    }

    fn release(&mut self, state: &State) {
        let tokens = std::mem::take(&mut self.tokens);
        if let Some(model) = &self.model {
            state.desk.release(model, tokens);
        }
    }

    /// Writes the `Batch` object.
    pub(super) fn write(&self) -> Value {
        let times = &self.times;
        let seconds = |ms: Option<i64>| ms.map(|ms| ms.div_euclid(1000));
        let is_validated = times.in_progress.is_some();
        let expires_ms = self.schedule.created_ms.saturating_add(self.schedule.window_ms);
        // As in the specification's example, a batch is not dated before it was looked into.
        let is_dated = self.at.status != Status::Validating;
        let has_failed = self.at.status == Status::Failed;
        json!({
            "id": self.id,
            "object": "batch",
            "endpoint": format!("/v1/{}", self.asked.endpoint.as_str()),
            "model": self.model.as_ref().filter(|_| is_validated),
            "errors": has_failed.then(|| json!({"object": "list", "data": self.errors})),
            "input_file_id": self.asked.input_file_id,
            "completion_window": "24h",
            "status": self.at.status,
            "output_file_id": self.told_id(self.output_file_id.as_deref()),
            "error_file_id": self.told_id(self.error_file_id.as_deref()),
            "created_at": self.schedule.created_ms.div_euclid(1000),
            "in_progress_at": seconds(times.in_progress),
            "expires_at": seconds(is_dated.then_some(expires_ms)),
            "finalizing_at": seconds(times.finalizing),
            "completed_at": seconds(times.completed),
            "failed_at": seconds(times.failed),
            "expired_at": seconds(times.expired),
            "cancelling_at": seconds(times.cancelling),
            "cancelled_at": seconds(times.cancelled),
            "request_counts": self.told_counts(is_validated),
            "usage": self.at.status.is_end().then(|| self.usage()),
            "metadata": self.asked.metadata,
        })
    }

    fn told_id<'a>(&self, id: Option<&'a str>) -> Option<&'a str> {
        id.or((self.told == Some(Fault::ResultEmptyIds)).then_some(""))
    }

    fn told_counts(&self, is_validated: bool) -> Value {
        let total = if is_validated { self.total as u64 } else { 0 };
        let Results { completed, failed, .. } = self.results;
        if self.told == Some(Fault::ResultCounts) {
            let total = total.saturating_sub(1);
            return json!({"total": total, "completed": failed, "failed": completed});
        }
        json!({"total": total, "completed": completed, "failed": failed})
    }

    fn usage(&self) -> Value {
        let usage = self.results.usage;
        json!({
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input + usage.output,
        })
    }
}

/// Says whether lines are worked on as time goes by, and not all at the end.
fn goes_along(state: &State) -> bool {
    state.settings.likeness.keeps == Keeps::Plain
}

/// Returns by what the usual time of a batch is multiplied for this one.
fn swing(settings: &Settings, number: u64) -> f64 {
    let key: [u8; 32] = Sha256::digest(number.to_le_bytes()).into();
    let drawn = draws::rng(settings.seed, &key, Purpose::Latency(number)).f64();
    1.0 + settings.likeness.batch_jitter.clamp(0.0, 1.0) * (2.0 * drawn - 1.0)
}

impl Work {
    fn new(seed: u64, number: u64, input: Input) -> Self {
        let key: [u8; 32] = Sha256::digest(number.to_le_bytes()).into();
        let mut order: Vec<_> = (0..input.lines.len() as u32).collect();
        draws::rng(seed, &key, Purpose::Order).shuffle(&mut order);
        Self { input, order, done: 0, key }
    }
}
