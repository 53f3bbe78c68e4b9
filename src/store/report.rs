//! How the project stands: states, failures, tokens, money, batches.

use std::collections::BTreeMap;

use super::book::Sums;
use super::{Store, StoreError, migrate};
use crate::domain::{NanoUsd, State, UnixMs, Usage};

/// Requests of live rows and live prompts, by state. Those not made yet are pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Live rows.
    pub rows: u64,
    /// Live rows times live prompts.
    pub total: u64,
    /// Nothing under way.
    pub pending: u64,
    /// Promised to a call.
    pub in_flight: u64,
    /// Promised to a batch.
    pub in_batch: u64,
    /// Promised by a process that is gone.
    pub in_doubt: u64,
    /// Answered.
    pub answered: u64,
    /// Cut by the token limit.
    pub truncated: u64,
    /// Failed, by class.
    pub failures: BTreeMap<&'static str, u64>,
}

impl StateCounts {
    /// Counts all failed requests.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// What the project has taken in all, rows that left and old prompts included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    /// Attempts promised.
    pub attempts: u64,
    /// What the provider counted.
    pub usage: Usage,
    /// What it cost, as far as prices were known.
    pub cost: NanoUsd,
    /// What is set aside for attempts under way.
    pub reserved: NanoUsd,
    /// What may have been billed without anybody knowing how much.
    pub perhaps: Perhaps,
    /// Replies that may be billed and whose cost is not known.
    pub unpriced: u64,
    /// Live requests that share another one's reply.
    pub shared: u64,
}

/// Attempts that are over and may have been billed, by nobody knows how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Perhaps {
    /// How many.
    pub attempts: u64,
    /// The most that they can have cost.
    pub at_most: NanoUsd,
}

/// A file that live rows came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Its path, as it was given.
    pub path: String,
    /// `csv`, `tsv` or `jsonl`.
    pub format: String,
    /// The column whose cells are the rows' keys, where one was named.
    pub key_column: Option<String>,
    /// Live rows that came from it.
    pub rows: u64,
    /// When it last brought something new.
    pub added_at: UnixMs,
}

/// The first request that stands failed with some class, to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureExample {
    /// The class.
    pub class: String,
    /// The position of its row, from 1.
    pub position: i64,
    /// What the provider said of it, or what is wrong with its reply.
    pub error: Option<String>,
}

impl Store {
    /// Returns the number of the file's format.
    pub fn format(&self) -> Result<i64, StoreError> {
        migrate::format_of(&self.conn).map_err(|error| self.named(error))
    }

    /// Lists the files that live rows came from, in the order in which they came.
    pub fn sources(&self) -> Result<Vec<SourceLine>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT path, format, key_column, added_at_ms, live FROM source
                 JOIN (SELECT min(brought.id) AS first, max(brought.id) AS last, sum(found) AS live
                       FROM source AS brought
                       JOIN (SELECT source_id, count(*) AS found FROM row WHERE retired_at_ms IS NULL GROUP BY source_id)
                       ON source_id = brought.id
                       GROUP BY path) ON last = source.id
                 ORDER BY first",
            )
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        Ok(SourceLine {
                            path: row.get("path")?,
                            format: row.get("format")?,
                            key_column: row.get("key_column")?,
                            rows: row.get("live")?,
                            added_at: UnixMs(row.get("added_at_ms")?),
                        })
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns the positions of the first and the last live row, `None` where there is no row.
    pub fn positions(&self) -> Result<Option<(i64, i64)>, StoreError> {
        self.conn
            .prepare_cached(
                // Apart, each is the end of an index; together they are a walk through all of it.
                "SELECT (SELECT min(position) FROM row WHERE retired_at_ms IS NULL) AS first,
                        (SELECT max(position) FROM row WHERE retired_at_ms IS NULL) AS last",
            )
            .and_then(|mut query| {
                query.query_row([], |row| {
                    let first: Option<i64> = row.get("first")?;
                    Ok(first.zip(row.get("last")?))
                })
            })
            .map_err(|error| self.named(error))
    }

    /// Returns the first failed request of each class, over live rows and live prompts.
    pub fn failure_examples(&self) -> Result<Vec<FailureExample>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT error_class, error, min(position) AS position FROM request
                 JOIN prompt ON prompt.id = request.prompt_id AND prompt.retired_at_ms IS NULL
                 JOIN row ON row.id = request.row_id AND row.retired_at_ms IS NULL
                 WHERE state = 'failed' AND state <> 'answered'
                 GROUP BY error_class",
            )
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        Ok(FailureExample {
                            class: row.get("error_class")?,
                            position: row.get("position")?,
                            error: row.get("error")?,
                        })
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Counts states. With no run on, what stands as in flight is in doubt: its process is gone.
    pub fn state_counts(&self, is_running: bool) -> Result<StateCounts, StoreError> {
        let mut counts = StateCounts { rows: self.live_rows()?, ..StateCounts::default() };
        let prompts = self.live_prompts()?.len() as u64;
        counts.total = counts.rows * prompts;
        let mut made = 0;
        for (_, state, found) in self.counts()? {
            made += found;
            match state {
                State::Pending => counts.pending += found,
                State::InFlight if is_running => counts.in_flight += found,
                State::InFlight | State::InDoubt => counts.in_doubt += found,
                State::InBatch => counts.in_batch += found,
                State::Answered => counts.answered += found,
                State::Truncated => counts.truncated += found,
                State::Failed(class) => {
                    *counts.failures.entry(class.as_str()).or_default() += found;
                }
            }
        }
        counts.pending += counts.total.saturating_sub(made);
        Ok(counts)
    }

    /// Sums what the project has taken.
    pub fn spending(&self) -> Result<Spending, StoreError> {
        let sums = self.sums()?.into_iter().fold(Sums::default(), |all, (_, sums)| all + sums);
        let shared = self
            .conn
            .prepare_cached("SELECT count(*) AS shared FROM request WHERE is_lent = 1")
            .and_then(|mut query| query.query_row([], |row| row.get("shared")))
            .map_err(|error| self.named(error))?;
        let count = |sum: i64| u64::try_from(sum).unwrap_or_default();
        Ok(Spending {
            attempts: count(sums.attempts),
            usage: Usage {
                input: count(sums.input_tokens),
                cached: count(sums.cached_tokens),
                cache_write: count(sums.cache_write_tokens),
                output: count(sums.output_tokens),
                reasoning: count(sums.reasoning_tokens),
            },
            cost: NanoUsd(sums.cost_nanousd),
            reserved: NanoUsd(sums.open_nanousd),
            perhaps: Perhaps {
                attempts: count(sums.perhaps),
                at_most: NanoUsd(sums.perhaps_nanousd),
            },
            unpriced: count(sums.unpriced),
            shared,
        })
    }
}

impl Store {
    /// Returns the average output tokens of a prompt's answers, over its newest thousand; `None` where there is none.
    pub fn average_output_tokens(
        &self,
        prompt: crate::domain::PromptId,
    ) -> Result<Option<u64>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT CAST(round(avg(output_tokens)) AS INTEGER) AS average
                 FROM (SELECT output_tokens FROM request
                       WHERE prompt_id = ?1 AND state = 'answered' AND output_tokens > 0
                       ORDER BY id DESC LIMIT 1000)",
            )
            .and_then(|mut query| query.query_row([prompt.0], |row| row.get("average")))
            .map_err(|error| self.named(error))
    }
}
