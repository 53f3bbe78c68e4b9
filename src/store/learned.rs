//! What the record teaches about requests to come: what answers were billed, how often one went wrong, how long it took.
//!
//! Facts only, of a prompt or a model; what follows from them is decided by `plan`. Each question looks at the newest
//! so many, so that a project with a million answers is asked as fast as one with a thousand.

use rusqlite::{OptionalExtension, Row, params};

use super::due::state_of;
use super::{DueRequest, Store, StoreError};
use crate::domain::{PromptId, RowId, State, Usage};

/// How many requests are looked at.
const NEWEST: u32 = 5_000;

/// An answer that was billed, and the row that was asked about.
#[derive(Clone, Debug)]
pub struct BilledAnswer {
    /// The row's cells, as the text of one JSON object.
    pub cells: String,
    /// What the provider counted for the attempt that brought the answer.
    pub usage: Usage,
}

/// What the requests of a prompt have come to that were sent and are at rest; those that share a reply are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Experience {
    /// Requests by the state in which they rest.
    pub states: Vec<(State, u64)>,
    /// What all their attempts were.
    pub attempts: Attempts,
}

/// Attempts at requests, the failed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// The requests that they were at.
    pub requests: u64,
    /// All that were settled.
    pub settled: u64,
    /// Those that the provider said the tokens of.
    pub billed: u64,
    /// What it counted for these.
    pub usage: Usage,
    /// Requests of which a reply was cut by the token limit.
    pub truncated: u64,
    /// Requests that the model declined, or a filter withheld.
    pub refused: u64,
    /// Requests of which a reply did not have the form that was asked for.
    pub invalid: u64,
}

impl Store {
    /// Returns the newest answers of a prompt that were bought for their own requests.
    pub fn billed_answers(
        &self,
        prompt: PromptId,
        limit: u32,
    ) -> Result<Vec<BilledAnswer>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT row.cells AS cells, attempt.input_tokens AS input, attempt.cached_tokens AS cached,
                        attempt.cache_write_tokens AS cache_write, attempt.output_tokens AS output, attempt.reasoning_tokens AS reasoning
                 FROM (SELECT id, row_id, attempt_id FROM request
                       WHERE prompt_id = ?1 AND state = 'answered' AND attempts > 0 ORDER BY id DESC LIMIT ?2) AS request
                 JOIN attempt ON attempt.id = request.attempt_id AND attempt.request_id = request.id
                 JOIN row ON row.id = request.row_id
                 WHERE attempt.input_tokens > 0",
            )
            .and_then(|mut query| {
                query
                    .query_map(params![prompt.0, limit], |row| {
                        Ok(BilledAnswer { cells: row.get("cells")?, usage: usage(row)? })
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns what a prompt's newest requests have come to.
    pub fn experience(&self, prompt: PromptId) -> Result<Experience, StoreError> {
        let states = self.states_at_rest(prompt).map_err(|error| self.named(error))?;
        let attempts = self
            .conn
            .prepare_cached(
                "SELECT count(DISTINCT request.id) AS requests, count(*) AS settled, count(attempt.input_tokens) AS billed,
                        coalesce(sum(attempt.input_tokens), 0) AS input, coalesce(sum(attempt.cached_tokens), 0) AS cached,
                        coalesce(sum(attempt.cache_write_tokens), 0) AS cache_write,
                        coalesce(sum(attempt.output_tokens), 0) AS output,
                        coalesce(sum(attempt.reasoning_tokens), 0) AS reasoning,
                        count(DISTINCT request.id) FILTER (WHERE attempt.outcome = 'truncated') AS truncated,
                        count(DISTINCT request.id) FILTER (WHERE attempt.error_class IN ('refused', 'content_filtered')) AS refused,
                        count(DISTINCT request.id) FILTER (WHERE attempt.error_class IN ('invalid_answer', 'malformed_reply')) AS invalid
                 FROM (SELECT id FROM request
                       WHERE prompt_id = ?1 AND state IN ('answered', 'truncated', 'failed') AND attempts > 0
                       ORDER BY id DESC LIMIT ?2) AS request
                 JOIN attempt ON attempt.request_id = request.id
                 WHERE attempt.outcome IS NOT NULL",
            )
            .and_then(|mut query| {
                query.query_row(params![prompt.0, NEWEST], |row| {
                    Ok(Attempts {
                        requests: row.get("requests")?,
                        settled: row.get("settled")?,
                        billed: row.get("billed")?,
                        usage: usage(row)?,
                        truncated: row.get("truncated")?,
                        refused: row.get("refused")?,
                        invalid: row.get("invalid")?,
                    })
                })
            })
            .map_err(|error| self.named(error))?;
        Ok(Experience { states, attempts })
    }

    fn states_at_rest(&self, prompt: PromptId) -> rusqlite::Result<Vec<(State, u64)>> {
        self.conn
            .prepare_cached(
                "SELECT state, error_class, count(*) AS found
                 FROM (SELECT state, error_class FROM request
                       WHERE prompt_id = ?1 AND state IN ('answered', 'truncated', 'failed') AND attempts > 0
                       ORDER BY id DESC LIMIT ?2)
                 GROUP BY 1, 2",
            )?
            .query_map(params![prompt.0, NEWEST], |row| Ok((state_of(row)?, row.get("found")?)))?
            .collect()
    }

    /// Returns how long the newest calls of a model took from promise to settlement, in milliseconds: those that brought a
    /// reply.
    pub fn call_times_ms(&self, model: &str) -> Result<Vec<u64>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT max(attempt.settled_at_ms - attempt.promised_at_ms, 0) AS took_ms
                 FROM (SELECT * FROM attempt ORDER BY id DESC LIMIT 100000) AS attempt
                 JOIN request ON request.id = attempt.request_id
                 JOIN prompt ON prompt.id = request.prompt_id AND prompt.model = ?1
                 WHERE attempt.route = 'realtime' AND attempt.outcome IN ('answered', 'truncated')
                 LIMIT 500",
            )
            .and_then(|mut query| query.query_map([model], |row| row.get("took_ms"))?.collect())
            .map_err(|error| self.named(error))
    }

    /// Returns how long the newest batches of a model at a server took from their creation to their end, in milliseconds:
    /// those that completed.
    pub fn batch_times_ms(&self, (server, model): (&str, &str)) -> Result<Vec<u64>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT max(min(batch_status.at_ms) - batch.created_at_ms, 0) AS took_ms
                 FROM (SELECT id, created_at_ms FROM batch
                       WHERE server = ?1 AND model = ?2 AND ended = 'completed' AND created_at_ms IS NOT NULL
                       ORDER BY id DESC LIMIT 50) AS batch
                 JOIN batch_status ON batch_status.batch_id = batch.id AND batch_status.status = 'completed'
                 GROUP BY batch.id",
            )
            .and_then(|mut query| {
                query.query_map([server, model], |row| row.get("took_ms"))?.collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns the first and the last live row; `None` where there is none.
    pub fn first_and_last_row(&self) -> Result<Option<(RowId, RowId)>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT (SELECT id FROM row WHERE retired_at_ms IS NULL ORDER BY id LIMIT 1) AS first,
                        (SELECT id FROM row WHERE retired_at_ms IS NULL ORDER BY id DESC LIMIT 1) AS last",
            )
            .and_then(|mut query| {
                query.query_row([], |row| {
                    let first: Option<i64> = row.get("first")?;
                    Ok(first.map(RowId).zip(row.get::<_, Option<i64>>("last")?.map(RowId)))
                })
            })
            .map_err(|error| self.named(error))
    }

    /// Returns the first live row that has no request for a prompt, from `from` on and before `before`.
    pub fn unasked_row(
        &self,
        prompt: PromptId,
        (from, before): (RowId, RowId),
    ) -> Result<Option<DueRequest>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT row.id AS row_id, row.position AS position, row.cells AS cells
                 FROM row
                 LEFT JOIN request ON request.row_id = row.id AND request.prompt_id = ?1 AND request.sample = 1
                 WHERE row.retired_at_ms IS NULL AND row.id >= ?2 AND row.id < ?3 AND request.id IS NULL
                 ORDER BY row.id LIMIT 1",
            )
            .and_then(|mut query| {
                query
                    .query_row(params![prompt.0, from.0, before.0], |row| {
                        Ok(DueRequest {
                            row: RowId(row.get("row_id")?),
                            position: row.get("position")?,
                            cells: row.get("cells")?,
                            existing: None,
                        })
                    })
                    .optional()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns a row's key.
    pub fn key_of(&self, row: RowId) -> Result<Option<String>, StoreError> {
        self.conn
            .prepare_cached("SELECT key FROM row WHERE id = ?1")
            .and_then(|mut query| query.query_row([row.0], |row| row.get("key")).optional())
            .map_err(|error| self.named(error))
    }
}

/// Reads the columns `input`, `cached`, `cache_write`, `output` and `reasoning`.
fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    let tokens = |name: &str| row.get::<_, Option<u64>>(name).map(Option::unwrap_or_default);
    Ok(Usage {
        input: tokens("input")?,
        cached: tokens("cached")?,
        cache_write: tokens("cache_write")?,
        output: tokens("output")?,
        reasoning: tokens("reasoning")?,
    })
}
