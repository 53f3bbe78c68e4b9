//! CSV as RFC 4180 has it, with LF line ends: strings as they are, the rest as JSON text.
//!
//! Null and a missing cell are empty. Nothing is put before a cell that a spreadsheet would take
//! for a formula, since that would change the data, unless it is asked for ([`super::formula`]).

use std::borrow::Cow;
use std::io::{self, Write};

use csv::{QuoteStyle, Terminator, Writer, WriterBuilder};

use super::formula::Formulas;
use super::table::{ExportError, Line};
use super::value::{Value, said};

/// Writes CSV.
pub(super) struct Csv<W: Write> {
    out: Writer<W>,
    formulas: Formulas,
}

/// Without it, Excel takes a file for one in the machine's old code page.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How a CSV is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CsvStyle {
    /// Whether it starts with a byte order mark.
    pub mark: Mark,
    /// What becomes of cells that a spreadsheet would run.
    pub formulas: Formulas,
}

/// Whether a file starts with a byte order mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// It does not.
    #[default]
    Without,
    /// It does.
    With,
}

impl<W: Write> Csv<W> {
    /// Writes the header.
    pub(super) fn start<'a>(
        mut out: W,
        style: CsvStyle,
        columns: impl Iterator<Item = &'a str>,
    ) -> io::Result<Self> {
        if style.mark == Mark::With {
            out.write_all(BYTE_ORDER_MARK)?;
        }
        let columns: Vec<&str> = columns.collect();
        let is_marker = matches!(columns.as_slice(), [only] if reads_as_separator_line(only));
        if is_marker {
            writeln!(out, "\"{}\"", columns[0])?;
        }
        let out = WriterBuilder::new()
            .terminator(Terminator::Any(b'\n'))
            // A spreadsheet that takes a semicolon for the end of a cell must not find one with a formula behind it.
            .quote_style(match style.formulas {
                Formulas::AsTheyAre => QuoteStyle::Necessary,
                Formulas::Defused => QuoteStyle::Always,
            })
            .buffer_capacity(1 << 16)
            .from_writer(out);
        let mut csv = Self { out, formulas: style.formulas };
        if !columns.is_empty() && !is_marker {
            for column in columns {
                let safe = csv.formulas.safe(Cow::Borrowed(column));
                csv.out.write_field(safe.as_bytes()).map_err(plain)?;
            }
            csv.out.write_record(None::<&[u8]>).map_err(plain)?;
        }
        Ok(csv)
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: &Line<'_>) -> Result<(), ExportError> {
        for value in line.inputs()? {
            self.field(&value).map_err(plain)?;
        }
        for (_, value) in line.outputs() {
            self.field(&value).map_err(plain)?;
        }
        self.out.write_record(None::<&[u8]>).map_err(plain)?;
        Ok(())
    }

    /// Hands back what was written to, with everything in it.
    pub(super) fn finish(self) -> io::Result<W> {
        self.out.into_inner().map_err(csv::IntoInnerError::into_error)
    }

    fn field(&mut self, value: &Value<'_>) -> csv::Result<()> {
        let text = match value {
            Value::Missing => Cow::Borrowed(""),
            Value::Text(text) => Cow::Borrowed(text.as_ref()),
            Value::Json(json) => match said(json) {
                Some(text) => text,
                None if json == "null" => Cow::Borrowed(""),
                None => Cow::Borrowed(json.as_ref()),
            },
        };
        self.out.write_field(self.formulas.safe(text).as_bytes())
    }
}

/// Says whether a name alone on the first line would be taken, by Excel and by ourselves, for the line `sep=;` that names
/// the delimiter. In quotes it is not.
fn reads_as_separator_line(name: &str) -> bool {
    let marker = name.get(..4).is_some_and(|marker| marker.eq_ignore_ascii_case("sep="));
    marker && name.chars().count() == 5 && !name.contains(['"', '\n', '\r'])
}

fn plain(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
