//! The one door to tables: what a file is gets decided here, and rows come out one by one.

use std::io::Read;

use crate::domain::{NewRow, SourceFacts};

use super::delimited::Delimited;
use super::encoding::Ahead;
use super::error::{InputError, Problem, Trouble};
use super::jsonl::JsonLines;
use super::scanner::Scanner;
use super::sniff::{self, SAMPLE, Start};
use super::text::Text;

/// What a person may say about a table; what they leave open is found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// The format; else by the name's extension, else by the content.
    pub format: Option<Format>,
    /// The delimiter, one ASCII character; else a tab for [`Format::Tsv`], else by the content.
    pub delimiter: Option<char>,
    /// The encoding's name; else by the content. A byte order mark overrides it.
    pub encoding: Option<String>,
    /// The column that makes a row itself; else its cells do.
    pub key_column: Option<String>,
}

/// The formats of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text with a delimiter, whichever it is.
    Csv,
    /// Text with tabs.
    Tsv,
    /// One JSON object a line.
    Jsonl,
}

impl Format {
    /// Returns the format's name in options and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
        }
    }

    /// Finds a format by its name, `ndjson` and `tab` included.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            _ => None,
        }
    }

    /// Finds the format that a file's extension stands for.
    pub fn from_name(file: &str) -> Option<Self> {
        let (stem, extension) = file.rsplit_once('.')?;
        if stem.is_empty() { None } else { Self::parse(extension) }
    }
}

/// Opens the table that `reader` gives, up to its header.
///
/// `name` is what messages call it and whose extension may tell the format: a path as it was typed,
/// or `-` for standard input.
pub fn open<R: Read>(
    reader: R,
    name: &str,
    options: &TableOptions,
) -> Result<Table<R>, InputError> {
    start(reader, name, options).map_err(|trouble| trouble.in_file(name))
}

/// A table that is being read.
pub struct Table<R> {
    name: String,
    text: Text<R>,
    rows: Rows,
}

enum Rows {
    Delimited(Box<Delimited>),
    JsonLines(Box<JsonLines>),
}

impl<R: Read> Table<R> {
    /// Returns the columns: all of them for CSV and TSV, those seen so far for JSON Lines.
    pub fn columns(&self) -> &[String] {
        match &self.rows {
            Rows::Delimited(rows) => rows.columns(),
            Rows::JsonLines(rows) => rows.columns(),
        }
    }

    /// Returns the format that is read: [`Format::Tsv`] whenever the delimiter is a tab.
    pub fn format(&self) -> Format {
        match &self.rows {
            Rows::Delimited(rows) if rows.delimiter() == b'\t' => Format::Tsv,
            Rows::Delimited(_) => Format::Csv,
            Rows::JsonLines(_) => Format::Jsonl,
        }
    }

    /// Returns the next row, or `None` at the end. After an error there is nothing more to read.
    pub fn next_row(&mut self) -> Result<Option<NewRow<'_>>, InputError> {
        let row = match &mut self.rows {
            Rows::Delimited(rows) => rows.next_row(&mut self.text),
            Rows::JsonLines(rows) => rows.next_row(&mut self.text),
        };
        row.map_err(|trouble| trouble.in_file(&self.name))
    }

    /// Returns what is known of the whole file. Bytes that were not read yet are read and hashed,
    /// but not checked, so this is for after the last row.
    pub fn finish(self) -> Result<SourceFacts, InputError> {
        let format = self.format().as_str().to_owned();
        let columns = self.columns().to_vec();
        let encoding = self.text.encoding().to_owned();
        let (sha256, bytes) = self
            .text
            .finish()
            .map_err(|error| Trouble::from(Problem::Io(error)).in_file(&self.name))?;
        Ok(SourceFacts { format, encoding, sha256, bytes, columns })
    }
}

fn start<R: Read>(reader: R, name: &str, options: &TableOptions) -> Result<Table<R>, Trouble> {
    let mut text = Text::new(reader, options.encoding.as_deref())?;
    let ahead = text.look_ahead(SAMPLE);
    let rows = match format_of(name, options, text.rest())? {
        Format::Jsonl if sniff::start_of(text.rest()) == Start::JsonArray => {
            return Err(Problem::JsonArray.into());
        }
        Format::Jsonl if options.delimiter.is_some() => {
            return Err(Problem::DelimiterOfJsonLines.into());
        }
        Format::Jsonl => Rows::JsonLines(Box::new(JsonLines::new(options.key_column.clone()))),
        format @ (Format::Csv | Format::Tsv) => {
            let scanner = scanner_for(&mut text, format, options.delimiter, ahead)?;
            let rows = Delimited::new(&mut text, scanner, options.key_column.as_deref())?;
            Rows::Delimited(Box::new(rows))
        }
    };
    Ok(Table { name: name.to_owned(), text, rows })
}

fn format_of(name: &str, options: &TableOptions, text: &str) -> Result<Format, Problem> {
    if let Some(format) = options.format.or_else(|| Format::from_name(name)) {
        return Ok(format);
    }
    match sniff::start_of(text) {
        Start::JsonObject => Ok(Format::Jsonl),
        Start::JsonArray => Err(Problem::JsonArray),
        Start::Plain => Ok(Format::Csv),
    }
}

fn scanner_for<R: Read>(
    text: &mut Text<R>,
    format: Format,
    delimiter: Option<char>,
    ahead: Ahead,
) -> Result<Scanner, Problem> {
    let named = delimiter.map(checked_delimiter).transpose()?;
    let marked = sniff::separator_line(text.rest());
    if let Some((_, length)) = marked {
        text.consume(length);
    }
    let found = match (named, marked, format) {
        (Some(delimiter), _, _) | (None, Some((delimiter, _)), _) => delimiter,
        (None, None, Format::Tsv) => b'\t',
        (None, None, Format::Csv | Format::Jsonl) => sniff::delimiter_of(text.rest(), ahead),
    };
    Ok(Scanner::new(found, if marked.is_some() { 2 } else { 1 }))
}

fn checked_delimiter(delimiter: char) -> Result<u8, Problem> {
    u8::try_from(delimiter)
        .ok()
        .filter(|&byte| sniff::is_delimiter(byte))
        .ok_or(Problem::BadDelimiter(delimiter))
}
