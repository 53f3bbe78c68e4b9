//! What must hold of a project file and of the provider's ledger: at every cut, and in the end.

use std::collections::HashMap;

use overnight::domain::FailureClass;
use overnight::machine::plan::Liveness;
use overnight::machine::request::InDoubtPolicy;
use overnight::simulate::Ledger;
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::project::Project;

/// Reads the record as any other program would.
pub(crate) fn open(project: &Project) -> Connection {
    #[expect(clippy::disallowed_methods, reason = "read as any other program would")]
    Connection::open(project.path()).unwrap()
}

/// Asks for one number.
pub(crate) fn number(conn: &Connection, sql: &str) -> u64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// The table as it comes back: key, state and answer of each row.
pub(crate) fn table(project: &Project) -> Vec<(String, String, Option<String>)> {
    let conn = open(project);
    let mut query =
        conn.prepare("SELECT key, state, answer FROM answers ORDER BY position").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// Every request whose cached state is not what its attempts come to, in words. One that shares another one's reply
/// has that one's state, and no sums of its own.
const CONTRADICTIONS: &str = "
    WITH last AS (
        SELECT request.id AS id, request.state AS state, request.error_class AS class, request.attempts AS attempts,
               request.attempts_used AS used, request.attempt_id AS deciding,
               request.input_tokens AS input, request.output_tokens AS output, request.cost_nanousd AS cost,
               (SELECT count(*) FROM attempt WHERE request_id = request.id) AS made,
               (SELECT max(id) FROM attempt WHERE request_id = request.id) AS newest,
               (SELECT coalesce(sum(input_tokens), 0) FROM attempt WHERE request_id = request.id) AS paid_input,
               (SELECT coalesce(sum(output_tokens), 0) FROM attempt WHERE request_id = request.id) AS paid_output,
               (SELECT sum(cost_nanousd) FROM attempt WHERE request_id = request.id) AS paid
        FROM request)
    SELECT 'request ' || last.id || ' is ' || state || ' with ' || attempts || ' attempts, and its last is '
           || coalesce(attempt.outcome, 'open') || ' of ' || made
    FROM last LEFT JOIN attempt ON attempt.id = coalesce(deciding, newest)
    WHERE attempts <> made
       OR deciding IS NOT newest AND coalesce(attempt.request_id = last.id OR attempt.outcome IS NULL, 1)
       OR input <> paid_input OR output <> paid_output OR cost IS NOT paid
       OR class IS NOT CASE WHEN state = 'failed' THEN attempt.error_class END
       OR state <> CASE WHEN attempt.id IS NULL THEN 'pending'
                        WHEN attempt.outcome IS NULL AND attempt.route = 'batch' THEN 'in_batch'
                        WHEN attempt.outcome IS NULL THEN 'in_flight'
                        ELSE attempt.outcome END";

/// Every batch whose sums are not those of its attempts, in words.
const MISCOUNTED: &str = "
    SELECT 'batch ' || batch.id || ' has ' || batch.requests || ' requests and '
           || (SELECT count(*) FROM attempt WHERE batch_id = batch.id) || ' attempts'
    FROM batch WHERE batch.requests <> (SELECT count(*) FROM attempt WHERE batch_id = batch.id)
       OR batch.status <> (SELECT status FROM batch_status WHERE batch_id = batch.id ORDER BY id DESC LIMIT 1)
          AND batch.status <> 'planned'";

fn is_whole(conn: &Connection, context: &str) {
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{context}");
    assert_eq!(number(conn, "SELECT count(*) FROM pragma_foreign_key_check"), 0, "{context}");
    for sql in [CONTRADICTIONS, MISCOUNTED] {
        let mut query = conn.prepare(sql).unwrap();
        let found: Vec<String> =
            query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(found.is_empty(), "{context}: {found:#?}");
    }
}

/// What must hold wherever a run was broken off: nothing is at the provider that the file does not know of.
pub(crate) fn holds_at_a_cut(project: &Project, context: &str) {
    let ledger = project.ledger();
    let conn = open(project);
    is_whole(&conn, context);
    let promised = "SELECT count(DISTINCT batch_id) FROM batch_status WHERE status = 'creating'";
    let created = ledger.totals.batches_created;
    assert!(created <= number(&conn, promised), "{context}: {created} batches were created");
    let uploads = "SELECT count(*) FROM batch_status WHERE status = 'uploading'";
    let uploaded = ledger.totals.files_uploaded;
    assert!(uploaded <= number(&conn, uploads), "{context}: {uploaded} files were uploaded");
    drop(conn);
    charges_are_on_record(project, &ledger, context);
}

/// What must hold once a run has come to its end, however many were broken off before.
pub(crate) fn holds_in_the_end(project: &Project, context: &str) {
    holds_at_a_cut(project, context);
    let ledger = project.ledger();
    let conn = open(project);
    let none = |sql: &str| assert_eq!(number(&conn, sql), 0, "{context}: {sql}");
    none("SELECT count(*) FROM attempt WHERE outcome IS NULL");
    none("SELECT count(*) FROM batch WHERE status <> 'collected'");
    none("SELECT count(*) FROM stray_line");
    none("SELECT count(*) FROM answers WHERE state <> 'answered'");
    none(
        "SELECT count(*) FROM (SELECT 1 FROM attempt WHERE outcome = 'answered' GROUP BY request_id HAVING count(*) > 1)",
    );
    let created = "SELECT count(DISTINCT provider_id) FROM batch WHERE provider_id IS NOT NULL";
    assert_eq!(
        ledger.totals.batches_created,
        number(&conn, created),
        "{context}: a batch was made twice"
    );
    let doubts = number(&conn, "SELECT count(*) FROM attempt WHERE outcome = 'in_doubt'");
    let again = ledger.totals.charged_again;
    assert!(again <= doubts, "{context}: {again} were charged again, and {doubts} in doubt");
    let store = project.store();
    let left =
        store.left(&store.live_prompts().unwrap(), InDoubtPolicy::Resend, Liveness::Idle).unwrap();
    assert!(left.iter().all(|left| left.due() == 0 && left.stuck() == 0), "{context}: {left:?}");
}

/// What a body may have been charged for, as the record has it.
#[derive(Default)]
struct Known {
    calls: u64,
    lines: u64,
}

/// Demands that the provider has charged each body at most as often as the record says that it may have:
/// once for each line and each call that was not refused.
fn charges_are_on_record(project: &Project, ledger: &Ledger, context: &str) {
    let known = known(project);
    let nothing = Known::default();
    for (body, account) in &ledger.bodies {
        let known = known.get(body).unwrap_or(&nothing);
        let calls = account.charged - account.batch_charged;
        assert!(
            calls <= known.calls && account.batch_charged <= known.lines,
            "{context}: {account:?}, and on record {} calls and {} lines",
            known.calls,
            known.lines
        );
    }
}

fn known(project: &Project) -> HashMap<String, Known> {
    let conn = open(project);
    let mut query = conn
        .prepare(
            "SELECT attempt.id, key, request.fingerprint, attempt.body IS NULL, attempt.route = 'batch', attempt.error_class
             FROM attempt JOIN request ON request.id = attempt.request_id JOIN row ON row.id = request.row_id",
        )
        .unwrap();
    let mut rows = query.query([]).unwrap();
    let mut known: HashMap<String, Known> = HashMap::new();
    while let Some(row) = rows.next().unwrap() {
        let class: Option<String> = row.get(5).unwrap();
        if !class.is_none_or(|class| is_charged(FailureClass::parse(&class).unwrap())) {
            continue;
        }
        let body = match row.get(3).unwrap() {
            true => hex(&row.get::<_, [u8; 32]>(2).unwrap()),
            false => {
                hex(&sent_body(project, &row.get::<_, String>(1).unwrap(), row.get(0).unwrap()))
            }
        };
        let known = known.entry(body).or_default();
        match row.get(4).unwrap() {
            true => known.lines += 1,
            false => known.calls += 1,
        }
    }
    known
}

/// The fingerprint of the body that an attempt sent where it is not its request's own.
fn sent_body(project: &Project, key: &str, attempt: i64) -> [u8; 32] {
    let store = project.store();
    let prompt = store.live_prompts().unwrap()[0].id;
    let row = store.find_row(key).unwrap().unwrap();
    let request = store.trail(row.id, prompt).unwrap().unwrap();
    let found = request.attempts.into_iter().find(|found| found.id.0 == attempt);
    Sha256::digest(found.unwrap().sent_body.unwrap()).into()
}

/// Whether a request that failed so was worked on all the same.
fn is_charged(class: FailureClass) -> bool {
    matches!(class, FailureClass::MissingFromBatch | FailureClass::MalformedReply)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
