//! Words on the command line, one line of them: each reader of one takes it or says what to type.
//!
//! What is taken lies where it may: a moment after now, a duration that can be added to any moment, a base URL below
//! which every endpoint is found, a price that can be computed with.

use jiff::Zoned;
use overnight::cli::typed;
use overnight::domain::{Endpoint, ModelName, UnixMs, Usage};
use overnight::input::Format;
use overnight::machine::prices::{PriceTable, Terms};
use overnight::provider::{catalog, endpoint_url};
use overnight::simulate::Faults;

/// Checks a text as every kind of word.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_times(text);
    check_names(text);
    check_prices(text);
    let _ = Format::parse(text).or(Format::from_name(text));
    let _ = text.parse::<Faults>().map_err(|error| error.to_string());
    for refused in [typed::whole(text).err(), typed::delimiter(text).err()] {
        assert!(refused.is_none_or(|words| words.len() <= 16 * text.len() + 1024));
    }
}

fn check_times(text: &str) {
    if let Ok(duration) = typed::duration(text) {
        let _ = UnixMs(i64::MAX).plus(duration);
        assert!(UnixMs(0).plus(duration) >= UnixMs(0));
    }
    for now in
        ["2026-11-23T22:15+09:00[+09:00]", "9999-12-30T22:00Z[UTC]", "-009999-01-03T00:00Z[UTC]"]
    {
        let now: Zoned = now.parse().unwrap();
        if let Ok(at) = typed::time(text, &now) {
            assert!(at.0 > now.timestamp().as_millisecond(), "{text:?} is not ahead of {now}");
        }
    }
}

fn check_names(text: &str) {
    if let Some(model) = ModelName::parse(text) {
        assert_eq!(ModelName::parse(&model.to_string()).as_ref(), Some(&model));
        let _ = catalog::require(&model.provider).map_err(|error| error.to_string());
    }
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses] {
        match endpoint_url(text, endpoint) {
            Ok(url) => {
                assert!(matches!(url.scheme(), "http" | "https"));
                assert!(url.username().is_empty() && url.password().is_none());
                assert!(url.query().is_none() && url.fragment().is_none());
                assert!(url.path().ends_with(&format!("/{}", endpoint.as_str())), "{url}");
                assert!(url.host_str().is_some_and(|host| !host.is_empty()));
            }
            Err(error) => assert!(error.to_string().len() <= 16 * text.len() + 1024),
        }
    }
}

fn simulated() -> ModelName {
    ModelName { provider: "simulated".to_owned(), model: "small".to_owned() }
}

fn check_prices(text: &str) {
    let model = ModelName { provider: "openai".to_owned(), model: "m".to_owned() };
    let of_a_model =
        format!(r#"{{"m": {{"output_cost_per_token": 1e-6, "input_cost_per_token": {text}}}}}"#);
    for text in [text, &of_a_model] {
        let Ok(table) = PriceTable::read(text, std::slice::from_ref(&model)) else { continue };
        let listed = table
            .listed(&model)
            .copied()
            .unwrap_or(*PriceTable::bundled().listed(&simulated()).unwrap());
        assert_eq!(Terms::of(&listed).listed("openai"), listed);
        assert!(Terms::of(&listed).is_sound());
    }
    let Ok(table) = PriceTable::parse(text) else { return };
    let usage = Usage {
        input: u64::MAX / 4,
        cached: 7,
        cache_write: 9,
        output: u64::MAX / 4,
        reasoning: 0,
    };
    if let Some(listed) = table.listed(&model) {
        assert!(listed.price.of(usage).0 >= 0 && listed.batch.of(usage).0 >= 0);
    }
    let _ = PriceTable::bundled().with(table).lookup(&model);
}
