//! How much memory replies take together, at whatever concurrency.

use std::time::Duration;

use serde_json::json;

use crate::calls::project;
use crate::child::watch;
use crate::plays::{SCENES, act};
use crate::support::{Act, Provider, completion};

const BOUND: Duration = Duration::from_mins(3);
/// Of which the program itself, its threads and its database take some thirty.
const MOST_MIB: u64 = 400;
/// Replies at once that are floods.
const MANY: usize = 64;
/// Replies at once that are whole, and read.
const SOME: usize = 8;

/// Runs so many rows at once against a provider that gives each of them the same. Returns how many were answered.
fn all_at_once((provider, rows): (&Provider, usize), init: &[&str], what: &str) -> u64 {
    let number = rows;
    let rows: Vec<String> = (1..=rows).map(|row| format!("row {row}")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let folder = project(provider, &rows, &[&["--max-attempts", "1"], init].concat());
    let at_once = number.to_string();
    let ended = watch(&folder, &["run", "--route", "realtime", "--concurrency", &at_once], BOUND);
    ended.is_sound();
    println!("{number} x {what}: {} MiB at most, {:?}", ended.peak_kib >> 10, ended.took);
    assert!(ended.peak_kib >> 10 < MOST_MIB, "{what}: {} MiB", ended.peak_kib >> 10);
    let requests = &folder.status()["requests"];
    let (answered, failed) =
        (requests["answered"].as_u64().unwrap(), requests["failed"].as_u64().unwrap());
    assert_eq!(answered + failed, number as u64, "each has come to rest");
    answered
}

#[test]
fn floods_from_everywhere_at_once_fit_into_a_small_memory() {
    for name in ["100 MB in one string", "100 MB with an error's status"] {
        let play = SCENES.iter().find(|scene| scene.name == name).unwrap().play;
        let provider = Provider::start(move |_| act(play));
        assert_eq!(all_at_once((&provider, MANY), &[], name), 0);
    }
}

#[test]
fn many_big_answers_at_once_fit_too_and_are_kept() {
    let body = completion(&"한 answer ".repeat(120_000), "stop").to_string().into_bytes();
    let provider = Provider::start(move |_| Act::Reply(200, Vec::new(), body.clone()));
    assert_eq!(all_at_once((&provider, MANY), &[], "1.5 MB of an answer"), MANY as u64);
}

type Reply = dyn Fn() -> Act + Send + Sync;

#[test]
fn json_that_takes_many_times_its_length_as_a_tree_is_not_made_one() {
    let zeros = format!("[0{}]", ",0".repeat(6 << 20));
    let wide = |text: String| move || Act::Reply(200, Vec::new(), text.clone().into_bytes());
    let chat = completion("", "stop").to_string();
    let cases: Vec<(&str, Box<Reply>)> = vec![
        ("an answer that is to fit a schema", {
            let text = json!(zeros.clone()).to_string();
            Box::new(wide(chat.replacen("\"content\":\"\"", &format!("\"content\":{text}"), 1)))
        }),
        ("an error of 12 MB", {
            let body = format!("{{\"error\":{{\"message\":\"m\",\"x\":{zeros}}}}}");
            Box::new(move || Act::Reply(400, Vec::new(), body.clone().into_bytes()))
        }),
        (
            "parts of a message",
            Box::new(wide(chat.replacen("\"content\":\"\"", &format!("\"content\":{zeros}"), 1))),
        ),
        ("choices", Box::new(wide(format!("{{\"choices\":{zeros}}}")))),
    ];
    for (what, reply) in cases {
        let provider = Provider::start(move |_| reply());
        let prompt = "---\nschema: {type: object, properties: {a: {type: string}}, required: [a], additionalProperties: false}\n---\n{{ text }}";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), prompt).unwrap();
        let init = ["--prompt", file.path().to_str().unwrap()];
        assert_eq!(all_at_once((&provider, SOME), &init, what), 0);
    }
}

#[test]
fn an_output_of_a_million_items_is_none() {
    let items = format!(
        "{{\"id\":\"r\",\"status\":\"completed\",\"output\":[{{}}{}]}}",
        ",{}".repeat(4 << 20)
    );
    let provider =
        Provider::start(move |_| Act::Reply(200, Vec::new(), items.clone().into_bytes()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "---\nendpoint: responses\n---\n{{ text }}").unwrap();
    let init = ["--prompt", file.path().to_str().unwrap()];
    assert_eq!(all_at_once((&provider, SOME), &init, "a million items"), 0);
}
