//! Every field that is read of a provider, with every kind of value that it should not have.
//!
//! The mutants are made from whole, valid replies: each place in each of them is given each wrong value in turn, and is
//! left out once. Nothing but the row that meets one may suffer from it, and no answer may come out wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use overnight::provider::batch::{Unreadable, batch_object, batch_page, file_object, file_page};
use serde_json::{Value, json};

use crate::calls::{no_error_repeats_a_body, project as calls_project};
use crate::child::watch;
use crate::plays::MARKER;
use crate::support::batches::runs::{all_answered_once, exported, project, query, texts};
use crate::support::batches::{BatchProvider, Do, Edit, Kind, Script};
use crate::support::{Act, Provider};

const BOUND: Duration = Duration::from_mins(3);

/// Values as JSON text: no tree holds all of them.
fn wrong_values() -> Vec<String> {
    let deep = "[".repeat(500) + &"]".repeat(500);
    let texts = [
        "null",
        "true",
        "false",
        "0",
        "7",
        "-1",
        "1.5",
        "1e400",
        "-1e400",
        "99999999999999999999999",
        "\"\"",
    ];
    let more = [
        format!("\"{MARKER}\""),
        "\"NaN\"".into(),
        "[]".into(),
        "{}".into(),
        format!("[{{\"{MARKER}\":1}}]"),
        deep,
    ];
    texts.iter().map(ToString::to_string).chain(more).collect()
}

/// All places in a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(nth, value)| places(value, &format!("{at}/{nth}"), found));
        }
        _ => {}
    }
}

/// A mutant: what was done to it, and its text.
#[derive(Clone)]
struct Mutant {
    name: String,
    text: String,
}

const HOLE: &str = "THE HOLE";

/// Each place of a valid text with each wrong value, and without its field.
fn mutants(valid: &Value) -> Vec<Mutant> {
    let mut all = Vec::new();
    let mut found = Vec::new();
    places(valid, "", &mut found);
    for place in found {
        let mut holed = valid.clone();
        *holed.pointer_mut(&place).unwrap() = json!(HOLE);
        let holed = holed.to_string();
        for value in wrong_values() {
            let text = holed.replace(&format!("\"{HOLE}\""), &value);
            let value: String = value.chars().take(24).collect();
            all.push(Mutant { name: format!("{place} = {value}"), text });
        }
        if let Some((parent, name)) = place.rsplit_once('/') {
            let mut without = valid.clone();
            if let Some(fields) = without.pointer_mut(parent).and_then(Value::as_object_mut) {
                fields.remove(name);
                all.push(Mutant {
                    name: format!("{place} is not there"),
                    text: without.to_string(),
                });
            }
        }
    }
    all
}

fn chat_reply() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "m", "created": 1,
        "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "RIGHT", "refusal": null, "tool_calls": []}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 1}},
    })
}

fn responses_reply() -> Value {
    json!({
        "id": "resp_1", "object": "response", "model": "m", "status": "completed",
        "incomplete_details": null, "error": null,
        "output": [{"type": "message", "phase": null, "role": "assistant",
            "content": [{"type": "output_text", "text": "RIGHT"}]}],
        "usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12,
            "input_tokens_details": {"cached_tokens": 1}, "output_tokens_details": {"reasoning_tokens": 1}},
    })
}

/// Gives each row the reply that is its own mutant, and one good one first. Returns how many there were.
fn each_row_its_mutant(status: u16, valid: &Value, endpoint: &str) -> usize {
    let all = mutants(valid);
    let bodies: Vec<String> = all.iter().map(|mutant| mutant.text.clone()).collect();
    let good = if endpoint == "responses" { responses_reply() } else { chat_reply() }.to_string();
    let provider = Provider::start(move |request| {
        let text = request.text();
        let number = text.strip_prefix("mutant ").map(|number| number.parse::<usize>().unwrap());
        match number {
            Some(number) => Act::Reply(status, Vec::new(), bodies[number].clone().into_bytes()),
            None => Act::Reply(200, Vec::new(), good.clone().into_bytes()),
        }
    });
    let mut rows = vec!["a good one".to_owned()];
    rows.extend((0..all.len()).map(|number| format!("mutant {number}")));
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("---\nendpoint: {endpoint}\n---\n{{{{ text }}}}")).unwrap();
    let init = ["--prompt", file.path().to_str().unwrap(), "--max-attempts", "1"];
    let folder = calls_project(&provider, &rows, &init);
    watch(&folder, &["run", "--limit", "1"], BOUND).ends(0);
    // What one of them says of the account or of the address may stop a run; the next one goes on behind it.
    let mut codes = Vec::new();
    for _ in 0..60 {
        let ended = watch(&folder, &["run", "--route", "realtime", "--concurrency", "16"], BOUND);
        ended.is_sound();
        codes.push(ended.said.code);
        // A provider's own words on an error are repeated, and nothing else.
        assert!(status != 200 || !ended.said.stderr.contains(MARKER), "{:?}", ended.said);
        if ended.said.code != Some(1) {
            break;
        }
    }
    assert!(matches!(codes.last(), Some(Some(0 | 3))), "{codes:?}");
    if status == 200 {
        no_error_repeats_a_body(&folder);
    }
    let wrong = query(
        &folder,
        &format!(
            "SELECT cells ->> '$.text', answer, state, input_tokens, output_tokens, cost_usd FROM answers
             WHERE state NOT IN ('answered', 'failed', 'truncated')
                OR (state = 'answered' AND answer NOT IN ('RIGHT', '{MARKER}', 'NaN'))
                OR input_tokens NOT BETWEEN 0 AND 100000000 OR output_tokens NOT BETWEEN 0 AND 100000000 OR cost_usd < 0"
        ),
    );
    let named = |row: &Vec<String>| {
        let number: usize = row[0].trim_start_matches("mutant ").parse().unwrap();
        (all[number].name.clone(), row.clone())
    };
    assert!(wrong.is_empty(), "{:#?}", wrong.iter().map(named).collect::<Vec<_>>());
    // The table can be written and read, and the sums can be made.
    assert_eq!(exported(&folder, &["state"]).len(), rows.len());
    folder.status();
    all.len()
}

#[test]
fn every_field_of_a_chat_completion_may_be_wrong() {
    println!(
        "{} mutants of a chat completion",
        each_row_its_mutant(200, &chat_reply(), "chat/completions")
    );
}

#[test]
fn every_field_of_a_response_may_be_wrong() {
    println!("{} mutants of a response", each_row_its_mutant(200, &responses_reply(), "responses"));
}

#[test]
fn every_field_of_an_error_may_be_wrong() {
    let error = json!({"error": {"message": "m", "type": "invalid_request_error", "param": "p", "code": "invalid_value"}});
    for status in [400, 500] {
        println!(
            "{} mutants of an error {status}",
            each_row_its_mutant(status, &error, "chat/completions")
        );
    }
}

#[test]
fn every_field_of_a_result_line_may_be_wrong() {
    let line = json!({
        "id": "batch_req_1", "custom_id": "CUSTOM", "error": null,
        "response": {"status_code": 200, "request_id": "req_1", "body": chat_reply()},
    });
    let all = mutants(&line);
    let count = all.len();
    let lines = all.clone();
    let provider = BatchProvider::start(Script {
        answer: Box::new(|_| crate::support::batches::Inner::Says("RIGHT".to_owned())),
        lines: Box::new(move |nth, output, _| {
            for (line, mutant) in output.iter_mut().zip(&lines).filter(|_| nth == 1) {
                let valid: Value = serde_json::from_slice(line).unwrap();
                *line = mutant
                    .text
                    .replace("CUSTOM", valid["custom_id"].as_str().unwrap())
                    .into_bytes();
            }
        }),
        ..Script::default()
    });
    let folder = project(&provider, &texts(count), &["--max-attempts", "2"]);
    let run = ["run", "--route", "batch", "--poll", "20ms"];
    let mut ended = watch(&folder, &run, BOUND);
    for _ in 0..20 {
        ended.is_sound();
        if ended.said.code != Some(1) {
            break;
        }
        ended = watch(&folder, &run, BOUND);
    }
    assert!(matches!(ended.said.code, Some(0 | 3)), "{:?}", ended.said);
    let wrong = query(
        &folder,
        &format!(
            "SELECT position, answer, state FROM answers
             WHERE state NOT IN ('answered', 'failed', 'truncated')
                OR (state = 'answered' AND answer NOT IN ('RIGHT', '{MARKER}', 'NaN'))"
        ),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{count} mutants of a result line");
}

/// Draws a mutant that is no lie: an id that is one, and is another's, can only be believed.
fn any_mutant(valid: &Value, seed: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut found = Vec::new();
    places(valid, "", &mut found);
    let values = wrong_values();
    loop {
        let (place, value) = (rng.choice(&found).unwrap(), rng.choice(&values).unwrap());
        let is_id = place.ends_with("id") && !place.ends_with("first_id");
        let is_lie =
            is_id && (value.len() > 2 && value.starts_with('"') || value.parse::<f64>().is_ok());
        if !is_lie {
            let mut holed = valid.clone();
            *holed.pointer_mut(place).unwrap() = json!(HOLE);
            return holed.to_string().replace(&format!("\"{HOLE}\""), value);
        }
    }
}

/// What a provider says of its files and batches, with each field wrong in turn, before each good word.
fn each_word_a_mutant(kind: Kind, rows: usize) {
    let played: Arc<Mutex<usize>> = Arc::default();
    let counter = Arc::clone(&played);
    let mutate = Edit(Arc::new(move |body| {
        let mut counter = counter.lock().unwrap();
        *counter += 1;
        any_mutant(&serde_json::from_slice(body).unwrap(), *counter as u64).into_bytes()
    }));
    let provider = BatchProvider::start(Script {
        stages: vec!["in_progress"; if kind == Kind::Look { 60 } else { 1 }],
        on: Box::new(move |this, nth| match this {
            Kind::Create if kind == Kind::List => Do::Despite(Act::Close),
            Kind::Upload if kind == Kind::Files => Do::Despite(Act::Close),
            // Every upload and creation, and every other look, so that the rest can be seen to go on.
            _ if this == kind && (nth % 2 == 1 || matches!(kind, Kind::Upload | Kind::Create)) => {
                Do::Edit(mutate.clone())
            }
            _ => Do::Right,
        }),
        ..Script::default()
    });
    let texts = texts(rows);
    let folder = project(&provider, &texts, &[]);
    let run = ["run", "--route", "batch", "--poll", "10ms", "--batch-size", "1"];
    let mut codes = Vec::new();
    for _ in 0..10 {
        let ended = watch(&folder, &run, BOUND);
        ended.is_sound();
        codes.push(ended.said.code);
        match ended.said.code {
            Some(0) => break,
            // One that is left to the next run.
            Some(4) => {}
            _ => panic!("{}", ended.said.stderr),
        }
    }
    assert_eq!(codes.last(), Some(&Some(0)), "{codes:?}");
    all_answered_once(&folder, &provider, &texts);
    let played = *played.lock().unwrap();
    println!("{played} mutants at {kind:?} in {} runs", codes.len());
    assert!(played >= rows / 2, "{played}");
    provider.take_breaches();
}

#[test]
fn every_field_of_a_batch_that_is_looked_at_may_be_wrong() {
    each_word_a_mutant(Kind::Look, 16);
}

#[test]
fn every_field_of_a_new_batch_may_be_wrong() {
    each_word_a_mutant(Kind::Create, 100);
}

#[test]
fn every_field_of_a_new_file_may_be_wrong() {
    each_word_a_mutant(Kind::Upload, 100);
}

#[test]
fn every_field_of_a_page_may_be_wrong() {
    each_word_a_mutant(Kind::List, 40);
    each_word_a_mutant(Kind::Files, 40);
}

/// The same without a socket: every mutant of every word about files and batches is read or refused, and none is quoted.
#[test]
fn every_mutant_of_a_word_about_batches_is_read_or_refused() {
    let file = json!({"id": "file-000001", "object": "file", "bytes": 1, "created_at": 1, "filename": "f.jsonl",
           "purpose": "batch", "status": "processed"});
    let batch = json!({"id": "batch_000001", "object": "batch", "endpoint": "/v1/chat/completions",
           "errors": {"object": "list", "data": [{"code": "c", "message": "m", "param": null, "line": 1}]},
           "input_file_id": "file-000001", "completion_window": "24h", "status": "in_progress",
           "output_file_id": "f", "error_file_id": "e", "created_at": 1, "expires_at": 2,
           "request_counts": {"total": 1, "completed": 0, "failed": 0}, "metadata": {"overnight_batch": "x"}});
    let page = |item: &Value| json!({"object": "list", "data": [item, item], "first_id": "a", "last_id": "b", "has_more": true});
    let mut count = 0;
    let mut each = |valid: &Value, read: &dyn Fn(&[u8]) -> Option<Unreadable>| {
        for mutant in mutants(valid) {
            count += 1;
            let refused = read(mutant.text.as_bytes()).map(|refused| refused.to_string());
            assert!(refused.is_none_or(|words| !words.contains(MARKER)), "{}", mutant.name);
        }
    };
    each(&file, &|body| file_object(body).err());
    each(&batch, &|body| batch_object(body).err());
    each(&page(&file), &|body| file_page(body).err());
    each(&page(&batch), &|body| batch_page(body).err());
    println!("{count} mutants of words about files and batches");
}
