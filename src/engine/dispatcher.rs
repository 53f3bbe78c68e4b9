//! The dispatcher: one loop that owns every decision and the order of events.
//!
//! A job's way through it, each step started by the event of the one before:
//!
//! ```text
//!  fed ─▶ lane ─▶ promise ordered ─▶ promise committed ─▶ call ─▶ landed ─▶ settlement ordered ─▶ settled ─▶ rest
//!           ▲            └─ twin has a reply: shared         (socket)                                │
//!           │            └─ twin under way: follows it                                               │
//!           └──────────────────────── due again, after a backoff ◀──────────────────────────────────┘
//! ```
//!
//! It never blocks and never touches the disk or a socket itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::clock::Clock;
use super::feeder::Fed;
use super::followers::{Followers, Then, then};
use super::lane::Lane;
use super::pending::{Flight, Pending, Settling};
use super::run::{Control, Watch};
use super::task::{Job, Task, encode};
use super::transport::Transport;
use super::worker::{self, Landed, Parachute};
use crate::domain::{Event, FailureClass, Outcome, Problem, RequestId, Route, RunId, State, Tally};
use crate::machine::pace::{Failed, Heard, Landing, Permit};
use crate::machine::request::{Due, Facts, due};
use crate::machine::retry::backoff;
use crate::machine::stop::{Halt, Seen, Watchdog};
use crate::store::{
    Codec, Order, Promise, PromiseFor, Promised, Receipt, Settlement, Twin, Writer,
};

/// Events taken from a channel at a time.
const GULP: usize = 256;

/// Where events come from.
pub(super) struct Inbox {
    pub(super) fed: UnboundedReceiver<Fed>,
    pub(super) landed: UnboundedReceiver<Landed>,
    pub(super) receipts: UnboundedReceiver<Vec<Receipt>>,
    pub(super) control: UnboundedReceiver<Control>,
}

/// What the dispatcher works with.
pub(super) struct Outfit {
    pub(super) tasks: Arc<Vec<Task>>,
    /// The lane of each task.
    pub(super) lane_of: Vec<usize>,
    pub(super) lanes: Vec<Lane>,
    pub(super) writer: Writer,
    pub(super) transport: Transport,
    pub(super) clock: Clock,
    pub(super) run: RunId,
    pub(super) seed: u64,
    pub(super) landing: UnboundedSender<Landed>,
    pub(super) watch: Watch,
    /// Whether each task's prompt has ever been answered.
    pub(super) answered_before: Vec<bool>,
}

pub(super) struct Dispatcher {
    outfit: Outfit,
    rng: fastrand::Rng,
    tickets: u64,
    pending: HashMap<u64, Pending>,
    flying: HashMap<u64, Flight>,
    /// Requests that this run has taken up and that have not come to rest.
    leaders: HashSet<RequestId>,
    followers: Followers,
    stopped: Option<Problem>,
    tally: Tally,
    watchdog: Watchdog,
    dictionary_asked: HashSet<usize>,
}

impl Dispatcher {
    pub(super) fn new(outfit: Outfit) -> Self {
        let watchdog = Watchdog::new(outfit.answered_before.iter().copied());
        Self {
            rng: fastrand::Rng::with_seed(outfit.seed),
            outfit,
            tickets: 0,
            pending: HashMap::new(),
            flying: HashMap::new(),
            leaders: HashSet::new(),
            followers: Followers::default(),
            stopped: None,
            tally: Tally::default(),
            watchdog,
            dictionary_asked: HashSet::new(),
        }
    }

    /// Works until nothing is due or a stop has landed. Returns the writer, what was done and why it stopped.
    pub(super) async fn work(mut self, mut inbox: Inbox) -> (Writer, Tally, Option<Problem>) {
        let (mut fed, mut landed, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let wake = self.pump();
            if self.is_done() {
                break;
            }
            let now = self.outfit.clock.elapsed();
            let sleep = wake.map_or(Duration::from_hours(1), |at| at.saturating_sub(now));
            tokio::select! {
                biased;
                Some(control) = inbox.control.recv() => match control {
                    Control::Interrupt => self.stop(Problem::Interrupted),
                },
                count = inbox.receipts.recv_many(&mut receipts, GULP) => {
                    if count == 0 {
                        self.writer_gone();
                        break;
                    }
                    receipts.drain(..).flatten().for_each(|receipt| self.receipt(receipt));
                }
                _ = inbox.landed.recv_many(&mut landed, GULP) => {
                    landed.drain(..).for_each(|landed| self.landed(landed));
                }
                count = inbox.fed.recv_many(&mut fed, GULP), if self.is_fed() => {
                    if count == 0 {
                        self.feeder_gone();
                    }
                    fed.drain(..).for_each(|fed| self.fed(fed));
                }
                () = tokio::time::sleep(sleep) => {}
            }
            if self.stopped.is_some() {
                // Lets go of the feeders, which may be waiting for room.
                inbox.fed.close();
            }
        }
        (self.outfit.writer, self.tally, self.stopped)
    }

    fn is_fed(&self) -> bool {
        self.outfit.lanes.iter().any(|lane| lane.is_fed)
    }

    fn is_done(&self) -> bool {
        self.pending.is_empty()
            && self.flying.is_empty()
            && self.followers.is_empty()
            && self.outfit.lanes.iter().all(Lane::is_empty)
    }

    fn tell(&self, event: Event) {
        (self.outfit.watch)(event);
    }

    fn order(&mut self, pending: Pending, order: impl FnOnce(u64) -> Order) {
        self.tickets += 1;
        self.pending.insert(self.tickets, pending);
        self.outfit.writer.send(order(self.tickets));
    }

    /// Orders promises for whatever may go now. Returns when there is something to look at again.
    fn pump(&mut self) -> Option<Duration> {
        let mut wake = None;
        for lane in 0..self.outfit.lanes.len() {
            let lane_wake = self.pump_lane(lane);
            wake = [wake, lane_wake].into_iter().flatten().min();
        }
        wake
    }

    fn pump_lane(&mut self, index: usize) -> Option<Duration> {
        loop {
            let now = self.outfit.clock.elapsed();
            let lane = &mut self.outfit.lanes[index];
            let Some(tokens) = lane.peek(now).map(Job::guessed_tokens) else {
                return lane.next_retry();
            };
            let number = match lane.pace.ask(now, tokens) {
                Permit::Go => lane.pace.start(now, tokens),
                Permit::Wait(wait) => return Some(now + wait),
                Permit::Full => return None,
            };
            if let Some(mut job) = lane.pop(now) {
                job.pace_number = number;
                self.promise(job);
            }
        }
    }

    fn promise(&mut self, mut job: Box<Job>) {
        job.room = None;
        if job.form != self.outfit.tasks[job.task].form()
            && let Err(error) = self.encode_again(&mut job)
        {
            return self.stop(Problem::Record { error: error.to_string() });
        }
        let task = &self.outfit.tasks[job.task];
        let request = match job.request {
            Some(request) => PromiseFor::Existing { request, body: job.body.clone() },
            None => PromiseFor::New { row: job.row, prompt: task.id(), body: job.body.clone() },
        };
        let promise = Box::new(Promise {
            request,
            run: self.outfit.run,
            route: Route::Realtime,
            max_tokens: job.max_tokens,
            sent_body: job.sent_body.clone(),
            at: Clock::now(),
            reuse: job.reuse,
        });
        self.order(Pending::Promise(job), |ticket| Order::Promise(ticket, promise));
    }

    fn fed(&mut self, fed: Fed) {
        match fed {
            Fed::Job(lane, job) if self.stopped.is_none() => self.outfit.lanes[lane].push(job),
            Fed::Unrenderable { task, row, position, existing, error }
                if self.stopped.is_none() =>
            {
                let of = (row, self.outfit.tasks[task].id());
                let words = error.clone();
                self.order(Pending::NotRendered { position, task, error }, |ticket| {
                    Order::NotRendered { ticket, of, existing, error: words }
                });
            }
            Fed::Job(..) | Fed::Unrenderable { .. } => {}
            Fed::Done(lane) => self.outfit.lanes[lane].is_fed = false,
            Fed::Broken(error) => self.stop(Problem::Record { error: error.to_string() }),
        }
    }

    fn receipt(&mut self, receipt: Receipt) {
        let ticket = match &receipt {
            Receipt::Promised(ticket, _)
            | Receipt::Settled(ticket, _)
            | Receipt::NotRendered(ticket, _)
            | Receipt::Dictionary(ticket, _)
            | Receipt::AsksInWords(ticket)
            | Receipt::Refused(ticket, _) => *ticket,
            Receipt::Trouble(error) => {
                return self.tell(Event::RecordTrouble { error: error.clone() });
            }
        };
        let Some(pending) = self.pending.remove(&ticket) else { return };
        match (receipt, pending) {
            (Receipt::Promised(_, promised), Pending::Promise(job)) => self.promised(promised, job),
            (Receipt::Settled(_, state), Pending::Settle(settling)) => {
                self.settled(*settling, state);
            }
            (Receipt::Settled(_, state), Pending::Share(job)) => self.shared(&job, state),
            (Receipt::NotRendered(..), Pending::NotRendered { position, task, error }) => {
                self.tally.failed += 1;
                let prompt = self.prompt_name(task);
                self.tell(Event::NotRendered { position, prompt, error });
            }
            (Receipt::Dictionary(_, id), Pending::Dictionary { task, bytes }) => {
                // Set once; a second one would only be a better dictionary.
                let _ = self.outfit.tasks[task]
                    .reply_codec
                    .set(Codec::with(id, Codec::dictionary_of(&bytes)));
            }
            (Receipt::Refused(_, error), pending) => self.refused(error, &pending),
            (Receipt::AsksInWords(_), Pending::AskInWords) => {}
            // A receipt of another kind than its order cannot be: tickets are never used twice.
            (_, _) => {}
        }
    }

    fn promised(&mut self, promised: Promised, mut job: Box<Job>) {
        let lane = self.outfit.lane_of[job.task];
        job.recorded.get_or_insert(job.body.fingerprint);
        match promised {
            Promised::Sent { request, attempt, number } => {
                job.request = Some(request);
                self.leaders.insert(request);
                self.send(Flight {
                    guessed_tokens: job.guessed_tokens(),
                    job,
                    request,
                    attempt,
                    number,
                });
            }
            Promised::Shared { request, state } => {
                self.outfit.lanes[lane].pace.withdraw(job.guessed_tokens());
                job.request = Some(request);
                self.shared(&job, state);
            }
            Promised::Wait { request, twin: Twin { request: twin, .. } } => {
                self.outfit.lanes[lane].pace.withdraw(job.guessed_tokens());
                job.request = Some(request);
                if self.stopped.is_some() {
                    // Nobody would let it go any more: it is left to the next run.
                } else if self.leaders.contains(&twin) {
                    self.followers.wait_for(twin, *job);
                } else {
                    // Nobody here will settle it, so there is nothing to wait for.
                    job.reuse = false;
                    self.outfit.lanes[lane].push(job);
                }
            }
        }
    }

    fn send(&mut self, flight: Flight) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.tally.sent += 1;
        let what = (flight.job.task, flight.job.bytes.clone(), flight.job.form);
        let with = (self.outfit.transport.clone(), self.outfit.clock);
        let call = worker::call(ticket, Arc::clone(&self.outfit.tasks), what, with);
        let parachute = Parachute::new(ticket, self.outfit.landing.clone());
        self.flying.insert(ticket, flight);
        tokio::spawn(async move { parachute.land(call.await) });
    }

    fn landed(&mut self, mut landed: Landed) {
        let Some(flight) = self.flying.remove(&landed.ticket) else { return };
        self.adjust_pace(&flight, &landed);
        self.look_for_reasons_to_stop(&flight, &landed);
        let task = flight.job.task;
        if let Some(bytes) = landed.first_reply.take()
            && self.dictionary_asked.insert(task)
        {
            self.keep_dictionary(task, bytes);
        }
        let settlement = Box::new(Settlement {
            attempt: flight.attempt,
            request: flight.request,
            outcome: landed.outcome,
            at: Clock::now(),
            answer: landed.answer,
            error: landed.error.clone(),
            status_code: landed.status_code,
            provider_request_id: landed.provider_request_id,
            served_model: landed.served_model,
            finish_reason: landed.finish_reason,
            usage: landed.usage,
            cost: landed.cost,
            reply: landed.reply,
        });
        let settling = Box::new(Settling {
            flight,
            outcome: landed.outcome,
            error: landed.error,
            usage: landed.usage,
            cost: landed.cost,
            asked_pause: landed.asked_pause,
            took: landed.took,
        });
        self.order(Pending::Settle(settling), |ticket| Order::Settle(ticket, settlement));
    }

    fn adjust_pace(&mut self, flight: &Flight, landed: &Landed) {
        let now = self.outfit.clock.elapsed();
        let jitter = self.rng.f64();
        let pace = &mut self.outfit.lanes[self.outfit.lane_of[flight.job.task]].pace;
        let heard = Heard {
            number: flight.job.pace_number,
            took: landed.took,
            requests: landed.requests_limit,
            tokens: landed.tokens_limit,
        };
        pace.heard(now, heard);
        if let Some(usage) = landed.usage {
            pace.counted(flight.guessed_tokens, usage.input + usage.output);
        }
        match landed.outcome {
            Outcome::Failed(class) => {
                let is_first_try = flight.number == 1;
                let failed = Failed { class, asked: landed.asked_pause, is_first_try };
                let landing = Landing::Failed(failed);
                if let Some(pause) = pace.land(now, landing, jitter) {
                    self.tell(Event::Paused { class, pause });
                }
            }
            Outcome::Answered | Outcome::Truncated | Outcome::InDoubt => {
                pace.land(now, Landing::Served, jitter);
            }
        }
    }

    fn look_for_reasons_to_stop(&mut self, flight: &Flight, landed: &Landed) {
        let task = flight.job.task;
        if landed.outcome == Outcome::Failed(FailureClass::SchemaUnsupported) {
            self.ask_in_words(task);
        }
        let seen = Seen {
            prompt: task,
            outcome: landed.outcome,
            is_first_try: flight.number == 1,
            has_reply: landed.status_code.is_some(),
        };
        let halt = self.watchdog.look(self.outfit.clock.elapsed(), seen);
        let message = || landed.error.clone().unwrap_or_default();
        match halt {
            Some(Halt::Provider(class)) => {
                self.stop(Problem::Provider { class, message: message() });
            }
            Some(Halt::EveryRequestFails(class, requests)) => {
                let prompt = self.prompt_name(task);
                let message = message();
                self.stop(Problem::EveryRequestFails { prompt, class, requests, message });
            }
            None => {}
        }
    }

    fn ask_in_words(&mut self, task: usize) {
        if !self.outfit.tasks[task].ask_in_words() {
            return;
        }
        let prompt = self.outfit.tasks[task].id();
        let at = Clock::now();
        self.order(Pending::AskInWords, |ticket| Order::AskInWords { ticket, prompt, at });
        self.tell(Event::AsksInWords { prompt: self.prompt_name(task) });
    }

    fn keep_dictionary(&mut self, task: usize, bytes: Bytes) {
        let prompt = self.outfit.tasks[task].id();
        let kept = Codec::dictionary_of(&bytes).to_vec();
        self.order(Pending::Dictionary { task, bytes }, |ticket| Order::Dictionary {
            ticket,
            prompt,
            kind: "reply",
            bytes: kept,
        });
    }

    /// A settlement is on the disk: now, and not before, is the next step decided.
    fn settled(&mut self, settling: Settling, state: State) {
        let class = state.class();
        let mut job = settling.flight.job;
        job.attempts_used += u32::from(class.is_some_and(FailureClass::uses_attempt));
        job.failures = if class.is_some() { job.failures + 1 } else { 0 };
        let facts = Facts { state, attempts_used: job.attempts_used, max_tokens: job.max_tokens };
        let next = due(facts, self.outfit.tasks[job.task].policy);
        let is_retried = self.stopped.is_none() && matches!(next, Due::Yes { .. });
        self.tally.usage += settling.usage.unwrap_or_default();
        self.tally.cost += settling.cost.unwrap_or_default();
        let may_be_billed = settling.usage.is_some() || settling.outcome.has_text();
        self.tally.unpriced += u64::from(may_be_billed && settling.cost.is_none());
        self.tell(Event::Settled {
            position: job.position,
            prompt: self.prompt_name(job.task),
            attempt: settling.flight.number,
            route: Route::Realtime,
            outcome: settling.outcome,
            error: settling.error,
            took: settling.took,
            usage: settling.usage,
            cost: settling.cost,
            is_retried,
        });
        match next {
            Due::Yes { max_tokens } if is_retried => {
                self.again(job, state, max_tokens, settling.asked_pause);
            }
            // Due, and left to the next run: it has neither failed nor come to rest.
            Due::Yes { .. } => {}
            Due::Answered
            | Due::UnderWay
            | Due::Held
            | Due::Final(_)
            | Due::Exhausted(_)
            | Due::AtTokenLimit => self.rest(settling.flight.request, state),
        }
    }

    fn again(
        &mut self,
        mut job: Box<Job>,
        state: State,
        max_tokens: Option<u32>,
        asked: Option<Duration>,
    ) {
        self.tally.retried += 1;
        if max_tokens != job.max_tokens {
            job.max_tokens = max_tokens;
            if let Err(error) = self.encode_again(&mut job) {
                return self.stop(Problem::Record { error: error.to_string() });
            }
        }
        let delay = match state.class() {
            Some(class) => backoff(class, job.failures, asked, self.rng.f64()),
            None => Duration::ZERO,
        };
        let at = self.outfit.clock.elapsed() + delay;
        self.outfit.lanes[self.outfit.lane_of[job.task]].push_later(at, job);
    }

    /// Makes anew what is sent for a job, after its token limit or the way of asking has changed.
    fn encode_again(&self, job: &mut Job) -> std::io::Result<()> {
        let task = &self.outfit.tasks[job.task];
        let encoded = encode(task, &job.messages, job.max_tokens, job.recorded)?;
        if job.recorded.is_none() {
            job.body = encoded.body;
        }
        (job.bytes, job.sent_body, job.form) = (encoded.bytes, encoded.sent_body, encoded.form);
        Ok(())
    }

    /// A request has come to rest: counts it and lets its followers go on.
    fn rest(&mut self, request: RequestId, state: State) {
        match state {
            State::Answered => self.tally.answered += 1,
            State::Truncated => self.tally.truncated += 1,
            State::Failed(_) => self.tally.failed += 1,
            State::Pending | State::InFlight | State::InBatch | State::InDoubt => {}
        }
        self.let_go(request, state);
    }

    /// Lets those who waited for a request go on, by whichever way it has come to rest itself.
    fn let_go(&mut self, request: RequestId, state: State) {
        self.leaders.remove(&request);
        let waited = self.followers.of(request).into_iter().map(Box::new);
        if self.stopped.is_some() {
            return;
        }
        match then(state) {
            Then::Share => waited.for_each(|job| self.share(job, request)),
            Then::TryThemselves => {
                waited.for_each(|job| self.outfit.lanes[self.outfit.lane_of[job.task]].push(job));
            }
        }
    }

    fn share(&mut self, job: Box<Job>, twin: RequestId) {
        let Some(request) = job.request else { return };
        self.order(Pending::Share(job), |ticket| Order::Share { ticket, request, twin });
    }

    fn shared(&mut self, job: &Job, state: State) {
        match state {
            State::Answered => self.tally.shared += 1,
            State::Truncated => self.tally.truncated += 1,
            State::Failed(_) => self.tally.failed += 1,
            State::Pending | State::InFlight | State::InBatch | State::InDoubt => {}
        }
        let prompt = self.prompt_name(job.task);
        self.tell(Event::Shared { position: job.position, prompt, state });
        // It may have been sent before, failed for a while, and have others wait for it.
        if let Some(request) = job.request {
            self.let_go(request, state);
        }
    }

    fn refused(&mut self, error: String, pending: &Pending) {
        if let Pending::Promise(job) = pending {
            let lane = self.outfit.lane_of[job.task];
            self.outfit.lanes[lane].pace.withdraw(job.guessed_tokens());
        }
        self.stop(Problem::Record { error });
    }

    /// A feeder says when it is done; one that has gone without a word has left rows behind.
    fn feeder_gone(&mut self) {
        self.stop(Problem::Record { error: "the thread that reads it has stopped".to_owned() });
    }

    fn writer_gone(&mut self) {
        self.stop(Problem::Record { error: "the writer has stopped".to_owned() });
    }

    /// Sends no more. What has been promised is sent, what is in flight lands and is recorded.
    fn stop(&mut self, why: Problem) {
        if self.stopped.is_some() {
            return;
        }
        self.outfit.lanes.iter_mut().for_each(Lane::clear);
        self.followers.clear();
        self.tell(Event::Stopping { why: why.clone(), in_flight: self.flying.len() as u64 });
        self.stopped = Some(why);
    }

    fn prompt_name(&self, task: usize) -> String {
        self.outfit.tasks[task].prompt.name.clone()
    }
}
