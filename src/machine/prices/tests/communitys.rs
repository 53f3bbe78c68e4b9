//! The community table: what is read of it, and what of it is refused.

use std::error::Error;

use super::*;

fn read(text: &str, models: &[&str]) -> Result<PriceTable, PriceError> {
    let wanted: Vec<_> = models.iter().map(|model| name(model)).collect();
    PriceTable::read(text, &wanted)
}

fn one(entry: &str) -> Result<Option<ListedPrice>, String> {
    let text = format!(r#"{{"sample_spec": {{"mode": "one of"}}, "m": {entry}}}"#);
    match read(&text, &["m"]) {
        Ok(table) => Ok(table.listed(&name("m")).copied()),
        Err(error) => Err(error.source().map_or(error.to_string(), ToString::to_string)),
    }
}

#[test]
fn prices_of_single_tokens_become_prices_of_a_million() {
    let listed = one(r#"{"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 272000,
            "max_output_tokens": 128000, "max_tokens": 4096, "supports_vision": true,
            "input_cost_per_token": 2.5e-07, "cache_read_input_token_cost": 2.5E-8,
            "output_cost_per_token": 0.000002, "output_cost_per_reasoning_token": 3e-6,
            "input_cost_per_token_priority": 4.5e-07, "input_cost_per_token_flex": 1.25e-07,
            "cache_creation_input_token_cost": null, "search_context_cost_per_query": {"a": 0.01}}"#);
    let listed = listed.unwrap().unwrap();
    let call =
        Price { reasoning_per_mtok: usd(3_000), ..price(250_000_000, 25_000_000, 2_000_000_000) };
    assert_eq!(listed.price, call);
    // No price for batches is no word that there are none.
    let batch =
        Price { reasoning_per_mtok: usd(1_500), ..price(125_000_000, 12_500_000, 1_000_000_000) };
    assert_eq!(listed.batch, batch);
    assert_eq!((listed.max_input_tokens, listed.max_output_tokens), (Some(272_000), Some(128_000)));
    assert_eq!(listed.as_of, None);
}

#[test]
fn batches_and_long_inputs_have_prices_of_their_own() {
    let listed = one(
        r#"{"input_cost_per_token": 4e-6, "output_cost_per_token": 2e-5, "cache_read_input_token_cost": 4e-7,
            "input_cost_per_token_batches": 3e-6, "output_cost_per_token_batches": 1.5e-5,
            "cache_read_input_token_cost_batches": 3.5e-7,
            "input_cost_per_token_above_272k_tokens": 8e-6, "output_cost_per_token_above_272k_tokens": 3e-5,
            "cache_read_input_token_cost_above_272k_tokens": 8e-7,
            "input_cost_per_token_above_272k_tokens_batches": 6.5e-6,
            "input_cost_per_token_above_272k_tokens_priority": 9e-6,
            "cache_creation_input_token_cost_above_1hr": 1e-5,
            "max_tokens": 8192.0}"#,
    );
    let listed = listed.unwrap().unwrap();
    let long = |input, cached, output| LongPrice {
        above_tokens: 272_000,
        input_per_mtok: usd(input),
        cached_per_mtok: usd(cached),
        cache_write_per_mtok: usd(input),
        output_per_mtok: usd(output),
        reasoning_per_mtok: usd(output),
    };
    let call = price(4_000_000_000, 400_000_000, 20_000_000_000);
    assert_eq!(listed.price, Price { long: Some(long(8_000, 800, 30_000)), ..call });
    let batch = price(3_000_000_000, 350_000_000, 15_000_000_000);
    assert_eq!(listed.batch, Price { long: Some(long(6_500, 700, 22_500)), ..batch });
    assert_eq!(listed.max_output_tokens, Some(8192));
    // A price of batches that says nothing of cached tokens promises nothing.
    let bare = one(
        r#"{"input_cost_per_token": 4e-6, "output_cost_per_token": 2e-5, "cache_read_input_token_cost": 4e-7,
            "input_cost_per_token_batches": 2e-6, "output_cost_per_token_batches": 1e-5}"#,
    );
    assert_eq!(bare.unwrap().unwrap().batch, price(2_000_000_000, 2_000_000_000, 10_000_000_000));
    // Half a step leaves the rest as it is.
    let half = one(r#"{"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
            "output_cost_per_token_above_128k_tokens": 5e-6}"#);
    let half = half.unwrap().unwrap().price.long.unwrap();
    assert_eq!((half.above_tokens, half.input_per_mtok), (128_000, usd(1_000)));
    assert_eq!((half.cached_per_mtok, half.output_per_mtok), (usd(1_000), usd(5_000)));
}

#[test]
fn what_is_put_into_the_cache_has_a_price_of_its_own() {
    let written = |more: &str| {
        let entry = format!(
            r#"{{"input_cost_per_token": 4e-6, "output_cost_per_token": 2e-5, "input_cost_per_token_batches": 2e-6,
                "output_cost_per_token_batches": 1e-5, "input_cost_per_token_above_272k_tokens": 8e-6, {more}}}"#
        );
        let listed = one(&entry).unwrap().unwrap();
        let of =
            |price: Price| [price.cache_write_per_mtok, price.long.unwrap().cache_write_per_mtok];
        [of(listed.price), of(listed.batch)]
    };
    let as_others = [[usd(4_000), usd(8_000)], [usd(2_000), usd(4_000)]];
    assert_eq!(written(r#""cache_creation_input_token_cost": null"#), as_others);
    // As much more as by a call that is not long.
    let more = r#""cache_creation_input_token_cost": 5e-6"#;
    assert_eq!(written(more), [[usd(5_000), usd(10_000)], [usd(2_500), usd(5_000)]]);
    let said = r#""cache_creation_input_token_cost": 5e-6, "cache_creation_input_token_cost_batches": 3e-6,
        "cache_creation_input_token_cost_above_272k_tokens": 9e-6,
        "cache_creation_input_token_cost_above_1hr": 8e-6,
        "cache_creation_input_token_cost_above_272k_tokens_batches": 7e-6"#;
    assert_eq!(written(said), [[usd(5_000), usd(9_000)], [usd(3_000), usd(7_000)]]);
    // Where it is not billed apart, some write 0; such a token is input all the same.
    let less =
        r#""cache_creation_input_token_cost": 0, "cache_creation_input_token_cost_batches": 1e-9"#;
    assert_eq!(written(less), as_others);
    let wrong = r#"{"input_cost_per_token": 4e-6, "output_cost_per_token": 2e-5, "cache_creation_input_token_cost": -1}"#;
    assert!(one(wrong).unwrap_err().starts_with("cache_creation_input_token_cost is -1"));
}

#[test]
fn what_is_no_language_model_or_has_no_price_is_passed_over() {
    for entry in [
        r#"{"mode": "embedding", "input_cost_per_token": 1e-7, "output_cost_per_token": 0.0}"#,
        r#"{"mode": "chat", "input_cost_per_token": 1e-7}"#,
        r#"{"mode": "chat", "input_cost_per_token": 1e-7, "output_cost_per_token": null}"#,
        r#"{"mode": "image_generation", "input_cost_per_token": "nonsense"}"#,
        r#"{"litellm_provider": "dashscope", "input_cost_per_token": 1e-7, "output_cost_per_token": 1e-7}"#,
        "{}",
    ] {
        assert_eq!(one(entry), Ok(None), "{entry}");
    }
}

#[test]
fn nonsense_matters_where_it_is_asked_for_and_is_named() {
    let with = |more: &str| {
        format!(r#"{{"input_cost_per_token": 1e-7, "output_cost_per_token": 1e-7, {more}}}"#)
    };
    for (entry, why) in [
        ("[]".to_owned(), "it is not an object"),
        ("\"free\"".to_owned(), "it is not an object"),
        (
            r#"{"input_cost_per_token": -1e-7, "output_cost_per_token": 1e-7}"#.to_owned(),
            "input_cost_per_token is -1e-7, which is not a price in USD per token from 0 to below 1",
        ),
        (
            r#"{"input_cost_per_token": 0.15, "output_cost_per_token": 1.5}"#.to_owned(),
            "output_cost_per_token is 1.5, which is not a price in USD per token from 0 to below 1",
        ),
        (
            r#"{"input_cost_per_token": "cheap", "output_cost_per_token": 1e-7}"#.to_owned(),
            "input_cost_per_token is cheap, which is not a price in USD per token from 0 to below 1",
        ),
        (
            with(r#""cache_read_input_token_cost": {}"#),
            "cache_read_input_token_cost is {}, which is not a price in USD per token from 0 to below 1",
        ),
        (
            with(
                r#""input_cost_per_token_above_128k_tokens": 1e-6, "output_cost_per_token_above_256k_tokens": 1e-6"#,
            ),
            "it has prices for inputs above 128 and above 256 thousand tokens, and only one such step is known here",
        ),
        (
            with(r#""tiered_pricing": [{"range": [0, 1000]}]"#),
            "its price goes by tiered_pricing, which is not read here",
        ),
    ] {
        assert_eq!(one(&entry), Err(why.to_owned()), "{entry}");
        let text = format!(
            r#"{{"bad": {entry}, "good": {{"input_cost_per_token": 1e-7, "output_cost_per_token": "2e-7"}}}}"#
        );
        let table = read(&text, &["good"]).unwrap();
        assert_eq!(table.lookup(&name("good")), Some(price(100_000_000, 100_000_000, 200_000_000)));
    }
    let twice = r#"{"m": {"input_cost_per_token": 1e-7, "output_cost_per_token": 1e-7}, "m": {}}"#;
    let error = read(twice, &["m"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the entry \"m\" of the price table, for openai/m, cannot be used"
    );
    assert!(read(twice, &["other"]).is_ok());
    for broken in ["[]", "{", r#"{"m": {"a": NaN}}"#, "{}{}", r#"{"m"}"#] {
        let error = read(broken, &["m"]).unwrap_err();
        assert_eq!(error.to_string(), "the price table is not a JSON object of models", "{broken}");
    }
}

#[test]
fn a_model_is_found_under_the_name_that_it_has_there() {
    let entry = |nano: u32| {
        format!(r#"{{"input_cost_per_token": {nano}e-9, "output_cost_per_token": 1e-6}}"#)
    };
    let keys = [
        "gpt-5-mini",
        "claude-haiku-4-5",
        "gemini/gemini-2.5-flash",
        "gemini-2.5-flash",
        "mistral/mistral-small-latest",
        "groq/openai/gpt-oss-20b",
        "together_ai/openai/gpt-oss-20b",
        "fireworks_ai/accounts/fireworks/models/glm-5p3",
        "deepinfra/Qwen/Qwen3.5-9B",
        "xai/grok-4.7",
        "deepseek-v4-flash",
        "openrouter/openai/gpt-5",
        "simulated/small",
        "openai/qwen3",
        "gpt-5-mini-2030-01-01",
    ];
    let members: Vec<String> =
        keys.iter().zip(1..).map(|(key, nano)| format!("{key:?}: {}", entry(nano))).collect();
    let text = format!("\u{feff} {{{}}}", members.join(","));
    for (model, number) in [
        ("openai/gpt-5-mini", 1),
        ("gpt-5-mini-2025-08-07", 1),
        ("anthropic/claude-haiku-4-5-20251001", 2),
        ("gemini/gemini-2.5-flash", 3),
        ("mistral/mistral-small-latest", 5),
        ("groq/openai/gpt-oss-20b", 6),
        ("together/openai/gpt-oss-20b", 7),
        ("fireworks/accounts/fireworks/models/glm-5p3", 8),
        ("deepinfra/Qwen/Qwen3.5-9B", 9),
        ("xai/grok-4.7", 10),
        ("deepseek/deepseek-v4-flash", 11),
        ("openrouter/openai/gpt-5", 12),
        ("simulated/small", 13),
        ("openai/qwen3", 14),
        ("gpt-5-mini-2030-01-01", 15),
    ] {
        let table = read(&text, &[model]).unwrap();
        let found = table.lookup(&name(model)).map(|price| price.input_per_mtok);
        assert_eq!(found, Some(usd(number)), "{model}");
    }
    for model in ["groq/gpt-5-mini", "mistral/gpt-5-mini", "openai/gpt-5", "simulated/large"] {
        assert_eq!(read(&text, &[model]).unwrap(), PriceTable::default(), "{model}");
    }
}

proptest! {
    #[test]
    fn no_text_can_make_it_panic(text in "\\PC{0,60}", value in "[-+0-9eE.\"a-z{}\\[\\]]{0,12}") {
        let _ = read(&text, &["m"]);
        let _ = read(&format!("{{{text}"), &["m"]);
        let _ = one(&format!(r#"{{"input_cost_per_token": {value}, "output_cost_per_token": 1e-7}}"#));
    }
}
