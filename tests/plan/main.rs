//! What `plan` says before a run, held against what the run is then charged: whole commands, the simulated provider's books.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "what a run will learn of limits is put on record by hand"
)]

#[path = "../support/mod.rs"]
mod support;

mod pilot;
mod sample;
mod time;
mod warnings;

use serde_json::Value;
use support::Folder;

/// A project over a table.
fn project(table: &str, prompt: &str, more: &[&str]) -> Folder {
    let folder = Folder::new();
    folder.write("rows.csv", table).write("the.prompt", prompt);
    folder.ok(&[&["init", "--prompt", "the.prompt"], more].concat());
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder
}

/// Puts lines together.
fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().concat()
}

/// What `plan --json` says.
fn plan(folder: &Folder, more: &[&str]) -> Value {
    folder.ok(&[&["plan", "--json"], more].concat()).json()
}

/// What it says of the only prompt.
fn of_prompt(folder: &Folder, more: &[&str]) -> Value {
    plan(folder, more)["prompts"][0].clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Demands that an estimate is as near to the truth as this part of it.
#[track_caller]
fn near(estimate: f64, truth: f64, part: f64) {
    let off = (estimate - truth).abs() / truth;
    assert!(off <= part, "{estimate} is off by {:.1}% of {truth}", 100.0 * off);
}
