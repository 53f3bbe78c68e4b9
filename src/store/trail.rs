//! The whole trail of one row: where it came from, what was sent for it, what came back.
//!
//! Everything is read as it stands on record; what is damaged or unknown is an error and never
//! passed over, for this is the evidence.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::batches::InputLine;
use super::codec::Unpacker;
use super::due::state_of;
use super::{Store, StoreError};
use crate::domain::{
    AttemptId, BatchId, Fingerprint, NanoUsd, Outcome, PromptId, RequestId, RowId, State, UnixMs,
    Usage,
};

/// A live row, with where it came from.
#[derive(Clone, Debug)]
pub struct TrailRow {
    /// Its id.
    pub id: RowId,
    /// Its position in the table, from 1.
    pub position: i64,
    /// Its key.
    pub key: String,
    /// Its version, from 1.
    pub version: u32,
    /// Its cells, as the text of one JSON object.
    pub cells: String,
    /// The file it came from.
    pub source: String,
    /// The line of that file, from 1.
    pub line: u64,
    /// SHA-256 of that file.
    pub source_sha256: [u8; 32],
}

/// A request on one row, with its body.
#[derive(Clone, Debug)]
pub struct TrailRequest {
    /// Its id.
    pub id: RequestId,
    /// Its state.
    pub state: State,
    /// What went wrong, for a failed request.
    pub error: Option<String>,
    /// Of its body; `None` where it could not be rendered.
    pub fingerprint: Option<Fingerprint>,
    /// The exact bytes of its body.
    pub body: Option<Vec<u8>>,
    /// The attempt that its state stands on; another request's where a reply is shared.
    pub deciding: Option<AttemptId>,
    /// Its attempts, oldest first; where a reply is shared, the attempt that brought it comes last.
    pub attempts: Vec<TrailAttempt>,
}

/// Which row and prompt a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPlace {
    /// The row's position in the table, from 1.
    pub position: i64,
    /// The row's key.
    pub key: String,
    /// The prompt's name.
    pub prompt: String,
    /// The prompt's version.
    pub prompt_version: u32,
}

/// One attempt, with its reply.
#[derive(Clone, Debug)]
pub struct TrailAttempt {
    /// Its id.
    pub id: AttemptId,
    /// Which request it was made for.
    pub request: RequestId,
    /// Its number among that request's, from 1.
    pub number: u32,
    /// `realtime` or `batch`.
    pub route: String,
    /// The batch, where it went in one.
    pub batch: Option<i64>,
    /// The token limit it was sent with.
    pub max_tokens: Option<u32>,
    /// The exact bytes that were sent, where they are not the request's own.
    pub sent_body: Option<Vec<u8>>,
    /// When it was promised.
    pub promised_at: UnixMs,
    /// When and how it ended; `None` for a promise.
    pub settled: Option<(UnixMs, Outcome)>,
    /// What went wrong.
    pub error: Option<String>,
    /// The HTTP status.
    pub status_code: Option<u16>,
    /// The provider's id for it.
    pub provider_request_id: Option<String>,
    /// The model that the provider says it used.
    pub served_model: Option<String>,
    /// The provider's word for why it stopped.
    pub finish_reason: Option<String>,
    /// What the provider counted.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: Option<NanoUsd>,
    /// The answer.
    pub answer: Option<String>,
    /// The provider's raw bytes.
    pub reply: Option<Vec<u8>>,
    /// Which of its batch's result files they stood in (`output` or `error`), and in which line, from 1.
    pub result_place: Option<(String, u64)>,
}

impl Store {
    /// Finds a live row by its key or `#POSITION`; a key wins.
    pub fn find_row(&self, name: &str) -> Result<Option<TrailRow>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT row.id AS id, position, key, version, cells, path, line, sha256
                 FROM row JOIN source ON source.id = row.source_id
                 WHERE row.retired_at_ms IS NULL AND (key = ?1 OR position = ?2)
                 ORDER BY key = ?1 DESC LIMIT 1",
            )
            .and_then(|mut query| {
                query.query_row(params![name, position(name)], trail_row).optional()
            })
            .map_err(|error| self.named(error))
    }

    /// Says when the row with this key was removed, if it was and has not come back.
    pub fn removed_at(&self, key: &str) -> Result<Option<UnixMs>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT max(retired_at_ms) AS at FROM row
                 WHERE key = ?1 AND retired_at_ms IS NOT NULL AND retired_why = 'removed'
                   AND NOT EXISTS (SELECT 1 FROM row WHERE key = ?1 AND retired_at_ms IS NULL)",
            )
            .and_then(|mut query| query.query_row([key], |row| row.get::<_, Option<i64>>("at")))
            .map(|at| at.map(UnixMs))
            .map_err(|error| self.named(error))
    }

    /// Returns live keys that stand next to `key` in order, at most 64 a side: where to look for what
    /// a person may have meant.
    pub fn keys_near(&self, key: &str) -> Result<Vec<String>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT key FROM (SELECT key FROM row WHERE retired_at_ms IS NULL AND key >= ?1 ORDER BY key LIMIT 64)
                 UNION ALL
                 SELECT key FROM (SELECT key FROM row WHERE retired_at_ms IS NULL AND key < ?1 ORDER BY key DESC LIMIT 64)",
            )
            .and_then(|mut query| query.query_map([key], |row| row.get("key"))?.collect())
            .map_err(|error| self.named(error))
    }

    /// Says which row and prompt a request is for.
    pub fn place_of(&self, request: RequestId) -> Result<RequestPlace, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT position, key, prompt.name AS prompt, prompt.version AS prompt_version
                 FROM request JOIN row ON row.id = request.row_id
                 JOIN prompt ON prompt.id = request.prompt_id WHERE request.id = ?1",
            )
            .and_then(|mut query| {
                query.query_row([request.0], |row| {
                    Ok(RequestPlace {
                        position: row.get("position")?,
                        key: row.get("key")?,
                        prompt: row.get("prompt")?,
                        prompt_version: row.get("prompt_version")?,
                    })
                })
            })
            .map_err(|error| self.named(error))
    }

    /// Returns the request of a row for a prompt, with bodies, attempts and replies.
    pub fn trail(&self, row: RowId, prompt: PromptId) -> Result<Option<TrailRequest>, StoreError> {
        let found = self
            .conn
            .prepare_cached(
                "SELECT id, state, error_class, error, fingerprint, body, body_dictionary_id, body_bytes, attempt_id
                 FROM request WHERE row_id = ?1 AND prompt_id = ?2 AND sample = 1",
            )
            .and_then(|mut query| {
                query
                    .query_row(params![row.0, prompt.0], |row| {
                        let packed = packed(row, "body", "body_dictionary_id", "body_bytes")?;
                        Ok((request(row)?, packed))
                    })
                    .optional()
            })
            .map_err(|error| self.named(error))?;
        let Some((mut request, body)) = found else { return Ok(None) };
        let mut unpacker = Unpacker::new(&self.conn);
        request.body =
            unpack(&mut unpacker, body, || format!("the body of request {}", request.id))?;
        request.attempts = self.attempts(request.id, request.deciding, &mut unpacker)?;
        Ok(Some(request))
    }

    fn attempts(
        &self,
        request: RequestId,
        deciding: Option<AttemptId>,
        unpacker: &mut Unpacker<'_>,
    ) -> Result<Vec<TrailAttempt>, StoreError> {
        let rows = self
            .conn
            .prepare_cached(
                "SELECT * FROM attempt WHERE request_id = ?1 OR id = ?2
                 ORDER BY request_id <> ?1, number",
            )
            .and_then(|mut query| {
                query
                    .query_map(params![request.0, deciding.map(|id| id.0)], |row| {
                        let body = packed(row, "body", "body_dictionary_id", "")?;
                        let reply = packed(row, "reply", "reply_dictionary_id", "reply_bytes")?;
                        Ok((attempt(row)?, body, reply))
                    })?
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(|error| self.named(error))?;
        rows.into_iter()
            .map(|(mut attempt, body, reply)| {
                let id = attempt.id;
                attempt.sent_body = unpack(unpacker, body, || format!("the body of attempt {id}"))?;
                attempt.reply = unpack(unpacker, reply, || format!("the reply to attempt {id}"))?;
                Ok(attempt)
            })
            .collect()
    }
}

/// Reads the next bodies of a batch's input file.
pub(super) fn input_lines(
    conn: &Connection,
    batch: BatchId,
    (after, limit): (AttemptId, u32),
    named: impl Fn(rusqlite::Error) -> StoreError,
) -> Result<Vec<InputLine>, StoreError> {
    type Found = (AttemptId, PackedParts, PackedParts);
    let found: Vec<Found> = conn
        .prepare_cached(
            "SELECT attempt.id AS id, attempt.body AS sent, attempt.body_dictionary_id AS sent_dictionary_id,
                    request.body AS body, request.body_dictionary_id AS body_dictionary_id, body_bytes
             FROM attempt JOIN request ON request.id = attempt.request_id
             WHERE attempt.batch_id = ?1 AND attempt.id > ?2 ORDER BY attempt.id LIMIT ?3",
        )
        .and_then(|mut query| {
            query
                .query_map(params![batch.0, after.0, limit], |row| {
                    let sent = packed(row, "sent", "sent_dictionary_id", "")?;
                    let own = packed(row, "body", "body_dictionary_id", "body_bytes")?;
                    Ok((AttemptId(row.get("id")?), sent, own))
                })?
                .collect()
        })
        .map_err(named)?;
    let mut unpacker = Unpacker::new(conn);
    found
        .into_iter()
        .map(|(attempt, sent, own)| {
            let body =
                unpack(&mut unpacker, sent.or(own), || format!("the body of attempt {attempt}"))?;
            Ok(InputLine { attempt, body: body.unwrap_or_default() })
        })
        .collect()
}

/// Returns the position that `#POSITION` names.
pub(super) fn position(name: &str) -> Option<i64> {
    name.strip_prefix('#').and_then(|digits| digits.parse().ok())
}

/// More than any body or reply is; a size on record beyond it is damage, and nothing is allocated for it.
const LARGEST_BYTES: usize = 1 << 30;

type PackedParts = Option<(Vec<u8>, Option<i64>, usize)>;

/// Reads a packed column. An attempt's own body has no size on record (`size` is empty): the frame says it.
fn packed(
    row: &Row<'_>,
    bytes: &str,
    dictionary: &str,
    size: &str,
) -> rusqlite::Result<PackedParts> {
    let Some(found) = row.get::<_, Option<Vec<u8>>>(bytes)? else { return Ok(None) };
    let plain_bytes = match size {
        "" => zstd::zstd_safe::get_frame_content_size(&found)
            .ok()
            .flatten()
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or_default(),
        name => row.get(name)?,
    };
    Ok(Some((found, row.get(dictionary)?, plain_bytes)))
}

fn unpack(
    unpacker: &mut Unpacker<'_>,
    parts: PackedParts,
    what: impl Fn() -> String,
) -> Result<Option<Vec<u8>>, StoreError> {
    let plain = |(bytes, dictionary, size): (Vec<u8>, _, _)| match size {
        0..=LARGEST_BYTES => unpacker.unpack(&bytes, dictionary, size),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    };
    parts.map(plain).transpose().map_err(|source| StoreError::Unreadable { what: what(), source })
}

fn trail_row(row: &Row<'_>) -> rusqlite::Result<TrailRow> {
    Ok(TrailRow {
        id: RowId(row.get("id")?),
        position: row.get("position")?,
        key: row.get("key")?,
        version: row.get("version")?,
        cells: row.get("cells")?,
        source: row.get("path")?,
        line: row.get("line")?,
        source_sha256: row.get("sha256")?,
    })
}

fn request(row: &Row<'_>) -> rusqlite::Result<TrailRequest> {
    Ok(TrailRequest {
        id: RequestId(row.get("id")?),
        state: state_of(row)?,
        error: row.get("error")?,
        fingerprint: row.get::<_, Option<[u8; 32]>>("fingerprint")?.map(Fingerprint),
        body: None,
        deciding: row.get::<_, Option<i64>>("attempt_id")?.map(AttemptId),
        attempts: Vec::new(),
    })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<TrailAttempt> {
    let outcome: Option<String> = row.get("outcome")?;
    let class: Option<String> = row.get("error_class")?;
    let settled_at: Option<i64> = row.get("settled_at_ms")?;
    let outcome = match outcome {
        Some(word) => Some(
            Outcome::parse(&word, class.as_deref())
                .ok_or_else(|| rusqlite::Error::InvalidColumnName(format!("outcome {word}")))?,
        ),
        None => None,
    };
    let input: Option<u64> = row.get("input_tokens")?;
    let file: Option<String> = row.get("result_file")?;
    let result_place = file.zip(row.get::<_, Option<u64>>("result_line")?);
    Ok(TrailAttempt {
        id: AttemptId(row.get("id")?),
        request: RequestId(row.get("request_id")?),
        number: row.get("number")?,
        route: row.get("route")?,
        batch: row.get("batch_id")?,
        max_tokens: row.get("max_tokens")?,
        sent_body: None,
        promised_at: UnixMs(row.get("promised_at_ms")?),
        settled: settled_at.map(UnixMs).zip(outcome),
        error: row.get("error")?,
        status_code: row.get("status_code")?,
        provider_request_id: row.get("provider_request_id")?,
        served_model: row.get("served_model")?,
        finish_reason: row.get("finish_reason")?,
        usage: match input {
            Some(input) => Some(Usage {
                input,
                cached: row.get::<_, Option<u64>>("cached_tokens")?.unwrap_or_default(),
                cache_write: row.get::<_, Option<u64>>("cache_write_tokens")?.unwrap_or_default(),
                output: row.get::<_, Option<u64>>("output_tokens")?.unwrap_or_default(),
                reasoning: row.get::<_, Option<u64>>("reasoning_tokens")?.unwrap_or_default(),
            }),
            None => None,
        },
        cost: row.get::<_, Option<i64>>("cost_nanousd")?.map(NanoUsd),
        answer: row.get("answer")?,
        reply: None,
        result_place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Create;

    /// One row with one request and one settled attempt, whose reply and size are given.
    fn store(dir: &tempfile::TempDir, reply: &[u8], reply_bytes: i64) -> Store {
        let path = dir.path().join("overnight.db");
        let new = Create {
            path: &path,
            now: UnixMs(1),
            token: "abcdef123456",
            base_url: None,
            max_attempts: 3,
        };
        let store = Store::create(&new, |_| Ok(())).unwrap();
        store
            .conn
            .execute_batch(
                "INSERT INTO source VALUES (1, 'a.csv', 'csv', 'UTF-8', zeroblob(32), 0, '[]', 'id', 1, 1);
                 INSERT INTO row VALUES (1, 1, 2, 1, 'k1', 1, '{}', NULL, NULL);
                 INSERT INTO prompt VALUES (1, 'label', 1, 'openai/m', 'responses', '', '{}', 1, NULL, NULL, 0);
                 INSERT INTO run (id, started_at_ms, settings, process_id, host, program_version)
                 VALUES (1, 1, '{}', 1, '', '');
                 INSERT INTO request (id, prompt_id, row_id, sample, state) VALUES (1, 1, 1, 1, 'pending');",
            )
            .unwrap();
        store
            .conn
            .execute(
                "INSERT INTO attempt (id, request_id, number, run_id, route, promised_at_ms, settled_at_ms,
                                      outcome, error_class, reply, reply_bytes)
                 VALUES (1, 1, 1, 1, 'realtime', 1, 2, 'failed', 'timeout', ?1, ?2)",
                params![reply, reply_bytes],
            )
            .unwrap();
        store
    }

    #[test]
    fn a_damaged_reply_is_an_error_that_names_it() {
        for (reply, size) in [(b"no frame".as_slice(), 8), (b"", i64::MAX)] {
            let dir = tempfile::tempdir().unwrap();
            let error = store(&dir, reply, size).trail(RowId(1), PromptId(1)).unwrap_err();
            assert_eq!(error.to_string(), "the reply to attempt 1 cannot be read back");
        }
    }

    #[test]
    fn an_outcome_that_nobody_knows_is_no_promise() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir, b"", 0);
        store.conn.execute("UPDATE attempt SET error_class = 'unheard_of'", []).unwrap();
        assert!(store.trail(RowId(1), PromptId(1)).is_err());
    }

    #[test]
    fn keys_that_stand_nearby_are_found_on_both_sides() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir, b"", 0);
        for number in 2..200 {
            store
                .conn
                .execute(
                    "INSERT INTO row VALUES (?1, 1, ?1, ?1, ?2, 1, '{}', NULL, NULL)",
                    params![number, format!("k{number:03}")],
                )
                .unwrap();
        }
        let near = store.keys_near("k1005").unwrap();
        assert!(near.contains(&"k100".to_owned()) && near.contains(&"k101".to_owned()));
        assert_eq!(near.len(), 128);
    }
}
