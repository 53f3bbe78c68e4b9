//! Tables: what the first byte orders, and then the table itself.
//!
//! ```text
//!  bit  0–1  format: by content, CSV, TSV, JSON Lines      bit 4  encoding: by content, UTF-8
//!       2    key column: none, `id`                        bit 5  in front of it: nothing, a row that fills a chunk
//!       3    delimiter: by content, `;`
//! ```
//!
//! However the bytes arrive, the rows are the same; their lines rise; their cells are one JSON object; what was
//! read comes back cell by cell from an export of it; and a row is the same row whatever the order of its columns.

use std::io::{self, Read};

use overnight::domain::{AnswerRow, Identity, SourceFacts};
use overnight::export::{self, Details, Form, Layout, Naming, Selection, Shape};
use overnight::input::{self, Format, TableOptions};
use overnight::machine::plan::Liveness;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A row as it was read.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    line: u64,
    cells: String,
    key: Option<String>,
    hash: Option<[u8; 32]>,
}

/// What became of a table: its rows up to the end or up to what is wrong.
#[derive(Debug, PartialEq)]
struct Found {
    rows: Vec<Row>,
    columns: Vec<String>,
    end: Result<SourceFacts, String>,
}

/// Checks a table.
pub fn check(data: &[u8]) {
    let Some((&orders, table)) = data.split_first() else { return };
    let options = options(orders);
    let found = read(table, &options);
    let pieces = read(Pieces { rest: table, size: 1 + usize::from(orders) % 7 }, &options);
    assert_eq!(found, pieces, "the rows depend on how the bytes arrive");
    check_rows(&found, &options);
    let Ok(facts) = &found.end else { return };
    assert_eq!(facts.bytes, table.len() as u64);
    assert_eq!(facts.sha256, <[u8; 32]>::from(Sha256::digest(table)));
    let is_delimited = facts.format != "jsonl";
    if is_delimited {
        comes_back_as_csv(&found);
        keeps_its_identity(&found);
    } else {
        comes_back_as_json_lines(&found);
    }
    if orders & 32 != 0 && is_delimited && options.encoding.is_some() {
        stands_across_chunks(table, &options, &found);
    }
}

fn options(orders: u8) -> TableOptions {
    TableOptions {
        format: [None, Some(Format::Csv), Some(Format::Tsv), Some(Format::Jsonl)]
            [usize::from(orders & 3)],
        key_column: (orders & 4 != 0).then(|| "id".to_owned()),
        delimiter: (orders & 8 != 0).then_some(';'),
        encoding: (orders & 16 != 0).then(|| "utf-8".to_owned()),
    }
}

fn read(reader: impl Read, options: &TableOptions) -> Found {
    let mut found = Found { rows: Vec::new(), columns: Vec::new(), end: Err(String::new()) };
    let mut table = match input::open(reader, "-", options) {
        Ok(table) => table,
        Err(error) => return Found { end: Err(told(&error)), ..found },
    };
    loop {
        match table.next_row() {
            Ok(Some(row)) => {
                let (key, hash) = match row.identity {
                    Identity::Key(key) => (Some(key.to_owned()), None),
                    Identity::Content(hash) => (None, Some(hash)),
                };
                let cells = row.cells_json.to_owned();
                found.rows.push(Row { line: row.line, cells, key, hash });
            }
            Ok(None) => break,
            Err(error) => {
                found.columns = table.columns().to_vec();
                return Found { end: Err(told(&error)), ..found };
            }
        }
    }
    found.columns = table.columns().to_vec();
    Found { end: table.finish().map_err(|error| told(&error)), ..found }
}

/// Returns an error with its hint. Names of columns stand in it, so it is as long as they are.
fn told(error: &input::InputError) -> String {
    format!("{error}\n{:?}\n{:?} {:?}", error.hint(), error.line(), error.column())
}

fn check_rows(found: &Found, options: &TableOptions) {
    let mut last_line = 0;
    for row in &found.rows {
        assert!(row.line > last_line, "line {} comes after line {last_line}", row.line);
        last_line = row.line;
        let cells: Map<String, Value> = serde_json::from_str(&row.cells).unwrap();
        assert!(cells.keys().all(|name| found.columns.contains(name) && !name.is_empty()));
        assert_eq!(row.key.is_some(), options.key_column.is_some());
        assert!(row.key.as_ref().is_none_or(|key| !key.trim().is_empty()));
    }
}

fn comes_back_as_csv(found: &Found) {
    let format = Some(Format::Csv);
    let options = TableOptions { format, delimiter: Some(','), ..TableOptions::default() };
    let style = export::CsvStyle { mark: export::Mark::With, ..export::CsvStyle::default() };
    let exported = exported(export::Format::Csv(style), found);
    let again = read(exported.as_slice(), &options);
    let cells = |found: &Found| found.rows.iter().map(|row| row.cells.clone()).collect::<Vec<_>>();
    assert_eq!(found.columns, again.columns, "{}", String::from_utf8_lossy(&exported));
    assert_eq!(cells(found), cells(&again), "{}", String::from_utf8_lossy(&exported));
}

fn comes_back_as_json_lines(found: &Found) {
    let options = TableOptions { format: Some(Format::Jsonl), ..TableOptions::default() };
    let exported = exported(export::Format::Jsonl, found);
    let again = read(exported.as_slice(), &options);
    assert_eq!(found.rows.len(), again.rows.len());
    for (row, again) in found.rows.iter().zip(&again.rows) {
        assert_eq!(row.cells, again.cells, "{}", String::from_utf8_lossy(&exported));
        assert!(row.hash.is_none_or(|hash| again.hash == Some(hash)));
    }
}

fn exported(format: export::Format, found: &Found) -> Vec<u8> {
    let layout = Layout::new(Shape {
        columns: found.columns.clone(),
        prompts: Vec::new(),
        naming: Naming::Plain,
        details: Details::Without,
        form: Form::Wide,
        liveness: Liveness::Idle,
    });
    let selection = Selection(Vec::new());
    let mut table = export::Table::start(Vec::new(), format, layout, selection).unwrap();
    for (position, row) in (1..).zip(&found.rows) {
        let cells = row.cells.clone();
        let row = AnswerRow { position, key: String::new(), cells, answers: Vec::new() };
        table.row(&row).unwrap();
    }
    table.finish().unwrap().0
}

/// Turns the columns around and compares the identities.
fn keeps_its_identity(found: &Found) {
    if found.rows.iter().any(|row| row.hash.is_none()) {
        return;
    }
    let turned = found.rows.iter().map(|row| {
        let cells: Map<String, Value> = serde_json::from_str(&row.cells).unwrap();
        let turned: Map<String, Value> = cells.into_iter().rev().collect();
        Value::Object(turned).to_string() + "\n"
    });
    let text: String = turned.collect();
    let options = TableOptions { format: Some(Format::Jsonl), ..TableOptions::default() };
    let again = read(text.as_bytes(), &options);
    let hashes = |found: &Found| found.rows.iter().map(|row| row.hash).collect::<Vec<_>>();
    assert_eq!(hashes(found), hashes(&again), "{text}");
}

/// Puts a row before the others that makes one of them lie across two chunks.
fn stands_across_chunks(table: &[u8], options: &TableOptions, found: &Found) {
    const CHUNK: usize = 256 * 1024;
    let Some(header_end) = table.iter().position(|byte| *byte == b'\n') else { return };
    let (header, rest) = table.split_at(header_end + 1);
    let [column] = found.columns.as_slice() else { return };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    if *header != [column.as_bytes(), b"\n"].concat() || !column.as_bytes().iter().all(plain) {
        return;
    }
    let filler = CHUNK.saturating_sub(header.len() + 1 + rest.len() / 2);
    let padded = [header, "x".repeat(filler).as_bytes(), b"\n", rest].concat();
    let options =
        TableOptions { delimiter: Some(';'), format: Some(Format::Csv), ..options.clone() };
    let short = read(table, &options);
    let long = read(padded.as_slice(), &options);
    let cells = |rows: &[Row]| rows.iter().map(|row| row.cells.clone()).collect::<Vec<_>>();
    if short.end.is_ok() {
        assert_eq!(cells(&short.rows), cells(&long.rows[1..]));
    }
}

/// Hands bytes out a few at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.size.min(out.len()).min(self.rest.len());
        let (now, rest) = self.rest.split_at(size);
        out[..size].copy_from_slice(now);
        self.rest = rest;
        Ok(size)
    }
}
