//! What must hold for whatever comes in: a table, a prompt, a template, a schema, a reply, a batch's
//! results, a project file, a word on the command line.
//!
//! Each module has one function, `check(bytes)`, which panics where something does not hold. Two programs
//! call them: the fuzz targets of this folder (`just fuzz`), for as long as one likes, and
//! `tests/corpora.rs`, on the seeds, on what was found before and on some mutations of both, on every
//! change. Nothing here may depend on a clock, on chance, on the network or on the order of the inputs.

pub mod batches;
pub mod projects;
pub mod prompts;
pub mod records;
pub mod replies;
pub mod schemas;
pub mod secrets;
pub mod tables;
pub mod templates;
pub mod typed;

mod project;

/// Parts an input at its first line `===`; the second part is empty where there is none.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    const MARK: &[u8] = b"\n===\n";
    match data.windows(MARK.len()).position(|window| window == MARK) {
        Some(at) => (&data[..at], &data[at + MARK.len()..]),
        None => (data, b""),
    }
}

/// Asserts that a message is fit for a terminal: bounded, and without control characters.
fn assert_message(text: &str, most_bytes: usize) {
    assert!(text.len() <= most_bytes, "a message of {} bytes: {text:.300}", text.len());
    let control = text.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
    assert_eq!(control, None, "a control character in {text:?}");
}
