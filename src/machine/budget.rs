//! What a run may still spend, and what an attempt may cost before anybody knows.
//!
//! A ceiling holds over a project's whole life, so three kinds of money count against it: what was spent; what is set
//! aside for attempts that are under way; and what was set aside for attempts that nobody will ever know the bill of,
//! a connection that broke after the request was sent, say. Before anything is sent, the most that it may cost is set
//! aside, and the provider can only charge less than that. Where one charges more all the same, the next sums set aside
//! are larger by as much.
//!
//! ```text
//!   spent │ may have been billed │ under way ┊ free … ▲ ceiling
//! ```
//!
//! Pure: it reads no record and no clock.

use crate::domain::{FailureClass, NanoUsd, Outcome, Price, Usage};

/// A ceiling, and all that counts against it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    ceiling: Option<NanoUsd>,
    counted: NanoUsd,
    /// What of it is set aside and may come back.
    open: NanoUsd,
    /// By how much a provider has charged more than the most that was thought possible.
    overrun: f64,
}

impl Budget {
    /// Starts with what counts by now, `open` of it set aside for what is under way.
    pub fn new(ceiling: Option<NanoUsd>, counted: NanoUsd, open: NanoUsd) -> Self {
        Self { ceiling, counted, open, overrun: 1.0 }
    }

    /// Returns the ceiling.
    pub fn ceiling(&self) -> Option<NanoUsd> {
        self.ceiling
    }

    /// Returns all that counts against the ceiling.
    pub fn counted(&self) -> NanoUsd {
        self.counted
    }

    /// Returns what is set aside for what is under way.
    pub fn open(&self) -> NanoUsd {
        self.open
    }

    /// Returns what to set aside for an attempt that should cost no more than `most`, as the provider has charged so far.
    pub fn with_overrun(&self, most: NanoUsd) -> NanoUsd {
        if self.overrun <= 1.0 {
            return most;
        }
        NanoUsd((most.0 as f64 * self.overrun).ceil() as i64)
    }

    /// Says whether so much more may be set aside. What has no known price fits under no ceiling.
    pub fn takes(&self, most: Option<NanoUsd>) -> bool {
        match (self.ceiling, most) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ceiling), Some(most)) => self.counted + most <= ceiling,
        }
    }

    /// Sets something aside.
    pub fn reserve(&mut self, most: NanoUsd) {
        self.counted += most;
        self.open += most;
    }

    /// Gives back what was set aside for something that was not sent after all.
    pub fn release(&mut self, most: NanoUsd) {
        self.settle(most, Some(NanoUsd(0)));
    }

    /// Puts the cost in the place of what was set aside; where it will never be known, that stays.
    pub fn settle(&mut self, most: NanoUsd, cost: Option<NanoUsd>) {
        self.recount(most, cost.unwrap_or(most));
    }

    /// Learns from what an attempt has cost that should have cost no more than `most`.
    pub fn learn(&mut self, most: NanoUsd, cost: NanoUsd) {
        if most.0 > 0 && cost > most {
            self.overrun = self.overrun.max(cost.0 as f64 / most.0 as f64);
        }
    }

    /// Puts what an attempt counts for now in the place of what it counted for before.
    pub fn recount(&mut self, before: NanoUsd, after: NanoUsd) {
        self.counted = NanoUsd(self.counted.0.saturating_sub(before.0)) + after;
        self.open = NanoUsd(self.open.0.saturating_sub(before.0).max(0));
    }
}

/// Returns the most that an attempt can cost, with at most so many tokens in and out.
pub fn most(price: Price, input: u64, output: u64) -> NanoUsd {
    price.most(input, output)
}

/// Returns what an attempt has cost; `None` where it may have been billed and nobody knows how much.
///
/// An error status is the provider's word that there is nothing to bill. A proxy's timeout is not, nor is a connection that
/// broke, nor a reply that cannot be read.
pub fn bill(
    price: Option<Price>,
    usage: Option<Usage>,
    (outcome, status): (Outcome, Option<u16>),
) -> Option<NanoUsd> {
    if let Some(usage) = usage {
        return price.map(|price| price.of(usage));
    }
    let is_refused = status.is_some_and(|status| status >= 400);
    let is_free = match outcome {
        // A server that does not count cannot be taken to be free.
        Outcome::Answered | Outcome::Truncated | Outcome::InDoubt => false,
        Outcome::Failed(class) => match class {
            FailureClass::Timeout
            | FailureClass::Connection
            | FailureClass::MalformedReply
            | FailureClass::MissingFromBatch => false,
            FailureClass::InvalidAnswer | FailureClass::Refused | FailureClass::ContentFiltered => {
                is_refused
            }
            // In a batch's line it has no status.
            FailureClass::ServerError => is_refused || status.is_none(),
            FailureClass::RateLimited
            | FailureClass::Overloaded
            | FailureClass::Unreachable
            | FailureClass::QuotaExhausted
            | FailureClass::Unauthorized
            | FailureClass::Forbidden
            | FailureClass::ModelNotFound
            | FailureClass::EndpointNotFound
            | FailureClass::InvalidRequest
            | FailureClass::ContextTooLong
            | FailureClass::RequestTooLarge
            | FailureClass::SchemaUnsupported
            | FailureClass::RenderFailed
            | FailureClass::BatchExpired
            | FailureClass::BatchCancelled
            | FailureClass::BatchFailed => true,
        },
    };
    is_free.then_some(NanoUsd(0))
}

/// What is known of a batch that ended and left requests without a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// Whether it was ever made at the provider.
    pub was_created: bool,
    /// Whether the provider names a file of good results.
    pub has_output: bool,
    /// Whether it failed as a whole, before any of it was worked on.
    pub failed: bool,
    /// Requests that the provider counts as done and as failed.
    pub counts: Option<(u64, u64)>,
    /// Lines that tell of work done, and lines that tell of none.
    pub lines: (u64, u64),
}

/// Returns what a request without a line has cost: nothing, where the provider's own counts leave none that was done and is
/// not there; else nobody knows.
pub fn bill_of_silence(silence: Silence) -> Option<NanoUsd> {
    let (done, failed) = silence.lines;
    let accounts_for_all =
        silence.counts.is_some_and(|(completed, refused)| completed == done && refused <= failed);
    let is_free =
        !silence.was_created || (silence.failed && !silence.has_output) || accounts_for_all;
    is_free.then_some(NanoUsd(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CENT: NanoUsd = NanoUsd(10_000_000);

    #[test]
    fn what_is_set_aside_counts_until_it_is_known_and_stays_where_it_never_is() {
        let mut budget = Budget::new(Some(NanoUsd(3 * CENT.0)), CENT, NanoUsd(0));
        assert!(budget.takes(Some(NanoUsd(2 * CENT.0))));
        budget.reserve(CENT);
        budget.reserve(CENT);
        assert!(!budget.takes(Some(NanoUsd(1))));
        budget.settle(CENT, Some(NanoUsd(1)));
        assert!(budget.takes(Some(NanoUsd(CENT.0 - 1))));
        budget.settle(CENT, None);
        assert_eq!((budget.counted(), budget.open()), (NanoUsd(2 * CENT.0 + 1), NanoUsd(0)));
        budget.reserve(CENT);
        budget.release(CENT);
        assert_eq!(budget.counted(), NanoUsd(2 * CENT.0 + 1));
    }

    #[test]
    fn without_a_ceiling_all_fits_and_under_one_nothing_without_a_price() {
        assert!(Budget::default().takes(None));
        assert!(!Budget::new(Some(CENT), NanoUsd(0), NanoUsd(0)).takes(None));
        assert!(Budget::new(Some(NanoUsd(0)), NanoUsd(0), NanoUsd(0)).takes(Some(NanoUsd(0))));
    }

    #[test]
    fn a_provider_that_charges_more_than_possible_makes_the_next_sums_larger() {
        let mut budget = Budget::new(Some(NanoUsd(100)), NanoUsd(0), NanoUsd(0));
        budget.learn(NanoUsd(10), NanoUsd(9));
        assert_eq!(budget.with_overrun(NanoUsd(10)), NanoUsd(10));
        budget.learn(NanoUsd(10), NanoUsd(25));
        assert_eq!(budget.with_overrun(NanoUsd(10)), NanoUsd(25));
        // It was set aside before that was known.
        budget.learn(NanoUsd(10), NanoUsd(25));
        assert_eq!(budget.with_overrun(NanoUsd(10)), NanoUsd(25));
        budget.learn(NanoUsd(5), NanoUsd(25));
        assert_eq!(budget.with_overrun(NanoUsd(10)), NanoUsd(50));
    }

    #[test]
    fn only_the_providers_own_word_makes_an_attempt_free() {
        let failed = |class, status| bill(None, None, (Outcome::Failed(class), status));
        let free = Some(NanoUsd(0));
        assert_eq!(failed(FailureClass::RateLimited, Some(429)), free);
        assert_eq!(failed(FailureClass::ServerError, Some(500)), free);
        assert_eq!(failed(FailureClass::ServerError, Some(200)), None);
        assert_eq!(failed(FailureClass::Timeout, Some(504)), None);
        assert_eq!(failed(FailureClass::Timeout, None), None);
        assert_eq!(failed(FailureClass::Connection, None), None);
        assert_eq!(failed(FailureClass::Unreachable, None), free);
        assert_eq!(failed(FailureClass::MalformedReply, Some(200)), None);
        assert_eq!(failed(FailureClass::Refused, Some(200)), None);
        assert_eq!(failed(FailureClass::ContentFiltered, Some(400)), free);
        assert_eq!(bill(None, None, (Outcome::Answered, Some(200))), None);
        assert_eq!(bill(None, None, (Outcome::InDoubt, None)), None);
    }

    #[test]
    fn a_request_without_a_line_is_free_only_where_the_counts_leave_nothing_over() {
        let ended = Silence { was_created: true, has_output: true, ..Silence::default() };
        let of = |counts, lines| bill_of_silence(Silence { counts, lines, ..ended });
        let free = Some(NanoUsd(0));
        assert_eq!(of(Some((7, 0)), (7, 3)), free);
        assert_eq!(of(Some((8, 0)), (7, 3)), None, "one was done and is not there");
        assert_eq!(of(Some((0, 9)), (0, 0)), None, "the counts are not those of the lines");
        assert_eq!(of(None, (7, 0)), None);
        assert_eq!(bill_of_silence(Silence::default()), free, "it was never made");
        let failed = Silence { failed: true, has_output: false, ..ended };
        assert_eq!(bill_of_silence(failed), free);
        assert_eq!(bill_of_silence(Silence { has_output: true, ..failed }), None);
    }

    proptest! {
        /// A provider that never charges more than was set aside: what it has charged never passes the ceiling, whatever
        /// gets lost on the way.
        #[test]
        fn no_order_of_events_passes_the_ceiling(
            ceiling in 0i64..2_000,
            deeds in prop::collection::vec((0i64..300, 0.0f64..=1.0, 0u8..4), 0..200),
        ) {
            let mut budget = Budget::new(Some(NanoUsd(ceiling)), NanoUsd(0), NanoUsd(0));
            let (mut charged, mut under_way) = (0i64, Vec::new());
            for (most, part, what) in deeds {
                match what {
                    0 | 1 => if budget.takes(Some(NanoUsd(most))) {
                        budget.reserve(NanoUsd(most));
                        charged += (most as f64 * part) as i64;
                        under_way.push((most, (most as f64 * part) as i64));
                    },
                    2 => if let Some((most, cost)) = under_way.pop() {
                        budget.settle(NanoUsd(most), Some(NanoUsd(cost)));
                    },
                    // The reply is lost.
                    _ => if let Some((most, _)) = under_way.pop() {
                        budget.settle(NanoUsd(most), None);
                    },
                }
                prop_assert!(charged <= ceiling, "{charged} of {ceiling}");
                prop_assert!(charged <= budget.counted().0);
                let open: i64 = under_way.iter().map(|(most, _)| most).sum();
                prop_assert_eq!(budget.open(), NanoUsd(open));
            }
        }
    }
}
