//! Rows coming in and leaving: one file is added whole or not at all.
//!
//! A row is itself by its key, or by its content and the n-th time it stands there. So adding the same
//! file again adds nothing, a grown one adds what is new, and with a key a changed row becomes the
//! next version of itself while the old one stays on record. Memory does not grow with the file:
//! what has been seen is looked up in the record, or in a temporary table.

use std::collections::HashMap;

use rusqlite::{CachedStatement, OptionalExtension, Transaction, params};
use serde_json::value::RawValue;

use super::{Store, StoreError, trail};
use crate::domain::{Identity, NewRow, RowId, SourceFacts, SourceId, UnixMs};

/// What an `add` did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddReport {
    /// Rows in the file.
    pub read: u64,
    /// Rows that were not there.
    pub added: u64,
    /// Rows whose cells changed under the same key.
    pub changed: u64,
    /// Rows that had been removed and are back.
    pub returned: u64,
    /// Rows that were there already, as they are.
    pub unchanged: u64,
}

/// What a `remove` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveReport {
    /// Rows that left the table.
    pub removed: u64,
    /// Of these, rows with an answer, which stays on record.
    pub answered: u64,
}

/// A file on its way in. Dropped without [`Adding::finish`], it leaves no trace.
pub struct Adding<'s> {
    tx: Transaction<'s>,
    source: SourceId,
    next_position: i64,
    /// Whether there were rows that a new one might be, or be a version of, before this file came.
    has_retired: bool,
    repeats: HashMap<[u8; 12], u64>,
    report: AddReport,
    now: UnixMs,
}

impl Store {
    /// Starts adding a file, under the write lock.
    pub fn start_add(
        &mut self,
        path: &str,
        key_column: Option<&str>,
        now: UnixMs,
    ) -> Result<Adding<'_>, StoreError> {
        let project = self.path().to_owned();
        let tx = self.begin()?;
        Adding::start(tx, path, key_column, now)
            .map_err(|error| StoreError::from_sqlite(&project, error))
    }
}

impl<'s> Adding<'s> {
    fn start(
        tx: Transaction<'s>,
        path: &str,
        key_column: Option<&str>,
        now: UnixMs,
    ) -> rusqlite::Result<Self> {
        tx.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID;
             DELETE FROM temp.seen;",
        )?;
        // Filled in by `finish`, when the file has been read.
        tx.execute(
            "INSERT INTO source (path, format, encoding, sha256, bytes, columns, key_column, rows, added_at_ms)
             VALUES (?1, '', '', zeroblob(32), 0, '[]', ?2, 0, ?3)",
            params![path, key_column, now.0],
        )?;
        let source = SourceId(tx.last_insert_rowid());
        let next_position =
            tx.query_row("SELECT coalesce(max(position), 0) + 1 AS next FROM row", [], |row| {
                row.get("next")
            })?;
        let has_retired = tx.query_row(
            "SELECT EXISTS (SELECT 1 FROM row WHERE retired_at_ms IS NOT NULL) AS found",
            [],
            |row| row.get("found"),
        )?;
        let repeats = HashMap::new();
        let report = AddReport::default();
        Ok(Self { tx, source, next_position, has_retired, repeats, report, now })
    }

    /// Takes one row.
    pub fn row(&mut self, row: NewRow<'_>) -> Result<(), StoreError> {
        self.report.read += 1;
        match row.identity {
            Identity::Key(key) => self.keyed(row, key),
            Identity::Content(hash) => self.unkeyed(row, &hash).map_err(|error| self.named(error)),
        }
    }

    /// Ends the file: commits, unless it brought nothing new, in which case nothing is recorded.
    pub fn finish(self, facts: &SourceFacts) -> Result<AddReport, StoreError> {
        let report = self.report;
        if report.added + report.changed + report.returned == 0 {
            return Ok(report);
        }
        let columns = serde_json::to_string(&facts.columns)
            .map_err(|error| StoreError::Contradiction(error.to_string()))?;
        let done = self.tx.execute(
            "UPDATE source SET format = ?2, encoding = ?3, sha256 = ?4, bytes = ?5, columns = ?6, rows = ?7
             WHERE id = ?1",
            params![
                self.source.0,
                facts.format,
                facts.encoding,
                facts.sha256,
                facts.bytes as i64,
                columns,
                report.read as i64
            ],
        );
        let path = self.tx.path().unwrap_or_default().to_owned();
        done.and_then(|_| self.tx.commit())
            .map_err(|error| StoreError::from_sqlite(std::path::Path::new(&path), error))?;
        Ok(report)
    }

    fn keyed(&mut self, row: NewRow<'_>, key: &str) -> Result<(), StoreError> {
        if self.insert_unheard_of(row, key).map_err(|error| self.named(error))? {
            return Ok(());
        }
        let live = self.live(key).map_err(|error| self.named(error))?;
        let Some(live) = live else {
            return self.insert_or_return(row, key).map_err(|error| self.named(error));
        };
        let first = match live.source == self.source.0 {
            true => Some(live.line),
            false => self.see(key, row.line).map_err(|error| self.named(error))?,
        };
        if let Some(first) = first {
            let key = key.to_owned();
            return Err(StoreError::DuplicateKey { line: row.line, first, key });
        }
        if are_same(&live.cells, row.cells_json) {
            self.report.unchanged += 1;
            return Ok(());
        }
        self.next_version(row, key, &live).map_err(|error| self.named(error))
    }

    fn unkeyed(&mut self, row: NewRow<'_>, hash: &[u8; 32]) -> rusqlite::Result<()> {
        let mut short = [0; 12];
        short.copy_from_slice(&hash[..12]);
        // Only contents that stand in the file more than once are remembered here.
        let mut nth = self.repeats.get(&short).copied().unwrap_or(1);
        loop {
            let key = content_key(&short, nth);
            if self.insert_unheard_of(row, &key)? {
                break;
            }
            let met_before = match self.live(&key)? {
                None => {
                    self.insert_or_return(row, &key)?;
                    break;
                }
                Some(live) if live.source == self.source.0 => true,
                Some(_) => self.see(&key, row.line)?.is_some(),
            };
            if !met_before {
                self.report.unchanged += 1;
                break;
            }
            nth += 1;
        }
        if nth > 1 {
            self.repeats.insert(short, nth);
        }
        Ok(())
    }

    /// Notes that a row of this file is the live row with this key; returns the line that was it before.
    fn see(&self, key: &str, line: u64) -> rusqlite::Result<Option<u64>> {
        let fresh = self
            .cached("INSERT INTO temp.seen (key, line) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![key, line as i64])?;
        if fresh == 1 {
            return Ok(None);
        }
        self.cached("SELECT line FROM temp.seen WHERE key = ?1")?
            .query_row([key], |row| row.get("line"))
            .map(Some)
    }

    /// Inserts a row whose key no row has or ever had, without looking first; says whether it did.
    fn insert_unheard_of(&mut self, row: NewRow<'_>, key: &str) -> rusqlite::Result<bool> {
        if self.has_retired || self.insert(row, key, 1, self.next_position)? == 0 {
            return Ok(false);
        }
        self.next_position += 1;
        self.report.added += 1;
        Ok(true)
    }

    fn insert_or_return(&mut self, row: NewRow<'_>, key: &str) -> rusqlite::Result<()> {
        if self.has_retired && self.bring_back(row, key)? {
            self.report.returned += 1;
            return Ok(());
        }
        let version = self.versions(key)? + 1;
        let position = self.next_position;
        self.next_position += 1;
        must_be_one(self.insert(row, key, version, position)?)?;
        self.report.added += 1;
        Ok(())
    }

    fn next_version(&mut self, row: NewRow<'_>, key: &str, live: &Live) -> rusqlite::Result<()> {
        self.cached("UPDATE row SET retired_at_ms = ?2, retired_why = 'changed' WHERE id = ?1")?
            .execute(params![live.id.0, self.now.0])?;
        // Not the live one's number plus one: a row that came back is not always the newest version.
        must_be_one(self.insert(row, key, self.versions(key)? + 1, live.position)?)?;
        self.report.changed += 1;
        Ok(())
    }

    fn insert(
        &self,
        row: NewRow<'_>,
        key: &str,
        version: i64,
        position: i64,
    ) -> rusqlite::Result<usize> {
        self.cached(
            "INSERT INTO row (source_id, line, position, key, version, cells)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (key) WHERE retired_at_ms IS NULL DO NOTHING",
        )?
        .execute(params![
            self.source.0,
            row.line as i64,
            position,
            key,
            version,
            row.cells_json
        ])
    }

    /// Puts a removed row back where it was, if its cells are the same.
    fn bring_back(&self, row: NewRow<'_>, key: &str) -> rusqlite::Result<bool> {
        let mut removed = self.cached(
            "SELECT id, cells FROM row WHERE key = ?1 AND retired_at_ms IS NOT NULL
               AND retired_why = 'removed' ORDER BY id DESC",
        )?;
        let mut found = removed.query([key])?;
        while let Some(candidate) = found.next()? {
            if are_same(&candidate.get::<_, String>("cells")?, row.cells_json) {
                self.revive(candidate.get("id")?, row.line)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn revive(&self, id: i64, line: u64) -> rusqlite::Result<()> {
        self.cached(
            "UPDATE row SET retired_at_ms = NULL, retired_why = NULL, source_id = ?2, line = ?3 WHERE id = ?1",
        )?
        .execute(params![id, self.source.0, line as i64])?;
        // It may have left before a prompt came, and be without a request for that one.
        self.cached("UPDATE prompt SET asked_upto = ?1 - 1 WHERE asked_upto >= ?1")?
            .execute([id])?;
        Ok(())
    }

    fn versions(&self, key: &str) -> rusqlite::Result<i64> {
        self.cached(
            "SELECT coalesce(max(version), 0) AS last FROM row WHERE key = ?1 AND retired_at_ms IS NOT NULL",
        )?
        .query_row([key], |row| row.get("last"))
    }

    fn live(&self, key: &str) -> rusqlite::Result<Option<Live>> {
        self.cached(
            "SELECT id, source_id, line, position, cells FROM row
             WHERE key = ?1 AND retired_at_ms IS NULL",
        )?
        .query_row([key], |row| {
            Ok(Live {
                id: RowId(row.get("id")?),
                source: row.get("source_id")?,
                line: row.get("line")?,
                position: row.get("position")?,
                cells: row.get("cells")?,
            })
        })
        .optional()
    }

    fn cached(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.tx.prepare_cached(sql)
    }

    fn named(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(std::path::Path::new(self.tx.path().unwrap_or_default()), error)
    }
}

/// A row that was looked for first cannot be in the way of its own insertion.
fn must_be_one(inserted: usize) -> rusqlite::Result<()> {
    match inserted {
        1 => Ok(()),
        other => Err(rusqlite::Error::StatementChangedRows(other)),
    }
}

/// The row that has a key now.
struct Live {
    id: RowId,
    source: i64,
    line: u64,
    position: i64,
    cells: String,
}

/// Says whether two rows have the same cells, whatever the order of their columns. Cells are compared as
/// they are written, as their identity is: two long numbers may be one double and yet not the same.
fn are_same(kept: &str, new: &str) -> bool {
    if kept.len() != new.len() || kept == new {
        return kept == new;
    }
    let read = |text| serde_json::from_str::<HashMap<String, &RawValue>>(text);
    let (Ok(kept), Ok(new)) = (read(kept), read(new)) else { return false };
    let is_in_new = |(name, cell): (&String, &&RawValue)| {
        new.get(name).is_some_and(|other| other.get() == cell.get())
    };
    kept.len() == new.len() && kept.iter().all(is_in_new)
}

/// Returns the key of a row that has no key column: its content, and the n-th time it stands there.
pub(crate) fn content_key(short: &[u8; 12], nth: u64) -> String {
    use std::fmt::Write;
    let mut key = String::with_capacity(32);
    for byte in short {
        let _ = write!(key, "{byte:02x}");
    }
    let _ = write!(key, "-{nth}");
    key
}

impl Store {
    /// Takes rows out of the table, by their keys, by `#POSITION`, or all of a source by its path; where
    /// a name is several of these, the first counts. What was bought for them stays on record.
    /// Names that match nothing are returned, and where there is one nothing is removed.
    pub fn remove(
        &mut self,
        names: &[String],
        now: UnixMs,
    ) -> Result<(RemoveReport, Vec<String>), StoreError> {
        let tx = self.begin()?;
        let removed = remove_all(&tx, names, now).and_then(|found| {
            // All or nothing: a typo in the third name must not half-do the job.
            if found.1.is_empty() {
                tx.commit()?;
            }
            Ok(found)
        });
        removed.map_err(|error| self.named(error))
    }
}

/// What a name stands for.
enum Leaving<'n> {
    Row(i64),
    Source(&'n str),
}

fn remove_all(
    conn: &rusqlite::Connection,
    names: &[String],
    now: UnixMs,
) -> rusqlite::Result<(RemoveReport, Vec<String>)> {
    // All names are looked up before any row leaves: one of them may be a row of a source named beside it.
    let mut leaving = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        match named_thing(conn, name)? {
            Some(found) => leaving.push(found),
            None => unknown.push(name.clone()),
        }
    }
    let mut report = RemoveReport::default();
    if !unknown.is_empty() {
        return Ok((report, unknown));
    }
    let answered_before = answered_and_removed(conn)?;
    for thing in leaving {
        report.removed += retire(conn, &thing, now)? as u64;
    }
    report.answered = answered_and_removed(conn)? - answered_before;
    Ok((report, unknown))
}

fn named_thing<'n>(
    conn: &rusqlite::Connection,
    name: &'n str,
) -> rusqlite::Result<Option<Leaving<'n>>> {
    let row = conn
        .prepare_cached(
            "SELECT id FROM row WHERE retired_at_ms IS NULL AND (key = ?1 OR position = ?2)
             ORDER BY key = ?1 DESC LIMIT 1",
        )?
        .query_row(params![name, trail::position(name)], |row| row.get("id"))
        .optional()?;
    if let Some(id) = row {
        return Ok(Some(Leaving::Row(id)));
    }
    let is_source = conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM source JOIN row ON row.source_id = source.id
                            WHERE path = ?1 AND retired_at_ms IS NULL) AS found",
        )?
        .query_row([name], |row| row.get::<_, bool>("found"))?;
    Ok(is_source.then_some(Leaving::Source(name)))
}

fn retire(
    conn: &rusqlite::Connection,
    thing: &Leaving<'_>,
    now: UnixMs,
) -> rusqlite::Result<usize> {
    match thing {
        Leaving::Row(id) => conn
            .prepare_cached(
                "UPDATE row SET retired_at_ms = ?2, retired_why = 'removed'
                 WHERE retired_at_ms IS NULL AND id = ?1",
            )?
            .execute(params![id, now.0]),
        Leaving::Source(path) => conn
            .prepare_cached(
                "UPDATE row SET retired_at_ms = ?2, retired_why = 'removed'
                 WHERE retired_at_ms IS NULL AND source_id IN (SELECT id FROM source WHERE path = ?1)",
            )?
            .execute(params![path, now.0]),
    }
}

fn answered_and_removed(conn: &rusqlite::Connection) -> rusqlite::Result<u64> {
    conn.prepare_cached(
        "SELECT count(DISTINCT row.id) AS found FROM row
         JOIN request ON request.row_id = row.id AND request.state = 'answered'
         WHERE row.retired_why = 'removed' AND row.retired_at_ms IS NOT NULL",
    )?
    .query_row([], |row| row.get("found"))
}
