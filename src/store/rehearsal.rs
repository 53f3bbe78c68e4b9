//! What a rehearsal asks of the record: how a provider has been so far, and what came of the run that was rehearsed.
//!
//! A rehearsal works on a copy of the project that is thrown away, so what stands here may do to it what must never be
//! done to a project: commit without a flush, and set aside batches that are at work. Nothing here touches the project itself.

use std::path::Path;
use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError};
use crate::domain::{AttemptId, BatchEnd, BatchId, NanoUsd, PromptId, Route, RunId, UnixMs, Usage};

/// Answers on record that are looked at, the newest ones.
const LOOKED_AT: u32 = 1000;
/// The server of batches that are set aside: no prompt's requests go there.
const ASIDE: &str = "not rehearsed";

/// What a prompt's attempts by one route came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSum {
    /// The prompt.
    pub prompt: PromptId,
    /// By which way they went.
    pub route: Route,
    /// Requests that went that way, some of them more than once.
    pub requests: u64,
    /// Attempts.
    pub attempts: u64,
    /// Attempts with an answer.
    pub answered: u64,
    /// What the provider counted.
    pub usage: Usage,
    /// What it cost, as far as prices are known.
    pub cost: NanoUsd,
    /// Replies whose cost is not known.
    pub unpriced: u64,
}

/// A batch of a run, from its making to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunBatch {
    /// Its id in the project.
    pub id: BatchId,
    /// Its model.
    pub model: String,
    /// Its server.
    pub server: String,
    /// Requests in it.
    pub requests: u64,
    /// The input tokens that its requests are guessed to have.
    pub tokens: u64,
    /// The size of its input file.
    pub input_bytes: u64,
    /// When its first request got a place in it.
    pub planned_at: UnixMs,
    /// When it was at the provider.
    pub created_at: Option<UnixMs>,
    /// When it was seen to have ended there.
    pub ended_at: Option<UnixMs>,
    /// How it ended there.
    pub ended: Option<BatchEnd>,
    /// Why it was refused, failed or dropped.
    pub error: Option<String>,
}

impl RunBatch {
    /// Says whether the provider took it and worked on it.
    pub fn was_worked_on(&self) -> bool {
        self.created_at.is_some() && self.ended != Some(BatchEnd::Failed)
    }
}

/// How long an answer was, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastAnswer {
    /// Its tokens, those of the reasoning included.
    pub output: u64,
    /// Of these, the tokens of the reasoning.
    pub reasoning: u64,
    /// Whether it was cut by the token limit, so that it would have been longer.
    pub was_cut: bool,
}

impl Store {
    /// Opens a copy that is thrown away: its commits are not brought to the disk.
    pub fn open_scratch(path: &Path, now: UnixMs) -> Result<Self, StoreError> {
        let store = Self::open(path, now)?;
        let loosen = store.conn.pragma_update(None, "synchronous", "OFF");
        loosen.map_err(|error| store.named(error))?;
        Ok(store)
    }

    /// Sets the batches aside that are not done with: no run on this copy looks for them. Returns how many there are, and
    /// their requests.
    pub fn set_batches_aside(&mut self) -> Result<(u64, u64), StoreError> {
        let counts = self
            .conn
            .prepare_cached(
                "SELECT count(*) AS batches, coalesce(sum(requests), 0) AS requests FROM batch WHERE status <> 'collected'",
            )
            .and_then(|mut query| {
                query.query_row([], |row| Ok((row.get("batches")?, row.get("requests")?)))
            })
            .map_err(|error| self.named(error))?;
        self.conn
            .execute("UPDATE batch SET server = ?1 WHERE status <> 'collected'", [ASIDE])
            .map_err(|error| self.named(error))?;
        Ok(counts)
    }

    /// Returns the newest attempt on record.
    pub fn newest_attempt(&self) -> Result<AttemptId, StoreError> {
        self.conn
            .prepare_cached("SELECT coalesce(max(id), 0) AS newest FROM attempt")
            .and_then(|mut query| query.query_row([], |row| row.get("newest")))
            .map(AttemptId)
            .map_err(|error| self.named(error))
    }

    /// Returns how long a prompt's answers were, the newest ones; where it has none, those of its earlier versions on the
    /// same model.
    pub fn past_answers(&self, prompt: PromptId) -> Result<Vec<PastAnswer>, StoreError> {
        let own = self
            .conn
            .prepare_cached(
                "SELECT attempt.output_tokens AS output, attempt.reasoning_tokens AS reasoning, request.state AS state
                 FROM request JOIN attempt ON attempt.id = request.attempt_id AND attempt.request_id = request.id
                 WHERE request.prompt_id = ?1 AND request.state IN ('answered', 'truncated')
                   AND attempt.output_tokens > 0
                 ORDER BY request.id DESC LIMIT ?2",
            )
            .and_then(|mut query| {
                query.query_map(params![prompt.0, LOOKED_AT], past_answer)?.collect::<Result<Vec<_>, _>>()
            })
            .map_err(|error| self.named(error))?;
        if !own.is_empty() {
            return Ok(own);
        }
        self.conn
            .prepare_cached(
                "SELECT attempt.output_tokens AS output, attempt.reasoning_tokens AS reasoning, request.state AS state
                 FROM prompt AS mine
                 JOIN prompt AS earlier ON earlier.name = mine.name AND earlier.model = mine.model AND earlier.id < mine.id
                 JOIN request ON request.prompt_id = earlier.id AND request.state IN ('answered', 'truncated')
                 JOIN attempt ON attempt.id = request.attempt_id AND attempt.request_id = request.id
                 WHERE mine.id = ?1 AND attempt.output_tokens > 0
                 ORDER BY attempt.id DESC LIMIT ?2",
            )
            .and_then(|mut query| {
                query.query_map(params![prompt.0, LOOKED_AT], past_answer)?.collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns how long a model's calls took from their promise to their answer, on average over the newest ones, and of
    /// how many that is; `None` where there are none.
    pub fn usual_latency(&self, model: &str) -> Result<Option<(Duration, u64)>, StoreError> {
        self.mean(
            "SELECT avg(took) AS mean, count(*) AS found FROM (
                 SELECT attempt.settled_at_ms - attempt.promised_at_ms AS took FROM attempt
                 JOIN request ON request.id = attempt.request_id
                 JOIN prompt ON prompt.id = request.prompt_id
                 WHERE prompt.model = ?1 AND attempt.route = 'realtime' AND attempt.outcome IN ('answered', 'truncated')
                 ORDER BY attempt.id DESC LIMIT 1000)",
            model,
        )
    }

    /// Returns how long a server's batches took from their creation to their end, on average, and of how many that is;
    /// `None` where there are none.
    pub fn usual_batch(&self, server: &str) -> Result<Option<(Duration, u64)>, StoreError> {
        self.mean(
            "SELECT avg(took) AS mean, count(*) AS found FROM (
                 SELECT (SELECT min(at_ms) FROM batch_status
                         WHERE batch_id = batch.id AND status = 'completed') - created_at_ms AS took
                 FROM batch WHERE server = ?1 AND ended = 'completed' AND created_at_ms IS NOT NULL
                 ORDER BY id DESC LIMIT 1000)
             WHERE took IS NOT NULL",
            server,
        )
    }

    fn mean(&self, sql: &str, of: &str) -> Result<Option<(Duration, u64)>, StoreError> {
        let (mean, found): (Option<f64>, u64) = self
            .conn
            .prepare_cached(sql)
            .and_then(|mut query| {
                query.query_row([of], |row| Ok((row.get("mean")?, row.get("found")?)))
            })
            .map_err(|error| self.named(error))?;
        Ok(mean.map(|mean| (Duration::from_millis(mean.max(0.0) as u64), found)))
    }

    /// Sums the attempts after `after`, by prompt and route.
    pub fn route_sums(&self, after: AttemptId) -> Result<Vec<RouteSum>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT request.prompt_id AS prompt_id, attempt.route AS route, count(DISTINCT request.id) AS requests,
                        count(*) AS attempts, sum(attempt.outcome IS 'answered') AS answered,
                        coalesce(sum(attempt.input_tokens), 0) AS input, coalesce(sum(attempt.cached_tokens), 0) AS cached,
                        coalesce(sum(attempt.cache_write_tokens), 0) AS cache_write,
                        coalesce(sum(attempt.output_tokens), 0) AS output,
                        coalesce(sum(attempt.reasoning_tokens), 0) AS reasoning,
                        coalesce(sum(attempt.cost_nanousd), 0) AS cost,
                        sum((attempt.input_tokens IS NOT NULL OR attempt.outcome IN ('answered', 'truncated'))
                            AND attempt.cost_nanousd IS NULL) AS unpriced
                 FROM attempt JOIN request ON request.id = attempt.request_id
                 WHERE attempt.id > ?1
                 GROUP BY request.prompt_id, attempt.route ORDER BY request.prompt_id, attempt.route",
            )
            .and_then(|mut query| query.query_map([after.0], route_sum)?.collect())
            .map_err(|error| self.named(error))
    }

    /// Returns when half of the answers after `after` were there, and when all were.
    pub fn answer_times(&self, after: AttemptId) -> Result<Option<(UnixMs, UnixMs)>, StoreError> {
        let at = |offset: u64| {
            self.conn
                .prepare_cached(
                    "SELECT settled_at_ms AS at FROM attempt WHERE id > ?1 AND outcome = 'answered'
                     ORDER BY settled_at_ms LIMIT 1 OFFSET ?2",
                )
                .and_then(|mut query| {
                    query.query_row(params![after.0, offset], |row| row.get("at")).optional()
                })
                .map(|at| at.map(UnixMs))
        };
        let count: u64 = self
            .conn
            .prepare_cached(
                "SELECT count(*) AS answers FROM attempt WHERE id > ?1 AND outcome = 'answered'",
            )
            .and_then(|mut query| query.query_row([after.0], |row| row.get("answers")))
            .map_err(|error| self.named(error))?;
        let Some(last) = count.checked_sub(1) else { return Ok(None) };
        let times = at(last / 2).and_then(|half| Ok(half.zip(at(last)?)));
        times.map_err(|error| self.named(error))
    }

    /// Lists the batches of a run, in the order in which they were filled.
    pub fn run_batches(&self, run: RunId) -> Result<Vec<RunBatch>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT id, model, server, requests, estimated_tokens, input_bytes, planned_at_ms, created_at_ms, ended, error,
                        (SELECT min(at_ms) FROM batch_status WHERE batch_id = batch.id
                         AND status IN ('completed', 'failed', 'expired', 'cancelled')) AS ended_at_ms
                 FROM batch WHERE run_id = ?1 ORDER BY id",
            )
            .and_then(|mut query| query.query_map([run.0], run_batch)?.collect())
            .map_err(|error| self.named(error))
    }
}

fn past_answer(row: &Row<'_>) -> rusqlite::Result<PastAnswer> {
    let reasoning: Option<u64> = row.get("reasoning")?;
    let state: String = row.get("state")?;
    Ok(PastAnswer {
        output: row.get("output")?,
        reasoning: reasoning.unwrap_or(0),
        was_cut: state == "truncated",
    })
}

fn route_sum(row: &Row<'_>) -> rusqlite::Result<RouteSum> {
    let route: String = row.get("route")?;
    Ok(RouteSum {
        prompt: PromptId(row.get("prompt_id")?),
        route: if route == Route::Batch.as_str() { Route::Batch } else { Route::Realtime },
        requests: row.get("requests")?,
        attempts: row.get("attempts")?,
        answered: row.get("answered")?,
        usage: Usage {
            input: row.get("input")?,
            cached: row.get("cached")?,
            cache_write: row.get("cache_write")?,
            output: row.get("output")?,
            reasoning: row.get("reasoning")?,
        },
        cost: NanoUsd(row.get("cost")?),
        unpriced: row.get("unpriced")?,
    })
}

fn run_batch(row: &Row<'_>) -> rusqlite::Result<RunBatch> {
    let time = |name| row.get::<_, Option<i64>>(name).map(|at| at.map(UnixMs));
    let ended: Option<String> = row.get("ended")?;
    Ok(RunBatch {
        id: BatchId(row.get("id")?),
        model: row.get("model")?,
        server: row.get("server")?,
        requests: row.get("requests")?,
        tokens: row.get("estimated_tokens")?,
        input_bytes: row.get("input_bytes")?,
        planned_at: UnixMs(row.get("planned_at_ms")?),
        created_at: time("created_at_ms")?,
        ended_at: time("ended_at_ms")?,
        ended: ended.as_deref().and_then(BatchEnd::parse),
        error: row.get("error")?,
    })
}
