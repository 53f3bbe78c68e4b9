//! Hostile replies to realtime calls.

use std::collections::HashMap;
use std::time::Duration;

use crate::child::{Ended, watch};
use crate::plays::{MARKER, SCENES, Scene, act};
use crate::support::batches::runs::query;
use crate::support::{Act, Folder, Provider, completion};

const BOUND: Duration = Duration::from_mins(2);

/// A project with these rows against a scripted provider.
pub(crate) fn project(provider: &Provider, rows: &[&str], init: &[&str]) -> Folder {
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", "sk-of-nobody-0123456789");
    let url = provider.base_url();
    let model = ["init", "--model", "gpt-4o-mini", "--base-url", &url];
    let prompt: &[&str] =
        if init.contains(&"--prompt") { &[] } else { &["--prompt", "{{ text }}"] };
    folder.ok(&[&model, prompt, init].concat());
    let mut table = csv::Writer::from_writer(vec![]);
    table.write_record(["text"]).unwrap();
    for row in rows {
        table.write_record([row]).unwrap();
    }
    folder.write("rows.csv", table.into_inner().unwrap());
    folder.ok(&["add", "rows.csv"]);
    folder
}

/// Runs to the end. What never ends by itself is waited for a second, and what does for as long as it takes.
#[track_caller]
fn run(folder: &Folder, is_slow: bool, code: i32) -> Ended {
    let timeout = if is_slow { "1s" } else { "1m" };
    let run = ["run", "--route", "realtime", "--concurrency", "8", "--timeout", timeout];
    watch(folder, &run, BOUND).ends(code)
}

/// The classes that each row's attempts failed with, `answered` for those that did not, in order.
fn attempts(folder: &Folder) -> HashMap<String, Vec<String>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    let sql = "SELECT json_extract(cells, '$.text'), coalesce(attempt.error_class, attempt.outcome) FROM attempt
               JOIN request ON request.id = request_id JOIN row ON row.id = row_id ORDER BY attempt.id";
    for pair in query(folder, sql) {
        found.entry(pair[0].clone()).or_default().push(pair[1].clone());
    }
    found
}

/// Demands that no error on record repeats a body.
pub(crate) fn no_error_repeats_a_body(folder: &Folder) {
    let sql =
        "SELECT coalesce(error, '') FROM attempt UNION SELECT coalesce(error, '') FROM request
               UNION SELECT coalesce(error, '') FROM batch";
    for error in query(folder, sql).concat() {
        assert!(!error.contains(MARKER) && !error.contains("xxxx"), "{error}");
        assert!(error.chars().count() < 700 && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_call_that_meets_a_hostile_reply_is_tried_again_and_answered() {
    for is_slow in [false, true] {
        let provider = Provider::start(|request| match Scene::named(&request.text()) {
            Some(scene) if request.seen == 0 => act(scene.play),
            _ => Act::says("fine"),
        });
        let scenes: Vec<_> = SCENES.iter().filter(|scene| scene.is_slow() == is_slow).collect();
        let rows: Vec<&str> = scenes.iter().map(|scene| scene.name).collect();
        let folder = project(&provider, &rows, &[]);
        let ended = run(&folder, is_slow, 0);
        let attempts = attempts(&folder);
        let is_wrong = |scene: &&&Scene| attempts[scene.name] != [scene.class, "answered"];
        let told = |scene: &&Scene| (scene.name, attempts[scene.name].clone());
        let wrong: Vec<_> = scenes.iter().filter(is_wrong).map(told).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        no_error_repeats_a_body(&folder);
        assert!(!ended.said.stderr.contains(MARKER));
        println!(
            "{} hostile replies to calls: {:?}, {} KiB",
            rows.len(),
            ended.took,
            ended.peak_kib
        );
    }
}

#[test]
fn a_provider_that_stays_hostile_ends_the_run_with_the_truth() {
    for is_slow in [false, true] {
        let provider = Provider::start(|request| {
            Scene::named(&request.text()).map_or(Act::says("fine"), |scene| act(scene.play))
        });
        // A rate limit uses up no attempt, so a provider that gives nothing else is waited for.
        let is_wanted =
            |scene: &&Scene| scene.is_slow() == is_slow && scene.class != "rate_limited";
        let scenes: Vec<_> = SCENES.iter().filter(is_wanted).collect();
        let mut rows: Vec<&str> = scenes.iter().map(|scene| scene.name).collect();
        rows.insert(0, "a good one");
        let folder = project(&provider, &rows, &["--max-attempts", "2"]);
        run(&folder, is_slow, 3);
        let attempts = attempts(&folder);
        for scene in &scenes {
            assert_eq!(attempts[scene.name], [scene.class; 2], "{}", scene.name);
        }
        assert_eq!(attempts["a good one"], ["answered"]);
        assert_eq!(folder.status()["requests"]["failed"], scenes.len());
        let calls = provider.count();
        run(&folder, is_slow, 3);
        assert_eq!(provider.count(), calls, "nothing is due any more");
        no_error_repeats_a_body(&folder);
    }
}

/// What a reply that is odd and whole comes to: an answer, or the class of its failure.
#[test]
fn what_is_odd_and_can_be_read_is_an_answer() {
    let reply = |content: &str| {
        completion("CONTENT", "stop").to_string().replace("\"CONTENT\"", content).into_bytes()
    };
    let with = |name: &str, value: &str| {
        let text = completion("fine", "stop").to_string();
        text.replacen('{', &format!("{{\"{name}\":{value},"), 1).into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a mark in front", [b"\xef\xbb\xbf".to_vec(), reply("\"fine\"")].concat(), "fine"),
        (
            "blanks around",
            [b"\n \t".to_vec(), reply("\"fine\""), b"\r\n".to_vec()].concat(),
            "fine",
        ),
        ("a NUL", reply("\"a\\u0000b\""), "a\0b"),
        ("half a pair", reply("\"a\\ud83db\""), "a\u{fffd}b"),
        (
            "no UTF-8",
            [&b"{\"choices\":[{\"message\":{\"content\":\"a"[..], b"\xff\xfe", b"b\"}}]}"].concat(),
            "a\u{fffd}\u{fffd}b",
        ),
        ("a number beyond numbers", with("created", "1e400"), "fine"),
        ("a very long number", with("created", &"9".repeat(10_000)), "fine"),
        ("a key twice", with("choices", "[]"), "malformed_reply"),
        (
            "a deep field nobody reads",
            with("extra", &("[".repeat(100_000) + &"]".repeat(100_000))),
            "fine",
        ),
        ("a deep answer", reply(&format!("\"{}\"", "[".repeat(100_000))), &"[".repeat(100_000)),
        ("NaN", with("created", "NaN"), "malformed_reply"),
        ("a raw NUL between", [reply("\"fine\""), b"\0".to_vec()].concat(), "malformed_reply"),
        ("two objects", [reply("\"fine\""), reply("\"fine\"")].concat(), "malformed_reply"),
    ]
    .into_iter()
    .map(|(name, body, comes_to)| {
        (name, body, Box::leak(comes_to.to_owned().into_boxed_str()) as &str)
    })
    .collect();
    let bodies: HashMap<String, Vec<u8>> =
        cases.iter().map(|(name, body, _)| ((*name).to_owned(), body.clone())).collect();
    let provider = Provider::start(move |request| match bodies.get(&request.text()) {
        Some(body) => Act::Reply(200, Vec::new(), body.clone()),
        None => Act::says("fine"),
    });
    let rows: Vec<&str> = cases.iter().map(|(name, ..)| *name).collect();
    let folder = project(&provider, &rows, &["--max-attempts", "1"]);
    run(&folder, false, 3);
    let came = query(
        &folder,
        "SELECT cells ->> '$.text', CASE WHEN instr(answer, char(0)) THEN 'a' || char(0) || 'b' ELSE coalesce(answer, error_class) END
         FROM answers",
    );
    for (name, _, comes_to) in &cases {
        let found = came.iter().find(|row| row[0] == *name).unwrap();
        assert_eq!(
            found[1].chars().take(40).collect::<String>(),
            comes_to.chars().take(40).collect::<String>(),
            "{name}"
        );
    }
}
