//! What is noted while a rehearsal goes on: what the record of the copy does not say by itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::cli::out::Out;
use crate::cli::text::{count, duration, thousands};
use crate::domain::{BatchStatus, Event, Outcome, State, UnixMs};
use crate::engine::{Clock, Control};
use crate::simulate::Exchange;

/// How often a line is said.
const LINE_EVERY_MS: i64 = 5_000;
/// Rows that are named of each kind of problem.
const NAMED: usize = 5;
/// Tries in a row, by which no request came to its end, after which none ever will; and so many more for each that is due.
const VAIN_TRIES: u64 = 5_000;
const VAIN_TRIES_EACH: u64 = 5;
/// The word for answers that were cut by the token limit.
pub(super) const TRUNCATED: &str = "truncated";

/// A kind of problem: what came of so many requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) count: u64,
    /// The first rows in the table that have it.
    pub(super) positions: Vec<i64>,
    pub(super) message: String,
}

/// What was noted.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    pub(super) due: u64,
    pub(super) answered: u64,
    pub(super) shared: u64,
    pub(super) failed: u64,
    pub(super) truncated: u64,
    /// By prompt and failure class, or [`TRUNCATED`].
    pub(super) problems: BTreeMap<(String, &'static str), Found>,
    /// Attempts that failed and were made again, by class.
    pub(super) again: BTreeMap<&'static str, u64>,
    /// What happened on the way, each once.
    pub(super) remarks: Vec<String>,
    /// Tries since a request last came to its end.
    vain: u64,
    last_line: Option<UnixMs>,
}

impl Noted {
    /// Counts the requests that have come to an end.
    pub(super) fn done(&self) -> u64 {
        self.answered + self.shared + self.failed + self.truncated
    }

    /// Says whether requests are tried again and again, and none comes to its end.
    fn is_in_vain(&self) -> bool {
        self.vain > VAIN_TRIES + VAIN_TRIES_EACH * self.due
    }

    fn came_to(&mut self, state: State, (prompt, position): (&str, i64), message: &str) {
        match state {
            State::Answered => self.answered += 1,
            State::Truncated => {
                self.truncated += 1;
                self.found((prompt, TRUNCATED), position, message);
            }
            State::Failed(class) => {
                self.failed += 1;
                self.found((prompt, class.as_str()), position, message);
            }
            State::Pending | State::InFlight | State::InBatch | State::InDoubt => {}
        }
    }

    fn found(&mut self, (prompt, kind): (&str, &'static str), position: i64, message: &str) {
        let found = self.problems.entry((prompt.to_owned(), kind)).or_default();
        found.count += 1;
        if found.message.is_empty() {
            message.clone_into(&mut found.message);
        }
        let at = found.positions.partition_point(|known| *known < position);
        if at < NAMED {
            found.positions.insert(at, position);
            found.positions.truncate(NAMED);
        }
    }

    fn remark(&mut self, words: String) {
        if !self.remarks.contains(&words) {
            self.remarks.push(words);
        }
    }

    fn take_in(&mut self, event: &Event) {
        match event {
            Event::Started { due, .. } => self.due = *due,
            Event::Settled { position, prompt, outcome, error, is_retried, .. } => {
                let message = error.as_deref().unwrap_or_default();
                self.vain = if *is_retried { self.vain + 1 } else { 0 };
                match (outcome, is_retried) {
                    (Outcome::Failed(class), true) => {
                        *self.again.entry(class.as_str()).or_default() += 1;
                    }
                    (Outcome::Truncated, true) => {
                        *self.again.entry(TRUNCATED).or_default() += 1;
                    }
                    (Outcome::Answered | Outcome::InDoubt, true) => {}
                    (outcome, false) => {
                        let state = match outcome {
                            Outcome::Answered => State::Answered,
                            Outcome::Truncated => State::Truncated,
                            Outcome::Failed(class) => State::Failed(*class),
                            Outcome::InDoubt => State::InDoubt,
                        };
                        self.came_to(state, (prompt, *position), message);
                    }
                }
            }
            Event::Shared { position, prompt, state } => match state {
                State::Answered => self.shared += 1,
                State::Truncated
                | State::Failed(_)
                | State::Pending
                | State::InFlight
                | State::InBatch
                | State::InDoubt => {
                    self.came_to(*state, (prompt, *position), "as another row's equal request");
                }
            },
            Event::NotRendered { position, prompt, error } => {
                let class = crate::domain::FailureClass::RenderFailed;
                self.came_to(State::Failed(class), (prompt, *position), error);
            }
            other => self.remark_on(other),
        }
    }

    fn remark_on(&mut self, event: &Event) {
        match event {
            Event::AsksInWords { prompt } => self.remark(format!(
                "the form of the answers of prompt {prompt} is asked for in words: its server takes no JSON Schema"
            )),
            Event::QueueFull { model, limit: Some(limit), .. } => self.remark(format!(
                "the queue for {model} was full: batches were held to {} from then on",
                count(*limit, "token")
            )),
            Event::Oversized { model, limit, policy } => {
                let why = match limit {
                    Some(limit) => format!("{} may wait in its queue", count(*limit, "token")),
                    None => "no batch is large enough".to_owned(),
                };
                let fate = policy.as_str();
                self.remark(format!(
                    "not all requests of {model} found room in batches ({why}): --oversized {fate}"
                ));
            }
            Event::BatchesGivenUp { model, batches } => self.remark(format!(
                "{} of {model} in a row brought nothing, so the rest went by calls",
                count(u64::from(*batches), "batch")
            )),
            Event::DeadlinePassed { batches, requests } => self.remark(format!(
                "at the deadline {} with {} were cancelled, and what they had not answered went by calls",
                count(*batches, "batch"),
                count(*requests, "request")
            )),
            Event::Started { .. }
            | Event::InDoubt { .. }
            | Event::Settled { .. }
            | Event::Shared { .. }
            | Event::NotRendered { .. }
            | Event::Canary { .. }
            | Event::Batch(_)
            | Event::BatchTrouble { .. }
            | Event::QueueFull { .. }
            | Event::NoBatchApi { .. }
            | Event::Paused { .. }
            | Event::RecordTrouble { .. }
            | Event::Stopping { .. }
            | Event::Finished { .. } => {}
        }
    }
}

/// Notes the events of a rehearsal, and says how far it is.
pub(super) struct Notes {
    noted: Mutex<Noted>,
    out: Out,
    clock: Clock,
    exchange: Exchange,
    control: UnboundedSender<Control>,
}

impl Notes {
    pub(super) fn new(
        out: Out,
        clock: Clock,
        exchange: Exchange,
        control: UnboundedSender<Control>,
    ) -> Self {
        Self { noted: Mutex::default(), out, clock, exchange, control }
    }

    /// Ends a rehearsal that comes to no end by itself.
    pub(super) fn give_up(&self) {
        // Nobody listens only once the run has ended.
        let _ = self.control.send(Control::Interrupt);
    }

    /// Takes in an event.
    pub(super) fn tell(&self, event: &Event) {
        let mut noted = self.lock();
        noted.take_in(event);
        if noted.is_in_vain() {
            self.give_up();
        }
        if let Event::Batch(news) = event
            && news.status == BatchStatus::Collected
            && let Some(id) = &news.provider_id
        {
            self.exchange.providers.values().for_each(|provider| provider.forget(id));
        }
        let now = Clock::now();
        let last = *noted.last_line.get_or_insert(now);
        if now.0 - last.0 >= LINE_EVERY_MS {
            noted.last_line = Some(now);
            self.out.say(&format!(
                "{} of {} rehearsed; {} have passed there",
                thousands(noted.done()),
                count(noted.due, "request"),
                duration(self.elapsed())
            ));
        }
    }

    /// Returns what was noted so far.
    pub(super) fn noted(&self) -> Noted {
        self.lock().clone()
    }

    /// Counts the requests that have come to an end so far.
    pub(super) fn done(&self) -> u64 {
        self.lock().done()
    }

    /// Returns the time that has passed in the rehearsal.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
