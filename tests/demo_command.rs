//! `overnight demo` as a newcomer meets it: eight commands, a table with answers, nothing touched elsewhere.

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
    let rows = |name| csv::Reader::from_path(folder.join(name)).unwrap().into_records().count();
    assert_eq!(rows("answers.csv"), rows("reviews.csv"));
    let mut answers = csv::Reader::from_path(folder.join("answers.csv")).unwrap();
    for row in answers.records().map(Result::unwrap) {
        assert!(
            ["positive", "negative", "mixed"].iter().any(|label| row.iter().any(|c| c == *label))
        );
    }

    let shown: Vec<_> = talk.lines().filter(|line| line.starts_with("$ ")).collect();
    assert_eq!(shown.len(), 9, "{shown:?}");
    assert_eq!(shown[1], "$ overnight init --prompt sentiment.prompt");
    assert_eq!(shown[8], "$ overnight export answers.csv");
    assert!(talk.contains("nothing to do: 320 requests answered"), "the second run buys nothing");
    assert!(talk.contains("they mean nothing"));
    let file = fs::read_to_string(folder.join("answers.csv")).unwrap();
    let first: String = file.lines().take(4).flat_map(|line| [line, "\n"]).collect();
    assert!(out.ends_with(&first), "{out}");
    assert!(!out.contains('\u{1b}') && !talk.contains('\u{1b}'), "NO_COLOR is respected");
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
