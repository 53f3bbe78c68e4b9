//! The rows of a pilot: drawn at random from those that have something due.

use rusqlite::{OptionalExtension, params};

use super::due::open_request;
use super::{DueRequest, PromptRecord, Store, StoreError};
use crate::domain::{PromptId, RowId, State};
use crate::machine::request::{Due, Facts, InDoubtPolicy, due};
use crate::machine::sample::{Lowest, lot};

/// Rows that were drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// The rows.
    pub rows: Vec<RowId>,
    /// Their due requests.
    pub requests: u64,
}

impl Store {
    /// Draws up to `wanted` live rows of which something is due. No run may be on: whatever is in flight is in doubt.
    pub fn sample(
        &self,
        prompts: &[PromptRecord],
        in_doubt: InDoubtPolicy,
        (wanted, seed): (u64, u64),
    ) -> Result<Sampled, StoreError> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let project = self.project()?;
        let mut sampled = Sampled::default();
        for row in self.candidates(wanted, seed)? {
            let mut requests = 0;
            for prompt in prompts {
                let Some(request) = self.due_of_row(prompt.id, row)? else { continue };
                let policy = project.policy(&prompt.spec, in_doubt);
                let is_due = request.existing.as_ref().is_none_or(|existing| {
                    let state = match existing.state {
                        State::InFlight => State::InDoubt,
                        state => state,
                    };
                    let max_tokens = existing.max_tokens.or(prompt.spec.max_tokens);
                    let facts = Facts { state, attempts_used: existing.attempts_used, max_tokens };
                    matches!(due(facts, policy), Due::Yes { .. })
                });
                requests += u64::from(is_due);
            }
            if requests > 0 {
                sampled.rows.push(row);
                sampled.requests += requests;
            }
            if sampled.rows.len() == wanted {
                break;
            }
        }
        Ok(sampled)
    }

    /// Draws rows of which something has no answer, in the order of their lots: more than are wanted, since of some nothing
    /// is due.
    fn candidates(&self, wanted: usize, seed: u64) -> Result<Vec<RowId>, StoreError> {
        let mut lowest = Lowest::new(wanted.saturating_mul(4).saturating_add(64));
        self.conn
            .prepare_cached(
                "SELECT row.id AS id, row.position AS position FROM row
                 WHERE row.retired_at_ms IS NULL AND EXISTS (
                   SELECT 1 FROM prompt
                   LEFT JOIN request ON request.row_id = row.id AND request.prompt_id = prompt.id AND request.sample = 1
                   WHERE prompt.retired_at_ms IS NULL
                     AND (request.id IS NULL OR request.state NOT IN ('answered', 'in_batch')))",
            )
            .and_then(|mut query| {
                let mut rows = query.query([])?;
                while let Some(row) = rows.next()? {
                    let (id, position): (i64, i64) = (row.get("id")?, row.get("position")?);
                    lowest.take(lot(seed, position), id);
                }
                Ok(())
            })
            .map_err(|error| self.named(error))?;
        Ok(lowest.into_sorted().into_iter().map(RowId).collect())
    }

    /// Returns a live row's request for a prompt, or what it takes to make one; `None` where it is answered or in a batch.
    pub fn due_of_row(
        &self,
        prompt: PromptId,
        row: RowId,
    ) -> Result<Option<DueRequest>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT request.id AS id, request.state AS state, request.error_class AS error_class,
                        request.fingerprint AS fingerprint, request.attempts AS attempts, request.attempts_used AS attempts_used,
                        request.max_tokens AS max_tokens,
                        row.id AS row_id, row.position AS position, row.cells AS cells
                 FROM row
                 LEFT JOIN request ON request.row_id = row.id AND request.prompt_id = ?1 AND request.sample = 1
                 WHERE row.id = ?2 AND row.retired_at_ms IS NULL
                   AND (request.id IS NULL OR request.state NOT IN ('answered', 'in_batch'))",
            )
            .and_then(|mut query| {
                query
                    .query_row(params![prompt.0, row.0], |row| match row.get::<_, Option<i64>>("id")? {
                        Some(_) => open_request(row),
                        None => Ok(DueRequest {
                            row: RowId(row.get("row_id")?),
                            position: row.get("position")?,
                            cells: row.get("cells")?,
                            existing: None,
                        }),
                    })
                    .optional()
            })
            .map_err(|error| self.named(error))
    }
}
