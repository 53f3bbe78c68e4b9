//! How bodies and replies are kept: whole, as zstd frames against a dictionary.
//!
//! The requests of one prompt differ only in their row, and so do the replies in little; so the
//! first body (and the first good reply) of a prompt serves as the dictionary of all that follow,
//! and a million rows cost little more than their own text. What was packed comes back byte for byte.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use zstd::bulk::{Compressor, Decompressor};

use super::StoreError;
use super::open::Store;
use crate::domain::DictionaryId;

/// Speed over the last percent: level 3 keeps up with the network on one core.
const LEVEL: i32 = 3;
/// As much of a first body as is worth having as a dictionary.
const LONGEST_DICTIONARY: usize = 64 * 1024;

/// Bytes as they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// One zstd frame.
    pub bytes: Vec<u8>,
    /// The dictionary that is needed to read it.
    pub dictionary: Option<DictionaryId>,
    /// The size of what was packed.
    pub plain_bytes: usize,
}

/// Packs against one dictionary, or none. Shared by threads; each borrows a compressor of its own.
pub struct Codec {
    dictionary: Option<(DictionaryId, Vec<u8>)>,
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl Codec {
    /// Makes a codec without a dictionary.
    pub fn plain() -> Arc<Self> {
        Arc::new(Self { dictionary: None, idle: Mutex::default() })
    }

    /// Makes a codec for a dictionary on record.
    pub fn with(id: DictionaryId, bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self { dictionary: Some((id, bytes.to_vec())), idle: Mutex::default() })
    }

    /// Returns what of a first body or reply is kept as a dictionary.
    pub fn dictionary_of(first: &[u8]) -> &[u8] {
        &first[..first.len().min(LONGEST_DICTIONARY)]
    }

    /// Packs `plain`.
    pub fn pack(&self, plain: &[u8]) -> Result<Packed, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor = match idle {
            Some(compressor) => compressor,
            None => self.compressor()?,
        };
        let bytes = compressor.compress(plain)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
        let dictionary = self.dictionary.as_ref().map(|(id, _)| *id);
        Ok(Packed { bytes, dictionary, plain_bytes: plain.len() })
    }

    fn compressor(&self) -> Result<Compressor<'static>, Error> {
        match &self.dictionary {
            Some((_, bytes)) => Compressor::with_dictionary(LEVEL, bytes),
            None => Compressor::new(LEVEL),
        }
    }
}

/// Reads packed bytes back, with the dictionaries it has met.
pub(super) struct Unpacker<'c> {
    conn: &'c Connection,
    known: HashMap<Option<i64>, Decompressor<'static>>,
}

impl<'c> Unpacker<'c> {
    pub(super) fn new(conn: &'c Connection) -> Self {
        Self { conn, known: HashMap::new() }
    }

    /// Returns the plain bytes; `plain_bytes` is their size on record.
    pub(super) fn unpack(
        &mut self,
        bytes: &[u8],
        dictionary: Option<i64>,
        plain_bytes: usize,
    ) -> Result<Vec<u8>, Error> {
        if !self.known.contains_key(&dictionary) {
            let decompressor = match dictionary {
                None => Decompressor::new()?,
                Some(id) => Decompressor::with_dictionary(&self.dictionary(id)?)?,
            };
            self.known.insert(dictionary, decompressor);
        }
        match self.known.get_mut(&dictionary) {
            Some(decompressor) => decompressor.decompress(bytes, plain_bytes),
            None => Err(Error::from(ErrorKind::NotFound)),
        }
    }

    fn dictionary(&self, id: i64) -> Result<Vec<u8>, Error> {
        self.conn
            .prepare_cached("SELECT bytes FROM dictionary WHERE id = ?1")
            .and_then(|mut query| query.query_row([id], |row| row.get("bytes")))
            .map_err(Error::other)
    }
}

/// Reads packed bytes back on any thread, with all the dictionaries of a project.
///
/// Made for evidence that may have been tampered with: nothing is allocated for a size that the frame
/// itself does not say.
pub struct Unpacked {
    dictionaries: Arc<HashMap<i64, Vec<u8>>>,
    known: HashMap<Option<i64>, Decompressor<'static>>,
}

impl Unpacked {
    /// Makes a reader with these dictionaries, by their ids.
    pub fn new(dictionaries: Arc<HashMap<i64, Vec<u8>>>) -> Self {
        Self { dictionaries, known: HashMap::new() }
    }

    /// Unpacks into `plain`, which is cleared before, at most `most` bytes. Returns what is wrong, in words.
    pub fn unpack(
        &mut self,
        (bytes, dictionary): (&[u8], Option<i64>),
        most: usize,
        plain: &mut Vec<u8>,
    ) -> Result<(), String> {
        plain.clear();
        let size = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten();
        let size = size.ok_or("it is no zstd frame with a size")?;
        let size = usize::try_from(size).ok().filter(|size| *size <= most);
        let size =
            size.ok_or_else(|| format!("its frame says that it is longer than {most} bytes"))?;
        if zstd::zstd_safe::find_frame_compressed_size(bytes) != Ok(bytes.len()) {
            return Err("something stands behind its frame".to_owned());
        }
        if !self.known.contains_key(&dictionary) {
            let made = match dictionary {
                None => Decompressor::new(),
                Some(id) => match self.dictionaries.get(&id) {
                    Some(bytes) => Decompressor::with_dictionary(bytes),
                    None => return Err(format!("dictionary {id} is not there")),
                },
            };
            self.known.insert(dictionary, made.map_err(|error| error.to_string())?);
        }
        plain.reserve(size);
        let unpacked = match self.known.get_mut(&dictionary) {
            Some(decompressor) => decompressor.decompress_to_buffer(bytes, plain),
            None => return Err("there is no decompressor for it".to_owned()),
        };
        match unpacked {
            Ok(read) if read == size => Ok(()),
            Ok(read) => Err(format!("its frame says {size} bytes and holds {read}")),
            Err(error) => Err(format!("zstd says: {error}")),
        }
    }
}

impl Store {
    /// Returns the newest dictionary of a prompt, `body` or `reply`, ready to pack with.
    pub fn codec(
        &self,
        prompt: crate::domain::PromptId,
        kind: &str,
    ) -> Result<Option<Arc<Codec>>, StoreError> {
        use rusqlite::OptionalExtension;
        self.conn
            .prepare_cached(
                "SELECT id, bytes FROM dictionary WHERE prompt_id = ?1 AND kind = ?2
                 ORDER BY id DESC LIMIT 1",
            )
            .and_then(|mut query| {
                query
                    .query_row((prompt.0, kind), |row| {
                        let bytes: Vec<u8> = row.get("bytes")?;
                        Ok(Codec::with(DictionaryId(row.get("id")?), &bytes))
                    })
                    .optional()
            })
            .map_err(|error| self.named(error))
    }
}

impl Store {
    /// Records a dictionary outside of a run's writer.
    pub fn add_dictionary(
        &mut self,
        prompt: crate::domain::PromptId,
        kind: &str,
        bytes: &[u8],
    ) -> Result<DictionaryId, StoreError> {
        let tx = self.begin()?;
        let id = super::ledger::dictionary(&tx, prompt, kind, bytes)
            .and_then(|id| tx.commit().map(|()| id));
        id.map_err(|error| self.named(error))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn memory() -> Connection {
        #[expect(clippy::disallowed_methods, reason = "a database in memory, for this test")]
        let conn = Connection::open(":memory:").unwrap();
        conn.execute_batch("CREATE TABLE dictionary (id INTEGER PRIMARY KEY, bytes BLOB)").unwrap();
        conn
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back(first in any::<Vec<u8>>(), plain in any::<Vec<u8>>()) {
            let conn = memory();
            // A dictionary is always taken from a JSON text, so it never starts with zstd's own magic.
            let first = [b"{".as_slice(), &first].concat();
            conn.execute("INSERT INTO dictionary VALUES (7, ?1)", [&first]).unwrap();
            for codec in [Codec::plain(), Codec::with(DictionaryId(7), &first)] {
                let packed = codec.pack(&plain).unwrap();
                let back = Unpacker::new(&conn)
                    .unpack(&packed.bytes, packed.dictionary.map(|id| id.0), packed.plain_bytes)
                    .unwrap();
                prop_assert_eq!(&back, &plain);
            }
        }
    }

    #[test]
    fn a_dictionary_makes_the_next_body_small() {
        let body = |review: &str| {
            let rules = "You label product reviews as positive, negative or mixed. ".repeat(15);
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{rules}{review}"}}]}}"#)
        };
        let codec = Codec::with(DictionaryId(1), body("배송이 빨라요").as_bytes());
        let packed = codec.pack(body("화면이 깨졌어요").as_bytes()).unwrap();
        assert!(packed.bytes.len() < 80, "{} bytes", packed.bytes.len());
    }
}
