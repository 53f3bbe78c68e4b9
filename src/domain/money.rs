//! Money: whole nano-USD, because one token can cost less than a micro-USD.

use std::fmt;
use std::ops::{Add, AddAssign};

use super::Usage;

/// An amount in billionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
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
    /// Input tokens that were not cached.
    pub input_per_mtok: NanoUsd,
    /// Input tokens that the provider had in its prompt cache.
    pub cached_per_mtok: NanoUsd,
    /// Output tokens, reasoning included.
    pub output_per_mtok: NanoUsd,
}

impl Price {
    /// Returns the cost of `usage` at realtime price, rounded up to a whole nano-USD.
    pub fn of(&self, usage: Usage) -> NanoUsd {
        let cached = usage.cached.min(usage.input);
        let parts = [
            (usage.input - cached, self.input_per_mtok),
            (cached, self.cached_per_mtok),
            (usage.output, self.output_per_mtok),
        ];
        let total: i128 =
            parts.iter().map(|(tokens, price)| i128::from(*tokens) * i128::from(price.0)).sum();
        NanoUsd(i64::try_from((total + 999_999) / 1_000_000).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_counts_cached_tokens_once_and_rounds_up() {
        let price = Price {
            input_per_mtok: NanoUsd(150_000_000),
            cached_per_mtok: NanoUsd(75_000_000),
            output_per_mtok: NanoUsd(600_000_000),
        };
        let usage = Usage { input: 100, cached: 40, output: 10, reasoning: 4 };
        assert_eq!(price.of(usage), NanoUsd(60 * 150 + 40 * 75 + 10 * 600));
        let one = Price { input_per_mtok: NanoUsd(1), ..price };
        assert_eq!(one.of(Usage { input: 1, ..Usage::default() }), NanoUsd(1));
    }

    #[test]
    fn money_reads_as_dollars() {
        assert_eq!(NanoUsd(0).to_string(), "$0.00");
        assert_eq!(NanoUsd(12_340_000_000).to_string(), "$12.34");
        assert_eq!(NanoUsd(42_000_000).to_string(), "$0.0420");
        assert_eq!(NanoUsd(1_200).to_string(), "$0.000001");
    }
}
