//! The scripted provider of batches by itself, over a raw socket: it keeps to the specification, and sees
//! who does not. What the other tests hold the program against is held here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use support::Act;
use support::batches::{BatchProvider, Do, End, Inner, Kind, Point, Script};

/// Calls by hand. Returns the status and the body, `None` where no whole reply came.
fn call(provider: &BatchProvider, head: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", provider.port())).unwrap();
    let length = match head.contains("chunked") {
        true => String::new(),
        false => format!("content-length: {}\r\n", body.len()),
    };
    let (first, rest) = head.split_once('\n').unwrap_or((head, ""));
    let rest: String = rest.lines().fold(String::new(), |all, line| all + line + "\r\n");
    let fixed = "authorization: Bearer test\r\nconnection: close\r\n";
    let head = format!("{first} HTTP/1.1\r\nhost: x\r\n{fixed}{length}{rest}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(reply[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = reply[end + 4..].to_vec();
    if head.contains("chunked") {
        return unchunked(&body).map(|body| (status, body));
    }
    let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.parse().unwrap();
    (body.len() == length).then_some((status, body))
}

fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 2 + length + 2..];
    }
}

fn json_call(provider: &BatchProvider, head: &str, body: &Value) -> (u16, Value) {
    let head = format!("{head}\ncontent-type: application/json");
    let (status, body) = call(provider, &head, body.to_string().as_bytes()).unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn get(provider: &BatchProvider, path: &str) -> Value {
    let (status, body) = call(provider, &format!("GET {path}"), b"").unwrap();
    assert_eq!(status, 200, "{path}");
    serde_json::from_slice(&body).unwrap()
}

fn line(custom_id: &str, text: &str) -> Value {
    json!({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions",
           "body": {"model": "m", "messages": [{"role": "user", "content": text}]}})
}

fn jsonl(lines: &[Value]) -> String {
    lines.iter().fold(String::new(), |all, line| all + &line.to_string() + "\n")
}

/// A form with a file in it.
fn form(name: &str, file: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut form = String::new();
    for (name, value) in fields {
        form.push_str(&format!(
            "--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    form.push_str(&format!(
        "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: application/jsonl\r\n\r\n{file}\r\n--B--\r\n"
    ));
    form.into_bytes()
}

const UPLOAD: &str = "POST /v1/files\ncontent-type: multipart/form-data; boundary=B";
const PURPOSE: &[(&str, &str)] = &[("purpose", "batch")];

fn upload(provider: &BatchProvider, name: &str, lines: &[Value]) -> String {
    let (status, body) = call(provider, UPLOAD, &form(name, &jsonl(lines), PURPOSE)).unwrap();
    assert_eq!(status, 200);
    let file: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&file["filename"], &file["bytes"]), (&json!(name), &json!(jsonl(lines).len())));
    file["id"].as_str().unwrap().to_owned()
}

fn order(file: &str, token: &str) -> Value {
    json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h",
           "metadata": {"token": token}})
}

fn create(provider: &BatchProvider, file: &str, token: &str) -> String {
    let (status, batch) = json_call(provider, "POST /v1/batches", &order(file, token));
    assert_eq!((status, &batch["status"]), (200, &json!("validating")));
    batch["id"].as_str().unwrap().to_owned()
}

/// Looks until the batch has ended.
fn ended(provider: &BatchProvider, id: &str) -> Value {
    for _ in 0..10 {
        let batch = get(provider, &format!("/v1/batches/{id}"));
        if ["completed", "failed", "expired", "cancelled"]
            .contains(&batch["status"].as_str().unwrap())
        {
            return batch;
        }
    }
    panic!("{id} does not end");
}

fn results(provider: &BatchProvider, file: &Value) -> Vec<Value> {
    let path = format!("GET /v1/files/{}/content", file.as_str().unwrap());
    let (status, body) = call(provider, &path, b"").unwrap();
    assert_eq!(status, 200);
    let text = String::from_utf8(body).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_batch_goes_through_its_stages_and_its_books_are_kept() {
    let provider = BatchProvider::start(Script {
        answer: Box::new(|ask| match ask.text.as_str() {
            "bad" => Inner::Fails(400, "invalid_value"),
            "gone" => Inner::Lost,
            text => Inner::Says(text.to_uppercase()),
        }),
        ..Script::default()
    });
    let lines = [line("a", "one"), line("b", "bad"), line("c", "gone"), line("d", "two")];
    let id = create(&provider, &upload(&provider, "x.jsonl", &lines), "t");
    let statuses: Vec<Value> =
        (0..5).map(|_| get(&provider, &format!("/v1/batches/{id}"))["status"].clone()).collect();
    assert_eq!(statuses, ["validating", "in_progress", "finalizing", "completed", "completed"]);
    let batch = ended(&provider, &id);
    assert_eq!(batch["request_counts"], json!({"total": 4, "completed": 2, "failed": 1}));
    let good = results(&provider, &batch["output_file_id"]);
    let ids: Vec<&Value> = good.iter().map(|line| &line["custom_id"]).collect();
    assert_eq!(ids, ["d", "a"], "not in the order of the input");
    let content = &good[1]["response"]["body"]["choices"][0]["message"]["content"];
    assert_eq!((content, &good[1]["error"]), (&json!("ONE"), &Value::Null));
    let bad = results(&provider, &batch["error_file_id"]);
    assert_eq!((bad.len(), &bad[0]["response"]["status_code"]), (1, &json!(400)));
    let (status, _) = json_call(&provider, "POST /v1/chat/completions", &lines[0]["body"]);
    assert_eq!(status, 200);
    let bought: Vec<(String, usize)> = provider.bought().into_iter().collect();
    assert_eq!(bought, [("one".to_owned(), 2), ("two".to_owned(), 1)]);
    assert_eq!(provider.count(Kind::Chat), 1);
    assert_eq!(provider.take_breaches(), [""; 0]);
}

#[test]
fn each_end_leaves_what_it_had_done() {
    let ends = [
        (End::Expired { done: 1 }, "expired", 1, "batch_expired"),
        (End::Cancelled { done: 2 }, "cancelled", 2, "batch_cancelled"),
        (End::failed("some_code", 1), "failed", 1, ""),
    ];
    for (end, status, done, code) in ends {
        let script = Script { end: Box::new(move |_| end.clone()), ..Script::default() };
        let provider = BatchProvider::start(script);
        let lines = [line("a", "1"), line("b", "2"), line("c", "3")];
        let id = create(&provider, &upload(&provider, "x.jsonl", &lines), "t");
        let batch = ended(&provider, &id);
        assert_eq!(batch["status"], status);
        assert_eq!(results(&provider, &batch["output_file_id"]).len(), done);
        assert_eq!(provider.bought().len(), done);
        if code.is_empty() {
            assert_eq!(batch["errors"]["data"][0]["code"], "some_code");
            assert_eq!(batch["error_file_id"], Value::Null);
        } else {
            let rest = results(&provider, &batch["error_file_id"]);
            assert_eq!(rest.len(), 3 - done);
            assert_eq!(
                (&rest[0]["response"], &rest[0]["error"]["code"]),
                (&Value::Null, &json!(code))
            );
        }
    }
}

#[test]
fn a_cancelled_batch_ends_at_the_next_look_and_a_lost_one_is_not_there() {
    let provider = BatchProvider::start(Script {
        end: Box::new(|nth| if nth == 1 { End::Never { done: 1 } } else { End::Vanishes }),
        ..Script::default()
    });
    let first =
        create(&provider, &upload(&provider, "x.jsonl", &[line("a", "1"), line("b", "2")]), "t");
    for _ in 0..20 {
        assert_ne!(get(&provider, &format!("/v1/batches/{first}"))["status"], "completed");
    }
    let cancel = format!("POST /v1/batches/{first}/cancel");
    let (status, body) = call(&provider, &cancel, b"").unwrap();
    let batch: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &batch["status"]), (200, &json!("cancelling")));
    let batch = get(&provider, &format!("/v1/batches/{first}"));
    assert_eq!(batch["status"], "cancelled");
    assert_eq!(results(&provider, &batch["output_file_id"]).len(), 1);
    assert_eq!(call(&provider, &cancel, b"").unwrap().0, 400, "it has ended");

    let second = create(&provider, &upload(&provider, "y.jsonl", &[line("c", "1")]), "u");
    let look = format!("GET /v1/batches/{second}");
    let statuses: Vec<u16> = (0..5).map(|_| call(&provider, &look, b"").unwrap().0).collect();
    assert_eq!(statuses, [200, 200, 200, 404, 404]);
    assert_eq!(get(&provider, "/v1/batches")["data"].as_array().unwrap().len(), 1);
}

#[test]
fn lists_come_newest_first_and_by_pages() {
    let provider = BatchProvider::start(Script { foreign: 5, ..Script::default() });
    for name in ["x", "y", "z"] {
        let file = upload(&provider, &format!("{name}.jsonl"), &[line(name, name)]);
        create(&provider, &file, name);
    }
    let page = get(&provider, "/v1/batches?limit=6");
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (6, &json!(true)));
    assert_eq!(page["data"][5]["metadata"]["token"], "z");
    assert_eq!(page["data"][3]["metadata"]["token"], "zx", "one that is almost ours");
    let rest = format!("/v1/batches?limit=6&after={}", page["last_id"].as_str().unwrap());
    let rest = get(&provider, &rest);
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (2, &json!(false)));
    assert_eq!(rest["data"][1]["metadata"]["token"], "x");
    let files = get(&provider, "/v1/files?purpose=batch&order=asc&limit=1");
    assert_eq!(
        (&files["data"][0]["filename"], &files["has_more"]),
        (&json!("x.jsonl"), &json!(true))
    );
    let (status, _) = call(&provider, "DELETE /v1/files/file-000001", b"").unwrap();
    assert_eq!(status, 200);
    assert_eq!(provider.take_breaches(), ["file-000001 is deleted while its batch is under way"]);
}

#[test]
fn a_full_queue_fails_a_batch_and_says_the_limit() {
    let provider = BatchProvider::start(Script { queue_tokens: Some(1200), ..Script::default() });
    let words = "word ".repeat(700);
    let ids: Vec<String> = ["x", "y"]
        .map(|name| {
            create(
                &provider,
                &upload(&provider, &format!("{name}.jsonl"), &[line(name, &words)]),
                name,
            )
        })
        .to_vec();
    assert_eq!(ended(&provider, &ids[1])["status"], "failed");
    let error = ended(&provider, &ids[1])["errors"]["data"][0].clone();
    assert_eq!(error["code"], "token_limit_exceeded");
    assert!(error["message"].as_str().unwrap().contains("Limit: 1,200 enqueued tokens"));
    assert_eq!(ended(&provider, &ids[0])["status"], "completed");
    let later = create(&provider, &upload(&provider, "z.jsonl", &[line("z", &words)]), "z");
    assert_eq!(ended(&provider, &later)["status"], "completed", "the queue has drained");
}

#[test]
fn calls_are_left_undone_or_unanswered_as_scripted() {
    let provider = BatchProvider::start(Script {
        on: Box::new(|kind, nth| match (kind, nth) {
            (Kind::Upload, 1) => Do::Instead(Act::error(500, "server_error", "oops")),
            (Kind::Upload, 2) => Do::Despite(Act::Close),
            (Kind::Content, 1) => Do::Cut,
            _ => Do::Right,
        }),
        ..Script::default()
    });
    let form = form("x.jsonl", &jsonl(&[line("a", "1")]), PURPOSE);
    assert_eq!(call(&provider, UPLOAD, &form).unwrap().0, 500);
    assert_eq!(get(&provider, "/v1/files")["data"], json!([]));
    assert_eq!(call(&provider, UPLOAD, &form), None);
    let file = get(&provider, "/v1/files")["data"][0]["id"].clone();
    let batch = ended(&provider, &create(&provider, file.as_str().unwrap(), "t"));
    let content = format!("GET /v1/files/{}/content", batch["output_file_id"].as_str().unwrap());
    assert_eq!(call(&provider, &content, b""), None);
    assert_eq!(call(&provider, &content, b"").unwrap().0, 200);
}

#[test]
fn it_stops_at_the_call_and_the_point_that_it_is_told() {
    for (point, done) in [(Point::Come, 0), (Point::Done, 1), (Point::Replied, 1)] {
        let provider = BatchProvider::start(Script::default());
        provider.stop_at(2, point);
        get(&provider, "/v1/files");
        assert!(!provider.has_stopped());
        std::thread::scope(|scope| {
            let form = form("x.jsonl", &jsonl(&[line("a", "1")]), PURPOSE);
            let provider = &provider;
            let caller = scope.spawn(move || call(provider, UPLOAD, &form));
            provider.wait_until("the stop", BatchProvider::has_stopped);
            let files = get(provider, "/v1/files")["data"].as_array().unwrap().len();
            assert_eq!(files, done, "{point:?}");
            provider.go_on();
            assert_eq!(caller.join().unwrap().is_some(), point == Point::Replied);
        });
    }
}

/// What is wrong with a file of these bytes, in this form.
fn breaches(name: &str, file: &str, fields: &[(&str, &str)]) -> String {
    let provider = BatchProvider::start(Script::default());
    call(&provider, UPLOAD, &form(name, file, fields));
    provider.take_breaches().join("; ")
}

#[test]
fn every_breach_of_an_upload_is_seen() {
    let good = jsonl(&[line("a", "1")]);
    let file = |file: &str| breaches("x.jsonl", file, PURPOSE);
    assert_eq!(file(&good), "");
    let expiry = [
        ("purpose", "batch"),
        ("expires_after[anchor]", "created_at"),
        ("expires_after[seconds]", "3600"),
    ];
    assert_eq!(breaches("x.jsonl", &good, &expiry), "");
    let with = |name: &str, value: Value| {
        let mut line = line("a", "1");
        line[name] = value;
        jsonl(&[line])
    };
    let cases = [
        (file(&format!("\u{feff}{good}")), "byte order mark"),
        (file(good.trim_end()), "does not end in a line end"),
        (file(&format!("{good}\n")), "line 2: EOF"),
        (file(&good.replace('\n', "\r\n")), "carriage return"),
        (file("not json\n"), "line 1: expected"),
        (file(&jsonl(&[line("a", "1"), line("a", "2")])), "custom_id twice"),
        (file(&jsonl(&[line("a b", "1")])), "custom_id is \"a b\""),
        (file(&jsonl(&[line(&"x".repeat(65), "1")])), "custom_id is"),
        (file(&with("extra", json!(1))), "has the keys"),
        (file(&with("method", json!("GET"))), "method is"),
        (file(&with("url", json!("/chat/completions"))), "url is"),
        (file(&with("body", json!({"model": "m"}))), "messages is"),
        (file(&with("body", json!({"model": "m", "messages": [1], "stream": true}))), "stream"),
        (
            file(&format!(
                "{good}{}",
                with("body", json!({"model": "n", "messages": [1]})).replace("\"a\"", "\"b\"")
            )),
            "2 kinds of model",
        ),
        (breaches("x.txt", &good, PURPOSE), "called \"x.txt\""),
        (breaches("x.jsonl", &good, &[]), "no purpose"),
        (breaches("x.jsonl", &good, &[("purpose", "user_data")]), "user_data"),
        (breaches("x.jsonl", &good, &[("purpose", "batch"), ("other", "1")]), "other"),
        (breaches("x.jsonl", &good, &expiry[..2]), "half an expiry"),
        (
            breaches("x.jsonl", &good, &[expiry[0], expiry[1], ("expires_after[seconds]", "60")]),
            "60",
        ),
    ];
    for (found, wanted) in cases {
        assert!(found.contains(wanted), "{wanted:?} is not in {found:?}");
    }

    let provider = BatchProvider::start(Script::default());
    let chunked = format!("{UPLOAD}\ntransfer-encoding: chunked");
    let body = form("x.jsonl", &good, PURPOSE);
    let body = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(call(&provider, &chunked, &body).unwrap().0, 200);
    assert_eq!(provider.take_breaches(), ["POST /v1/files: an upload has no content length"]);
    upload(&provider, "x.jsonl", &[line("a", "1")]);
    assert_eq!(provider.take_breaches(), [""; 0], "the same file may come again");
    upload(&provider, "x.jsonl", &[line("b", "1")]);
    assert_eq!(provider.take_breaches(), ["two files are called x.jsonl"]);
}

#[test]
fn every_breach_of_a_create_and_of_the_other_calls_is_seen() {
    let provider = BatchProvider::start(Script { foreign: 1, ..Script::default() });
    let file = upload(&provider, "x.jsonl", &[line("a", "1")]);
    create(&provider, &file, "t");
    let second = upload(&provider, "y.jsonl", &[line("a", "2")]);
    let changed = |name: &str, value: Value| {
        let mut order = order(&second, "other");
        order[name] = value;
        order
    };
    let breaches = |order: &Value| {
        json_call(&provider, "POST /v1/batches", order);
        provider.take_breaches().join("; ")
    };
    assert_eq!(breaches(&order(&second, "u")), "a is in two batches");
    let twice = breaches(&order(&file, "t"));
    assert!(twice.contains(&format!("two batches are created from {file}")), "{twice}");
    assert!(twice.contains("two batches are created with"), "{twice}");
    let cases = [
        (changed("input_file_id", json!("file-x")), "no batch file"),
        (changed("endpoint", json!("/v1/responses")), "not that of its lines"),
        (changed("endpoint", json!("chat")), "a create has endpoint"),
        (changed("completion_window", json!("1h")), "a create has completion_window"),
        (changed("model", json!("m")), "a create has model"),
        (changed("metadata", json!({"a": 1})), "a create has metadata"),
        (changed("metadata", json!({"a": "x".repeat(513)})), "a create has metadata"),
        (changed("metadata", json!({"x".repeat(65): ""})), "a create has metadata"),
        (
            changed("output_expires_after", json!({"anchor": "created_at", "seconds": 1})),
            "output_expires_after",
        ),
    ];
    for (order, wanted) in cases {
        let found = breaches(&order);
        assert!(found.contains(wanted), "{wanted:?} is not in {found:?}");
    }
    let calls = [
        ("GET /v1/batches?limit=101", "limit=101"),
        ("GET /v1/batches?status=completed", "status=completed"),
        ("GET /v1/files?limit=0", "limit=0"),
        ("GET /v1/batches/batch_foreign00000", "not ours"),
        ("GET /v1/batches?after=nobody", "not there"),
        ("PUT /v1/batches", "no such call"),
        ("GET /v1/files\nauthorization: Bearer other", "the key is"),
    ];
    for (head, wanted) in calls {
        call(&provider, head, b"");
        let found = provider.take_breaches().join("; ");
        assert!(found.contains(wanted), "{wanted:?} is not in {found:?}");
    }
}
