//! Requests with the same body: one buys, all share, and nobody waits for good.

mod support;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use support::{Act, Folder, Provider};

fn project(provider: &Provider, rows: &str) -> Folder {
    let folder = Folder::new();
    let url = provider.base_url();
    folder.write("rows.csv", format!("text,n\n{rows}"));
    folder.ok(&["init", "--model", "gpt-4o-mini", "--prompt", "{{ text }}", "--base-url", &url]);
    folder.ok(&["add", "rows.csv"]);
    folder
}

/// Waits for the end, within a generous bound; a run that hangs is killed and fails the test.
fn end_of(mut run: Child) -> Option<i32> {
    for _ in 0..4000 {
        if let Some(status) = run.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    panic!("the run did not come to its end");
}

fn lines(run: &mut Child) -> Lines<BufReader<ChildStderr>> {
    BufReader::new(run.stderr.take().unwrap()).lines()
}

#[test]
fn those_who_wait_go_on_where_their_leader_shares_in_the_end() {
    // The first `same` fails once the second waits for it, and is put off; the third is answered
    // meanwhile and shared by the first, for which the second has been waiting all the time.
    let others = Arc::new(AtomicUsize::new(0));
    let provider = Provider::start(move |request| match (request.text().as_str(), request.seen) {
        ("same", 0) => {
            while others.load(Ordering::SeqCst) < 5 {
                std::thread::sleep(Duration::from_millis(2));
            }
            Act::error(500, "server_error", "oops").with("retry-after-ms", "1500")
        }
        ("same", _) => Act::says("fine"),
        _ => {
            others.fetch_add(1, Ordering::SeqCst);
            Act::says("fine")
        }
    });
    let between: String = (0..60).map(|row| format!("row {row},0\n")).collect();
    let folder = project(&provider, &format!("same,1\nsame,2\n{between}same,3\n"));
    let run = folder.start(&["run", "--concurrency", "2"]);
    assert_eq!(end_of(run), Some(0));
    assert_eq!(folder.status()["requests"]["answered"], 63);
    assert_eq!(provider.count(), 62, "bought once, after one failure");
}

#[cfg(unix)]
#[test]
fn a_stop_ends_the_run_for_those_who_begin_to_wait_after_it_too() {
    let (slow, other) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let gates = (Arc::clone(&slow), Arc::clone(&other));
    let wait_for = |gate: &AtomicBool| {
        while !gate.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let provider = Provider::start(move |request| match request.text().as_str() {
        "same" => {
            wait_for(&gates.0);
            Act::error(500, "server_error", "oops")
        }
        _ => {
            wait_for(&gates.1);
            Act::says("fine")
        }
    });
    let folder = project(&provider, "same,1\nother,1\nsame,2\n");
    let mut run = folder.start(&["run", "--concurrency", "2"]);
    provider.wait_for(2);
    // While the record is locked, the second `same` is promised and cannot be told to wait.
    let holder = rusqlite::Connection::open(folder.file("overnight.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    other.store(true, Ordering::SeqCst);
    let mut said = lines(&mut run);
    assert!(said.any(|line| line.unwrap().contains("cannot be written, trying again")));
    let killed = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status();
    assert!(killed.unwrap().success());
    assert!(said.any(|line| line.unwrap().starts_with("interrupted")));
    holder.execute_batch("COMMIT").unwrap();
    drop(holder);
    // Only once it has been told to wait may the one that it waits for fail.
    let told = "SELECT count(*) FROM request";
    let asker = rusqlite::Connection::open(folder.file("overnight.db")).unwrap();
    for _ in 0..2000 {
        if asker.query_row(told, [], |row| row.get::<_, i64>(0)).unwrap() == 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(asker);
    slow.store(true, Ordering::SeqCst);
    assert_eq!(end_of(run), Some(130));
    assert_eq!(provider.count(), 2, "nothing was sent after the stop");
    let requests = folder.status()["requests"].clone();
    assert_eq!((&requests["answered"], &requests["in_doubt"]), (&json!(1), &json!(0)));
}

#[test]
fn a_limit_counts_those_who_share_and_ends() {
    let provider = Provider::start(|_| Act::says("fine"));
    let folder = project(&provider, &"same,1\n".repeat(30));
    let run = folder.start(&["run", "--limit", "7", "--concurrency", "3"]);
    assert_eq!(end_of(run), Some(0));
    assert_eq!(provider.count(), 1);
    assert_eq!(folder.status()["requests"]["answered"], 7);
    assert_eq!(folder.ok(&["plan", "--json"]).json()["due"], 23);
}

#[test]
fn many_prompts_on_one_model_share_its_pace_and_their_equal_requests() {
    let provider = Provider::start(|request| match request.seen {
        0 if request.text().contains('7') => Act::error(429, "rate_limit_exceeded", "slow down"),
        _ => Act::says("fine"),
    });
    let rows: String = (0..40).map(|row| format!("row {row},{row}\n")).collect();
    let folder = project(&provider, &rows);
    let prompt = |name: &str, text: &str| {
        folder.ok(&["prompt", "add", "--name", name, "--model", "gpt-4o-mini", "--text", text]);
    };
    for name in ["twin1", "twin2", "twin3"] {
        prompt(name, "{{ text }}");
    }
    prompt("other", "Say {{ text }}");
    let run = folder.start(&["run", "--concurrency", "4"]);
    assert_eq!(end_of(run), Some(0));
    assert_eq!(folder.status()["requests"]["answered"], 200);
    // Of rows 7, 17, 27 and 37 each of the two bodies was refused once.
    assert_eq!(provider.count(), 80 + 8);
}

#[test]
fn a_stop_lets_go_of_a_feeder_that_waits_for_room() {
    // Far more rows than are rendered ahead, and a provider that refuses every key.
    let provider = Provider::start(|_| Act::error(401, "invalid_api_key", "no"));
    let rows: String = (0..3000).map(|row| format!("row {row},{row}\n")).collect();
    let folder = project(&provider, &rows);
    let run = folder.start(&["run", "--concurrency", "2"]);
    assert_eq!(end_of(run), Some(1));
    assert_eq!(folder.ok(&["plan", "--json"]).json()["due"], 3000);
}
