//! Hostile input: what the fuzz targets check, on their seeds, on what they have found, and on some mutations of both.
//!
//! `just fuzz` runs the same checks (`fuzz/checks/`) under cargo-fuzz, for as long as one likes. An input that breaks one
//! of them is made small, mended, and kept in `fuzz/findings/TARGET/` under a name that says what it was.
//!
//! A mutation that fails is printed with the seed of its draw; `OVERNIGHT_SEED=… cargo test --test corpora` draws it again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test makes its own connections and reads its seed"
)]

#[expect(unreachable_pub, reason = "the fuzz targets call them from another crate")]
#[path = "../fuzz/checks/lib.rs"]
mod checks;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

type Check = fn(&[u8]);

/// Far more than any input takes, also on a slow and busy machine; a blow-up takes hours.
const MOST_TIME: Duration = Duration::from_mins(3);

/// The most memory that all of it together may take, in KiB: a rendered message may have 64 MiB.
#[cfg(target_os = "linux")]
const MOST_MEMORY_KIB: u64 = 1_500_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a folder by name, none where there is no such folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// Replays a target's seeds and findings, then as many mutations of them.
fn replay(target: &str, check: Check, mutations: u64) {
    let mut inputs = files(&fuzz().join("seeds").join(target));
    assert!(inputs.len() >= 5, "{target} has {} seeds", inputs.len());
    inputs.extend(files(&fuzz().join("findings").join(target)));
    for (name, input) in &inputs {
        must_hold(check, input, &format!("{target}/{name}"));
    }
    let seed = std::env::var("OVERNIGHT_SEED").map_or(20_261_123, |seed| seed.parse().unwrap());
    let words = words(target);
    for number in 0..mutations {
        let mut draw = fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let input = mutated(&inputs, &words, &mut draw);
        must_hold(check, &input, &format!("{target}: OVERNIGHT_SEED={seed}, mutation {number}"));
    }
}

/// Fails, with the input, if the check panics or does not come to an end.
fn must_hold(check: Check, input: &[u8], name: &str) {
    let (done, outcome) = mpsc::channel();
    let own = input.to_vec();
    // As much stack as the main thread of the program has; a worker has less, and decodes less.
    let worker = std::thread::Builder::new().stack_size(2 << 20);
    let worker = worker.spawn(move || {
        let _ = done.send(catch_unwind(AssertUnwindSafe(|| check(&own))).is_ok());
    });
    let shown = String::from_utf8_lossy(&input[..input.len().min(2000)]).into_owned();
    match outcome.recv_timeout(MOST_TIME) {
        Ok(true) => worker.unwrap().join().unwrap(),
        Ok(false) => panic!("{name}: a check does not hold for {shown:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{name}: the check is gone"),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            panic!("{name}: no end after {MOST_TIME:?} of {shown:?}")
        }
    }
    #[cfg(target_os = "linux")]
    assert!(peak_kib() < MOST_MEMORY_KIB, "{name}: {} KiB of memory for {shown:?}", peak_kib());
}

#[cfg(target_os = "linux")]
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The quoted words of a target's dictionary, as libFuzzer reads it.
fn words(target: &str) -> Vec<Vec<u8>> {
    let path = fuzz().join("dictionaries").join(target);
    let text = fs::read_to_string(path).unwrap_or_default();
    let quoted = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    quoted.map(unescaped).collect()
}

fn unescaped(word: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), word.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap() as u8;
                out.push(digit(high) * 16 + digit(low));
                after
            }
            (b'\\', [quoted, after @ ..]) => {
                out.push(*quoted);
                after
            }
            _ => {
                out.push(first);
                after
            }
        };
    }
    out
}

fn mutated(inputs: &[(String, Vec<u8>)], words: &[Vec<u8>], draw: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = draw.choice(inputs).unwrap().1.clone();
    for _ in 0..draw.usize(1..=6) {
        let at = draw.usize(0..=input.len());
        let end = (at + draw.usize(0..16)).min(input.len());
        match draw.u8(0..7) {
            0 if at < input.len() => input[at] ^= 1 << draw.u8(0..8),
            1 if at < input.len() => input[at] = draw.u8(..),
            2 => input.insert(at, draw.u8(..)),
            3 => drop(input.drain(at..end)),
            4 => {
                let part = input[at..end].repeat(draw.usize(1..=64));
                input.splice(at..at, part);
            }
            5 => {
                let other = &draw.choice(inputs).unwrap().1;
                let from = draw.usize(0..=other.len());
                let to = (from + draw.usize(0..256)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                let word = draw.choice(words).cloned().unwrap_or_default();
                input.splice(at..at, word);
            }
        }
    }
    input
}

#[test]
fn tables_hold() {
    replay("tables", checks::tables::check, 2_000);
}

#[test]
fn tables_of_the_fixtures_hold_however_they_are_asked_for() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tables");
    for (name, table) in files(&folder) {
        for orders in 0..64 {
            let input = [&[orders], table.as_slice()].concat();
            must_hold(checks::tables::check, &input, &format!("{name} by {orders}"));
        }
    }
}

#[test]
fn prompts_hold() {
    replay("prompts", checks::prompts::check, 2_000);
}

#[test]
fn templates_hold() {
    replay("templates", checks::templates::check, 1_000);
}

#[test]
fn schemas_hold() {
    replay("schemas", checks::schemas::check, 2_000);
}

#[test]
fn replies_hold() {
    replay("replies", checks::replies::check, 2_000);
}

#[test]
fn batches_hold() {
    replay("batches", checks::batches::check, 2_000);
}

#[test]
fn secrets_hold() {
    replay("secrets", checks::secrets::check, 2_000);
}

#[test]
fn typed_words_hold() {
    replay("typed", checks::typed::check, 2_000);
}

#[test]
fn projects_hold() {
    replay("projects", checks::projects::check, 100);
}

#[test]
fn records_hold() {
    replay("records", checks::records::check, 100);
}

/// A list without end, as a statement of a hostile file has it.
const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n";

#[test]
fn a_file_whose_tables_compute_without_end_is_read_to_an_end() {
    let hold = |file: &[u8], name: &str| must_hold(checks::projects::check, file, name);
    for table in ["row", "prompt", "request", "attempt", "batch", "source", "run", "project"] {
        let columns = format!(
            "ALTER TABLE {table} RENAME TO own;
             CREATE VIEW {table} AS SELECT own.* FROM own, ({ENDLESS})"
        );
        hold(&project("format-2.db", &columns), &format!("a view in the place of {table}"));
    }
    let trigger = format!(
        "CREATE TRIGGER endless AFTER INSERT ON migration
         BEGIN UPDATE source SET path = path || (SELECT count(*) FROM ({ENDLESS})); END"
    );
    hold(&project("format-1.db", &trigger), "a trigger behind the migration");
}

/// Returns the bytes of a fixture after some SQL.
fn project(fixture: &str, sql: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("overnight.db");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/projects");
    fs::copy(fixtures.join(fixture), &path).unwrap();
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA legacy_alter_table = on; PRAGMA foreign_keys = off; DROP VIEW answers;",
    )
    .unwrap();
    conn.execute_batch(sql).unwrap();
    drop(conn);
    fs::read(&path).unwrap()
}
