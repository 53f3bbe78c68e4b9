//! Requests that wait for another one with the same body: one buys, all share.

use std::collections::HashMap;

use crate::domain::{FailureClass, RequestId, State};

/// A request that waits. Its text is not kept: it is rendered again if it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Follower {
    pub(super) task: usize,
    pub(super) request: RequestId,
    pub(super) position: i64,
}

/// Who waits for whom.
#[derive(Default)]
pub(super) struct Followers {
    waiting: HashMap<RequestId, Vec<Follower>>,
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
    pub(super) fn wait_for(&mut self, leader: RequestId, follower: Follower) {
        self.waiting.entry(leader).or_default().push(follower);
    }

    pub(super) fn of(&mut self, leader: RequestId) -> Vec<Follower> {
        self.waiting.remove(&leader).unwrap_or_default()
    }

    /// Takes all who wait, for whomever.
    pub(super) fn all(&mut self) -> Vec<Follower> {
        let mut all: Vec<Follower> = self.waiting.drain().flat_map(|(_, waited)| waited).collect();
        all.sort_unstable_by_key(|follower| follower.request);
        all
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// Decides what followers do with the state that their leader came to rest in. That it could not be rendered says
/// nothing of a body.
pub(super) fn then(state: State) -> Then {
    match state {
        State::Answered | State::Truncated | State::Failed(FailureClass::InvalidAnswer) => {
            Then::Share
        }
        State::Failed(class) if !class.is_retried() && class != FailureClass::RenderFailed => {
            Then::Share
        }
        State::Failed(_) | State::Pending | State::InFlight | State::InBatch | State::InDoubt => {
            Then::TryThemselves
        }
    }
}
