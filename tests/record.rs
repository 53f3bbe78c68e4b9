//! The record as a person has it: one private file, in a format that stays readable, in which rows keep their identity.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "the record is looked at as any other program would"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use support::{Act, Folder, Provider, Request, completion};

const INIT: [&str; 5] = ["init", "--model", "gpt-4o-mini", "--prompt", "Say: {{ text }}"];

/// A project with nothing in it but a prompt over the column `text`.
fn project(provider: &Provider) -> Folder {
    let folder = Folder::new();
    folder.ok(&[&INIT[..], &["--base-url", &provider.base_url()]].concat());
    folder
}

fn echo() -> Provider {
    Provider::start(|request| Act::says(&request.text().to_uppercase()))
}

fn open(folder: &Folder) -> Connection {
    Connection::open(folder.file("overnight.db")).unwrap()
}

/// Asks with plain SQL, as any other program would; one line a row, `|` between values.
fn query(folder: &Folder, sql: &str) -> Vec<String> {
    let conn = open(folder);
    let mut statement = conn.prepare(sql).unwrap();
    let columns = statement.column_count();
    let text = |value: ValueRef<'_>| match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    };
    let rows = statement.query_map([], |row| {
        let values: Result<Vec<_>, _> =
            (0..columns).map(|column| row.get_ref(column).map(text)).collect();
        values.map(|values| values.join("|"))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn count(folder: &Folder, table: &str) -> usize {
    query(folder, &format!("SELECT count(*) FROM {table}"))[0].parse().unwrap()
}

#[test]
fn one_private_file_is_left_after_every_command() {
    let provider = echo();
    let folder = Folder::new();
    folder.write("a.csv", "id,text\n1,a\n2,b\n").write("p.prompt", "Shout: {{ text }}");
    let url = provider.base_url();
    let init = [&INIT[..], &["--base-url", &url]].concat();
    let commands: Vec<(Vec<&str>, i32)> = vec![
        (init, 0),
        (vec!["add", "a.csv", "--key", "id"], 0),
        (vec!["plan"], 0),
        (vec!["run", "--dry-run"], 0),
        (vec!["run"], 0),
        (vec!["run"], 0),
        (vec!["status"], 0),
        (vec!["status", "--json"], 0),
        (vec!["show", "1"], 0),
        (vec!["show", "#9"], 1),
        (vec!["export", "-"], 0),
        (vec!["prompt", "add", "p.prompt", "--model", "gpt-4o-mini"], 0),
        (vec!["prompt", "list"], 0),
        (vec!["retry", "--rows", "1"], 0),
        (vec!["remove", "2"], 0),
        (vec!["remove", "nobody"], 1),
        (vec!["run", "--limit", "1"], 0),
        (vec!["add", "missing.csv"], 1),
        (vec!["init"], 1),
    ];
    for (args, code) in commands {
        folder.run(&args).ends(code);
        assert_eq!(folder.names(), ["a.csv", "overnight.db", "p.prompt"], "{args:?}");
    }
    #[cfg(unix)]
    {
        let meta = std::fs::metadata(folder.file("overnight.db")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
        assert_eq!(mode & 0o777, 0o600, "rows and answers are their owner's");
    }
    assert_eq!(query(&folder, "PRAGMA integrity_check"), ["ok"]);
    assert!(query(&folder, "PRAGMA foreign_key_check").is_empty());
}

#[cfg(unix)]
#[test]
fn the_side_files_of_a_run_are_private_too() {
    let provider = Provider::start(|_| Act::Hang);
    let folder = project(&provider);
    folder.write("a.csv", "text\na\n").ok(&["add", "a.csv"]);
    let mut run = folder.start(&["run"]);
    provider.wait_for(1);
    let side: Vec<String> =
        folder.names().into_iter().filter(|name| name.starts_with("overnight.db")).collect();
    assert_eq!(side, ["overnight.db", "overnight.db-run", "overnight.db-shm", "overnight.db-wal"]);
    for name in side {
        let meta = std::fs::metadata(folder.file(&name)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn the_file_says_what_it_is() {
    let folder = project(&echo());
    let bytes = std::fs::read(folder.file("overnight.db")).unwrap();
    assert_eq!(&bytes[..16], b"SQLite format 3\0");
    assert_eq!(&bytes[18..20], &[2, 2], "WAL");
    assert_eq!(&bytes[60..64], 4u32.to_be_bytes(), "user_version");
    assert_eq!(&bytes[68..72], b"OVRN", "application_id");
    let applied = query(&folder, "SELECT version, name FROM migration");
    assert_eq!(applied, ["1|first_format", "2|batches", "3|money", "4|scale"]);
}

#[test]
fn the_view_has_the_columns_that_people_query() {
    let folder = project(&echo());
    let columns = query(&folder, "SELECT name FROM pragma_table_info('answers') ORDER BY cid");
    let promised = "position, key, cells, prompt, prompt_version, state, answer, finish_reason, model, route, batch_id, \
                    provider_request_id, input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost_usd, \
                    attempts, error_class, answered_at_ms";
    assert_eq!(columns.join(", "), promised);
}

#[test]
fn a_write_lock_makes_add_wait_and_say_so() {
    let folder = project(&echo());
    folder.write("a.csv", "text\na\nb\n");
    let holder = open(&folder);
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut add = folder.start(&["add", "a.csv"]);
    let mut said = BufReader::new(add.stderr.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    assert_eq!(first, "overnight.db is locked by another process; waiting for it");
    assert!(add.try_wait().unwrap().is_none(), "it waits");
    holder.execute_batch("COMMIT").unwrap();
    assert_eq!(add.wait().unwrap().code(), Some(0));
    assert_eq!(said.next().unwrap().unwrap(), "a.csv: 2 rows added");
    drop(holder);
    assert_eq!(count(&folder, "row"), 2);
}

#[test]
fn a_lock_in_the_middle_of_a_run_loses_nothing_and_sends_nothing_twice() {
    let provider = echo();
    let folder = project(&provider);
    let table: String = (0..400).flat_map(|row| [row.to_string(), "\n".into()]).collect();
    folder.write("a.csv", format!("text\n{table}")).ok(&["add", "a.csv"]);
    let holder = open(&folder);
    holder.busy_timeout(Duration::from_secs(30)).unwrap();
    let mut run = folder.start(&["run", "--concurrency", "8"]);
    provider.wait_for(20);
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Once the run has said so, it has waited for two seconds.
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines();
    let words = "the record cannot be written, trying again: overnight.db is locked";
    assert!(said.any(|line| line.unwrap().starts_with(words)));
    holder.execute_batch("COMMIT").unwrap();
    drop(holder);
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert_eq!(run.wait().unwrap().code(), Some(0), "{rest:#?}");
    assert_eq!(provider.count(), 400);
    assert_eq!(folder.status()["requests"]["answered"], 400);
}

/// Adds a file and returns what it said of it.
fn add(folder: &Folder, content: &str, args: &[&str]) -> String {
    folder.write("rows.csv", content);
    let said = folder.ok(&[&["add", "rows.csv"], args].concat());
    said.stderr.lines().next().unwrap().trim_start_matches("rows.csv: ").to_owned()
}

#[test]
fn without_a_key_a_row_is_its_content_and_its_number_among_its_equals() {
    let folder = project(&echo());
    assert_eq!(add(&folder, "text,n\na,1\nb,2\n", &[]), "2 rows added");
    assert_eq!(add(&folder, "text,n\na,1\nb,2\n", &[]), "0 rows added, 2 there already");
    assert_eq!(add(&folder, "text,n\nc,3\na,1\nb,2\n", &[]), "1 row added, 2 there already");
    assert_eq!(add(&folder, "n,text\n1,a\n3,c\n", &[]), "0 rows added, 2 there already");
    assert_eq!(add(&folder, "text,n\na,1\na,1\na,1\n", &[]), "2 rows added, 1 there already");
    assert_eq!(add(&folder, "text,n\na,2\n", &[]), "1 row added");
    folder.write("copy.csv", "text;n\nb;2\nd;4\n");
    let said = folder.ok(&["add", "copy.csv"]).stderr;
    assert!(said.starts_with("copy.csv: 1 row added, 1 there already\n"), "{said}");
    assert_eq!(count(&folder, "row"), 7);
    assert_eq!(count(&folder, "source"), 5, "a file that brings nothing is no source");
    let positions = query(&folder, "SELECT position FROM answers ORDER BY 1");
    assert_eq!(positions, ["1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn with_a_key_a_change_is_a_version_and_going_back_costs_nothing() {
    let provider = echo();
    let folder = project(&provider);
    let (a, b) = ("id,text\nk,first\n", "id,text\nk,second\n");
    let key = ["--key", "id"];
    assert_eq!(add(&folder, a, &key), "1 row added");
    folder.ok(&["run"]);
    assert_eq!(add(&folder, b, &key), "0 rows added, 1 changed");
    folder.ok(&["run"]);
    assert_eq!(add(&folder, a, &key), "0 rows added, 1 changed");
    folder.ok(&["run"]);
    assert_eq!(provider.count(), 2, "the first answer is on file");
    let now = query(&folder, "SELECT position, cells ->> 'text', answer, attempts FROM answers");
    assert_eq!(now, ["1|first|SAY: FIRST|0"]);
    let versions = query(&folder, "SELECT version, position, retired_why FROM row ORDER BY id");
    assert_eq!(versions, ["1|1|changed", "2|1|changed", "3|1|"]);
    assert_eq!(add(&folder, "text,id\nfirst,k\n", &key), "0 rows added, 1 there already");
}

#[test]
fn a_row_that_comes_back_has_its_answer_and_its_place() {
    let provider = echo();
    let folder = project(&provider);
    let table = "text\na\nb\na\n";
    add(&folder, table, &[]);
    folder.ok(&["run"]);
    folder.ok(&["remove", "#1"]);
    folder.ok(&["remove", "#2"]);
    let export = || folder.ok(&["export", "-"]).stdout;
    assert_eq!(export(), "text,answer,state\na,SAY: A,answered\n");
    assert_eq!(add(&folder, table, &[]), "0 rows added, 2 back, 1 there already");
    assert_eq!(
        export(),
        "text,answer,state\na,SAY: A,answered\nb,SAY: B,answered\na,SAY: A,answered\n"
    );
    folder.ok(&["run"]);
    assert_eq!(provider.count(), 2);
}

#[test]
fn a_file_is_added_whole_or_not_at_all() {
    let folder = project(&echo());
    add(&folder, "id,text\n1,a\n2,b\n", &["--key", "id"]);
    let bad = [
        ("twice.csv", "id,text\n3,c\n1,changed\n3,again\n", "stands on line 2 already"),
        ("empty.csv", "id,text\n4,d\n,e\n", "line 3"),
        ("ragged.csv", "id,text\n5,e\n6,f,g,h\n", "line 3"),
        ("bad.jsonl", "{\"id\":\"7\",\"text\":\"x\"}\n{\"id\":\"8\",", "line 2"),
    ];
    for (name, content, words) in bad {
        folder.write(name, content);
        let said = folder.run(&["add", name, "--key", "id"]).ends(1);
        assert!(said.stderr.contains(words), "{said:?}");
        assert_eq!((count(&folder, "row"), count(&folder, "source")), (2, 1), "{name}");
    }
    let live = query(&folder, "SELECT position, key, cells ->> 'text' FROM answers ORDER BY 1");
    assert_eq!(live, ["1|1|a", "2|2|b"]);
}

/// What the provider says to `row`: replies that are hard to keep.
fn hard_reply(row: &str) -> Act {
    let noise =
        || (0u32..2_500_000).map(|n| char::from(b'a' + (n.wrapping_mul(n) >> 9) as u8 % 26));
    match row {
        "long" => Act::says(&noise().collect::<String>().repeat(2)),
        "empty" => Act::Reply(400, Vec::new(), Vec::new()),
        "binary" => Act::Reply(400, Vec::new(), (0..=255).cycle().take(70_000).collect()),
        "bare" => Act::Reply(400, Vec::new(), b"\xff\xfe\0{".to_vec()),
        _ => Act::says("plain"),
    }
}

#[test]
fn replies_and_bodies_come_back_byte_for_byte_whatever_they_hold() {
    let script = |request: &Request| hard_reply(request.text().trim_start_matches("Say: "));
    let provider = Provider::start(script);
    let folder = project(&provider);
    let long_row = "훌륭해요 \"quoted\" \u{1f600} ".repeat(20_000);
    let rows = ["first", "long", "empty", "binary", "bare", &long_row, "last"];
    let table: String = rows.iter().map(|row| json!({ "text": row }).to_string() + "\n").collect();
    folder.write("rows.jsonl", table).ok(&["add", "rows.jsonl"]);
    folder.run(&["run", "--concurrency", "1"]).ends(3);
    for (index, row) in rows.iter().enumerate() {
        let position = format!("#{}", index + 1);
        let show = |what: &str| folder.command(&["show", &position, what]).output().unwrap();
        let sent = provider
            .requests()
            .into_iter()
            .find(|request| request.text() == format!("Say: {row}"))
            .unwrap();
        assert!(show("--request").stdout == sent.body, "the request of {position}");
        let Act::Reply(_, _, reply) = hard_reply(row) else { panic!("a reply") };
        assert!(show("--reply").stdout == reply, "the reply to {position}");
    }
    let kept = query(&folder, "SELECT sum(length(reply)) < 6000000 FROM attempt");
    assert_eq!(kept, ["1"], "five million letters are no five million bytes");
}

#[test]
fn a_reader_sees_a_run_that_is_on() {
    let let_go = Arc::new(AtomicUsize::new(0));
    let gate = Arc::clone(&let_go);
    let provider = Provider::start(move |request| {
        while request.text() == "Say: b" && gate.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        Act::json(200, &completion("fine", "stop"))
    });
    let folder = project(&provider);
    folder.write("a.csv", "text\na\nb\n").ok(&["add", "a.csv"]);
    let mut run = folder.start(&["run", "--concurrency", "1"]);
    provider.wait_for(2);
    let states = query(&folder, "SELECT state FROM answers ORDER BY position");
    assert_eq!(states, ["answered", "in_flight"], "with sqlite3, while the run is on");
    assert_eq!(folder.status()["running"], Value::Bool(true));
    let_go.store(1, Ordering::SeqCst);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(query(&folder, "SELECT count(*) FROM answers WHERE state = 'answered'"), ["2"]);
}
