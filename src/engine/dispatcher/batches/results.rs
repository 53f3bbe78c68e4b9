//! Results on record: what each line means for its request, and what becomes of a batch that is done with.

use std::time::Duration;

use super::super::Dispatcher;
use crate::domain::{
    BatchEnd, Event, FailureClass, NanoUsd, Outcome, Problem, Route, State, Usage,
};
use crate::engine::batches::{Cancel, Hand, SlotId, words_without_line};
use crate::engine::feeder::Feed;
use crate::engine::followers::Then;
use crate::engine::pending::Pending;
use crate::machine::batch::BatchMove;
use crate::machine::polling::pause_after_failure;
use crate::machine::request::{Due, Facts, due};
use crate::machine::route::{Asked, HasBatches, Oversized};
use crate::store::{LineKind, LineSettled, Order, ResultLine};

/// Batches in a row that bring nothing before a run that may only use batches gives up.
const BAD_BATCHES: u32 = 3;
/// The same before a run that chooses by itself goes on by calls.
const BAD_BATCHES_OF_AUTO: u32 = 2;

impl Dispatcher {
    /// All lines are on record: what has none is settled too.
    pub(super) fn settle_missing(&mut self, id: SlotId) {
        let slot = &mut self.outfit.desk.slots[id.0];
        let Some(batch) = slot.id else { return };
        slot.hand = Hand::Ordered;
        let class = match slot.ended {
            Some(BatchEnd::Expired) => FailureClass::BatchExpired,
            Some(BatchEnd::Cancelled) => FailureClass::BatchCancelled,
            Some(BatchEnd::Failed) => FailureClass::BatchFailed,
            Some(BatchEnd::Completed) | None => FailureClass::MissingFromBatch,
        };
        let words = words_without_line(class).unwrap_or_default();
        let error = match &slot.error {
            Some(why) => format!("{words}: {why}"),
            None => words.to_owned(),
        };
        let at = self.outfit.world.clock.time_of_day();
        self.order(Pending::Missing { slot: id, failed: class }, |ticket| Order::Missing {
            ticket,
            batch,
            class,
            error,
            at,
        });
    }

    /// Lines are on record.
    pub(in crate::engine::dispatcher) fn lines_settled(
        &mut self,
        id: SlotId,
        lines: &[ResultLine],
        settled: &[LineSettled],
    ) {
        for settled in settled {
            let Some(ResultLine { kind: LineKind::Settles(line), .. }) = lines.get(settled.index)
            else {
                continue;
            };
            let what = Line {
                outcome: line.outcome,
                error: line.error.clone(),
                usage: line.usage,
                cost: line.cost,
            };
            self.line_settled(id, settled, what);
        }
    }

    /// Requests without a line are on record.
    pub(in crate::engine::dispatcher) fn missing_settled(
        &mut self,
        id: SlotId,
        class: FailureClass,
        settled: &[LineSettled],
    ) {
        if settled.is_empty() {
            return self.change(id, BatchMove::Collected);
        }
        for settled in settled {
            let error = self.outfit.desk.slots[id.0].error.clone();
            let what = Line { outcome: Outcome::Failed(class), error, usage: None, cost: None };
            self.line_settled(id, settled, what);
        }
        if self.stopped.is_none() {
            self.settle_missing(id);
        } else {
            self.outfit.desk.slots[id.0].hand = Hand::Free;
        }
    }

    fn line_settled(&mut self, id: SlotId, settled: &LineSettled, what: Line) {
        let (owner, state) = (settled.owner, settled.state);
        let (before, after) = settled.counted;
        self.outfit.budget.recount(before, after);
        self.outfit.budget.learn(before, after);
        let Some(index) = self.tasks_of.get(&owner.prompt).copied() else { return };
        let task = &self.outfit.tasks[index];
        let max_tokens = owner.max_tokens.or(task.prompt.spec.max_tokens);
        let facts = Facts { state, attempts_used: settled.attempts_used, max_tokens };
        let would_be_due = matches!(due(facts, task.policy), Due::Yes { .. });
        let is_due = would_be_due && task.prompt.is_live && settled.is_live;
        let is_retried = is_due && self.stopped.is_none();
        self.tally.usage += what.usage.unwrap_or_default();
        self.tally.cost += what.cost.unwrap_or_default();
        let may_be_billed = what.usage.is_some() || what.outcome.has_text();
        self.tally.unpriced += u64::from(may_be_billed && what.cost.is_none());
        let slot = &mut self.outfit.desk.slots[id.0];
        slot.answered += u64::from(state == State::Answered);
        // Tries that are bounded, and what was learned, are no reason to give batches up.
        slot.is_of_use |= what.outcome.has_text()
            || state.class().is_some_and(|class| {
                class.uses_attempt() || class == FailureClass::SchemaUnsupported
            });
        slot.due_again += u64::from(is_due);
        if let Some(class) = state.class().filter(|class| class.stops_run()) {
            let message = what.error.clone().unwrap_or_default();
            slot.stops.get_or_insert((class, message));
        }
        if state == State::Failed(FailureClass::SchemaUnsupported) {
            self.ask_in_words(index);
        }
        self.tell(Event::Settled {
            position: owner.position,
            prompt: self.prompt_name(index),
            attempt: owner.number,
            route: Route::Batch,
            outcome: what.outcome,
            error: what.error,
            took: Duration::ZERO,
            usage: what.usage,
            cost: what.cost,
            is_retried,
        });
        if is_due {
            self.tally.retried += u64::from(is_retried);
        } else if would_be_due {
            // Nobody asks it again, since its row or prompt has gone: it comes to nothing that could be shared.
            self.let_go(owner.request, Then::TryThemselves);
        } else {
            self.rest(owner.request, state);
        }
    }

    /// A batch is done with: what is due of it goes its next way, and who waited for room is let in.
    pub(super) fn finished(&mut self, id: SlotId) {
        let now = self.outfit.world.clock.elapsed();
        let others = self.outfit.desk.others_tokens(id);
        let jitter = self.rng.f64();
        let settings = self.outfit.desk.settings;
        let slot = &mut self.outfit.desk.slots[id.0];
        let (at, due_again) = (slot.lane, slot.due_again);
        if let Some((class, message)) = slot.stops.take() {
            return self.stop(Problem::Provider { class, message });
        }
        let mut given_up = None;
        let lane = &mut self.outfit.desk.lanes[at];
        if slot.is_over_queue {
            lane.full += 1;
            lane.lone = if others == 0 && slot.requests == 1 { lane.lone + 1 } else { 0 };
            if settings.oversized == Oversized::Wait && others == 0 {
                lane.not_before = now + pause_after_failure(lane.full, settings.poll, None, jitter);
            }
        } else if slot.is_of_use {
            (lane.bad, lane.full, lane.lone) = (0, 0, 0);
        } else if due_again > 0
            && slot.is_heard
            && slot.cancel == Cancel::No
            && !slot.is_too_large
            && !slot.server.is_embedded
        {
            // One that had ended before this run is not heard of in it, and says nothing of how batches go now.
            lane.bad += 1;
            let message = slot.error.clone().unwrap_or_default();
            match settings.asked {
                Asked::Batch if lane.bad >= BAD_BATCHES => {
                    let (batches, model) = (lane.bad, lane.model.clone());
                    return self.stop(Problem::BatchesFail { model, batches, message });
                }
                Asked::Batch => {}
                Asked::Auto | Asked::Realtime if lane.bad >= BAD_BATCHES_OF_AUTO => {
                    lane.has = HasBatches::No;
                    given_up = Some((lane.model.clone(), lane.bad));
                }
                Asked::Auto | Asked::Realtime => {}
            }
        }
        let (batch, is_counted) = (slot.id.filter(|_| due_again > 0), slot.is_ours);
        // What was refused for want of room keeps waiting for it where that is wanted, however few it is.
        let waits = slot.is_over_queue && settings.oversized != Oversized::Realtime;
        if let Some((model, batches)) = given_up {
            self.tell(Event::BatchesGivenUp { model, batches });
        }
        if let Some(first_feed) = &mut self.first_feed {
            // It is asked for with everything else.
            for due in first_feed {
                *due += due_again;
            }
        } else if let Some(batch) = batch {
            for lane in 0..self.outfit.lanes.len() {
                let route = match waits && self.outfit.desk.takes(lane) {
                    true => Route::Batch,
                    false => self.outfit.desk.route(lane, due_again),
                };
                self.feed(lane, Feed::OfBatch { batch, route, is_counted });
            }
        }
        self.place_unfunded(at);
        self.place_held(at);
    }
}

/// What a line says.
struct Line {
    outcome: Outcome,
    error: Option<String>,
    usage: Option<Usage>,
    cost: Option<NanoUsd>,
}
