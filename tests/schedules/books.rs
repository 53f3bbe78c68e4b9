//! What must hold of a project's file and its provider's ledger: after every run, however it ended, and in the end.

use std::collections::HashMap;

use overnight::domain::{FailureClass, Usage};
use overnight::engine::{AuditPlan, audit};
use overnight::machine::plan::Liveness;
use overnight::machine::request::{InDoubtPolicy, Policy};
use overnight::store::PromptRecord;
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::life::{Project, due, parts, prices};

/// What has been answered on record, as it was first seen: the attempt, its answer and its reply.
pub(crate) type Evidence = HashMap<i64, (Option<String>, Option<Vec<u8>>)>;

fn open(project: &Project) -> Connection {
    #[expect(clippy::disallowed_methods, reason = "read as any other program would")]
    Connection::open(project.path()).unwrap()
}

fn number(conn: &Connection, sql: &str) -> u64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[track_caller]
fn none(conn: &Connection, sql: &str) {
    let count = number(conn, &format!("SELECT count(*) FROM ({sql})"));
    assert_eq!(count, 0, "{sql}");
}

/// Attempts whose reply may have been made, and paid for, though it never came or was no use.
const UNHEARD: &str = "SELECT count(*) FROM attempt WHERE outcome = 'in_doubt' OR error_class IN
    ('connection', 'timeout', 'invalid_answer', 'malformed_reply', 'missing_from_batch', 'batch_expired', 'batch_cancelled', 'batch_failed')";

/// What must hold at any moment.
pub(crate) fn hold(project: &Project, evidence: &mut Evidence) {
    audit_is_clean(project);
    let conn = open(project);
    // What is at the provider was promised before.
    let totals = project.ledger().totals;
    let creating = "SELECT count(*) FROM batch_status WHERE status = 'creating'";
    assert!(totals.batches_created <= number(&conn, creating), "a batch nobody knows of");
    let uploading = "SELECT count(*) FROM batch_status WHERE status = 'uploading'";
    assert!(totals.files_uploaded <= number(&conn, uploading), "a file nobody knows of");
    // Nobody asks for anything again, so what has an answer is never promised again, nor is its twin.
    none(
        &conn,
        "SELECT 1 FROM attempt AS answered
         JOIN request AS its ON its.id = answered.request_id
         JOIN request AS twin ON twin.fingerprint = its.fingerprint
         JOIN attempt AS later ON later.request_id = twin.id
         WHERE answered.outcome = 'answered' AND later.promised_at_ms > answered.settled_at_ms",
    );
    evidence_stays(&conn, evidence);
    charges_are_on_record(project, &conn);
}

/// Works everything on record out a second time. A run that died has left what is in flight as it was.
fn audit_is_clean(project: &Project) {
    let make = |prompt: &PromptRecord| {
        let policy =
            Policy { max_attempts: 1, max_tokens_limit: None, in_doubt: InDoubtPolicy::Hold };
        Ok(parts(prompt, policy))
    };
    let report = audit(&AuditPlan {
        path: &project.path(),
        now: project.now(),
        liveness: &|_| Ok(Liveness::Idle),
        threads: 1,
        make: &make,
        progress: &|_, _| (),
    });
    let report = report.unwrap();
    assert!(report.total() == 0, "audit: {:#?}", report.findings);
}

/// What has once been answered is there for good, with the reply that it was read from.
fn evidence_stays(conn: &Connection, evidence: &mut Evidence) {
    let sql = "SELECT id, answer, reply FROM attempt WHERE outcome = 'answered'";
    let mut query = conn.prepare(sql).unwrap();
    let found = query.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
    let found: Evidence = found.collect::<Result<_, _>>().unwrap();
    for (attempt, kept) in evidence.iter() {
        assert_eq!(found.get(attempt), Some(kept), "attempt {attempt} has changed");
    }
    *evidence = found;
}

/// What the provider has charged is never more than what may be spent, nor than what the record counts.
pub(crate) fn ceiling_holds(project: &Project, ceiling: i64) {
    let store = project.store();
    let (calls, lines) = (prices().realtime.unwrap(), prices().batch.unwrap());
    let totals = project.ledger().totals;
    let in_batches = Usage {
        input: totals.batch_input_tokens,
        output: totals.batch_output_tokens,
        ..Usage::default()
    };
    let by_calls = Usage {
        input: totals.input_tokens - in_batches.input,
        cached: totals.cached_tokens,
        cache_write: 0,
        output: totals.output_tokens - in_batches.output,
        reasoning: 0,
    };
    let charged = calls.of(by_calls) + lines.of(in_batches);
    let counted = store.counted().unwrap().known;
    assert!(charged <= counted, "{charged:?} was charged, and {counted:?} counted");
    assert!(charged.0 <= ceiling, "{charged:?} was charged, and {ceiling} may be spent");
}

/// Says whether nothing is due, and nothing under way.
pub(crate) fn nothing_is_left(project: &Project) -> bool {
    let conn = open(project);
    due(&project.store()) == 0
        && number(&conn, "SELECT count(*) FROM attempt WHERE outcome IS NULL") == 0
        && number(&conn, "SELECT count(*) FROM batch WHERE status <> 'collected'") == 0
}

/// What must hold once nothing is left.
pub(crate) fn hold_in_the_end(project: &Project, max_attempts: u32) {
    let conn = open(project);
    let ledger = project.ledger();
    let totals = &ledger.totals;
    none(&conn, "SELECT 1 FROM answers WHERE state NOT IN ('answered', 'truncated', 'failed')");
    let given_up = |class: &FailureClass| class.is_retried();
    for class in FailureClass::ALL.iter().filter(|class| given_up(class)) {
        let word = class.as_str();
        none(
            &conn,
            &format!(
                "SELECT 1 FROM request WHERE error_class = '{word}' AND attempts_used < {max_attempts}"
            ),
        );
    }
    let known = "SELECT count(DISTINCT provider_id) FROM batch WHERE provider_id IS NOT NULL";
    let vanished = totals.faults.get("batch_vanished").copied().unwrap_or(0);
    assert!(
        totals.batches_created <= number(&conn, known) + vanished,
        "{} batches were created: {totals:?}",
        totals.batches_created
    );
    let unheard = number(&conn, UNHEARD);
    let strays = number(&conn, "SELECT count(*) FROM stray_line");
    assert!(
        totals.charged_again <= unheard + strays,
        "{} were charged again, of {unheard} unheard and {strays} strays",
        totals.charged_again
    );
}

/// Counts what happened in a schedule.
pub(crate) fn count(project: &Project, mut add: impl FnMut(&'static str, u64)) {
    let conn = open(project);
    let totals = project.ledger().totals;
    add("batches", totals.batches_created);
    add("calls", totals.requests - totals.batch_requests);
    add("charged again in doubt", totals.charged_again);
    for (what, sql) in [
        ("answered rows", "SELECT count(*) FROM answers WHERE state = 'answered'"),
        ("failed rows", "SELECT count(*) FROM answers WHERE state IN ('failed', 'truncated')"),
        ("in doubt", "SELECT count(*) FROM attempt WHERE outcome = 'in_doubt'"),
        (
            "shared",
            "SELECT count(*) FROM request WHERE state = 'answered'
                AND NOT EXISTS (SELECT 1 FROM attempt WHERE request_id = request.id AND id = request.attempt_id)",
        ),
        ("strays", "SELECT count(*) FROM stray_line"),
    ] {
        add(what, number(&conn, sql));
    }
}

/// Demands that each body was charged at most as often as the record says that it was sent, on either route.
fn charges_are_on_record(project: &Project, conn: &Connection) {
    let mut sent: HashMap<String, [u64; 2]> = HashMap::new();
    let sql = "SELECT request.fingerprint, attempt.route = 'batch', attempt.body IS NULL, attempt.id, request.row_id,
                      request.prompt_id
               FROM attempt JOIN request ON request.id = attempt.request_id";
    let mut query = conn.prepare(sql).unwrap();
    let mut rows = query.query([]).unwrap();
    let store = project.store();
    while let Some(row) = rows.next().unwrap() {
        let body: [u8; 32] = if row.get(2).unwrap() {
            row.get(0).unwrap()
        } else {
            let attempt: i64 = row.get(3).unwrap();
            let of = (overnight::domain::RowId(row.get(4).unwrap()), row.get(5).unwrap());
            let trail = store.trail(of.0, overnight::domain::PromptId(of.1)).unwrap().unwrap();
            let found = trail.attempts.into_iter().find(|found| found.id.0 == attempt).unwrap();
            Sha256::digest(found.sent_body.unwrap()).into()
        };
        let by_batch: bool = row.get(1).unwrap();
        sent.entry(hex(&body)).or_default()[usize::from(by_batch)] += 1;
    }
    for (body, account) in &project.ledger().bodies {
        let [calls, lines] = sent.get(body).copied().unwrap_or_default();
        let charged_calls = account.charged - account.batch_charged;
        assert!(
            charged_calls <= calls && account.batch_charged <= lines,
            "{account:?}, and on record {calls} calls and {lines} lines"
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
