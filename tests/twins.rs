//! Requests with the same body: one buys, all share, and nobody waits for good.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "the record is looked at as any other program would"
)]

mod support;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use support::{Act, Folder, Provider, Simulator};

fn project(provider: &Provider, rows: &str) -> Folder {
    let folder = Folder::new();
    let url = provider.base_url();
    folder.write("rows.csv", format!("text,n\n{rows}"));
    folder.ok(&["init", "--model", "gpt-4o-mini", "--prompt", "{{ text }}", "--base-url", &url]);
    folder.ok(&["add", "rows.csv"]);
    folder
}

/// So many rows that differ.
fn rows(count: usize) -> String {
    (0..count).fold(String::new(), |table, row| table + &format!("row {row},{row}\n"))
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
    let between = rows(60);
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
    let provider = Provider::start(move |request| {
        if request.text() == "same" {
            wait_for(&gates.0);
            return Act::error(500, "server_error", "oops");
        }
        wait_for(&gates.1);
        Act::says("fine")
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
    let folder = project(&provider, &rows(40));
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
    let folder = project(&provider, &rows(3000));
    let run = folder.start(&["run", "--concurrency", "2"]);
    assert_eq!(end_of(run), Some(1));
    assert_eq!(folder.ok(&["plan", "--json"]).json()["due"], 3000);
}

/// A prompt whose limit may be raised to so much.
fn raised_to(limit: u32) -> String {
    format!(
        "---\nmodel: openai/small\nmax_tokens: 64\nmax_tokens_limit: {limit}\n---\nSay: {{{{ text }}}}\n"
    )
}

/// A project with one row in a batch, whose line is going to be cut by the token limit.
fn one_to_be_cut() -> (Simulator, Folder) {
    let mut folder = Folder::new();
    let simulator = Simulator::start(&folder, &["--faults", "length=once"]);
    folder.env("OPENAI_BASE_URL", simulator.base_url()).env("OPENAI_API_KEY", "sk-test");
    folder.write("say.prompt", raised_to(400)).write("rows.csv", "id,text\na,same\n");
    folder.ok(&["init", "--prompt", "say.prompt"]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.run(&["run", "--route", "batch", "--poll", "20ms", "--no-wait"]).ends(4);
    (simulator, folder)
}

/// Runs to the end, where all that is due must have been answered.
fn all_is_answered(folder: &Folder, requests: u64) {
    folder.run(&["run", "--route", "batch", "--poll", "20ms"]).ends(0);
    let status = folder.status();
    assert_eq!(status["requests"]["answered"], requests, "{status:#}");
    assert_eq!(folder.ok(&["plan", "--json"]).json()["due"], 0, "{status:#}");
}

#[test]
fn one_that_waited_for_a_row_that_has_changed_meanwhile_goes_itself() {
    let (_simulator, folder) = one_to_be_cut();
    folder.write("rows.csv", "id,text\na,another\nb,same\n");
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    all_is_answered(&folder, 2);
}

#[test]
fn one_that_waited_for_a_prompt_that_has_changed_meanwhile_goes_itself() {
    let (_simulator, folder) = one_to_be_cut();
    folder.write("say.prompt", raised_to(500));
    folder.ok(&["prompt", "add", "say.prompt", "--name", "say"]);
    all_is_answered(&folder, 1);
}

#[test]
fn one_that_shares_what_was_cut_at_a_lower_limit_goes_on_by_itself() {
    let mut folder = Folder::new();
    let simulator = Simulator::start(&folder, &["--faults", "length=tries:1", "--latency", "50ms"]);
    folder.env("OPENAI_BASE_URL", simulator.base_url()).env("OPENAI_API_KEY", "sk-test");
    folder.write("rows.csv", "id,text\na,same\n");
    folder.write("low.prompt", raised_to(64)).write("high.prompt", raised_to(400));
    folder.ok(&["init", "--prompt", "low.prompt"]);
    folder.ok(&["prompt", "add", "high.prompt"]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.run(&["run", "--concurrency", "4"]).ends(3);
    let status = folder.status();
    assert_eq!(status["requests"]["answered"], 1, "{status:#}");
    assert_eq!(status["requests"]["truncated"], 1, "{status:#}");
}
