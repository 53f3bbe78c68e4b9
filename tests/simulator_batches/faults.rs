//! Faults of files and batches: each one as it is seen from outside, and what it costs.

use std::io::ErrorKind;

use overnight::simulate::{Fault, Moment};
use serde_json::{Value, json};

use crate::client::{ids, input, sorted_ids};
use crate::simulated::Served;

/// All `custom_id`s of an input of so many lines, sorted.
fn all_ids(lines: usize) -> Vec<String> {
    (0..lines).map(|n| format!("k{n}")).collect()
}

/// Says that a fault struck so often.
fn struck(served: &Served, fault: &str, times: u64) {
    assert_eq!(served.ledger().totals.faults.get(fault).copied().unwrap_or(0), times, "{fault}");
}

#[test]
fn an_upload_whose_reply_is_lost_left_a_file() {
    let served = Served::with_faults("upload_lost=once");
    assert_eq!(served.upload(&input(1)).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(served.get("/v1/files").json()["data"][0]["filename"], "in.jsonl");
    assert_eq!(served.upload(&input(1)).unwrap().status, 200);
    assert_eq!(served.ledger().totals.files_uploaded, 2);
    struck(&served, "upload_lost", 1);
}

#[test]
fn an_upload_that_breaks_down_left_none() {
    let served = Served::with_faults("upload_500=first:1");
    let reply = served.upload(&input(1)).unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (500, "server_error"));
    assert_eq!(served.get("/v1/files").json()["data"], json!([]));
    assert_eq!(served.upload(&input(1)).unwrap().status, 200);
    assert_eq!(served.ledger().totals.files_uploaded, 1);
}

#[test]
fn a_create_whose_reply_is_lost_left_a_batch() {
    let served = Served::with_faults("create_lost=once");
    let file = served.upload(&input(1)).unwrap().id().to_owned();
    assert_eq!(served.create(&file).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let list = served.get("/v1/batches").json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(list["data"][0]["input_file_id"], file);
    assert_eq!(served.end(&list["data"][0])["status"], "completed");
    assert_eq!(served.create(&file).unwrap().status, 200);
    assert_eq!(served.ledger().totals.batches_created, 2);
}

#[test]
fn creates_that_break_down_left_none() {
    for (fault, status, code) in [
        ("create_500", 500, "server_error"),
        ("create_429", 429, "rate_limit_exceeded"),
        ("create_404", 404, "-"),
    ] {
        let served = Served::with_faults(&format!("{fault}=tries:2"));
        let file = served.upload(&input(1)).unwrap().id().to_owned();
        for _ in 0..2 {
            let reply = served.create(&file).unwrap();
            assert_eq!((reply.status, reply.code().as_str()), (status, code));
            let wait = reply.headers.get("retry-after").map(String::as_str);
            assert_eq!(wait, (status == 429).then_some("1"));
        }
        assert_eq!(served.get("/v1/batches").json()["data"], json!([]));
        assert_eq!(served.create(&file).unwrap().status, 200, "{fault}");
        assert_eq!(served.ledger().totals.batches_created, 1);
        struck(&served, fault, 2);
    }
}

#[test]
fn a_batch_that_fails_as_a_whole_costs_nothing() {
    for (fault, code) in
        [("batch_failed", "server_error"), ("batch_tokens", "token_limit_exceeded")]
    {
        let served = Served::with_faults(&format!("{fault}=first:1"));
        let ended = served.end(&served.batch(&input(4)));
        assert_eq!(ended["status"], "failed");
        assert_eq!(ended["errors"]["data"][0]["code"], code);
        assert_eq!(ended["output_file_id"], Value::Null);
        assert_eq!(served.ledger().totals.requests, 0);
        assert_eq!(served.end(&served.batch(&input(4)))["status"], "completed");
    }
    let served = Served::with_faults("batch_tokens=1");
    let told = served.end(&served.batch(&input(1)))["errors"]["data"][0]["message"].clone();
    assert!(told.as_str().unwrap().contains("Limit: 2,000,000 enqueued tokens"), "{told}");
}

#[test]
fn batches_end_half_done_as_ordered_and_what_was_done_is_there() {
    for (fault, status, left) in [
        ("batch_expired", "expired", Some("batch_expired")),
        ("batch_cancelled", "cancelled", Some("batch_cancelled")),
        ("batch_broken", "failed", None),
    ] {
        let served = Served::with_faults(&format!("{fault}=first:1"));
        let ended = served.end(&served.batch(&input(4)));
        assert_eq!(ended["status"], status);
        assert_eq!(ended["request_counts"], json!({"total": 4, "completed": 2, "failed": 0}));
        assert_eq!(ended["errors"].is_null(), left.is_some(), "{fault}");
        assert!(ended[format!("{status}_at")].is_i64(), "{ended}");
        assert_eq!(ended["cancelling_at"].is_null(), status != "cancelled");
        assert_eq!(served.lines(&ended["output_file_id"]).len(), 2, "{fault}");
        match left {
            None => assert_eq!(ended["error_file_id"], Value::Null),
            Some(code) => {
                let errors = served.lines(&ended["error_file_id"]);
                assert_eq!(errors.len(), 2);
                assert!(errors.iter().all(|line| line["error"]["code"] == code), "{errors:?}");
            }
        }
        let totals = served.ledger().totals;
        assert_eq!((totals.charged_requests, totals.answered_requests), (2, 2), "{fault}");
    }
}

#[test]
fn a_batch_vanishes_after_it_was_seen_in_progress() {
    let served = Served::with_faults("batch_vanished=first:1");
    let batch = served.batch(&input(4));
    assert_eq!(served.look(&batch).json()["status"], "in_progress");
    for _ in 0..2 {
        assert_eq!(served.look(&batch).status, 404);
        assert_eq!(served.cancel(&batch).status, 404);
    }
    assert_eq!(served.get("/v1/batches").json()["data"], json!([]));
    assert_eq!(served.ledger().totals.requests, 0);
}

#[test]
fn a_stuck_batch_is_finalizing_for_long_with_all_counted() {
    let served = Served::with_faults("batch_stuck=1");
    let batch = served.batch(&input(2));
    let seen: Vec<_> = (0..8).map(|_| served.look(&batch).json()).collect();
    let statuses: Vec<_> = seen.iter().map(|batch| batch["status"].as_str().unwrap()).collect();
    let expected = [&["in_progress"][..], &["finalizing"; 6], &["completed"]].concat();
    assert_eq!(statuses, expected);
    assert_eq!(seen[1]["request_counts"]["completed"], 2);
    assert_eq!(seen[6]["output_file_id"], Value::Null);
}

#[test]
fn a_batch_says_of_its_results_what_is_ordered() {
    let served = Served::with_faults("result_emptyid=1");
    let batch = served.batch(&input(2));
    assert_eq!((&batch["output_file_id"], &batch["error_file_id"]), (&json!(""), &json!("")));
    let ended = served.end(&batch);
    assert_eq!(ended["error_file_id"], "");
    assert_eq!(served.get("/v1/files//content").status, 404);
    assert_eq!(served.lines(&ended["output_file_id"]).len(), 2);

    let served = Served::with_faults("result_emptyfile=1");
    let ended = served.end(&served.batch(&input(2)));
    let empty = served.content(&ended["error_file_id"]);
    assert_eq!((empty.status, empty.announced(), empty.body.len()), (200, 0, 0));

    let served = Served::with_faults("result_counts=1");
    let ended = served.end(&served.batch(&input(3)));
    assert_eq!(ended["request_counts"], json!({"total": 2, "completed": 0, "failed": 3}));
    assert_eq!(served.lines(&ended["output_file_id"]).len(), 3);
}

#[test]
fn lines_that_are_refused_are_in_the_error_file_and_free() {
    for (fault, status, code) in
        [("line_429", 429, "rate_limit_exceeded"), ("line_500", 500, "server_error")]
    {
        let served = Served::with_faults(&format!("{fault}=first:2"));
        let ended = served.end(&served.batch(&input(5)));
        assert_eq!(ended["status"], "completed");
        assert_eq!(ended["request_counts"], json!({"total": 5, "completed": 3, "failed": 2}));
        let (good, bad) =
            (served.lines(&ended["output_file_id"]), served.lines(&ended["error_file_id"]));
        for line in &bad {
            assert_eq!(
                (&line["error"], &line["response"]["status_code"]),
                (&Value::Null, &json!(status))
            );
            assert_eq!(line["response"]["body"]["error"]["code"], code);
        }
        assert_eq!((good.len(), bad.len()), (3, 2));
        assert_eq!(sorted_ids(&[good, bad].concat()), all_ids(5));
        assert_eq!(served.ledger().totals.charged_requests, 3);
        assert_eq!(served.ledger().totals.errors[code], 2);
    }
}

#[test]
fn lines_are_lost_or_spoilt_as_ordered_and_charged_all_the_same() {
    let spoilt = |fault: &str, answered: u64| {
        let served = Served::with_faults(&format!("{fault}=first:1"));
        let ended = served.end(&served.batch(&input(5)));
        assert_eq!(ended["status"], "completed", "{fault}");
        assert_eq!(ended["request_counts"], json!({"total": 5, "completed": 5, "failed": 0}));
        let totals = served.ledger().totals;
        assert_eq!((totals.charged_requests, totals.answered_requests), (5, answered), "{fault}");
        struck(&served, fault, 1);
        (served, ended)
    };
    let (served, ended) = spoilt("line_missing", 4);
    assert_eq!(served.lines(&ended["output_file_id"]).len(), 4);
    assert_eq!(ended["error_file_id"], Value::Null);

    let (served, ended) = spoilt("line_doubled", 5);
    let lines = served.lines(&ended["output_file_id"]);
    assert_eq!((lines.len(), lines[0] == lines[1]), (6, true));
    assert_eq!(sorted_ids(&lines[1..]), all_ids(5));

    let (served, ended) = spoilt("line_unknown", 4);
    let unknown = ids(&served.lines(&ended["output_file_id"]));
    assert_eq!((unknown.len(), unknown[0].starts_with("unknown-")), (5, true));

    let (served, ended) = spoilt("line_garbled", 4);
    let content = served.content(&ended["output_file_id"]).body;
    let lines: Vec<_> = content.split(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 6, "its end is there");
    let broken = lines[..5].iter().filter(|line| serde_json::from_slice::<Value>(line).is_err());
    assert_eq!(broken.count(), 1);

    let (served, ended) = spoilt("line_both", 5);
    let lines = served.lines(&ended["output_file_id"]);
    let errors = served.lines(&ended["error_file_id"]);
    assert_eq!((lines.len(), ids(&errors)), (5, ids(&lines[..1])));
    assert_eq!(errors[0]["response"]["status_code"], 500);
}

#[test]
fn characters_that_split_lines_for_some_readers_stand_in_a_string() {
    let served = Served::with_faults("line_separator=first:1");
    let ended = served.end(&served.batch(&input(3)));
    let content = String::from_utf8(served.content(&ended["output_file_id"]).body).unwrap();
    assert!(['\u{2028}', '\u{2029}', '\u{85}'].iter().all(|char| content.contains(*char)));
    assert_eq!(content.lines().count(), 3, "only \\n ends a line");
    let lines = served.lines(&ended["output_file_id"]);
    let text = lines[0]["response"]["body"]["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.ends_with("\u{2028}\u{2029}\u{85}"), "{text:?}");
    assert_eq!(served.ledger().totals.answered_requests, 3);
}

#[test]
fn spoilt_answers_strike_lines_as_they_strike_calls() {
    let choice = |fault: &str, answered: u64| {
        let served = Served::with_faults(&format!("{fault}=first:1,reset=1"));
        let ended = served.end(&served.batch(&input(2)));
        assert_eq!(ended["request_counts"]["completed"], 2, "{fault}: no fault of calls");
        assert_eq!(served.ledger().totals.answered_requests, answered, "{fault}");
        served.lines(&ended["output_file_id"])[0]["response"]["body"]["choices"].clone()
    };
    assert!(choice("refusal", 1)[0]["message"]["refusal"].is_string());
    assert_eq!(choice("content_filter", 1)[0]["finish_reason"], "content_filter");
    assert_eq!(choice("length", 1)[0]["finish_reason"], "length");
    assert_eq!(choice("wrongtype", 1), "none");
    assert_eq!(choice("wronglabel", 1)[0]["message"]["content"], "none of the labels");
}

#[test]
fn looks_that_break_down_move_nothing_on() {
    for (fault, status) in [("poll_500", 500), ("poll_429", 429)] {
        let served = Served::with_faults(&format!("{fault}=tries:2"));
        let batch = served.batch(&input(2));
        for _ in 0..2 {
            let reply = served.look(&batch);
            assert_eq!(reply.status, status);
            let wait = reply.headers.get("retry-after").map(String::as_str);
            assert_eq!(wait, (status == 429).then_some("1"));
        }
        assert_eq!(served.look(&batch).json()["status"], "in_progress");
        struck(&served, fault, 2);
    }
}

#[test]
fn downloads_break_down_or_are_cut_and_then_come_whole() {
    for (fault, status) in [("content_404", 404), ("content_500", 500)] {
        let served = Served::with_faults(&format!("{fault}=tries:2"));
        let ended = served.end(&served.batch(&input(2)));
        let id = &ended["output_file_id"];
        assert_eq!(served.content(&ended["input_file_id"]).status, 200, "results alone");
        assert_eq!([(); 2].map(|()| served.content(id).status), [status; 2]);
        assert_eq!(served.lines(id).len(), 2);
        struck(&served, fault, 2);
    }
    let served = Served::with_faults("content_cut=once");
    let ended = served.end(&served.batch(&input(2)));
    let cut = served.content(&ended["output_file_id"]);
    assert!(!cut.body.is_empty() && cut.body.len() < cut.announced(), "{cut:?}");
    let whole = served.content(&ended["output_file_id"]);
    assert_eq!((whole.body.len(), whole.announced()), (cut.announced(), cut.announced()));
    assert!(whole.body.starts_with(&cut.body));
}

/// A fault that is ordered and has no test above would go unnoticed here.
#[test]
fn every_fault_of_batches_is_tested_in_this_file() {
    let tests = include_str!("faults.rs");
    for fault in Fault::ALL {
        let is_of_calls = fault.moments() == [Moment::Call];
        let named = tests.contains(&format!("\"{fault}")) || tests.contains(&format!("{fault}="));
        assert!(is_of_calls || named, "{fault}");
    }
}
