//! To be written.

pub mod prompt_file;
