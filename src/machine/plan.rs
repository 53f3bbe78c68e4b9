//! What is left to do, as a pure function of what the file says.
//!
//! `plan`, `run` and `run --dry-run` all count with [`left`], which asks [`due`] of every group.

use crate::domain::State;
use crate::machine::request::{Due, Facts, Policy, due};

/// Requests of one prompt that stand alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their state.
    pub state: State,
    /// Attempts used.
    pub attempts_used: u32,
    /// The token limit they were last sent with.
    pub max_tokens: Option<u32>,
    /// How many there are.
    pub count: u64,
}

/// What is left of one prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Due: never sent, or to be sent anew because a person asked for it.
    pub new: u64,
    /// Of the new ones, those that are on record.
    pub reopened: u64,
    /// Due: failed, and worth another try.
    pub failed: u64,
    /// Due: cut, with room for more tokens.
    pub truncated: u64,
    /// Due: in doubt, to be sent again.
    pub in_doubt: u64,
    /// Not due: answered.
    pub answered: u64,
    /// Not due: an attempt is under way.
    pub under_way: u64,
    /// Not due: in doubt and held for a person.
    pub held: u64,
    /// Not due: failed for good, or out of attempts.
    pub failed_for_good: u64,
    /// Not due: cut at the limit of limits.
    pub at_token_limit: u64,
}

impl Left {
    /// Counts what is due.
    pub fn due(&self) -> u64 {
        self.new + self.failed + self.truncated + self.in_doubt
    }

    /// Counts what is not answered and will not be without a person.
    pub fn stuck(&self) -> u64 {
        self.held + self.failed_for_good + self.at_token_limit
    }
}

impl std::ops::AddAssign for Left {
    fn add_assign(&mut self, other: Self) {
        self.new += other.new;
        self.reopened += other.reopened;
        self.failed += other.failed;
        self.truncated += other.truncated;
        self.in_doubt += other.in_doubt;
        self.answered += other.answered;
        self.under_way += other.under_way;
        self.held += other.held;
        self.failed_for_good += other.failed_for_good;
        self.at_token_limit += other.at_token_limit;
    }
}

/// Whether a run is on, which decides what a promise without an outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// A run is on: it is in flight.
    Running,
    /// No run is on: whoever promised it is gone.
    Idle,
}

/// Returns the state that a request is in, given whether anybody is there to settle it.
pub fn observed(state: State, liveness: Liveness) -> State {
    match (state, liveness) {
        (State::InFlight, Liveness::Idle) => State::InDoubt,
        (state, Liveness::Idle | Liveness::Running) => state,
    }
}

/// Counts what is left of a prompt over `rows` live rows.
pub fn left(rows: u64, groups: &[Group], policy: Policy, liveness: Liveness) -> Left {
    let mut left = Left::default();
    let made: u64 = groups.iter().map(|group| group.count).sum();
    left.new = rows.saturating_sub(made);
    for group in groups {
        let state = observed(group.state, liveness);
        let facts =
            Facts { state, attempts_used: group.attempts_used, max_tokens: group.max_tokens };
        *slot(&mut left, state, due(facts, policy)) += group.count;
    }
    left.reopened = left.new - rows.saturating_sub(made);
    left
}

fn slot(left: &mut Left, state: State, due: Due) -> &mut u64 {
    match due {
        Due::Yes { .. } => match state {
            State::Failed(_) => &mut left.failed,
            State::Truncated => &mut left.truncated,
            State::InDoubt => &mut left.in_doubt,
            State::Pending | State::InFlight | State::InBatch | State::Answered => &mut left.new,
        },
        Due::Answered => &mut left.answered,
        Due::UnderWay => &mut left.under_way,
        Due::Held => &mut left.held,
        Due::Final(_) | Due::Exhausted(_) => &mut left.failed_for_good,
        Due::AtTokenLimit => &mut left.at_token_limit,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::FailureClass;
    use crate::machine::request::InDoubtPolicy;

    fn states() -> impl Strategy<Value = State> {
        prop_oneof![
            Just(State::Pending),
            Just(State::InFlight),
            Just(State::InBatch),
            Just(State::InDoubt),
            Just(State::Answered),
            Just(State::Truncated),
            prop::sample::select(FailureClass::ALL.to_vec()).prop_map(State::Failed),
        ]
    }

    proptest! {
        /// The oracle takes requests one by one and says in its own words whether each is due.
        #[test]
        fn every_request_is_counted_once_and_due_ones_as_the_oracle_says(
            extra in 0u64..20,
            stands in prop::collection::vec((states(), 0u32..8, prop::option::of(1u32..100), 1u64..5), 0..30),
            hold in any::<bool>(),
            running in any::<bool>(),
        ) {
            let groups: Vec<Group> = stands
                .iter()
                .map(|(state, used, max, count)| Group {
                    state: *state,
                    attempts_used: *used,
                    max_tokens: *max,
                    count: *count,
                })
                .collect();
            let made: u64 = groups.iter().map(|group| group.count).sum();
            let policy = Policy {
                max_attempts: 5,
                max_tokens_limit: Some(50),
                in_doubt: if hold { InDoubtPolicy::Hold } else { InDoubtPolicy::Resend },
            };
            let liveness = if running { Liveness::Running } else { Liveness::Idle };
            let left = left(made + extra, &groups, policy, liveness);
            let mut expected = extra;
            for group in &groups {
                let gone = group.state == State::InDoubt || (group.state == State::InFlight && !running);
                let due = group.state == State::Pending
                    || (gone && !hold)
                    || (group.state == State::Truncated && group.max_tokens.is_some_and(|max| max < 50))
                    || matches!(group.state, State::Failed(class) if class.is_retried() && group.attempts_used < 5);
                expected += if due { group.count } else { 0 };
            }
            prop_assert_eq!(left.due(), expected);
            prop_assert_eq!(left.due() + left.answered + left.under_way + left.stuck(), made + extra);
        }
    }
}
