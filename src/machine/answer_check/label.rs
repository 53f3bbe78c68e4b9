//! Finds the label that a reply means.

use serde_json::Value;

use super::without_fences;

/// A longer reply is looked through for nothing but a label as it stands: each of its layers would be read again.
const MAX_BYTES: usize = 1 << 20;
/// How many layers of decoration are taken off.
const MAX_LAYERS: usize = 64;

/// Returns the one of `labels` that the reply is, as it is spelled there.
///
/// The reply is the JSON object that was asked for, a JSON scalar, or the bare label, which may
/// stand in quotes, backticks, asterisks or a code fence, end with a period and differ in letter
/// case where that leaves no doubt.
pub(super) fn find<'l>(text: &str, labels: &'l [String]) -> Option<&'l str> {
    let exact = |text: &str| labels.iter().find(|label| label.as_str() == text);
    if let Some(label) = exact(text.trim()) {
        return Some(label);
    }
    if text.len() > MAX_BYTES {
        return None;
    }
    let unfenced = without_fences(text);
    match serde_json::from_str(unfenced) {
        Ok(Value::Object(reply)) => among(&scalar(reply.get("answer")?)?, labels),
        Ok(value) => among(&scalar(&value)?, labels),
        Err(_) => among(unfenced, labels),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Looks for the text itself and for what is under its decoration, first exactly, then by case.
fn among<'l>(text: &str, labels: &'l [String]) -> Option<&'l str> {
    let layers: Vec<&str> =
        std::iter::successors(Some(text), |text| peel(text)).take(MAX_LAYERS).collect();
    let exact = layers.iter().find_map(|layer| labels.iter().find(|label| label == layer));
    exact.map(String::as_str).or_else(|| layers.iter().find_map(|layer| caseless(layer, labels)))
}

fn caseless<'l>(text: &str, labels: &'l [String]) -> Option<&'l str> {
    let lower = text.to_lowercase();
    let plain = |label: &str| label.trim().trim_end_matches('.').to_lowercase();
    let same = |label: &&String| label.to_lowercase() == lower || plain(label) == lower;
    let mut same = labels.iter().filter(same);
    match (same.next(), same.next()) {
        (Some(label), None) => Some(label),
        _ => None,
    }
}

/// Takes one layer of decoration off, if there is one.
fn peel(text: &str) -> Option<&str> {
    let trimmed = text.trim();
    if trimmed.len() < text.len() {
        return Some(trimmed);
    }
    let pair = PAIRS.iter().find_map(|(open, close)| {
        text.strip_prefix(*open).and_then(|rest| rest.strip_suffix(*close))
    });
    pair.or_else(|| text.strip_suffix(['.', '。']))
}

const PAIRS: [(char, char); 8] = [
    ('"', '"'),
    ('\'', '\''),
    ('`', '`'),
    ('*', '*'),
    ('“', '”'),
    ('‘', '’'),
    ('«', '»'),
    ('「', '」'),
];
