//! Holds the line between the layers: reads `src/` and refuses every import that points upward.
//!
//! A layer uses itself and those before it in the list; edges of one group know nothing of each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, first the ones that know least. Those on one line do not know each other.
const LAYERS: [&[&str]; 6] = [
    &["domain"],
    &["machine"],
    &["input", "provider", "store", "export"],
    &["engine"],
    &["simulate", "view"],
    &["cli"],
];

/// Words that only certain layers may say, with those layers.
const RESERVED: [(&str, &[&str]); 7] = [
    ("rusqlite::", &["store"]),
    ("reqwest::", &["engine"]),
    ("std::env::var", &["cli"]),
    ("println!", &[]),
    ("anstream::", &["cli"]),
    ("indicatif::", &["cli"]),
    ("std::fs::", &["store", "cli", "simulate"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn each_source(mut each: impl FnMut(&str, &str, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 40, "the sources are where this test looks for them");
    for path in found {
        let inside = path.strip_prefix(&root).unwrap();
        let layer = inside.iter().next().unwrap().to_str().unwrap();
        if inside.iter().count() > 1 {
            each(layer, &inside.display().to_string(), &fs::read_to_string(&path).unwrap());
        }
    }
}

fn rank(layer: &str) -> usize {
    LAYERS
        .iter()
        .position(|group| group.contains(&layer))
        .unwrap_or_else(|| panic!("src/{layer} is in no layer"))
}

/// Returns the layers that a source names as `crate::LAYER`, in a use list too.
fn named(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut layers = Vec::new();
    for part in code.split("crate::").skip(1) {
        let list =
            part.strip_prefix('{').map_or(part, |list| list.split('}').next().unwrap_or(list));
        let is_list = part.starts_with('{');
        let words = list.split(',').take(if is_list { usize::MAX } else { 1 });
        for word in words {
            let word: String = word
                .trim()
                .chars()
                .take_while(|char| char.is_alphanumeric() || *char == '_')
                .collect();
            layers.push(word);
        }
    }
    layers
}

#[test]
fn no_layer_knows_one_below_it() {
    let mut wrong = Vec::new();
    each_source(|layer, file, text| {
        for other in named(text) {
            let is_layer = LAYERS.iter().any(|group| group.contains(&other.as_str()));
            if is_layer && other != layer && rank(&other) >= rank(layer) {
                wrong.push(format!("{file} uses {other}"));
            }
        }
    });
    assert!(wrong.is_empty(), "imports that point upward:\n{}", wrong.join("\n"));
}

#[test]
fn what_has_one_home_is_said_only_there() {
    let mut wrong = Vec::new();
    each_source(|layer, file, text| {
        let code = text.split("#[cfg(test)]").next().unwrap_or(text);
        let is_test =
            file.ends_with("tests.rs") || file.contains("/tests/") || file.contains("fixture");
        for (word, homes) in RESERVED {
            let says = code
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            if says && !is_test && !homes.contains(&layer) {
                wrong.push(format!("{file} says {word}"));
            }
        }
    });
    assert!(wrong.is_empty(), "words outside their home:\n{}", wrong.join("\n"));
}

#[test]
fn sql_stands_in_the_store() {
    let mut wrong = Vec::new();
    each_source(|layer, file, text| {
        let code = text.split("#[cfg(test)]").next().unwrap_or(text);
        for word in ["SELECT ", "INSERT INTO", "DELETE FROM", "CREATE TABLE"] {
            if layer != "store" && code.contains(word) {
                wrong.push(format!("{file} says {word}"));
            }
        }
    });
    assert!(wrong.is_empty(), "SQL outside the store:\n{}", wrong.join("\n"));
}
