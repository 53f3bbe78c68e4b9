//! Evidence: the record as it stands, handed over piece by piece to whoever checks it.
//!
//! Nothing is believed here. What cannot be read is handed over as such, with where it stands, and the
//! reading goes on behind it: a damaged file must say all that it can. Everything comes out of one
//! read transaction ([`Store::freeze`]), so a run that goes on meanwhile contradicts nothing. Tables
//! that grow with the rows are streamed; nothing here keeps more than one row of them.

mod batches;
mod file;
mod requests;
mod rows;
mod small;
mod sums;

pub use batches::{BatchEvidence, StatusEvidence, StrayEvidence};
pub use file::{FileProblem, Gap};
pub use requests::{AttemptEvidence, LentEvidence, RequestEvidence};
pub use rows::RowEvidence;
pub use small::{
    DictionaryEvidence, MigrationEvidence, ProjectEvidence, PromptEvidence, RunEvidence,
    SourceEvidence,
};
pub use sums::{BoughtTwice, WrongSum};

use super::{Store, StoreError};

/// A frame as it stands on record.
#[derive(Clone, Debug, Default)]
pub struct PackedEvidence {
    /// The frame.
    pub bytes: Vec<u8>,
    /// The dictionary that it names.
    pub dictionary: Option<i64>,
    /// The size on record of what was packed, where one is kept.
    pub plain_bytes: Option<i64>,
}

/// A row of a table, or the reason why it cannot be read.
#[derive(Debug)]
pub enum Taken<T> {
    /// It was read.
    Read(T),
    /// It cannot be read.
    Unreadable {
        /// Its id, if that can be read.
        id: Option<i64>,
        /// Why.
        why: String,
    },
}

impl Store {
    /// Starts the one read transaction in which all evidence is read.
    pub fn freeze(&self) -> Result<(), StoreError> {
        self.conn
            .execute_batch("BEGIN")
            // The snapshot is taken at the first read.
            .and_then(|()| self.conn.query_row("SELECT count(*) FROM project", [], |_| Ok(())))
            .map_err(|error| self.named(error))
    }
}

/// Finds the numbers of columns once a statement, by their names.
macro_rules! columns {
    ($name:ident { $($column:ident),+ $(,)? }) => {
        struct $name { $($column: usize),+ }

        impl $name {
            fn of(statement: &rusqlite::Statement<'_>) -> rusqlite::Result<Self> {
                Ok(Self { $($column: statement.column_index(stringify!($column))?),+ })
            }
        }
    };
}
use columns;

/// Hands over the rows of a small table.
fn all<T>(
    store: &Store,
    sql: &str,
    mut read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<Taken<T>> {
    let mut taken = Vec::new();
    let each = store.conn.prepare(sql).and_then(|mut query| {
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            taken.push(match read(row) {
                Ok(read) => Taken::Read(read),
                Err(error) => Taken::Unreadable { id: row.get(0).ok(), why: error.to_string() },
            });
        }
        Ok(())
    });
    if let Err(error) = each {
        taken.push(Taken::Unreadable { id: None, why: error.to_string() });
    }
    taken
}
