//! What counts against a budget: what was spent, what is set aside, and what nobody has put a price on yet.

use std::collections::{BTreeMap, HashMap};

use super::book::{self, Sums};
use super::{Store, StoreError};
use crate::domain::{ModelName, NanoUsd, PromptId, Route, Usage};

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

/// A model, and the way to it.
type By = (ModelName, Route);

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
    /// Adds up what stands in the file: what attempts came to, by prompt and batch; batch 0 are calls.
    pub(super) fn sums(&self) -> Result<Vec<(book::Way, Sums)>, StoreError> {
        let sql =
            format!("SELECT prompt_id, batch_id, {} FROM attempt_sum", Sums::COLUMNS.join(", "));
        self.conn
            .prepare_cached(&sql)
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        let way = (PromptId(row.get("prompt_id")?), row.get("batch_id")?);
                        Ok((way, Sums::read(row)?))
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// The same, by model and route.
    fn sums_by_model(&self) -> Result<Vec<(By, Sums)>, StoreError> {
        let mut by_model: BTreeMap<(String, &'static str), Sums> = BTreeMap::new();
        let models = self.models()?;
        for ((prompt, batch), sums) in self.sums()? {
            let model = models.get(&prompt).cloned().unwrap_or_default();
            let route = if batch == 0 { Route::Realtime } else { Route::Batch };
            *by_model.entry((model, route.as_str())).or_default() += sums;
        }
        let named = |((model, route), sums): ((String, &'static str), Sums)| {
            let unknown = || ModelName { provider: String::new(), model: model.clone() };
            let route = if route == Route::Batch.as_str() { Route::Batch } else { Route::Realtime };
            ((ModelName::parse(&model).unwrap_or_else(unknown), route), sums)
        };
        Ok(by_model.into_iter().map(named).collect())
    }

    fn models(&self) -> Result<HashMap<PromptId, String>, StoreError> {
        self.conn
            .prepare_cached("SELECT id, model FROM prompt")
            .and_then(|mut query| {
                query
                    .query_map([], |row| Ok((PromptId(row.get("id")?), row.get("model")?)))?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Sums the tokens that were billed, by model and route.
    pub fn tokens_used(&self) -> Result<Vec<TokensUsed>, StoreError> {
        let used = |((model, route), sums): ((ModelName, Route), Sums)| {
            let usage = usage([
                sums.input_tokens,
                sums.cached_tokens,
                sums.cache_write_tokens,
                sums.output_tokens,
                sums.reasoning_tokens,
            ]);
            (usage != Usage::default()).then_some(TokensUsed { model, route, usage })
        };
        Ok(self.sums_by_model()?.into_iter().filter_map(used).collect())
    }

    /// Sums what the replies have cost that live requests share with others: what was not paid a second time.
    pub fn shared_cost(&self) -> Result<NanoUsd, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT coalesce(sum(shared.cost_nanousd), 0) AS cost FROM request
                 JOIN attempt AS shared ON shared.id = request.attempt_id
                 WHERE request.is_lent = 1",
            )
            .and_then(|mut query| query.query_row([], |row| row.get("cost")))
            .map(NanoUsd)
            .map_err(|error| self.named(error))
    }

    /// Sums what counts against a budget.
    pub fn counted(&self) -> Result<Counted, StoreError> {
        let by_model = self.sums_by_model()?;
        let all = by_model.iter().fold(Sums::default(), |all, (_, sums)| all + *sums);
        let unpriced = |((model, route), sums): ((ModelName, Route), Sums)| Unpriced {
            model,
            route,
            usage: usage([
                sums.unreserved_input_tokens,
                sums.unreserved_cached_tokens,
                sums.unreserved_cache_write_tokens,
                sums.unreserved_output_tokens,
                sums.unreserved_reasoning_tokens,
            ]),
            untold: count(sums.untold),
            body_bytes: count(sums.untold_body_bytes),
            max_tokens: count(sums.untold_max_tokens),
            unlimited: count(sums.untold_unlimited),
        };
        let has_any = |(_, sums): &(_, Sums)| sums.unreserved > 0;
        Ok(Counted {
            known: NanoUsd(all.cost_nanousd) + NanoUsd(all.held_nanousd),
            open: NanoUsd(all.open_nanousd),
            unpriced: by_model.into_iter().filter(has_any).map(unpriced).collect(),
        })
    }
}

fn count(sum: i64) -> u64 {
    u64::try_from(sum).unwrap_or_default()
}

fn usage([input, cached, cache_write, output, reasoning]: [i64; 5]) -> Usage {
    Usage {
        input: count(input),
        cached: count(cached),
        cache_write: count(cache_write),
        output: count(output),
        reasoning: count(reasoning),
    }
}
