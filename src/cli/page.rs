//! Pages of text for people: labels at the left, their contents aligned beside them.
//!
//! What a file or a provider said is shown without its control characters, so that no cell can play
//! tricks with a terminal.

use super::text;

/// A page that grows downwards.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
    indent: usize,
    label_width: usize,
}

impl Page {
    /// Starts a page whose labels stand in a column of this width.
    pub(crate) fn new(label_width: usize) -> Self {
        Self { text: String::new(), indent: 0, label_width }
    }

    /// Moves what follows to the right, by so many columns from the edge.
    pub(crate) fn indent(&mut self, indent: usize) {
        self.indent = indent;
    }

    /// Writes a line of its own.
    pub(crate) fn line(&mut self, line: &str) {
        self.text.push_str(&" ".repeat(self.indent));
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Leaves a line empty.
    pub(crate) fn gap(&mut self) {
        self.text.push('\n');
    }

    /// Writes a label with what it labels; further lines stand below the first.
    pub(crate) fn section(&mut self, label: &str, lines: &[String]) {
        for (index, line) in lines.iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.line(&format!("{}  {line}", padded(label, self.label_width)));
        }
    }

    /// Writes a label with one line.
    pub(crate) fn field(&mut self, label: &str, line: &str) {
        self.section(label, &[line.to_owned()]);
    }

    /// Writes somebody else's text, as many lines as it has.
    pub(crate) fn quote(&mut self, quoted: &str) {
        for line in quoted.lines() {
            let clean: String = line.chars().map(text::shown).collect();
            self.line(&clean);
        }
    }

    /// Returns the page.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// Aligns the columns of these lines; numbers to the right.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = (*most).max(width(cell));
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| {
            if is_number(cell) { to_the_right(cell, width) } else { padded(cell, width) }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Cuts somebody else's text to one line that fits beside a label.
pub(crate) fn short(quoted: &str) -> String {
    text::one_line(quoted, 160)
}

/// Returns bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn is_number(cell: &str) -> bool {
    cell.starts_with(|first: char| first.is_ascii_digit())
        && cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
}

fn padded(cell: &str, columns: usize) -> String {
    format!("{cell}{}", " ".repeat(columns.saturating_sub(width(cell))))
}

fn to_the_right(cell: &str, columns: usize) -> String {
    format!("{}{cell}", " ".repeat(columns.saturating_sub(width(cell))))
}

/// Returns the columns that a text takes on a terminal: letters of East Asia and pictures take two.
fn width(text: &str) -> usize {
    let columns = |char: char| match u32::from(char) {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1_f300..=0x1_faff
        | 0x2_0000..=0x3_fffd => 2,
        _ => 1,
    };
    text.chars().map(columns).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let row = |a: &str, b: &str, c: &str| [a.to_owned(), b.to_owned(), c.to_owned()];
        let lines = aligned(&[row("리뷰", "9", "x"), row("label", "1,200", "")]);
        assert_eq!(lines, ["리뷰       9  x", "label  1,200"]);
    }

    #[test]
    fn bytes_are_two_digits_each() {
        assert_eq!(hex(&[0, 0x0a, 0xf0, 0xff]), "000af0ff");
    }

    #[test]
    fn a_quoted_text_cannot_move_the_cursor() {
        let mut page = Page::new(4);
        page.indent(2);
        page.quote("one\u{1b}[2J\r\ntwo");
        assert_eq!(page.into_text(), "  one [2J\n  two\n");
    }

    #[test]
    fn further_lines_stand_below_the_first() {
        let mut page = Page::new(4);
        page.section("rows", &["one".to_owned(), "two".to_owned()]);
        page.field("x", "three");
        assert_eq!(page.into_text(), "rows  one\n      two\nx     three\n");
    }
}
