//! Calls, from the promise on record to what comes of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::followers::Follower;
use super::super::pending::{Flight, Pending, Settling};
use super::super::task::Job;
use super::super::worker::{self, Landed, Parachute};
use super::Dispatcher;
use crate::domain::{Event, FailureClass, Outcome, Problem, Route, State};
use crate::machine::pace::{self, Failed, Landing};
use crate::machine::request::{Due, Facts, due};
use crate::machine::retry::backoff;
use crate::machine::stop::{Halt, Seen};
use crate::store::{Codec, Order, Promised, Settlement};

impl Dispatcher {
    pub(super) fn promised(&mut self, promised: Promised, mut job: Box<Job>) {
        let lane = self.outfit.lane_of[job.task];
        job.recorded.get_or_insert(job.body.fingerprint);
        match promised {
            Promised::Sent { request, attempt, number, batch: _ } => {
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
                self.give_back(&mut job);
                self.outfit.lanes[lane].pace.withdraw(job.guessed_tokens());
                self.canary_rests(&job, state, None);
                let follower = Follower { task: job.task, request, position: job.position };
                self.shared(follower, state);
            }
            Promised::Taken { .. } => {
                self.give_back(&mut job);
                self.outfit.lanes[lane].pace.withdraw(job.guessed_tokens());
                self.canary_rests(&job, State::InFlight, None);
            }
            Promised::Wait { request, twin } => {
                self.give_back(&mut job);
                self.outfit.lanes[lane].pace.withdraw(job.guessed_tokens());
                job.request = Some(request);
                self.canary_rests(&job, State::InFlight, None);
                self.follow(job, twin);
            }
        }
    }

    fn send(&mut self, flight: Flight) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.tally.sent += 1;
        let what = (flight.job.task, flight.job.bytes.clone(), flight.job.form);
        let with = (self.outfit.transport.clone(), self.outfit.world.clock);
        let call = worker::call(ticket, Arc::clone(&self.outfit.tasks), what, with);
        let parachute = Parachute::new(ticket, self.outfit.landing.clone());
        self.flying.insert(ticket, flight);
        self.outfit.world.hands.spawn(async move { parachute.land(call.await) });
    }

    pub(super) fn landed(&mut self, mut landed: Landed) {
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
            at: self.outfit.world.clock.time_of_day(),
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
            room: landed.room,
        });
        self.order(Pending::Settle(settling), |ticket| Order::Settle(ticket, settlement));
    }

    fn adjust_pace(&mut self, flight: &Flight, landed: &Landed) {
        let now = self.outfit.world.clock.elapsed();
        let how = match landed.outcome {
            Outcome::Failed(class) => {
                let is_first_try = flight.number == 1;
                Landing::Failed(Failed { class, asked: landed.asked_pause, is_first_try })
            }
            Outcome::Answered | Outcome::Truncated | Outcome::InDoubt => Landing::Served,
        };
        let landing = pace::Landed {
            number: flight.job.pace_number,
            took: landed.took,
            guessed: flight.guessed_tokens,
            counted: landed.usage.map(|usage| usage.input + usage.output),
            requests: landed.requests_limit,
            tokens: landed.tokens_limit,
            how,
        };
        let jitter = self.rng.f64();
        let pace = &mut self.outfit.lanes[self.outfit.lane_of[flight.job.task]].pace;
        let pause = pace.land(now, &landing, jitter);
        if let (Some(pause), Outcome::Failed(class)) = (pause, landed.outcome) {
            self.tell(Event::Paused { class, pause });
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
        let halt = self.watchdog.look(self.outfit.world.clock.elapsed(), seen);
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

    pub(super) fn ask_in_words(&mut self, task: usize) {
        if !self.outfit.tasks[task].ask_in_words() {
            return;
        }
        let prompt = self.outfit.tasks[task].id();
        let at = self.outfit.world.clock.time_of_day();
        self.order(Pending::AskInWords, |ticket| Order::AskInWords { ticket, prompt, at });
        self.tell(Event::AsksInWords { prompt: self.prompt_name(task) });
    }

    pub(super) fn keep_dictionary(&mut self, task: usize, bytes: Bytes) {
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
    pub(super) fn settled(&mut self, settling: Settling, state: State) {
        let class = state.class();
        let mut job = settling.flight.job;
        if let Some(reserved) = job.reserved.take() {
            self.outfit.budget.settle(reserved, settling.cost);
            let most = self.outfit.tasks[job.task].most(&job, Route::Realtime);
            if let Some((most, cost)) = most.zip(settling.cost) {
                self.outfit.budget.learn(most, cost);
            }
        }
        job.attempts_used += u32::from(class.is_some_and(FailureClass::uses_attempt));
        job.failures = if class.is_some() { job.failures + 1 } else { 0 };
        let facts = Facts { state, attempts_used: job.attempts_used, max_tokens: job.max_tokens };
        let next = due(facts, self.outfit.tasks[job.task].policy);
        let is_retried = self.stopped.is_none() && matches!(next, Due::Yes { .. });
        self.tally.usage += settling.usage.unwrap_or_default();
        self.tally.cost += settling.cost.unwrap_or_default();
        let may_be_billed = settling.usage.is_some() || settling.outcome.has_text();
        self.tally.unpriced += u64::from(may_be_billed && settling.cost.is_none());
        let error = settling.error.clone().filter(|_| job.is_canary);
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
            | Due::AtTokenLimit => {
                self.canary_rests(&job, state, error.as_deref());
                self.rest(settling.flight.request, state);
            }
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
        let at = self.outfit.world.clock.elapsed() + delay;
        self.outfit.lanes[self.outfit.lane_of[job.task]].push_later(at, job);
    }
}
