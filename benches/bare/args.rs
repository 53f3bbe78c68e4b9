//! The command line: words in their order, and `--name value`.

use std::collections::HashMap;
use std::str::FromStr;

/// What was given behind the command.
pub(crate) struct Args {
    words: Vec<String>,
    flags: HashMap<String, String>,
}

impl Args {
    pub(crate) fn of(given: impl Iterator<Item = String>) -> Self {
        let (mut words, mut flags) = (Vec::new(), HashMap::new());
        let mut given = given;
        while let Some(word) = given.next() {
            match word.strip_prefix("--") {
                Some(name) => drop(flags.insert(name.to_owned(), given.next().unwrap_or_default())),
                None => words.push(word),
            }
        }
        Self { words, flags }
    }

    /// Returns the word at this place, from 0.
    pub(crate) fn word(&self, at: usize) -> &str {
        &self.words[at]
    }

    /// Returns the number at this place, from 0.
    pub(crate) fn number<T: FromStr>(&self, at: usize) -> T {
        self.word(at).parse().ok().unwrap()
    }

    /// Returns what a flag was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str)
    }

    /// Returns the number that a flag was given, or another.
    pub(crate) fn or<T: FromStr>(&self, name: &str, other: T) -> T {
        self.text(name).map_or(other, |text| text.parse().ok().unwrap())
    }
}
