//! Several commands on one project at once: a second run is refused by name, what a dead one left is never in the way,
//! readers see one moment of the file each time, and writers wait for each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "the record is looked at as any other program would"
)]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;
use support::batches::runs::Running;
use support::{Act, Folder, Provider, Request, table};

/// Looks at a project while a run is on, at least.
const LOOKS: usize = 12;

/// A provider that answers so many requests, and the others once it is told to.
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

    fn open_to(&self, requests: usize) {
        self.open_to.store(requests, Ordering::SeqCst);
    }
}

fn answer(request: &Request) -> Act {
    match request.text().contains("13") {
        true => Act::error(400, "invalid_value", "not this one"),
        false => Act::says(&format!("answer to {}", request.text())),
    }
}

fn project(provider: &Provider, rows: usize) -> Folder {
    let mut folder = Folder::new();
    let url = provider.base_url();
    folder.env("OPENAI_API_KEY", "sk-nobody").write("rows.csv", table(rows));
    folder.ok(&["init", "--model", "gpt-4o-mini", "--prompt", "{{ review }}", "--base-url", &url]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder
}

fn open(folder: &Folder) -> Connection {
    Connection::open(folder.file("overnight.db")).unwrap()
}

/// The answers of an exported table by key; those that are not there are left out.
fn answers(table: &str) -> HashMap<String, (String, String)> {
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let header = reader.headers().unwrap().clone();
    let at = |name: &str| header.iter().position(|found| found == name).unwrap();
    let (id, answer, state) = (at("id"), at("answer"), at("state"));
    let rows = reader.records().map(Result::unwrap);
    rows.map(|row| (row[id].to_owned(), (row[answer].to_owned(), row[state].to_owned()))).collect()
}

#[test]
fn a_second_run_is_refused_and_told_of_the_first() {
    let gate = Gate::start(0);
    let folder = project(&gate.provider, 3);
    let first = folder.start(&["run", "--concurrency", "1"]);
    let process = first.id();
    gate.provider.wait_for(1);
    for args in [&["run"][..], &["run", "--route", "batch"]] {
        let said = folder.run(args).ends(1);
        let named = format!("a run is on: process {process} on testhost, since 20");
        assert!(said.stderr.contains(&named), "{said:#?}");
        assert!(said.stderr.contains("hint: `overnight status --watch`"), "{said:#?}");
    }
    assert_eq!(gate.provider.count(), 1, "the second one sent nothing");
    gate.open_to(usize::MAX);
    let first = first.wait_with_output().unwrap();
    assert_eq!(first.status.code(), Some(0));
    assert_eq!(folder.status()["requests"]["answered"], 3);
    assert_eq!(gate.provider.count(), 3);
}

#[test]
fn what_a_dead_run_left_is_never_in_the_way() {
    let gate = Gate::start(usize::MAX);
    let base = project(&gate.provider, 2);
    // As a crash leaves it, and as another machine, a reused process number or an editor would.
    let us = format!("process {} on testhost, since 2020-01-01", std::process::id());
    let left: [&[u8]; 5] =
        [b"", us.as_bytes(), b"process 1 on elsewhere, since 2020-01-01", &[0xFF; 9000], b"\n\0"];
    for words in left {
        let folder = Folder::new();
        for name in base.names() {
            std::fs::copy(base.file(&name), folder.file(&name)).unwrap();
        }
        folder.write("overnight.db-run", words);
        let run = "INSERT INTO run (started_at_ms, settings, process_id, host, program_version)
                   VALUES (1, '{}', ?1, 'elsewhere', '0.1.0')";
        open(&folder).execute(run, [std::process::id()]).unwrap();
        assert_eq!(folder.status()["running"], false);
        let mut command = folder.command(&["run"]);
        let said = command.env("OPENAI_API_KEY", "sk-nobody").output().unwrap();
        assert_eq!(said.status.code(), Some(0), "{said:?}");
        assert_eq!(folder.status()["requests"]["answered"], 2);
        assert_eq!(folder.names(), ["overnight.db", "rows.csv"]);
    }
}

/// Demands that one `status --json` holds together.
fn is_of_one_moment(status: &Value, rows: u64) {
    let requests = &status["requests"];
    let number = |name: &str| requests[name].as_u64().unwrap();
    let all = ["pending", "in_flight", "in_batch", "in_doubt", "answered", "truncated", "failed"];
    let sum: u64 = all.iter().map(|state| number(state)).sum();
    assert_eq!((sum, number("total")), (rows, rows), "{status}");
    assert_eq!(number("in_doubt"), 0, "somebody is there to settle them: {status}");
    let failures = status["failures"].as_object().unwrap();
    let failed: u64 = failures.values().map(|number| number.as_u64().unwrap()).sum();
    assert_eq!(failed, number("failed"), "{status}");
    // Each of these requests is sent once, and each answer has 10 tokens.
    let settled = number("answered") + number("failed");
    assert_eq!(status["attempts"], settled + number("in_flight"), "{status}");
    assert_eq!(status["tokens"]["output"], number("answered") * 10, "{status}");
}

#[test]
fn readers_see_one_moment_of_the_file_each_time_while_a_run_is_on() {
    const ROWS: usize = 120;
    let gate = Gate::start(0);
    let folder = project(&gate.provider, ROWS);
    let mut run = Running::start(&folder, &["run", "--concurrency", "8"]);
    let (mut tables, mut answered, mut looks) = (Vec::new(), 0, 0);
    gate.provider.wait_for(1);
    // Some are read while it stands, most while it moves.
    while !run.is_over() {
        looks += 1;
        gate.open_to(looks * ROWS / LOOKS);
        let status = folder.status();
        is_of_one_moment(&status, ROWS as u64);
        let now = status["requests"]["answered"].as_u64().unwrap();
        assert!(now >= answered, "answers do not go away");
        answered = now;
        let table = folder.ok(&["export", "-"]).stdout;
        tables.push(answers(&table));
        let plan = folder.ok(&["plan", "--json"]).json();
        assert!(plan["due"].as_u64().unwrap() + now <= ROWS as u64, "{plan}");
        let shown = folder.ok(&["show", "k00001", "--json"]).stdout;
        assert!(!shown.contains("in_doubt"), "{shown}");
    }
    run.end().ends(3);
    assert!(looks >= LOOKS / 2, "only {looks} looks");
    let last = answers(&folder.ok(&["export", "-"]).stdout);
    assert_eq!(last.len(), ROWS);
    for table in tables {
        assert_eq!(table.len(), ROWS, "every table is whole");
        for (key, (answer, state)) in table {
            let is_answered = state == "answered";
            assert_eq!(is_answered, !answer.is_empty(), "{key} {state} {answer:?}");
            assert!(!is_answered || last[&key].0 == answer, "{key}: another answer than at last");
            assert!(state != "in_doubt", "{key}");
        }
    }
    assert_eq!(gate.provider.count(), ROWS, "each was sent once");
}

#[test]
fn rows_and_prompts_come_and_go_while_a_run_is_on_and_nothing_is_bought_twice() {
    let gate = Gate::start(2);
    let folder = project(&gate.provider, 12);
    let run = Running::start(&folder, &["run", "--concurrency", "2"]);
    gate.provider.wait_for(4);
    folder.write("more.csv", "id,review,note\nm1,more one,\nm2,more two,\n");
    folder.write("p.prompt", "Other: {{ review }}");
    folder.ok(&["add", "more.csv", "--key", "id"]);
    folder.ok(&["prompt", "add", "p.prompt", "--model", "gpt-4o-mini", "--name", "other"]);
    folder.ok(&["remove", "k00012"]);
    folder.run(&["retry", "--failed"]).ends(0);
    gate.open_to(usize::MAX);
    let said = run.end();
    assert_eq!(said.code, Some(0), "{said:#?}");
    folder.ok(&["run"]);
    let status = folder.status();
    // 13 live rows, 2 prompts.
    assert_eq!(status["requests"]["total"], 26, "{status}");
    assert_eq!(status["requests"]["answered"], 26, "{status}");
    let mut bodies = HashMap::new();
    for request in gate.provider.requests() {
        *bodies.entry(request.body).or_insert(0) += 1;
    }
    assert!(bodies.values().all(|times| *times == 1), "each body was sent once");
    let conn = open(&folder);
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[cfg(unix)]
#[test]
fn a_file_that_is_moved_away_from_under_a_run_stops_it_and_keeps_what_was_paid_for() {
    let gate = Gate::start(2);
    let folder = project(&gate.provider, 12);
    let run = Running::start(&folder, &["run", "--concurrency", "2"]);
    gate.provider.wait_for(4);
    std::fs::rename(folder.file("overnight.db"), folder.file("elsewhere.db")).unwrap();
    gate.open_to(usize::MAX);
    let said = run.end().ends(1);
    let named = "overnight.db was moved, removed or replaced while it was in use";
    assert!(said.stderr.contains(named), "{said:#?}");
    assert!(gate.provider.count() < 12, "it has stopped sending");
    std::fs::rename(folder.file("elsewhere.db"), folder.file("overnight.db")).unwrap();
    let answered = folder.status()["requests"]["answered"].as_u64().unwrap();
    assert_eq!(answered, gate.provider.count() as u64, "every reply is on record");
    folder.ok(&["run"]);
    assert_eq!(gate.provider.count(), 12, "nothing was bought twice");
    assert_eq!(folder.names(), ["overnight.db", "rows.csv"]);
}
