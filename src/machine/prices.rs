//! What models cost: a small dated table that comes with the program, and the ones that people bring.
//!
//! Prices change and this table does not know it: every row says as of when it stands, and a model that
//! is not in it has no price, which is another thing than a price of zero. Amounts are
//! read digit by digit into nano-USD and never pass through a float. A model behind a base URL of one's own
//! is somebody else's to price: callers do not look it up here.

use std::collections::HashMap;

use jiff::civil::Date;
use serde::Deserialize;

use crate::domain::{LongPrice, ModelName, NanoUsd, Price};

/// Prices by model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PriceTable {
    rows: HashMap<ModelName, ListedPrice>,
}

/// One row of a price table.
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
    /// Not CSV; the cause names the line.
    #[error("the price table is not valid CSV")]
    Csv(#[from] csv::Error),
    /// A column that is needed is not in the header.
    #[error("the price table has no column {0}; it needs {needed}", needed = NEEDED.join(", "))]
    Column(&'static str),
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

impl PriceTable {
    /// Returns the table that comes with the program.
    pub fn bundled() -> Self {
        Self::parse(include_str!("prices.csv")).expect("the bundled price table is tested")
    }

    /// Reads a table from CSV with a header.
    ///
    /// Columns: `provider, model, input_usd_per_mtok, cached_usd_per_mtok, output_usd_per_mtok,
    /// batch_discount_percent, as_of`, in any order; without `cached_usd_per_mtok` cached
    /// tokens cost as much as others, without a discount a batch does too, and `as_of` may be
    /// missing. The model `*` stands for every model of its provider that has no row.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let header = reader.headers()?.clone();
        if let Some(missing) = NEEDED.iter().find(|name| !header.iter().any(|cell| cell == **name))
        {
            return Err(PriceError::Column(missing));
        }
        let mut table = Self::default();
        for record in reader.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let row: Row = record.deserialize(Some(&header))?;
            let model = row.model(line)?;
            if table.rows.insert(model.clone(), row.listed(line)?).is_some() {
                return Err(PriceError::Twice { line, model });
            }
        }
        Ok(table)
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

    /// Returns the row for `model`: its own, else that of the model it is a dated snapshot of, else
    /// its provider's `*`.
    pub fn listed(&self, model: &ModelName) -> Option<&ListedPrice> {
        let named = |name: &str| {
            let provider = model.provider.clone();
            self.rows.get(&ModelName { provider, model: name.to_owned() })
        };
        self.rows.get(model).or_else(|| named(undated(&model.model)?)).or_else(|| named(ANY_MODEL))
    }
}

/// Returns a price less so many percent, each part rounded up to a whole nano-USD.
fn discounted(price: Price, percent: u8) -> Price {
    let rest = 100 - i128::from(percent.min(100));
    let part = |NanoUsd(full): NanoUsd| {
        NanoUsd(i64::try_from((i128::from(full) * rest + 99) / 100).unwrap_or(full))
    };
    Price {
        input_per_mtok: part(price.input_per_mtok),
        cached_per_mtok: part(price.cached_per_mtok),
        output_per_mtok: part(price.output_per_mtok),
        reasoning_per_mtok: part(price.reasoning_per_mtok),
        long: price.long.map(|long| LongPrice {
            above_tokens: long.above_tokens,
            input_per_mtok: part(long.input_per_mtok),
            cached_per_mtok: part(long.cached_per_mtok),
            output_per_mtok: part(long.output_per_mtok),
            reasoning_per_mtok: part(long.reasoning_per_mtok),
        }),
    }
}

const NEEDED: [&str; 4] = ["provider", "model", "input_usd_per_mtok", "output_usd_per_mtok"];

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

#[derive(Deserialize)]
struct Row {
    provider: String,
    model: String,
    input_usd_per_mtok: String,
    #[serde(default)]
    cached_usd_per_mtok: String,
    output_usd_per_mtok: String,
    #[serde(default)]
    batch_discount_percent: String,
    #[serde(default)]
    as_of: String,
}

impl Row {
    fn model(&self, line: u64) -> Result<ModelName, PriceError> {
        let name = format!("{}/{}", self.provider, self.model);
        ModelName::parse(&name).ok_or(PriceError::Cell {
            line,
            column: "model",
            cell: name,
            wanted: "a provider and a model without blanks",
        })
    }

    fn listed(&self, line: u64) -> Result<ListedPrice, PriceError> {
        let cell = |column, cell: &str, wanted| PriceError::Cell {
            line,
            column,
            cell: cell.to_owned(),
            wanted,
        };
        let price = |column, text: &str| {
            nano_usd(text)
                .ok_or_else(|| cell(column, text, "an amount in USD such as 0.15, below a million"))
        };
        let input = price("input_usd_per_mtok", &self.input_usd_per_mtok)?;
        let cached = match self.cached_usd_per_mtok.as_str() {
            "" => input,
            text => price("cached_usd_per_mtok", text)?,
        };
        let discount = self.batch_discount_percent.as_str();
        let percent = if discount.is_empty() { Some(0) } else { discount.parse().ok() };
        let date = self.as_of.as_str();
        let output = price("output_usd_per_mtok", &self.output_usd_per_mtok)?;
        let percent = percent
            .filter(|percent| *percent <= 100)
            .ok_or_else(|| cell("batch_discount_percent", discount, "a whole 0 to 100"))?;
        let price = Price {
            input_per_mtok: input,
            cached_per_mtok: cached,
            output_per_mtok: output,
            reasoning_per_mtok: output,
            long: None,
        };
        Ok(ListedPrice {
            price,
            batch: discounted(price, percent),
            max_input_tokens: None,
            max_output_tokens: None,
            as_of: match date {
                "" => None,
                date => Some(date.parse().map_err(|_| cell("as_of", date, "a date"))?),
            },
        })
    }
}

/// Reads a decimal amount of USD with at most nine decimals; no sign, no exponent.
fn nano_usd(text: &str) -> Option<NanoUsd> {
    const DECIMALS: usize = 9;
    const MOST_WHOLE_DIGITS: usize = 6;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_sized = whole.len() <= MOST_WHOLE_DIGITS && fraction.len() <= DECIMALS;
    if whole.len() + fraction.len() == 0 || !is_sized || !digits(whole) || !digits(fraction) {
        return None;
    }
    format!("{whole}{fraction:0<DECIMALS$}").parse().ok().map(NanoUsd)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> ModelName {
        ModelName::parse(text).unwrap()
    }

    fn price(input: i64, cached: i64, output: i64) -> Price {
        Price {
            input_per_mtok: NanoUsd(input),
            cached_per_mtok: NanoUsd(cached),
            output_per_mtok: NanoUsd(output),
            reasoning_per_mtok: NanoUsd(output),
            long: None,
        }
    }

    const HEADER: &str = "provider,model,input_usd_per_mtok,cached_usd_per_mtok,\
        output_usd_per_mtok,batch_discount_percent,as_of\n";

    fn parsed(rows: &str) -> Result<PriceTable, PriceError> {
        PriceTable::parse(&format!("{HEADER}{rows}"))
    }

    #[test]
    fn the_bundled_table_is_whole_dated_and_plausible() {
        let table = PriceTable::bundled();
        assert!(table.rows.len() > 80);
        for (model, listed) in &table.rows {
            assert!(listed.as_of.is_some(), "{model}");
            let Price { input_per_mtok, cached_per_mtok, output_per_mtok, .. } = listed.price;
            assert!(NanoUsd(0) < cached_per_mtok && cached_per_mtok <= input_per_mtok, "{model}");
            assert!(input_per_mtok <= output_per_mtok, "{model}");
            assert!(output_per_mtok <= NanoUsd(200_000_000_000), "{model}");
        }
        let mini = table.lookup(&name("openai/gpt-5-mini"));
        assert_eq!(mini, Some(price(250_000_000, 25_000_000, 2_000_000_000)));
        let small = table.lookup(&name("simulated/small"));
        assert_eq!(small, Some(price(100_000_000, 10_000_000, 500_000_000)));
        assert_eq!(table.lookup(&name("simulated/whatever")), small);
    }

    #[test]
    fn a_dated_snapshot_costs_what_its_model_costs_unless_it_has_a_row() {
        let table = PriceTable::bundled();
        let of = |model: &str| table.lookup(&name(model));
        assert_eq!(of("gpt-5-mini-2025-08-07"), of("gpt-5-mini"));
        assert_eq!(of("anthropic/claude-haiku-4-5-20251001"), of("anthropic/claude-haiku-4-5"));
        assert!(of("anthropic/claude-haiku-4-5").is_some());
        assert_ne!(of("gpt-4o-2024-05-13"), of("gpt-4o"));
        for unknown in [
            "gpt-5-mini-2025-08-7",
            "gpt-5-mini-large",
            "gpt-5-mini-",
            "groq/gpt-5-mini",
            "ft:gpt-4o-mini-2024-07-18:me::id",
            "-2025-08-07",
            "모델-2025-08-07",
            "8월-20250807",
        ] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_table_of_ones_own_replaces_rows_and_may_leave_columns_out() {
        let own = "\u{feff}model, provider ,output_usd_per_mtok,input_usd_per_mtok\n\
            small,simulated,2,1\n x , openai , .5 , 0 \n";
        let table = PriceTable::bundled().with(PriceTable::parse(own).unwrap());
        let small = table.listed(&name("simulated/small")).unwrap();
        assert_eq!(small.price, price(1_000_000_000, 1_000_000_000, 2_000_000_000));
        assert_eq!((small.batch, small.as_of), (small.price, None));
        assert_eq!(table.lookup(&name("openai/x")), Some(price(0, 0, 500_000_000)));
        assert!(table.lookup(&name("openai/gpt-5")).is_some());
    }

    #[test]
    fn a_batch_costs_less_and_rounds_up() {
        let full = price(150_000_000, 1, 0);
        assert_eq!(discounted(full, 50), price(75_000_000, 1, 0));
        assert_eq!(discounted(full, 0), full);
        assert_eq!(discounted(full, 100), price(0, 0, 0));
    }

    #[test]
    fn what_cannot_be_read_names_its_line_and_cell() {
        let told = |rows: &str| parsed(rows).unwrap_err().to_string();
        assert_eq!(
            told("openai,a,1,1,1,0,2026-01-01\nopenai,b,-1,,1,,"),
            "line 3 of the price table: input_usd_per_mtok is \"-1\", which is not an amount in \
             USD such as 0.15, below a million"
        );
        assert_eq!(
            told("openai,a,1,,1,,\nopenai,a,2,,2,,"),
            "line 3 of the price table: openai/a is there twice"
        );
        assert!(told("openai,a,1,,1,101,").contains("batch_discount_percent is \"101\""));
        assert!(told("openai,a,1,,1,,yesterday").contains("as_of is \"yesterday\""));
        assert!(told("openai,,1,,1,,").contains("model is \"openai/\""));
        assert_eq!(told("openai,a,1"), "the price table is not valid CSV");
        assert_eq!(
            PriceTable::parse("provider,model,price\n").unwrap_err().to_string(),
            "the price table has no column input_usd_per_mtok; it needs provider, model, \
             input_usd_per_mtok, output_usd_per_mtok"
        );
        assert!(PriceTable::parse("").is_err());
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(nano_usd("0.0375"), Some(NanoUsd(37_500_000)));
        assert_eq!(nano_usd("0.000000001"), Some(NanoUsd(1)));
        assert_eq!(nano_usd("999999"), Some(NanoUsd(999_999_000_000_000)));
        assert_eq!(nano_usd("1."), Some(NanoUsd(1_000_000_000)));
        for text in ["", ".", "1e3", "0.0000000001", "1000000", "1,5", "$1", " 1", "+1", "NaN"] {
            assert_eq!(nano_usd(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_written_amount_reads_back(nano in 0..1_000_000_000_000_000_i64) {
            let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
            prop_assert_eq!(nano_usd(&text), Some(NanoUsd(nano)));
        }

        #[test]
        fn no_text_can_make_it_panic(text in "\\PC{0,60}", model in "\\PC{1,20}") {
            let _ = PriceTable::parse(&text);
            let _ = parsed(&text);
            let _ = undated(&model);
        }
    }
}
