//! What the attempts of a request prove, held against what the request caches.
//!
//! A request's state, counts and sums are written in the transaction of each attempt; here they are
//! worked out a second time, from the attempts alone and through [`next`], and every difference is
//! told in words. Pure: it neither reads the record nor mends it.

use super::request::{Move, next};
use crate::domain::{AttemptId, FailureClass, Outcome, Route, State, UnixMs};

/// What a request caches of its attempts.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    /// Its state.
    pub state: State,
    /// What went wrong, for a failed one.
    pub error: Option<&'a str>,
    /// The attempt that its state stands on.
    pub deciding: Option<AttemptId>,
    /// How many attempts it has had.
    pub attempts: i64,
    /// How many of them count against the bound.
    pub attempts_used: i64,
    /// The token limit of its last attempt, or the one that a person asked for.
    pub max_tokens: Option<i64>,
    /// When a person last asked for it anew.
    pub asked_at: Option<UnixMs>,
    /// Input, cached, output and reasoning tokens over its attempts.
    pub tokens: [i64; 4],
    /// What they cost, in nano-USD.
    pub cost: Option<i64>,
}

/// One attempt of a request.
#[derive(Clone, Copy, Debug)]
pub struct Try<'a> {
    /// Its id.
    pub id: AttemptId,
    /// Its number, from 1.
    pub number: i64,
    /// By which way it went.
    pub route: Route,
    /// How it ended; `None` for a promise.
    pub outcome: Option<Outcome>,
    /// What went wrong.
    pub error: Option<&'a str>,
    /// The token limit it was sent with.
    pub max_tokens: Option<i64>,
    /// When it was promised.
    pub promised_at: UnixMs,
    /// Input, cached, output and reasoning tokens.
    pub tokens: [Option<i64>; 4],
    /// What it cost, in nano-USD.
    pub cost: Option<i64>,
}

/// Another request's attempt, on which the state of one that shares its reply stands.
#[derive(Clone, Copy, Debug)]
pub struct Lent<'a> {
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What went wrong.
    pub error: Option<&'a str>,
    /// The token limit it was sent with.
    pub max_tokens: Option<i64>,
}

/// What a difference is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// The attempts themselves contradict each other.
    Attempts,
    /// The state, or what belongs to it.
    State,
    /// How many attempts count against the bound. One that shared a reply has its lender's count too.
    Used,
    /// Counts, tokens or money.
    Sums,
    /// It was sent again after an answer, and nobody is on record to have asked for that.
    Unasked,
}

/// A difference between the attempts and what their request caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub matter: Matter,
    /// The attempt that shows it, where one does.
    pub attempt: Option<AttemptId>,
    /// What it is, in words.
    pub words: String,
}

/// What the attempts come to.
struct Replayed {
    state: State,
    used: i64,
    differences: Vec<Difference>,
}

/// Names the four sums of tokens.
pub const TOKENS: [&str; 4] = ["input", "cached", "output", "reasoning"];

/// Holds a request against its own attempts, in the order of their numbers, and the attempt that it shares, if it does.
pub fn differences(
    cached: &Cached<'_>,
    tries: &[Try<'_>],
    lent: Option<&Lent<'_>>,
) -> Vec<Difference> {
    let Replayed { state, used, mut differences } = replay(cached, tries);
    let mut tell =
        |matter, words: String| differences.push(Difference { matter, attempt: None, words });
    if cached.attempts != tries.len() as i64 {
        let words =
            format!("it says {} attempts, and {} are on record", cached.attempts, tries.len());
        tell(Matter::Sums, words);
    }
    if cached.attempts_used != used {
        let words = format!("it says that {} attempts count, and {used} do", cached.attempts_used);
        tell(Matter::Used, words);
    }
    for (index, name) in TOKENS.into_iter().enumerate() {
        let sum =
            tries.iter().filter_map(|attempt| attempt.tokens[index]).fold(0, i64::saturating_add);
        if cached.tokens[index] != sum {
            tell(
                Matter::Sums,
                format!(
                    "it says {} {name} tokens, and its attempts have {sum}",
                    cached.tokens[index]
                ),
            );
        }
    }
    let costs = || tries.iter().filter_map(|attempt| attempt.cost);
    let cost = costs().next().map(|_| costs().fold(0, i64::saturating_add));
    if cached.cost != cost {
        let said = |cost: Option<i64>| {
            cost.map_or("no cost".to_owned(), |cost| format!("{cost} nano-USD"))
        };
        tell(
            Matter::Sums,
            format!("it says {}, and its attempts have {}", said(cached.cost), said(cost)),
        );
    }
    if let Err(words) = stands(cached, (state, tries), lent) {
        tell(Matter::State, words);
    }
    differences
}

fn replay(cached: &Cached<'_>, tries: &[Try<'_>]) -> Replayed {
    let mut replayed = Replayed { state: State::Pending, used: 0, differences: Vec::new() };
    let mut before: Option<&Try<'_>> = None;
    for (index, attempt) in tries.iter().enumerate() {
        let mut tell = |matter, words: String| {
            replayed.differences.push(Difference { matter, attempt: Some(attempt.id), words });
        };
        if attempt.number != index as i64 + 1 {
            tell(
                Matter::Attempts,
                format!("it has the number {}, and is attempt {}", attempt.number, index + 1),
            );
        }
        let is_asked = before.is_some_and(|before| is_asked_after(cached, before));
        if next(replayed.state, Move::Release).is_err() {
            match replayed.state {
                State::InFlight | State::InBatch => {
                    tell(
                        Matter::Attempts,
                        "it was promised while the one before it was under way".to_owned(),
                    );
                }
                State::Answered if !is_asked => {
                    let words = "it was sent although there was an answer, and nobody is on record to have asked for that";
                    tell(Matter::Unasked, words.to_owned());
                }
                State::Failed(class) if !is_asked => {
                    let words = format!(
                        "it was sent although the one before it had failed for good ({class}), and nobody is on record to have asked for that"
                    );
                    tell(Matter::State, words);
                }
                State::Pending
                | State::InDoubt
                | State::Answered
                | State::Truncated
                | State::Failed(_) => {}
            }
        }
        replayed.state = match attempt.route {
            Route::Realtime => State::InFlight,
            Route::Batch => State::InBatch,
        };
        before = Some(attempt);
        let Some(outcome) = attempt.outcome else { continue };
        match next(replayed.state, Move::Settle(outcome)) {
            Ok(state) => replayed.state = state,
            Err(illegal) => tell(Matter::Attempts, illegal.to_string()),
        }
        let counts = cached.asked_at.is_none_or(|asked| attempt.promised_at > asked);
        replayed.used +=
            i64::from(counts && replayed.state.class().is_some_and(FailureClass::uses_attempt));
    }
    replayed
}

/// Only the last asking is on record, so one after the attempt stands for all of them.
fn is_asked_after(cached: &Cached<'_>, before: &Try<'_>) -> bool {
    cached.asked_at.is_some_and(|asked| asked > before.promised_at)
}

/// Checks that the state is the one that its deciding attempt leads to, or one that may come after it.
fn stands(
    cached: &Cached<'_>,
    (replayed, tries): (State, &[Try<'_>]),
    lent: Option<&Lent<'_>>,
) -> Result<(), String> {
    let own = cached.deciding.and_then(|id| tries.iter().rposition(|attempt| attempt.id == id));
    let last = tries.last();
    let (state, error, max_tokens) = match (cached.deciding, own) {
        (None, _) if last.is_some() => {
            return Err("it says that nothing was tried, and something was".to_owned());
        }
        (None, _) => (State::Pending, None, None),
        (Some(_), Some(own)) if own + 1 != tries.len() => {
            return Err("it stands on an attempt that is not its newest".to_owned());
        }
        (Some(_), Some(own)) => (replayed, tries[own].error, tries[own].max_tokens),
        (Some(deciding), None) => {
            let lent =
                lent.ok_or_else(|| format!("it stands on attempt {deciding}, which is not there"))?;
            let shared =
                lent.outcome.and_then(|outcome| next(State::Pending, Move::Share(outcome)).ok());
            let state = shared.ok_or_else(|| {
                format!("it shares attempt {deciding}, which has brought nothing to share")
            })?;
            (state, lent.error, lent.max_tokens)
        }
    };
    let is_asked =
        cached.asked_at.is_some() && last.is_none_or(|last| is_asked_after(cached, last));
    let is_free = match cached.state {
        State::Pending => is_asked,
        State::Failed(FailureClass::RenderFailed) => is_asked || next(state, Move::Release).is_ok(),
        State::InFlight
        | State::InBatch
        | State::InDoubt
        | State::Answered
        | State::Truncated
        | State::Failed(_) => false,
    };
    if cached.state != state && !is_free {
        return Err(format!(
            "it says {}, and its attempts come to {}",
            said(cached.state),
            said(state)
        ));
    }
    let wanted = if is_free { None } else { state.class().and(error) };
    let is_of_the_row = cached.state == State::Failed(FailureClass::RenderFailed);
    if cached.error != wanted && !is_of_the_row {
        return Err("its error is not the one of the attempt that it stands on".to_owned());
    }
    if cached.max_tokens != max_tokens && !(is_free && is_asked) {
        let limit =
            |tokens: Option<i64>| tokens.map_or("none".to_owned(), |tokens| tokens.to_string());
        return Err(format!(
            "it says that its token limit is {}, and that of the attempt it stands on is {}",
            limit(cached.max_tokens),
            limit(max_tokens)
        ));
    }
    Ok(())
}

fn said(state: State) -> String {
    match state.class() {
        Some(class) => format!("failed ({class})"),
        None => state.as_str().to_owned(),
    }
}
