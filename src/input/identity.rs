//! What makes a row this row: the text of its key, or a hash of its cells.
//!
//! **Identity v1 is frozen.** It stands in project files forever, and adding a file again adds
//! nothing only because the same cells come to the same 32 bytes. It is SHA-256 over
//!
//! ```text
//! "overnight row v1\n"
//! for each cell, in the order of the columns' names compared as UTF-8 bytes:
//!     length of the name in bytes, 8 bytes little-endian · the name in UTF-8
//!     length of the value in bytes, 8 bytes little-endian · the value's JSON text in UTF-8
//! ```
//!
//! where the JSON text is compact: strings as [`super::escape`] writes them, numbers digit by digit
//! as they stood in the file, names of nested objects in the file's order. So neither the order of
//! the columns, nor the delimiter, nor the quoting, nor the encoding, nor white space between JSON
//! tokens makes another row; and a CSV and a JSON Lines file of the same strings hold the same rows.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::error::Problem;

const TAG: &[u8] = b"overnight row v1\n";

/// Takes the content identity of a row from its cells, which must come in the order of their names.
pub(super) fn of_cells<'a>(cells: impl Iterator<Item = (&'a str, &'a str)>) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(TAG);
    for (name, value) in cells {
        for part in [name, value] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().into()
}

/// A row's cells as they stand on record: names and the JSON texts of the values, in the order of the table.
pub struct Cells<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Cells<'a> {
    /// Reads cells; `None` where they are no JSON object, or where one name stands there twice.
    pub fn read(json: &'a str) -> Option<Self> {
        let Named(cells) = serde_json::from_str(json).ok()?;
        let mut names: Vec<&str> = cells.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).all(|pair| pair[0] != pair[1]).then_some(Self(cells))
    }

    /// Returns the columns' names, in the order of the table.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the text of a key in this column: of a string its content, of a number its digits.
    pub fn key(&self, column: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(name, _)| name == column)?;
        let text = value.get();
        match text.starts_with('"') {
            true => serde_json::from_str(text).ok(),
            false => Some(text.to_owned()),
        }
    }

    /// Takes the content identity.
    pub fn identity(&self) -> [u8; 32] {
        let mut cells: Vec<(&str, &str)> =
            self.0.iter().map(|(name, value)| (name.as_str(), value.get())).collect();
        cells.sort_unstable_by_key(|(name, _)| *name);
        of_cells(cells.into_iter())
    }
}

/// The members of an object, in their order, the values as they are written.
struct Named<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Named<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(Named)
    }
}

/// Checks that the text of a key says something.
pub(super) fn checked_key<'a>(text: &'a str, column: &str) -> Result<&'a str, Problem> {
    if text.trim().is_empty() {
        return Err(Problem::EmptyKey { key: column.to_owned() });
    }
    Ok(text)
}

/// Returns the name that was probably meant by `wanted`, if one is near enough.
pub(super) fn closest<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    let fold = |name: &str| name.trim().to_lowercase().chars().take(64).collect::<Vec<_>>();
    let wanted = fold(wanted);
    let near = wanted.len().div_ceil(3);
    names
        .iter()
        .map(|name| (edits(&wanted, &fold(name)), name.as_str()))
        .filter(|(distance, _)| *distance <= near && *distance < wanted.len().max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Counts the insertions, removals and replacements between two words (Levenshtein).
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_closest_name_is_found_through_case_space_and_typing_errors() {
        let columns = names(&["review_id", "text", "Rating "]);
        assert_eq!(closest("reveiw_id", &columns), Some("review_id"));
        assert_eq!(closest("rating", &columns), Some("Rating "));
        assert_eq!(closest("TEXT", &columns), Some("text"));
        assert_eq!(closest("customer", &columns), None);
        assert_eq!(closest("", &columns), None);
        assert_eq!(closest("x", &names(&["a"])), None);
    }

    #[test]
    fn lengths_keep_names_and_values_apart() {
        let of = |pairs: &[(&str, &str)]| of_cells(pairs.iter().copied());
        assert_ne!(of(&[("ab", "c")]), of(&[("a", "bc")]));
        assert_ne!(of(&[("a", "1"), ("b", "2")]), of(&[("a", "1b2")]));
        assert_ne!(of(&[]), of(&[("", "")]));
    }
}
