//! Overnight puts every row of a table through a language model and brings the table back with answers.
//!
//! This library is the program: [`cli::main`] is all that the binary calls. Data moves one way,
//! input → plan → send → record → export; a layer uses itself and those above it in this list.

pub mod domain;
pub mod machine;

pub mod export;
pub mod input;
pub mod provider;
pub mod store;

pub mod engine;

pub mod simulate;

pub mod cli;
