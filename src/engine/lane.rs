//! A lane: one model at one server, with its own pace. Prompts on the same model share it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::task::Job;
use crate::machine::pace::Pace;

/// What waits to be sent to one model.
pub(super) struct Lane {
    pub(super) pace: Pace,
    ready: VecDeque<Box<Job>>,
    again: BinaryHeap<Later>,
    numbered: u64,
    /// What the feeder was asked for and has not said to be done with.
    pub(super) feeds: u32,
    /// Whether its next job costs more than may still be spent.
    pub(super) lacks_money: bool,
}

impl Lane {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            ready: VecDeque::new(),
            again: BinaryHeap::new(),
            numbered: 0,
            feeds: 0,
            lacks_money: false,
        }
    }

    /// Takes in a job that is due now.
    pub(super) fn push(&mut self, job: Box<Job>) {
        self.ready.push_back(job);
    }

    /// Takes in a job that is due at `at`.
    pub(super) fn push_later(&mut self, at: Duration, job: Box<Job>) {
        self.numbered += 1;
        self.again.push(Later { at: Reverse((at, self.numbered)), job });
    }

    /// Returns the job to send next.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Box<Job>> {
        match self.is_retry_next(now) {
            true => self.again.pop().map(|later| later.job),
            false => self.ready.pop_front(),
        }
    }

    /// Looks at the job that [`Lane::pop`] would return.
    pub(super) fn peek(&self, now: Duration) -> Option<&Job> {
        match self.is_retry_next(now) {
            true => self.again.peek().map(|later| later.job.as_ref()),
            false => self.ready.front().map(AsRef::as_ref),
        }
    }

    /// Retries go first, but while the provider is away it is fresh requests that find out whether it
    /// is back: so that no request uses up its tries on that.
    fn is_retry_next(&self, now: Duration) -> bool {
        let is_due = self.again.peek().is_some_and(|later| later.at.0.0 <= now);
        is_due && (self.ready.is_empty() || !self.pace.is_away())
    }

    /// Returns when the next retry is due.
    pub(super) fn next_retry(&self) -> Option<Duration> {
        self.again.peek().map(|later| later.at.0.0)
    }

    /// Says whether nothing waits here and nothing more will come.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.again.is_empty() && self.feeds == 0
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.again.clear();
        self.feeds = 0;
    }
}

/// A job that is due later; the heap's greatest is the soonest.
struct Later {
    at: Reverse<(Duration, u64)>,
    job: Box<Job>,
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}
