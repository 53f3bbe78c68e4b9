//! The bare record: rows, requests and replies in SQLite, durable, with the evidence compressed as the program does.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};
use zstd::bulk::Compressor;

use crate::json::Completion;

const SCHEMA: &str = "
    CREATE TABLE row (id INTEGER PRIMARY KEY, line INTEGER NOT NULL, sha256 BLOB NOT NULL, cells TEXT NOT NULL) STRICT;
    CREATE TABLE dictionary (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE request (id INTEGER PRIMARY KEY, batch TEXT, fingerprint BLOB NOT NULL, body BLOB NOT NULL,
        body_bytes INTEGER NOT NULL, promised_at_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE reply (id INTEGER PRIMARY KEY, settled_at_ms INTEGER NOT NULL, outcome TEXT NOT NULL, status_code INTEGER,
        provider_request_id TEXT, served_model TEXT, finish_reason TEXT, input_tokens INTEGER, cached_tokens INTEGER,
        output_tokens INTEGER, reasoning_tokens INTEGER, cost_nanousd INTEGER, answer TEXT, reply BLOB NOT NULL,
        reply_bytes INTEGER NOT NULL, result_line INTEGER) STRICT;";

/// Makes a record.
pub(crate) fn create(path: &str) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.pragma_update(None, "synchronous", "FULL").unwrap();
    conn.pragma_update(None, "cache_size", -65_536).unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn
}

/// Opens a project of the program's to read.
pub(crate) fn open(path: &str) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.pragma_update(None, "cache_size", -65_536).unwrap();
    conn
}

/// Now, in milliseconds.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Returns the SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Compresses against a dictionary, or none. Shared by threads; each borrows a compressor of its own.
pub(crate) struct Codec {
    dictionary: Vec<u8>,
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl Codec {
    pub(crate) fn with(dictionary: &[u8]) -> Self {
        Self { dictionary: dictionary.to_vec(), idle: Mutex::default() }
    }

    pub(crate) fn pack(&self, plain: &[u8]) -> Vec<u8> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor =
            idle.unwrap_or_else(|| Compressor::with_dictionary(3, &self.dictionary).unwrap());
        let bytes = compressor.compress(plain).unwrap();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
        bytes
    }
}

/// A request about to be sent.
pub(crate) struct Promise {
    pub(crate) id: i64,
    pub(crate) batch: Option<&'static str>,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) body: Vec<u8>,
    pub(crate) body_bytes: usize,
    pub(crate) at: i64,
}

/// A reply, read.
pub(crate) struct Settled {
    pub(crate) id: i64,
    pub(crate) at: i64,
    pub(crate) status: u16,
    pub(crate) provider_request_id: String,
    pub(crate) model: String,
    pub(crate) finish_reason: String,
    pub(crate) tokens: [i64; 4],
    pub(crate) answer: String,
    pub(crate) reply: Vec<u8>,
    pub(crate) reply_bytes: usize,
    pub(crate) line: Option<i64>,
}

impl Settled {
    /// Gathers what is kept of a completion.
    pub(crate) fn of(completion: Completion<'_>, id: i64) -> Self {
        let choice = completion.choices.into_iter().next().unwrap();
        let usage = completion.usage;
        Self {
            id,
            at: now(),
            status: 200,
            provider_request_id: String::new(),
            model: completion.model.into_owned(),
            finish_reason: choice.finish_reason.into_owned(),
            tokens: [
                usage.prompt_tokens,
                usage.prompt_tokens_details.cached_tokens,
                usage.completion_tokens,
                usage.completion_tokens_details.reasoning_tokens,
            ],
            answer: choice.message.content.into_owned(),
            reply: Vec::new(),
            reply_bytes: 0,
            line: None,
        }
    }
}

/// Records a dictionary.
pub(crate) fn dictionary(conn: &Connection, kind: &str, bytes: &[u8]) {
    conn.execute("INSERT INTO dictionary (kind, bytes) VALUES (?1, ?2)", params![kind, bytes])
        .unwrap();
}

/// Records a promise, in the transaction that is on.
pub(crate) fn promise(conn: &Connection, promise: &Promise) {
    conn.prepare_cached(
        "INSERT INTO request (id, batch, fingerprint, body, body_bytes, promised_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .unwrap()
    .execute(params![
        promise.id,
        promise.batch,
        promise.fingerprint,
        promise.body,
        promise.body_bytes as i64,
        promise.at
    ])
    .unwrap();
}

/// Records a reply, in the transaction that is on.
pub(crate) fn settle(conn: &Connection, settled: &Settled) {
    let [input, cached, output, reasoning] = settled.tokens;
    // gpt-4o-mini's prices, in nano-USD a token.
    let cost = (input - cached) * 150 + cached * 75 + output * 600;
    conn.prepare_cached(
        "INSERT INTO reply (id, settled_at_ms, outcome, status_code, provider_request_id, served_model, finish_reason,
                            input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost_nanousd, answer, reply, reply_bytes,
                            result_line)
         VALUES (?1, ?2, 'answered', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )
    .unwrap()
    .execute(params![
        settled.id,
        settled.at,
        settled.status,
        settled.provider_request_id,
        settled.model,
        settled.finish_reason,
        input,
        cached,
        output,
        reasoning,
        cost,
        settled.answer,
        settled.reply,
        settled.reply_bytes as i64,
        settled.line
    ])
    .unwrap();
}
