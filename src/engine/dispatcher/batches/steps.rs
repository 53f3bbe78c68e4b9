//! The next step of each batch: ordered, and taken once it is on the disk.

use std::sync::Arc;
use std::time::Duration;

use super::super::Dispatcher;
use crate::domain::{BatchNews, BatchStatus, Event};
use crate::engine::batches::{
    Cancel, Collecting, Counter, Did, Hand, Results, SlotId, collect, hand,
};
use crate::engine::pending::Pending;
use crate::machine::batch::{BatchMove, Step, step};
use crate::machine::polling::pause;
use crate::provider::batch::{NewBatch, file_name};
use crate::store::{BatchChange, Order};

/// Uploads at a time: more would only share the line.
const UPLOADS: usize = 2;
/// Looks at a time.
const LOOKS: usize = 8;
/// Results read at a time.
const COLLECTS: usize = 2;
/// How often the time of day is looked at while there is a deadline.
const TIME_OF_DAY: Duration = Duration::from_secs(30);
/// Results that end in the middle of a line, in a row, before the last line is taken as it is.
const CUTS: u32 = 5;

impl Dispatcher {
    /// Takes the next step of every batch that may go on. Returns when there is something to look at again.
    pub(in crate::engine::dispatcher) fn pump_desk(&mut self) -> Option<Duration> {
        if self.stopped.is_some() {
            return None;
        }
        let now = self.outfit.world.clock.elapsed();
        if !self.outfit.desk.is_late
            && self.outfit.by.is_some_and(|by| by <= self.outfit.world.clock.time_of_day())
        {
            self.deadline_passes();
        }
        let mut closing = None;
        for lane in 0..self.outfit.desk.lanes.len() {
            match self.outfit.desk.lanes[lane].close_at {
                Some(at) if at <= now || !self.outfit.desk.may_grow(lane) => {
                    self.outfit.desk.close(lane);
                }
                at => closing = [closing, at].into_iter().flatten().min(),
            }
        }
        let is_time = self.desk_wake.is_some_and(|wake| wake <= now);
        if std::mem::take(&mut self.outfit.desk.is_stirred) || is_time {
            self.desk_wake = None;
            let mut free = self.outfit.desk.free_hands([UPLOADS, LOOKS, COLLECTS]);
            for index in 0..self.outfit.desk.slots.len() {
                let slot = &self.outfit.desk.slots[index];
                if !slot.is_ready() || (!self.outfit.desk.settings.waits && slot.may_be_left()) {
                    continue;
                }
                let next_at = slot.next_at;
                if next_at <= now {
                    self.take_step(SlotId(index), &mut free);
                } else {
                    self.desk_wake = [self.desk_wake, Some(next_at)].into_iter().flatten().min();
                }
                if self.stopped.is_some() {
                    return None;
                }
            }
        }
        // A machine that was asleep has not counted that time, so the time of day is looked at now and then.
        let deadline = self.outfit.by.filter(|_| !self.outfit.desk.is_late);
        let deadline = deadline.map(|by| self.outfit.world.clock.at(by).min(now + TIME_OF_DAY));
        [self.desk_wake, deadline, closing].into_iter().flatten().min()
    }

    /// Takes a batch's next step, if a hand is free for it.
    pub(super) fn take_step(&mut self, id: SlotId, [uploads, looks, collects]: &mut [usize; 3]) {
        let slot = &self.outfit.desk.slots[id.0];
        let is_cancelled = slot.cancel == Cancel::Wanted;
        let one_of = |hands: &mut usize| {
            let is_free = *hands > 0;
            *hands = hands.saturating_sub(1);
            is_free
        };
        match step(slot.status) {
            Step::Upload | Step::FindFile | Step::Create if is_cancelled => {
                self.change_for(id, BatchMove::Dropped, "it was cancelled before it was created");
            }
            Step::Upload if one_of(uploads) => self.change(id, BatchMove::Upload),
            Step::FindFile if one_of(looks) => self.send_out(id, Step::FindFile),
            Step::Create => self.change(id, BatchMove::Create),
            Step::FindBatch if one_of(looks) => self.send_out(id, Step::FindBatch),
            Step::Look if one_of(looks) => self.send_out(id, Step::Look),
            Step::Collect if one_of(collects) => self.change(id, BatchMove::Collect),
            Step::Upload
            | Step::FindFile
            | Step::FindBatch
            | Step::Look
            | Step::Collect
            | Step::Rest => {}
        }
    }

    pub(super) fn change(&mut self, id: SlotId, event: BatchMove) {
        self.change_with(id, event, |_| ());
    }

    pub(super) fn change_for(&mut self, id: SlotId, event: BatchMove, why: &str) {
        self.outfit.desk.slots[id.0].error = Some(why.to_owned());
        self.change_with(id, event, |change| change.error = Some(why.to_owned()));
    }

    /// Orders a batch's next status, with what was learned.
    pub(super) fn change_with(
        &mut self,
        id: SlotId,
        event: BatchMove,
        fill: impl FnOnce(&mut BatchChange),
    ) {
        let slot = &mut self.outfit.desk.slots[id.0];
        let Some(batch) = slot.id else { return };
        slot.hand = Hand::Ordered;
        let mut change =
            Box::new(BatchChange::bare(batch, event, self.outfit.world.clock.time_of_day()));
        fill(&mut change);
        self.order(Pending::Change(id, event), |ticket| Order::ChangeBatch(ticket, change));
    }

    /// A batch's status is on the disk: now, and not before, is what follows from it done.
    pub(in crate::engine::dispatcher) fn changed(
        &mut self,
        id: SlotId,
        (event, status): (BatchMove, BatchStatus),
    ) {
        let now = self.outfit.world.clock.elapsed();
        let poll = self.outfit.desk.settings.poll;
        let jitter = self.rng.f64();
        let slot = &mut self.outfit.desk.slots[id.0];
        let before = std::mem::replace(&mut slot.status, status);
        let is_news = before != status;
        slot.hand = Hand::Free;
        // Each creation has to be proved absent by listings of its own.
        if is_news || event == BatchMove::Create {
            (slot.looks, slot.absences) = (0, 0);
        }
        if is_news || matches!(event, BatchMove::Seen(_)) {
            slot.failures = 0;
        }
        slot.ended = status.end().or(slot.ended);
        let lane = slot.lane;
        match step(status) {
            Step::Look => {
                slot.next_at = now + pause(slot.looks, poll, jitter);
                slot.looks += 1;
            }
            Step::Upload
            | Step::FindFile
            | Step::Create
            | Step::FindBatch
            | Step::Collect
            | Step::Rest => slot.next_at = now,
        }
        self.outfit.desk.is_stirred = true;
        if is_news {
            self.outfit.desk.recount(lane);
        }
        self.tell_of_batch(id, is_news);
        self.learn_what_fits(id, (before, status));
        match event {
            BatchMove::Upload => self.send_out(id, Step::Upload),
            BatchMove::Create => self.send_out(id, Step::Create),
            BatchMove::Collect => self.send_out(id, Step::Collect),
            BatchMove::Collected => self.finished(id),
            BatchMove::Created => self.tally.batched += self.outfit.desk.slots[id.0].requests,
            BatchMove::Uploaded | BatchMove::Seen(_) | BatchMove::Refused | BatchMove::Dropped => {}
        }
    }

    /// A batch that was taken shows how much fits.
    pub(super) fn learn_what_fits(
        &mut self,
        id: SlotId,
        (before, after): (BatchStatus, BatchStatus),
    ) {
        let was_checked = matches!(before, BatchStatus::Created | BatchStatus::Validating);
        let is_taken = matches!(after, BatchStatus::InProgress | BatchStatus::Finalizing);
        if was_checked && is_taken {
            let others = self.outfit.desk.others_tokens(id);
            let slot = &self.outfit.desk.slots[id.0];
            self.outfit.desk.lanes[slot.lane].queue.accepted(slot.load.tokens, others);
        }
    }

    pub(super) fn tell_of_batch(&self, id: SlotId, is_news: bool) {
        let slot = &self.outfit.desk.slots[id.0];
        let Some(batch) = slot.id else { return };
        self.tell(Event::Batch(BatchNews {
            id: batch,
            provider_id: slot.provider_id.clone(),
            status: slot.status,
            requests: slot.requests,
            counts: slot.counts,
            answered: slot.answered,
            due_again: slot.due_again,
            error: slot.error.clone(),
            is_news,
        }));
    }

    /// Makes a call for a batch. Only ever what a commit has just made the next thing to do, or what changes nothing
    /// at the provider.
    pub(super) fn send_out(&mut self, id: SlotId, what: Step) {
        if self.stopped.is_some() {
            return;
        }
        let slot = &self.outfit.desk.slots[id.0];
        let Some(batch) = slot.id else { return };
        let world = self.outfit.world;
        let counter = Counter {
            transport: self.outfit.transport.clone(),
            server: Arc::clone(&slot.server),
            hands: world.hands,
        };
        let out = self.outfit.stepping.clone();
        let new = Arc::clone(&slot.new);
        let (bytes, file) = (slot.input_bytes, slot.input_file_id.clone());
        let provider_id = slot.provider_id.clone().unwrap_or_default();
        let handle = match what {
            Step::Upload => {
                let open = Arc::clone(&self.outfit.open);
                hand((id, world.hands), out, |trouble| Did::Upload(Err(trouble)), async move {
                    Did::Upload(counter.upload((new, batch, bytes), || open()).await)
                })
            }
            Step::FindFile => {
                hand((id, world.hands), out, |trouble| Did::FindFile(Err(trouble)), async move {
                    Did::FindFile(counter.find_file((&file_name(&new.token), bytes)).await)
                })
            }
            Step::Create => {
                hand((id, world.hands), out, |trouble| Did::Create(Err(trouble)), async move {
                    let input_file_id = file.as_deref().unwrap_or_default();
                    let window = counter.server.profile.window;
                    let (endpoint, token) = (new.endpoint, new.token.as_str());
                    let body = NewBatch { input_file_id, endpoint, window, token };
                    Did::Create(counter.create(&body).await)
                })
            }
            Step::FindBatch => {
                hand((id, world.hands), out, |trouble| Did::FindBatch(Err(trouble)), async move {
                    Did::FindBatch(counter.find_batch((&new.token, file.as_deref())).await)
                })
            }
            Step::Look if slot.cancel == Cancel::Wanted => {
                hand((id, world.hands), out, |trouble| Did::Cancel(Err(trouble)), async move {
                    Did::Cancel(counter.cancel(&provider_id).await)
                })
            }
            Step::Look => {
                hand((id, world.hands), out, |trouble| Did::Look(Err(trouble)), async move {
                    Did::Look(counter.look(&provider_id).await)
                })
            }
            Step::Collect => {
                let results = Results {
                    output: slot.output_file_id.clone(),
                    error: slot.error_file_id.clone(),
                };
                let collecting = Collecting {
                    slot: id,
                    id: batch,
                    new,
                    tasks: Arc::clone(&self.outfit.tasks),
                    clock: world.clock,
                    out: out.clone(),
                    takes_cut: slot.failures >= CUTS,
                };
                let open = Arc::clone(&self.outfit.open);
                hand((id, world.hands), out, |trouble| Did::Collect(Err(trouble)), async move {
                    Did::Collect(match open() {
                        Ok(store) => collect(&counter, collecting, results, store).await,
                        Err(trouble) => Err(trouble),
                    })
                })
            }
            Step::Rest => return,
        };
        self.outfit.desk.slots[id.0].hand = Hand::Out(what, handle);
    }
}
