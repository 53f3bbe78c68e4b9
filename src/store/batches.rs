//! Batches on record: how one fills, how it moves, and what is asked of it.
//!
//! A batch comes on record with the first request that gets a place in it, in the same transaction;
//! so there is none without requests. Its status is moved by [`crate::machine::batch::next`] and by
//! nothing else. What its results bring is in `collect`.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::book::{Book, Seats};
use super::ledger::contradiction;
use super::promise::Seat;
use super::{Store, StoreError};
use crate::domain::{
    AttemptId, BatchCounts, BatchEnd, BatchId, BatchStatus, Endpoint, NanoUsd, PromptId, RunId,
    UnixMs, custom_id,
};
use crate::machine::batch::{BatchMove, next};

/// A batch as it comes on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBatch {
    /// Unique to it, in its file's name, its metadata and its custom ids.
    pub token: String,
    /// The model of all its requests, `provider/model`.
    pub model: String,
    /// Their endpoint.
    pub endpoint: Endpoint,
    /// The base URL that it goes to, or `embedded`.
    pub server: String,
}

/// A move of a batch, with what was learned by it. What is `None` stays as it is.
#[derive(Clone, Debug)]
pub struct BatchChange {
    /// Which batch.
    pub batch: BatchId,
    /// What happened.
    pub event: BatchMove,
    /// Now.
    pub at: UnixMs,
    /// The id of its input file at the provider.
    pub input_file_id: Option<String>,
    /// What the provider said.
    pub seen: Option<SeenBatch>,
    /// Why it was refused, failed or dropped, in one line.
    pub error: Option<String>,
}

impl BatchChange {
    /// Makes a move with which nothing was learned.
    pub fn bare(batch: BatchId, event: BatchMove, at: UnixMs) -> Self {
        Self { batch, event, at, input_file_id: None, seen: None, error: None }
    }
}

/// What a provider said of a batch.
#[derive(Clone, Debug, Default)]
pub struct SeenBatch {
    /// Its id at the provider.
    pub provider_id: String,
    /// Of the good results.
    pub output_file_id: Option<String>,
    /// Of the failed ones.
    pub error_file_id: Option<String>,
    /// When its window closes.
    pub expires_at: Option<UnixMs>,
    /// The provider's counts.
    pub counts: Option<BatchCounts>,
    /// The raw reply; kept where the status is news.
    pub reply: Vec<u8>,
}

/// A batch on record.
#[derive(Clone, Debug)]
pub struct BatchRecord {
    /// Its id in the project.
    pub id: BatchId,
    /// What it is.
    pub new: NewBatch,
    /// Its status.
    pub status: BatchStatus,
    /// How it ended at the provider, if it has.
    pub ended: Option<BatchEnd>,
    /// Requests in it.
    pub requests: u64,
    /// The size of its input file.
    pub input_bytes: u64,
    /// The input tokens that its requests are guessed to have.
    pub tokens: u64,
    /// Of its input file at the provider.
    pub input_file_id: Option<String>,
    /// Its id at the provider.
    pub provider_id: Option<String>,
    /// Of the good results.
    pub output_file_id: Option<String>,
    /// Of the failed ones.
    pub error_file_id: Option<String>,
    /// When its first request was promised.
    pub planned_at: UnixMs,
    /// When its window closes, as the provider said.
    pub expires_at: Option<UnixMs>,
    /// When it was last looked at.
    pub seen_at: Option<UnixMs>,
    /// When all of it was on record.
    pub collected_at: Option<UnixMs>,
    /// The provider's counts at the last look.
    pub counts: Option<BatchCounts>,
    /// Why it was refused, failed or dropped.
    pub error: Option<String>,
}

/// What the requests of a batch have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCost {
    /// As far as it is known.
    pub cost: NanoUsd,
    /// Answers whose cost is not known.
    pub unpriced: u64,
    /// Requests with an answer.
    pub answered: u64,
    /// Lines that settled no request.
    pub strays: u64,
}

/// One line of an input file, before it is written.
#[derive(Clone, Debug)]
pub struct InputLine {
    /// Its attempt.
    pub attempt: AttemptId,
    /// The exact body.
    pub body: Vec<u8>,
}

/// Finds a batch by its token, or puts it on record.
pub(super) fn id_of(
    book: &Book<'_>,
    new: &NewBatch,
    (run, at): (RunId, UnixMs),
) -> rusqlite::Result<BatchId> {
    if let Some(known) = book.last_batch(&new.token) {
        return Ok(known);
    }
    let found = book
        .prepare_cached("SELECT id FROM batch WHERE token = ?1")?
        .query_row([&new.token], |row| row.get("id").map(BatchId))
        .optional()?;
    let batch = if let Some(found) = found {
        found
    } else {
        book.prepare_cached(
            "INSERT INTO batch (run_id, model, endpoint, token, server, status, requests, input_bytes, estimated_tokens, planned_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, 'planned', 0, 0, 0, ?6)",
        )?
        .execute(params![run.0, new.model, new.endpoint.as_str(), new.token, new.server, at.0])?;
        BatchId(book.last_insert_rowid())
    };
    book.remember_batch(&new.token, batch);
    Ok(batch)
}

/// Counts a request that got a place.
pub(super) fn seated(book: &Book<'_>, batch: BatchId, (seat, attempt): (&Seat, AttemptId)) {
    let line = seat.line_bytes + custom_id(&seat.batch.token, attempt).len() as u64;
    let seat = Seats { requests: 1, bytes: line as i64, tokens: seat.tokens as i64 };
    book.seated(batch, seat);
}

/// Puts on record what requests have brought to a batch.
pub(super) fn fill(conn: &Connection, batch: BatchId, seats: Seats) -> rusqlite::Result<()> {
    let changed = conn
        .prepare_cached(
            "UPDATE batch SET requests = requests + ?2, input_bytes = input_bytes + ?3, estimated_tokens = estimated_tokens + ?4
             WHERE id = ?1 AND status = 'planned'",
        )?
        .execute(params![batch.0, seats.requests, seats.bytes, seats.tokens])?;
    if changed == 1 { Ok(()) } else { Err(contradiction("a batch that was sent took a request")) }
}

/// Moves a batch. Returns its status.
pub(super) fn change(book: &Book<'_>, change: &BatchChange) -> rusqlite::Result<BatchStatus> {
    book.close_seats()?;
    let conn: &Connection = book;
    let before = conn
        .prepare_cached("SELECT status FROM batch WHERE id = ?1")?
        .query_row([change.batch.0], |row| status_of(row, "status"))?;
    let status =
        next(before, change.event).map_err(|illegal| contradiction(&illegal.to_string()))?;
    let ended = status.end().map(BatchEnd::as_str);
    let seen = change.seen.as_ref();
    let counts = seen.and_then(|seen| seen.counts);
    conn.prepare_cached(
        "UPDATE batch SET status = ?2, ended = coalesce(?3, ended), error = coalesce(?4, error),
                input_file_id = coalesce(?5, input_file_id), provider_id = coalesce(?6, provider_id),
                output_file_id = coalesce(?7, output_file_id), error_file_id = coalesce(?8, error_file_id),
                expires_at_ms = coalesce(?9, expires_at_ms), completed_requests = coalesce(?10, completed_requests),
                failed_requests = coalesce(?11, failed_requests), seen_at_ms = CASE WHEN ?12 THEN ?13 ELSE seen_at_ms END,
                created_at_ms = CASE WHEN ?2 = 'created' THEN ?13 ELSE created_at_ms END,
                collected_at_ms = CASE WHEN ?2 = 'collected' THEN ?13 ELSE collected_at_ms END
         WHERE id = ?1",
    )?
    .execute(params![
        change.batch.0,
        status.as_str(),
        ended,
        change.error,
        change.input_file_id,
        seen.map(|seen| &seen.provider_id),
        seen.and_then(|seen| seen.output_file_id.as_ref()),
        seen.and_then(|seen| seen.error_file_id.as_ref()),
        seen.and_then(|seen| seen.expires_at).map(|at| at.0),
        counts.map(|counts| counts.completed as i64),
        counts.map(|counts| counts.failed as i64),
        seen.is_some(),
        change.at.0,
    ])?;
    let is_news = status != before || !matches!(change.event, BatchMove::Seen(_));
    if is_news {
        conn.prepare_cached(
            "INSERT INTO batch_status (batch_id, at_ms, status, reply) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            change.batch.0,
            change.at.0,
            status.as_str(),
            seen.map(|seen| &seen.reply)
        ])?;
    }
    Ok(status)
}

/// Remembers how many tokens a provider lets wait for a model.
pub(super) fn remember_queue(
    conn: &Connection,
    (server, model): (&str, &str),
    (tokens, at): (u64, UnixMs),
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO queue_limit (server, model, tokens, learned_at_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (server, model) DO UPDATE SET tokens = ?3, learned_at_ms = ?4",
    )?
    .execute(params![server, model, tokens.max(1) as i64, at.0])?;
    Ok(())
}

impl Store {
    /// Lists all batches, oldest first.
    pub fn batches(&self) -> Result<Vec<BatchRecord>, StoreError> {
        self.conn
            .prepare_cached("SELECT * FROM batch ORDER BY id")
            .and_then(|mut query| query.query_map([], batch)?.collect())
            .map_err(|error| self.named(error))
    }

    /// Lists the batches that are not done with, oldest first.
    pub fn open_batches(&self) -> Result<Vec<BatchRecord>, StoreError> {
        self.conn
            .prepare_cached("SELECT * FROM batch WHERE status <> 'collected' ORDER BY id")
            .and_then(|mut query| query.query_map([], batch)?.collect())
            .map_err(|error| self.named(error))
    }

    /// Returns a batch, if there is one with this number.
    pub fn batch(&self, id: BatchId) -> Result<Option<BatchRecord>, StoreError> {
        self.conn
            .prepare_cached("SELECT * FROM batch WHERE id = ?1")
            .and_then(|mut query| query.query_row([id.0], batch).optional())
            .map_err(|error| self.named(error))
    }

    /// Says what the requests of each batch have cost so far.
    pub fn batch_costs(&self) -> Result<HashMap<BatchId, BatchCost>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT batch.id AS id, coalesce(cost, 0) AS cost, coalesce(answered, 0) AS answered,
                        coalesce(unpriced, 0) AS unpriced, coalesce(strays, 0) AS strays
                 FROM batch
                 LEFT JOIN (SELECT batch_id, sum(cost_nanousd) AS cost, sum(answered) AS answered, sum(unpriced) AS unpriced
                            FROM attempt_sum GROUP BY batch_id) AS spent
                 ON spent.batch_id = batch.id
                 LEFT JOIN (SELECT batch_id, count(*) AS strays FROM stray_line GROUP BY batch_id) AS others
                 ON others.batch_id = batch.id",
            )
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        let cost = BatchCost {
                            cost: NanoUsd(row.get("cost")?),
                            unpriced: row.get("unpriced")?,
                            answered: row.get("answered")?,
                            strays: row.get("strays")?,
                        };
                        Ok((BatchId(row.get("id")?), cost))
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns the prompts of a batch's requests, retired ones too.
    pub fn prompts_of_batch(&self, batch: BatchId) -> Result<Vec<PromptId>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT DISTINCT prompt_id FROM request
                 JOIN attempt ON attempt.request_id = request.id WHERE attempt.batch_id = ?1",
            )
            .and_then(|mut query| {
                query.query_map([batch.0], |row| row.get("prompt_id").map(PromptId))?.collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Says whether a prompt has ever had a request in a batch that the provider took.
    pub fn has_been_in_a_batch(&self, prompt: PromptId) -> Result<bool, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM batch WHERE provider_id IS NOT NULL
                     AND EXISTS (SELECT 1 FROM attempt JOIN request ON request.id = attempt.request_id
                                 WHERE attempt.batch_id = batch.id AND request.prompt_id = ?1)) AS found",
            )
            .and_then(|mut query| query.query_row([prompt.0], |row| row.get("found")))
            .map_err(|error| self.named(error))
    }

    /// Returns the next lines of a batch's input file, in the file's order, after `after`: at most
    /// `limit` of them.
    pub fn input_lines(
        &self,
        batch: BatchId,
        (after, limit): (AttemptId, u32),
    ) -> Result<Vec<InputLine>, StoreError> {
        super::trail::input_lines(&self.conn, batch, (after, limit), |error| self.named(error))
    }

    /// Returns the line number of an attempt in its batch's input file, from 1.
    pub fn input_line_number(
        &self,
        (batch, attempt): (BatchId, AttemptId),
    ) -> Result<u64, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT count(*) AS number FROM attempt WHERE batch_id = ?1 AND id <= ?2",
            )
            .and_then(|mut query| query.query_row([batch.0, attempt.0], |row| row.get("number")))
            .map_err(|error| self.named(error))
    }

    /// Forgets what providers said of their queues before a moment.
    pub fn forget_queue_limits(&mut self, before: UnixMs) -> Result<(), StoreError> {
        self.conn
            .execute("DELETE FROM queue_limit WHERE learned_at_ms < ?1", [before.0])
            .map(drop)
            .map_err(|error| self.named(error))
    }

    /// Returns the tokens that a provider lets wait for a model, if it has said so lately.
    pub fn queue_limit(&self, server: &str, model: &str) -> Result<Option<u64>, StoreError> {
        self.conn
            .prepare_cached("SELECT tokens FROM queue_limit WHERE server = ?1 AND model = ?2")
            .and_then(|mut query| {
                query.query_row([server, model], |row| row.get("tokens")).optional()
            })
            .map_err(|error| self.named(error))
    }
}

fn batch(row: &Row<'_>) -> rusqlite::Result<BatchRecord> {
    let time = |name| row.get::<_, Option<i64>>(name).map(|at| at.map(UnixMs));
    let endpoint: String = row.get("endpoint")?;
    let requests = row.get("requests")?;
    let completed: Option<u64> = row.get("completed_requests")?;
    let failed: Option<u64> = row.get("failed_requests")?;
    Ok(BatchRecord {
        id: BatchId(row.get("id")?),
        new: NewBatch {
            token: row.get("token")?,
            model: row.get("model")?,
            endpoint: Endpoint::parse(&endpoint).ok_or_else(|| {
                rusqlite::Error::InvalidColumnName(format!("endpoint {endpoint}"))
            })?,
            server: row.get("server")?,
        },
        status: status_of(row, "status")?,
        ended: row.get::<_, Option<String>>("ended")?.as_deref().and_then(BatchEnd::parse),
        requests,
        input_bytes: row.get("input_bytes")?,
        tokens: row.get("estimated_tokens")?,
        input_file_id: row.get("input_file_id")?,
        provider_id: row.get("provider_id")?,
        output_file_id: row.get("output_file_id")?,
        error_file_id: row.get("error_file_id")?,
        planned_at: UnixMs(row.get("planned_at_ms")?),
        expires_at: time("expires_at_ms")?,
        seen_at: time("seen_at_ms")?,
        collected_at: time("collected_at_ms")?,
        counts: completed.zip(failed).map(|(completed, failed)| BatchCounts {
            total: requests,
            completed,
            failed,
        }),
        error: row.get("error")?,
    })
}

fn status_of(row: &Row<'_>, column: &str) -> rusqlite::Result<BatchStatus> {
    let word: String = row.get(column)?;
    BatchStatus::parse(&word)
        .ok_or_else(|| rusqlite::Error::InvalidColumnName(format!("status {word}")))
}
