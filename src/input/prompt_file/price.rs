//! The price that a prompt's front matter names for its model.
//!
//! A price is no part of the prompt: it does not change what is asked, so that another one must not make another version. Its
//! lines are taken out of the text before the prompt is read and put on record, and read digit by digit.

use super::error::{Attempt, Problem};
use super::front_matter;
use crate::domain::NanoUsd;
use crate::machine::prices::usd_per_mtok;

/// The keys of a price, in the order in which they are told.
pub(super) const KEYS: [&str; 4] = ["price_in", "price_out", "price_cached", "batch_discount"];

/// What a prompt's text says of the price of its model, in US dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenPrice {
    /// Input tokens.
    pub price_in: Option<NanoUsd>,
    /// Output tokens.
    pub price_out: Option<NanoUsd>,
    /// Input tokens that were cached.
    pub price_cached: Option<NanoUsd>,
    /// How much less a batch costs, 0 to 100.
    pub batch_discount: Option<u8>,
}

/// A prompt's text and the price that stood in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpriced {
    /// The text without the lines of the price.
    pub text: String,
    /// The same with empty lines in their place, so that what is wrong with another line is told by its number.
    pub in_place: String,
    /// The price.
    pub price: WrittenPrice,
}

/// Takes the price out of a prompt's text.
pub fn take_price(text: &str) -> Attempt<Unpriced> {
    let mut taken = Unpriced {
        text: String::with_capacity(text.len()),
        in_place: String::with_capacity(text.len()),
        price: WrittenPrice::default(),
    };
    let inside = front_matter::lines(text);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let written = inside.contains(&index).then(|| key_of(line)).flatten();
        let Some((key, value)) = written else {
            taken.text.push_str(line);
            taken.in_place.push_str(line);
            continue;
        };
        taken.in_place.push('\n');
        taken.price.read(key, value).map_err(|problem| problem.on(index as u64 + 1))?;
    }
    Ok(taken)
}

/// Returns the key of a price that stands on a line, and its value.
fn key_of(line: &str) -> Option<(&'static str, &str)> {
    let (key, value) = line.split_once(':')?;
    let key = KEYS.into_iter().find(|known| *known == key.trim_end())?;
    let value = value.split(" #").next().unwrap_or_default().trim();
    Some((key, value))
}

impl WrittenPrice {
    fn read(&mut self, key: &'static str, value: &str) -> Result<(), Problem> {
        // A key without a value counts as absent.
        if value.is_empty() {
            return Ok(());
        }
        let slot = match key {
            "price_in" => &mut self.price_in,
            "price_out" => &mut self.price_out,
            "price_cached" => &mut self.price_cached,
            _ => {
                let percent = value.parse().ok().filter(|percent| *percent <= 100);
                let must = "be a whole number of percent, 0 to 100";
                self.batch_discount = Some(percent.ok_or_else(|| Problem::must(key, must))?);
                return Ok(());
            }
        };
        let must = "be an amount of US dollars per million tokens, such as 2 or 0.15";
        *slot = Some(usd_per_mtok(value).ok_or_else(|| Problem::must(key, must))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_lines_of_the_front_matter_are_taken() {
        let text = "\u{feff}\r\n---\r\nmodel: m\r\nprice_in : 0.15\r\nbatch_discount: 30 # so far\r\nprice_out:\r\n---\r\nprice_out: 2\r\n";
        let taken = take_price(text).unwrap();
        let price = WrittenPrice {
            price_in: Some(NanoUsd(150_000_000)),
            batch_discount: Some(30),
            ..WrittenPrice::default()
        };
        assert_eq!(taken.price, price);
        assert_eq!(taken.text, "\u{feff}\r\n---\r\nmodel: m\r\n---\r\nprice_out: 2\r\n");
        assert_eq!(taken.in_place, "\u{feff}\r\n---\r\nmodel: m\r\n\n\n\n---\r\nprice_out: 2\r\n");
        for whole in [
            "price_in: 1\n",
            "---\nprice_in: 1\n",
            "x\n---\nprice_in: 1\n---\n",
            "---\na:\n  price_in: 1\n---\n",
            "",
        ] {
            let taken = take_price(whole).unwrap();
            assert_eq!(
                (taken.text.as_str(), taken.price),
                (whole, WrittenPrice::default()),
                "{whole:?}"
            );
        }
    }

    #[test]
    fn what_is_no_price_names_its_line() {
        let told = |text: &str| take_price(text).unwrap_err().to_string();
        let wrong = told("---\nmodel: m\nprice_cached: cheap\n---\n");
        assert_eq!(
            wrong,
            "line 3 of the prompt: `price_cached` must be an amount of US dollars per million tokens, such as 2 or 0.15"
        );
        assert!(told("\n---\nbatch_discount: 50%\n---\n").starts_with("line 3 of the prompt"));
    }

    proptest! {
        #[test]
        fn a_text_without_a_price_stays_as_it_is(text in "(---\n|a: 1\r?\n|\\PC{0,6}\n|price\n){0,8}") {
            let taken = take_price(&text).unwrap();
            prop_assert_eq!(&taken.text, &text);
            prop_assert_eq!(taken.in_place, text);
        }
    }
}
