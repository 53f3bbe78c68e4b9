//! Which batch a request gets a place in, or which other way it goes. Holds no socket and asks no clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::slot::{Cancel, Hand, Slot, SlotId};
use super::steps::BatchServer;
use crate::domain::{Endpoint, Route};
use crate::engine::task::Job;
use crate::machine::batch::{Step, step};
use crate::machine::packing::{BatchLimits, Fit, Size, TooBig, fit};
use crate::machine::queue::Queue;
use crate::machine::route::{Asked, HasBatches, LEAST_FOR_A_BATCH, Oversized, choose};
use crate::store::NewBatch;

/// A new batch is begun for no less than this part of the tokens that the provider lets wait.
const WORTH_A_BATCH: u64 = 10;

/// What a person asked of the batches of a run.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct DeskSettings {
    pub(in crate::engine) asked: Asked,
    pub(in crate::engine) oversized: Oversized,
    /// Whether the run stays until its batches have ended.
    pub(in crate::engine) waits: bool,
    /// The longest pause between two looks.
    pub(in crate::engine) poll: Duration,
}

/// The batches of one model at one server.
pub(in crate::engine) struct DeskLane {
    /// Its name on record.
    pub(in crate::engine) server_name: String,
    /// `None` where there can be no batches.
    pub(in crate::engine) server: Option<Arc<BatchServer>>,
    pub(in crate::engine) model: String,
    pub(in crate::engine) has: HasBatches,
    /// Whether it has been found out in this run what the server has.
    pub(in crate::engine) probe: Probe,
    pub(in crate::engine) limits: BatchLimits,
    pub(in crate::engine) queue: Queue,
    /// The batch of each endpoint that takes requests.
    open: BTreeMap<Endpoint, SlotId>,
    /// When they take no more, though they are small.
    pub(in crate::engine) close_at: Option<Duration>,
    /// Whether what came last came back from batches.
    pub(in crate::engine) is_fed_again: bool,
    /// Requests that wait for room in the provider's queue.
    pub(in crate::engine) held: VecDeque<Box<Job>>,
    /// Requests that wait until there is money for them.
    pub(in crate::engine) unfunded: VecDeque<Box<Job>>,
    /// Whether the last one that asked for a place found no money for it.
    pub(in crate::engine) lacks_money: bool,
    /// Whether it has been told that not all requests find room.
    pub(in crate::engine) is_told: bool,
    /// Tokens in the provider's queue, or about to be.
    enqueued: u64,
    /// Batches in a row that were refused or failed as a whole.
    pub(in crate::engine) bad: u32,
    /// Refusals for the queue's sake in a row.
    pub(in crate::engine) full: u32,
    /// Before which nothing is sent, since the queue was full though none of it was ours.
    pub(in crate::engine) not_before: Duration,
    /// Requests in a row that were refused for want of room though they were alone in the queue.
    pub(in crate::engine) lone: u32,
    /// Requests that went by calls because no batch had room.
    pub(in crate::engine) crossed: u64,
    /// Requests that no batch had room for and that may not go by calls.
    pub(in crate::engine) refused: u64,
}

impl DeskLane {
    pub(in crate::engine) fn new(
        (server_name, model): (String, String),
        (server, has): (Option<Arc<BatchServer>>, HasBatches),
        (limits, queue): (BatchLimits, Queue),
    ) -> Self {
        Self {
            server_name,
            server,
            model,
            has,
            probe: if has == HasBatches::Perhaps { Probe::Needed } else { Probe::Done },
            limits,
            queue,
            open: BTreeMap::new(),
            close_at: None,
            is_fed_again: false,
            held: VecDeque::new(),
            unfunded: VecDeque::new(),
            lacks_money: false,
            is_told: false,
            enqueued: 0,
            bad: 0,
            full: 0,
            not_before: Duration::ZERO,
            lone: 0,
            crossed: 0,
            refused: 0,
        }
    }
}

impl DeskLane {
    fn keeps_nobody_waiting(&self) -> bool {
        self.held.is_empty() && self.unfunded.is_empty()
    }
}

/// Whether requests of a prompt may go into batches.
#[derive(Default)]
pub(in crate::engine) enum Gate {
    /// Yes.
    #[default]
    Open,
    /// One has to go ahead by a call, and none has yet.
    NeedsCanary,
    /// One has gone ahead; these wait for what comes of it.
    Waiting(VecDeque<Box<Job>>),
}

/// Whether a server of one's own has been asked for its batches, before anything is put into one.
pub(in crate::engine) enum Probe {
    /// Not yet.
    Needed,
    /// It is being asked; these requests wait for what it says.
    Out(VecDeque<Box<Job>>),
    /// It has said so, or it is known.
    Done,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Place {
    /// Into this batch.
    In(SlotId),
    /// By a call of its own.
    Realtime,
    /// Nowhere yet: the provider's queue is full.
    Held,
    /// Nowhere: no batch has room for it, and calls are not wanted.
    Refused,
}

/// All batches of a run.
pub(in crate::engine) struct Desk {
    pub(in crate::engine) settings: DeskSettings,
    pub(in crate::engine) slots: Vec<Slot>,
    pub(in crate::engine) lanes: Vec<DeskLane>,
    /// By task.
    pub(in crate::engine) gates: Vec<Gate>,
    /// Whether the deadline has passed: nothing goes into a batch any more.
    pub(in crate::engine) is_late: bool,
    /// Whether anything has changed that a next step may follow from.
    pub(in crate::engine) is_stirred: bool,
}

impl Desk {
    pub(in crate::engine) fn new(
        settings: DeskSettings,
        lanes: Vec<DeskLane>,
        gates: Vec<Gate>,
    ) -> Self {
        let slots = Vec::new();
        Self { settings, slots, lanes, gates, is_late: false, is_stirred: true }
    }

    /// Takes in a batch that an earlier run left.
    pub(in crate::engine) fn adopt(&mut self, slot: Slot) {
        let lane = slot.lane;
        self.slots.push(slot);
        self.recount(lane);
    }

    /// Chooses the route of so many due requests of a lane.
    pub(in crate::engine) fn route(&self, lane: usize, due: u64) -> Route {
        let has = if self.takes(lane) { self.lanes[lane].has } else { HasBatches::No };
        match (self.settings.asked, has) {
            // Where batches have turned out to be no way, calls are the only one left.
            (_, HasBatches::No) => Route::Realtime,
            (asked, has) => choose(asked, has, due).route,
        }
    }

    /// Says whether a lane's requests may go into batches now.
    pub(in crate::engine) fn takes(&self, lane: usize) -> bool {
        let lane = &self.lanes[lane];
        !self.is_late && lane.server.is_some() && lane.has != HasBatches::No
    }

    /// Finds a place for a request. The load of the batch that it is given a place in is counted at once.
    pub(in crate::engine) fn place(
        &mut self,
        lane: usize,
        (endpoint, size): (Endpoint, Size),
        token: impl FnOnce() -> String,
    ) -> Place {
        if !self.takes(lane) {
            return Place::Realtime;
        }
        let at = &self.lanes[lane];
        let limits = BatchLimits { tokens: at.queue.limit(), ..at.limits };
        let load = at.open.get(&endpoint).map(|slot| self.slots[slot.0].load).unwrap_or_default();
        let is_empty = at.enqueued == 0;
        // A little room is not worth a batch of its own.
        let is_worth_it = is_empty || at.open.contains_key(&endpoint);
        let least = if is_worth_it { 0 } else { at.queue.limit().unwrap_or(0) / WORTH_A_BATCH };
        let has_room = at.queue.room(at.enqueued).is_none_or(|room| room >= size.tokens.max(least));
        match fit(load, size, limits) {
            Fit::Never(TooBig::Bytes) => self.oversized(lane, Oversized::Realtime),
            Fit::Never(TooBig::Tokens) if at.queue.never_takes(size.tokens, at.lone) => {
                self.oversized(lane, Oversized::Realtime)
            }
            // Alone in the queue it may still be taken: the limit is in our own estimate's tokens.
            Fit::Never(TooBig::Tokens)
                if self.settings.oversized == Oversized::Wait && is_empty =>
            {
                self.seat(lane, (endpoint, size), token)
            }
            Fit::Never(TooBig::Tokens) => {
                self.close(lane);
                self.oversized(lane, Oversized::Wait)
            }
            Fit::Fits | Fit::NextBatch if !has_room => {
                self.close(lane);
                self.oversized(lane, Oversized::Wait)
            }
            Fit::NextBatch => {
                self.close_one(lane, endpoint);
                self.seat(lane, (endpoint, size), token)
            }
            Fit::Fits => self.seat(lane, (endpoint, size), token),
        }
    }

    /// Decides on a request that no batch has room for. What waiting cannot help is not kept waiting.
    fn oversized(&mut self, lane: usize, at_most: Oversized) -> Place {
        match (self.settings.oversized, at_most) {
            (Oversized::Fail, _) => {
                self.lanes[lane].refused += 1;
                Place::Refused
            }
            (Oversized::Wait, Oversized::Wait) => Place::Held,
            (Oversized::Realtime, _) | (Oversized::Wait, Oversized::Realtime | Oversized::Fail) => {
                self.lanes[lane].crossed += 1;
                Place::Realtime
            }
        }
    }

    fn seat(
        &mut self,
        lane: usize,
        (endpoint, size): (Endpoint, Size),
        token: impl FnOnce() -> String,
    ) -> Place {
        let at = &mut self.lanes[lane];
        let Some(server) = at.server.clone() else { return Place::Realtime };
        let slots = &mut self.slots;
        let not_before = at.not_before;
        let id = *at.open.entry(endpoint).or_insert_with(|| {
            let new = NewBatch {
                token: token(),
                model: at.model.clone(),
                endpoint,
                server: at.server_name.clone(),
            };
            slots.push(Slot { next_at: not_before, ..Slot::open(new, server, lane) });
            SlotId(slots.len() - 1)
        });
        let slot = &mut slots[id.0];
        slot.load.add(size);
        slot.asked += 1;
        at.enqueued = at.enqueued.saturating_add(size.tokens);
        Place::In(id)
    }

    /// Takes a request out of a batch again that turned out not to need its place.
    pub(in crate::engine) fn unseat(&mut self, id: SlotId, size: Size) {
        let slot = &mut self.slots[id.0];
        slot.load.requests = slot.load.requests.saturating_sub(1);
        slot.load.bytes = slot.load.bytes.saturating_sub(size.bytes);
        slot.load.tokens = slot.load.tokens.saturating_sub(size.tokens);
        let lane = slot.lane;
        self.recount(lane);
    }

    /// Lets the batches of a lane take no more requests: they are full, or nothing more comes.
    pub(in crate::engine) fn close(&mut self, lane: usize) {
        self.lanes[lane].close_at = None;
        for slot in std::mem::take(&mut self.lanes[lane].open).into_values() {
            self.slots[slot.0].is_filling = false;
        }
        self.is_stirred = true;
    }

    /// Says whether requests of a lane wait for room though its queue is empty.
    pub(in crate::engine) fn is_waited_for_in_vain(&self, lane: usize) -> bool {
        self.lanes[lane].enqueued == 0 && !self.lanes[lane].held.is_empty()
    }

    /// Says whether a lane's open batches are small, and others are under way from which more may come back.
    pub(in crate::engine) fn may_grow(&self, lane: usize) -> bool {
        let is_small = |slot: &SlotId| self.slots[slot.0].load.requests < LEAST_FOR_A_BATCH;
        let mut others = self.slots.iter().filter(|slot| slot.lane == lane && !slot.is_filling);
        let at = &self.lanes[lane];
        !at.open.is_empty()
            && at.open.values().all(is_small)
            && !self.is_late
            && others.any(|slot| !slot.is_done())
    }

    fn close_one(&mut self, lane: usize, endpoint: Endpoint) {
        if let Some(slot) = self.lanes[lane].open.remove(&endpoint) {
            self.slots[slot.0].is_filling = false;
        }
        self.is_stirred = true;
    }

    /// Counts a lane's tokens in the provider's queue anew.
    pub(in crate::engine) fn recount(&mut self, lane: usize) {
        let mine = self.slots.iter().filter(|slot| slot.lane == lane);
        self.lanes[lane].enqueued = mine.map(Slot::enqueued).sum();
    }

    /// Returns the tokens of a batch's lane that others of ours hold at the provider.
    pub(in crate::engine) fn others_tokens(&self, id: SlotId) -> u64 {
        let lane = self.slots[id.0].lane;
        let others = self.slots.iter().enumerate().filter(|(index, slot)| {
            *index != id.0
                && slot.lane == lane
                && step(slot.status) == Step::Look
                && !slot.is_over_queue
        });
        others.map(|(_, slot)| slot.load.tokens).sum()
    }

    /// Returns how many more hands may go out for uploads, looks and collecting, of these at most.
    pub(in crate::engine) fn free_hands(
        &self,
        [uploads, looks, collects]: [usize; 3],
    ) -> [usize; 3] {
        let mut free = [uploads, looks, collects];
        for slot in &self.slots {
            let what = match (&slot.hand, step(slot.status)) {
                (Hand::Out(what, _), _) => *what,
                // Its step is on its way to the disk, and its call follows.
                (Hand::Ordered, what) => what,
                (Hand::Free, _) => continue,
            };
            let kind = match what {
                Step::Upload => 0,
                Step::FindFile | Step::FindBatch | Step::Look => 1,
                Step::Collect => 2,
                Step::Create | Step::Rest => continue,
            };
            free[kind] = usize::saturating_sub(free[kind], 1);
        }
        free
    }

    /// Lets no batch go on that has not been created, and asks for the others' end.
    pub(in crate::engine) fn cancel_all(&mut self) {
        for lane in 0..self.lanes.len() {
            self.close(lane);
        }
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_done()) {
            if slot.cancel == Cancel::No {
                slot.cancel = Cancel::Wanted;
                slot.next_at = Duration::ZERO;
            }
        }
        self.is_stirred = true;
    }

    /// Stops: what can be found again at the provider is let go, what cannot is waited for.
    pub(in crate::engine) fn stop(&mut self) {
        for lane in &mut self.lanes {
            lane.held.clear();
            lane.unfunded.clear();
            lane.open.clear();
            lane.probe = Probe::Done;
        }
        self.gates.iter_mut().for_each(|gate| *gate = Gate::Open);
        for slot in &mut self.slots {
            slot.is_filling = false;
            match &slot.hand {
                Hand::Out(
                    Step::Upload | Step::FindFile | Step::FindBatch | Step::Look | Step::Collect,
                    handle,
                ) => {
                    handle.abort();
                    slot.hand = Hand::Free;
                }
                Hand::Out(Step::Create | Step::Rest, _) | Hand::Ordered | Hand::Free => {}
            }
        }
    }

    /// Says whether nothing more is to be done in this run.
    pub(in crate::engine) fn is_done(&self, is_stopped: bool) -> bool {
        let is_busy = |slot: &Slot| !matches!(slot.hand, Hand::Free) || slot.asked > 0;
        if self.slots.iter().any(is_busy) {
            return false;
        }
        if is_stopped {
            return true;
        }
        let waits = self.settings.waits;
        let is_left = |slot: &Slot| slot.is_done() || slot.may_be_left(waits);
        let is_gated = |gate: &Gate| matches!(gate, Gate::Waiting(jobs) if !jobs.is_empty());
        if self.lanes.iter().any(|lane| matches!(lane.probe, Probe::Out(_))) {
            return false;
        }
        self.slots.iter().all(is_left)
            && !self.gates.iter().any(is_gated)
            && (!waits || self.lanes.iter().all(DeskLane::keeps_nobody_waiting))
    }

    /// Says whether no batch of a lane is on its way to an end.
    pub(in crate::engine) fn has_none_under_way(&self, lane: usize) -> bool {
        self.slots.iter().filter(|slot| slot.lane == lane).all(Slot::is_done)
    }

    /// Says whether nothing is under way here from which anything could follow in this run.
    pub(in crate::engine) fn is_quiet(&self) -> bool {
        let is_asked = |lane: &DeskLane| matches!(lane.probe, Probe::Out(_));
        let waits = self.settings.waits;
        let is_left = |slot: &Slot| {
            slot.is_done() || (slot.may_be_left(waits) && matches!(slot.hand, Hand::Free))
        };
        self.slots.iter().all(is_left) && !self.lanes.iter().any(is_asked)
    }

    /// Counts the batches that go on without this run, and their requests.
    pub(in crate::engine) fn left_behind(&self) -> (u64, u64) {
        let left = self.slots.iter().filter(|slot| !slot.is_done());
        left.fold((0, 0), |(batches, requests), slot| (batches + 1, requests + slot.requests))
    }
}

#[cfg(test)]
mod tests;
