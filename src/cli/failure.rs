//! What a command that cannot go on says: what happened, why, and what to type next.

use std::error::Error;
use std::fmt::Write;

use crate::engine::EngineError;
use crate::input::InputError;
use crate::store::StoreError;

/// The exit codes of `overnight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All due requests are answered, or the command did what it was asked.
    Done = 0,
    /// Error.
    Error = 1,
    /// Wrong usage.
    Usage = 2,
    /// Finished, some rows failed or stayed truncated.
    SomeFailed = 3,
    /// Interrupted.
    Interrupted = 130,
}

/// An error at the border, with hints.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
    is_silent: bool,
}

impl Failure {
    /// Something went wrong.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Error,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            is_silent: false,
        }
    }

    /// The command was called in a way that cannot work.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::error(message) }
    }

    /// Whoever read our output has gone: nothing is wrong and nobody is there to be told.
    fn silent() -> Self {
        Self { exit: Exit::Done, is_silent: true, ..Self::error("") }
    }

    /// Adds what it was caused by, with all that lies behind it.
    pub(crate) fn caused_by(mut self, cause: &dyn Error) -> Self {
        let mut next = Some(cause);
        while let Some(cause) = next {
            let words = cause.to_string();
            // Some crates repeat their source in their own message.
            if self.causes.last().is_none_or(|last| !last.ends_with(&words)) {
                self.causes.push(words);
            }
            next = cause.source();
        }
        self
    }

    /// Adds a next command to type, or another way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns the words for stderr, `None` where there is nobody to read them.
    pub(crate) fn words(&self) -> Option<String> {
        if self.is_silent {
            return None;
        }
        let mut words = format!("\u{1b}[1;31merror:\u{1b}[0m {}\n", self.message);
        for cause in &self.causes {
            let _ = writeln!(words, "  caused by: {cause}");
        }
        for hint in &self.hints {
            let _ = writeln!(words, "\u{1b}[1;36mhint:\u{1b}[0m {hint}");
        }
        Some(words)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::error(error.to_string());
        let failure = match error.source() {
            Some(source) => failure.caused_by(source),
            None => failure,
        };
        match &error {
            StoreError::Missing { .. } => failure
                .hint("`overnight init --prompt PROMPT --model MODEL` makes one here")
                .hint("`-p FILE` names a project elsewhere"),
            StoreError::Exists { path } => failure
                .hint(format!("`overnight -p {} status` shows what is in it", path.display()))
                .hint("`overnight -p OTHER.db init …` makes another one beside it"),
            StoreError::NotADatabase { .. } | StoreError::NotOurs { .. } => {
                failure.hint("`-p FILE` names the project; `overnight init` makes one")
            }
            StoreError::Newer { .. } => failure
                .hint("a newer overnight made it: install the newest one; nothing was changed"),
            StoreError::Locked { .. } => {
                failure.hint("another program is writing to it; try again when it is done")
            }
            StoreError::ReadOnly { .. } => failure
                .hint("allow writing to the file and its folder, or work on a copy elsewhere"),
            StoreError::Full { .. } => failure.hint(
                "make room on that disk and run the command again; nothing on record is lost",
            ),
            StoreError::Damaged { .. } => {
                failure.hint("work on a copy: `sqlite3 FILE .recover` saves what can be read")
            }
            StoreError::DuplicateKey { .. } => failure.hint(
                "a key has to be unique in its file; without --key, rows are told apart by content",
            ),
            StoreError::Io { .. }
            | StoreError::Sqlite { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Contradiction(_) => failure,
        }
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        let failure = Self::error(error.to_string());
        let failure = match error.source() {
            Some(source) => failure.caused_by(source),
            None => failure,
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::Start(source) => Self::error("cannot start the run").caused_by(&source),
            error @ EngineError::WriterGone => Self::error(error.to_string())
                .hint("`overnight run` goes on from what is on record"),
        }
    }
}

impl From<std::io::Error> for Failure {
    /// For writing to stdout and stderr; files have messages of their own.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::silent(),
            _ => Self::error("cannot write the output").caused_by(&error),
        }
    }
}
