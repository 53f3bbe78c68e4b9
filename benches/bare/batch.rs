//! Batches, bare: build and upload the input, download the results, parse and insert them.
//!
//! `pack` and `collect` are one step each; `job` is all of them, with every row, request and reply on the disk.

use std::io::{BufRead, Write};

use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::Args;
use crate::json::{Object, ResultLine};
use crate::prompt::{Prompt, Reviews};
use crate::realtime::client;
use crate::record::{self, Codec, Promise, Settled, now, sha256};

/// Requests in one batch.
const SIZE: i64 = 50_000;
const TOKEN: &str = "o7f3a9c2e1b4d5f60";
/// About how many bytes are handed to the socket at a time.
const PART: usize = 256 * 1024;
/// Results to one commit.
const GROUP: i64 = 10_000;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Builds the input of batches and uploads it while it is built.
pub(crate) fn pack(args: &Args) {
    let prompt = Prompt::of(args);
    let mut rows = Reviews::open(args.word(0), args.or("limit", -1)).peekable();
    let runtime = runtime();
    let (mut bytes, mut batches) = (0, Vec::new());
    if let Some(path) = args.text("record") {
        let conn = record::create(path);
        promise_all(&conn, args.word(0), &prompt);
        conn.close().unwrap();
    }
    while rows.peek().is_some() {
        let lines = rows.by_ref().take(args.or("size", SIZE) as usize);
        let lines = lines.map(|(id, review)| (id, prompt.body(&review)));
        let (sent, batch) = submit(&runtime, args.word(1), lines);
        bytes += sent;
        batches.push(batch);
    }
    println!("{{\"bytes\":{bytes},\"batches\":{}}}", serde_json::to_string(&batches).unwrap());
}

/// Uploads one batch's lines and creates it; returns their bytes and its id.
fn submit(
    runtime: &Runtime,
    url: &str,
    lines: impl Iterator<Item = (i64, Vec<u8>)>,
) -> (usize, String) {
    let (parts, stream) = mpsc::channel::<Result<Vec<u8>, std::io::Error>>(4);
    let to = url.to_owned();
    let upload = runtime.spawn(async move {
        let file = reqwest::multipart::Part::stream(reqwest::Body::wrap_stream(
            ReceiverStream::new(stream),
        ))
        .file_name("bare.jsonl")
        .mime_str("application/jsonl")
        .unwrap();
        let form = reqwest::multipart::Form::new().text("purpose", "batch").part("file", file);
        let request = client().post(format!("{to}/files")).multipart(form);
        request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap()
    });
    let (mut part, mut bytes) = (Vec::with_capacity(PART + 4096), 0);
    for (id, body) in lines {
        let start = part.len();
        write!(part, "{{\"custom_id\":\"{TOKEN}-{id}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":")
            .unwrap();
        part.extend_from_slice(&body);
        part.extend_from_slice(b"}\n");
        bytes += part.len() - start;
        if part.len() >= PART {
            let full = std::mem::replace(&mut part, Vec::with_capacity(PART + 4096));
            parts.blocking_send(Ok(full)).unwrap();
        }
    }
    parts.blocking_send(Ok(part)).unwrap();
    drop(parts);
    let file: Object = serde_json::from_slice(&runtime.block_on(upload).unwrap()).unwrap();
    let create = serde_json::json!({"input_file_id": file.id, "endpoint": "/v1/chat/completions",
                                    "completion_window": "24h", "metadata": {"token": TOKEN}});
    let created = runtime.block_on(async {
        let request = client().post(format!("{url}/batches")).body(create.to_string());
        request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap()
    });
    let batch: Object = serde_json::from_slice(&created).unwrap();
    (bytes, batch.id)
}

/// Downloads a batch's results and puts them on record.
pub(crate) fn collect(args: &Args) {
    let conn = record::create(args.word(2));
    let (lines, bytes) = download(&runtime(), (args.word(0), args.word(1)), &conn);
    conn.close().unwrap();
    println!("{{\"lines\":{lines},\"bytes\":{bytes}}}");
}

/// Reads results as they come, a line at a time; returns how many there were, and their bytes.
fn download(runtime: &Runtime, (url, batch): (&str, &str), conn: &Connection) -> (i64, usize) {
    let get =
        async |path: String| client().get(path).send().await.unwrap().error_for_status().unwrap();
    let seen =
        runtime.block_on(async { get(format!("{url}/batches/{batch}")).await.bytes().await });
    let seen: Object = serde_json::from_slice(&seen.unwrap()).unwrap();
    let path = format!("{url}/files/{}/content", seen.output_file_id.unwrap());
    let (chunks, mut stream) = mpsc::channel(64);
    runtime.spawn(async move {
        let mut response = client().get(path).send().await.unwrap().error_for_status().unwrap();
        while let Some(chunk) = response.chunk().await.unwrap() {
            chunks.send(chunk).await.unwrap();
        }
    });
    let mut inserting = Inserting { conn, codec: None, lines: 0, bytes: 0 };
    let mut held: Vec<u8> = Vec::new();
    conn.execute_batch("BEGIN").unwrap();
    while let Some(chunk) = stream.blocking_recv() {
        let mut rest: &[u8] = &chunk;
        while !rest.is_empty() {
            let length = { rest }.skip_until(b'\n').unwrap();
            let (line, after) = rest.split_at(length);
            rest = after;
            if held.is_empty() && line.ends_with(b"\n") {
                inserting.line(line.trim_ascii_end());
                continue;
            }
            held.extend_from_slice(line);
            if held.ends_with(b"\n") {
                inserting.line(held.trim_ascii_end());
                held.clear();
            }
        }
    }
    conn.execute_batch("COMMIT").unwrap();
    (inserting.lines, inserting.bytes)
}

struct Inserting<'c> {
    conn: &'c Connection,
    codec: Option<Codec>,
    lines: i64,
    bytes: usize,
}

impl Inserting<'_> {
    fn line(&mut self, raw: &[u8]) {
        self.lines += 1;
        self.bytes += raw.len() + 1;
        let line: ResultLine<'_> = serde_json::from_slice(raw).unwrap();
        let id = line.custom_id.rsplit_once('-').unwrap().1.parse().unwrap();
        let request_id = line.response.request_id.into_owned();
        let mut settled = Settled::of(line.response.body, id);
        settled.status = line.response.status_code;
        settled.provider_request_id = request_id;
        settled.line = Some(self.lines);
        settled.reply_bytes = raw.len();
        let codec = self.codec.get_or_insert_with(|| {
            record::dictionary(self.conn, "reply", raw);
            Codec::with(raw)
        });
        settled.reply = codec.pack(raw);
        record::settle(self.conn, &settled);
        if self.lines % GROUP == 0 {
            self.conn.execute_batch("COMMIT; BEGIN").unwrap();
        }
    }
}

/// Does a whole job: rows in, requests on record, one batch, its replies on record.
pub(crate) fn job(args: &Args) {
    let (table, url) = (args.word(0), args.word(2));
    let conn = record::create(args.word(1));
    let rows = crate::add::add(&conn, table);
    let prompt = Prompt::of(args);
    let runtime = runtime();
    promise_all(&conn, table, &prompt);
    let lines = Reviews::open(table, -1).map(|(id, review)| (id, prompt.body(&review)));
    let (_, batch) = submit(&runtime, url, lines);
    let (answered, bytes) = download(&runtime, (url, &batch), &conn);
    conn.close().unwrap();
    println!("{{\"rows\":{rows},\"answered\":{answered},\"bytes\":{bytes}}}");
}

/// Records all requests before they are sent; so they are built once to record and once to send.
fn promise_all(conn: &Connection, table: &str, prompt: &Prompt) {
    let mut codec = None;
    conn.execute_batch("BEGIN").unwrap();
    for (id, review) in Reviews::open(table, -1) {
        let body = prompt.body(&review);
        let codec = codec.get_or_insert_with(|| {
            record::dictionary(conn, "body", &body);
            Codec::with(&body)
        });
        let promise = Promise {
            id,
            batch: Some(TOKEN),
            fingerprint: sha256(&body),
            body: codec.pack(&body),
            body_bytes: body.len(),
            at: now(),
        };
        record::promise(conn, &promise);
    }
    conn.execute_batch("COMMIT").unwrap();
}
