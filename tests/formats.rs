//! Project files of every format there was: each opens, is shown, is exported and goes on, and a newer one is refused.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "the record is looked at as any other program would"
)]

mod support;

use std::path::Path;

use rusqlite::Connection;
use serde_json::json;
use sha2::{Digest, Sha256};
use support::batches::runs::query;
use support::{Act, Folder, Provider, Request, completion};

/// A new project, with nothing in it but a prompt over the column `text`.
fn new_project() -> Folder {
    let folder = Folder::new();
    folder.ok(&["init", "--model", "gpt-4o-mini", "--prompt", "Say: {{ text }}"]);
    folder
}

fn open(folder: &Folder) -> Connection {
    Connection::open(folder.file("overnight.db")).unwrap()
}

#[test]
fn can_handle_future_schema() {
    let folder = new_project();
    folder.write("a.csv", "text\na\n").ok(&["add", "a.csv"]);
    open(&folder).execute_batch("PRAGMA user_version = 5").unwrap();
    let before = std::fs::read(folder.file("overnight.db")).unwrap();
    let commands: [&[&str]; 9] = [
        &["add", "a.csv"],
        &["run"],
        &["run", "--dry-run"],
        &["plan"],
        &["status"],
        &["show", "#1"],
        &["export", "-"],
        &["retry", "--failed"],
        &["cancel", "--all"],
    ];
    for args in commands {
        let said = folder.run(args).ends(1);
        assert!(said.stdout.is_empty(), "{said:?}");
        let words = "overnight.db has format 5, this overnight knows formats up to 4";
        assert!(said.stderr.contains(words), "{said:?}");
        assert!(said.stderr.contains("hint: a newer overnight made it"), "{said:?}");
        assert!(std::fs::read(folder.file("overnight.db")).unwrap() == before, "{args:?}");
        assert_eq!(folder.names(), ["a.csv", "overnight.db"], "{args:?}");
    }
}

/// Puts a project file of an older program into a folder.
fn old_project(name: &str) -> (Folder, String) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/projects");
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", "test");
    std::fs::copy(fixtures.join(name).with_extension("db"), folder.file("overnight.db")).unwrap();
    (folder, std::fs::read_to_string(fixtures.join(name).with_extension("csv")).unwrap())
}

/// Demands that the file is sound, and what its requests cache adds up.
fn is_sound(folder: &Folder) {
    let told = folder.run(&["audit", "--json"]).json();
    let of_sums = |finding: &&serde_json::Value| finding["check"] == "sums";
    let wrong: Vec<_> = told["findings"].as_array().unwrap().iter().filter(of_sums).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(query(folder, "PRAGMA integrity_check"), [["ok"]]);
    assert!(query(folder, "PRAGMA foreign_key_check").is_empty());
    let wrong = query(
        folder,
        "SELECT request.id FROM request LEFT JOIN attempt ON attempt.request_id = request.id GROUP BY request.id
         HAVING request.attempts <> count(attempt.id)
             OR request.output_tokens <> coalesce(sum(attempt.output_tokens), 0)
             OR request.cost_nanousd IS NOT sum(attempt.cost_nanousd)
         UNION ALL
         SELECT request.id FROM request JOIN attempt ON attempt.id = request.attempt_id
         WHERE request.state IN ('answered', 'truncated', 'failed') AND request.state IS NOT attempt.outcome
         UNION ALL
         SELECT id FROM batch WHERE requests <> (SELECT count(*) FROM attempt WHERE batch_id = batch.id)",
    );
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_project_of_format_1_opens_forever() {
    let (folder, expected) = old_project("format-1");
    let status = folder.status();
    assert_eq!(
        status["requests"],
        json!({"pending": 2, "in_flight": 0, "in_batch": 0, "in_doubt": 1, "answered": 7,
               "truncated": 3, "failed": 1, "total": 14})
    );
    assert_eq!(status["failures"], json!({"context_too_long": 1}));
    assert_eq!((&status["rows"], &status["attempts"]), (&json!(7), &json!(20)));
    assert_eq!(status["tokens"]["input"], 224);
    assert_eq!(folder.ok(&["export", "-"]).stdout, expected);
    fingerprint_stands(&folder, "k02", "label");
    let reply = folder.ok(&["show", "k01", "--prompt", "note", "--reply"]);
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "한마디로 조용한 흐름 중심의 글");
    is_sound(&folder);
}

/// Demands that a row's request has the fingerprint of its bytes.
fn fingerprint_stands(folder: &Folder, row: &str, prompt: &str) {
    let shown = folder.ok(&["show", row, "--prompt", prompt, "--json"]).json().to_string();
    let body = folder.command(&["show", row, "--prompt", prompt, "--request"]).output().unwrap();
    let hex = |text: String, byte: &u8| text + &format!("{byte:02x}");
    let fingerprint = Sha256::digest(&body.stdout).iter().fold("r1:".to_owned(), hex);
    assert!(shown.contains(&fingerprint), "{shown}");
}

#[test]
fn a_project_of_format_1_goes_on_where_it_stopped() {
    let (folder, _) = old_project("format-1");
    let provider = Provider::start(|_| Act::says(r#"{"answer":"good"}"#));
    folder.run(&["run", "--base-url", &provider.base_url()]).ends(3);
    assert_eq!(provider.count(), 3, "two were pending and one in doubt");
    let requests = folder.status()["requests"].clone();
    let counts = ["answered", "truncated", "failed", "pending"].map(|word| requests[word].clone());
    assert_eq!(counts, [json!(10), json!(3), json!(1), json!(0)]);
    folder.write("rows.csv", "id,text,\"two words\"\nk03,the same,c\nk10,tenth,j\n");
    let said = folder.ok(&["add", "rows.csv", "--key", "id"]);
    assert!(said.stderr.contains("1 row added, 1 there already"), "{said:?}");
    is_sound(&folder);
}

#[test]
fn a_project_of_format_2_opens_forever() {
    let (folder, expected) = old_project("format-2");
    let status = folder.status();
    assert_eq!(
        status["requests"],
        json!({"pending": 4, "in_flight": 0, "in_batch": 2, "in_doubt": 0, "answered": 9,
               "truncated": 2, "failed": 1, "total": 18})
    );
    assert_eq!(status["failures"], json!({"context_too_long": 1}));
    assert_eq!((&status["rows"], &status["attempts"]), (&json!(9), &json!(34)));
    assert_eq!(status["tokens"]["input"], 2000);
    let batch = |batch: &serde_json::Value| {
        [&batch["provider_id"], &batch["status"], &batch["requests"]]
            .map(ToString::to_string)
            .join(" ")
    };
    let batches: Vec<String> = status["batches"].as_array().unwrap().iter().map(batch).collect();
    let wanted = [
        r#""batch_000001" "collected" 7"#,
        r#""batch_000002" "collected" 1"#,
        r#""batch_000003" "collected" 8"#,
        r#""batch_000004" "collected" 3"#,
        r#""batch_000005" "in_progress" 2"#,
    ];
    assert_eq!(batches, wanted);
    assert_eq!(folder.ok(&["export", "-"]).stdout, expected);
    fingerprint_stands(&folder, "k03", "note");
    let line = folder.ok(&["show", "k03", "--prompt", "note", "--reply"]).json();
    let answer = &line["response"]["body"]["choices"][0]["message"]["content"];
    assert_eq!(answer, "한마디로 조용한 글", "the reply is the batch's own line");
    assert_eq!(query(&folder, "SELECT tokens FROM queue_limit"), [["80"]]);
    let strays = query(&folder, "SELECT why, file, number FROM stray_line ORDER BY 1");
    assert_eq!(
        strays,
        [["doubled", "output", "2"], ["garbled", "output", "7"], ["unknown", "error", "2"]]
    );
    is_sound(&folder);
}

#[test]
fn a_project_of_format_3_opens_forever() {
    let (folder, expected) = old_project("format-3");
    let status = folder.status();
    assert_eq!(
        status["requests"],
        json!({"pending": 2, "in_flight": 0, "in_batch": 0, "in_doubt": 2, "answered": 20,
               "truncated": 0, "failed": 0, "total": 24})
    );
    assert_eq!((&status["rows"], &status["attempts"]), (&json!(12), &json!(23)));
    let told =
        ["cost_usd", "reserved_usd", "perhaps_billed_usd"].map(|key| status[key].to_string());
    assert_eq!(told, ["0.00039566", "0.0", "0.0008128"]);
    assert_eq!(status["perhaps_billed_attempts"], 3);
    assert_eq!(folder.ok(&["export", "-"]).stdout, expected);
    fingerprint_stands(&folder, "k03", "note");
    let prices = folder.ok(&["price"]).stdout;
    assert!(prices.contains("set here on") && prices.contains("a file given on"), "{prices}");
    let rates = query(&folder, "SELECT requests_per_minute, tokens_per_minute FROM rate_limit");
    assert_eq!(rates, [["600", ""], ["600", ""]]);
    // What was set aside in it counts against a ceiling of today.
    let provider = Provider::start(|_| Act::says("good"));
    let url = provider.base_url();
    folder.run(&["run", "--base-url", &url, "--max-cost", "0.0012"]).ends(5);
    assert_eq!(provider.count(), 0);
    is_sound(&folder);
}

#[test]
fn a_project_of_format_4_opens_forever() {
    let (folder, expected) = old_project("format-4");
    let status = folder.status();
    assert_eq!(
        status["requests"],
        json!({"pending": 7, "in_flight": 0, "in_batch": 0, "in_doubt": 1, "answered": 16,
               "truncated": 0, "failed": 0, "total": 24})
    );
    assert_eq!((&status["rows"], &status["attempts"]), (&json!(12), &json!(15)));
    let told = ["cost_usd", "reserved_usd"].map(|key| status[key].to_string());
    assert_eq!(told, ["0.000111675", "0.0098454"]);
    assert_eq!(folder.ok(&["export", "-"]).stdout, expected);
    fingerprint_stands(&folder, "k05", "label");
    // A row that came back is before the rows that are known to have been asked for, and has no request of the newer prompt.
    let provider = Provider::start(|_| Act::says("good"));
    folder.ok(&["run", "--base-url", &provider.base_url()]);
    assert_eq!(provider.count(), 8, "seven were pending and one in doubt");
    assert_eq!(folder.status()["requests"]["answered"], 24);
    is_sound(&folder);
}

/// The provider of the batch that the file left in progress; its results come in no order.
fn provider_of_the_batch(custom_ids: Vec<String>) -> Provider {
    Provider::start(move |request: &Request| {
        let line = |custom_id: &String| {
            let body = completion("한마디로 끝", "stop");
            json!({"id": "batch_req_1", "custom_id": custom_id, "error": null,
                   "response": {"status_code": 200, "request_id": "req_1", "body": body}})
            .to_string()
                + "\n"
        };
        match request.path.trim_start_matches("/v1/") {
            "batches/batch_000005" => Act::json(
                200,
                &json!({"id": "batch_000005", "object": "batch", "endpoint": "/v1/chat/completions",
                        "input_file_id": "file-000005", "completion_window": "24h", "status": "completed",
                        "created_at": 1, "output_file_id": "file-results", "error_file_id": null}),
            ),
            "files/file-results/content" => {
                let lines: String = custom_ids.iter().rev().map(line).collect();
                Act::Reply(200, Vec::new(), lines.into_bytes())
            }
            "chat/completions" => Act::says(r#"{"answer":"good"}"#),
            _ => Act::error(404, "not_found", "there is no such thing"),
        }
    })
}

/// Starts that provider where this test can be one, and moves the project there.
fn moved_provider(folder: &Folder) -> Provider {
    let open_lines = query(
        folder,
        "SELECT token || '-' || attempt.id FROM attempt JOIN batch ON batch.id = batch_id WHERE outcome IS NULL",
    );
    let provider = provider_of_the_batch(open_lines.concat());
    let moved = "UPDATE project SET base_url = ?1; UPDATE batch SET server = ?1; UPDATE queue_limit SET server = ?1";
    for sql in moved.split(';') {
        open(folder).execute(sql, [provider.base_url()]).unwrap();
    }
    provider
}

#[test]
fn what_a_batch_brings_is_kept_whatever_has_left_the_table_in_the_meantime() {
    let (folder, _) = old_project("format-2");
    let provider = moved_provider(&folder);
    folder.ok(&["remove", "k10"]);
    folder.write("rows.csv", "id,text,\"two words\"\nk09,has changed again,i\n");
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.ok(&[
        "prompt",
        "add",
        "--name",
        "note",
        "--model",
        "gpt-4o-mini",
        "--text",
        "{{ text }}",
    ]);
    let spent = folder.status()["tokens"]["input"].as_u64().unwrap();
    folder.run(&["run", "--poll", "20ms"]).ends(3);
    let kept = "SELECT outcome, answer FROM attempt WHERE batch_id = 5";
    assert_eq!(query(&folder, kept), [["answered", "한마디로 끝"], ["answered", "한마디로 끝"]]);
    assert_eq!(query(&folder, "SELECT status FROM batch WHERE id = 5"), [["collected"]]);
    let calls = provider.requests();
    let chats = calls.iter().filter(|call| call.path == "/v1/chat/completions").count() as u64;
    let now = folder.status()["tokens"]["input"].as_u64().unwrap();
    assert_eq!(now - spent, 100 * (chats + 2), "it was paid for, and is counted");
    is_sound(&folder);
}

#[test]
fn a_project_of_format_2_goes_on_where_it_stopped() {
    let (folder, _) = old_project("format-2");
    let provider = moved_provider(&folder);
    folder.run(&["run", "--poll", "20ms"]).ends(3);
    let calls = provider.requests();
    let chats = calls.iter().filter(|call| call.path == "/v1/chat/completions").count();
    assert_eq!(chats, 4, "what was pending; what is in the batch is not sent again");
    let requests = folder.status()["requests"].clone();
    let counts = ["answered", "truncated", "failed", "in_batch"].map(|word| requests[word].clone());
    assert_eq!(counts, [json!(15), json!(2), json!(1), json!(0)]);
    let late = query(
        &folder,
        "SELECT answer FROM answers WHERE route = 'batch' AND key IN ('k09', 'k10')",
    );
    assert_eq!(late, [["한마디로 끝"], ["한마디로 끝"]]);
    let before = provider.count();
    folder.run(&["run"]).ends(3);
    assert_eq!(provider.count(), before, "nothing is left");
    is_sound(&folder);
}

#[test]
fn an_old_file_becomes_what_a_new_one_is() {
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2";
    let columns = "SELECT entry.name, field.cid, field.name, field.type, field.\"notnull\", field.dflt_value
                   FROM sqlite_schema AS entry JOIN pragma_table_info(entry.name) AS field ORDER BY 1, 2";
    let applied = "SELECT version, name FROM migration ORDER BY 1";
    let new = new_project();
    assert_eq!(
        query(&new, applied),
        [["1", "first_format"], ["2", "batches"], ["3", "money"], ["4", "scale"]]
    );
    for name in ["format-1", "format-2", "format-3", "format-4"] {
        let (old, _) = old_project(name);
        old.ok(&["status"]);
        for sql in [schema, columns, applied, "PRAGMA user_version", "PRAGMA application_id"] {
            assert_eq!(query(&old, sql), query(&new, sql), "{name}");
        }
    }
}

/// What a person looks at, none of which needs to write.
const LOOKS: [&[&str]; 11] = [
    &["status", "--json"],
    &["export", "-"],
    &["export", "-", "--details"],
    &["export", "-", "--long", "--only", "answered"],
    &["show", "k02", "--prompt", "label"],
    &["show", "k03", "--prompt", "note", "--json"],
    &["show", "#1", "--prompt", "label", "--reply"],
    &["prompt", "list"],
    &["run", "--dry-run", "--route", "batch"],
    &["plan"],
    &["run", "--dry-run"],
];

fn set_read_only(folder: &Folder, is_read_only: bool) {
    for path in [folder.file("overnight.db"), folder.path().to_owned()] {
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let writes = if is_read_only { 0 } else { 0o200 };
            permissions.set_mode(permissions.mode() & !0o222 | writes);
        }
        #[cfg(not(unix))]
        permissions.set_readonly(is_read_only);
        std::fs::set_permissions(&path, permissions).unwrap();
    }
}

#[test]
fn a_read_only_file_of_any_format_is_read_as_it_stands() {
    for name in ["format-1", "format-2", "format-3", "format-4"] {
        let (held, expected) = old_project(name);
        let (free, _) = old_project(name);
        let before = std::fs::read(held.file("overnight.db")).unwrap();
        set_read_only(&held, true);
        for args in LOOKS {
            let (seen, wanted) = (held.run(args).ends(0), free.run(args).ends(0));
            match args {
                // The one thing that differs: which format it is of.
                ["status", ..] => assert_eq!(seen.json()["requests"], wanted.json()["requests"]),
                _ => assert_eq!(
                    (seen.stdout, seen.stderr),
                    (wanted.stdout, wanted.stderr),
                    "{args:?}"
                ),
            }
            assert_eq!(held.names(), ["overnight.db"], "{args:?}");
        }
        assert_eq!(held.ok(&["export", "-"]).stdout, expected);
        for args in [&["run"][..], &["remove", "k01"], &["retry", "--failed"]] {
            let said = held.run(args).ends(1);
            assert!(
                said.stderr.contains("cannot be written: the file or its folder is read-only"),
                "{said:?}"
            );
        }
        assert!(std::fs::read(held.file("overnight.db")).unwrap() == before);
        // Nothing that was made by looking is in the way once it may be written again.
        set_read_only(&held, false);
        held.ok(&["remove", "k01"]);
        assert_eq!(held.names(), ["overnight.db"]);
        is_sound(&held);
    }
}
