//! JSON Lines: one object a line, values kept as they are.
//!
//! Lines end at `\n` alone, so that every other line separator of Unicode can stand in a string.
//! The columns are the union of the objects' names, in order of first appearance.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

use crate::domain::{Identity, NewRow};

use super::encoding::Ahead;
use super::error::{Problem, Trouble};
use super::escape::push_string;
use super::identity;
use super::json::{Flaw, Json, Kind, Place};
use super::scanner::MAX_FIELDS;
use super::text::{MAX_RECORD_BYTES, Text, renew};

/// The rows of a JSON Lines text.
pub(super) struct JsonLines {
    columns: Columns,
    key_column: Option<String>,
    /// The number of the line that comes next.
    line: u64,
    row: Row,
}

impl JsonLines {
    pub(super) fn new(key_column: Option<String>) -> Self {
        Self { columns: Columns::default(), key_column, line: 1, row: Row::default() }
    }

    /// Returns the names seen so far.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns.names
    }

    pub(super) fn next_row<R: Read>(
        &mut self,
        text: &mut Text<R>,
    ) -> Result<Option<NewRow<'_>>, Trouble> {
        loop {
            let Some(length) = self.find_line(text)? else { return Ok(None) };
            let line = &text.rest()[..length];
            let blank = line.trim_ascii().is_empty();
            if !blank {
                self.read_row(line)?;
            }
            text.consume(length);
            self.line += 1;
            if !blank {
                break;
            }
        }
        let identity = match &self.key_column {
            Some(_) => Identity::Key(&self.row.key),
            None => Identity::Content(self.columns.identity_of(&mut self.row)),
        };
        Ok(Some(NewRow { line: self.line - 1, cells_json: &self.row.cells_json, identity }))
    }

    /// Returns the length of the next line, its end included, once it is in memory.
    fn find_line<R: Read>(&self, text: &mut Text<R>) -> Result<Option<usize>, Trouble> {
        let mut looked_at = 0;
        loop {
            if let Some(found) = text.rest()[looked_at..].find('\n') {
                return Ok(Some(looked_at + found + 1));
            }
            looked_at = text.rest().len();
            if looked_at > MAX_RECORD_BYTES {
                let problem = Problem::RecordTooLarge { limit: MAX_RECORD_BYTES };
                return Err(Trouble::at_line(self.line, problem));
            }
            let ahead = text.more().map_err(|problem| {
                Trouble::at(self.line, text.rest().chars().count() as u64 + 1, problem)
            })?;
            if ahead == Ahead::Nothing {
                return Ok(Some(looked_at).filter(|&length| length > 0));
            }
        }
    }

    fn read_row(&mut self, line: &str) -> Result<(), Trouble> {
        if line.trim_ascii() == "{" {
            return Err(Trouble::at_line(self.line, Problem::JsonOverLines));
        }
        self.row.clear();
        self.row.read(line, &mut self.columns, self.key_column.as_deref()).map_err(|flaw| {
            let column = line.get(..flaw.at).unwrap_or(line).chars().count() as u64 + 1;
            Trouble::at(self.line, column, flaw.problem)
        })?;
        let Some(column) = &self.key_column else { return Ok(()) };
        if !self.row.has_key {
            let names = self.row.cells.iter().map(|cell| self.columns.names[cell.column].clone());
            let problem = Problem::MissingKey { key: column.clone(), names: names.collect() };
            return Err(Trouble::at_line(self.line, problem));
        }
        identity::checked_key(&self.row.key, column)
            .map_err(|problem| Trouble::at_line(self.line, problem))?;
        Ok(())
    }
}

/// The row that was read last, in buffers that the next one uses again.
#[derive(Default)]
struct Row {
    cells_json: String,
    cells: Vec<Cell>,
    key: String,
    has_key: bool,
}

/// A cell: its column, and where its value stands in `cells_json`.
struct Cell {
    column: usize,
    value: Range<usize>,
}

impl Row {
    fn clear(&mut self) {
        renew(&mut self.cells_json);
        renew(&mut self.key);
        self.cells.clear();
        self.has_key = false;
    }

    fn read(
        &mut self,
        line: &str,
        columns: &mut Columns,
        key_column: Option<&str>,
    ) -> Result<(), Flaw> {
        let mut json = Json::new(line);
        json.open_object()?;
        self.cells_json.push('{');
        columns.row += 1;
        let mut place = Place::Before;
        while let Some(name) = json.next_name(place)? {
            let column = columns
                .number_of(&name.text, self.cells.len())
                .map_err(|problem| Flaw { at: name.at, problem })?;
            if place == Place::After {
                self.cells_json.push(',');
            }
            place = Place::After;
            push_string(&mut self.cells_json, &name.text);
            self.cells_json.push(':');
            let start = self.cells_json.len();
            if key_column == Some(&*name.text) {
                self.read_key(&mut json, &name.text)?;
            } else {
                json.value(&mut self.cells_json)?;
            }
            self.cells.push(Cell { column, value: start..self.cells_json.len() });
        }
        self.cells_json.push('}');
        if json.peek().is_some() {
            return Err(json.expected("the end of the line after the object"));
        }
        Ok(())
    }

    fn read_key(&mut self, json: &mut Json<'_>, name: &str) -> Result<(), Flaw> {
        self.has_key = true;
        let next = json.peek();
        let at = json.at();
        if next == Some(b'"') {
            let text = json.string()?;
            push_string(&mut self.cells_json, &text);
            self.key.push_str(&text);
            return Ok(());
        }
        let start = self.cells_json.len();
        let found = match json.value(&mut self.cells_json)? {
            Kind::Number => {
                self.key.push_str(&self.cells_json[start..]);
                return Ok(());
            }
            Kind::Null | Kind::String => return Ok(()),
            Kind::Bool => "true or false",
            Kind::Array => "an array",
            Kind::Object => "an object",
        };
        Err(Flaw { at, problem: Problem::BadKey { key: name.to_owned(), found } })
    }
}

/// The names seen so far, each with the last row it was seen in.
#[derive(Default)]
struct Columns {
    names: Vec<String>,
    last_rows: Vec<u64>,
    numbers: HashMap<String, usize>,
    row: u64,
}

impl Columns {
    /// Returns the number of a name that stands `nth` in its object, and remembers it.
    fn number_of(&mut self, name: &str, nth: usize) -> Result<usize, Problem> {
        let known = if self.names.get(nth).is_some_and(|expected| expected == name) {
            Some(nth)
        } else {
            self.numbers.get(name).copied()
        };
        let Some(number) = known else { return self.add(name) };
        if self.last_rows[number] == self.row {
            return Err(Problem::DuplicateName { name: name.to_owned() });
        }
        self.last_rows[number] = self.row;
        Ok(number)
    }

    fn add(&mut self, name: &str) -> Result<usize, Problem> {
        if name.is_empty() {
            return Err(Problem::BadJson("a name is empty; a column needs a name"));
        }
        if self.names.len() == MAX_FIELDS {
            return Err(Problem::TooManyColumns { limit: MAX_FIELDS });
        }
        self.names.push(name.to_owned());
        self.last_rows.push(self.row);
        self.numbers.insert(name.to_owned(), self.names.len() - 1);
        Ok(self.names.len() - 1)
    }

    fn identity_of(&self, row: &mut Row) -> [u8; 32] {
        let name = |cell: &Cell| self.names[cell.column].as_str();
        row.cells.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        let cells_json = &row.cells_json;
        identity::of_cells(
            row.cells.iter().map(|cell| (name(cell), &cells_json[cell.value.clone()])),
        )
    }
}
