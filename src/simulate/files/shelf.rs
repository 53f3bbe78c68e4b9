//! The files that the simulator has, uploaded ones and those of results.
//!
//! Bytes are held once, and shared with the batch that reads them and the replies that carry them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::kept::Kept;
use crate::domain::UnixMs;
use crate::simulate::draws::Names;
use crate::simulate::likeness::Keeps;

/// A file as it is put on the shelf.
#[derive(Debug)]
pub(in crate::simulate) struct NewFile {
    pub(in crate::simulate) filename: String,
    pub(in crate::simulate) purpose: String,
    pub(in crate::simulate) bytes: Bytes,
    /// How long it is kept; for ever where there is no end.
    pub(in crate::simulate) lifetime_s: Option<i64>,
}

/// A file that is there.
#[derive(Debug)]
pub(in crate::simulate) struct StoredFile {
    pub(in crate::simulate) id: String,
    pub(in crate::simulate) purpose: String,
    pub(in crate::simulate) bytes: Kept,
    pub(in crate::simulate) filename: String,
    /// Seconds since 1970-01-01 UTC.
    created_s: i64,
    /// Seconds since 1970-01-01 UTC.
    expires_s: Option<i64>,
}

/// All files, oldest first.
#[derive(Debug)]
pub(in crate::simulate) struct Shelf {
    names: Names,
    keeps: Keeps,
    files: BTreeMap<u64, Arc<StoredFile>>,
    numbers: HashMap<String, u64>,
}

/// How long a file is kept for batches, in and out, unless another time is asked for: 30 days.
pub(in crate::simulate) const BATCH_LIFETIME_S: i64 = 30 * 24 * 3600;

impl Shelf {
    /// Makes an empty shelf.
    pub(in crate::simulate) fn new(seed: u64, started: UnixMs, keeps: Keeps) -> Self {
        Self {
            names: Names::new(seed, "file", started),
            keeps,
            files: BTreeMap::new(),
            numbers: HashMap::new(),
        }
    }

    /// Takes a file in.
    pub(in crate::simulate) fn add(&mut self, new: NewFile, now: UnixMs) -> Arc<StoredFile> {
        let (number, mut rng) = self.names.next();
        let id: String = (0..22).map(|_| rng.alphanumeric()).collect();
        let created_s = now.0.div_euclid(1000);
        let file = Arc::new(StoredFile {
            id: format!("file-{id}"),
            purpose: new.purpose,
            bytes: Kept::new(new.bytes, self.keeps),
            filename: new.filename,
            created_s,
            expires_s: new.lifetime_s.map(|lifetime| created_s.saturating_add(lifetime)),
        });
        self.numbers.insert(file.id.clone(), number);
        self.files.insert(number, Arc::clone(&file));
        file
    }

    /// Returns a file that has not expired.
    pub(in crate::simulate) fn get(&self, id: &str, now: UnixMs) -> Option<Arc<StoredFile>> {
        let file = self.files.get(self.numbers.get(id)?)?;
        file.is_there(now).then(|| Arc::clone(file))
    }

    /// Removes a file; says whether it was there.
    pub(in crate::simulate) fn remove(&mut self, id: &str, now: UnixMs) -> bool {
        let Some(number) = self.numbers.remove(id) else { return false };
        self.files.remove(&number).is_some_and(|file| file.is_there(now))
    }

    /// Returns the files that are there, oldest first.
    pub(in crate::simulate) fn all(
        &self,
        now: UnixMs,
    ) -> impl DoubleEndedIterator<Item = &Arc<StoredFile>> {
        self.files.values().filter(move |file| file.is_there(now))
    }
}

impl StoredFile {
    fn is_there(&self, now: UnixMs) -> bool {
        self.expires_s.is_none_or(|expires| now.0.div_euclid(1000) < expires)
    }

    /// Writes the `File` object.
    pub(in crate::simulate) fn write(&self) -> Value {
        json!({
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": self.bytes.len(),
            "created_at": self.created_s,
            "expires_at": self.expires_s,
            "status": "processed",
            "status_details": null,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(lifetime_s: Option<i64>) -> NewFile {
        let bytes = Bytes::from_static(b"{}");
        NewFile { filename: "a.jsonl".to_owned(), purpose: "batch".to_owned(), bytes, lifetime_s }
    }

    #[test]
    fn a_file_is_there_until_it_expires_or_is_removed() {
        let mut shelf = Shelf::new(1, UnixMs(0), Keeps::Plain);
        let short = shelf.add(new(Some(10)), UnixMs(5_000));
        let long = shelf.add(new(None), UnixMs(5_000));
        assert_ne!(short.id, long.id);
        assert_eq!(short.write()["expires_at"], 15);
        assert!(shelf.get(&short.id, UnixMs(14_999)).is_some());
        assert!(shelf.get(&short.id, UnixMs(15_000)).is_none());
        assert_eq!(shelf.all(UnixMs(15_000)).count(), 1);
        assert!(!shelf.remove(&short.id, UnixMs(15_000)), "it is gone already");
        assert!(shelf.remove(&long.id, UnixMs(15_000)) && !shelf.remove(&long.id, UnixMs(15_000)));
        assert_eq!(shelf.all(UnixMs(5_000)).count(), 0);
    }

    #[test]
    fn ids_follow_from_the_seed_and_never_come_again_after_a_restart() {
        let id = |seed, started| {
            let mut shelf = Shelf::new(seed, UnixMs(started), Keeps::Plain);
            shelf.add(new(None), UnixMs(99)).id.clone()
        };
        assert_eq!(id(1, 0), id(1, 0));
        assert_ne!(id(1, 0), id(2, 0));
        assert_ne!(id(1, 0), id(1, 1));
        assert_eq!(id(1, 0).len(), "file-".len() + 22);
    }
}
