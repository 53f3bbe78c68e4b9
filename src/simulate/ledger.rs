//! The ledger: what the simulated provider charged, and for which body.
//!
//! It is the other side's books. Tests compare a project file with it, so it must not depend on
//! anything that the project does: bodies are told apart by SHA-256 of their exact bytes alone.
//! Accounts are spread over shards, so that a thousand connections do not wait for one lock.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use super::fault::Fault;
use super::likeness::Remembers;
use crate::domain::{Endpoint, Usage};

const SHARDS: usize = 16;

/// A copy of the ledger at one moment; `GET /ledger` gives it as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// The sums.
    pub totals: Totals,
    /// One account a body, by the 64 hex digits of the SHA-256 of its bytes.
    pub bodies: BTreeMap<String, Account>,
}

/// The sums of a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests for a completion, whatever came of them: calls to the two endpoints that make
    /// them, and lines of batches that were worked on.
    pub requests: u64,
    /// Of these, the ones that were charged.
    pub charged_requests: u64,
    /// Of these, the ones whose whole and usable reply was handed to the connection, or stands in
    /// a batch's output file.
    pub answered_requests: u64,
    /// Charges for a body that had been answered before, on whichever route.
    pub charged_again: u64,
    /// Input tokens that were charged, cached ones included.
    pub input_tokens: u64,
    /// Input tokens that were charged as cached.
    pub cached_tokens: u64,
    /// Output tokens that were charged.
    pub output_tokens: u64,
    /// Files that were uploaded.
    pub files_uploaded: u64,
    /// Batches that were created, valid or not.
    pub batches_created: u64,
    /// Of `requests`, the lines of batches.
    pub batch_requests: u64,
    /// Of `charged_requests`, the lines of batches.
    pub batch_charged_requests: u64,
    /// Of `input_tokens`, those of lines of batches.
    pub batch_input_tokens: u64,
    /// Of `output_tokens`, those of lines of batches.
    pub batch_output_tokens: u64,
    /// Replies with an error, by its code (or its type, if it has none).
    pub errors: BTreeMap<&'static str, u64>,
    /// Ordered faults that struck, by name.
    pub faults: BTreeMap<&'static str, u64>,
}

/// What became of one body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// How often it came.
    pub requests: u64,
    /// How often it was charged.
    pub charged: u64,
    /// Of these, how often as a line of a batch.
    pub batch_charged: u64,
    /// How often a whole and usable reply to it was handed to the connection or put into a file.
    pub answered: u64,
    /// How often it was charged although it had been answered before.
    pub charged_again: u64,
}

/// The ledger that is being written.
#[derive(Debug)]
pub(super) struct Books {
    shards: [Mutex<Shard>; SHARDS],
    file: Option<Mutex<File>>,
    remembers: Remembers,
}

#[derive(Debug, Default)]
struct Shard {
    totals: Totals,
    accounts: HashMap<[u8; 32], Account>,
}

/// One charge, as a line of the ledger's file tells it.
#[derive(Debug)]
pub(super) struct Charge<'a> {
    /// Milliseconds since 1970-01-01 UTC.
    pub(super) at_ms: i64,
    /// Where the call went.
    pub(super) endpoint: Endpoint,
    /// The model it named.
    pub(super) model: &'a str,
    /// What is charged.
    pub(super) usage: Usage,
    /// What went wrong with it, if anything was ordered to.
    pub(super) fault: Option<Fault>,
    /// The batch that it was a line of.
    pub(super) batch: Option<&'a str>,
}

impl Books {
    /// Opens empty books that also append to the file at `path`.
    pub(super) fn open(path: Option<&Path>, remembers: Remembers) -> io::Result<Self> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        let file = path.map(open).transpose()?.map(Mutex::new);
        Ok(Self { shards: Default::default(), file, remembers })
    }

    /// Books the arrival of a body, in a batch or by itself; returns how often it came before.
    pub(super) fn arrive(&self, body: [u8; 32], in_batch: bool) -> u64 {
        let mut shard = self.shard(body);
        shard.totals.requests += 1;
        shard.totals.batch_requests += u64::from(in_batch);
        if self.remembers == Remembers::SumsAlone {
            return 0;
        }
        let account = shard.accounts.entry(body).or_default();
        account.requests += 1;
        account.requests - 1
    }

    /// Books a charge, in the file first. An error means that nothing was booked.
    pub(super) fn charge(&self, body: [u8; 32], charge: &Charge<'_>) -> io::Result<()> {
        if let Some(file) = &self.file {
            let mut line = line(body, charge).to_string();
            line.push('\n');
            // One write a line, so that a line is whole or absent, whenever the process dies.
            lock(file).write_all(line.as_bytes())?;
        }
        let mut shard = self.shard(body);
        let in_batch = u64::from(charge.batch.is_some());
        let again = match self.remembers {
            Remembers::EachBody => shard.accounts.entry(body).or_default().charge(in_batch),
            Remembers::SumsAlone => 0,
        };
        let totals = &mut shard.totals;
        totals.charged_requests += 1;
        totals.charged_again += again;
        totals.input_tokens += charge.usage.input;
        totals.cached_tokens += charge.usage.cached;
        totals.output_tokens += charge.usage.output;
        totals.batch_charged_requests += in_batch;
        totals.batch_input_tokens += in_batch * charge.usage.input;
        totals.batch_output_tokens += in_batch * charge.usage.output;
        Ok(())
    }

    /// Books that a whole and usable reply to a body was handed over.
    pub(super) fn answer(&self, body: [u8; 32]) {
        let mut shard = self.shard(body);
        shard.totals.answered_requests += 1;
        if self.remembers == Remembers::EachBody {
            shard.accounts.entry(body).or_default().answered += 1;
        }
    }

    /// Counts a reply with an error.
    pub(super) fn count_error(&self, code: &'static str) {
        *lock(&self.shards[0]).totals.errors.entry(code).or_default() += 1;
    }

    /// Counts a file that was uploaded.
    pub(super) fn count_file(&self) {
        lock(&self.shards[0]).totals.files_uploaded += 1;
    }

    /// Counts a batch that was created.
    pub(super) fn count_batch(&self) {
        lock(&self.shards[0]).totals.batches_created += 1;
    }

    /// Counts a fault that struck.
    pub(super) fn count_fault(&self, fault: Fault) {
        *lock(&self.shards[0]).totals.faults.entry(fault.as_str()).or_default() += 1;
    }

    /// Copies the books.
    pub(super) fn snapshot(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for shard in &self.shards {
            let shard = lock(shard);
            ledger.totals.add(&shard.totals);
            ledger
                .bodies
                .extend(shard.accounts.iter().map(|(body, account)| (hex(body), *account)));
        }
        ledger
    }

    fn shard(&self, body: [u8; 32]) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(body[0]) % SHARDS])
    }
}

impl Account {
    /// Counts a charge; returns 1 where the body had been answered before.
    fn charge(&mut self, in_batch: u64) -> u64 {
        let again = u64::from(self.answered > 0);
        self.charged += 1;
        self.batch_charged += in_batch;
        self.charged_again += again;
        again
    }
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.charged_requests += other.charged_requests;
        self.answered_requests += other.answered_requests;
        self.charged_again += other.charged_again;
        self.input_tokens += other.input_tokens;
        self.cached_tokens += other.cached_tokens;
        self.output_tokens += other.output_tokens;
        self.files_uploaded += other.files_uploaded;
        self.batches_created += other.batches_created;
        self.batch_requests += other.batch_requests;
        self.batch_charged_requests += other.batch_charged_requests;
        self.batch_input_tokens += other.batch_input_tokens;
        self.batch_output_tokens += other.batch_output_tokens;
        for (into, from) in [(&mut self.errors, &other.errors), (&mut self.faults, &other.faults)] {
            for (name, count) in from {
                *into.entry(name).or_default() += count;
            }
        }
    }
}

fn line(body: [u8; 32], charge: &Charge<'_>) -> Value {
    json!({
        "at_ms": charge.at_ms,
        "body_sha256": hex(&body),
        "endpoint": charge.endpoint.as_str(),
        "model": charge.model,
        "input_tokens": charge.usage.input,
        "cached_tokens": charge.usage.cached,
        "output_tokens": charge.usage.output,
        "fault": charge.fault.map(Fault::as_str),
        "batch": charge.batch,
    })
}

fn hex(bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Locks, also after another thread panicked: counters are never half written.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge() -> Charge<'static> {
        let usage = Usage { input: 10, cached: 2, cache_write: 0, output: 3, reasoning: 0 };
        let endpoint = Endpoint::ChatCompletions;
        Charge { at_ms: 7, endpoint, model: "m", usage, fault: Some(Fault::Lost), batch: None }
    }

    #[test]
    fn a_charge_after_an_answer_is_told_apart_from_one_before() {
        let books = Books::open(None, Remembers::EachBody).unwrap();
        let (one, other) = ([1; 32], [2; 32]);
        assert_eq!((books.arrive(one, false), books.arrive(one, true)), (0, 1));
        assert_eq!(books.arrive(other, false), 0);
        books.charge(one, &charge()).unwrap();
        books.charge(one, &charge()).unwrap();
        books.answer(one);
        assert_eq!(books.snapshot().totals.charged_again, 0);
        books.charge(one, &Charge { batch: Some("batch_1"), ..charge() }).unwrap();
        let ledger = books.snapshot();
        assert_eq!(ledger.totals.charged_again, 1);
        let account =
            Account { requests: 2, charged: 3, batch_charged: 1, answered: 1, charged_again: 1 };
        assert_eq!(ledger.bodies[&"01".repeat(32)], account);
        assert_eq!((ledger.totals.input_tokens, ledger.totals.output_tokens), (30, 9));
        let totals = ledger.totals;
        assert_eq!((totals.batch_requests, totals.batch_charged_requests), (1, 1));
        assert_eq!((totals.batch_input_tokens, totals.batch_output_tokens), (10, 3));
    }

    #[test]
    fn the_file_has_a_line_a_charge_and_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        for _ in 0..2 {
            Books::open(Some(&path), Remembers::EachBody)
                .unwrap()
                .charge([255; 32], &charge())
                .unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["body_sha256"], "ff".repeat(32));
        assert_eq!(first["endpoint"], "chat/completions");
        assert_eq!(first["fault"], "lost");
        assert!(
            Books::open(Some(folder.path()), Remembers::EachBody).is_err(),
            "a folder is no ledger"
        );
    }
}
