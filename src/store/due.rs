//! What is left: the facts from which [`crate::machine::request::due`] decides.
//!
//! The record is asked for facts only; the rule is the machine's, so that `plan`, `run` and
//! `run --dry-run` cannot differ. Requests are made when they are first promised: a live row without
//! a request for a live prompt is due as it stands.

use rusqlite::{OptionalExtension, Row, params};

use super::{PromptRecord, Store, StoreError};
use crate::domain::{AttemptId, BatchId, Fingerprint, PromptId, RequestId, RowId, State};
use crate::machine::plan::{Group, Left, Liveness, left};
use crate::machine::request::InDoubtPolicy;

/// A row that may be due for a prompt.
#[derive(Clone, Debug)]
pub struct DueRequest {
    /// The row.
    pub row: RowId,
    /// Its position in the table, from 1.
    pub position: i64,
    /// Its cells, as the text of one JSON object.
    pub cells: String,
    /// Its request, where one was made before.
    pub existing: Option<Existing>,
}

/// A request that was made before.
#[derive(Clone, Debug)]
pub struct Existing {
    /// Its id.
    pub id: RequestId,
    /// Its state.
    pub state: State,
    /// Of its body, if it ever got one.
    pub fingerprint: Option<Fingerprint>,
    /// How many attempts it has had.
    pub attempts: u32,
    /// How many of them count against the bound.
    pub attempts_used: u32,
    /// The token limit of its last attempt, or the one that a person asked for.
    pub max_tokens: Option<u32>,
}

impl Store {
    /// Counts the live rows.
    pub fn live_rows(&self) -> Result<u64, StoreError> {
        self.conn
            .prepare_cached("SELECT count(*) AS found FROM row WHERE retired_at_ms IS NULL")
            .and_then(|mut query| query.query_row([], |row| row.get("found")))
            .map_err(|error| self.named(error))
    }

    /// Counts what is left of each of these prompts, by the one rule behind `plan`, `run` and `status`.
    pub fn left(
        &self,
        prompts: &[PromptRecord],
        in_doubt: InDoubtPolicy,
        liveness: Liveness,
    ) -> Result<Vec<Left>, StoreError> {
        let project = self.project()?;
        let rows = self.live_rows()?;
        let groups = self.due_groups(project.max_attempts)?;
        let of = |prompt: &PromptRecord| {
            let first = prompt.spec.max_tokens;
            let mine: Vec<Group> = groups
                .iter()
                .filter(|(id, _)| *id == prompt.id)
                .map(|(_, group)| Group { max_tokens: group.max_tokens.or(first), ..*group })
                .collect();
            left(rows, &mine, project.policy(&prompt.spec, in_doubt), liveness)
        };
        Ok(prompts.iter().map(of).collect())
    }

    /// Groups the requests of live rows and live prompts by what decides whether they are due: those that are answered or in
    /// a batch, which nothing can make due, all together. Attempts beyond `max_attempts` make no difference and are not told
    /// apart.
    pub fn due_groups(&self, max_attempts: u32) -> Result<Vec<(PromptId, Group)>, StoreError> {
        let many = [State::Answered, State::InBatch];
        let counted = self.counts()?.into_iter().filter(|(_, state, _)| many.contains(state)).map(
            |(prompt, state, count)| {
                Ok((prompt, Group { state, attempts_used: 0, max_tokens: None, count }))
            },
        );
        self.conn
            .prepare_cached(
                "SELECT request.prompt_id AS prompt_id, request.state AS state, request.error_class AS error_class,
                        min(request.attempts_used, ?1) AS attempts_used, request.max_tokens AS max_tokens,
                        count(*) AS found
                 FROM request
                 JOIN prompt ON prompt.id = request.prompt_id AND prompt.retired_at_ms IS NULL
                 JOIN row ON row.id = request.row_id AND row.retired_at_ms IS NULL
                 WHERE request.state <> 'answered' AND request.state <> 'in_batch'
                 GROUP BY 1, 2, 3, 4, 5",
            )
            .and_then(|mut query| {
                query
                    .query_map([max_attempts], |row| {
                        let group = Group {
                            state: state_of(row)?,
                            attempts_used: row.get("attempts_used")?,
                            max_tokens: row.get("max_tokens")?,
                            count: row.get("found")?,
                        };
                        Ok((PromptId(row.get("prompt_id")?), group))
                    })?
                    .chain(counted)
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Counts the requests of live rows, for each live prompt and state that has some.
    ///
    /// What stands in the file is counted over all rows; those that have left are looked up and taken off.
    pub(super) fn counts(&self) -> Result<Vec<(PromptId, State, u64)>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT prompt_id, state, nullif(error_class, '') AS error_class, max(sum(requests), 0) AS found
                 FROM (SELECT prompt_id, state, error_class, requests FROM request_count
                       UNION ALL
                       SELECT prompt_id, state, coalesce(error_class, ''), -1 FROM row
                       CROSS JOIN request ON request.row_id = row.id
                       WHERE row.retired_at_ms IS NOT NULL)
                 JOIN prompt ON prompt.id = prompt_id AND prompt.retired_at_ms IS NULL
                 GROUP BY 1, 2, 3 HAVING sum(requests) > 0",
            )
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        Ok((PromptId(row.get("prompt_id")?), state_of(row)?, row.get("found")?))
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns requests of a prompt that have no answer and are in no batch, in the order in which they were made,
    /// after `after`. Those in batches may be a million, and are never due.
    pub fn open_requests(
        &self,
        prompt: PromptId,
        after: RequestId,
        limit: u32,
    ) -> Result<Vec<DueRequest>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT request.id AS id, request.state AS state, request.error_class AS error_class,
                        request.fingerprint AS fingerprint, request.attempts AS attempts, request.attempts_used AS attempts_used,
                        request.max_tokens AS max_tokens,
                        row.id AS row_id, row.position AS position, row.cells AS cells
                 FROM request
                 JOIN row ON row.id = request.row_id AND row.retired_at_ms IS NULL
                 WHERE request.prompt_id = ?1 AND request.state <> 'answered' AND request.state <> 'in_batch'
                   AND request.id > ?2
                 ORDER BY request.id LIMIT ?3",
            )
            .and_then(|mut query| {
                query.query_map(params![prompt.0, after.0, limit], open_request)?.collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns requests of live rows whose last attempt was in a batch and that have no answer, after `after`.
    pub fn requests_of_batch(
        &self,
        (batch, prompt): (BatchId, PromptId),
        after: AttemptId,
        limit: u32,
    ) -> Result<Vec<(AttemptId, DueRequest)>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT request.id AS id, request.state AS state, request.error_class AS error_class,
                        request.fingerprint AS fingerprint, request.attempts AS attempts, request.attempts_used AS attempts_used,
                        request.max_tokens AS max_tokens, attempt.id AS attempt_id,
                        row.id AS row_id, row.position AS position, row.cells AS cells
                 FROM attempt
                 JOIN request ON request.attempt_id = attempt.id AND request.id = attempt.request_id
                 JOIN row ON row.id = request.row_id AND row.retired_at_ms IS NULL
                 WHERE attempt.batch_id = ?1 AND request.prompt_id = ?2 AND request.state <> 'answered' AND attempt.id > ?3
                 ORDER BY attempt.id LIMIT ?4",
            )
            .and_then(|mut query| {
                query
                    .query_map(params![batch.0, prompt.0, after.0, limit], |row| {
                        Ok((AttemptId(row.get("attempt_id")?), open_request(row)?))
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns one request of a live row, if it has no answer.
    pub fn open_request(&self, request: RequestId) -> Result<Option<DueRequest>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT request.id AS id, request.state AS state, request.error_class AS error_class,
                        request.fingerprint AS fingerprint, request.attempts AS attempts, request.attempts_used AS attempts_used,
                        request.max_tokens AS max_tokens,
                        row.id AS row_id, row.position AS position, row.cells AS cells
                 FROM request
                 JOIN row ON row.id = request.row_id AND row.retired_at_ms IS NULL
                 WHERE request.id = ?1 AND request.state <> 'answered'",
            )
            .and_then(|mut query| query.query_row([request.0], open_request).optional())
            .map_err(|error| self.named(error))
    }

    /// Returns live rows that have no request for a prompt, in the order in which they came, after `after`.
    pub fn unasked_rows(
        &self,
        prompt: PromptId,
        after: RowId,
        limit: u32,
    ) -> Result<Vec<DueRequest>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT row.id AS row_id, row.position AS position, row.cells AS cells
                 FROM row
                 LEFT JOIN request ON request.row_id = row.id AND request.prompt_id = ?1 AND request.sample = 1
                 WHERE row.retired_at_ms IS NULL AND row.id > ?2 AND request.id IS NULL
                 ORDER BY row.id LIMIT ?3",
            )
            .and_then(|mut query| {
                query
                    .query_map(params![prompt.0, after.0, limit], |row| {
                        Ok(DueRequest {
                            row: RowId(row.get("row_id")?),
                            position: row.get("position")?,
                            cells: row.get("cells")?,
                            existing: None,
                        })
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns up to which row it is known that no live one is without a request for a prompt. Where it knows of less, a run
    /// looks at more rows than it has to.
    pub fn asked_upto(&self, prompt: PromptId) -> Result<RowId, StoreError> {
        self.conn
            .prepare_cached("SELECT asked_upto FROM prompt WHERE id = ?1")
            .and_then(|mut query| {
                query.query_row([prompt.0], |row| row.get("asked_upto").map(RowId))
            })
            .map_err(|error| self.named(error))
    }

    /// Looks on from a row up to which no live one is without a request for a prompt, at most up to `last`, and returns how far
    /// that holds.
    pub fn asked_since(
        &self,
        prompt: PromptId,
        (known, last): (RowId, RowId),
    ) -> Result<RowId, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT coalesce((SELECT row.id - 1 FROM row
                                  LEFT JOIN request ON request.row_id = row.id AND request.prompt_id = ?1 AND request.sample = 1
                                  WHERE row.retired_at_ms IS NULL AND row.id > ?2 AND row.id <= ?3 AND request.id IS NULL
                                  ORDER BY row.id LIMIT 1), max(?2, ?3)) AS upto",
            )
            .and_then(|mut query| {
                query.query_row([prompt.0, known.0, last.0], |row| row.get("upto").map(RowId))
            })
            .map_err(|error| self.named(error))
    }

    /// Counts the live rows that have no request for a prompt.
    pub fn unasked(&self, prompt: PromptId) -> Result<u64, StoreError> {
        let mine = self.counts()?.into_iter().filter(|(of, _, _)| *of == prompt);
        let made: u64 = mine.map(|(_, _, found)| found).sum();
        Ok(self.live_rows()?.saturating_sub(made))
    }

    /// Returns the columns of the live rows' sources, in order of first appearance.
    pub fn columns(&self) -> Result<Vec<String>, StoreError> {
        let lists: Vec<String> = self
            .conn
            .prepare_cached(
                "SELECT columns FROM source
                 WHERE EXISTS (SELECT 1 FROM row WHERE row.source_id = source.id AND row.retired_at_ms IS NULL)
                 ORDER BY id",
            )
            .and_then(|mut query| query.query_map([], |row| row.get("columns"))?.collect())
            .map_err(|error| self.named(error))?;
        let mut columns: Vec<String> = Vec::new();
        let mut met = std::collections::HashSet::new();
        for list in lists {
            let list: Vec<String> = serde_json::from_str(&list)
                .map_err(|error| StoreError::Contradiction(error.to_string()))?;
            columns.extend(list.into_iter().filter(|column| met.insert(column.clone())));
        }
        Ok(columns)
    }
}

pub(super) fn open_request(row: &Row<'_>) -> rusqlite::Result<DueRequest> {
    Ok(DueRequest {
        row: RowId(row.get("row_id")?),
        position: row.get("position")?,
        cells: row.get("cells")?,
        existing: Some(Existing {
            id: RequestId(row.get("id")?),
            state: state_of(row)?,
            fingerprint: row.get::<_, Option<[u8; 32]>>("fingerprint")?.map(Fingerprint),
            attempts: row.get("attempts")?,
            attempts_used: row.get("attempts_used")?,
            max_tokens: row.get("max_tokens")?,
        }),
    })
}

/// Reads the columns `state` and `error_class`.
pub(super) fn state_of(row: &Row<'_>) -> rusqlite::Result<State> {
    let word: String = row.get("state")?;
    let class: Option<String> = row.get("error_class")?;
    State::parse(&word, class.as_deref())
        .ok_or_else(|| rusqlite::Error::InvalidColumnName(format!("state {word}")))
}
