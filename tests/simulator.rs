//! The simulated provider, seen from the other end of a socket.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod simulated;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use simulated::{Reply, Served, chat, post};

#[test]
fn a_chat_completion_has_all_that_openai_promises() {
    let served = Served::with(|_| {});
    let reply = served.chat("Hello").unwrap();
    assert_eq!(reply.status, 200);
    let body = reply.json();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["created"], 1_767_225_600);
    assert_eq!(body["model"], "small");
    let choice = &body["choices"][0];
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("stop")));
    assert!(choice.as_object().unwrap().contains_key("logprobs"));
    let message = &choice["message"];
    assert_eq!(message["role"], "assistant");
    assert_eq!((&message["refusal"], &message["annotations"]), (&Value::Null, &json!([])));
    let text = message["content"].as_str().unwrap();
    let usage = &body["usage"];
    // The frame 3, `user` 1, `Hello` 1, the reply 3.
    assert_eq!(usage["prompt_tokens"], 8);
    let output = tiktoken::get_encoding("o200k_base").unwrap().count(text);
    assert_eq!(usage["completion_tokens"], output);
    assert_eq!(usage["total_tokens"], 8 + output);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    assert!(reply.headers["x-request-id"].starts_with("req_"));
    assert!(reply.headers.contains_key("openai-processing-ms"));
    assert!(reply.headers.contains_key("openai-version"));
    assert!(!reply.headers.keys().any(|name| name.starts_with("x-ratelimit")));
    served.stop();
}

#[test]
fn a_response_has_all_that_openai_promises() {
    let served = Served::with(|_| {});
    let asked = json!({"model": "small", "instructions": "Be brief.", "input": "Hello",
        "max_output_tokens": 100, "metadata": {"k": "v"}});
    let body = served.post("/v1/responses", &asked).unwrap().json();
    for field in [
        "id",
        "object",
        "created_at",
        "error",
        "incomplete_details",
        "instructions",
        "model",
        "tools",
        "output",
        "parallel_tool_calls",
        "metadata",
        "tool_choice",
        "temperature",
        "top_p",
    ] {
        assert!(body.as_object().unwrap().contains_key(field), "{field}");
    }
    assert_eq!((&body["object"], &body["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(body["metadata"], json!({"k": "v"}));
    let part = &body["output"][0]["content"][0];
    assert_eq!(part["type"], "output_text");
    let usage = &body["usage"];
    assert_eq!(
        usage["output_tokens"],
        tiktoken::get_encoding("o200k_base").unwrap().count(part["text"].as_str().unwrap())
    );
    let sum = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    let cut = json!({"model": "small", "input": "Hello", "max_output_tokens": 16, "text":
        {"format": {"type": "json_schema", "name": "a", "schema":
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "minLength": 500}}}}}});
    let body = served.post("/v1/responses", &cut).unwrap().json();
    assert_eq!(body["status"], "incomplete");
    assert_eq!(body["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(body["usage"]["output_tokens"], 16);
}

#[test]
fn the_same_seed_and_body_give_the_same_answer() {
    let answer = |seed, text| {
        let served = Served::with(|settings| settings.seed = seed);
        served.chat(text).unwrap().json()["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(answer(1, "Hello"), answer(1, "Hello"));
    assert!((2..6).any(|seed| answer(seed, "Hello") != answer(1, "Hello")));
    assert!(["a", "b", "c", "d"].iter().any(|text| answer(1, text) != answer(1, "Hello")));
}

#[test]
fn structured_answers_fit_and_long_ones_are_cut() {
    let served = Served::with(|_| {});
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["answer"],
        "properties": {"answer": {"enum": ["yes", "no"]}}});
    let mut body = chat("Is it?");
    body["response_format"] = json!({"type": "json_schema", "json_schema":
        {"name": "answer", "strict": true, "schema": schema}});
    let reply = served.post("/v1/chat/completions", &body).unwrap().json();
    let text = reply["choices"][0]["message"]["content"].as_str().unwrap();
    let label: Value = serde_json::from_str(text).unwrap();
    assert!(jsonschema::is_valid(&schema, &label), "{label}");
    body["max_completion_tokens"] = json!(2);
    let reply = served.post("/v1/chat/completions", &body).unwrap().json();
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    assert_eq!(reply["usage"]["completion_tokens"], 2);
    body["n"] = json!(3);
    let reply = served.post("/v1/chat/completions", &body).unwrap().json();
    assert_eq!(reply["choices"].as_array().unwrap().len(), 3);
    assert_eq!(reply["usage"]["completion_tokens"], 6);
}

#[test]
fn mistakes_are_told_as_openai_tells_them() {
    let served = Served::with(|settings| {
        settings.models = vec!["small".to_owned(), "team/large".to_owned()];
        settings.context_tokens = 100;
    });
    let path = "/v1/chat/completions";
    let code = |body: Value| {
        let reply = served.post(path, &body).unwrap();
        (reply.status, reply.code())
    };
    let told = |status, code: &str| (status, code.to_owned());
    let mut body = chat("x");
    body["model"] = json!("other");
    assert_eq!(code(body), told(404, "model_not_found"));
    let mut body = chat("x");
    body["max_token"] = json!(1);
    assert_eq!(code(body), told(400, "unknown_parameter"));
    assert_eq!(code(chat(&"word ".repeat(200))), told(400, "context_length_exceeded"));
    let mut body = chat("x");
    body["max_tokens"] = json!(99);
    assert_eq!(code(body), told(400, "context_length_exceeded"));
    assert_eq!(code(chat("x")), (200, "-".to_owned()));

    let broken = served.send(post(path, "", "{\"model\": ")).unwrap();
    assert_eq!((broken.status, broken.code().as_str()), (400, "-"));
    let plain = post(path, "", "{}").replace("application/json", "text/plain");
    assert_eq!(served.send(&plain).unwrap().code(), "unsupported_content_type");
    assert_eq!(served.get("/v1/nothing").status, 404);
    assert_eq!(served.get("/").code(), "unknown_url");
    let wrong = served.get(path);
    assert_eq!((wrong.status, wrong.headers["allow"].as_str()), (405, "POST"));
    assert_eq!(served.post("/v1/models", &json!({})).unwrap().status, 405);
    assert_eq!(served.get("/v1/models").json()["data"][1]["id"], "team/large");
    assert_eq!(served.get("/v1/models/team%2Flarge").json()["id"], "team/large");
    assert_eq!(served.get("/v1/models/other").code(), "model_not_found");
    assert_eq!(served.ledger().totals.charged_requests, 1, "mistakes are free");
}

#[test]
fn large_and_hostile_bodies_do_no_harm() {
    let served = Served::with(|_| {});
    let path = "/v1/chat/completions";
    let large = served.chat(&"a long row ".repeat(300_000)).unwrap();
    assert_eq!(large.code(), "context_length_exceeded");
    let nested = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(served.send(post(path, "", &nested)).unwrap().status, 400);
    assert_eq!(served.send(post(path, "", "")).unwrap().status, 400);
    let headers = format!("x-filler: {}\r\n", "x".repeat(200_000));
    let refused = served.send(post(path, &headers, "{}"));
    assert!(refused.is_err() || refused.is_ok_and(|reply| reply.status == 431));
    let announced = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        content-length: {}\r\n\r\n",
        129 * 1024 * 1024
    );
    assert_eq!(served.send(&announced).unwrap().status, 413);
    assert_eq!(served.chat("x").unwrap().status, 200, "still there");
}

#[test]
fn a_key_that_is_demanded_is_checked_and_never_repeated() {
    let served = Served::with(|settings| settings.api_key = Some("sk-right".to_owned()));
    let send = |headers: &str| {
        let request = post("/v1/chat/completions", headers, &chat("x").to_string());
        served.send(&request).unwrap()
    };
    for headers in ["", "authorization: Bearer sk-wrong\r\n", "authorization: sk-right\r\n"] {
        let reply = send(headers);
        assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_api_key"));
        assert!(!String::from_utf8_lossy(&reply.body).contains("sk-"), "{headers}");
    }
    assert_eq!(send("authorization: Bearer sk-right\r\n").status, 200);
    assert_eq!(served.get("/v1/models").status, 401);
    assert_eq!(served.get("/ledger").status, 200);
}

#[test]
fn over_the_limit_is_told_how_long_to_wait() {
    let served = Served::with(|settings| {
        settings.rpm = Some(2);
        settings.tpm = Some(1_000);
    });
    let first = served.chat("one").unwrap();
    assert_eq!(first.headers["x-ratelimit-limit-requests"], "2");
    assert_eq!(first.headers["x-ratelimit-remaining-requests"], "1");
    assert_eq!(first.headers["x-ratelimit-limit-tokens"], "1000");
    assert!(first.headers["x-ratelimit-reset-requests"].ends_with('s'));
    served.chat("two").unwrap();
    let third = served.chat("three").unwrap();
    assert_eq!((third.status, third.code().as_str()), (429, "rate_limit_exceeded"));
    let wait: u64 = third.headers["retry-after-ms"].parse().unwrap();
    let seconds: u64 = third.headers["retry-after"].parse().unwrap();
    assert!((1..=30_000).contains(&wait) && seconds == wait.div_ceil(1000));
    assert!(third.json()["error"]["message"].as_str().unwrap().contains("Please try again in "));
    let mut large = chat("four");
    large["max_tokens"] = json!(1_001);
    let large = served.post("/v1/chat/completions", &large).unwrap();
    assert!(large.json()["error"]["message"].as_str().unwrap().starts_with("Request too large"));
    assert!(!large.headers.contains_key("retry-after"));
    assert_eq!(served.ledger().totals.errors["rate_limit_exceeded"], 2);
}

#[test]
fn ordered_errors_come_once_and_the_retry_is_answered() {
    for (fault, status, code) in [
        ("429", 429, "rate_limit_exceeded"),
        ("quota", 429, "insufficient_quota"),
        ("500", 500, "server_error"),
        ("503", 503, "server_is_overloaded"),
        ("401", 401, "invalid_api_key"),
        ("403", 403, "unsupported_country_region_territory"),
        ("404", 404, "model_not_found"),
        ("400", 400, "invalid_value"),
        ("context", 400, "context_length_exceeded"),
        ("413", 413, "request_too_large"),
    ] {
        let served = Served::with_faults(&format!("{fault}=once"));
        let reply = served.chat("x").unwrap();
        assert_eq!((reply.status, reply.code().as_str()), (status, code));
        assert_eq!(reply.headers.contains_key("retry-after-ms"), fault == "429");
        assert_eq!(served.chat("x").unwrap().status, 200);
        let totals = served.ledger().totals;
        assert_eq!((totals.requests, totals.charged_requests), (2, 1), "{fault}");
        assert_eq!((totals.errors[code], totals.faults[fault]), (1, 1));
    }
}

#[test]
fn connections_end_as_ordered_and_only_a_lost_reply_is_charged() {
    for (fault, ending, charged) in [
        ("reset", ErrorKind::ConnectionReset, 0),
        ("lost", ErrorKind::ConnectionReset, 1),
        ("close", ErrorKind::UnexpectedEof, 0),
    ] {
        let served = Served::with_faults(&format!("{fault}=once"));
        assert_eq!(served.chat("x").unwrap_err().kind(), ending, "{fault}");
        assert_eq!(served.ledger().totals.charged_requests, charged, "{fault}");
        assert_eq!(served.ledger().totals.answered_requests, 0, "{fault}");
        assert_eq!(served.chat("x").unwrap().status, 200);
        let totals = served.ledger().totals;
        assert_eq!((totals.charged_requests, totals.answered_requests), (charged + 1, 1));
        assert_eq!(totals.charged_again, 0, "what was lost was never answered");
    }
}

#[test]
fn a_hanging_call_ends_when_the_patience_set_for_it_does() {
    let served = Served::with(|settings| {
        settings.faults = "hang=once".parse().unwrap();
        settings.hang = Duration::from_millis(300);
    });
    let started = tokio::time::Instant::now();
    assert_eq!(served.chat("x").unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(served.ledger().totals.charged_requests, 0);
}

#[test]
fn replies_are_spoilt_as_ordered_and_charged_all_the_same() {
    let spoilt = |fault: &str| {
        let served = Served::with(|settings| {
            settings.faults = format!("{fault}=once").parse().unwrap();
            settings.drip = Duration::from_millis(2);
        });
        let reply = served.chat("x").unwrap();
        let totals = served.ledger().totals;
        assert_eq!(totals.charged_requests, 1, "{fault}");
        assert_eq!(totals.answered_requests, u64::from(fault == "slow"), "{fault}");
        assert_eq!(served.chat("x").unwrap().status, 200, "{fault}");
        reply
    };
    let cut = spoilt("cut");
    assert!(!cut.body.is_empty() && cut.body.len() < cut.announced(), "{cut:?}");
    let slow = spoilt("slow");
    assert_eq!(slow.body.len(), slow.announced());
    assert_eq!(slow.json()["choices"][0]["finish_reason"], "stop");
    let bad = spoilt("badjson");
    assert_eq!((bad.status, bad.body.len()), (200, bad.announced()));
    assert!(serde_json::from_slice::<Value>(&bad.body).is_err());
    let empty = spoilt("empty");
    assert_eq!((empty.status, empty.body.len(), empty.announced()), (200, 0, 0));
    assert!(spoilt("wrongtype").json()["choices"].is_string());
    let refusal = &spoilt("refusal").json()["choices"][0];
    assert_eq!(refusal["message"]["content"], Value::Null);
    assert!(refusal["message"]["refusal"].is_string());
    let filtered = &spoilt("content_filter").json()["choices"][0];
    assert_eq!(filtered["finish_reason"], "content_filter");
    let wrong = &spoilt("wronglabel").json()["choices"][0];
    assert_eq!(wrong["message"]["content"], "none of the labels");
}

#[test]
fn a_gateways_page_is_html_and_free() {
    let served = Served::with_faults("html=once");
    let page = served.chat("x").unwrap();
    assert_eq!((page.status, page.headers["content-type"].as_str()), (502, "text/html"));
    assert!(page.body.starts_with(b"<html>"));
    assert_eq!(served.ledger().totals.charged_requests, 0);
}

#[test]
fn a_conversation_is_truncated_once_whatever_its_limit() {
    let served = Served::with_faults("length=1");
    let finish = |body: &Value| {
        let reply = served.post("/v1/chat/completions", body).unwrap();
        reply.json()["choices"][0]["finish_reason"].clone()
    };
    let mut body = chat("x");
    assert_eq!(finish(&body), "length");
    body["max_tokens"] = json!(1_000);
    assert_eq!(finish(&body), "stop");
    assert_eq!(finish(&chat("another")), "length");
}

#[test]
fn the_ledger_tells_who_was_charged_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let served = Served::with(|settings| settings.ledger = Some(path.clone()));
    for text in ["a", "b", "a"] {
        assert_eq!(served.chat(text).unwrap().status, 200);
    }
    let ledger = served.get("/ledger").json();
    let totals = &ledger["totals"];
    assert_eq!(totals["requests"], 3);
    assert_eq!(totals["charged_requests"], 3);
    assert_eq!(totals["answered_requests"], 3);
    assert_eq!(totals["charged_again"], 1);
    assert_eq!(totals["input_tokens"], 3 * 8);
    let bodies = ledger["bodies"].as_object().unwrap();
    assert_eq!(bodies.len(), 2);
    let fingerprint = overnight::domain::Fingerprint::of(chat("a").to_string().as_bytes());
    let twice = &bodies[fingerprint.to_string().strip_prefix("r1:").unwrap()];
    assert_eq!(
        *twice,
        json!({"requests": 2, "charged": 2, "batch_charged": 0, "answered": 2, "charged_again": 1})
    );
    assert_eq!(serde_json::to_value(served.ledger()).unwrap(), ledger);
    served.stop();
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 3);
}

#[test]
fn many_connections_are_served_at_once_and_faults_do_not_depend_on_their_order() {
    let run = || {
        let served = Served::with(|settings| {
            settings.faults = "500=0.2,reset=0.1".parse().unwrap();
            settings.seed = 11;
            settings.latency = Duration::from_millis(20);
            settings.latency_jitter = 0.5;
        });
        std::thread::scope(|scope| {
            for worker in 0..50 {
                let served = &served;
                scope.spawn(move || {
                    for row in 0..4 {
                        let _any_ending = served.chat(&format!("row {}", worker * 4 + row));
                    }
                });
            }
        });
        served.ledger()
    };
    let (one, other) = (run(), run());
    assert_eq!(one, other);
    let faults = one.totals.faults["500"] + one.totals.faults["reset"];
    assert_eq!(one.totals.requests, 200);
    assert_eq!(one.totals.charged_requests, 200 - faults);
    assert!((30..=90).contains(&faults), "{faults} of 200 at a rate of 0.3");
}

#[test]
fn one_connection_carries_many_requests_and_stopping_closes_it() {
    let served = Served::with(|_| {});
    let mut stream = TcpStream::connect(served.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for text in ["a", "b", "c"] {
        let request = post("/v1/chat/completions", "", &chat(text).to_string());
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(Reply::read(&mut stream).unwrap().status, 200);
    }
    let address = served.address();
    served.stop();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed in good order");
    assert!(TcpStream::connect(address).is_err(), "no longer listening");
}
