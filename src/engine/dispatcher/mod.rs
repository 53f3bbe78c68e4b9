//! The dispatcher: one loop that owns every decision and the order of events.
//!
//! A job's way through it, each step started by the event of the one before:
//!
//! ```text
//!  fed ─▶ place ─▶ lane ─▶ promise ordered ─▶ promise committed ─▶ call ─▶ landed ─▶ settlement ordered ─▶ settled ─▶ rest
//!           │       ▲            └─ twin has a reply: shared         (socket)                                │
//!           │       │            └─ twin under way: follows it                                               │
//!           │       └──────────────────────── due again, after a backoff ◀──────────────────────────────────┘
//!           └─ batch ─▶ promise in it committed ─▶ (the batch's own steps) ─▶ lines on record ─▶ rest, or fed again
//! ```
//!
//! `calls` has the upper way, `batches` the lower one. It never blocks and never touches the disk or
//! a socket itself.

mod batches;
mod calls;
mod money;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::batches::{Desk, Hand, Stepped, Trouble};
use super::feeder::{Fed, Feed};
use super::followers::{Follower, Followers, Then, then};
use super::lane::Lane;
use super::pending::{Flight, Pending};
use super::run::{Control, Watch};
use super::task::{Job, Task, encode};
use super::transport::Transport;
use super::worker::Landed;
use super::world::World;
use crate::domain::{
    Event, Problem, PromptId, RequestId, Route, RowId, RunId, State, Tally, UnixMs,
};
use crate::machine::budget::Budget;
use crate::machine::pace::{Permit, Rates};
use crate::machine::stop::Watchdog;
use crate::store::{Codec, Order, Promise, PromiseFor, Receipt, Store, Twin, Way, Writer};

/// Events taken from a channel at a time.
const GULP: usize = 256;

/// Where events come from.
pub(super) struct Inbox {
    pub(super) fed: UnboundedReceiver<Fed>,
    pub(super) landed: UnboundedReceiver<Landed>,
    pub(super) stepped: UnboundedReceiver<Stepped>,
    pub(super) receipts: UnboundedReceiver<Vec<Receipt>>,
    pub(super) control: UnboundedReceiver<Control>,
}

/// What the dispatcher works with.
pub(super) struct Outfit {
    pub(super) tasks: Arc<Vec<Task>>,
    /// The lane of each task.
    pub(super) lane_of: Vec<usize>,
    pub(super) lanes: Vec<Lane>,
    /// Asks each lane's feeder.
    pub(super) feeders: Vec<UnboundedSender<Feed>>,
    pub(super) desk: Desk,
    pub(super) budget: Budget,
    /// The rows that the run is for, where it is not for all.
    pub(super) sample: Option<Arc<Vec<RowId>>>,
    pub(super) writer: Writer,
    pub(super) transport: Transport,
    pub(super) world: World,
    /// When what batches have not answered goes by calls.
    pub(super) by: Option<UnixMs>,
    pub(super) run: RunId,
    pub(super) seed: u64,
    pub(super) landing: UnboundedSender<Landed>,
    pub(super) stepping: UnboundedSender<Stepped>,
    /// Opens a further connection for reading.
    pub(super) open: Arc<dyn Fn() -> Result<Store, Trouble> + Send + Sync>,
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
    /// Requests that this run has sent by a call and that have not come to rest.
    leaders: HashSet<RequestId>,
    followers: Followers,
    stopped: Option<Problem>,
    tally: Tally,
    watchdog: Watchdog,
    dictionary_asked: HashSet<usize>,
    /// The task of each prompt.
    tasks_of: HashMap<PromptId, usize>,
    /// What is due and has not been asked for yet, by lane.
    pub(super) first_feed: Option<Vec<u64>>,
    /// When the desk wants to be looked at.
    desk_wake: Option<Duration>,
    /// Whether any server has been heard of batches.
    is_reached: bool,
    /// Whether those who still waited in the end have been let go.
    is_swept: bool,
}

impl Dispatcher {
    pub(super) fn new(outfit: Outfit) -> Self {
        let watchdog = Watchdog::new(outfit.answered_before.iter().copied());
        let tasks_of =
            outfit.tasks.iter().enumerate().map(|(index, task)| (task.id(), index)).collect();
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
            tasks_of,
            first_feed: None,
            desk_wake: None,
            is_reached: false,
            is_swept: false,
        }
    }

    /// Asks for everything that is due, at its time; `due` says how much that is, by lane.
    pub(super) fn feed_first(&mut self, due: Vec<u64>) {
        self.first_feed = Some(due);
    }

    /// A run that does not wait first collects what is ready, which makes room in the provider's queue.
    fn feed_what_is_due(&mut self) {
        let desk = &self.outfit.desk;
        if desk.settings.waits || desk.is_done(false) {
            for (lane, due) in self.first_feed.take().into_iter().flatten().enumerate() {
                if due > 0 {
                    let route = self.outfit.desk.route(lane, due);
                    self.feed(
                        lane,
                        match &self.outfit.sample {
                            Some(rows) => Feed::OfRows(Arc::clone(rows), route),
                            None => Feed::Everything(route),
                        },
                    );
                }
            }
        }
    }

    /// Works until nothing is due or a stop has landed. Returns the writer, what was done and why it stopped.
    pub(super) async fn work(mut self, mut inbox: Inbox) -> Ended {
        let (mut fed, mut landed, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            if self.first_feed.is_some() && self.stopped.is_none() {
                self.feed_what_is_due();
            }
            let wake = self.pump();
            if self.is_done() && !self.feed_who_still_wait() {
                break;
            }
            let now = self.outfit.world.clock.elapsed();
            let sleep = wake.map_or(Duration::from_hours(1), |at| at.saturating_sub(now));
            tokio::select! {
                biased;
                Some(control) = inbox.control.recv() => match control {
                    Control::Interrupt => self.stop(Problem::Interrupted),
                    Control::Damaged(error) => self.stop(Problem::Record { error }),
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
                Some(stepped) = inbox.stepped.recv() => self.stepped(stepped),
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
                self.outfit.feeders.clear();
                inbox.fed.close();
            }
        }
        let (batches, requests) = self.outfit.desk.left_behind();
        let refused = self.outfit.desk.lanes.iter().map(|lane| lane.refused).sum();
        let left_behind = LeftBehind { batches, requests, refused };
        let learned = self.outfit.lanes.iter().map(|lane| lane.pace.learned()).collect();
        Ended {
            writer: self.outfit.writer,
            tally: self.tally,
            stopped: self.stopped,
            left_behind,
            learned,
        }
    }

    fn is_fed(&self) -> bool {
        self.outfit.lanes.iter().any(|lane| lane.feeds > 0)
    }

    fn is_done(&self) -> bool {
        (self.first_feed.is_none() || self.stopped.is_some())
            && self.pending.is_empty()
            && self.flying.is_empty()
            && self.outfit.lanes.iter().all(Lane::is_empty)
            && self.outfit.desk.is_done(self.stopped.is_some())
    }

    fn tell(&self, event: Event) {
        (self.outfit.watch)(event);
    }

    fn order(&mut self, pending: Pending, order: impl FnOnce(u64) -> Order) {
        self.tickets += 1;
        self.pending.insert(self.tickets, pending);
        self.outfit.writer.send(order(self.tickets));
    }

    /// Asks a lane's feeder for something.
    pub(super) fn feed(&mut self, lane: usize, feed: Feed) {
        if self.stopped.is_none()
            && let Some(feeder) = self.outfit.feeders.get(lane)
            && feeder.send(feed).is_ok()
        {
            self.outfit.lanes[lane].feeds += 1;
        }
    }

    /// Starts whatever may go now. Returns when there is something to look at again.
    fn pump(&mut self) -> Option<Duration> {
        let mut wake = self.pump_desk();
        for lane in 0..self.outfit.lanes.len() {
            let lane_wake = self.pump_lane(lane);
            wake = [wake, lane_wake].into_iter().flatten().min();
        }
        self.look_at_money();
        wake
    }

    fn pump_lane(&mut self, index: usize) -> Option<Duration> {
        loop {
            let now = self.outfit.world.clock.elapsed();
            let lane = &mut self.outfit.lanes[index];
            lane.lacks_money = false;
            let Some(job) = lane.peek(now) else { return lane.next_retry() };
            let tokens = job.guessed_tokens();
            let most = self.outfit.tasks[job.task].most(job, Route::Realtime);
            let most = most.map(|most| self.outfit.budget.with_overrun(most));
            if !self.outfit.budget.takes(most) {
                lane.lacks_money = true;
                return None;
            }
            let number = match lane.pace.ask(now, tokens) {
                Permit::Go => lane.pace.start(now, tokens),
                Permit::Wait(wait) => return Some(now + wait),
                Permit::Full => return None,
            };
            if let Some(mut job) = lane.pop(now) {
                job.pace_number = number;
                self.set_aside(&mut job, most);
                self.promise(job, Way::Realtime);
            }
        }
    }

    fn promise(&mut self, mut job: Box<Job>, way: Way) {
        match way {
            Way::Realtime => job.room = None,
            // No pace holds it back, so its room is free again only once its place is on the disk.
            Way::Batch(_) => {}
        }
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
            way,
            max_tokens: job.max_tokens,
            sent_body: job.sent_body.clone(),
            at: self.outfit.world.clock.time_of_day(),
            reuse: job.reuse,
            reserved: job.reserved,
        });
        self.order(Pending::Promise(job), |ticket| Order::Promise(ticket, promise));
    }

    fn fed(&mut self, fed: Fed) {
        match fed {
            Fed::Job(lane, job) if self.stopped.is_none() => match job.wanted {
                Route::Realtime => self.outfit.lanes[lane].push(job),
                Route::Batch => self.place(lane, job),
            },
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
            Fed::AskedUpto { task, row } => {
                if self.stopped.is_none() {
                    let prompt = self.outfit.tasks[task].id();
                    self.order(Pending::AskedUpto, |ticket| Order::AskedUpto {
                        ticket,
                        prompt,
                        row,
                    });
                }
            }
            Fed::Done(lane) => {
                let feeds = &mut self.outfit.lanes[lane].feeds;
                *feeds = feeds.saturating_sub(1);
                if *feeds == 0 {
                    self.nothing_more_comes(lane);
                }
            }
            Fed::Broken(error) => self.stop(Problem::Record { error: error.to_string() }),
        }
    }

    fn receipt(&mut self, receipt: Receipt) {
        let ticket = match &receipt {
            Receipt::Promised(ticket, _)
            | Receipt::Settled(ticket, _)
            | Receipt::BatchChanged(ticket, _)
            | Receipt::Lines(ticket, _)
            | Receipt::QueueLimit(ticket)
            | Receipt::NotRendered(ticket, _)
            | Receipt::Dictionary(ticket, _)
            | Receipt::AsksInWords(ticket)
            | Receipt::AskedUpto(ticket)
            | Receipt::Refused(ticket, _) => *ticket,
            Receipt::Trouble(error) => {
                return self.tell(Event::RecordTrouble { error: error.clone() });
            }
        };
        let Some(pending) = self.pending.remove(&ticket) else { return };
        match (receipt, pending) {
            (Receipt::Promised(_, promised), Pending::Promise(job)) => match job.slot {
                Some(slot) => self.seated(slot, promised, job),
                None => self.promised(promised, job),
            },
            (Receipt::Settled(_, state), Pending::Settle(settling)) => {
                self.settled(*settling, state);
            }
            (Receipt::Settled(_, state), Pending::Share(follower)) => {
                self.shared(follower, state);
            }
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
            (Receipt::BatchChanged(_, status), Pending::Change(slot, event)) => {
                self.changed(slot, (event, status));
            }
            (Receipt::Lines(_, settled), Pending::Lines { slot, lines, go }) => {
                self.lines_settled(slot, &lines, &settled);
                // The reader is gone only after a stop.
                let _ = go.send(());
            }
            (Receipt::Lines(_, settled), Pending::Missing { slot, failed }) => {
                self.missing_settled(slot, failed, &settled);
            }
            (Receipt::Refused(_, error), pending) => self.refused(error, &pending),
            (Receipt::AsksInWords(_), Pending::AskInWords)
            | (Receipt::AskedUpto(_), Pending::AskedUpto)
            | (Receipt::QueueLimit(_), Pending::QueueLimit) => {}
            // A receipt of another kind than its order cannot be: tickets are never used twice.
            (_, _) => {}
        }
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

    /// Lets a job wait for the one with the same body that is under way, if anybody here will settle that.
    fn follow(&mut self, mut job: Box<Job>, twin: Twin) {
        let Some(request) = job.request else { return };
        if self.stopped.is_some() {
            // Nobody would let it go any more: it is left to the next run.
            return;
        }
        // All batches that are not done with are in this run's hands.
        if twin.state == State::InBatch || self.leaders.contains(&twin.request) {
            let follower = Follower { task: job.task, request, position: job.position };
            self.followers.wait_for(twin.request, follower);
        } else {
            job.reuse = false;
            self.outfit.lanes[self.outfit.lane_of[job.task]].push(job);
        }
    }

    /// A request has come to rest: counts it and lets its followers go on.
    fn rest(&mut self, request: RequestId, state: State) {
        match state {
            State::Answered => self.tally.answered += 1,
            State::Truncated => self.tally.truncated += 1,
            State::Failed(_) => self.tally.failed += 1,
            State::Pending | State::InFlight | State::InBatch | State::InDoubt => {}
        }
        self.let_go(request, then(state));
    }

    /// Lets those who waited for a request go on, by whichever way it has come to rest itself.
    fn let_go(&mut self, request: RequestId, then: Then) {
        self.leaders.remove(&request);
        let waited = self.followers.of(request);
        if self.stopped.is_some() || waited.is_empty() {
            return;
        }
        match then {
            Then::Share => waited.into_iter().for_each(|follower| self.share(follower, request)),
            Then::TryThemselves => self.feed_followers(waited),
        }
    }

    fn feed_followers(&mut self, waited: Vec<Follower>) {
        let mut by_lane: BTreeMap<usize, Vec<(usize, RequestId)>> = BTreeMap::new();
        for follower in waited {
            let lane = self.outfit.lane_of[follower.task];
            by_lane.entry(lane).or_default().push((follower.task, follower.request));
        }
        for (lane, requests) in by_lane {
            let route = self.outfit.desk.route(lane, requests.len() as u64);
            self.feed(lane, Feed::Requests(requests, route));
        }
    }

    /// Lets those go themselves who still wait when all else is done: whoever they waited for has left the table in
    /// the meantime. Those who find it in a batch that goes on without this run wait for the next one.
    fn feed_who_still_wait(&mut self) -> bool {
        let waited = self.followers.all();
        if self.stopped.is_some()
            || waited.is_empty()
            || std::mem::replace(&mut self.is_swept, true)
        {
            return false;
        }
        self.feed_followers(waited);
        self.is_fed()
    }

    fn share(&mut self, follower: Follower, twin: RequestId) {
        let request = follower.request;
        self.order(Pending::Share(follower), |ticket| Order::Share { ticket, request, twin });
    }

    fn shared(&mut self, follower: Follower, state: State) {
        match state {
            State::Answered => self.tally.shared += 1,
            State::Truncated => self.tally.truncated += 1,
            State::Failed(_) => self.tally.failed += 1,
            State::Pending | State::InFlight | State::InBatch | State::InDoubt => {}
        }
        let prompt = self.prompt_name(follower.task);
        self.tell(Event::Shared { position: follower.position, prompt, state });
        // What was cut at the limit of one prompt may have more tokens under another.
        let limit = |task: &Task| task.policy.max_tokens_limit;
        let mine = limit(&self.outfit.tasks[follower.task]);
        if state == State::Truncated && self.outfit.tasks.iter().any(|task| limit(task) != mine) {
            self.feed_followers(vec![follower]);
        }
        // It may have been sent before, failed for a while, and have others wait for it.
        self.let_go(follower.request, then(state));
    }

    fn refused(&mut self, error: String, pending: &Pending) {
        match pending {
            Pending::Promise(job) => {
                self.outfit.budget.release(job.reserved.unwrap_or_default());
                if let Some(slot) = job.slot {
                    self.outfit.desk.slots[slot.0].asked -= 1;
                    self.outfit.desk.unseat(slot, job.size);
                } else {
                    let lane = self.outfit.lane_of[job.task];
                    self.outfit.lanes[lane].pace.withdraw(job.guessed_tokens());
                }
            }
            Pending::Change(slot, _) => self.outfit.desk.slots[slot.0].hand = Hand::Free,
            Pending::Missing { slot, .. } | Pending::Lines { slot, .. } => {
                self.outfit.desk.slots[slot.0].hand = Hand::Free;
            }
            Pending::Settle(_) => self.tally.unrecorded += 1,
            Pending::Share(_)
            | Pending::NotRendered { .. }
            | Pending::Dictionary { .. }
            | Pending::QueueLimit
            | Pending::AskInWords
            | Pending::AskedUpto => {}
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
        self.outfit.desk.stop();
        self.followers.clear();
        self.tell(Event::Stopping { why: why.clone(), in_flight: self.flying.len() as u64 });
        self.stopped = Some(why);
    }

    fn prompt_name(&self, task: usize) -> String {
        self.outfit.tasks[task].prompt.name.clone()
    }
}

/// What a dispatcher leaves.
pub(super) struct Ended {
    pub(super) writer: Writer,
    pub(super) tally: Tally,
    pub(super) stopped: Option<Problem>,
    pub(super) left_behind: LeftBehind,
    /// The rates that each lane was found to be allowed.
    pub(super) learned: Vec<Rates>,
}

/// What goes on without the run, or was not done for want of room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeftBehind {
    pub(super) batches: u64,
    pub(super) requests: u64,
    /// Requests that no batch had room for and that were not to go by calls.
    pub(super) refused: u64,
}
