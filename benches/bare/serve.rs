//! The mock provider: chat completions after a latency, and instant batches, over HTTP/1.1 on a port of the system's choice.
//!
//! ```text
//!   /v1/chat/completions   /v1/files[/ID[/content]]   /v1/batches[/ID[/cancel]]
//!   /control/stats   /control/reset   /control/hold   /control/release
//! ```
//!
//! It answers everything and checks nothing: it must never be what is waited for.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::args::Args;
use crate::jobs::{Jobs, Page, Results, Upload};
use crate::replies::Replies;

type Body = BoxBody<Bytes, Infallible>;

/// What all connections share.
struct Mock {
    latency: Duration,
    replies: Arc<Replies>,
    jobs: Jobs,
    chats: AtomicU64,
    /// When the first chat request since the last reset came, in nanoseconds since 1970; 0 where none did.
    first_chat: AtomicU64,
    connections: AtomicU64,
    now_in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    /// How late replies left, all of them together, in microseconds.
    late: AtomicU64,
}

pub(crate) fn run(args: &Args) {
    let mock = Arc::new(Mock {
        latency: Duration::from_millis(args.or("latency", 0)),
        replies: Arc::new(Replies::new(args.text("answers") == Some("json"))),
        jobs: Jobs::default(),
        chats: AtomicU64::new(0),
        first_chat: AtomicU64::new(0),
        connections: AtomicU64::new(0),
        now_in_flight: AtomicU64::new(0),
        most_in_flight: AtomicU64::new(0),
        late: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.or("threads", 1))
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(accept(mock));
}

async fn accept(mock: Arc<Mock>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4096).unwrap();
    println!("http://{}/v1", listener.local_addr().unwrap());
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).unwrap();
        mock.connections.fetch_add(1, Ordering::Relaxed);
        let mock = Arc::clone(&mock);
        let service = hyper::service::service_fn(move |request| {
            let mock = Arc::clone(&mock);
            async move { Ok::<_, Infallible>(mock.answer(request).await) }
        });
        // A client that goes away ends its own connection and nothing else.
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

impl Mock {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let path: Vec<&str> = path.split('/').skip(1).collect();
        let query = request.uri().query().unwrap_or_default().to_owned();
        match (request.method() == Method::POST, path.as_slice()) {
            (true, ["v1", "chat", "completions"]) => self.chat(request).await,
            (true, ["v1", "files"]) => {
                let mut upload = Upload::default();
                read(request, |part| upload.take(part)).await;
                object(Some(self.jobs.uploaded(upload)))
            }
            (true, ["v1", "batches"]) => {
                let mut body = Vec::new();
                read(request, |part| body.extend_from_slice(part)).await;
                object(self.jobs.create(&body))
            }
            (true, ["v1", "batches", id, "cancel"]) => object(self.jobs.cancel(id)),
            (false, ["v1", "files"]) => object(Some(self.jobs.files(&page(&query)))),
            (false, ["v1", "files", id]) => object(self.jobs.file(id)),
            (false, ["v1", "files", id, "content"]) => self.content(id),
            (false, ["v1", "batches"]) => object(Some(self.jobs.batches(&page(&query)))),
            (false, ["v1", "batches", id]) => object(self.jobs.batch(id)),
            (_, ["control", word]) => object(self.control(word)),
            _ => object(None),
        }
    }

    async fn chat(&self, request: Request<Incoming>) -> Response<Body> {
        let due = tokio::time::Instant::now() + self.latency;
        if self.first_chat.load(Ordering::Relaxed) == 0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
            let _ = self.first_chat.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
        let in_flight = self.now_in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        read(request, |_| ()).await;
        if !self.latency.is_zero() {
            // The timer goes by whole milliseconds, and rounds up.
            tokio::time::sleep_until(due - Duration::from_millis(1)).await;
            self.late.fetch_add(due.elapsed().as_micros() as u64, Ordering::Relaxed);
        }
        self.now_in_flight.fetch_sub(1, Ordering::Relaxed);
        self.chats.fetch_add(1, Ordering::Relaxed);
        let number = self.replies.number();
        let mut response = json_response(Full::new(self.replies.chat(number)).boxed());
        if let Ok(id) = HeaderValue::try_from(format!("req_{number:032x}")) {
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }

    fn content(&self, id: &str) -> Response<Body> {
        let Some(input) = self.jobs.input_of(id) else { return object(None) };
        let results = Results::of(input, Arc::clone(&self.replies));
        let length = results.length();
        let parts = results.map(|part| Ok(Frame::data(part)));
        let mut response = Response::new(StreamBody::new(tokio_stream::iter(parts)).boxed());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, length.into());
        response
    }

    fn control(&self, word: &str) -> Option<Value> {
        match word {
            "stats" => {}
            "reset" => {
                for counter in [&self.chats, &self.first_chat, &self.most_in_flight, &self.late] {
                    counter.store(0, Ordering::Relaxed);
                }
                self.connections.store(0, Ordering::Relaxed);
            }
            "hold" => self.jobs.hold(true),
            "release" => self.jobs.hold(false),
            _ => return None,
        }
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(json!({
            "chats": of(&self.chats), "first_chat_ns": of(&self.first_chat), "connections": of(&self.connections),
            "most_in_flight": of(&self.most_in_flight),
            "mean_late_us": of(&self.late) / of(&self.chats).max(1),
        }))
    }
}

fn page(query: &str) -> Page<'_> {
    let value = |name| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let limit = value("limit").and_then(|limit| limit.parse().ok()).unwrap_or(20);
    Page { after: value("after"), limit }
}

async fn read(request: Request<Incoming>, mut take: impl FnMut(&[u8])) {
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            take(&data);
        }
    }
}

fn object(value: Option<Value>) -> Response<Body> {
    let is_there = value.is_some();
    let value = value.unwrap_or_else(
        || json!({"error": {"message": "not here", "type": "invalid_request_error"}}),
    );
    let mut response = json_response(Full::new(Bytes::from(value.to_string())).boxed());
    if !is_there {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

fn json_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
