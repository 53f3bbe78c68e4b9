//! The realtime route through the real binary and real sockets: what is sent, what is kept, what is tried again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::BufRead;

use serde_json::{Value, json};
use support::{Act, Folder, Provider, Simulator, completion, table};

/// A project with rows `a`, `b`, … against a scripted provider.
fn project(provider: &Provider, rows: &[&str], prompt: &[&str]) -> Folder {
    let folder = Folder::new();
    let table = rows.join("\n");
    folder.write("rows.csv", format!("text\n{table}\n"));
    let url = provider.base_url();
    folder.ok(&[&["init", "--model", "gpt-4o-mini", "--base-url", &url], prompt].concat());
    folder.ok(&["add", "rows.csv"]);
    folder
}

const PLAIN: &[&str] = &["--prompt", "Say: {{ text }}"];

fn query(folder: &Folder, sql: &str) -> Vec<Vec<Value>> {
    #[expect(clippy::disallowed_methods, reason = "read as any other program would")]
    let conn = rusqlite::Connection::open(folder.file("overnight.db")).unwrap();
    let mut statement = conn.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns)
            .map(|column| {
                Ok(match row.get_ref(column)? {
                    rusqlite::types::ValueRef::Null => Value::Null,
                    rusqlite::types::ValueRef::Integer(number) => json!(number),
                    rusqlite::types::ValueRef::Real(number) => json!(number),
                    rusqlite::types::ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
                    rusqlite::types::ValueRef::Blob(bytes) => json!(bytes.len()),
                })
            })
            .collect()
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn the_four_lines_on_two_thousand_rows_with_faults_and_a_kill() {
    let folder = Folder::new();
    let faults = "429=0.01,500=0.004,reset=0.003,cut=0.003";
    let simulator = Simulator::start(&folder, &["--latency", "50ms", "--faults", faults]);
    folder.write("reviews.csv", table(2000));
    let init = ["init", "--prompt", "Sum up: {{ review }}", "--model", "gpt-4o-mini", "--base-url"];
    folder.ok(&[&init[..], &[simulator.base_url()]].concat());
    folder.ok(&["add", "reviews.csv", "--key", "id"]);

    // Killed in the middle, by what the provider has seen and not by a clock.
    let mut run = folder.start(&["run", "--route", "realtime", "--concurrency", "40"]);
    while simulator.total("requests") < 700 {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    let crashed = folder.status();
    assert_eq!(crashed["running"], false);
    assert_eq!(crashed["requests"]["in_flight"], 0, "nobody is there to settle them");
    let in_doubt = crashed["requests"]["in_doubt"].as_u64().unwrap();
    assert!(in_doubt <= 40, "{in_doubt} in doubt");

    folder.ok(&["run", "--route", "realtime", "--concurrency", "40"]);
    let done = folder.status();
    assert_eq!(done["requests"]["answered"], 2000);
    let again = simulator.total("charged_again");
    assert!(again <= in_doubt, "{again} charged again, {in_doubt} were in doubt");
    let requests = simulator.total("requests");
    folder.ok(&["export", "answers.csv"]);
    let again = folder.ok(&["run"]);
    assert!(again.stderr.contains("nothing to do"), "{again:?}");
    assert_eq!(simulator.total("requests"), requests, "a second run makes no call");
    assert_eq!(folder.names(), ["answers.csv", "overnight.db", "reviews.csv"]);

    let mut input = csv::Reader::from_path(folder.file("reviews.csv")).unwrap();
    let mut output = csv::Reader::from_path(folder.file("answers.csv")).unwrap();
    let mut header: Vec<String> = input.headers().unwrap().iter().map(str::to_owned).collect();
    header.extend(["answer".to_owned(), "state".to_owned()]);
    assert_eq!(output.headers().unwrap(), header);
    let mut rows = 0;
    for (before, after) in input.records().zip(output.records()) {
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!(before.iter().collect::<Vec<_>>(), after.iter().take(3).collect::<Vec<_>>());
        assert!(!after[3].is_empty());
        assert_eq!(&after[4], "answered");
        rows += 1;
    }
    assert_eq!(rows, 2000);

    // The same job without a crash and without faults comes to the same table.
    let calm = Folder::new();
    let simulator = Simulator::start(&calm, &[]);
    calm.write("reviews.csv", table(2000));
    calm.ok(&[&init[..], &[simulator.base_url()]].concat());
    calm.ok(&["add", "reviews.csv", "--key", "id"]);
    calm.ok(&["run", "--route", "realtime"]);
    calm.ok(&["export", "answers.csv"]);
    assert_eq!(simulator.total("charged_requests"), 2000);
    assert_eq!(simulator.total("requests"), 2000);
    assert_eq!(folder.read("answers.csv"), calm.read("answers.csv"));
}

#[test]
fn no_answered_request_is_ever_charged_again() {
    let folder = Folder::new();
    let faults = "429=0.05,500=0.05,reset=0.02,cut=0.02,badjson=0.02,503=0.02,length=0.05";
    let simulator = Simulator::start(&folder, &["--faults", faults]);
    folder.write("reviews.csv", table(500));
    let init = [
        "init",
        "--prompt",
        "Sum up: {{ review }}",
        "--max-tokens",
        "60",
        "--model",
        "gpt-4o-mini",
    ];
    folder.ok(&[&init[..], &["--base-url", simulator.base_url()]].concat());
    folder.ok(&["add", "reviews.csv", "--key", "id"]);
    folder.ok(&["run", "--route", "realtime", "--concurrency", "64"]);
    let ledger = simulator.ledger();
    assert_eq!(ledger["totals"]["charged_again"], 0);
    let status = folder.status();
    assert_eq!(status["requests"]["answered"], 500);
    assert_eq!(status["attempts"], ledger["totals"]["requests"], "every call is on record");
    let struck: u64 = ledger["totals"]["faults"]
        .as_object()
        .unwrap()
        .values()
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert!(struck > 50, "the faults did strike: {ledger}");
}

/// What one failing reply to row `bad` comes to, with row `good` answered beside it.
fn one_bad_row(
    act: impl Fn(usize) -> Act + Send + Sync + 'static,
) -> (Folder, Provider, Option<i32>) {
    let provider = Provider::start(move |request| match request.text().contains("bad") {
        true => act(request.seen),
        false => Act::says("fine"),
    });
    let folder = project(&provider, &["good", "bad"], PLAIN);
    let code = folder.run(&["run", "--timeout", "5s"]).code;
    (folder, provider, code)
}

#[test]
fn failures_that_pass_are_tried_again_until_there_is_an_answer() {
    let cases: Vec<(&str, Act)> = vec![
        (
            "rate_limited",
            Act::error(429, "rate_limit_exceeded", "slow down").with("retry-after-ms", "20"),
        ),
        (
            "overloaded",
            Act::error(503, "server_is_overloaded", "busy").with("retry-after-ms", "20"),
        ),
        ("server_error", Act::error(500, "server_error", "oops")),
        ("timeout", Act::Hang),
        ("connection", Act::Close),
        ("connection", Act::Cut(b"{\"id\":".to_vec())),
        ("malformed_reply", Act::Reply(200, Vec::new(), b"not json".to_vec())),
        ("malformed_reply", Act::json(200, &json!({"choices": "none"}))),
    ];
    for (class, act) in cases {
        let (folder, provider, code) = one_bad_row(move |seen| match seen {
            0 => act.clone(),
            _ => Act::says("fine now"),
        });
        assert_eq!(code, Some(0), "{class}");
        assert_eq!(provider.count(), 3, "{class}");
        let attempts = query(
            &folder,
            "SELECT number, outcome, attempt.error_class FROM attempt
             JOIN request ON request.id = request_id JOIN row ON row.id = row_id
             WHERE position = 2 ORDER BY number",
        );
        assert_eq!(
            attempts,
            [
                vec![json!(1), json!("failed"), json!(class)],
                vec![json!(2), json!("answered"), Value::Null]
            ]
        );
    }
}

#[test]
fn failures_of_the_row_are_final_and_bought_once() {
    let cases: Vec<(&str, Act)> = vec![
        ("invalid_request", Act::error(400, "invalid_value", "no")),
        ("context_too_long", Act::error(400, "context_length_exceeded", "too long")),
        ("request_too_large", Act::error(413, "too_large", "too large")),
        ("content_filtered", Act::finishes("", "content_filter")),
        ("refused", {
            let mut reply = completion("", "stop");
            reply["choices"][0]["message"]["refusal"] = json!("I will not");
            reply["choices"][0]["message"]["content"] = Value::Null;
            Act::json(200, &reply)
        }),
    ];
    for (class, act) in cases {
        let (folder, provider, code) = one_bad_row(move |_| act.clone());
        assert_eq!(code, Some(3), "{class}");
        assert_eq!(provider.count(), 2, "{class}: one call a row");
        let status = folder.status();
        assert_eq!(status["failures"], json!({class: 1}));
        assert_eq!(status["requests"]["answered"], 1);
        folder.run(&["run"]).ends(3);
        assert_eq!(provider.count(), 2, "{class}: nothing is due");
        folder.ok(&["retry", "--failed"]);
        folder.run(&["run"]).ends(3);
        assert_eq!(provider.count(), 3, "{class}: a person may ask");
    }
}

#[test]
fn tries_are_bounded_and_a_person_can_ask_for_more() {
    let (folder, provider, code) = one_bad_row(|_| Act::Reply(200, Vec::new(), b"[]".to_vec()));
    assert_eq!(code, Some(3));
    assert_eq!(provider.count(), 1 + 5);
    folder.run(&["run"]).ends(3);
    assert_eq!(provider.count(), 1 + 5);
    folder.ok(&["retry", "--class", "malformed_reply"]);
    folder.run(&["run"]).ends(3);
    assert_eq!(provider.count(), 1 + 10);
}

#[test]
fn a_rate_limit_uses_up_no_attempt() {
    let (_, provider, code) = one_bad_row(|seen| match seen {
        0..8 => Act::error(429, "rate_limit_exceeded", "slow down").with("retry-after-ms", "5"),
        _ => Act::says("at last"),
    });
    assert_eq!(code, Some(0));
    assert_eq!(provider.count(), 1 + 9);
}

#[test]
fn what_every_request_would_meet_stops_the_run_after_few_calls_and_says_what_to_do() {
    let cases = [
        ("unauthorized", Act::error(401, "invalid_api_key", "bad key"), "API key"),
        ("forbidden", Act::error(403, "forbidden", "not here"), "not allow"),
        ("quota_exhausted", Act::error(429, "insufficient_quota", "no money"), "quota"),
        ("model_not_found", Act::error(404, "model_not_found", "no such model"), "model"),
        ("endpoint_not_found", Act::json(404, &json!({"detail": "Not Found"})), "endpoint"),
        (
            "endpoint_not_found",
            Act::Reply(
                307,
                vec![("location".to_owned(), "http://127.0.0.1:9/v1".to_owned())],
                Vec::new(),
            ),
            "endpoint",
        ),
    ];
    for (class, act, words) in cases {
        let provider = Provider::start(move |_| act.clone());
        let rows: Vec<String> = (0..300).map(|row| format!("row {row}")).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let folder = project(&provider, &rows, PLAIN);
        let said = folder.run(&["run"]).ends(1);
        assert!(provider.count() <= 16, "{class}: {} calls", provider.count());
        assert!(said.stderr.contains(words), "{class}: {}", said.stderr);
        assert!(said.stderr.contains("hint:"), "{class}: {}", said.stderr);
        let plan = folder.ok(&["plan", "--json"]).json();
        assert_eq!(plan["due"], 300, "{class}: no row has lost its turn");
    }
}

#[test]
fn a_cut_reply_is_asked_again_with_twice_the_room_and_both_attempts_are_kept() {
    let provider = Provider::start(|request| {
        let limit = request.json()["max_completion_tokens"].as_u64().unwrap();
        match limit {
            0..50 => Act::finishes("cut sho", "length"),
            _ => Act::says("whole"),
        }
    });
    let folder = project(&provider, &["a"], &["--prompt", "Say: {{ text }}", "--max-tokens", "20"]);
    folder.ok(&["run"]);
    let limits: Vec<u64> = provider
        .requests()
        .iter()
        .map(|request| request.json()["max_completion_tokens"].as_u64().unwrap())
        .collect();
    assert_eq!(limits, [20, 40, 80]);
    let attempts =
        query(&folder, "SELECT number, outcome, max_tokens, answer FROM attempt ORDER BY number");
    assert_eq!(
        attempts,
        [
            vec![json!(1), json!("truncated"), json!(20), Value::Null],
            vec![json!(2), json!("truncated"), json!(40), Value::Null],
            vec![json!(3), json!("answered"), json!(80), json!("whole")],
        ]
    );
}

#[test]
fn a_reply_that_stays_cut_stops_at_the_limit_of_limits() {
    let provider = Provider::start(|_| Act::finishes("cut", "length"));
    let folder = project(&provider, &["a"], &["--prompt", "Say: {{ text }}", "--max-tokens", "10"]);
    folder.run(&["run"]).ends(3);
    assert_eq!(provider.count(), 3, "10, 20, 40");
    assert_eq!(folder.status()["requests"]["truncated"], 1);
    folder.run(&["run"]).ends(3);
    assert_eq!(provider.count(), 3);
    folder.ok(&["retry", "--truncated", "--max-tokens", "400"]);
    folder.run(&["run"]).ends(3);
    assert_eq!(provider.requests()[3].json()["max_completion_tokens"], 400);
}

#[test]
fn an_answer_outside_the_choices_is_asked_again_and_a_bare_label_is_taken() {
    let provider = Provider::start(|request| match request.seen {
        0 => Act::says(r#"{"answer":"maybe"}"#),
        _ => Act::says(" **Yes**. "),
    });
    let prompt = ["--prompt", "Is it so? {{ text }}", "--choices", "yes,no"];
    let folder = project(&provider, &["a"], &prompt);
    folder.ok(&["run"]);
    let body = provider.requests()[0].json();
    let schema = &body["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["properties"]["answer"]["enum"], json!(["yes", "no"]));
    assert_eq!(body["response_format"]["json_schema"]["strict"], true);
    let attempts =
        query(&folder, "SELECT outcome, error_class, answer FROM attempt ORDER BY number");
    assert_eq!(attempts[0], [json!("failed"), json!("invalid_answer"), Value::Null]);
    assert_eq!(attempts[1], [json!("answered"), Value::Null, json!("yes")]);
}

#[test]
fn a_server_without_structured_outputs_is_asked_in_words() {
    let provider = Provider::start(|request| match request.json().get("response_format") {
        Some(_) => Act::error(400, "bad", "response_format json_schema is not supported"),
        None => Act::says("Positive."),
    });
    let rows: Vec<String> = (0..40).map(|row| format!("row {row}")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let folder = project(
        &provider,
        &rows,
        &["--prompt", "So? {{ text }}", "--choices", "positive,negative"],
    );
    let said = folder.ok(&["run"]);
    assert!(said.stderr.contains("asked in words from now on"), "{}", said.stderr);
    let refused =
        provider.requests().iter().filter(|it| it.json().get("response_format").is_some()).count();
    assert!((1..=8).contains(&refused), "{refused} calls to find out");
    assert_eq!(provider.count(), 40 + refused);
    let answers = query(&folder, "SELECT DISTINCT answer, state FROM answers");
    assert_eq!(answers, [vec![json!("positive"), json!("answered")]]);
    let last = provider.requests().last().unwrap().clone();
    assert!(last.text().contains("Answer with exactly one of these"), "{}", last.text());

    // What was sent can be shown for both ways, and a later run knows from the start.
    let attempts = query(&folder, "SELECT count(body), count(*) FROM attempt WHERE number = 2");
    assert_eq!(
        attempts[0][0], attempts[0][1],
        "the second body of a request is kept as it was sent"
    );
    folder.write("more.csv", "text\none more\n");
    folder.ok(&["add", "more.csv"]);
    folder.ok(&["run"]);
    assert_eq!(provider.count(), 40 + refused + 1);
    let shown = folder.ok(&["show", "#41", "--request"]).stdout;
    assert_eq!(shown.as_bytes(), provider.requests().last().unwrap().body);
}

#[test]
fn equal_requests_are_bought_once_and_share_the_reply() {
    let provider = Provider::start(|_| Act::says("same"));
    let folder = project(&provider, &["a", "b", "a", "a", "b"], PLAIN);
    folder.ok(&["run"]);
    assert_eq!(provider.count(), 2);
    assert_eq!(folder.status()["requests"]["answered"], 5);
    let spent = query(&folder, "SELECT sum(attempts), sum(input_tokens) FROM answers");
    assert_eq!(spent, [vec![json!(2), json!(200)]], "sums over the view count nothing twice");
    folder.write("more.csv", "text\na\na\na\na\n");
    folder.ok(&["add", "more.csv"]);
    folder.ok(&["run"]);
    assert_eq!(provider.count(), 2, "what is on file is shared too");

    let each = project(&provider, &["a", "a"], PLAIN);
    each.ok(&["run", "--no-reuse"]);
    assert_eq!(provider.count(), 4);
}

#[test]
fn rows_that_share_a_reply_do_not_wait_for_the_rate() {
    let provider = Provider::start(|_| Act::says("same"));
    let folder = project(&provider, &["a"; 200], PLAIN);
    // At one call a second, two hundred rows that waited like calls would take minutes.
    let mut run = folder.start(&["run", "--rpm", "60"]);
    for _ in 0..1000 {
        if run.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(run.try_wait().unwrap().is_some_and(|ended| ended.success()), "it waits for the rate");
    assert_eq!(provider.count(), 1);
    assert_eq!(folder.status()["requests"]["answered"], 200);
}

#[test]
fn equal_requests_share_a_final_failure_too() {
    let provider = Provider::start(|_| Act::error(400, "invalid_value", "no"));
    let folder = project(&provider, &["a", "a", "a"], PLAIN);
    folder.run(&["run"]).ends(3);
    assert_eq!(provider.count(), 1);
    assert_eq!(folder.status()["failures"], json!({"invalid_request": 3}));
}

#[test]
fn an_address_where_nobody_is_ends_the_run_and_says_so() {
    let provider = Provider::start(|_| Act::Close);
    let folder = project(&provider, &["a", "b"], PLAIN);
    let (_held, gone) = support::nobody();
    let said = folder.run(&["run", "--base-url", &gone]).ends(1);
    assert!(said.stderr.contains("nobody answers"), "{}", said.stderr);
    assert!(said.stderr.contains("refused"), "{}", said.stderr);
    assert_eq!(folder.ok(&["plan", "--json"]).json()["due"], 2);
}

#[test]
fn the_key_reaches_the_provider_and_nothing_else() {
    const KEY: &str = "sk-proj-verysecretkey0123456789";
    let provider = Provider::start(|request| match request.text().contains("bad") {
        true => Act::error(
            400,
            "invalid_value",
            &format!("you sent {}", request.headers["authorization"]),
        ),
        false => Act::says("fine"),
    });
    let folder = project(&provider, &["good", "bad"], PLAIN);
    folder.write(".env", format!("OPENAI_API_KEY={KEY}\n"));
    let said = folder.run(&["-vv", "run"]).ends(3);
    for request in provider.requests() {
        assert_eq!(request.headers["authorization"], format!("Bearer {KEY}"));
    }
    assert!(!said.stderr.contains("verysecretkey") && !said.stdout.contains("verysecretkey"));
    let file = std::fs::read(folder.file("overnight.db")).unwrap();
    assert!(!file.windows(13).any(|bytes| bytes == b"verysecretkey"));
    for command in [&["show", "#2"][..], &["show", "#2", "--reply"], &["show", "#2", "--json"]] {
        let said = folder.ok(command);
        assert!(!said.stdout.contains("verysecretkey"), "{said:?}");
    }
    assert!(folder.ok(&["show", "#2", "--reply"]).stdout.contains("[key]"));
}

#[test]
fn the_environment_wins_over_the_env_file() {
    let provider = Provider::start(|_| Act::says("fine"));
    let mut folder = project(&provider, &["a"], PLAIN);
    folder.write(".env", "OPENAI_API_KEY=from-the-file-000\n");
    folder.env("OPENAI_API_KEY", "from-the-environment");
    folder.ok(&["run"]);
    assert_eq!(provider.requests()[0].headers["authorization"], "Bearer from-the-environment");
}

#[test]
fn what_is_on_file_is_what_was_sent_and_what_came() {
    let provider = Provider::start(|_| Act::says("훌륭해요"));
    let folder = project(&provider, &["한국어 \"\"quoted\"\" 문장"], PLAIN);
    folder.ok(&["run"]);
    let sent = &provider.requests()[0];
    assert_eq!(sent.path, "/v1/chat/completions");
    assert_eq!(sent.headers["content-type"], "application/json");
    let shown = folder.command(&["show", "#1", "--request"]).output().unwrap();
    assert_eq!(shown.stdout, sent.body);
    let reply = folder.command(&["show", "#1", "--reply"]).output().unwrap();
    assert_eq!(reply.stdout, completion("훌륭해요", "stop").to_string().into_bytes());
    let trail = folder.ok(&["show", "#1", "--json"]).stdout;
    assert!(
        trail.contains("req_scripted") && trail.contains("served-model") && trail.contains("r1:")
    );
}

#[test]
fn responses_are_called_where_a_prompt_says_so() {
    let provider = Provider::start(|request| {
        assert_eq!(request.path, "/v1/responses");
        Act::json(
            200,
            &json!({
                "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed",
                "output": [
                    {"type": "reasoning", "id": "rs_1", "summary": []},
                    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                     "content": [{"type": "output_text", "text": "{\"label\":\"x\"}", "annotations": []}]},
                ],
                "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10,
                          "input_tokens_details": {"cached_tokens": 2},
                          "output_tokens_details": {"reasoning_tokens": 1}},
            }),
        )
    });
    let prompt = "---\nendpoint: responses\nmax_tokens: 100\nschema:\n  type: object\n  properties:\n    \
                  label: {type: string}\n  required: [label]\n  additionalProperties: false\n---\n{{ text }}";
    let folder = project(&provider, &["a"], &["--prompt", prompt]);
    folder.ok(&["run"]);
    let body = provider.requests()[0].json();
    assert_eq!(body["max_output_tokens"], 100);
    assert_eq!(body["text"]["format"]["type"], "json_schema");
    let status = folder.status();
    assert_eq!(
        status["tokens"],
        json!({"input": 7, "cached": 2, "cache_write": 0, "output": 3, "reasoning": 1})
    );
    folder.ok(&["export", "out.csv"]);
    assert_eq!(folder.read("out.csv"), "text,answer.label,state\na,x,answered\n");
}

#[test]
fn a_server_that_does_not_count_leaves_the_cost_unknown() {
    let provider = Provider::start(|_| {
        let mut reply = completion("fine", "stop");
        reply.as_object_mut().unwrap().remove("usage");
        Act::json(200, &reply)
    });
    let folder = project(&provider, &["a"], PLAIN);
    let said = folder.ok(&["run"]);
    assert!(said.stderr.contains("cost unknown"), "{}", said.stderr);
    assert_eq!(folder.status()["cost_usd"], Value::Null);
}

#[test]
fn a_limit_takes_up_so_many_and_the_rest_stays_due() {
    let provider = Provider::start(|_| Act::says("fine"));
    let folder = project(&provider, &["a", "b", "c", "d", "e"], PLAIN);
    folder.ok(&["run", "--limit", "2"]);
    assert_eq!(provider.count(), 2);
    let dry = folder.ok(&["run", "--dry-run", "--json"]).json();
    assert_eq!(dry["due"], 3);
    assert_eq!(provider.count(), 2);
    assert_eq!(folder.ok(&["plan", "--json"]).json()["due"], 3, "plan and run say the same");
}

#[test]
fn a_row_that_cannot_be_rendered_fails_alone() {
    let provider = Provider::start(|_| Act::says("fine"));
    let folder = Folder::new();
    folder.write("rows.jsonl", "{\"text\":\"a\",\"n\":{\"x\":1}}\n{\"text\":\"b\",\"n\":null}\n");
    let url = provider.base_url();
    folder.ok(&["init", "--prompt", "{{ text }} {{ n.x.y }}", "--model", "m", "--base-url", &url]);
    folder.ok(&["add", "rows.jsonl"]);
    folder.run(&["run"]).ends(3);
    assert_eq!(folder.status()["failures"], json!({"render_failed": 2}));
    assert_eq!(provider.count(), 0);
}

#[test]
fn a_second_run_is_refused_and_told_which_one_is_on() {
    let provider = Provider::start(|_| Act::Hang);
    let folder = project(&provider, &["a"], PLAIN);
    let mut first = folder.start(&["run"]);
    provider.wait_for(1);
    let said = folder.run(&["run"]).ends(1);
    assert!(said.stderr.contains(&format!("process {}", first.id())), "{}", said.stderr);
    let status = folder.status();
    assert_eq!((&status["running"], &status["requests"]["in_flight"]), (&json!(true), &json!(1)));
    folder.ok(&["export", "meanwhile.csv"]);
    assert_eq!(folder.read("meanwhile.csv"), "text,answer,state\na,,in_flight\n");
    first.kill().unwrap();
    first.wait().unwrap();
    let status = folder.status();
    assert_eq!((&status["running"], &status["requests"]["in_doubt"]), (&json!(false), &json!(1)));
    let held = folder.run(&["run", "--in-doubt=hold"]).ends(3);
    assert!(held.stderr.contains("in doubt"), "{}", held.stderr);
    assert_eq!(provider.count(), 1);
}

#[cfg(unix)]
#[test]
fn ctrl_c_lets_what_is_in_flight_land_and_the_next_run_goes_on() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static OPEN: AtomicBool = AtomicBool::new(false);
    let provider = Provider::start(|_| {
        while !OPEN.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Act::says("fine")
    });
    let rows: Vec<String> = (0..50).map(|row| format!("row {row}")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let folder = project(&provider, &rows, PLAIN);
    let mut run = folder.start(&["run", "--concurrency", "5"]);
    provider.wait_for(5);
    let killed = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status();
    assert!(killed.unwrap().success());
    // Only once the run has heard it may the replies come.
    let mut said = std::io::BufReader::new(run.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("interrupted")));
    OPEN.store(true, Ordering::SeqCst);
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert_eq!(run.wait().unwrap().code(), Some(130), "{rest:#?}");
    assert_eq!(provider.count(), 5, "nothing was sent after it");
    let status = folder.status();
    assert_eq!(
        (&status["requests"]["answered"], &status["requests"]["in_doubt"]),
        (&json!(5), &json!(0))
    );
    folder.ok(&["run"]);
    assert_eq!(provider.count(), 50);
}

#[test]
fn a_grown_table_asks_only_what_is_new_and_a_changed_row_is_asked_again() {
    let provider = Provider::start(|_| Act::says("fine"));
    let folder = Folder::new();
    let url = provider.base_url();
    folder.write("rows.csv", "id,text\n1,a\n2,b\n");
    folder.ok(&["init", "--prompt", "Say: {{ text }}", "--model", "m", "--base-url", &url]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.ok(&["run"]);
    folder.write("rows.csv", "id,text\n2,b\n1,changed\n3,c\n");
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.ok(&["run"]);
    let texts: Vec<String> = provider.requests()[2..].iter().map(support::Request::text).collect();
    let mut sorted = texts.clone();
    sorted.sort();
    assert_eq!(sorted, ["Say: c", "Say: changed"]);
    folder.ok(&["export", "out.csv"]);
    let out = folder.read("out.csv");
    assert_eq!(
        out,
        "id,text,answer,state\n1,changed,fine,answered\n2,b,fine,answered\n3,c,fine,answered\n"
    );
    let kept = query(&folder, "SELECT count(*) FROM attempt WHERE outcome = 'answered'");
    assert_eq!(kept, [vec![json!(4)]], "the old answer stays on record");
}

#[test]
fn a_new_prompt_version_is_due_and_the_old_answers_stay() {
    let provider = Provider::start(|request| Act::says(&request.text()));
    let folder = project(&provider, &["a"], PLAIN);
    folder.ok(&["run"]);
    folder.ok(&[
        "prompt",
        "add",
        "--text",
        "Shout: {{ text }}",
        "--name",
        "main",
        "--model",
        "gpt-4o-mini",
    ]);
    folder.ok(&[
        "prompt",
        "add",
        "--text",
        "Other: {{ text }}",
        "--name",
        "other",
        "--model",
        "gpt-4o-mini",
    ]);
    folder.ok(&["run"]);
    assert_eq!(provider.count(), 3);
    folder.ok(&["export", "out.csv"]);
    let out = folder.read("out.csv");
    assert_eq!(
        out,
        "text,main.answer,main.state,other.answer,other.state\na,Shout: a,answered,Other: a,answered\n"
    );
}
