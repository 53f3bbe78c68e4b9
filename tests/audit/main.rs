//! `audit`: clean where nothing was touched, and whatever is touched is found and named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "the record is changed as any other program would")]

mod cells;
mod project;
#[path = "../support/mod.rs"]
mod support;
#[path = "../transcript/mod.rs"]
mod transcript;

use std::collections::BTreeSet;
use std::path::Path;

use cells::{Outcome, audit_each, changes};
use rusqlite::Connection;
use serde_json::json;
use support::Folder;
use transcript::{settled, transcript};

/// What audit cannot know, because nothing else on record says it: the cell, the kind of change, and why.
/// A line with a star may be noticed in the project of these tests.
const UNKNOWABLE: &str = "\
attempt.error changed *: of a call without a reply, the system's own words
attempt.provider_request_id changed: of a call, it stood in the reply's head, which is not kept
attempt.provider_request_id filled *: of a call, it stood in the reply's head, which is not kept
attempt.provider_request_id emptied *: of a call, as above
attempt.reserved_nanousd changed: a sum set aside; what its attempt has cost is known, or will be
attempt.reserved_nanousd emptied: a sum set aside; those of older formats have none
attempt.reserved_nanousd filled: a sum set aside; those of older formats have none
attempt.reply changed *: what nobody reads of it, such as its own time; there is no hash of a reply
attempt.result_file changed *: a line may stand in either file; it is known which files there are
attempt.result_line changed *: lines without meaning are not kept, so numbers have gaps; no two are the same
attempt.status_code changed: of a call, another status that means the same reads the same
batch.error filled: the words of a provider, or ours for a person
batch.estimated_tokens changed: a guess by which batches were packed; those that count are the replies'
batch.input_file_id changed *: not every provider repeats it in its batch
batch_status.reply changed *: what nobody reads of it; what is read is held against the batch
migration.program_version changed: a note
project.max_attempts changed: a setting; it decides what is due, not what was done
prompt.asked_upto changed *: too low, it costs a run some time and hides nothing
prompt.name changed *: a name; of one with several versions it is noticed
request. dropped *: the last one, if nothing was sent for it: its row is pending without it
row.cells changed inside: with a key column, cells that no prompt names have no hash
row.line changed *: files have blank lines; the order is known
run.error filled: words for a person
run.host changed: a note
run.process_id changed: a note
run.program_version changed: a note, by which it is known whose words its errors are
run.settings changed: a note of how it was called
source.bytes changed: the file is not kept
source.columns changed *: of JSON Lines, a column may stand only in rows that were there already
source.path changed: the file is not kept
source.rows changed: rows that were there already are not on record a second time
source.sha256 changed: the file is not kept
stray_line. dropped *: the last one: nothing counts them
stray_line.file changed *: a line may stand in either file; it is known which files there are
stray_line.number changed *: lines without meaning are not kept, so numbers have gaps; no two are the same
stray_line.reply changed *: what nobody reads of it";

/// What is forgotten by itself is no evidence.
const NO_EVIDENCE: [&str; 3] = ["price", "queue_limit", "rate_limit"];

#[test]
fn whatever_cell_is_changed_is_found() {
    let folder = project::eventful();
    let said = folder.run(&["audit"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let changes = changes(&folder.file("overnight.db"));
    let outcomes = audit_each(&folder, &changes);
    assert!(outcomes.len() > 300, "{}", outcomes.len());
    let unknowable: Vec<(&str, bool)> = UNKNOWABLE.lines().map(known).collect();
    let (mut wrong, mut unnoticed) = (Vec::new(), BTreeSet::new());
    for Outcome { change, code, checks } in &outcomes {
        let what = format!("{}.{} {}", change.table, change.column, change.kind);
        match code {
            Some(3) if !checks.is_empty() => {}
            Some(0) if unknowable.iter().any(|(known, _)| *known == what) => {
                unnoticed.insert(what);
            }
            Some(0) if NO_EVIDENCE.contains(&change.table.as_str()) => {}
            other => wrong.push(format!("{what}: {other:?} {checks:?}")),
        }
    }
    assert!(wrong.is_empty(), "not found:\n{}", wrong.join("\n"));
    let stale =
        |(what, may_be_noticed): &&(&str, bool)| !may_be_noticed && !unnoticed.contains(*what);
    let stale: Vec<_> = unknowable.iter().filter(stale).collect();
    assert!(stale.is_empty(), "found after all: {stale:?}");
    every_column_is_touched(&folder, &outcomes);
}

/// Returns the change of a line above, and whether it may be noticed.
fn known(line: &str) -> (&str, bool) {
    let (what, _) = line.split_once(": ").unwrap();
    (what.trim_end_matches(" *"), what.ends_with('*'))
}

/// A column that cannot be tried at all would be a hole.
fn every_column_is_touched(folder: &Folder, outcomes: &[Outcome]) {
    let touched: BTreeSet<String> = outcomes
        .iter()
        .map(|outcome| format!("{}.{}", outcome.change.table, outcome.change.column))
        .collect();
    let mut all = BTreeSet::new();
    let conn = Connection::open(folder.file("overnight.db")).unwrap();
    for table in cells::tables(&folder.file("overnight.db")) {
        let mut query = conn.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
        let names = query.query_map([&table], |row| row.get::<_, String>(0)).unwrap();
        all.extend(names.map(|name| format!("{table}.{}", name.unwrap())));
    }
    let untouched: Vec<_> = all
        .difference(&touched)
        .filter(|name| !NO_EVIDENCE.iter().any(|table| name.starts_with(table)))
        .collect();
    assert!(untouched.is_empty(), "never changed: {untouched:?}");
}

/// A project of a few rows in which all is as it should be, and always the same.
fn small() -> Folder {
    let mut folder = Folder::new();
    folder.env("OVERNIGHT_SIMULATE", "--seed 1 --faults length=tries:1");
    folder.write("rows.csv", "id,text\na,one\nb,two\nc,three\n");
    folder.write("p.prompt", "---\nmodel: simulated/small\nmax_tokens: 8\n---\nSay {{ text }}\n");
    folder.ok(&["init", "--prompt", "p.prompt"]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.run(&["run", "--concurrency", "1", "-q"]);
    folder
}

fn change(folder: &Folder, sql: &str) {
    let conn = Connection::open(folder.file("overnight.db")).unwrap();
    conn.execute_batch(sql).unwrap();
}

#[test]
fn the_report_reads_well() {
    let folder = small();
    let clean = transcript(&folder, &[&["audit"]]);
    change(
        &folder,
        "UPDATE attempt SET answer = 'something else' WHERE id = 6;
         UPDATE request SET output_tokens = output_tokens + 1 WHERE id = 2;
         UPDATE row SET cells = replace(cells, 'three', 'four') WHERE key = 'c';
         UPDATE request SET fingerprint = zeroblob(32) WHERE id = 1;",
    );
    let changed = transcript(&folder, &[&["audit"], &["audit", "-q"]]);
    settled().bind(|| insta::assert_snapshot!("audit_pages", clean + &changed));
}

#[test]
fn a_script_reads_what_where_and_how_many() {
    let folder = small();
    let told = folder.ok(&["audit", "--json"]).json();
    assert_eq!(
        (&told["ok"], &told["format"], &told["findings"]),
        (&json!(true), &json!(4), &json!([]))
    );
    assert_eq!(told["checked"]["rows"], 3);
    assert_eq!(told["checked"]["replies"], told["checked"]["attempts"]);
    change(&folder, "UPDATE request SET fingerprint = zeroblob(32) WHERE id = 2");
    let told = folder.run(&["audit", "--json"]).ends(3).json();
    assert_eq!((&told["ok"], &told["findings_total"]), (&json!(false), &json!(1)));
    let wanted = json!([{
        "check": "fingerprint", "request": 2, "attempt": null, "batch": null, "row": {"position": 2, "key": "b"},
        "prompt": "p@1", "message": "its body is not the one that was fingerprinted"
    }]);
    assert_eq!(told["findings"], wanted);
}

#[test]
fn what_was_bought_again_unasked_is_a_breach_and_asked_for_is_none() {
    let folder = small();
    folder.ok(&["retry", "--rows", "a"]);
    folder.ok(&["run", "-q"]);
    let told = folder.ok(&["audit", "--json"]).json();
    assert_eq!(told["double_buys"]["asked_again"]["requests"], 1);
    change(&folder, "UPDATE request SET asked_at_ms = NULL WHERE id = 1");
    let told = folder.run(&["audit", "--json"]).ends(3).json();
    let resent =
        told["findings"].as_array().unwrap().iter().filter(|found| found["check"] == "resent");
    assert_eq!(resent.count(), 1, "{told:#}");
}

#[test]
fn projects_of_every_format_hold_and_stay_as_they_are() {
    for name in ["format-1", "format-2", "format-3"] {
        let folder = Folder::new();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/projects").join(name);
        let before = std::fs::read(fixture.with_extension("db")).unwrap();
        folder.write("overnight.db", &before);
        folder.ok(&["audit"]);
        assert!(
            std::fs::read(folder.file("overnight.db")).unwrap() == before,
            "{name} was changed"
        );
        assert_eq!(folder.names(), ["overnight.db"]);
        let mut permissions = std::fs::metadata(folder.file("overnight.db")).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(folder.file("overnight.db"), permissions).unwrap();
        folder.ok(&["audit"]);
        assert_eq!(folder.names(), ["overnight.db"]);
    }
}

#[test]
fn a_damaged_file_is_told_of_and_nothing_breaks_off() {
    let folder = small();
    let sound = std::fs::read(folder.file("overnight.db")).unwrap();
    let (mut found, mut refused) = (0, 0);
    // Every part of the file, page after page: eight bytes are turned over.
    for at in (24..sound.len() - 8).step_by(611) {
        let mut bytes = sound.clone();
        bytes[at..at + 8].iter_mut().for_each(|byte| *byte = !*byte);
        let said = check_damaged(&folder, &bytes);
        found += u32::from(said == 3);
        refused += u32::from(said == 1);
    }
    for length in [sound.len() - 1, sound.len() - 4096, sound.len() / 2, 4096, 100] {
        assert_ne!(check_damaged(&folder, &sound[..length]), 0, "{length} bytes");
    }
    assert!(found > 10, "{found} were found, {refused} could not be read at all");
}

/// Audits these bytes, and returns the exit code, which must be one of ours.
fn check_damaged(folder: &Folder, bytes: &[u8]) -> i32 {
    folder.write("damaged.db", bytes);
    let said = folder.run(&["-p", "damaged.db", "audit", "--json"]);
    let code = said.code.unwrap();
    match code {
        0 => assert_eq!(said.json()["ok"], true),
        3 => assert!(said.json()["findings_total"].as_u64().unwrap() > 0),
        1 => assert!(said.stderr.starts_with("error: "), "{said:?}"),
        other => panic!("{other}: {said:#?}"),
    }
    assert!(!said.stderr.contains("panicked"), "{said:#?}");
    code
}
