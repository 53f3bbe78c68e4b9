//! When a run must not go on: what every other request would meet as well.
//!
//! A wrong key is known from one reply; a wrong address only from nobody being there for a while; a
//! prompt that no request of it can satisfy from the first so many of them failing, with none ever
//! answered. A provider that has answered before is waited for much longer: a night may hold an outage.

use std::time::Duration;

use crate::domain::{FailureClass, Outcome};

/// How long nobody may be there at the start before the address is taken to be wrong.
const NOBODY_THERE: Duration = Duration::from_secs(5);
/// How long nobody may be there once somebody was.
const NOBODY_ANYMORE: Duration = Duration::from_hours(4);
/// How many requests of a prompt may fail on their first try, with no answer ever, before the prompt is taken to be wrong.
const ALL_FAIL: u64 = 200;

/// Looks at every call that lands.
#[derive(Clone, Debug)]
pub struct Watchdog {
    /// By prompt: whether it was ever answered, and how many first tries have failed.
    prompts: Vec<(bool, u64)>,
    has_reply: bool,
    unreachable_since: Option<Duration>,
}

/// A call that has landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which of the run's prompts it was for.
    pub prompt: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it was its request's first try.
    pub is_first_try: bool,
    /// Whether a reply came, whatever it said.
    pub has_reply: bool,
}

/// Why a run stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Every request would meet this failure.
    Provider(FailureClass),
    /// So many requests of this prompt have failed, and none was ever answered.
    EveryRequestFails(FailureClass, u64),
}

impl Watchdog {
    /// Starts, knowing of each prompt whether it was ever answered.
    pub fn new(answered_before: impl IntoIterator<Item = bool>) -> Self {
        Self {
            prompts: answered_before.into_iter().map(|answered| (answered, 0)).collect(),
            has_reply: false,
            unreachable_since: None,
        }
    }

    /// Looks at a call that has landed at `now` (since the run's start). Returns why to stop, if so.
    pub fn look(&mut self, now: Duration, seen: Seen) -> Option<Halt> {
        if seen.has_reply {
            self.has_reply = true;
            self.unreachable_since = None;
        }
        match seen.outcome {
            Outcome::Failed(class) if class.stops_run() => Some(Halt::Provider(class)),
            Outcome::Failed(class @ FailureClass::Unreachable) => {
                let since = *self.unreachable_since.get_or_insert(now);
                let patience = if self.has_reply { NOBODY_ANYMORE } else { NOBODY_THERE };
                (now.saturating_sub(since) >= patience).then_some(Halt::Provider(class))
            }
            Outcome::Failed(
                class @ (FailureClass::InvalidRequest
                | FailureClass::InvalidAnswer
                | FailureClass::MalformedReply
                | FailureClass::ServerError
                | FailureClass::Timeout
                | FailureClass::Connection),
            ) if seen.is_first_try => self.count(seen.prompt, class),
            Outcome::Answered | Outcome::Truncated => {
                if let Some((answered, _)) = self.prompts.get_mut(seen.prompt) {
                    *answered = true;
                }
                None
            }
            Outcome::Failed(_) | Outcome::InDoubt => None,
        }
    }

    fn count(&mut self, prompt: usize, class: FailureClass) -> Option<Halt> {
        let (answered, failed) = self.prompts.get_mut(prompt)?;
        *failed += 1;
        (!*answered && *failed >= ALL_FAIL).then_some(Halt::EveryRequestFails(class, *failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(outcome: Outcome) -> Seen {
        let has_reply = outcome != Outcome::Failed(FailureClass::Unreachable);
        Seen { prompt: 0, outcome, is_first_try: true, has_reply }
    }

    #[test]
    fn one_wrong_key_is_enough() {
        let mut dog = Watchdog::new([true]);
        let outcome = Outcome::Failed(FailureClass::Unauthorized);
        assert_eq!(
            dog.look(Duration::ZERO, seen(outcome)),
            Some(Halt::Provider(FailureClass::Unauthorized))
        );
    }

    #[test]
    fn nobody_at_the_start_is_a_wrong_address_and_nobody_later_is_an_outage() {
        let gone = seen(Outcome::Failed(FailureClass::Unreachable));
        let mut dog = Watchdog::new([false]);
        assert_eq!(dog.look(Duration::ZERO, gone), None);
        assert_eq!(
            dog.look(Duration::from_secs(5), gone),
            Some(Halt::Provider(FailureClass::Unreachable))
        );
        let mut dog = Watchdog::new([false]);
        dog.look(Duration::ZERO, seen(Outcome::Answered));
        assert_eq!(dog.look(Duration::from_secs(9), gone), None);
        assert_eq!(dog.look(Duration::from_hours(3), gone), None);
        // It was back in between, so the outage counts anew.
        dog.look(Duration::from_hours(4), seen(Outcome::Failed(FailureClass::ServerError)));
        assert_eq!(dog.look(Duration::from_hours(5), gone), None);
        assert!(dog.look(Duration::from_hours(9), gone).is_some());
    }

    #[test]
    fn a_prompt_that_nothing_satisfies_stops_and_one_answer_ever_keeps_it_going() {
        let wrong = seen(Outcome::Failed(FailureClass::InvalidAnswer));
        let mut dog = Watchdog::new([false]);
        for _ in 1..ALL_FAIL {
            assert_eq!(dog.look(Duration::ZERO, wrong), None);
            assert_eq!(dog.look(Duration::ZERO, Seen { is_first_try: false, ..wrong }), None);
        }
        assert_eq!(
            dog.look(Duration::ZERO, wrong),
            Some(Halt::EveryRequestFails(FailureClass::InvalidAnswer, ALL_FAIL))
        );
        let mut dog = Watchdog::new([true]);
        for _ in 0..2 * ALL_FAIL {
            assert_eq!(dog.look(Duration::ZERO, wrong), None);
        }
    }
}
