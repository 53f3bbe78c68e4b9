//! Money: whole nano-USD, because one token can cost less than a micro-USD.

use std::fmt;
use std::ops::{Add, AddAssign};

use super::Usage;

/// An amount in billionths of a US dollar.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct NanoUsd(pub i64);

impl NanoUsd {
    /// Returns the amount in dollars, for people and for JSON; never for sums.
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add for NanoUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for NanoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for NanoUsd {
    /// Writes `$12.34`, with up to six decimals where the amount is small.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usd = self.usd();
        let decimals = match usd.abs() {
            x if x == 0.0 || x >= 1.0 => 2,
            x if x >= 0.01 => 4,
            _ => 6,
        };
        write!(f, "${usd:.decimals$}")
    }
}

/// What a model's tokens cost, in nano-USD per million tokens (so 0.15 USD per million is 150,000,000).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Input tokens that the cache had no part in.
    pub input_per_mtok: NanoUsd,
    /// Input tokens that the provider had in its prompt cache.
    pub cached_per_mtok: NanoUsd,
    /// Input tokens that the provider put into its prompt cache.
    pub cache_write_per_mtok: NanoUsd,
    /// Output tokens that are no reasoning.
    pub output_per_mtok: NanoUsd,
    /// Output tokens that the model thought with.
    pub reasoning_per_mtok: NanoUsd,
    /// What all tokens of a request cost once its input is long, where that makes a difference.
    pub long: Option<LongPrice>,
}

/// What the tokens of a request with a long input cost, in nano-USD per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongPrice {
    /// The most input tokens, cached ones included, of a request that is not long.
    pub above_tokens: u64,
    /// Input tokens that the cache had no part in.
    pub input_per_mtok: NanoUsd,
    /// Input tokens that the provider had in its prompt cache.
    pub cached_per_mtok: NanoUsd,
    /// Input tokens that the provider put into its prompt cache.
    pub cache_write_per_mtok: NanoUsd,
    /// Output tokens that are no reasoning.
    pub output_per_mtok: NanoUsd,
    /// Output tokens that the model thought with.
    pub reasoning_per_mtok: NanoUsd,
}

impl Price {
    /// Returns the cost of one request's `usage`, rounded up to a whole nano-USD.
    pub fn of(&self, usage: Usage) -> NanoUsd {
        self.of_sum(usage, 1)
    }

    /// Returns the cost of what so many requests used together, rounded up to a whole nano-USD; whether they were long
    /// is told from the average one.
    pub fn of_sum(&self, usage: Usage, requests: u64) -> NanoUsd {
        let cached = usage.cached.min(usage.input);
        let written = usage.cache_write.min(usage.input - cached);
        let reasoning = usage.reasoning.min(usage.output);
        let tokens =
            [usage.input - cached - written, cached, written, usage.output - reasoning, reasoning];
        let total: i128 = tokens
            .into_iter()
            .zip(self.tier(usage.input.div_ceil(requests.max(1))))
            .map(|(tokens, price)| i128::from(tokens) * i128::from(price.0))
            .sum();
        NanoUsd(i64::try_from((total + 999_999) / 1_000_000).unwrap_or(i64::MAX))
    }

    /// Returns the most that a request can cost with at most so many tokens in and out, whichever kinds they are of.
    pub fn most(&self, input: u64, output: u64) -> NanoUsd {
        let short = self.long.map_or(input, |long| input.min(long.above_tokens));
        let of = |input_tokens| {
            let [input, cached, written, output_price, reasoning] = self.tier(input_tokens);
            let (each_in, each_out) = (input.max(cached).max(written), output_price.max(reasoning));
            let total = i128::from(input_tokens) * i128::from(each_in.0)
                + i128::from(output) * i128::from(each_out.0);
            NanoUsd(i64::try_from((total + 999_999) / 1_000_000).unwrap_or(i64::MAX))
        };
        of(short).max(of(input))
    }

    /// Returns the prices of input, cached input, input put into the cache, output and reasoning for an input of so many
    /// tokens.
    fn tier(&self, input_tokens: u64) -> [NanoUsd; 5] {
        match self.long {
            Some(long) if input_tokens > long.above_tokens => [
                long.input_per_mtok,
                long.cached_per_mtok,
                long.cache_write_per_mtok,
                long.output_per_mtok,
                long.reasoning_per_mtok,
            ],
            Some(_) | None => [
                self.input_per_mtok,
                self.cached_per_mtok,
                self.cache_write_per_mtok,
                self.output_per_mtok,
                self.reasoning_per_mtok,
            ],
        }
    }
}

/// How a price came to be on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceOrigin {
    /// A person set it for this project.
    Own,
    /// It stood in a price file that a run was given.
    File,
}

impl PriceOrigin {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Own, Self::File];

    /// Returns its word on record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::File => "file",
        }
    }

    /// Returns the origin that a word on record names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_price_counts_every_kind_of_token_once_and_rounds_up() {
        let price = Price {
            input_per_mtok: NanoUsd(150_000_000),
            cached_per_mtok: NanoUsd(75_000_000),
            cache_write_per_mtok: NanoUsd(187_000_000),
            output_per_mtok: NanoUsd(600_000_000),
            reasoning_per_mtok: NanoUsd(700_000_000),
            long: None,
        };
        let usage = Usage { input: 100, cached: 40, cache_write: 25, output: 10, reasoning: 4 };
        assert_eq!(price.of(usage), NanoUsd(35 * 150 + 40 * 75 + 25 * 187 + 6 * 600 + 4 * 700));
        assert_eq!(price.most(100, 10), NanoUsd(100 * 187 + 10 * 700));
        let one = Price { input_per_mtok: NanoUsd(1), ..price };
        assert_eq!(one.of(Usage { input: 1, ..Usage::default() }), NanoUsd(1));
    }

    #[test]
    fn a_long_input_changes_the_price_of_every_token_of_its_request() {
        let long = LongPrice {
            above_tokens: 200_000,
            input_per_mtok: NanoUsd(4_000_000),
            cached_per_mtok: NanoUsd(3_000_000),
            cache_write_per_mtok: NanoUsd(5_000_000),
            output_per_mtok: NanoUsd(9_000_000),
            reasoning_per_mtok: NanoUsd(10_000_000),
        };
        let price = Price {
            input_per_mtok: NanoUsd(2_000_000),
            cached_per_mtok: NanoUsd(1_000_000),
            cache_write_per_mtok: NanoUsd(2_500_000),
            output_per_mtok: NanoUsd(6_000_000),
            reasoning_per_mtok: NanoUsd(7_000_000),
            long: Some(long),
        };
        let usage =
            |input| Usage { input, cached: 1_000, cache_write: 2_000, output: 30, reasoning: 10 };
        let rest = |input: i64| input - 3_000;
        let short = |input: i64| rest(input) * 2 + 1_000 + 2_000 * 5 / 2 + 20 * 6 + 10 * 7;
        let long = |input: i64| rest(input) * 4 + 1_000 * 3 + 2_000 * 5 + 20 * 9 + 10 * 10;
        assert_eq!(price.of(usage(200_000)).0, short(200_000));
        assert_eq!(price.of(usage(200_001)).0, long(200_001));
        assert_eq!(price.of_sum(usage(400_000), 2).0, short(400_000));
        assert_eq!(price.of_sum(usage(400_001), 2).0, long(400_001));
    }

    #[test]
    fn parts_are_never_more_than_their_whole() {
        let price = Price {
            input_per_mtok: NanoUsd(1_000_000),
            cached_per_mtok: NanoUsd(0),
            cache_write_per_mtok: NanoUsd(4_000_000),
            output_per_mtok: NanoUsd(2_000_000),
            reasoning_per_mtok: NanoUsd(3_000_000),
            long: None,
        };
        let odd = Usage { input: 5, cached: 9, cache_write: 9, output: 5, reasoning: 9 };
        assert_eq!(price.of(odd), NanoUsd(15));
        let written = Usage { input: 5, cached: 2, cache_write: 9, ..Usage::default() };
        assert_eq!(price.of(written), NanoUsd(12));
        let most =
            Usage { input: u64::MAX, output: u64::MAX, reasoning: u64::MAX, ..Usage::default() };
        assert_eq!(price.of(most), NanoUsd(i64::MAX));
        assert_eq!(price.most(u64::MAX, u64::MAX), NanoUsd(i64::MAX));
    }

    #[test]
    fn money_reads_as_dollars() {
        assert_eq!(NanoUsd(0).to_string(), "$0.00");
        assert_eq!(NanoUsd(12_340_000_000).to_string(), "$12.34");
        assert_eq!(NanoUsd(42_000_000).to_string(), "$0.0420");
        assert_eq!(NanoUsd(1_200).to_string(), "$0.000001");
    }

    proptest! {
        #[test]
        fn no_request_costs_more_than_the_most(
            prices in prop::array::uniform10(0..2_000_000_000_000_i64),
            (above, input, output) in (0..2_000_u64, 0..4_000_u64, 0..4_000_u64),
            is_long in any::<bool>(),
            parts in prop::array::uniform5(0..=100_u64),
        ) {
            let [a, b, c, d, e, long @ ..] = prices.map(NanoUsd);
            let long = LongPrice {
                above_tokens: above,
                input_per_mtok: long[0],
                cached_per_mtok: long[1],
                cache_write_per_mtok: long[2],
                output_per_mtok: long[3],
                reasoning_per_mtok: long[4],
            };
            let price = Price {
                input_per_mtok: a,
                cached_per_mtok: b,
                cache_write_per_mtok: c,
                output_per_mtok: d,
                reasoning_per_mtok: e,
                long: is_long.then_some(long),
            };
            let of = |whole: u64, percent: u64| whole * percent / 100;
            let (input_part, output_part) = (of(input, parts[0]), of(output, parts[1]));
            let usage = Usage {
                input: input_part,
                cached: of(input_part, parts[2]),
                cache_write: of(input_part, parts[4]),
                output: output_part,
                reasoning: of(output_part, parts[3]),
            };
            prop_assert!(price.of(usage) <= price.most(input, output));
        }
    }
}
