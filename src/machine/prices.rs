//! What models cost: a dated table that comes with the program, those that people bring, and what they set themselves.
//!
//! Prices change and no table knows it: every row of the bundled one says as of when it stands, and a model that is in no
//! table has no price, which is another thing than a price of zero. Amounts are read digit by digit into nano-USD and never
//! pass through a float. Whatever they are written in becomes [`Terms`]; what those leave open is filled in there alone.
//!
//! ```text
//!  prices.csv, a CSV of one's own ──sheet──┐
//!  LiteLLM's table ────────────community───┼─▶ Terms ──listed──▶ ListedPrice
//!  the record, the command line ───────────┘
//! ```

mod amount;
mod community;
mod sheet;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use jiff::civil::Date;

pub use self::amount::usd_per_mtok;
pub use self::community::{CommunityError, CommunityProblem};
pub use self::sheet::SheetError;
pub use self::terms::{Long, Parts, Terms, usual_batch_discount};
use crate::domain::{ModelName, Price};

/// Prices by model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PriceTable {
    rows: HashMap<ModelName, ListedPrice>,
}

/// What is known of a model's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPrice {
    /// By a call.
    pub price: Price,
    /// In a batch.
    pub batch: Price,
    /// The most input tokens that the model takes.
    pub max_input_tokens: Option<u64>,
    /// The most output tokens that the model gives, reasoning included.
    pub max_output_tokens: Option<u64>,
    /// The day for which the price was looked up.
    pub as_of: Option<Date>,
}

/// What is wrong with a price table.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// It is CSV, or should be.
    #[error(transparent)]
    Sheet(#[from] SheetError),
    /// It is JSON.
    #[error(transparent)]
    Community(#[from] CommunityError),
}

/// How near a row comes to the model that is looked up; the nearest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// It is for this model.
    Same,
    /// It is for the model of which this is a dated snapshot.
    Undated,
    /// It is for whatever else its provider has.
    Provider,
}

impl Nearness {
    /// All of them, nearest first.
    pub const ALL: [Self; 3] = [Self::Same, Self::Undated, Self::Provider];

    /// Returns the name under which a row that comes so near to a model stands.
    pub fn name(self, model: &ModelName) -> Option<ModelName> {
        let of_provider = |name: &str| {
            let provider = model.provider.clone();
            ModelName { provider, model: name.to_owned() }
        };
        match self {
            Self::Same => Some(model.clone()),
            Self::Undated => undated(&model.model).map(of_provider),
            Self::Provider => Some(of_provider(ANY_MODEL)),
        }
    }
}

impl PriceTable {
    /// Returns the table that comes with the program.
    pub fn bundled() -> Self {
        Self::parse(include_str!("prices/prices.csv")).expect("the bundled price table is tested")
    }

    /// Reads a table from CSV with a header: `provider`, `model`, `input_usd_per_mtok`, `output_usd_per_mtok`, and such others of
    /// `sheet::Row` as there are, in any order. The model `*` stands for every model of its provider that has no row.
    pub fn parse(text: &str) -> Result<Self, SheetError> {
        sheet::parse(text)
    }

    /// Reads a table as people bring one: the community's, which is JSON, or CSV. Of the community's only what these models
    /// need is read, for it holds thousands and may hold nonsense.
    pub fn read(text: &str, wanted: &[ModelName]) -> Result<Self, PriceError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(match text.trim_start().starts_with(['{', '[']) {
            true => community::read(text, wanted)?,
            false => sheet::parse(text)?,
        })
    }

    /// Returns the models that have a row.
    pub fn models(&self) -> impl Iterator<Item = &ModelName> {
        self.rows.keys()
    }

    /// Puts a row in, in the place of one for the same model.
    pub fn insert(&mut self, model: ModelName, price: ListedPrice) {
        self.rows.insert(model, price);
    }

    /// Returns this table with the rows of `newer` in place of its own.
    #[must_use]
    pub fn with(mut self, newer: Self) -> Self {
        self.rows.extend(newer.rows);
        self
    }

    /// Returns the realtime price of `model`, if it is known.
    pub fn lookup(&self, model: &ModelName) -> Option<Price> {
        self.listed(model).map(|listed| listed.price)
    }

    /// Returns the nearest row to `model`.
    pub fn listed(&self, model: &ModelName) -> Option<&ListedPrice> {
        Nearness::ALL.into_iter().find_map(|nearness| self.near(model, nearness))
    }

    /// Returns the row that comes so near to `model`.
    pub fn near(&self, model: &ModelName, nearness: Nearness) -> Option<&ListedPrice> {
        self.rows.get(&nearness.name(model)?)
    }
}

const ANY_MODEL: &str = "*";

/// Returns the name without a date at its end: `-2025-08-07` (OpenAI) or `-20250807` (Anthropic).
fn undated(model: &str) -> Option<&str> {
    let shape_of = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
    };
    ["-0000-00-00", "-00000000"].iter().find_map(|shape| {
        let at = model.len().checked_sub(shape.len())?;
        let (name, date) = model.split_at_checked(at)?;
        (!name.is_empty() && shape_of(date) == *shape).then_some(name)
    })
}
