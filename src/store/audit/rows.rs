//! Rows, newest first: so a row that came back can be told from one that its source brought.

use rusqlite::Row;

use super::{Taken, columns};
use crate::store::{Store, StoreError};

/// A row on record.
#[derive(Clone, Debug, Default)]
pub struct RowEvidence {
    /// Its id.
    pub id: i64,
    /// Its source.
    pub source_id: i64,
    /// Its line there.
    pub line: i64,
    /// Its position.
    pub position: i64,
    /// Its key.
    pub key: String,
    /// Its version.
    pub version: i64,
    /// Its cells.
    pub cells: String,
    /// When it left.
    pub retired_at_ms: Option<i64>,
    /// Why.
    pub retired_why: Option<String>,
}

columns!(RowColumns {
    id,
    source_id,
    line,
    position,
    key,
    version,
    cells,
    retired_at_ms,
    retired_why
});

impl Store {
    /// Counts the rows, those that left too.
    pub fn rows_on_record(&self) -> u64 {
        self.conn.query_row("SELECT count(*) FROM row", [], |row| row.get(0)).unwrap_or_default()
    }

    /// Hands over every row, those that left too, until `take` says that it is enough (`false`).
    pub fn each_row(&self, take: &mut dyn FnMut(Taken<RowEvidence>) -> bool) {
        let read = self
            .conn
            .prepare_cached(
                "SELECT id, source_id, line, position, key, version, cells, retired_at_ms, retired_why
                 FROM row ORDER BY id DESC",
            )
            .and_then(|mut query| {
                let columns = RowColumns::of(&query)?;
                let mut rows = query.query([])?;
                while let Some(row) = rows.next()? {
                    let taken = match columns.read(row) {
                        Ok(read) => Taken::Read(read),
                        Err(error) => Taken::Unreadable { id: row.get(columns.id).ok(), why: error.to_string() },
                    };
                    if !take(taken) {
                        break;
                    }
                }
                Ok(())
            });
        if let Err(error) = read {
            take(Taken::Unreadable { id: None, why: error.to_string() });
        }
    }

    /// Returns keys whose versions are not 1, 2, 3 and so on, at most a hundred, with how many they have and the highest.
    pub fn keys_with_gaps(&self) -> Result<Vec<(String, i64, i64)>, StoreError> {
        // Only keys with a row that left can have more than one: the index of those leads.
        self.conn
            .prepare_cached(
                "SELECT key, count(*) AS found, max(version) AS last FROM
                   (SELECT key, version FROM row WHERE retired_at_ms IS NOT NULL
                    UNION ALL
                    SELECT live.key AS key, live.version AS version
                    FROM (SELECT DISTINCT key FROM row WHERE retired_at_ms IS NOT NULL) AS gone
                    JOIN row AS live ON live.key = gone.key AND live.retired_at_ms IS NULL)
                 GROUP BY key HAVING count(*) <> max(version) OR count(DISTINCT version) <> count(*) OR min(version) <> 1
                 LIMIT 100",
            )
            .and_then(|mut query| {
                query.query_map([], |row| Ok((row.get("key")?, row.get("found")?, row.get("last")?)))?.collect()
            })
            .map_err(|error| self.named(error))
    }

    /// Says whether some row, live or not, has this key.
    pub fn has_key(&self, key: &str) -> Result<bool, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM row WHERE key = ?1 AND retired_at_ms IS NULL)
                     OR EXISTS (SELECT 1 FROM row WHERE key = ?1 AND retired_at_ms IS NOT NULL) AS found",
            )
            .and_then(|mut query| query.query_row([key], |row| row.get("found")))
            .map_err(|error| self.named(error))
    }

    /// Says whether some row with this key has a higher version.
    pub fn has_newer_version(&self, (key, version): (&str, i64)) -> Result<bool, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM row WHERE key = ?1 AND version > ?2 AND retired_at_ms IS NULL)
                     OR EXISTS (SELECT 1 FROM row WHERE key = ?1 AND version > ?2 AND retired_at_ms IS NOT NULL) AS found",
            )
            .and_then(|mut query| query.query_row((key, version), |row| row.get("found")))
            .map_err(|error| self.named(error))
    }

    /// Says whether some row with this key, which has left, has a lower version.
    pub fn has_older_version(&self, (key, version): (&str, i64)) -> Result<bool, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM row WHERE key = ?1 AND version < ?2 AND retired_at_ms IS NOT NULL)
                     OR EXISTS (SELECT 1 FROM row WHERE key = ?1 AND version < ?2 AND retired_at_ms IS NULL) AS found",
            )
            .and_then(|mut query| query.query_row((key, version), |row| row.get("found")))
            .map_err(|error| self.named(error))
    }

    /// Returns positions that rows of different keys have, at most a hundred.
    pub fn shared_positions(&self) -> Result<Vec<i64>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT DISTINCT left_row.position AS position FROM row AS left_row
                 JOIN row AS other ON other.position = left_row.position AND other.retired_at_ms IS NULL AND other.key <> left_row.key
                 WHERE left_row.retired_at_ms IS NOT NULL LIMIT 100",
            )
            .and_then(|mut query| query.query_map([], |row| row.get("position"))?.collect())
            .map_err(|error| self.named(error))
    }
}

impl RowColumns {
    fn read(&self, row: &Row<'_>) -> rusqlite::Result<RowEvidence> {
        Ok(RowEvidence {
            id: row.get(self.id)?,
            source_id: row.get(self.source_id)?,
            line: row.get(self.line)?,
            position: row.get(self.position)?,
            key: row.get(self.key)?,
            version: row.get(self.version)?,
            cells: row.get(self.cells)?,
            retired_at_ms: row.get(self.retired_at_ms)?,
            retired_why: row.get(self.retired_why)?,
        })
    }
}
