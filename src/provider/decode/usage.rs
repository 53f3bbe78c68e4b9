//! What a reply says it counted.
//!
//! Chat completions and responses name the same counts differently, and compatible servers mix the
//! names, so both are read everywhere. Counts are a stranger's word: an absurd one is as if absent.

use serde::Deserialize;

use super::loose::{Count, Loose, object_shapes};
use crate::domain::Usage;

/// The `usage` object of either endpoint.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct UsageOnWire {
    prompt_tokens: Loose<Count>,
    completion_tokens: Loose<Count>,
    input_tokens: Loose<Count>,
    output_tokens: Loose<Count>,
    total_tokens: Loose<Count>,
    prompt_tokens_details: Loose<Details>,
    completion_tokens_details: Loose<Details>,
    input_tokens_details: Loose<Details>,
    output_tokens_details: Loose<Details>,
    /// DeepSeek's name for cached input.
    prompt_cache_hit_tokens: Loose<Count>,
    /// Anthropic's name for input that was put into the cache, as a gateway passes it on.
    cache_creation_input_tokens: Loose<Count>,
}

#[expect(clippy::struct_field_names, reason = "the names on the wire")]
#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Loose<Count>,
    cache_write_tokens: Loose<Count>,
    reasoning_tokens: Loose<Count>,
}

object_shapes!(UsageOnWire, Details);

/// More than any model writes in one reply; a total that is off by more means something else.
const MOST_UNCOUNTED: u64 = 1_000_000;

/// Returns the counts, or `None` where the reply says neither input nor output.
pub(super) fn counted(wire: Loose<UsageOnWire>) -> Option<Usage> {
    let wire = wire.get()?;
    let prompt = count(wire.prompt_tokens);
    let input = prompt.or_else(|| count(wire.input_tokens));
    let output = either(wire.completion_tokens, wire.output_tokens);
    if input.is_none() && output.is_none() {
        return None;
    }
    let input_details = details(wire.prompt_tokens_details, wire.input_tokens_details);
    let output_details = details(wire.completion_tokens_details, wire.output_tokens_details);
    let cached = either(input_details.cached_tokens, wire.prompt_cache_hit_tokens).unwrap_or(0);
    // Beside `input_tokens` it is Anthropic's own, which counts it apart; beside `prompt_tokens` it is a part of them.
    let created = count(wire.cache_creation_input_tokens).filter(|_| prompt.is_some());
    let written = count(input_details.cache_write_tokens).or(created).unwrap_or(0);
    let reasoning = count(output_details.reasoning_tokens).unwrap_or(0);
    let input = input.unwrap_or(0);
    let cached = cached.min(input);
    let output = whole_output(input, output.unwrap_or(0), count(wire.total_tokens));
    Some(Usage {
        input,
        cached,
        cache_write: written.min(input - cached),
        output,
        reasoning: reasoning.min(output),
    })
}

/// xAI and Gemini bill reasoning as output but leave it out of `completion_tokens`; it is what
/// their total has beyond the two parts.
fn whole_output(input: u64, output: u64, total: Option<u64>) -> u64 {
    let uncounted = total.unwrap_or(0).saturating_sub(input + output);
    if uncounted <= MOST_UNCOUNTED { output + uncounted } else { output }
}

/// More than any model reads or writes at once, and too few for sums over a big table to overflow.
const MOST_TOKENS: u64 = 100_000_000;

fn count(field: Loose<Count>) -> Option<u64> {
    field.get().map(|Count(tokens)| tokens).filter(|tokens| *tokens <= MOST_TOKENS)
}

fn either(one: Loose<Count>, other: Loose<Count>) -> Option<u64> {
    count(one).or_else(|| count(other))
}

fn details(one: Loose<Details>, other: Loose<Details>) -> Details {
    one.get().or_else(|| other.get()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Usage> {
        counted(serde_json::from_str(json).unwrap())
    }

    fn usage(input: u64, cached: u64, output: u64, reasoning: u64) -> Usage {
        Usage { input, cached, cache_write: 0, output, reasoning }
    }

    #[test]
    fn both_endpoints_counts_are_read() {
        let chat = r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,
            "prompt_tokens_details":{"cached_tokens":3,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":4}}"#;
        assert_eq!(read(chat), Some(usage(19, 3, 10, 4)));
        let responses = r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":6},
            "output_tokens":87,"output_tokens_details":{"reasoning_tokens":7},"total_tokens":123}"#;
        assert_eq!(read(responses), Some(usage(36, 6, 87, 7)));
        let deepseek = r#"{"prompt_tokens":16,"completion_tokens":2,"prompt_cache_hit_tokens":5}"#;
        assert_eq!(read(deepseek), Some(usage(16, 5, 2, 0)));
    }

    #[test]
    fn what_was_put_into_the_cache_is_a_part_of_the_input_apart_from_what_was_there() {
        let written = |json: &str| {
            let usage = read(json).unwrap();
            (usage.input, usage.cached, usage.cache_write)
        };
        for (json, counts) in [
            (
                r#"{"prompt_tokens":2006,"completion_tokens":300,
                    "prompt_tokens_details":{"cached_tokens":400,"cache_write_tokens":1600}}"#,
                (2006, 400, 1600),
            ),
            (
                r#"{"input_tokens":2006,"output_tokens":300,
                    "input_tokens_details":{"cached_tokens":0,"cache_write_tokens":1920}}"#,
                (2006, 0, 1920),
            ),
            // More than there is.
            (
                r#"{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":9}}"#,
                (10, 4, 6),
            ),
            (
                r#"{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":40,"cache_write_tokens":9}}"#,
                (10, 10, 0),
            ),
            (
                r#"{"prompt_tokens":10,"prompt_tokens_details":{"cache_write_tokens":-3}}"#,
                (10, 0, 0),
            ),
            (r#"{"prompt_tokens":10,"cache_creation_input_tokens":7}"#, (10, 0, 7)),
            (
                r#"{"prompt_tokens":10,"cache_creation_input_tokens":7,
                    "prompt_tokens_details":{"cache_write_tokens":5}}"#,
                (10, 0, 5),
            ),
            (r#"{"input_tokens":10,"cache_creation_input_tokens":7}"#, (10, 0, 0)),
        ] {
            assert_eq!(written(json), counts, "{json}");
        }
    }

    #[test]
    fn reasoning_that_only_the_total_knows_is_output() {
        let xai = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,
            "completion_tokens_details":{"reasoning_tokens":100}}"#;
        assert_eq!(read(xai), Some(usage(10, 0, 105, 100)));
        let wild = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":999999999}"#;
        assert_eq!(read(wild), Some(usage(10, 0, 5, 0)));
    }

    #[test]
    fn absurd_counts_are_as_if_absent() {
        for json in ["null", "[]", "{}", "7", r#"{"prompt_tokens":"9"}"#, r#"{"total_tokens":9}"#] {
            assert_eq!(read(json), None, "{json}");
        }
        let odd = r#"{"prompt_tokens":-5,"completion_tokens":1e300,"input_tokens":7.0,
            "output_tokens":99999999999999999999999,"prompt_tokens_details":[],
            "input_tokens_details":{"cached_tokens":900}}"#;
        assert_eq!(read(odd), Some(usage(7, 7, 0, 0)));
    }
}
