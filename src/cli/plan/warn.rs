//! What a person should look at before a run: rows that say nothing, replies that are cut, money that is given away.

use serde_json::{Value, json};

use super::PromptPlan;
use super::constant::{self, LEAST_CACHED};
use super::expect::text_tokens;
use super::look::Spot;
use crate::cli::prices::{Origin, PriceBook};
use crate::cli::text::{count, thousands};
use crate::domain::{NanoUsd, Price, UnixMs, Usage};

/// Parts of those so far from which something is worth a word.
const SOME: f64 = 0.02;
/// Requests at rest from which parts of them are more than chance.
const ENOUGH: u64 = 10;
/// A price that is older may have changed.
const OLD_DAYS: i32 = 183;

/// Something to look at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Warning {
    /// One word for scripts.
    pub(super) kind: &'static str,
    /// Numbers for scripts.
    pub(super) facts: Value,
    pub(super) words: String,
}

impl Warning {
    fn new(kind: &'static str, facts: Value, words: String) -> Self {
        Self { kind, facts, words }
    }
}

/// Returns what is to be said of a prompt's due requests.
pub(super) fn warnings(plan: &PromptPlan, book: &PriceBook, now: UnixMs) -> Vec<Warning> {
    let mut all = Vec::new();
    all.extend(of_rows(plan));
    all.extend(of_output(plan));
    all.extend(of_caching(plan));
    all.extend(of_price(plan, book, now));
    all
}

/// Says `12 of 2,000 rows that were looked at`, and where the first one is.
fn of_looked(plan: &PromptPlan, number: u64) -> String {
    let looked = plan.sample.notes.looked;
    match plan.sample.is_whole() {
        true => format!("{} of {}", thousands(number), count(looked, "row")),
        false => {
            format!("{} of {} that were looked at", thousands(number), count(looked, "row"))
        }
    }
}

fn of_rows(plan: &PromptPlan) -> Vec<Warning> {
    let notes = &plan.sample.notes;
    let mut all = Vec::new();
    let facts = |number: u64, first: Option<i64>| json!({"rows": number, "looked_at": notes.looked, "first_row": first});
    if let (1.., Some(Spot { position, .. })) = notes.empty {
        let renders = if notes.empty.0 == 1 { "renders" } else { "render" };
        all.push(Warning::new("empty", facts(notes.empty.0, Some(position)), format!(
            "{} {renders} as if the row were empty, the first is row #{position}: they are billed, and the answers mean nothing",
            of_looked(plan, notes.empty.0)
        )));
    }
    if let (1.., Some((spot, error))) = &notes.failed {
        let position = spot.position;
        all.push(Warning::new(
            "unrenderable",
            facts(notes.failed.0, Some(position)),
            format!(
                "{} cannot be rendered and will not be sent, the first is row #{position}: {error}",
                of_looked(plan, notes.failed.0)
            ),
        ));
    }
    let most = plan.sample.prices().max_input_tokens;
    if let (1.., Some((tokens, spot)), Some(most)) = (notes.too_long, notes.longest, most) {
        let has = if notes.too_long == 1 { "has" } else { "have" };
        all.push(Warning::new(
            "too_long",
            facts(notes.too_long, Some(spot.position)),
            format!(
                "{} {has} more input than the {} that {} takes; the longest is row #{} with {}",
                of_looked(plan, notes.too_long),
                count(most, "token"),
                plan.prompt.spec.model,
                spot.position,
                thousands(tokens)
            ),
        ));
    }
    all
}

fn of_output(plan: &PromptPlan) -> Vec<Warning> {
    let mut all = Vec::new();
    let expected = &plan.sample.expected;
    let attempts = expected.attempts;
    let spec = &plan.prompt.spec;
    let part = |number: u64| number as f64 / attempts.requests.max(1) as f64;
    let is_some = |number: u64| number > 0 && attempts.requests >= ENOUGH && part(number) >= SOME;
    let percent = |number: u64| format!("{:.0}%", 100.0 * part(number));
    let facts =
        |number: u64| json!({"requests": number, "of": attempts.requests, "share": part(number)});
    if is_some(attempts.truncated) {
        let limit = spec
            .max_tokens
            .map_or_else(|| "the token limit".to_owned(), |most| format!("max_tokens {most}"));
        let then = match spec.max_tokens_limit {
            Some(limit) if spec.max_tokens.is_some_and(|most| most < limit) => {
                format!("each is bought again with more, up to {limit}")
            }
            Some(_) | None => {
                "a higher max_tokens, or a max_tokens_limit, would have them whole".to_owned()
            }
        };
        all.push(Warning::new(
            "truncated",
            facts(attempts.truncated),
            format!(
                "{limit} cut off the replies to {} of the requests so far: {then}",
                percent(attempts.truncated)
            ),
        ));
    }
    if is_some(attempts.refused) {
        all.push(Warning::new(
            "refused",
            facts(attempts.refused),
            format!("the model declined {} of the requests so far", percent(attempts.refused)),
        ));
    }
    if is_some(attempts.invalid) {
        all.push(Warning::new("invalid", facts(attempts.invalid), format!(
            "the replies to {} of the requests so far did not have the form that was asked for, and were bought again",
            percent(attempts.invalid)
        )));
    }
    if spec.max_tokens.is_none() {
        let words = match expected.prices.max_output_tokens {
            Some(most) => format!(
                "no max_tokens is set: a reply can have up to {}, which is all that the model can write",
                count(most, "token")
            ),
            None => {
                "no max_tokens is set, so there is no ceiling to what a reply can cost".to_owned()
            }
        };
        all.push(Warning::new("no_max_tokens", json!({}), words));
    }
    all
}

fn of_caching(plan: &PromptPlan) -> Option<Warning> {
    let found = constant::find(&plan.prompt.spec, &plan.sample.notes.kept);
    let later = text_tokens(&plan.prompt, &found.later);
    if later < LEAST_CACHED {
        return None;
    }
    let requests = plan.ways.taken_up;
    let price = match plan.goes_in_batches() {
        true => plan.sample.prices().batch,
        false => plan.sample.prices().realtime,
    };
    let saved = price.and_then(|price| saved_by_caching(price, later, requests));
    let would_save = match saved {
        Some(NanoUsd(0)) => return None,
        Some(saved) if requests > 1 => format!("; this would save up to {saved}"),
        Some(_) | None => String::new(),
    };
    let facts = json!({"tokens": later, "beginning_tokens": text_tokens(&plan.prompt, &found.beginning),
                       "saves_usd": saved.map(NanoUsd::usd)});
    Some(Warning::new(
        "not_cached",
        facts,
        format!(
            "{} are the same in all requests and do not come first, where the provider could cache them: \
         put them before what differs{would_save}",
            count(later, "token")
        ),
    ))
}

/// Returns what is saved if so many tokens of all requests but the first are found in the provider's cache.
fn saved_by_caching(price: Price, tokens: u64, requests: u64) -> Option<NanoUsd> {
    let input = tokens.checked_mul(requests.saturating_sub(1))?;
    let full = price.of_sum(Usage { input, ..Usage::default() }, requests);
    let cached = price.of_sum(Usage { input, cached: input, ..Usage::default() }, requests);
    Some(NanoUsd(full.0.saturating_sub(cached.0).max(0)))
}

fn of_price(plan: &PromptPlan, book: &PriceBook, now: UnixMs) -> Option<Warning> {
    let model = &plan.prompt.spec.model;
    if plan.sample.prices().realtime.is_none() {
        let words = format!(
            "no price is known for {model}: the cost is unknown, and --max-cost cannot hold"
        );
        return Some(Warning::new("no_price", json!({}), words));
    }
    let (listed, origin) = book.listed(model)?;
    let as_of = match origin {
        // Whoever sets a price, or brings a file, answers for it.
        Origin::Own(_) | Origin::File => return None,
        Origin::Remembered(at) => day(at)?,
        Origin::Bundled => listed.as_of?,
    };
    let age = as_of.until((jiff::Unit::Day, day(now)?)).ok()?.get_days();
    (age > OLD_DAYS).then(|| {
        Warning::new("old_price", json!({"as_of": as_of.to_string(), "days": age}), format!(
            "the price of {model} is as of {as_of} and may have changed since: `overnight run --prices FILE` brings newer ones"
        ))
    })
}

fn day(at: UnixMs) -> Option<jiff::civil::Date> {
    let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).date())
}
