//! About how many batches so many requests make, and how many find no room, before any of them is read.
//!
//! The requests of a prompt are taken to be all of its average size and packed as [`super::packing`] packs
//! lines, batch by batch and not one by one: a forecast of a million rows takes no time. It is a forecast
//! and binds nobody; what fits is decided line by line when it is sent.

use std::collections::HashMap;

use super::packing::{BatchLimits, Load, Size};
use crate::domain::Endpoint;

/// The batches of one model at one server, as they would fill.
#[derive(Clone, Debug)]
pub struct Forecast {
    limits: BatchLimits,
    /// Tokens that the provider's queue still takes; `None` where no limit is known.
    room: Option<u64>,
    /// The batch of each endpoint that would take more.
    open: HashMap<Endpoint, Load>,
}

/// What would become of so many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Requests that find a place in a batch.
    pub in_batches: u64,
    /// Batches that they are in.
    pub batches: u64,
    /// Those of them that hold nothing else so far.
    pub new_batches: u64,
    /// What the largest of them holds of these requests.
    pub largest: Load,
    /// Requests that no batch has room for, or that the provider's queue has none for now.
    pub no_room: u64,
}

impl Forecast {
    /// Starts with no batch. The tokens of `limits` are those that may wait in the provider's queue, in
    /// which `enqueued` wait already.
    pub fn new(limits: BatchLimits, enqueued: u64) -> Self {
        let room = limits.tokens.map(|most| most.saturating_sub(enqueued));
        Self { limits, room, open: HashMap::new() }
    }

    /// Packs `requests` more, all of the size `each`.
    pub fn take(&mut self, endpoint: Endpoint, requests: u64, each: Size) -> Packed {
        let whole = self.fits(Load::default(), each);
        let placed = match (whole, self.room) {
            (0, _) => 0,
            (_, Some(room)) => requests.min(times(each.tokens, room)),
            (_, None) => requests,
        };
        let no_room = requests - placed;
        if placed == 0 {
            return Packed { no_room, ..Packed::default() };
        }
        self.room = self.room.map(|room| room - placed * each.tokens);
        let before = self.open.get(&endpoint).copied().unwrap_or_default();
        let first = self.fits(before, each).min(placed);
        let further = (placed - first).div_ceil(whole);
        let load = match further {
            0 => sum(before, first, each),
            _ => sum(Load::default(), placed - first - (further - 1) * whole, each),
        };
        self.open.insert(endpoint, load);
        let is_begun = u64::from(first > 0 && before == Load::default());
        let largest = first.max(whole.min(placed - first));
        Packed {
            in_batches: placed,
            largest: sum(Load::default(), largest, each),
            batches: u64::from(first > 0) + further,
            new_batches: is_begun + further,
            no_room,
        }
    }

    /// Counts the requests of this size that a batch still has room for.
    fn fits(&self, load: Load, each: Size) -> u64 {
        let requests = self.limits.requests.max(1).saturating_sub(load.requests);
        let bytes = times(each.bytes, self.limits.bytes.saturating_sub(load.bytes));
        let tokens = match self.limits.tokens {
            Some(most) => times(each.tokens, most.saturating_sub(load.tokens)),
            None => u64::MAX,
        };
        requests.min(bytes).min(tokens)
    }
}

/// Counts how many times `each` goes into `room`.
fn times(each: u64, room: u64) -> u64 {
    room.checked_div(each).unwrap_or(u64::MAX)
}

fn sum(load: Load, requests: u64, each: Size) -> Load {
    Load {
        requests: load.requests + requests,
        bytes: load.bytes + requests * each.bytes,
        tokens: load.tokens + requests * each.tokens,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::machine::packing::{Fit, fit};

    const CHAT: Endpoint = Endpoint::ChatCompletions;

    #[test]
    fn requests_fill_batches_up_to_the_first_limit_that_they_meet() {
        let limits = |requests, bytes, tokens| BatchLimits { requests, bytes, tokens };
        let each = Size { bytes: 100, tokens: 10 };
        let table = [
            (limits(50_000, 200_000_000, None), 600, (600, 1, 600, 0)),
            (limits(100, 200_000_000, None), 250, (250, 3, 100, 0)),
            (limits(100, 200_000_000, None), 200, (200, 2, 100, 0)),
            (limits(50_000, 1_000, None), 25, (25, 3, 10, 0)),
            (limits(50_000, 99, None), 25, (0, 0, 0, 25)),
            (limits(50_000, 200_000_000, Some(2_000)), 250, (200, 1, 200, 50)),
            (limits(100, 200_000_000, Some(2_000)), 250, (200, 2, 100, 50)),
            (limits(50_000, 200_000_000, Some(9)), 3, (0, 0, 0, 3)),
            (limits(0, 200_000_000, None), 3, (3, 3, 1, 0)),
            (limits(50_000, 200_000_000, None), 0, (0, 0, 0, 0)),
        ];
        for (limits, requests, (in_batches, batches, largest, no_room)) in table {
            let packed = Forecast::new(limits, 0).take(CHAT, requests, each);
            let largest = sum(Load::default(), largest, each);
            let expected = Packed { in_batches, batches, new_batches: batches, largest, no_room };
            assert_eq!(packed, expected, "{limits:?} {requests}");
        }
    }

    #[test]
    fn what_waits_in_the_queue_already_takes_room() {
        let limits = BatchLimits { requests: 50_000, bytes: 200_000_000, tokens: Some(2_000) };
        let each = Size { bytes: 100, tokens: 10 };
        let mut forecast = Forecast::new(limits, 1_500);
        assert_eq!(forecast.take(CHAT, 60, each).no_room, 10);
        assert_eq!(forecast.take(Endpoint::Responses, 5, each).no_room, 5);
        assert_eq!(Forecast::new(limits, 9_000).take(CHAT, 60, each).in_batches, 0);
    }

    #[test]
    fn prompts_of_one_endpoint_share_a_batch_and_those_of_two_do_not() {
        let limits = BatchLimits { requests: 100, bytes: 200_000_000, tokens: None };
        let each = Size { bytes: 100, tokens: 10 };
        let mut forecast = Forecast::new(limits, 0);
        let packed = |in_batches, batches, new_batches, largest| Packed {
            in_batches,
            batches,
            new_batches,
            largest: sum(Load::default(), largest, each),
            no_room: 0,
        };
        assert_eq!(forecast.take(CHAT, 150, each), packed(150, 2, 2, 100));
        assert_eq!(forecast.take(CHAT, 30, each), packed(30, 1, 0, 30));
        assert_eq!(forecast.take(Endpoint::Responses, 30, each), packed(30, 1, 1, 30));
        assert_eq!(forecast.take(CHAT, 30, each), packed(30, 2, 1, 20));
    }

    proptest! {
        /// The oracle packs line by line, as the desk of a run does.
        #[test]
        fn a_forecast_of_equal_lines_is_what_packing_them_one_by_one_makes(
            prompts in prop::collection::vec((0u64..60, 1u64..40, 1u64..30), 1..5),
            requests in 1u64..12,
            bytes in 0u64..200,
            tokens in prop::option::of(0u64..200),
            enqueued in 0u64..100,
        ) {
            let limits = BatchLimits { requests, bytes, tokens };
            let mut forecast = Forecast::new(limits, enqueued);
            let mut room = tokens.map(|most| most.saturating_sub(enqueued));
            let (mut load, mut is_begun) = (Load::default(), false);
            for (count, line_bytes, line_tokens) in prompts {
                let each = Size { bytes: line_bytes, tokens: line_tokens };
                let mut expected = Packed::default();
                let (mut is_in_this, mut mine) = (false, Load::default());
                for _ in 0..count {
                    let fits = fit(load, each, limits);
                    let has_room = room.is_none_or(|room| room >= each.tokens);
                    if matches!(fits, Fit::Never(_)) || !has_room {
                        expected.no_room += 1;
                        continue;
                    }
                    if fits == Fit::NextBatch {
                        (load, is_begun, is_in_this) = (Load::default(), false, false);
                        mine = Load::default();
                    }
                    expected.new_batches += u64::from(!is_begun);
                    expected.batches += u64::from(!is_in_this);
                    (is_begun, is_in_this) = (true, true);
                    load.add(each);
                    mine.add(each);
                    if mine.requests > expected.largest.requests {
                        expected.largest = mine;
                    }
                    room = room.map(|room| room - each.tokens);
                    expected.in_batches += 1;
                }
                prop_assert_eq!(forecast.take(CHAT, count, each), expected);
            }
        }
    }
}
