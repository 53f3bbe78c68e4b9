//! The few headers of a reply that anyone here needs, out of the many that come.
//!
//! They are taken out of the HTTP client's map at once, so that a reply can be decoded later, on
//! another thread or from a test, without it. Values are kept as text: reading them is
//! [`limits`](super::limits)' work. Nothing else of a reply's head may be kept: it can hold cookies.

use http::HeaderMap;
use http::header::{LOCATION, RETRY_AFTER};

/// Longer values are none that a provider means us to read.
const MAX_VALUE_BYTES: usize = 200;

/// What a reply's head says about the request and about pace. Empty for a line of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyHeaders {
    /// The provider's id for the request (`x-request-id`, or `request-id`).
    pub request_id: Option<String>,
    /// The host that a redirect points at; the rest of its URL could hold a secret.
    pub location_host: Option<String>,
    /// `x-ratelimit-{limit,remaining,reset}-requests`, or `anthropic-ratelimit-requests-{limit,remaining,reset}`.
    pub requests: WindowText,
    /// `x-ratelimit-{limit,remaining,reset}-tokens`, or `anthropic-ratelimit-tokens-{limit,remaining,reset}`, which
    /// tell of the narrowest there is; else the same of input tokens.
    pub tokens: WindowText,
    /// `retry-after`: seconds or a date.
    pub retry_after: Option<String>,
    /// `retry-after-ms`, which OpenAI's SDK reads before `retry-after`.
    pub retry_after_ms: Option<String>,
    /// `x-should-retry`: `true` or `false`.
    pub should_retry: Option<String>,
}

/// The three headers of one rate limit, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowText {
    /// How many the window allows.
    pub limit: Option<String>,
    /// How many are left in it.
    pub remaining: Option<String>,
    /// When it is full again.
    pub reset: Option<String>,
}

/// The names of the three headers of one limit.
type Names = [&'static str; 3];

const REQUESTS: [Names; 2] = [
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
    [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
];
const TOKENS: [Names; 3] = [
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    [
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ],
    [
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ],
];

impl WindowText {
    /// Takes the first of the limits that there is a word of.
    fn find(map: &HeaderMap, names: &[Names]) -> Self {
        let words = names.iter().map(|[limit, remaining, reset]| Self {
            limit: text(map, limit),
            remaining: text(map, remaining),
            reset: text(map, reset),
        });
        words.into_iter().find(|words| *words != Self::default()).unwrap_or_default()
    }
}

impl ReplyHeaders {
    /// Takes what is needed from a reply's headers.
    pub fn from_map(map: &HeaderMap) -> Self {
        Self {
            request_id: text(map, "x-request-id").or_else(|| text(map, "request-id")),
            location_host: location_host(map),
            requests: WindowText::find(map, &REQUESTS),
            tokens: WindowText::find(map, &TOKENS),
            retry_after: text(map, RETRY_AFTER.as_str()),
            retry_after_ms: text(map, "retry-after-ms"),
            should_retry: text(map, "x-should-retry"),
        }
    }
}

fn text(map: &HeaderMap, name: &str) -> Option<String> {
    let value = map.get(name)?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= MAX_VALUE_BYTES).then(|| value.to_owned())
}

fn location_host(map: &HeaderMap) -> Option<String> {
    let url = url::Url::parse(map.get(LOCATION)?.to_str().ok()?).ok()?;
    url.host_str().filter(|host| !host.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn the_headers_that_are_needed_are_kept() {
        let headers = ReplyHeaders::from_map(&map(&[
            ("x-request-id", "req_1"),
            ("request-id", "other"),
            ("x-ratelimit-remaining-tokens", " 149984 "),
            ("retry-after", "2"),
            ("location", "https://example.com/login?token=secret"),
            ("set-cookie", "secret"),
        ]));
        assert_eq!(headers.request_id.as_deref(), Some("req_1"));
        assert_eq!(headers.tokens.remaining.as_deref(), Some("149984"));
        assert_eq!(headers.retry_after.as_deref(), Some("2"));
        assert_eq!(headers.location_host.as_deref(), Some("example.com"));
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn limits_are_found_under_either_name() {
        let headers = ReplyHeaders::from_map(&map(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-11-23T12:00:01Z"),
            ("anthropic-ratelimit-input-tokens-limit", "30000"),
        ]));
        assert_eq!(headers.requests.limit.as_deref(), Some("50"));
        assert_eq!(headers.requests.remaining.as_deref(), Some("49"));
        assert_eq!(headers.requests.reset.as_deref(), Some("2026-11-23T12:00:01Z"));
        assert_eq!(headers.tokens.limit.as_deref(), Some("30000"));
        let both = ReplyHeaders::from_map(&map(&[
            ("anthropic-ratelimit-input-tokens-limit", "30000"),
            ("anthropic-ratelimit-tokens-limit", "38000"),
        ]));
        assert_eq!(both.tokens.limit.as_deref(), Some("38000"));
    }

    #[test]
    fn anthropic_style_ids_are_read_and_junk_is_not() {
        let headers = ReplyHeaders::from_map(&map(&[
            ("request-id", "req_2"),
            ("location", "/elsewhere"),
            ("retry-after", ""),
            ("x-should-retry", &"x".repeat(MAX_VALUE_BYTES + 1)),
        ]));
        assert_eq!(
            headers,
            ReplyHeaders { request_id: Some("req_2".to_owned()), ..ReplyHeaders::default() }
        );
        let mut opaque = HeaderMap::new();
        opaque.insert("x-request-id", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        assert_eq!(ReplyHeaders::from_map(&opaque), ReplyHeaders::default());
    }
}
