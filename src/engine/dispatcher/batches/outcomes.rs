//! What came of a step, and what it means for the batch.

use std::sync::Arc;
use std::time::Duration;

use super::super::Dispatcher;
use crate::domain::{BatchEnd, Event, FailureClass, Problem, RemoteStatus};
use crate::engine::batches::{
    Cancel, Counter, Did, Hand, Probe, Seen, Slot, SlotId, Stepped, Trace, Trouble, hand,
};
use crate::engine::pending::Pending;
use crate::machine::batch::{BatchMove, Step, step};
use crate::machine::polling::pause_after_failure;
use crate::machine::route::{Asked, HasBatches};
use crate::provider::batch::{Refusal, mentions_missing_file, token_limit};
use crate::store::{Order, SeenBatch};

/// Listings in a row in which a batch must not stand before it is created again.
const ABSENCES: u32 = 3;
/// The shortest `--poll` of a provider that others use too.
const A_SECOND: Duration = Duration::from_secs(1);
/// The most polls between two of these listings, where polls are shorter than that.
const GAP_POLLS: u32 = 10;
/// Looks in a row that do not find a batch before it is taken for gone.
const LOST: u32 = 5;
/// For how long a batch is not found before it is taken for gone, at most.
const LOST_FOR: Duration = Duration::from_mins(2);
/// Looks at a completed batch without results before it is taken to have none.
const EMPTY_LOOKS: u32 = 5;
/// Uploads in a row that break off before smaller files are tried.
const BROKEN_UPLOADS: u32 = 4;
/// The longest pause after a call that failed, for what is not a mere look.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Calls in a row that reach nobody before a run that has reached nobody gives up.
const NOBODY: u32 = 5;
/// Creations in a row that are refused because the file is not found yet.
const FILE_TRIES: u32 = 12;
/// Calls in a row that fail before a batch is left to the next run, at least.
const MOST_FAILURES: u32 = 10;
/// For how long they have to fail before that, at most: a night may hold an outage.
const TROUBLED: Duration = Duration::from_hours(4);
/// The same in the longest pauses between two looks, where that is less.
const TROUBLED_POLLS: u32 = 240;
/// How long results are asked for that the provider says it does not have.
const IN_VAIN: Duration = Duration::from_hours(1);

impl Dispatcher {
    /// Something came of a step.
    pub(in crate::engine::dispatcher) fn stepped(&mut self, stepped: Stepped) {
        let (id, did) = match stepped {
            Stepped::Step(id, did) => (id, *did),
            Stepped::Probe(lane, answer) => return self.probed(lane, answer),
        };
        let did = match did {
            Did::Lines(lines, first, go) => {
                if let Some((task, bytes)) = first
                    && self.dictionary_asked.insert(task)
                {
                    self.keep_dictionary(task, bytes);
                }
                let Some(batch) = self.outfit.desk.slots[id.0].id else { return };
                let (lines, at) = (Arc::new(lines), self.outfit.world.clock.time_of_day());
                let kept = Arc::clone(&lines);
                return self.order(Pending::Lines { slot: id, lines: kept, go }, |ticket| {
                    Order::Lines { ticket, batch, lines, at }
                });
            }
            did => did,
        };
        self.outfit.desk.slots[id.0].hand = Hand::Free;
        self.outfit.desk.is_stirred = true;
        // What the provider has made is put on record even where the run has stopped.
        match did {
            Did::Create(Ok(seen)) => return self.is_created(id, seen),
            Did::Upload(Ok(file)) => return self.is_uploaded(id, file),
            _ if self.stopped.is_some() => return,
            _ => {}
        }
        match did {
            Did::Upload(Ok(file)) | Did::FindFile(Ok(Some(file))) => self.is_uploaded(id, file),
            // A file that is there twice costs nothing, so one that is not listed is sent again.
            Did::FindFile(Ok(None)) => self.change(id, BatchMove::Upload),
            Did::FindFile(Err(Trouble::Refused(refused)))
                if matches!(
                    refused.kind,
                    Refusal::NoSuchApi | Refusal::NotFound | Refusal::Refused
                ) =>
            {
                self.change(id, BatchMove::Upload);
            }
            Did::Create(Ok(seen)) | Did::FindBatch(Ok(Some(seen))) => self.is_created(id, seen),
            Did::FindBatch(Ok(None)) => self.is_absent(id),
            Did::FindBatch(Err(Trouble::Refused(refused)))
                if matches!(
                    refused.kind,
                    Refusal::NoSuchApi | Refusal::NotFound | Refusal::Refused
                ) =>
            {
                let batch = self.outfit.desk.slots[id.0].id;
                self.stop(Problem::BatchInDoubt { batch, message: refused.message });
            }
            Did::Look(Ok(seen)) => self.is_seen(id, seen),
            Did::Cancel(Ok(seen)) => {
                self.outfit.desk.slots[id.0].cancel = Cancel::Asked;
                if let Some(seen) = seen {
                    self.is_seen(id, seen);
                }
            }
            Did::Look(Err(trouble)) if is_denied(&trouble) => self.look_for_a_trace(id),
            Did::Cancel(Err(trouble)) if is_not_found(&trouble) => self.look_for_a_trace(id),
            // It has ended by itself, mostly; a look will tell.
            Did::Cancel(Err(Trouble::Refused(refused)))
                if matches!(refused.kind, Refusal::Refused | Refusal::Unclear) =>
            {
                self.outfit.desk.slots[id.0].cancel = Cancel::Asked;
            }
            Did::Trace(Ok(Trace::Listed(seen))) => self.is_seen(id, *seen),
            Did::Trace(Ok(Trace::FileOnly)) => self.is_gone(id, true),
            Did::Trace(Ok(Trace::Nothing)) => self.is_gone(id, false),
            Did::Collect(Ok(())) => self.settle_missing(id),
            Did::Collect(Err(trouble)) if is_denied(&trouble) => {
                self.has_no_results(id, &trouble);
            }
            Did::Upload(Err(trouble)) => self.is_refused(id, Step::Upload, trouble),
            Did::Create(Err(trouble)) => self.is_refused(id, Step::Create, trouble),
            Did::FindFile(Err(trouble))
            | Did::FindBatch(Err(trouble))
            | Did::Look(Err(trouble))
            | Did::Cancel(Err(trouble))
            | Did::Trace(Err(trouble))
            | Did::Collect(Err(trouble)) => self.in_trouble(id, &trouble),
            Did::Lines(..) => {}
        }
    }

    pub(super) fn is_uploaded(&mut self, id: SlotId, file: String) {
        self.is_reached = true;
        self.outfit.desk.slots[id.0].input_file_id = Some(file.clone());
        self.change_with(id, BatchMove::Uploaded, |change| change.input_file_id = Some(file));
    }

    pub(super) fn is_created(&mut self, id: SlotId, seen: Seen) {
        self.is_reached = true;
        let seen = self.take_in(id, seen);
        self.change_with(id, BatchMove::Created, |change| change.seen = Some(seen));
    }

    /// Keeps what the provider says of a batch, and returns it as it is put on record.
    pub(super) fn take_in(&mut self, id: SlotId, seen: Seen) -> SeenBatch {
        let Seen { object, raw } = seen;
        let slot = &mut self.outfit.desk.slots[id.0];
        slot.is_heard = true;
        slot.provider_id.get_or_insert_with(|| object.id.clone());
        slot.output_file_id = object.output_file_id.or(slot.output_file_id.take());
        slot.error_file_id = object.error_file_id.or(slot.error_file_id.take());
        slot.counts = object.counts.or(slot.counts);
        SeenBatch {
            provider_id: slot.provider_id.clone().unwrap_or_default(),
            output_file_id: slot.output_file_id.clone(),
            error_file_id: slot.error_file_id.clone(),
            expires_at: object.expires_at,
            counts: object.counts,
            reply: raw.to_vec(),
        }
    }

    pub(super) fn is_seen(&mut self, id: SlotId, seen: Seen) {
        self.is_reached = true;
        let slot = &mut self.outfit.desk.slots[id.0];
        let status = match seen.object.status {
            RemoteStatus::Ended(BatchEnd::Completed) if shows_no_results(slot, &seen) => {
                slot.empty_looks += 1;
                RemoteStatus::Finalizing
            }
            status => status,
        };
        let problems = seen.object.errors.clone();
        let slot = &mut self.outfit.desk.slots[id.0];
        (slot.in_vain_since, slot.absent_since) = (None, None);
        let over = token_limit(&problems);
        let error = problems.first().map(|problem| match &problem.code {
            Some(code) => format!("{code}: {}", problem.message),
            None => problem.message.clone(),
        });
        if error.is_some() {
            slot.error.clone_from(&error);
        }
        let is_failed = status == RemoteStatus::Ended(BatchEnd::Failed);
        if let Some(limit) = over.filter(|_| is_failed) {
            self.queue_is_full(id, limit.told);
        }
        let seen = self.take_in(id, seen);
        self.change_with(id, BatchMove::Seen(status), |change| {
            (change.seen, change.error) = (Some(seen), error);
        });
    }

    /// The provider says that its queue has no room for a batch.
    pub(super) fn queue_is_full(&mut self, id: SlotId, told: Option<u64>) {
        let others = self.outfit.desk.others_tokens(id);
        let slot = &mut self.outfit.desk.slots[id.0];
        slot.is_over_queue = true;
        let tokens = slot.load.tokens;
        let lane = &mut self.outfit.desk.lanes[slot.lane];
        lane.queue.refused(told, tokens, others);
        let (of, model) = ((lane.server_name.clone(), lane.model.clone()), lane.model.clone());
        let (limit, remember) = (lane.queue.limit(), lane.queue.to_remember());
        let batch = slot.id;
        self.tell(Event::QueueFull { batch, model, told, limit });
        if let Some(tokens) = remember {
            let at = self.outfit.world.clock.time_of_day();
            self.order(Pending::QueueLimit, |ticket| Order::QueueLimit { ticket, of, tokens, at });
        }
    }

    /// A listing did not have the batch. Lists lag behind, so one is no proof.
    pub(super) fn is_absent(&mut self, id: SlotId) {
        self.is_reached = true;
        let now = self.outfit.world.clock.elapsed();
        let poll = self.outfit.desk.settings.poll;
        let slot = &mut self.outfit.desk.slots[id.0];
        slot.absences += 1;
        if slot.absences < ABSENCES {
            let gap = Duration::from_secs(u64::from(slot.absences) * 2);
            // What a process has sent that has just died may still be on its way, however often this one looks. A provider
            // that moves by less than a second is waited for less.
            slot.next_at = now + if poll < A_SECOND { gap.min(poll * GAP_POLLS) } else { gap };
        } else if slot.cancel == Cancel::Wanted {
            self.change_for(id, BatchMove::Dropped, "it was cancelled before it was created");
        } else {
            self.change(id, BatchMove::Create);
        }
    }

    /// The provider does not know the batch. Its list, and whether it still has the input file, tell if that is so and if
    /// we ask in the right place.
    pub(super) fn look_for_a_trace(&mut self, id: SlotId) {
        self.is_reached = true;
        let slot = &self.outfit.desk.slots[id.0];
        if slot.server.is_embedded {
            let why = "the simulator in this program keeps nothing when it ends";
            self.outfit.desk.slots[id.0].is_lost = true;
            return self.change_for(id, BatchMove::Dropped, why);
        }
        let hands = self.outfit.world.hands;
        let server = Arc::clone(&slot.server);
        let counter = Counter { transport: self.outfit.transport.clone(), server, hands };
        let (new, file) = (Arc::clone(&slot.new), slot.input_file_id.clone());
        let bytes = slot.input_bytes;
        let out = self.outfit.stepping.clone();
        let handle = hand((id, hands), out, |trouble| Did::Trace(Err(trouble)), async move {
            Did::Trace(counter.trace((&new.token, file.as_deref()), bytes).await)
        });
        self.outfit.desk.slots[id.0].hand = Hand::Out(Step::Look, handle);
    }

    pub(super) fn is_gone(&mut self, id: SlotId, has_file: bool) {
        let now = self.outfit.world.clock.elapsed();
        let poll = self.outfit.desk.settings.poll;
        let jitter = self.rng.f64();
        let slot = &mut self.outfit.desk.slots[id.0];
        slot.absences += 1;
        slot.is_heard = true;
        let since = *slot.absent_since.get_or_insert(now);
        slot.next_at =
            now + pause_after_failure(slot.absences, poll.min(LONGEST_PAUSE), None, jitter);
        let has_waited = now.saturating_sub(since) >= LOST_FOR.min(poll * LOST);
        if slot.absences < LOST || !has_waited {
            return;
        }
        let is_given_up = slot.cancel != Cancel::No;
        if has_file || is_given_up {
            let why = "the provider has no trace of it any more";
            slot.is_lost = !is_given_up;
            self.change_for(id, BatchMove::Dropped, why);
        } else {
            let (batch, provider_id) = (slot.id, slot.provider_id.clone().unwrap_or_default());
            self.stop(Problem::BatchUnknown { batch, provider_id });
        }
    }

    /// The provider says that a result file is not there. Right after a batch has ended that may well be.
    pub(super) fn has_no_results(&mut self, id: SlotId, trouble: &Trouble) {
        let now = self.outfit.world.clock.elapsed();
        let slot = &mut self.outfit.desk.slots[id.0];
        let since = *slot.in_vain_since.get_or_insert(now);
        if now.saturating_sub(since) < IN_VAIN {
            return self.in_trouble(id, trouble);
        }
        slot.error = Some("the provider no longer has its results".to_owned());
        self.settle_missing(id);
    }

    /// Waits, longer each time, before a step is tried again.
    pub(super) fn in_trouble(&mut self, id: SlotId, trouble: &Trouble) {
        let now = self.outfit.world.clock.elapsed();
        let jitter = self.rng.f64();
        let poll = self.outfit.desk.settings.poll;
        match trouble {
            Trouble::Record(error) => return self.stop(Problem::Record { error: error.clone() }),
            Trouble::Refused(refused) => {
                if let Refusal::Stops(class) = refused.kind {
                    let message = refused.message.clone();
                    return self.stop(Problem::Provider { class, message });
                }
            }
            Trouble::Foreign => self.outfit.desk.slots[id.0].foreign_reads += 1,
            Trouble::NoReply(_) | Trouble::Unreadable(_) | Trouble::CutShort => {}
        }
        self.is_reached |= !trouble.is_unreachable();
        let slot = &mut self.outfit.desk.slots[id.0];
        slot.failures += 1;
        let longest = match step(slot.status) {
            Step::Look => poll,
            Step::Upload
            | Step::FindFile
            | Step::Create
            | Step::FindBatch
            | Step::Collect
            | Step::Rest => poll.min(LONGEST_PAUSE),
        };
        let again_in = pause_after_failure(slot.failures, longest, trouble.asked_pause(), jitter);
        slot.next_at = now + again_in;
        let since = *slot.troubled_since.get_or_insert(now);
        let is_over =
            now.saturating_sub(since) >= TROUBLED.min(poll.saturating_mul(TROUBLED_POLLS));
        slot.is_given_up = is_over && slot.failures >= MOST_FAILURES;
        let (failures, batch, status) = (slot.failures, slot.id, slot.status);
        if !self.is_reached && failures >= NOBODY {
            let class = FailureClass::Unreachable;
            return self.stop(Problem::Provider { class, message: trouble.words() });
        }
        // Told less and less often: what lasts is on the status page.
        if failures.is_power_of_two() {
            self.tell(Event::BatchTrouble { batch, status, error: trouble.words(), again_in });
        }
    }

    /// An upload or a creation did not succeed: for certain, or perhaps.
    pub(super) fn is_refused(&mut self, id: SlotId, what: Step, trouble: Trouble) {
        let slot = &mut self.outfit.desk.slots[id.0];
        let Trouble::Refused(refused) = &trouble else {
            if what == Step::Upload && trouble.breaks_off() {
                slot.broken_uploads += 1;
                if slot.broken_uploads > BROKEN_UPLOADS {
                    return self.is_too_large(id, &trouble.words());
                }
            }
            return self.in_trouble(id, &trouble);
        };
        (self.is_reached, slot.is_heard) = (true, true);
        let message = refused.message.clone();
        match &refused.kind {
            Refusal::NoSuchApi => self.has_no_batch_api(id, &message),
            Refusal::NotFound | Refusal::Refused
                if what == Step::Create
                    && (refused.kind == Refusal::NotFound || mentions_missing_file(&message))
                    && slot.failures < FILE_TRIES =>
            {
                self.in_trouble(id, &trouble);
            }
            Refusal::TokenLimit(limit) => {
                let told = limit.told;
                self.queue_is_full(id, told);
                self.change_for(id, BatchMove::Refused, &message);
            }
            Refusal::TooLarge => self.is_too_large(id, &message),
            Refusal::NotFound | Refusal::Refused => {
                self.change_for(id, BatchMove::Refused, &message);
            }
            // No job was made, and none of the others will be: the run stops once that is on record.
            Refusal::Stops(class) => {
                slot.stops = Some((*class, message.clone()));
                self.change_for(id, BatchMove::Refused, &message);
            }
            Refusal::Busy | Refusal::Unclear => self.in_trouble(id, &trouble),
        }
    }

    /// The input file is more than the server, or the line to it, takes: the next ones are half as large.
    pub(super) fn is_too_large(&mut self, id: SlotId, message: &str) {
        let slot = &mut self.outfit.desk.slots[id.0];
        let lane = &mut self.outfit.desk.lanes[slot.lane];
        slot.is_too_large = slot.requests > 1;
        lane.limits.bytes = lane.limits.bytes.min((slot.input_bytes / 2).max(1));
        lane.limits.requests = lane.limits.requests.min((slot.requests / 2).max(1));
        self.change_for(id, BatchMove::Refused, message);
    }

    fn lane_has_no_batches(&mut self, at: usize, message: &str) {
        let lane = &mut self.outfit.desk.lanes[at];
        if self.outfit.desk.settings.asked == Asked::Batch {
            let (model, message) = (lane.model.clone(), message.to_owned());
            return self.stop(Problem::NoBatchApi { model, message });
        }
        if lane.has != HasBatches::No {
            lane.has = HasBatches::No;
            let model = lane.model.clone();
            self.tell(Event::NoBatchApi { model });
        }
    }

    /// A server of one's own has said whether it has batches. What leaves that open is found out with the first batch.
    fn probed(&mut self, at: usize, answer: Result<(), Trouble>) {
        let probe = std::mem::replace(&mut self.outfit.desk.lanes[at].probe, Probe::Done);
        if self.stopped.is_some() {
            return;
        }
        match &answer {
            Err(Trouble::Refused(refused)) => match refused.kind {
                Refusal::NoSuchApi | Refusal::NotFound | Refusal::Refused => {
                    self.lane_has_no_batches(at, &refused.message);
                }
                Refusal::Stops(class) => {
                    let message = refused.message.clone();
                    self.stop(Problem::Provider { class, message });
                }
                Refusal::Busy | Refusal::Unclear | Refusal::TooLarge | Refusal::TokenLimit(_) => {}
            },
            Err(trouble @ Trouble::Unreadable(_)) => self.lane_has_no_batches(at, &trouble.words()),
            Ok(())
            | Err(
                Trouble::NoReply(_) | Trouble::CutShort | Trouble::Foreign | Trouble::Record(_),
            ) => {}
        }
        if let Probe::Out(jobs) = probe {
            for job in jobs {
                self.place(at, job);
            }
        }
        self.nothing_more_comes(at);
    }

    /// The server has no batches, as it turns out at one: under `auto` everything goes by calls.
    pub(super) fn has_no_batch_api(&mut self, id: SlotId, message: &str) {
        let at = self.outfit.desk.slots[id.0].lane;
        self.lane_has_no_batches(at, message);
        if self.stopped.is_some() {
            return;
        }
        self.outfit.desk.close(at);
        self.change_for(id, BatchMove::Refused, message);
        for slot in self.outfit.desk.slots.iter_mut().filter(|slot| slot.lane == at) {
            if slot.cancel == Cancel::No && !slot.is_done() && step(slot.status) != Step::Look {
                slot.cancel = Cancel::Wanted;
            }
        }
        self.place_held(at);
    }
}

/// Says whether a batch is told to be completed without a word of where its results are. Some providers say so a little
/// later, so it is asked a few times more.
fn shows_no_results(slot: &Slot, seen: &Seen) -> bool {
    let known = [&slot.output_file_id, &slot.error_file_id];
    let told = [&seen.object.output_file_id, &seen.object.error_file_id];
    slot.empty_looks < EMPTY_LOOKS && known.into_iter().chain(told).all(Option::is_none)
}

/// Says whether the provider says no, and not that it cannot now.
fn is_denied(trouble: &Trouble) -> bool {
    is_not_found(trouble)
        || matches!(trouble, Trouble::Refused(refused) if refused.kind == Refusal::Refused)
}

fn is_not_found(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Refused(refused)
        if matches!(refused.kind, Refusal::NotFound | Refusal::NoSuchApi))
}
