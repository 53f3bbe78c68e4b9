//! `audit`: clean where nothing was touched, and whatever is touched is found and named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "the record is changed as any other program would")]

mod cells;
mod project;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use cells::{Outcome, audit_each, changes};

/// What audit cannot know, because nothing else on record says it: table, column, kind of change, and why.
const UNKNOWABLE: [(&str, &str, &str, &str); 29] = [
    (
        "attempt",
        "provider_request_id",
        "changed",
        "of a call it stood in the reply's head, which is not kept",
    ),
    (
        "attempt",
        "provider_request_id",
        "filled",
        "of a call it stood in the reply's head, which is not kept",
    ),
    (
        "attempt",
        "result_file",
        "changed",
        "a line may stand in either file; what is known is which files there are",
    ),
    (
        "attempt",
        "result_line",
        "changed",
        "lines without meaning are not kept, so numbers have gaps; no two are the same",
    ),
    (
        "attempt",
        "status_code",
        "changed",
        "of a call, another status that means the same reads the same",
    ),
    ("batch", "error", "filled", "the words of a provider, or ours for a person"),
    (
        "batch",
        "estimated_tokens",
        "changed",
        "a guess by which batches were packed; the tokens that count are the replies'",
    ),
    (
        "batch_status",
        "reply",
        "changed",
        "what nobody reads of a provider's object; what is read of it is held against the batch",
    ),
    ("migration", "program_version", "changed", "a note"),
    ("project", "max_attempts", "changed", "a setting; it decides what is due, not what was done"),
    (
        "prompt",
        "name",
        "changed",
        "a name; one that has several versions cannot be changed in one of them",
    ),
    (
        "request",
        "",
        "dropped",
        "the last one, if nothing was sent for it: its row is pending without it",
    ),
    (
        "row",
        "cells",
        "changed inside",
        "with a key column the other cells have no hash; those that a prompt uses are in its bodies",
    ),
    ("row", "line", "changed", "files have blank lines; what is known is the order"),
    ("run", "error", "filled", "words for a person"),
    ("run", "host", "changed", "a note"),
    ("run", "process_id", "changed", "a note"),
    (
        "run",
        "program_version",
        "changed",
        "a note, by which it is known whose words its errors are",
    ),
    ("run", "settings", "changed", "a note of how it was called"),
    ("source", "bytes", "changed", "the file is not kept"),
    ("source", "path", "changed", "the file is not kept"),
    ("source", "rows", "changed", "rows that were there already are not on record a second time"),
    ("source", "sha256", "changed", "the file is not kept"),
    ("stray_line", "", "dropped", "the last one: nothing counts them"),
    (
        "stray_line",
        "file",
        "changed",
        "a line may stand in either file; what is known is which files there are",
    ),
    (
        "stray_line",
        "number",
        "changed",
        "lines without meaning are not kept, so numbers have gaps; no two are the same",
    ),
    ("stray_line", "reply", "changed", "what nobody reads of it"),
    ("batch", "input_file_id", "changed", "not every provider repeats it in its batch"),
    (
        "attempt",
        "reply",
        "changed",
        "what nobody reads of it, such as its own time; there is no hash of a reply",
    ),
];

/// Tables that are no evidence: what is in them is forgotten by itself.
const NO_EVIDENCE: [&str; 1] = ["queue_limit"];

/// Changes that a record may hold unnoticed, though not in this one.
const ELSEWHERE: [(&str, &str); 2] = [("batch", "input_file_id"), ("attempt", "reply")];

#[test]
fn whatever_cell_is_changed_is_found() {
    let folder = project::eventful();
    let said = folder.run(&["audit"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let changes = changes(&folder.file("overnight.db"));
    let outcomes = audit_each(&folder, &changes);
    assert!(outcomes.len() > 500, "{}", outcomes.len());
    let mut wrong: Vec<String> = Vec::new();
    let mut unnoticed = BTreeSet::new();
    let mut touched = BTreeSet::new();
    for Outcome { change, code, checks } in &outcomes {
        let what = (change.table.as_str(), change.column.as_str(), change.kind);
        touched.insert((change.table.as_str(), change.column.as_str()));
        let is_known =
            UNKNOWABLE.iter().any(|(table, column, kind, _)| (*table, *column, *kind) == what);
        match code {
            Some(3) if !checks.is_empty() => {}
            Some(0) if is_known => drop(unnoticed.insert(what)),
            Some(0) if NO_EVIDENCE.contains(&what.0) => {}
            other => wrong.push(format!("{what:?} {other:?} {checks:?}")),
        }
    }
    assert!(wrong.is_empty(), "not found:\n{}", wrong.join("\n"));
    let stale: Vec<_> = UNKNOWABLE
        .iter()
        .filter(|(table, column, kind, _)| {
            !unnoticed.contains(&(*table, *column, *kind))
                && !ELSEWHERE.contains(&(*table, *column))
        })
        .collect();
    assert!(stale.is_empty(), "found after all: {stale:?}");
    every_column_is_touched(&changes, &touched);
}

/// A column that no row of this project fills is tried by filling it; one that cannot be tried at all is a hole.
fn every_column_is_touched(changes: &[cells::Change], touched: &BTreeSet<(&str, &str)>) {
    let all: BTreeSet<(&str, &str)> =
        changes.iter().map(|change| (change.table.as_str(), change.column.as_str())).collect();
    let untouched: Vec<_> = all.difference(touched).collect();
    // A second project, and a primary key of a table whose rows name each other, are refused by the schema itself.
    assert!(
        untouched.iter().all(|(table, column)| (*table, *column) == ("project", "id")),
        "{untouched:?}"
    );
}
