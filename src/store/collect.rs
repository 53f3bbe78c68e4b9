//! What a batch's results bring, line by line. Idempotent: reading a file again changes nothing.
//!
//! Every line is kept. One that settles an attempt is that attempt's reply; one that cannot be read,
//! belongs to no attempt of the batch, or comes second, is put with the strays. A request that is
//! answered by a later line after an earlier one told of a failure is answered: it was paid for.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::book::Book;
use super::codec::{Packed, Unpacker};
use super::ledger::{self, Settlement};
use super::{Codec, Store, StoreError};
use crate::domain::{
    AttemptId, BatchId, FailureClass, NanoUsd, Outcome, PromptId, RequestId, State, UnixMs,
};
use crate::machine::budget::{Silence, bill_of_silence};

/// Which of a batch's two result files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultFile {
    /// Of the good results, mostly.
    Output,
    /// Of the failed ones, mostly.
    Error,
}

impl ResultFile {
    /// Returns its word in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Error => "error",
        }
    }
}

/// Why a line settles no attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// It cannot be read.
    Garbled,
    /// It is for no attempt of this batch.
    Unknown,
    /// Its attempt has its line already.
    Doubled,
}

impl Stray {
    /// Returns its word in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Garbled => "garbled",
            Self::Unknown => "unknown",
            Self::Doubled => "doubled",
        }
    }
}

/// One line of a result file.
#[derive(Clone, Debug)]
pub struct ResultLine {
    /// In which file.
    pub file: ResultFile,
    /// Its number there, from 1.
    pub number: u64,
    /// What it is.
    pub kind: LineKind,
}

/// What a line of a result file is.
#[derive(Clone, Debug)]
pub enum LineKind {
    /// It settles an attempt. Its settlement holds the raw line as the reply.
    Settles(Box<Settlement>),
    /// It does not.
    Stray(Stray, Packed),
}

/// What became of an attempt by a line, or by the lack of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineSettled {
    /// Which line of those handed in; for the lack of one, its place in the list returned.
    pub index: usize,
    /// Whose it is.
    pub owner: LineOwner,
    /// The request's state now.
    pub state: State,
    /// Attempts of the request that count against its bound.
    pub attempts_used: u32,
    /// Whether its row still stands in the table.
    pub is_live: bool,
    /// What the attempt counted for in the budget before, and what it counts for now.
    pub counted: (NanoUsd, NanoUsd),
}

/// An attempt that a line is for, as far as reading the line needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineOwner {
    /// Its request.
    pub request: RequestId,
    /// Its prompt.
    pub prompt: PromptId,
    /// The position of its row, from 1.
    pub position: i64,
    /// The attempt's number, from 1.
    pub number: u32,
    /// The token limit that it was sent with.
    pub max_tokens: Option<u32>,
    /// Whether its body asked for the form of the answer in words, a schema having been refused before.
    pub is_in_words: bool,
}

/// Puts lines on record. Returns what became of the requests that they moved.
pub(super) fn lines(
    book: &Book<'_>,
    batch: BatchId,
    (lines, at): (&[ResultLine], UnixMs),
) -> rusqlite::Result<Vec<LineSettled>> {
    let mut moved = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        match &line.kind {
            LineKind::Stray(why, raw) => stray(book, batch, (line, *why, raw), at)?,
            LineKind::Settles(settlement) => {
                if let Some((state, before)) = settle(book, batch, (line, settlement))? {
                    moved
                        .push(LineSettled { index, ..settled(book, settlement, (state, before))? });
                }
            }
        }
    }
    Ok(moved)
}

/// Settles up to `limit` attempts of a batch that got no line.
pub(super) fn missing(
    book: &Book<'_>,
    batch: BatchId,
    ((class, error), limit, at): ((FailureClass, &str), u32, UnixMs),
) -> rusqlite::Result<Vec<LineSettled>> {
    let open: Vec<(i64, i64, NanoUsd)> = book
        .prepare_cached(
            "SELECT id, request_id, coalesce(reserved_nanousd, 0) AS counted FROM attempt
             WHERE batch_id = ?1 AND outcome IS NULL ORDER BY id LIMIT ?2",
        )?
        .query_map(params![batch.0, limit], |row| {
            Ok((row.get("id")?, row.get("request_id")?, NanoUsd(row.get("counted")?)))
        })?
        .collect::<Result<_, _>>()?;
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let cost = bill_of_silence(silence(book, batch)?);
    let mut moved = Vec::with_capacity(open.len());
    for (index, (attempt, request, before)) in open.into_iter().enumerate() {
        let settlement = Settlement {
            error: Some(error.to_owned()),
            cost,
            ..Settlement::bare((AttemptId(attempt), RequestId(request)), Outcome::Failed(class), at)
        };
        let state = ledger::settle(book, &settlement, None)?;
        moved.push(LineSettled { index, ..settled(book, &settlement, (state, before))? });
    }
    Ok(moved)
}

/// Gathers what is known of a batch that left requests without a line. The lines are counted only where that can tell.
fn silence(conn: &Connection, batch: BatchId) -> rusqlite::Result<Silence> {
    let told = conn
        .prepare_cached(
            "SELECT provider_id IS NOT NULL AS was_created, output_file_id IS NOT NULL AS has_output,
                    ended IS 'failed' AS failed, completed_requests, failed_requests
             FROM batch WHERE id = ?1",
        )?
        .query_row([batch.0], |row| {
            let completed: Option<u64> = row.get("completed_requests")?;
            Ok(Silence {
                was_created: row.get("was_created")?,
                has_output: row.get("has_output")?,
                failed: row.get("failed")?,
                counts: completed.zip(row.get("failed_requests")?),
                lines: (0, 0),
            })
        })?;
    if bill_of_silence(told).is_some() && !told.has_output || told.counts.is_none() {
        return Ok(told);
    }
    let lines = conn
        .prepare_cached(
            "SELECT coalesce(sum(outcome IN ('answered', 'truncated') OR input_tokens IS NOT NULL), 0) AS done,
                    coalesce(sum(outcome = 'failed' AND input_tokens IS NULL AND reply_bytes IS NOT NULL), 0) AS failed
             FROM attempt WHERE batch_id = ?1",
        )?
        .query_row([batch.0], |row| Ok((row.get("done")?, row.get("failed")?)))?;
    Ok(Silence { lines, ..told })
}

fn settled(
    conn: &Connection,
    settlement: &Settlement,
    (state, before): (State, NanoUsd),
) -> rusqlite::Result<LineSettled> {
    conn.prepare_cached(
        "SELECT request_id, prompt_id, position, attempt.number AS number, attempt.max_tokens AS max_tokens, attempts_used,
                coalesce(attempt.cost_nanousd, reserved_nanousd, 0) AS counted,
                coalesce(promised_at_ms >= in_words_from_ms, 0) AS is_in_words, row.retired_at_ms IS NULL AS is_live
         FROM attempt JOIN request ON request.id = attempt.request_id JOIN row ON row.id = request.row_id
         JOIN prompt ON prompt.id = request.prompt_id
         WHERE attempt.id = ?1",
    )?
    .query_row([settlement.attempt.0], |row| {
        Ok(LineSettled {
            index: 0,
            owner: owner(row)?,
            state,
            attempts_used: row.get("attempts_used")?,
            is_live: row.get("is_live")?,
            counted: (before, NanoUsd(row.get("counted")?)),
        })
    })
}

fn owner(row: &Row<'_>) -> rusqlite::Result<LineOwner> {
    Ok(LineOwner {
        request: RequestId(row.get("request_id")?),
        prompt: PromptId(row.get("prompt_id")?),
        position: row.get("position")?,
        number: row.get("number")?,
        max_tokens: row.get("max_tokens")?,
        is_in_words: row.get("is_in_words")?,
    })
}

/// What is on record of the attempt that a line is for.
struct Standing {
    outcome: Option<String>,
    /// What it counts for in the budget.
    counted: NanoUsd,
    place: Option<(String, u64)>,
    /// Whether the request still stands as this attempt left it.
    decides: bool,
}

fn settle(
    book: &Book<'_>,
    batch: BatchId,
    (line, settlement): (&ResultLine, &Settlement),
) -> rusqlite::Result<Option<(State, NanoUsd)>> {
    let standing = book
        .prepare_cached(
            "SELECT outcome, result_file, result_line, coalesce(cost_nanousd, reserved_nanousd, 0) AS counted,
                    EXISTS (SELECT 1 FROM request WHERE request.id = attempt.request_id AND request.attempt_id = attempt.id
                                                        AND request.error_class = attempt.error_class) AS decides
             FROM attempt WHERE id = ?1 AND batch_id = ?2",
        )?
        .query_row([settlement.attempt.0, batch.0], |row| {
            let file: Option<String> = row.get("result_file")?;
            let number: Option<u64> = row.get("result_line")?;
            Ok(Standing {
                outcome: row.get("outcome")?,
                counted: NanoUsd(row.get("counted")?),
                place: file.zip(number),
                decides: row.get("decides")?,
            })
        })
        .optional()?;
    let raw = settlement.reply.as_ref();
    let Some(standing) = standing else {
        if let Some(raw) = raw {
            stray(book, batch, (line, Stray::Unknown, raw), settlement.at)?;
        }
        return Ok(None);
    };
    let is_read_again = standing
        .place
        .as_ref()
        .is_some_and(|(file, number)| file == line.file.as_str() && *number == line.number);
    let state = match standing.outcome.as_deref() {
        _ if is_read_again => return Ok(None),
        None => ledger::settle(book, settlement, Some((line.file, line.number)))?,
        Some("failed") if standing.decides && settlement.outcome.has_text() => {
            keep_replaced(book, (batch, settlement.attempt), settlement.at)?;
            ledger::amend(book, settlement, (line.file, line.number))?
        }
        Some(_) => {
            if let Some(raw) = raw {
                stray(book, batch, (line, Stray::Doubled, raw), settlement.at)?;
            }
            return Ok(None);
        }
    };
    Ok(Some((state, standing.counted)))
}

/// Puts the line that an attempt had before a better one came with the strays.
fn keep_replaced(
    conn: &Connection,
    (batch, attempt): (BatchId, AttemptId),
    at: UnixMs,
) -> rusqlite::Result<()> {
    let found = conn
        .prepare_cached(
            "SELECT result_file, result_line, reply, reply_dictionary_id, reply_bytes FROM attempt
             WHERE id = ?1 AND result_line IS NOT NULL AND reply IS NOT NULL",
        )?
        .query_row([attempt.0], |row| {
            let packed: (Vec<u8>, Option<i64>, usize) =
                (row.get("reply")?, row.get("reply_dictionary_id")?, row.get("reply_bytes")?);
            Ok((row.get::<_, String>("result_file")?, row.get::<_, u64>("result_line")?, packed))
        })
        .optional()?;
    let Some((file, number, (bytes, dictionary, size))) = found else { return Ok(()) };
    let raw = Unpacker::new(conn)
        .unpack(&bytes, dictionary, size)
        .and_then(|plain| Codec::plain().pack(&plain))
        .map_err(|error| ledger::contradiction(&error.to_string()))?;
    insert_stray(conn, batch, ((&file, number), Stray::Doubled, &raw), at)
}

fn stray(
    conn: &Connection,
    batch: BatchId,
    (line, why, raw): (&ResultLine, Stray, &Packed),
    at: UnixMs,
) -> rusqlite::Result<()> {
    insert_stray(conn, batch, ((line.file.as_str(), line.number), why, raw), at)
}

/// A file that is read again brings its strays again; they are there already. Strays are packed
/// without a dictionary, so each stands for itself.
fn insert_stray(
    conn: &Connection,
    batch: BatchId,
    ((file, number), why, raw): ((&str, u64), Stray, &Packed),
    at: UnixMs,
) -> rusqlite::Result<()> {
    let plain = match raw.dictionary {
        None => None,
        Some(dictionary) => Some(
            Unpacker::new(conn)
                .unpack(&raw.bytes, Some(dictionary.0), raw.plain_bytes)
                .and_then(|plain| Codec::plain().pack(&plain))
                .map_err(|error| ledger::contradiction(&error.to_string()))?,
        ),
    };
    let raw = plain.as_ref().unwrap_or(raw);
    conn.prepare_cached(
        "INSERT OR IGNORE INTO stray_line (batch_id, file, number, why, reply, reply_bytes, found_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        batch.0,
        file,
        number as i64,
        why.as_str(),
        raw.bytes,
        raw.plain_bytes as i64,
        at.0
    ])?;
    Ok(())
}

impl Store {
    /// Finds what reading a line for an attempt of this batch needs.
    pub fn line_owner(
        &self,
        batch: BatchId,
        attempt: AttemptId,
    ) -> Result<Option<LineOwner>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT request_id, prompt_id, position, attempt.number AS number, attempt.max_tokens AS max_tokens,
                        coalesce(promised_at_ms >= in_words_from_ms, 0) AS is_in_words
                 FROM attempt JOIN request ON request.id = attempt.request_id JOIN row ON row.id = request.row_id
                 JOIN prompt ON prompt.id = request.prompt_id
                 WHERE attempt.id = ?1 AND attempt.batch_id = ?2",
            )
            .and_then(|mut query| {
                query.query_row([attempt.0, batch.0], owner).optional()
            })
            .map_err(|error| self.named(error))
    }
}
