//! Rows joined with their answers, streamed in input order.

use rusqlite::Row;

use super::due::state_of;
use super::{Store, StoreError};
use crate::domain::{
    AnswerCell, AnswerDetails, AnswerRow, BatchId, Fingerprint, NanoUsd, PromptId, State, UnixMs,
    Usage,
};

impl Store {
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
        let mut cell = self.conn.prepare_cached(ANSWER).map_err(named)?;
        let mut found = rows.query([]).map_err(named)?;
        while let Some(row) = found.next().map_err(named)? {
            let id: i64 = row.get("id").map_err(named)?;
            let answers = prompts
                .iter()
                .map(|prompt| {
                    let mut made = cell.query((id, prompt.0))?;
                    made.next()?.map_or(Ok(not_made()), answer_cell)
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(named)?;
            each(&answer_row(row, answers).map_err(named)?)?;
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

fn answer_row(row: &Row<'_>, answers: Vec<AnswerCell>) -> rusqlite::Result<AnswerRow> {
    Ok(AnswerRow {
        position: row.get("position")?,
        key: row.get("key")?,
        cells: row.get("cells")?,
        answers,
    })
}

fn not_made() -> AnswerCell {
    AnswerCell { state: State::Pending, answer: None, details: None }
}

fn answer_cell(row: &Row<'_>) -> rusqlite::Result<AnswerCell> {
    let state = state_of(row)?;
    let answer: Option<String> = row.get("answer")?;
    let settled_at: Option<i64> = row.get("settled_at_ms")?;
    let is_answered = state == State::Answered;
    Ok(AnswerCell {
        state,
        answer: answer.filter(|_| is_answered),
        details: Some(AnswerDetails {
            route: row.get("route")?,
            batch: row.get::<_, Option<i64>>("batch_id")?.map(BatchId),
            provider_request_id: row.get("provider_request_id")?,
            finish_reason: row.get("finish_reason")?,
            usage: Usage {
                input: row.get("input_tokens")?,
                cached: row.get("cached_tokens")?,
                output: row.get("output_tokens")?,
                reasoning: row.get("reasoning_tokens")?,
            },
            cost: row.get::<_, Option<i64>>("cost_nanousd")?.map(NanoUsd),
            attempts: row.get("attempts")?,
            error: row.get("error")?,
            answered_at: settled_at.filter(|_| is_answered).map(UnixMs),
            fingerprint: row.get::<_, Option<[u8; 32]>>("fingerprint")?.map(Fingerprint),
        }),
    })
}
