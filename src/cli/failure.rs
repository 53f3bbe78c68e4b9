//! What a command that cannot go on says: what happened, why, and what to type next.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use super::{program, shell_word};
use crate::engine::EngineError;
use crate::input::InputError;
use crate::store::StoreError;

/// What to do about a damaged file.
const GO_BACK: &str = "go on from a copy of the time before, such as `overnight backup` makes";

/// The exit codes of `overnight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All due requests are answered, or the command did what it was asked.
    Done = 0,
    /// Error.
    Error = 1,
    /// Wrong usage.
    Usage = 2,
    /// Finished, some rows failed or stayed truncated; or an audit found what does not hold.
    SomeFailed = 3,
    /// Left while batches go on at the provider.
    Waiting = 4,
    /// Stopped by the budget.
    Stopped = 5,
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
    /// Whether the message is to be read with the project's name before it.
    is_of_record: bool,
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
            is_of_record: false,
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
            let words = without_code(&cause.to_string());
            // Some crates repeat their source in their own message, or the other way round.
            let repeats = |last: &String| last.ends_with(&words) || words.ends_with(last.as_str());
            if !self.causes.last().is_some_and(repeats) {
                self.causes.push(words);
            }
            next = cause.source();
        }
        self
    }

    /// Adds what it was caused by, in words.
    pub(crate) fn because(mut self, words: String) -> Self {
        self.causes.push(words);
        self
    }

    /// Adds a next command to type, or another way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns what went wrong and why, in one line.
    pub(crate) fn line(&self) -> String {
        let parts: Vec<&str> =
            std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect();
        parts.join(": ")
    }

    /// Says that it is about something in the project's file, which the message does not name.
    pub(crate) fn of_record(self) -> Self {
        Self { is_of_record: true, ..self }
    }

    /// Names the project where the message is about something in it.
    pub(crate) fn in_project(mut self, project: &Path) -> Self {
        if std::mem::take(&mut self.is_of_record) {
            self.message = format!("{}: {}", project.display(), self.message);
        }
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

/// Takes away the number of an error of the system, which nobody looks up.
fn without_code(words: &str) -> String {
    let end = words.rfind(" (os error ").filter(|_| words.ends_with(')'));
    words[..end.unwrap_or(words.len())].to_owned()
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::error(message(&error));
        let failure = match (&error, error.source()) {
            // SQLite quotes the bytes that it cannot read, and its numbers say no more than ours.
            (StoreError::Damaged { .. }, _) | (_, None) => failure,
            (StoreError::Sqlite { source, .. } | StoreError::Disk { source, .. }, _) => {
                failure.because(source.to_string())
            }
            (_, Some(source)) => failure.caused_by(source),
        };
        match &error {
            StoreError::Missing { path } => failure
                .hint(format!("`{} init --prompt PROMPT --model MODEL` makes one", program(path)))
                .hint("`-p FILE` names a project elsewhere"),
            StoreError::Exists { path } => failure
                .hint(format!("`{} status` shows what is in it", program(path)))
                .hint("`overnight -p OTHER.db init …` makes another one beside it"),
            StoreError::NotADatabase { .. } | StoreError::NotOurs { .. } => failure
                .hint("`-p FILE` names the project, `overnight -p NEW.db init …` makes a new one"),
            StoreError::Gone { .. } => failure.hint("put it back, and run the command again"),
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
            StoreError::Unfit { .. } => failure.hint(
                "copy the project to a disk of this machine and work there: network shares and some mounted \
                 folders cannot hold one",
            ),
            StoreError::Disk { path, .. } => failure
                .hint("what was committed is kept: see what the system's log says, then run the command again")
                .hint(format!(
                    "if it goes on, copy {0}, and {0}-wal where there is one, to another disk and work there",
                    path.display()
                )),
            StoreError::Damaged { path, .. } => {
                failure.hint(GO_BACK).hint(format!(
                    "`sqlite3 {} .recover | sqlite3 saved.db` saves what can be read",
                    shell_word(&path.display().to_string())
                ))
            }
            StoreError::DuplicateKey { .. } => failure.hint(
                "a key has to be unique in its file; without --key, rows are told apart by content",
            ),
            StoreError::Io { path, .. } => match folder_problem(path) {
                Some(hint) => failure.hint(hint),
                None => failure.hint("`-p FILE` names a project elsewhere"),
            },
            StoreError::Sqlite { path, .. } => failure.hint(format!(
                "`sqlite3 {} 'PRAGMA integrity_check'` says whether the file is sound",
                shell_word(&path.display().to_string())
            )),
            StoreError::Unreadable { .. } | StoreError::Contradiction(_) => failure
                .of_record()
                .hint("the project's file is damaged, or something else has changed it")
                .hint(GO_BACK),
        }
    }
}

/// Returns the error's words, or better ones where a look at the path gives some.
fn message(error: &StoreError) -> String {
    match error {
        StoreError::NotADatabase { path } if path.is_dir() => {
            format!("{} is a folder, not an Overnight project", path.display())
        }
        StoreError::NotOurs { path } if path.metadata().is_ok_and(|there| there.len() == 0) => {
            format!("{} is an empty file, not an Overnight project", path.display())
        }
        other => other.to_string(),
    }
}

/// Says what is wrong with the folder that a file is to be in.
fn folder_problem(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    let shown = folder.display().to_string();
    if folder.is_dir() {
        return None;
    }
    Some(match folder.exists() {
        true => format!("{shown} is no folder; `-p FILE` names a project elsewhere"),
        false => format!("there is no folder {shown}: `mkdir -p {}` makes it", shell_word(&shown)),
    })
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
