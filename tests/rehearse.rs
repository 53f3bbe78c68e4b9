//! `overnight rehearse`, by the binary: nothing is sent, the project stays as it is, and what it says is what a run does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::ErrorKind;
use std::net::TcpListener;

use serde_json::{Value, json};
use support::batches::runs::Running;
use support::{Act, Folder, Provider, Said, Simulator, table};

const PROMPT: &str = "Judge: {{ review }}";

/// A project with so many rows.
fn project(rows: usize, model: &str) -> Folder {
    project_with(rows, &["--prompt", PROMPT, "--model", model])
}

fn project_with(rows: usize, init: &[&str]) -> Folder {
    let mut folder = Folder::new();
    folder.write("rows.csv", table(rows));
    std::fs::create_dir(folder.file("tmp")).unwrap();
    let tmp = folder.file("tmp").display().to_string();
    folder.env("TMPDIR", &tmp);
    folder.ok(&[&["init"], init].concat());
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder
}

/// Rehearses with `--json`; it must end with `code`.
#[track_caller]
fn rehearse(folder: &Folder, args: &[&str], code: i32) -> Value {
    let said = folder.run(&[&["rehearse", "--json"], args].concat()).ends(code);
    nothing_is_left(folder);
    said.json()
}

#[track_caller]
fn nothing_is_left(folder: &Folder) {
    let left: Vec<_> = std::fs::read_dir(folder.file("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no whole number: {value}"))
}

fn seconds(report: &Value) -> f64 {
    report["duration_s"].as_f64().unwrap()
}

/// Says something in SQL to the project, as any other program could.
fn sql(folder: &Folder, sql: &str) {
    #[expect(clippy::disallowed_methods, reason = "written as another program would")]
    let conn = rusqlite::Connection::open(folder.file("overnight.db")).unwrap();
    conn.execute_batch(sql).unwrap();
}

#[test]
fn nothing_is_sent_and_the_project_stays_as_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let url = format!("{address}/v1");
    let mut folder =
        project_with(600, &["--prompt", PROMPT, "--model", "gpt-4.1-mini", "--base-url", &url]);
    folder.env("OPENAI_API_KEY", "sk-not-for-anybody");
    folder.env("HTTP_PROXY", &address).env("HTTPS_PROXY", &address).env("NO_PROXY", "");
    let before = std::fs::read(folder.file("overnight.db")).unwrap();
    let names = folder.names();
    for args in [&["--route", "batch"][..], &["--route", "realtime"], &["--faults", "429=0.2"]] {
        let report = rehearse(&folder, args, 0);
        assert_eq!(number(&report["requests"]["answered"]), 600, "{report:#}");
        assert_eq!(report["assumed"][0]["server"], url);
    }
    assert!(before == std::fs::read(folder.file("overnight.db")).unwrap(), "its bytes changed");
    assert_eq!(folder.names(), names, "nothing is left beside it");
    listener.set_nonblocking(true).unwrap();
    let came = listener.accept().map(|(_, from)| from);
    assert_eq!(came.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "somebody called");
}

#[test]
fn neither_a_key_nor_a_place_to_write_is_needed() {
    let folder = project(20, "gpt-4.1-mini");
    folder.run(&["run"]).ends(1);
    let path = folder.file("overnight.db");
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let report = rehearse(&folder, &[], 0);
    assert_eq!(number(&report["requests"]["answered"]), 20);
    assert_eq!(report["ended"], "done");
    assert_eq!(report["assumed"][0]["server"], "https://api.openai.com/v1");
}

#[test]
fn what_is_rehearsed_is_what_plan_says() {
    let folder = project(1300, "gpt-4.1-mini");
    for args in [
        &["--batch-size", "400"][..],
        &["--route", "realtime"],
        &["--route", "batch", "--limit", "700"],
        &["--limit", "70"],
    ] {
        let plan = folder.ok(&[&["plan", "--json"], args].concat()).json();
        let plan = &plan["prompts"][0];
        let report = rehearse(&folder, args, 0);
        assert_eq!(report["requests"]["taken_up"], plan["taken_up"], "{args:?}");
        assert_eq!(report["in_batches"]["requests"], plan["in_batches"], "{args:?}");
        assert_eq!(report["calls"]["requests"], plan["by_calls"], "{args:?}");
        assert_eq!(report["batches"]["count"], plan["batches"], "{args:?}");
        let [input, rehearsed] = [&plan["tokens"]["input"], &report["tokens"]["input"]];
        let off = number(input).abs_diff(number(rehearsed)) as f64 / number(input) as f64;
        assert!(off < 0.1, "{args:?}: {input} and {rehearsed}");
    }
}

#[test]
fn a_run_against_a_server_with_the_same_limits_comes_to_the_same() {
    let place = Folder::new();
    let server = Simulator::start(&place, &["--enqueued-tokens", "4000", "--batch-delay", "1s"]);
    let init = ["--prompt", PROMPT, "--model", "simulated/small", "--base-url", server.base_url()];
    let folder = project_with(900, &init);
    // One batch at a time, so that nothing hangs on which of them ends first.
    let ways = ["--route", "batch", "--batch-tokens", "4000", "--oversized", "wait"];
    let limits = ["--enqueued-tokens", "4000", "--batch-delay", "1s", "--poll", "1s"];
    let report = rehearse(&folder, &[&ways[..], &limits].concat(), 0);
    folder.ok(&[&["run", "--poll", "1s"], &ways[..]].concat());
    let status = folder.status();
    let ran = status["batches"].as_array().unwrap();
    let rehearsed = report["batches"]["list"].as_array().unwrap();
    let sizes = |batches: &[Value]| -> Vec<u64> {
        batches.iter().map(|batch| number(&batch["requests"])).collect()
    };
    assert_eq!(sizes(ran), sizes(rehearsed));
    assert!(number(&report["batches"]["waves"]) > 1, "{report:#}");
    assert_eq!(status["tokens"]["input"], report["tokens"]["input"]);
    assert_eq!(status["tokens"]["output"], report["tokens"]["output"]);
    let cost = |report: &Value| report["cost_usd"].as_f64().unwrap();
    assert!(
        (cost(&status) / cost(&report) - 1.0).abs() < 1e-6,
        "{} {}",
        cost(&status),
        cost(&report)
    );
    assert_eq!(server.total("input_tokens"), number(&report["tokens"]["input"]));
    assert_eq!(server.total("output_tokens"), number(&report["tokens"]["output"]));
}

#[test]
fn calls_take_as_long_as_their_rate_says() {
    let folder = project(1200, "gpt-4.1-mini");
    let report = rehearse(&folder, &["--route", "realtime", "--rpm", "60", "--limit", "240"], 0);
    assert!((230.0..260.0).contains(&seconds(&report)), "{report:#}");
    // A rate that the provider has told holds without a word, and its bucket begins full.
    sql(
        &folder,
        "INSERT INTO rate_limit VALUES ('https://api.openai.com/v1', 'openai/gpt-4.1-mini', 300, NULL, 9000000000000000)",
    );
    let report = rehearse(&folder, &["--route", "realtime"], 0);
    assert!((175.0..260.0).contains(&seconds(&report)), "{report:#}");
    let rate = &report["assumed"][0]["requests_per_minute"];
    assert_eq!(*rate, json!({"value": 300, "from": "provider"}));
    // A person's is kept to besides.
    let report = rehearse(&folder, &["--route", "realtime", "--rpm", "100", "--limit", "300"], 0);
    assert!((170.0..200.0).contains(&seconds(&report)), "{report:#}");
}

#[test]
fn a_narrow_queue_makes_batches_wait_for_each_other() {
    let folder = project(600, "gpt-4.1-mini");
    let ways = ["--route", "batch", "--oversized", "wait", "--batch-delay", "2h"];
    let free = rehearse(&folder, &ways, 0);
    assert_eq!((number(&free["batches"]["count"]), number(&free["batches"]["waves"])), (1, 1));
    assert!((6840.0..7700.0).contains(&seconds(&free)), "{free:#}");
    sql(
        &folder,
        "INSERT INTO queue_limit VALUES ('https://api.openai.com/v1', 'openai/gpt-4.1-mini', 5000, 9e15)",
    );
    let narrow = rehearse(&folder, &ways, 0);
    let waves = number(&narrow["batches"]["waves"]);
    assert!(waves >= 3, "{narrow:#}");
    assert_eq!(number(&narrow["batches"]["count"]), waves);
    assert!(seconds(&narrow) >= 6840.0 * waves as f64, "{narrow:#}");
    assert_eq!(narrow["assumed"][0]["enqueued_tokens"], json!({"value": 5000, "from": "provider"}));
    // By itself, what finds no room goes by calls in the same run.
    let both = rehearse(&folder, &["--route", "batch", "--batch-delay", "2h"], 0);
    assert_eq!(number(&both["batches"]["count"]), 1);
    assert!(number(&both["calls"]["answered"]) > 300, "{both:#}");
    assert!(seconds(&both) < 7700.0, "{both:#}");
}

#[test]
fn a_deadline_keeps_what_batches_have_done_and_sends_the_rest_by_calls() {
    let folder = project(600, "gpt-4.1-mini");
    let args = ["--route", "batch", "--batch-delay", "10h", "--by", "5h"];
    let report = rehearse(&folder, &args, 0);
    assert_eq!(number(&report["requests"]["answered"]), 600);
    let by_calls = number(&report["calls"]["answered"]);
    assert!((200..400).contains(&by_calls), "half of it was done: {report:#}");
    // The provider takes a tenth of a batch to cancel one.
    assert!((5.0..6.5).contains(&(seconds(&report) / 3600.0)), "{report:#}");
    assert!(report["remarks"][0].as_str().unwrap().contains("deadline"), "{report:#}");
}

#[test]
fn answers_are_as_long_and_calls_as_slow_as_those_on_record() {
    let provider = Provider::start(|_| Act::says("good"));
    let url = provider.base_url();
    let init = ["--prompt", PROMPT, "--model", "gpt-4.1-mini", "--base-url", &url];
    let folder = project_with(520, &init);
    folder.ok(&["run", "--limit", "20"]);
    let calls = provider.count();
    let report = rehearse(&folder, &["--batch-delay", "20m"], 0);
    assert_eq!(provider.count(), calls, "the provider was asked");
    assert_eq!(number(&report["requests"]["taken_up"]), 500);
    assert_eq!(number(&report["tokens"]["output"]), 500 * 10, "ten tokens each, as it counts");
    let assumed = &report["assumed"][0];
    assert_eq!(assumed["answers"], json!({"on_record": 20, "tokens": 10.0}));
    assert_eq!(assumed["latency_s"]["from"], "record");
    assert_eq!(assumed["has_batches"], "perhaps");
}

#[test]
fn what_would_go_wrong_is_told_with_its_rows_and_what_to_type() {
    let folder = project(50, "gpt-4.1-mini");
    let report = rehearse(&folder, &["--faults", "content_filter=first:3"], 3);
    let problem = &report["problems"][0];
    assert_eq!((&problem["kind"], &problem["requests"]), (&json!("content_filtered"), &json!(3)));
    assert_eq!(problem["positions"].as_array().unwrap().len(), 3);
    assert!(problem["hint"].as_str().unwrap().contains("`overnight retry --failed`"));
    assert_eq!(number(&report["requests"]["answered"]), 47);
    assert_eq!(number(&report["requests"]["failed"]), 3);
    // What is tried again and then answered is no problem.
    let report = rehearse(&folder, &["--faults", "500=0.2,429=0.2", "--seed", "3"], 0);
    assert!(number(&report["tried_again"]["server_error"]) > 0, "{report:#}");
    assert_eq!(report["problems"], json!([]));
    // What stops a run stops the rehearsal.
    let report = rehearse(&folder, &["--faults", "quota=first:1"], 3);
    assert_eq!(report["problems"][0]["kind"], "quota_exhausted");
    assert!(number(&report["requests"]["left"]) > 0);
    let said = folder.run(&["rehearse", "--faults", "content_filter=first:3"]).ends(3);
    assert!(said.stdout.contains("3 requests of prompt main would be withheld"), "{said:#?}");
}

#[test]
fn rows_that_cannot_be_rendered_and_answers_that_are_cut_are_found() {
    let folder = Folder::new();
    std::fs::create_dir(folder.file("tmp")).unwrap();
    folder.write("rows.csv", "id,amount\na,1\nb,none\nc,3\n");
    folder.write(
        "ask.txt",
        "---\nmodel: gpt-4.1-mini\nmax_tokens: 3\nmax_tokens_limit: 3\n---\nWhat is {{ amount | int }}?\n",
    );
    folder.ok(&["init", "--prompt", "ask.txt"]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    let report = rehearse(&folder, &[], 3);
    let kinds: Vec<_> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| (problem["kind"].as_str().unwrap(), problem["positions"].to_string()))
        .collect();
    assert_eq!(kinds, [("render_failed", "[2]".to_owned()), ("truncated", "[1,3]".to_owned())]);
    assert_eq!(number(&report["tokens"]["output"]), 2 * 3, "a call that is cut is paid for");
}

#[test]
fn models_of_other_providers_answer_in_the_form_they_are_asked_for() {
    let folder = Folder::new();
    std::fs::create_dir(folder.file("tmp")).unwrap();
    folder.write("rows.csv", table(600));
    for (name, model, head) in [
        ("words", "anthropic/claude-haiku-4-5", "choices: [good, bad]\nparameters: {top_k: 5}"),
        (
            "json",
            "deepseek/deepseek-chat",
            "schema: {type: object, properties: {a: {type: integer}}, required: [a], additionalProperties: false}",
        ),
        ("responses", "gpt-4.1-mini", "choices: [good, bad]\nendpoint: responses"),
    ] {
        folder
            .write(&format!("{name}.txt"), format!("---\nmodel: {model}\n{head}\n---\n{PROMPT}\n"));
    }
    folder.ok(&["init", "--prompt", "words.txt"]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.ok(&["prompt", "add", "json.txt", "--name", "json"]);
    folder.ok(&["prompt", "add", "responses.txt", "--name", "responses"]);
    let report = rehearse(&folder, &[], 0);
    assert_eq!(number(&report["requests"]["answered"]), 3 * 600, "{report:#}");
    assert_eq!(report["problems"], json!([]));
    let prompts = report["prompts"].as_array().unwrap();
    let answered = |way: &str| -> Vec<u64> {
        prompts.iter().map(|prompt| number(&prompt[way]["answered"])).collect()
    };
    assert_eq!(answered("in_batches"), [0, 0, 599]);
    assert_eq!(answered("calls"), [600, 600, 1]);
}

#[test]
fn batches_at_the_provider_are_left_to_it() {
    let place = Folder::new();
    let server = Simulator::start(&place, &["--batch-delay", "1h"]);
    let init = ["--prompt", PROMPT, "--model", "simulated/small", "--base-url", server.base_url()];
    let folder = project_with(40, &init);
    folder.run(&["run", "--route", "batch", "--no-wait", "--limit", "30"]).ends(4);
    drop(server);
    let report = rehearse(&folder, &[], 0);
    assert_eq!(report["set_aside"], json!({"batches": 1, "requests": 30}));
    assert_eq!(number(&report["requests"]["taken_up"]), 10);
    assert_eq!(number(&report["requests"]["answered"]), 10);
}

#[test]
fn a_run_that_is_on_is_not_disturbed() {
    let provider = Provider::start(|request| match request.text().contains("리뷰 7,") {
        true => Act::Hang,
        false => Act::says("good"),
    });
    let url = provider.base_url();
    let init = ["--prompt", PROMPT, "--model", "gpt-4.1-mini", "--base-url", &url];
    let folder = project_with(10, &init);
    let running = Running::start(&folder, &["run", "--limit", "8", "--concurrency", "1"]);
    provider.wait_for(7);
    let report = rehearse(&folder, &[], 0);
    assert_eq!(report["run_is_on"], true);
    assert_eq!(number(&report["requests"]["taken_up"]), 3, "the one in flight is left to the run");
    assert_eq!(provider.count(), 7);
    running.kill();
}

#[test]
fn a_budget_that_is_not_enough_is_told_before_anything_is_spent() {
    let init = ["--prompt", PROMPT, "--model", "simulated/small"];
    let folder = project_with(100, &init);
    folder.write(
        "short.txt",
        format!("---\nmodel: simulated/small\nmax_tokens: 40\n---\n{PROMPT}\n"),
    );
    folder.ok(&["prompt", "add", "short.txt", "--name", "main"]);
    let report = rehearse(&folder, &["--max-cost", "0.0004"], 5);
    assert_eq!(report["ended"], "budget");
    assert_eq!(report["problems"][0]["kind"], "budget");
    assert!(report["cost_usd"].as_f64().unwrap() <= 0.0004, "{report:#}");
    assert!(number(&report["requests"]["left"]) > 0);
    rehearse(&folder, &["--max-cost", "1"], 0);
}

#[test]
fn a_rehearsal_that_comes_to_no_end_is_ended() {
    let folder = project(5, "gpt-4.1-mini");
    // A refused pace uses up no attempt, so a run would go on for ever.
    let report = rehearse(&folder, &["--faults", "429=1"], 3);
    assert_eq!(report["problems"][0]["kind"], "no_end", "{report:#}");
    assert_eq!(number(&report["requests"]["left"]), 5);
    assert!(number(&report["tried_again"]["rate_limited"]) > 1000, "{report:#}");
    // No request ever fits into such a minute.
    sql(
        &folder,
        "INSERT INTO rate_limit VALUES ('https://api.openai.com/v1', 'openai/gpt-4.1-mini', NULL, 2, 9000000000000000)",
    );
    let report = rehearse(&folder, &[], 3);
    assert_eq!(report["problems"][0]["kind"], "request_too_large", "{report:#}");
}

#[test]
fn the_same_seed_gives_the_same_rehearsal() {
    let folder = project(700, "gpt-4.1-mini");
    let args = ["--faults", "429=0.05,500=0.02,line_missing=0.05", "--seed", "11"];
    let [first, second] = [(); 2].map(|()| {
        let mut report = rehearse(&folder, &args, 0);
        for name in ["as_of", "done_at", "took_s"] {
            report[name] = Value::Null;
        }
        report
    });
    assert_eq!(first, second);
}

#[test]
fn the_copy_can_be_kept_and_looked_into() {
    let folder = project(30, "gpt-4.1-mini");
    let said = folder.ok(&["rehearse", "--keep", "night"]);
    assert!(said.stderr.contains("overnight -p night/rehearsal.db status"), "{said:#?}");
    let kept = folder.ok(&["-p", "night/rehearsal.db", "status", "--json"]).json();
    assert_eq!(number(&kept["requests"]["answered"]), 30);
    assert_eq!(number(&folder.status()["requests"]["answered"]), 0);
    let again = folder.run(&["rehearse", "--keep", "night"]).ends(1);
    assert!(again.stderr.contains("not an empty folder"), "{again:#?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.file("night")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[test]
fn what_run_would_refuse_is_refused() {
    let folder = Folder::new();
    let refused = |said: Said, words: &str| assert!(said.stderr.contains(words), "{said:#?}");
    refused(folder.run(&["rehearse"]).ends(1), "there is no project");
    folder.ok(&["init"]);
    refused(folder.run(&["rehearse"]).ends(1), "the project has no prompt");
    folder.ok(&["prompt", "add", "--text", "Judge: x", "--model", "mistral/mistral-small-latest"]);
    refused(folder.run(&["rehearse"]).ends(1), "the project has no rows");
    folder.write("rows.csv", table(3));
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    refused(folder.run(&["rehearse", "--route", "batch"]).ends(2), "knows no batches");
    folder.ok(&["rehearse"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_rehearsal_leaves_nothing_behind() {
    let folder = project(12_000, "gpt-4.1-mini");
    let before = std::fs::read(folder.file("overnight.db")).unwrap();
    let rehearsal = Running::start(&folder, &["rehearse", "--route", "realtime"]);
    for _ in 0..2000 {
        let made = std::fs::read_dir(folder.file("tmp")).unwrap().next();
        if made.is_some_and(|made| made.unwrap().path().join("rehearsal.db-wal").exists()) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    rehearsal.interrupt();
    let said = rehearsal.end().ends(130);
    assert!(said.stderr.contains("interrupted"), "{said:#?}");
    nothing_is_left(&folder);
    assert!(before == std::fs::read(folder.file("overnight.db")).unwrap(), "its bytes changed");
}
