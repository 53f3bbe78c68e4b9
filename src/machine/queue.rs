//! How many tokens a provider lets wait in its queue, for one model at one server.
//!
//! Providers bound the input tokens of all batches of a model that have not ended, say so nowhere, and
//! refuse a whole batch once it is created and checked (`token_limit_exceeded`). So the limit is what a
//! person configured, or is learned from such refusals. It is kept in the unit of our own estimate, which
//! is what batches are measured in before they are sent: where the estimate is low, the limit that works is
//! lower than the one that was told.
//!
//! A refusal that the told number does not explain, or that told none, halves the batch and not what the
//! others hold: those were taken, so the true limit, in our unit, lies between the others and the others
//! with this batch. Half-way between the two, what the limit is too high by has at least halved,
//! however many others there are and whatever becomes of them; so refusals end after about as many as the
//! first batch's tokens have binary digits, at half of the true limit at worst.
//!
//! Batches of somebody else in the same queue are not seen from here. They bring the limit down as a low
//! estimate does; a batch that is taken all the same brings it up again.

/// How far a limit that was told is narrowed for longer than a run: an estimate is not wrong by more than
/// that. What is narrower is the doing of somebody else whose batches wait in the same queue.
const WORST_ESTIMATE: u64 = 4;

/// Refusals of a request that was alone in the queue before it is believed to find no room ever, where the limit that was
/// told does not explain them at once.
const LONE_REFUSALS: u32 = 5;

/// What is known of the tokens that a provider lets wait in its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Set by a person: a ceiling, whatever is learned.
    configured: Option<u64>,
    /// Learned from refusals, in the unit of our estimate.
    learned: Option<u64>,
    /// What the provider last said, in its own unit.
    told: Option<u64>,
}

impl Queue {
    /// Starts from what a person set. Learning may narrow it and never widens it.
    pub fn configured(tokens: u64) -> Self {
        Self { configured: Some(tokens.max(1)), ..Self::default() }
    }

    /// Starts from what is on record.
    pub fn learned(tokens: u64) -> Self {
        Self::default().and_learned(Some(tokens))
    }

    /// Returns the same with what is on record, if something is.
    #[must_use]
    pub fn and_learned(self, tokens: Option<u64>) -> Self {
        Self { learned: tokens.map(|tokens| tokens.max(1)).or(self.learned), ..self }
    }

    /// Learns from a refusal: a batch of `batch_tokens` was not taken while our other batches held
    /// `others_tokens`, both by our estimate. `told` is the limit that the provider named.
    pub fn refused(&mut self, told: Option<u64>, batch_tokens: u64, others_tokens: u64) {
        let refused = others_tokens.saturating_add(batch_tokens);
        let learned = match told {
            Some(told) if refused > told => {
                // Told again, it does not undo what has been narrowed since.
                let known = self.learned.filter(|_| self.told == Some(told));
                known.map_or(told, |known| known.min(told))
            }
            Some(_) | None => {
                let halfway = others_tokens.saturating_add(batch_tokens / 2);
                self.learned.map_or(halfway, |known| known.min(halfway))
            }
        };
        self.learned = Some(learned.max(1));
        self.told = told.or(self.told);
    }

    /// Learns from a batch that was taken while our other batches held `others_tokens`: what has been
    /// seen to fit is not taken for too much.
    pub fn accepted(&mut self, batch_tokens: u64, others_tokens: u64) {
        let held = others_tokens.saturating_add(batch_tokens);
        self.learned = self.learned.map(|known| known.max(held));
    }

    /// Returns the limit in the unit of our estimate, 1 or more; `None` where none is known.
    pub fn limit(&self) -> Option<u64> {
        [self.configured, self.learned].into_iter().flatten().min()
    }

    /// Returns the tokens that may be added now, where our batches hold `enqueued`; `None` where no limit is
    /// known.
    pub fn room(&self, enqueued: u64) -> Option<u64> {
        self.limit().map(|limit| limit.saturating_sub(enqueued))
    }

    /// Says whether waiting cannot help a request of `tokens` any more: that many requests in a row were refused though
    /// each was alone in the queue. A limit that is far above it speaks of somebody else's batches, which end.
    pub fn never_takes(&self, tokens: u64, lone_refusals: u32) -> bool {
        match self.told {
            Some(told) if tokens > told => lone_refusals > 0,
            Some(told) if told / WORST_ESTIMATE >= tokens => false,
            Some(_) | None => lone_refusals >= LONE_REFUSALS,
        }
    }

    /// Returns what is put on record; `None` if nothing was learned.
    ///
    /// It may be more than [`Queue::limit`]: a queue that somebody else has filled tonight is not narrow for
    /// ever.
    pub fn to_remember(&self) -> Option<u64> {
        let least = self.told.map_or(1, |told| told / WORST_ESTIMATE);
        self.learned.map(|learned| learned.max(least))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_known_before_a_refusal() {
        let queue = Queue::default();
        assert_eq!((queue.limit(), queue.room(7), queue.to_remember()), (None, None, None));
    }

    #[test]
    fn a_told_limit_is_taken_at_its_word_if_it_explains_the_refusal() {
        let mut queue = Queue::default();
        queue.refused(Some(2_000_000), 1_500_000, 600_000);
        assert_eq!(queue.limit(), Some(2_000_000));
        assert_eq!(queue.room(600_000), Some(1_400_000));
        assert_eq!(queue.room(9_000_000), Some(0));
        assert_eq!(queue.to_remember(), Some(2_000_000));
    }

    #[test]
    fn a_refusal_that_the_told_limit_does_not_explain_halves_the_batch_and_not_the_others() {
        let table = [
            (Some(2_000_000), 1_000_000, 0, 500_000),
            (Some(2_000_000), 2_000_000, 0, 1_000_000),
            (Some(2_000_000), 200_000, 1_700_000, 1_800_000),
            (None, 1_000_000, 0, 500_000),
            (None, 200_000, 1_700_000, 1_800_000),
            (None, 1, 0, 1),
            (None, 0, 0, 1),
            (None, u64::MAX, u64::MAX, u64::MAX),
            (Some(0), 5, 0, 1),
        ];
        for (told, batch, others, expected) in table {
            let mut queue = Queue::default();
            queue.refused(told, batch, others);
            assert_eq!(queue.limit(), Some(expected), "{told:?} {batch} {others}");
        }
    }

    #[test]
    fn a_request_that_is_refused_alone_is_not_kept_waiting_for_ever() {
        // What was told, the request's tokens, how many were refused alone in a row.
        let table = [
            (Some(37), 52, 0, false),
            (Some(37), 52, 1, true),
            (Some(60), 52, 4, false),
            (Some(60), 52, 5, true),
            (Some(2_000_000), 52, u32::MAX, false),
            (None, 52, 4, false),
            (None, 52, 5, true),
        ];
        for (told, tokens, lone, expected) in table {
            let queue = Queue { told, ..Queue::default() };
            assert_eq!(queue.never_takes(tokens, lone), expected, "{told:?} {tokens} {lone}");
        }
    }

    #[test]
    fn a_limit_set_by_a_person_is_narrowed_and_never_widened() {
        let mut queue = Queue::configured(1_000_000);
        assert_eq!((queue.limit(), queue.to_remember()), (Some(1_000_000), None));
        queue.refused(Some(5_000_000), 6_000_000, 0);
        assert_eq!((queue.limit(), queue.to_remember()), (Some(1_000_000), Some(5_000_000)));
        queue.refused(Some(800_000), 1_000_000, 0);
        assert_eq!(queue.limit(), Some(800_000));
        queue.accepted(3_000_000, 0);
        assert_eq!(queue.limit(), Some(1_000_000));
        assert_eq!(Queue::configured(9).and_learned(Some(4)).limit(), Some(4));
        assert_eq!(Queue::configured(9).and_learned(None).limit(), Some(9));
        assert_eq!(Queue::configured(3).and_learned(Some(4)).limit(), Some(3));
    }

    #[test]
    fn a_number_told_anew_replaces_what_is_on_record_and_told_again_widens_nothing() {
        let mut queue = Queue::learned(1_000);
        queue.refused(Some(5_000), 6_000, 0);
        assert_eq!(queue.limit(), Some(5_000));
        queue.refused(Some(5_000), 3_000, 1_000);
        assert_eq!(queue.limit(), Some(2_500));
        queue.refused(Some(5_000), 6_000, 0);
        assert_eq!(queue.limit(), Some(2_500));
        queue.refused(Some(8_000), 9_000, 0);
        assert_eq!(queue.limit(), Some(8_000));
    }

    #[test]
    fn what_was_taken_fits() {
        let mut queue = Queue::learned(1_000);
        queue.accepted(300, 200);
        assert_eq!(queue.limit(), Some(1_000));
        queue.accepted(900, 600);
        assert_eq!(queue.limit(), Some(1_500));
        let mut unknown = Queue::default();
        unknown.accepted(900, 600);
        assert_eq!(unknown, Queue::default());
    }

    #[test]
    fn a_queue_that_somebody_else_fills_is_not_remembered_as_narrow() {
        let mut queue = Queue::default();
        for _ in 0..40 {
            let batch = queue.room(0).unwrap_or(1_900_000).min(1_900_000);
            queue.refused(Some(2_000_000), batch, 0);
        }
        assert_eq!((queue.limit(), queue.to_remember()), (Some(1), Some(500_000)));
    }

    /// A provider that counts tokens as they are, and knows what waits.
    struct Provider {
        limit: f64,
        /// What our estimate makes of one true token.
        estimate: f64,
        /// By our estimate.
        waiting: Vec<u64>,
    }

    impl Provider {
        fn takes(&mut self, batch: u64) -> bool {
            let all = self.waiting.iter().sum::<u64>() + batch;
            let fits = all as f64 / self.estimate <= self.limit;
            if fits {
                self.waiting.push(batch);
            }
            fits
        }
    }

    proptest! {
        #[test]
        fn refusals_end_whatever_the_true_limit_and_however_wrong_the_estimate(
            limit in 1u64..(1 << 38),
            estimate in 0.3f64..3.0,
            tells in any::<bool>(),
            work in prop::collection::vec((1u64..(1 << 38), any::<bool>()), 1..60),
        ) {
            let mut provider = Provider { limit: limit as f64, estimate, waiting: Vec::new() };
            let mut queue = Queue::default();
            let mut refusals = 0;
            for (wanted, drains) in work {
                // Each piece of work is offered, cut to the room there is, until it is taken or there is no room.
                loop {
                    let enqueued = provider.waiting.iter().sum();
                    let batch = queue.room(enqueued).map_or(wanted, |room| room.min(wanted));
                    if batch == 0 {
                        break;
                    }
                    if provider.takes(batch) {
                        queue.accepted(batch, enqueued);
                        break;
                    }
                    let before = queue.limit();
                    queue.refused(tells.then_some(limit), batch, enqueued);
                    let after = queue.limit().unwrap();
                    prop_assert!(after >= 1 && before.is_none_or(|before| after <= before));
                    if after == 1 {
                        return Ok(());
                    }
                    refusals += 1;
                    prop_assert!(refusals <= 41, "{refusals} refusals, and the limit at {after}");
                }
                if drains {
                    provider.waiting.remove(0);
                }
            }
            // What is left of the queue is worth having: at least about half of what the provider would take.
            if let Some(learned) = queue.limit() {
                prop_assert!(learned as f64 >= (limit as f64 * estimate / 2.0).min(limit as f64) - 1.0);
            }
        }

        #[test]
        fn a_told_limit_and_an_exact_estimate_take_one_refusal(
            limit in 1u64..(1 << 38),
            work in prop::collection::vec((1u64..(1 << 38), any::<bool>()), 1..60),
        ) {
            let mut provider = Provider { limit: limit as f64, estimate: 1.0, waiting: Vec::new() };
            let mut queue = Queue::default();
            let mut refusals = 0;
            for (wanted, drains) in work {
                let enqueued = provider.waiting.iter().sum();
                let batch = queue.room(enqueued).map_or(wanted, |room| room.min(wanted));
                if batch > 0 && !provider.takes(batch) {
                    refusals += 1;
                    queue.refused(Some(limit), batch, enqueued);
                    prop_assert_eq!(queue.limit(), Some(limit));
                }
                if drains && !provider.waiting.is_empty() {
                    provider.waiting.remove(0);
                }
            }
            prop_assert!(refusals <= 1);
        }

        #[test]
        fn no_refusal_leads_below_one_or_above_what_a_person_set(
            configured in 1u64..5_000,
            refusals in prop::collection::vec((prop::option::of(0u64..10_000), 0u64..10_000, 0u64..10_000), 1..30),
        ) {
            let mut queue = Queue::configured(configured);
            for (told, batch, others) in refusals {
                queue.refused(told, batch, others);
                let limit = queue.limit().unwrap();
                prop_assert!((1..=configured).contains(&limit));
                let remembered = queue.to_remember().unwrap();
                prop_assert!(remembered >= limit);
                prop_assert!(Queue::learned(remembered).to_remember() == Some(remembered));
                if told.is_none_or(|told| batch + others <= told) {
                    prop_assert!(limit <= (others + batch / 2).max(1));
                }
            }
        }
    }
}
