//! The only HTTP client. It sends once and tells what came back.
//!
//! It never retries, never follows a redirect (the key must not follow either) and never decides what a
//! reply means. HTTP/1.1 only: one request a connection at a time, so nothing is repeated behind our back.
//!
//! A provider may send what it likes for as long as it likes, and many may at once: each reply is bounded in
//! time and in length, and what all of them together hold in memory is bounded too ([`Room`]).

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
pub(super) use reqwest::multipart;
use tokio_stream::StreamExt as _;
use url::{Host, Url};

pub(super) use self::room::Room;
use self::room::Rooms;
use super::clock::Clock;
use super::secret::Secret;
use crate::domain::FailureClass;
use crate::store::stop_point::{Point, pass, pass_call};

mod room;

/// The biggest reply of a model that is read: far beyond any answer, far below the memory of a laptop.
const BIGGEST_REPLY: usize = 32 << 20;
/// The biggest reply about files and batches that is read: a page of 10,000 files has half of that.
const BIGGEST_CONTROL: usize = 8 << 20;
/// How much of a reply is read before it needs room.
const SMALL_REPLY: usize = 256 << 10;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends bodies to providers.
#[derive(Clone)]
pub struct Transport {
    client: reqwest::Client,
    /// For addresses on this machine, which no proxy has to do with.
    near: reqwest::Client,
    timeout: Duration,
    rooms: Rooms,
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
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its share of the memory for replies; it is free again once nobody holds this.
    pub(super) room: Option<Room>,
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
        let builder = || {
            reqwest::Client::builder()
                .http1_only()
                .retry(reqwest::retry::never())
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT.min(timeout))
                .pool_max_idle_per_host(usize::MAX)
                .user_agent(concat!("overnight/", env!("CARGO_PKG_VERSION")))
        };
        let near = builder().no_proxy().build()?;
        let client = match proxies {
            Proxies::AsTheSystemSays => builder().build()?,
            Proxies::None => near.clone(),
        };
        Ok(Self { client, near, timeout, rooms: Rooms::new(), wire: None })
    }

    /// The same, with a wire in the place of sockets.
    #[doc(hidden)]
    #[must_use]
    pub fn by_wire(&self, wire: Arc<dyn Wire>) -> Self {
        Self { wire: Some(wire), ..self.clone() }
    }

    /// Returns the client for an address. A key that goes to this machine in the clear must not go by another one.
    fn client(&self, url: &Url) -> &reqwest::Client {
        if is_near(url) { &self.near } else { &self.client }
    }

    /// Sends once and waits for the head of the reply.
    async fn head_of(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, NoReply> {
        let (client, request) = request.build_split();
        let request = request.map_err(|error| broken(&error))?;
        let (method, url) = (request.method().clone(), request.url().clone());
        pass_call(Point::BeforeSend, (method.as_str(), url.path()));
        let response = match &self.wire {
            None => client.execute(request).await.map_err(|error| broken(&error)),
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
        let client = self.client(&call.url);
        let sent = client.post(call.url).headers(call.headers).body(call.body);
        let patience = self.timeout.min(CONTROL_TIMEOUT);
        in_time(patience, self.whole(self.head_of(sent), BIGGEST_CONTROL, key)).await
    }

    /// Sends once and waits for the whole reply.
    pub async fn send(&self, call: Call, key: Option<&Secret>) -> Result<Reply, NoReply> {
        let client = self.client(&call.url);
        let sent = client.post(call.url).headers(call.headers).body(call.body);
        in_time(self.timeout, self.whole(self.head_of(sent), BIGGEST_REPLY, key)).await
    }

    /// Asks once for what is at `call.url`; its body is not sent.
    pub async fn get(&self, call: Call, key: Option<&Secret>) -> Result<Reply, NoReply> {
        let sent = self.client(&call.url).get(call.url).headers(call.headers);
        let patience = self.timeout.min(CONTROL_TIMEOUT);
        in_time(patience, self.whole(self.head_of(sent), BIGGEST_CONTROL, key)).await
    }

    /// Sends a form with a file in it once. `bytes` is the file's size, for which time is given.
    pub async fn upload(
        &self,
        (url, headers): (Url, HeaderMap),
        (form, bytes): (multipart::Form, u64),
        key: Option<&Secret>,
    ) -> Result<Reply, NoReply> {
        let sent = self.client(&url).post(url).headers(headers).multipart(form);
        let patience = self.timeout + time_for(bytes);
        in_time(patience, self.whole(self.head_of(sent), BIGGEST_CONTROL, key)).await
    }

    /// Asks once for a file, to be read part by part.
    pub async fn download(
        &self,
        call: Call,
        key: Option<&Secret>,
    ) -> Result<Result<Download, Reply>, NoReply> {
        let sent = self.client(&call.url).get(call.url).headers(call.headers);
        let response = in_time(self.timeout, self.head_of(sent)).await?;
        if response.status().is_success() {
            let (patience, waited) = (self.timeout, Duration::ZERO);
            return Ok(Ok(Download { response, patience, waited, bytes: 0 }));
        }
        let whole = self.whole(async { Ok(response) }, BIGGEST_CONTROL, key);
        Ok(Err(in_time(self.timeout, whole).await?))
    }

    /// Reads a reply to its end, and no further than `most` bytes.
    async fn whole(
        &self,
        sent: impl Future<Output = Result<reqwest::Response, NoReply>>,
        most: usize,
        key: Option<&Secret>,
    ) -> Result<Reply, NoReply> {
        let mut response = sent.await?;
        let announced = response.content_length().map(|length| length as usize);
        if announced.is_some_and(|length| length > most) {
            return Err(too_long(most));
        }
        let (mut body, mut room) = (BytesMut::new(), None);
        while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
            let length = body.len() + chunk.len();
            if length > most {
                return Err(too_long(most));
            }
            if length > SMALL_REPLY && room.is_none() {
                let needed = announced.unwrap_or(most);
                room = Some(self.rooms.take(needed).await);
                body.reserve(announced.unwrap_or(0).saturating_sub(body.len()));
            }
            body.extend_from_slice(&chunk);
        }
        if let Some(room) = &mut room {
            room.keep(body.len());
        }
        let body = body.freeze();
        let body = key.and_then(|key| key.redact(&body)).map_or(body, Bytes::from);
        let headers = without_key(std::mem::take(response.headers_mut()), key);
        pass(Point::ReplyWhole);
        Ok(Reply { status: response.status().as_u16(), headers, body, room })
    }
}

fn too_long(most: usize) -> NoReply {
    let message = format!("the reply is longer than {} MiB", most >> 20);
    NoReply { class: FailureClass::MalformedReply, message }
}

/// Takes the key out of every header that repeats it: some of them go on record.
fn without_key(mut headers: HeaderMap, key: Option<&Secret>) -> HeaderMap {
    let Some(key) = key else { return headers };
    for value in headers.values_mut() {
        if let Some(clean) = key.redact(value.as_bytes()) {
            *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static(""));
        }
    }
    headers
}

/// Returns for how long so many bytes may be under way.
fn time_for(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

/// Says whether a URL leads to this machine, by its address or as `localhost`.
pub fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
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
    /// How long was waited for its parts so far.
    waited: Duration,
    /// How many bytes came so far.
    bytes: u64,
}

impl Download {
    /// Returns its next part, `None` at its end. A connection that ends too soon is an error, and so is one that
    /// gives a byte now and then for ever.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NoReply> {
        let left = (self.patience + time_for(self.bytes)).saturating_sub(self.waited);
        let clock = Clock::start();
        let next = async { self.response.chunk().await.map_err(|error| broken(&error)) };
        let Ok(part) = tokio::time::timeout(left, next).await else {
            let message = format!("the file comes too slowly: {} bytes so far", self.bytes);
            return Err(NoReply { class: FailureClass::Timeout, message });
        };
        let part = part?;
        pass(if part.is_some() { Point::PartCame } else { Point::ReplyWhole });
        self.waited += clock.elapsed();
        self.bytes += part.as_ref().map_or(0, |part| part.len() as u64);
        Ok(part)
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

fn broken(error: &reqwest::Error) -> NoReply {
    // The chain's last link says what happened; the first ones repeat the URL.
    let mut last: &dyn Error = error;
    let mut is_http = true;
    while let Some(source) = last.source() {
        last = source;
        is_http &= last.downcast_ref::<hyper::Error>().is_none_or(|error| !error.is_parse());
    }
    let class = match (error.is_connect(), error.is_timeout()) {
        (true, _) => FailureClass::Unreachable,
        (false, true) => FailureClass::Timeout,
        (false, false) if is_http => FailureClass::Connection,
        (false, false) => FailureClass::MalformedReply,
    };
    let what = if error.is_connect() { "cannot connect: " } else { "" };
    NoReply { class, message: format!("{what}{last}") }
}
