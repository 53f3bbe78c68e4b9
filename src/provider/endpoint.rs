//! From the base URL that a person typed to the URL that is called.
//!
//! A base URL can hold a secret (user:password@, ?key=…), so no message repeats any of it, except
//! once it is known to be a plain path.

use url::Url;

use crate::domain::Endpoint;

/// What is wrong with a base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Nothing, or only blanks.
    #[error("the base URL is empty")]
    Empty,
    /// Not a URL at all; the cause never holds the text.
    #[error("the base URL is not a URL; one looks like http://localhost:8000/v1")]
    NotAUrl(#[source] url::ParseError),
    /// Another scheme, or none: `localhost:8000` reads as the scheme `localhost`.
    #[error("the base URL must start with http:// or https://")]
    NotHttp,
    /// No host.
    #[error("the base URL names no host")]
    NoHost,
    /// `user:password@`.
    #[error(
        "the base URL holds a user name or password; leave it out and put the key into the \
         provider's environment variable"
    )]
    UserInfo,
    /// `?…` or `#…`.
    #[error("the base URL must end before any '?' or '#'")]
    QueryOrFragment,
    /// The URL of an endpoint rather than of what stands before it.
    #[error("the base URL must end before /{endpoint}; use {instead}")]
    EndsInEndpoint {
        /// The endpoint's path that it ends in.
        endpoint: &'static str,
        /// What to type instead.
        instead: String,
    },
}

/// Returns the URL of `endpoint` below the base URL `base`.
///
/// Blanks around it and slashes at its end do not matter.
pub fn endpoint_url(base: &str, endpoint: Endpoint) -> Result<Url, BaseUrlError> {
    let base = checked(base)?;
    Ok(below(&base, endpoint.as_str()))
}

/// Returns the URL of `path`, which is percent-encoded already, below a base URL that [`checked`] has let pass.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// Returns the base URL as a URL, if it is one.
pub(super) fn checked(base: &str) -> Result<Url, BaseUrlError> {
    let base = base.trim();
    if base.is_empty() {
        return Err(BaseUrlError::Empty);
    }
    let url = Url::parse(base).map_err(|cause| match cause {
        url::ParseError::RelativeUrlWithoutBase => BaseUrlError::NotHttp,
        url::ParseError::EmptyHost => BaseUrlError::NoHost,
        other => BaseUrlError::NotAUrl(other),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BaseUrlError::NotHttp);
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(BaseUrlError::NoHost);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BaseUrlError::UserInfo);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(BaseUrlError::QueryOrFragment);
    }
    refuse_endpoint(&url)?;
    Ok(url)
}

/// The last parts of a path that belong to a call and not to a base URL; longer ones first.
const ENDPOINTS: [&str; 7] =
    ["chat/completions", "responses", "completions", "embeddings", "models", "batches", "files"];

fn refuse_endpoint(url: &Url) -> Result<(), BaseUrlError> {
    let path = url.path().trim_end_matches('/');
    for endpoint in ENDPOINTS {
        let Some(before) = path.strip_suffix(endpoint) else { continue };
        if before.ends_with('/') {
            let mut instead = url.clone();
            instead.set_path(before.trim_end_matches('/'));
            let instead = instead.as_str().trim_end_matches('/').to_owned();
            return Err(BaseUrlError::EndsInEndpoint { endpoint, instead });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(base: &str) -> Result<String, BaseUrlError> {
        endpoint_url(base, Endpoint::ChatCompletions).map(String::from)
    }

    #[test]
    fn slashes_and_blanks_around_a_base_url_do_not_matter() {
        let wanted = "https://api.openai.com/v1/chat/completions";
        for base in [
            "https://api.openai.com/v1",
            "https://api.openai.com/v1/",
            " https://api.openai.com/v1///\n",
            "HTTPS://API.OpenAI.com:443/v1",
        ] {
            assert_eq!(chat(base).as_deref(), Ok(wanted), "{base:?}");
        }
        assert_eq!(
            chat("http://localhost:8000").as_deref(),
            Ok("http://localhost:8000/chat/completions")
        );
        assert_eq!(chat("http://[::1]:8000/").as_deref(), Ok("http://[::1]:8000/chat/completions"));
        assert_eq!(
            endpoint_url("http://h/a%20b/v1", Endpoint::Responses).unwrap().as_str(),
            "http://h/a%20b/v1/responses"
        );
    }

    #[test]
    fn what_is_no_base_url_is_refused() {
        use BaseUrlError::{Empty, NoHost, NotAUrl, NotHttp, QueryOrFragment, UserInfo};
        assert_eq!(chat("  "), Err(Empty));
        assert_eq!(chat("localhost:8000/v1"), Err(NotHttp));
        assert_eq!(chat("api.openai.com/v1"), Err(NotHttp));
        assert_eq!(chat("ftp://h/v1"), Err(NotHttp));
        assert_eq!(chat("file:///etc/passwd"), Err(NotHttp));
        assert_eq!(chat("http://"), Err(NoHost));
        assert!(matches!(chat("http://h:99999/v1"), Err(NotAUrl(_))));
        assert_eq!(chat("https://h/v1?api-version=1"), Err(QueryOrFragment));
        assert_eq!(chat("https://h/v1#x"), Err(QueryOrFragment));
        assert_eq!(chat("https://me@h/v1"), Err(UserInfo));
        assert_eq!(chat("https://:pw@h/v1"), Err(UserInfo));
    }

    #[test]
    fn no_message_repeats_a_secret() {
        for base in [
            "https://user:sk-secret@h/v1",
            "https://sk-secret@h/v1",
            "https://h/v1?key=sk-secret",
            "https://h/v1/chat/completions?key=sk-secret",
            "sk-secret",
            "http://sk-secret:x/v1",
            "sk-secret://h",
        ] {
            let error = chat(base).unwrap_err();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let told = format!("{error} {error:?} {cause:?}");
            assert!(!told.contains("secret"), "{base}: {told}");
        }
    }

    #[test]
    fn a_whole_endpoint_is_answered_with_what_to_type() {
        let instead = |base: &str| match chat(base) {
            Err(BaseUrlError::EndsInEndpoint { endpoint, instead }) => (endpoint, instead),
            other => panic!("{other:?}"),
        };
        let v1 = || "https://h/v1".to_owned();
        assert_eq!(instead("https://h/v1/chat/completions"), ("chat/completions", v1()));
        assert_eq!(instead("https://h/v1/chat/completions/"), ("chat/completions", v1()));
        assert_eq!(instead("https://h/v1/responses"), ("responses", v1()));
        assert_eq!(instead("https://h/responses").1, "https://h");
        assert_eq!(
            chat("https://h/myresponses").as_deref(),
            Ok("https://h/myresponses/chat/completions")
        );
        assert_eq!(
            chat("https://h/v1/responses").unwrap_err().to_string(),
            "the base URL must end before /responses; use https://h/v1"
        );
    }
}
