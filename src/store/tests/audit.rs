//! Holds the whole record against its attempts, by the rules by which anybody audits it.

use crate::domain::{AttemptId, Outcome, Route, State, UnixMs};
use crate::machine::replay::{Cached, Lent, Try, differences};
use crate::store::{AttemptEvidence, RequestEvidence, Store, Taken};

/// Holds every request, every batch and the project's sums against the attempts.
pub(super) fn audit(store: &Store) {
    let mut count = 0;
    store.each_request(&mut |taken| {
        match taken {
            Taken::Read(request) => holds(&request),
            Taken::Unreadable { id, why } => panic!("request {id:?} cannot be read: {why}"),
        }
        count += 1;
        true
    });
    assert_eq!(count, store.requests_on_record());
    batches_add_up(store);
    assert_eq!(store.wrong_sums().unwrap(), []);
    assert_eq!(store.wrong_marks().unwrap(), []);
}

fn holds(request: &RequestEvidence) {
    let shares = request.attempt_id.is_some_and(|id| request.tries.iter().all(|own| own.id != id));
    assert_eq!(request.is_lent, i64::from(shares), "{request:#?}");
    let tries: Vec<Try<'_>> = request.tries.iter().map(tried).collect();
    let outcome = |word: &Option<String>, class: &Option<String>| {
        Outcome::parse(word.as_deref()?, class.as_deref())
    };
    let lent = request.lent.as_ref().map(|lent| Lent {
        outcome: outcome(&lent.outcome, &lent.error_class),
        error: lent.error.as_deref(),
        max_tokens: lent.max_tokens,
        attempts_used: lent.attempts_used,
    });
    let cached = Cached {
        state: State::parse(&request.state, request.error_class.as_deref()).unwrap(),
        error: request.error.as_deref(),
        deciding: request.attempt_id.map(AttemptId),
        attempts: request.attempts,
        attempts_used: request.attempts_used,
        max_tokens: request.max_tokens,
        asked_at: request.asked_at_ms.map(UnixMs),
        tokens: request.tokens,
        cost: request.cost_nanousd,
    };
    let found = differences(&cached, &tries, lent.as_ref());
    assert!(found.is_empty(), "{found:#?} {request:#?}");
}

fn tried(attempt: &AttemptEvidence) -> Try<'_> {
    let routes = [Route::Realtime, Route::Batch];
    Try {
        id: AttemptId(attempt.id),
        number: attempt.number,
        route: routes.into_iter().find(|known| known.as_str() == attempt.route).unwrap(),
        outcome: attempt
            .outcome
            .as_deref()
            .map(|word| Outcome::parse(word, attempt.error_class.as_deref()).unwrap()),
        error: attempt.error.as_deref(),
        max_tokens: attempt.max_tokens,
        promised_at: UnixMs(attempt.promised_at_ms),
        tokens: attempt.tokens,
        cost: attempt.cost_nanousd,
    }
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
