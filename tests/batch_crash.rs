//! Killed at any call of the batch route, a run goes on to the same table: no batch is made twice, nothing is
//! paid for twice, and what was paid for is read.
//!
//! The provider stops at a call, before or after it has done what it was asked, and there the run is killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use support::batches::runs::{Running, all_answered_once, exported, project, query, run, texts};
use support::batches::{BatchProvider, Do, Kind, Point, Script};
use support::{Act, Folder};

/// Rows of the table here, four of them in a batch.
const ROWS: usize = 8;
const SMALL: &[&str] = &["--batch-size", "4"];
/// More calls than any run here makes.
const MANY: usize = 80;

fn script() -> Script {
    Script { stages: vec!["in_progress"], ..Script::default() }
}

/// Runs until the provider has stopped, and kills it there. Returns false where the run ended before.
fn is_killed(folder: &Folder, provider: &BatchProvider) -> bool {
    let args = ["run", "--route", "batch", "--poll", "20ms"];
    let mut running = Running::start(folder, &[&args, SMALL].concat());
    for _ in 0..12_000 {
        if provider.has_stopped() {
            running.kill();
            provider.go_on();
            return true;
        }
        if running.is_over() {
            // Its last call may have been the one, and its last reply the point.
            let was_last = provider.has_stopped();
            running.end().ends(0);
            provider.go_on();
            return was_last;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("the run neither stops nor ends: {:?}", provider.kinds());
}

/// What must hold once a run has come to its end, however many were broken off before.
fn holds_in_the_end(folder: &Folder, provider: &BatchProvider, context: &str) {
    let rows = texts(ROWS);
    all_answered_once(folder, provider, &rows);
    assert_eq!(provider.batches().len(), 2, "{context}: {:?}", provider.kinds());
    assert_eq!(provider.count(Kind::Chat), 0, "{context}");
    assert_eq!(query(folder, "PRAGMA integrity_check"), [["ok"]], "{context}");
    let broken = query(folder, "SELECT count(*) FROM pragma_foreign_key_check");
    assert_eq!(broken, [["0"]], "{context}");
    let attempts = query(
        folder,
        "SELECT count(*), count(DISTINCT request_id), min(outcome), max(outcome) FROM attempt",
    );
    assert_eq!(attempts, [["8", "8", "answered", "answered"]], "{context}");
    let ended = query(folder, "SELECT DISTINCT status FROM batch");
    assert_eq!(ended, [["collected"]], "{context}");
    assert_eq!(folder.names(), ["overnight.db", "rows.csv"], "{context}: nothing else is left");
    let calls = provider.kinds().len();
    run(folder, SMALL).ends(0);
    assert_eq!(provider.kinds().len(), calls, "{context}: nothing is left to do");
}

/// Kills one run at each of these calls, counted from where the last one was killed. Returns whether all were reached.
fn broken(points: &[(usize, Point)]) -> bool {
    let provider = BatchProvider::start(script());
    let folder = project(&provider, &texts(ROWS), &[]);
    let mut was_reached = true;
    for (nth, point) in points {
        provider.stop_at(*nth, *point);
        was_reached = is_killed(&folder, &provider);
        if !was_reached {
            break;
        }
        let status = folder.status();
        assert_eq!(status["requests"]["in_doubt"], 0, "{points:?}: a batch can be looked up");
        assert_eq!(status["requests"]["total"], ROWS, "{points:?}");
    }
    run(&folder, SMALL).ends(0);
    holds_in_the_end(&folder, &provider, &format!("killed at {points:?}"));
    was_reached
}

/// Kills a run at every call that it makes.
fn at_every_call(point: Point) {
    let mut reached = 0;
    while broken(&[(reached + 1, point)]) {
        reached += 1;
        assert!(reached < MANY, "the calls do not end");
    }
    // Two batches: an upload, a create, two looks and a download each.
    assert!(reached >= 10, "only {reached} calls were reached");
}

#[test]
fn killed_at_every_call_before_it_is_done_a_run_goes_on_to_the_same_table() {
    at_every_call(Point::Come);
}

#[test]
fn killed_at_every_call_before_its_reply_a_run_goes_on_to_the_same_table() {
    at_every_call(Point::Done);
}

#[test]
fn killed_at_every_call_after_its_reply_a_run_goes_on_to_the_same_table() {
    at_every_call(Point::Replied);
}

#[test]
fn killed_again_while_it_finds_out_what_the_last_one_left_a_run_goes_on_all_the_same() {
    for first in 1..=4 {
        for second in [1, 2] {
            broken(&[(first, Point::Done), (second, Point::Come), (second, Point::Done)]);
        }
    }
}

#[test]
fn killed_again_and_again_a_little_later_each_time_a_run_comes_to_the_same_table() {
    let provider = BatchProvider::start(script());
    let folder = project(&provider, &texts(ROWS), &[]);
    for kill in 0..MANY {
        provider.stop_at(1 + kill / 3, Point::Done);
        if !is_killed(&folder, &provider) {
            return holds_in_the_end(&folder, &provider, "killed again and again");
        }
    }
    panic!("it does not come to an end: {:?}", provider.kinds());
}

/// A project of which a run was killed when its first batch was made and nobody had told it so.
fn killed_at_its_first_create(script: Script) -> (BatchProvider, Folder) {
    let provider = BatchProvider::start(script);
    let folder = project(&provider, &texts(ROWS), &[]);
    provider.stop_at_next(Kind::Create, Point::Done);
    assert!(is_killed(&folder, &provider), "it ended before it made a batch");
    (provider, folder)
}

#[test]
fn a_create_that_was_killed_is_found_among_hundreds_of_others() {
    let (provider, folder) = killed_at_its_first_create(Script { foreign: 500, ..script() });
    run(&folder, SMALL).ends(0);
    assert_eq!(provider.count(Kind::Create), 2, "found, not made again: {:?}", provider.kinds());
    assert!(provider.count(Kind::List) >= 6, "all pages are read");
    holds_in_the_end(&folder, &provider, "among hundreds of others");
}

#[test]
fn a_create_that_was_killed_is_not_made_again_while_the_list_cannot_be_read_whole() {
    let (provider, folder) = killed_at_its_first_create(Script {
        foreign: 250,
        on: Box::new(|kind, nth| match (kind, nth) {
            // Once between two pages, once in the middle of one.
            (Kind::List, 2) => Do::Instead(Act::error(500, "server_error", "oops")),
            (Kind::List, 4) => Do::Cut,
            _ => Do::Right,
        }),
        ..script()
    });
    // Whether it goes on by itself or leaves it to the next run, it must not take it for absent.
    for _ in 0..5 {
        if run(&folder, SMALL).code == Some(0) {
            break;
        }
    }
    assert_eq!(provider.count(Kind::Create), 2, "{:?}", provider.kinds());
    holds_in_the_end(&folder, &provider, "with a list that breaks off");
}

#[test]
fn what_a_kill_leaves_in_a_batch_is_told_as_it_stands() {
    let provider = BatchProvider::start(Script::default());
    provider.hold();
    let folder = project(&provider, &texts(ROWS), &[]);
    let args = ["run", "--route", "batch", "--poll", "20ms"];
    let running = Running::start(&folder, &[&args, SMALL].concat());
    provider.wait_until("both batches are looked at", |provider| {
        provider.count(Kind::Create) == 2 && provider.count(Kind::Look) >= 6
    });
    running.kill();
    let status = folder.status();
    assert_eq!(
        (&status["requests"]["in_batch"], &status["running"]),
        (&ROWS.into(), &false.into())
    );
    assert_eq!(folder.ok(&["plan", "--json"]).json()["due"], 0);
    let rows = exported(&folder, &["state"]);
    assert!(rows.iter().all(|row| row[0] == "in_batch"), "{rows:?}");
    provider.release();
    run(&folder, SMALL).ends(0);
    holds_in_the_end(&folder, &provider, "killed while it waits");
}
