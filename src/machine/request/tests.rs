//! The request machine against an oracle written a second time, from the ledger's point of view.

use proptest::prelude::*;

use super::{Due, Facts, InDoubtPolicy, Move, Policy, due, next};
use crate::domain::{FailureClass, Outcome, Route, State};

fn classes() -> impl Strategy<Value = FailureClass> {
    prop::sample::select(FailureClass::ALL.to_vec())
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Answered),
        Just(Outcome::Truncated),
        classes().prop_map(Outcome::Failed),
        Just(Outcome::InDoubt),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        prop::sample::select(vec![Route::Realtime, Route::Batch]).prop_map(Move::Promise),
        outcomes().prop_map(Move::Settle),
        outcomes().prop_map(Move::Share),
        outcomes().prop_map(Move::Amend),
        Just(Move::NotRendered),
        Just(Move::Release),
        Just(Move::Ask),
    ]
}

/// The oracle: what a ledger of attempts allows, told without states.
#[derive(Default)]
struct Ledger {
    open: Option<Route>,
    last: Option<Outcome>,
    reopened: bool,
}

impl Ledger {
    fn idle(&self) -> bool {
        self.open.is_none() && (self.last.is_none() || self.reopened)
    }

    fn close(&mut self, outcome: Outcome) {
        self.open = None;
        self.last = Some(outcome);
        self.reopened = false;
    }

    /// Takes the move if the promises allow it.
    fn take(&mut self, event: Move) -> bool {
        match event {
            Move::Promise(route) if self.idle() => self.open = Some(route),
            Move::Settle(Outcome::InDoubt) if self.open == Some(Route::Realtime) => {
                self.close(Outcome::InDoubt);
            }
            Move::Settle(outcome) if self.open.is_some() && outcome != Outcome::InDoubt => {
                self.close(outcome);
            }
            Move::Share(outcome) if self.idle() && outcome != Outcome::InDoubt => {
                self.close(outcome);
            }
            Move::Amend(outcome @ (Outcome::Answered | Outcome::Truncated))
                if self.open.is_none()
                    && !self.reopened
                    && matches!(self.last, Some(Outcome::Failed(_))) =>
            {
                self.close(outcome);
            }
            Move::NotRendered if self.idle() => {
                self.close(Outcome::Failed(FailureClass::RenderFailed));
            }
            Move::Ask if self.open.is_none() => self.reopened = true,
            Move::Release if self.idle() => self.reopened = true,
            Move::Release if self.open.is_none() && self.may_release() => self.reopened = true,
            _ => return false,
        }
        true
    }

    fn may_release(&self) -> bool {
        match self.last {
            Some(Outcome::Failed(class)) => class.is_retried(),
            Some(Outcome::Truncated | Outcome::InDoubt) => true,
            Some(Outcome::Answered) | None => false,
        }
    }

    fn state(&self) -> State {
        match (self.open, self.last) {
            (Some(Route::Realtime), _) => State::InFlight,
            (Some(Route::Batch), _) => State::InBatch,
            (None, None) => State::Pending,
            (None, Some(_)) if self.reopened => State::Pending,
            (None, Some(Outcome::Answered)) => State::Answered,
            (None, Some(Outcome::Truncated)) => State::Truncated,
            (None, Some(Outcome::Failed(class))) => State::Failed(class),
            (None, Some(Outcome::InDoubt)) => State::InDoubt,
        }
    }
}

proptest! {
    #[test]
    fn the_machine_allows_exactly_what_the_ledger_allows(events in prop::collection::vec(moves(), 1..40)) {
        let mut state = State::Pending;
        let mut ledger = Ledger::default();
        for event in events {
            let allowed = ledger.take(event);
            match next(state, event) {
                Ok(after) => {
                    prop_assert!(allowed, "{state:?} took {event:?}");
                    state = after;
                }
                Err(_) => prop_assert!(!allowed, "{state:?} refused {event:?}"),
            }
            prop_assert_eq!(state, ledger.state());
        }
    }

    #[test]
    fn what_is_due_can_be_promised_and_what_rests_cannot_without_a_person(
        events in prop::collection::vec(moves(), 0..12),
        used in 0u32..8,
        sent in prop::option::of(1u32..5000),
        limit in prop::option::of(1u32..9000),
        hold in any::<bool>(),
    ) {
        let mut state = State::Pending;
        for event in events {
            state = next(state, event).unwrap_or(state);
        }
        let in_doubt = if hold { InDoubtPolicy::Hold } else { InDoubtPolicy::Resend };
        let policy = Policy { max_attempts: 5, max_tokens_limit: limit, in_doubt };
        match due(Facts { state, attempts_used: used, max_tokens: sent }, policy) {
            Due::Yes { max_tokens } => {
                let released = next(state, Move::Release);
                prop_assert_eq!(released, Ok(State::Pending));
                prop_assert!(next(State::Pending, Move::Promise(Route::Realtime)).is_ok());
                if state == State::Truncated {
                    prop_assert!(max_tokens > sent, "a cut request is only sent with more room");
                    prop_assert!(max_tokens <= limit);
                } else {
                    prop_assert_eq!(max_tokens, sent);
                }
            }
            Due::Answered => prop_assert_eq!(state, State::Answered),
            Due::UnderWay => prop_assert!(matches!(state, State::InFlight | State::InBatch)),
            Due::Held => prop_assert!(hold && state == State::InDoubt),
            Due::Final(class) => {
                prop_assert!(!class.is_retried());
                prop_assert!(next(state, Move::Release).is_err());
            }
            Due::Exhausted(class) => prop_assert!(class.is_retried() && used >= 5),
            Due::AtTokenLimit => prop_assert_eq!(state, State::Truncated),
        }
    }
}

#[test]
fn an_answer_is_never_sent_again_unless_a_person_asks() {
    assert!(next(State::Answered, Move::Release).is_err());
    assert!(next(State::Answered, Move::Promise(Route::Realtime)).is_err());
    assert_eq!(next(State::Answered, Move::Ask), Ok(State::Pending));
}

#[test]
fn a_cut_reply_doubles_its_limit_up_to_the_limit_of_limits() {
    let policy = |limit| Policy {
        max_attempts: 5,
        max_tokens_limit: limit,
        in_doubt: InDoubtPolicy::Resend,
    };
    let cut = |sent| Facts { state: State::Truncated, attempts_used: 9, max_tokens: sent };
    assert_eq!(due(cut(Some(20)), policy(Some(80))), Due::Yes { max_tokens: Some(40) });
    assert_eq!(due(cut(Some(60)), policy(Some(80))), Due::Yes { max_tokens: Some(80) });
    assert_eq!(due(cut(Some(80)), policy(Some(80))), Due::AtTokenLimit);
    assert_eq!(due(cut(Some(20)), policy(None)), Due::AtTokenLimit);
    assert_eq!(due(cut(None), policy(Some(80))), Due::AtTokenLimit);
}
