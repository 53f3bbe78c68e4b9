//! What commands said, as text for a snapshot.
//!
//! What differs between two runs of the same thing (times, ports, process ids, paths of this machine) is
//! replaced, where columns follow by something as wide, so that they stay aligned.

use std::fmt::Write as _;

use crate::support::{Folder, Said};

/// Runs commands one after the other and returns all that was said.
pub(crate) fn transcript(folder: &Folder, commands: &[&[&str]]) -> String {
    commands.iter().map(|args| told(args, &folder.run(args))).collect()
}

/// Returns what one command said, under the line that was typed.
pub(crate) fn told(args: &[&str], said: &Said) -> String {
    let mut text = format!("$ overnight {}\n", typed(args));
    for (name, stream) in [("stdout", &said.stdout), ("stderr", &said.stderr)] {
        if !stream.is_empty() {
            let end = if stream.ends_with('\n') { "" } else { "(no line end)\n" };
            let _ = write!(text, "--- {name}\n{stream}{end}");
        }
    }
    let _ = writeln!(text, "--- exit {}\n", said.code.unwrap());
    text.replace(env!("CARGO_BIN_EXE_overnight"), "/path/to/overnight")
}

fn typed(args: &[&str]) -> String {
    let plain =
        |arg: &str| !arg.is_empty() && !arg.contains(|char: char| " '#{}|*\\\n".contains(char));
    let words: Vec<String> = args
        .iter()
        .map(|arg| if plain(arg) { (*arg).to_owned() } else { format!("'{arg}'") })
        .collect();
    words.join(" ")
}

/// Returns settings that take out what differs between two runs.
pub(crate) fn settled() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    for (pattern, instead) in [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "2026-01-02T03:04:05.678Z"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"process \d+ on", "process PID on"),
        (r"(took|after) \d+ (ms|s)\b", "$1 TIME"),
        (r"\b(\d+ h )?(\d+ min )?\d+ (ms|s|min) old", "TIME old"),
        (r"expires in \d+ h \d+ min", "expires in TIME"),
        (r"(\b|_)[a-km-z2-9]{20}-(\d+)\b", "${1}TOKEN-$2"),
        (r"\(\d+ ms a call over", "(TIME a call over"),
        (r#""took_ms":( ?)\d+"#, r#""took_ms":${1}0"#),
        (r#""process_id": \d+"#, r#""process_id": 0"#),
        (r"batch_[0-9a-f]{32}", "batch_00000000000000000000000000000000"),
        (r"custom id( +)[a-z2-9]{20}-", "custom id${1}aaaaaaaaaaaaaaaaaaaa-"),
        (r"file-[0-9A-Za-z]{22}", "file-0000000000000000000000"),
        // Results come in an order of their own.
        (r"line \d+ of the (output|error) file", "line N of the $1 file"),
        // The simulator numbers replies as they come, and they come in any order.
        (r"req_[0-9a-f]{32}", "req_00000000000000000000000000000000"),
    ] {
        settings.add_filter(pattern, instead);
    }
    settings
}
