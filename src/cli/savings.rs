//! What was saved: by batches, by sharing replies, by the provider's cache.
//!
//! It is what the same tokens would have cost by calls, unshared and uncached, at the prices of today, less what they did
//! cost; so it is a comparison and no bill. Where a price is not known, nothing is said of it.

use serde::Serialize;

use super::prices::PriceBook;
use super::text::count;
use crate::domain::{NanoUsd, Price, Route, Usage};
use crate::store::{Spending, Store, StoreError, TokensUsed};

/// Less than this many nano-USD would read as nothing.
const LEAST_TOLD: i64 = 1_000;

/// What a project has saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Savings {
    /// By batches, which cost less than calls.
    batch: NanoUsd,
    /// By sharing replies between equal requests.
    reuse: NanoUsd,
    /// By the provider's cache for what prompts have in common.
    caching: NanoUsd,
}

/// The same for a script.
#[derive(Serialize)]
pub(crate) struct Json {
    batch: f64,
    reuse: f64,
    caching: f64,
}

impl Savings {
    /// Works out what was saved.
    pub(crate) fn of(store: &Store, book: &PriceBook) -> Result<Self, StoreError> {
        let mut savings = Self { reuse: store.shared_cost()?, ..Self::default() };
        for used in store.tokens_used()? {
            let prices = book.of(&used.model);
            let (Some(by_calls), Some(in_batches)) = (prices.realtime, prices.batch) else {
                continue;
            };
            savings += of_tokens(&used, (by_calls, in_batches));
        }
        Ok(savings)
    }

    /// Says it in a few words; `None` where nothing was saved.
    pub(crate) fn words(self) -> Option<String> {
        let parts: Vec<String> = [
            (self.batch, "by batches"),
            (self.reuse, "by sharing replies"),
            (self.caching, "by the provider's cache"),
        ]
        .into_iter()
        .filter(|(saved, _)| saved.0 >= LEAST_TOLD)
        .map(|(saved, how)| format!("{saved} {how}"))
        .collect();
        (!parts.is_empty()).then(|| format!("about {}", parts.join(", ")))
    }

    /// Returns it for a script.
    pub(crate) fn json(self) -> Json {
        let Self { batch, reuse, caching } = self;
        Json { batch: batch.usd(), reuse: reuse.usd(), caching: caching.usd() }
    }
}

impl std::ops::AddAssign for Savings {
    fn add_assign(&mut self, other: Self) {
        self.batch += other.batch;
        self.reuse += other.reuse;
        self.caching += other.caching;
    }
}

/// These are sums over many requests, so nothing can be said of which of them were long.
fn of_tokens(used: &TokensUsed, (by_calls, in_batches): (Price, Price)) -> Savings {
    let usual = |price: Price| Price { long: None, ..price };
    let (by_calls, in_batches) = (usual(by_calls), usual(in_batches));
    let price = match used.route {
        Route::Realtime => by_calls,
        Route::Batch => in_batches,
    };
    let less = |more: NanoUsd, less: NanoUsd| NanoUsd((more.0 - less.0).max(0));
    let uncached = Usage { cached: 0, ..used.usage };
    Savings {
        batch: less(by_calls.of(used.usage), price.of(used.usage)),
        reuse: NanoUsd(0),
        caching: less(price.of(uncached), price.of(used.usage)),
    }
}

/// Says what was spent, what is set aside, and what may have been billed.
pub(crate) fn spent(spending: &Spending) -> String {
    let mut words = money(spending.cost, spending.unpriced);
    if spending.reserved.0 > 0 {
        words.push_str(&format!("; up to {} more for what is under way", spending.reserved));
    }
    if spending.perhaps.attempts > 0 {
        words.push_str(&format!(
            "; up to {} may have been billed for {} without a bill",
            spending.perhaps.at_most,
            count(spending.perhaps.attempts, "attempt")
        ));
    }
    words
}

/// Returns a sum to which so many replies of unknown price come.
pub(crate) fn money(known: NanoUsd, unpriced: u64) -> String {
    match unpriced {
        0 => known.to_string(),
        unpriced if known.0 == 0 => {
            format!("unknown: {} of unknown price", count(unpriced, "reply"))
        }
        unpriced => format!("{known}, and {} of unknown price", count(unpriced, "reply")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ModelName;

    fn price(input: i64, cached: i64, output: i64) -> Price {
        let of = |cents: i64| NanoUsd(cents * 10_000_000);
        Price {
            input_per_mtok: of(input),
            cached_per_mtok: of(cached),
            output_per_mtok: of(output),
            reasoning_per_mtok: of(output),
            long: None,
        }
    }

    #[test]
    fn batches_and_caches_are_told_apart() {
        let used = |route| TokensUsed {
            model: ModelName::parse("openai/x").unwrap(),
            route,
            usage: Usage { input: 1_000_000, cached: 400_000, output: 100_000, reasoning: 0 },
        };
        let (calls, lines) = (price(100, 10, 400), price(50, 5, 200));
        let realtime = of_tokens(&used(Route::Realtime), (calls, lines));
        assert_eq!(realtime.batch, NanoUsd(0));
        assert_eq!(realtime.caching, NanoUsd(360_000_000), "0.4 million at 0.90 less");
        let batch = of_tokens(&used(Route::Batch), (calls, lines));
        assert_eq!(batch.batch, NanoUsd(520_000_000), "half of 0.60 + 0.04 + 0.40");
        assert_eq!(batch.caching, NanoUsd(180_000_000));
        assert_eq!(Savings::default().words(), None);
        let all = Savings { reuse: NanoUsd(1_000_000_000), ..batch };
        let told =
            "about $0.5200 by batches, $1.00 by sharing replies, $0.1800 by the provider's cache";
        assert_eq!(all.words().unwrap(), told);
    }
}
