//! The format of the file, held against the words of the program.

use rusqlite::Connection;

use super::*;
use crate::domain::{FailureClass, HowEnded, Outcome, Problem, Route, State};

/// The words that a CHECK of the form `column IN ('a', 'b')` allows.
fn allowed(conn: &Connection, table: &str, column: &str) -> Vec<String> {
    let sql: String = conn
        .query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0))
        .unwrap();
    let start = sql.find(&format!("CHECK ({column} IN (")).unwrap();
    let list = &sql[start..];
    let list = &list[..list.find("))").unwrap()];
    list.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

fn outcome_words() -> Vec<&'static str> {
    let of = |outcome: Outcome| match outcome {
        Outcome::Answered | Outcome::Truncated | Outcome::Failed(_) | Outcome::InDoubt => {
            outcome.as_str()
        }
    };
    let failed = Outcome::Failed(FailureClass::Timeout);
    [Outcome::Answered, Outcome::Truncated, failed, Outcome::InDoubt].map(of).to_vec()
}

#[test]
fn the_checks_of_the_file_are_the_words_of_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let store = project(&dir);
    let conn = &store.conn;
    assert_eq!(allowed(conn, "request", "state"), State::WORDS);
    assert_eq!(allowed(conn, "attempt", "outcome"), outcome_words());
    let routes = [Route::Realtime, Route::Batch].map(Route::as_str);
    assert_eq!(allowed(conn, "attempt", "route"), routes);
    let endpoints = [Endpoint::ChatCompletions, Endpoint::Responses].map(Endpoint::as_str);
    assert_eq!(allowed(conn, "prompt", "endpoint"), endpoints);
    assert_eq!(
        allowed(conn, "batch", "status"),
        [
            "planned",
            "uploading",
            "uploaded",
            "creating",
            "created",
            "validating",
            "in_progress",
            "finalizing",
            "cancelling",
            "completed",
            "failed",
            "expired",
            "cancelled",
            "collecting",
            "collected",
        ]
    );
}

#[test]
fn every_way_in_which_a_run_ends_can_be_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = project(&dir);
    let problems = [
        Problem::Interrupted,
        Problem::Provider { class: FailureClass::Unauthorized, message: String::new() },
        Problem::Record { error: String::new() },
    ];
    let ways = problems.map(HowEnded::Stopped);
    let words = ways.iter().chain(&[HowEnded::Done, HowEnded::SomeFailed]).map(HowEnded::as_str);
    for word in words {
        let run = start_run(&mut store);
        store.end_run(run, UnixMs(9), word, None).unwrap();
        let (_, ended) = store.last_run().unwrap().unwrap().ended.unwrap();
        assert_eq!(ended, word);
    }
    start_run(&mut store);
    let second = start_run(&mut store);
    let ended = |store: &Store, run: RunId| -> Option<String> {
        let sql = "SELECT ended FROM run WHERE id = ?1";
        store.conn.query_row(sql, [run.0], |row| row.get(0)).unwrap()
    };
    assert_eq!(ended(&store, RunId(second.0 - 1)).as_deref(), Some("crashed"));
    assert_eq!(ended(&store, second), None);
}

#[test]
fn every_table_is_strict() {
    let dir = tempfile::tempdir().unwrap();
    let store = project(&dir);
    let tables: Vec<(String, bool)> = store
        .conn
        .prepare("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "attempt",
        "batch",
        "batch_status",
        "dictionary",
        "migration",
        "project",
        "prompt",
        "request",
        "row",
        "run",
        "source",
    ];
    assert_eq!(names, expected);
    for (name, is_strict) in &tables {
        assert!(is_strict, "{name}");
    }
}

#[test]
fn a_commit_that_returned_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let created = project(&dir);
    let path = created.path().to_owned();
    for store in [created, Store::open(&path, UnixMs(2)).unwrap()] {
        let ask = |pragma: &str| -> String {
            let sql = format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}");
            store.conn.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(ask("journal_mode"), "wal");
        assert_eq!(ask("synchronous"), "2", "FULL");
        assert_eq!(ask("foreign_keys"), "1");
    }
}

#[test]
fn a_connection_for_reading_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = project(&dir).path().to_owned();
    let mut store = Store::open_to_read(&path, UnixMs(2)).unwrap();
    let facts = RunFacts {
        started_at: UnixMs(4),
        settings_json: "{}".to_owned(),
        process_id: 1,
        host: String::new(),
    };
    assert!(store.start_run(&facts).is_err());
}
