//! Killed at any moment, a run goes on to the same table, and buys nothing twice that it had on file.
//!
//! Where a run is cut is decided by what the provider has seen, never by a clock.

mod support;

use std::collections::HashSet;
use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Act, Folder, Provider, Request, table};

/// Rows of the tables here.
const ROWS: usize = 300;
/// The fingerprint of a body: SHA-256 of its bytes.
type Fingerprint = Vec<u8>;

/// A provider that answers each text in its own way and lets only so many requests through.
struct Gate {
    provider: Provider,
    open_to: Arc<AtomicUsize>,
}

impl Gate {
    fn start(open_to: usize) -> Self {
        let open_to = Arc::new(AtomicUsize::new(open_to));
        let (limit, came) = (Arc::clone(&open_to), AtomicUsize::new(0));
        let provider = Provider::start(move |request| {
            let number = came.fetch_add(1, Ordering::SeqCst);
            while number >= limit.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            answer(request)
        });
        Self { provider, open_to }
    }

    /// Lets `more` requests through than have come so far.
    fn open(&self, more: usize) {
        self.open_to.store(self.provider.count().saturating_add(more), Ordering::SeqCst);
    }
}

/// Always the same for the same text; now and then a first try fails, and some rows always do.
fn answer(request: &Request) -> Act {
    let text = request.text();
    let length = text.len();
    let number: usize =
        text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
    match (number % 50, request.seen) {
        (7, 0) => Act::error(500, "server_error", "oops").with("retry-after-ms", "20"),
        (9, 0) => Act::Close,
        (11, _) => Act::error(400, "invalid_value", "not this one"),
        _ => Act::says(&format!("answer to {number}, {length} bytes")),
    }
}

/// A project with the table in it, at a provider.
fn project(provider: &Provider) -> Folder {
    let folder = Folder::new();
    let url = provider.base_url();
    folder.write("rows.csv", table(ROWS));
    folder.ok(&["init", "--model", "gpt-4o-mini", "--prompt", "{{ review }}", "--base-url", &url]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder
}

fn kill(mut run: Child) {
    assert!(run.try_wait().unwrap().is_none(), "it ended before it could be killed");
    run.kill().unwrap();
    run.wait().unwrap();
}

/// Copies a project as a crash left it, so that looking at the copy changes nothing of it.
fn copy(folder: &Folder) -> Folder {
    let copy = Folder::new();
    for name in folder.names().iter().filter(|name| name.starts_with("overnight.db")) {
        std::fs::copy(folder.file(name), copy.file(name)).unwrap();
    }
    copy
}

fn open(folder: &Folder) -> Connection {
    Connection::open(folder.file("overnight.db")).unwrap()
}

fn fingerprints(folder: &Folder, sql: &str) -> HashSet<Fingerprint> {
    let conn = open(folder);
    let mut query = conn.prepare(sql).unwrap();
    query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn number(folder: &Folder, sql: &str) -> usize {
    open(folder).query_row(sql, [], |row| row.get(0)).unwrap()
}

/// The fingerprints of requests that have an answer on file.
fn answered(folder: &Folder) -> HashSet<Fingerprint> {
    fingerprints(folder, "SELECT fingerprint FROM request WHERE state = 'answered'")
}

fn is_whole(folder: &Folder) {
    let conn = open(folder);
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let broken: i64 = conn
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(broken, 0);
}

/// Requests that came from the `after`-th on, by fingerprint.
fn came(provider: &Provider, after: usize) -> Vec<Fingerprint> {
    provider.requests()[after..]
        .iter()
        .map(|request| Sha256::digest(&request.body).to_vec())
        .collect()
}

/// The table of a run that nothing happened to.
fn unbroken() -> String {
    let provider = Provider::start(answer);
    let folder = project(&provider);
    folder.run(&["run"]).ends(3);
    folder.ok(&["export", "-"]).stdout
}

/// Everything that must hold once a run has come to its end after crashes.
fn holds_in_the_end(folder: &Folder, provider: &Provider) {
    is_whole(folder);
    assert_eq!(folder.names(), ["overnight.db", "rows.csv"]);
    let known = fingerprints(folder, "SELECT fingerprint FROM request");
    for body in came(provider, 0) {
        assert!(known.contains(&body), "the provider saw a body that is not on record");
    }
    let attempts = number(folder, "SELECT count(*) FROM attempt");
    assert!(provider.count() <= attempts, "{} calls, {attempts} on record", provider.count());
    let settled =
        "SELECT count(*) FROM attempt WHERE outcome IN ('answered', 'failed', 'in_doubt')";
    assert_eq!(number(folder, settled), attempts, "each came to something");
    let twice = "SELECT count(*) FROM (SELECT request_id FROM attempt WHERE outcome = 'answered'
                 GROUP BY request_id HAVING count(*) > 1)";
    assert_eq!(number(folder, twice), 0, "no row was answered twice");
}

#[test]
fn a_killed_run_goes_on_to_the_same_table_and_buys_nothing_again() {
    let expected = unbroken();
    for cuts in [vec![1], vec![10], vec![100], vec![250], vec![40, 3, 120]] {
        let gate = Gate::start(0);
        let folder = project(&gate.provider);
        let (mut before, mut bought) = (0, HashSet::new());
        for &more in &cuts {
            gate.open(more);
            let run = folder.start(&["run", "--concurrency", "12"]);
            gate.provider.wait_for(before + more + 1);
            kill(run);
            buys_nothing_of(&bought, &gate.provider, before);
            before = gate.provider.count();
            let crashed = copy(&folder);
            is_whole(&crashed);
            bought = answered(&crashed);
            assert!(bought.len() <= before);
        }
        gate.open(usize::MAX);
        let said = folder.run(&["run", "--concurrency", "12"]).ends(3);
        buys_nothing_of(&bought, &gate.provider, before);
        assert_eq!(folder.ok(&["export", "-"]).stdout, expected, "{cuts:?}: {}", said.stderr);
        holds_in_the_end(&folder, &gate.provider);
    }
}

fn buys_nothing_of(bought: &HashSet<Fingerprint>, provider: &Provider, after: usize) {
    let again = came(provider, after).into_iter().filter(|body| bought.contains(body)).count();
    assert_eq!(again, 0, "sent again with the answer on file");
}

#[test]
fn what_a_crash_leaves_is_read_as_it_stands_before_any_run_goes_on() {
    let gate = Gate::start(100);
    let folder = project(&gate.provider);
    let run = folder.start(&["run", "--concurrency", "12"]);
    gate.provider.wait_for(101);
    kill(run);
    let left =
        ["overnight.db", "overnight.db-run", "overnight.db-shm", "overnight.db-wal", "rows.csv"];
    assert_eq!(folder.names(), left);

    let plain = copy(&folder);
    let state = |word: &str| {
        number(&plain, &format!("SELECT count(*) FROM request WHERE state = '{word}'"))
    };
    let (answers, in_flight) = (state("answered"), state("in_flight"));
    assert!((1..=12).contains(&in_flight), "{in_flight} in flight");

    let status = copy(&folder).status();
    assert_eq!(status["running"], false);
    assert_eq!(status["requests"]["answered"], answers);
    assert_eq!(status["requests"]["in_doubt"], in_flight, "nobody is there to settle them");
    assert_eq!(status["requests"]["in_flight"], 0);
    assert_eq!(status["requests"]["total"], ROWS);

    let plan = copy(&folder).ok(&["plan", "--json"]).json();
    let failed =
        number(&plain, "SELECT count(*) FROM request WHERE error_class = 'invalid_request'");
    assert_eq!(plan["due"], ROWS - answers - failed);
    let dry = copy(&folder).ok(&["run", "--dry-run", "--json"]).json();
    assert_eq!(dry["due"], plan["due"]);

    let export = copy(&folder).ok(&["export", "-"]).stdout;
    let states = |word: &str| {
        let mut table = csv::Reader::from_reader(export.as_bytes());
        table.records().filter(|row| row.as_ref().unwrap().iter().next_back() == Some(word)).count()
    };
    assert_eq!((states("answered"), states("in_doubt")), (answers, in_flight));

    let key: String = open(&plain)
        .query_row("SELECT key FROM answers WHERE state = 'in_flight' LIMIT 1", [], |row| {
            row.get(0)
        })
        .unwrap();
    let shown = copy(&folder).ok(&["show", &key, "--json"]).json().to_string();
    assert!(shown.contains("in_doubt") && !shown.contains("in_flight"), "{shown}");

    // Looking has settled nothing and blocks nothing.
    folder.status();
    gate.open(usize::MAX);
    let said = folder.run(&["run"]).ends(3);
    assert!(said.stderr.contains("may have been sent and have no reply on file"), "{said:?}");
    holds_in_the_end(&folder, &gate.provider);
    let runs = "SELECT group_concat(ended) FROM run";
    let ended: String = open(&folder).query_row(runs, [], |row| row.get(0)).unwrap();
    assert_eq!(ended, "crashed,some_failed");
}

#[test]
fn doubts_are_held_where_a_person_wants_it_and_nothing_else_is() {
    let gate = Gate::start(30);
    let folder = project(&gate.provider);
    let run = folder.start(&["run", "--concurrency", "12"]);
    gate.provider.wait_for(31);
    kill(run);
    let in_doubt = folder.status()["requests"]["in_doubt"].as_u64().unwrap();
    let doubtful =
        fingerprints(&copy(&folder), "SELECT fingerprint FROM request WHERE state = 'in_flight'");
    assert_eq!(doubtful.len() as u64, in_doubt);
    let before = gate.provider.count();
    gate.open(usize::MAX);
    folder.run(&["run", "--in-doubt=hold"]).ends(3);
    buys_nothing_of(&doubtful, &gate.provider, before);
    assert_eq!(folder.status()["requests"]["in_doubt"], in_doubt);
    assert_eq!(folder.status()["requests"]["pending"], 0);
    folder.run(&["run"]).ends(3);
    assert_eq!(folder.status()["requests"]["in_doubt"], 0);
    holds_in_the_end(&folder, &gate.provider);
}

/// Starts an `add` that has read much of a big table and waits for the rest, which never comes.
fn half_added(folder: &Folder, rows: &str) -> Child {
    let args = ["add", "-", "--format", "csv", "--key", "id"];
    let mut add = folder.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    // Returns once all but a pipe's worth has been read.
    add.stdin.as_mut().unwrap().write_all(rows.as_bytes()).unwrap();
    add
}

#[test]
fn a_killed_add_leaves_the_table_as_it_was_and_can_be_done_again() {
    let provider = Provider::start(answer);
    let folder = project(&provider);
    let before = folder.ok(&["export", "-"]).stdout;
    let filler = "x".repeat(900);
    let mut big = String::from("id,review,note\n");
    for row in 0..30_000 {
        // The first ones change rows that are there.
        big.push_str(&format!("k{row:05},{filler}{row},\n"));
    }
    let pages = || std::fs::metadata(folder.file("overnight.db-wal")).map_or(0, |meta| meta.len());
    let add = half_added(&folder, &big);
    assert!(pages() > 1_000_000, "more than memory holds is in the side file: {}", pages());
    kill(add);
    assert!(pages() > 1_000_000);
    is_whole(&copy(&folder));
    assert_eq!(folder.status()["rows"], ROWS);
    assert_eq!(folder.ok(&["export", "-"]).stdout, before);
    assert_eq!(number(&folder, "SELECT count(*) FROM source"), 1);
    assert_eq!(number(&folder, "SELECT count(*) FROM row"), ROWS);
    assert_eq!(folder.names(), ["overnight.db", "rows.csv"]);

    folder.write("big.csv", &big);
    let said = folder.ok(&["add", "big.csv", "--key", "id", "--json"]).json();
    let added = &said["files"][0];
    assert_eq!((&added["added"], &added["changed"]), (&json!(29_700), &json!(300)));
    is_whole(&folder);
}

#[test]
fn a_run_that_is_killed_before_its_first_reply_knows_what_it_sent() {
    let gate = Gate::start(0);
    let folder = project(&gate.provider);
    let run = folder.start(&["run", "--concurrency", "12"]);
    gate.provider.wait_for(12);
    kill(run);
    let status = folder.status();
    assert_eq!(status["requests"]["in_doubt"], 12);
    assert_eq!(status["attempts"], 12);
    assert_eq!(status["cost_usd"].as_f64(), Some(0.0));
    assert_ne!(status["last_run"], Value::Null);
    let known = fingerprints(&folder, "SELECT fingerprint FROM request WHERE state = 'in_flight'");
    assert_eq!(came(&gate.provider, 0).into_iter().collect::<HashSet<_>>(), known);
    gate.open(usize::MAX);
    folder.run(&["run"]).ends(3);
    holds_in_the_end(&folder, &gate.provider);
}
