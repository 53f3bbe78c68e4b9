//! The providers that are known by name, and what their own SDKs read from the environment.
//!
//! Only names stand here; `cli` reads the variables. A host is listed only where its
//! `/chat/completions`, its base URL and its key's variable are documented; every other
//! compatible server is reached with `openai/MODEL` and `--base-url`.

use crate::domain::Structured;

/// A provider, and how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provider {
    /// The part of a model's name before the first slash.
    pub name: &'static str,
    /// Where its endpoints are; `None` for the embedded simulator, which has no address of its own.
    pub base_url: Option<&'static str>,
    /// Environment variables that may hold the key, the first one that is set wins; empty where none is needed.
    pub key_vars: &'static [&'static str],
    /// Environment variables that may hold another base URL, the first one that is set wins.
    pub base_url_vars: &'static [&'static str],
    /// Further headers, each filled from the first of its variables that is set.
    pub headers: &'static [HeaderFrom],
    /// Whether the server takes a JSON Schema; where only some of its models do, it says so in a 400.
    pub structured: Structured,
    /// Its batches; `None` if it has none, or none of `OpenAI`'s shape.
    pub batches: Option<&'static BatchProfile>,
}

/// What a provider whose batches have `OpenAI`'s shape takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchProfile {
    /// The most requests in one file.
    pub max_requests: u64,
    /// The most bytes in one file.
    pub max_bytes: u64,
    /// The completion window that is asked for, as the provider spells it.
    pub window: &'static str,
    /// Whether an upload can say when the file shall go (`expires_after`).
    pub expires_after: bool,
}

/// A header that a provider's SDK fills from the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFrom {
    /// The header's name.
    pub header: &'static str,
    /// The variables that may hold its value, the first one that is set wins.
    pub vars: &'static [&'static str],
}

impl Provider {
    /// Says whether calls carry `Authorization: Bearer KEY`.
    pub fn needs_key(&self) -> bool {
        !self.key_vars.is_empty()
    }
}

/// A model was asked for by a provider's name that is not in the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown provider {name:?}; known are {}; for any other OpenAI-compatible server use the model \
     name openai/MODEL with --base-url",
    names().collect::<Vec<_>>().join(", ")
)]
pub struct UnknownProvider {
    /// The name as it was given.
    pub name: String,
}

/// Returns the provider called `name`.
pub fn find(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

/// Returns the provider called `name`, or an error that lists the names there are.
pub fn require(name: &str) -> Result<&'static Provider, UnknownProvider> {
    find(name).ok_or_else(|| UnknownProvider { name: name.to_owned() })
}

/// Returns the names of all providers, in the order in which they are listed to people.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().map(|provider| provider.name)
}

/// `OpenAI` says 200 MB and not of which kind, so these are the smaller ones.
const OPENAI_BATCHES: BatchProfile = BatchProfile {
    max_requests: 50_000,
    max_bytes: 200_000_000,
    window: "24h",
    expires_after: true,
};

/// Groq's SDK says 100 MB, its site 200.
const GROQ_BATCHES: BatchProfile = BatchProfile {
    max_requests: 50_000,
    max_bytes: 100_000_000,
    window: "24h",
    expires_after: false,
};

const PROVIDERS: &[Provider] = &[
    Provider {
        base_url_vars: &["OPENAI_BASE_URL"],
        headers: &[
            HeaderFrom {
                header: "OpenAI-Organization",
                vars: &["OPENAI_ORG_ID", "OPENAI_ORGANIZATION"],
            },
            HeaderFrom { header: "OpenAI-Project", vars: &["OPENAI_PROJECT_ID", "OPENAI_PROJECT"] },
        ],
        batches: Some(&OPENAI_BATCHES),
        ..compatible("openai", "https://api.openai.com/v1", &["OPENAI_API_KEY"])
    },
    Provider { base_url: None, batches: Some(&OPENAI_BATCHES), ..compatible("simulated", "", &[]) },
    // Its batches are of its own messages, inline in the create, and have no metadata to be found again by.
    Provider {
        // Its compatible endpoint ignores `response_format`.
        structured: Structured::Words,
        ..compatible("anthropic", "https://api.anthropic.com/v1", &["ANTHROPIC_API_KEY"])
    },
    Provider {
        batches: Some(&GROQ_BATCHES),
        ..compatible("groq", "https://api.groq.com/openai/v1", &["GROQ_API_KEY"])
    },
    // Its batches have another purpose, lines without a method, and a create of their own shape.
    Provider {
        base_url_vars: &["TOGETHER_BASE_URL"],
        ..compatible("together", "https://api.together.xyz/v1", &["TOGETHER_API_KEY"])
    },
    // Its batches are at `/batch/jobs`, with the model on the job.
    compatible("mistral", "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"]),
    Provider {
        // JSON mode, but no schemas.
        structured: Structured::Words,
        ..compatible("deepseek", "https://api.deepseek.com/v1", &["DEEPSEEK_API_KEY"])
    },
    // Its batches have counters and no status, and their results come by pages.
    compatible("xai", "https://api.x.ai/v1", &["XAI_API_KEY"]),
    // Its batches carry their requests and results inline.
    compatible("openrouter", "https://openrouter.ai/api/v1", &["OPENROUTER_API_KEY"]),
    // Its batches are said to be like OpenAI's; their limits are not published.
    compatible(
        "deepinfra",
        "https://api.deepinfra.com/v1/openai",
        &["DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"],
    ),
    // Its batches work on data sets, below another base URL.
    compatible("fireworks", "https://api.fireworks.ai/inference/v1", &["FIREWORKS_API_KEY"]),
    // Its batches are below another base URL.
    compatible("perplexity", "https://api.perplexity.ai", &["PERPLEXITY_API_KEY", "PPLX_API_KEY"]),
    // Its batches are long-running operations on its own request format.
    compatible(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    ),
];

const fn compatible(
    name: &'static str,
    base_url: &'static str,
    key_vars: &'static [&'static str],
) -> Provider {
    Provider {
        name,
        base_url: Some(base_url),
        key_vars,
        base_url_vars: &[],
        headers: &[],
        structured: Structured::Schema,
        batches: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::{Endpoint, ModelName};
    use crate::machine::prices::PriceTable;
    use crate::provider::endpoint_url;

    #[test]
    fn every_provider_can_be_named_in_a_model_and_called() {
        let mut seen = HashSet::new();
        for provider in PROVIDERS {
            assert!(seen.insert(provider.name), "{} stands twice", provider.name);
            let model = ModelName::parse(&format!("{}/m", provider.name)).unwrap();
            assert_eq!(find(&model.provider), Some(provider));
            if let Some(base) = provider.base_url {
                let url = endpoint_url(base, Endpoint::ChatCompletions).unwrap();
                assert_eq!(url.scheme(), "https");
                assert!(!base.ends_with('/'));
                assert!(provider.needs_key());
            }
        }
    }

    #[test]
    fn the_simulator_needs_no_key_and_has_no_address() {
        let simulated = find("simulated").unwrap();
        assert!(!simulated.needs_key());
        assert_eq!(simulated.base_url, None);
    }

    #[test]
    fn openai_is_read_as_its_sdk_reads_it() {
        let openai = find("openai").unwrap();
        assert_eq!(openai.base_url, Some("https://api.openai.com/v1"));
        assert_eq!(openai.key_vars, ["OPENAI_API_KEY"]);
        assert_eq!(openai.base_url_vars, ["OPENAI_BASE_URL"]);
        let headers: Vec<_> = openai.headers.iter().map(|from| from.header).collect();
        assert_eq!(headers, ["OpenAI-Organization", "OpenAI-Project"]);
    }

    #[test]
    fn only_batches_of_openais_shape_are_used() {
        let with: Vec<_> =
            PROVIDERS.iter().filter(|p| p.batches.is_some()).map(|p| p.name).collect();
        assert_eq!(with, ["openai", "simulated", "groq"]);
        for profile in PROVIDERS.iter().filter_map(|provider| provider.batches) {
            assert!(profile.max_requests <= 50_000 && profile.max_bytes <= 200_000_000);
            assert_eq!(profile.window, "24h");
        }
    }

    #[test]
    fn each_provider_has_prices_or_a_reason_for_none() {
        // OpenRouter's price is that of whoever serves the model; Perplexity's has a fee for each search.
        let without = ["openrouter", "perplexity"];
        let table = PriceTable::bundled();
        for provider in PROVIDERS {
            let has = table.models().any(|model| model.provider == provider.name);
            assert_eq!(has, !without.contains(&provider.name), "{}", provider.name);
        }
        assert!(table.models().all(|model| find(&model.provider).is_some()));
    }

    #[test]
    fn an_unknown_provider_is_told_what_there_is() {
        let message = require("acme").unwrap_err().to_string();
        assert!(message.starts_with("unknown provider \"acme\"; known are openai, simulated,"));
        assert!(message.contains("gemini"));
        assert!(message.contains("--base-url"));
        assert_eq!(find("OpenAI"), None);
    }
}
