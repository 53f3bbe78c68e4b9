//! The only HTTP client. It sends once and tells what came back.
//!
//! It never retries, never follows a redirect (the key must not follow either) and never decides what a
//! reply means. HTTP/1.1 only: one request a connection at a time, so nothing is repeated behind our back.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use url::Url;

use super::secret::Secret;
use crate::domain::FailureClass;

/// The biggest reply that is read: far beyond any answer, far below the memory of a laptop.
const BIGGEST_REPLY: usize = 64 * 1024 * 1024;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends bodies to providers.
#[derive(Clone, Debug)]
pub struct Transport {
    client: reqwest::Client,
    timeout: Duration,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where to.
    pub url: Url,
    /// Content type, key and the like.
    pub headers: HeaderMap,
    /// The exact bytes.
    pub body: Bytes,
}

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A call without a whole reply.
#[derive(Clone, Debug)]
pub struct NoReply {
    /// Unreachable, connection or timeout, or a reply too big to be one.
    pub class: FailureClass,
    /// What went wrong, in one line.
    pub message: String,
}

impl Transport {
    /// Makes the client.
    #[expect(clippy::disallowed_methods, reason = "the one home of the HTTP client")]
    pub fn new(timeout: Duration, proxies: Proxies) -> Result<Self, reqwest::Error> {
        // An error says that it was installed before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .http1_only()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .pool_max_idle_per_host(usize::MAX)
            .user_agent(concat!("overnight/", env!("CARGO_PKG_VERSION")));
        let client = match proxies {
            Proxies::AsTheSystemSays => builder,
            Proxies::None => builder.no_proxy(),
        };
        Ok(Self { client: client.build()?, timeout })
    }

    /// Sends once and waits for the whole reply.
    pub async fn send(&self, call: Call, key: Option<&Secret>) -> Result<Reply, NoReply> {
        let sent = self.client.post(call.url).headers(call.headers).body(call.body).send();
        match tokio::time::timeout(self.timeout, whole(sent, key)).await {
            Ok(reply) => reply,
            Err(_) => Err(NoReply {
                class: FailureClass::Timeout,
                message: format!("no whole reply within {} s", self.timeout.as_secs()),
            }),
        }
    }
}

/// Whether proxies of the environment are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxies {
    /// As `HTTPS_PROXY` and its kin say.
    AsTheSystemSays,
    /// Never: for the embedded simulator.
    None,
}

async fn whole(
    sent: impl Future<Output = Result<reqwest::Response, reqwest::Error>>,
    key: Option<&Secret>,
) -> Result<Reply, NoReply> {
    let mut response = sent.await.map_err(|error| broken(&error))?;
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        if body.len() + chunk.len() > BIGGEST_REPLY {
            return Err(NoReply {
                class: FailureClass::MalformedReply,
                message: format!("the reply is longer than {} MiB", BIGGEST_REPLY >> 20),
            });
        }
        body.extend_from_slice(&chunk);
    }
    let body = body.freeze();
    let body = key.and_then(|key| key.redact(&body)).map_or(body, Bytes::from);
    Ok(Reply { status: response.status().as_u16(), headers: response.headers().clone(), body })
}

fn broken(error: &reqwest::Error) -> NoReply {
    let class = match (error.is_connect(), error.is_timeout()) {
        (true, _) => FailureClass::Unreachable,
        (false, true) => FailureClass::Timeout,
        (false, false) => FailureClass::Connection,
    };
    // The chain's last link says what happened; the first ones repeat the URL.
    let mut last: &dyn Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let what = if error.is_connect() { "cannot connect: " } else { "" };
    NoReply { class, message: format!("{what}{last}") }
}
