//! What a lane has sent, by number: how much of it came after a given call.
//!
//! What a reply says is left was true before the calls that went after its own were counted. To take those off, one
//! must know how many they were and how many tokens they were guessed to take, less those that were never sent.

use std::collections::VecDeque;
use std::time::Duration;

/// How many calls are remembered; of an older one, those that it remembers are taken to have come after it.
const REMEMBERED: usize = 8192;

/// An amount of calls and of the tokens that they were guessed to take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Amount {
    pub(super) requests: f64,
    pub(super) tokens: f64,
    /// Not an amount: how many were under way when the last of them went, it among them.
    pub(super) under_way: u32,
}

impl Amount {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            requests: (self.requests - before.requests).max(0.0),
            tokens: (self.tokens - before.tokens).max(0.0),
            under_way: self.under_way,
        }
    }
}

/// The calls of a lane, numbered from 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    started: u64,
    all: Amount,
    /// All that had been sent when each of the last ones had started, it among them.
    by_number: VecDeque<(Duration, Amount)>,
}

impl Sent {
    /// Counts a call. Returns its number.
    pub(super) fn start(&mut self, now: Duration, (tokens, under_way): (u64, u32)) -> u64 {
        self.started += 1;
        self.all.under_way = under_way;
        self.all.requests += 1.0;
        self.all.tokens += tokens as f64;
        if self.by_number.len() == REMEMBERED {
            self.by_number.pop_front();
        }
        self.by_number.push_back((now, self.all));
        self.started
    }

    /// Takes back a call that was not made.
    pub(super) fn withdraw(&mut self, tokens: u64) {
        self.all.requests -= 1.0;
        self.all.tokens -= tokens as f64;
    }

    /// Returns the number of the last call.
    pub(super) fn last(&self) -> u64 {
        self.started
    }

    /// Returns all that was sent so far.
    pub(super) fn all(&self) -> Amount {
        self.all
    }

    /// Returns all that had been sent when a call had started.
    pub(super) fn up_to(&self, number: u64) -> Amount {
        let first = self.started + 1 - self.by_number.len() as u64;
        let index = number.saturating_sub(first) as usize;
        let of = self.by_number.get(index).or(self.by_number.back());
        of.map(|(_, amount)| *amount).unwrap_or_default()
    }

    /// Returns all that had been sent by a moment.
    pub(super) fn by(&self, moment: Duration) -> Amount {
        let later = self.by_number.partition_point(|(at, _)| *at <= moment);
        match later.checked_sub(1).and_then(|index| self.by_number.get(index)) {
            Some((_, amount)) => *amount,
            None => Amount::default(),
        }
    }
}
