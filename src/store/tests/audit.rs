//! Recounts the record from its attempts alone: what requests and batches cache has to be what these say.

use rusqlite::{Row, params};

use crate::domain::{FailureClass, Outcome, Route, State};
use crate::machine::request::{Move, next};
use crate::store::Store;

/// A request on record, with what it caches.
struct Cached {
    id: i64,
    state: State,
    used: i64,
    deciding: Option<i64>,
    asked_at: Option<i64>,
}

/// One attempt on record.
struct Line {
    id: i64,
    route: Route,
    outcome: Option<Outcome>,
    promised_at: i64,
}

/// Holds every request, every batch and the project's sums against the attempts.
pub(super) fn audit(store: &Store) {
    let mut query = store
        .conn
        .prepare(
            "SELECT id, state, error_class, attempts_used, attempt_id, asked_at_ms FROM request",
        )
        .unwrap();
    let requests: Vec<Cached> = query
        .query_map([], |row| {
            let (word, class): (String, Option<String>) = (row.get(1)?, row.get(2)?);
            let state = State::parse(&word, class.as_deref()).unwrap();
            let (used, deciding, asked_at) = (row.get(3)?, row.get(4)?, row.get(5)?);
            Ok(Cached { id: row.get(0)?, state, used, deciding, asked_at })
        })
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for request in requests {
        states_add_up(store, &request);
        sums_add_up(store, request.id);
    }
    batches_add_up(store);
}

fn states_add_up(store: &Store, request: &Cached) {
    let lines = attempts_of(store, request.id);
    let (mut replayed, mut before, mut used) = (State::Pending, 0, 0);
    for line in &lines {
        if replayed == State::Answered {
            assert!(request.asked_at.is_some_and(|at| at > before), "sent again unasked");
        }
        before = line.promised_at;
        let again = next(replayed, Move::Release).or(next(replayed, Move::Ask)).unwrap();
        replayed = next(again, Move::Promise(line.route)).unwrap();
        let Some(outcome) = line.outcome else { continue };
        replayed = next(replayed, Move::Settle(outcome)).unwrap();
        let counts = request.asked_at.is_none_or(|at| line.promised_at > at);
        used += i64::from(counts && replayed.class().is_some_and(FailureClass::uses_attempt));
    }
    let is_moved_since = request.asked_at.is_some() && request.state == State::Pending
        || request.state == State::Failed(FailureClass::RenderFailed);
    let own = lines.iter().any(|line| Some(line.id) == request.deciding);
    match request.deciding {
        _ if is_moved_since => {}
        Some(attempt) if !own => {
            let shared = outcome_of(store, attempt).unwrap();
            let stands = next(State::Pending, Move::Share(shared)).unwrap();
            assert_eq!(request.state, stands, "request {} shares", request.id);
        }
        Some(_) | None => assert_eq!(request.state, replayed, "request {}", request.id),
    }
    // A shared failure brings its count of attempts along; only without twins do they have to be one's own.
    if !has_twin(store, request.id) {
        assert_eq!(request.used, used, "the attempts used of request {}", request.id);
    }
}

fn has_twin(store: &Store, request: i64) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM request AS mine JOIN request AS twin
                              ON twin.fingerprint = mine.fingerprint AND twin.id <> mine.id
                              WHERE mine.id = ?1)";
    store.conn.query_row(sql, [request], |row| row.get(0)).unwrap()
}

fn sums_add_up(store: &Store, request: i64) {
    let sql = "SELECT request.attempts = count(attempt.id)
                  AND request.input_tokens = coalesce(sum(attempt.input_tokens), 0)
                  AND request.cached_tokens = coalesce(sum(attempt.cached_tokens), 0)
                  AND request.output_tokens = coalesce(sum(attempt.output_tokens), 0)
                  AND request.reasoning_tokens = coalesce(sum(attempt.reasoning_tokens), 0)
                  AND request.cost_nanousd IS sum(attempt.cost_nanousd)
               FROM request LEFT JOIN attempt ON attempt.request_id = request.id WHERE request.id = ?1";
    let add_up: bool = store.conn.query_row(sql, [request], |row| row.get(0)).unwrap();
    assert!(add_up, "the sums of request {request}");
}

fn batches_add_up(store: &Store) {
    let wrong = [
        "SELECT id FROM batch WHERE requests = 0
            OR requests <> (SELECT count(*) FROM attempt WHERE batch_id = batch.id)",
        "SELECT id FROM batch WHERE status = 'collected'
            AND EXISTS (SELECT 1 FROM attempt WHERE batch_id = batch.id AND outcome IS NULL)",
        "SELECT id FROM batch WHERE status <> (SELECT status FROM batch_status WHERE batch_id = batch.id ORDER BY id DESC LIMIT 1)",
        // One line is one attempt's, or a stray.
        "SELECT stray_line.id FROM stray_line JOIN attempt ON attempt.batch_id = stray_line.batch_id
            AND result_file = file AND result_line = stray_line.number",
        "SELECT batch_id FROM attempt WHERE result_line IS NOT NULL
         GROUP BY batch_id, result_file, result_line HAVING count(*) > 1",
    ];
    for sql in wrong {
        let mut query = store.conn.prepare(sql).unwrap();
        let found: Vec<i64> =
            query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(found.is_empty(), "{sql}: {found:?}");
    }
}

fn attempts_of(store: &Store, request: i64) -> Vec<Line> {
    let sql = "SELECT id, route, outcome, error_class, promised_at_ms FROM attempt WHERE request_id = ?1 ORDER BY number";
    let mut query = store.conn.prepare(sql).unwrap();
    let lines = query.query_map([request], |row| {
        let route: String = row.get("route")?;
        let routes = [Route::Realtime, Route::Batch];
        Ok(Line {
            id: row.get("id")?,
            route: routes.into_iter().find(|known| known.as_str() == route).unwrap(),
            outcome: outcome(row)?,
            promised_at: row.get("promised_at_ms")?,
        })
    });
    lines.unwrap().collect::<Result<_, _>>().unwrap()
}

fn outcome_of(store: &Store, attempt: i64) -> Option<Outcome> {
    let sql = "SELECT outcome, error_class FROM attempt WHERE id = ?1";
    store.conn.query_row(sql, params![attempt], outcome).unwrap()
}

fn outcome(row: &Row<'_>) -> rusqlite::Result<Option<Outcome>> {
    let (word, class): (Option<String>, Option<String>) =
        (row.get("outcome")?, row.get("error_class")?);
    Ok(word.map(|word| Outcome::parse(&word, class.as_deref()).unwrap()))
}
