//! The format of the file, held against the words of the program.

use rusqlite::Connection;

use std::path::{Path, PathBuf};

use super::*;
use crate::domain::{
    BatchEnd, BatchStatus, FailureClass, HowEnded, NanoUsd, Outcome, PriceOrigin, Problem, Route,
    State,
};
use crate::store::{ResultFile, Stray, migrate};

/// The words that a CHECK of the form `column IN ('a', 'b')`, or `column = 'a' OR column = 'b'`, allows.
fn allowed(conn: &Connection, table: &str, column: &str) -> Vec<String> {
    let sql: String = conn
        .query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0))
        .unwrap();
    let forms = [format!("CHECK ({column} IN ("), format!("CHECK ({column} = ")];
    let start = forms.iter().find_map(|form| sql.find(form)).unwrap();
    let list = &sql[start..];
    let list = &list[..list.find(')').unwrap()];
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
    let statuses = BatchStatus::ALL.map(BatchStatus::as_str);
    assert_eq!(allowed(conn, "batch", "status"), statuses);
    assert_eq!(allowed(conn, "batch", "ended"), end_words());
    let files = [ResultFile::Output, ResultFile::Error].map(ResultFile::as_str);
    assert_eq!(allowed(conn, "attempt", "result_file"), files);
    assert_eq!(allowed(conn, "stray_line", "file"), files);
    let origins = PriceOrigin::ALL.map(PriceOrigin::as_str);
    assert_eq!(allowed(conn, "price", "origin"), origins);
    let strays = [Stray::Garbled, Stray::Unknown, Stray::Doubled].map(Stray::as_str);
    assert_eq!(allowed(conn, "stray_line", "why"), strays);
}

/// The statuses of batches that have ended, in the words of the statuses.
fn end_words() -> Vec<&'static str> {
    let of = |end: BatchEnd| match end {
        BatchEnd::Completed => BatchStatus::Completed.as_str(),
        BatchEnd::Failed => BatchStatus::Failed.as_str(),
        BatchEnd::Expired => BatchStatus::Expired.as_str(),
        BatchEnd::Cancelled => BatchStatus::Cancelled.as_str(),
    };
    [BatchEnd::Completed, BatchEnd::Failed, BatchEnd::Expired, BatchEnd::Cancelled].map(of).to_vec()
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
    assert_eq!(names, TABLES);
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

/// Puts a project of format 1 into a folder.
fn old_project(dir: &tempfile::TempDir, name: &str) -> PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/projects/format-1.db");
    let path = dir.path().join(name);
    std::fs::copy(fixture, &path).unwrap();
    path
}

#[expect(clippy::disallowed_methods, reason = "the file as any other program would use it")]
fn plainly(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

/// The tables, and the columns that a statement finds under their names.
fn columns(conn: &Connection, tables: &[&str]) -> Vec<Vec<String>> {
    let mut query = conn.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY name").unwrap();
    let mut of = |table: &&str| {
        query.query_map([table], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    tables.iter().map(&mut of).collect()
}

const TABLES: [&str; 17] = [
    "attempt",
    "attempt_sum",
    "batch",
    "batch_status",
    "dictionary",
    "migration",
    "price",
    "project",
    "prompt",
    "queue_limit",
    "rate_limit",
    "request",
    "request_count",
    "row",
    "run",
    "source",
    "stray_line",
];

#[test]
fn a_file_that_may_not_be_brought_to_our_format_is_shown_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let new = project(&dir);
    let path = old_project(&dir, "old.db");
    let before = std::fs::read(&path).unwrap();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let old = Store::open_to_read(&path, UnixMs(9)).unwrap();
    assert_eq!(old.format().unwrap(), 1);
    assert_eq!(columns(&old.conn, &TABLES), columns(&new.conn, &TABLES));
    assert_eq!(old.spending().unwrap().attempts, 20);
    assert_eq!(old.counted().unwrap().known, NanoUsd(36_900 + 46_650 + 17_250));
    assert_eq!(old.state_counts(false).unwrap().answered, 7);
    assert!(old.wrong_sums().unwrap().is_empty());
    assert!(old.batches().unwrap().is_empty());
    assert_eq!(old.queue_limit("a", "b").unwrap(), None);
    assert!(old.batch_costs().unwrap().is_empty());
    assert!(old.conn.execute("UPDATE request SET attempts = 9", []).is_err());
    assert!(std::fs::read(&path).unwrap() == before);
    let beside = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(beside.into_iter().all(|name| name != "old.db-wal" && name != "old.db-shm"));
}

/// What a file says of itself: its format, its schema, and whether it is sound.
fn state_of_file(conn: &Connection) -> (i64, Vec<String>, String) {
    let format = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let sql =
        "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1";
    let mut query = conn.prepare(sql).unwrap();
    let schema = query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let sound = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    (format, schema, sound)
}

#[test]
fn a_migration_that_the_disk_has_no_room_for_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = old_project(&dir, "old.db");
    let before = state_of_file(&plainly(&path));
    for room in 0..20 {
        let mut conn = plainly(&path);
        let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        conn.pragma_update_and_check(None, "max_page_count", pages + room, |_| Ok(())).unwrap();
        let done = migrate::apply(&mut conn, UnixMs(9));
        drop(conn);
        let after = state_of_file(&plainly(&path));
        if done.is_ok() {
            assert_eq!(after.0, migrate::newest());
            assert!(room >= 2, "cut in {room} places");
            return;
        }
        assert_eq!(after, before, "with room for {room} more pages");
    }
    panic!("it never came to its end");
}

#[test]
fn a_migration_that_fails_at_any_statement_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let new = project(&dir);
    let first = old_project(&dir, "first.db");
    let (old, newer) = (columns(&plainly(&first), &TABLES), columns(&new.conn, &TABLES));
    let mut cuts: Vec<String> = Vec::new();
    for (table, (old, newer)) in TABLES.iter().zip(old.iter().zip(&newer)) {
        match old.is_empty() {
            true => cuts.push(format!("CREATE TABLE {table} (other)")),
            false => cuts.extend(
                newer
                    .iter()
                    .filter(|column| !old.contains(column))
                    .map(|column| format!("ALTER TABLE {table} ADD COLUMN {column} ANY")),
            ),
        }
    }
    assert_eq!(cuts.len(), 19, "one for each column and table of the migrations");
    for (number, cut) in cuts.iter().enumerate() {
        let path = old_project(&dir, &format!("{number}.db"));
        plainly(&path).execute_batch(cut).unwrap();
        let before = state_of_file(&plainly(&path));
        assert!(Store::open(&path, UnixMs(9)).is_err(), "{cut}");
        assert_eq!(state_of_file(&plainly(&path)), before, "{cut}");
    }
}
