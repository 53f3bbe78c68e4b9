//! CSV and its kin: a header, then one row a record; every cell is a string.
//!
//! Nothing is guessed about cells: `007` stays `007`, and an empty cell is an empty string. A record
//! with more or fewer fields than the header is refused, because nobody can tell which cell is
//! missing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

use crate::domain::{Identity, NewRow};

use super::encoding::Ahead;
use super::error::{Problem, Trouble};
use super::escape::push_string;
use super::identity;
use super::scanner::{MAX_FIELDS, Scan, Scanner};
use super::text::{MAX_RECORD_BYTES, Text, renew};

/// The rows of a delimited text.
pub(super) struct Delimited {
    scanner: Scanner,
    columns: Vec<String>,
    /// For each column what stands before its value: `{"name":` or `,"name":`.
    openings: Vec<String>,
    /// The columns in the order of their names.
    by_name: Vec<usize>,
    key: Option<KeyColumn>,
    cells_json: String,
    values: Vec<Range<usize>>,
    key_text: String,
}

struct KeyColumn {
    number: usize,
    name: String,
}

impl Delimited {
    /// Reads the header.
    pub(super) fn new<R: Read>(
        text: &mut Text<R>,
        mut scanner: Scanner,
        key_column: Option<&str>,
    ) -> Result<Self, Trouble> {
        let Some(length) = next_record(text, &mut scanner)? else {
            return Err(Problem::Empty.into());
        };
        let columns = header(&scanner, &text.rest()[..length])
            .map_err(|problem| Trouble::at_line(scanner.record_line(), problem))?;
        text.consume(length);
        let key = key_column.map(|name| key_of(name, &columns)).transpose()?;
        let mut by_name: Vec<usize> = (0..columns.len()).collect();
        by_name.sort_unstable_by(|&a, &b| columns[a].cmp(&columns[b]));
        Ok(Self {
            scanner,
            openings: openings(&columns),
            by_name,
            key,
            cells_json: String::new(),
            values: Vec::with_capacity(columns.len()),
            key_text: String::new(),
            columns,
        })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.scanner.delimiter()
    }

    pub(super) fn next_row<R: Read>(
        &mut self,
        text: &mut Text<R>,
    ) -> Result<Option<NewRow<'_>>, Trouble> {
        let Some(length) = next_record(text, &mut self.scanner)? else { return Ok(None) };
        let line = self.scanner.record_line();
        self.read_cells(&text.rest()[..length])
            .map_err(|problem| Trouble::at_line(line, problem))?;
        text.consume(length);
        let identity = match &self.key {
            Some(_) => Identity::Key(&self.key_text),
            None => Identity::Content(identity::of_cells(self.by_name.iter().map(|&number| {
                let value = &self.cells_json[self.values[number].clone()];
                (self.columns[number].as_str(), value)
            }))),
        };
        Ok(Some(NewRow { line, cells_json: &self.cells_json, identity }))
    }

    fn read_cells(&mut self, record: &str) -> Result<(), Problem> {
        if self.scanner.count() != self.columns.len() {
            return Err(self.ragged(record));
        }
        renew(&mut self.cells_json);
        self.values.clear();
        for (number, field) in self.scanner.fields().iter().enumerate() {
            let cell = field.cell(record);
            self.cells_json.push_str(&self.openings[number]);
            let start = self.cells_json.len();
            push_string(&mut self.cells_json, &cell);
            self.values.push(start..self.cells_json.len());
            if let Some(key) = self.key.as_ref().filter(|key| key.number == number) {
                renew(&mut self.key_text);
                self.key_text.push_str(identity::checked_key(&cell, &key.name)?);
            }
        }
        self.cells_json.push('}');
        Ok(())
    }

    fn ragged(&self, record: &str) -> Problem {
        let line = self.scanner.record_line();
        let ended = record.ends_with(['\n', '\r']);
        Problem::Ragged {
            fields: self.scanner.count(),
            columns: self.columns.len(),
            line,
            last_line: self.scanner.line() - u64::from(ended),
            delimiter: char::from(self.scanner.delimiter()),
        }
    }
}

/// Returns the length of the next record, once it is in memory.
fn next_record<R: Read>(
    text: &mut Text<R>,
    scanner: &mut Scanner,
) -> Result<Option<usize>, Trouble> {
    let mut ahead = Ahead::More;
    loop {
        match scanner.scan(text.rest(), ahead) {
            Scan::Record { length } => return Ok(Some(length)),
            Scan::End => return Ok(None),
            Scan::Unclosed { opened } => {
                return Err(Trouble::at_line(opened, Problem::UnclosedQuote));
            }
            Scan::Stray { line, opened } => {
                return Err(Trouble::at_line(line, Problem::TextAfterQuote { opened }));
            }
            Scan::NeedsMore => {}
        }
        text.consume(scanner.take_blank());
        if text.rest().len() > MAX_RECORD_BYTES {
            let problem = Problem::RecordTooLarge { limit: MAX_RECORD_BYTES };
            return Err(Trouble::at_line(scanner.record_line(), problem));
        }
        ahead = text.more().map_err(|problem| {
            let before = text.rest().rsplit(['\n', '\r']).next().unwrap_or_default();
            Trouble::at(scanner.line(), before.chars().count() as u64 + 1, problem)
        })?;
    }
}

fn header(scanner: &Scanner, record: &str) -> Result<Vec<String>, Problem> {
    if scanner.count() > MAX_FIELDS {
        return Err(Problem::TooManyColumns { limit: MAX_FIELDS });
    }
    let columns: Vec<String> =
        scanner.fields().iter().map(|field| field.cell(record)).map(Cow::into_owned).collect();
    let mut numbers = HashMap::with_capacity(columns.len());
    for (number, name) in (1..).zip(&columns) {
        if name.is_empty() {
            return Err(Problem::UnnamedColumn { number });
        }
        if let Some(first) = numbers.insert(name, number) {
            return Err(Problem::DuplicateColumn { name: name.clone(), first, second: number });
        }
    }
    Ok(columns)
}

fn openings(columns: &[String]) -> Vec<String> {
    let opening = |(number, name): (usize, &String)| {
        let mut opening = String::from(if number == 0 { "{" } else { "," });
        push_string(&mut opening, name);
        opening.push(':');
        opening
    };
    columns.iter().enumerate().map(opening).collect()
}

fn key_of(name: &str, columns: &[String]) -> Result<KeyColumn, Problem> {
    let number = columns
        .iter()
        .position(|column| column == name)
        .ok_or_else(|| Problem::UnknownKey { key: name.to_owned(), columns: columns.to_vec() })?;
    Ok(KeyColumn { number, name: name.to_owned() })
}
