//! `overnight demo` as a newcomer meets it: ten commands, both routes, a table with answers,
//! nothing touched elsewhere.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the demo in a folder, with a project named elsewhere that must not be touched.
fn demo(base: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overnight"));
    command.arg("demo").args(options).current_dir(base).stdin(Stdio::null());
    command.env("OVERNIGHT_PROJECT", base.join("elsewhere.db")).env("NO_COLOR", "1");
    for variable in ["OPENAI_API_KEY", "OPENAI_BASE_URL"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn without_a_terminal_it_shows_each_command_and_leaves_a_table_with_answers() {
    let base = tempfile::tempdir().unwrap();
    let output = demo(base.path(), &[]);
    let (out, talk) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{talk}");
    assert_eq!(names(base.path()), ["overnight-demo"], "nothing else is made");

    let folder = base.path().join("overnight-demo");
    let made = ["answers.csv", "overnight.db", "reviews.csv", "sentiment.prompt"];
    assert_eq!(names(&folder), made, "the record is one file");
    #[cfg(unix)]
    {
        let meta = fs::metadata(folder.join("overnight.db")).unwrap();
        let bits = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
        assert_eq!(bits & 0o777, 0o600, "rows and answers are their owner's");
    }
    let rows = |name| csv::Reader::from_path(folder.join(name)).unwrap().into_records().count();
    assert_eq!(rows("answers.csv"), rows("reviews.csv"));
    let mut answers = csv::Reader::from_path(folder.join("answers.csv")).unwrap();
    for row in answers.records().map(Result::unwrap) {
        assert!(
            ["positive", "negative", "mixed"].iter().any(|label| row.iter().any(|c| c == *label))
        );
    }

    let shown: Vec<_> = talk.lines().filter(|line| line.starts_with("$ ")).collect();
    assert_eq!(shown.len(), 11, "{shown:?}");
    assert_eq!(shown[1], "$ overnight init --prompt sentiment.prompt");
    assert_eq!(shown[10], "$ overnight export answers.csv --details");
    assert!(talk.contains("nothing to do: 320 requests answered"), "the second run buys nothing");
    assert!(talk.contains("they mean nothing"));
    assert!(!out.contains('\u{1b}') && !talk.contains('\u{1b}'), "NO_COLOR is respected");
}

#[test]
fn both_routes_and_a_failure_are_shown() {
    let base = tempfile::tempdir().unwrap();
    let output = demo(base.path(), &["d"]);
    let (out, talk) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{talk}");
    for told in [
        "not all requests to simulated/small find room in batches: the rest goes by calls",
        "2 failed; 223 requests put into batches, 94 calls",
        "hint: 2 failed: `overnight retry --failed`",
        "2 requests are due again",
        "2 requests answered; 2 calls",
    ] {
        assert!(talk.contains(told), "{told}: {talk}");
    }
    for told in [
        "batches    1  completed  120 requests  batch_",
        "           2  completed  103 requests  batch_",
        "    asked in     line 1 of the input file",
        " of the output file",
    ] {
        assert!(out.contains(told), "{told}: {out}");
    }

    let mut answers = csv::Reader::from_path(base.path().join("d/answers.csv")).unwrap();
    let header = answers.headers().unwrap().clone();
    let column = |name| header.iter().position(|column| column == name).unwrap();
    let (route, batch, state) = (column("route"), column("batch_id"), column("state"));
    let mut found = std::collections::BTreeMap::new();
    for row in answers.records().map(Result::unwrap) {
        assert_eq!(&row[state], "answered");
        *found.entry((row[route].to_owned(), row[batch].to_owned())).or_insert(0) += 1;
    }
    let counted = |route: &str, batch: &str| found.get(&(route.to_owned(), batch.to_owned()));
    assert!(counted("batch", "1") >= Some(&119), "{found:?}");
    assert!(counted("batch", "2") >= Some(&102), "{found:?}");
    assert!(counted("realtime", "") >= Some(&94), "{found:?}");
    assert_eq!((found.len(), found.values().sum::<i32>()), (3, 320), "{found:?}");

    let table = &out[out.rfind("id,answer,state,route,batch_id").unwrap()..];
    let mut shown = csv::Reader::from_reader(table.as_bytes());
    let routes: Vec<_> =
        shown.records().map(Result::unwrap).map(|row| format!("{} {}", &row[0], &row[3])).collect();
    assert_eq!(routes, ["R0001 batch", "R0103 realtime", "R0200 batch", "R0320 realtime"]);
}

#[test]
fn a_second_demo_takes_the_next_name_and_quiet_says_nothing() {
    let base = tempfile::tempdir().unwrap();
    let first = base.path().join("overnight-demo");
    fs::create_dir(&first).unwrap();
    fs::write(first.join("mine.txt"), "mine").unwrap();
    let output = demo(base.path(), &["--quiet"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert_eq!(names(base.path()), ["overnight-demo", "overnight-demo-2"]);
    assert_eq!(names(&first), ["mine.txt"]);
}

#[test]
fn as_json_it_says_where_everything_is() {
    let base = tempfile::tempdir().unwrap();
    let output = demo(base.path(), &["--json", "my demo"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for file in ["project", "answers"] {
        assert!(base.path().join(told[file].as_str().unwrap()).is_file(), "{told}");
    }
    assert_eq!(told["folder"], "my demo");
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join("mine.txt"), "mine").unwrap();
    let output = demo(base.path(), &["."]);
    let told = "error: . is there and is not an empty folder\n";
    assert!(text(&output.stderr).starts_with(told), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(names(base.path()), ["mine.txt"]);
}
