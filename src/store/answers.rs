//! Rows joined with their answers, streamed in input order.

use rusqlite::{Row, Statement};

use super::{Store, StoreError};
use crate::domain::{
    AnswerCell, AnswerDetails, AnswerRow, BatchId, Fingerprint, NanoUsd, PromptId, State, UnixMs,
    Usage,
};

impl Store {
    /// Has several questions answered as of one moment, while a run goes on.
    pub fn as_of_now<T, E: From<StoreError>>(
        &self,
        ask: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let named = |error| E::from(self.named(error));
        let moment = self.conn.unchecked_transaction().map_err(named)?;
        let answer = ask(self)?;
        moment.finish().map_err(named)?;
        Ok(answer)
    }

    /// Reads a little, which fixes the moment that [`Store::as_of_now`] answers as of.
    pub fn fix_moment(&self) -> Result<(), StoreError> {
        self.format().map(|_| ())
    }

    /// Returns the paths of the files that rows came from, as they were given.
    pub fn source_paths(&self) -> Result<Vec<String>, StoreError> {
        self.conn
            .prepare_cached("SELECT DISTINCT path FROM source")
            .and_then(|mut query| query.query_map([], |row| row.get("path"))?.collect())
            .map_err(|error| self.named(error))
    }

    /// Hands every live row with the answers of these prompts to `each`, in input order, until it fails.
    pub fn each_answer<E: From<StoreError>>(
        &self,
        prompts: &[PromptId],
        mut each: impl FnMut(&AnswerRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let named = |error| E::from(self.named(error));
        let mut rows = self
            .conn
            .prepare_cached(
                "SELECT id, position, key, cells FROM row WHERE retired_at_ms IS NULL ORDER BY position",
            )
            .map_err(named)?;
        let at = RowAt::of(&rows).map_err(named)?;
        let mut cell = self.conn.prepare_cached(ANSWER).map_err(named)?;
        let cell_at = CellAt::of(&cell).map_err(named)?;
        let mut found = rows.query([]).map_err(named)?;
        while let Some(row) = found.next().map_err(named)? {
            let id: i64 = row.get(at.id).map_err(named)?;
            let answers = prompts
                .iter()
                .map(|prompt| {
                    let mut made = cell.query((id, prompt.0))?;
                    made.next()?.map_or(Ok(not_made()), |row| cell_at.read(row))
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(named)?;
            each(&at.read(row, answers).map_err(named)?)?;
        }
        Ok(())
    }
}

const ANSWER: &str = "SELECT request.state AS state, request.error_class AS error_class, request.error AS error,
            request.fingerprint AS fingerprint, request.attempts AS attempts, request.input_tokens AS input_tokens,
            request.cached_tokens AS cached_tokens, request.output_tokens AS output_tokens,
            request.reasoning_tokens AS reasoning_tokens, request.cost_nanousd AS cost_nanousd,
            attempt.answer AS answer, attempt.route AS route, attempt.batch_id AS batch_id,
            attempt.provider_request_id AS provider_request_id, attempt.finish_reason AS finish_reason,
            attempt.settled_at_ms AS settled_at_ms
     FROM request LEFT JOIN attempt ON attempt.id = request.attempt_id
     WHERE request.row_id = ?1 AND request.prompt_id = ?2 AND request.sample = 1";

/// Declares where the columns of a statement stand, found by name once: over a million rows, finding
/// them row by row takes as long as reading them.
macro_rules! places {
    ($name:ident: $($column:ident),+) => {
        struct $name { $($column: usize),+ }

        impl $name {
            fn of(statement: &Statement<'_>) -> rusqlite::Result<Self> {
                Ok(Self { $($column: statement.column_index(stringify!($column))?),+ })
            }
        }
    };
}

places!(RowAt: id, position, key, cells);
places!(CellAt: state, error_class, error, fingerprint, attempts, input_tokens, cached_tokens,
        output_tokens, reasoning_tokens, cost_nanousd, answer, route, batch_id, provider_request_id,
        finish_reason, settled_at_ms);

impl RowAt {
    fn read(&self, row: &Row<'_>, answers: Vec<AnswerCell>) -> rusqlite::Result<AnswerRow> {
        Ok(AnswerRow {
            position: row.get(self.position)?,
            key: row.get(self.key)?,
            cells: row.get(self.cells)?,
            answers,
        })
    }
}

fn not_made() -> AnswerCell {
    AnswerCell { state: State::Pending, answer: None, details: None }
}

impl CellAt {
    fn read(&self, row: &Row<'_>) -> rusqlite::Result<AnswerCell> {
        let state = self.state(row)?;
        let is_answered = state == State::Answered;
        let settled_at: Option<i64> = row.get(self.settled_at_ms)?;
        Ok(AnswerCell {
            state,
            answer: if is_answered { row.get(self.answer)? } else { None },
            details: Some(AnswerDetails {
                route: row.get(self.route)?,
                batch: row.get::<_, Option<i64>>(self.batch_id)?.map(BatchId),
                provider_request_id: row.get(self.provider_request_id)?,
                finish_reason: row.get(self.finish_reason)?,
                usage: Usage {
                    input: row.get(self.input_tokens)?,
                    cached: row.get(self.cached_tokens)?,
                    // Kept by attempt alone; nobody exports it.
                    cache_write: 0,
                    output: row.get(self.output_tokens)?,
                    reasoning: row.get(self.reasoning_tokens)?,
                },
                cost: row.get::<_, Option<i64>>(self.cost_nanousd)?.map(NanoUsd),
                attempts: row.get(self.attempts)?,
                error: row.get(self.error)?,
                answered_at: settled_at.filter(|_| is_answered).map(UnixMs),
                fingerprint: row.get::<_, Option<[u8; 32]>>(self.fingerprint)?.map(Fingerprint),
            }),
        })
    }

    fn state(&self, row: &Row<'_>) -> rusqlite::Result<State> {
        let word = row.get_ref(self.state)?.as_str()?;
        let class = row.get_ref(self.error_class)?.as_str_or_null()?;
        State::parse(word, class)
            .ok_or_else(|| rusqlite::Error::InvalidColumnName(format!("state {word}")))
    }
}
