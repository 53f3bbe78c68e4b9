//! What a crash left: realtime attempts that were promised and have no outcome.
//!
//! Only the run that holds the project's lock may call this: for it, whoever made those promises is gone.

use rusqlite::params;

use super::book::Book;
use super::ledger::{self, Settlement};
use super::{Store, StoreError};
use crate::domain::{AttemptId, Outcome, RequestId, UnixMs};

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Attempts that may have been sent and have no reply on file, newly put in doubt.
    pub newly_in_doubt: u64,
}

impl Store {
    /// Settles every realtime promise without an outcome as in doubt.
    pub fn recover(&mut self, now: UnixMs) -> Result<Recovered, StoreError> {
        let tx = self.begin()?;
        let found = settle_open(&tx, now).and_then(|found| tx.commit().map(|()| found));
        found.map_err(|error| self.named(error))
    }
}

fn settle_open(conn: &rusqlite::Connection, now: UnixMs) -> rusqlite::Result<Recovered> {
    let open: Vec<(i64, i64)> = conn
        .prepare_cached(
            "SELECT id, request_id FROM attempt WHERE outcome IS NULL AND route = 'realtime'",
        )?
        .query_map(params![], |row| Ok((row.get("id")?, row.get("request_id")?)))?
        .collect::<Result<_, _>>()?;
    let book = Book::open(conn);
    for (attempt, request) in &open {
        let of = (AttemptId(*attempt), RequestId(*request));
        ledger::settle(&book, &Settlement::bare(of, Outcome::InDoubt, now), None)?;
    }
    book.close()?;
    Ok(Recovered { newly_in_doubt: open.len() as u64 })
}
