//! A price table as CSV: the bundled one and those that people keep by hand.
//!
//! Lines that start with `#` are remarks. Every error names its line and cell.

use serde::Deserialize;

use super::terms::{Long, Parts, Terms};
use super::{PriceTable, usd_per_mtok};
use crate::domain::{ModelName, NanoUsd};

/// What is wrong with a table in CSV.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    /// Not CSV; the cause names the line.
    #[error("the price table is not valid CSV")]
    Csv(#[from] csv::Error),
    /// A column that is needed is not in the header.
    #[error("the price table has no column {0}; it needs {needed}", needed = NEEDED.join(", "))]
    Column(&'static str),
    /// A column in the header that no table has.
    #[error("the price table has a column {0:?}, which is none of {known}", known = COLUMNS.join(", "))]
    Unknown(String),
    /// A cell that cannot be read.
    #[error("line {line} of the price table: {column} is {cell:?}, which is not {wanted}")]
    Cell {
        /// Counted from 1.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// What stands there.
        cell: String,
        /// What should stand there.
        wanted: &'static str,
    },
    /// Two rows for one model.
    #[error("line {line} of the price table: {model} is there twice")]
    Twice {
        /// Counted from 1.
        line: u64,
        /// The model.
        model: ModelName,
    },
}

const NEEDED: [&str; 4] = ["provider", "model", "input_usd_per_mtok", "output_usd_per_mtok"];

const COLUMNS: [&str; 24] = [
    "provider",
    "model",
    "input_usd_per_mtok",
    "cached_usd_per_mtok",
    "cache_write_usd_per_mtok",
    "output_usd_per_mtok",
    "reasoning_usd_per_mtok",
    "batch_discount_percent",
    "batch_input_usd_per_mtok",
    "batch_cached_usd_per_mtok",
    "batch_cache_write_usd_per_mtok",
    "batch_output_usd_per_mtok",
    "batch_reasoning_usd_per_mtok",
    "long_above_tokens",
    "long_input_usd_per_mtok",
    "long_cached_usd_per_mtok",
    "long_cache_write_usd_per_mtok",
    "long_output_usd_per_mtok",
    "long_reasoning_usd_per_mtok",
    "max_input_tokens",
    "max_output_tokens",
    "as_of",
    // For people.
    "source",
    "note",
];

/// Reads a table.
pub(super) fn parse(text: &str) -> Result<PriceTable, SheetError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let says_something =
        |(_, line): &(u64, &str)| !line.trim().is_empty() && !line.starts_with('#');
    let (lines, rows): (Vec<u64>, Vec<&str>) =
        (1..).zip(text.split_inclusive('\n')).filter(says_something).unzip();
    let rows = rows.concat();
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(rows.as_bytes());
    let header = reader.headers()?.clone();
    if let Some(missing) = NEEDED.iter().find(|name| !header.iter().any(|cell| cell == **name)) {
        return Err(SheetError::Column(missing));
    }
    // A price under a name that is not read would be quietly another price.
    if let Some(unknown) = header.iter().find(|name| !COLUMNS.contains(name)) {
        return Err(SheetError::Unknown(unknown.to_owned()));
    }
    let mut table = PriceTable::default();
    for record in reader.records() {
        let record = record?;
        // As the person counts them.
        let line = record.position().map_or(1, csv::Position::line) as usize - 1;
        let line = lines.get(line).copied().unwrap_or_default();
        let row: Row = record.deserialize(Some(&header))?;
        let model = row.model(line)?;
        let listed = row.terms(line)?.listed(&model.provider);
        if table.rows.insert(model.clone(), listed).is_some() {
            return Err(SheetError::Twice { line, model });
        }
    }
    Ok(table)
}

/// One row, as it is written: dollars per million tokens.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    provider: String,
    model: String,
    input_usd_per_mtok: String,
    cached_usd_per_mtok: String,
    cache_write_usd_per_mtok: String,
    output_usd_per_mtok: String,
    reasoning_usd_per_mtok: String,
    batch_discount_percent: String,
    batch_input_usd_per_mtok: String,
    batch_cached_usd_per_mtok: String,
    batch_cache_write_usd_per_mtok: String,
    batch_output_usd_per_mtok: String,
    batch_reasoning_usd_per_mtok: String,
    long_above_tokens: String,
    long_input_usd_per_mtok: String,
    long_cached_usd_per_mtok: String,
    long_cache_write_usd_per_mtok: String,
    long_output_usd_per_mtok: String,
    long_reasoning_usd_per_mtok: String,
    max_input_tokens: String,
    max_output_tokens: String,
    as_of: String,
}

impl Row {
    fn model(&self, line: u64) -> Result<ModelName, SheetError> {
        let name = format!("{}/{}", self.provider, self.model);
        ModelName::parse(&name).ok_or(SheetError::Cell {
            line,
            column: "model",
            cell: name,
            wanted: "a provider and a model without blanks",
        })
    }

    fn terms(&self, line: u64) -> Result<Terms, SheetError> {
        let at = At { line };
        Ok(Terms {
            price_in: at.needed("input_usd_per_mtok", &self.input_usd_per_mtok)?,
            price_out: at.needed("output_usd_per_mtok", &self.output_usd_per_mtok)?,
            price_cached: at.price("cached_usd_per_mtok", &self.cached_usd_per_mtok)?,
            price_cache_write: at
                .price("cache_write_usd_per_mtok", &self.cache_write_usd_per_mtok)?,
            price_reasoning: at.price("reasoning_usd_per_mtok", &self.reasoning_usd_per_mtok)?,
            batch_discount: at.percent("batch_discount_percent", &self.batch_discount_percent)?,
            batch: Parts {
                price_in: at.price("batch_input_usd_per_mtok", &self.batch_input_usd_per_mtok)?,
                price_cached: at
                    .price("batch_cached_usd_per_mtok", &self.batch_cached_usd_per_mtok)?,
                price_cache_write: at.price(
                    "batch_cache_write_usd_per_mtok",
                    &self.batch_cache_write_usd_per_mtok,
                )?,
                price_out: at
                    .price("batch_output_usd_per_mtok", &self.batch_output_usd_per_mtok)?,
                price_reasoning: at
                    .price("batch_reasoning_usd_per_mtok", &self.batch_reasoning_usd_per_mtok)?,
            },
            long: self.long(&at)?,
            batch_long: Parts::default(),
            max_input_tokens: at.tokens("max_input_tokens", &self.max_input_tokens)?,
            max_output_tokens: at.tokens("max_output_tokens", &self.max_output_tokens)?,
            as_of: at.read(("as_of", &self.as_of), "a date such as 2026-11-23", |cell| {
                cell.parse().ok()
            })?,
        })
    }

    fn long(&self, at: &At) -> Result<Option<Long>, SheetError> {
        let above = at.tokens("long_above_tokens", &self.long_above_tokens)?;
        let parts = Parts {
            price_in: at.price("long_input_usd_per_mtok", &self.long_input_usd_per_mtok)?,
            price_cached: at.price("long_cached_usd_per_mtok", &self.long_cached_usd_per_mtok)?,
            price_cache_write: at
                .price("long_cache_write_usd_per_mtok", &self.long_cache_write_usd_per_mtok)?,
            price_out: at.price("long_output_usd_per_mtok", &self.long_output_usd_per_mtok)?,
            price_reasoning: at
                .price("long_reasoning_usd_per_mtok", &self.long_reasoning_usd_per_mtok)?,
        };
        match above {
            None if parts != Parts::default() => Err(at.wrong(
                "long_above_tokens",
                "",
                "a number of tokens, from which on the long prices count",
            )),
            above => Ok(above.map(|above_tokens| Long { above_tokens, prices: parts })),
        }
    }
}

/// A line of the table.
struct At {
    line: u64,
}

impl At {
    fn wrong(&self, column: &'static str, cell: &str, wanted: &'static str) -> SheetError {
        SheetError::Cell { line: self.line, column, cell: cell.to_owned(), wanted }
    }

    /// Reads a cell; an empty one says nothing.
    fn read<T>(
        &self,
        (column, cell): (&'static str, &str),
        wanted: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SheetError> {
        match cell {
            "" => Ok(None),
            cell => read(cell).map(Some).ok_or_else(|| self.wrong(column, cell, wanted)),
        }
    }

    fn price(&self, column: &'static str, cell: &str) -> Result<Option<NanoUsd>, SheetError> {
        self.read((column, cell), AN_AMOUNT, usd_per_mtok)
    }

    fn needed(&self, column: &'static str, cell: &str) -> Result<NanoUsd, SheetError> {
        self.price(column, cell)?.ok_or_else(|| self.wrong(column, cell, AN_AMOUNT))
    }

    fn tokens(&self, column: &'static str, cell: &str) -> Result<Option<u64>, SheetError> {
        let whole = |cell: &str| cell.parse().ok().filter(|tokens| *tokens > 0);
        self.read((column, cell), "a whole number of tokens", whole)
    }

    fn percent(&self, column: &'static str, cell: &str) -> Result<Option<u8>, SheetError> {
        let whole = |cell: &str| cell.parse().ok().filter(|percent| *percent <= 100);
        self.read((column, cell), "a whole 0 to 100", whole)
    }
}

const AN_AMOUNT: &str = "an amount in USD such as 0.15, below a million";
