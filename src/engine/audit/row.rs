//! Rows: is each one the row that its key says, and does it fit its source.

use std::collections::{HashMap, HashSet};

use super::finding::{Check, Finding, Findings, RowName};
use super::ground::Ground;
use crate::input::Cells;
use crate::store::{RowEvidence, SourceEvidence, Store, Taken, content_key};

/// A source, as far as its rows need it.
struct SourceGround {
    columns: HashSet<String>,
    /// Whether every row has all of the columns.
    is_full: bool,
    key_column: Option<String>,
    bytes: i64,
    rows: i64,
    /// Rows that are of it by now.
    found: i64,
    /// The line of the row that came after.
    line_after: Option<i64>,
}

/// Checks rows one after the other, newest first.
pub(super) struct RowChecker<'a> {
    store: &'a Store,
    ground: &'a Ground,
    sources: HashMap<i64, SourceGround>,
    /// When files were added: a changed row left at such a moment.
    added_at: HashSet<i64>,
    first_source: i64,
    /// Which positions there are.
    positions: Vec<u64>,
    rows: u64,
}

impl<'a> RowChecker<'a> {
    pub(super) fn new(
        store: &'a Store,
        ground: &'a Ground,
        sources: &[SourceEvidence],
        findings: &mut Findings,
    ) -> Self {
        let mut known = HashMap::new();
        for source in sources {
            let columns: Option<Vec<String>> = serde_json::from_str(&source.columns).ok();
            if columns.is_none() {
                let words = format!("the columns of source {} are no list of names", source.id);
                findings.add(Finding::new(Check::Source, words));
            }
            let columns: HashSet<String> = columns.into_iter().flatten().collect();
            let has_key = source.key_column.as_ref().is_none_or(|key| columns.contains(key));
            let is_known = ["csv", "tsv", "jsonl"].contains(&source.format.as_str())
                && !source.encoding.is_empty();
            for (is_right, what) in [
                (has_key, "its key column is not among its columns"),
                (is_known, "its format is none of ours"),
            ] {
                if !is_right {
                    findings
                        .add(Finding::new(Check::Source, format!("source {}: {what}", source.id)));
                }
            }
            if let Some(wrong) =
                ground.wrong_time(&format!("source {} was added", source.id), source.added_at_ms)
            {
                findings.add(wrong);
            }
            let source_ground = SourceGround {
                is_full: source.format != "jsonl",
                columns,
                key_column: source.key_column.clone(),
                bytes: source.bytes,
                rows: source.rows,
                found: 0,
                line_after: None,
            };
            known.insert(source.id, source_ground);
        }
        let first_source = sources.iter().map(|source| source.id).min().unwrap_or_default();
        let added_at = sources.iter().map(|source| source.added_at_ms).collect();
        let rows = store.rows_on_record();
        let positions = vec![0; usize::try_from(rows / 64 + 1).unwrap_or_default()];
        Self { store, ground, sources: known, added_at, first_source, positions, rows }
    }

    /// Reads and checks all rows.
    pub(super) fn check(mut self, findings: &mut Findings, tell: &mut dyn FnMut()) -> u64 {
        let store = self.store;
        let mut count = 0;
        store.each_row(&mut |taken| {
            match taken {
                Taken::Read(row) => {
                    count += 1;
                    let wrong = self.row(&row);
                    for (check, words) in wrong {
                        findings.add(of_row(&row, check, words));
                    }
                }
                Taken::Unreadable { id, why } => {
                    let words = match id {
                        Some(id) => format!("row {id} cannot be read: {why}"),
                        None => format!("the rows cannot all be read: {why}"),
                    };
                    findings.add(Finding::new(Check::File, words));
                }
            }
            tell();
            true
        });
        self.whole_table(findings);
        count
    }

    fn row(&mut self, row: &RowEvidence) -> Vec<(Check, String)> {
        let mut wrong = Vec::new();
        let mut tell = |words: &str| wrong.push((Check::Row, words.to_owned()));
        match Cells::read(&row.cells) {
            None => tell("its cells are no JSON object of columns"),
            Some(cells) => {
                let source = self.sources.get(&row.source_id);
                if source.is_some_and(|source| !fits(source, &cells)) {
                    tell("its columns are not those of its source");
                }
                if let Some(words) =
                    source.and_then(|source| wrong_key(self.store, source, (row, &cells)))
                {
                    tell(words);
                }
            }
        }
        let at = u64::try_from(row.position).unwrap_or_default();
        if (1..=self.rows).contains(&at) {
            let (word, bit) = ((at - 1) / 64, (at - 1) % 64);
            self.positions[usize::try_from(word).unwrap_or_default()] |= 1 << bit;
        } else {
            tell("its position is none that a row can have");
        }
        if row.version > 1 && !self.store.has_older_version((&row.key, row.version)).unwrap_or(true)
        {
            tell("it is a later version, and there is no earlier one");
        }
        self.retired(row, &mut tell);
        self.line(row, &mut tell);
        if let Some(at) = row.retired_at_ms {
            wrong.extend(
                self.ground
                    .wrong_time("it left the table", at)
                    .map(|wrong| (wrong.check, wrong.message)),
            );
        }
        wrong
    }

    fn retired(&self, row: &RowEvidence, tell: &mut dyn FnMut(&str)) {
        let Some(at) = row.retired_at_ms else { return };
        let is_changed = row.retired_why.as_deref() == Some("changed");
        if is_changed && !self.store.has_newer_version((&row.key, row.version)).unwrap_or(true) {
            tell("it is said to have changed, and there is no newer version");
        }
        if is_changed != self.added_at.contains(&at) {
            tell("it did not leave when, or for the reason that, it says");
        }
    }

    fn line(&mut self, row: &RowEvidence, tell: &mut dyn FnMut(&str)) {
        // A later source also has rows that had been there and came back, in any order.
        let is_of_first = row.source_id == self.first_source;
        let Some(source) = self.sources.get_mut(&row.source_id) else { return };
        source.found += 1;
        if row.line < 1 || row.line > source.bytes.saturating_add(1) {
            tell("its line is none that its source has");
        } else if is_of_first {
            if source.line_after.is_some_and(|after| row.line >= after) {
                tell("it stands on a line after the next row's");
            }
            source.line_after = Some(row.line);
        }
    }

    fn whole_table(&self, findings: &mut Findings) {
        let taken: u64 = self.positions.iter().map(|word| u64::from(word.count_ones())).sum();
        let last = self.positions.iter().rposition(|word| *word != 0).map_or(0, |word| {
            word as u64 * 64 + 64 - u64::from(self.positions[word].leading_zeros())
        });
        if taken != last {
            let words = format!("positions go up to {last}, and {taken} of them are taken");
            findings.add(Finding::new(Check::Row, words));
        }
        for position in self.store.shared_positions().unwrap_or_default() {
            let words = "rows with different keys have had this position";
            let row = Some(RowName { position: Some(position), key: None });
            findings.add(Finding { row, ..Finding::new(Check::Row, words) });
        }
        for (key, found, last) in self.store.keys_with_gaps().unwrap_or_default() {
            let words = format!("there are {found} versions of it, up to version {last}");
            let row = Some(RowName { position: None, key: Some(key) });
            findings.add(Finding { row, ..Finding::new(Check::Row, words) });
        }
        for (id, source) in &self.sources {
            // The first file can have brought nothing that was there; of the others each row is in the table, once.
            let is_only = self.sources.len() == 1;
            let is_right = source.found <= source.rows
                && source.rows <= i64::try_from(self.rows).unwrap_or(i64::MAX)
                && (!is_only || source.found == source.rows);
            if !is_right {
                let words = format!(
                    "source {id} says {} rows, and {} are of it",
                    source.rows, source.found
                );
                findings.add(Finding::new(Check::Source, words));
            }
        }
    }
}

fn of_row(row: &RowEvidence, check: Check, message: String) -> Finding {
    let name = RowName { position: Some(row.position), key: Some(row.key.clone()) };
    Finding { row: Some(name), ..Finding::new(check, message) }
}

fn fits(source: &SourceGround, cells: &Cells<'_>) -> bool {
    let mut count = 0;
    let are_known = cells.names().all(|name| {
        count += 1;
        source.columns.contains(name)
    });
    are_known && (!source.is_full || count == source.columns.len())
}

/// Says what is wrong with a row's key, if something is.
fn wrong_key(
    store: &Store,
    source: &SourceGround,
    (row, cells): (&RowEvidence, &Cells<'_>),
) -> Option<&'static str> {
    if let Some(column) = &source.key_column {
        let is_its_own = cells.key(column).as_deref() == Some(&row.key);
        return (!is_its_own).then_some("its key is not the one in its cells");
    }
    let nth = row
        .key
        .rsplit_once('-')
        .and_then(|(_, nth)| nth.parse::<u64>().ok())
        .filter(|nth| *nth > 0);
    let mut short = [0; 12];
    short.copy_from_slice(&cells.identity()[..12]);
    match nth {
        Some(nth) if content_key(&short, nth) == row.key => {
            let has_first =
                nth == 1 || store.has_key(&content_key(&short, nth - 1)).unwrap_or(true);
            (!has_first)
                .then_some("it is said to be a repetition, and what it repeats is not there")
        }
        Some(_) | None => Some("its key is not the one that its cells come to"),
    }
}
