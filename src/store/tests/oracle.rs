//! The ledger written a second time: plain values, and no SQL.

use crate::domain::{AttemptId, FailureClass, NanoUsd, Outcome, RequestId, Route, State, UnixMs};
use crate::store::Settlement;

/// How many rows the tests play with; all but the last have the same body.
pub(super) const ROWS: usize = 4;

/// A request as the oracle keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) id: RequestId,
    pub(super) state: State,
    pub(super) has_body: bool,
    pub(super) attempts: u32,
    pub(super) used: u32,
    pub(super) tokens: i64,
    pub(super) cost: Option<i64>,
    /// The attempt that decides, and when it was settled.
    pub(super) deciding: Option<(AttemptId, Option<i64>)>,
    pub(super) asked_at: Option<i64>,
    /// The last attempt of its own.
    pub(super) last: Option<Last>,
    /// All attempts of its own.
    pub(super) owned: Vec<Own>,
}

/// An attempt of a request's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    attempt: AttemptId,
    promised_at: i64,
    /// What it failed with.
    class: Option<FailureClass>,
}

/// A request's last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) attempt: AttemptId,
    pub(super) by: Route,
    /// What it failed with.
    class: Option<FailureClass>,
    pub(super) tokens: i64,
    pub(super) cost: Option<i64>,
    /// What the attempts before it cost.
    cost_before: Option<i64>,
}

impl Kept {
    fn new(id: i64) -> Self {
        Self {
            id: RequestId(id),
            state: State::Pending,
            has_body: false,
            attempts: 0,
            used: 0,
            tokens: 0,
            cost: None,
            deciding: None,
            asked_at: None,
            last: None,
            owned: Vec::new(),
        }
    }

    /// Says whether policy alone may make it go again.
    fn may_go(&self) -> bool {
        match self.state {
            State::Pending | State::InDoubt | State::Truncated => true,
            State::Failed(class) => class.is_retried(),
            State::InFlight | State::InBatch | State::Answered => false,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.state, State::InFlight | State::InBatch)
    }

    /// Says whether others may have what it came to, if they have asked before.
    fn can_be_shared(&self, asked_at: Option<i64>) -> bool {
        let is_final = match self.state {
            State::Answered => true,
            State::Failed(class) => !class.is_retried() && class != FailureClass::RenderFailed,
            State::Pending
            | State::InFlight
            | State::InBatch
            | State::InDoubt
            | State::Truncated => false,
        };
        let settled_at = self.deciding.and_then(|(_, at)| at);
        is_final && settled_at.is_some_and(|at| at >= asked_at.unwrap_or(0))
    }

    /// Says whether it stands on an attempt that is not the other's own.
    fn lends_to(&self, other: &Self) -> bool {
        self.deciding.is_some_and(|(attempt, _)| !other.owns(attempt))
    }

    fn owns(&self, attempt: AttemptId) -> bool {
        self.owned.iter().any(|own| own.attempt == attempt)
    }

    /// Counts the attempts of its own that count, since it was last asked for.
    fn own_used(&self) -> u32 {
        let counts = |own: &&Own| {
            self.asked_at.is_none_or(|asked| own.promised_at > asked)
                && own.class.is_some_and(FailureClass::uses_attempt)
        };
        self.owned.iter().filter(counts).count() as u32
    }

    /// Takes what its last attempt came to, instead of what that came to before.
    fn close(&mut self, settled: &Settlement) {
        let Some(last) = &mut self.last else { return };
        if last.class.is_some_and(FailureClass::uses_attempt) {
            self.used = self.used.saturating_sub(1);
        }
        last.class = None;
        self.state = match settled.outcome {
            Outcome::Answered => State::Answered,
            Outcome::Truncated => State::Truncated,
            Outcome::Failed(class) => {
                self.used += u32::from(class.uses_attempt());
                last.class = Some(class);
                State::Failed(class)
            }
            Outcome::InDoubt => State::InDoubt,
        };
        if let Some(own) = self.owned.last_mut() {
            own.class = last.class;
        }
        let tokens = settled.usage.map_or(0, |usage| usage.output as i64);
        self.tokens += tokens - last.tokens;
        last.tokens = tokens;
        last.cost = settled.cost.map(|cost| cost.0);
        self.cost = match (last.cost_before, last.cost) {
            (None, None) => None,
            (before, cost) => Some(before.unwrap_or(0) + cost.unwrap_or(0)),
        };
        self.deciding = Some((last.attempt, Some(settled.at.0)));
    }

    fn take_over(&mut self, twin: &Self) {
        self.state = twin.state;
        self.used = twin.used;
        self.deciding = twin.deciding;
    }
}

/// What the oracle says comes of a deed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Comes {
    Sent,
    Shared(State),
    Wait(RequestId),
    Settled(State),
    NotRendered,
    /// It has an attempt under way, or an answer.
    Taken,
    /// It moves nothing.
    Nothing,
    Refused,
}

#[derive(Clone, Default)]
pub(super) struct Oracle {
    pub(super) requests: [Option<Kept>; ROWS],
    made: i64,
    promised: i64,
    pub(super) has_batch: bool,
}

impl Oracle {
    fn has_same_body(a: usize, b: usize) -> bool {
        a == b || (a < ROWS - 1 && b < ROWS - 1)
    }

    fn make(&mut self, row: usize) -> &mut Kept {
        let next = self.made + 1;
        let made = &mut self.made;
        self.requests[row].get_or_insert_with(|| {
            *made = next;
            Kept::new(next)
        })
    }

    pub(super) fn promise(&mut self, row: usize, (reuse, by): (bool, Route), now: i64) -> Comes {
        let before = self.clone();
        let mine = self.make(row);
        mine.has_body = true;
        let mine = mine.clone();
        // What is under way or answered stays as it is, whatever its twins have come to.
        if mine.is_under_way() || mine.state == State::Answered {
            return Comes::Taken;
        }
        if reuse {
            let is_twin = |other: &usize| *other != row && Self::has_same_body(row, *other);
            let mut twins: Vec<Kept> = (0..ROWS)
                .filter(is_twin)
                .filter_map(|other| self.requests[other].clone())
                .collect();
            twins.retain(|twin| twin.has_body);
            twins.sort_by_key(|twin| twin.id);
            let answered = |twin: &&Kept| twin.state == State::Answered;
            let shared = |twin: &&Kept| twin.can_be_shared(mine.asked_at) && twin.lends_to(&mine);
            let done = twins.iter().filter(shared).find(answered);
            let under_way = twins.iter().find(|twin| twin.is_under_way());
            if done.is_none()
                && let Some(twin) = under_way
            {
                return Comes::Wait(twin.id);
            }
            if let Some(twin) = done.or_else(|| twins.iter().find(shared)) {
                if !mine.may_go() {
                    *self = before;
                    return Comes::Refused;
                }
                self.make(row).take_over(twin);
                return Comes::Shared(twin.state);
            }
        }
        if !mine.may_go() {
            *self = before;
            return Comes::Refused;
        }
        self.promised += 1;
        let attempt = AttemptId(self.promised);
        self.has_batch |= by == Route::Batch;
        let mine = self.make(row);
        mine.attempts += 1;
        mine.state = match by {
            Route::Realtime => State::InFlight,
            Route::Batch => State::InBatch,
        };
        if mine.deciding.is_some_and(|(attempt, _)| !mine.owns(attempt)) {
            mine.used = mine.own_used();
        }
        mine.deciding = Some((attempt, None));
        mine.owned.push(Own { attempt, promised_at: now, class: None });
        let cost_before = mine.cost;
        mine.last = Some(Last { attempt, by, class: None, tokens: 0, cost: None, cost_before });
        Comes::Sent
    }

    pub(super) fn settle(&mut self, row: usize, settled: &Settlement) -> Comes {
        let Some(mine) = &mut self.requests[row] else { return Comes::Refused };
        let is_doubt = settled.outcome == Outcome::InDoubt && mine.state == State::InBatch;
        if !mine.is_under_way() || is_doubt {
            return Comes::Refused;
        }
        mine.close(settled);
        Comes::Settled(mine.state)
    }

    /// A line settles what is open, and brings what a failure was told of before.
    pub(super) fn line(&mut self, row: usize, settled: &Settlement) -> Comes {
        let Some(mine) = &mut self.requests[row] else { return Comes::Nothing };
        let Some(last) = mine.last.filter(|last| last.by == Route::Batch) else {
            return Comes::Nothing;
        };
        if mine.is_under_way() {
            return self.settle(row, settled);
        }
        let stands = mine.deciding.is_some_and(|(attempt, _)| attempt == last.attempt)
            && last.class.is_some_and(|class| mine.state == State::Failed(class));
        if !stands || !settled.outcome.has_text() {
            return Comes::Nothing;
        }
        let failed = mine.state;
        mine.close(settled);
        let mine = mine.clone();
        for other in self.requests.iter_mut().flatten().filter(|other| other.id != mine.id) {
            let shares = other.deciding.is_some_and(|(attempt, _)| attempt == last.attempt);
            let unmade = State::Failed(FailureClass::RenderFailed);
            if shares && [failed, unmade].contains(&other.state) {
                other.take_over(&mine);
            }
        }
        Comes::Settled(mine.state)
    }

    /// Settles what is open in the batch, in the order in which it got there.
    pub(super) fn missing(&mut self, outcome: Outcome, at: UnixMs) -> Vec<(RequestId, State)> {
        let mut open: Vec<&mut Kept> = self.requests.iter_mut().flatten().collect();
        open.retain(|kept| kept.state == State::InBatch);
        open.sort_by_key(|kept| kept.last.unwrap().attempt);
        let close = |kept: &mut Kept| {
            let of = (kept.last.unwrap().attempt, kept.id);
            // Nothing is billed for a batch that was never made.
            let cost = Some(NanoUsd(0));
            kept.close(&Settlement { cost, ..Settlement::bare(of, outcome, at) });
            (kept.id, kept.state)
        };
        open.into_iter().map(close).collect()
    }

    pub(super) fn share(&mut self, row: usize, twin: usize) -> Comes {
        let twin = self.requests[twin].clone();
        let (Some(mine), Some(twin)) = (&mut self.requests[row], twin) else {
            return Comes::Refused;
        };
        let is_done = match twin.state {
            State::Answered | State::Truncated => true,
            State::Failed(class) => class != FailureClass::RenderFailed,
            State::Pending | State::InFlight | State::InBatch | State::InDoubt => false,
        };
        if !is_done || !twin.lends_to(mine) || !mine.may_go() {
            return Comes::Refused;
        }
        mine.take_over(&twin);
        Comes::Settled(mine.state)
    }

    pub(super) fn not_rendered(&mut self, row: usize) -> Comes {
        let mine = self.make(row);
        if !mine.may_go() {
            return Comes::Refused;
        }
        mine.state = State::Failed(FailureClass::RenderFailed);
        Comes::NotRendered
    }

    pub(super) fn ask(&mut self, row: usize, now: i64) {
        if let Some(mine) = &mut self.requests[row]
            && !mine.is_under_way()
        {
            mine.state = State::Pending;
            mine.used = 0;
            mine.asked_at = Some(now);
        }
    }
}
