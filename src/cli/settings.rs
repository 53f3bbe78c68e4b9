//! What comes from outside the command line: the environment, and a `.env` file in the current folder.
//!
//! The only reader of the environment. The environment wins over `.env`; a variable that is set and
//! empty counts as not set. Keys are read when a call is about to be made and handed on as
//! [`Secret`]s: they are never written anywhere.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::failure::Failure;
use super::text::parse_duration;
use crate::engine::Secret;
use crate::provider::catalog::{HeaderFrom, Provider};

/// For how long a run tries to put on record what the disk does not take: `30s`, `2h`.
const PATIENCE: &str = "OVERNIGHT_PATIENCE";

/// The environment, with `.env` behind it.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    from_file: HashMap<String, String>,
    problem: Option<String>,
    sends_in_clear: bool,
}

/// The variable that has a key sent over plain HTTP, as `--insecure-http` does.
pub(crate) const INSECURE_HTTP: &str = "OVERNIGHT_INSECURE_HTTP";

impl Settings {
    /// Reads `.env` in the current folder, if there is one.
    pub(crate) fn read() -> Self {
        let path = Path::new(".env");
        // A folder of this name is a virtual environment of Python's.
        if !path.is_file() {
            return Self::default();
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) => Self {
                problem: Some(
                    match error.kind() {
                        ErrorKind::InvalidData => ".env is not UTF-8 text; nothing of it is used",
                        _ => ".env cannot be read; nothing of it is used",
                    }
                    .to_owned(),
                ),
                ..Self::default()
            },
        }
    }

    fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        for pair in dotenvy::from_read_iter(text.as_bytes()) {
            match pair {
                Ok((name, value)) => {
                    settings.from_file.insert(name, value);
                }
                // The error's own text repeats the line, which may hold a key.
                Err(dotenvy::Error::LineParse(line, _)) => {
                    settings.problem = Some(unreadable(text, &line));
                }
                Err(_) => settings.problem = Some(unreadable(text, "")),
            }
        }
        settings
    }

    /// Returns what is wrong with `.env`, without a word of what stands in it.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Returns a variable.
    #[expect(clippy::disallowed_methods, reason = "the one home of reading the environment")]
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
            .or_else(|| self.from_file.get(name).filter(|value| !value.trim().is_empty()).cloned())
    }

    /// Returns the first of these variables that is set, with its name.
    fn first(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    /// Returns a provider's key. One that is set and no text must not be taken for none.
    #[expect(clippy::disallowed_methods, reason = "the one home of reading the environment")]
    pub(crate) fn key(&self, provider: &Provider) -> Result<Option<Secret>, Failure> {
        let is_no_text =
            |name: &&&str| std::env::var_os(name).is_some_and(|key| key.to_str().is_none());
        if let Some(name) = provider.key_vars.iter().find(is_no_text) {
            return Err(Failure::error(format!("the key in {name} is no text"))
                .hint("it holds bytes that no key has; copy it again"));
        }
        Ok(self.first(provider.key_vars).map(|(_, key)| Secret::new(&key)))
    }

    /// Has keys sent over plain HTTP to other machines, if a person asks for that.
    #[must_use]
    pub(crate) fn sending_in_clear(self, is_asked: bool) -> Self {
        Self { sends_in_clear: self.sends_in_clear || is_asked, ..self }
    }

    /// Says whether a person asked for keys to be sent over plain HTTP to other machines.
    pub(crate) fn sends_in_clear(&self) -> bool {
        let says_yes = |value: String| !matches!(value.trim(), "0" | "no" | "false" | "off");
        self.sends_in_clear || self.get(INSECURE_HTTP).is_some_and(says_yes)
    }

    /// Returns another base URL for a provider, with the variable that holds it.
    pub(crate) fn base_url(&self, provider: &Provider) -> Option<(&'static str, String)> {
        self.first(provider.base_url_vars)
    }

    /// Returns a header that is filled from the environment.
    pub(crate) fn header(&self, from: &HeaderFrom) -> Option<String> {
        self.first(from.vars).map(|(_, value)| value)
    }

    /// Returns for how long a run keeps trying to put on record what the disk does not take, where somebody has said so.
    pub(crate) fn patience(&self) -> Result<Option<Duration>, Failure> {
        let read = |text: String| parse_duration(&text).map(Some);
        self.get(PATIENCE)
            .map_or(Ok(None), read)
            .map_err(|wrong| Failure::usage(format!("{PATIENCE}: {wrong}")))
    }

    /// Arms the points at which a test stops the process, where it asks for that: `OVERNIGHT_STOP_AT` is the number of
    /// the point, `OVERNIGHT_STOP_LIST` a file for the list of those that are passed.
    #[cfg(debug_assertions)]
    pub(crate) fn arm_stop_points(&self) -> std::io::Result<()> {
        let at = self.get("OVERNIGHT_STOP_AT").map(|at| at.parse().map_err(std::io::Error::other));
        let list = self.get("OVERNIGHT_STOP_LIST");
        crate::store::stop_point::arm(at.transpose()?, list.as_deref().map(Path::new))
    }

    /// Returns the name of this machine, for the record of a run.
    pub(crate) fn host(&self) -> String {
        let from_file = || std::fs::read_to_string("/etc/hostname").ok();
        self.get("HOSTNAME")
            .or_else(|| self.get("COMPUTERNAME"))
            .or_else(from_file)
            .map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
    }
}

/// Says which line of `.env` cannot be read, and not what stands in it.
fn unreadable(text: &str, line: &str) -> String {
    let first = line.lines().next().unwrap_or_default().trim();
    let number = text.lines().position(|other| !first.is_empty() && other.trim() == first);
    let which = number.map_or_else(|| "a line".to_owned(), |index| format!("line {}", index + 1));
    format!("{which} of .env cannot be read; a line reads NAME=VALUE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_line_is_named_by_its_number_and_costs_no_other_line() {
        let settings = Settings::parse("A=1\nsk secret words\nB=2\n");
        assert_eq!(
            settings.problem(),
            Some("line 2 of .env cannot be read; a line reads NAME=VALUE")
        );
        assert_eq!(
            (settings.from_file["A"].as_str(), settings.from_file["B"].as_str()),
            ("1", "2")
        );
        let open = Settings::parse("A=1\nB=\"secret\n");
        assert!(
            open.problem().is_some_and(|problem| !problem.contains("secret")),
            "{:?}",
            open.problem()
        );
    }
}
