//! What comes from outside the command line: the environment, and a `.env` file in the current folder.
//!
//! The only reader of the environment. The environment wins over `.env`; a variable that is set and
//! empty counts as not set. Keys are read when a call is about to be made and handed on as
//! [`Secret`]s: they are never written anywhere.

use std::collections::HashMap;
use std::path::Path;

use crate::engine::Secret;
use crate::provider::catalog::{HeaderFrom, Provider};

/// The environment, with `.env` behind it.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    from_file: HashMap<String, String>,
    problem: Option<String>,
}

impl Settings {
    /// Reads `.env` in the current folder, if there is one.
    pub(crate) fn read() -> Self {
        let path = Path::new(".env");
        let Ok(found) = dotenvy::from_path_iter(path) else { return Self::default() };
        let mut settings = Self::default();
        for pair in found {
            match pair {
                Ok((name, value)) => {
                    settings.from_file.insert(name, value);
                }
                // The error's own text repeats the line, which may hold a key.
                Err(_) => settings.problem = Some("a line of .env cannot be read".to_owned()),
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

    /// Returns a provider's key.
    pub(crate) fn key(&self, provider: &Provider) -> Option<Secret> {
        self.first(provider.key_vars).map(|(_, key)| Secret::new(&key))
    }

    /// Returns another base URL for a provider, with the variable that holds it.
    pub(crate) fn base_url(&self, provider: &Provider) -> Option<(&'static str, String)> {
        self.first(provider.base_url_vars)
    }

    /// Returns a header that is filled from the environment.
    pub(crate) fn header(&self, from: &HeaderFrom) -> Option<String> {
        self.first(from.vars).map(|(_, value)| value)
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
