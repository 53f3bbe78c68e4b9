//! The batch route through the real binary and real sockets: what is sent by which way, and what comes back.
//!
//! What goes wrong on the way is in `batch_faults`, what a killed run leaves in `batch_crash`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::Folder;
use support::batches::runs::{
    Running, add, all_answered, all_answered_once, exported, project, query, run, run_auto, texts,
};
use support::batches::{BatchProvider, Do, End, Inner, Kind, Script};

/// A provider without faults, whose batches end at the first look.
fn quick() -> Script {
    Script { stages: Vec::new(), ..Script::default() }
}

/// The batches on record: status and requests of each.
fn batches(folder: &Folder) -> Vec<(String, u64)> {
    let status = folder.status();
    let batches = status["batches"].as_array().unwrap().iter();
    batches
        .map(|batch| {
            (batch["status"].as_str().unwrap().to_owned(), batch["requests"].as_u64().unwrap())
        })
        .collect()
}

fn due(folder: &Folder) -> Value {
    folder.ok(&["plan", "--json"]).json()["due"].clone()
}

#[test]
fn a_table_goes_through_batches_of_a_hundred_and_comes_back_in_its_order() {
    let provider = BatchProvider::start(Script::default());
    let texts = texts(250);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &["--batch-size", "100"]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    let count = |kind| provider.count(kind);
    assert_eq!((count(Kind::Upload), count(Kind::Create), count(Kind::Chat)), (3, 3, 0));
    let collected = |requests| ("collected".to_owned(), requests);
    assert_eq!(batches(&folder), [collected(100), collected(100), collected(50)]);

    let on_record = folder.status();
    let ids: BTreeSet<&str> = on_record["batches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|batch| batch["provider_id"].as_str().unwrap())
        .collect();
    let there = provider.batches();
    assert_eq!(ids, there.iter().map(|batch| batch.id.as_str()).collect());
    assert_eq!(on_record["attempts"], 250);
    assert_eq!(on_record["tokens"]["input"], 25_000);
    assert_eq!(on_record["tokens"]["output"], 2_500);
    let details = exported(&folder, &["route", "batch_id", "error_class"]);
    let wanted: Vec<Vec<String>> = query(
        &folder,
        "SELECT 'batch', batch_id, '' FROM answers WHERE batch_id IS NOT NULL ORDER BY position",
    );
    assert_eq!(details, wanted);
    assert_eq!(details.len(), 250);
    assert_eq!(folder.names(), ["overnight.db", "rows.csv"]);
}

#[test]
fn a_second_run_with_nothing_new_makes_no_call() {
    let provider = BatchProvider::start(quick());
    let texts = texts(5);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &[]).ends(0);
    let calls = provider.kinds().len();
    for _ in 0..2 {
        let said = run(&folder, &[]).ends(0);
        assert!(said.stderr.contains("nothing to do"), "{}", said.stderr);
    }
    run_auto(&folder, &[]).ends(0);
    run(&folder, &["--no-wait"]).ends(0);
    assert_eq!(provider.kinds().len(), calls);
    all_answered_once(&folder, &provider, &texts);
}

#[test]
fn what_a_line_asks_is_on_record_to_the_byte() {
    let provider = BatchProvider::start(quick());
    let texts = ["한국어 \\ / 😀", "a \u{2028} b"].map(str::to_owned);
    let folder = project(&provider, &texts, &["--max-tokens", "77"]);
    run(&folder, &[]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    let request = |row: &str| {
        let shown = folder.command(&["show", row, "--request"]).output().unwrap();
        assert!(shown.status.success() && !shown.stdout.is_empty(), "{shown:?}");
        shown.stdout
    };
    let first = request("#1");
    let upload = &provider.calls(Kind::Upload)[0].body;
    assert!(
        upload.windows(first.len()).any(|window| window == first),
        "what was sent is not what is on record: {}",
        String::from_utf8_lossy(&first)
    );
    let batch = &provider.batches()[0];
    for (row, line) in [("#1", &batch.lines[0]), ("#2", &batch.lines[1])] {
        assert_eq!(serde_json::from_slice::<Value>(&request(row)).unwrap(), line.body);
    }
    let line = &batch.lines[0];
    let trail = folder.ok(&["show", "#1", "--json"]).stdout;
    assert!(trail.contains(&format!("req_{}", line.custom_id)), "the request id is kept: {trail}");
}

#[test]
fn equal_rows_are_bought_once_within_a_batch_and_across_batches_and_runs() {
    let provider = BatchProvider::start(quick());
    let mut all: Vec<String> = ["a", "b", "a", "c", "a", "b", "d", "c"].map(str::to_owned).to_vec();
    let folder = project(&provider, &all, &[]);
    run(&folder, &["--batch-size", "2"]).ends(0);
    all_answered(&folder, &all);
    assert_eq!(provider.bought().into_values().collect::<Vec<_>>(), [1; 4]);
    let calls = provider.kinds().len();
    // A row is known by its content and occurrence: the first `d` and three of `a` are there already.
    add(&folder, "more.csv", &["d", "d", "a", "a", "a", "a", "a"].map(str::to_owned));
    all.extend(["d", "a", "a"].map(str::to_owned));
    run(&folder, &["--batch-size", "2"]).ends(0);
    all_answered(&folder, &all);
    assert_eq!(provider.kinds().len(), calls, "what is on file is shared");
    let sums = query(&folder, "SELECT sum(attempts), sum(input_tokens) FROM answers");
    assert_eq!(sums, [["4", "400"]]);
}

#[test]
fn a_row_that_a_batch_still_works_on_is_not_bought_beside_it() {
    let provider = BatchProvider::start(quick());
    let mut all = texts(4);
    let folder = project(&provider, &all, &[]);
    provider.hold();
    run(&folder, &["--no-wait"]).ends(4);
    add(&folder, "more.csv", &[texts(4), texts(4)].concat());
    all.extend(texts(4));
    run(&folder, &["--no-wait"]).ends(4);
    provider.release();
    run(&folder, &[]).ends(0);
    all_answered(&folder, &all);
    assert_eq!(provider.bought().into_values().collect::<Vec<_>>(), [1; 4]);
    assert_eq!(provider.count(Kind::Create), 1);
}

#[test]
fn each_model_has_files_of_its_own() {
    let provider = BatchProvider::start(quick());
    let texts = texts(6);
    let folder = project(&provider, &texts, &[]);
    let add = ["prompt", "add", "--name", "other", "--model", "other-model", "--text"];
    folder.ok(&[&add[..], &["Other: {{ text }}"]].concat());
    run(&folder, &[]).ends(0);
    let models: BTreeSet<String> = provider
        .batches()
        .iter()
        .map(|batch| batch.lines[0].body["model"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(models, BTreeSet::from(["other-model".to_owned(), "test-model".to_owned()]));
    assert_eq!(provider.bought().into_values().collect::<Vec<_>>(), [1; 12]);
    let answers = exported(&folder, &["main.answer", "other.answer"]);
    assert_eq!(answers[5], ["SAY: ROW 6", "OTHER: ROW 6"]);
}

#[test]
fn a_prompt_for_responses_goes_through_batches_of_responses() {
    let provider = BatchProvider::start(quick());
    let texts = texts(3);
    let prompt = "---\nendpoint: responses\n---\nSay: {{ text }}";
    let folder = project(&provider, &texts, &["--prompt", prompt]);
    run(&folder, &[]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!(provider.batches()[0].lines[0].url, "/v1/responses");
}

#[test]
fn without_waiting_a_run_submits_once_and_later_ones_collect() {
    let provider = BatchProvider::start(quick());
    provider.hold();
    let texts = texts(6);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &["--no-wait", "--batch-size", "3"]).ends(4);
    let count = |kind| provider.count(kind);
    assert_eq!((count(Kind::Upload), count(Kind::Create)), (2, 2));
    let status = folder.status();
    assert_eq!((&status["requests"]["in_batch"], &status["running"]), (&json!(6), &json!(false)));
    assert!(status["batches"][0]["provider_id"].is_string(), "{status}");
    assert_eq!(due(&folder), 0, "what is in a batch is not due");

    let looks = count(Kind::Look);
    run(&folder, &["--no-wait", "--batch-size", "3"]).ends(4);
    assert!(count(Kind::Look) > looks, "it has looked");
    assert_eq!((count(Kind::Upload), count(Kind::Create)), (2, 2));
    provider.release();
    run(&folder, &["--no-wait", "--batch-size", "3"]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!((count(Kind::Upload), count(Kind::Create), count(Kind::Chat)), (2, 2, 0));
}

#[cfg(unix)]
#[test]
fn ctrl_c_while_waiting_names_the_batches_that_go_on_and_the_next_run_collects_them() {
    let provider = BatchProvider::start(Script::default());
    provider.hold();
    let texts = texts(6);
    let folder = project(&provider, &texts, &[]);
    let args = ["run", "--route", "batch", "--poll", "20ms", "--batch-size", "3"];
    let waiting = Running::start(&folder, &args);
    provider.wait_until("both batches are looked at", |provider| {
        provider.count(Kind::Create) == 2 && provider.count(Kind::Look) >= 6
    });
    waiting.interrupt();
    let said = waiting.end().ends(130);
    for batch in provider.batches() {
        assert!(said.stderr.contains(&batch.id), "{} is not named: {}", batch.id, said.stderr);
    }
    assert_eq!(provider.count(Kind::Cancel), 0, "nobody asked for that");
    assert_eq!(folder.status()["requests"]["in_doubt"], 0);
    provider.release();
    run(&folder, &["--batch-size", "3"]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!(provider.count(Kind::Create), 2);
}

/// A project with two batches of ten at the provider, each of which has done four when it is cancelled.
fn two_batches() -> (BatchProvider, Folder, Vec<String>) {
    let provider = BatchProvider::start(Script { done_when_cancelled: 4, ..quick() });
    provider.hold();
    let texts = texts(20);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &["--no-wait", "--batch-size", "10"]).ends(4);
    (provider, folder, texts)
}

#[test]
fn cancelling_all_collects_what_was_done_and_makes_the_rest_due() {
    let (provider, folder, texts) = two_batches();
    Running::start(&folder, &["cancel", "--all"]).end().ends(0);
    assert_eq!(provider.count(Kind::Cancel), 2);
    assert!(provider.batches().iter().all(|batch| batch.status == "cancelled"));
    assert_eq!(folder.status()["requests"]["answered"], 8, "what was done is collected");
    assert_eq!(due(&folder), 12);
    assert!(batches(&folder).iter().all(|(status, _)| status == "collected"));
    provider.release();
    run(&folder, &[]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    let calls = provider.kinds().len();
    Running::start(&folder, &["cancel", "--all"]).end().ends(0);
    assert_eq!(provider.kinds().len(), calls, "there is nothing to cancel");
}

#[test]
fn cancelling_one_batch_leaves_the_other() {
    let (provider, folder, texts) = two_batches();
    let said = Running::start(&folder, &["cancel", "99"]).end();
    assert!(said.code == Some(1) || said.code == Some(2), "{said:?}");
    assert_eq!(provider.count(Kind::Cancel), 0);
    let status = folder.status();
    let first = status["batches"][0].clone();
    Running::start(&folder, &["cancel", &first["id"].to_string()]).end().ends(0);
    for batch in provider.batches() {
        assert_eq!(batch.status == "cancelled", first["provider_id"] == batch.id.as_str());
    }
    assert_eq!(folder.status()["requests"]["answered"], 4);
    assert_eq!(due(&folder), 6);
    provider.release();
    run(&folder, &[]).ends(0);
    all_answered_once(&folder, &provider, &texts);
}

#[test]
fn below_five_hundred_requests_go_realtime() {
    let provider = BatchProvider::start(Script::default());
    let texts = texts(499);
    let folder = project(&provider, &texts, &[]);
    run_auto(&folder, &["--concurrency", "32"]).ends(0);
    assert_eq!(provider.kinds(), [Kind::Chat; 499]);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!(exported(&folder, &["route", "batch_id"])[498], ["realtime", ""]);
}

#[test]
fn many_requests_of_a_new_prompt_send_one_ahead_and_the_rest_by_batch() {
    let provider = BatchProvider::start(quick());
    let mut all = texts(600);
    let folder = project(&provider, &all, &[]);
    run_auto(&folder, &[]).ends(0);
    all_answered_once(&folder, &provider, &all);
    let kinds = provider.kinds();
    let place = |wanted| kinds.iter().position(|kind| *kind == wanted).unwrap();
    assert!(place(Kind::Chat) < place(Kind::Upload), "{kinds:?}");
    assert_eq!(provider.count(Kind::Chat), 1);
    let sizes: Vec<usize> = provider.batches().iter().map(|batch| batch.lines.len()).collect();
    assert_eq!(sizes, [599]);

    // What has been answered once needs no one ahead.
    let more: Vec<String> = (0..500).map(|row| format!("more {row}")).collect();
    add(&folder, "more.csv", &more);
    all.extend(more);
    run_auto(&folder, &[]).ends(0);
    all_answered_once(&folder, &provider, &all);
    assert_eq!((provider.count(Kind::Chat), provider.count(Kind::Create)), (1, 2));
}

#[test]
fn nothing_is_sent_ahead_where_nobody_wants_it() {
    for args in [&["--no-canary"][..], &["--route", "batch"]] {
        let provider = BatchProvider::start(quick());
        let texts = texts(500);
        let folder = project(&provider, &texts, &[]);
        run_auto(&folder, args).ends(0);
        assert_eq!(provider.count(Kind::Chat), 0, "{args:?}");
        all_answered_once(&folder, &provider, &texts);
    }
}

#[test]
fn one_that_is_refused_ahead_stops_the_run_before_anything_is_uploaded() {
    let provider = BatchProvider::start(Script {
        answer: Box::new(|_| Inner::Fails(400, "invalid_value")),
        ..quick()
    });
    let folder = project(&provider, &texts(600), &[]);
    let said = run_auto(&folder, &[]).ends(1);
    assert!(said.stderr.contains("error:"), "{}", said.stderr);
    assert_eq!((provider.count(Kind::Chat), provider.count(Kind::Upload)), (1, 0));
}

#[test]
fn a_server_without_batches_is_asked_realtime_unless_batches_are_demanded() {
    let provider = BatchProvider::start(Script { has_batches: false, ..Script::default() });
    let texts = texts(600);
    let folder = project(&provider, &texts, &[]);
    let said = run(&folder, &[]).ends(1);
    assert!(said.stderr.contains("error:") && said.stderr.contains("batch"), "{}", said.stderr);
    assert_eq!(provider.count(Kind::Chat), 0, "batch means batch");
    assert_eq!(folder.status()["requests"]["answered"], 0);
    run_auto(&folder, &["--concurrency", "32"]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!(provider.count(Kind::Chat), 600);
    assert!(provider.count(Kind::Upload) <= 2, "once told, it does not ask again and again");
}

#[test]
fn what_batches_have_not_answered_in_time_is_cancelled_collected_and_asked_realtime() {
    let provider = BatchProvider::start(Script {
        end: Box::new(|_| End::Never { done: 500 }),
        ..Script::default()
    });
    let texts = texts(510);
    let folder = project(&provider, &texts, &[]);
    run_auto(&folder, &["--no-canary", "--by", "4s"]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert!(provider.count(Kind::Cancel) >= 1);
    assert_eq!(provider.count(Kind::Chat), 10);
    let routes = exported(&folder, &["route"]);
    assert_eq!(routes.iter().filter(|route| route[0] == "batch").count(), 500);
    assert_eq!(provider.batches().len(), 1);
}

#[test]
fn a_deadline_that_passes_while_a_look_is_out_is_kept_all_the_same() {
    let provider = BatchProvider::start(Script {
        end: Box::new(|_| End::Never { done: 4 }),
        on: Box::new(|kind, nth| {
            if (kind, nth) == (Kind::Look, 1) {
                // The reply takes its time, as replies do; the deadline is before it.
                std::thread::sleep(std::time::Duration::from_secs(3));
            }
            Do::Right
        }),
        ..Script::default()
    });
    let texts = texts(6);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &["--by", "1s"]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!((provider.count(Kind::Cancel), provider.count(Kind::Chat)), (1, 2));
}

/// Rows of a hundred words each.
fn wordy(count: usize) -> Vec<String> {
    texts(count).into_iter().map(|text| text + &" word".repeat(98)).collect()
}

fn refused(provider: &BatchProvider) -> usize {
    provider.batches().iter().filter(|batch| batch.status == "failed").count()
}

/// A provider that queues no more than so many words.
fn narrow(words: usize) -> BatchProvider {
    BatchProvider::start(Script {
        stages: vec!["validating"],
        queue_tokens: Some(words),
        ..Script::default()
    })
}

#[test]
fn what_the_queue_does_not_take_is_answered_in_the_same_run_and_the_limit_is_remembered() {
    let provider = narrow(1200);
    let mut all = wordy(40);
    let folder = project(&provider, &all, &[]);
    run(&folder, &["--batch-size", "20"]).ends(0);
    all_answered_once(&folder, &provider, &all);
    let before = refused(&provider);
    assert!((1..=2).contains(&before), "{before} batches were refused");

    let more: Vec<String> = wordy(30).iter().map(|text| format!("more {text}")).collect();
    add(&folder, "more.csv", &more);
    all.extend(more);
    run(&folder, &["--batch-size", "20"]).ends(0);
    all_answered_once(&folder, &provider, &all);
    assert_eq!(refused(&provider), before, "the limit was learned");
}

#[test]
fn what_waits_for_the_queue_goes_through_batches_in_turn() {
    let provider = narrow(1200);
    let texts = wordy(40);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &["--batch-size", "20", "--oversized", "wait"]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!(provider.count(Kind::Chat), 0);
    assert!(refused(&provider) <= 4, "{} batches were refused", refused(&provider));
}

#[test]
fn what_waits_for_the_queue_waits_though_so_few_would_go_by_calls() {
    let provider = narrow(30_000);
    let texts = wordy(501);
    let folder = project(&provider, &texts, &[]);
    let said = run_auto(&folder, &["--batch-size", "200", "--oversized", "wait", "--no-canary"]);
    let said = said.ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert!(refused(&provider) >= 1, "{}", said.stderr);
    assert_eq!(provider.count(Kind::Chat), 0, "{}", said.stderr);
}

#[test]
fn where_oversized_means_failure_nothing_goes_another_way() {
    let provider = narrow(50);
    let texts = wordy(3);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &["--oversized", "fail"]).ends(3);
    assert_eq!(folder.status()["requests"]["answered"], 0);
    assert_eq!(provider.count(Kind::Chat), 0);
    assert!(provider.batches().len() <= 2, "it is not tried again and again");
    run(&folder, &["--oversized", "realtime"]).ends(0);
    all_answered_once(&folder, &provider, &texts);
}
