//! A good project file in which some values were put by somebody else.
//!
//! Each order is `TABLE COLUMN ROW KIND` (four bytes), a length and so many bytes: the value. The checks and references
//! of the file are switched off for it, so that anything stands there that SQLite can hold.

use std::fmt::Write;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::project;

/// The newest format's fixture.
const PROJECT: &[u8] = include_bytes!("../../fixtures/projects/format-2.db");

/// Checks a file after some orders.
pub fn check(data: &[u8]) {
    let folder = project::folder().unwrap();
    let path = folder.path().join("overnight.db");
    std::fs::write(&path, PROJECT).unwrap();
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "PRAGMA foreign_keys = off; PRAGMA ignore_check_constraints = on; PRAGMA synchronous = off;",
    )
    .unwrap();
    let places = places(&conn);
    let mut rest = data;
    for _ in 0..8 {
        let Some((order, after)) = order(rest) else { break };
        rest = after;
        let (table, column) = &places[usize::from(order.place) % places.len()];
        let mut sql = String::new();
        let _ = write!(sql, "UPDATE OR IGNORE {table} SET {column} = ?1 WHERE rowid % 8 = ?2 % 8");
        // A column of another type refuses the value; then there is nothing to see.
        let _ = conn.execute(&sql, (order.value, order.row));
    }
    drop(conn);
    let first = project::read(&path);
    let again = project::read(&path);
    assert!(first == again, "a second look at the file sees something else");
}

struct Order {
    place: u16,
    row: u8,
    value: Value,
}

fn order(data: &[u8]) -> Option<(Order, &[u8])> {
    let (head, rest) = data.split_first_chunk::<5>()?;
    let [high, low, row, kind, length] = *head;
    let (bytes, rest) = rest.split_at_checked(usize::from(length)).unwrap_or((rest, b""));
    let number = || {
        let mut eight = [0; 8];
        let taken = bytes.len().min(8);
        eight[..taken].copy_from_slice(&bytes[..taken]);
        i64::from_le_bytes(eight)
    };
    let value = match kind % 8 {
        0 => Value::Null,
        1 => Value::Integer(number()),
        2 => Value::Integer(i64::MAX - number().rem_euclid(3)),
        3 => Value::Integer(number().rem_euclid(17)),
        4 => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        5 => Value::Blob(bytes.to_vec()),
        6 => Value::Blob(zstd::bulk::compress(&bytes.repeat(1 << 10), 1).unwrap_or_default()),
        _ => Value::Text(String::from_utf8_lossy(bytes).repeat(64)),
    };
    Some((Order { place: u16::from_be_bytes([high, low]), row, value }, rest))
}

fn places(conn: &Connection) -> Vec<(String, String)> {
    conn.prepare(
        "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid",
    )
    .and_then(|mut query| query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
    .unwrap()
}
