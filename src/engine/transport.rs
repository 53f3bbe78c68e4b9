//! The only HTTP client. It sends once and tells what came back.
//!
//! It never retries, never follows a redirect (the key must not follow either) and never decides what a
//! reply means. HTTP/1.1 only: one request a connection at a time, so nothing is repeated behind our back.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
pub(super) use reqwest::multipart;
use tokio_stream::StreamExt as _;
use url::Url;

use super::secret::Secret;
use crate::domain::FailureClass;
use crate::store::stop_point::{Point, pass, pass_call};

/// The biggest reply that is read: far beyond any answer, far below the memory of a laptop.
const BIGGEST_REPLY: usize = 64 * 1024 * 1024;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends bodies to providers.
#[derive(Clone)]
pub struct Transport {
    client: reqwest::Client,
    timeout: Duration,
    /// Where requests go in a simulation, which has no sockets.
    wire: Option<Arc<dyn Wire>>,
}

/// A way to a provider without a socket.
#[doc(hidden)]
pub trait Wire: Send + Sync {
    /// Carries a request there, as it would be written to a socket, and the reply back.
    fn carry(&self, request: http::Request<SentBody>) -> Carrying;
}

/// The body of a request on a wire.
#[doc(hidden)]
pub type SentBody = UnsyncBoxBody<Bytes, BrokenBody>;
/// The body of a reply on a wire; it may still be on its way when the head is there.
#[doc(hidden)]
pub type ReplyBody = BoxBody<Bytes, BrokenBody>;
/// A body that broke off, and why.
#[doc(hidden)]
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BrokenBody(String);

impl BrokenBody {
    /// Makes one of whatever broke it.
    pub fn of(error: impl Error) -> Self {
        Self(error.to_string())
    }
}

/// A request on its way, until the head of its reply is there.
#[doc(hidden)]
pub type Carrying =
    Pin<Box<dyn Future<Output = Result<http::Response<ReplyBody>, NoReply>> + Send>>;

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

/// How long is waited for the reply to a short call about files and batches, at most.
const CONTROL_TIMEOUT: Duration = Duration::from_mins(2);
/// The least speed that a transfer of many bytes is given time for.
const SLOWEST_BYTES_PER_SECOND: u64 = 32 * 1024;

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
        Ok(Self { client: client.build()?, timeout, wire: None })
    }

    /// The same, with a wire in the place of sockets.
    #[doc(hidden)]
    pub fn by_wire(&self, wire: Arc<dyn Wire>) -> Self {
        Self { wire: Some(wire), ..self.clone() }
    }

    /// Sends once and waits for the head of the reply.
    async fn head_of(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, NoReply> {
        let request = request.build().map_err(|error| broken(&error))?;
        let (method, url) = (request.method().clone(), request.url().clone());
        pass_call(Point::BeforeSend, (method.as_str(), url.path()));
        let response = match &self.wire {
            None => self.client.execute(request).await.map_err(|error| broken(&error)),
            Some(wire) => {
                let request = http::Request::<reqwest::Body>::try_from(request);
                let request = request.map_err(|error| broken(&error))?;
                let request = request.map(|body| body.map_err(BrokenBody::of).boxed_unsync());
                Ok(wire.carry(request).await?.map(reqwest::Body::wrap).into())
            }
        }?;
        pass_call(Point::ReplyBegun, (method.as_str(), url.path()));
        Ok(response)
    }

    /// Sends a short call about a batch once and waits for the whole reply, for less long than for a model's.
    pub async fn control(&self, call: Call, key: Option<&Secret>) -> Result<Reply, NoReply> {
        let sent = self.client.post(call.url).headers(call.headers).body(call.body);
        in_time(self.timeout.min(CONTROL_TIMEOUT), whole(self.head_of(sent), key)).await
    }

    /// Sends once and waits for the whole reply.
    pub async fn send(&self, call: Call, key: Option<&Secret>) -> Result<Reply, NoReply> {
        let sent = self.client.post(call.url).headers(call.headers).body(call.body);
        in_time(self.timeout, whole(self.head_of(sent), key)).await
    }

    /// Asks once for what is at `call.url`; its body is not sent.
    pub async fn get(&self, call: Call, key: Option<&Secret>) -> Result<Reply, NoReply> {
        let sent = self.client.get(call.url).headers(call.headers);
        in_time(self.timeout.min(CONTROL_TIMEOUT), whole(self.head_of(sent), key)).await
    }

    /// Sends a form with a file in it once. `bytes` is the file's size, for which time is given.
    pub async fn upload(
        &self,
        (url, headers): (Url, HeaderMap),
        (form, bytes): (multipart::Form, u64),
        key: Option<&Secret>,
    ) -> Result<Reply, NoReply> {
        let sent = self.client.post(url).headers(headers).multipart(form);
        let for_the_bytes = Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        in_time(self.timeout + for_the_bytes, whole(self.head_of(sent), key)).await
    }

    /// Asks once for a file, to be read part by part.
    pub async fn download(
        &self,
        call: Call,
        key: Option<&Secret>,
    ) -> Result<Result<Download, Reply>, NoReply> {
        let sent = self.client.get(call.url).headers(call.headers);
        let response = in_time(self.timeout, self.head_of(sent)).await?;
        if response.status().is_success() {
            return Ok(Ok(Download { response, patience: self.timeout }));
        }
        let reply = in_time(self.timeout, whole(async { Ok(response) }, key)).await?;
        Ok(Err(reply))
    }
}

/// Makes a body of parts that come one after another.
pub(super) fn stream(
    parts: tokio_stream::wrappers::ReceiverStream<std::io::Result<Bytes>>,
) -> reqwest::Body {
    reqwest::Body::wrap_stream(parts.map(|part| {
        pass(Point::PartSent);
        part
    }))
}

/// A file that is being read.
#[derive(Debug)]
pub struct Download {
    response: reqwest::Response,
    patience: Duration,
}

impl Download {
    /// Returns its next part, `None` at its end. A connection that ends too soon is an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NoReply> {
        let next = async { self.response.chunk().await.map_err(|error| broken(&error)) };
        let next = in_time(self.patience, next).await?;
        pass(if next.is_some() { Point::PartCame } else { Point::ReplyWhole });
        Ok(next)
    }
}

async fn in_time<T>(
    patience: Duration,
    what: impl Future<Output = Result<T, NoReply>>,
) -> Result<T, NoReply> {
    match tokio::time::timeout(patience, what).await {
        Ok(done) => done,
        Err(_) => Err(NoReply {
            class: FailureClass::Timeout,
            message: format!("no whole reply within {} s", patience.as_secs()),
        }),
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
    sent: impl Future<Output = Result<reqwest::Response, NoReply>>,
    key: Option<&Secret>,
) -> Result<Reply, NoReply> {
    let mut response = sent.await?;
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
    pass(Point::ReplyWhole);
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
