//! How fast may be sent: the rates that a provider's headers, or its refusals, have told of.
//!
//! They are advice for the next run, which believes what it hears itself more. They are forgotten after a while.

use rusqlite::OptionalExtension as _;

use super::{Store, StoreError};
use crate::domain::UnixMs;
use crate::machine::pace::Rates;

impl Store {
    /// Forgets what was learned of providers' rates before a moment.
    pub fn forget_rate_limits(&mut self, before: UnixMs) -> Result<(), StoreError> {
        self.conn
            .execute("DELETE FROM rate_limit WHERE learned_at_ms < ?1", [before.0])
            .map(drop)
            .map_err(|error| self.named(error))
    }

    /// Returns the rates at which a provider is known to take a model's requests.
    pub fn rate_limit(&self, server: &str, model: &str) -> Result<Rates, StoreError> {
        let rates = self
            .conn
            .prepare_cached(
                "SELECT requests_per_minute, tokens_per_minute FROM rate_limit
                 WHERE server = ?1 AND model = ?2",
            )
            .and_then(|mut query| {
                query
                    .query_row([server, model], |row| {
                        Ok(Rates {
                            requests: row.get("requests_per_minute")?,
                            tokens: row.get("tokens_per_minute")?,
                        })
                    })
                    .optional()
            });
        Ok(rates.map_err(|error| self.named(error))?.unwrap_or_default())
    }

    /// Remembers the rates of a server and a model; one that was not heard of stays as it was known.
    pub fn learn_rate_limit(
        &mut self,
        (server, model): &(String, String),
        rates: Rates,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        if rates == Rates::default() {
            return Ok(());
        }
        // None at all is no rate, and more than SQLite can hold is as good as no limit.
        let whole = |rate: Option<u64>| {
            rate.and_then(|rate| i64::try_from(rate).ok()).filter(|rate| *rate > 0)
        };
        let rates = (whole(rates.requests), whole(rates.tokens));
        self.conn
            .prepare_cached(
                "INSERT INTO rate_limit
                     (server, model, requests_per_minute, tokens_per_minute, learned_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (server, model) DO UPDATE SET
                     requests_per_minute = coalesce(excluded.requests_per_minute, requests_per_minute),
                     tokens_per_minute = coalesce(excluded.tokens_per_minute, tokens_per_minute),
                     learned_at_ms = excluded.learned_at_ms",
            )
            .and_then(|mut query| query.execute((server, model, rates.0, rates.1, at.0)))
            .map(drop)
            .map_err(|error| self.named(error))
    }
}
