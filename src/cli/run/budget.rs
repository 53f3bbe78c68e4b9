//! `--max-cost`: what may still be spent, and what is said where that is not enough.
//!
//! A ceiling that cannot hold is refused before anything is sent: without a price, or without a bound to what a reply can
//! be, nobody knows the most that a request may cost.

use crate::cli::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::plan::{Plan, PromptPlan};
use crate::cli::prices::PriceBook;
use crate::cli::text::count;
use crate::domain::{ModelName, NanoUsd, Route};
use crate::machine::budget::{Budget, most};
use crate::store::{Store, Unpriced};

/// Reads an amount of dollars, as `--max-cost` takes it: `5`, `0.25`, `$5`.
pub(crate) fn parse_usd(text: &str) -> Result<NanoUsd, String> {
    const DECIMALS: usize = 9;
    const WHOLE_DIGITS: usize = 9;
    let amount = text.strip_prefix('$').unwrap_or(text);
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_amount = whole.len() + fraction.len() > 0
        && whole.len() <= WHOLE_DIGITS
        && fraction.len() <= DECIMALS
        && are_digits(whole)
        && are_digits(fraction);
    let nano = Some(format!("0{whole}{fraction:0<DECIMALS$}")).filter(|_| is_amount);
    nano.and_then(|nano| nano.parse().ok())
        .map(NanoUsd)
        .ok_or_else(|| "write an amount of US dollars, such as 5 or 0.25".to_owned())
}

/// Makes the budget of a run. Refuses a ceiling that could not hold.
pub(crate) fn make(
    (store, plan): (&Store, &Plan),
    book: &PriceBook,
    ceiling: Option<NanoUsd>,
    context: &Context,
) -> Result<Budget, Failure> {
    if ceiling.is_none() {
        return Ok(Budget::default());
    }
    let program = context.program();
    for prompt in plan.prompts.iter().filter(|prompt| prompt.ways.taken_up > 0) {
        is_bounded(prompt, book, &program)?;
    }
    let counted = store.counted()?;
    let mut sum = counted.known;
    let prompts = store.prompts()?;
    let is_unusual =
        |model: &ModelName| book.missing(&prompts).iter().any(|prompt| prompt.spec.model == *model);
    for unpriced in &counted.unpriced {
        sum +=
            price_of(unpriced, book).filter(|_| !is_unusual(&unpriced.model)).ok_or_else(|| {
                no_price(&unpriced.model, &program)
                    .because("replies of it are on record, and count against the budget".to_owned())
            })?;
    }
    Ok(Budget::new(ceiling, sum, counted.open))
}

fn is_bounded(plan: &PromptPlan, book: &PriceBook, program: &str) -> Result<(), Failure> {
    let spec = &plan.prompt.spec;
    let prices = book.of_prompt(spec);
    let needs_both = plan.ways.in_batches + plan.ways.waiting > 0;
    if prices.realtime.is_none() || (needs_both && prices.batch.is_none()) {
        return Err(no_price(&spec.model, program));
    }
    if spec.max_tokens.is_some() || prices.max_output_tokens.is_some() {
        return Ok(());
    }
    let (name, model) = (&plan.prompt.name, &spec.model);
    Err(Failure::usage(format!(
        "--max-cost cannot hold: prompt {name} has no max_tokens, and nobody knows how long a reply of {model} can be"
    ))
    .hint(format!(
        "`{program} price {model} --price-in USD --price-out USD --max-output-tokens N` says how long"
    ))
    .hint(format!(
        "`max_tokens: N` at the top of the prompt's file bounds it; `{program} prompt add FILE --name {name}` makes the next version"
    )))
}

fn no_price(model: &ModelName, program: &str) -> Failure {
    Failure::usage(format!("--max-cost cannot hold: no price is known for {model}"))
        .hint(format!(
            "`{program} price {model} --price-in USD --price-out USD` sets one, in dollars per million tokens"
        ))
        .hint(format!("`{program} run --prices FILE` reads a price table, such as LiteLLM's"))
}

/// Returns the most that attempts without a price can have cost.
fn price_of(unpriced: &Unpriced, book: &PriceBook) -> Option<NanoUsd> {
    let prices = book.of(&unpriced.model);
    let price = match unpriced.route {
        Route::Realtime => prices.realtime?,
        Route::Batch => prices.batch?,
    };
    let beyond = match unpriced.unlimited {
        0 => 0,
        unlimited => prices.max_output_tokens?.saturating_mul(unlimited),
    };
    let untold = most(price, unpriced.body_bytes, unpriced.max_tokens.saturating_add(beyond));
    Some(price.of(unpriced.usage) + untold)
}

/// Says why a run was stopped by its budget, and how it goes on.
pub(super) fn used_up(
    (ceiling, counted, needed): (NanoUsd, NanoUsd, Option<NanoUsd>),
    store: &Store,
    program: &str,
) -> Failure {
    let mut failure =
        Failure::error(format!("the budget of {ceiling} has no room for what is due"));
    failure.exit = Exit::Stopped;
    if let Ok(spending) = store.spending() {
        let unknown = spending.perhaps;
        let mut words = format!("{} is spent", spending.cost);
        if unknown.attempts > 0 {
            words.push_str(&format!(
                ", and {} without a bill may have cost up to {}",
                count(unknown.attempts, "attempt"),
                unknown.at_most
            ));
        }
        if let Some(needed) = needed {
            words.push_str(&format!("; the next request may cost up to {needed}"));
        }
        failure = failure.because(words);
    }
    let enough = NanoUsd(counted.0.max(ceiling.0).saturating_mul(2));
    failure.hint(format!(
        "`{program} run --max-cost {:.2}` goes on from here; what was spent so far counts in it",
        (enough.usd() * 100.0).ceil() / 100.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(parse_usd("5"), Ok(NanoUsd(5_000_000_000)));
        assert_eq!(parse_usd("$0.25"), Ok(NanoUsd(250_000_000)));
        assert_eq!(parse_usd(".000000001"), Ok(NanoUsd(1)));
        assert_eq!(parse_usd("0"), Ok(NanoUsd(0)));
        for wrong in ["", "$", ".", "-1", "1e3", "5 USD", "1,50", "0.0000000001", "NaN", "1.2.3"] {
            assert!(parse_usd(wrong).is_err(), "{wrong}");
        }
    }
}
