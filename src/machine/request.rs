//! The life of a request: every legal move, on one screen.
//!
//! ```text
//! pending ──promise──▶ in_flight ──reply──▶ answered
//!    ▲                  │  │   └──reply cut by token limit──▶ truncated ──bigger max_tokens──▶ pending
//!    │                  │  └──failure──▶ failed(class) ──retryable, attempts left──▶ pending
//!    │                  └──process gone, no outcome──▶ in_doubt ──policy──▶ pending | stays
//!    └──promise in a batch──▶ in_batch ──line / no line / batch ended──▶ answered | truncated | failed(class)
//! ```
//!
//! [`next`] joins what the file proves ([`State`]) with what happened ([`Move`]). It is total and pure:
//! it knows no clock and no I/O, and has no catch-all arm, so a new state or move does not compile
//! until every pair has been thought of. `audit` replays attempts through the same function.

use crate::domain::{FailureClass, Outcome, Route, State};

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// An attempt was promised: from here on the provider may be called.
    Promise(Route),
    /// The attempt under way ended.
    Settle(Outcome),
    /// A later line of the same batch brought text where an earlier one told of a failure.
    Amend(Outcome),
    /// A request with the same body ended so, and this one shares its reply.
    Share(Outcome),
    /// The template could not be rendered for the row.
    NotRendered,
    /// Policy makes it due again: a retryable failure, a higher token limit, a doubt resolved.
    Release,
    /// A person asks for it again, whatever it was.
    Ask,
}

/// A move that the state does not allow: a mistake of ours, never of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request that is {} cannot take the move {event:?}", state.as_str())]
pub struct IllegalMove {
    /// The state it was in.
    pub state: State,
    /// What was asked of it.
    pub event: Move,
}

/// Returns the state after `event`.
pub fn next(state: State, event: Move) -> Result<State, IllegalMove> {
    use Move::{Amend, Ask, NotRendered, Promise, Release, Settle, Share};
    use State::{Answered, Failed, InBatch, InDoubt, InFlight, Pending, Truncated};

    let illegal = Err(IllegalMove { state, event });
    match (state, event) {
        (Pending, Promise(Route::Realtime)) => Ok(InFlight),
        (Pending, Promise(Route::Batch)) => Ok(InBatch),
        (Pending, Share(outcome)) => after(outcome).ok_or(IllegalMove { state, event }),
        (Pending, NotRendered) => Ok(Failed(FailureClass::RenderFailed)),
        (Pending, Release | Ask) => Ok(Pending),
        (Pending, Settle(_) | Amend(_)) => illegal,

        (InFlight, Settle(outcome)) => Ok(after(outcome).unwrap_or(InDoubt)),
        (InFlight, Promise(_) | Share(_) | NotRendered | Release | Ask | Amend(_)) => illegal,

        // A batch can always be looked up at the provider, so its lines are never in doubt.
        (InBatch, Settle(outcome)) => after(outcome).ok_or(IllegalMove { state, event }),
        (InBatch, Promise(_) | Share(_) | NotRendered | Release | Ask | Amend(_)) => illegal,

        (InDoubt, Release | Ask) => Ok(Pending),
        (InDoubt, Promise(_) | Settle(_) | Share(_) | NotRendered | Amend(_)) => illegal,

        // Never sent again unless a person asks.
        (Answered, Ask) => Ok(Pending),
        (Answered, Promise(_) | Settle(_) | Share(_) | NotRendered | Release | Amend(_)) => illegal,

        (Truncated, Release | Ask) => Ok(Pending),
        (Truncated, Promise(_) | Settle(_) | Share(_) | NotRendered | Amend(_)) => illegal,

        (Failed(class), Release) if class.is_retried() => Ok(Pending),
        (Failed(_), Ask) => Ok(Pending),
        // What was paid for is kept, though a failure was heard of first.
        (Failed(_), Amend(Outcome::Answered)) => Ok(Answered),
        (Failed(_), Amend(Outcome::Truncated)) => Ok(Truncated),
        (Failed(_), Promise(_) | Settle(_) | Share(_) | NotRendered | Release | Amend(_)) => {
            illegal
        }
    }
}

/// Returns the state that an outcome leads to, `None` for a doubt.
fn after(outcome: Outcome) -> Option<State> {
    match outcome {
        Outcome::Answered => Some(State::Answered),
        Outcome::Truncated => Some(State::Truncated),
        Outcome::Failed(class) => Some(State::Failed(class)),
        Outcome::InDoubt => None,
    }
}

/// What the file says of a request, as far as it decides whether it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its state.
    pub state: State,
    /// Attempts that count against the bound since a person last asked for it.
    pub attempts_used: u32,
    /// The `max_tokens` that its last attempt was sent with, or that a person asked for.
    pub max_tokens: Option<u32>,
}

/// What the project and the run allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many attempts a request may use.
    pub max_attempts: u32,
    /// How far `max_tokens` may be raised.
    pub max_tokens_limit: Option<u32>,
    /// What to do with requests in doubt.
    pub in_doubt: InDoubtPolicy,
}

/// What to do with requests that may have been sent and have no reply on file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDoubtPolicy {
    /// Send them again; they may be billed twice.
    Resend,
    /// Leave them for a person.
    Hold,
}

/// Whether a request is to be sent, and if not, why it rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It is due, with this `max_tokens`.
    Yes {
        /// `None` leaves the limit to the provider.
        max_tokens: Option<u32>,
    },
    /// It has an answer.
    Answered,
    /// An attempt is under way.
    UnderWay,
    /// It is in doubt, and doubts are held.
    Held,
    /// It failed in a way that sending it again cannot mend.
    Final(FailureClass),
    /// It failed and has used up its attempts.
    Exhausted(FailureClass),
    /// Its reply was cut and `max_tokens` cannot be raised further.
    AtTokenLimit,
}

/// Decides whether a request is due: the one rule behind `plan`, `run` and `run --dry-run`.
pub fn due(facts: Facts, policy: Policy) -> Due {
    let yes = Due::Yes { max_tokens: facts.max_tokens };
    match facts.state {
        State::Pending => yes,
        State::InFlight | State::InBatch => Due::UnderWay,
        State::InDoubt => match policy.in_doubt {
            InDoubtPolicy::Resend => yes,
            InDoubtPolicy::Hold => Due::Held,
        },
        State::Answered => Due::Answered,
        State::Truncated => match raised(facts.max_tokens, policy.max_tokens_limit) {
            Some(max_tokens) => Due::Yes { max_tokens: Some(max_tokens) },
            None => Due::AtTokenLimit,
        },
        State::Failed(class) if !class.is_retried() => Due::Final(class),
        State::Failed(class) if facts.attempts_used >= policy.max_attempts => Due::Exhausted(class),
        State::Failed(_) => yes,
    }
}

/// Returns twice the token limit, within the limit of limits; `None` where that raises nothing.
fn raised(sent: Option<u32>, limit: Option<u32>) -> Option<u32> {
    let sent = sent?;
    let next = sent.saturating_mul(2).min(limit.unwrap_or(sent));
    (next > sent).then_some(next)
}

#[cfg(test)]
mod tests;
