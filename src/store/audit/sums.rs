//! What only whole tables can tell: bodies that were bought twice, and twins of one request.

use crate::store::{Store, StoreError};

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

/// The other requests with a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Twins {
    /// How many there are, up to [`Twins::MANY`].
    pub found: i64,
    /// The most attempts that one of them can lend to the count of those that are used.
    pub most_attempts: i64,
}

impl Twins {
    /// As many as are looked at.
    pub const MANY: i64 = 64;
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

    /// Says what other requests there are with the body of one; of many, the first that are met.
    pub(super) fn twins(&self, request: i64) -> rusqlite::Result<Twins> {
        self.conn
            .prepare_cached(
                "SELECT count(*) AS found, coalesce(sum(attempts), 0) AS most
                 FROM (SELECT twin.attempts AS attempts FROM request AS mine JOIN request AS twin
                         ON substr(twin.fingerprint, 1, 8) = substr(mine.fingerprint, 1, 8) AND twin.fingerprint = mine.fingerprint
                            AND twin.fingerprint IS NOT NULL AND twin.id <> mine.id
                       WHERE mine.id = ?1 LIMIT 64)",
            )?
            .query_row([request], |row| {
                Ok(Twins { found: row.get("found")?, most_attempts: row.get("most")? })
            })
    }
}
