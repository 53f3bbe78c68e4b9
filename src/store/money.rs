//! What counts against a budget: what was spent, what is set aside, and what nobody has put a price on yet.

use rusqlite::Row;

use super::{Store, StoreError};
use crate::domain::{ModelName, NanoUsd, Route, Usage};

/// What counts against a budget, all that has left the table included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// What attempts have cost, and what was set aside for those whose cost is not known.
    pub known: NanoUsd,
    /// What of it is set aside for attempts under way.
    pub open: NanoUsd,
    /// Attempts that were or may have been billed, and for which there is neither a cost nor anything set aside.
    pub unpriced: Vec<Unpriced>,
}

/// Attempts of one model by one route that have no price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpriced {
    /// Their model.
    pub model: ModelName,
    /// By which way they went.
    pub route: Route,
    /// What the provider has counted of those that it has counted.
    pub usage: Usage,
    /// Those whose tokens nobody has told.
    pub untold: u64,
    /// The bytes of their bodies together.
    pub body_bytes: u64,
    /// The most tokens that their replies can have together, as far as that is limited.
    pub max_tokens: u64,
    /// Those of them whose replies had no limit.
    pub unlimited: u64,
}

/// Tokens of one model by one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokensUsed {
    /// The model.
    pub model: ModelName,
    /// By which way its requests went.
    pub route: Route,
    /// What the provider has counted.
    pub usage: Usage,
}

impl Store {
    /// Sums the tokens that were billed, by model and route.
    pub fn tokens_used(&self) -> Result<Vec<TokensUsed>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT prompt.model AS model, attempt.route AS route, sum(attempt.input_tokens) AS input,
                        sum(attempt.cached_tokens) AS cached, sum(attempt.output_tokens) AS output,
                        sum(attempt.reasoning_tokens) AS reasoning
                 FROM attempt
                 JOIN request ON request.id = attempt.request_id
                 JOIN prompt ON prompt.id = request.prompt_id
                 WHERE attempt.input_tokens IS NOT NULL
                 GROUP BY 1, 2",
            )
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        let (model, route) = model_and_route(row)?;
                        Ok(TokensUsed { model, route, usage: usage(row)? })
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Sums what the replies have cost that live requests share with others: what was not paid a second time.
    pub fn shared_cost(&self) -> Result<NanoUsd, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT coalesce(sum(shared.cost_nanousd), 0) AS cost FROM request
                 JOIN attempt AS shared ON shared.id = request.attempt_id
                 WHERE shared.request_id <> request.id",
            )
            .and_then(|mut query| query.query_row([], |row| row.get("cost")))
            .map(NanoUsd)
            .map_err(|error| self.named(error))
    }

    /// Sums what counts against a budget.
    pub fn counted(&self) -> Result<Counted, StoreError> {
        let (known, open) = self
            .conn
            .prepare_cached(
                "SELECT coalesce(sum(coalesce(cost_nanousd, reserved_nanousd)), 0) AS known,
                        coalesce(sum(CASE WHEN outcome IS NULL THEN reserved_nanousd END), 0) AS open
                 FROM attempt",
            )
            .and_then(|mut query| {
                query.query_row([], |row| Ok((row.get("known")?, row.get("open")?)))
            })
            .map_err(|error| self.named(error))?;
        Ok(Counted { known: NanoUsd(known), open: NanoUsd(open), unpriced: self.unpriced()? })
    }

    fn unpriced(&self) -> Result<Vec<Unpriced>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT prompt.model AS model, attempt.route AS route, coalesce(sum(attempt.input_tokens), 0) AS input,
                        coalesce(sum(attempt.cached_tokens), 0) AS cached, coalesce(sum(attempt.output_tokens), 0) AS output,
                        coalesce(sum(attempt.reasoning_tokens), 0) AS reasoning,
                        sum(attempt.input_tokens IS NULL) AS untold,
                        coalesce(sum(CASE WHEN attempt.input_tokens IS NULL THEN request.body_bytes END), 0) AS body_bytes,
                        coalesce(sum(CASE WHEN attempt.input_tokens IS NULL THEN attempt.max_tokens END), 0) AS max_tokens,
                        sum(attempt.input_tokens IS NULL AND attempt.max_tokens IS NULL) AS unlimited
                 FROM attempt
                 JOIN request ON request.id = attempt.request_id
                 JOIN prompt ON prompt.id = request.prompt_id
                 WHERE attempt.cost_nanousd IS NULL AND attempt.reserved_nanousd IS NULL
                   AND (attempt.input_tokens IS NOT NULL OR attempt.outcome IS NULL OR attempt.outcome <> 'failed'
                        OR attempt.error_class IN ('timeout', 'connection', 'malformed_reply', 'missing_from_batch'))
                 GROUP BY prompt.model, attempt.route",
            )
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        let (model, route) = model_and_route(row)?;
                        Ok(Unpriced {
                            model,
                            route,
                            usage: usage(row)?,
                            untold: row.get("untold")?,
                            body_bytes: row.get("body_bytes")?,
                            max_tokens: row.get("max_tokens")?,
                            unlimited: row.get("unlimited")?,
                        })
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }
}

fn model_and_route(row: &Row<'_>) -> rusqlite::Result<(ModelName, Route)> {
    let (model, route): (String, String) = (row.get("model")?, row.get("route")?);
    let unknown = || ModelName { provider: String::new(), model: model.clone() };
    let route = if route == Route::Batch.as_str() { Route::Batch } else { Route::Realtime };
    Ok((ModelName::parse(&model).unwrap_or_else(unknown), route))
}

fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    Ok(Usage {
        input: row.get("input")?,
        cached: row.get("cached")?,
        output: row.get("output")?,
        reasoning: row.get("reasoning")?,
    })
}
