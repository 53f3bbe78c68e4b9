//! The file itself: is it sound by SQLite's own checks, and is its schema the one that its migrations made.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::store::{Store, StoreError, migrate};

/// Something that is wrong with the file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// What it is, in words.
    pub words: String,
}

/// A table in whose numbers one is missing, though nothing is ever deleted from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The table.
    pub table: &'static str,
    /// How many rows it has.
    pub rows: i64,
    /// Its highest number.
    pub last: i64,
}

/// How much SQLite's own checks may say before they stop.
const MOST_PROBLEMS: usize = 100;

impl Store {
    /// Runs SQLite's `integrity_check`: every page, every index against its table, every constraint.
    ///
    /// The quick form leaves out indexes against tables, which is where a changed cell shows that somebody
    /// changed on the disk. It runs on a connection of its own, beside everything else.
    pub fn integrity_problems(&self) -> Vec<FileProblem> {
        let mut problems = Vec::new();
        let checked = self.conn.prepare("PRAGMA integrity_check(100)").and_then(|mut query| {
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let line: String = row.get(0)?;
                problems.extend((line != "ok").then_some(FileProblem { words: line }));
            }
            Ok(())
        });
        if let Err(error) = checked {
            problems.push(FileProblem { words: error.to_string() });
        }
        // SQLite takes what is missing of a last page for zeros, and finds nothing wrong where they were some.
        if self.ends_within_a_page().unwrap_or(false) {
            problems.push(FileProblem { words: "it ends in the middle of a page".to_owned() });
        }
        problems
    }

    fn ends_within_a_page(&self) -> rusqlite::Result<bool> {
        let page: u64 = self.conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Ok(std::fs::metadata(self.path()).is_ok_and(|file| file.len() % page.max(1) != 0))
    }

    /// Runs SQLite's `foreign_key_check`: every number that names a row of another table.
    pub fn dangling(&self) -> Vec<FileProblem> {
        let mut problems = Vec::new();
        let checked = self.conn.prepare("PRAGMA main.foreign_key_check").and_then(|mut query| {
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let (table, id): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
                let parent: String = row.get(2)?;
                let id = id.map_or_else(|| "?".to_owned(), |id| id.to_string());
                let words = format!("{table} {id} names a {parent} that is not there");
                problems.push(FileProblem { words });
                if problems.len() == MOST_PROBLEMS {
                    break;
                }
            }
            Ok(())
        });
        if let Err(error) = checked {
            problems.push(FileProblem { words: error.to_string() });
        }
        problems
    }

    /// Holds the file's tables, indexes and views against those that its migrations make. What somebody added is
    /// left alone, but for triggers: they change what others write.
    pub fn schema_problems(&self) -> Result<Vec<FileProblem>, StoreError> {
        let format = migrate::format_of(&self.conn).map_err(|error| self.named(error))?;
        let wanted = migrate::fresh(format).and_then(|fresh| objects(&fresh));
        let wanted = wanted.map_err(|error| self.named(error))?;
        let found = objects(&self.conn).map_err(|error| self.named(error))?;
        let mut problems: Vec<FileProblem> = Vec::new();
        for (name, sql) in &wanted {
            let words = match found.get(name) {
                None => format!("the {} {} is not there", name.0, name.1),
                Some(other) if other != sql => {
                    format!("the {} {} is not the one of format {format}", name.0, name.1)
                }
                Some(_) => continue,
            };
            problems.push(FileProblem { words });
        }
        let triggers = found.keys().filter(|(kind, _)| kind == "trigger");
        problems.extend(triggers.map(|(_, name)| FileProblem {
            words: format!("there is a trigger {name}, which is not ours"),
        }));
        Ok(problems)
    }

    /// Finds tables from which something is missing. Nothing is ever deleted from them, so their numbers have no gaps.
    pub fn gaps(&self) -> Result<Vec<Gap>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT name, found, last FROM (
                   SELECT 1 AS nth, 'source' AS name, count(*) AS found, coalesce(max(id), 0) AS last, min(id) AS first FROM source
                   UNION ALL SELECT 2, 'row', count(*), coalesce(max(id), 0), min(id) FROM row
                   UNION ALL SELECT 3, 'prompt', count(*), coalesce(max(id), 0), min(id) FROM prompt
                   UNION ALL SELECT 4, 'dictionary', count(*), coalesce(max(id), 0), min(id) FROM dictionary
                   UNION ALL SELECT 5, 'run', count(*), coalesce(max(id), 0), min(id) FROM run
                   UNION ALL SELECT 6, 'batch', count(*), coalesce(max(id), 0), min(id) FROM batch
                   UNION ALL SELECT 7, 'batch_status', count(*), coalesce(max(id), 0), min(id) FROM batch_status
                   UNION ALL SELECT 8, 'request', count(*), coalesce(max(id), 0), min(id) FROM request
                   UNION ALL SELECT 9, 'attempt', count(*), coalesce(max(id), 0), min(id) FROM attempt
                   UNION ALL SELECT 10, 'stray_line', count(*), coalesce(max(id), 0), min(id) FROM stray_line)
                 WHERE found <> last OR first < 1 ORDER BY nth",
            )
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        let name: String = row.get("name")?;
                        let table = TABLES.into_iter().find(|table| *table == name).unwrap_or("?");
                        Ok(Gap { table, rows: row.get("found")?, last: row.get("last")? })
                    })?
                    .collect()
            })
            .map_err(|error| self.named(error))
    }
}

const TABLES: [&str; 10] = [
    "source",
    "row",
    "prompt",
    "dictionary",
    "run",
    "batch",
    "batch_status",
    "request",
    "attempt",
    "stray_line",
];

/// Returns what a schema holds, by kind and name.
fn objects(conn: &Connection) -> rusqlite::Result<BTreeMap<(String, String), Option<String>>> {
    conn.prepare("SELECT type, name, sql FROM main.sqlite_schema")?
        .query_map([], |row| Ok(((row.get("type")?, row.get("name")?), row.get("sql")?)))?
        .collect()
}
