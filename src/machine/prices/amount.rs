//! Amounts of money as text: digits go into whole numbers, and no float is in between.
//!
//! Two spellings: dollars per million tokens as people and price pages write them, and dollars per token as a JSON number,
//! which may be what a program made of a float (`1.5000000000000002e-07`).

use crate::domain::NanoUsd;

/// From a price of this many nano-USD per million tokens on, which is a million dollars, it is no price.
pub(super) const TOO_MUCH: i64 = 1_000_000_000_000_000;

/// Reads an amount of US dollars per million tokens with at most nine decimals; no sign, no exponent.
pub fn usd_per_mtok(text: &str) -> Option<NanoUsd> {
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

/// Reads a JSON number of US dollars per token as nano-USD per million tokens, rounded to the nearest; what is above zero stays so.
///
/// `None` where it is below zero, a million dollars per million tokens or more, or no number.
pub(super) fn usd_per_token(text: &str) -> Option<NanoUsd> {
    /// A nano-USD per million tokens is 1e-15 USD per token.
    const SCALE: i64 = 15;
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some(NanoUsd(0));
    }
    if is_negative {
        return None;
    }
    let places = i64::try_from(fraction.len()).ok()?;
    let shift = exponent.checked_add(SCALE)?.checked_sub(places)?;
    shifted(significant, shift).filter(|nano| *nano < TOO_MUCH).map(|nano| NanoUsd(nano.max(1)))
}

fn exponent_of(text: &str) -> Option<i64> {
    const MOST_DIGITS: usize = 9;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.trim_start_matches('0');
    let size: i64 = match size.len() {
        0 => 0,
        1..=MOST_DIGITS => size.parse().ok()?,
        // Whatever stands before it, it is nothing or far too much.
        _ => 1_000_000_000,
    };
    Some(if text.starts_with('-') { -size } else { size })
}

/// Returns a whole number, given by its digits, times ten to the power of `shift`, rounded to the nearest.
fn shifted(digits: &str, shift: i64) -> Option<i64> {
    const MOST_DIGITS: usize = 18;
    if let Ok(zeros) = usize::try_from(shift) {
        let is_small = digits.len().checked_add(zeros).is_some_and(|all| all <= MOST_DIGITS);
        return is_small.then(|| format!("{digits}{}", "0".repeat(zeros)).parse().ok()).flatten();
    }
    let cut = usize::try_from(shift.unsigned_abs()).ok()?;
    let Some(kept) = digits.len().checked_sub(cut) else { return Some(0) };
    if kept > MOST_DIGITS {
        return None;
    }
    let (kept, rest) = digits.split_at(kept);
    let floor: i64 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    let is_half = rest.as_bytes().first().is_some_and(|digit| *digit >= b'5');
    Some(floor + i64::from(is_half))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_exact() {
        assert_eq!(usd_per_mtok("0.0375"), Some(NanoUsd(37_500_000)));
        assert_eq!(usd_per_mtok("0.000000001"), Some(NanoUsd(1)));
        assert_eq!(usd_per_mtok("999999"), Some(NanoUsd(999_999_000_000_000)));
        assert_eq!(usd_per_mtok("1."), Some(NanoUsd(1_000_000_000)));
        for text in ["", ".", "1e3", "0.0000000001", "1000000", "1,5", "$1", " 1", "+1", "NaN"] {
            assert_eq!(usd_per_mtok(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_price_of_one_token_is_read_to_the_last_digit() {
        for (text, nano) in [
            ("2e-07", 200_000_000),
            ("2E-7", 200_000_000),
            ("2.5e-06", 2_500_000_000),
            ("0.00000125", 1_250_000_000),
            ("1.5e-5", 15_000_000_000),
            ("3.7499e-08", 37_499_000),
            ("1.23456789e-07", 123_456_789),
            ("0.15e-6", 150_000_000),
            ("150e-9", 150_000_000),
            ("0", 0),
            ("-0.0", 0),
            ("0e99999999999", 0),
            ("0.000000", 0),
            // What a program wrote of a float.
            ("1.5000000000000002e-07", 150_000_000),
            ("9.9999999999999995e-08", 100_000_000),
            ("3.0000000000000004e-07", 300_000_000),
            // Below the smallest amount that there is.
            ("1e-15", 1),
            ("1e-16", 1),
            ("1e-99999999999999", 1),
            ("1.4e-15", 1),
            ("1.5e-15", 2),
            ("0.9999999999999", 999_999_999_999_900),
        ] {
            assert_eq!(usd_per_token(text), Some(NanoUsd(nano)), "{text}");
        }
        for text in [
            "",
            "-",
            "-1e-7",
            "1",
            "1e0",
            "1e400",
            "1e99999999999999999999",
            "e-7",
            ".5e-7",
            "1.e-7",
            "1e",
            "1e-",
            "1e+-3",
            "1.2.3",
            "0x1",
            "NaN",
            "Infinity",
            "1 ",
            "1_0e-9",
            "true",
        ] {
            assert_eq!(usd_per_token(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_written_amount_reads_back(nano in 0..1_000_000_000_000_000_i64) {
            let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
            prop_assert_eq!(usd_per_mtok(&text), Some(NanoUsd(nano)));
        }

        /// However the point and the exponent are moved against each other.
        #[test]
        fn every_spelling_of_an_amount_is_the_same_amount(
            nano in 1..TOO_MUCH,
            point in 0..30_usize,
            zeros in 0..6_usize,
            sign in prop::sample::select(vec!["", "+"]),
        ) {
            let digits = format!("{nano:0>30}{}", "0".repeat(zeros));
            let at = point.max(1);
            let (whole, fraction) = digits.split_at(at);
            let exponent = 30 - at as i64 - 15;
            let sign = if exponent < 0 { "" } else { sign };
            let text = format!("{whole}.{fraction}e{sign}{exponent}");
            // JSON has no leading zeros.
            let text = match text.trim_start_matches('0') {
                rest if rest.starts_with('.') => format!("0{rest}"),
                rest => rest.to_owned(),
            };
            // A fraction is needed after a point.
            prop_assume!(!fraction.is_empty());
            prop_assert_eq!(usd_per_token(&text), Some(NanoUsd(nano)), "{}", text);
        }

        /// Held against the float that others would make of it, which is right to many digits.
        #[test]
        fn a_float_says_about_the_same(value in 1e-12..0.5_f64) {
            let nano = usd_per_token(&format!("{value:e}")).unwrap().0;
            let wanted = value * 1e15;
            prop_assert!((nano as f64 - wanted).abs() <= 1.0 + wanted * 1e-12, "{} {}", nano, wanted);
        }

        #[test]
        fn no_text_can_make_it_panic(text in "[-+0-9.eE]{0,40}", any in "\\PC{0,20}") {
            for text in [text, any] {
                let _ = usd_per_mtok(&text);
                prop_assert!(usd_per_token(&text).is_none_or(|nano| (0..TOO_MUCH).contains(&nano.0)));
            }
        }
    }
}
