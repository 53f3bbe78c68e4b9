//! The community's price table, in LiteLLM's format: one JSON object, keyed by model, in US dollars per single token.
//!
//! It holds some thousands of entries by many hands. Nothing is read but what is asked for, so that nonsense elsewhere in it
//! stops nobody; where an entry that is asked for makes no sense, it is named, and not guessed at. Numbers are read from
//! their digits.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::amount::usd_per_token;
use super::terms::{Long, Parts, Terms};
use super::{Nearness, PriceTable};
use crate::domain::{ModelName, NanoUsd};

/// What is wrong with the community's table.
#[derive(Debug, thiserror::Error)]
pub enum CommunityError {
    /// It is no JSON object; the cause says where.
    #[error("the price table is not a JSON object of models")]
    Json(#[from] serde_json::Error),
    /// An entry that is needed cannot be used.
    #[error("the entry {key:?} of the price table, for {model}, cannot be used")]
    Entry {
        /// Its key in the table.
        key: String,
        /// The model that it is for.
        model: ModelName,
        /// Why.
        #[source]
        problem: CommunityProblem,
    },
}

/// Why an entry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommunityProblem {
    /// It stands in the table more than once.
    #[error("it is there more than once")]
    Twice,
    /// It is no object.
    #[error("it is not an object")]
    NoObject,
    /// A price is none.
    #[error("{key} is {text}, which is not a price in USD per token from 0 to below 1")]
    Price {
        /// The member.
        key: String,
        /// What stands there.
        text: String,
    },
    /// It has prices above more than one length.
    #[error(
        "it has prices for inputs above {0} and above {1} thousand tokens, and only one such step is known here"
    )]
    Steps(u64, u64),
    /// Its price goes by steps of a kind of its own.
    #[error("its price goes by {0}, which is not read here")]
    Other(&'static str),
}

/// Reads what is needed for these models.
pub(super) fn read(text: &str, wanted: &[ModelName]) -> Result<PriceTable, CommunityError> {
    let sought: HashSet<String> = wanted.iter().flat_map(all_keys).collect();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let entries = deserializer.deserialize_map(Entries { sought: &sought })?;
    deserializer.end()?;
    let mut table = PriceTable::default();
    for model in wanted {
        for nearness in [Nearness::Same, Nearness::Undated] {
            let Some(name) = nearness.name(model) else { continue };
            if let Some(terms) = first(&name, &entries)? {
                table.insert(name.clone(), terms.listed(&name.provider));
                break;
            }
        }
    }
    Ok(table)
}

/// Returns the first usable entry for a model.
fn first(
    model: &ModelName,
    entries: &HashMap<String, Vec<Box<RawValue>>>,
) -> Result<Option<Terms>, CommunityError> {
    for Key { key, makers } in keys(model) {
        let Some(found) = entries.get(&key) else { continue };
        let read = match found.as_slice() {
            [only] => terms(only, makers),
            _ => Err(CommunityProblem::Twice),
        };
        let model = model.clone();
        let read = read.map_err(|problem| CommunityError::Entry { key, model, problem })?;
        if read.is_some() {
            return Ok(read);
        }
    }
    Ok(None)
}

/// A key under which a model may stand.
struct Key {
    key: String,
    /// Those whose entry it may be, where others could have one of that name.
    makers: &'static [&'static str],
}

/// Returns the keys of a model in the table, the likeliest first: bare names are those of a few providers, all others stand
/// below a name of the provider, which is not always ours.
fn keys(model: &ModelName) -> Vec<Key> {
    let name = &model.model;
    let below = |folder: &str| Key { key: format!("{folder}/{name}"), makers: &[] };
    let bare = |makers| Key { key: name.clone(), makers };
    match model.provider.as_str() {
        "openai" => vec![bare(&["openai", "text-completion-openai"]), below("openai")],
        "anthropic" => vec![bare(&["anthropic"]), below("anthropic")],
        "deepseek" => vec![below("deepseek"), bare(&["deepseek"])],
        "together" => vec![below("together_ai"), below("together")],
        "fireworks" => vec![below("fireworks_ai"), below("fireworks")],
        other => vec![below(other)],
    }
}

fn all_keys(model: &ModelName) -> Vec<String> {
    let names = [Nearness::Same, Nearness::Undated].into_iter().filter_map(|near| near.name(model));
    names.flat_map(|name| keys(&name)).map(|key| key.key).collect()
}

/// Reads the entries that are sought, and passes the others over.
struct Entries<'a> {
    sought: &'a HashSet<String>,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = HashMap<String, Vec<Box<RawValue>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, with a member for each model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries: Self::Value = HashMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match self.sought.contains(&key) {
                true => entries.entry(key).or_default().push(map.next_value()?),
                false => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(entries)
    }
}

/// The members that say what a kind of token costs.
const INPUT: &str = "input_cost_per_token";
const CACHED: &str = "cache_read_input_token_cost";
const WRITTEN: &str = "cache_creation_input_token_cost";
const OUTPUT: &str = "output_cost_per_token";
const REASONING: &str = "output_cost_per_reasoning_token";
/// Prices of another kind than by the token alone.
const OTHERS: [&str; 3] = ["tiered_pricing", "input_cost_per_request", "output_cost_per_request"];

/// Reads an entry; `None` where it is none of a language model of one of `makers`, or names no price.
fn terms(entry: &RawValue, makers: &[&str]) -> Result<Option<Terms>, CommunityProblem> {
    let members: HashMap<String, &RawValue> =
        serde_json::from_str(entry.get()).map_err(|_| CommunityProblem::NoObject)?;
    let entry = Entry { members };
    let mode = entry.word("mode");
    let is_text =
        mode.is_none_or(|mode| matches!(mode.as_str(), "chat" | "responses" | "completion"));
    let maker = entry.word("litellm_provider");
    let is_theirs = makers.is_empty() || maker.is_none_or(|maker| makers.contains(&maker.as_str()));
    if !is_text || !is_theirs {
        return Ok(None);
    }
    let (Some(price_in), Some(price_out)) = (entry.price(INPUT)?, entry.price(OUTPUT)?) else {
        return Ok(None);
    };
    if let Some(other) = OTHERS.into_iter().find(|key| entry.says(key)) {
        return Err(CommunityProblem::Other(other));
    }
    let step = entry.step()?;
    let above = |step: u64| format!("_above_{step}k_tokens");
    Ok(Some(Terms {
        price_in,
        price_out,
        price_cached: entry.price(CACHED)?,
        price_cache_write: entry.written(("", Some(price_in)))?,
        price_reasoning: entry.price(REASONING)?,
        batch_discount: None,
        batch: entry.parts("_batches")?,
        long: match step {
            Some(step) => Some(Long {
                above_tokens: step.saturating_mul(1000),
                prices: entry.parts(&above(step))?,
            }),
            None => None,
        },
        batch_long: match step {
            Some(step) => entry.parts(&format!("{}_batches", above(step)))?,
            None => Parts::default(),
        },
        max_input_tokens: entry.tokens("max_input_tokens"),
        max_output_tokens: entry.tokens("max_output_tokens").or(entry.tokens("max_tokens")),
        as_of: None,
    }))
}

/// The members of an entry, as they are written.
struct Entry<'a> {
    members: HashMap<String, &'a RawValue>,
}

impl Entry<'_> {
    /// Returns what a member is, where it is not null.
    fn text(&self, key: &str) -> Option<&str> {
        self.members.get(key).map(|value| value.get().trim()).filter(|text| *text != "null")
    }

    fn word(&self, key: &str) -> Option<String> {
        self.text(key).and_then(|text| serde_json::from_str(text).ok())
    }

    /// Returns a number, which some write as a string.
    fn number(&self, key: &str) -> Option<String> {
        self.text(key).map(|text| match text.starts_with('"') {
            true => self.word(key).unwrap_or_else(|| text.to_owned()),
            false => text.to_owned(),
        })
    }

    /// Says whether a member says anything: it is there, and is neither null, zero nor empty.
    fn says(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| {
            let is_zero = usd_per_token(text) == Some(NanoUsd(0));
            !is_zero && !matches!(text, "[]" | "{}" | "false" | "\"\"")
        })
    }

    fn price(&self, key: &str) -> Result<Option<NanoUsd>, CommunityProblem> {
        let Some(text) = self.number(key) else { return Ok(None) };
        let wrong = || CommunityProblem::Price { key: key.to_owned(), text: cut(&text) };
        usd_per_token(&text).map(Some).ok_or_else(wrong)
    }

    fn parts(&self, suffix: &str) -> Result<Parts, CommunityProblem> {
        let of = |key: &str| self.price(&format!("{key}{suffix}"));
        let price_in = of(INPUT)?;
        Ok(Parts {
            price_in,
            price_cached: of(CACHED)?,
            price_cache_write: self.written((suffix, price_in))?,
            price_out: of(OUTPUT)?,
            price_reasoning: of(REASONING)?,
        })
    }

    /// Returns what a token costs that is put into the cache, where that is more than `price_in`: some write 0 where it is
    /// not billed apart, and a ceiling has to hold.
    fn written(
        &self,
        (suffix, price_in): (&str, Option<NanoUsd>),
    ) -> Result<Option<NanoUsd>, CommunityProblem> {
        let price = self.price(&format!("{WRITTEN}{suffix}"))?;
        Ok(price.filter(|price| Some(*price) > price_in))
    }

    /// Returns above how many thousand tokens an input is long, where that makes a difference.
    fn step(&self) -> Result<Option<u64>, CommunityProblem> {
        let step = |key: &String| {
            let rest = [INPUT, CACHED, WRITTEN, OUTPUT, REASONING]
                .iter()
                .find_map(|of| key.strip_prefix(of))?;
            let step = rest.strip_prefix("_above_")?;
            let step = step.strip_suffix("_batches").unwrap_or(step).strip_suffix("k_tokens")?;
            step.parse::<u64>().ok().filter(|_| self.text(key).is_some())
        };
        let steps: BTreeSet<u64> = self.members.keys().filter_map(step).collect();
        match (steps.first(), steps.last()) {
            (Some(first), Some(last)) if first != last => {
                Err(CommunityProblem::Steps(*first, *last))
            }
            (first, _) => Ok(first.copied()),
        }
    }

    /// Returns a number of tokens; what is none says nothing.
    fn tokens(&self, key: &str) -> Option<u64> {
        let text = self.number(key)?;
        // A program may have made a float of it.
        let whole = text.strip_suffix(".0").unwrap_or(&text);
        whole.parse().ok().filter(|tokens| *tokens > 0)
    }
}

/// Returns the beginning of what stands where a number should.
fn cut(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
