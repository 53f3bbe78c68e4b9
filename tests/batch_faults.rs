//! What goes wrong on the batch route: lost replies, refusals, bad ends and bad lines. What was paid for is
//! kept, nothing is bought twice, and what is missing is asked again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use serde_json::{Value, json};
use support::batches::runs::{
    Running, all_answered, all_answered_once, exported, project, query, run, texts,
};
use support::batches::{Batch, BatchProvider, Do, End, Inner, Kind, Lines, Script};
use support::{Act, Folder};

/// A provider that does `what` with the first call of a kind, and is good otherwise.
fn first(kind: Kind, what: Do) -> Script {
    let on = move |found, nth| if (found, nth) == (kind, 1) { what.clone() } else { Do::Right };
    Script { stages: vec!["in_progress"], on: Box::new(on), ..Script::default() }
}

fn oops() -> Do {
    Do::Instead(Act::error(500, "server_error", "oops"))
}

/// What the earlier attempts at each row came to: position and class, in order.
fn failures(folder: &Folder) -> Vec<(usize, String)> {
    let rows = query(
        folder,
        "SELECT position, attempt.error_class FROM attempt JOIN request ON request.id = request_id
         JOIN row ON row.id = row_id WHERE outcome = 'failed' ORDER BY position, number",
    );
    rows.into_iter().map(|row| (row[0].parse().unwrap(), row[1].clone())).collect()
}

#[test]
fn a_create_whose_reply_is_lost_is_found_again_and_not_repeated() {
    for (foreign, lost) in [
        (0, Do::Despite(Act::Close)),
        (500, Do::Cut),
        (150, Do::Despite(Act::error(500, "server_error", "it was made all the same"))),
        (0, Do::Despite(Act::error(504, "timeout", "the gateway gave up"))),
    ] {
        let provider = BatchProvider::start(Script { foreign, ..first(Kind::Create, lost) });
        let texts = texts(6);
        let folder = project(&provider, &texts, &[]);
        run(&folder, &[]).ends(0);
        all_answered_once(&folder, &provider, &texts);
        assert_eq!((provider.count(Kind::Create), provider.count(Kind::Upload)), (1, 1));
        assert_eq!(provider.batches().len(), 1);
    }
}

#[test]
fn each_of_several_lost_creates_is_found_for_what_it_is() {
    let provider = BatchProvider::start(Script {
        on: Box::new(|kind, nth| match (kind, nth) {
            (Kind::Create, 1..=3) => Do::Despite(Act::Close),
            _ => Do::Right,
        }),
        ..Script::default()
    });
    let texts = texts(9);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &["--batch-size", "3"]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!(provider.count(Kind::Create), 3);
}

#[test]
fn a_create_that_failed_is_repeated_once_its_absence_is_proved() {
    for failed in [oops(), Do::Instead(Act::Close)] {
        let provider = BatchProvider::start(Script { foreign: 120, ..first(Kind::Create, failed) });
        let texts = texts(6);
        let folder = project(&provider, &texts, &[]);
        run(&folder, &[]).ends(0);
        all_answered_once(&folder, &provider, &texts);
        assert_eq!(provider.batches().len(), 1);
        let kinds = provider.kinds();
        let creates: Vec<usize> =
            (0..kinds.len()).filter(|at| kinds[*at] == Kind::Create).collect();
        assert_eq!(creates.len(), 2, "{kinds:?}");
        let between = &kinds[creates[0]..creates[1]];
        let pages = between.iter().filter(|kind| **kind == Kind::List).count();
        assert!(pages >= 2, "all pages come between the two: {kinds:?}");
    }
}

#[test]
fn every_creation_is_proved_absent_by_listings_of_its_own() {
    let provider = BatchProvider::start(Script {
        on: Box::new(|kind, nth| match (kind, nth) {
            (Kind::Create, 1 | 2) => oops(),
            _ => Do::Right,
        }),
        ..Script::default()
    });
    let texts = texts(3);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &[]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    let kinds = provider.kinds();
    let creates: Vec<usize> = (0..kinds.len()).filter(|at| kinds[*at] == Kind::Create).collect();
    assert_eq!(creates.len(), 3, "{kinds:?}");
    for pair in creates.windows(2) {
        let between = &kinds[pair[0]..pair[1]];
        let lists = between.iter().filter(|kind| **kind == Kind::List).count();
        assert_eq!(lists, 3, "{kinds:?}");
    }
}

#[test]
fn a_creation_that_is_gone_is_given_time_to_arrive_before_it_is_made_again() {
    // A process that has died may have sent it; the shorter the polls, the sooner it must be there.
    for (poll, least) in [("100ms", 2_000), ("1s", 6_000)] {
        let provider = BatchProvider::start(first(Kind::Create, Do::Instead(Act::Close)));
        let texts = texts(3);
        let folder = project(&provider, &texts, &[]);
        Running::start(&folder, &["run", "--route", "batch", "--poll", poll]).end().ends(0);
        let between =
            "SELECT count(*), max(at_ms) - min(at_ms) FROM batch_status WHERE status = 'creating'";
        let found = query(&folder, between);
        assert_eq!(found[0][0], "2", "{poll}: {:?}", provider.kinds());
        let waited: u64 = found[0][1].parse().unwrap();
        assert!(waited >= least, "{poll}: made again after {waited} ms");
        all_answered_once(&folder, &provider, &texts);
        assert_eq!(provider.batches().len(), 1, "{poll}: {:?}", provider.kinds());
    }
}

#[test]
fn an_upload_whose_reply_is_lost_makes_one_batch() {
    for lost in [Do::Despite(Act::Close), Do::Cut, Do::Instead(Act::Close), oops()] {
        let provider = BatchProvider::start(Script { foreign: 20, ..first(Kind::Upload, lost) });
        let texts = texts(6);
        let folder = project(&provider, &texts, &[]);
        run(&folder, &[]).ends(0);
        all_answered_once(&folder, &provider, &texts);
        assert!(provider.count(Kind::Upload) <= 2);
        assert_eq!(provider.batches().len(), 1);
    }
}

#[test]
fn every_control_call_that_fails_once_is_tried_again() {
    let fails = [
        Do::Instead(Act::error(500, "server_error", "oops")),
        Do::Instead(Act::error(429, "rate_limit_exceeded", "slow down").with("retry-after", "1")),
        Do::Instead(Act::Close),
        Do::Instead(Act::Reply(200, Vec::new(), b"<html>no</html>".to_vec())),
        Do::Cut,
    ];
    for fail in fails {
        let said = format!("{fail:?}");
        let on = move |_, nth| if nth == 1 { fail.clone() } else { Do::Right };
        // A body that is wrong is no news of a file, whose bytes may be anything.
        let is_html = said.contains("Reply(200");
        let provider = BatchProvider::start(Script {
            on: Box::new(move |kind, nth| match kind {
                Kind::Content if is_html => Do::Right,
                _ => on(kind, nth),
            }),
            ..Script::default()
        });
        let texts = texts(6);
        let folder = project(&provider, &texts, &[]);
        run(&folder, &[]).ends(0);
        all_answered_once(&folder, &provider, &texts);
        assert_eq!(provider.batches().len(), 1, "{said}: {:?}", provider.kinds());
    }
}

#[test]
fn a_call_that_hangs_is_given_up_and_what_it_did_is_found() {
    for (kind, hang) in [
        (Kind::Create, Do::Despite(Act::Hang)),
        (Kind::Look, Do::Instead(Act::Hang)),
        (Kind::Content, Do::Instead(Act::Hang)),
    ] {
        let provider = BatchProvider::start(first(kind, hang));
        let texts = texts(3);
        let folder = project(&provider, &texts, &[]);
        run(&folder, &["--timeout", "1s"]).ends(0);
        all_answered_once(&folder, &provider, &texts);
        assert_eq!(provider.batches().len(), 1, "{kind:?}");
    }
}

#[test]
fn a_key_that_is_refused_stops_the_run_before_anything_is_made() {
    let provider = BatchProvider::start(Script {
        on: Box::new(|_, _| Do::Instead(Act::error(401, "invalid_api_key", "bad key"))),
        ..Script::default()
    });
    let folder = project(&provider, &texts(6), &[]);
    let said = run(&folder, &[]).ends(1);
    assert!(said.stderr.contains("API key") && said.stderr.contains("hint:"), "{}", said.stderr);
    assert!(provider.kinds().len() <= 3, "{:?}", provider.kinds());
    assert_eq!(folder.status()["requests"]["answered"], 0);
}

#[test]
fn what_can_never_be_made_is_not_tried_for_ever() {
    let refuse = |code| Do::Instead(Act::error(400, code, "no"));
    let scripts: [(&str, Script); 5] = [
        (
            "create",
            Script {
                on: Box::new(move |kind, _| match kind {
                    Kind::Create => refuse("billing_hard_limit_reached"),
                    _ => Do::Right,
                }),
                ..Script::default()
            },
        ),
        (
            "upload",
            Script {
                on: Box::new(move |kind, _| match kind {
                    Kind::Upload => refuse("invalid_file"),
                    _ => Do::Right,
                }),
                ..Script::default()
            },
        ),
        ("failed", always(End::failed("invalid_json_line", 0))),
        ("cancelled", always(End::Cancelled { done: 0 })),
        ("vanished", always(End::Vanishes)),
    ];
    for (name, script) in scripts {
        let provider = BatchProvider::start(script);
        let folder = project(&provider, &texts(4), &["--max-attempts", "2"]);
        let said = run(&folder, &[]);
        assert!(matches!(said.code, Some(1 | 3)), "{name}: {said:?}");
        assert!(said.stderr.contains("hint:"), "{name}: {}", said.stderr);
        assert!(provider.count(Kind::Create) <= 10, "{name}: {:?}", provider.kinds());
        assert!(provider.count(Kind::Upload) <= 10, "{name}: {:?}", provider.kinds());
        assert_eq!(folder.status()["requests"]["in_batch"], 0, "{name}");
        assert_eq!(provider.count(Kind::Chat), 0, "{name}");
    }
}

fn always(end: End) -> Script {
    Script { stages: Vec::new(), end: Box::new(move |_| end.clone()), ..Script::default() }
}

#[test]
fn batches_that_always_expire_are_tried_within_the_bound_of_attempts() {
    let provider = BatchProvider::start(always(End::Expired { done: 0 }));
    let folder = project(&provider, &texts(4), &["--max-attempts", "3"]);
    let tried = |times| {
        let rows = (1..=4).flat_map(|row| vec![format!("Say: row {row}"); times]);
        assert_eq!(asked_after(&provider, 0), rows.collect::<Vec<_>>());
    };
    run(&folder, &[]).ends(3);
    tried(3);
    assert_eq!(folder.status()["failures"], json!({"batch_expired": 4}));
    run(&folder, &[]).ends(3);
    tried(3);
    // A person may ask.
    folder.ok(&["retry", "--failed"]);
    run(&folder, &[]).ends(3);
    tried(6);
}

/// A provider whose first batch ends so.
fn first_ends(end: End) -> Script {
    let end = move |nth| if nth == 1 { end.clone() } else { End::Completed };
    Script { stages: vec!["in_progress"], end: Box::new(end), ..Script::default() }
}

#[test]
fn what_a_batch_had_done_when_it_ended_badly_is_kept_and_the_rest_is_asked_again() {
    let quiet = |end| Script { lines: Box::new(|_, _, error| error.clear()), ..first_ends(end) };
    let cases: [(&str, Script, usize, &[&str]); 8] = [
        ("expired", first_ends(End::Expired { done: 4 }), 4, &["batch_expired"]),
        ("expired at once", first_ends(End::Expired { done: 0 }), 0, &["batch_expired"]),
        (
            "expired silently",
            quiet(End::Expired { done: 4 }),
            4,
            &["batch_expired", "missing_from_batch"],
        ),
        ("cancelled", first_ends(End::Cancelled { done: 3 }), 3, &["batch_cancelled"]),
        (
            "cancelled silently",
            quiet(End::Cancelled { done: 3 }),
            3,
            &["batch_cancelled", "missing_from_batch"],
        ),
        (
            "failed",
            first_ends(End::failed("server_error", 2)),
            2,
            &["batch_failed", "missing_from_batch"],
        ),
        ("failed at once", first_ends(End::failed("server_error", 0)), 0, &["batch_failed"]),
        (
            "vanished",
            first_ends(End::Vanishes),
            0,
            &["batch_cancelled", "batch_failed", "missing_from_batch"],
        ),
    ];
    for (name, script, done, classes) in cases {
        let provider = BatchProvider::start(script);
        let texts = texts(6);
        let folder = project(&provider, &texts, &[]);
        run(&folder, &[]).ends(0);
        all_answered_once(&folder, &provider, &texts);
        let batches = provider.batches();
        let mut rest = batches[0].texts().split_off(done);
        rest.sort();
        assert_eq!(asked_after(&provider, 1), rest, "{name}: only what was not done");
        let failures = failures(&folder);
        let mut failed: Vec<String> =
            failures.iter().map(|(position, _)| format!("Say: row {position}")).collect();
        failed.sort();
        assert_eq!(failed, rest, "{name}");
        for (_, class) in failures {
            assert!(classes.contains(&class.as_str()), "{name}: {class}");
        }
    }
}

/// The texts that came in batches after the first so many, sorted.
fn asked_after(provider: &BatchProvider, batches: usize) -> Vec<String> {
    let mut asked: Vec<String> =
        provider.batches()[batches..].iter().flat_map(Batch::texts).collect();
    asked.sort();
    asked
}

fn find(lines: &Lines, row: usize) -> usize {
    let text = format!("SAY: ROW {row}\"");
    lines.iter().position(|line| String::from_utf8_lossy(line).contains(&text)).unwrap()
}

fn edited(line: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(line).unwrap();
    edit(&mut value);
    value.to_string().into_bytes()
}

/// A provider whose first batch has its lines edited, and ends at the first look.
fn first_lines(edit: impl Fn(&mut Lines, &mut Lines) + Send + Sync + 'static) -> Script {
    let lines = move |nth, output: &mut Lines, error: &mut Lines| {
        if nth == 1 {
            edit(output, error);
        }
    };
    Script { stages: Vec::new(), lines: Box::new(lines), ..Script::default() }
}

#[test]
fn bad_lines_cost_themselves_and_nothing_else() {
    let provider = BatchProvider::start(first_lines(|output, _| {
        output.remove(find(output, 1));
        let at = find(output, 2);
        output.push(output[at].clone());
        let at = find(output, 3);
        output[at].truncate(60);
        let at = find(output, 4);
        output[at].push(b'\r');
        let unknown = edited(&output[at], |line| line["custom_id"] = json!("nobody-knows-it"));
        let number = edited(&output[at], |line| line["custom_id"] = json!(7));
        let at = find(output, 6);
        output[at] = [b"{\"a\":\"\xff\xfe\",".as_slice(), &output[at][1..]].concat();
        let at = find(output, 7);
        output[at] = edited(&output[at], |line| {
            line["response"]["body"]["choices"] = json!("none");
        });
        let strange = ["", "   ", "<html>oops</html>", "[]", "{}", "null", "7", "\r"];
        output.splice(2..2, strange.map(|line| line.as_bytes().to_vec()));
        output.extend([unknown, number, Vec::new()]);
    }));
    let mut all = texts(9);
    all[7] = "row 8 \u{2028}\u{2029}\u{85} end".to_owned();
    let folder = project(&provider, &all, &[]);
    run(&folder, &[]).ends(0);
    all_answered(&folder, &all);
    let again: Vec<String> = [1, 3, 6, 7].map(|row| format!("Say: row {row}")).to_vec();
    let asked_again = asked_after(&provider, 1);
    // Bytes that are no text may still be read past.
    let without_six: Vec<String> =
        again.iter().filter(|text| !text.ends_with('6')).cloned().collect();
    assert!(asked_again == again || asked_again == without_six, "{asked_again:?}");
    let failures = failures(&folder);
    assert_eq!(failures[0], (1, "missing_from_batch".to_owned()));
    for (position, class) in failures {
        assert!([1, 3, 6, 7].contains(&position), "{position}: {class}");
        assert!(["missing_from_batch", "malformed_reply"].contains(&class.as_str()), "{class}");
    }
}

#[test]
fn a_success_is_kept_whatever_else_is_said_of_the_row() {
    let provider = BatchProvider::start(first_lines(|output, error| {
        let failure = |line: &[u8]| {
            edited(line, |line| {
                line["response"] = json!({"status_code": 500, "request_id": "r",
                                          "body": {"error": {"message": "oops", "code": null}}});
            })
        };
        let expired = |line: &[u8]| {
            edited(line, |line| {
                line["response"] = Value::Null;
                line["error"] = json!({"code": "batch_expired", "message": "too late"});
            })
        };
        // In the other file, before it, after it, and twice with another answer.
        error.push(failure(&output[find(output, 1)]));
        error.push(expired(&output[find(output, 2)]));
        let at = find(output, 3);
        output.insert(at, failure(&output[at]));
        let at = find(output, 4);
        output.insert(at + 1, failure(&output[at]));
        let at = find(output, 5);
        let other = edited(&output[at], |line| {
            line["response"]["body"]["choices"][0]["message"]["content"] = json!("something else");
        });
        output.insert(at + 1, other);
    }));
    let texts = texts(6);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &[]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!(provider.batches().len(), 1);
    assert_eq!(failures(&folder), []);
    assert_eq!(folder.status()["tokens"]["input"], 600, "what is said twice is not counted twice");
}

/// Shows a file id as a provider might show that there is none: 0 is null, 1 is empty, 2 is absent.
fn no_file(batch: &mut Value, name: &str, form: usize) {
    match form {
        0 => batch[name] = Value::Null,
        1 => batch[name] = json!(""),
        _ => drop(batch.as_object_mut().unwrap().remove(name)),
    }
}

#[test]
fn a_file_that_is_not_there_may_be_shown_in_any_way() {
    for form in 0..4 {
        let provider = BatchProvider::start(Script {
            object: Box::new(move |_, batch| match (form, batch["status"] == "completed") {
                (3, true) => batch["error_file_id"] = json!("file-empty"),
                _ => no_file(batch, "error_file_id", form),
            }),
            ..Script::default()
        });
        let texts = texts(3);
        let folder = project(&provider, &texts, &[]);
        run(&folder, &[]).ends(0);
        all_answered_once(&folder, &provider, &texts);

        // The other way round: completed, and nothing but failures.
        let provider = BatchProvider::start(Script {
            answer: Box::new(|_| Inner::Fails(400, "invalid_value")),
            object: Box::new(move |_, batch| match (form, batch["status"] == "completed") {
                (3, true) => batch["output_file_id"] = json!("file-empty"),
                _ => no_file(batch, "output_file_id", form),
            }),
            ..Script::default()
        });
        let folder = project(&provider, &texts, &[]);
        run(&folder, &[]).ends(3);
        assert_eq!(folder.status()["failures"], json!({"invalid_request": 3}));
        assert_eq!(provider.batches().len(), 1);
    }
}

#[test]
fn what_a_provider_counts_and_forgets_to_say_is_not_needed() {
    let provider = BatchProvider::start(Script {
        object: Box::new(|_, batch| {
            batch["request_counts"] = json!({"total": 7, "completed": 0, "failed": 900});
            batch["usage"] = Value::Null;
            batch["errors"] = json!({"object": "list", "data": []});
            for name in ["model", "expires_at", "in_progress_at", "metadata"] {
                batch.as_object_mut().unwrap().remove(name);
            }
        }),
        ..Script::default()
    });
    let texts = texts(5);
    let folder = project(&provider, &texts, &[]);
    run(&folder, &[]).ends(0);
    all_answered_once(&folder, &provider, &texts);
    assert_eq!(provider.batches().len(), 1);
}

#[test]
fn a_download_that_breaks_off_or_is_not_there_yet_is_begun_again() {
    let not_yet = Do::Instead(Act::error(404, "not_found", "no such file"));
    let cases = [(2, Do::Cut), (3, not_yet), (1, Do::Instead(Act::error(502, "bad", "oops")))];
    for (times, fault) in cases {
        let provider = BatchProvider::start(Script {
            on: Box::new(move |kind, nth| match kind {
                Kind::Content if nth <= times => fault.clone(),
                _ => Do::Right,
            }),
            ..Script::default()
        });
        let texts = texts(30);
        let folder = project(&provider, &texts, &[]);
        run(&folder, &[]).ends(0);
        all_answered_once(&folder, &provider, &texts);
        assert_eq!(provider.batches().len(), 1, "nothing is asked again");
    }
}

#[test]
fn of_the_lines_that_failed_only_those_that_may_pass_are_asked_again() {
    let provider = BatchProvider::start(Script {
        answer: Box::new(|ask| match (ask.text.as_str(), ask.seen) {
            ("Say: row 2", 0) => Inner::Fails(429, "rate_limit_exceeded"),
            ("Say: row 3", 0) => Inner::Fails(500, "server_error"),
            ("Say: row 4", _) => Inner::Fails(400, "invalid_value"),
            ("Say: row 5", _) => Inner::Fails(400, "context_length_exceeded"),
            ("Say: row 6", 0) => Inner::Dies("request_timeout"),
            ("Say: row 7", 0) => Inner::Fails(0, "unknown"),
            _ => Inner::Says(ask.text.to_uppercase()),
        }),
        ..Script::default()
    });
    let folder = project(&provider, &texts(8), &[]);
    run(&folder, &[]).ends(3);
    let status = folder.status();
    assert_eq!(status["failures"], json!({"invalid_request": 1, "context_too_long": 1}));
    assert_eq!(status["requests"]["answered"], 6);
    assert_eq!(asked_after(&provider, 1), [2, 3, 6, 7].map(|row| format!("Say: row {row}")));
    assert_eq!(provider.bought().into_values().collect::<Vec<_>>(), [1; 6]);
    let rows = exported(&folder, &["state", "error_class", "route"]);
    assert_eq!(rows[3], ["failed", "invalid_request", "batch"]);
}

#[test]
fn an_answer_that_was_cut_is_asked_again_with_twice_the_room() {
    let provider = BatchProvider::start(Script {
        answer: Box::new(|ask| match ask.limit() {
            Some(limit) if limit < 50 && ask.text.ends_with('2') => Inner::Cut("SAY: R".to_owned()),
            _ => Inner::Says(ask.text.to_uppercase()),
        }),
        ..Script::default()
    });
    let texts = texts(3);
    let folder = project(&provider, &texts, &["--max-tokens", "20"]);
    run(&folder, &[]).ends(0);
    all_answered(&folder, &texts);
    let asked: Vec<Vec<String>> = provider.batches().iter().map(Batch::texts).collect();
    assert_eq!(asked[1..], [["Say: row 2"], ["Say: row 2"]]);
    let limits = query(
        &folder,
        "SELECT attempt.max_tokens, outcome FROM attempt JOIN request ON request.id = request_id
         JOIN row ON row.id = row_id WHERE position = 2 ORDER BY number",
    );
    assert_eq!(limits, [["20", "truncated"], ["40", "truncated"], ["80", "answered"]]);
}

#[test]
fn an_answer_outside_the_choices_is_asked_again() {
    let provider = BatchProvider::start(Script {
        answer: Box::new(|ask| match ask.seen {
            0 if ask.text.contains("row 2") => Inner::Says("{\"answer\":\"perhaps\"}".to_owned()),
            _ => Inner::Says("{\"answer\":\"yes\"}".to_owned()),
        }),
        ..Script::default()
    });
    let folder = project(&provider, &texts(3), &["--choices", "yes,no"]);
    run(&folder, &[]).ends(0);
    assert_eq!(exported(&folder, &["answer", "state"]), [["yes", "answered"]; 3]);
    assert_eq!(failures(&folder), [(2, "invalid_answer".to_owned())]);
    assert_eq!(provider.batches()[1].texts().len(), 1);
}

#[test]
fn a_key_that_a_result_repeats_is_not_put_on_record() {
    const KEY: &str = "sk-a-key-that-nobody-must-see-0123456789";
    let provider = BatchProvider::start(Script {
        lines: Box::new(|_, output, _| {
            for line in output {
                let mut object: Value = serde_json::from_slice(line).unwrap();
                object["response"]["body"]["system_fingerprint"] = json!(KEY);
                *line = object.to_string().into_bytes();
            }
        }),
        ..Script::default()
    });
    let mut folder = project(&provider, &texts(3), &[]);
    folder.env("OPENAI_API_KEY", KEY);
    run(&folder, &[]).ends(0);
    for row in ["#1", "#2", "#3"] {
        let reply = folder.ok(&["show", row, "--reply"]).stdout;
        assert!(reply.contains("system_fingerprint") && !reply.contains(KEY), "{reply}");
    }
    // It is another key than the provider expects of these tests, and nothing else is wrong.
    assert!(provider.take_breaches().iter().all(|breach| breach.contains("the key is")));
}
