//! Which way a request goes: a place in a batch, a call, or a wait for room.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::Dispatcher;
use crate::domain::{Event, FailureClass, Oversized, Problem, Route, State, custom_id};
use crate::engine::batches::{Counter, Gate, Place, Probe, SlotId, Stepped};
use crate::engine::feeder::{CUSTOM_ID_BYTES, line_bytes};
use crate::engine::followers::Follower;
use crate::engine::task::Job;
use crate::machine::route::{Asked, HasBatches};
use crate::store::{Promised, Seat, Way};

impl Dispatcher {
    /// Finds a way for a request that is to go into a batch.
    pub(in crate::engine::dispatcher) fn place(&mut self, lane: usize, mut job: Box<Job>) {
        let task = &self.outfit.tasks[job.task];
        if job.form != task.form() {
            if let Err(error) = self.encode_again(&mut job) {
                return self.stop(Problem::Record { error: error.to_string() });
            }
            job.size.bytes = line_bytes(&self.outfit.tasks[job.task], &job.bytes);
        }
        if self.stopped.is_some() {
            return;
        }
        if self.outfit.desk.takes(lane) {
            match &mut self.outfit.desk.lanes[lane].probe {
                Probe::Out(jobs) => return jobs.push_back(job),
                probe @ Probe::Needed if self.outfit.desk.settings.asked == Asked::Auto => {
                    *probe = Probe::Out(VecDeque::from([job]));
                    return self.ask_for_batches(lane);
                }
                Probe::Done | Probe::Needed => {}
            }
            match &mut self.outfit.desk.gates[job.task] {
                Gate::Open => {}
                Gate::Waiting(jobs) => return jobs.push_back(job),
                gate @ Gate::NeedsCanary => {
                    *gate = Gate::Waiting(VecDeque::new());
                    job.is_canary = true;
                    let (position, prompt) = (job.position, self.prompt_name(job.task));
                    self.outfit.lanes[lane].push(job);
                    return self.tell(Event::Canary { position, prompt });
                }
            }
        }
        let most = self.outfit.tasks[job.task].most(&job, Route::Batch);
        let most = most.map(|most| self.outfit.budget.with_overrun(most));
        if self.outfit.desk.takes(lane) && !self.outfit.budget.takes(most) {
            return self.wait_for_money(lane, job);
        }
        let endpoint = self.outfit.tasks[job.task].prompt.spec.endpoint;
        let rng = &mut self.rng;
        let place = self.outfit.desk.place(lane, (endpoint, job.size), || token(rng));
        match place {
            Place::In(slot) => {
                job.slot = Some(slot);
                self.set_aside(&mut job, most);
                let seat = Seat {
                    batch: Arc::clone(&self.outfit.desk.slots[slot.0].new),
                    line_bytes: job.size.bytes - CUSTOM_ID_BYTES,
                    tokens: job.size.tokens,
                };
                self.promise(job, Way::Batch(seat));
            }
            Place::Realtime => self.outfit.lanes[lane].push(job),
            Place::Held if self.outfit.desk.settings.waits => {
                self.outfit.desk.lanes[lane].held.push_back(job);
            }
            // It stays due; a run that does not wait leaves it to a later one.
            Place::Held | Place::Refused => {}
        }
        self.tell_of_oversized(lane, place);
    }

    /// Asks a server of one's own whether it has batches, before any request is promised to one.
    fn ask_for_batches(&self, lane: usize) {
        let Some(server) = self.outfit.desk.lanes[lane].server.clone() else { return };
        let hands = self.outfit.world.hands;
        let counter = Counter { transport: self.outfit.transport.clone(), server, hands };
        let out = self.outfit.stepping.clone();
        hands.spawn(async move {
            let answer = counter.probe().await;
            // Nobody listens only once the run has ended.
            let _ = out.send(Stepped::Probe(lane, answer));
        });
    }

    /// Says once that not all requests find room.
    pub(super) fn tell_of_oversized(&mut self, lane: usize, place: Place) {
        let at = &mut self.outfit.desk.lanes[lane];
        let policy = self.outfit.desk.settings.oversized;
        let is_for_want_of_room = match place {
            Place::In(_) => false,
            Place::Realtime => at.crossed > 0 && at.has != HasBatches::No,
            Place::Held | Place::Refused => true,
        };
        // What waiting cannot help goes by calls, which costs more than was asked for: that is told too.
        let is_first_to_cross =
            place == Place::Realtime && policy == Oversized::Wait && at.crossed == 1;
        let is_news = |is_told: &mut bool| is_first_to_cross || !std::mem::replace(is_told, true);
        if is_for_want_of_room && is_news(&mut at.is_told) {
            let (model, limit) = (at.model.clone(), at.queue.limit());
            let policy = if is_first_to_cross { Oversized::Realtime } else { policy };
            self.tell(Event::Oversized { model, limit, policy });
        }
    }

    /// Lets a prompt's requests into batches once the one that went ahead has come to rest.
    pub(in crate::engine::dispatcher) fn canary_rests(
        &mut self,
        job: &Job,
        state: State,
        error: Option<&str>,
    ) {
        if !job.is_canary {
            return;
        }
        let gate = std::mem::take(&mut self.outfit.desk.gates[job.task]);
        if let State::Failed(class @ FailureClass::InvalidRequest) = state {
            let prompt = self.prompt_name(job.task);
            let message = error.unwrap_or_default().to_owned();
            return self.stop(Problem::CanaryRefused { prompt, class, message });
        }
        let lane = self.outfit.lane_of[job.task];
        if let Gate::Waiting(jobs) = gate {
            for job in jobs {
                self.place(lane, job);
            }
        }
        self.nothing_more_comes(lane);
    }

    /// Closes a lane's batches, if nothing more can come into them for now.
    pub(in crate::engine::dispatcher) fn nothing_more_comes(&mut self, lane: usize) {
        let desk = &self.outfit.desk;
        let mine = desk.gates.iter().zip(&self.outfit.lane_of).filter(|(_, of)| **of == lane);
        let is_gated = mine.into_iter().any(|(gate, _)| matches!(gate, Gate::Waiting(_)))
            || matches!(desk.lanes[lane].probe, Probe::Out(_));
        if self.outfit.lanes[lane].feeds > 0 || is_gated {
            return;
        }
        // What comes back of batches comes in dribbles; those of one moment go together.
        let (waits, poll) = (desk.settings.waits, desk.settings.poll);
        if waits && desk.lanes[lane].is_fed_again && desk.may_grow(lane) {
            let now = self.outfit.world.clock.elapsed();
            self.outfit.desk.lanes[lane].close_at.get_or_insert(now + poll);
            self.outfit.desk.is_stirred = true;
        } else {
            self.outfit.desk.close(lane);
        }
    }

    /// A place in a batch is on record, or turned out to be needless.
    pub(in crate::engine::dispatcher) fn seated(
        &mut self,
        id: SlotId,
        promised: Promised,
        mut job: Box<Job>,
    ) {
        job.slot = None;
        job.recorded.get_or_insert(job.body.fingerprint);
        self.outfit.desk.slots[id.0].asked -= 1;
        match promised {
            Promised::Sent { attempt, batch, .. } => {
                let slot = &mut self.outfit.desk.slots[id.0];
                slot.id = slot.id.or(batch);
                slot.requests += 1;
                let custom_id = custom_id(&slot.new.token, attempt);
                slot.input_bytes += job.size.bytes - CUSTOM_ID_BYTES + custom_id.len() as u64;
            }
            Promised::Shared { request, state } => {
                self.give_back(&mut job);
                self.outfit.desk.unseat(id, job.size);
                let follower = Follower { task: job.task, request, position: job.position };
                self.shared(follower, state);
            }
            Promised::Taken { .. } => {
                self.give_back(&mut job);
                self.outfit.desk.unseat(id, job.size);
            }
            Promised::Wait { request, twin } => {
                self.give_back(&mut job);
                self.outfit.desk.unseat(id, job.size);
                job.request = Some(request);
                self.follow(job, twin);
            }
        }
        self.outfit.desk.is_stirred = true;
        // Where no batch is left that could end, nobody else would let those go on who wait for room.
        let lane = self.outfit.desk.slots[id.0].lane;
        if self.outfit.desk.is_waited_for_in_vain(lane) {
            self.place_held(lane);
        }
    }

    /// Looks for places again for those who waited.
    pub(super) fn place_held(&mut self, lane: usize) {
        let held: VecDeque<_> = std::mem::take(&mut self.outfit.desk.lanes[lane].held);
        for job in held {
            self.place(lane, job);
        }
        self.nothing_more_comes(lane);
    }

    /// What batches have not answered by now goes by calls, once they have been cancelled and collected.
    pub(in crate::engine::dispatcher) fn deadline_passes(&mut self) {
        self.outfit.desk.is_late = true;
        let (batches, requests) = self.outfit.desk.left_behind();
        self.tell(Event::DeadlinePassed { batches, requests });
        self.outfit.desk.cancel_all();
        for task in 0..self.outfit.desk.gates.len() {
            if let Gate::Waiting(jobs) = std::mem::take(&mut self.outfit.desk.gates[task]) {
                let lane = self.outfit.lane_of[task];
                for job in jobs {
                    self.place(lane, job);
                }
            }
        }
        for lane in 0..self.outfit.desk.lanes.len() {
            let probe = &mut self.outfit.desk.lanes[lane].probe;
            if let Probe::Out(jobs) = std::mem::replace(probe, Probe::Done) {
                for job in jobs {
                    self.place(lane, job);
                }
            }
            self.place_unfunded(lane);
            self.place_held(lane);
        }
    }
}

/// Makes a token: 20 letters and digits, drawn anew for each batch.
fn token(rng: &mut fastrand::Rng) -> String {
    std::iter::repeat_with(|| char::from(b"abcdefghijkmnpqrstuvwxyz23456789"[rng.usize(..32)]))
        .take(20)
        .collect()
}
