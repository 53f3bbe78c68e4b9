//! Requests with their attempts, in the order of their ids: two cursors, joined as they go.

use rusqlite::{OptionalExtension, Row};

use super::{PackedEvidence, Taken, columns};
use crate::store::Store;

/// A request on record, with its row and its attempts.
#[derive(Clone, Debug, Default)]
pub struct RequestEvidence {
    /// Its id.
    pub id: i64,
    /// Its row.
    pub row_id: i64,
    /// Its prompt.
    pub prompt_id: i64,
    /// Its number among those of its row and prompt.
    pub sample: i64,
    /// SHA-256 of its body.
    pub fingerprint: Option<Vec<u8>>,
    /// Its body.
    pub body: Option<PackedEvidence>,
    /// Its state.
    pub state: String,
    /// The class of its failure.
    pub error_class: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// The attempt that its state stands on.
    pub attempt_id: Option<i64>,
    /// How many attempts it has had.
    pub attempts: i64,
    /// How many of them count.
    pub attempts_used: i64,
    /// Its token limit.
    pub max_tokens: Option<i64>,
    /// When a person last asked for it.
    pub asked_at_ms: Option<i64>,
    /// Input, cached, output and reasoning tokens.
    pub tokens: [i64; 4],
    /// What it cost.
    pub cost_nanousd: Option<i64>,
    /// The position of its row.
    pub position: Option<i64>,
    /// The key of its row.
    pub key: Option<String>,
    /// The cells of its row.
    pub cells: Option<String>,
    /// Its attempts, in the order of their numbers.
    pub tries: Vec<AttemptEvidence>,
    /// The attempt that it shares, where its state stands on another request's.
    pub lent: Option<LentEvidence>,
    /// Whether it is marked as standing on another request's attempt.
    pub is_lent: i64,
    /// Whether a size or a dictionary is on record without a body, or a body without its size.
    pub is_loose: bool,
}

/// An attempt on record.
#[derive(Clone, Debug, Default)]
pub struct AttemptEvidence {
    /// Its id.
    pub id: i64,
    /// Its request.
    pub request_id: i64,
    /// Its number.
    pub number: i64,
    /// The run that made it.
    pub run_id: i64,
    /// By which way it went.
    pub route: String,
    /// Its batch.
    pub batch_id: Option<i64>,
    /// Its token limit.
    pub max_tokens: Option<i64>,
    /// The body that was sent, where it is not the request's own.
    pub body: Option<PackedEvidence>,
    /// When it was promised.
    pub promised_at_ms: i64,
    /// When it was settled.
    pub settled_at_ms: Option<i64>,
    /// How it ended.
    pub outcome: Option<String>,
    /// The class of its failure.
    pub error_class: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// The HTTP status.
    pub status_code: Option<i64>,
    /// The provider's id for it.
    pub provider_request_id: Option<String>,
    /// The model that the provider says it used.
    pub served_model: Option<String>,
    /// The provider's word for why it stopped.
    pub finish_reason: Option<String>,
    /// Input, cached, output and reasoning tokens.
    pub tokens: [Option<i64>; 4],
    /// Input tokens that were put into the cache.
    pub cache_write_tokens: Option<i64>,
    /// What it cost.
    pub cost_nanousd: Option<i64>,
    /// What was set aside for it.
    pub reserved_nanousd: Option<i64>,
    /// The answer.
    pub answer: Option<String>,
    /// The raw reply.
    pub reply: Option<PackedEvidence>,
    /// In which of the batch's files its line stood.
    pub result_file: Option<String>,
    /// Where in it.
    pub result_line: Option<i64>,
    /// Whether a size or a dictionary is on record without a body or reply, or a reply without its size.
    pub is_loose: bool,
}

impl AttemptEvidence {
    /// Returns all counts of tokens: input, cached, put into the cache, output and reasoning.
    pub fn counts(&self) -> [Option<i64>; 5] {
        let [input, cached, output, reasoning] = self.tokens;
        [input, cached, self.cache_write_tokens, output, reasoning]
    }
}

/// Another request's attempt, as far as one that shares it needs it.
#[derive(Clone, Debug, Default)]
pub struct LentEvidence {
    /// Whose it is.
    pub request_id: i64,
    /// SHA-256 of that one's body.
    pub fingerprint: Option<Vec<u8>>,
    /// The model of that one's prompt.
    pub model: String,
    /// The endpoint of that one's prompt.
    pub endpoint: String,
    /// How it ended.
    pub outcome: Option<String>,
    /// The class of its failure.
    pub error_class: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Its token limit.
    pub max_tokens: Option<i64>,
    /// Attempts of its request that count, where that still stands as this attempt left it.
    pub attempts_used: Option<i64>,
}

columns!(RequestColumns {
    id,
    row_id,
    prompt_id,
    sample,
    fingerprint,
    body,
    body_dictionary_id,
    body_bytes,
    state,
    error_class,
    error,
    attempt_id,
    attempts,
    attempts_used,
    max_tokens,
    asked_at_ms,
    input_tokens,
    cached_tokens,
    output_tokens,
    reasoning_tokens,
    cost_nanousd,
    is_lent,
    position,
    key,
    cells,
});

columns!(AttemptColumns {
    id,
    request_id,
    number,
    run_id,
    route,
    batch_id,
    max_tokens,
    body,
    body_dictionary_id,
    promised_at_ms,
    settled_at_ms,
    outcome,
    error_class,
    error,
    status_code,
    provider_request_id,
    served_model,
    finish_reason,
    input_tokens,
    cached_tokens,
    output_tokens,
    reasoning_tokens,
    cost_nanousd,
    reserved_nanousd,
    cache_write_tokens,
    answer,
    reply,
    reply_dictionary_id,
    reply_bytes,
    result_file,
    result_line,
});

/// A piece of the stream.
type Piece = Taken<Box<RequestEvidence>>;

impl Store {
    /// Counts the requests.
    pub fn requests_on_record(&self) -> u64 {
        self.conn
            .query_row("SELECT count(*) FROM request", [], |row| row.get(0))
            .unwrap_or_default()
    }

    /// Hands over every request with its attempts, until `take` says that it is enough (`false`).
    ///
    /// Where the file cannot be read, the reading goes on behind it, farther off each time.
    pub fn each_request(&self, take: &mut dyn FnMut(Piece) -> bool) {
        let (mut after, mut skip) = (0, 1);
        loop {
            let mut reached = after;
            let mut note = |piece: Piece| {
                if let Taken::Read(request) = &piece {
                    reached = request.id;
                }
                take(piece)
            };
            match self.requests_after(after, &mut note) {
                Ok(()) => return,
                Err(error) => {
                    let why = format!("requests after {reached}: {error}");
                    if !take(Taken::Unreadable { id: None, why }) {
                        return;
                    }
                    skip = if reached > after { 1 } else { i64::saturating_mul(skip, 2) };
                    after = reached.saturating_add(skip);
                    if skip > i64::MAX / 4 {
                        return;
                    }
                }
            }
        }
    }

    fn requests_after(
        &self,
        after: i64,
        take: &mut dyn FnMut(Piece) -> bool,
    ) -> rusqlite::Result<()> {
        let mut requests = self.conn.prepare_cached(
            "SELECT request.id AS id, request.row_id AS row_id, request.prompt_id AS prompt_id, sample, fingerprint, body,
                    body_dictionary_id, body_bytes, state, error_class, error, attempt_id, attempts, attempts_used, max_tokens,
                    asked_at_ms, input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost_nanousd, is_lent,
                    row.position AS position, row.key AS key, row.cells AS cells
             FROM request LEFT JOIN row ON row.id = request.row_id WHERE request.id > ?1 ORDER BY request.id",
        )?;
        let mut attempts = self.conn.prepare_cached(
            "SELECT id, request_id, number, run_id, route, batch_id, max_tokens, body, body_dictionary_id, promised_at_ms,
                    settled_at_ms, outcome, error_class, error, status_code, provider_request_id, served_model, finish_reason,
                    input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost_nanousd, reserved_nanousd, cache_write_tokens,
                    answer, reply, reply_dictionary_id, reply_bytes, result_file, result_line
             FROM attempt WHERE request_id > ?1 ORDER BY request_id, number",
        )?;
        let (request_columns, attempt_columns) =
            (RequestColumns::of(&requests)?, AttemptColumns::of(&attempts)?);
        let mut requests = requests.query([after])?;
        let mut attempts = attempts.query([after])?;
        let mut next: Option<AttemptEvidence> = None;
        let mut is_over = false;
        while let Some(row) = requests.next()? {
            let id: i64 = row.get(request_columns.id)?;
            let mut request = match request_columns.read(row) {
                Ok(request) => request,
                Err(error) => {
                    if !take(Taken::Unreadable { id: Some(id), why: error.to_string() }) {
                        return Ok(());
                    }
                    continue;
                }
            };
            while !is_over {
                if next.is_none() {
                    next = match attempts.next()? {
                        None => None,
                        Some(row) => match attempt_columns.read(row) {
                            Ok(attempt) => Some(attempt),
                            Err(error) => {
                                let at: Option<i64> = row.get(attempt_columns.id).ok();
                                let why = format!("attempt {}: {error}", at.unwrap_or_default());
                                if !take(Taken::Unreadable { id: Some(id), why }) {
                                    return Ok(());
                                }
                                continue;
                            }
                        },
                    };
                    is_over = next.is_none();
                }
                match next.take_if(|attempt| attempt.request_id <= id) {
                    // One of no request is found by its dangling number.
                    Some(attempt) if attempt.request_id < id => {}
                    Some(attempt) => request.tries.push(attempt),
                    None => break,
                }
            }
            let shared = request
                .attempt_id
                .filter(|id| request.tries.iter().all(|attempt| attempt.id != *id));
            if let Some(attempt) = shared {
                request.lent = self.lent(attempt)?;
            }
            if !take(Taken::Read(Box::new(request))) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn lent(&self, attempt: i64) -> rusqlite::Result<Option<LentEvidence>> {
        self.conn
            .prepare_cached(
                "SELECT attempt.request_id AS request_id, fingerprint, prompt.model AS model, prompt.endpoint AS endpoint,
                        outcome, attempt.error_class AS error_class, attempt.error AS error, attempt.max_tokens AS max_tokens,
                        CASE WHEN request.attempt_id = attempt.id AND coalesce(asked_at_ms, 0) <= promised_at_ms
                             THEN attempts_used END AS attempts_used
                 FROM attempt JOIN request ON request.id = attempt.request_id
                 JOIN prompt ON prompt.id = request.prompt_id WHERE attempt.id = ?1",
            )?
            .query_row([attempt], |row| {
                Ok(LentEvidence {
                    request_id: row.get("request_id")?,
                    fingerprint: row.get("fingerprint")?,
                    model: row.get("model")?,
                    endpoint: row.get("endpoint")?,
                    outcome: row.get("outcome")?,
                    error_class: row.get("error_class")?,
                    error: row.get("error")?,
                    max_tokens: row.get("max_tokens")?,
                    attempts_used: row.get("attempts_used")?,
                })
            })
            .optional()
    }
}

impl RequestColumns {
    fn read(&self, row: &Row<'_>) -> rusqlite::Result<RequestEvidence> {
        let body: Option<Vec<u8>> = row.get(self.body)?;
        let dictionary: Option<i64> = row.get(self.body_dictionary_id)?;
        let plain_bytes: Option<i64> = row.get(self.body_bytes)?;
        let is_loose =
            body.is_some() != plain_bytes.is_some() || body.is_none() && dictionary.is_some();
        Ok(RequestEvidence {
            id: row.get(self.id)?,
            row_id: row.get(self.row_id)?,
            prompt_id: row.get(self.prompt_id)?,
            sample: row.get(self.sample)?,
            fingerprint: row.get(self.fingerprint)?,
            body: body.map(|bytes| PackedEvidence { bytes, dictionary, plain_bytes }),
            state: row.get(self.state)?,
            error_class: row.get(self.error_class)?,
            error: row.get(self.error)?,
            attempt_id: row.get(self.attempt_id)?,
            attempts: row.get(self.attempts)?,
            attempts_used: row.get(self.attempts_used)?,
            max_tokens: row.get(self.max_tokens)?,
            asked_at_ms: row.get(self.asked_at_ms)?,
            tokens: [
                row.get(self.input_tokens)?,
                row.get(self.cached_tokens)?,
                row.get(self.output_tokens)?,
                row.get(self.reasoning_tokens)?,
            ],
            cost_nanousd: row.get(self.cost_nanousd)?,
            position: row.get(self.position)?,
            key: row.get(self.key)?,
            cells: row.get(self.cells)?,
            tries: Vec::new(),
            lent: None,
            is_lent: row.get(self.is_lent)?,
            is_loose,
        })
    }
}

impl AttemptColumns {
    fn read(&self, row: &Row<'_>) -> rusqlite::Result<AttemptEvidence> {
        let (body, reply): (Option<Vec<u8>>, Option<Vec<u8>>) =
            (row.get(self.body)?, row.get(self.reply)?);
        let body_dictionary: Option<i64> = row.get(self.body_dictionary_id)?;
        let dictionary: Option<i64> = row.get(self.reply_dictionary_id)?;
        let plain_bytes: Option<i64> = row.get(self.reply_bytes)?;
        let is_loose = reply.is_some() != plain_bytes.is_some()
            || reply.is_none() && dictionary.is_some()
            || body.is_none() && body_dictionary.is_some();
        Ok(AttemptEvidence {
            id: row.get(self.id)?,
            request_id: row.get(self.request_id)?,
            number: row.get(self.number)?,
            run_id: row.get(self.run_id)?,
            route: row.get(self.route)?,
            batch_id: row.get(self.batch_id)?,
            max_tokens: row.get(self.max_tokens)?,
            body: body.map(|bytes| PackedEvidence {
                bytes,
                dictionary: body_dictionary,
                plain_bytes: None,
            }),
            promised_at_ms: row.get(self.promised_at_ms)?,
            settled_at_ms: row.get(self.settled_at_ms)?,
            outcome: row.get(self.outcome)?,
            error_class: row.get(self.error_class)?,
            error: row.get(self.error)?,
            status_code: row.get(self.status_code)?,
            provider_request_id: row.get(self.provider_request_id)?,
            served_model: row.get(self.served_model)?,
            finish_reason: row.get(self.finish_reason)?,
            tokens: [
                row.get(self.input_tokens)?,
                row.get(self.cached_tokens)?,
                row.get(self.output_tokens)?,
                row.get(self.reasoning_tokens)?,
            ],
            cost_nanousd: row.get(self.cost_nanousd)?,
            reserved_nanousd: row.get(self.reserved_nanousd)?,
            cache_write_tokens: row.get(self.cache_write_tokens)?,
            answer: row.get(self.answer)?,
            reply: reply.map(|bytes| PackedEvidence { bytes, dictionary, plain_bytes }),
            result_file: row.get(self.result_file)?,
            result_line: row.get(self.result_line)?,
            is_loose,
        })
    }
}
