//! Every cell of a record, one at a time, changed as somebody with `sqlite3` in hand would.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use crate::support::Folder;

/// One change to a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) table: String,
    /// Empty where the whole row goes.
    pub(crate) column: String,
    /// What kind of change it is.
    pub(crate) kind: &'static str,
    rowid: i64,
    value: Option<Value>,
}

/// What an audit of a changed record came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) change: Change,
    pub(crate) code: Option<i32>,
    pub(crate) checks: Vec<String>,
}

/// Lists the tables of a record.
pub(crate) fn tables(project: &Path) -> Vec<String> {
    let conn = Connection::open(project).unwrap();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let mut query = conn.prepare(sql).unwrap();
    query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Returns all changes: each column of each table, in one row or two, in each way that its type allows.
pub(crate) fn changes(project: &Path) -> Vec<Change> {
    let conn = Connection::open(project).unwrap();
    let mut all = Vec::new();
    for table in tables(project) {
        let sql = format!("SELECT name, type, \"notnull\" FROM pragma_table_info('{table}')");
        let mut query = conn.prepare(&sql).unwrap();
        let columns =
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        for column in columns {
            let (column, kind, is_needed): (String, String, bool) = column.unwrap();
            changes_of(&conn, (&table, &column), (&kind, is_needed), &mut all);
        }
        for rowid in some(&conn, &table, "true") {
            all.push(Change {
                table: table.clone(),
                column: String::new(),
                kind: "dropped",
                rowid,
                value: None,
            });
        }
    }
    all
}

fn changes_of(
    conn: &Connection,
    (table, column): (&str, &str),
    (kind, is_needed): (&str, bool),
    all: &mut Vec<Change>,
) {
    let mut add = |kind: &'static str, rowid: i64, value: Value| {
        let (table, column) = (table.to_owned(), column.to_owned());
        all.push(Change { table, column, kind, rowid, value: Some(value) });
    };
    for rowid in some(conn, table, &format!("\"{column}\" IS NOT NULL")) {
        let sql = format!("SELECT \"{column}\" FROM \"{table}\" WHERE rowid = ?1");
        let value: Value = conn.query_row(&sql, [rowid], |row| row.get(0)).unwrap();
        match value {
            Value::Integer(_) if column.ends_with("_ms") => {
                add("long before", rowid, Value::Integer(1));
                add("far ahead", rowid, Value::Integer(9_000_000_000_000));
            }
            Value::Integer(number) => add("changed", rowid, Value::Integer(number + 1)),
            Value::Text(text) => {
                if (table, column) == ("row", "cells") {
                    add("changed inside", rowid, Value::Text(other_note(&text)));
                }
                add("changed", rowid, Value::Text(other_text(&text)));
            }
            Value::Blob(mut bytes) => {
                // One bit of a packed text may say the same in another way, where the text repeats itself.
                let middle = bytes.len() / 2;
                bytes[middle..].iter_mut().for_each(|byte| *byte ^= 1);
                add("changed", rowid, Value::Blob(bytes));
            }
            Value::Null | Value::Real(_) => unreachable!("{table}.{column}"),
        }
        if !is_needed {
            add("emptied", rowid, Value::Null);
        }
    }
    if is_needed {
        return;
    }
    for rowid in some(conn, table, &format!("\"{column}\" IS NULL")) {
        let value = match kind {
            "INTEGER" if column.ends_with("_ms") => Value::Integer(1),
            "INTEGER" => Value::Integer(1),
            "TEXT" => Value::Text("x".to_owned()),
            "BLOB" => Value::Blob(b"{}".to_vec()),
            other => unreachable!("{other}"),
        };
        add("filled", rowid, value);
    }
}

/// Another word where it is one of a few, JSON that holds more where it is JSON, else a text that is longer.
fn other_text(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(mut members)) => {
            members.insert("x".to_owned(), 1.into());
            return serde_json::Value::Object(members).to_string();
        }
        Ok(serde_json::Value::Array(mut list)) => {
            list.push("x".into());
            return serde_json::Value::Array(list).to_string();
        }
        Ok(_) | Err(_) => {}
    }
    let others = [
        ("answered", "truncated"),
        ("truncated", "answered"),
        ("failed", "answered"),
        ("pending", "answered"),
        ("realtime", "batch"),
        ("batch", "realtime"),
        ("output", "error"),
        ("error", "output"),
        ("changed", "removed"),
        ("removed", "changed"),
        ("body", "reply"),
        ("reply", "body"),
        ("collected", "completed"),
        ("completed", "failed"),
        ("doubled", "unknown"),
        ("garbled", "unknown"),
        ("unknown", "garbled"),
        ("server_error", "timeout"),
        ("rate_limited", "timeout"),
    ];
    let other = others.iter().find(|(word, _)| *word == text).map(|(_, other)| (*other).to_owned());
    other.unwrap_or_else(|| format!("{text}x"))
}

/// The same cells with another `note`, which no prompt names.
fn other_note(text: &str) -> String {
    let mut cells: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    cells.insert("note".to_owned(), "another".into());
    serde_json::Value::Object(cells).to_string()
}

/// The first row for which something is so, and the last one where rows come about in many ways.
fn some(conn: &Connection, table: &str, condition: &str) -> Vec<i64> {
    let sql = format!("SELECT rowid FROM \"{table}\" WHERE {condition} ORDER BY rowid");
    let mut query = conn.prepare(&sql).unwrap();
    let all: Vec<i64> =
        query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let mut some: Vec<i64> = all.first().into_iter().chain(all.last()).copied().collect();
    some.dedup();
    if !["attempt", "request"].contains(&table) {
        some.truncate(1);
    }
    some
}

impl Change {
    /// Makes the change; `false` where the schema itself does not allow it.
    fn make(&self, project: &Path) -> bool {
        let conn = Connection::open(project).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; PRAGMA journal_mode = DELETE;")
            .unwrap();
        let table = &self.table;
        let set = |value: &Value| {
            let sql = format!("UPDATE \"{table}\" SET \"{}\" = ?2 WHERE rowid = ?1", self.column);
            conn.execute(&sql, params![self.rowid, value])
        };
        let done = match &self.value {
            None => {
                conn.execute(&format!("DELETE FROM \"{table}\" WHERE rowid = ?1"), [self.rowid])
            }
            // Where the next number is somebody else's, one that nobody has.
            Some(value @ Value::Integer(number)) => {
                set(value).or_else(|_| set(&Value::Integer(number + 1000)))
            }
            Some(value) => set(value),
        };
        done.is_ok_and(|changed| changed == 1)
    }
}

/// Makes each change to a copy of its own and audits that. Changes that the schema refuses are left out.
pub(crate) fn audit_each(folder: &Folder, changes: &[Change]) -> Vec<Outcome> {
    let original = folder.file("overnight.db");
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for worker in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            let (next, outcomes, original) = (&next, &outcomes, &original);
            scope.spawn(move || {
                let copy: PathBuf = folder.file(&format!("copy{worker}.db"));
                while let Some(change) = changes.get(next.fetch_add(1, Ordering::SeqCst)) {
                    std::fs::copy(original, &copy).unwrap();
                    if change.make(&copy) {
                        outcomes.lock().unwrap().push(audited(folder, &copy, change));
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

fn audited(folder: &Folder, project: &Path, change: &Change) -> Outcome {
    let said = folder.run(&["-p", project.to_str().unwrap(), "audit", "--json"]);
    let mut checks = Vec::new();
    if said.code == Some(3) {
        for finding in said.json()["findings"].as_array().unwrap() {
            checks.push(format!(
                "{}: {}",
                finding["check"].as_str().unwrap(),
                finding["message"].as_str().unwrap()
            ));
        }
    } else {
        checks.push(said.stderr.clone());
    }
    Outcome { change: change.clone(), code: said.code, checks }
}
