//! Readers: what comes in, turned into the nouns of [`crate::domain`].
//!
//! A table goes through four stages, each of which streams and knows only the one before it:
//!
//! ```text
//! text (bytes, hash, encoding) ─▶ scanner | json (records, values) ─▶ delimited | jsonl (rows) ─▶ table
//! ```
//!
//! Nothing here opens a file, prints, or keeps more than one record in memory. A reader takes what
//! it is certain of and refuses the rest with the line to look at: a table that is read slightly
//! wrong is paid for in full.

mod delimited;
mod encoding;
mod error;
mod escape;
mod identity;
mod json;
mod jsonl;
pub mod prompt_file;
mod scanner;
mod sniff;
mod table;
mod text;

#[cfg(test)]
mod tests;

pub use error::{FileKind, InputError, Problem};
pub use identity::Cells;
pub use table::{Format, Table, TableOptions, open};
