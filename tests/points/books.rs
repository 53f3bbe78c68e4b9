//! What must hold between a project's file and its provider's ledger: wherever a process died, and once all is done.

use std::collections::HashMap;

use overnight::domain::{FailureClass, PromptId, RowId};
use overnight::simulate::Ledger;
use overnight::store::Store;
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::site::{End, Snapshot};

/// Asks for one number.
pub(crate) fn number(conn: &Connection, sql: &str) -> u64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Asks for lines of text.
fn lines(conn: &Connection, sql: &str) -> Vec<String> {
    let mut query = conn.prepare(sql).unwrap();
    let found = query.query_map([], |row| row.get(0)).unwrap();
    found.collect::<Result<_, _>>().unwrap()
}

/// Every request whose cached state is not what its attempts come to, in words. One that shares another one's reply
/// has that one's state, and no sums of its own; one that a person asked for again has none.
const CONTRADICTIONS: &str = "
    WITH last AS (
        SELECT request.id AS id, request.state AS state, request.error_class AS class, request.attempts AS attempts,
               request.attempt_id AS deciding, request.asked_at_ms IS NOT NULL AND request.state = 'pending' AS is_asked,
               request.input_tokens AS input, request.output_tokens AS output, request.cost_nanousd AS cost,
               (SELECT count(*) FROM attempt WHERE request_id = request.id) AS made,
               (SELECT max(id) FROM attempt WHERE request_id = request.id) AS newest,
               (SELECT coalesce(sum(input_tokens), 0) FROM attempt WHERE request_id = request.id) AS paid_input,
               (SELECT coalesce(sum(output_tokens), 0) FROM attempt WHERE request_id = request.id) AS paid_output,
               (SELECT sum(cost_nanousd) FROM attempt WHERE request_id = request.id) AS paid
        FROM request WHERE request.error_class IS NOT 'render_failed')
    SELECT 'request ' || last.id || ' is ' || state || ' with ' || attempts || ' attempts, and its last is '
           || coalesce(attempt.outcome, 'open') || ' of ' || made
    FROM last LEFT JOIN attempt ON attempt.id = coalesce(deciding, newest)
    WHERE attempts <> made
       OR deciding IS NOT newest AND coalesce(attempt.request_id = last.id OR attempt.outcome IS NULL, 1)
       OR input <> paid_input OR output <> paid_output OR cost IS NOT paid
       OR class IS NOT CASE WHEN state = 'failed' THEN attempt.error_class END
       OR NOT is_asked AND state <> CASE WHEN attempt.id IS NULL THEN 'pending'
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

/// Every attempt that was made although its request had an answer, and nobody had asked for another.
const NEEDLESS: &str = "
    SELECT 'attempt ' || later.id || ' was made after ' || earlier.id || ' was answered'
    FROM attempt AS earlier JOIN attempt AS later ON later.request_id = earlier.request_id AND later.id > earlier.id
    JOIN request ON request.id = earlier.request_id
    WHERE earlier.outcome = 'answered' AND coalesce(request.asked_at_ms < earlier.settled_at_ms, 1)";

/// Demands that a file is whole and says nothing that its own ledger does not bear out.
pub(crate) fn is_whole(conn: &Connection, context: &str) {
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{context}");
    assert_eq!(number(conn, "SELECT count(*) FROM pragma_foreign_key_check"), 0, "{context}");
    for sql in [CONTRADICTIONS, MISCOUNTED, NEEDLESS] {
        let found = lines(conn, sql);
        assert!(found.is_empty(), "{context}: {found:#?}");
    }
}

/// Demands that `audit` finds nothing.
pub(crate) fn is_clean(snapshot: &Snapshot, context: &str) {
    let said = snapshot.audit();
    assert_eq!(said.end, End::Code(0), "{context}: {said:#?}");
}

/// What must hold wherever a process died: nothing is at the provider that the file does not know of.
///
/// The ledger was taken before the snapshot: what is charged in between is in neither's way.
pub(crate) fn holds_at_a_cut(snapshot: &Snapshot, ledger: &Ledger, context: &str) {
    let conn = snapshot.conn();
    is_whole(&conn, context);
    is_clean(snapshot, context);
    let promised = "SELECT count(DISTINCT batch_id) FROM batch_status WHERE status = 'creating'";
    let created = ledger.totals.batches_created;
    assert!(created <= number(&conn, promised), "{context}: {created} batches were created");
    let uploads = "SELECT count(*) FROM batch_status WHERE status = 'uploading'";
    let uploaded = ledger.totals.files_uploaded;
    assert!(uploaded <= number(&conn, uploads), "{context}: {uploaded} files were uploaded");
    charges_are_on_record(snapshot, ledger, context);
}

/// What must hold once a run has come to its end, however many died before.
pub(crate) fn holds_in_the_end(snapshot: &Snapshot, ledger: &Ledger, context: &str) {
    holds_at_a_cut(snapshot, ledger, context);
    let conn = snapshot.conn();
    let none = |sql: &str| assert_eq!(number(&conn, sql), 0, "{context}: {sql}");
    none("SELECT count(*) FROM attempt WHERE outcome IS NULL");
    none("SELECT count(*) FROM batch WHERE status <> 'collected'");
    let created = "SELECT count(DISTINCT provider_id) FROM batch WHERE provider_id IS NOT NULL";
    let (made, known) = (ledger.totals.batches_created, number(&conn, created));
    // One that the provider has forgotten before its id was heard is one that nobody can know.
    let forgotten = ledger.totals.faults.get("batch_vanished").copied().unwrap_or(0);
    assert!(
        known <= made && made <= known + forgotten,
        "{context}: {made} batches were made, {known} are known: one was made twice, or is not known"
    );
    for column in ["input_tokens", "output_tokens"] {
        let known = number(&conn, &format!("SELECT coalesce(sum({column}), 0) FROM attempt"));
        let charged = match column {
            "input_tokens" => ledger.totals.input_tokens,
            _ => ledger.totals.output_tokens,
        };
        assert!(known <= charged, "{context}: {known} {column} on record, {charged} charged");
    }
}

/// What the record has of one body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// Attempts with it.
    pub(crate) attempts: u64,
    /// Of these, calls that may have been charged.
    pub(crate) calls: u64,
    /// Lines of batches that may have been charged.
    pub(crate) lines: u64,
    /// Attempts whose reply tells what was charged.
    pub(crate) counted: u64,
    /// Attempts that are in doubt.
    pub(crate) in_doubt: u64,
    /// Attempts that brought an answer.
    pub(crate) answered: u64,
    /// Attempts that may have been charged, and brought no answer: they failed, or were cut by the token limit.
    pub(crate) wasted: u64,
    /// Whether a person asked for one of its requests again.
    pub(crate) is_asked: bool,
}

/// Demands that the provider has charged each body as often as the record says that it has, or may have: no body
/// more often than there are attempts that were not refused, and none less often than there are replies that say so.
fn charges_are_on_record(snapshot: &Snapshot, ledger: &Ledger, context: &str) {
    let known = known(snapshot);
    for (body, account) in &ledger.bodies {
        let known = known.get(body).copied().unwrap_or_default();
        let calls = account.charged - account.batch_charged;
        assert!(
            account.requests <= known.attempts
                && calls <= known.calls
                && account.batch_charged <= known.lines,
            "{context}: {account:?}, and on record {known:?}"
        );
        let again = known.in_doubt + known.wasted;
        assert!(
            known.is_asked || account.charged_again <= again,
            "{context}: {account:?} was charged again, and on record {known:?}"
        );
    }
}

/// Demands that every reply that tells of a charge was charged. The ledger was taken after the snapshot.
pub(crate) fn replies_were_charged(snapshot: &Snapshot, ledger: &Ledger, context: &str) {
    for (body, known) in known(snapshot) {
        let charged = ledger.bodies.get(&body).map_or(0, |account| account.charged);
        assert!(known.counted <= charged, "{context}: {charged} times, and on record {known:?}");
    }
}

/// What the record has, by the fingerprint of the body.
pub(crate) fn known(snapshot: &Snapshot) -> HashMap<String, Known> {
    let (conn, store) = (snapshot.conn(), snapshot.store());
    let mut query = conn
        .prepare(
            "SELECT attempt.id AS id, row_id, prompt_id, fingerprint, attempt.body IS NOT NULL AS has_own, route, outcome,
                    attempt.error_class AS class, attempt.input_tokens IS NOT NULL AS is_counted,
                    asked_at_ms IS NOT NULL AS is_asked
             FROM attempt JOIN request ON request.id = attempt.request_id",
        )
        .unwrap();
    let mut rows = query.query([]).unwrap();
    let mut all: HashMap<String, Known> = HashMap::new();
    while let Some(row) = rows.next().unwrap() {
        let body = if row.get("has_own").unwrap() {
            let of = (RowId(row.get("row_id").unwrap()), PromptId(row.get("prompt_id").unwrap()));
            hex(&sent_body(&store, of, row.get("id").unwrap()))
        } else {
            hex(&row.get::<_, [u8; 32]>("fingerprint").unwrap())
        };
        let known = all.entry(body).or_default();
        let class: Option<String> = row.get("class").unwrap();
        let may_be_charged = class
            .as_deref()
            .is_none_or(|class| may_be_charged(FailureClass::parse(class).unwrap()));
        let route: String = row.get("route").unwrap();
        let outcome: Option<String> = row.get("outcome").unwrap();
        known.attempts += 1;
        known.calls += u64::from(may_be_charged && route == "realtime");
        known.lines += u64::from(may_be_charged && route == "batch");
        known.counted += u64::from(row.get::<_, bool>("is_counted").unwrap());
        known.in_doubt += u64::from(outcome.as_deref() == Some("in_doubt"));
        known.answered += u64::from(outcome.as_deref() == Some("answered"));
        let is_cut = outcome.as_deref() == Some("truncated");
        known.wasted += u64::from(is_cut || class.is_some() && may_be_charged);
        known.is_asked |= row.get::<_, bool>("is_asked").unwrap();
    }
    all
}

/// The fingerprint of the body that an attempt sent where it is not its request's own.
fn sent_body(store: &Store, (row, prompt): (RowId, PromptId), attempt: i64) -> [u8; 32] {
    let request = store.trail(row, prompt).unwrap().unwrap();
    let found = request.attempts.into_iter().find(|found| found.id.0 == attempt);
    Sha256::digest(found.unwrap().sent_body.unwrap()).into()
}

/// Whether a request that failed so may have been worked on all the same.
fn may_be_charged(class: FailureClass) -> bool {
    match class {
        FailureClass::Timeout
        | FailureClass::Connection
        | FailureClass::ContentFiltered
        | FailureClass::Refused
        | FailureClass::InvalidAnswer
        | FailureClass::MalformedReply
        | FailureClass::BatchExpired
        | FailureClass::BatchCancelled
        | FailureClass::BatchFailed
        | FailureClass::MissingFromBatch => true,
        FailureClass::RateLimited
        | FailureClass::Overloaded
        | FailureClass::ServerError
        | FailureClass::Unreachable
        | FailureClass::QuotaExhausted
        | FailureClass::Unauthorized
        | FailureClass::Forbidden
        | FailureClass::ModelNotFound
        | FailureClass::EndpointNotFound
        | FailureClass::InvalidRequest
        | FailureClass::ContextTooLong
        | FailureClass::RequestTooLarge
        | FailureClass::SchemaUnsupported
        | FailureClass::RenderFailed => false,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// What is on record of each settled attempt, which nothing may change any more.
pub(crate) type Evidence = HashMap<i64, (String, Vec<u8>)>;

/// Reads the evidence: how each attempt ended, and a digest of all that came with it.
pub(crate) fn evidence(conn: &Connection) -> Evidence {
    let mut query = conn
        .prepare(
            "SELECT id, outcome, json_array(request_id, number, run_id, route, batch_id, max_tokens, promised_at_ms, settled_at_ms,
                    error_class, status_code, provider_request_id, served_model, finish_reason, input_tokens,
                    output_tokens, cost_nanousd, answer, hex(reply), reply_dictionary_id, hex(body)) AS everything
             FROM attempt WHERE outcome IS NOT NULL",
        )
        .unwrap();
    let found = query.query_map([], |row| {
        let everything: String = row.get("everything")?;
        Ok((row.get("id")?, (row.get("outcome")?, Sha256::digest(everything).to_vec())))
    });
    found.unwrap().collect::<Result<_, _>>().unwrap()
}

/// Demands that what was on record is so still. The one exception: text that came in a later line than a failure.
pub(crate) fn is_kept(before: &Evidence, after: &Evidence, context: &str) {
    for (attempt, was) in before {
        let is = after.get(attempt);
        let is_amended =
            was.0 == "failed" && is.is_some_and(|is| is.0 == "answered" || is.0 == "truncated");
        assert!(
            is == Some(was) || is_amended,
            "{context}: attempt {attempt} was {was:?}, is {is:?}"
        );
    }
}
