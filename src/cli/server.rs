//! Where a prompt's requests go, and with which key.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::failure::Failure;
use super::settings::Settings;
use crate::domain::{Endpoint, ModelName};
use crate::engine::Server;
use crate::input::prompt_file::BaseUrl;
use crate::provider::catalog::{self, Provider};
use crate::provider::endpoint_url;

/// The providers that a base URL of one's own may stand for.
const POINTABLE: [&str; 2] = ["openai", "simulated"];

/// Where a provider is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process.
    Embedded,
    /// At its own address.
    Own(String),
    /// At an address that a person gave.
    Custom(String),
}

impl Place {
    /// Returns what decides how bodies are written.
    pub(crate) fn base_url(&self) -> BaseUrl {
        match self {
            Self::Embedded | Self::Own(_) => BaseUrl::Own,
            Self::Custom(_) => BaseUrl::Custom,
        }
    }
}

/// Returns the provider of a model.
pub(crate) fn provider(model: &ModelName) -> Result<&'static Provider, Failure> {
    catalog::require(&model.provider).map_err(|error| {
        Failure::usage(format!("the model {model}: {error}"))
            .hint("a bare name such as `gpt-5-mini` is OpenAI's")
    })
}

/// Returns where a provider is. What was given to `run` or `init` wins over the environment.
pub(crate) fn place(
    provider: &Provider,
    given: Option<&str>,
    settings: &Settings,
) -> Result<Place, Failure> {
    let own = match provider.base_url {
        Some(url) => Place::Own(url.to_owned()),
        None => Place::Embedded,
    };
    let from_variable = settings.base_url(provider);
    let (url, origin) = match (given.filter(|_| POINTABLE.contains(&provider.name)), from_variable)
    {
        (Some(url), _) => (url.to_owned(), "--base-url"),
        (None, Some((name, url))) => (url, name),
        (None, None) => return Ok(own),
    };
    check_base_url(&url, origin)?;
    let same = |own: &str| own.trim_end_matches('/') == url.trim_end_matches('/');
    Ok(if provider.base_url.is_some_and(same) { own } else { Place::Custom(url) })
}

/// Refuses what is no base URL, when it is typed.
pub(crate) fn check_base_url(url: &str, origin: &str) -> Result<(), Failure> {
    endpoint_url(url, Endpoint::ChatCompletions).map(drop).map_err(|error| {
        Failure::usage(format!("{origin} cannot be used"))
            .caused_by(&error)
            .hint("a base URL reads like https://api.openai.com/v1 or http://localhost:8000/v1")
    })
}

/// Returns the server of a model at `base_url`, with its headers.
pub(crate) fn server(
    provider: &Provider,
    (base_url, endpoint): (&str, Endpoint),
    is_own: bool,
    settings: &Settings,
) -> Result<Server, Failure> {
    let url = endpoint_url(base_url, endpoint)
        .map_err(|error| Failure::usage("the base URL cannot be used").caused_by(&error))?;
    let key = settings.key(provider);
    if key.is_none() && provider.needs_key() && is_own {
        return Err(no_key(provider));
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = &key {
        let bearer = format!("Bearer {}", key.expose());
        let mut value = HeaderValue::from_str(&bearer).map_err(|_| {
            // The error is not passed on: nothing of the key may be shown.
            Failure::error(format!("the key in {} cannot be sent", provider.key_vars.join(" or ")))
                .hint("it holds a character that no key has; copy it again")
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    for from in provider.headers {
        let name = HeaderName::from_bytes(from.header.as_bytes());
        let value = settings.header(from).and_then(|value| HeaderValue::from_str(&value).ok());
        if let (Ok(name), Some(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    Ok(Server { url, headers, key })
}

fn no_key(provider: &Provider) -> Failure {
    let name = provider.key_vars.first().copied().unwrap_or("OPENAI_API_KEY");
    Failure::error(format!("there is no API key for {}", provider.name))
        .hint(format!("`export {name}=…`, or write {name}=… into a file .env in this folder"))
        .hint("`--base-url URL` points at a server of your own that needs no key")
        .hint("a model `simulated/small` answers without a key, for a rehearsal")
}
