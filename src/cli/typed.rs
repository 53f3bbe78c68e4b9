//! A door to the readers of typed words, for tests that feed them anything. It must hold nothing of its own.

use std::time::Duration;

use jiff::Zoned;

use super::{add, text};
use crate::domain::UnixMs;

/// Reads a duration, as `--poll` does.
pub fn duration(text: &str) -> Result<Duration, String> {
    text::parse_duration(text)
}

/// Reads a moment that lies ahead, as `--by` does.
pub fn time(text: &str, now: &Zoned) -> Result<UnixMs, String> {
    text::parse_time(text, now)
}

/// Reads a whole number, as `--limit` does.
pub fn whole(text: &str) -> Result<u32, String> {
    text::whole::<u32>(1, Some(10_000))(text)
}

/// Reads a delimiter, as `add --delimiter` does.
pub fn delimiter(text: &str) -> Result<char, String> {
    add::delimiter(text)
}
