//! A person's asking for another try.
//!
//! All or nothing: where a name matches no row, no request is moved. Requests that are under way are
//! left alone, for their outcome is still to come. What was bought before stays on record.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::book::Book;
use super::due::state_of;
use super::{Store, StoreError, ledger, trail};
use crate::domain::{RequestId, State, UnixMs};

/// Which requests a person asks to have tried again. Those that match any of it are.
#[derive(Clone, Debug, Default)]
pub struct RetryFilter {
    /// All that failed.
    pub failed: bool,
    /// All that were cut by the token limit.
    pub truncated: bool,
    /// All in doubt.
    pub in_doubt: bool,
    /// All that failed with one of these classes.
    pub classes: Vec<String>,
    /// All of these rows (keys or `#POSITION`), whatever their state.
    pub rows: Vec<String>,
}

/// What came of asking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reopened {
    /// Requests that are due again.
    pub requests: u64,
    /// Of these, requests that had an answer.
    pub answered: u64,
    /// Requests of the named rows that were left alone because an attempt is under way.
    pub under_way: u64,
    /// Of the requests that are due again, those that were cut and may have no more tokens than before.
    pub not_raised: u64,
    /// The highest token limit at which one of those was cut.
    pub cut_at: Option<u32>,
    /// Names that match no row; where there is one, nothing was done.
    pub unknown: Vec<String>,
}

impl Store {
    /// Makes requests due again because a person asks, with another token limit where one is given.
    pub fn retry(
        &mut self,
        filter: &RetryFilter,
        max_tokens: Option<u32>,
        now: UnixMs,
    ) -> Result<Reopened, StoreError> {
        let tx = self.begin()?;
        let done = reopen_all(&tx, filter, max_tokens, now).and_then(|done| {
            if done.unknown.is_empty() {
                tx.commit()?;
            }
            Ok(done)
        });
        done.map_err(|error| self.named(error))
    }
}

/// A request that was asked for.
struct Chosen {
    id: RequestId,
    state: State,
    max_tokens: Option<u32>,
}

fn reopen_all(
    conn: &Connection,
    filter: &RetryFilter,
    max_tokens: Option<u32>,
    now: UnixMs,
) -> rusqlite::Result<Reopened> {
    let mut done = Reopened::default();
    let mut chosen = by_state(conn, filter)?;
    for name in &filter.rows {
        match by_row(conn, name)? {
            Some(requests) => chosen.extend(requests),
            None => done.unknown.push(name.clone()),
        }
    }
    if !done.unknown.is_empty() {
        return Ok(done);
    }
    chosen.sort_unstable_by_key(|chosen| chosen.id);
    chosen.dedup_by_key(|chosen| chosen.id);
    let book = Book::open(conn);
    for request in chosen {
        if matches!(request.state, State::InFlight | State::InBatch) {
            done.under_way += 1;
            continue;
        }
        ledger::reopen(&book, request.id, max_tokens, now)?;
        done.requests += 1;
        done.answered += u64::from(request.state == State::Answered);
        if request.state == State::Truncated && !is_raised(request.max_tokens, max_tokens) {
            done.not_raised += 1;
            done.cut_at = done.cut_at.max(request.max_tokens);
        }
    }
    book.close()?;
    Ok(done)
}

/// Says whether a request that was cut may have more tokens now. A limit of the provider's own is not known.
fn is_raised(cut_at: Option<u32>, asked: Option<u32>) -> bool {
    match (cut_at, asked) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(cut_at), Some(asked)) => asked > cut_at,
    }
}

fn by_state(conn: &Connection, filter: &RetryFilter) -> rusqlite::Result<Vec<Chosen>> {
    let classes = serde_json::Value::from(filter.classes.clone()).to_string();
    conn.prepare_cached(
        "SELECT request.id AS id, state, error_class, max_tokens FROM request
         JOIN prompt ON prompt.id = request.prompt_id AND prompt.retired_at_ms IS NULL
         JOIN row ON row.id = request.row_id AND row.retired_at_ms IS NULL
         WHERE state <> 'answered'
           AND (?1 AND state = 'failed' OR ?2 AND state = 'truncated' OR ?3 AND state = 'in_doubt'
                OR state = 'failed' AND error_class IN (SELECT value FROM json_each(?4)))",
    )?
    .query_map(params![filter.failed, filter.truncated, filter.in_doubt, classes], chosen)?
    .collect()
}

/// Returns the requests of a live row for the live prompts; `None` where there is no such row.
fn by_row(conn: &Connection, name: &str) -> rusqlite::Result<Option<Vec<Chosen>>> {
    let row: Option<i64> = conn
        .prepare_cached(
            "SELECT id FROM row WHERE retired_at_ms IS NULL AND (key = ?1 OR position = ?2)
             ORDER BY key = ?1 DESC LIMIT 1",
        )?
        .query_row(params![name, trail::position(name)], |row| row.get("id"))
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    conn.prepare_cached(
        "SELECT request.id AS id, state, error_class, max_tokens FROM request
         JOIN prompt ON prompt.id = request.prompt_id AND prompt.retired_at_ms IS NULL
         WHERE request.row_id = ?1",
    )?
    .query_map([row], chosen)?
    .collect::<Result<_, _>>()
    .map(Some)
}

fn chosen(row: &Row<'_>) -> rusqlite::Result<Chosen> {
    Ok(Chosen {
        id: RequestId(row.get("id")?),
        state: state_of(row)?,
        max_tokens: row.get("max_tokens")?,
    })
}
