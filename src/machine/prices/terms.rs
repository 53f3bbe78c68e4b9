//! What somebody said of a model's price, and what follows for what they left out.
//!
//! This is also how a price stands on record, as JSON: whole nano-USD per million tokens, so that 0.15 USD per million tokens
//! is 150000000. A part that is not there costs what the nearest part costs that is; where two are as near, the dearer one,
//! for a ceiling has to hold.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::ListedPrice;
use super::amount::TOO_MUCH;
use crate::domain::{LongPrice, NanoUsd, Price};

/// The price of a model as it was written down, in nano-USD per million tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Input tokens that were not cached.
    pub price_in: NanoUsd,
    /// Output tokens.
    pub price_out: NanoUsd,
    /// Input tokens that were cached; as others where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_cached: Option<NanoUsd>,
    /// Input tokens that were put into the cache; as others where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_cache_write: Option<NanoUsd>,
    /// Output tokens that the model thought with; as others where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_reasoning: Option<NanoUsd>,
    /// How much less a batch costs, 0 to 100; what is usual at the provider where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_discount: Option<u8>,
    /// What is said of a batch apart from its discount.
    #[serde(default, skip_serializing_if = "Parts::is_empty")]
    pub batch: Parts,
    /// The prices of a request with a long input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<Long>,
    /// The same in a batch.
    #[serde(default, skip_serializing_if = "Parts::is_empty")]
    pub batch_long: Parts,
    /// The most input tokens that the model takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_input_tokens: Option<u64>,
    /// The most output tokens that the model gives, reasoning included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// The day for which the price was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Date>,
}

/// Some of the prices of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// Input tokens that were not cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_in: Option<NanoUsd>,
    /// Input tokens that were cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_cached: Option<NanoUsd>,
    /// Input tokens that were put into the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_cache_write: Option<NanoUsd>,
    /// Output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_out: Option<NanoUsd>,
    /// Output tokens that the model thought with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_reasoning: Option<NanoUsd>,
}

/// The prices of a request whose input is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Long {
    /// The most input tokens of a request that is not long.
    pub above_tokens: u64,
    /// What is said of its prices.
    #[serde(default, skip_serializing_if = "Parts::is_empty")]
    pub prices: Parts,
}

impl Parts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn of(five: Five) -> Self {
        Self {
            price_in: Some(five.input),
            price_cached: Some(five.cached),
            price_cache_write: Some(five.written),
            price_out: Some(five.output),
            price_reasoning: Some(five.reasoning),
        }
    }
}

/// The five prices of a model, by one way and for one length.
#[derive(Clone, Copy)]
struct Five {
    input: NanoUsd,
    cached: NanoUsd,
    written: NanoUsd,
    output: NanoUsd,
    reasoning: NanoUsd,
}

impl Terms {
    /// Says whether all amounts are such as a table may hold: what is on record may have been changed by hand.
    pub fn is_sound(&self) -> bool {
        let parts = |parts: Parts| {
            let Parts { price_in, price_cached, price_cache_write, price_out, price_reasoning } =
                parts;
            [price_in, price_cached, price_cache_write, price_out, price_reasoning]
        };
        let long = self.long.map(|long| long.prices).unwrap_or_default();
        let own = Parts {
            price_in: Some(self.price_in),
            price_out: Some(self.price_out),
            price_cached: self.price_cached,
            price_cache_write: self.price_cache_write,
            price_reasoning: self.price_reasoning,
        };
        let amounts = [own, self.batch, long, self.batch_long].into_iter().flat_map(parts);
        amounts.flatten().all(|amount| (0..TOO_MUCH).contains(&amount.0))
            && self.batch_discount.is_none_or(|percent| percent <= 100)
    }

    /// Returns the terms with nothing left open that come to this price.
    pub fn of(listed: &ListedPrice) -> Self {
        Self {
            max_input_tokens: listed.max_input_tokens,
            max_output_tokens: listed.max_output_tokens,
            as_of: listed.as_of,
            ..Self::of_prices(listed.price, listed.batch)
        }
    }

    /// Returns the terms with nothing left open that come to this price by a call and to that one in a batch.
    pub fn of_prices(call: Price, in_batch: Price) -> Self {
        let (price, batch) = (short(&call), short(&in_batch));
        Self {
            price_in: price.input,
            price_out: price.output,
            price_cached: Some(price.cached),
            price_cache_write: Some(price.written),
            price_reasoning: Some(price.reasoning),
            batch_discount: None,
            batch: Parts::of(batch),
            long: call.long.map(|long| Long {
                above_tokens: long.above_tokens,
                prices: Parts::of(five_of_long(&long)),
            }),
            batch_long: in_batch
                .long
                .map(|long| Parts::of(five_of_long(&long)))
                .unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Returns the price that these terms come to at a provider.
    pub fn listed(&self, provider: &str) -> ListedPrice {
        let plain = Five {
            input: self.price_in,
            cached: self.price_cached.unwrap_or(self.price_in),
            written: self.price_cache_write.unwrap_or(self.price_in),
            output: self.price_out,
            reasoning: self.price_reasoning.unwrap_or(self.price_out),
        };
        let long = self.long.map(|long| (long.above_tokens, self.long(plain, long.prices)));
        let batch = self.batch(plain, provider);
        let batch_long = long.map(|(above, long)| (above, self.batch_long(batch, (plain, long))));
        ListedPrice {
            price: price(plain, long),
            batch: price(batch, batch_long),
            max_input_tokens: self.max_input_tokens,
            max_output_tokens: self.max_output_tokens,
            as_of: self.as_of,
        }
    }

    fn long(&self, plain: Five, said: Parts) -> Five {
        let input = said.price_in.unwrap_or(plain.input);
        let output = said.price_out.unwrap_or(plain.output);
        Five {
            input,
            cached: said.price_cached.or(self.price_cached).unwrap_or(input),
            written: said.price_cache_write.unwrap_or_else(|| written(input, plain)),
            output,
            reasoning: said.price_reasoning.or(self.price_reasoning).unwrap_or(output),
        }
    }

    fn batch(&self, plain: Five, provider: &str) -> Five {
        let percent = self.batch_discount.unwrap_or_else(|| usual_batch_discount(provider));
        let less =
            |full: NanoUsd| share(full, NanoUsd(i64::from(100 - percent.min(100))), NanoUsd(100));
        let input = self.batch.price_in.unwrap_or_else(|| less(plain.input));
        let output = self.batch.price_out.unwrap_or_else(|| less(plain.output));
        // Who names a batch's price and none of its cached tokens may not know of any.
        let names_its_price = self.batch.price_in.is_some() && self.batch_discount.is_none();
        let cached = if names_its_price { input } else { less(plain.cached) };
        Five {
            input,
            cached: self.batch.price_cached.unwrap_or(cached),
            written: self.batch.price_cache_write.unwrap_or_else(|| written(input, plain)),
            output,
            reasoning: self
                .batch
                .price_reasoning
                .unwrap_or_else(|| share(plain.reasoning, output, plain.output)),
        }
    }

    /// What is not said is to the long price as a short one in a batch is to the short price.
    fn batch_long(&self, batch: Five, (plain, long): (Five, Five)) -> Five {
        let said = self.batch_long;
        let input = said.price_in.unwrap_or_else(|| share(long.input, batch.input, plain.input));
        Five {
            input,
            cached: said
                .price_cached
                .unwrap_or_else(|| share(long.cached, batch.cached, plain.cached)),
            written: said
                .price_cache_write
                .unwrap_or_else(|| written(input, batch).max(written(input, long))),
            output: said
                .price_out
                .unwrap_or_else(|| share(long.output, batch.output, plain.output)),
            reasoning: said
                .price_reasoning
                .unwrap_or_else(|| share(long.reasoning, batch.reasoning, plain.reasoning)),
        }
    }
}

/// Returns how much less a batch usually costs at a provider, in percent; 0 where that is not known, or is so for some models only.
pub fn usual_batch_discount(provider: &str) -> u8 {
    match provider {
        "openai" | "azure" | "anthropic" | "gemini" | "mistral" | "groq" | "fireworks"
        | "simulated" => 50,
        "deepinfra" => 20,
        // Together and xAI for some models, OpenRouter by who serves the model; DeepSeek and Perplexity have none.
        _ => 0,
    }
}

/// Returns what it costs to put a token into the cache where only `input` is said: as much more as it is of `plain`.
fn written(input: NanoUsd, plain: Five) -> NanoUsd {
    match plain.input {
        NanoUsd(0) => plain.written.max(input),
        whole => share(input, plain.written, whole),
    }
}

/// Returns `full * part / whole`, rounded up and such as a table may hold; all of it where the whole is nothing.
fn share(full: NanoUsd, part: NanoUsd, whole: NanoUsd) -> NanoUsd {
    if whole.0 <= 0 {
        return full;
    }
    let product = i128::from(full.0) * i128::from(part.0);
    NanoUsd(
        i64::try_from((product + i128::from(whole.0) - 1) / i128::from(whole.0))
            .unwrap_or(i64::MAX)
            .min(TOO_MUCH - 1),
    )
}

fn short(price: &Price) -> Five {
    Five {
        input: price.input_per_mtok,
        cached: price.cached_per_mtok,
        written: price.cache_write_per_mtok,
        output: price.output_per_mtok,
        reasoning: price.reasoning_per_mtok,
    }
}

fn five_of_long(long: &LongPrice) -> Five {
    Five {
        input: long.input_per_mtok,
        cached: long.cached_per_mtok,
        written: long.cache_write_per_mtok,
        output: long.output_per_mtok,
        reasoning: long.reasoning_per_mtok,
    }
}

fn price(short: Five, long: Option<(u64, Five)>) -> Price {
    Price {
        input_per_mtok: short.input,
        cached_per_mtok: short.cached,
        cache_write_per_mtok: short.written,
        output_per_mtok: short.output,
        reasoning_per_mtok: short.reasoning,
        long: long.map(|(above_tokens, long)| LongPrice {
            above_tokens,
            input_per_mtok: long.input,
            cached_per_mtok: long.cached,
            cache_write_per_mtok: long.written,
            output_per_mtok: long.output,
            reasoning_per_mtok: long.reasoning,
        }),
    }
}
