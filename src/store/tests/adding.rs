//! Rows coming in, against an oracle written a second time: plain lists, and no SQL.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::store::{AddReport, StoreError};

/// What a person may do to the table.
#[derive(Clone, Debug)]
enum Deed {
    /// Adds a file whose rows are themselves by their keys. The order of its columns may differ.
    Keyed { rows: Vec<(u8, u8)>, value_first: bool },
    /// Adds a file whose rows are themselves by their content.
    Unkeyed { rows: Vec<u8>, value_first: bool },
    /// Removes every live row whose position is a multiple of this.
    Remove(i64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let keyed = (prop::collection::vec((0u8..5, 0u8..3), 0..6), any::<bool>())
        .prop_map(|(rows, value_first)| Deed::Keyed { rows, value_first });
    let unkeyed = (prop::collection::vec(0u8..3, 0..7), any::<bool>())
        .prop_map(|(rows, value_first)| Deed::Unkeyed { rows, value_first });
    let deed = prop_oneof![3 => keyed, 3 => unkeyed, 1 => (1i64..4).prop_map(Deed::Remove)];
    prop::collection::vec(deed, 1..8)
}

/// A row as the oracle keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    key: String,
    version: i64,
    position: i64,
    value: u8,
    /// `None` while it is in the table.
    gone: Option<&'static str>,
}

/// The oracle.
#[derive(Clone, Debug, Default)]
struct Table {
    rows: Vec<Kept>,
    sources: u64,
}

impl Table {
    /// Adds rows, or nothing where a key stands twice. `report.read` is the number of rows.
    fn add(&mut self, rows: &[(String, u8)], is_keyed: bool) -> Option<AddReport> {
        let mut after = self.clone();
        let mut report = AddReport { read: rows.len() as u64, ..AddReport::default() };
        let mut met: HashMap<&str, usize> = HashMap::new();
        for (key, value) in rows {
            let count = met.entry(key).or_default();
            *count += 1;
            let key = match is_keyed {
                true if *count > 1 => return None,
                true => key.clone(),
                false => format!("{key}-{count}"),
            };
            after.take(&key, *value, &mut report);
        }
        if report.added + report.changed + report.returned > 0 {
            *self = after;
            self.sources += 1;
        }
        Some(report)
    }

    fn take(&mut self, key: &str, value: u8, report: &mut AddReport) {
        let highest = self.rows.iter().map(|row| row.position).max().unwrap_or(0);
        let versions = self.rows.iter().filter(|row| row.key == key).map(|row| row.version);
        let version = versions.max().unwrap_or(0) + 1;
        let mut position = highest + 1;
        if let Some(live) = self.rows.iter_mut().find(|row| row.key == key && row.gone.is_none()) {
            if live.value == value {
                report.unchanged += 1;
                return;
            }
            live.gone = Some("changed");
            position = live.position;
            report.changed += 1;
        } else {
            let removed = self
                .rows
                .iter_mut()
                .filter(|row| row.key == key && row.value == value && row.gone == Some("removed"));
            if let Some(back) = removed.max_by_key(|row| row.version) {
                back.gone = None;
                report.returned += 1;
                return;
            }
            report.added += 1;
        }
        self.rows.push(Kept { key: key.to_owned(), version, position, value, gone: None });
    }

    fn remove(&mut self, every: i64) -> Vec<String> {
        let leaving =
            self.rows.iter_mut().filter(|row| row.gone.is_none() && row.position % every == 0);
        leaving
            .map(|row| {
                row.gone = Some("removed");
                row.key.clone()
            })
            .collect()
    }
}

fn cells(key: &str, value: u8, value_first: bool) -> String {
    match value_first {
        true => format!(r#"{{"value":{value},"id":"{key}"}}"#),
        false => format!(r#"{{"id":"{key}","value":{value}}}"#),
    }
}

fn content(value: u8) -> [u8; 32] {
    Sha256::digest([value]).into()
}

fn add(
    store: &mut Store,
    rows: &[(String, u8, Identity<'_>)],
    value_first: bool,
    now: UnixMs,
) -> Result<AddReport, StoreError> {
    let mut adding = store.start_add("table.csv", None, now)?;
    for (index, (key, value, identity)) in rows.iter().enumerate() {
        let cells = cells(key, *value, value_first);
        let line = index as u64 + 2;
        adding.row(NewRow { line, cells_json: &cells, identity: *identity })?;
    }
    adding.finish(&facts(&["id", "value"]))
}

/// Every row on record, in the oracle's words.
fn on_record(store: &Store) -> Vec<Kept> {
    let mut rows: Vec<Kept> = store
        .conn
        .prepare("SELECT key, version, position, cells ->> 'value' AS value, retired_why FROM row")
        .unwrap()
        .query_map([], |row| {
            let why: Option<String> = row.get("retired_why")?;
            Ok(Kept {
                key: row.get("key")?,
                version: row.get("version")?,
                position: row.get("position")?,
                value: row.get("value")?,
                gone: why.map(|why| if why == "changed" { "changed" } else { "removed" }),
            })
        })
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    rows.sort();
    rows
}

fn sources(store: &Store) -> u64 {
    store.conn.query_row("SELECT count(*) FROM source", [], |row| row.get(0)).unwrap()
}

fn hex(hash: &[u8; 32]) -> String {
    Fingerprint(*hash).to_string().trim_start_matches("r1:")[..24].to_owned()
}

fn do_deed(store: &mut Store, table: &mut Table, deed: &Deed, now: UnixMs) {
    match deed {
        Deed::Keyed { rows, value_first } => {
            let rows: Vec<(String, u8)> =
                rows.iter().map(|(key, value)| (format!("k{key}"), *value)).collect();
            let new: Vec<_> =
                rows.iter().map(|(key, value)| (key.clone(), *value, Identity::Key(key))).collect();
            let expected = table.add(&rows, true);
            match add(store, &new, *value_first, now) {
                Ok(report) => assert_eq!(Some(report), expected),
                Err(StoreError::DuplicateKey { line, first, key }) => {
                    assert_eq!(expected, None);
                    assert!(first < line);
                    assert_eq!(rows[first as usize - 2].0, key);
                    assert_eq!(rows[line as usize - 2].0, key);
                }
                Err(other) => panic!("{other}"),
            }
        }
        Deed::Unkeyed { rows, value_first } => {
            let new: Vec<_> = rows
                .iter()
                .map(|value| ("x".to_owned(), *value, Identity::Content(content(*value))))
                .collect();
            let rows: Vec<(String, u8)> =
                rows.iter().map(|value| (hex(&content(*value)), *value)).collect();
            let report = add(store, &new, *value_first, now).unwrap();
            assert_eq!(Some(report), table.add(&rows, false));
        }
        Deed::Remove(every) => {
            let leaving = table.remove(*every);
            let (report, unknown) = store.remove(&leaving, now).unwrap();
            assert_eq!((report.removed, unknown.len()), (leaving.len() as u64, 0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn files_added_one_after_another_come_to_what_the_oracle_says(deeds in deeds()) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = project(&dir);
        let mut table = Table::default();
        for (index, deed) in deeds.iter().enumerate() {
            do_deed(&mut store, &mut table, deed, UnixMs(10 + index as i64));
            let mut expected = table.rows.clone();
            expected.sort();
            prop_assert_eq!(on_record(&store), expected);
            prop_assert_eq!(sources(&store), table.sources);
        }
        let live = table.rows.iter().filter(|row| row.gone.is_none()).count() as u64;
        prop_assert_eq!(store.live_rows().unwrap(), live);
        let versions: BTreeSet<(String, i64)> =
            table.rows.iter().map(|row| (row.key.clone(), row.version)).collect();
        prop_assert_eq!(versions.len(), table.rows.len(), "a version names one row");
    }
}

#[test]
fn a_key_never_has_two_rows_of_one_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = project(&dir);
    let mut table = Table::default();
    let keyed = |value| Deed::Keyed { rows: vec![(0, value)], value_first: false };
    let deeds =
        [keyed(0), Deed::Remove(1), keyed(1), Deed::Remove(1), keyed(0), keyed(2), keyed(0)];
    for (index, deed) in deeds.iter().enumerate() {
        do_deed(&mut store, &mut table, deed, UnixMs(10 + index as i64));
    }
    let versions: BTreeMap<i64, u8> =
        on_record(&store).iter().map(|row| (row.version, row.value)).collect();
    assert_eq!(versions, BTreeMap::from([(1, 0), (2, 1), (3, 2), (4, 0)]));
}

#[test]
fn another_order_of_columns_is_the_same_row_and_another_number_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = project(&dir);
    let mut add = |cells: &str| {
        let mut adding = store.start_add("t.jsonl", Some("id"), UnixMs(5)).unwrap();
        let row = NewRow { line: 1, cells_json: cells, identity: Identity::Key("k") };
        adding.row(row).unwrap();
        let report = adding.finish(&facts(&["id", "n"])).unwrap();
        (report.added, report.changed, report.unchanged)
    };
    assert_eq!(add(r#"{"id":"k","n":12345678901234567890.1}"#), (1, 0, 0));
    assert_eq!(add(r#"{"n":12345678901234567890.1,"id":"k"}"#), (0, 0, 1));
    assert_eq!(add(r#"{"id":"k","n":12345678901234567890.2}"#), (0, 1, 0), "equal as doubles");
    assert_eq!(add(r#"{"id":"k","n":12345678901234567890.2,"m":null}"#), (0, 1, 0));
}

#[test]
fn a_file_that_is_given_up_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = project(&dir);
    add_rows(&mut store, 3);
    let before = on_record_of_keys(&store);
    let mut adding = store.start_add("more.csv", Some("id"), UnixMs(9)).unwrap();
    for (line, key) in [(2, "k0"), (3, "k9"), (4, "k8")] {
        let cells = format!(r#"{{"id":"{key}","new":1}}"#);
        adding.row(NewRow { line, cells_json: &cells, identity: Identity::Key(key) }).unwrap();
    }
    drop(adding);
    assert_eq!(on_record_of_keys(&store), before);
    assert_eq!(sources(&store), 1);
}

fn on_record_of_keys(store: &Store) -> Vec<String> {
    let sql = "SELECT key || version || cells || coalesce(retired_why, '') FROM row ORDER BY id";
    let mut query = store.conn.prepare(sql).unwrap();
    query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}
