//! The word that a person most likely meant.
//!
//! Only for hints in error messages: nothing is ever decided by likeness.

/// Returns the candidate nearest to `word`, if one is near enough to be worth a hint.
///
/// Near enough is one edit for every three letters of the longer word, at least one, letter case
/// aside. Among equals the first wins.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(LONGEST).collect();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other: Vec<char> = candidate.to_lowercase().chars().take(LONGEST).collect();
            let allowed = (word.len().max(other.len()) / 3).max(1);
            let edits = edits(&word, &other);
            (edits <= allowed).then_some((edits, candidate))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Letters that are compared; names of columns can be whole sentences.
const LONGEST: usize = 64;

/// Counts the insertions, deletions, replacements and swaps of neighbours between two words.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_slip_of_the_fingers_is_recognized() {
        let keys = ["model", "max_tokens", "max_tokens_limit", "choices"];
        assert_eq!(closest("modle", keys), Some("model"));
        assert_eq!(closest("max_token", keys), Some("max_tokens"));
        assert_eq!(closest("Choices", keys), Some("choices"));
        assert_eq!(closest("choice", keys), Some("choices"));
        assert_eq!(closest("banana", keys), None);
        assert_eq!(closest("", keys), None);
    }

    #[test]
    fn letters_beyond_ascii_count_once() {
        assert_eq!(closest("리부", ["리뷰", "본문"]), Some("리뷰"));
    }
}
