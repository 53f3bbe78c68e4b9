//! Opening a project: is it one, may it be used, and with which pragmas.
//!
//! The only place that opens a SQLite connection. `synchronous=FULL` in WAL mode means that a
//! commit is on the disk when it returns; that is what promises 1 and 2 stand on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tempfile::{NamedTempFile, TempPath};

use super::StoreError;
use super::migrate;
use super::stop_point::{self, Point};
use crate::domain::UnixMs;

/// How long a statement waits for another process before it is worth a word to the user.
const QUIET_WAIT: Duration = Duration::from_secs(2);
/// How many such waits are tried before giving up: ten minutes, the time a very big `add` may take.
pub(super) const WAITS: u32 = 300;

/// A connection to a project.
pub struct Store {
    pub(super) conn: Connection,
    path: PathBuf,
    on_wait: Box<dyn Fn(&Path) + Send>,
}

/// What a new project starts with.
pub struct Create<'a> {
    /// Where it is made; nothing may be there.
    pub path: &'a Path,
    /// Now.
    pub now: UnixMs,
    /// Twelve random letters and digits that make this project's ids unique at a provider.
    pub token: &'a str,
    /// The base URL of the server, where it is not the provider's own.
    pub base_url: Option<&'a str>,
    /// How many attempts a request may use.
    pub max_attempts: u32,
}

impl Store {
    /// Makes a new project that only its owner can read, with what `fill` puts into it: whole or not at all.
    ///
    /// It is made beside its place and moved there once it is whole, so that a process that dies on the way leaves
    /// nothing in the way of the next one.
    pub fn create(
        new: &Create<'_>,
        fill: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let path = new.path;
        if path.symlink_metadata().is_ok() {
            return Err(StoreError::Exists { path: path.to_owned() });
        }
        let draft = draft_beside(path).map_err(|error| cannot_make(path, error))?;
        let drafted = Self::draft(new, &draft, fill);
        for suffix in ["-journal", "-wal", "-shm"] {
            let _ = std::fs::remove_file(with_suffix(&draft, suffix));
        }
        drafted?;
        stop_point::pass(Point::BeforeMove);
        put_in_place(draft, path).map_err(|error| cannot_make(path, error))?;
        stop_point::pass(Point::AfterMove);
        Self::open(path, new.now)
    }

    fn draft(
        new: &Create<'_>,
        draft: &Path,
        fill: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let path = new.path;
        let sql = |error| StoreError::from_sqlite(path, error);
        let mut conn = connect(draft, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sql)?;
        migrate::apply(&mut conn, new.now).map_err(sql)?;
        conn.execute(
            "INSERT INTO project (id, token, created_at_ms, base_url, max_attempts)
             VALUES (1, ?1, ?2, ?3, ?4)",
            (new.token, new.now.0, new.base_url, new.max_attempts),
        )
        .map_err(sql)?;
        let mut store = Self { conn, path: path.to_owned(), on_wait: Box::new(|_| ()) };
        fill(&mut store)?;
        // Last, so that all of it stands in the one file.
        store.conn.pragma_update(None, "journal_mode", "WAL").map_err(sql)?;
        store.conn.close().map_err(|(_, error)| sql(error))
    }

    /// Opens a project for writing, brought to our format first where it is older.
    pub fn open(path: &Path, now: UnixMs) -> Result<Self, StoreError> {
        must_exist(path)?;
        if std::fs::metadata(path).is_ok_and(|meta| meta.permissions().readonly()) {
            return Err(StoreError::ReadOnly { path: path.to_owned() });
        }
        let sql = |error| StoreError::from_sqlite(path, error);
        let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sql)?;
        must_be_ours(&conn, path)?;
        migrate::apply(&mut conn, now).map_err(sql)?;
        Ok(Self { conn, path: path.to_owned(), on_wait: Box::new(|_| ()) })
    }

    /// Opens a project for reading, while a run is on too.
    ///
    /// The connection may write the WAL's own files (so that the last one out folds them back) but
    /// refuses every statement that would change the record. A file or folder that is read-only
    /// is read as it stands, an older one in views that make it look like a newer.
    pub fn open_to_read(path: &Path, now: UnixMs) -> Result<Self, StoreError> {
        must_exist(path)?;
        let store = match Self::open(path, now) {
            Err(StoreError::ReadOnly { .. }) => Self::open_unwritable(path)?,
            other => other?,
        };
        store.conn.pragma_update(None, "query_only", true).map_err(|error| store.named(error))?;
        Ok(store)
    }

    /// Opens a project as evidence: it is read as it stands, an older one in views that make it look like a newer, and
    /// neither its record nor its format is ever changed.
    pub fn open_as_it_is(path: &Path) -> Result<Self, StoreError> {
        let store = Self::open_to_copy(path)?;
        migrate::show(&store.conn)
            .and_then(|()| store.conn.pragma_update(None, "query_only", true))
            .map_err(|error| store.named(error))?;
        Ok(store)
    }

    /// Opens a project to be copied: as it is, whatever its format.
    pub(super) fn open_to_copy(path: &Path) -> Result<Self, StoreError> {
        must_exist(path)?;
        let sql = |error| StoreError::from_sqlite(path, error);
        let is_read_only = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().readonly());
        let opened = match is_read_only {
            true => Err(StoreError::ReadOnly { path: path.to_owned() }),
            // The WAL's own files may have to be made or mended before anything can be read.
            false => connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sql),
        };
        let conn = match opened {
            Err(StoreError::ReadOnly { .. }) => connect_unwritable(path)?,
            other => other?,
        };
        must_be_ours(&conn, path)?;
        Ok(Self { conn, path: path.to_owned(), on_wait: Box::new(|_| ()) })
    }

    fn open_unwritable(path: &Path) -> Result<Self, StoreError> {
        let conn = connect_unwritable(path)?;
        must_be_ours(&conn, path)?;
        migrate::show(&conn).map_err(|error| StoreError::from_sqlite(path, error))?;
        Ok(Self { conn, path: path.to_owned(), on_wait: Box::new(|_| ()) })
    }

    /// Sets what is called once when another process keeps this one waiting.
    #[must_use]
    pub fn on_wait(mut self, tell: impl Fn(&Path) + Send + 'static) -> Self {
        self.on_wait = Box::new(tell);
        self
    }

    /// The project's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the write lock, waiting for whoever has it.
    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        let mut told = false;
        for _ in 0..WAITS {
            match self.conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
                Ok(()) => break,
                Err(error) => match StoreError::from_sqlite(&self.path, error) {
                    StoreError::Locked { path } if !told => {
                        (self.on_wait)(&path);
                        told = true;
                    }
                    StoreError::Locked { .. } => {}
                    other => return Err(other),
                },
            }
        }
        self.conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| StoreError::from_sqlite(&self.path, error))
    }

    /// Names an error of SQLite after this project.
    pub(super) fn named(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(&self.path, error)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one home of opening connections")]
pub(super) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    #[cfg_attr(not(debug_assertions), expect(unused_mut, reason = "for debug builds"))]
    let mut conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    #[cfg(debug_assertions)]
    stop_point::watch(&mut conn)?;
    conn.busy_timeout(QUIET_WAIT)?;
    conn.set_prepared_statement_cache_capacity(64);
    // Asked first, so that a file that is no database is named as such.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cache_size", -16_384)?;
    // A view or trigger in a file that somebody mailed must not be able to do more than read.
    conn.pragma_update(None, "trusted_schema", false)?;
    Ok(conn)
}

/// Opens what may not be written. Where no WAL is there, nothing is missed by not asking for one, and SQLite
/// makes none: it would be as read-only as the file, and in the way once that may be written again.
fn connect_unwritable(path: &Path) -> Result<Connection, StoreError> {
    let wal = std::fs::metadata(with_suffix(path, "-wal"));
    let has_wal = wal.is_ok_and(|wal| wal.len() > 0);
    let beside_wal = || connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok();
    if let Some(conn) = has_wal.then(beside_wal).flatten() {
        return Ok(conn);
    }
    let uri = immutable_uri(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    connect(Path::new(&uri), flags).map_err(|error| StoreError::from_sqlite(path, error))
}

fn must_exist(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(StoreError::NotADatabase { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Missing { path: path.to_owned() })
        }
        Err(source) => Err(StoreError::Io { path: path.to_owned(), source }),
    }
}

fn must_be_ours(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |error| StoreError::from_sqlite(path, error);
    let id: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sql)?;
    let found = migrate::format_of(conn).map_err(sql)?;
    if id != migrate::APPLICATION_ID || found == 0 {
        return Err(StoreError::NotOurs { path: path.to_owned() });
    }
    let known = migrate::newest();
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    Ok(())
}

/// Makes an empty file that only its owner can read, in the folder that `path` is in. Dropped, it is removed.
fn draft_beside(path: &Path) -> io::Result<TempPath> {
    let name = path.file_name().unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut draft = tempfile::Builder::new();
    let draft = draft.prefix(name).suffix("-init").rand_bytes(6);
    draft
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map(NamedTempFile::into_temp_path)
        .map_err(of_the_system)
}

/// Takes the name of the draft away, of which nobody but us has heard.
fn of_the_system(error: io::Error) -> io::Error {
    let words = error.to_string();
    match words.split_once(" at path ") {
        Some((what, _)) => io::Error::new(error.kind(), what.to_owned()),
        None => error,
    }
}

/// Moves a file to a place where nothing is.
fn put_in_place(draft: TempPath, path: &Path) -> io::Result<()> {
    match draft.persist_noclobber(path) {
        Ok(()) => Ok(()),
        // A file system without any way to move a file only to where nothing is.
        Err(refused) if path.symlink_metadata().is_err() => {
            refused.path.persist(path).map_err(|error| error.error)
        }
        Err(refused) => Err(refused.error),
    }
}

fn cannot_make(path: &Path, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists { path: path.to_owned() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { path: path.to_owned() }
        }
        io::ErrorKind::StorageFull => StoreError::Full { path: path.to_owned() },
        _ => StoreError::Io { path: path.to_owned(), source },
    }
}

/// Returns the path with `suffix` behind its name, as SQLite names its side files.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            other => {
                uri.push('%');
                for digit in [other >> 4, other & 15] {
                    uri.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
    uri.push_str("?immutable=1");
    uri
}
