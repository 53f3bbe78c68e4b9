//! Bytes as a project file: they are refused, or read to the end, with an error or without.
//!
//! What is read is bounded by the file, and reading it does not change what a second reader sees.

use super::project;

/// Checks a file.
pub fn check(data: &[u8]) {
    let folder = project::folder().unwrap();
    let path = folder.path().join("overnight.db");
    std::fs::write(&path, data).unwrap();
    let first = project::read(&path);
    let again = project::read(&path);
    assert!(first == again, "a second look at the file sees something else");
}
