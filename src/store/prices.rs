//! The prices that this project has: those that a person set, and those that a file taught it.

use rusqlite::params;

use super::{Store, StoreError};
use crate::domain::{PriceOrigin, UnixMs};
use crate::machine::prices::Terms;

/// A price on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRecord {
    /// `provider/model`.
    pub model: String,
    /// How it came here.
    pub origin: PriceOrigin,
    /// What it says; `None` where that cannot be read.
    pub terms: Option<Terms>,
    /// Since when it is here.
    pub set_at: UnixMs,
}

impl Store {
    /// Lists the prices on record, by model.
    pub fn prices(&self) -> Result<Vec<PriceRecord>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT model, origin, terms, set_at_ms FROM price ORDER BY model, origin",
            )
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        let terms: String = row.get("terms")?;
                        let origin: String = row.get("origin")?;
                        let terms: Option<Terms> = serde_json::from_str(&terms).ok();
                        Ok(PriceRecord {
                            model: row.get("model")?,
                            // The table has a CHECK of these words.
                            origin: PriceOrigin::parse(&origin).unwrap_or(PriceOrigin::File),
                            terms: terms.filter(Terms::is_sound),
                            set_at: UnixMs(row.get("set_at_ms")?),
                        })
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Puts these prices on record, in the place of those that the same models have from there. Returns how many are news.
    pub fn set_prices(
        &mut self,
        prices: &[(String, Terms)],
        origin: PriceOrigin,
        now: UnixMs,
    ) -> Result<u64, StoreError> {
        let tx = self.begin()?;
        let put = || {
            let mut news = 0;
            for (model, terms) in prices {
                let terms = serde_json::to_string(terms)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                news += tx
                    .prepare_cached(
                        "INSERT INTO price (model, origin, terms, set_at_ms) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (model, origin) DO UPDATE SET terms = excluded.terms, set_at_ms = excluded.set_at_ms
                         WHERE terms <> excluded.terms",
                    )?
                    .execute(params![model, origin.as_str(), terms, now.0])?;
            }
            Ok(news as u64)
        };
        let done = put();
        let done = done.and_then(|news| tx.commit().map(|()| news));
        done.map_err(|error| self.named(error))
    }

    /// Takes the price of a model from the record, whether a person set it or a file brought it. Returns where it was from.
    pub fn forget_price(&mut self, model: &str) -> Result<Vec<PriceOrigin>, StoreError> {
        let tx = self.begin()?;
        let forget = || {
            let mut gone = Vec::new();
            for origin in PriceOrigin::ALL {
                let mut delete =
                    tx.prepare_cached("DELETE FROM price WHERE model = ?1 AND origin = ?2")?;
                if delete.execute([model, origin.as_str()])? > 0 {
                    gone.push(origin);
                }
            }
            Ok(gone)
        };
        let done = forget();
        let done = done.and_then(|gone| tx.commit().map(|()| gone));
        done.map_err(|error| self.named(error))
    }
}
