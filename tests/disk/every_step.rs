//! Every write and every flush of `init`, `add`, `run` and `export` fails in turn, once and from then on.

use std::collections::HashSet;

use crate::look::{all_promised, came, copy, fingerprints, is_sound, number};
use crate::shim::{self, EIO, ENOSPC, Fault, Lasts, Went};
use crate::support::batches::runs::{self, all_answered_once, texts};
use crate::support::batches::{BatchProvider, Script};
use crate::support::{Act, Folder, Provider, Request};

const TABLE: &str = "id,text\nk1,one\nk2,two\nk3,three\nk4,four\n";
const ROWS: u64 = 4;
const INIT: [&str; 5] = ["init", "--model", "gpt-4o-mini", "--prompt", "Say: {{ text }}"];
const ADD: [&str; 4] = ["add", "rows.csv", "--key", "id"];
/// More steps than any command here takes.
const MANY: u64 = 2000;

/// A way in which the N-th step fails.
type Way = (&'static str, fn(u64) -> Fault);

/// A write finds no room, and the next one does.
const NO_ROOM: Way = ("a write finds no room", |at| Fault::at("write", at, ENOSPC));
/// Half of a write finds room, and nothing after it.
const FULL: Way = ("a write is cut short, and none works after it", |at| {
    Fault::at("write", at, ENOSPC).short().lasting(Lasts::FromThenOn)
});
/// A write fails for no reason of space.
const BROKEN: Way = ("a write fails", |at| Fault::at("write", at, EIO));
/// What a flush was to keep is gone, and the next flush works: as Linux does, which forgets what it could not write.
const LOSES: Way =
    ("a flush fails, and loses what it was to keep", |at| Fault::at("sync", at, EIO).losing());
/// No flush works any more.
const DEAD: Way = ("no flush works from then on, and all is lost", |at| {
    Fault::at("sync", at, EIO).losing().lasting(Lasts::FromThenOn)
});
const ALL: [Way; 5] = [NO_ROOM, FULL, BROKEN, LOSES, DEAD];

/// Has a command fail in each of these ways at every `stride`-th step, until it takes no more steps. Returns how many
/// points there were.
fn at_every_step(ways: &[Way], stride: usize, try_one: impl Fn(Fault) -> Went) -> u64 {
    let mut points = 0;
    for (words, fault) in ways {
        let mut reached = 0;
        for at in (1..MANY).step_by(stride) {
            if try_one(fault(at)).failed() == 0 {
                break;
            }
            reached += 1;
        }
        assert!(reached > 0, "{words}: no step was reached");
        assert!(reached < MANY / stride as u64, "{words}: the steps do not end");
        points += reached;
    }
    points
}

/// Answers each text in its own way.
fn answer(request: &Request) -> Act {
    Act::says(&format!("answer to {}", request.text()))
}

/// A project with rows, made at leisure.
fn project() -> Folder {
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", "sk-nobody");
    folder.write("rows.csv", TABLE).ok(&INIT);
    folder.ok(&ADD);
    folder
}

/// The table of a run that nothing happened to.
fn unbroken() -> String {
    let provider = Provider::start(answer);
    let folder = project();
    folder.ok(&["run", "--base-url", &provider.base_url()]);
    folder.ok(&["export", "-"]).stdout
}

#[test]
fn init_makes_a_whole_project_or_none() {
    let points = at_every_step(&ALL, 1, |fault| {
        let folder = Folder::new();
        let went = shim::run(&folder, &INIT, fault);
        if went.said.code == Some(1) {
            assert!(went.said.stderr.contains("overnight.db"), "{fault:?} {went:#?}");
            assert!(folder.names().is_empty(), "{fault:?} left {:?}", folder.names());
            folder.ok(&INIT);
        }
        is_sound(&folder);
        assert_eq!(number(&folder, "SELECT count(*) FROM prompt"), 1, "{fault:?}");
        went
    });
    assert!(points > 100, "only {points} points");
}

#[test]
fn add_adds_all_rows_or_none() {
    let base = Folder::new();
    base.write("rows.csv", TABLE).ok(&INIT);
    let points = at_every_step(&ALL, 1, |fault| {
        let folder = copy(&base);
        let went = shim::run(&folder, &ADD, fault);
        is_sound(&folder);
        let rows = folder.status()["rows"].as_u64().unwrap();
        let is_added = went.said.code == Some(0);
        assert_eq!(rows, if is_added { ROWS } else { 0 }, "{fault:?} {went:#?}");
        if !is_added {
            assert!(went.said.stderr.contains("overnight.db"), "{fault:?} {went:#?}");
            folder.ok(&ADD);
        }
        assert_eq!(folder.status()["rows"], ROWS, "{fault:?}");
        assert_eq!(folder.names(), ["overnight.db", "rows.csv"], "{fault:?}");
        went
    });
    assert!(points > 50, "only {points} points");
}

/// Runs a project of a few rows on a disk that fails in these ways.
fn runs_on_a_failing_disk(ways: &[Way]) -> u64 {
    let (base, expected) = (project(), unbroken());
    at_every_step(ways, 1, |fault| {
        let provider = Provider::start(answer);
        let url = provider.base_url();
        let folder = copied(&base);
        let went = shim::run(&folder, &["run", "--concurrency", "2", "--base-url", &url], fault);
        if went.said.code == Some(1) {
            assert!(went.said.stderr.contains("overnight.db"), "{fault:?} {went:#?}");
        }
        goes_on(&folder, &provider, &went, fault);
        assert_eq!(folder.ok(&["export", "-"]).stdout, expected, "{fault:?}");
        went
    })
}

#[test]
fn a_run_whose_disk_is_full_sends_nothing_that_is_not_on_record_and_loses_nothing_that_is() {
    let points = runs_on_a_failing_disk(&[NO_ROOM, FULL]);
    assert!(points > 80, "only {points} points");
}

#[test]
fn a_run_whose_disk_forgets_sends_nothing_that_is_not_on_record_and_loses_nothing_that_is() {
    let points = runs_on_a_failing_disk(&[LOSES, DEAD]);
    assert!(points > 15, "only {points} points");
}

#[test]
fn a_run_on_a_disk_with_little_room_left_goes_on_once_there_is_more() {
    let (base, expected) = (project(), unbroken());
    let (mut short, mut room) = (0, 1);
    loop {
        let fault = Fault::room(room);
        let provider = Provider::start(answer);
        let url = provider.base_url();
        let folder = copied(&base);
        let went = shim::run(&folder, &["run", "--concurrency", "2", "--base-url", &url], fault);
        if went.said.code == Some(1) {
            let named = "the disk that holds overnight.db is full";
            assert!(went.said.stderr.contains(named), "{fault:?} {went:#?}");
        }
        goes_on(&folder, &provider, &went, fault);
        assert_eq!(folder.ok(&["export", "-"]).stdout, expected, "{fault:?}");
        if went.failed() == 0 {
            break;
        }
        short += 1;
        room += 12_000;
    }
    assert!(short > 8, "only {short} sizes were too small");
}

/// What a failed run leaves is sound and readable, all that was sent is on record, and the next run finishes.
fn goes_on(folder: &Folder, provider: &Provider, went: &Went, fault: Fault) {
    is_sound(folder);
    all_promised(folder, provider);
    let sent = provider.count();
    let bought: HashSet<_> =
        fingerprints(&copy(folder), "SELECT fingerprint FROM request WHERE state = 'answered'");
    let status = folder.status();
    assert_eq!(status["requests"]["answered"], bought.len(), "{fault:?}");
    assert_eq!(status["requests"]["total"], ROWS, "{fault:?}");
    let table = folder.ok(&["export", "-"]).stdout;
    let answers = table.lines().filter(|line| line.ends_with(",answered")).count();
    assert_eq!(answers, bought.len(), "{fault:?} {table}");
    if went.said.code == Some(0) {
        assert_eq!(bought.len() as u64, ROWS, "{fault:?} {went:#?}");
    }
    folder.ok(&["run", "--base-url", &provider.base_url()]);
    for body in came(provider, sent) {
        assert!(!bought.contains(&body), "{fault:?}: sent again with its answer on file");
    }
    all_promised(folder, provider);
    is_sound(folder);
    assert_eq!(folder.names(), ["overnight.db", "rows.csv"], "{fault:?}");
}

fn copied(base: &Folder) -> Folder {
    let mut folder = copy(base);
    folder.env("OPENAI_API_KEY", "sk-nobody");
    folder
}

#[test]
fn export_writes_a_whole_table_or_leaves_the_old_one() {
    let provider = Provider::start(answer);
    let base = project();
    base.ok(&["run", "--base-url", &provider.base_url()]);
    base.write("answers.csv", "an older table\n");
    let expected = base.ok(&["export", "-"]).stdout;
    let points = at_every_step(&ALL, 1, |fault| {
        let folder = copy(&base);
        let went = shim::run(&folder, &["export", "answers.csv"], fault);
        let there = folder.read("answers.csv");
        match went.said.code {
            Some(0) => assert_eq!(there, expected, "{fault:?}"),
            _ => assert_eq!(there, "an older table\n", "{fault:?} {went:#?}"),
        }
        folder.ok(&["export", "answers.csv"]);
        assert_eq!(folder.read("answers.csv"), expected, "{fault:?}");
        assert_eq!(folder.names(), ["answers.csv", "overnight.db", "rows.csv"], "{fault:?}");
        went
    });
    assert!(points > 30, "only {points} points");
}

/// Runs two batches on a disk that fails in these ways.
fn batches_on_a_failing_disk(ways: &[Way], stride: usize) -> u64 {
    let args = ["run", "--route", "batch", "--batch-size", "2", "--poll", "10ms"];
    let rows = texts(4);
    at_every_step(ways, stride, |fault| {
        let script = Script { stages: vec!["in_progress"], ..Script::default() };
        let provider = BatchProvider::start(script);
        let folder = runs::project(&provider, &rows, &[]);
        let went = shim::run(&folder, &args, fault);
        is_sound(&folder);
        let on_record = number(&copy(&folder), "SELECT count(*) FROM attempt");
        let sent: usize = provider.batches().iter().map(|batch| batch.lines.len()).sum();
        assert!(sent as u64 <= on_record, "{fault:?}: {sent} sent, {on_record} on record");
        assert_eq!(folder.status()["requests"]["total"], 4, "{fault:?}");
        shim::run(&folder, &args, Fault::none()).said.ends(0);
        all_answered_once(&folder, &provider, &rows);
        is_sound(&folder);
        went
    })
}

#[test]
fn batches_on_a_full_disk_are_made_once_and_paid_for_once() {
    let points = batches_on_a_failing_disk(&[NO_ROOM, FULL], 5);
    assert!(points > 40, "only {points} points");
}

#[test]
fn batches_on_a_disk_that_forgets_are_made_once_and_paid_for_once() {
    let points = batches_on_a_failing_disk(&[LOSES, DEAD], 1);
    assert!(points > 30, "only {points} points");
}
