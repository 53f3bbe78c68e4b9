//! What only whole tables can tell: bodies that were bought twice, and whether what is kept as a sum is one.

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;

use crate::domain::PromptId;
use crate::store::book::Sums;
use crate::store::{Store, StoreError};

/// What attempts add up to, in the columns of `attempt_sum`: said once more, apart from what keeps the sums.
const ATTEMPTS: &str = "
    SELECT prompt_id, batch, count(*),
           coalesce(sum(outcome = 'answered'), 0),
           coalesce(sum(cost_nanousd IS NULL AND (input_tokens IS NOT NULL OR outcome = 'answered' OR outcome = 'truncated')), 0),
           coalesce(sum(input_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(cache_write_tokens), 0),
           coalesce(sum(output_tokens), 0), coalesce(sum(reasoning_tokens), 0),
           coalesce(sum(cost_nanousd), 0),
           coalesce(sum(CASE WHEN cost_nanousd IS NULL THEN reserved_nanousd END), 0),
           coalesce(sum(CASE WHEN outcome IS NULL THEN reserved_nanousd END), 0),
           coalesce(sum(is_perhaps), 0),
           coalesce(sum(CASE WHEN is_perhaps THEN reserved_nanousd END), 0),
           coalesce(sum(is_unreserved), 0),
           coalesce(sum(CASE WHEN is_unreserved THEN input_tokens END), 0),
           coalesce(sum(CASE WHEN is_unreserved THEN cached_tokens END), 0),
           coalesce(sum(CASE WHEN is_unreserved THEN cache_write_tokens END), 0),
           coalesce(sum(CASE WHEN is_unreserved THEN output_tokens END), 0),
           coalesce(sum(CASE WHEN is_unreserved THEN reasoning_tokens END), 0),
           coalesce(sum(is_unreserved AND input_tokens IS NULL), 0),
           coalesce(sum(CASE WHEN is_unreserved AND input_tokens IS NULL THEN body_bytes END), 0),
           coalesce(sum(CASE WHEN is_unreserved AND input_tokens IS NULL THEN max_tokens END), 0),
           coalesce(sum(is_unreserved AND input_tokens IS NULL AND max_tokens IS NULL), 0)
    FROM (SELECT prompt_id, coalesce(batch_id, 0) AS batch, outcome, attempt.input_tokens, attempt.cached_tokens,
                 cache_write_tokens, attempt.output_tokens, attempt.reasoning_tokens, attempt.cost_nanousd, reserved_nanousd,
                 body_bytes, attempt.max_tokens,
                 attempt.cost_nanousd IS NULL AND reserved_nanousd IS NOT NULL
                     AND (outcome IS 'failed' OR outcome IS 'in_doubt') AS is_perhaps,
                 attempt.cost_nanousd IS NULL AND reserved_nanousd IS NULL
                     AND (attempt.input_tokens IS NOT NULL OR outcome IS NOT 'failed'
                          OR attempt.error_class IN ('timeout', 'connection', 'malformed_reply', 'missing_from_batch')) AS is_unreserved
          FROM attempt JOIN request ON request.id = attempt.request_id)
    GROUP BY prompt_id, batch";
/// How many requests stand in a state, in the columns of `request_count`.
const REQUESTS: &str =
    "SELECT prompt_id, state, coalesce(error_class, ''), count(*) FROM request GROUP BY 1, 2, 3";

/// Bodies that were bought for more than one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoughtTwice {
    /// Requests that could have shared another one's answer and have one of their own, nobody having asked for them anew.
    pub requests: i64,
    /// What theirs cost, as far as it is known.
    pub cost_nanousd: i64,
    /// How many of them have a cost that is not known.
    pub unpriced: i64,
}

impl Store {
    /// Finds bodies that were bought more than once: same bytes, same model, each with an answer of its own.
    pub fn bought_twice(&self) -> Result<BoughtTwice, StoreError> {
        self.conn
            .prepare_cached(
                "WITH double AS (
                     SELECT substr(fingerprint, 1, 8) AS head FROM request WHERE fingerprint IS NOT NULL
                     GROUP BY substr(fingerprint, 1, 8) HAVING count(*) > 1),
                 own AS (
                     SELECT request.cost_nanousd AS cost,
                            row_number() OVER (PARTITION BY request.fingerprint, request.sample, prompt.model, prompt.endpoint
                                               ORDER BY request.id) AS nth
                     FROM double
                     JOIN request ON substr(request.fingerprint, 1, 8) = double.head AND request.fingerprint IS NOT NULL
                     JOIN prompt ON prompt.id = request.prompt_id
                     JOIN attempt ON attempt.id = request.attempt_id AND attempt.request_id = request.id
                     WHERE request.state = 'answered' AND request.asked_at_ms IS NULL)
                 SELECT count(*) AS requests, coalesce(sum(cost), 0) AS cost, coalesce(sum(cost IS NULL), 0) AS unpriced
                 FROM own WHERE nth > 1",
            )
            .and_then(|mut query| {
                query.query_row([], |row| {
                    Ok(BoughtTwice {
                        requests: row.get("requests")?,
                        cost_nanousd: row.get("cost")?,
                        unpriced: row.get("unpriced")?,
                    })
                })
            })
            .map_err(|error| self.named(error))
    }
}

/// A number that is kept, and is not what it is kept of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongSum {
    /// The table and the column.
    pub column: String,
    /// The prompt and the batch, or the prompt, the state and the class.
    pub of: String,
    /// What is kept.
    pub kept: i64,
    /// What it comes to.
    pub found: i64,
}

/// The numbers of each row, by what it is of.
type Numbers = BTreeMap<String, Vec<i64>>;

impl Store {
    /// Counts all requests and adds up all attempts anew, and returns what is kept of them and differs.
    pub fn wrong_sums(&self) -> Result<Vec<WrongSum>, StoreError> {
        let attempts =
            format!("SELECT prompt_id, batch_id, {} FROM attempt_sum", Sums::COLUMNS.join(", "));
        let requests = "SELECT prompt_id, state, error_class, requests FROM request_count";
        let mut wrong = Vec::new();
        for (table, keys, columns, (kept, anew)) in [
            ("request_count", 3, &["requests"][..], (requests, REQUESTS)),
            ("attempt_sum", 2, Sums::COLUMNS, (&attempts, ATTEMPTS)),
        ] {
            let kept = self.numbers(kept, (keys, columns.len()))?;
            let found = self.numbers(anew, (keys, columns.len()))?;
            let none = vec![0; columns.len()];
            for of in kept.keys().chain(found.keys().filter(|of| !kept.contains_key(*of))) {
                let (kept, found) = (kept.get(of).unwrap_or(&none), found.get(of).unwrap_or(&none));
                for (column, (kept, found)) in columns.iter().zip(kept.iter().zip(found)) {
                    if kept != found {
                        let (column, of) = (format!("{table}.{column}"), of.clone());
                        wrong.push(WrongSum { column, of, kept: *kept, found: *found });
                    }
                }
            }
        }
        Ok(wrong)
    }

    /// Reads rows whose first columns say what the numbers in the others are of.
    fn numbers(&self, sql: &str, (keys, width): (usize, usize)) -> Result<Numbers, StoreError> {
        self.conn
            .prepare(sql)
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        let key = |at| {
                            row.get_ref(at).map(|value| match value {
                                ValueRef::Integer(number) => number.to_string(),
                                other => other.as_str().unwrap_or("?").to_owned(),
                            })
                        };
                        let of = (0..keys).map(key).collect::<Result<Vec<_>, _>>()?;
                        let numbers = (keys..keys + width).map(|at| row.get(at));
                        Ok((of.join(" ").trim_end().to_owned(), numbers.collect::<Result<_, _>>()?))
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns the live prompts, with the rows up to which all live ones are said to have a request, where some have none, or
    /// may be added that have none.
    pub fn wrong_marks(&self) -> Result<Vec<(i64, i64)>, StoreError> {
        let marks: Vec<(i64, i64)> = self
            .conn
            .prepare("SELECT id, asked_upto FROM prompt WHERE retired_at_ms IS NULL")
            .and_then(|mut query| {
                query.query_map([], |row| Ok((row.get("id")?, row.get("asked_upto")?)))?.collect()
            })
            .map_err(|error| self.named(error))?;
        let mut wrong = Vec::new();
        for (prompt, mark) in marks {
            // Those behind the mark are few once a project is done; those before it need not be looked at one by one.
            let behind: u64 = self
                .conn
                .prepare_cached(
                    "SELECT count(*) AS found FROM row
                     LEFT JOIN request ON request.row_id = row.id AND request.prompt_id = ?1 AND request.sample = 1
                     WHERE row.retired_at_ms IS NULL AND row.id > ?2 AND request.id IS NULL",
                )
                .and_then(|mut query| query.query_row([prompt, mark], |row| row.get("found")))
                .map_err(|error| self.named(error))?;
            let last: i64 = self
                .conn
                .prepare_cached("SELECT coalesce(max(id), 0) AS last FROM row")
                .and_then(|mut query| query.query_row([], |row| row.get("last")))
                .map_err(|error| self.named(error))?;
            if behind != self.unasked(PromptId(prompt))? || mark > last {
                wrong.push((prompt, mark));
            }
        }
        Ok(wrong)
    }
}
