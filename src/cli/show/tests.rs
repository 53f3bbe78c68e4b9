use std::time::Duration;

use super::*;
use crate::cli::fixture::{Call, Fixture, START};
use crate::domain::{BatchEnd, FailureClass, Fingerprint, Outcome, RemoteStatus};
use crate::machine::batch::BatchMove;
use crate::store::{Codec, LineKind, Settlement};

fn trail(fixture: &mut Fixture, name: &str) -> Trail {
    let store = fixture.store();
    let row = store.find_row(name).unwrap().unwrap();
    let prompts = store.live_prompts().unwrap();
    let now = START.plus(Duration::from_mins(90));
    read(store, row, prompts, (Liveness::Idle, now)).unwrap()
}

fn args(row: &str) -> Args {
    Args { row: Some(row.to_owned()), prompt: None, request: false, reply: false }
}

fn failure(fixture: &Fixture, args: Args) -> (Exit, String) {
    let failure = run(args, &fixture.context()).unwrap_err();
    let words = failure.words().unwrap();
    let plain = anstream::adapter::strip_str(&words).to_string();
    (failure.exit, plain.replace(&fixture.path().display().to_string(), "overnight.db"))
}

#[test]
fn the_page_leads_from_the_file_to_the_answer() {
    let mut fixture = Fixture::with_rows(1);
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.fail(sent, FailureClass::RateLimited, "slow down");
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.answer(sent, "positive\nindeed\u{1b}[2J");
    let body = Call::new("r1", "label").body;
    let expected = format!(
        "\
row #1
  key          r1
  version      1
  from         reviews.csv, line 2 (sha256 {}…)
  cells
    id           r1
    text         text of r1

prompt label, version 1
  model        simulated/small, chat/completions
  state        answered
  request      1
  fingerprint  {}
  attempt 1: failed (rate_limited)
    sent         2026-01-01T00:00:04.000Z, realtime, max_tokens 100
    settled      2026-01-01T00:00:05.000Z, after 1 s
    error        slow down
    status code  200
    provider id  req_1
    served by    small-2026
  attempt 2: answered
    sent         2026-01-01T00:00:06.000Z, realtime, max_tokens 100
    settled      2026-01-01T00:00:07.000Z, after 1 s
    status code  200
    provider id  req_2
    served by    small-2026
    finished     stop
    reply        19 bytes
    tokens       10 in (4 cached, 3 put into the cache), 5 out (2 reasoning)
    cost         $0.000001
  answer
    positive
    indeed [2J
",
        &Fingerprint::of(b"reviews.csv").to_string()[3..15],
        Fingerprint::of(body.as_bytes()),
    );
    assert_eq!(page::page(&trail(&mut fixture, "r1")), expected);
}

#[test]
fn a_row_that_was_never_sent_says_so() {
    let mut fixture = Fixture::with_rows(2);
    let shown = trail(&mut fixture, "#2");
    assert!(page::page(&shown).ends_with("state        pending: nothing was sent yet\n"));
    let json = serde_json::to_value(json::json(&shown)).unwrap();
    assert_eq!(json["prompts"][0]["state"], "pending");
    assert_eq!(json["prompts"][0]["request"], serde_json::Value::Null);
    assert_eq!(json["row"]["cells"]["text"], "text of r2");
}

#[test]
fn a_promise_of_a_process_that_is_gone_is_in_doubt() {
    let mut fixture = Fixture::with_rows(1);
    fixture.send(&Call::new("r1", "label"));
    let mut shown = trail(&mut fixture, "r1");
    let page = page::page(&shown);
    assert!(page.contains("state        in doubt: it may have been sent"), "{page}");
    assert!(page.contains("attempt 1: no outcome, for whoever sent it is gone"), "{page}");
    shown.liveness = Liveness::Running;
    assert!(page::page(&shown).contains("attempt 1: under way"));
}

#[test]
fn a_shared_reply_names_the_row_that_it_was_bought_for() {
    let mut fixture = Fixture::with_rows(2);
    let body = Call::new("r1", "label").body;
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.answer(sent, "positive");
    fixture.promise(&Call { body, ..Call::new("r2", "label") });
    let shown = trail(&mut fixture, "r2");
    let page = page::page(&shown);
    assert!(
        page.contains("shared       made for row #1 (key r1), prompt label, version 1:"),
        "{page}"
    );
    assert!(page.ends_with("answer\n    positive\n"), "{page}");
    let json = serde_json::to_value(json::json(&shown)).unwrap();
    assert_eq!(json["prompts"][0]["attempts"][0]["shared_from"]["key"], "r1");
    let own = serde_json::to_value(json::json(&trail(&mut fixture, "r1"))).unwrap();
    assert_eq!(own["prompts"][0]["attempts"][0]["shared_from"], serde_json::Value::Null);
}

#[test]
fn the_request_is_the_bytes_that_were_last_sent() {
    let mut fixture = Fixture::with_rows(1);
    let call = Call::new("r1", "label");
    let sent = fixture.send(&call);
    fixture.cut(sent);
    assert_eq!(trail(&mut fixture, "r1").prompts[0].last_sent(), Some(call.body.as_bytes()));
    let raised = r#"{"model":"small","max_tokens":200}"#;
    let again = Call { sent_body: Some(raised), max_tokens: Some(200), ..Call::new("r1", "label") };
    let sent = fixture.send(&again);
    fixture.answer(sent, "positive");
    let shown = trail(&mut fixture, "r1");
    assert_eq!(shown.prompts[0].last_sent(), Some(raised.as_bytes()));
    let json = serde_json::to_value(json::json(&shown)).unwrap();
    let prompt = &json["prompts"][0];
    assert_eq!(prompt["request"]["body"], call.body);
    assert_eq!(prompt["attempts"][0]["body"], serde_json::Value::Null);
    assert_eq!(prompt["attempts"][1]["body"], raised);
    let own = Fingerprint::of(raised.as_bytes()).to_string();
    assert_eq!(prompt["attempts"][1]["fingerprint"], own);
    assert!(page::page(&shown).contains(&own));
}

#[test]
fn a_reply_that_is_no_utf_8_is_kept_byte_for_byte_and_flagged_in_json() {
    let mut fixture = Fixture::with_rows(1);
    let sent = fixture.send(&Call::new("r1", "label"));
    let garbled = Settlement {
        reply: Some(Codec::plain().pack(b"{\xff\x1b[0m").unwrap()),
        ..fixture.settlement(sent, Outcome::Failed(FailureClass::MalformedReply))
    };
    fixture.settle(garbled);
    let shown = trail(&mut fixture, "r1");
    assert_eq!(shown.prompts[0].last_reply(), Some(b"{\xff\x1b[0m".as_slice()));
    let json = serde_json::to_value(json::json(&shown)).unwrap();
    let attempt = &json["prompts"][0]["attempts"][0];
    assert_eq!(attempt["reply"], "{\u{fffd}\u{1b}[0m");
    assert_eq!(attempt["reply_is_lossy"], true);
    assert_eq!(json["prompts"][0]["request"].get("body_is_lossy"), None);
}

#[test]
fn an_answer_that_was_asked_for_anew_is_only_an_older_attempts() {
    let mut fixture = Fixture::with_rows(1);
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.answer(sent, "positive");
    let rows = crate::store::RetryFilter { rows: vec!["r1".to_owned()], ..Default::default() };
    fixture.store().retry(&rows, None, START).unwrap();
    let shown = trail(&mut fixture, "r1");
    let json = serde_json::to_value(json::json(&shown)).unwrap();
    assert_eq!(json["prompts"][0]["answer"], serde_json::Value::Null);
    assert_eq!(json["prompts"][0]["attempts"][0]["answer"], "positive");
    assert!(page::page(&shown).contains("state        pending: to be sent again\n"));
}

#[test]
fn an_older_version_of_a_prompt_is_named_with_an_at() {
    let mut fixture = Fixture::with_rows(1);
    fixture.prompt("label", "Label it better: {{ text }}");
    fixture.prompt("odd@name", "{{ text }}");
    let all = fixture.store().prompts().unwrap();
    let version = |named| pick(&all, named).map(|prompt| (prompt.name.as_str(), prompt.version));
    assert_eq!(version("label"), Some(("label", 2)));
    assert_eq!(version("label@1"), Some(("label", 1)));
    assert_eq!(version("odd@name"), Some(("odd@name", 1)));
    assert_eq!(version("odd@name@1"), Some(("odd@name", 1)));
    assert_eq!(version("label@3"), None);
    let (exit, words) = failure(&fixture, Args { prompt: Some("lable".to_owned()), ..args("r1") });
    assert_eq!(exit, Exit::Error);
    assert_eq!(
        words,
        "\
error: there is no prompt \"lable\"
hint: did you mean `--prompt label`?
hint: on record: label@1, label@2, odd@name@1
"
    );
}

#[test]
fn an_unknown_row_is_told_the_nearest_way_out() {
    let fixture = Fixture::with_rows(12);
    let (exit, words) = failure(&fixture, args("12"));
    assert_eq!(exit, Exit::Error);
    assert_eq!(
        words,
        "\
error: there is no row \"12\"
hint: did you mean `overnight -p overnight.db show '#12'`?
hint: a row is named by its key or its position: 12 rows, from '#1' to '#12'
"
    );
    let (_, words) = failure(&fixture, args("#13"));
    assert_eq!(
        words,
        "\
error: there is no row at position 13
hint: a row is named by its key or its position: 12 rows, from '#1' to '#12'
"
    );
    let (_, words) = failure(&fixture, args("R4"));
    assert!(words.contains("hint: did you mean `overnight -p overnight.db show r4`?\n"), "{words}");
    let (exit, words) = failure(&fixture, Args { row: None, ..args("") });
    assert_eq!(exit, Exit::Usage);
    assert!(words.contains("a shell takes a # without quotes for a comment"), "{words}");
}

#[test]
fn a_removed_row_says_when_it_left() {
    let mut fixture = Fixture::with_rows(3);
    fixture.store().remove(&["r2".to_owned()], START).unwrap();
    let (_, words) = failure(&fixture, args("r2"));
    assert!(
        words.contains(
            "hint: that row was removed at 2026-01-01T00:00:00.000Z; adding its file again"
        ),
        "{words}"
    );
    let (_, words) = failure(&Fixture::empty(), args("r2"));
    assert!(words.contains("the table has no rows"), "{words}");
}

#[test]
fn bytes_are_printed_of_one_prompt_only() {
    let mut fixture = Fixture::with_rows(1);
    fixture.prompt("grade", "Grade this: {{ text }}");
    let (exit, words) = failure(&fixture, Args { request: true, ..args("r1") });
    assert_eq!(exit, Exit::Usage);
    assert!(words.contains("hint: say which with --prompt: label, grade\n"), "{words}");
    let one = Args { reply: true, prompt: Some("grade".to_owned()), ..args("r1") };
    let (exit, words) = failure(&fixture, one);
    assert_eq!(exit, Exit::Error);
    assert!(words.starts_with("error: there is no reply on record of row #1"), "{words}");
}

#[test]
fn an_attempt_in_a_batch_says_which_how_old_and_until_when() {
    let mut fixture = Fixture::with_rows(2);
    let (batch, _) = fixture.batch("token", &["r1", "r2"]);
    let shown = trail(&mut fixture, "r2");
    let page = page::page(&shown);
    assert!(page.contains("batch        1 (not made yet), planned, 1 h 29 min old\n"), "{page}");
    fixture.submit(batch);
    fixture.look(batch, BatchMove::Seen(RemoteStatus::InProgress), None);
    let shown = trail(&mut fixture, "r2");
    let page = page::page(&shown);
    assert!(page.contains("state        in a batch\n"), "{page}");
    assert!(
        page.ends_with(
            "\
  attempt 1: waits for its batch
    sent         2026-01-01T00:00:05.000Z, in batch 1, max_tokens 100
    batch        1 (batch_1), in progress, 1 h 29 min old, expires in 22 h 30 min
    custom id    token-2
    asked in     line 2 of the input file (file-1)
"
        ),
        "{page}"
    );
    let reply = Args { reply: true, ..args("r2") };
    let (exit, words) = failure(&fixture, reply);
    assert_eq!(exit, Exit::Error);
    assert!(words.contains("for prompt \"label\": it is still in a batch\n"), "{words}");
}

#[test]
fn a_result_says_where_it_stood_and_its_line_is_the_reply() {
    let mut fixture = Fixture::with_rows(2);
    let (batch, sent) = fixture.batch("token", &["r1", "r2"]);
    fixture.submit(batch);
    let completed = BatchMove::Seen(RemoteStatus::Ended(BatchEnd::Completed));
    fixture.look(batch, completed, Some((2, 0)));
    let line = br#"{"custom_id":"token-2","response":{"status_code":200}}"#;
    let answer = |fixture: &mut Fixture, sent| {
        let settlement = Settlement {
            answer: Some("positive".to_owned()),
            reply: Some(Codec::plain().pack(line).unwrap()),
            ..fixture.settlement(sent, Outcome::Answered)
        };
        LineKind::Settles(Box::new(settlement))
    };
    // In another order than they were asked in.
    let lines = vec![answer(&mut fixture, sent[1]), answer(&mut fixture, sent[0])];
    fixture.collect(batch, lines);
    let shown = trail(&mut fixture, "r2");
    let page = page::page(&shown);
    assert!(
        page.contains(
            "    batch        1 (batch_1), completed, took 11 s
    custom id    token-2
    asked in     line 2 of the input file (file-1)
    came in      line 1 of the output file (file-1-out)
"
        ),
        "{page}"
    );
    assert_eq!(shown.prompts[0].last_reply(), Some(line.as_slice()));
    let json = serde_json::to_value(json::json(&shown)).unwrap();
    let attempt = &json["prompts"][0]["attempts"][0];
    assert_eq!(attempt["batch_id"], 1);
    assert_eq!(
        attempt["batch"],
        serde_json::json!({
            "id": 1, "provider_id": "batch_1", "status": "collected", "ended": "completed", "error": null,
            "planned_at": "2026-01-01T00:00:04.000Z", "expires_at": "2026-01-02T00:00:00.000Z",
            "collected_at": "2026-01-01T00:00:15.000Z", "custom_id": "token-2",
            "input_file_id": "file-1", "input_line": 2,
            "result_file": "output", "result_file_id": "file-1-out", "result_line": 1,
        })
    );
}

#[test]
fn a_request_whose_batch_failed_says_why() {
    let mut fixture = Fixture::with_rows(1);
    let (batch, _) = fixture.batch("token", &["r1"]);
    fixture.move_batch(batch, BatchMove::Upload, |_| ());
    fixture.move_batch(batch, BatchMove::Refused, |change| {
        change.error = Some("the file is no good".to_owned());
    });
    fixture.collect(batch, Vec::new());
    let shown = trail(&mut fixture, "r1");
    let page = page::page(&shown);
    assert!(
        page.contains("batch        1 (never made), failed, took 5 s: the file is no good\n"),
        "{page}"
    );
    let json = serde_json::to_value(json::json(&shown)).unwrap();
    let attempt = &json["prompts"][0]["attempts"][0];
    assert_eq!(attempt["batch"]["error"], "the file is no good");
    assert_eq!(attempt["batch"]["result_line"], serde_json::Value::Null);
}

#[test]
fn a_realtime_attempt_is_in_no_batch() {
    let mut fixture = Fixture::with_rows(1);
    fixture.send(&Call::new("r1", "label"));
    let json = serde_json::to_value(json::json(&trail(&mut fixture, "r1"))).unwrap();
    assert_eq!(json["prompts"][0]["attempts"][0]["batch"], serde_json::Value::Null);
}
