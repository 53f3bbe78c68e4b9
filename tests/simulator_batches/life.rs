//! The life of a batch: its statuses, its results, its limits, its place in lists and in the ledger.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use overnight::domain::{Fingerprint, UnixMs};
use serde_json::{Value, json};

use crate::client::{create, ids, input, line, sorted_ids};
use crate::simulated::{Served, chat, post};

const START_S: i64 = 1_767_225_600;

#[test]
fn without_a_delay_each_look_sees_the_next_status() {
    let served = Served::with(|_| {});
    let first = served.batch(&input(3));
    let mut expected = json!({
        "id": first["id"], "object": "batch", "endpoint": "/v1/chat/completions", "model": null,
        "errors": null, "input_file_id": first["input_file_id"], "completion_window": "24h",
        "status": "validating", "output_file_id": null, "error_file_id": null,
        "created_at": START_S, "in_progress_at": null, "expires_at": null, "finalizing_at": null,
        "completed_at": null, "failed_at": null, "expired_at": null, "cancelling_at": null,
        "cancelled_at": null, "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": null, "metadata": null,
    });
    assert_eq!(first, expected);
    let listed = served.get("/v1/batches").json()["data"][0].clone();
    assert_eq!(listed, expected, "a list moves nothing on");
    assert_eq!(served.ledger().totals.requests, 0);

    expected["status"] = json!("in_progress");
    expected["model"] = json!("small");
    expected["in_progress_at"] = json!(START_S);
    expected["expires_at"] = json!(START_S + 86_400);
    expected["request_counts"] = json!({"total": 3, "completed": 1, "failed": 0});
    assert_eq!(served.look(&first).json(), expected);
    assert_eq!(
        served.ledger().totals.batch_charged_requests,
        1,
        "a line is charged when it is done"
    );

    expected["status"] = json!("finalizing");
    expected["finalizing_at"] = json!(START_S);
    expected["request_counts"] = json!({"total": 3, "completed": 3, "failed": 0});
    assert_eq!(served.look(&first).json(), expected);
    assert_eq!(served.get("/v1/files?purpose=batch_output").json()["data"], json!([]));

    let ended = served.look(&first).json();
    let totals = served.ledger().totals;
    expected["status"] = json!("completed");
    expected["completed_at"] = json!(START_S);
    expected["output_file_id"] = ended["output_file_id"].clone();
    expected["usage"] = json!({"input_tokens": totals.input_tokens,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens": totals.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": totals.input_tokens + totals.output_tokens});
    assert_eq!(ended, expected);
    assert_eq!(served.look(&first).json(), expected, "it stays so");
    assert_eq!(served.lines(&ended["output_file_id"]).len(), 3);
}

#[test]
fn a_batch_answers_as_calls_do_and_in_an_order_of_its_own() {
    let served = Served::with(|settings| settings.seed = 7);
    let batch = served.end(&served.batch(&input(20)));
    let lines = served.lines(&batch["output_file_id"]);
    let order: Vec<_> = (0..20).map(|n| format!("k{n}")).collect();
    assert_ne!(ids(&lines), order, "not the input's order");
    assert_eq!(ids(&lines).into_iter().collect::<BTreeSet<_>>(), order.into_iter().collect());
    for line in &lines {
        assert_eq!(line["error"], Value::Null);
        assert_eq!(line["response"]["status_code"], 200);
        assert!(line["id"].as_str().unwrap().starts_with("batch_req_"));
        assert!(line["response"]["request_id"].as_str().unwrap().starts_with("req_"));
        let number = &line["custom_id"].as_str().unwrap()[1..];
        let called = served.chat(&format!("row {number}")).unwrap().json();
        assert_eq!(line["response"]["body"]["choices"], called["choices"]);
        assert_eq!(line["response"]["body"]["usage"], called["usage"]);
    }
    let again = Served::with(|settings| settings.seed = 7);
    let batch = again.end(&again.batch(&input(20)));
    assert_eq!(again.lines(&batch["output_file_id"]), lines, "the same seed, the same file");
}

#[test]
fn responses_are_batched_too() {
    let served = Served::with(|_| {});
    let body = json!({"model": "small", "input": "Hello"});
    let text = line("a", &body).replace("chat/completions", "responses");
    let mut asked = create(served.upload(&text).unwrap().id());
    asked["endpoint"] = json!("/v1/responses");
    let batch = served.end(&served.post("/v1/batches", &asked).unwrap().json());
    assert_eq!(batch["endpoint"], "/v1/responses");
    let lines = served.lines(&batch["output_file_id"]);
    let called = served.post("/v1/responses", &body).unwrap().json();
    assert_eq!(
        lines[0]["response"]["body"]["output"][0]["content"],
        called["output"][0]["content"]
    );
}

#[test]
fn bad_lines_are_told_in_the_error_file_and_cost_themselves_alone() {
    let served = Served::with(|settings| settings.context_tokens = 100);
    let mut unknown = chat("x");
    unknown["max_token"] = json!(1);
    let long = chat(&"word ".repeat(200));
    let text = line("good", &chat("x")) + &line("unknown", &unknown) + &line("long", &long);
    let batch = served.end(&served.batch(&text));
    assert_eq!(batch["status"], "completed");
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 1, "failed": 2}));
    assert_eq!(ids(&served.lines(&batch["output_file_id"])), ["good"]);
    let mut errors = served.lines(&batch["error_file_id"]);
    errors.sort_by_key(|line| line["custom_id"].to_string());
    for (line, body) in errors.iter().zip([&long, &unknown]) {
        assert_eq!((&line["error"], &line["response"]["status_code"]), (&Value::Null, &json!(400)));
        let called = served.post("/v1/chat/completions", body).unwrap();
        assert_eq!(line["response"]["body"], called.json(), "told as a call is told");
    }
    assert_eq!(served.ledger().totals.charged_requests, 1);

    let none = served.end(&served.batch(&line("unknown", &unknown)));
    assert_eq!((&none["status"], &none["output_file_id"]), (&json!("completed"), &Value::Null));
    assert_eq!(served.lines(&none["error_file_id"]).len(), 1);
}

#[test]
fn an_input_that_is_wrong_fails_the_batch_with_its_lines() {
    let served = Served::with(|settings| settings.batch_requests = 3);
    let error = |text: &str| {
        let first = served.batch(text);
        assert_eq!(first["status"], "validating");
        let ended = served.end(&first);
        assert_eq!(ended["status"], "failed");
        assert_eq!(ended["failed_at"], START_S);
        assert_eq!(ended["request_counts"], json!({"total": 0, "completed": 0, "failed": 0}));
        for field in ["output_file_id", "error_file_id", "in_progress_at", "model"] {
            assert_eq!(ended[field], Value::Null, "{field}");
        }
        assert_eq!(ended["errors"]["object"], "list");
        ended["errors"]["data"].clone()
    };
    let good = line("a", &chat("x"));
    let told = json!([{"code": "invalid_json_line", "line": 2,
        "message": "This line is not parseable as valid JSON.", "param": null}]);
    assert_eq!(error(&format!("{good}{{\"custom_id\": \n")), told);
    let twice = error(&format!("{good}{good}"));
    assert_eq!((&twice[0]["code"], &twice[0]["line"]), (&json!("duplicate_custom_id"), &json!(2)));
    let other = line("b", &json!({"model": "large", "messages": []}));
    assert_eq!(error(&format!("{good}{other}"))[0]["code"], "mismatched_model");
    assert_eq!(error("")[0]["code"], "empty_file");
    assert_eq!(error(&input(4))[0]["code"], "too_many_tasks");
    let totals = served.ledger().totals;
    assert_eq!((totals.batches_created, totals.requests), (5, 0));
}

#[test]
fn creates_that_openai_would_not_take_are_refused_by_name() {
    let served = Served::with(|_| {});
    let id = served.upload(&input(1)).unwrap().id().to_owned();
    let other = served.form(&[("purpose", "user_data")], Some(("a.txt", b"{}"))).unwrap();
    let pairs: serde_json::Map<_, _> = (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
    let long = json!({"k": "v".repeat(513)});
    for (field, value, status, code) in [
        ("input_file_id", Value::Null, 400, "invalid_type"),
        ("input_file_id", json!("file-none"), 404, "-"),
        ("input_file_id", json!(other.id()), 400, "invalid_file_purpose"),
        ("endpoint", json!("/v1/chat"), 400, "invalid_value"),
        ("endpoint", json!("/v1/embeddings"), 400, "unsupported_by_simulator"),
        ("completion_window", json!("48h"), 400, "invalid_value"),
        ("metadata", json!(pairs), 400, "object_above_max_properties"),
        ("metadata", long, 400, "string_above_max_length"),
        ("metadata", json!({"k": 1}), 400, "invalid_type"),
        ("output_expires_after", json!({"seconds": 3600}), 400, "missing_required_parameter"),
        ("priority", json!("high"), 400, "unknown_parameter"),
    ] {
        let mut body = create(&id);
        body[field] = value;
        let reply = served.post("/v1/batches", &body).unwrap();
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{body}");
    }
    let plain = post("/v1/batches", "", "{").replace("json", "text");
    assert_eq!(served.send(plain).unwrap().code(), "unsupported_content_type");
    assert_eq!(served.send(post("/v1/batches", "", "{")).unwrap().status, 400);
    assert_eq!(served.ledger().totals.batches_created, 0);

    let mut body = create(&id);
    body["metadata"] = json!({"token": "t-1"});
    body["output_expires_after"] = json!({"anchor": "created_at", "seconds": 3600});
    let batch = served.end(&served.post("/v1/batches", &body).unwrap().json());
    assert_eq!(batch["metadata"], json!({"token": "t-1"}));
    let file = served.get(&format!("/v1/files/{}", batch["output_file_id"].as_str().unwrap()));
    assert_eq!(file.json()["expires_at"], START_S + 3600);
    assert_eq!(file.json()["purpose"], "batch_output");
}

#[test]
fn five_hundred_batches_are_found_page_by_page_newest_first() {
    let served = Served::with(|_| {});
    let file = served.upload(&input(1)).unwrap().id().to_owned();
    let mut made = Vec::new();
    for n in 0..500 {
        let mut body = create(&file);
        body["metadata"] = json!({"n": n.to_string()});
        made.push(served.post("/v1/batches", &body).unwrap().id().to_owned());
    }
    made.reverse();
    let (mut found, mut after) = (Vec::new(), String::new());
    for _ in 0..6 {
        let page = served.get(&format!("/v1/batches?limit=100{after}")).json();
        let data = page["data"].as_array().unwrap();
        assert_eq!((&page["first_id"], &page["last_id"]), (&data[0]["id"], &data[99]["id"]));
        found.extend(data.iter().map(|batch| batch["id"].as_str().unwrap().to_owned()));
        after = format!("&after={}", page["last_id"].as_str().unwrap());
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(found, made);
    let last = served.get(&format!("/v1/batches?limit=100{after}")).json();
    assert_eq!((&last["data"], &last["has_more"]), (&json!([]), &json!(false)));
    assert_eq!(served.get("/v1/batches").json()["data"].as_array().unwrap().len(), 20);
    for (query, code) in [
        ("?limit=0", "integer_below_min_value"),
        ("?limit=101", "integer_above_max_value"),
        ("?status=completed", "unknown_parameter"),
    ] {
        assert_eq!(served.get(&format!("/v1/batches{query}")).code(), code, "{query}");
    }
    assert_eq!(served.get("/v1/batches?after=batch_none").status, 404);
    let none = served.get("/v1/batches/batch_none");
    assert_eq!(none.json()["error"]["message"], "No batch found with id 'batch_none'.");
}

#[test]
fn with_a_delay_the_statuses_follow_the_clock() {
    static NOW: AtomicI64 = AtomicI64::new(1_000_000);
    let served = Served::with(|settings| {
        settings.now = || UnixMs(NOW.load(Ordering::SeqCst));
        settings.batch_delay = Duration::from_secs(100);
    });
    let batch = served.batch(&input(8));
    let at = |second: i64| {
        NOW.store(1_000_000 + second * 1000, Ordering::SeqCst);
        let seen = served.look(&batch).json();
        assert_eq!(seen, served.look(&batch).json(), "a look moves nothing on");
        (seen["status"].as_str().unwrap().to_owned(), seen["request_counts"]["completed"].clone())
    };
    let is = |status: &str, completed: u64| (status.to_owned(), json!(completed));
    assert_eq!(at(9), is("validating", 0));
    assert_eq!(at(10), is("in_progress", 0));
    assert_eq!(at(50), is("in_progress", 4));
    assert_eq!(at(89), is("in_progress", 7));
    assert_eq!(at(90), is("finalizing", 8));
    assert_eq!(at(5_000), is("completed", 8));
    let ended = served.look(&batch).json();
    assert_eq!((&ended["created_at"], &ended["in_progress_at"]), (&json!(1000), &json!(1010)));
    assert_eq!((&ended["finalizing_at"], &ended["completed_at"]), (&json!(1090), &json!(1100)));

    let unseen = served.batch(&input(9));
    NOW.fetch_add(100_000, Ordering::SeqCst);
    assert_eq!(served.ledger().totals.batch_charged_requests, 17, "nobody had to look at it");
    assert_eq!(served.get("/v1/batches?limit=1").json()["data"][0]["status"], "completed");
    NOW.fetch_add(2_592_000_000, Ordering::SeqCst);
    let id = unseen["input_file_id"].as_str().unwrap();
    assert_eq!(served.get(&format!("/v1/files/{id}")).status, 404, "files expire after 30 days");
}

#[test]
fn a_window_that_closes_keeps_what_was_done() {
    static NOW: AtomicI64 = AtomicI64::new(1_000_000);
    let served = Served::with(|settings| {
        settings.now = || UnixMs(NOW.load(Ordering::SeqCst));
        settings.batch_delay = Duration::from_secs(100);
        settings.batch_window = Duration::from_secs(50);
    });
    let batch = served.batch(&input(8));
    NOW.fetch_add(70_000, Ordering::SeqCst);
    let ended = served.look(&batch).json();
    assert_eq!(ended["status"], "expired");
    assert_eq!((&ended["expires_at"], &ended["expired_at"]), (&json!(1050), &json!(1050)));
    assert_eq!(ended["request_counts"], json!({"total": 8, "completed": 4, "failed": 0}));
    let (done, left) =
        (served.lines(&ended["output_file_id"]), served.lines(&ended["error_file_id"]));
    assert_eq!((done.len(), left.len()), (4, 4));
    assert!(left.iter().all(|line| line["response"].is_null()
        && line["error"]["code"] == "batch_expired"
        && line["error"]["message"].as_str().unwrap().contains("window expired")));
    let both = [done, left].concat();
    assert_eq!(sorted_ids(&both), (0..8).map(|n| format!("k{n}")).collect::<Vec<_>>());
    assert_eq!(served.ledger().totals.charged_requests, 4);
}

#[test]
fn a_cancelled_batch_keeps_what_was_done() {
    let served = Served::with(|_| {});
    let batch = served.batch(&input(5));
    served.look(&batch);
    let cancelling = served.cancel(&batch).json();
    assert_eq!(
        (&cancelling["status"], &cancelling["cancelling_at"]),
        (&json!("cancelling"), &json!(START_S))
    );
    assert_eq!(served.cancel(&batch).json(), cancelling, "again makes no difference");
    let ended = served.look(&batch).json();
    assert_eq!((&ended["status"], &ended["cancelled_at"]), (&json!("cancelled"), &json!(START_S)));
    assert_eq!(ended["request_counts"], json!({"total": 5, "completed": 2, "failed": 0}));
    assert_eq!(served.lines(&ended["output_file_id"]).len(), 2);
    let left = served.lines(&ended["error_file_id"]);
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|line| line["error"]["code"] == "batch_cancelled"));
    assert_eq!(served.ledger().totals.charged_requests, 2);
    let late = served.cancel(&batch);
    assert_eq!(late.status, 409);
    assert_eq!(late.json()["error"]["message"], "Cannot cancel a batch with status 'cancelled'.");

    let early = served.batch(&input(5));
    served.cancel(&early);
    let ended = served.end(&early);
    assert_eq!((&ended["output_file_id"], &ended["status"]), (&Value::Null, &json!("cancelled")));
    assert_eq!(served.lines(&ended["error_file_id"]).len(), 5);
    assert_eq!(served.cancel(&json!({"id": "batch_none"})).status, 404);
}

#[test]
fn enqueued_tokens_are_limited_for_each_model_until_batches_end() {
    // Each line's prompt has 9 tokens or 10: the frame 3, `user` 1, the text, the reply 3.
    let served = Served::with(|settings| settings.enqueued_tokens = Some(45));
    let first = served.batch(&input(4));
    let refused = served.batch(&input(4));
    let large = input(4).replace("small", "large");
    let other_model = served.batch(&large);
    let ended = served.end(&refused);
    assert_eq!(ended["status"], "failed");
    let told = "Enqueued token limit reached for small in organization org-simulated. Limit: 45 \
                enqueued tokens. Please try again once some in_progress batches have been completed.";
    let expected =
        json!([{"code": "token_limit_exceeded", "line": null, "message": told, "param": null}]);
    assert_eq!(ended["errors"]["data"], expected);
    assert_eq!(served.end(&other_model)["status"], "completed");
    served.look(&first);
    assert_eq!(served.end(&served.batch(&input(4)))["status"], "failed", "the first has not ended");
    served.end(&first);
    assert_eq!(served.end(&served.batch(&input(4)))["status"], "completed");
    let gone = served.batch(&input(4));
    served.cancel(&gone);
    served.end(&gone);
    assert_eq!(served.end(&served.batch(&input(4)))["status"], "completed", "cancelled, it is out");
    assert_eq!(served.end(&served.batch(&input(9)))["status"], "failed", "larger than the limit");
}

#[test]
fn the_ledger_tells_batches_from_calls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let served = Served::with(|settings| settings.ledger = Some(path.clone()));
    let called = served.chat("row 0").unwrap().json();
    let batch = served.end(&served.batch(&input(2)));
    let ledger = served.ledger();
    let totals = &ledger.totals;
    assert_eq!((totals.files_uploaded, totals.batches_created), (1, 1));
    assert_eq!((totals.requests, totals.batch_requests), (3, 2));
    assert_eq!((totals.charged_requests, totals.batch_charged_requests), (3, 2));
    assert_eq!((totals.answered_requests, totals.charged_again), (3, 1));
    let called_tokens = called["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(totals.input_tokens - totals.batch_input_tokens, called_tokens);
    assert_eq!(batch["usage"]["output_tokens"], totals.batch_output_tokens);
    let fingerprint = Fingerprint::of(chat("row 0").to_string().as_bytes()).to_string();
    let account = ledger.bodies[fingerprint.strip_prefix("r1:").unwrap()];
    assert_eq!((account.charged, account.batch_charged, account.charged_again), (2, 1, 1));
    assert_eq!(serde_json::to_value(&ledger).unwrap(), served.get("/ledger").json());
    served.stop();
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["batch"], Value::Null);
    assert_eq!((&lines[1]["batch"], &lines[2]["batch"]), (&batch["id"], &batch["id"]));
}
