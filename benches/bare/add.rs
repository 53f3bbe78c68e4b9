//! A table into SQLite: csv → JSON object → sha256 → row, ten thousand rows to a commit.

use rusqlite::{Connection, params};
use serde::ser::{SerializeMap, Serializer};

use crate::args::Args;
use crate::record::{create, sha256};

const CHUNK: i64 = 10_000;

pub(crate) fn run(args: &Args) {
    let conn = create(args.word(1));
    let rows = add(&conn, args.word(0));
    println!("{{\"rows\":{rows}}}");
}

/// Adds all rows of a table; returns how many.
pub(crate) fn add(conn: &Connection, path: &str) -> i64 {
    let mut table = csv::Reader::from_path(path).unwrap();
    let columns = table.headers().unwrap().clone();
    let mut record = csv::StringRecord::new();
    let mut cells = Vec::new();
    let mut row = 0;
    conn.execute_batch("BEGIN").unwrap();
    while table.read_record(&mut record).unwrap() {
        row += 1;
        cells.clear();
        let mut json = serde_json::Serializer::new(&mut cells);
        let mut object = json.serialize_map(None).unwrap();
        for (column, cell) in columns.iter().zip(&record) {
            object.serialize_entry(column, cell).unwrap();
        }
        object.end().unwrap();
        let line = record.position().map_or(0, csv::Position::line);
        conn.prepare_cached("INSERT INTO row (id, line, sha256, cells) VALUES (?1, ?2, ?3, ?4)")
            .unwrap()
            .execute(params![
                row,
                line as i64,
                sha256(&cells),
                std::str::from_utf8(&cells).unwrap()
            ])
            .unwrap();
        if row % CHUNK == 0 {
            conn.execute_batch("COMMIT; BEGIN").unwrap();
        }
    }
    conn.execute_batch("COMMIT").unwrap();
    row
}
