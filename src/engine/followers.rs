//! Requests that wait for another one with the same body: one buys, all share.

use std::collections::HashMap;
use std::sync::Arc;

use super::task::Job;
use crate::domain::{FailureClass, RequestId, State};

/// Who waits for whom.
#[derive(Default)]
pub(super) struct Followers {
    waiting: HashMap<RequestId, Vec<Job>>,
    count: usize,
}

/// What those who waited do, once the request they waited for has come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Share what it came to.
    Share,
    /// Try for themselves: it failed for a reason that says nothing of the body.
    TryThemselves,
}

impl Followers {
    /// Lets a job wait. Those who wait for the same request say the same, so one text serves them all.
    pub(super) fn wait_for(&mut self, leader: RequestId, mut job: Job) {
        let others = self.waiting.entry(leader).or_default();
        if let Some(first) = others.first().filter(|first| first.task == job.task) {
            job.messages = Arc::clone(&first.messages);
            if first.bytes == job.bytes {
                job.bytes = first.bytes.clone();
            }
        }
        others.push(job);
        self.count += 1;
    }

    pub(super) fn of(&mut self, leader: RequestId) -> Vec<Job> {
        let waited = self.waiting.remove(&leader).unwrap_or_default();
        self.count -= waited.len();
        waited
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.count = 0;
    }
}

/// Decides what followers do with the state that their leader came to rest in.
pub(super) fn then(state: State) -> Then {
    match state {
        State::Answered | State::Truncated | State::Failed(FailureClass::InvalidAnswer) => {
            Then::Share
        }
        State::Failed(class) if !class.is_retried() => Then::Share,
        State::Failed(_) | State::Pending | State::InFlight | State::InBatch | State::InDoubt => {
            Then::TryThemselves
        }
    }
}
