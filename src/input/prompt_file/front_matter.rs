//! Reads a prompt's front matter: which keys there are, and on which line each value stands.
//!
//! Values are judged by the caller; here they are only read. Labels are read as text, so that
//! `yes`, `1` and `2.50` stay what the person wrote.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::error::{Attempt, Problem};
use super::price;
use crate::machine::closest::closest;

/// A value and the line on which it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) line: u64,
    pub(super) value: T,
}

impl<T> From<Spanned<T>> for At<T> {
    fn from(spanned: Spanned<T>) -> Self {
        Self { line: spanned.referenced.line(), value: spanned.value }
    }
}

/// A label of `choices`; null has no text.
pub(super) type Label = At<Option<String>>;

/// What stands in the front matter; a key without a value counts as absent.
#[derive(Default)]
pub(super) struct FrontMatter {
    pub(super) name: Option<At<Value>>,
    pub(super) model: Option<At<Value>>,
    pub(super) endpoint: Option<At<Value>>,
    pub(super) max_tokens: Option<At<Value>>,
    pub(super) max_tokens_limit: Option<At<Value>>,
    pub(super) temperature: Option<At<Value>>,
    pub(super) choices: Option<At<Vec<Label>>>,
    pub(super) schema: Option<At<Value>>,
    pub(super) structured_outputs: Option<At<Value>>,
    pub(super) parameters: Option<Vec<(At<String>, Value)>>,
    unknown: Option<At<String>>,
}

/// The keys, in the order in which they are told.
const KEYS: [&str; 10] = [
    "name",
    "model",
    "endpoint",
    "max_tokens",
    "max_tokens_limit",
    "temperature",
    "choices",
    "schema",
    "structured_outputs",
    "parameters",
];

/// Parts a prompt's text, with LF line ends, into front matter and body.
///
/// The front matter keeps its place in the file by blank lines before it, so that lines counted
/// in it are lines of the file.
pub(super) fn split(text: &str) -> Attempt<(String, At<&str>)> {
    let opening = text.lines().position(|line| !line.trim().is_empty()).unwrap_or(0);
    let mut start = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let end = start + line.len();
        let fence = line.trim_end() == "---";
        if index == opening && !fence {
            break;
        }
        if index > opening && fence {
            let inside = text[..start].splitn(opening + 2, '\n').last().unwrap_or_default();
            let front = "\n".repeat(opening + 1) + inside;
            return Ok((front, At { line: index as u64 + 2, value: &text[end..] }));
        }
        start = end;
    }
    if text.lines().nth(opening).is_some_and(|line| line.trim_end() == "---") {
        return Err(Problem::UnclosedFrontMatter.on(opening as u64 + 1));
    }
    Ok((String::new(), At { line: 1, value: text }))
}

/// Returns which lines of a text, counted from 0, stand between the fences of its front matter.
pub(super) fn lines(text: &str) -> Range<usize> {
    let plain = text.strip_prefix('\u{feff}').unwrap_or(text);
    let opening = plain.lines().position(|line| !line.trim().is_empty()).unwrap_or(0);
    let mut fences =
        (0..).zip(plain.lines()).skip(opening).filter(|(_, line)| line.trim_end() == "---");
    match (fences.next(), fences.next()) {
        (Some((first, _)), Some((last, _))) if first == opening => first + 1..last,
        _ => 0..0,
    }
}

impl FrontMatter {
    /// Reads YAML; refuses keys that prompts do not have.
    pub(super) fn read(yaml: &str) -> Attempt<Self> {
        let says_nothing = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
        if yaml.lines().all(says_nothing) {
            return Ok(Self::default());
        }
        let options = serde_saphyr::options! {
            strict_booleans: true,
            reject_unsupported_tags: true,
        };
        let front: Self = serde_saphyr::from_str_with_options(yaml, options)
            .map_err(|error| Problem::Yaml(error.without_snippet().to_string()).anywhere())?;
        let Some(unknown) = front.unknown else { return Ok(front) };
        let key = unknown.value;
        // Such a line was taken out before.
        if let Some(known) = price::KEYS.into_iter().find(|known| *known == key) {
            let must = "stand on a line of its own, as in `price_in: 0.15`";
            return Err(Problem::must(known, must).on(unknown.line));
        }
        let all: Vec<&'static str> = KEYS.into_iter().chain(price::KEYS).collect();
        let keys = all.join(", ");
        Err(Problem::UnknownKey { key: key.clone(), suggestion: closest(&key, all), keys }
            .on(unknown.line))
    }

    fn slot(&mut self, key: &str) -> Option<&mut Option<At<Value>>> {
        Some(match key {
            "name" => &mut self.name,
            "model" => &mut self.model,
            "endpoint" => &mut self.endpoint,
            "max_tokens" => &mut self.max_tokens,
            "max_tokens_limit" => &mut self.max_tokens_limit,
            "temperature" => &mut self.temperature,
            "schema" => &mut self.schema,
            "structured_outputs" => &mut self.structured_outputs,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for FrontMatter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = FrontMatter;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lines of the form `key: value`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FrontMatter, A::Error> {
        let mut front = FrontMatter::default();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if key.value == "choices" {
                front.choices = map
                    .next_value::<Option<Spanned<Labels>>>()?
                    .map(|labels| At { line: labels.referenced.line(), value: labels.value.0 });
            } else if key.value == "parameters" {
                front.parameters = map.next_value::<Option<Parameters>>()?.map(|list| list.0);
            } else if let Some(slot) = front.slot(&key.value) {
                *slot = map.next_value::<Option<Spanned<Value>>>()?.map(At::from);
            } else {
                map.next_value::<IgnoredAny>()?;
                front.unknown.get_or_insert(key.into());
            }
        }
        Ok(front)
    }
}

struct Labels(Vec<Label>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Vec<Label>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of labels, such as `choices: [yes, no]`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut labels = Vec::new();
                while let Some(label) = list.next_element::<Spanned<Option<String>>>()? {
                    labels.push(label.into());
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_any(List).map(Labels)
    }
}

struct Parameters(Vec<(At<String>, Value)>);

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Mapping;
        impl<'de> Visitor<'de> for Mapping {
            type Value = Vec<(At<String>, Value)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("body parameters of the form `key: value`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut parameters = Vec::new();
                while let Some((key, value)) = map.next_entry::<Spanned<String>, Value>()? {
                    parameters.push((key.into(), value));
                }
                Ok(parameters)
            }
        }
        deserializer.deserialize_any(Mapping).map(Parameters)
    }
}
