//! Where a prompt's requests go, and with which key.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::Context;
use super::failure::Failure;
use super::settings::Settings;
use crate::domain::{Endpoint, ModelName};
use crate::engine::{BatchServer, Secret, Server, is_near};
use crate::input::prompt_file::BaseUrl;
use crate::machine::route::HasBatches;
use crate::provider::batch::BatchUrls;
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

/// The name on record of the simulator in the program itself.
const EMBEDDED: &str = "embedded";

/// Returns the name of a place on record.
pub(crate) fn name(place: &Place) -> &str {
    match place {
        Place::Embedded => EMBEDDED,
        Place::Own(url) | Place::Custom(url) => url.trim_end_matches('/'),
    }
}

/// Returns the place of a provider that has this name on record.
pub(crate) fn named(provider: &Provider, name: &str) -> Place {
    match name {
        EMBEDDED => Place::Embedded,
        url if provider.base_url == Some(url) => Place::Own(url.to_owned()),
        url => Place::Custom(url.to_owned()),
    }
}

/// Says whether a provider has batches at a place.
pub(crate) fn has_batches(provider: &Provider, place: &Place) -> HasBatches {
    match (provider.batches, place) {
        (None, _) => HasBatches::No,
        (Some(_), Place::Embedded | Place::Own(_)) => HasBatches::Yes,
        (Some(_), Place::Custom(_)) => HasBatches::Perhaps,
    }
}

/// Returns the server of a provider's batches, if it may have some.
pub(crate) fn batch_server(
    provider: &Provider,
    (place, embedded): (&Place, Option<&str>),
    context: &Context,
) -> Result<Option<BatchServer>, Failure> {
    let Some(profile) = provider.batches else { return Ok(None) };
    let base_url = base_url(place, embedded);
    let urls = BatchUrls::new(base_url)
        .map_err(|error| Failure::usage("the base URL cannot be used").caused_by(&error))?;
    let url = urls.batches();
    let (mut headers, key) = headers(provider, (&url, is_own(place)), &context.settings)?;
    headers.remove(CONTENT_TYPE);
    let is_embedded = *place == Place::Embedded;
    Ok(Some(BatchServer { urls, headers, key, profile: *profile, is_embedded }))
}

fn base_url<'a>(place: &'a Place, embedded: Option<&'a str>) -> &'a str {
    match place {
        Place::Own(url) | Place::Custom(url) => url,
        Place::Embedded => embedded.unwrap_or_default(),
    }
}

fn is_own(place: &Place) -> bool {
    matches!(place, Place::Own(_))
}

/// Returns the server of a model at its place, with its headers.
pub(crate) fn server(
    provider: &Provider,
    endpoint: Endpoint,
    (place, embedded): (&Place, Option<&str>),
    needs_key: bool,
    settings: &Settings,
) -> Result<Server, Failure> {
    let url = endpoint_url(base_url(place, embedded), endpoint)
        .map_err(|error| Failure::usage("the base URL cannot be used").caused_by(&error))?;
    let (headers, key) = headers(provider, (&url, needs_key && is_own(place)), settings)?;
    let name = name(place).to_owned();
    Ok(Server { name, has_batches: has_batches(provider, place), url, headers, key })
}

fn headers(
    provider: &Provider,
    (url, is_own): (&Url, bool),
    settings: &Settings,
) -> Result<(HeaderMap, Option<Secret>), Failure> {
    let key = settings.key(provider)?;
    if key.is_none() && provider.needs_key() && is_own {
        return Err(no_key(provider));
    }
    if key.is_some() && is_in_clear(url) && !settings.sends_in_clear() {
        return Err(in_clear(provider, url));
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = &key {
        let bearer = format!("Bearer {}", key.expose());
        // Quotes that a text program has made round get into keys, and would be sent.
        let value = Some(bearer).filter(|bearer| bearer.is_ascii());
        let value = value.and_then(|bearer| HeaderValue::from_str(&bearer).ok());
        let mut value = value.ok_or_else(|| {
            // Nothing of the key may be shown.
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
    Ok((headers, key))
}

/// Says whether what is sent to a URL can be read on its way.
fn is_in_clear(url: &Url) -> bool {
    url.scheme() != "https" && !is_near(url)
}

fn in_clear(provider: &Provider, url: &Url) -> Failure {
    let (host, name) = (url.host_str().unwrap_or_default(), key_name(provider));
    Failure::usage(format!("the key in {name} would go to {host} in the clear, and was not sent"))
        .because(format!("the base URL is http://, and {host} is another machine"))
        .hint("a base URL with https:// keeps it from whoever is in between")
        .hint(format!(
            "a server that needs no key gets none where {name} is set nowhere, .env included"
        ))
        .hint("`--insecure-http` sends it all the same, OVERNIGHT_INSECURE_HTTP=1 always does")
}

fn key_name(provider: &Provider) -> &'static str {
    provider.key_vars.first().copied().unwrap_or("OPENAI_API_KEY")
}

/// Warns of a base URL to which a key that is set would be sent in the clear: a run will refuse to.
pub(crate) fn warn_of_clear_text(url: &str, context: &Context) {
    let Ok(provider) = catalog::require("openai") else { return };
    let Ok(url) = endpoint_url(url, Endpoint::ChatCompletions) else { return };
    let has_key = matches!(context.settings.key(provider), Ok(Some(_)));
    if has_key && is_in_clear(&url) && !context.settings.sends_in_clear() {
        let host = url.host_str().unwrap_or_default();
        context.out.warn(&format!(
            "{host} is another machine, and http:// would show it the key in {} on the way: `run` will not send it",
            key_name(provider)
        ));
        context.out.hint("use https://, unset the key, or run with --insecure-http");
    }
}

fn no_key(provider: &Provider) -> Failure {
    let name = key_name(provider);
    Failure::error(format!("there is no API key for {}", provider.name))
        .hint(format!("`export {name}=…`, or write {name}=… into a file .env in this folder"))
        .hint("`--base-url URL` points at a server of your own that needs no key")
        .hint("a model `simulated/small` answers without a key, for a rehearsal")
}
