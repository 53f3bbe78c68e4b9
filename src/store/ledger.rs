//! The ledger: promise and settle. Every state that a request has on file is written here.
//!
//! A promise is committed before its socket is opened and settled once. The state of the request is
//! moved by [`crate::machine::request::next`] and by nothing else, in the same transaction as the
//! attempt that moved it. These functions run inside the writer's transaction; they decide nothing
//! about retries, pace or money.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::batches;
use super::book::{Book, Facts, Sums};
use super::codec::Packed;
use super::collect::ResultFile;
use super::due::state_of;
use super::promise::{NewBody, Promise, PromiseFor, Promised, Twin, Way};
use crate::domain::{
    AttemptId, BatchId, DictionaryId, FailureClass, Fingerprint, NanoUsd, Outcome, PromptId,
    RequestId, RowId, State, UnixMs, Usage,
};
use crate::machine::request::{Move, next};

/// How an attempt ended, with its evidence.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Its request.
    pub request: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// Now.
    pub at: UnixMs,
    /// The answer, if it was answered.
    pub answer: Option<String>,
    /// What went wrong, in one line.
    pub error: Option<String>,
    /// The HTTP status, if a reply came.
    pub status_code: Option<u16>,
    /// The provider's id for the request.
    pub provider_request_id: Option<String>,
    /// The model that the provider says it used.
    pub served_model: Option<String>,
    /// The provider's word for why it stopped.
    pub finish_reason: Option<String>,
    /// What the provider counted.
    pub usage: Option<Usage>,
    /// What it cost; `None` where the price is unknown.
    pub cost: Option<NanoUsd>,
    /// The raw reply.
    pub reply: Option<Packed>,
}

impl Settlement {
    /// Makes one with no evidence at all.
    pub fn bare((attempt, request): (AttemptId, RequestId), outcome: Outcome, at: UnixMs) -> Self {
        Self {
            attempt,
            request,
            outcome,
            at,
            answer: None,
            error: None,
            status_code: None,
            provider_request_id: None,
            served_model: None,
            finish_reason: None,
            usage: None,
            cost: None,
            reply: None,
        }
    }
}

/// In which result file of its batch a reply stood, and on which line, counted from 1.
pub(super) type Place = (ResultFile, u64);

/// Records a promise, unless a twin makes it needless.
pub(super) fn promise(book: &Book<'_>, promise: &Promise) -> rusqlite::Result<Promised> {
    match &promise.request {
        PromiseFor::New { row, prompt, body } => promise_new(book, promise, (*row, *prompt, body)),
        PromiseFor::Existing { request, body } => {
            give_body(book, *request, body)?;
            promise_existing(book, promise, (*request, body))
        }
    }
}

/// Most requests are promised the moment they are made, and are written once.
fn promise_new(
    book: &Book<'_>,
    promise: &Promise,
    (row, prompt, body): (RowId, PromptId, &NewBody),
) -> rusqlite::Result<Promised> {
    if promise.reuse && has_twin(book, None, &body.fingerprint)? {
        let request = insert_request(book, (row, prompt, body), None)?;
        book.moved(prompt, None, State::Pending);
        return promise_existing(book, promise, (request, body));
    }
    let state = moved(State::Pending, Move::Promise(promise.way.route()))?;
    let request = book
        .prepare_cached("SELECT coalesce(max(id), 0) + 1 AS next FROM request")?
        .query_row([], |row| row.get("next").map(RequestId))?;
    let (attempt, batch) = insert_attempt(book, promise, (request, 1))?;
    let made = insert_request(
        book,
        (row, prompt, body),
        Some(First { state, attempt, max_tokens: promise.max_tokens }),
    )?;
    if made != request {
        return Err(contradiction("a request got another number than the next"));
    }
    book.moved(prompt, None, state);
    count_promised(book, promise, ((prompt, batch), body.packed.plain_bytes as i64));
    Ok(Promised::Sent { request, attempt, number: 1, batch })
}

fn promise_existing(
    book: &Book<'_>,
    promise: &Promise,
    (request, body): (RequestId, &NewBody),
) -> rusqlite::Result<Promised> {
    let standing = standing(book, request)?;
    if matches!(standing.state, State::InFlight | State::InBatch | State::Answered) {
        return Ok(Promised::Taken { request });
    }
    if promise.reuse {
        match twin(book, request, standing.asked_at_ms, &body.fingerprint)? {
            Some((twin, Some(attempt))) => {
                let state = share(book, request, twin, attempt)?;
                return Ok(Promised::Shared { request, state });
            }
            Some((twin, None)) => return Ok(Promised::Wait { request, twin }),
            None => {}
        }
    }
    let state = moved(standing.state, Move::Release)?;
    let state = moved(state, Move::Promise(promise.way.route()))?;
    let number = standing.attempts + 1;
    // Whoever shared what a twin came to, and its count with it, counts for itself again.
    let used = if standing.is_lent {
        own_attempts_used(book, request, standing.asked_at_ms)?
    } else {
        standing.attempts_used
    };
    let (attempt, batch) = insert_attempt(book, promise, (request, number))?;
    book.prepare_cached(
        "UPDATE request SET state = ?2, error_class = NULL, error = NULL, attempt_id = ?3, attempts = ?4, max_tokens = ?5,
                attempts_used = ?6, is_lent = 0
         WHERE id = ?1",
    )?
    .execute(params![request.0, state.as_str(), attempt.0, number, promise.max_tokens, used])?;
    book.moved(standing.prompt, Some(standing.state), state);
    count_promised(book, promise, ((standing.prompt, batch), standing.body_bytes));
    Ok(Promised::Sent { request, attempt, number, batch })
}

fn insert_attempt(
    book: &Book<'_>,
    promise: &Promise,
    (request, number): (RequestId, u32),
) -> rusqlite::Result<(AttemptId, Option<BatchId>)> {
    let batch = match &promise.way {
        Way::Realtime => None,
        Way::Batch(seat) => Some(batches::id_of(book, &seat.batch, (promise.run, promise.at))?),
    };
    book.prepare_cached(
        "INSERT INTO attempt (request_id, number, run_id, route, max_tokens, body, body_dictionary_id, promised_at_ms, batch_id, reserved_nanousd)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        request.0,
        number,
        promise.run.0,
        promise.way.route().as_str(),
        promise.max_tokens,
        promise.sent_body.as_ref().map(|body| &body.bytes),
        promise.sent_body.as_ref().and_then(|body| body.dictionary).map(|id| id.0),
        promise.at.0,
        batch.map(|batch| batch.0),
        promise.reserved.map(|reserved| reserved.0)
    ])?;
    let attempt = AttemptId(book.last_insert_rowid());
    if let (Way::Batch(seat), Some(batch)) = (&promise.way, batch) {
        batches::seated(book, batch, (seat, attempt));
    }
    Ok((attempt, batch))
}

fn count_promised(
    book: &Book<'_>,
    promise: &Promise,
    ((prompt, batch), body_bytes): ((PromptId, Option<BatchId>), i64),
) {
    let promised = Facts {
        outcome: None,
        usage: None,
        cost: None,
        reserved: promise.reserved,
        max_tokens: promise.max_tokens,
        body_bytes,
    };
    let way = (prompt, batch.map_or(0, |batch| batch.0));
    book.attempted(way, Sums::default(), promised.sums());
}

/// Settles an attempt, with the request's state, sums and error. Returns the state.
pub(super) fn settle(
    book: &Book<'_>,
    settled: &Settlement,
    place: Option<Place>,
) -> rusqlite::Result<State> {
    let before = ground(book, settled)?;
    outcome(book, (settled, place), (Settling::First, before))
}

/// Settles an attempt anew, for which a later line of the same batch brought text after an earlier one told of a
/// failure. Whoever shared the failure shares the text, also where it could not be rendered again since. Returns the
/// state.
pub(super) fn amend(
    book: &Book<'_>,
    settled: &Settlement,
    place: Place,
) -> rusqlite::Result<State> {
    let before = ground(book, settled)?;
    let failed = before.state;
    // One attempt is billed once, so what the failure was said to cost is not counted beside the text.
    book.prepare_cached(
        "UPDATE attempt SET outcome = NULL, settled_at_ms = NULL, error_class = NULL, input_tokens = NULL,
                cached_tokens = NULL, cache_write_tokens = NULL, output_tokens = NULL, reasoning_tokens = NULL,
                cost_nanousd = NULL
         WHERE id = ?1",
    )?
    .execute([settled.attempt.0])?;
    book.prepare_cached(
        "UPDATE request SET (input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost_nanousd) =
                (SELECT coalesce(sum(input_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(output_tokens), 0),
                        coalesce(sum(reasoning_tokens), 0), sum(cost_nanousd) FROM attempt WHERE request_id = ?1)
         WHERE id = ?1",
    )?
    .execute([settled.request.0])?;
    let state = outcome(book, (settled, Some(place)), (Settling::Anew, before))?;
    let class = failed.class().map(FailureClass::as_str);
    let sharing: Vec<i64> = book
        .prepare_cached(
            "SELECT id FROM request
             WHERE attempt_id = ?1 AND is_lent = 1 AND id <> ?2 AND state = 'failed' AND error_class IN (?3, ?4)",
        )?
        .query_map(
            params![
                settled.attempt.0,
                settled.request.0,
                class,
                FailureClass::RenderFailed.as_str()
            ],
            |row| row.get("id"),
        )?
        .collect::<Result<_, _>>()?;
    for request in sharing {
        let state = moved(failed, Move::Amend(settled.outcome))?;
        let twin = Twin { request: settled.request, state };
        let request = RequestId(request);
        let sharing = standing(book, request)?;
        take_over(book, (request, &sharing), (twin, settled.attempt))?;
    }
    Ok(state)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    First,
    Anew,
}

/// What an attempt and its request stand on before the attempt is settled.
struct Ground {
    prompt: PromptId,
    state: State,
    batch: i64,
    facts: Facts,
}

fn ground(book: &Book<'_>, settled: &Settlement) -> rusqlite::Result<Ground> {
    book.prepare_cached(
        "SELECT request.prompt_id AS prompt_id, request.state AS state, request.error_class AS error_class, body_bytes,
                coalesce(batch_id, 0) AS batch_id, outcome, attempt.error_class AS failed_with, attempt.max_tokens AS max_tokens,
                attempt.input_tokens AS input, attempt.cached_tokens AS cached, cache_write_tokens AS cache_write,
                attempt.output_tokens AS output, attempt.reasoning_tokens AS reasoning,
                attempt.cost_nanousd AS cost, reserved_nanousd
         FROM attempt JOIN request ON request.id = attempt.request_id
         WHERE attempt.id = ?1 AND request.id = ?2",
    )?
    .query_row(params![settled.attempt.0, settled.request.0], |row| {
        Ok(Ground {
            prompt: PromptId(row.get("prompt_id")?),
            state: state_of(row)?,
            batch: row.get("batch_id")?,
            facts: facts(row)?,
        })
    })
}

fn facts(row: &Row<'_>) -> rusqlite::Result<Facts> {
    let outcome: Option<String> = row.get("outcome")?;
    let class: Option<String> = row.get("failed_with")?;
    let outcome = match outcome {
        None => None,
        Some(word) => Some(
            Outcome::parse(&word, class.as_deref())
                .ok_or_else(|| rusqlite::Error::InvalidColumnName(format!("outcome {word}")))?,
        ),
    };
    let usage = match row.get::<_, Option<u64>>("input")? {
        None => None,
        Some(input) => Some(Usage {
            input,
            cached: row.get::<_, Option<u64>>("cached")?.unwrap_or_default(),
            cache_write: row.get::<_, Option<u64>>("cache_write")?.unwrap_or_default(),
            output: row.get::<_, Option<u64>>("output")?.unwrap_or_default(),
            reasoning: row.get::<_, Option<u64>>("reasoning")?.unwrap_or_default(),
        }),
    };
    Ok(Facts {
        outcome,
        usage,
        cost: row.get::<_, Option<i64>>("cost")?.map(NanoUsd),
        reserved: row.get::<_, Option<i64>>("reserved_nanousd")?.map(NanoUsd),
        max_tokens: row.get("max_tokens")?,
        body_bytes: row.get::<_, Option<i64>>("body_bytes")?.unwrap_or_default(),
    })
}

fn outcome(
    book: &Book<'_>,
    (settled, place): (&Settlement, Option<Place>),
    (settling, before): (Settling, Ground),
) -> rusqlite::Result<State> {
    let class = match settled.outcome {
        Outcome::Failed(class) => Some(class),
        Outcome::Answered | Outcome::Truncated | Outcome::InDoubt => None,
    };
    let usage = settled.usage;
    let changed = book
        .prepare_cached(
            "UPDATE attempt SET settled_at_ms = ?2, outcome = ?3, error_class = ?4, error = ?5, status_code = ?6,
                    provider_request_id = ?7, served_model = ?8, finish_reason = ?9, input_tokens = ?10,
                    cached_tokens = ?11, output_tokens = ?12, reasoning_tokens = ?13, cost_nanousd = ?14,
                    answer = ?15, reply = ?16, reply_dictionary_id = ?17, reply_bytes = ?18, cache_write_tokens = ?19,
                    result_file = ?20, result_line = ?21
             WHERE id = ?1 AND outcome IS NULL",
        )?
        .execute(params![
            settled.attempt.0,
            settled.at.0,
            settled.outcome.as_str(),
            class.map(FailureClass::as_str),
            settled.error,
            settled.status_code,
            settled.provider_request_id,
            settled.served_model,
            settled.finish_reason,
            usage.map(|usage| usage.input as i64),
            usage.map(|usage| usage.cached as i64),
            usage.map(|usage| usage.output as i64),
            usage.map(|usage| usage.reasoning as i64),
            settled.cost.map(|cost| cost.0),
            settled.answer,
            settled.reply.as_ref().map(|reply| &reply.bytes),
            settled.reply.as_ref().and_then(|reply| reply.dictionary).map(|id| id.0),
            settled.reply.as_ref().map(|reply| reply.plain_bytes as i64),
            usage.map(|usage| usage.cache_write as i64),
            place.map(|(file, _)| file.as_str()),
            place.map(|(_, number)| number as i64),
        ])?;
    if changed != 1 {
        return Err(contradiction("an attempt was settled twice"));
    }
    let (event, given_back) = match settling {
        Settling::First => (Move::Settle(settled.outcome), false),
        Settling::Anew => {
            let used = before.state.class().is_some_and(FailureClass::uses_attempt);
            (Move::Amend(settled.outcome), used)
        }
    };
    let state = moved(before.state, event)?;
    book.moved(before.prompt, Some(before.state), state);
    let after = Facts { outcome: Some(settled.outcome), usage, cost: settled.cost, ..before.facts };
    book.attempted((before.prompt, before.batch), before.facts.sums(), after.sums());
    let usage = usage.unwrap_or_default();
    book.prepare_cached(
        "UPDATE request SET state = ?2, error_class = ?3, error = ?4, attempts_used = max(attempts_used + ?5, 0),
                input_tokens = input_tokens + ?6, cached_tokens = cached_tokens + ?7,
                output_tokens = output_tokens + ?8, reasoning_tokens = reasoning_tokens + ?9,
                cost_nanousd = CASE WHEN ?10 IS NULL THEN cost_nanousd ELSE coalesce(cost_nanousd, 0) + ?10 END
         WHERE id = ?1",
    )?
    .execute(params![
        settled.request.0,
        state.as_str(),
        class.map(FailureClass::as_str),
        class.and(settled.error.as_ref()),
        i64::from(class.is_some_and(FailureClass::uses_attempt)) - i64::from(given_back),
        usage.input as i64,
        usage.cached as i64,
        usage.output as i64,
        usage.reasoning as i64,
        settled.cost.map(|cost| cost.0),
    ])?;
    Ok(state)
}

/// Lets a request share what another one with the same body came to. Returns its state.
pub(super) fn share(
    book: &Book<'_>,
    request: RequestId,
    twin: Twin,
    attempt: AttemptId,
) -> rusqlite::Result<State> {
    let outcome = match twin.state {
        State::Answered => Outcome::Answered,
        State::Truncated => Outcome::Truncated,
        State::Failed(class) if class != FailureClass::RenderFailed => Outcome::Failed(class),
        State::Pending | State::InFlight | State::InBatch | State::InDoubt | State::Failed(_) => {
            return Err(contradiction("a reply was shared that is not there"));
        }
    };
    let own: bool = book
        .prepare_cached("SELECT request_id = ?2 AS own FROM attempt WHERE id = ?1")?
        .query_row(params![attempt.0, request.0], |row| row.get("own"))?;
    if own {
        return Err(contradiction("a request cannot be lent its own attempt"));
    }
    let standing = standing(book, request)?;
    let state = moved(standing.state, Move::Release)?;
    let state = moved(state, Move::Share(outcome))?;
    take_over(book, (request, &standing), (Twin { state, ..twin }, attempt))?;
    Ok(state)
}

fn take_over(
    book: &Book<'_>,
    (request, standing): (RequestId, &Standing),
    (twin, attempt): (Twin, AttemptId),
) -> rusqlite::Result<()> {
    book.prepare_cached(
        "UPDATE request SET state = ?2, error_class = ?3, attempt_id = ?4, is_lent = 1,
                error = (SELECT twin.error FROM request AS twin WHERE twin.id = ?5),
                attempts_used = (SELECT twin.attempts_used FROM request AS twin WHERE twin.id = ?5),
                max_tokens = (SELECT twin.max_tokens FROM request AS twin WHERE twin.id = ?5)
         WHERE id = ?1",
    )?
    .execute(params![
        request.0,
        twin.state.as_str(),
        twin.state.class().map(FailureClass::as_str),
        attempt.0,
        twin.request.0
    ])?;
    book.moved(standing.prompt, Some(standing.state), twin.state);
    Ok(())
}

/// Lets a request share what its twin has come to by now.
pub(super) fn share_now(
    book: &Book<'_>,
    request: RequestId,
    twin: RequestId,
) -> rusqlite::Result<State> {
    let (state, attempt) = book
        .prepare_cached("SELECT state, error_class, attempt_id FROM request WHERE id = ?1")?
        .query_row([twin.0], |row| {
            Ok((state_of(row)?, row.get::<_, Option<i64>>("attempt_id")?))
        })?;
    let attempt = attempt.ok_or_else(|| contradiction("a shared request has no attempt"))?;
    share(book, request, Twin { request: twin, state }, AttemptId(attempt))
}

/// Records that a row's request could not be made.
pub(super) fn not_rendered(
    book: &Book<'_>,
    (row, prompt): (RowId, PromptId),
    existing: Option<RequestId>,
    error: &str,
) -> rusqlite::Result<RequestId> {
    let request = if let Some(request) = existing {
        request
    } else {
        book.moved(prompt, None, State::Pending);
        insert_bare(book, row, prompt)?
    };
    let standing = standing(book, request)?;
    let state = moved(standing.state, Move::Release)?;
    let state = moved(state, Move::NotRendered)?;
    book.moved(standing.prompt, Some(standing.state), state);
    book.prepare_cached(
        "UPDATE request SET state = ?2, error_class = ?3, error = ?4 WHERE id = ?1",
    )?
    .execute(params![
        request.0,
        state.as_str(),
        state.class().map(FailureClass::as_str),
        error
    ])?;
    Ok(request)
}

/// Records that a prompt's server takes no JSON Schema.
pub(super) fn ask_in_words(
    conn: &Connection,
    prompt: PromptId,
    at: UnixMs,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE prompt SET in_words_from_ms = ?2 WHERE id = ?1 AND in_words_from_ms IS NULL",
    )?
    .execute(params![prompt.0, at.0])?;
    Ok(())
}

/// Records up to which row no live one is without a request for a prompt. What is on record is never lowered by it.
pub(super) fn asked_upto(conn: &Connection, prompt: PromptId, row: RowId) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE prompt SET asked_upto = max(asked_upto, ?2) WHERE id = ?1")?
        .execute(params![prompt.0, row.0])?;
    Ok(())
}

/// Records a dictionary.
pub(super) fn dictionary(
    conn: &Connection,
    prompt: PromptId,
    kind: &str,
    bytes: &[u8],
) -> rusqlite::Result<DictionaryId> {
    conn.prepare_cached("INSERT INTO dictionary (prompt_id, kind, bytes) VALUES (?1, ?2, ?3)")?
        .execute(params![prompt.0, kind, bytes])?;
    Ok(DictionaryId(conn.last_insert_rowid()))
}

/// Moves a request back to pending because a person asks; from then on its attempts count anew.
pub(super) fn reopen(
    book: &Book<'_>,
    request: RequestId,
    max_tokens: Option<u32>,
    now: UnixMs,
) -> rusqlite::Result<State> {
    let standing = standing(book, request)?;
    let state = moved(standing.state, Move::Ask)?;
    book.moved(standing.prompt, Some(standing.state), state);
    book.prepare_cached(
        "UPDATE request SET state = ?2, error_class = NULL, error = NULL, attempts_used = 0,
                asked_at_ms = ?3, max_tokens = coalesce(?4, max_tokens)
         WHERE id = ?1",
    )?
    .execute(params![request.0, state.as_str(), now.0, max_tokens])?;
    Ok(state)
}

struct Standing {
    prompt: PromptId,
    state: State,
    attempts: u32,
    attempts_used: u32,
    asked_at_ms: Option<i64>,
    body_bytes: i64,
    /// Whether the state stands on another request's attempt.
    is_lent: bool,
}

fn standing(conn: &Connection, request: RequestId) -> rusqlite::Result<Standing> {
    conn.prepare_cached(
        "SELECT prompt_id, state, error_class, attempts, attempts_used, asked_at_ms, coalesce(body_bytes, 0) AS body_bytes, is_lent
         FROM request WHERE id = ?1",
    )?
    .query_row([request.0], |row| {
        Ok(Standing {
            prompt: PromptId(row.get("prompt_id")?),
            state: state_of(row)?,
            attempts: row.get("attempts")?,
            attempts_used: row.get("attempts_used")?,
            asked_at_ms: row.get("asked_at_ms")?,
            body_bytes: row.get("body_bytes")?,
            is_lent: row.get("is_lent")?,
        })
    })
}

/// Counts the attempts of its own that count, since a person last asked for it.
fn own_attempts_used(
    conn: &Connection,
    request: RequestId,
    asked_at_ms: Option<i64>,
) -> rusqlite::Result<u32> {
    let mut query = conn.prepare_cached(
        "SELECT error_class FROM attempt
         WHERE request_id = ?1 AND error_class IS NOT NULL AND (?2 IS NULL OR promised_at_ms > ?2)",
    )?;
    let classes = query.query_map(params![request.0, asked_at_ms], |row| row.get("error_class"))?;
    let mut used = 0;
    for class in classes {
        let class: String = class?;
        used += u32::from(FailureClass::parse(&class).is_some_and(FailureClass::uses_attempt));
    }
    Ok(used)
}

/// What a request that is promised as it is made starts with.
struct First {
    state: State,
    attempt: AttemptId,
    max_tokens: Option<u32>,
}

fn insert_request(
    conn: &Connection,
    (row, prompt, body): (RowId, PromptId, &NewBody),
    first: Option<First>,
) -> rusqlite::Result<RequestId> {
    let state = first.as_ref().map_or(State::Pending, |first| first.state);
    conn.prepare_cached(
        "INSERT INTO request (prompt_id, row_id, sample, fingerprint, body, body_dictionary_id, body_bytes, state, attempt_id,
                              attempts, max_tokens)
         VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        prompt.0,
        row.0,
        body.fingerprint.0,
        body.packed.bytes,
        body.packed.dictionary.map(|id| id.0),
        body.packed.plain_bytes as i64,
        state.as_str(),
        first.as_ref().map(|first| first.attempt.0),
        i64::from(first.is_some()),
        first.and_then(|first| first.max_tokens),
    ])?;
    Ok(RequestId(conn.last_insert_rowid()))
}

fn insert_bare(conn: &Connection, row: RowId, prompt: PromptId) -> rusqlite::Result<RequestId> {
    conn.prepare_cached(
        "INSERT INTO request (prompt_id, row_id, sample, state) VALUES (?1, ?2, 1, 'pending')",
    )?
    .execute(params![prompt.0, row.0])?;
    Ok(RequestId(conn.last_insert_rowid()))
}

/// A request that could not be rendered once may be renderable now; a body on record never changes.
fn give_body(conn: &Connection, request: RequestId, body: &NewBody) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE request SET fingerprint = ?2, body = ?3, body_dictionary_id = ?4, body_bytes = ?5
         WHERE id = ?1 AND body IS NULL",
    )?
    .execute(params![
        request.0,
        body.fingerprint.0,
        body.packed.bytes,
        body.packed.dictionary.map(|id| id.0),
        body.packed.plain_bytes as i64
    ])?;
    Ok(())
}

/// Finds a request with the same body at the same model that makes this one's call needless, with the
/// attempt to share; without one it is still under way. A person who asked anew gets only a reply
/// that is newer than their asking.
fn twin(
    conn: &Connection,
    request: RequestId,
    asked_at_ms: Option<i64>,
    fingerprint: &Fingerprint,
) -> rusqlite::Result<Option<(Twin, Option<AttemptId>)>> {
    if !has_twin(conn, Some(request), fingerprint)? {
        return Ok(None);
    }
    conn.prepare_cached(
        "SELECT twin.id AS id, twin.state AS state, twin.error_class AS error_class, twin.attempt_id AS attempt_id
         FROM request AS mine
         JOIN prompt AS my_prompt ON my_prompt.id = mine.prompt_id
         JOIN request AS twin ON substr(twin.fingerprint, 1, 8) = substr(?2, 1, 8) AND twin.fingerprint = ?2
              AND twin.fingerprint IS NOT NULL AND twin.id <> mine.id AND twin.sample = mine.sample
         JOIN prompt ON prompt.id = twin.prompt_id AND prompt.model = my_prompt.model AND prompt.endpoint = my_prompt.endpoint
         LEFT JOIN attempt ON attempt.id = twin.attempt_id
         WHERE mine.id = ?1
           AND (twin.state IN ('in_flight', 'in_batch')
                OR (twin.state = 'answered' OR twin.error_class IN ('invalid_request', 'context_too_long', 'request_too_large',
                                                                    'content_filtered', 'refused'))
                   AND attempt.settled_at_ms >= coalesce(?3, 0) AND attempt.request_id <> mine.id)
         ORDER BY twin.state = 'answered' DESC, twin.state IN ('in_flight', 'in_batch') DESC, twin.id LIMIT 1",
    )?
    .query_row(params![request.0, fingerprint.0, asked_at_ms], found_twin)
    .optional()
}

/// Says whether any other request has the same body: most have none, and to find the right one takes sorting.
fn has_twin(
    conn: &Connection,
    request: Option<RequestId>,
    fingerprint: &Fingerprint,
) -> rusqlite::Result<bool> {
    conn.prepare_cached(
        "SELECT 1 FROM request WHERE substr(fingerprint, 1, 8) = substr(?1, 1, 8) AND fingerprint = ?1
            AND fingerprint IS NOT NULL AND id IS NOT ?2",
    )?
    .exists(params![fingerprint.0, request.map(|request| request.0)])
}

fn found_twin(row: &Row<'_>) -> rusqlite::Result<(Twin, Option<AttemptId>)> {
    let state = state_of(row)?;
    let attempt: Option<i64> = row.get("attempt_id")?;
    let is_done = match state {
        State::Answered | State::Failed(_) | State::Truncated => true,
        State::Pending | State::InFlight | State::InBatch | State::InDoubt => false,
    };
    let twin = Twin { request: RequestId(row.get("id")?), state };
    Ok((twin, attempt.filter(|_| is_done).map(AttemptId)))
}

fn moved(state: State, event: Move) -> rusqlite::Result<State> {
    next(state, event).map_err(|illegal| contradiction(&illegal.to_string()))
}

pub(super) fn contradiction(what: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidParameterName(what.to_owned())
}
