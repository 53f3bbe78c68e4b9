//! Opening a project: is it one, may it be used, and with which pragmas.
//!
//! The only place that opens a SQLite connection. `synchronous=FULL` in WAL mode means that a
//! commit is on the disk when it returns; that is what promises 1 and 2 stand on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tempfile::{NamedTempFile, TempPath};

use super::place::{self, Identity, with_locks};
use super::stop_point::{self, Point};
use super::{StoreError, migrate};
use crate::domain::UnixMs;

/// How long a statement waits for another process before it is worth a word to the user.
const QUIET_WAIT: Duration = Duration::from_secs(2);
/// How many such waits are tried before giving up: ten minutes, the time a very big `add` may take.
pub(super) const WAITS: u32 = 300;
/// The bytes of a file that takes a quarter of a second to be looked at whole.
const LARGE: u64 = 64 << 20;
/// For how long a run keeps trying to put on record what the disk does not take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A connection to a project.
pub struct Store {
    pub(super) conn: Connection,
    path: PathBuf,
    on_wait: Box<dyn Fn(&Path) + Send>,
    pub(super) patience: Duration,
    identity: Option<Identity>,
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
        remove(&draft, &["-journal", "-wal", "-shm"]);
        drafted?;
        stop_point::pass(Point::BeforeMove);
        put_in_place(draft, path).map_err(|error| cannot_make(path, error))?;
        stop_point::pass(Point::AfterMove);
        // A project that cannot be worked on where it is must not be in the way of one that can.
        Self::open(path, new.now).inspect_err(|_| remove(path, &["", "-journal", "-wal", "-shm"]))
    }

    fn draft(
        new: &Create<'_>,
        draft: &Path,
        fill: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let path = new.path;
        let sql = |error| StoreError::from_sqlite(path, error);
        let mut conn = connect(draft, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|error| with_locks(StoreError::from_sqlite(path, error)))?;
        migrate::apply(&mut conn, new.now).map_err(sql)?;
        conn.execute(
            "INSERT INTO project (id, token, created_at_ms, base_url, max_attempts)
             VALUES (1, ?1, ?2, ?3, ?4)",
            (new.token, new.now.0, new.base_url, new.max_attempts),
        )
        .map_err(sql)?;
        let mut store = Self::of(conn, path);
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
        let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|error| with_locks(StoreError::from_sqlite(path, error)))?;
        must_be_ours(&conn, path)?;
        migrate::apply(&mut conn, now).map_err(sql)?;
        Ok(Self::of(conn, path))
    }

    /// Opens a project for reading, while a run is on too.
    ///
    /// The connection may write the WAL's own files (so that the last one out folds them back) but
    /// refuses every statement that would change the record. A file or folder that is read-only
    /// is read as it stands, an older one in views that make it look like a newer.
    pub fn open_to_read(path: &Path, now: UnixMs) -> Result<Self, StoreError> {
        must_exist(path)?;
        let store = match Self::open(path, now) {
            // What keeps the file from being written says more than what keeps it from being read in another way.
            Err(error) if error.leaves_it_readable() => {
                Self::open_unwritable(path).map_err(|_| error)?
            }
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
        let is_read_only = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().readonly());
        let opened = match is_read_only {
            true => Err(StoreError::ReadOnly { path: path.to_owned() }),
            // The WAL's own files may have to be made or mended before anything can be read.
            false => connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
                .map_err(|error| with_locks(StoreError::from_sqlite(path, error))),
        };
        let conn = match opened {
            Err(error) if error.leaves_it_readable() => {
                connect_unwritable(path).map_err(|_| error)?
            }
            other => other?,
        };
        must_be_ours(&conn, path)?;
        Ok(Self::of(conn, path))
    }

    fn open_unwritable(path: &Path) -> Result<Self, StoreError> {
        let conn = connect_unwritable(path)?;
        must_be_ours(&conn, path)?;
        migrate::show(&conn).map_err(|error| StoreError::from_sqlite(path, error))?;
        Ok(Self::of(conn, path))
    }

    fn of(conn: Connection, path: &Path) -> Self {
        Self {
            conn,
            path: path.to_owned(),
            on_wait: Box::new(|_| ()),
            patience: PATIENCE,
            identity: place::identity(path),
        }
    }

    /// Refuses to go on where the file that was opened no longer stands in its place: what is written to it now
    /// may be of no use to anybody.
    pub(super) fn must_be_in_place(&self) -> Result<(), StoreError> {
        let is_there = place::identity(&self.path) == self.identity;
        if is_there { Ok(()) } else { Err(StoreError::Gone { path: self.path.clone() }) }
    }

    /// Says whether looking at all of the file takes longer than anybody would wait for.
    pub fn is_large(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() > LARGE)
    }

    /// Returns what ends a question to this store from another thread.
    pub fn interrupter(&self) -> impl Fn() + Send + use<> {
        let handle = self.conn.get_interrupt_handle();
        move || handle.interrupt()
    }

    /// Refuses a file that is damaged, so that nothing is bought on its word. Looks at all of it: about a second for
    /// 250 MB.
    pub fn must_be_sound(&self) -> Result<(), StoreError> {
        let check = "PRAGMA integrity_check(1)";
        let first = self.conn.prepare_cached(check).and_then(|mut query| {
            let first: String = query.query_row([], |row| row.get(0))?;
            let altered = migrate::altered(&self.conn)?;
            let altered = altered.map(|name| format!("{name} is not as it was made"));
            Ok(altered.or((first != "ok").then_some(first)))
        });
        match first.map_err(|error| self.named(error))? {
            None => Ok(()),
            Some(problem) => {
                let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
                let source = rusqlite::Error::SqliteFailure(corrupt, Some(problem));
                Err(StoreError::Damaged { path: self.path.clone(), source })
            }
        }
    }

    /// Sets for how long a run keeps trying to put on record what was paid for and the disk does not take.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
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
    prepare(Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
}

/// Reads a file and its WAL where no file can be made or shared beside them: with the WAL's index in memory, and
/// without locks. Whoever writes has that file there, and is read beside in the usual way.
#[cfg(unix)]
fn connect_alone(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags_and_vfs(path, flags, c"unix-none")?;
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    prepare(conn)
}

#[cfg(not(unix))]
fn connect_alone(path: &Path) -> rusqlite::Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

#[cfg_attr(not(debug_assertions), expect(unused_mut, reason = "for debug builds"))]
fn prepare(mut conn: Connection) -> rusqlite::Result<Connection> {
    #[cfg(debug_assertions)]
    stop_point::watch(&mut conn)?;
    conn.busy_timeout(QUIET_WAIT)?;
    conn.set_prepared_statement_cache_capacity(64);
    // In a file that somebody mailed, a view in a table's place or a trigger behind it could compute without end.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    // A plan is made once a statement, and not again for every value that is bound to it.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Asked first, so that a file that is no database is named as such.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cache_size", -16_384)?;
    // Nor may an expression in such a file do more than read.
    conn.pragma_update(None, "trusted_schema", false)?;
    Ok(conn)
}

/// Opens what may not be written. Where no WAL is there, nothing is missed by not asking for one, and SQLite
/// makes none: it would be as read-only as the file, and in the way once that may be written again.
fn connect_unwritable(path: &Path) -> Result<Connection, StoreError> {
    let wal = std::fs::metadata(with_suffix(path, "-wal"));
    let conn = if wal.is_ok_and(|wal| wal.len() > 0) {
        connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).or_else(|_| connect_alone(path))
    } else {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        connect(Path::new(&immutable_uri(path)), flags)
    };
    conn.map_err(|error| StoreError::from_sqlite(path, error))
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

/// Removes a project that nobody has used yet, or what is beside it.
fn remove(path: &Path, suffixes: &[&str]) {
    for suffix in suffixes {
        // What cannot be removed is in the way of the next `init`, which says so.
        let _ = std::fs::remove_file(with_suffix(path, suffix));
    }
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
        _ => place::named(path, source),
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
