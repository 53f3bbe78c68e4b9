//! The only printer: stdout is data, stderr is talk.
//!
//! Colors are written as ANSI sequences and taken out again where they are not wanted (`NO_COLOR`,
//! `--color never`, no terminal), so that every message reads without them.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;

/// How a person wants to be talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Voice {
    /// `-q`: nothing but errors on stderr.
    pub(crate) is_quiet: bool,
    /// `--json`: reports are JSON on stdout.
    pub(crate) is_json: bool,
}

/// Writes to stdout and stderr.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    voice: Voice,
}

#[expect(clippy::unused_self, reason = "one printer, so that nobody prints without it")]
impl Out {
    pub(crate) fn new(voice: Voice) -> Self {
        Self { voice }
    }

    /// Whether reports are to be JSON.
    pub(crate) fn is_json(self) -> bool {
        self.voice.is_json
    }

    /// Whether nothing but errors is to be said.
    pub(crate) fn is_quiet(self) -> bool {
        self.voice.is_quiet
    }

    /// Writes text to stdout: what the command was asked for.
    pub(crate) fn data(self, text: &str) -> Result<(), Failure> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    /// Writes bytes to stdout as they are: evidence and cells, in which nothing is a color.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        Ok(())
    }

    /// Whether a person looks at stdout.
    pub(crate) fn is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }

    /// Writes a value to stdout as indented JSON.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        self.bytes(format!("{}\n", pretty(value)?).as_bytes())
    }

    /// Writes a value to stdout as one line of JSON.
    pub(crate) fn json_line(self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(io::Error::from)?;
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Says a line on stderr, unless `-q`.
    pub(crate) fn say(self, line: &str) {
        if !self.voice.is_quiet {
            // Nobody can be told that stderr is gone.
            let _ = writeln!(anstream::stderr().lock(), "{line}");
        }
    }

    /// Says a warning on stderr, unless `-q`.
    pub(crate) fn warn(self, line: &str) {
        self.say(&format!("\u{1b}[1;33mwarning:\u{1b}[0m {line}"));
    }

    /// Says what comes next on stderr, unless `-q`.
    pub(crate) fn hint(self, line: &str) {
        self.say(&format!("\u{1b}[1;36mhint:\u{1b}[0m {line}"));
    }

    /// Says why a command cannot go on, on stderr.
    pub(crate) fn fail(self, failure: &Failure) {
        if let Some(words) = failure.words() {
            let _ = write!(anstream::stderr().lock(), "{words}");
        }
    }

    /// Asks a yes-or-no question on the terminal; `None` where there is none to ask.
    pub(crate) fn ask(self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let _ = write!(anstream::stderr().lock(), "{question} [y/N] ");
        let mut line = String::new();
        io::stdin().read_line(&mut line).ok()?;
        Some(matches!(line.trim(), "y" | "Y" | "yes" | "Yes" | "네" | "예"))
    }
}

fn pretty(value: &impl Serialize) -> io::Result<String> {
    serde_json::to_string_pretty(value).map_err(io::Error::from)
}
