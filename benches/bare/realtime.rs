//! The bare realtime loop: reqwest, and one thread that writes to SQLite in groups.
//!
//! It keeps what the program keeps: a promise on the disk before each send, and behind it the reply, raw and read. Each of
//! its workers takes a row, waits for its promise, sends, hands the reply to the writer and takes the next. With `--ahead N`
//! there are N workers more than calls may be in flight, so that promises reach the disk while others are on their way.
//! Nothing is tried again: a call that fails ends it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use crate::args::Args;
use crate::json::Completion;
use crate::prompt::{Prompt, Reviews};
use crate::record::{self, Codec, Promise, Settled, now, sha256};

/// Orders that one commit may hold.
const GROUP: usize = 1024;

enum Order {
    Promise(Promise, oneshot::Sender<()>),
    Settle(Box<Settled>),
}

/// What all workers share.
struct Work {
    rows: Mutex<Reviews>,
    prompt: Prompt,
    client: reqwest::Client,
    url: String,
    key: String,
    orders: Sender<Order>,
    bodies: Codec,
    /// As many as may be in flight.
    places: Semaphore,
}

pub(crate) fn run(args: &Args) {
    let start = Instant::now();
    let (table, record, url) = (args.word(0), args.word(1), args.word(2));
    let in_flight: usize = args.number(3);
    let workers = in_flight + args.or("ahead", 0);
    let prompt = Prompt::of(args);
    let conn = record::create(record);
    // The first body and the first reply are what the others are compressed against.
    let body = Reviews::open(table, 1).map(|(_, review)| prompt.body(&review)).next().unwrap();
    record::dictionary(&conn, "body", &body);
    let (orders, queue) = channel();
    let work = Arc::new(Work {
        rows: Mutex::new(Reviews::open(table, args.or("limit", -1))),
        prompt,
        client: client(),
        url: format!("{url}/chat/completions"),
        key: "Bearer sk-bare".to_owned(),
        orders,
        bodies: Codec::with(&body),
        places: Semaphore::new(in_flight),
    });
    let writer = std::thread::spawn(move || write(conn, &queue));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let first = work.next().unwrap();
        let (settled, reply) = work.call(first, None).await;
        work.orders.send(Order::Settle(settled)).unwrap();
        let replies = Arc::new(Codec::with(&reply));
        let workers: Vec<_> = (0..workers)
            .map(|_| tokio::spawn(Arc::clone(&work).work(Arc::clone(&replies))))
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
    });
    let answered = writer.join().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{{\"answered\":{answered},\"seconds\":{seconds:.3},\"rate\":{:.0}}}",
        answered as f64 / seconds
    );
}

/// Makes a client as the program's: HTTP/1.1, without retries, redirects or proxies.
pub(crate) fn client() -> reqwest::Client {
    // An error says that it was installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(usize::MAX)
        .build()
        .unwrap()
}

impl Work {
    fn next(&self) -> Option<(i64, String)> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    async fn work(self: Arc<Self>, replies: Arc<Codec>) {
        while let Some(row) = self.next() {
            let (settled, _) = self.call(row, Some(&replies)).await;
            self.orders.send(Order::Settle(settled)).unwrap();
        }
    }

    /// Promises, sends and reads; returns what is to be settled and the raw reply.
    async fn call(
        &self,
        (id, review): (i64, String),
        codec: Option<&Codec>,
    ) -> (Box<Settled>, bytes::Bytes) {
        let body = self.prompt.body(&review);
        let (promised, is_durable) = oneshot::channel();
        let promise = Promise {
            id,
            batch: None,
            fingerprint: sha256(&body),
            body: self.bodies.pack(&body),
            body_bytes: body.len(),
            at: now(),
        };
        self.orders.send(Order::Promise(promise, promised)).unwrap();
        is_durable.await.unwrap();
        let place = self.places.acquire().await.unwrap();
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("authorization", &self.key)
            .body(body);
        let response = request.send().await.unwrap().error_for_status().unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let reply = response.bytes().await.unwrap();
        drop(place);
        let completion: Completion<'_> = serde_json::from_slice(&reply).unwrap();
        let mut settled = Box::new(Settled::of(completion, id));
        settled.status = status;
        let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        request_id.unwrap_or_default().clone_into(&mut settled.provider_request_id);
        settled.reply = codec.map_or_else(|| reply.to_vec(), |codec| codec.pack(&reply));
        settled.reply_bytes = reply.len();
        (settled, reply)
    }
}

/// Takes all that waits, commits it, and tells those who wait for it; returns how many were settled.
fn write(conn: Connection, queue: &Receiver<Order>) -> u64 {
    let mut settled = 0;
    while let Ok(first) = queue.recv() {
        let mut promised = Vec::new();
        let mut next = Some(first);
        let mut group = 0;
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        while let Some(order) = next {
            match order {
                Order::Promise(promise, tell) => {
                    record::promise(&conn, &promise);
                    promised.push(tell);
                }
                Order::Settle(reply) => {
                    record::settle(&conn, &reply);
                    settled += 1;
                }
            }
            group += 1;
            next = if group < GROUP { queue.try_recv().ok() } else { None };
        }
        conn.execute_batch("COMMIT").unwrap();
        for tell in promised {
            // Who does not wait any more has failed, and says so itself.
            let _ = tell.send(());
        }
    }
    conn.close().unwrap();
    settled
}
